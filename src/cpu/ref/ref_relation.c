/* RELATION_KL: how the positions of a sequence relate to each other in one head. */
#include "cpu/ref/ref.h"

/* One head of one sequence: element d of row t is base[t * stride + d]. */
typedef struct head {
    const real *base;
    int64_t stride, width;
} head;

static head head_of(const bn_op_call *c, int i, int64_t b, int64_t h)
{
    const int64_t T = c->in[i].shape[1], W = c->in[i].shape[2];
    const int64_t width = W / c->params->distill.heads;
    return (head){ref_in(c, i) + b * T * W + h * width, W, width};
}

/* r[j] = x[t] x[j] / sqrt(width) for j <= t; returns the log-sum-exp. */
static double relate(head x, int64_t t, double *r)
{
    double max = -HUGE_VAL, sum = 0;
    for (int64_t j = 0; j <= t; j++) {
        r[j] = 0;
        for (int64_t d = 0; d < x.width; d++)
            r[j] += (double)x.base[t * x.stride + d] * (double)x.base[j * x.stride + d];
        r[j] /= sqrt((double)x.width);
        max = fmax(max, r[j]);
    }
    for (int64_t j = 0; j <= t; j++)
        sum += exp(r[j] - max);
    return max + log(sum);
}

/* Relations of one row in both, and of the backward pass a head's gradient. */
size_t REF(bn_relation_kl_scratch)(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const int64_t T = c->in[0].shape[1], width = c->in[0].shape[2] / c->params->distill.heads;
    return (size_t)(T * (2 + width)) * sizeof(double);
}

/* x [B,T,W], target [B,T,U] -> loss [1] = weight * mean over b, h, t of
 * sum_j p_j (log p_j - log q_j), p of the target, q of x */
bn_status REF(bn_relation_kl_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const int64_t B = c->in[0].shape[0], T = c->in[0].shape[1], H = c->params->distill.heads;
    double *s = ref_data(&c->scratch), *r = s + T, sum = 0;
    for (int64_t bh = 0; bh < B * H; bh++) {
        const head x = head_of(c, 0, bh / H, bh % H), y = head_of(c, 1, bh / H, bh % H);
        for (int64_t t = 0; t < T; t++) {
            const double ls = relate(x, t, s), lr = relate(y, t, r);
            for (int64_t j = 0; j <= t; j++)
                sum += exp(r[j] - lr) * ((r[j] - lr) - (s[j] - ls));
        }
    }
    ref_out(c, 0)[0] = (real)(c->params->distill.weight * sum / (double)(B * H * T));
    return BN_OK;
}

/* ds[j] = weight / (B H T sqrt(width)) (q_j - p_j) dloss;
 * dx[t] += ds[j] x[j], dx[j] += ds[j] x[t] */
bn_status REF(bn_relation_kl_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const int64_t B = c->in[0].shape[0], T = c->in[0].shape[1], H = c->params->distill.heads;
    double *s = ref_data(&c->scratch), *r = s + T, *dx = r + T;
    const double g = c->params->distill.weight / (double)(B * H * T) * (double)ref_dout(c)[0];
    for (int64_t bh = 0; ref_din(c, 0) && bh < B * H; bh++) {
        const head x = head_of(c, 0, bh / H, bh % H), y = head_of(c, 1, bh / H, bh % H);
        memset(dx, 0, (size_t)(T * x.width) * sizeof *dx);
        for (int64_t t = 0; t < T; t++) {
            const double ls = relate(x, t, s), lr = relate(y, t, r);
            for (int64_t j = 0; j <= t; j++) {
                const double q = exp(s[j] - ls), p = exp(r[j] - lr);
                const double ds = g * (q - p) / sqrt((double)x.width);
                for (int64_t d = 0; d < x.width; d++) {
                    dx[t * x.width + d] += ds * (double)x.base[j * x.stride + d];
                    dx[j * x.width + d] += ds * (double)x.base[t * x.stride + d];
                }
            }
        }
        real *to = ref_din(c, 0) + (x.base - ref_in(c, 0));
        for (int64_t i = 0; i < T * x.width; i++)
            ref_put(&to[i / x.width * x.stride + i % x.width], c->accumulate[0], dx[i]);
    }
    return BN_OK;
}
