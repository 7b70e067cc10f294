/* BitLinear: int8 activations times ternary weights (docs/numerics.md). */
#include "cpu/ref/ref.h"

#include "quant/pack.h"
#include "quant/quantize.h"

#if BN_REF_F64
#define int_product bn_int_product_f64
#else
#define int_product bn_int_product_f32
#endif

/* x codes i8 [R,I], step [R] or [1], weight codes t2 or i8 [O,I], scale, bias [O]
 * or absent -> y [R,O]
 * acc_g = sum over group g of q x_q (int32); t = fma(acc_g, gamma_g, t) for g
 * ascending from t = 0; y = t step (+ bias) */
bn_status REF(bn_bitlinear_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const bool wide = c->in[2].dtype == BN_I8;
    const bn_int_product p = {
        .x = ref_data(&c->in[0]),
        .packed = wide ? NULL : ref_data(&c->in[2]),
        .wide = wide ? ref_data(&c->in[2]) : NULL,
        .rows = bn_tensor_rows(&c->in[0]),
        .out = c->in[2].shape[0],
        .in = c->in[2].shape[1],
        .group_size = c->params->weight.group_size,
        .per_tensor_step = bn_tensor_numel(&c->in[1]) == 1,
    };
    int_product(&p, ref_in(c, 1), ref_in(c, 3), ref_in(c, 4), ref_out(c, 0));
    return BN_OK;
}

/* dx[r,i] = sum_o dy[r,o] (q[o,i] gamma[o,i/G]) */
static void input_gradient(const bn_op_call *c, real *dx)
{
    int64_t R = bn_tensor_rows(&c->in[0]), O = c->in[2].shape[0], I = c->in[2].shape[1];
    int64_t G = c->params->weight.group_size, length = bn_group_length(I, G);
    const uint8_t *packed = ref_data(&c->in[2]);
    const real *dy = ref_dout(c), *scale = ref_in(c, 3);
    for (int64_t r = 0; r < R; r++) {
        for (int64_t i = 0; i < I; i++) {
            double sum = 0;
            for (int64_t o = 0; o < O; o++) {
                real gamma = scale[bn_scale_index(o, i / length, I, G)];
                real w = (real)bn_t2_get(packed + o * bn_t2_row_bytes(I), i) * gamma;
                sum += (double)dy[r * O + o] * (double)w;
            }
            ref_put(&dx[r * I + i], c->accumulate[0], sum);
        }
    }
}

/* dw[o,i] = sum_r dy[r,o] (x_q[r,i] step[r]) */
static void weight_gradient(const bn_op_call *c, real *dw)
{
    int64_t R = bn_tensor_rows(&c->in[0]), O = c->in[2].shape[0], I = c->in[2].shape[1];
    bool one_step = bn_tensor_numel(&c->in[1]) == 1;
    const int8_t *codes = ref_data(&c->in[0]);
    const real *dy = ref_dout(c), *step = ref_in(c, 1);
    for (int64_t o = 0; o < O; o++) {
        for (int64_t i = 0; i < I; i++) {
            double sum = 0;
            for (int64_t r = 0; r < R; r++) {
                real x = (real)codes[r * I + i] * step[one_step ? 0 : r];
                sum += (double)dy[r * O + o] * (double)x;
            }
            ref_put(&dw[o * I + i], c->accumulate[2], sum);
        }
    }
}

/* dy [R,O] -> gradients of the real-valued activation, of the real-valued
 * weight and of the bias (column sums of dy) */
bn_status REF(bn_bitlinear_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    if (bn_tensor_present(&c->din[0]))
        input_gradient(c, ref_din(c, 0));
    if (bn_tensor_present(&c->din[2]))
        weight_gradient(c, ref_din(c, 2));
    if (bn_tensor_present(&c->din[4]))
        REF(bn_column_sums)
    (bn_tensor_rows(&c->in[0]), c->in[2].shape[0], ref_dout(c), ref_din(c, 4), c->accumulate[4]);
    return BN_OK;
}
