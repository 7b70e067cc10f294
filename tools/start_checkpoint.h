/* start_checkpoint.h - a checkpoint of step 0: weights to start training from. */
#ifndef BN_TOOLS_START_CHECKPOINT_H
#define BN_TOOLS_START_CHECKPOINT_H

#include "tools/export.h"

typedef struct bn_start {
    const bn_config *config;
    const char *tokenizer; /* its source */
    const char *producer, *origin;
} bn_start;

/* Writes float items as parameters, their moments zero. */
bn_status bn_start_save(const char *path, const bn_start *start,
                        const bn_export_set *set) BN_MUST_CHECK;

#endif
