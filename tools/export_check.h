/* export_check.h - is an exported model its source? The part that all formats
 * share: numbers one by one, and what both make of the same tokens. */
#ifndef BN_TOOLS_EXPORT_CHECK_H
#define BN_TOOLS_EXPORT_CHECK_H

#include "tools/export.h"
#include "tools/sample.h"
#include "tools/verify.h"

/* How an export compares with its source; `done` false: not asked for. */
typedef struct bn_export_check {
    bool done;
    int64_t codes, scales, floats;  /* numbers compared one by one */
    int products;                   /* integer products compared bit for bit */
    int64_t probe_tokens;           /* on so many tokens */
    double logit_difference;        /* largest, against the source */
    double logit_relative;          /* against the source with its numbers as stored */
    double loss_before, loss_after; /* nats per token */
    int64_t loss_tokens;
    const char *text; /* where the tokens are from; borrowed from the trial */
    bool random;
} bn_export_check;

/* Counts the numbers of a set as compared. */
void bn_export_count(const bn_export_set *set, bn_export_check *check);

/* Whether `found`, read back from `path`, is `expected`: tensors, codes, and
 * floats bit for bit. BN_MISMATCH names the first difference. */
bn_status bn_export_compare(const char *path, const bn_export_set *expected,
                            const bn_export_set *found) BN_MUST_CHECK;

/* Gives a model the scales and floats of the set, whose codes are its own. A
 * packed layer that the set holds as floats becomes a float layer, as reading a
 * packed file makes it. */
bn_status bn_export_apply(const bn_export_set *set, const bn_model *model) BN_MUST_CHECK;

/* What the source makes of a sample of tokens. Starts as {0}. */
typedef struct bn_export_trial {
    bn_sample sample;
    bn_probe original; /* the source as it is */
    bn_probe stored;   /* with its numbers as stored; empty if they are its own */
} bn_export_trial;

/* Measures the source before anything is done to it: a checkpoint's graph
 * quantizes the shadow weights itself, as an evaluation during training does.
 * `data` as in bn_sample_open(). */
bn_status bn_export_trial_start(bn_export_trial *trial, const bn_loaded *source, const char *data,
                                bn_export_check *check) BN_MUST_CHECK;

/* Measures the source again, after its numbers were replaced by those that are
 * stored. */
bn_status bn_export_trial_stored(bn_export_trial *trial, const bn_model *source) BN_MUST_CHECK;

/* Lets the model that was read back from `path` compute. BN_MISMATCH unless
 * every integer product has the bits, and the logits are within 1e-5 relative,
 * of the source with its numbers as stored; so is the loss where those are the
 * source's own. */
bn_status bn_export_trial_compare(const bn_export_trial *trial, const char *path,
                                  const bn_model *source, const bn_model *found,
                                  bn_export_check *check) BN_MUST_CHECK;

/* The same for results that did not come from a model: `result` is a probe of
 * trial->original's tokens, `loss` that on the whole sample. */
bn_status bn_export_trial_judge(const bn_export_trial *trial, const char *path,
                                const bn_model *source, const bn_probe *result, double loss,
                                bn_export_check *check) BN_MUST_CHECK;
void bn_export_trial_clear(bn_export_trial *trial);

#endif
