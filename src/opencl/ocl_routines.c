/* Routines on flat tensors: AdamW, SGD, norm, scale (backend/backend.h). */
#include <math.h>

#include "opencl/ocl_impl.h"

static bn_status ocl_adamw(bn_backend *backend, const bn_adamw *o, const bn_tensor *param,
                           const bn_tensor *grad, const bn_tensor *m, const bn_tensor *v,
                           const bn_tensor *norm)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(param);
    double t = (double)o->step;
    return BN_OCL_LAUNCH(
        ocl, BN_OCL_K_ADAMW, bn_ocl_flat_groups(ocl, n), 1, 1, BN_OCL_T(param), BN_OCL_T(grad),
        BN_OCL_T(m), BN_OCL_T(v), BN_OCL_T(norm), BN_OCL_L(n), BN_OCL_L(o->decay_end),
        BN_OCL_F(o->clip), BN_OCL_F(o->beta1), BN_OCL_F(1 - o->beta1), BN_OCL_F(o->beta2),
        BN_OCL_F(1 - o->beta2), BN_OCL_F(o->lr / (1 - pow(o->beta1, t))),
        BN_OCL_F(sqrt(1 - pow(o->beta2, t))), BN_OCL_F(o->eps), BN_OCL_F(o->lr * o->weight_decay));
}

static bn_status ocl_sgd(bn_backend *backend, const bn_sgd *o, const bn_tensor *param,
                         const bn_tensor *grad, const bn_tensor *m, const bn_tensor *norm)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(param);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_SGD, bn_ocl_flat_groups(ocl, n), 1, 1, BN_OCL_T(param),
                         BN_OCL_T(grad), BN_OCL_T(m), BN_OCL_T(norm), BN_OCL_L(n),
                         BN_OCL_L(o->decay_end), BN_OCL_F(o->clip), BN_OCL_F(o->momentum),
                         BN_OCL_F(o->lr), BN_OCL_F(o->weight_decay), BN_OCL_I(o->nesterov));
}

static bn_status ocl_norm(bn_backend *backend, const bn_tensor *x, const bn_tensor *norm)
{
    return bn_ocl_total(bn_ocl_of(backend), x, true, true, 0, norm);
}

static bn_status ocl_scale(bn_backend *backend, const bn_tensor *x, double factor)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(x);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_SCALE, bn_ocl_flat_groups(ocl, n), 1, 1, BN_OCL_T(x),
                         BN_OCL_L(n), BN_OCL_F(factor));
}

void bn_ocl_routines(bn_backend *backend)
{
    backend->adamw = ocl_adamw;
    backend->sgd = ocl_sgd;
    backend->norm = ocl_norm;
    backend->scale = ocl_scale;
}
