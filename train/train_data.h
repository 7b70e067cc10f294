/* train_data.h - what a run learns from: of a transformer texts (tokenizer,
 * training and held-out span), of an MLP tables (training and held-out rows). */
#ifndef BN_TRAIN_TRAIN_DATA_H
#define BN_TRAIN_TRAIN_DATA_H

#include "config/config.h"
#include "data/table.h"

/* What the tokens (or rows) are, wherever they lie: their number and a hash. */
typedef struct bn_data_identity {
    int64_t train, validation; /* how many */
    uint64_t train_hash, validation_hash;
} bn_data_identity;

typedef struct bn_train_data {
    bn_tokenizer *tokenizer;
    bn_corpus *train_corpus;
    bn_corpus *validation_corpus; /* NULL: held out from the training text */
    bn_span train;
    bn_span validation;                       /* count 0: nothing held out */
    bn_table *train_table, *validation_table; /* NULL: a text; held out from the other */
    bn_rows train_rows, validation_rows;      /* likewise */
    bn_data_identity identity;
} bn_train_data;

/* Opens what config->data names. BN_NO_INPUT, BN_BAD_DATA (too short for
 * training.seq_len, say), with the path. *out
 * need not be initialised; on failure it is {0}. */
bn_status bn_train_data_open(const bn_config *config, bn_train_data *out) BN_MUST_CHECK;
void bn_train_data_clear(bn_train_data *data); /* {0} is fine */

#endif
