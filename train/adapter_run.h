/* adapter_run.h - what a trainer whose config has adapter.base trains: adapters over
 * a frozen model. */
#ifndef BN_TRAIN_ADAPTER_RUN_H
#define BN_TRAIN_ADAPTER_RUN_H

#include "checkpoint/checkpoint.h"
#include "train/trainer.h"

/* Opens the base and lays new adapters over it, in use, with memory and gradients.
 * Errors as bn_loaded_open_base() and bn_adapter_new(); BN_BAD_CONFIG for another
 * tokenizer. What has been made belongs to the trainer, also on failure. */
bn_status bn_adapter_run_open(bn_trainer *trainer) BN_MUST_CHECK;

/* The checkpoint is one of adapters over this very base, or of a model where the
 * trainer has no base. BN_BAD_CONFIG: the other kind; BN_BAD_DATA: another base. */
bn_status bn_adapter_run_check(const bn_trainer *trainer, bn_checkpoint *checkpoint) BN_MUST_CHECK;

#endif
