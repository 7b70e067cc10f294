/* ptq.h - ternary weights from float ones that are done training.
 *
 * For a weight [out, in] and inputs x seen in a calibration text, H [in, in] is
 * the mean of x x^T. Two ways to choose codes q and scales gamma (groups as in
 * quant/quantize.h):
 *
 *   calibrated  per group the scale that makes sum_k H[k,k] (w_k - q_k gamma)^2
 *               least. Codes of the best scale are those of the j largest |w|,
 *               and for them gamma = sum H|w| / sum H, so every j is tried.
 *   GPTQ        (Frantar et al., arXiv 2210.17323) column after column; the
 *               error of one is made up for by the columns after it:
 *               e = (w_k - q_k gamma) / U[k,k],  w_j -= e U[k,j] for j > k,
 *               U upper triangular with U^T U = (H + damping)^-1. A group's
 *               scale is chosen as above when its first column is reached (one
 *               scale per tensor: before the first column).
 *
 * The result is a shadow weight, whose absmean quantization (docs/numerics.md)
 * gives these codes and scales again: magnitudes stay within their code's side
 * of gamma/2, and what lies beyond it is stretched until mean|w| = gamma, so a
 * weight near the threshold stays near it. Codes are the same, scales the same
 * up to float32 rounding; a group whose codes are all 0 becomes zeros.
 *
 * Sums are in float64 in a fixed order: the same bits everywhere.
 */
#ifndef BN_QUANT_PTQ_H
#define BN_QUANT_PTQ_H

#include "base/status.h"
#include "tensor/tensor.h"

typedef struct bn_ptq {
    int64_t out, in, group_size;
    const double *h;      /* [in, in] */
    const double *factor; /* U [in, in]; NULL: calibrated */
} bn_ptq;

/* w and shadow are [out, in], finite. BN_FAIL only without memory. */
bn_status bn_ptq_ternarize(const bn_ptq *p, const float *w, float *shadow) BN_MUST_CHECK;

/* tr(D H D^T) / tr(W H W^T) for D = W - V: the mean square error of the layer's
 * output over its mean square, when its weight is the ternary form V of
 * `shadow`. h NULL: the unit matrix. NaN where the output is zero. */
bn_status bn_ptq_error(const bn_ptq *p, const float *w, const float *shadow,
                       double *error) BN_MUST_CHECK;

#endif
