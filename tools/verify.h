/* verify.h - does a packed file hold the model it was made from?
 *
 * Two questions, answered apart. Is every stored number right: a decoder of its
 * own, written from docs/packed-format.md and sharing nothing with the writer
 * but the HDF5 container, compares each code, scale and float with the set that
 * was exported. Does the file compute the same: a probe runs both models on the
 * same tokens and compares the result of every integer product bit for bit.
 */
#ifndef BN_TOOLS_VERIFY_H
#define BN_TOOLS_VERIFY_H

#include "base/sha256.h"
#include "tools/export.h"

/* BN_MISMATCH names the first difference: file, tensor, place, expected and
 * found. A file that cannot even be read back is a mismatch too. */
bn_status bn_verify_contents(const char *path, const bn_packed_info *info, const bn_export_set *set,
                             const bn_export_format *format) BN_MUST_CHECK;

/* What a model makes of a row of tokens. */
typedef struct bn_probe {
    uint8_t (*digests)[BN_SHA256_BYTES]; /* of each integer product's result, in order */
    int products;
    float *logits; /* [time, vocab] */
    int64_t count; /* floats in `logits` */
} bn_probe;

/* Runs the model on `time` tokens (rows of features) without gradients. *out need not be
 * initialised; on failure it is cleared. */
bn_status bn_probe_run(const bn_model *model, const void *ids, int64_t time,
                       bn_probe *out) BN_MUST_CHECK;

/* The same, with `hook` called after each kernel. */
bn_status bn_probe_watch(const bn_model *model, const void *ids, int64_t time, bn_tape_hook hook,
                         void *arg, bn_probe *out) BN_MUST_CHECK;
void bn_probe_clear(bn_probe *probe); /* {0} is fine */

/* Largest |a-b| of the logits, over their largest magnitude if `relative`. */
double bn_probe_logit_difference(const bn_probe *a, const bn_probe *b, bool relative);

/* Number of products whose bits differ, or -1 if the probes have different
 * numbers of them; *first gets the index of the first one. */
int bn_probe_differing_products(const bn_probe *a, const bn_probe *b, int *first);

#endif
