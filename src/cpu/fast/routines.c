/* Routines on flat tensors: AdamW (its moments in 8 bits too), SGD, norm, scale
 * (backend/backend.h). */
#include "cpu/fast/fast_impl.h"

#include <math.h>

typedef struct flat {
    const bn_rowops *ops;
    const float *grad;
    float *x, *m, *v;
    bn_adamw_scalars scalars;
    bn_sgd_scalars sgd;
    int64_t decay_end, per_part;
    double factor;
    double *sums;
    /* Moments in 8 bits: m, v. */
    const bn_dynamic8 *maps;
    uint8_t *codes[2];
    float *absmax[2];
    int64_t n;
} flat;

/* Elements before this one of a range decay, the others do not. */
static int64_t decay_border(const flat *f, int64_t begin, int64_t end)
{
    return f->decay_end < begin ? begin : bn_fast_min(f->decay_end, end);
}

/* Elements from `begin` on; m and v begin with that one. */
static void adamw_span(const flat *f, int64_t begin, int64_t end, float *m, float *v)
{
    const int64_t border = decay_border(f, begin, end), decaying = border - begin;
    bn_adamw_scalars scalars = f->scalars;
    f->ops->adamw(decaying, &scalars, f->grad + begin, f->x + begin, m, v);
    scalars.decay = 0.0f;
    f->ops->adamw(end - border, &scalars, f->grad + border, f->x + border, m + decaying,
                  v + decaying);
}

static void adamw(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const flat *f = arg;
    adamw_span(f, begin, end, f->m + begin, f->v + begin);
}

static void adamw_blocks(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const flat *f = arg;
    for (int64_t block = begin; block < end; block++) {
        const int64_t at = block * BN_DYNAMIC8_BLOCK;
        const int64_t n = bn_fast_min(f->n - at, BN_DYNAMIC8_BLOCK);
        float x[2][BN_DYNAMIC8_BLOCK];
        for (int k = 0; k < 2; k++)
            bn_dynamic8_decode(&f->maps[k], n, f->codes[k] + at, f->absmax[k][block], x[k]);
        adamw_span(f, at, at + n, x[0], x[1]);
        for (int k = 0; k < 2; k++) {
            f->absmax[k][block] = f->ops->absmax(n, x[k]);
            bn_dynamic8_encode(&f->maps[k], n, x[k], f->absmax[k][block], f->codes[k] + at);
        }
    }
}

static flat adamw_operands(const bn_backend *backend, const bn_adamw *o, const bn_tensor *param,
                           const bn_tensor *grad, const bn_tensor *norm)
{
    const double t = (double)o->step;
    const double clip = bn_clip_factor(o->clip, (double)*(const float *)bn_fast_data(norm));
    return (flat){
        .ops = bn_fast_ops(backend),
        .grad = bn_fast_data(grad),
        .x = bn_fast_data(param),
        .n = bn_tensor_numel(param),
        .decay_end = o->decay_end,
        .scalars = {.clip = (float)clip,
                    .beta1 = (float)o->beta1,
                    .one_beta1 = (float)(1 - o->beta1),
                    .beta2 = (float)o->beta2,
                    .one_beta2 = (float)(1 - o->beta2),
                    .decay = (float)(o->lr * o->weight_decay),
                    .rate = (float)(o->lr / (1 - pow(o->beta1, t))),
                    .root = (float)sqrt(1 - pow(o->beta2, t)),
                    .eps = (float)o->eps},
    };
}

bn_status bn_fast_adamw(bn_backend *backend, const bn_adamw *o, const bn_tensor *param,
                        const bn_tensor *grad, const bn_tensor *m, const bn_tensor *v,
                        const bn_tensor *norm)
{
    flat f = adamw_operands(backend, o, param, grad, norm);
    f.m = bn_fast_data(m);
    f.v = bn_fast_data(v);
    bn_fast_ranges(backend, f.n, BN_CHUNK_ELEMENTS, adamw, &f);
    return BN_OK;
}

bn_status bn_fast_adamw8bit(bn_backend *backend, const bn_adamw *o, const bn_dynamic8 *maps,
                            const bn_tensor *param, const bn_tensor *grad, const bn_moment8 *m,
                            const bn_moment8 *v, const bn_tensor *norm)
{
    flat f = adamw_operands(backend, o, param, grad, norm);
    f.maps = maps;
    f.codes[0] = bn_fast_data(&m->codes);
    f.codes[1] = bn_fast_data(&v->codes);
    f.absmax[0] = bn_fast_data(&m->absmax);
    f.absmax[1] = bn_fast_data(&v->absmax);
    bn_fast_ranges(backend, bn_ceil_div(f.n, BN_DYNAMIC8_BLOCK),
                   BN_CHUNK_ELEMENTS / BN_DYNAMIC8_BLOCK, adamw_blocks, &f);
    return BN_OK;
}

static void sgd(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const flat *f = arg;
    const int64_t border = decay_border(f, begin, end);
    bn_sgd_scalars scalars = f->sgd;
    f->ops->sgd(border - begin, &scalars, f->grad + begin, f->x + begin, f->m + begin);
    scalars.decay = 0.0f;
    f->ops->sgd(end - border, &scalars, f->grad + border, f->x + border, f->m + border);
}

bn_status bn_fast_sgd(bn_backend *backend, const bn_sgd *o, const bn_tensor *param,
                      const bn_tensor *grad, const bn_tensor *m, const bn_tensor *norm)
{
    flat f = {.ops = bn_fast_ops(backend),
              .grad = bn_fast_data(grad),
              .x = bn_fast_data(param),
              .m = bn_fast_data(m),
              .decay_end = o->decay_end};
    f.sgd = (bn_sgd_scalars){
        .clip = (float)bn_clip_factor(o->clip, (double)*(const float *)bn_fast_data(norm)),
        .momentum = (float)o->momentum,
        .decay = (float)o->weight_decay,
        .rate = (float)o->lr,
        .grad_share = o->nesterov ? 1.0f : 0.0f,
        .momentum_share = o->nesterov ? (float)o->momentum : 1.0f,
    };
    bn_fast_ranges(backend, bn_tensor_numel(param), BN_CHUNK_ELEMENTS, sgd, &f);
    return BN_OK;
}

enum { NORM_PARTS = 256 };

static void sum_squares(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const flat *f = arg;
    f->sums[begin / f->per_part] = f->ops->sum_squares(end - begin, f->x + begin);
}

bn_status bn_fast_norm(bn_backend *backend, const bn_tensor *x, const bn_tensor *norm)
{
    double sums[NORM_PARTS] = {0}, sum = 0;
    int64_t n = bn_tensor_numel(x), per_part = bn_ceil_div(n, NORM_PARTS);
    flat f = {.ops = bn_fast_ops(backend),
              .x = bn_fast_data(x),
              .sums = sums,
              .per_part = per_part < BN_CHUNK_ELEMENTS ? BN_CHUNK_ELEMENTS : per_part};
    bn_fast_ranges(backend, n, f.per_part, sum_squares, &f);
    for (int64_t i = 0; i < NORM_PARTS; i++)
        sum += sums[i];
    *(float *)bn_fast_data(norm) = (float)sqrt(sum);
    return BN_OK;
}

static void scale(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const flat *f = arg;
    f->ops->scale(end - begin, f->factor, f->x + begin);
}

bn_status bn_fast_scale(bn_backend *backend, const bn_tensor *x, double factor)
{
    flat f = {.ops = bn_fast_ops(backend), .x = bn_fast_data(x), .factor = factor};
    bn_fast_ranges(backend, bn_tensor_numel(x), BN_CHUNK_ELEMENTS, scale, &f);
    return BN_OK;
}
