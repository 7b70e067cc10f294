#include "train/optimizer.h"

#include <stdlib.h>

#include "base/checked.h"

/* Whether moments of this parameter are kept in 8 bits. */
static bool is_coded(const bn_config *config, const bn_param *p)
{
    return config->training.optimizer == BN_OPTIMIZER_ADAMW8BIT && p->decay &&
           bn_tensor_numel(&p->value) >= BN_CODED_ELEMENTS;
}

/* Byte of a role block from which on one call updates all parameters; those before
 * are updated one by one. */
static size_t flat_from(const bn_config *config, const bn_param_set *params)
{
    switch (config->training.optimizer) {
    case BN_OPTIMIZER_ADAMW:
    case BN_OPTIMIZER_SGD:
        break;
    case BN_OPTIMIZER_MUON:
        return params->hidden_bytes;
    case BN_OPTIMIZER_ADAMW8BIT:
        return params->train_bytes;
    }
    return 0;
}

/* Where the second moments begin that are laid out like the parameters. */
static size_t seconds_from(const bn_config *config, const bn_param_set *params)
{
    return config->training.optimizer == BN_OPTIMIZER_SGD ? params->train_bytes
                                                          : flat_from(config, params);
}

/* A moment of p in `buffer` from byte *at on, which moves behind it. */
static bn_moment place_next(const bn_config *config, const bn_param *p, const bn_buffer *buffer,
                            size_t *at)
{
    bn_moment moment = {.values = p->value};
    if (is_coded(config, p)) {
        const int64_t blocks = bn_ceil_div(bn_tensor_numel(&p->value), BN_DYNAMIC8_BLOCK);
        moment.values.dtype = BN_U8;
        moment.absmax = bn_tensor_1d(BN_F32, blocks);
    }
    moment.values = bn_tensor_at(moment.values, buffer, *at);
    *at += bn_align_up(bn_tensor_bytes(&moment.values), BN_ALIGN);
    if (bn_tensor_present(&moment.absmax)) {
        moment.absmax = bn_tensor_at(moment.absmax, buffer, *at);
        *at += bn_align_up(bn_tensor_bytes(&moment.absmax), BN_ALIGN);
    }
    return moment;
}

/* Bytes of the blocks of moments; where they are to be placed in `o`, their places. */
static void lay_out(const bn_config *config, const bn_param_set *params, bn_optimizer *o,
                    size_t bytes[2])
{
    const size_t v_from = seconds_from(config, params);
    const bool packed = config->training.optimizer == BN_OPTIMIZER_ADAMW8BIT;
    bytes[0] = packed ? 0 : params->train_bytes;
    bytes[1] = packed ? 0 : params->train_bytes - v_from;
    for (int i = 0; i < params->count; i++) {
        const bn_param *p = params->items[i];
        bn_moments at = {0};
        if (!p->trainable)
            continue;
        if (packed) {
            at.m = place_next(config, p, o ? &o->m : NULL, &bytes[0]);
            at.v = place_next(config, p, o ? &o->v : NULL, &bytes[1]);
        } else {
            at.m.values = bn_tensor_at(p->value, o ? &o->m : NULL, p->offset);
            if (p->offset >= v_from)
                at.v.values = bn_tensor_at(p->value, o ? &o->v : NULL, p->offset - v_from);
        }
        if (o)
            o->moments[i] = at;
    }
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
    size_t blocks[2];
    lay_out(config, params, NULL, blocks);
    return (bn_optimizer_memory){
        .moments = blocks[0] + blocks[1],
        .scratch = scratch_bytes(config, params),
    };
}

static bn_status check_backend(const bn_config *config, const bn_backend *backend)
{
    const bool muon = config->training.optimizer == BN_OPTIMIZER_MUON;
    const bool coded = config->training.optimizer == BN_OPTIMIZER_ADAMW8BIT;
    if ((!muon || backend->muon) && (!coded || backend->adamw8bit))
        return BN_OK;
    return bn_error(BN_BAD_CONFIG,
                    "training.optimizer: \"%s\" does not run on %s: expected \"adamw\" or \"sgd\", "
                    "or training.device \"cpu\"",
                    muon ? "muon" : "adamw8bit", backend->name);
}

static bn_status alloc(bn_optimizer *o)
{
    bn_backend *be = o->backend;
    size_t blocks[2];
    const size_t scratch = scratch_bytes(o->config, o->params);
    const size_t count = (size_t)o->params->count;
    o->moments = calloc(count, sizeof *o->moments);
    if (!o->moments)
        return bn_error_nomem("the list of moments", count * sizeof *o->moments);
    if (o->config->training.optimizer == BN_OPTIMIZER_ADAMW8BIT) {
        o->maps = malloc(2 * sizeof *o->maps);
        if (!o->maps)
            return bn_error_nomem("the maps of 8-bit moments", 2 * sizeof *o->maps);
        bn_dynamic8_init(&o->maps[0], true);
        bn_dynamic8_init(&o->maps[1], false);
    }
    lay_out(o->config, o->params, o, blocks);
    BN_TRY(bn_error_in(be->alloc(be, blocks[0], &o->m), "first moments"));
    if (blocks[1])
        BN_TRY(bn_error_in(be->alloc(be, blocks[1], &o->v), "second moments"));
    if (scratch)
        BN_TRY(bn_error_in(be->alloc(be, scratch, &o->scratch_memory), "scratch of the optimizer"));
    return be->alloc(be, BN_ALIGN, &o->norm_memory);
}

/* What is trained of a role block from byte `from` on, as one flat tensor; the
 * buffer holds the block from byte `at` on. */
static bn_tensor flat_range(const bn_param_set *params, const bn_buffer *buffer, size_t from,
                            size_t at)
{
    const int64_t n = (int64_t)((params->train_bytes - from) / bn_dtype_size(params->real));
    return bn_tensor_at(bn_tensor_1d(params->real, n), buffer, from - at);
}

bn_status bn_optimizer_init(bn_optimizer *out, const bn_config *config, bn_backend *backend,
                            const bn_param_set *params, const bn_buffer *values,
                            const bn_buffer *grads)
{
    const size_t from = flat_from(config, params), v_from = seconds_from(config, params);
    *out = (bn_optimizer){0};
    BN_TRY(check_backend(config, backend));
    *out = (bn_optimizer){
        .backend = backend,
        .params = params,
        .config = config,
        .all_grads = bn_param_set_flat(params, grads),
    };
    const bn_status status = alloc(out);
    if (status != BN_OK) {
        bn_optimizer_clear(out);
        return status;
    }
    out->flat = (bn_operands){
        .value = flat_range(params, values, from, 0),
        .grad = flat_range(params, grads, from, 0),
        .moments = {.m.values = flat_range(params, &out->m, from, 0),
                    .v.values = flat_range(params, &out->v, v_from, v_from)},
        .decaying = from < params->decay_bytes
                        ? (int64_t)((params->decay_bytes - from) / bn_dtype_size(params->real))
                        : 0,
    };
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
    free(optimizer->moments);
    free(optimizer->maps);
    *optimizer = (bn_optimizer){0};
}

bn_status bn_optimizer_zero_grad(bn_optimizer *optimizer)
{
    return optimizer->backend->fill_zero(optimizer->backend, &optimizer->all_grads);
}

static bn_status update_muon(bn_optimizer *o, const bn_operands *x, double lr, double decay)
{
    const bn_muon update = {
        .lr = lr / o->config->training.learning_rate * o->config->training.muon_learning_rate,
        .momentum = o->config->training.muon_momentum,
        .weight_decay = decay * o->config->training.muon_weight_decay,
        .clip = o->config->training.grad_clip,
    };
    const int64_t n = bn_muon_scratch(x->value.shape[0], x->value.shape[1]);
    const bn_tensor scratch = bn_tensor_at(bn_tensor_1d(o->params->real, n), &o->scratch_memory, 0);
    return o->backend->muon(o->backend, &update, &x->value, &x->grad, &x->moments.m.values,
                            &o->norm, &scratch);
}

static bn_status update_sgd(bn_optimizer *o, const bn_operands *x, double lr, double decay)
{
    const bn_sgd update = {
        .lr = lr,
        .momentum = o->config->training.sgd_momentum,
        .weight_decay = decay * o->config->training.weight_decay,
        .nesterov = o->config->training.sgd_nesterov,
        .decay_end = x->decaying,
        .clip = o->config->training.grad_clip,
    };
    return o->backend->sgd(o->backend, &update, &x->value, &x->grad, &x->moments.m.values,
                           &o->norm);
}

static bn_status update_adamw(bn_optimizer *o, const bn_operands *x, double lr, double decay)
{
    bn_backend *be = o->backend;
    const bn_moment *m = &x->moments.m, *v = &x->moments.v;
    const bn_adamw update = {
        .lr = lr,
        .beta1 = o->config->training.beta1,
        .beta2 = o->config->training.beta2,
        .eps = o->config->training.eps,
        .weight_decay = decay * o->config->training.weight_decay,
        .step = o->step + 1,
        .decay_end = x->decaying,
        .clip = o->config->training.grad_clip,
    };
    if (!bn_tensor_present(&m->absmax))
        return be->adamw(be, &update, &x->value, &x->grad, &m->values, &v->values, &o->norm);
    return be->adamw8bit(be, &update, o->maps, &x->value, &x->grad,
                         &(bn_moment8){m->values, m->absmax}, &(bn_moment8){v->values, v->absmax},
                         &o->norm);
}

static bn_status update(bn_optimizer *o, const bn_operands *x, double lr, double decay)
{
    switch (o->config->training.optimizer) {
    case BN_OPTIMIZER_SGD:
        return update_sgd(o, x, lr, decay);
    case BN_OPTIMIZER_MUON:
        if (!bn_tensor_present(&x->moments.v.values))
            return update_muon(o, x, lr, decay);
        break;
    case BN_OPTIMIZER_ADAMW:
    case BN_OPTIMIZER_ADAMW8BIT:
        break;
    }
    return update_adamw(o, x, lr, decay);
}

bn_status bn_optimizer_step(bn_optimizer *o, double lr, double decay)
{
    const size_t from = flat_from(o->config, o->params);
    BN_TRY(o->backend->norm(o->backend, &o->all_grads, &o->norm));
    for (int i = 0; i < o->params->count; i++) {
        const bn_param *p = o->params->items[i];
        if (!p->trainable || p->offset >= from)
            continue;
        const bn_operands one = {
            .value = p->value,
            .grad = p->grad,
            .moments = o->moments[i],
            .decaying = p->decay ? bn_tensor_numel(&p->value) : 0,
        };
        BN_TRY(update(o, &one, lr, decay));
    }
    if (bn_tensor_numel(&o->flat.value))
        BN_TRY(update(o, &o->flat, lr, decay));
    o->step++;
    return BN_OK;
}

bn_status bn_optimizer_norm(bn_optimizer *optimizer, double *norm)
{
    return bn_backend_get_scalar(optimizer->backend, &optimizer->norm, norm);
}
