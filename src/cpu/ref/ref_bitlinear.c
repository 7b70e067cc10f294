/* BitLinear: int8 activations times ternary weights (docs/numerics.md). */
#include "cpu/ref/ref.h"

#include "base/shortfloat.h"
#include "quant/pack.h"
#include "quant/quantize.h"

#if BN_REF_F64
#define int_product bn_int_product_f64
#define fixed_codes bn_fixed_codes_f64
#else
#define int_product bn_int_product_f32
#define fixed_codes bn_fixed_codes_f32
#endif

/* x codes i8 [R,I], step [R] or [1], weight codes t2 or i8 [O,I], scale, bias [O]
 * or absent -> y [R,O]
 * acc_g = sum over group g of q x_q (int32); t = fma(acc_g, gamma_g, t) for g
 * ascending from t = 0; y = t step (+ bias). With a step per group:
 * t = fma(acc_g, gamma_g step_g, t), y = t (+ bias) */
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
        .step_group = c->params->weight.act_group,
    };
    int_product(&p, ref_in(c, 1), ref_in(c, 3), ref_in(c, 4), ref_out(c, 0));
    return BN_OK;
}

/* What multiplies a code: dy times the factor that belongs to the summed index,
 * rounded once to bfloat16. */
static double bf16_term(real dy, real factor)
{
    return (double)bn_bf16_round((float)(dy * factor));
}

/* dx[r,i] = sum_o dy[r,o] (q[o,i] gamma[o,i/G])
 * bf16: sum_o bf16(dy[r,o] gamma[o,i/G]) q[o,i] */
static void input_gradient(const bn_op_call *c, real *dx)
{
    int64_t R = bn_tensor_rows(&c->in[0]), O = c->in[2].shape[0], I = c->in[2].shape[1];
    int64_t G = c->params->weight.group_size, length = bn_group_length(I, G);
    const bool bf16 = c->params->weight.backward == BN_BACKWARD_BF16;
    const bn_dtype dtype = c->in[2].dtype;
    const int64_t row_bytes = bn_code_row_bytes(dtype, I);
    const uint8_t *codes = ref_data(&c->in[2]);
    const real *dy = ref_dout(c), *scale = ref_in(c, 3);
    for (int64_t r = 0; r < R; r++) {
        for (int64_t i = 0; i < I; i++) {
            double sum = 0;
            for (int64_t o = 0; o < O; o++) {
                const int q = bn_code_get(dtype, codes + o * row_bytes, i);
                const real gamma = scale[bn_scale_index(o, i / length, I, G)];
                if (bf16)
                    sum += bf16_term(dy[r * O + o], gamma) * q;
                else
                    sum += (double)dy[r * O + o] * (double)((real)q * gamma);
            }
            ref_put(&dx[r * I + i], c->accumulate[0], sum);
        }
    }
}

/* dw[o,i] = sum_r dy[r,o] (x_q[r,i] step[r]), or step[r,i/G]
 * bf16: sum_r bf16(dy[r,o] step[r]) x_q[r,i] */
static void weight_gradient(const bn_op_call *c, real *dw)
{
    int64_t R = bn_tensor_rows(&c->in[0]), O = c->in[2].shape[0], I = c->in[2].shape[1];
    const bool bf16 = c->params->weight.backward == BN_BACKWARD_BF16;
    const int64_t G = bn_step_group(&c->params->weight, &c->in[1]);
    const int8_t *codes = ref_data(&c->in[0]);
    const real *dy = ref_dout(c), *step = ref_in(c, 1);
    for (int64_t o = 0; o < O; o++) {
        for (int64_t i = 0; i < I; i++) {
            double sum = 0;
            for (int64_t r = 0; r < R; r++) {
                const int code = codes[r * I + i];
                const real s = step[bn_scale_index(r, i / bn_group_length(I, G), I, G)];
                if (bf16)
                    sum += bf16_term(dy[r * O + o], s) * code;
                else
                    sum += (double)dy[r * O + o] * (double)((real)code * s);
            }
            ref_put(&dw[o * I + i], c->accumulate[2], sum);
        }
    }
}

/* int16: dx[r,i] = sum over blocks of o of step (sum of z q), z the fixed-point
 * dy[r,o] gamma[o,i/G] of the block */
static void input_gradient16(const bn_op_call *c, real *dx)
{
    int64_t R = bn_tensor_rows(&c->in[0]), O = c->in[2].shape[0], I = c->in[2].shape[1];
    int64_t G = c->params->weight.group_size, length = bn_group_length(I, G);
    const bn_dtype dtype = c->in[2].dtype;
    const int64_t row_bytes = bn_code_row_bytes(dtype, I);
    const uint8_t *codes = ref_data(&c->in[2]);
    const real *dy = ref_dout(c), *scale = ref_in(c, 3);
    real u[BN_FIXED_BLOCK];
    int16_t z[BN_FIXED_BLOCK];
    for (int64_t r = 0; r < R; r++)
        for (int64_t i0 = 0; i0 < I; i0 += length)
            for (int64_t o0 = 0; o0 < O; o0 += BN_FIXED_BLOCK) {
                const int64_t n = O - o0 < BN_FIXED_BLOCK ? O - o0 : BN_FIXED_BLOCK;
                for (int64_t o = 0; o < n; o++)
                    u[o] = dy[r * O + o0 + o] * scale[bn_scale_index(o0 + o, i0 / length, I, G)];
                const real step = fixed_codes(u, n, z);
                for (int64_t i = i0; i < I && i < i0 + length; i++) {
                    int32_t sum = 0;
                    for (int64_t o = 0; o < n; o++)
                        sum += z[o] * bn_code_get(dtype, codes + (o0 + o) * row_bytes, i);
                    ref_put(&dx[r * I + i], c->accumulate[0] || o0 > 0, (double)((real)sum * step));
                }
            }
}

/* int16: dw[o,i] = sum over blocks of r of step (sum of z x_q), z the fixed-point
 * dy[r,o] step[r] (or step[r,i/G]) of the block */
static void weight_gradient16(const bn_op_call *c, real *dw)
{
    int64_t R = bn_tensor_rows(&c->in[0]), O = c->in[2].shape[0], I = c->in[2].shape[1];
    const int64_t G = bn_step_group(&c->params->weight, &c->in[1]), length = bn_group_length(I, G);
    const int8_t *codes = ref_data(&c->in[0]);
    const real *dy = ref_dout(c), *x_step = ref_in(c, 1);
    real u[BN_FIXED_BLOCK];
    int16_t z[BN_FIXED_BLOCK];
    for (int64_t at = 0; at < O * bn_ceil_div(I, length); at++)
        for (int64_t r0 = 0; r0 < R; r0 += BN_FIXED_BLOCK) {
            const int64_t o = at % O, g = at / O;
            const int64_t n = R - r0 < BN_FIXED_BLOCK ? R - r0 : BN_FIXED_BLOCK;
            for (int64_t r = 0; r < n; r++)
                u[r] = dy[(r0 + r) * O + o] * x_step[bn_scale_index(r0 + r, g, I, G)];
            const real step = fixed_codes(u, n, z);
            for (int64_t i = g * length; i < I && i < (g + 1) * length; i++) {
                int32_t sum = 0;
                for (int64_t r = 0; r < n; r++)
                    sum += z[r] * codes[(r0 + r) * I + i];
                ref_put(&dw[o * I + i], c->accumulate[2] || r0 > 0, (double)((real)sum * step));
            }
        }
}

/* dy [R,O] -> gradients of the real-valued activation, of the real-valued
 * weight and of the bias (column sums of dy) */
bn_status REF(bn_bitlinear_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const bool fixed = c->params->weight.backward == BN_BACKWARD_INT16;
    if (bn_tensor_present(&c->din[0]))
        (fixed ? input_gradient16 : input_gradient)(c, ref_din(c, 0));
    if (bn_tensor_present(&c->din[2]))
        (fixed ? weight_gradient16 : weight_gradient)(c, ref_din(c, 2));
    if (bn_tensor_present(&c->din[4]))
        REF(bn_column_sums)
    (bn_tensor_rows(&c->in[0]), c->in[2].shape[0], ref_dout(c), ref_din(c, 4), c->accumulate[4]);
    return BN_OK;
}
