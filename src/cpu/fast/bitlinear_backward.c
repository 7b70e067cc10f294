/* BITLINEAR backward: float products with the codes turned back into numbers,
 * dx = dy (q gamma), dw = dy^T (x_q step), a row at a time inside the product.
 *
 * bf16: gamma or step goes to dy, which is rounded then; the products
 * are float products of numbers that are bfloat16. dx takes one per group of
 * columns, because gamma belongs to a group. */
#include "cpu/fast/product.h"

#include "base/shortfloat.h"
#include "quant/pack.h"
#include "quant/quantize.h"

typedef struct back_job {
    const bn_rowops *ops;
    const bn_op_call *call;
    int64_t R, O, I, group, groups;
    int64_t step_group, steps; /* elements of a row per step, and steps of a row; 0: one for all */
    bool bf16;
    const float *dy;  /* [R,O]: the upstream gradient, or `rounded` */
    float *rounded;   /* scratch [R,O]; bf16 only */
    bool for_weight;  /* `rounded` is for dw, not dx */
    int64_t at;       /* group of columns that it is for */
    int64_t i0, cols; /* columns of the second operand that are read */
    float *rest;      /* further scratch */
} back_job;

static back_job job_of(const bn_backend *backend, const bn_op_call *c)
{
    back_job j = {.ops = bn_fast_ops(backend),
                  .call = c,
                  .R = bn_tensor_rows(&c->in[0]),
                  .O = c->in[2].shape[0],
                  .I = c->in[2].shape[1],
                  .bf16 = c->params->weight.backward == BN_BACKWARD_BF16,
                  .dy = bn_fast_data(&c->dout)};
    const int64_t steps = bn_step_group(&c->params->weight, &c->in[1]);
    j.step_group = bn_group_length(j.I, steps);
    j.steps = steps == BN_PER_TENSOR ? 0 : bn_groups_per_row(j.I, steps);
    j.group = bn_group_length(j.I, c->params->weight.group_size);
    j.groups = bn_groups_per_row(j.I, c->params->weight.group_size);
    return j;
}

/* dx, dw and the bias gradient run one after the other: the largest counts. */
size_t bn_fast_bitlinear_backward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    if (c->params->weight.backward == BN_BACKWARD_INT16)
        return bn_fast_bitlinear_backward16_scratch(backend, c);
    back_job j = job_of(backend, c);
    int64_t floats = bn_product_scratch(backend, j.I, j.R > j.O ? j.R : j.O);
    if (bn_tensor_present(&c->in[4]) && bn_fast_parts(j.R) * j.O > floats)
        floats = bn_fast_parts(j.R) * j.O;
    if (j.bf16)
        floats += j.R * j.O;
    return (size_t)floats * sizeof(float);
}

/* rounded = bf16(dy gamma) or bf16(dy step) for the group of columns `at` */
static void round_rows(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const back_job *j = arg;
    const float *step = bn_fast_in(j->call, 1), *scale = bn_fast_in(j->call, 3);
    const float *dy = bn_fast_data(&j->call->dout);
    const int64_t stride = j->call->params->weight.group_size == BN_PER_TENSOR ? 0 : j->groups;
    for (; r < end; r++) {
        const float *from = dy + r * j->O;
        float *to = j->rounded + r * j->O;
        const float s = step[r * j->steps + j->at * j->for_weight];
        for (int64_t o = 0; o < j->O; o++)
            to[o] = bn_bf16_round(from[o] * (j->for_weight ? s : scale[o * stride + j->at]));
    }
}

static const float unit = 1.0f;

/* Columns i0 .. i0+cols-1 of row o of an int8 weight; scale[g * stride] is that
 * of group g. */
static const float *wide_row(const back_job *j, int64_t o, const float *scale, int64_t stride,
                             float *room)
{
    const int8_t *codes = (const int8_t *)bn_fast_data(&j->call->in[2]) + o * j->I;
    const int64_t end = j->i0 + j->cols;
    for (int64_t col = j->i0, n; col < end; col += n) {
        const int64_t g = col / j->group;
        n = bn_fast_min(end, (g + 1) * j->group) - col;
        j->ops->dequantize_codes(n, codes + col, scale[g * stride], room + col - j->i0);
    }
    return room;
}

/* Columns i0 .. i0+cols-1 of row o of the weight. They are unpacked from a
 * whole byte on, which only groups, whose scale is in dy then, can begin behind. */
static const float *weight_row(const void *arg, int64_t o, float *room)
{
    const back_job *j = arg;
    const uint8_t *packed = bn_fast_data(&j->call->in[2]);
    const bool one = j->bf16 || j->call->params->weight.group_size == BN_PER_TENSOR;
    const float *scale = j->bf16 ? &unit : bn_fast_in(j->call, 3);
    const int64_t skip = j->i0 % BN_T2_PER_BYTE;
    if (j->call->in[2].dtype == BN_I8)
        return wide_row(j, o, scale + (one ? 0 : o * j->groups), one ? 0 : 1, room);
    j->ops->dequantize_row(j->cols + skip, j->bf16 ? j->I : j->group,
                           packed + o * bn_t2_row_bytes(j->I) + j->i0 / BN_T2_PER_BYTE,
                           scale + (one ? 0 : o * j->groups), one ? 0 : 1, room);
    return room + skip;
}

/* The same columns of row r of the activation. */
static const float *activation_row(const void *arg, int64_t r, float *room)
{
    const back_job *j = arg;
    const int8_t *codes = (const int8_t *)bn_fast_data(&j->call->in[0]) + r * j->I;
    const float *step = bn_fast_in(j->call, 1) + r * j->steps;
    const int64_t end = j->i0 + j->cols;
    for (int64_t col = j->i0, n; col < end; col += n) {
        const int64_t g = col / j->step_group;
        n = bn_fast_min(end, (g + 1) * j->step_group) - col;
        j->ops->dequantize_codes(n, codes + col, j->bf16 ? 1.0f : step[g], room + col - j->i0);
    }
    return room;
}

static void input_gradient(const bn_backend *backend, back_job *j)
{
    const int64_t step = j->bf16 ? j->group : j->I;
    for (j->at = j->i0 = 0; j->i0 < j->I; j->i0 += step, j->at++) {
        if (j->bf16)
            bn_fast_ranges(backend, j->R, bn_fast_chunk_rows(j->O), round_rows, j);
        j->cols = bn_fast_min(step, j->I - j->i0);
        bn_product_run(backend, &(bn_product){.M = j->R,
                                              .N = j->cols,
                                              .K = j->O,
                                              .a = j->dy,
                                              .ld_a = j->O,
                                              .row = weight_row,
                                              .arg = j,
                                              .c = bn_fast_din(j->call, 0) + j->i0,
                                              .ld_c = j->I,
                                              .add = j->call->accumulate[0],
                                              .scratch = j->rest});
    }
}

/* bf16: one product per group of columns that shares its steps. */
static void weight_gradient(const bn_backend *backend, back_job *j)
{
    const int64_t step = j->bf16 ? j->step_group : j->I;
    j->for_weight = true;
    for (j->at = j->i0 = 0; j->i0 < j->I; j->i0 += step, j->at++) {
        if (j->bf16)
            bn_fast_ranges(backend, j->R, bn_fast_chunk_rows(j->O), round_rows, j);
        j->cols = bn_fast_min(step, j->I - j->i0);
        bn_product_run(backend, &(bn_product){.M = j->O,
                                              .N = j->cols,
                                              .K = j->R,
                                              .a = j->dy,
                                              .ld_a = j->O,
                                              .transposed = true,
                                              .row = activation_row,
                                              .arg = j,
                                              .c = bn_fast_din(j->call, 2) + j->i0,
                                              .ld_c = j->I,
                                              .add = j->call->accumulate[2],
                                              .scratch = j->rest});
    }
}

/* dy [R,O] -> dx [R,I], dw [O,I], dbias [O] */
bn_status bn_fast_bitlinear_backward(bn_backend *backend, const bn_op_call *c)
{
    if (c->params->weight.backward == BN_BACKWARD_INT16)
        return bn_fast_bitlinear_backward16(backend, c);
    back_job j = job_of(backend, c);
    j.rest = bn_fast_data(&c->scratch);
    if (j.bf16) {
        j.dy = j.rounded = j.rest;
        j.rest += j.R * j.O;
    }
    if (bn_tensor_present(&c->din[0]))
        input_gradient(backend, &j);
    if (bn_tensor_present(&c->din[2]))
        weight_gradient(backend, &j);
    if (bn_tensor_present(&c->din[4]))
        bn_fast_column_sums(backend, j.R, j.O, bn_fast_data(&c->dout), j.rest, bn_fast_din(c, 4),
                            c->accumulate[4]);
    return BN_OK;
}
