/* activations.h - what the activation quantizers of a model meet on a text.
 *
 * Each quantizer stretches the largest value of a token (of a tensor, of a
 * group) to the largest code, so nothing is cut off; but one outlier leaves few
 * codes to all others. That shows in three figures per quantizer: the spread of
 * the absmax, the share of codes 0, and the share at the largest code.
 */
#ifndef BN_TOOLS_ACTIVATIONS_H
#define BN_TOOLS_ACTIVATIONS_H

#include "tools/sample.h"

typedef struct bn_activation_stats {
    const char *name; /* of the first layer that reads these codes; the model's */
    int layers;       /* with this one, that share them */
    int64_t codes;
    double zero_share;    /* of codes that are 0 */
    double largest_share; /* of codes at plus or minus the largest one in use */
    int largest;          /* 127, or 7 of 4 bits */
    /* Of the absmax values: */
    double absmax_min, absmax_median, absmax_p99, absmax_max;
} bn_activation_stats;

typedef struct bn_activations {
    bn_activation_stats *items; /* in the order of the forward pass */
    int count;
} bn_activations;

/* BN_USAGE where no layer has integer activations. */
bn_status bn_activations_measure(const bn_model *model, const bn_sample *sample,
                                 bn_activations *out) BN_MUST_CHECK;
void bn_activations_clear(bn_activations *a); /* {0} is fine */

/* A table, or an object with the array "activations", on stdout. */
bn_status bn_activations_print(const bn_activations *a, const char *file, const char *data,
                               bool json) BN_MUST_CHECK;

#endif
