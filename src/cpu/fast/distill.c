/* DISTILL_KL, rows in parallel. */
#include <math.h>

#include "base/mathf.h"
#include "cpu/fast/fast_impl.h"

typedef struct job {
    const float *s, *t; /* [R,V] */
    float *lse, *ds;    /* [2,R]; [R,V] */
    double *loss;       /* of each row */
    int64_t rows, cols;
    double inv; /* 1 / temperature */
    float factor;
    bool add;
} job;

enum { LANES = 8 };

static job job_of(const bn_op_call *c)
{
    return (job){.s = bn_fast_in(c, 0),
                 .t = bn_fast_in(c, 1),
                 .lse = bn_fast_out(c, 1),
                 .rows = bn_tensor_rows(&c->in[0]),
                 .cols = bn_tensor_cols(&c->in[0]),
                 .inv = 1 / c->params->distill.temperature};
}

/* e^(x inv - shift). The exponent is a small difference of large numbers, so it is
 * made in double; in the backward pass `shift` is the float32 that forward saved,
 * which leaves a relative error of up to 2^-24 |shift|. */
static float power(float x, double inv, double shift)
{
    return bn_expf((float)((double)x * inv - shift));
}

/* log sum exp of x * inv; sums in lanes, so that the loop is vector code. */
static double log_sum_exp(const float *x, int64_t n, double inv)
{
    float max = -INFINITY, lanes[LANES] = {0};
    double sum = 0;
    int64_t i = 0;
    for (int64_t k = 0; k < n; k++)
        max = x[k] > max ? x[k] : max;
    const double shift = (double)max * inv;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lanes[l] += power(x[i + l], inv, shift);
    for (; i < n; i++)
        sum += (double)power(x[i], inv, shift);
    for (int l = 0; l < LANES; l++)
        sum += (double)lanes[l];
    return shift + log(sum);
}

static void forward_rows(void *arg, int64_t r, int64_t end, int worker)
{
    const job *j = arg;
    (void)worker;
    for (; r < end; r++) {
        const float *s = j->s + r * j->cols, *t = j->t + r * j->cols;
        const double ls = log_sum_exp(s, j->cols, j->inv), lt = log_sum_exp(t, j->cols, j->inv);
        double sum = 0;
        for (int64_t i = 0; i < j->cols; i++) {
            const double log_p = (double)t[i] * j->inv - lt;
            sum += (double)bn_expf((float)log_p) * (log_p - ((double)s[i] * j->inv - ls));
        }
        j->lse[r] = (float)ls;
        j->lse[j->rows + r] = (float)lt;
        j->loss[r] = sum;
    }
}

size_t bn_fast_distill_kl_scratch(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return (size_t)bn_tensor_rows(&c->in[0]) * sizeof(double);
}

bn_status bn_fast_distill_kl_forward(bn_backend *backend, const bn_op_call *c)
{
    job j = job_of(c);
    const double T = c->params->distill.temperature;
    double sum = 0;
    j.loss = bn_fast_data(&c->scratch);
    bn_fast_ranges(backend, j.rows, bn_fast_chunk_rows(j.cols), forward_rows, &j);
    for (int64_t r = 0; r < j.rows; r++)
        sum += j.loss[r];
    bn_fast_out(c, 0)[0] = (float)(c->params->distill.weight * T * T * sum / (double)j.rows);
    return BN_OK;
}

static void backward_rows(void *arg, int64_t r, int64_t end, int worker)
{
    const job *j = arg;
    (void)worker;
    for (; r < end; r++) {
        const float *s = j->s + r * j->cols, *t = j->t + r * j->cols;
        const double ls = (double)j->lse[r], lt = (double)j->lse[j->rows + r];
        float *ds = j->ds + r * j->cols;
        for (int64_t i = 0; i < j->cols; i++) {
            const float d = power(s[i], j->inv, ls) - power(t[i], j->inv, lt);
            ds[i] = j->add ? ds[i] + d * j->factor : d * j->factor;
        }
    }
}

bn_status bn_fast_distill_kl_backward(bn_backend *backend, const bn_op_call *c)
{
    job j = job_of(c);
    const double dout = (double)((const float *)bn_fast_data(&c->dout))[0];
    j.ds = bn_fast_din(c, 0);
    if (!j.ds)
        return BN_OK;
    j.add = c->accumulate[0];
    j.factor =
        (float)(c->params->distill.weight * c->params->distill.temperature / (double)j.rows * dout);
    bn_fast_ranges(backend, j.rows, bn_fast_chunk_rows(j.cols), backward_rows, &j);
    return BN_OK;
}
