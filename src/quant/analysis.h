/* analysis.h - how much a weight lost in quantization, and what its codes say.
 *
 * Host arrays, double sums in row-major order; nothing allocates or fails.
 * With w the shadow weight and v = q*gamma its quantized form, over all elements:
 *
 *   MSE     = mean (w-v)^2
 *   SQNR    = 10 log10(sum w^2 / sum (w-v)^2) dB   (+inf when v = w)
 *   cosine  = sum w v / sqrt(sum w^2 sum v^2)      (0 when either is all zero)
 *   entropy = -sum p log2 p over the shares of the codes, in bits per weight
 *             (of ternary codes at most log2 3 = 1.585)
 *
 * Codes are BN_T2 rows or BN_I8 (tensor/scheme.h), which `dtype` says.
 */
#ifndef BN_QUANT_ANALYSIS_H
#define BN_QUANT_ANALYSIS_H

#include <stdint.h>

#include "tensor/tensor.h"

enum { BN_WORST_GROUPS = 5 };

typedef struct bn_group_error {
    int64_t row, group;
    double mse;      /* of the group's elements */
    double relative; /* sum (w-v)^2 / sum w^2 of the group; 0 if both are 0 */
} bn_group_error;

typedef struct bn_code_stats {
    int64_t count[3]; /* of negative codes, of 0, of positive ones */
    double entropy_bits;
    int64_t dead_rows; /* rows whose codes are all 0: outputs that are constant */
} bn_code_stats;

typedef struct bn_quant_error {
    bn_code_stats codes;
    double mse, sqnr_db, cosine;
    double scale_min, scale_mean, scale_max;
    /* Groups with the largest relative error first (ties: the earlier one). */
    bn_group_error worst[BN_WORST_GROUPS];
    int worst_count;
} bn_quant_error;

/* Histogram, entropy and dead rows of valid codes. */
void bn_code_stats_of(bn_dtype dtype, const void *codes, int64_t rows, int64_t cols,
                      bn_code_stats *out);

/* Everything above for a weight, its codes and scales (layout as in
 * quant/quantize.h). */
void bn_quant_error_of(const float *w, int64_t out_rows, int64_t in, int64_t group_size,
                       bn_dtype dtype, const void *codes, const float *scale, bn_quant_error *out);

/* Number of codes that differ between two weights of one shape. */
int64_t bn_code_flips(bn_dtype dtype, const void *a, const void *b, int64_t rows, int64_t cols);

/* How many codes go back: of those that differ between `before` and `now`, the
 * ones that move against their last move, which `direction` keeps (-1, 0
 * for never, +1, of the same dtype; of BN_I8 what is neither -1 nor +1 is never). Brings
 * `direction` up to date; `change` is scratch of the same size. Oscillation as in Nagel et al.,
 * arXiv 2203.11086, equation 5. */
int64_t bn_code_oscillations(bn_dtype dtype, const void *before, const void *now, int64_t rows,
                             int64_t cols, void *direction, void *change);

/* Entropy in bits of a histogram of n counts; 0 when it is empty. */
double bn_entropy_bits(const int64_t *count, int n);

#endif
