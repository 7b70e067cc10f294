/* RELATION_KL, heads in parallel: a chunk is one head of one sequence, so each
 * sum has one owner and one order. */
#include <math.h>
#include <string.h>

#include "base/mathf.h"
#include "cpu/fast/fast_impl.h"

typedef struct job {
    const bn_rowops *ops;
    const float *x, *y; /* [B,T,W], [B,T,U] */
    float *dx;          /* [B,T,W] */
    double *loss;       /* of each head */
    float *work;        /* of each worker */
    int64_t B, T, W, U, H, work_floats;
    float factor;
    bool add;
} job;

/* Columns of both [width,T], relations of one row in both [T]. */
static int64_t work_floats(const job *j)
{
    return bn_ceil_div(j->T * ((j->W + j->U) / j->H + 2), 32) * 32;
}

static job job_of(const bn_backend *backend, const bn_op_call *c)
{
    job j = {.ops = bn_fast_ops(backend),
             .x = bn_fast_in(c, 0),
             .y = bn_fast_in(c, 1),
             .B = c->in[0].shape[0],
             .T = c->in[0].shape[1],
             .W = c->in[0].shape[2],
             .U = c->in[1].shape[2],
             .H = c->params->distill.heads};
    j.work_floats = work_floats(&j);
    return j;
}

/* r[i] = x[t] x[i] / sqrt(width) for i <= t, from the columns [width,T] of x. */
static void relate(const float *row, const float *columns, int64_t width, int64_t T, int64_t t,
                   float *restrict r)
{
    const float scale = (float)(1 / sqrt((double)width));
    memset(r, 0, (size_t)(t + 1) * sizeof *r);
    for (int64_t d = 0; d < width; d++) {
        const float v = row[d], *restrict column = columns + d * T;
        for (int64_t i = 0; i <= t; i++)
            r[i] += v * column[i];
    }
    for (int64_t i = 0; i <= t; i++)
        r[i] *= scale;
}

static double log_sum_exp(const float *r, int64_t n)
{
    float max = -INFINITY;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        max = r[i] > max ? r[i] : max;
    for (int64_t i = 0; i < n; i++)
        sum += (double)bn_expf(r[i] - max);
    return (double)max + log(sum);
}

/* One head of one sequence, in both. */
typedef struct pair {
    const float *x, *y;
    float *x_columns, *y_columns, *s, *r;
    int64_t x_width, y_width;
} pair;

static pair pair_of(const job *j, int64_t chunk, int worker)
{
    const int64_t b = chunk / j->H, h = chunk % j->H;
    pair p = {.x_width = j->W / j->H, .y_width = j->U / j->H};
    p.x = j->x + b * j->T * j->W + h * p.x_width;
    p.y = j->y + b * j->T * j->U + h * p.y_width;
    p.x_columns = j->work + worker * j->work_floats;
    p.y_columns = p.x_columns + j->T * p.x_width;
    p.s = p.y_columns + j->T * p.y_width;
    p.r = p.s + j->T;
    j->ops->transpose(j->T, p.x_width, p.x, j->W, p.x_columns, j->T);
    j->ops->transpose(j->T, p.y_width, p.y, j->U, p.y_columns, j->T);
    return p;
}

static void relate_both(const job *j, const pair *p, int64_t t)
{
    relate(p->x + t * j->W, p->x_columns, p->x_width, j->T, t, p->s);
    relate(p->y + t * j->U, p->y_columns, p->y_width, j->T, t, p->r);
}

static void forward(void *arg, int64_t chunk, int worker)
{
    const job *j = arg;
    const pair p = pair_of(j, chunk, worker);
    double sum = 0;
    for (int64_t t = 0; t < j->T; t++) {
        relate_both(j, &p, t);
        const double ls = log_sum_exp(p.s, t + 1), lr = log_sum_exp(p.r, t + 1);
        for (int64_t i = 0; i <= t; i++) {
            const double log_p = (double)p.r[i] - lr;
            sum += (double)bn_expf((float)log_p) * (log_p - ((double)p.s[i] - ls));
        }
    }
    j->loss[chunk] = sum;
}

static size_t loss_bytes(const job *j)
{
    return bn_align_up((size_t)(j->B * j->H) * sizeof(double), BN_ALIGN);
}

size_t bn_fast_relation_kl_scratch(const bn_backend *backend, const bn_op_call *c)
{
    const job j = job_of(backend, c);
    return loss_bytes(&j) + (size_t)(j.work_floats * bn_fast_workers(backend)) * sizeof(float);
}

static void place(const bn_op_call *c, job *j)
{
    j->loss = bn_fast_data(&c->scratch);
    j->work = (float *)(void *)((char *)j->loss + loss_bytes(j));
}

bn_status bn_fast_relation_kl_forward(bn_backend *backend, const bn_op_call *c)
{
    job j = job_of(backend, c);
    double sum = 0;
    place(c, &j);
    bn_parallel_for(bn_cpu_of(backend)->threads, j.B * j.H, forward, &j);
    for (int64_t i = 0; i < j.B * j.H; i++)
        sum += j.loss[i];
    bn_fast_out(c, 0)[0] = (float)(c->params->distill.weight * sum / (double)(j.B * j.H * j.T));
    return BN_OK;
}

static void backward(void *arg, int64_t chunk, int worker)
{
    const job *j = arg;
    const pair p = pair_of(j, chunk, worker);
    float *dx = j->dx + (p.x - j->x);
    for (int64_t t = 0; !j->add && t < j->T; t++)
        memset(dx + t * j->W, 0, (size_t)p.x_width * sizeof *dx);
    for (int64_t t = 0; t < j->T; t++) {
        float *own = dx + t * j->W;
        relate_both(j, &p, t);
        const double ls = log_sum_exp(p.s, t + 1), lr = log_sum_exp(p.r, t + 1);
        for (int64_t i = 0; i <= t; i++)
            p.s[i] =
                (bn_expf((float)((double)p.s[i] - ls)) - bn_expf((float)((double)p.r[i] - lr))) *
                j->factor;
        for (int64_t i = 0; i <= t; i++) {
            const float ds = p.s[i], *x_i = p.x + i * j->W, *x_t = p.x + t * j->W;
            float *to = dx + i * j->W;
            for (int64_t d = 0; d < p.x_width; d++)
                own[d] += ds * x_i[d];
            for (int64_t d = 0; d < p.x_width; d++)
                to[d] += ds * x_t[d];
        }
    }
}

bn_status bn_fast_relation_kl_backward(bn_backend *backend, const bn_op_call *c)
{
    job j = job_of(backend, c);
    const double dout = (double)((const float *)bn_fast_data(&c->dout))[0];
    const double heads = (double)(j.B * j.H * j.T), width = (double)(j.W / j.H);
    place(c, &j);
    j.dx = bn_fast_din(c, 0);
    if (!j.dx)
        return BN_OK;
    j.add = c->accumulate[0];
    j.factor = (float)(c->params->distill.weight * dout / (heads * sqrt(width)));
    bn_parallel_for(bn_cpu_of(backend)->threads, j.B * j.H, backward, &j);
    return BN_OK;
}
