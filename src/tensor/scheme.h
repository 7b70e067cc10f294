/* scheme.h - the ways in which weights are quantized: which integers the codes
 * are taken from, what their scale is made of, what gradient goes through the
 * rounding. Formulas and papers: docs/numerics.md.
 */
#ifndef BN_TENSOR_SCHEME_H
#define BN_TENSOR_SCHEME_H

#include "tensor/tensor.h"

/* The integers that codes are taken from. The value 0 is what a zeroed struct
 * means: ternary. */
typedef enum bn_grid {
    BN_GRID_TERNARY, /* -1, 0, +1 */
    BN_GRID_BINARY,  /* -1, +1 */
    BN_GRID_INT2,    /* -3, -1, +1, +3 */
    BN_GRID_INT3,    /* -3 .. +3 */
    BN_GRID_INT4,    /* -7 .. +7 */
    BN_GRID_INT8,    /* -127 .. +127 */
    BN_GRID_COUNT,
} bn_grid;

typedef struct bn_grid_info {
    const char *name;
    int max;  /* the outermost code; codes are symmetric about 0 */
    bool odd; /* only the odd integers: no code 0, two apart */
    int bits; /* of a code in a file */
    double
        per_mean; /* scale = per_mean * mean|w|; 1, or what loses least of a normal distribution */
} bn_grid_info;

extern const bn_grid_info bn_grid_table[BN_GRID_COUNT];

/* How codes lie in memory: BN_T2 for codes up to 1, else BN_I8. */
static inline bn_dtype bn_grid_dtype(bn_grid grid)
{
    return bn_grid_table[grid].max == 1 ? BN_T2 : BN_I8;
}

/* Bytes of a row of so many codes in memory. */
static inline int64_t bn_code_row_bytes(bn_dtype dtype, int64_t cols)
{
    return dtype == BN_T2 ? (cols + 3) / 4 : cols;
}

static inline int64_t bn_grid_row_bytes(bn_grid grid, int64_t cols)
{
    return bn_code_row_bytes(bn_grid_dtype(grid), cols);
}

/* Half the distance of two codes. */
static inline double bn_grid_half_step(bn_grid grid)
{
    return bn_grid_table[grid].odd ? 1.0 : 0.5;
}

/* What a weight scale is made of. */
typedef enum bn_scale_rule {
    BN_SCALE_MEAN,    /* mean|w| */
    BN_SCALE_MEDIAN,  /* median|w| */
    BN_SCALE_LEARNED, /* a parameter */
} bn_scale_rule;

/* The gradient of a weight from that of its quantized form. */
typedef enum bn_estimator {
    BN_ESTIMATOR_IDENTITY,
    BN_ESTIMATOR_CLIPPED,
    BN_ESTIMATOR_TRUST,
    BN_ESTIMATOR_EWGS,
    BN_ESTIMATOR_LSQ,
} bn_estimator;

/* Where |w| / scale is larger, the weight gets no gradient (infinity: never),
 * and where it is larger the scale's gradient is that of a clamped code. */
double bn_estimator_weight_limit(bn_estimator estimator, bn_grid grid);
double bn_estimator_scale_limit(bn_estimator estimator, bn_grid grid);

#endif
