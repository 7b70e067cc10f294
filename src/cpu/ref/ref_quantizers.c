/* Quantizers: act_quant, weight_quant and their fake (dequantized) forms. The
 * formulas live in quant/quantize.h. Gradients pass through unchanged, so
 * there is no backward kernel. */
#include "cpu/ref/ref.h"

#include "quant/pack.h"
#include "quant/quantize.h"

#if BN_REF_F64
#define absmax_quantize   bn_absmax_quantize_f64
#define act_dequantize    bn_act_dequantize_f64
#define grid_scales       bn_grid_scales_f64
#define grid_codes        bn_grid_codes_f64
#define scale_floor       bn_scale_floor_f64
#define weight_dequantize bn_codes_dequantize_f64
#else
#define absmax_quantize   bn_absmax_quantize_f32
#define act_dequantize    bn_act_dequantize_f32
#define grid_scales       bn_grid_scales_f32
#define grid_codes        bn_grid_codes_f32
#define scale_floor       bn_scale_floor_f32
#define weight_dequantize bn_codes_dequantize_f32
#endif

/* x [R,I] -> codes i8 [R,I], step per tensor, row or group
 * a = max(max|x|, 1e-5), codes = clamp(rne(x * (L/a)), -L-1, L), step = a/L */
bn_status REF(bn_act_quant_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const bn_act_params *p = &c->params->act;
    absmax_quantize(ref_in(c, 0), bn_tensor_rows(&c->in[0]), bn_tensor_cols(&c->in[0]),
                    p->group_size, p->bits, ref_data(&c->out[0]), ref_out(c, 1));
    return BN_OK;
}

/* weight [O,I], learned scale or absent -> codes t2 or i8 [O,I], scale per tensor,
 * row or group; ternary: gamma = max(mean|w|, 1e-5), codes = clamp(rne(w * (1/gamma)), -1, 1) */
bn_status REF(bn_weight_quant_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const bn_weight_params *p = &c->params->weight;
    int64_t O = c->in[0].shape[0], I = c->in[0].shape[1], G = p->group_size;
    real *scale = ref_out(c, 1);
    if (p->rule == BN_SCALE_LEARNED)
        for (int64_t i = 0; i < bn_tensor_numel(&c->out[1]); i++)
            scale[i] = scale_floor(ref_in(c, 1)[i]);
    else
        grid_scales(p->grid, p->rule, ref_in(c, 0), O, I, G, scale);
    grid_codes(p->grid, ref_in(c, 0), O, I, G, scale, ref_data(&c->out[0]));
    return BN_OK;
}

/* y = q + softness (x - q), q in y; not at all where softness is 0 */
static void soften(const bn_op_call *c)
{
    const real s = (real)c->run->softness, *x = ref_in(c, 0);
    real *y = ref_out(c, 0);
    for (int64_t i = 0, n = s == 0 ? 0 : bn_tensor_numel(&c->in[0]); i < n; i++)
        y[i] += s * (x[i] - y[i]);
}

/* Steps, then codes. */
static size_t step_bytes(const bn_op_call *c)
{
    return (size_t)bn_scale_count(bn_tensor_rows(&c->in[0]), bn_tensor_cols(&c->in[0]),
                                  c->params->act.group_size) *
           sizeof(real);
}

size_t REF(bn_act_fake_quant_scratch)(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return step_bytes(c) + (size_t)bn_tensor_numel(&c->in[0]);
}

/* x [R,I] -> y [R,I] = codes * step, softened */
bn_status REF(bn_act_fake_quant_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const bn_act_params *p = &c->params->act;
    int64_t R = bn_tensor_rows(&c->in[0]), I = bn_tensor_cols(&c->in[0]);
    real *step = ref_data(&c->scratch);
    int8_t *codes = (int8_t *)ref_data(&c->scratch) + step_bytes(c);
    absmax_quantize(ref_in(c, 0), R, I, p->group_size, p->bits, codes, step);
    act_dequantize(codes, step, R, I, p->group_size, ref_out(c, 0));
    soften(c);
    return BN_OK;
}

/* Scales, then codes. */
static size_t scale_bytes(const bn_op_call *c)
{
    return (size_t)bn_scale_count(c->in[0].shape[0], c->in[0].shape[1],
                                  c->params->weight.group_size) *
           sizeof(real);
}

size_t REF(bn_weight_fake_quant_scratch)(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const bn_tensor codes =
        bn_tensor_2d(bn_grid_dtype(c->params->weight.grid), c->in[0].shape[0], c->in[0].shape[1]);
    return scale_bytes(c) + bn_tensor_bytes(&codes);
}

/* weight [O,I] -> y [O,I] = codes * scale, softened */
bn_status REF(bn_weight_fake_quant_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const bn_weight_params *p = &c->params->weight;
    int64_t O = c->in[0].shape[0], I = c->in[0].shape[1], G = p->group_size;
    real *scale = ref_data(&c->scratch);
    uint8_t *codes = (uint8_t *)ref_data(&c->scratch) + scale_bytes(c);
    grid_scales(p->grid, p->rule, ref_in(c, 0), O, I, G, scale);
    grid_codes(p->grid, ref_in(c, 0), O, I, G, scale, codes);
    weight_dequantize(bn_grid_dtype(p->grid), codes, scale, O, I, G, ref_out(c, 0));
    soften(c);
    return BN_OK;
}
