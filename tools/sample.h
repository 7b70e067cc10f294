/* sample.h - the tokens on which an exported model is compared with its source:
 * a few thousand, from the held-out text where it can be read, else random. */
#ifndef BN_TOOLS_SAMPLE_H
#define BN_TOOLS_SAMPLE_H

#include "tools/evaluator.h"

typedef struct bn_sample {
    int64_t batch, time, batches;
    int32_t *tokens, *labels; /* [batches, batch, time] */
    int64_t *counts;          /* labels of each batch that count */
    char *source;             /* where the tokens are from, in words */
    bool random;
} bn_sample;

/* `data` as in bn_text_source_open(); if it is NULL and the run's own text
 * cannot be read, the tokens are random: reproducible, and said so in `source`.
 * *out need not be initialised; on failure it is cleared. */
bn_status bn_sample_open(const bn_config *config, const char *data, const bn_tokenizer *tokenizer,
                         bn_sample *out) BN_MUST_CHECK;
void bn_sample_clear(bn_sample *sample); /* {0} is fine */

/* Loss on the sample; `bytes` of the score is not set. BN_FAIL if it is not
 * finite. */
bn_status bn_sample_score(const bn_sample *sample, const bn_model *model,
                          bn_score *out) BN_MUST_CHECK;

#endif
