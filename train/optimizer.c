#include "train/optimizer.h"

/* Where the second moments begin: what lies before is updated without them. */
static size_t seconds_from(const bn_config *config, const bn_param_set *params)
{
    return config->training.optimizer == BN_OPTIMIZER_MUON ? params->hidden_bytes : 0;
}

static size_t scratch_bytes(const bn_config *config, const bn_param_set *params)
{
    int64_t most = 0;
    for (int i = 0; i < params->count; i++) {
        const bn_param *p = params->items[i];
        const int64_t n =
            p->hidden && p->trainable ? bn_muon_scratch(p->value.shape[0], p->value.shape[1]) : 0;
        most = n > most ? n : most;
    }
    return config->training.optimizer == BN_OPTIMIZER_MUON
               ? (size_t)most * bn_dtype_size(params->real)
               : 0;
}

bn_optimizer_memory bn_optimizer_bytes(const bn_config *config, const bn_param_set *params)
{
    return (bn_optimizer_memory){
        .moments = 2 * params->train_bytes - seconds_from(config, params),
        .scratch = scratch_bytes(config, params),
    };
}

/* Role block from byte `from` on, as one flat tensor; the buffer starts at `at`. */
static bn_tensor flat_from(const bn_param_set *params, const bn_buffer *buffer, size_t from,
                           size_t at)
{
    const int64_t n = (int64_t)((params->train_bytes - from) / bn_dtype_size(params->real));
    return bn_tensor_at(bn_tensor_1d(params->real, n), buffer, from - at);
}

static bn_status alloc(bn_optimizer *o, const bn_config *config)
{
    bn_backend *be = o->backend;
    const size_t block = o->params->train_bytes, scratch = scratch_bytes(config, o->params);
    BN_TRY(bn_error_in(be->alloc(be, block, &o->m), "first moments"));
    if (block > o->v_from)
        BN_TRY(bn_error_in(be->alloc(be, block - o->v_from, &o->v), "second moments"));
    if (scratch)
        BN_TRY(bn_error_in(be->alloc(be, scratch, &o->scratch_memory), "scratch of the optimizer"));
    return be->alloc(be, BN_ALIGN, &o->norm_memory);
}

bn_status bn_optimizer_init(bn_optimizer *out, const bn_config *config, bn_backend *backend,
                            const bn_param_set *params, const bn_buffer *values,
                            const bn_buffer *grads)
{
    const size_t v_from = seconds_from(config, params);
    *out = (bn_optimizer){
        .backend = backend,
        .params = params,
        .config = config,
        .v_from = v_from,
        .values = flat_from(params, values, v_from, 0),
        .grads = flat_from(params, grads, v_from, 0),
        .all_grads = bn_param_set_flat(params, grads),
    };
    if (config->training.optimizer == BN_OPTIMIZER_MUON && !backend->muon)
        return bn_error(BN_BAD_CONFIG,
                        "training.optimizer: \"muon\" does not run on %s: expected \"adamw\", or "
                        "training.device \"cpu\"",
                        backend->name);
    const bn_status status = alloc(out, config);
    if (status != BN_OK) {
        bn_optimizer_clear(out);
        return status;
    }
    out->m_flat = flat_from(params, &out->m, v_from, 0);
    out->v_flat = flat_from(params, &out->v, v_from, v_from);
    out->norm = bn_tensor_at(bn_tensor_1d(backend->real, 1), &out->norm_memory, 0);
    return BN_OK;
}

void bn_optimizer_clear(bn_optimizer *optimizer)
{
    bn_backend *be = optimizer->backend;
    if (be) {
        be->release(be, &optimizer->m);
        be->release(be, &optimizer->v);
        be->release(be, &optimizer->scratch_memory);
        be->release(be, &optimizer->norm_memory);
    }
    *optimizer = (bn_optimizer){0};
}

bn_status bn_optimizer_zero_grad(bn_optimizer *optimizer)
{
    return optimizer->backend->fill_zero(optimizer->backend, &optimizer->all_grads);
}

static bn_status step_muon(bn_optimizer *o, double lr, double decay)
{
    const bn_muon update = {
        .lr = lr / o->config->training.learning_rate * o->config->training.muon_learning_rate,
        .momentum = o->config->training.muon_momentum,
        .weight_decay = decay * o->config->training.muon_weight_decay,
        .clip = o->config->training.grad_clip,
    };
    for (int i = 0; i < o->params->count; i++) {
        const bn_param *p = o->params->items[i];
        if (!p->hidden || !p->trainable)
            continue;
        const int64_t n = bn_muon_scratch(p->value.shape[0], p->value.shape[1]);
        const bn_tensor m = bn_optimizer_m(o, p);
        const bn_tensor scratch =
            bn_tensor_at(bn_tensor_1d(o->params->real, n), &o->scratch_memory, 0);
        BN_TRY(o->backend->muon(o->backend, &update, &p->value, &p->grad, &m, &o->norm, &scratch));
    }
    return BN_OK;
}

static bn_status step_adamw(bn_optimizer *o, double lr, double decay)
{
    const size_t decaying = o->params->decay_bytes - o->v_from;
    const bn_adamw update = {
        .lr = lr,
        .beta1 = o->config->training.beta1,
        .beta2 = o->config->training.beta2,
        .eps = o->config->training.eps,
        .weight_decay = decay * o->config->training.weight_decay,
        .step = o->step + 1,
        .decay_end = (int64_t)(decaying / bn_dtype_size(o->params->real)),
        .clip = o->config->training.grad_clip,
    };
    return o->backend->adamw(o->backend, &update, &o->values, &o->grads, &o->m_flat, &o->v_flat,
                             &o->norm);
}

bn_status bn_optimizer_step(bn_optimizer *o, double lr, double decay)
{
    BN_TRY(o->backend->norm(o->backend, &o->all_grads, &o->norm));
    if (o->config->training.optimizer == BN_OPTIMIZER_MUON)
        BN_TRY(step_muon(o, lr, decay));
    if (o->v.bytes)
        BN_TRY(step_adamw(o, lr, decay));
    o->step++;
    return BN_OK;
}

bn_status bn_optimizer_norm(bn_optimizer *optimizer, double *norm)
{
    return bn_backend_get_scalar(optimizer->backend, &optimizer->norm, norm);
}

bn_tensor bn_optimizer_m(const bn_optimizer *optimizer, const bn_param *param)
{
    return param->trainable ? bn_tensor_at(param->value, &optimizer->m, param->offset)
                            : (bn_tensor){0};
}

bn_tensor bn_optimizer_v(const bn_optimizer *optimizer, const bn_param *param)
{
    if (!param->trainable || param->offset < optimizer->v_from)
        return (bn_tensor){0};
    return bn_tensor_at(param->value, &optimizer->v, param->offset - optimizer->v_from);
}
