#include "train/optimizer.h"

size_t bn_optimizer_bytes(const bn_param_set *params)
{
    return 2 * params->train_bytes;
}

bn_status bn_optimizer_init(bn_optimizer *out, const bn_config *config, bn_backend *backend,
                            const bn_param_set *params, const bn_buffer *values,
                            const bn_buffer *grads)
{
    bn_status status = BN_OK;
    *out = (bn_optimizer){
        .backend = backend,
        .params = params,
        .values = bn_param_set_flat(params, values),
        .grads = bn_param_set_flat(params, grads),
        .norm = bn_tensor_1d(backend->real, 1),
        .beta1 = config->training.beta1,
        .beta2 = config->training.beta2,
        .eps = config->training.eps,
        .clip = config->training.grad_clip,
    };
    BN_TRY_OUT(bn_error_in(backend->alloc(backend, params->train_bytes, &out->m), "first moments"));
    BN_TRY_OUT(
        bn_error_in(backend->alloc(backend, params->train_bytes, &out->v), "second moments"));
    BN_TRY_OUT(backend->alloc(backend, BN_ALIGN, &out->norm_memory));
    out->m_flat = bn_param_set_flat(params, &out->m);
    out->v_flat = bn_param_set_flat(params, &out->v);
    out->norm = bn_tensor_at(out->norm, &out->norm_memory, 0);
out:
    if (status != BN_OK)
        bn_optimizer_clear(out);
    return status;
}

void bn_optimizer_clear(bn_optimizer *optimizer)
{
    bn_backend *be = optimizer->backend;
    if (be) {
        be->release(be, &optimizer->m);
        be->release(be, &optimizer->v);
        be->release(be, &optimizer->norm_memory);
    }
    *optimizer = (bn_optimizer){0};
}

bn_status bn_optimizer_zero_grad(bn_optimizer *optimizer)
{
    return optimizer->backend->fill_zero(optimizer->backend, &optimizer->grads);
}

bn_status bn_optimizer_step(bn_optimizer *optimizer, double lr, double weight_decay)
{
    bn_backend *be = optimizer->backend;
    const bn_param_set *params = optimizer->params;
    const bn_adamw update = {
        .lr = lr,
        .beta1 = optimizer->beta1,
        .beta2 = optimizer->beta2,
        .eps = optimizer->eps,
        .weight_decay = weight_decay,
        .step = optimizer->step + 1,
        .decay_end = (int64_t)(params->decay_bytes / bn_dtype_size(params->real)),
        .clip = optimizer->clip,
    };
    BN_TRY(be->norm(be, &optimizer->grads, &optimizer->norm));
    BN_TRY(be->adamw(be, &update, &optimizer->values, &optimizer->grads, &optimizer->m_flat,
                     &optimizer->v_flat, &optimizer->norm));
    optimizer->step++;
    return BN_OK;
}

bn_status bn_optimizer_norm(bn_optimizer *optimizer, double *norm)
{
    return bn_backend_get_scalar(optimizer->backend, &optimizer->norm, norm);
}

bn_tensor bn_optimizer_m(const bn_optimizer *optimizer, const bn_param *param)
{
    return bn_tensor_at(param->value, &optimizer->m, param->offset);
}

bn_tensor bn_optimizer_v(const bn_optimizer *optimizer, const bn_param *param)
{
    return bn_tensor_at(param->value, &optimizer->v, param->offset);
}
