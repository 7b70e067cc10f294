/* tune.h - settles what a backend leaves open (bn_choice of backend/backend.h)
 * by timing training steps of a configuration on its own data. */
#ifndef BN_TRAIN_TUNE_H
#define BN_TRAIN_TUNE_H

#include "base/text.h"
#include "train/trainer.h"

/* Times the candidates of one choice after the other, sets and keeps the
 * fastest; a default is left only for a gain above 2 %. *report gets one line per
 * choice. BN_USAGE if the backend has nothing to choose; else what
 * bn_train_data_open(), bn_trainer_new() and keep_choices() return. */
bn_status bn_tune(const bn_config *config, bn_backend *backend, bn_text *report) BN_MUST_CHECK;

#endif
