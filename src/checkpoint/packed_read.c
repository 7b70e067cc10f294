/* The reading half of packed.h; docs/packed-format.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/h5file.h"
#include "checkpoint/packed_impl.h"
#include "quant/pack.h"
#include "quant/quantize.h"

struct bn_packed {
    bn_h5_reader *file;
    bn_packed_info info;
    char *config_json, *tokenizer, *producer; /* what info points to */
    bn_packed_entry *entries;                 /* sorted by name */
    int count;
};

static bn_status read_info(bn_packed *p)
{
    char *format = NULL;
    int64_t version = 0;
    const char *path = bn_h5_path(p->file);
    BN_TRY(bn_h5_get_string(p->file, NULL, BN_ATTR_FORMAT, &format));
    bn_status status = BN_OK;
    if (strcmp(format, BN_PACKED_FORMAT) != 0)
        status = bn_error(BN_BAD_DATA, "%s: format: expected \"%s\", found \"%.40s\"", path,
                          BN_PACKED_FORMAT, format);
    free(format);
    if (status != BN_OK)
        return status;
    BN_TRY(bn_h5_get_i64(p->file, NULL, BN_ATTR_VERSION, &version));
    if (version != BN_PACKED_VERSION)
        return bn_error(BN_BAD_DATA, "%s: format_version: expected %d, found %lld", path,
                        BN_PACKED_VERSION, (long long)version);
    BN_TRY(bn_h5_get_string(p->file, NULL, BN_ATTR_CONFIG, &p->config_json));
    BN_TRY(bn_h5_get_string(p->file, NULL, BN_ATTR_PRODUCER, &p->producer));
    const bool json = bn_h5_has_attr(p->file, NULL, BN_ATTR_TOKENIZER_JSON);
    if (json && bn_h5_has_attr(p->file, NULL, BN_ATTR_TOKENIZER))
        return bn_error(BN_BAD_DATA, "%s: expected tokenizer or tokenizer_json, found both", path);
    BN_TRY(bn_h5_get_string(p->file, NULL, json ? BN_ATTR_TOKENIZER_JSON : BN_ATTR_TOKENIZER,
                            &p->tokenizer));
    p->info = (bn_packed_info){p->config_json, p->tokenizer, p->producer};
    return BN_OK;
}

static bn_status read_encoding(bn_packed *p, const bn_h5_entry *array, bn_encoding *encoding)
{
    char *text = NULL;
    BN_TRY(bn_h5_get_string(p->file, array->name, BN_ATTR_ENCODING, &text));
    int e = 0;
    while (e < BN_ENC_COUNT && strcmp(text, bn_encoding_name((bn_encoding)e)) != 0)
        e++;
    bn_status status = BN_OK;
    if (e == BN_ENC_COUNT)
        status = bn_error(BN_BAD_DATA, "%s: %s: unknown encoding \"%.40s\"", bn_h5_path(p->file),
                          array->name, text);
    free(text);
    *encoding = (bn_encoding)e;
    return status;
}

/* Codes and scales must have the dimensions that shape and group size give. */
static bn_status codes_entry(bn_packed *p, bn_packed_entry *e)
{
    const char *path = bn_h5_path(p->file);
    const bn_h5_entry *codes, *scales;
    char name[BN_H5_NAME_MAX + sizeof BN_SCALE_SUFFIX];
    int64_t shape[2];
    if (e->ndim != 2)
        return bn_error(BN_BAD_DATA, "%s: %s: shape: expected 2 dimensions, found %d", path,
                        e->name, e->ndim);
    BN_TRY(bn_h5_get_i64(p->file, e->name, BN_ATTR_GROUP_SIZE, &e->group_size));
    if (!bn_group_size_ok(e->shape[1], e->group_size))
        return bn_error(BN_BAD_DATA, "%s: %s: group_size: expected 0, -1 or 32 to %lld, found %lld",
                        path, e->name, (long long)e->shape[1], (long long)e->group_size);
    const int64_t bytes[2] = {e->shape[0], bn_packed_row_bytes(e->encoding, e->shape[1])};
    BN_TRY(bn_h5_expect(p->file, e->name, BN_H5_U8, 2, bytes, &codes));
    snprintf(name, sizeof name, "%s%s", e->name, BN_SCALE_SUFFIX);
    const int ndim = bn_packed_scale_shape(e->shape[0], e->shape[1], e->group_size, shape);
    BN_TRY(bn_h5_expect(p->file, name, BN_H5_F32, ndim, shape, &scales));
    if (bn_h5_has_attr(p->file, name, BN_ATTR_ENCODING))
        return bn_error(BN_BAD_DATA, "%s: %s: expected scales, found a tensor", path, name);
    e->stored_bytes = codes->stored_bytes + scales->stored_bytes;
    return BN_OK;
}

static bn_status read_entry(bn_packed *p, const bn_h5_entry *array, bn_packed_entry *e)
{
    static const bn_h5_type types[BN_ENC_COUNT] = {
        [BN_ENC_TERNARY2] = BN_H5_U8,  [BN_ENC_BASE3X5] = BN_H5_U8,  [BN_ENC_BINARY1] = BN_H5_U8,
        [BN_ENC_INT2] = BN_H5_U8,      [BN_ENC_INT3] = BN_H5_U8,     [BN_ENC_INT4] = BN_H5_U8,
        [BN_ENC_INT8] = BN_H5_U8,      [BN_ENC_FLOAT32] = BN_H5_F32, [BN_ENC_FLOAT16] = BN_H5_F16,
        [BN_ENC_BFLOAT16] = BN_H5_U16,
    };
    char what[BN_H5_NAME_MAX + 16];
    *e = (bn_packed_entry){.name = array->name, .stored_bytes = array->stored_bytes};
    BN_TRY(read_encoding(p, array, &e->encoding));
    BN_TRY(bn_h5_get_i64s(p->file, array->name, BN_ATTR_SHAPE, BN_MAX_DIMS, e->shape, &e->ndim));
    const bn_tensor shape = bn_tensor_of(BN_F64, e->ndim, e->shape);
    snprintf(what, sizeof what, "%s: shape", array->name);
    bn_status status = bn_tensor_check(&shape, what);
    if (status != BN_OK)
        return bn_error_in(status, bn_h5_path(p->file));
    if (bn_encoding_is_codes(e->encoding))
        return codes_entry(p, e);
    const bn_h5_entry *found;
    return bn_h5_expect(p->file, array->name, types[e->encoding], e->ndim, e->shape, &found);
}

/* A dataset without an encoding must be the scales of a tensor of codes. */
static bn_status check_scales(const bn_packed *p, const bn_h5_entry *array)
{
    char name[BN_H5_NAME_MAX + 1];
    const size_t suffix = strlen(BN_SCALE_SUFFIX), size = strlen(array->name);
    if (size > suffix && strcmp(array->name + size - suffix, BN_SCALE_SUFFIX) == 0) {
        snprintf(name, sizeof name, "%.*s", (int)(size - suffix), array->name);
        const bn_packed_entry *owner = bn_packed_find(p, name);
        if (owner && bn_encoding_is_codes(owner->encoding))
            return BN_OK;
    }
    return bn_error(BN_BAD_DATA,
                    "%s: %s: expected an encoding or a tensor of codes to be the "
                    "scales of, found neither",
                    bn_h5_path(p->file), array->name);
}

static bn_status read_entries(bn_packed *p)
{
    const int arrays = bn_h5_count(p->file);
    p->entries = calloc((size_t)arrays + 1, sizeof *p->entries);
    if (!p->entries)
        return bn_error_nomem("the list of tensors", (size_t)arrays * sizeof *p->entries);
    for (int i = 0; i < arrays; i++) {
        const bn_h5_entry *array = bn_h5_at(p->file, i);
        if (strchr(array->name, '/'))
            return bn_error(BN_BAD_DATA, "%s: %s: expected no groups, found one",
                            bn_h5_path(p->file), array->name);
        if (!bn_h5_has_attr(p->file, array->name, BN_ATTR_ENCODING))
            continue;
        BN_TRY(read_entry(p, array, &p->entries[p->count]));
        p->count++;
    }
    for (int i = 0; i < arrays; i++)
        if (!bn_h5_has_attr(p->file, bn_h5_at(p->file, i)->name, BN_ATTR_ENCODING))
            BN_TRY(check_scales(p, bn_h5_at(p->file, i)));
    return BN_OK;
}

bn_status bn_packed_open(const char *path, bn_packed **out)
{
    bn_status status;
    *out = NULL;
    bn_packed *p = calloc(1, sizeof *p);
    if (!p)
        return bn_error_nomem("a packed model", sizeof *p);
    BN_TRY_OUT(bn_h5_open(path, &p->file));
    BN_TRY_OUT(read_info(p));
    BN_TRY_OUT(read_entries(p));
    *out = p;
    return BN_OK;
out:
    bn_packed_close(p);
    return status;
}

void bn_packed_close(bn_packed *p)
{
    if (!p)
        return;
    bn_h5_close(p->file);
    free(p->config_json);
    free(p->tokenizer);
    free(p->producer);
    free(p->entries);
    free(p);
}

const bn_packed_info *bn_packed_get_info(const bn_packed *p)
{
    return &p->info;
}

int bn_packed_count(const bn_packed *p)
{
    return p->count;
}

const bn_packed_entry *bn_packed_at(const bn_packed *p, int i)
{
    return &p->entries[i];
}

static int compare_name(const void *key, const void *entry)
{
    return strcmp(key, ((const bn_packed_entry *)entry)->name);
}

const bn_packed_entry *bn_packed_find(const bn_packed *p, const char *name)
{
    return bsearch(name, p->entries, (size_t)p->count, sizeof *p->entries, compare_name);
}

bn_status bn_packed_expect(const bn_packed *p, const char *name, int ndim, const int64_t *shape,
                           const bn_packed_entry **out)
{
    char wanted[128], found[128];
    const bn_tensor a = bn_tensor_of(BN_F32, ndim, shape);
    const bn_packed_entry *e = bn_packed_find(p, name);
    bn_tensor_shape_text(&a, wanted, sizeof wanted);
    *out = NULL;
    if (!e)
        return bn_error(BN_BAD_DATA, "%s: %s: expected a tensor %s, found none",
                        bn_h5_path(p->file), name, wanted);
    const bn_tensor b = bn_tensor_of(BN_F32, e->ndim, e->shape);
    if (!bn_tensor_same_shape(&a, &b))
        return bn_error(BN_BAD_DATA, "%s: %s: expected %s, found %s", bn_h5_path(p->file), name,
                        wanted, bn_tensor_shape_text(&b, found, sizeof found));
    *out = e;
    return BN_OK;
}

static bn_status code_error(const bn_packed *p, const bn_packed_entry *e, const bn_code_fault *f)
{
    const int max = bn_grid_table[bn_encoding_grid(e->encoding)].max;
    const bool bits = bn_encoding_grid(e->encoding) != BN_GRID_TERNARY;
    const char *what = e->encoding == BN_ENC_BASE3X5 ? "a byte" : "a field";
    char expected[32];
    if (f->padding)
        snprintf(expected, sizeof expected, "padding %d", bits ? 0 : 1);
    else
        snprintf(expected, sizeof expected, "%s up to %d", what,
                 e->encoding == BN_ENC_BASE3X5 ? BN_B3_MAX_BYTE : 2 * max);
    return bn_error(BN_BAD_DATA, "%s: %s: row %lld, byte %lld, element %lld: expected %s, found %d",
                    bn_h5_path(p->file), e->name, (long long)f->row, (long long)f->byte,
                    (long long)f->index, expected, f->value);
}

static bn_status read_codes(bn_packed *p, const bn_packed_entry *e, uint8_t *codes)
{
    const int64_t out = e->shape[0], in = e->shape[1];
    const bn_h5_entry *array = bn_h5_find(p->file, e->name);
    bn_code_fault fault;
    if (e->encoding == BN_ENC_TERNARY2) {
        BN_TRY(bn_h5_read(p->file, array, codes));
        return bn_t2_check(codes, out, in, &fault) ? BN_OK : code_error(p, e, &fault);
    }
    const bn_grid grid = bn_encoding_grid(e->encoding);
    const bool base3 = e->encoding == BN_ENC_BASE3X5;
    uint8_t *stored = malloc(array->bytes);
    if (!stored)
        return bn_error_nomem(e->name, array->bytes);
    bn_status status = bn_h5_read(p->file, array, stored);
    if (status == BN_OK && !(base3 ? bn_b3_check(stored, out, in, &fault)
                                   : bn_bits_check(grid, stored, out, in, &fault)))
        status = code_error(p, e, &fault);
    if (status == BN_OK && base3)
        bn_b3_to_t2(stored, out, in, codes);
    else if (status == BN_OK)
        bn_bits_unpack(grid, stored, out, in, codes);
    free(stored);
    return status;
}

bn_status bn_packed_read_codes(bn_packed *p, const bn_packed_entry *e, uint8_t *codes,
                               float *scales)
{
    char name[BN_H5_NAME_MAX + sizeof BN_SCALE_SUFFIX];
    if (!bn_encoding_is_codes(e->encoding))
        return bn_error(BN_BAD_DATA, "%s: %s: expected a tensor of codes, found %s",
                        bn_h5_path(p->file), e->name, bn_encoding_name(e->encoding));
    BN_TRY(read_codes(p, e, codes));
    snprintf(name, sizeof name, "%s%s", e->name, BN_SCALE_SUFFIX);
    BN_TRY(bn_h5_read(p->file, bn_h5_find(p->file, name), scales));
    const int64_t count = bn_scale_count(e->shape[0], e->shape[1], e->group_size);
    for (int64_t i = 0; i < count; i++)
        if (!(isfinite(scales[i]) && scales[i] > 0))
            return bn_error(BN_BAD_DATA, "%s: %s: scale %lld: expected finite and > 0, found %g",
                            bn_h5_path(p->file), name, (long long)i, (double)scales[i]);
    return BN_OK;
}

bn_status bn_packed_read_float(bn_packed *p, const bn_packed_entry *e, float *data)
{
    if (bn_encoding_is_codes(e->encoding))
        return bn_error(BN_BAD_DATA, "%s: %s: expected a float tensor, found %s",
                        bn_h5_path(p->file), e->name, bn_encoding_name(e->encoding));
    const bn_h5_entry *array = bn_h5_find(p->file, e->name);
    const int64_t n = (int64_t)(array->bytes / bn_h5_type_size(array->type));
    if (e->encoding == BN_ENC_FLOAT32) {
        BN_TRY(bn_h5_read(p->file, array, data));
    } else {
        uint16_t *shorts = malloc(array->bytes);
        if (!shorts)
            return bn_error_nomem(e->name, array->bytes);
        bn_status status = bn_h5_read(p->file, array, shorts);
        for (int64_t i = 0; i < n && status == BN_OK; i++)
            data[i] = e->encoding == BN_ENC_FLOAT16 ? bn_f16_to_f32(shorts[i])
                                                    : bn_bf16_to_f32(shorts[i]);
        free(shorts);
        BN_TRY(status);
    }
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(data[i]))
            return bn_error(BN_BAD_DATA, "%s: %s: element %lld: expected finite, found %g",
                            bn_h5_path(p->file), e->name, (long long)i, (double)data[i]);
    return BN_OK;
}
