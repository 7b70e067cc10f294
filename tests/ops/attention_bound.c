#include "ops/attention_bound.h"

#include <math.h>
#include <stdlib.h>

static const double u = 0x1p-24;

/* Bounds that are being added up; NULL where they are not wanted. */
typedef struct bounds {
    double *out, *lse, *din[3];
} bounds;

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static double dot_magnitude(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += fabs((double)a[i] * (double)b[i]);
    return sum;
}

static void add_magnitudes(double *to, double factor, const float *x, int64_t n)
{
    for (int64_t i = 0; to && i < n; i++)
        to[i] += factor * fabs((double)x[i]);
}

static double *at(double *p, int64_t i)
{
    return p ? p + i : NULL;
}

/* Head h, query t of sequence b; p [T] is scratch. */
static void add_row(const bn_op_call *c, int64_t b, int64_t h, int64_t t, double *p,
                    const bounds *to)
{
    const int64_t T = c->in[0].shape[1], W = c->in[0].shape[2];
    const int64_t H = c->params->attention.heads, KV = c->params->attention.kv_heads, hd = W / H;
    const int64_t wide = (b * T + t) * W + h * hd, keys = t + 1, group = H / KV;
    const double scale = 1 / sqrt((double)hd);
    const float *q = (const float *)bn_tensor_data(&c->in[0]) + wide;
    double most = 0, max = -HUGE_VAL, sum = 0;
    for (int64_t j = 0; j < keys; j++) {
        const int64_t narrow = ((b * T + j) * KV + h / group) * hd;
        const float *k = (const float *)bn_tensor_data(&c->in[1]) + narrow;
        most = fmax(most, scale * dot_magnitude(q, k, hd));
        max = fmax(max, p[j] = scale * dot(q, k, hd));
    }
    for (int64_t j = 0; j < keys; j++)
        sum += p[j] = exp(p[j] - max);
    const double E = u * ((double)(hd + 3) * most + 8), lse = max + log(sum);
    if (to->lse)
        to->lse[(b * H + h) * T + t] = E + (double)(keys + 4) * u + 2 * u * fabs(lse);
    for (int64_t j = 0; j < keys; j++) {
        const int64_t narrow = ((b * T + j) * KV + h / group) * hd;
        const float *k = (const float *)bn_tensor_data(&c->in[1]) + narrow;
        const float *v = (const float *)bn_tensor_data(&c->in[2]) + narrow;
        p[j] /= sum;
        add_magnitudes(at(to->out, wide), p[j] * (2 * E + (double)(2 * keys + 4) * u), v, hd);
        if (to->out)
            continue;
        const float *dy = (const float *)bn_tensor_data(&c->dout) + wide;
        const float *y = (const float *)bn_tensor_data(&c->out[0]) + wide;
        const double slope = fabs(dot(dy, v, hd) - dot(dy, y, hd));
        const double noise = dot_magnitude(dy, v, hd) + dot_magnitude(dy, y, hd);
        const double ds = p[j] * slope * scale;
        const double e = p[j] * scale * (E * slope + (double)(hd + 3) * u * noise);
        const double n = (double)(group * (T - j));
        add_magnitudes(at(to->din[0], wide), e + (double)keys * u * ds, k, hd);
        add_magnitudes(at(to->din[1], narrow), e + n * u * ds, q, hd);
        add_magnitudes(at(to->din[2], narrow), p[j] * (E + n * u), dy, hd);
    }
}

static void add_rows(const bn_op_call *c, const bounds *to)
{
    const int64_t B = c->in[0].shape[0], T = c->in[0].shape[1], H = c->params->attention.heads;
    double *p = malloc((size_t)T * sizeof *p);
    for (int64_t row = 0; p && row < B * H * T; row++)
        add_row(c, row / (H * T), row / T % H, row % T, p, to);
    if (!p)
        abort();
    free(p);
}

static double *new_bound(const bn_tensor *like, double first)
{
    double *bound = malloc((size_t)bn_tensor_numel(like) * sizeof *bound);
    if (!bound)
        abort();
    for (int64_t i = 0; i < bn_tensor_numel(like); i++)
        bound[i] = first;
    return bound;
}

double *attention_bound_of_output(const bn_op_call *call, int j)
{
    double *other = new_bound(&call->out[1 - j], 0), *bound = new_bound(&call->out[j], 0);
    const bounds to = {.out = j == 0 ? bound : other, .lse = j == 0 ? other : bound};
    add_rows(call, &to);
    free(other);
    return bound;
}

double *attention_bound_of_gradient(const bn_op_call *call, int i, double start)
{
    const int64_t terms =
        call->in[0].shape[1] *
        (i ? call->params->attention.heads / call->params->attention.kv_heads : 1);
    double *bound = new_bound(&call->in[i], (double)terms * u * start);
    bounds to = {.out = NULL};
    to.din[i] = bound;
    add_rows(call, &to);
    return bound;
}
