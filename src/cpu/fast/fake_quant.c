/* act_fake_quant and weight_fake_quant: the codes of the real quantizers, made in scratch, turned
 * back into numbers and softened. */
#include "cpu/fast/fast_impl.h"

#include "quant/pack.h"
#include "quant/quantize.h"

typedef struct fake_job {
    const bn_rowops *ops;
    bn_op_call quantizer; /* what makes the codes and their scales */
    int64_t in, group, groups;
    bool one_scale;
    float softness;
    const float *x;
    float *y;
} fake_job;

/* c->scratch need not be there yet, nor what a run brings: *bytes is what it has to have. */
static fake_job job_of(const bn_backend *backend, const bn_op_call *c, size_t *bytes)
{
    const bool act = c->op == BN_OP_ACT_FAKE_QUANT;
    const int64_t rows = bn_tensor_rows(&c->in[0]), in = bn_tensor_cols(&c->in[0]);
    const int64_t G = act ? c->params->act.group_size : c->params->weight.group_size;
    const size_t rest =
        act ? bn_fast_act_quant_scratch(backend, c) : bn_fast_weight_quant_scratch(backend, c);
    fake_job j = {.ops = bn_fast_ops(backend),
                  .quantizer = *c,
                  .in = in,
                  .group = bn_group_length(in, G),
                  .groups = bn_groups_per_row(in, G),
                  .one_scale = G == BN_PER_TENSOR,
                  .x = bn_fast_in(c, 0),
                  .y = bn_fast_out(c, 0)};
    bn_op_call *q = &j.quantizer;
    bn_tensor *parts[] = {&q->out[0], &q->out[1], &q->scratch};
    q->op = act ? BN_OP_ACT_QUANT : BN_OP_WEIGHT_QUANT;
    q->out[0] = bn_tensor_2d(act ? BN_I8 : bn_grid_dtype(c->params->weight.grid), rows, in);
    q->out[1] = bn_tensor_1d(BN_F32, bn_scale_count(rows, in, G));
    q->scratch = bn_tensor_1d(BN_U8, rest ? (int64_t)rest : 1);
    *bytes = 0;
    for (int i = 0; i < 3; i++) {
        *parts[i] = bn_tensor_at(*parts[i], c->scratch.buffer, c->scratch.offset + *bytes);
        *bytes += bn_align_up(bn_tensor_bytes(parts[i]), BN_ALIGN);
    }
    return j;
}

size_t bn_fast_fake_quant_scratch(const bn_backend *backend, const bn_op_call *c)
{
    size_t bytes;
    job_of(backend, c, &bytes);
    return bytes;
}

/* y = q + softness (x - q), q = codes * scale */
static void soft_rows(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const fake_job *j = arg;
    const bn_dtype dtype = j->quantizer.out[0].dtype;
    const int64_t stride = j->one_scale ? 0 : 1;
    for (; r < end; r++) {
        const float *scale = bn_fast_out(&j->quantizer, 1) + r * stride * j->groups;
        const uint8_t *row = bn_fast_data(&j->quantizer.out[0]);
        const float *x = j->x + r * j->in;
        float *y = j->y + r * j->in;
        row += r * bn_code_row_bytes(dtype, j->in);
        if (dtype == BN_T2)
            j->ops->dequantize_row(j->in, j->group, row, scale, stride, y);
        else
            for (int64_t at = 0; at < j->in; at += j->group, scale += stride)
                j->ops->dequantize_codes(bn_fast_min(j->group, j->in - at),
                                         (const int8_t *)row + at, *scale, y + at);
        for (int64_t k = 0, n = j->softness == 0 ? 0 : j->in; k < n; k++)
            y[k] += j->softness * (x[k] - y[k]);
    }
}

static bn_status fake_quant(bn_backend *backend, const bn_op_call *c, bn_kernel quantize)
{
    size_t bytes;
    fake_job j = job_of(backend, c, &bytes);
    j.softness = (float)c->run->softness;
    BN_TRY(quantize(backend, &j.quantizer));
    bn_fast_ranges(backend, bn_tensor_rows(&c->in[0]), bn_fast_chunk_rows(j.in), soft_rows, &j);
    return BN_OK;
}

bn_status bn_fast_act_fake_quant_forward(bn_backend *backend, const bn_op_call *c)
{
    return fake_quant(backend, c, bn_fast_act_quant_forward);
}

bn_status bn_fast_weight_fake_quant_forward(bn_backend *backend, const bn_op_call *c)
{
    return fake_quant(backend, c, bn_fast_weight_quant_forward);
}
