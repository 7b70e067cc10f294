/* estimator.h - the gradients of a weight and of its scale from the gradient of
 * what they were quantized to. Formulas and papers: docs/numerics.md.
 *
 * With v = w/gamma, q its code, g the gradient of q*gamma, L the limits of
 * tensor/scheme.h, and a step of 1 between codes (2 between odd ones):
 *
 *   dw     = 0                                     where |v| > L_w, else
 *            g (1 + delta sign(g) (v - q)/step)    EWGS, arXiv 2104.00903
 *            g                                     all others
 *   dgamma = sum over the group of g s,  s = q where |v| > L_gamma, else q - v
 *
 * dgamma is that of LSQ, arXiv 1902.08153, before its factor.
 */
#ifndef BN_QUANT_ESTIMATOR_H
#define BN_QUANT_ESTIMATOR_H

#include <stdbool.h>

#include "tensor/scheme.h"

typedef struct bn_estimate {
    bn_grid grid;
    bn_estimator estimator;
    double delta; /* of EWGS */
} bn_estimate;

/* One row of `in` elements in groups of `length`; scale[g * stride] is that of
 * group g. Stores dw, or adds to it; dw NULL: not wanted. slope[g] = dgamma of
 * group g, summed in ascending order; NULL: not wanted. */
void bn_estimate_row_f32(const bn_estimate *e, const float *w, const float *g, int64_t in,
                         int64_t length, const float *scale, int64_t stride, float *dw, bool add,
                         double *slope);
void bn_estimate_row_f64(const bn_estimate *e, const double *w, const double *g, int64_t in,
                         int64_t length, const double *scale, int64_t stride, double *dw, bool add,
                         double *slope);

/* The factor of LSQ for a scale of n weights, 1/sqrt(n max): it brings the
 * gradient of a scale to the size of that of a weight. */
double bn_lsq_factor(bn_grid grid, int64_t n);

#endif
