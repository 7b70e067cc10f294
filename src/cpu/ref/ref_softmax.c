/* Softmax along the last dimension. */
#include "cpu/ref/ref.h"

/* x [R,C] -> y [R,C] = exp(x - max) / sum exp(x - max) */
bn_status REF(bn_softmax_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t R = bn_tensor_rows(&c->in[0]), C = bn_tensor_cols(&c->in[0]);
    for (int64_t r = 0; r < R; r++) {
        const real *x = ref_in(c, 0) + r * C;
        real *y = ref_out(c, 0) + r * C;
        double max = -HUGE_VAL, sum = 0;
        for (int64_t i = 0; i < C; i++)
            max = fmax(max, (double)x[i]);
        for (int64_t i = 0; i < C; i++)
            sum += exp((double)x[i] - max);
        for (int64_t i = 0; i < C; i++)
            y[i] = (real)(exp((double)x[i] - max) / sum);
    }
    return BN_OK;
}

/* dx = y (dy - sum of dy y over the row) */
bn_status REF(bn_softmax_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t R = bn_tensor_rows(&c->in[0]), C = bn_tensor_cols(&c->in[0]);
    real *dx = ref_din(c, 0);
    for (int64_t r = 0; dx && r < R; r++) {
        const real *y = (const real *)ref_data(&c->out[0]) + r * C, *dy = ref_dout(c) + r * C;
        double sum = 0;
        for (int64_t i = 0; i < C; i++)
            sum += (double)dy[i] * (double)y[i];
        for (int64_t i = 0; i < C; i++)
            ref_put(&dx[r * C + i], c->accumulate[0], (double)y[i] * ((double)dy[i] - sum));
    }
    return BN_OK;
}
