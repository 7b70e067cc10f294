/* Routines on flat tensors: AdamW, norm, scale (backend/backend.h). */
#include "cpu/fast/fast_impl.h"

#include <math.h>

typedef struct flat {
    const bn_rowops *ops;
    const float *grad;
    float *x, *m, *v;
    bn_adamw_scalars scalars;
    int64_t decay_end, per_part;
    double factor;
    double *sums;
} flat;

static void adamw_range(const flat *f, int64_t begin, int64_t end, float decay)
{
    bn_adamw_scalars scalars = f->scalars;
    scalars.decay = decay;
    if (begin < end)
        f->ops->adamw(end - begin, &scalars, f->grad + begin, f->x + begin, f->m + begin,
                      f->v + begin);
}

static void adamw(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const flat *f = arg;
    int64_t border = f->decay_end < begin ? begin : bn_fast_min(f->decay_end, end);
    adamw_range(f, begin, border, f->scalars.decay);
    adamw_range(f, border, end, 0.0f);
}

bn_status bn_fast_adamw(bn_backend *backend, const bn_adamw *o, const bn_tensor *param,
                        const bn_tensor *grad, const bn_tensor *m, const bn_tensor *v,
                        const bn_tensor *norm)
{
    const double t = (double)o->step;
    const double clip = bn_clip_factor(o->clip, (double)*(const float *)bn_fast_data(norm));
    flat f = {.ops = bn_fast_ops(backend),
              .grad = bn_fast_data(grad),
              .x = bn_fast_data(param),
              .m = bn_fast_data(m),
              .v = bn_fast_data(v),
              .decay_end = o->decay_end};
    f.scalars = (bn_adamw_scalars){
        .clip = (float)clip,
        .beta1 = (float)o->beta1,
        .one_beta1 = (float)(1 - o->beta1),
        .beta2 = (float)o->beta2,
        .one_beta2 = (float)(1 - o->beta2),
        .decay = (float)(o->lr * o->weight_decay),
        .rate = (float)(o->lr / (1 - pow(o->beta1, t))),
        .root = (float)sqrt(1 - pow(o->beta2, t)),
        .eps = (float)o->eps,
    };
    bn_fast_ranges(backend, bn_tensor_numel(param), BN_CHUNK_ELEMENTS, adamw, &f);
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
