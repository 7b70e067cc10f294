#include "model/adapter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

/* The head's own graphs (bn_model_score) read a float head's weight directly. */
static bool can_adapt(const bn_model *model, const bn_linear_layer *layer)
{
    return layer != &model->lm_head || layer->is_bit;
}

static double scale_of(const bn_config *config)
{
    const double r = (double)config->adapter.r;
    return config->adapter.lora_alpha / (config->adapter.use_rslora ? sqrt(r) : r);
}

static bn_status register_layers(bn_adapter *adapter, const bn_config *config)
{
    const bn_model *model = adapter->model;
    for (int i = 0; i < model->n_linears; i++) {
        const bn_linear_layer *layer = model->linears[i];
        if (!can_adapt(model, layer) ||
            !bn_config_matches_any(&config->adapter.target_modules, layer->name))
            continue;
        adapter->layers[i].scale = scale_of(config);
        BN_TRY(bn_lora_register(&adapter->layers[i], layer, config->adapter.r, &adapter->params));
    }
    if (adapter->params.count == 0)
        return bn_error(BN_BAD_CONFIG,
                        "adapter.target_modules: expected a pattern of linear layers such as "
                        "\"q_proj\", found none of the model's in the list");
    return bn_param_set_layout(&adapter->params);
}

bn_status bn_adapter_new(const bn_config *config, bn_model *model, bn_adapter **out)
{
    bn_status status = BN_OK;
    bn_adapter *adapter = calloc(1, sizeof *adapter);
    if (!adapter)
        return bn_error_nomem("an adapter", sizeof *adapter);
    adapter->model = model;
    bn_param_set_init(&adapter->params, model->backend->real);
    adapter->layers = calloc((size_t)model->n_linears, sizeof *adapter->layers);
    if (!adapter->layers)
        status = bn_error_nomem("an adapter", (size_t)model->n_linears * sizeof *adapter->layers);
    if (status == BN_OK)
        status = bn_config_copy(config, &adapter->config);
    if (status == BN_OK)
        status = register_layers(adapter, config);
    if (status != BN_OK) {
        bn_adapter_free(adapter);
        return status;
    }
    for (int i = 0; i < model->params.count; i++)
        model->params.items[i]->trainable = false;
    *out = adapter;
    return BN_OK;
}

void bn_adapter_free(bn_adapter *adapter)
{
    if (!adapter)
        return;
    bn_backend *be = adapter->model->backend;
    be->release(be, &adapter->values);
    be->release(be, &adapter->grads);
    bn_param_set_clear(&adapter->params);
    bn_config_clear(&adapter->config);
    free(adapter->layers);
    free(adapter);
}

bn_status bn_adapter_alloc(bn_adapter *adapter, bool with_grads)
{
    bn_backend *be = adapter->model->backend;
    bn_param_set *set = &adapter->params;
    BN_TRY(bn_error_in(be->alloc(be, set->block_bytes, &adapter->values), "adapters"));
    if (with_grads)
        BN_TRY(bn_error_in(be->alloc(be, set->train_bytes, &adapter->grads), "gradients"));
    bn_param_set_bind(set, &adapter->values, with_grads ? &adapter->grads : NULL);
    for (int i = 0; i < set->count; i++) /* without gradients graphs must not ask for any */
        set->items[i]->trainable = with_grads;
    return BN_OK;
}

/* A: uniform within 1/sqrt(in). */
static bn_status init_a(const bn_adapter *adapter, int index, uint64_t seed)
{
    const bn_param *a = adapter->layers[index].a;
    const int64_t n = bn_tensor_numel(&a->value);
    const double bound = 1.0 / sqrt((double)bn_tensor_cols(&a->value));
    float *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return bn_error_nomem(a->name, (size_t)n * sizeof *values);
    bn_rng rng = bn_rng_of(seed, UINT64_C(0x3000) + (uint64_t)index);
    for (int64_t i = 0; i < n; i++)
        values[i] = (float)((2.0 * bn_rng_uniform(&rng) - 1.0) * bound);
    bn_status status = bn_backend_put_f32(adapter->model->backend, &a->value, values, n);
    free(values);
    return status;
}

bn_status bn_adapter_init(bn_adapter *adapter, uint64_t seed)
{
    bn_backend *be = adapter->model->backend;
    for (int i = 0; i < adapter->model->n_linears; i++) {
        if (!adapter->layers[i].a)
            continue;
        BN_TRY(init_a(adapter, i, seed));
        BN_TRY(be->fill_zero(be, &adapter->layers[i].b->value));
    }
    return BN_OK;
}

void bn_adapter_use(bn_model *model, bn_adapter *adapter)
{
    for (int i = 0; i < model->n_linears; i++)
        model->linears[i]->lora = NULL;
    if (adapter)
        bn_adapter_add(model, adapter);
}

static bool in_chain(const bn_lora *chain, const bn_lora *lora)
{
    while (chain && chain != lora)
        chain = chain->next;
    return chain;
}

void bn_adapter_add(bn_model *model, bn_adapter *adapter)
{
    for (int i = 0; i < model->n_linears; i++)
        if (adapter->layers[i].a && !in_chain(model->linears[i]->lora, &adapter->layers[i])) {
            adapter->layers[i].next = model->linears[i]->lora;
            model->linears[i]->lora = &adapter->layers[i];
        }
}

void bn_adapter_weigh(bn_adapter *adapter, double factor)
{
    for (int i = 0; i < adapter->model->n_linears; i++)
        adapter->layers[i].scale *= factor;
}

/* ---- identity ----------------------------------------------------------- */

static void add_head(bn_sha256 *sha, const char *name, const bn_tensor *t)
{
    uint8_t shape[8 * BN_MAX_DIMS];
    for (int d = 0; d < t->ndim; d++)
        for (int k = 0; k < 8; k++)
            shape[8 * d + k] = (uint8_t)((uint64_t)t->shape[d] >> 8 * k);
    bn_sha256_add(sha, name, strlen(name) + 1);
    bn_sha256_add(sha, shape, 8 * (size_t)t->ndim);
}

static bn_status add_floats(bn_sha256 *sha, bn_backend *be, const char *name, const bn_tensor *t)
{
    const int64_t n = bn_tensor_numel(t);
    float *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return bn_error_nomem(name, (size_t)n * sizeof *values);
    bn_status status = bn_backend_get_f32(be, t, values, n);
    if (status == BN_OK) {
        add_head(sha, name, t);
        bn_sha256_add(sha, values, (size_t)n * sizeof *values);
    }
    free(values);
    return status;
}

static bn_status add_codes(bn_sha256 *sha, bn_backend *be, const char *name, const bn_tensor *t)
{
    const size_t bytes = bn_tensor_bytes(t);
    void *codes = malloc(bytes);
    if (!codes)
        return bn_error_nomem(name, bytes);
    bn_status status = be->download(be, t, codes);
    if (status == BN_OK) {
        add_head(sha, name, t);
        bn_sha256_add(sha, codes, bytes);
    }
    free(codes);
    return status;
}

static bool is_packed_weight(const bn_model *model, const bn_param *param)
{
    for (int i = 0; i < model->n_linears; i++)
        if (model->linears[i]->weight == param)
            return model->linears[i]->codes.buffer != NULL;
    return false;
}

bn_status bn_model_identity(const bn_model *model, uint8_t digest[BN_SHA256_BYTES])
{
    bn_backend *be = model->backend;
    bn_sha256 sha;
    bn_sha256_init(&sha);
    for (int i = 0; i < model->n_linears; i++) {
        const bn_linear_layer *layer = model->linears[i];
        if (!layer->codes.buffer)
            continue;
        BN_TRY(add_codes(&sha, be, layer->name, &layer->codes));
        BN_TRY(add_floats(&sha, be, layer->name, &layer->scale));
    }
    for (int i = 0; i < model->params.count; i++) {
        const bn_param *p = model->params.items[i];
        if (!is_packed_weight(model, p))
            BN_TRY(add_floats(&sha, be, p->name, &p->value));
    }
    bn_sha256_end(&sha, digest);
    return BN_OK;
}
