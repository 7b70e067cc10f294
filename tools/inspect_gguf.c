/* GGUF files: the part of inspect.h that needs no model. */
#include <stdlib.h>
#include <string.h>

#include "quant/pack.h"
#include "quant/quantize.h"
#include "tools/inspect_impl.h"

/* Every code and every block's scale; *ternary is false when a code is none of
 * -1, 0, +1, which Q4_0 may have. */
static bn_status read_blocks(const bn_gguf_tensor *t, uint8_t *codes, float *scale, bool *ternary)
{
    const int length = bn_gguf_block_length(t->type);
    const int64_t in = t->shape[t->ndim - 1], rows = t->count / in;
    const uint8_t *block = t->data;
    int8_t *row = malloc((size_t)in);
    if (!row)
        return bn_error_nomem(t->name, (size_t)in);
    *ternary = true;
    for (int64_t r = 0; r < rows && *ternary; r++) {
        for (int64_t b = 0; b < in / length && *ternary; b++) {
            *ternary = bn_gguf_decode_codes(t->type, block, row + b * length, scale++);
            block += bn_gguf_block_bytes(t->type);
        }
        if (*ternary)
            bn_t2_pack(row, 1, in, codes + r * bn_t2_row_bytes(in));
    }
    free(row);
    return BN_OK;
}

/* The factor in "NAME.scale" of a tensor "NAME.weight"; NULL: there is none. */
static const bn_gguf_tensor *scale_of(const bn_gguf *file, const char *name)
{
    static const char suffix[] = ".weight";
    char other[BN_GGUF_MAX_NAME + 8];
    const size_t length = strlen(name);
    if (length < sizeof suffix || strcmp(name + length + 1 - sizeof suffix, suffix) != 0)
        return NULL;
    memcpy(other, name, length);
    memcpy(other + length + 1 - sizeof suffix, ".scale", sizeof ".scale");
    const bn_gguf_tensor *t = bn_gguf_tensor_find(file, other);
    return t && t->type == BN_GGUF_F32 && t->count == 1 ? t : NULL;
}

static bn_status read_ternary(const bn_gguf *file, const bn_gguf_tensor *t, bn_tensor_info *info)
{
    const int length = bn_gguf_block_length(t->type);
    const int64_t in = t->shape[t->ndim - 1], rows = t->count / in, scales = t->count / length;
    const bn_gguf_tensor *factor = scale_of(file, t->name);
    uint8_t *codes = malloc((size_t)(rows * bn_t2_row_bytes(in)));
    float *scale = malloc((size_t)scales * sizeof *scale), value = 1;
    bn_status status = codes && scale ? BN_OK : bn_error_nomem(t->name, (size_t)t->count);
    if (status == BN_OK)
        status = read_blocks(t, codes, scale, &info->coded);
    if (status == BN_OK && !info->coded && t->type != BN_GGUF_Q4_0)
        status = bn_error(BN_BAD_DATA, "%s: %s: a code that is none of -1, 0, +1",
                          bn_gguf_path(file), t->name);
    if (status == BN_OK && info->coded) {
        if (factor)
            bn_gguf_decode(BN_GGUF_F32, factor->data, 1, &value);
        for (int64_t i = 0; i < scales; i++)
            scale[i] *= value;
        info->group_size = factor ? BN_PER_TENSOR : length;
        bn_code_stats_of(BN_T2, codes, rows, in, &info->q.codes);
        bn_scale_range(scale, scales, &info->q);
    }
    free(codes);
    free(scale);
    return status;
}

bn_status bn_file_info_read_gguf(bn_file_info *info)
{
    BN_TRY(bn_gguf_open(info->path, &info->gguf));
    BN_TRY(bn_file_info_alloc(info, bn_gguf_tensor_count(info->gguf)));
    for (int i = 0; i < bn_gguf_tensor_count(info->gguf); i++) {
        const bn_gguf_tensor *t = bn_gguf_tensor_at(info->gguf, i);
        bn_tensor_info *to = bn_file_info_add(info, t->name, t->ndim, t->shape);
        to->encoding = bn_gguf_type_name(t->type);
        to->bytes_packed = t->bytes;
        if (bn_gguf_holds_codes(t->type))
            BN_TRY(read_ternary(info->gguf, t, to));
    }
    return BN_OK;
}

/* ---- keys ---- */

static void string_json(bn_json *json, const char *key, const char *text, uint64_t bytes)
{
    char *copy = bn_format("%.*s", (int)(bytes < 4096 ? bytes : 4096), text);
    bn_json_string(json, key, copy);
    free(copy);
}

static void item_json(bn_json *json, const char *key, const bn_gguf_value *v, uint64_t i)
{
    const double number = bn_gguf_number(v, i);
    if (v->kind == BN_GGUF_BOOL)
        bn_json_bool(json, key, number > 0);
    else if (v->kind == BN_GGUF_FLOAT32 || v->kind == BN_GGUF_FLOAT64)
        bn_json_double(json, key, number);
    else if (number >= -0x1p53 && number <= 0x1p53)
        bn_json_int(json, key, (int64_t)number);
    else
        bn_json_double(json, key, number);
}

void bn_gguf_value_json(bn_json *json, const bn_gguf_value *v, const char *key, uint64_t most)
{
    const unsigned char *at = v->data;
    uint64_t bytes;
    if (v->is_array)
        bn_json_array_flat(json, key);
    for (uint64_t i = 0; i < v->count && i < most; i++) {
        const char *name = v->is_array ? NULL : key;
        if (v->kind == BN_GGUF_STRING) {
            const char *text = bn_gguf_next_string(&at, &bytes);
            string_json(json, name, text, bytes);
        } else {
            item_json(json, name, v, i);
        }
    }
    if (v->is_array)
        bn_json_array_end(json);
}
