/* The reading half of gguf.h: the header, front to back, nothing used before it
 * is checked. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "data/splitter.h"
#include "interop/gguf_impl.h"

static const struct {
    const char *name;
    int size; /* bytes; 0: has its own rule */
} kinds[BN_GGUF_KINDS] = {
    [BN_GGUF_U8] = {"uint8", 1},        [BN_GGUF_I8] = {"int8", 1},
    [BN_GGUF_U16] = {"uint16", 2},      [BN_GGUF_I16] = {"int16", 2},
    [BN_GGUF_U32] = {"uint32", 4},      [BN_GGUF_I32] = {"int32", 4},
    [BN_GGUF_FLOAT32] = {"float32", 4}, [BN_GGUF_BOOL] = {"bool", 1},
    [BN_GGUF_STRING] = {"string", 0},   [BN_GGUF_ARRAY] = {"array", 0},
    [BN_GGUF_U64] = {"uint64", 8},      [BN_GGUF_I64] = {"int64", 8},
    [BN_GGUF_FLOAT64] = {"float64", 8},
};

/* Bytes that a key or a tensor takes at least: an empty name and the smallest
 * value, a name and one dimension. */
enum { MIN_KEY = 8 + 4 + 1, MIN_TENSOR = 8 + 4 + 8 + 4 + 8, MAX_KEY = 65535, MOST = 1 << 20 };

const char *bn_gguf_kind_name(bn_gguf_kind kind)
{
    return kinds[kind].name;
}

/* ---- the bytes ahead ---- */

typedef struct cursor {
    const char *path;
    const unsigned char *start, *at, *end;
} cursor;

static size_t left(const cursor *c)
{
    return (size_t)(c->end - c->at);
}

static bn_status cut(const cursor *c, const char *what)
{
    return bn_error(BN_BAD_DATA, "%s: the file ends within %s, at byte %zu", c->path, what,
                    (size_t)(c->end - c->start));
}

static bn_status take_int(cursor *c, int bytes, const char *what, uint64_t *out)
{
    *out = 0;
    if (left(c) < (size_t)bytes)
        return cut(c, what);
    *out = bn_gguf_bits(c->at, bytes);
    c->at += bytes;
    return BN_OK;
}

/* A string, which stays where it is. */
static bn_status take_string(cursor *c, const char *what, const char **text, uint64_t *bytes)
{
    BN_TRY(take_int(c, 8, what, bytes));
    if (*bytes > left(c))
        return bn_error(BN_BAD_DATA, "%s: %s: a string of %llu bytes, %zu are left", c->path, what,
                        (unsigned long long)*bytes, left(c));
    if (bn_utf8_valid(c->at, (size_t)*bytes) != *bytes)
        return bn_error(BN_BAD_DATA, "%s: %s: a string that is not UTF-8", c->path, what);
    *text = (const char *)c->at;
    c->at += *bytes;
    return BN_OK;
}

/* A name, copied: not empty, at most `most` bytes, no NUL in it. */
static bn_status take_name(cursor *c, const char *what, uint64_t most, char **out)
{
    const char *text = NULL;
    uint64_t bytes;
    BN_TRY(take_string(c, what, &text, &bytes));
    if (bytes == 0 || bytes > most || memchr(text, '\0', (size_t)bytes))
        return bn_error(BN_BAD_DATA, "%s: %s: a name of %llu bytes, expected 1 to %llu without NUL",
                        c->path, what, (unsigned long long)bytes, (unsigned long long)most);
    if (!(*out = malloc((size_t)bytes + 1)))
        return bn_error_nomem(what, bytes);
    memcpy(*out, text, (size_t)bytes);
    (*out)[bytes] = '\0';
    return BN_OK;
}

/* ---- keys ---- */

static bn_status take_kind(cursor *c, const char *key, bn_gguf_kind *out)
{
    uint64_t kind;
    BN_TRY(take_int(c, 4, key, &kind));
    if (kind >= BN_GGUF_KINDS)
        return bn_error(BN_BAD_DATA, "%s: %.200s: unknown type %llu of a value", c->path, key,
                        (unsigned long long)kind);
    *out = (bn_gguf_kind)kind;
    return BN_OK;
}

static bn_status skip_strings(cursor *c, const bn_gguf_value *v)
{
    const char *text;
    uint64_t bytes;
    if (v->count > left(c) / 8)
        return bn_error(BN_BAD_DATA, "%s: %.200s: %llu strings in the %zu bytes that are left",
                        c->path, v->key, (unsigned long long)v->count, left(c));
    for (uint64_t i = 0; i < v->count; i++)
        BN_TRY(take_string(c, v->key, &text, &bytes));
    return BN_OK;
}

static bn_status skip_numbers(cursor *c, const bn_gguf_value *v)
{
    const size_t size = (size_t)kinds[v->kind].size;
    if (v->count > left(c) / size)
        return v->is_array ? bn_error(BN_BAD_DATA,
                                      "%s: %.200s: %llu items of %zu bytes, %zu bytes are left",
                                      c->path, v->key, (unsigned long long)v->count, size, left(c))
                           : cut(c, v->key);
    for (uint64_t i = 0; i < v->count && v->kind == BN_GGUF_BOOL; i++)
        if (c->at[i] > 1)
            return bn_error(BN_BAD_DATA, "%s: %.200s: a bool is %d, expected 0 or 1", c->path,
                            v->key, c->at[i]);
    c->at += (size_t)v->count * size;
    return BN_OK;
}

static bn_status take_value(cursor *c, bn_gguf_value *v)
{
    char *key = NULL;
    BN_TRY(take_name(c, "a key", MAX_KEY, &key));
    v->key = key;
    v->count = 1;
    BN_TRY(take_kind(c, key, &v->kind));
    if (v->kind == BN_GGUF_ARRAY) {
        v->is_array = true;
        BN_TRY(take_kind(c, key, &v->kind));
        BN_TRY(take_int(c, 8, key, &v->count));
        if (v->kind == BN_GGUF_ARRAY)
            return bn_error(BN_BAD_DATA, "%s: %.200s: an array of arrays is not supported", c->path,
                            key);
    }
    v->data = c->at;
    return v->kind == BN_GGUF_STRING ? skip_strings(c, v) : skip_numbers(c, v);
}

/* ---- tensors ---- */

static bn_status take_shape(cursor *c, bn_gguf_tensor *t)
{
    uint64_t ndim, dim;
    BN_TRY(take_int(c, 4, t->name, &ndim));
    if (ndim < 1 || ndim > BN_GGUF_MAX_DIMS)
        return bn_error(BN_BAD_DATA, "%s: %s: rank %llu, expected 1 to %d", c->path, t->name,
                        (unsigned long long)ndim, BN_GGUF_MAX_DIMS);
    t->ndim = (int)ndim;
    t->count = 1;
    for (int d = t->ndim - 1; d >= 0; d--) {
        BN_TRY(take_int(c, 8, t->name, &dim));
        t->shape[d] = (int64_t)dim;
        if (dim < 1 || dim > INT64_MAX || !bn_mul_i64(t->count, t->shape[d], &t->count))
            return bn_error(BN_BAD_DATA,
                            "%s: %s: dimension %llu, expected at least 1 and fewer than 2^63 "
                            "elements",
                            c->path, t->name, (unsigned long long)dim);
    }
    return BN_OK;
}

static bn_status take_type(cursor *c, bn_gguf_tensor *t)
{
    uint64_t number;
    int64_t bytes;
    BN_TRY(take_int(c, 4, t->name, &number));
    t->type = (bn_gguf_type)number;
    if (number > INT32_MAX || !bn_gguf_type_name(t->type))
        return bn_error(BN_BAD_DATA, "%s: %s: unknown type %llu", c->path, t->name,
                        (unsigned long long)number);
    const int length = bn_gguf_block_length(t->type);
    if (t->shape[t->ndim - 1] % length != 0)
        return bn_error(BN_BAD_DATA, "%s: %s: rows of %lld elements, %s needs a multiple of %d",
                        c->path, t->name, (long long)t->shape[t->ndim - 1],
                        bn_gguf_type_name(t->type), length);
    if (!bn_mul_i64(t->count / length, bn_gguf_block_bytes(t->type), &bytes))
        return bn_error(BN_BAD_DATA, "%s: %s: more than 2^63 bytes", c->path, t->name);
    t->bytes = (uint64_t)bytes;
    return BN_OK;
}

static bn_status take_tensor(cursor *c, bn_gguf_tensor *t, uint64_t *offset)
{
    char *name = NULL;
    BN_TRY(take_name(c, "a tensor's name", BN_GGUF_MAX_NAME, &name));
    t->name = name;
    BN_TRY(take_shape(c, t));
    BN_TRY(take_type(c, t));
    return take_int(c, 8, name, offset);
}

/* ---- the whole ---- */

static bn_status read_counts(bn_gguf *file, cursor *c, uint64_t *tensors, uint64_t *values)
{
    uint64_t version;
    if (left(c) < 4 || memcmp(c->at, "GGUF", 4) != 0)
        return bn_error(BN_BAD_DATA, "%s: does not begin with \"GGUF\"", c->path);
    c->at += 4;
    BN_TRY(take_int(c, 4, "the version", &version));
    if (version != 2 && version != 3)
        return bn_error(BN_BAD_DATA, "%s: GGUF version %llu, expected 2 or 3, little-endian",
                        c->path, (unsigned long long)version);
    file->version = (uint32_t)version;
    BN_TRY(take_int(c, 8, "the number of tensors", tensors));
    BN_TRY(take_int(c, 8, "the number of keys", values));
    if (*values > left(c) / MIN_KEY || *tensors > left(c) / MIN_TENSOR)
        return bn_error(BN_BAD_DATA, "%s: %llu keys and %llu tensors in a file of %zu bytes",
                        c->path, (unsigned long long)*values, (unsigned long long)*tensors,
                        file->map.size);
    if (*values > MOST || *tensors > MOST)
        return bn_error(BN_BAD_DATA,
                        "%s: expected at most %d keys and tensors, found %llu and %llu", c->path,
                        MOST, (unsigned long long)*values, (unsigned long long)*tensors);
    file->values = calloc((size_t)*values + 1, sizeof *file->values);
    file->tensors = calloc((size_t)*tensors + 1, sizeof *file->tensors);
    if (!file->values || !file->tensors)
        return bn_error_nomem(c->path, *values * sizeof *file->values);
    return BN_OK;
}

static bn_status read_alignment(bn_gguf *file)
{
    const bn_gguf_value *v = bn_gguf_value_find(file, "general.alignment");
    file->alignment = BN_GGUF_ALIGN;
    if (!v)
        return BN_OK;
    const double number = v->kind == BN_GGUF_U32 && !v->is_array ? bn_gguf_number(v, 0) : 0;
    file->alignment = (uint32_t)number;
    if (file->alignment == 0 || (file->alignment & (file->alignment - 1)) != 0)
        return bn_error(BN_BAD_DATA,
                        "%s: general.alignment: expected a uint32 that is a power of two, found %s "
                        "%u",
                        file->path, bn_gguf_kind_name(v->kind), file->alignment);
    return BN_OK;
}

/* Where a tensor's data is: aligned and within the file. */
static bn_status place(const bn_gguf *file, size_t start, uint64_t offset, bn_gguf_tensor *t)
{
    const size_t size = file->map.size > start ? file->map.size - start : 0;
    if (offset % file->alignment != 0)
        return bn_error(BN_BAD_DATA, "%s: %s: offset %llu is no multiple of %u", file->path,
                        t->name, (unsigned long long)offset, file->alignment);
    if (offset > size || t->bytes > size - offset)
        return bn_error(BN_BAD_DATA, "%s: %s: %llu bytes at offset %llu, the data has %zu",
                        file->path, t->name, (unsigned long long)t->bytes,
                        (unsigned long long)offset, size);
    t->data = file->map.data + start + offset;
    return BN_OK;
}

static int by_place(const void *a, const void *b)
{
    const bn_gguf_tensor *x = a, *y = b;
    return (x->data > y->data) - (x->data < y->data);
}

static bn_status read_tensors(bn_gguf *file, cursor *c, uint64_t count)
{
    bn_status status = BN_OK;
    uint64_t *offsets = calloc((size_t)count + 1, sizeof *offsets);
    if (!offsets)
        return bn_error_nomem(c->path, count * sizeof *offsets);
    for (uint64_t i = 0; i < count; i++) {
        file->tensor_count = (int)i + 1;
        BN_TRY_OUT(take_tensor(c, &file->tensors[i], &offsets[i]));
    }
    const size_t start = bn_align_up((size_t)(c->at - c->start), file->alignment);
    for (uint64_t i = 0; i < count; i++)
        BN_TRY_OUT(place(file, start, offsets[i], &file->tensors[i]));
    if (count > 0)
        qsort(file->tensors, (size_t)count, sizeof *file->tensors, by_place);
    for (uint64_t i = 1; i < count && status == BN_OK; i++) {
        const bn_gguf_tensor *before = &file->tensors[i - 1];
        if (before->data + before->bytes > file->tensors[i].data)
            status = bn_error(BN_BAD_DATA, "%s: the data of %s and %s overlaps", c->path,
                              before->name, file->tensors[i].name);
    }
out:
    free(offsets);
    return status;
}

bn_status bn_gguf_read(bn_gguf *file)
{
    cursor c = {file->path, file->map.data, file->map.data, file->map.data + file->map.size};
    uint64_t tensors = 0, values = 0;
    BN_TRY(read_counts(file, &c, &tensors, &values));
    for (uint64_t i = 0; i < values; i++) {
        file->value_count = (int)i + 1;
        BN_TRY(take_value(&c, &file->values[i]));
    }
    BN_TRY(bn_gguf_sort_values(file));
    BN_TRY(read_alignment(file));
    BN_TRY(read_tensors(file, &c, tensors));
    return bn_gguf_sort_tensors(file);
}
