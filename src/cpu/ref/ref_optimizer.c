/* Routines that are not graph operations: AdamW, SGD, Muon, norm, scale (backend/backend.h). */
#include "cpu/ref/ref.h"

static real clip_factor(double clip, const bn_tensor *norm)
{
    return (real)bn_clip_factor(clip, (double)*(const real *)ref_data(norm));
}

/* n elements, of which the first `decaying` decay; c: the clipping factor */
static void adamw(const bn_adamw *o, real c, int64_t n, int64_t decaying, const real *gradient,
                  real *p, real *mean, real *square)
{
    double t = (double)o->step;
    real b1 = (real)o->beta1, b2 = (real)o->beta2;
    real a1 = (real)(1 - o->beta1), a2 = (real)(1 - o->beta2), eps = (real)o->eps;
    real rate = (real)(o->lr / (1 - pow(o->beta1, t)));
    real root = (real)sqrt(1 - pow(o->beta2, t));
    real decay = (real)(o->lr * o->weight_decay);
    for (int64_t i = 0; i < n; i++) {
        real g = c * gradient[i];
        mean[i] = b1 * mean[i] + a1 * g;
        square[i] = b2 * square[i] + a2 * (g * g);
        if (i < decaying)
            p[i] -= decay * p[i];
        p[i] -= rate * (mean[i] / (real_sqrt(square[i]) / root + eps));
    }
}

bn_status REF(bn_adamw_step)(bn_backend *backend, const bn_adamw *o, const bn_tensor *param,
                             const bn_tensor *grad, const bn_tensor *m, const bn_tensor *v,
                             const bn_tensor *norm)
{
    (void)backend;
    adamw(o, clip_factor(o->clip, norm), bn_tensor_numel(param), o->decay_end, ref_data(grad),
          ref_data(param), ref_data(m), ref_data(v));
    return BN_OK;
}

static void decode(const bn_dynamic8 *map, int64_t n, const uint8_t *codes, float absmax, real *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (real)absmax * (real)map->value[codes[i]];
}

static void encode(const bn_dynamic8 *map, int64_t n, const real *x, float *absmax, uint8_t *codes)
{
    float rounded[BN_DYNAMIC8_BLOCK], most = 0;
    for (int64_t i = 0; i < n; i++) {
        rounded[i] = (float)x[i];
        if (fabsf(rounded[i]) > most || isnan(rounded[i])) /* NaN is and stays the largest */
            most = fabsf(rounded[i]);
    }
    bn_dynamic8_encode(map, n, rounded, most, codes);
    *absmax = most;
}

bn_status REF(bn_adamw8bit_step)(bn_backend *backend, const bn_adamw *o, const bn_dynamic8 *maps,
                                 const bn_tensor *param, const bn_tensor *grad, const bn_moment8 *m,
                                 const bn_moment8 *v, const bn_tensor *norm)
{
    (void)backend;
    enum { BLOCK = BN_DYNAMIC8_BLOCK };
    const real c = clip_factor(o->clip, norm);
    const int64_t count = bn_tensor_numel(param);
    const bn_moment8 *const moments[2] = {m, v};
    for (int64_t at = 0; at < count; at += BLOCK) {
        const int64_t n = count - at < BLOCK ? count - at : BLOCK;
        real x[2][BLOCK];
        for (int k = 0; k < 2; k++)
            decode(&maps[k], n, (uint8_t *)ref_data(&moments[k]->codes) + at,
                   ((float *)ref_data(&moments[k]->absmax))[at / BLOCK], x[k]);
        adamw(o, c, n, o->decay_end - at, (const real *)ref_data(grad) + at,
              (real *)ref_data(param) + at, x[0], x[1]);
        for (int k = 0; k < 2; k++)
            encode(&maps[k], n, x[k], (float *)ref_data(&moments[k]->absmax) + at / BLOCK,
                   (uint8_t *)ref_data(&moments[k]->codes) + at);
    }
    return BN_OK;
}

bn_status REF(bn_sgd_step)(bn_backend *backend, const bn_sgd *o, const bn_tensor *param,
                           const bn_tensor *grad, const bn_tensor *m, const bn_tensor *norm)
{
    (void)backend;
    const int64_t n = bn_tensor_numel(param);
    real *p = ref_data(param), *momentum = ref_data(m);
    const real *gradient = ref_data(grad);
    const real c = clip_factor(o->clip, norm), mu = (real)o->momentum, lr = (real)o->lr;
    for (int64_t i = 0; i < n; i++) {
        const real decay = i < o->decay_end ? (real)o->weight_decay : 0;
        const real g = c * gradient[i] + decay * p[i];
        momentum[i] = mu * momentum[i] + g;
        p[i] -= lr * (o->nesterov ? g + mu * momentum[i] : momentum[i]);
    }
    return BN_OK;
}

/* x [rows,cols] -> a x + (b A + c A A) x into y, A = x x^T on the shorter side */
static void newton_schulz(int64_t rows, int64_t cols, const real *x, real *y, real *gram,
                          real *square)
{
    const bool tall = rows > cols;
    const int64_t side = tall ? cols : rows, n = rows * cols;
    if (tall)
        REF(bn_product)(side, side, rows, x, 1, cols, x, cols, 1, gram, false);
    else
        REF(bn_product)(side, side, cols, x, cols, 1, x, 1, cols, gram, false);
    REF(bn_product)(side, side, side, gram, side, 1, gram, side, 1, square, false);
    for (int64_t i = 0; i < side * side; i++)
        square[i] = (real)BN_MUON_B * gram[i] + (real)BN_MUON_C * square[i];
    for (int64_t i = 0; i < n; i++)
        y[i] = (real)BN_MUON_A * x[i];
    if (tall)
        REF(bn_product)(rows, cols, side, x, cols, 1, square, side, 1, y, true);
    else
        REF(bn_product)(rows, cols, side, square, side, 1, x, cols, 1, y, true);
}

bn_status REF(bn_muon_step)(bn_backend *backend, const bn_muon *o, const bn_tensor *param,
                            const bn_tensor *grad, const bn_tensor *m, const bn_tensor *norm,
                            const bn_tensor *scratch)
{
    (void)backend;
    const int64_t rows = param->shape[0], cols = param->shape[1], n = rows * cols;
    const int64_t side = rows < cols ? rows : cols;
    real *p = ref_data(param), *mean = ref_data(m), *x = ref_data(scratch);
    real *y = x + n, *gram = y + n, *square = gram + side * side;
    const real *gradient = ref_data(grad);
    const real c = clip_factor(o->clip, norm);
    const real mu = (real)o->momentum, rest = (real)(1 - o->momentum);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        real g = c * gradient[i];
        mean[i] = mu * mean[i] + rest * g;
        x[i] = mu * mean[i] + rest * g;
        sum += (double)x[i] * (double)x[i];
    }
    const real unit = (real)(1 / (sqrt(sum) + 1e-7));
    for (int64_t i = 0; i < n; i++)
        x[i] *= unit;
    for (int step = 0; step < BN_MUON_STEPS; step++) {
        newton_schulz(rows, cols, x, y, gram, square);
        real *next = y;
        y = x;
        x = next;
    }
    const real decay = (real)(o->lr * o->weight_decay);
    const real rate = (real)(o->lr * sqrt(fmax(1, (double)rows / (double)cols)));
    for (int64_t i = 0; i < n; i++) {
        p[i] -= decay * p[i];
        p[i] -= rate * x[i];
    }
    return BN_OK;
}

/* norm [1] = sqrt(sum of x^2), x [n] */
bn_status REF(bn_norm)(bn_backend *backend, const bn_tensor *x, const bn_tensor *norm)
{
    (void)backend;
    int64_t n = bn_tensor_numel(x);
    const real *data = ref_data(x);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)data[i] * (double)data[i];
    *(real *)ref_data(norm) = (real)sqrt(sum);
    return BN_OK;
}

/* x [n] = x factor */
bn_status REF(bn_scale)(bn_backend *backend, const bn_tensor *x, double factor)
{
    (void)backend;
    int64_t n = bn_tensor_numel(x);
    real *data = ref_data(x);
    for (int64_t i = 0; i < n; i++)
        data[i] = (real)((double)data[i] * factor);
    return BN_OK;
}
