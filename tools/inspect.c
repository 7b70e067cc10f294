#include "tools/inspect_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "checkpoint/packed.h"
#include "cpu/cpu.h"
#include "quant/pack.h"
#include "quant/quantize.h"

bn_status bn_file_info_alloc(bn_file_info *info, int count)
{
    info->tensors = calloc((size_t)count + 1, sizeof *info->tensors);
    return info->tensors ? BN_OK
                         : bn_error_nomem("the tensors", (size_t)count * sizeof *info->tensors);
}

bn_tensor_info *bn_file_info_add(bn_file_info *info, const char *name, int ndim,
                                 const int64_t *shape)
{
    bn_tensor_info *t = &info->tensors[info->count++];
    uint64_t n = 1;
    snprintf(t->name, sizeof t->name, "%s", name);
    t->ndim = ndim;
    for (int d = 0; d < ndim; d++) {
        t->shape[d] = shape[d];
        n *= (uint64_t)shape[d];
    }
    t->bytes_float = 4 * n;
    return t;
}

static bn_status keep_texts(bn_file_info *info, const char *config, const char *tokenizer,
                            const char *producer)
{
    info->config_json = bn_strdup(config);
    info->tokenizer = bn_strdup(tokenizer);
    info->producer = bn_strdup(producer);
    return info->config_json && info->tokenizer && info->producer ? BN_OK : BN_FAIL;
}

/* ---- packed files ---- */

void bn_scale_range(const float *scale, int64_t n, bn_quant_error *q)
{
    double sum = 0;
    q->scale_min = q->scale_max = (double)scale[0];
    for (int64_t i = 0; i < n; i++) {
        q->scale_min = fmin(q->scale_min, (double)scale[i]);
        q->scale_max = fmax(q->scale_max, (double)scale[i]);
        sum += (double)scale[i];
    }
    q->scale_mean = sum / (double)n;
}

static bn_status read_packed_codes(bn_packed *file, const bn_packed_entry *entry, bn_tensor_info *t)
{
    const int64_t out = entry->shape[0], in = entry->shape[1];
    const int64_t scales = bn_scale_count(out, in, entry->group_size);
    t->coded = true;
    t->grid = bn_encoding_grid(entry->encoding);
    t->group_size = entry->group_size;
    const int64_t bytes = out * bn_grid_row_bytes(t->grid, in);
    uint8_t *codes = malloc((size_t)bytes);
    float *scale = malloc((size_t)scales * sizeof *scale);
    bn_status status = BN_OK;
    if (!codes || !scale) {
        status = bn_error_nomem(entry->name, (unsigned long long)bytes);
        goto out;
    }
    BN_TRY_OUT(bn_packed_read_codes(file, entry, codes, scale));
    bn_code_stats_of(bn_grid_dtype(t->grid), codes, out, in, &t->q.codes);
    bn_scale_range(scale, scales, &t->q);
out:
    free(codes);
    free(scale);
    return status;
}

static bn_status read_packed_float(bn_packed *file, const bn_packed_entry *entry,
                                   const bn_tensor_info *t)
{
    float *data = malloc(t->bytes_float);
    if (!data)
        return bn_error_nomem(entry->name, t->bytes_float);
    bn_status status = bn_packed_read_float(file, entry, data);
    free(data);
    return status;
}

static bn_status read_packed(bn_file_info *info)
{
    bn_packed *file = NULL;
    bn_status status = BN_OK;
    BN_TRY_OUT(bn_packed_open(info->path, &file));
    const bn_packed_info *head = bn_packed_get_info(file);
    BN_TRY_OUT(keep_texts(info, head->config_json, head->tokenizer, head->producer));
    BN_TRY_OUT(bn_file_info_alloc(info, bn_packed_count(file)));
    for (int i = 0; i < bn_packed_count(file); i++) {
        const bn_packed_entry *entry = bn_packed_at(file, i);
        bn_tensor_info *t = bn_file_info_add(info, entry->name, entry->ndim, entry->shape);
        t->encoding = bn_encoding_name(entry->encoding);
        t->bytes_packed = entry->stored_bytes;
        BN_TRY_OUT(bn_encoding_is_codes(entry->encoding) ? read_packed_codes(file, entry, t)
                                                         : read_packed_float(file, entry, t));
    }
out:
    bn_packed_close(file);
    return status;
}

/* ---- checkpoints ---- */

/* The BitLinear layer with quantized weights whose weight this is. */
static const bn_linear_layer *quantized_layer(const bn_model *model, const char *weight)
{
    for (int i = 0; i < model->n_linears; i++) {
        const bn_linear_layer *layer = model->linears[i];
        if (layer->quant.weight.quantized && layer->weight &&
            strcmp(layer->weight->name, weight) == 0)
            return layer;
    }
    return NULL;
}

/* The learned scales of a layer, floored as training does. */
static bn_status learned_scales(bn_checkpoint *file, const bn_param *param, float *scale)
{
    bn_checkpoint_param wanted = {.name = param->name, .ndim = param->value.ndim, .value = scale};
    memcpy(wanted.shape, param->value.shape, sizeof wanted.shape);
    BN_TRY(bn_checkpoint_expect(file, &wanted));
    BN_TRY(bn_checkpoint_load_one(file, &wanted));
    for (int64_t i = 0; i < bn_tensor_numel(&param->value); i++)
        scale[i] = bn_scale_floor_f32(scale[i]);
    return BN_OK;
}

/* Quantizes a shadow weight as training does and measures what that costs. */
static bn_status analyse(bn_checkpoint *file, const bn_linear_layer *layer, const float *w,
                         bn_tensor_info *t)
{
    const bn_weight_params *p = &layer->quant.weight.params;
    const int64_t out = t->shape[0], in = t->shape[1];
    const int64_t scales = bn_scale_count(out, in, t->group_size);
    const int64_t stored =
        t->grid == BN_GRID_TERNARY ? bn_b3_row_bytes(in) : bn_bits_row_bytes(t->grid, in);
    uint8_t *codes = malloc((size_t)(out * bn_grid_row_bytes(t->grid, in)));
    float *scale = malloc((size_t)scales * sizeof *scale);
    bn_status status = BN_OK;
    if (!codes || !scale) {
        status = bn_error_nomem(t->name, (unsigned long long)(out * in));
        goto out;
    }
    if (layer->weight_scale)
        BN_TRY_OUT(learned_scales(file, layer->weight_scale, scale));
    else
        bn_grid_scales_f32(t->grid, p->rule, w, out, in, t->group_size, scale);
    bn_grid_codes_f32(t->grid, w, out, in, t->group_size, scale, codes);
    bn_quant_error_of(w, out, in, t->group_size, bn_grid_dtype(t->grid), codes, scale, &t->q);
    t->has_shadow = true;
    t->bytes_packed = (uint64_t)(out * stored + scales * (int64_t)sizeof *scale);
out:
    free(codes);
    free(scale);
    return status;
}

static bn_status read_param(bn_checkpoint *file, const bn_model *model, bn_checkpoint_param *param,
                            bn_file_info *info)
{
    bn_tensor_info *t = bn_file_info_add(info, param->name, param->ndim, param->shape);
    const bn_linear_layer *layer = quantized_layer(model, param->name);
    t->encoding = "float32";
    t->bytes_packed = t->bytes_float;
    if (!(param->value = malloc(t->bytes_float)))
        return bn_error_nomem(t->name, t->bytes_float);
    bn_status status = bn_checkpoint_load_one(file, param);
    if (status == BN_OK && layer) {
        t->coded = true;
        t->grid = layer->quant.weight.params.grid;
        t->group_size = layer->quant.weight.params.group_size;
        if (t->ndim != 2 || t->shape[0] != layer->out || t->shape[1] != layer->in)
            status = bn_error(BN_BAD_DATA,
                              "%s: %s: shape does not fit the config, expected "
                              "[%lld, %lld]",
                              info->path, t->name, (long long)layer->out, (long long)layer->in);
        else
            status = analyse(file, layer, param->value, t);
    }
    free(param->value);
    return status;
}

/* A model without memory tells which weights are quantized. */
static bn_status make_shell(const bn_file_info *info, bn_checkpoint *file, bn_backend *backend,
                            bn_model **model)
{
    bn_config config = {0};
    bn_tokenizer *tokenizer = NULL;
    bn_status status = BN_OK;
    BN_TRY_OUT(bn_checkpoint_config(info->path, file, &config));
    BN_TRY_OUT(bn_error_in(bn_tokenizer_new(info->tokenizer, &tokenizer), info->path));
    BN_TRY_OUT(bn_error_in(bn_model_create(&config, bn_tokenizer_vocab_size(tokenizer), backend,
                                           BN_MODEL_FLOAT, model),
                           info->path));
out:
    bn_tokenizer_free(tokenizer);
    bn_config_clear(&config);
    return status == BN_BAD_CONFIG ? BN_BAD_DATA : status;
}

static bn_status read_checkpoint(bn_file_info *info)
{
    bn_checkpoint *file = NULL;
    bn_backend *backend = NULL;
    bn_model *model = NULL;
    bn_status status = BN_OK;
    BN_TRY_OUT(bn_checkpoint_open(info->path, &file));
    info->state = *bn_checkpoint_state(file);
    info->has_moments = bn_checkpoint_has_moments(file);
    BN_TRY_OUT(
        keep_texts(info, info->state.config_json, info->state.tokenizer, info->state.producer));
    BN_TRY_OUT(bn_ref_backend_new(BN_F32, &backend));
    BN_TRY_OUT(make_shell(info, file, backend, &model));
    BN_TRY_OUT(bn_file_info_alloc(info, bn_checkpoint_count(file)));
    for (int i = 0; i < bn_checkpoint_count(file); i++) {
        bn_checkpoint_param param;
        bn_checkpoint_describe(file, i, &param);
        BN_TRY_OUT(read_param(file, model, &param, info));
    }
out:
    info->state.config_json = info->state.tokenizer = NULL; /* they belong to the file */
    info->state.producer = info->state.device = NULL;
    bn_model_free(model);
    bn_backend_free(backend);
    bn_checkpoint_close(file);
    return status;
}

bn_status bn_file_info_read(const char *path, bn_file_info *out)
{
    bn_status status = BN_OK;
    *out = (bn_file_info){0};
    if (bn_gguf_is(path)) {
        status = (out->path = bn_strdup(path)) ? bn_fs_size(path, &out->file_bytes) : BN_FAIL;
        if (status == BN_OK)
            status = bn_file_info_read_gguf(out);
        goto out;
    }
    BN_TRY_OUT(bn_model_locate(path, &out->path, &out->kind, &out->skipped));
    BN_TRY_OUT(bn_fs_size(out->path, &out->file_bytes));
    status = out->kind == BN_MODEL_FILE_PACKED ? read_packed(out) : read_checkpoint(out);
out:
    if (status != BN_OK)
        bn_file_info_clear(out);
    return status;
}

void bn_file_info_clear(bn_file_info *info)
{
    bn_gguf_close(info->gguf);
    free(info->path);
    free(info->config_json);
    free(info->tokenizer);
    free(info->producer);
    free(info->tensors);
    bn_strings_clear(&info->skipped);
    *info = (bn_file_info){0};
}
