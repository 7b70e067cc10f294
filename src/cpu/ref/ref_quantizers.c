/* Quantizers: act_quant, weight_quant and their fake (dequantized) forms. The
 * formulas live in quant/quantize.h. Gradients pass through unchanged, so
 * there is no backward kernel. */
#include "cpu/ref/ref.h"

#include "quant/pack.h"
#include "quant/quantize.h"

#if BN_REF_F64
#define absmax_quantize   bn_absmax_quantize_f64
#define act_dequantize    bn_act_dequantize_f64
#define weight_scales     bn_weight_scales_f64
#define ternarize         bn_ternarize_f64
#define weight_dequantize bn_weight_dequantize_rows_f64
#else
#define absmax_quantize   bn_absmax_quantize_f32
#define act_dequantize    bn_act_dequantize_f32
#define weight_scales     bn_weight_scales_f32
#define ternarize         bn_ternarize_f32
#define weight_dequantize bn_weight_dequantize_rows_f32
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

/* weight [O,I] -> codes t2 [O,I], scale per tensor, row or group
 * gamma = max(mean|w|, 1e-5), codes = clamp(rne(w * (1/gamma)), -1, 1) */
bn_status REF(bn_weight_quant_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t O = c->in[0].shape[0], I = c->in[0].shape[1], G = c->params->weight.group_size;
    weight_scales(ref_in(c, 0), O, I, G, ref_out(c, 1));
    ternarize(ref_in(c, 0), O, I, G, ref_out(c, 1), ref_data(&c->out[0]));
    return BN_OK;
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

/* x [R,I] -> y [R,I] = codes * step */
bn_status REF(bn_act_fake_quant_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const bn_act_params *p = &c->params->act;
    int64_t R = bn_tensor_rows(&c->in[0]), I = bn_tensor_cols(&c->in[0]);
    real *step = ref_data(&c->scratch);
    int8_t *codes = (int8_t *)ref_data(&c->scratch) + step_bytes(c);
    absmax_quantize(ref_in(c, 0), R, I, p->group_size, p->bits, codes, step);
    act_dequantize(codes, step, R, I, p->group_size, ref_out(c, 0));
    return BN_OK;
}

/* Scales, then packed codes. */
static size_t scale_bytes(const bn_op_call *c)
{
    return (size_t)bn_scale_count(c->in[0].shape[0], c->in[0].shape[1],
                                  c->params->weight.group_size) *
           sizeof(real);
}

size_t REF(bn_weight_fake_quant_scratch)(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return scale_bytes(c) + (size_t)(c->in[0].shape[0] * bn_t2_row_bytes(c->in[0].shape[1]));
}

/* weight [O,I] -> y [O,I] = codes * scale */
bn_status REF(bn_weight_fake_quant_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t O = c->in[0].shape[0], I = c->in[0].shape[1], G = c->params->weight.group_size;
    real *scale = ref_data(&c->scratch);
    uint8_t *packed = (uint8_t *)ref_data(&c->scratch) + scale_bytes(c);
    weight_scales(ref_in(c, 0), O, I, G, scale);
    ternarize(ref_in(c, 0), O, I, G, scale, packed);
    weight_dequantize(packed, scale, 0, O, I, G, ref_out(c, 0));
    return BN_OK;
}
