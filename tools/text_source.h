/* text_source.h - the text, or of an MLP the table, that a model is measured on. */
#ifndef BN_TOOLS_TEXT_SOURCE_H
#define BN_TOOLS_TEXT_SOURCE_H

#include "config/config.h"
#include "data/table.h"

typedef struct bn_text_source {
    bn_corpus *corpus;
    bn_span span;
} bn_text_source;

/* The same for an MLP. */
typedef struct bn_table_source {
    bn_table *table;
    bn_rows rows;
} bn_table_source;

/* `data` (a path or pattern) as a whole, or with `held_out` its tail of
 * data.validation_fraction. `data` NULL: the text that the training run of
 * `config` held out. BN_NO_INPUT and BN_BAD_DATA as bn_corpus_open(). *out
 * need not be initialised; on failure it is cleared. */
bn_status bn_text_source_open(const bn_config *config, const char *data, bool held_out,
                              const bn_tokenizer *tokenizer, bn_text_source *out) BN_MUST_CHECK;
void bn_text_source_clear(bn_text_source *source); /* {0} is fine */

/* A table as a whole, its part that training holds out, or that of the training
 * run of `config`; otherwise as above. */
bn_status bn_table_source_open(const bn_config *config, const char *data, bool held_out,
                               bn_table_source *out) BN_MUST_CHECK;
void bn_table_source_clear(bn_table_source *source); /* {0} is fine */

/* Tokens per window: as in training, within the model's context. */
int64_t bn_window_length(const bn_config *config);

#endif
