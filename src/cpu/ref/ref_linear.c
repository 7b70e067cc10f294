/* Float products: linear and matmul. */
#include "cpu/ref/ref.h"

void REF(bn_product)(int64_t M, int64_t N, int64_t K, const real *a, int64_t a_row, int64_t a_col,
                     const real *b, int64_t b_row, int64_t b_col, real *c, bool add)
{
    enum { BLOCK = 64 }; /* columns of c at once: their sums stay in registers and L1 */
    for (int64_t m = 0; m < M; m++) {
        for (int64_t n0 = 0; n0 < N; n0 += BLOCK) {
            int64_t width = N - n0 < BLOCK ? N - n0 : BLOCK;
            double sum[BLOCK] = {0};
            for (int64_t k = 0; k < K; k++) {
                double x = (double)a[m * a_row + k * a_col];
                const real *row = b + k * b_row + n0 * b_col;
                for (int64_t j = 0; j < width; j++)
                    sum[j] += x * (double)row[j * b_col];
            }
            for (int64_t j = 0; j < width; j++)
                ref_put(&c[m * N + n0 + j], add, sum[j]);
        }
    }
}

void REF(bn_column_sums)(int64_t M, int64_t N, const real *dy, real *db, bool add)
{
    for (int64_t n = 0; n < N; n++) {
        double sum = 0;
        for (int64_t m = 0; m < M; m++)
            sum += (double)dy[m * N + n];
        ref_put(&db[n], add, sum);
    }
}

/* x [R,I], w [O,I], bias [O] or absent -> y [R,O]
 * y[r,o] = sum_i x[r,i] w[o,i] + bias[o] */
bn_status REF(bn_linear_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t R = bn_tensor_rows(&c->in[0]), I = c->in[1].shape[1], O = c->in[1].shape[0];
    const real *bias = ref_in(c, 2);
    real *y = ref_out(c, 0);
    REF(bn_product)(R, O, I, ref_in(c, 0), I, 1, ref_in(c, 1), 1, I, y, false);
    for (int64_t i = 0; bias && i < R * O; i++)
        y[i] += bias[i % O];
    return BN_OK;
}

/* dy [R,O] -> dx = dy w, dw = dy^T x, dbias = column sums of dy */
bn_status REF(bn_linear_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t R = bn_tensor_rows(&c->in[0]), I = c->in[1].shape[1], O = c->in[1].shape[0];
    const real *dy = ref_dout(c);
    real *dx = ref_din(c, 0), *dw = ref_din(c, 1), *db = ref_din(c, 2);
    if (dx)
        REF(bn_product)(R, I, O, dy, O, 1, ref_in(c, 1), I, 1, dx, c->accumulate[0]);
    if (dw)
        REF(bn_product)(O, I, R, dy, 1, O, ref_in(c, 0), I, 1, dw, c->accumulate[1]);
    if (db)
        REF(bn_column_sums)(R, O, dy, db, c->accumulate[2]);
    return BN_OK;
}

/* a [M,K], b [K,N] -> y [M,N] = a b */
bn_status REF(bn_matmul_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t M = c->in[0].shape[0], K = c->in[0].shape[1], N = c->in[1].shape[1];
    REF(bn_product)(M, N, K, ref_in(c, 0), K, 1, ref_in(c, 1), N, 1, ref_out(c, 0), false);
    return BN_OK;
}

/* dy [M,N] -> da = dy b^T, db = a^T dy */
bn_status REF(bn_matmul_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t M = c->in[0].shape[0], K = c->in[0].shape[1], N = c->in[1].shape[1];
    const real *dy = ref_dout(c);
    real *da = ref_din(c, 0), *db = ref_din(c, 1);
    if (da)
        REF(bn_product)(M, K, N, dy, N, 1, ref_in(c, 1), 1, N, da, c->accumulate[0]);
    if (db)
        REF(bn_product)(K, N, M, ref_in(c, 0), 1, K, dy, N, 1, db, c->accumulate[1]);
    return BN_OK;
}
