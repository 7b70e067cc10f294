/* Routines on flat tensors: AdamW, norm, scale (backend/backend.h). */
#include "cpu/ref/ref.h"

bn_status REF(bn_adamw_step)(bn_backend *backend, const bn_adamw *o, const bn_tensor *param,
                             const bn_tensor *grad, const bn_tensor *m, const bn_tensor *v,
                             const bn_tensor *norm)
{
    (void)backend;
    int64_t n = bn_tensor_numel(param);
    real *p = ref_data(param), *mean = ref_data(m), *square = ref_data(v);
    const real *gradient = ref_data(grad);
    double factor = 1;
    if (o->clip > 0) {
        double length = (double)*(const real *)ref_data(norm);
        if (length > o->clip)
            factor = o->clip / (length + 1e-6);
    }
    double t = (double)o->step;
    real c = (real)factor, b1 = (real)o->beta1, b2 = (real)o->beta2;
    real a1 = (real)(1 - o->beta1), a2 = (real)(1 - o->beta2), eps = (real)o->eps;
    real rate = (real)(o->lr / (1 - pow(o->beta1, t)));
    real root = (real)sqrt(1 - pow(o->beta2, t));
    real decay = (real)(o->lr * o->weight_decay);
    for (int64_t i = 0; i < n; i++) {
        real g = c * gradient[i];
        mean[i] = b1 * mean[i] + a1 * g;
        square[i] = b2 * square[i] + a2 * (g * g);
        if (i < o->decay_end)
            p[i] -= decay * p[i];
        p[i] -= rate * (mean[i] / (real_sqrt(square[i]) / root + eps));
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
