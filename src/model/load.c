#include "model/load.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "checkpoint/packed.h"
#include "model/adapter.h"
#include "quant/quantize.h"

bn_status bn_model_locate(const char *path, char **file, bn_model_file *kind, bn_strings *skipped)
{
    int64_t step;
    *file = NULL;
    if (bn_fs_is_dir(path)) {
        BN_TRY(bn_checkpoint_find_best(path, &step, file, skipped));
        *kind = BN_MODEL_FILE_CHECKPOINT;
        return BN_OK;
    }
    BN_TRY(bn_model_file_kind(path, kind));
    *file = bn_strdup(path);
    return *file ? BN_OK : BN_FAIL;
}

bn_status bn_model_config_parse(const char *path, const char *json, int tensors, bn_config *out)
{
    bn_status status = bn_config_parse(json, path, out);
    if (status == BN_OK) {
        status = bn_config_check(out, path);
        /* Before a model of so many layers is made. */
        if (status == BN_OK && out->model.num_hidden_layers > tensors)
            status = bn_error(BN_BAD_DATA,
                              "%s: model.num_hidden_layers is %lld, expected at most the file's %d "
                              "tensors",
                              path, (long long)out->model.num_hidden_layers, tensors);
        if (status != BN_OK)
            bn_config_clear(out);
    }
    return status == BN_BAD_CONFIG ? BN_BAD_DATA : status;
}

bn_status bn_checkpoint_config(const char *path, bn_checkpoint *file, bn_config *out)
{
    uint8_t id[BN_SHA256_BYTES];
    bool adapters;
    BN_TRY(bn_error_in(bn_adapter_base_of(file, id, &adapters), path));
    return bn_model_config_parse(path, bn_checkpoint_state(file)->config_json,
                                 adapters ? INT_MAX : bn_checkpoint_count(file), out);
}

bn_status bn_loaded_expect(const bn_loaded *loaded, bn_cfg_kind kind)
{
    if (loaded->config.model.kind == kind)
        return BN_OK;
    return bn_error(BN_BAD_DATA, "%s: model.kind is %s, expected %s", loaded->path,
                    bn_config_word("model.kind", loaded->config.model.kind),
                    bn_config_word("model.kind", kind));
}

/* Takes over the config of a run on this base; what the two say of the network
 * must be the same. */
static bn_status adopt(bn_loaded *loaded, const bn_config *run)
{
    bn_config_diff diff;
    bn_status status = BN_OK;
    BN_TRY(bn_config_compare(&loaded->config, run, &diff));
    for (int64_t i = 0; i < diff.count && status == BN_OK; i++) {
        const bn_config_difference *d = &diff.items[i];
        const bool network =
            strncmp(d->key, "model.", 6) == 0 || strncmp(d->key, "quantization.", 13) == 0;
        if (network && (d->role & BN_CFG_ARCH))
            status = bn_error(BN_BAD_CONFIG,
                              "%s: expected %s, as the base %s has, found %s (the model and "
                              "quantization sections must be the base's)",
                              d->key, d->a, loaded->path, d->b);
    }
    bn_config_diff_clear(&diff);
    BN_TRY(status);
    bn_config_clear(&loaded->config);
    return bn_config_copy(run, &loaded->config);
}

/* Config and tokenizer that a file carries, or the run's config. */
static bn_status open_head(bn_loaded *loaded, const char *config_json, const char *tokenizer,
                           int tensors, const bn_config *run)
{
    BN_TRY(bn_model_config_parse(loaded->path, config_json, tensors, &loaded->config));
    if (run)
        BN_TRY(adopt(loaded, run));
    bn_status status = bn_tokenizer_new(tokenizer, &loaded->tokenizer);
    return bn_error_in(status == BN_BAD_CONFIG ? BN_BAD_DATA : status, loaded->path);
}

/* Weights that are quantized while the activations stay float. */
static bool is_weight_only(const bn_linear_layer *layer)
{
    return layer->quant.weight.quantized && !layer->quant.act.quantized;
}

/* The model of loaded->config without memory. */
static bn_status make_model(bn_loaded *loaded, bn_backend *backend, bool packed)
{
    const bn_config *config = &loaded->config;
    const int64_t vocab = bn_tokenizer_vocab_size(loaded->tokenizer);
    bn_status status = bn_model_new(config, vocab, backend, &loaded->model);
    if (status != BN_OK)
        return bn_error_in(status == BN_BAD_CONFIG ? BN_BAD_DATA : status, loaded->path);
    bn_model *model = loaded->model;
    bn_model_quantize(model, config);
    for (int i = 0; i < model->n_linears && loaded->is_packed; i++)
        if (is_weight_only(model->linears[i]))
            model->linears[i]->is_bit = false;
    for (int i = 0; i < model->n_linears && packed; i++)
        if (is_weight_only(model->linears[i]) && model->linears[i]->is_bit)
            return bn_error(BN_BAD_CONFIG,
                            "%s: quantized weights with float activations have no packed product: "
                            "adapt the packed file that bitnet-export makes",
                            loaded->path);
    return bn_model_register(model, packed ? BN_MODEL_PACKED : BN_MODEL_FLOAT);
}

/* Room for the largest float tensor; *values is freed by the caller. */
static bn_status alloc_staging(const bn_model *model, float **values)
{
    int64_t most = 1;
    for (int i = 0; i < model->params.count; i++) {
        const int64_t n = bn_tensor_numel(&model->params.items[i]->value);
        most = n > most ? n : most;
    }
    *values = malloc((size_t)most * sizeof **values);
    return *values ? BN_OK : bn_error_nomem("a tensor", (size_t)most * sizeof **values);
}

static bn_status unexpected(const char *path, const char *name)
{
    return bn_error(BN_BAD_DATA, "%s: tensor '%s' does not belong to the model of its config", path,
                    name);
}

/* ---- checkpoints ---- */

static bn_checkpoint_param wanted_param(const bn_param *param, float *values)
{
    bn_checkpoint_param wanted = {.name = param->name, .ndim = param->value.ndim, .value = values};
    memcpy(wanted.shape, param->value.shape, sizeof wanted.shape);
    return wanted;
}

/* The linear layer whose weight a file stores under `name`. */
static bn_linear_layer *quantized_layer(const bn_model *model, const char *name)
{
    const size_t length = strlen(name);
    const char *suffix = ".weight";
    if (length < strlen(suffix) || strcmp(name + length - strlen(suffix), suffix) != 0)
        return NULL;
    for (int i = 0; i < model->n_linears; i++) {
        bn_linear_layer *layer = model->linears[i];
        if (layer->quant.weight.quantized && strlen(layer->name) == length - strlen(suffix) &&
            strncmp(layer->name, name, strlen(layer->name)) == 0)
            return layer;
    }
    return NULL;
}

/* Of a layer that has only codes: its float weight in a checkpoint. `name` has
 * room for it. */
static bn_checkpoint_param wanted_weight(const bn_linear_layer *layer, char name[BN_PARAM_NAME_MAX],
                                         float *values)
{
    snprintf(name, BN_PARAM_NAME_MAX, "%s.weight", layer->name);
    return (bn_checkpoint_param){
        .name = name, .ndim = 2, .shape = {layer->out, layer->in}, .value = values};
}

/* The file holds the model's parameters and no others. Comes before the model
 * gets memory: what a config asks for must not exceed what the file holds. */
static bn_status check_params(const bn_loaded *loaded, const bn_checkpoint *file)
{
    const bn_param_set *set = &loaded->model->params;
    for (int i = 0; i < loaded->model->n_linears; i++) {
        const bn_linear_layer *layer = loaded->model->linears[i];
        if (!layer->weight && layer->quant.weight.params.rule == BN_SCALE_LEARNED)
            return bn_error(BN_USAGE,
                            "%s: %s has a learned scale: a base of adapters is a packed file then "
                            "(bitnet-export)",
                            loaded->path, layer->name);
    }
    for (int i = 0; i < bn_checkpoint_count(file); i++) {
        bn_checkpoint_param found;
        bn_checkpoint_describe(file, i, &found);
        if (!bn_param_set_find(set, found.name) && !quantized_layer(loaded->model, found.name))
            return unexpected(loaded->path, found.name);
    }
    for (int i = 0; i < loaded->model->n_linears; i++) {
        char name[BN_PARAM_NAME_MAX];
        const bn_checkpoint_param wanted = wanted_weight(loaded->model->linears[i], name, NULL);
        BN_TRY(bn_checkpoint_expect(file, &wanted));
    }
    for (int i = 0; i < set->count; i++) {
        const bn_checkpoint_param wanted = wanted_param(set->items[i], NULL);
        BN_TRY(bn_checkpoint_expect(file, &wanted));
    }
    return BN_OK;
}

static bn_status read_params(bn_loaded *loaded, bn_checkpoint *file)
{
    const bn_param_set *set = &loaded->model->params;
    bn_status status = BN_OK;
    float *values = NULL;
    BN_TRY_OUT(alloc_staging(loaded->model, &values));
    for (int i = 0; i < set->count; i++) {
        const bn_param *param = set->items[i];
        const bn_checkpoint_param wanted = wanted_param(param, values);
        BN_TRY_OUT(bn_checkpoint_load_one(file, &wanted));
        BN_TRY_OUT(bn_backend_put_f32(loaded->model->backend, &param->value, values,
                                      bn_tensor_numel(&param->value)));
    }
out:
    free(values);
    return status;
}

/* Quantizes the weights of layers that have only codes, one after the other. */
static bn_status read_codes(bn_loaded *loaded, bn_checkpoint *file)
{
    bn_backend *be = loaded->model->backend;
    bn_status status = BN_OK;
    for (int i = 0; i < loaded->model->n_linears && status == BN_OK; i++) {
        bn_linear_layer *layer = loaded->model->linears[i];
        char name[BN_PARAM_NAME_MAX];
        bn_buffer memory = {0};
        if (layer->weight)
            continue;
        bn_tensor weight = bn_tensor_2d(be->real, layer->out, layer->in);
        const int64_t n = bn_tensor_numel(&weight);
        float *values = malloc((size_t)n * sizeof *values);
        const bn_checkpoint_param wanted = wanted_weight(layer, name, values);
        status = values ? bn_checkpoint_load_one(file, &wanted)
                        : bn_error_nomem(name, (size_t)n * sizeof *values);
        if (status == BN_OK)
            status = be->alloc(be, bn_tensor_bytes(&weight), &memory);
        weight = bn_tensor_at(weight, &memory, 0);
        if (status == BN_OK)
            status = bn_backend_put_f32(be, &weight, values, n);
        if (status == BN_OK)
            status = bn_model_pack_layer(loaded->model, layer, &weight);
        be->release(be, &memory);
        free(values);
    }
    return status;
}

static bn_status refuse_adapters(const char *path, bn_checkpoint *file)
{
    uint8_t id[BN_SHA256_BYTES];
    bool adapters;
    BN_TRY(bn_adapter_base_of(file, id, &adapters));
    return adapters
               ? bn_error(BN_BAD_DATA,
                          "%s: holds adapters, no model: --adapter lays them over their base", path)
               : BN_OK;
}

/* What becomes of a file. */
typedef struct opening {
    bool base;            /* no float copies of a checkpoint's quantized weights */
    bool outline;         /* no memory */
    const bn_config *run; /* that becomes the config; NULL: the file's own */
} opening;

static bn_status open_checkpoint(bn_loaded *loaded, bn_backend *backend, opening how)
{
    bn_status status = BN_OK;
    bn_checkpoint *file = NULL;
    BN_TRY_OUT(bn_checkpoint_open(loaded->path, &file));
    BN_TRY_OUT(refuse_adapters(loaded->path, file));
    const bn_train_state *state = bn_checkpoint_state(file);
    loaded->step = state->step;
    BN_TRY_OUT(open_head(loaded, state->config_json, state->tokenizer, bn_checkpoint_count(file),
                         how.run));
    BN_TRY_OUT(make_model(loaded, backend, how.base));
    BN_TRY_OUT(check_params(loaded, file));
    if (how.outline)
        goto out;
    BN_TRY_OUT(bn_model_alloc(loaded->model, false));
    BN_TRY_OUT(read_params(loaded, file));
    BN_TRY_OUT(read_codes(loaded, file));
out:
    bn_checkpoint_close(file);
    return status;
}

/* ---- packed files ---- */

/* The codes of a layer's weight: into its packed memory, or, times its scales,
 * into its float weight. */
static bn_status read_packed_codes(bn_loaded *loaded, bn_packed *file, const bn_linear_layer *layer,
                                   const bn_packed_entry *entry)
{
    bn_backend *be = loaded->model->backend;
    const int64_t group = layer->quant.weight.params.group_size;
    const int64_t scales = bn_scale_count(layer->out, layer->in, group);
    const bn_grid grid = layer->quant.weight.params.grid;
    const bn_tensor shape = bn_tensor_2d(bn_grid_dtype(grid), layer->out, layer->in);
    bn_status status = BN_OK;
    float *values = NULL;
    if (!bn_encoding_is_codes(entry->encoding) || bn_encoding_grid(entry->encoding) != grid ||
        entry->group_size != group)
        return bn_error(BN_BAD_DATA,
                        "%s: %s: expected %s codes in groups of %lld, found %s of %lld",
                        loaded->path, entry->name, bn_grid_table[grid].name, (long long)group,
                        bn_encoding_name(entry->encoding), (long long)entry->group_size);
    uint8_t *codes = malloc(bn_tensor_bytes(&shape));
    float *scale = malloc((size_t)scales * sizeof *scale);
    if (!codes || !scale) {
        status = bn_error_nomem(entry->name, bn_tensor_bytes(&shape));
        goto out;
    }
    BN_TRY_OUT(bn_packed_read_codes(file, entry, codes, scale));
    if (layer->weight) {
        BN_TRY_OUT(alloc_staging(loaded->model, &values));
        bn_codes_dequantize_f32(shape.dtype, codes, scale, layer->out, layer->in, group, values);
        BN_TRY_OUT(bn_backend_put_f32(be, &layer->weight->value, values, layer->out * layer->in));
    } else {
        BN_TRY_OUT(be->upload(be, &layer->codes, codes));
        BN_TRY_OUT(bn_backend_put_f32(be, &layer->scale, scale, scales));
    }
out:
    free(codes);
    free(scale);
    free(values);
    return status;
}

static bn_status read_float(bn_loaded *loaded, bn_packed *file, const bn_param *param,
                            float *values)
{
    const bn_packed_entry *entry;
    const bn_tensor *value = &param->value;
    BN_TRY(bn_packed_expect(file, param->name, value->ndim, value->shape, &entry));
    if (bn_encoding_is_codes(entry->encoding))
        return bn_error(BN_BAD_DATA, "%s: %s: expected a float tensor, found %s", loaded->path,
                        entry->name, bn_encoding_name(entry->encoding));
    BN_TRY(bn_packed_read_float(file, entry, values));
    return bn_backend_put_f32(loaded->model->backend, value, values, bn_tensor_numel(value));
}

static bn_status expect_codes(const bn_packed *file, const bn_linear_layer *layer,
                              const bn_packed_entry **entry)
{
    char name[BN_PARAM_NAME_MAX + 8];
    snprintf(name, sizeof name, "%s.weight", layer->name);
    return bn_packed_expect(file, name, 2, (const int64_t[]){layer->out, layer->in}, entry);
}

/* As check_params(). */
static bn_status check_packed(const bn_loaded *loaded, const bn_packed *file)
{
    const bn_model *model = loaded->model;
    const bn_packed_entry *entry;
    for (int i = 0; i < bn_packed_count(file); i++) {
        const char *name = bn_packed_at(file, i)->name;
        if (!quantized_layer(model, name) && !bn_param_set_find(&model->params, name))
            return unexpected(loaded->path, name);
    }
    for (int i = 0; i < model->n_linears; i++)
        if (model->linears[i]->quant.weight.quantized)
            BN_TRY(expect_codes(file, model->linears[i], &entry));
    for (int i = 0; i < model->params.count; i++) {
        const bn_param *p = model->params.items[i];
        BN_TRY(bn_packed_expect(file, p->name, p->value.ndim, p->value.shape, &entry));
    }
    return BN_OK;
}

static bn_status read_packed(bn_loaded *loaded, bn_packed *file)
{
    const bn_model *model = loaded->model;
    const bn_packed_entry *entry;
    bn_status status = BN_OK;
    float *values = NULL;
    for (int i = 0; i < model->n_linears; i++) {
        const bn_linear_layer *layer = model->linears[i];
        if (!layer->quant.weight.quantized)
            continue;
        BN_TRY(expect_codes(file, layer, &entry));
        BN_TRY(read_packed_codes(loaded, file, layer, entry));
    }
    BN_TRY_OUT(alloc_staging(model, &values));
    for (int i = 0; i < model->params.count; i++)
        if (!quantized_layer(model, model->params.items[i]->name))
            BN_TRY_OUT(read_float(loaded, file, model->params.items[i], values));
out:
    free(values);
    return status;
}

static bn_status open_packed(bn_loaded *loaded, bn_backend *backend, opening how)
{
    bn_status status = BN_OK;
    bn_packed *file = NULL;
    loaded->is_packed = true;
    BN_TRY_OUT(bn_packed_open(loaded->path, &file));
    const bn_packed_info *info = bn_packed_get_info(file);
    BN_TRY_OUT(
        open_head(loaded, info->config_json, info->tokenizer, bn_packed_count(file), how.run));
    BN_TRY_OUT(make_model(loaded, backend, true));
    BN_TRY_OUT(check_packed(loaded, file));
    if (how.outline)
        goto out;
    BN_TRY_OUT(bn_model_alloc(loaded->model, false));
    BN_TRY_OUT(read_packed(loaded, file));
out:
    bn_packed_close(file);
    return status;
}

static bn_status open_any(const char *path, bn_backend *backend, opening how, bn_loaded *out)
{
    bn_status status = BN_OK;
    bn_model_file kind;
    *out = (bn_loaded){0};
    BN_TRY_OUT(bn_model_locate(path, &out->path, &kind, &out->skipped));
    BN_TRY_OUT(kind == BN_MODEL_FILE_PACKED ? open_packed(out, backend, how)
                                            : open_checkpoint(out, backend, how));
out:
    if (status != BN_OK)
        bn_loaded_clear(out);
    return status;
}

bn_status bn_loaded_open(const char *path, bn_backend *backend, bool run, bn_loaded *out)
{
    bn_status status = BN_OK;
    BN_TRY(open_any(path, backend, (opening){0}, out));
    if (run && !out->is_packed)
        BN_TRY_OUT(bn_model_pack(out->model));
    if (run)
        BN_TRY_OUT(bn_model_arrange(out->model));
out:
    if (status != BN_OK)
        bn_loaded_clear(out);
    return status;
}

bn_status bn_loaded_open_base(const char *path, bn_backend *backend, const bn_config *run,
                              bn_loaded *out)
{
    return open_any(path, backend, (opening){.base = true, .run = run}, out);
}

bn_status bn_loaded_outline(const char *path, bn_backend *backend, bn_loaded *out)
{
    return open_any(path, backend, (opening){.outline = true}, out);
}

/* Both models have the same parameters; learned scales come with the quantization. */
static bn_status check_same_params(const bn_loaded *loaded, const bn_model *to)
{
    const bn_param_set *from = &loaded->model->params;
    char has[96], wants[96];
    for (int i = 0; i < to->params.count; i++) {
        const bn_param *wanted = to->params.items[i];
        const bn_param *found = bn_param_set_find(from, wanted->name);
        if (wanted->kind == BN_PARAM_SCALE ||
            (found && bn_tensor_same_shape(&found->value, &wanted->value)))
            continue;
        return bn_error(BN_BAD_CONFIG, "%s: %s: expected %s as the config asks, found %s",
                        loaded->path, wanted->name,
                        bn_tensor_shape_text(&wanted->value, wants, sizeof wants),
                        found ? bn_tensor_shape_text(&found->value, has, sizeof has) : "none");
    }
    for (int i = 0; i < from->count; i++)
        if (from->items[i]->kind != BN_PARAM_SCALE &&
            !bn_param_set_find(&to->params, from->items[i]->name))
            return bn_error(BN_BAD_CONFIG, "%s: %s is no parameter of the config's model",
                            loaded->path, from->items[i]->name);
    return BN_OK;
}

/* `values` has room for it. */
static bn_status copy_param(const bn_model *from, const bn_model *to, const bn_param *param,
                            float *values)
{
    const int64_t n = bn_tensor_numel(&param->value);
    const bn_param *source = bn_param_set_find(&from->params, param->name);
    BN_TRY(bn_backend_get_f32(from->backend, &source->value, values, n));
    return bn_backend_put_f32(to->backend, &param->value, values, n);
}

/* Both layers learn the scales of the same codes. */
static bool same_scale(const bn_linear_layer *from, const bn_linear_layer *to)
{
    return from->weight_scale && to->weight_scale &&
           from->quant.weight.params.grid == to->quant.weight.params.grid &&
           bn_tensor_same_shape(&from->weight_scale->value, &to->weight_scale->value);
}

bn_status bn_loaded_give(const bn_loaded *loaded, bn_model *to)
{
    bn_status status = BN_OK;
    float *values = NULL;
    if (loaded->is_packed && bn_config_quantized(&loaded->config))
        return bn_error(BN_BAD_DATA, "%s: a packed model has no shadow weights to start from",
                        loaded->path);
    BN_TRY(check_same_params(loaded, to));
    BN_TRY_OUT(alloc_staging(to, &values));
    for (int i = 0; i < to->params.count; i++)
        if (to->params.items[i]->kind != BN_PARAM_SCALE)
            BN_TRY_OUT(copy_param(loaded->model, to, to->params.items[i], values));
    BN_TRY_OUT(bn_model_init_scales(to));
    for (int i = 0; i < to->n_linears; i++)
        if (same_scale(loaded->model->linears[i], to->linears[i]))
            BN_TRY_OUT(copy_param(loaded->model, to, to->linears[i]->weight_scale, values));
out:
    free(values);
    return status;
}

void bn_loaded_clear(bn_loaded *loaded)
{
    bn_model_free(loaded->model);
    bn_tokenizer_free(loaded->tokenizer);
    bn_config_clear(&loaded->config);
    bn_strings_clear(&loaded->skipped);
    free(loaded->path);
    *loaded = (bn_loaded){0};
}
