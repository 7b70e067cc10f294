/* What of a quantized weight's gradient reaches the weight and its scale
 * (quant/estimator.h, docs/numerics.md). Forward is a view. */
#include "cpu/ref/ref.h"

#include "quant/estimator.h"
#include "quant/quantize.h"

#if BN_REF_F64
#define estimate_row bn_estimate_row_f64
#else
#define estimate_row bn_estimate_row_f32
#endif

/* Slopes: a double for each group of a row, for the rows one after the other. */
size_t REF(bn_weight_estimator_scratch)(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return (size_t)bn_groups_per_row(c->in[1].shape[1], c->params->weight.group_size) *
           sizeof(double);
}

/* dout [O,I], the gradient of the quantized weight -> din1 [O,I] of the weight,
 * din2 of its scale, times 1/sqrt(n max) for n weights to a scale */
bn_status REF(bn_weight_estimator_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const bn_weight_params *p = &c->params->weight;
    const int64_t O = c->in[1].shape[0], I = c->in[1].shape[1];
    const int64_t length = bn_group_length(I, p->group_size);
    const int64_t groups = bn_groups_per_row(I, p->group_size);
    const bool whole = p->group_size == BN_PER_TENSOR;
    const bn_estimate e = {p->grid, p->estimator, p->ewgs_delta};
    const real *w = ref_in(c, 1), *scale = ref_in(c, 2), *g = ref_dout(c);
    real *dw = ref_din(c, 1), *dscale = ref_din(c, 2);
    double *slope = ref_data(&c->scratch), total = 0;
    for (int64_t o = 0; o < O; o++) {
        estimate_row(&e, w + o * I, g + o * I, I, length,
                     scale + bn_scale_index(o, 0, I, p->group_size), whole ? 0 : 1,
                     dw ? dw + o * I : NULL, c->accumulate[1], slope);
        for (int64_t i = 0; i < groups && dscale && !whole; i++) {
            const int64_t n = I - i * length < length ? I - i * length : length;
            ref_put(&dscale[o * groups + i], c->accumulate[2],
                    slope[i] * bn_lsq_factor(p->grid, n));
        }
        total += slope[0];
    }
    if (dscale && whole)
        ref_put(dscale, c->accumulate[2], total * bn_lsq_factor(p->grid, O * I));
    return BN_OK;
}
