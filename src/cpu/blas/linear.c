/* LINEAR and MATMUL. */
#include "cpu/blas/blas.h"

typedef struct bias_job {
    const bn_rowops *ops;
    const float *bias;
    float *y;
    int64_t cols;
} bias_job;

static void add_bias(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const bias_job *j = arg;
    for (; r < end; r++)
        j->ops->copy_add(j->cols, j->bias, j->y + r * j->cols, true);
}

/* x [R,I], w [O,I], bias [O] or absent -> y [R,O] = x w^T + bias */
bn_status bn_blas_linear_forward(bn_backend *backend, const bn_op_call *c)
{
    int64_t R = bn_tensor_rows(&c->in[0]), O = c->in[1].shape[0], I = c->in[1].shape[1];
    float *y = bn_fast_out(c, 0);
    BN_TRY(bn_gemm_parallel(backend, &(bn_gemm){.M = R,
                                                .N = O,
                                                .K = I,
                                                .a = bn_fast_in(c, 0),
                                                .ld_a = I,
                                                .b = bn_fast_in(c, 1),
                                                .ld_b = I,
                                                .transpose_b = true,
                                                .c = y,
                                                .ld_c = O}));
    bias_job j = {bn_fast_ops(backend), bn_fast_in(c, 2), y, O};
    if (j.bias)
        bn_fast_ranges(backend, R, bn_fast_chunk_rows(O), add_bias, &j);
    return BN_OK;
}

/* Partial sums of the bias gradient. */
size_t bn_blas_linear_backward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return bn_tensor_present(&c->in[2])
               ? (size_t)(bn_fast_parts(bn_tensor_rows(&c->in[0])) * c->in[1].shape[0]) *
                     sizeof(float)
               : 0;
}

/* dx = dy w, dw = dy^T x, dbias = column sums of dy */
bn_status bn_blas_linear_backward(bn_backend *backend, const bn_op_call *c)
{
    int64_t R = bn_tensor_rows(&c->in[0]), O = c->in[1].shape[0], I = c->in[1].shape[1];
    const float *dy = bn_fast_data(&c->dout);
    float *dx = bn_fast_din(c, 0), *dw = bn_fast_din(c, 1), *db = bn_fast_din(c, 2);
    if (dx)
        BN_TRY(bn_gemm_parallel(backend, &(bn_gemm){.M = R,
                                                    .N = I,
                                                    .K = O,
                                                    .a = dy,
                                                    .ld_a = O,
                                                    .b = bn_fast_in(c, 1),
                                                    .ld_b = I,
                                                    .c = dx,
                                                    .ld_c = I,
                                                    .add = c->accumulate[0]}));
    if (dw)
        BN_TRY(bn_gemm_parallel(backend, &(bn_gemm){.M = O,
                                                    .N = I,
                                                    .K = R,
                                                    .a = dy,
                                                    .ld_a = O,
                                                    .transpose_a = true,
                                                    .b = bn_fast_in(c, 0),
                                                    .ld_b = I,
                                                    .c = dw,
                                                    .ld_c = I,
                                                    .add = c->accumulate[1]}));
    if (db)
        bn_fast_column_sums(backend, R, O, dy, bn_fast_data(&c->scratch), db, c->accumulate[2]);
    return BN_OK;
}

/* a [M,K], b [K,N] -> y [M,N] = a b */
bn_status bn_blas_matmul_forward(bn_backend *backend, const bn_op_call *c)
{
    int64_t M = c->in[0].shape[0], K = c->in[0].shape[1], N = c->in[1].shape[1];
    return bn_gemm_parallel(backend, &(bn_gemm){.M = M,
                                                .N = N,
                                                .K = K,
                                                .a = bn_fast_in(c, 0),
                                                .ld_a = K,
                                                .b = bn_fast_in(c, 1),
                                                .ld_b = N,
                                                .c = bn_fast_out(c, 0),
                                                .ld_c = N});
}

/* da = dy b^T, db = a^T dy */
bn_status bn_blas_matmul_backward(bn_backend *backend, const bn_op_call *c)
{
    int64_t M = c->in[0].shape[0], K = c->in[0].shape[1], N = c->in[1].shape[1];
    const float *dy = bn_fast_data(&c->dout);
    float *da = bn_fast_din(c, 0), *db = bn_fast_din(c, 1);
    if (da)
        BN_TRY(bn_gemm_parallel(backend, &(bn_gemm){.M = M,
                                                    .N = K,
                                                    .K = N,
                                                    .a = dy,
                                                    .ld_a = N,
                                                    .b = bn_fast_in(c, 1),
                                                    .ld_b = N,
                                                    .transpose_b = true,
                                                    .c = da,
                                                    .ld_c = K,
                                                    .add = c->accumulate[0]}));
    if (db)
        BN_TRY(bn_gemm_parallel(backend, &(bn_gemm){.M = K,
                                                    .N = N,
                                                    .K = M,
                                                    .a = bn_fast_in(c, 0),
                                                    .ld_a = K,
                                                    .transpose_a = true,
                                                    .b = dy,
                                                    .ld_b = N,
                                                    .c = db,
                                                    .ld_c = N,
                                                    .add = c->accumulate[1]}));
    return BN_OK;
}
