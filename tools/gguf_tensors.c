#include "tools/gguf_tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/signals.h"
#include "interop/gguf_arch.h"
#include "quant/pack.h"
#include "quant/quantize.h"

bn_gguf_type bn_gguf_item_type(const bn_export_item *item, const bn_gguf_layout *layout)
{
    return item->coded ? layout->ternary : item->ndim == 1 ? BN_GGUF_F32 : layout->floats;
}

static bool has_scale_tensor(const bn_export_item *item)
{
    return item->coded && item->group_size == BN_PER_TENSOR;
}

/* Bytes of the tensor alone. */
static uint64_t data_bytes(const bn_export_item *item, bn_gguf_type type)
{
    return (uint64_t)(bn_export_numel(item) / bn_gguf_block_length(type)) *
           (uint64_t)bn_gguf_block_bytes(type);
}

uint64_t bn_gguf_item_bytes(const bn_export_item *item, const bn_gguf_layout *layout)
{
    return data_bytes(item, bn_gguf_item_type(item, layout)) +
           (has_scale_tensor(item) ? sizeof(float) : 0);
}

/* ---- what a layout can hold ---- */

static bn_status check_item(const bn_export_item *item, const bn_gguf_layout *layout)
{
    const bn_gguf_type type = bn_gguf_item_type(item, layout);
    const int length = bn_gguf_block_length(type);
    const int64_t columns = item->shape[item->ndim - 1], group = item->group_size;
    char name[BN_GGUF_MAX_NAME];
    if (!bn_gguf_tensor_name(item->name, name))
        return bn_error(BN_USAGE, "%s has no place in llama.cpp's bitnet architecture", item->name);
    if (columns % length != 0)
        return bn_error(
            BN_USAGE, "%s has rows of %lld, blocks of %s hold %d%s", item->name, (long long)columns,
            bn_gguf_type_name(type), length,
            item->coded && length > 32 && columns % 32 == 0 ? "; --gguf-type q4_0 holds it" : "");
    if (item->coded && group > 0 && group % length != 0)
        return bn_error(BN_USAGE, "%s has a scale per %lld weights, blocks of %s hold %d%s",
                        item->name, (long long)group, bn_gguf_type_name(type), length,
                        length > 32 && group % 32 == 0 ? "; --gguf-type q4_0 holds it" : "");
    return BN_OK;
}

bn_status bn_gguf_set_check(const bn_export_set *set, const bn_gguf_layout *layout)
{
    for (int i = 0; i < set->count; i++)
        BN_TRY(check_item(&set->items[i], layout));
    return BN_OK;
}

static bn_status round_item(bn_export_item *item, const bn_gguf_layout *layout)
{
    const bn_gguf_type type = item->coded ? BN_GGUF_F16 : bn_gguf_item_type(item, layout);
    const int length = bn_gguf_block_length(type);
    uint8_t block[BN_GGUF_BLOCK_MAX];
    for (int64_t i = 0; i < item->count && !has_scale_tensor(item); i += length) {
        const float first = item->data[i];
        bn_gguf_encode(type, item->data + i, length, block);
        bn_gguf_decode(type, block, length, item->data + i);
        for (int k = 0; k < length; k++)
            if (!isfinite(item->data[i + k]))
                return bn_error(BN_FAIL, "%s: %s cannot hold %g", item->name,
                                bn_gguf_type_name(type), (double)first);
    }
    return BN_OK;
}

bn_status bn_gguf_set_round(bn_export_set *set, const bn_gguf_layout *layout)
{
    for (int i = 0; i < set->count; i++)
        BN_TRY(round_item(&set->items[i], layout));
    return BN_OK;
}

/* ---- writing ---- */

/* The scale that block `b` of row `r` stores. */
static float block_scale(const bn_export_item *item, int64_t r, int64_t b, int length)
{
    const int64_t in = item->shape[1];
    if (has_scale_tensor(item))
        return 1;
    const int64_t g = b * length / bn_group_length(in, item->group_size);
    return item->data[bn_scale_index(r, g, in, item->group_size)];
}

static void encode_codes(const bn_export_item *item, bn_gguf_type type, uint8_t *data)
{
    const int length = bn_gguf_block_length(type);
    const int64_t in = item->shape[1], row_bytes = bn_t2_row_bytes(in);
    int8_t codes[BN_GGUF_BLOCK_MAX];
    for (int64_t r = 0; r < item->shape[0]; r++)
        for (int64_t b = 0; b < in / length; b++, data += bn_gguf_block_bytes(type)) {
            bn_t2_unpack_span(item->codes + r * row_bytes, b * length, length, codes);
            bn_gguf_encode_codes(type, codes, block_scale(item, r, b, length), data);
        }
}

static bn_status put_item(bn_gguf_writer *w, const bn_export_item *item, bn_gguf_type type)
{
    const size_t bytes = (size_t)data_bytes(item, type);
    uint8_t *data = malloc(bytes);
    if (!data)
        return bn_error_nomem(item->name, bytes);
    if (item->coded)
        encode_codes(item, type, data);
    else
        bn_gguf_encode(type, item->data, item->count, data);
    bn_status status = bn_gguf_write(w, data, bytes);
    if (status == BN_OK && has_scale_tensor(item)) {
        bn_gguf_encode(BN_GGUF_F32, item->data, 1, data);
        status = bn_gguf_write(w, data, sizeof(float));
    }
    free(data);
    return status;
}

/* A tensor's name in the file: "blk.0.attn_q.weight" with its scale in
 * "blk.0.attn_q.scale". */
static void name_of(const bn_export_item *item, bool scale, char out[BN_GGUF_MAX_NAME])
{
    static const char suffix[] = "weight";
    if (!bn_gguf_tensor_name(item->name, out))
        out[0] = '\0';
    if (scale && strlen(out) >= sizeof suffix)
        memcpy(out + strlen(out) - (sizeof suffix - 1), "scale", sizeof "scale");
}

/* Descriptions of all tensors, in the order in which they are written. */
static bn_status list_specs(const bn_export_set *set, const bn_gguf_layout *layout,
                            bn_gguf_spec *specs, bn_strings *names, int *count)
{
    *count = 0;
    for (int i = 0; i < set->count; i++) {
        const bn_export_item *item = &set->items[i];
        for (int scale = 0; scale <= has_scale_tensor(item); scale++) {
            char name[BN_GGUF_MAX_NAME];
            name_of(item, scale, name);
            BN_TRY(bn_strings_add(names, name));
            bn_gguf_spec *spec = &specs[(*count)++];
            *spec = (bn_gguf_spec){.type = BN_GGUF_F32, .ndim = 1, .shape = {1}};
            if (!scale) {
                spec->type = bn_gguf_item_type(item, layout);
                spec->ndim = item->ndim;
                memcpy(spec->shape, item->shape, sizeof item->shape);
            }
        }
    }
    for (int i = 0; i < *count; i++) /* the list does not move any more */
        specs[i].name = names->items[i];
    return BN_OK;
}

bn_status bn_gguf_set_write(const char *path, const bn_gguf_meta *meta, const bn_export_set *set,
                            const bn_gguf_layout *layout)
{
    bn_strings names = {0};
    bn_gguf_writer *w;
    bn_status status = BN_OK;
    int count;
    bn_gguf_spec *specs = calloc(2 * (size_t)set->count + 1, sizeof *specs);
    if (!specs)
        return bn_error_nomem("the header", 2 * (size_t)set->count * sizeof *specs);
    BN_TRY_OUT(list_specs(set, layout, specs, &names, &count));
    BN_TRY_OUT(bn_gguf_create(path, meta, specs, count, &w));
    for (int i = 0; i < set->count && status == BN_OK; i++) {
        status = bn_signals_poll();
        if (status == BN_OK)
            status = put_item(w, &set->items[i], bn_gguf_item_type(&set->items[i], layout));
    }
    status = bn_gguf_finish(w, status);
out:
    bn_strings_clear(&names);
    free(specs);
    return status;
}

/* ---- reading ---- */

static bn_status find(const bn_gguf *file, const bn_export_item *item, bool scale,
                      bn_gguf_type type, const bn_gguf_tensor **out)
{
    char name[BN_GGUF_MAX_NAME];
    name_of(item, scale, name);
    const bn_gguf_tensor *t = bn_gguf_tensor_find(file, name);
    const int64_t one = 1, *shape = scale ? &one : item->shape;
    const int ndim = scale ? 1 : item->ndim;
    if (!t)
        return bn_error(BN_MISMATCH, "%s: %s is missing", bn_gguf_path(file), name);
    if (t->type != type || t->ndim != ndim ||
        memcmp(t->shape, shape, (size_t)ndim * sizeof *shape) != 0)
        return bn_error(BN_MISMATCH, "%s: %s has another type or shape than was written",
                        bn_gguf_path(file), name);
    *out = t;
    return BN_OK;
}

/* Codes and scales; all blocks of a group have to agree on its scale. */
static bn_status decode_codes(const bn_gguf *file, const bn_gguf_tensor *t, bn_export_item *item)
{
    const int length = bn_gguf_block_length(t->type);
    const int64_t in = item->shape[1], row_bytes = bn_t2_row_bytes(in);
    const uint8_t *block = t->data;
    bn_status status = BN_OK;
    int8_t *codes = malloc((size_t)in + BN_GGUF_BLOCK_MAX);
    if (!codes)
        return bn_error_nomem(item->name, (size_t)in);
    for (int64_t r = 0; r < item->shape[0] && status == BN_OK; r++) {
        for (int64_t b = 0; b < in / length; b++, block += bn_gguf_block_bytes(t->type)) {
            const int64_t group = bn_group_length(in, item->group_size), g = b * length / group;
            float scale;
            const bool valid = bn_gguf_decode_codes(t->type, block, codes + b * length, &scale);
            float *place = has_scale_tensor(item)
                               ? NULL
                               : &item->data[bn_scale_index(r, g, in, item->group_size)];
            if (place && b * length % group == 0)
                *place = scale;
            const float expected = place ? *place : 1;
            if (!valid || scale < expected || scale > expected)
                status = bn_error(BN_MISMATCH,
                                  "%s: %s: block %lld of row %lld is not what was "
                                  "written",
                                  bn_gguf_path(file), t->name, (long long)b, (long long)r);
        }
        if (status == BN_OK)
            bn_t2_pack(codes, 1, in, item->codes + r * row_bytes);
    }
    free(codes);
    return status;
}

static bn_status read_item(const bn_gguf *file, const bn_gguf_layout *layout, bn_export_item *item)
{
    const bn_gguf_tensor *t = NULL;
    BN_TRY(find(file, item, false, bn_gguf_item_type(item, layout), &t));
    if (!item->coded) {
        bn_gguf_decode(t->type, t->data, t->count, item->data);
        return BN_OK;
    }
    BN_TRY(decode_codes(file, t, item));
    if (!has_scale_tensor(item))
        return BN_OK;
    BN_TRY(find(file, item, true, BN_GGUF_F32, &t));
    bn_gguf_decode(BN_GGUF_F32, t->data, 1, item->data);
    return BN_OK;
}

bn_status bn_gguf_set_read(const bn_gguf *file, const bn_export_set *like,
                           const bn_gguf_layout *layout, bn_export_set *out)
{
    bn_status status = BN_OK;
    int tensors = 0;
    BN_TRY(bn_export_set_init(out, like->count));
    for (int i = 0; i < like->count; i++) {
        bn_export_item *item = &out->items[out->count++];
        *item = like->items[i];
        item->codes = NULL;
        item->data = NULL;
        BN_TRY_OUT(bn_export_item_alloc(item));
        BN_TRY_OUT(read_item(file, layout, item));
        tensors += 1 + has_scale_tensor(item);
    }
    if (tensors != bn_gguf_tensor_count(file))
        status = bn_error(BN_MISMATCH, "%s: %d tensors, expected %d", bn_gguf_path(file),
                          bn_gguf_tensor_count(file), tensors);
out:
    if (status != BN_OK)
        bn_export_set_clear(out);
    return status;
}
