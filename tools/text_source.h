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

/* Which part of a text or table. */
typedef enum bn_part {
    BN_PART_ALL,
    BN_PART_HELD_OUT, /* what training cuts off it: data.validation_fraction */
    BN_PART_TRAINED,  /* the rest, of data.train whatever `data` is */
} bn_part;

/* `data` (a path or pattern), or that part of it. `data` NULL: the text that the
 * training run of `config` held out. BN_NO_INPUT and BN_BAD_DATA as bn_corpus_open(). *out
 * need not be initialised; on failure it is cleared. */
bn_status bn_text_source_open(const bn_config *config, const char *data, bn_part part,
                              const bn_tokenizer *tokenizer, bn_text_source *out) BN_MUST_CHECK;
void bn_text_source_clear(bn_text_source *source); /* {0} is fine */

/* The same of a table. */
bn_status bn_table_source_open(const bn_config *config, const char *data, bn_part part,
                               bn_table_source *out) BN_MUST_CHECK;
void bn_table_source_clear(bn_table_source *source); /* {0} is fine */

/* Tokens per window: as in training, within the model's context. */
int64_t bn_window_length(const bn_config *config);

#endif
