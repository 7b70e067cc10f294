/* RMSNorm (Zhang & Sennrich, arXiv 1910.07467). */
#include "cpu/ref/ref.h"

/* x [R,C], weight [C] -> y [R,C] = x rstd weight,
 * rstd [R] = 1 / sqrt(mean(x^2) + eps) */
bn_status REF(bn_rmsnorm_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t R = bn_tensor_rows(&c->in[0]), C = bn_tensor_cols(&c->in[0]);
    const real *weight = ref_in(c, 1);
    real *rstd = ref_out(c, 1);
    for (int64_t r = 0; r < R; r++) {
        const real *x = ref_in(c, 0) + r * C;
        real *y = ref_out(c, 0) + r * C;
        double sum = 0;
        for (int64_t i = 0; i < C; i++)
            sum += (double)x[i] * (double)x[i];
        rstd[r] = (real)(1 / sqrt(sum / (double)C + c->params->rmsnorm.eps));
        for (int64_t i = 0; i < C; i++)
            y[i] = x[i] * rstd[r] * weight[i];
    }
    return BN_OK;
}

/* With n = x rstd and g = dy weight:
 * dx = rstd (g - n mean(g n)), dweight = sum over rows of dy n */
bn_status REF(bn_rmsnorm_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t R = bn_tensor_rows(&c->in[0]), C = bn_tensor_cols(&c->in[0]);
    const real *x = ref_in(c, 0), *weight = ref_in(c, 1), *dy = ref_dout(c);
    const real *rstd = ref_data(&c->out[1]);
    real *dx = ref_din(c, 0), *dweight = ref_din(c, 1);
    for (int64_t i = 0; dweight && i < C; i++) {
        double sum = 0;
        for (int64_t r = 0; r < R; r++)
            sum += (double)dy[r * C + i] * (double)x[r * C + i] * (double)rstd[r];
        ref_put(&dweight[i], c->accumulate[1], sum);
    }
    for (int64_t r = 0; dx && r < R; r++) {
        const real *xr = x + r * C, *dyr = dy + r * C;
        double s = (double)rstd[r], mean = 0;
        for (int64_t i = 0; i < C; i++)
            mean += (double)dyr[i] * (double)weight[i] * (double)xr[i] * s;
        mean /= (double)C;
        for (int64_t i = 0; i < C; i++) {
            double g = (double)dyr[i] * (double)weight[i], n = (double)xr[i] * s;
            ref_put(&dx[r * C + i], c->accumulate[0], s * (g - n * mean));
        }
    }
    return BN_OK;
}
