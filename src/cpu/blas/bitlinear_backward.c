/* BITLINEAR backward: float products with the codes turned back into numbers,
 * dx = dy (q gamma), dw = dy^T (x_q step). The weight is turned back once per
 * call; of the activations only a block of rows and columns at a time.
 *
 * bf16: gamma or step goes to dy, which is rounded then; the products
 * are float products of numbers that are bfloat16. dx takes one per group of
 * columns, because gamma belongs to a group. */
#include "cpu/blas/blas.h"

#include "base/shortfloat.h"
#include "quant/pack.h"
#include "quant/quantize.h"

enum { X_ROWS = 256 }; /* rows of activations turned back at once */

typedef struct back_job {
    const bn_rowops *ops;
    const bn_op_call *call;
    int64_t R, O, I, group, groups;
    int64_t step_group, steps; /* elements of a row per step, and steps of a row; 0: one for all */
    bool bf16;
    const float *dy; /* [R,O]: the upstream gradient, or `rounded` */
    float *weight;   /* scratch [O,I] */
    float *x;        /* scratch [X_ROWS, x_cols] of each worker */
    int64_t x_cols;  /* columns of dw in a chunk */
    float *rounded;  /* scratch [R,O]; bf16 only */
    bool for_weight; /* `rounded` is for dw, not dx */
    int64_t at;      /* group of columns that it is for */
    int64_t col0;    /* first column of a range of dw */
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
    j.step_group = bn_group_length(j.I, c->params->weight.act_group);
    j.steps = bn_tensor_numel(&c->in[1]) == 1 ? 0 : bn_ceil_div(j.I, j.step_group);
    j.x_cols = bn_gemm_narrow_cols(j.I);
    j.group = bn_group_length(j.I, c->params->weight.group_size);
    j.groups = bn_groups_per_row(j.I, c->params->weight.group_size);
    return j;
}

static int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* dx, dw and the bias gradient run one after the other: the largest counts. */
size_t bn_blas_bitlinear_backward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    if (c->params->weight.backward == BN_BACKWARD_INT16)
        return bn_fast_bitlinear_backward16_scratch(backend, c);
    back_job j = job_of(backend, c);
    int64_t floats = max_i64(j.O * j.I, bn_fast_workers(backend) * X_ROWS * j.x_cols);
    if (bn_tensor_present(&c->in[4]))
        floats = max_i64(floats, bn_fast_parts(j.R) * j.O);
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

static void dequantize_weight(void *arg, int64_t o, int64_t end, int worker)
{
    (void)worker;
    const back_job *j = arg;
    const uint8_t *packed = bn_fast_data(&j->call->in[2]);
    bool one = j->bf16 || j->call->params->weight.group_size == BN_PER_TENSOR;
    const float *scale = j->bf16 ? &unit : bn_fast_in(j->call, 3);
    for (; o < end; o++)
        j->ops->dequantize_row(j->I, j->group, packed + o * bn_t2_row_bytes(j->I),
                               scale + (one ? 0 : o * j->groups), one ? 0 : 1,
                               j->weight + o * j->I);
}

/* Columns col .. end-1 of row r of the activation. */
static void activation_row(const back_job *j, int64_t r, int64_t col, int64_t end, float *x)
{
    const int8_t *codes = (const int8_t *)bn_fast_data(&j->call->in[0]) + r * j->I;
    const float *step = bn_fast_in(j->call, 1) + r * j->steps;
    while (col < end) {
        const int64_t g = col / j->step_group;
        const int64_t n = bn_fast_min(end, (g + 1) * j->step_group) - col;
        j->ops->dequantize_codes(n, codes + col, j->bf16 ? 1.0f : step[g], x);
        col += n;
        x += n;
    }
}

/* One range of columns of dw. */
static void weight_columns(void *arg, int64_t col, int64_t end, int worker)
{
    const back_job *j = arg;
    col += j->col0;
    end += j->col0;
    const bn_op_call *c = j->call;
    float *x = j->x + worker * X_ROWS * j->x_cols;
    for (int64_t r0 = 0; r0 < j->R; r0 += X_ROWS) {
        int64_t rows = bn_fast_min(X_ROWS, j->R - r0);
        for (int64_t r = 0; r < rows; r++)
            activation_row(j, r0 + r, col, end, x + r * (end - col));
        bn_gemm_run(&(bn_gemm){.M = j->O,
                               .N = end - col,
                               .K = rows,
                               .a = j->dy + r0 * j->O,
                               .ld_a = j->O,
                               .transpose_a = true,
                               .b = x,
                               .ld_b = end - col,
                               .c = bn_fast_din(c, 2) + col,
                               .ld_c = j->I,
                               .add = c->accumulate[2] || r0 > 0});
    }
}

/* Columns i0 .. i0+n-1 of dx. */
static bn_status input_columns(const bn_backend *backend, const back_job *j, int64_t i0, int64_t n)
{
    return bn_gemm_parallel(backend, &(bn_gemm){.M = j->R,
                                                .N = n,
                                                .K = j->O,
                                                .a = j->dy,
                                                .ld_a = j->O,
                                                .b = j->weight + i0,
                                                .ld_b = j->I,
                                                .c = bn_fast_din(j->call, 0) + i0,
                                                .ld_c = j->I,
                                                .add = j->call->accumulate[0]});
}

static bn_status input_gradient(const bn_backend *backend, back_job *j)
{
    bn_fast_ranges(backend, j->O, bn_fast_chunk_rows(j->I), dequantize_weight, j);
    if (!j->bf16)
        return input_columns(backend, j, 0, j->I);
    for (j->at = 0; j->at < j->groups; j->at++) {
        const int64_t i0 = j->at * j->group;
        bn_fast_ranges(backend, j->R, bn_fast_chunk_rows(j->O), round_rows, j);
        BN_TRY(input_columns(backend, j, i0, bn_fast_min(j->group, j->I - i0)));
    }
    return BN_OK;
}

/* bf16: one product per group of columns that shares its steps. */
static void weight_gradient(const bn_backend *backend, back_job *j)
{
    const int64_t per_product = j->bf16 ? j->step_group : j->I;
    j->for_weight = true;
    for (j->at = 0; j->at * per_product < j->I; j->at++) {
        j->col0 = j->at * per_product;
        if (j->bf16)
            bn_fast_ranges(backend, j->R, bn_fast_chunk_rows(j->O), round_rows, j);
        bn_fast_ranges(backend, bn_fast_min(per_product, j->I - j->col0), j->x_cols, weight_columns,
                       j);
    }
}

/* dy [R,O] -> dx [R,I], dw [O,I], dbias [O] */
bn_status bn_blas_bitlinear_backward(bn_backend *backend, const bn_op_call *c)
{
    if (c->params->weight.backward == BN_BACKWARD_INT16)
        return bn_fast_bitlinear_backward16(backend, c);
    back_job j = job_of(backend, c);
    if (j.bf16) {
        j.rounded = bn_fast_data(&c->scratch);
        j.dy = j.rounded;
    }
    float *rest = (float *)bn_fast_data(&c->scratch) + (j.bf16 ? j.R * j.O : 0);
    if (bn_tensor_present(&c->din[0])) {
        j.weight = rest;
        BN_TRY(input_gradient(backend, &j));
    }
    if (bn_tensor_present(&c->din[2])) {
        BN_TRY(bn_gemm_check(&(bn_gemm){.M = j.O, .N = j.I, .K = j.R}));
        j.x = rest;
        weight_gradient(backend, &j);
    }
    if (bn_tensor_present(&c->din[4]))
        bn_fast_column_sums(backend, j.R, j.O, bn_fast_data(&c->dout), rest, bn_fast_din(c, 4),
                            c->accumulate[4]);
    return BN_OK;
}
