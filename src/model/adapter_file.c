/* Adapters as checkpoints of this project. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "model/adapter.h"
#include "model/load.h"
#include "model/peft.h"

bn_status bn_adapter_base_of(bn_checkpoint *checkpoint, uint8_t digest[BN_SHA256_BYTES],
                             bool *known)
{
    void *data;
    size_t bytes;
    BN_TRY(bn_checkpoint_get_extra(checkpoint, BN_ADAPTER_BASE, BN_SHA256_BYTES, &data, &bytes));
    *known = data != NULL;
    if (data && bytes == BN_SHA256_BYTES)
        memcpy(digest, data, bytes);
    free(data);
    return !*known || bytes == BN_SHA256_BYTES
               ? BN_OK
               : bn_error(BN_BAD_DATA, "extra/" BN_ADAPTER_BASE ": expected %d bytes, found %zu",
                          BN_SHA256_BYTES, bytes);
}

bn_status bn_adapter_expect_base(const uint8_t wanted[BN_SHA256_BYTES],
                                 const uint8_t found[BN_SHA256_BYTES], const char *path)
{
    char a[BN_SHA256_TEXT], b[BN_SHA256_TEXT];
    if (memcmp(wanted, found, BN_SHA256_BYTES) == 0)
        return BN_OK;
    return bn_error(BN_BAD_DATA,
                    "%s: is not the model that the adapter was trained on: expected SHA-256 %s, "
                    "found %s",
                    path, bn_sha256_text(wanted, a), bn_sha256_text(found, b));
}

/* Host copies of all parameters; `floats` is freed by the caller. */
static bn_status host_params(const bn_adapter *adapter, bn_checkpoint_param **items, float **floats)
{
    const bn_param_set *set = &adapter->params;
    const size_t bytes = (size_t)bn_param_set_numel(set) * sizeof **floats;
    *items = calloc((size_t)set->count, sizeof **items);
    *floats = malloc(bytes);
    if (!*items || !*floats)
        return bn_error_nomem("an adapter", bytes);
    float *at = *floats;
    for (int i = 0; i < set->count; i++) {
        const bn_param *p = set->items[i];
        (*items)[i] = (bn_checkpoint_param){.name = p->name, .ndim = p->value.ndim, .value = at};
        memcpy((*items)[i].shape, p->value.shape, sizeof p->value.shape);
        at += bn_tensor_numel(&p->value);
    }
    return BN_OK;
}

static bn_status load_values(bn_adapter *adapter, bn_checkpoint *file)
{
    const bn_param_set *set = &adapter->params;
    bn_checkpoint_param *items = NULL;
    float *floats = NULL;
    bn_status status = host_params(adapter, &items, &floats);
    if (status == BN_OK)
        status = bn_checkpoint_load(file, items, set->count);
    for (int i = 0; i < set->count && status == BN_OK; i++)
        status = bn_backend_put_f32(adapter->model->backend, &set->items[i]->value, items[i].value,
                                    bn_tensor_numel(&set->items[i]->value));
    free(items);
    free(floats);
    return status;
}

static bn_status expect_params(const bn_adapter *adapter, const bn_checkpoint *file)
{
    for (int i = 0; i < adapter->params.count; i++) {
        const bn_param *p = adapter->params.items[i];
        bn_checkpoint_param wanted = {.name = p->name, .ndim = p->value.ndim};
        memcpy(wanted.shape, p->value.shape, sizeof wanted.shape);
        BN_TRY(bn_checkpoint_expect(file, &wanted));
    }
    return BN_OK;
}

static bn_status read_checkpoint(const char *path, bn_checkpoint *file, const bn_adapter_base *base,
                                 bn_adapter **out)
{
    uint8_t wanted[BN_SHA256_BYTES];
    bn_config config;
    bool known;
    BN_TRY(bn_error_in(bn_adapter_base_of(file, wanted, &known), path));
    if (!known)
        return bn_error(BN_BAD_DATA, "%s: holds a model, no adapters", path);
    BN_TRY(bn_adapter_expect_base(wanted, base->id, base->path));
    BN_TRY(bn_checkpoint_config(path, file, &config));
    bn_status status = bn_adapter_new(&config, base->model, out);
    bn_config_clear(&config);
    if (status == BN_OK) /* before memory is taken on a rank's word */
        status = expect_params(*out, file);
    if (status == BN_OK)
        status = bn_adapter_alloc(*out, false);
    if (status == BN_OK)
        status = load_values(*out, file);
    return status == BN_BAD_CONFIG ? bn_error_in(BN_BAD_DATA, path) : status;
}

static bn_status open_checkpoint(const char *path, const bn_adapter_base *base, bn_adapter **out)
{
    bn_strings skipped = {0};
    bn_checkpoint *file = NULL;
    bn_model_file kind;
    char *found = NULL;
    bn_status status = bn_model_locate(path, &found, &kind, &skipped);
    if (status == BN_OK)
        status = bn_checkpoint_open(found, &file);
    if (status == BN_OK)
        status = read_checkpoint(found, file, base, out);
    bn_checkpoint_close(file);
    bn_strings_clear(&skipped);
    free(found);
    return status;
}

bn_status bn_adapter_open(const char *path, const bn_adapter_base *base, bn_adapter **out)
{
    *out = NULL;
    bn_status status =
        bn_peft_is(path) ? bn_peft_read(path, base, out) : open_checkpoint(path, base, out);
    if (status != BN_OK) {
        bn_adapter_free(*out);
        *out = NULL;
    }
    return status;
}

bn_status bn_adapter_save(const bn_adapter *adapter, const char *path, const bn_adapter_base *base,
                          const char *tokenizer, const char *producer)
{
    const bn_param_set *set = &adapter->params;
    const uint64_t seed = (uint64_t)adapter->config.training.seed;
    bn_train_state state = {.seed = seed,
                            .data_seed = seed,
                            .best_val_loss = (double)INFINITY,
                            .best_step = -1,
                            .tokenizer = tokenizer,
                            .producer = producer,
                            .device = "none: saved alone"};
    const bn_checkpoint_extra extra = {BN_ADAPTER_BASE, base->id, sizeof base->id};
    bn_checkpoint_param *items = NULL;
    float *floats = NULL;
    char *config = NULL;
    bn_status status = host_params(adapter, &items, &floats);
    for (int i = 0; i < set->count && status == BN_OK; i++)
        status = bn_backend_get_f32(adapter->model->backend, &set->items[i]->value, items[i].value,
                                    bn_tensor_numel(&set->items[i]->value));
    if (status == BN_OK)
        status = bn_config_dump(&adapter->config, &config);
    state.config_json = config;
    if (status == BN_OK)
        status = bn_checkpoint_save(path, &state, items, set->count, &extra, 1);
    free(config);
    free(items);
    free(floats);
    return status;
}
