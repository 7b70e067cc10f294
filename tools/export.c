#include "tools/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quantize.h"

int64_t bn_export_numel(const bn_export_item *item)
{
    int64_t n = 1;
    for (int d = 0; d < item->ndim; d++)
        n *= item->shape[d];
    return n;
}

bn_encoding bn_export_encoding(const bn_export_item *item, const bn_export_format *format)
{
    if (item->coded)
        return item->grid == BN_GRID_TERNARY ? format->ternary : bn_grid_encoding(item->grid);
    return item->ndim > 1 ? format->floats : BN_ENC_FLOAT32;
}

float bn_export_round(float value, bn_encoding encoding)
{
    switch (encoding) {
    case BN_ENC_FLOAT16:
        return bn_f16_to_f32(bn_f32_to_f16(value));
    case BN_ENC_BFLOAT16:
        return bn_bf16_to_f32(bn_f32_to_bf16(value));
    default:
        return value;
    }
}

bn_status bn_export_item_alloc(bn_export_item *item)
{
    item->count = bn_export_numel(item);
    if (item->coded) {
        const size_t bytes =
            (size_t)(item->shape[0] * bn_grid_row_bytes(item->grid, item->shape[1]));
        item->count = bn_scale_count(item->shape[0], item->shape[1], item->group_size);
        if (!(item->codes = malloc(bytes)))
            return bn_error_nomem(item->name, bytes);
    }
    if (!(item->data = malloc((size_t)item->count * sizeof *item->data)))
        return bn_error_nomem(item->name, (size_t)item->count * sizeof *item->data);
    return BN_OK;
}

bn_status bn_export_set_init(bn_export_set *set, int count)
{
    *set = (bn_export_set){.items = calloc((size_t)count + 1, sizeof *set->items)};
    return set->items ? BN_OK : bn_error_nomem("the tensors", (size_t)count * sizeof *set->items);
}

static bn_status collect_layer(const bn_model *model, const bn_linear_layer *layer,
                               bn_export_set *set)
{
    bn_backend *be = model->backend;
    bn_export_item *item = &set->items[set->count++];
    snprintf(item->name, sizeof item->name, "%s.weight", layer->name);
    item->coded = true;
    item->grid = layer->quant.weight.params.grid;
    item->ndim = 2;
    item->shape[0] = layer->out;
    item->shape[1] = layer->in;
    item->group_size = layer->quant.weight.params.group_size;
    BN_TRY(bn_export_item_alloc(item));
    BN_TRY(be->download(be, &layer->codes, item->codes));
    return bn_backend_get_f32(be, &layer->scale, item->data, item->count);
}

static bn_status collect_param(const bn_model *model, const bn_param *param, bn_export_set *set)
{
    bn_export_item *item = &set->items[set->count++];
    snprintf(item->name, sizeof item->name, "%s", param->name);
    item->ndim = param->value.ndim;
    memcpy(item->shape, param->value.shape, sizeof item->shape);
    BN_TRY(bn_export_item_alloc(item));
    return bn_backend_get_f32(model->backend, &param->value, item->data, item->count);
}

/* A parameter of which the codes, or the scales, are exported in its place. */
static bool is_packed_weight(const bn_model *model, const bn_param *param)
{
    for (int i = 0; i < model->n_linears; i++)
        if (model->linears[i]->weight == param || model->linears[i]->weight_scale == param)
            return model->linears[i]->codes.buffer;
    return false;
}

bn_status bn_export_expect_ternary(const bn_model *model, const char *form)
{
    for (int i = 0; i < model->n_linears; i++) {
        const bn_weight_spec *spec = &model->linears[i]->quant.weight;
        if (spec->quantized && spec->params.grid != BN_GRID_TERNARY)
            return bn_error(BN_USAGE,
                            "%s: %s has %s weights, this form holds ternary ones; --format hdf5 "
                            "holds all",
                            form, model->linears[i]->name, bn_grid_table[spec->params.grid].name);
    }
    return BN_OK;
}

bn_status bn_export_collect_model(const bn_model *model, bn_export_set *out)
{
    bn_status status = BN_OK;
    BN_TRY(bn_export_set_init(out, model->n_linears + model->params.count));
    for (int i = 0; i < model->n_linears; i++)
        if (model->linears[i]->codes.buffer)
            BN_TRY_OUT(collect_layer(model, model->linears[i], out));
    for (int i = 0; i < model->params.count; i++)
        if (!is_packed_weight(model, model->params.items[i]))
            BN_TRY_OUT(collect_param(model, model->params.items[i], out));
out:
    if (status != BN_OK)
        bn_export_set_clear(out);
    return status;
}

static bn_status collect_entry(bn_packed *file, const bn_packed_entry *entry, bn_export_set *set)
{
    bn_export_item *item = &set->items[set->count++];
    if ((size_t)snprintf(item->name, sizeof item->name, "%s", entry->name) >= sizeof item->name)
        return bn_error(BN_BAD_DATA, "tensor name '%s' is longer than %zu bytes", entry->name,
                        sizeof item->name - 1);
    item->coded = bn_encoding_is_codes(entry->encoding);
    item->grid = item->coded ? bn_encoding_grid(entry->encoding) : BN_GRID_TERNARY;
    item->ndim = entry->ndim;
    memcpy(item->shape, entry->shape, sizeof item->shape);
    item->group_size = entry->group_size;
    BN_TRY(bn_export_item_alloc(item));
    if (item->coded)
        return bn_packed_read_codes(file, entry, item->codes, item->data);
    return bn_packed_read_float(file, entry, item->data);
}

bn_status bn_export_collect_packed(const char *path, bn_export_set *out)
{
    bn_status status = BN_OK;
    bn_packed *file = NULL;
    *out = (bn_export_set){0};
    BN_TRY_OUT(bn_packed_open(path, &file));
    BN_TRY_OUT(bn_export_set_init(out, bn_packed_count(file)));
    for (int i = 0; i < bn_packed_count(file); i++)
        BN_TRY_OUT(collect_entry(file, bn_packed_at(file, i), out));
out:
    bn_packed_close(file);
    if (status != BN_OK)
        bn_export_set_clear(out);
    return status;
}

void bn_export_set_clear(bn_export_set *set)
{
    for (int i = 0; i < set->count; i++) {
        free(set->items[i].codes);
        free(set->items[i].data);
    }
    free(set->items);
    *set = (bn_export_set){0};
}

bn_status bn_export_write(const char *path, const bn_packed_info *info, const bn_export_set *set,
                          const bn_export_format *format)
{
    bn_packed_tensor *tensors = calloc((size_t)set->count + 1, sizeof *tensors);
    if (!tensors)
        return bn_error_nomem("the tensors", (size_t)set->count * sizeof *tensors);
    for (int i = 0; i < set->count; i++) {
        const bn_export_item *item = &set->items[i];
        tensors[i] = (bn_packed_tensor){
            .name = item->name,
            .encoding = bn_export_encoding(item, format),
            .ndim = item->ndim,
            .group_size = item->group_size,
            .codes = item->stored ? item->stored : item->codes,
            .data = item->data,
        };
        memcpy(tensors[i].shape, item->shape, sizeof item->shape);
    }
    bn_status status = bn_packed_write(path, info, tensors, set->count, format->deflate);
    free(tensors);
    return status;
}
