/* train_data.h - the texts of a run: tokenizer, training and held-out span. */
#ifndef BN_TRAIN_TRAIN_DATA_H
#define BN_TRAIN_TRAIN_DATA_H

#include "config/config.h"
#include "data/batcher.h"

typedef struct bn_train_data {
    bn_tokenizer *tokenizer;
    bn_corpus *train_corpus;
    bn_corpus *validation_corpus; /* NULL: held out from the training text */
    bn_span train;
    bn_span validation; /* count 0: nothing held out */
} bn_train_data;

/* Opens what config->data names. BN_NO_INPUT, BN_BAD_DATA (too short for
 * training.seq_len, say), with the path. *out
 * need not be initialised; on failure it is {0}. */
bn_status bn_train_data_open(const bn_config *config, bn_train_data *out) BN_MUST_CHECK;
void bn_train_data_clear(bn_train_data *data); /* {0} is fine */

#endif
