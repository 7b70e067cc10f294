/* Losses against a teacher: distill_kl, distance. */
#include "cpu/ref/ref.h"

/* log sum exp of x / T */
static double log_sum_exp(const real *x, int64_t V, double T)
{
    double max = -HUGE_VAL, sum = 0;
    for (int64_t i = 0; i < V; i++)
        max = fmax(max, (double)x[i] / T);
    for (int64_t i = 0; i < V; i++)
        sum += exp((double)x[i] / T - max);
    return max + log(sum);
}

/* s, t [R,V] -> loss [1] = weight T^2 mean over rows of
 * sum_i p_i ((t_i / T - lse_t) - (s_i / T - lse_s)), p = softmax(t / T);
 * lse [2,R]: of s / T, then of t / T */
bn_status REF(bn_distill_kl_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const int64_t R = bn_tensor_rows(&c->in[0]), V = bn_tensor_cols(&c->in[0]);
    const double T = c->params->distill.temperature;
    real *lse = ref_out(c, 1);
    double sum = 0;
    for (int64_t r = 0; r < R; r++) {
        const real *s = ref_in(c, 0) + r * V, *t = ref_in(c, 1) + r * V;
        const double ls = log_sum_exp(s, V, T), lt = log_sum_exp(t, V, T);
        lse[r] = (real)ls;
        lse[R + r] = (real)lt;
        for (int64_t i = 0; i < V; i++) {
            const double log_p = (double)t[i] / T - lt;
            sum += exp(log_p) * (log_p - ((double)s[i] / T - ls));
        }
    }
    ref_out(c, 0)[0] = (real)(c->params->distill.weight * T * T * sum / (double)R);
    return BN_OK;
}

/* ds = weight T / R (softmax(s / T) - softmax(t / T)) dloss */
bn_status REF(bn_distill_kl_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const int64_t R = bn_tensor_rows(&c->in[0]), V = bn_tensor_cols(&c->in[0]);
    const double T = c->params->distill.temperature;
    const double g = c->params->distill.weight * T / (double)R * (double)ref_dout(c)[0];
    const real *s = ref_in(c, 0), *t = ref_in(c, 1), *lse = ref_data(&c->out[1]);
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    for (int64_t r = 0; r < R; r++)
        for (int64_t i = r * V; i < (r + 1) * V; i++) {
            const double q = exp((double)s[i] / T - (double)lse[r]);
            const double p = exp((double)t[i] / T - (double)lse[R + r]);
            ref_put(&ref_din(c, 0)[i], c->accumulate[0], (q - p) * g);
        }
    return BN_OK;
}

/* x, y [n] -> weight * mean (x - y)^2 */
bn_status REF(bn_distance_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const int64_t n = bn_tensor_numel(&c->in[0]);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)ref_in(c, 0)[i] - (double)ref_in(c, 1)[i];
        sum += d * d;
    }
    ref_out(c, 0)[0] = (real)(c->params->distill.weight * sum / (double)n);
    return BN_OK;
}

/* dx = weight 2 / n (x - y) dloss */
bn_status REF(bn_distance_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const int64_t n = bn_tensor_numel(&c->in[0]);
    const double g = c->params->distill.weight * 2 / (double)n * (double)ref_dout(c)[0];
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    for (int64_t i = 0; i < n; i++)
        ref_put(&ref_din(c, 0)[i], c->accumulate[0],
                ((double)ref_in(c, 0)[i] - (double)ref_in(c, 1)[i]) * g);
    return BN_OK;
}
