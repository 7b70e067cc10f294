/* sample.h - the tokens on which an exported model is compared with its source:
 * a few thousand, from the held-out text where there is one, else random. Of an
 * MLP rows of features take the place of tokens. */
#ifndef BN_TOOLS_SAMPLE_H
#define BN_TOOLS_SAMPLE_H

#include "tools/evaluator.h"

typedef struct bn_sample {
    int64_t batch, time, batches;
    int64_t width;   /* 1, or the features of a row */
    void *tokens;    /* int32_t or float [batches, batch, time, width] */
    int32_t *labels; /* [batches, batch, time] */
    int64_t *counts; /* labels of each batch that count */
    char *source;    /* where the tokens are from, in words */
    bool random;
} bn_sample;

/* `data` as in bn_text_source_open(); if it is NULL and the run's own text is
 * not there, or it held nothing out, the tokens are random: reproducible, and
 * said so in `source`. A text that is there but bad is an error. *out need not be initialised; on
 * failure it is cleared. */
bn_status bn_sample_open(const bn_config *config, const char *data, const bn_tokenizer *tokenizer,
                         bn_sample *out) BN_MUST_CHECK;

/* About so many tokens (of an MLP, examples) of `data`, or if it is NULL of what
 * the model was trained on, evenly spaced. */
bn_status bn_sample_open_trained(const bn_config *config, const char *data, int64_t tokens,
                                 const bn_tokenizer *tokenizer, bn_sample *out) BN_MUST_CHECK;

/* Batch number i of the tokens. */
const void *bn_sample_input(const bn_sample *sample, int64_t i);
void bn_sample_clear(bn_sample *sample); /* {0} is fine */

/* Loss on the sample; `bytes` of the score is not set. BN_FAIL if it is not
 * finite. */
bn_status bn_sample_score(const bn_sample *sample, const bn_model *model,
                          bn_score *out) BN_MUST_CHECK;

#endif
