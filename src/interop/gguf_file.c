/* The reading half of gguf.h: an open file and what is asked of it. */
#include <stdlib.h>
#include <string.h>

#include "interop/gguf_impl.h"

static int by_key(const void *a, const void *b)
{
    return strcmp(((const bn_gguf_value *)a)->key, ((const bn_gguf_value *)b)->key);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const bn_gguf_tensor *)a)->name, ((const bn_gguf_tensor *)b)->name);
}

bn_status bn_gguf_sort_values(bn_gguf *file)
{
    if (file->value_count > 0)
        qsort(file->values, (size_t)file->value_count, sizeof *file->values, by_key);
    for (int i = 1; i < file->value_count; i++)
        if (by_key(&file->values[i - 1], &file->values[i]) == 0)
            return bn_error(BN_BAD_DATA, "%s: key %.200s is there twice", file->path,
                            file->values[i].key);
    return BN_OK;
}

bn_status bn_gguf_sort_tensors(bn_gguf *file)
{
    if (file->tensor_count > 0)
        qsort(file->tensors, (size_t)file->tensor_count, sizeof *file->tensors, by_name);
    for (int i = 1; i < file->tensor_count; i++)
        if (by_name(&file->tensors[i - 1], &file->tensors[i]) == 0)
            return bn_error(BN_BAD_DATA, "%s: tensor %s is there twice", file->path,
                            file->tensors[i].name);
    return BN_OK;
}

bn_status bn_gguf_open(const char *path, bn_gguf **out)
{
    *out = NULL;
    bn_gguf *file = calloc(1, sizeof *file);
    if (!file)
        return bn_error_nomem(path, sizeof *file);
    bn_status status = (file->path = bn_strdup(path)) ? bn_map_open(path, &file->map) : BN_FAIL;
    if (status == BN_OK)
        status = bn_gguf_read(file);
    if (status != BN_OK)
        bn_gguf_close(file);
    else
        *out = file;
    return status;
}

/* The names are const for everybody else. */
static void free_name(const char *name)
{
    union {
        const char *borrowed;
        char *owned;
    } u = {.borrowed = name};
    free(u.owned);
}

void bn_gguf_close(bn_gguf *file)
{
    if (!file)
        return;
    for (int i = 0; i < file->value_count; i++)
        free_name(file->values[i].key);
    for (int i = 0; i < file->tensor_count; i++)
        free_name(file->tensors[i].name);
    free(file->values);
    free(file->tensors);
    bn_map_close(&file->map);
    free(file->path);
    free(file);
}

bool bn_gguf_is(const char *path)
{
    bn_map map;
    if (bn_map_open(path, &map) != BN_OK) {
        bn_error_clear();
        return false;
    }
    const bool is = map.size >= 4 && memcmp(map.data, "GGUF", 4) == 0;
    bn_map_close(&map);
    return is;
}

const char *bn_gguf_path(const bn_gguf *file)
{
    return file->path;
}

uint32_t bn_gguf_version(const bn_gguf *file)
{
    return file->version;
}

uint32_t bn_gguf_alignment(const bn_gguf *file)
{
    return file->alignment;
}

int bn_gguf_value_count(const bn_gguf *file)
{
    return file->value_count;
}

const bn_gguf_value *bn_gguf_value_at(const bn_gguf *file, int i)
{
    return &file->values[i];
}

const bn_gguf_value *bn_gguf_value_find(const bn_gguf *file, const char *key)
{
    const bn_gguf_value wanted = {.key = key};
    if (file->value_count == 0)
        return NULL;
    return bsearch(&wanted, file->values, (size_t)file->value_count, sizeof wanted, by_key);
}

int bn_gguf_tensor_count(const bn_gguf *file)
{
    return file->tensor_count;
}

const bn_gguf_tensor *bn_gguf_tensor_at(const bn_gguf *file, int i)
{
    return &file->tensors[i];
}

const bn_gguf_tensor *bn_gguf_tensor_find(const bn_gguf *file, const char *name)
{
    const bn_gguf_tensor wanted = {.name = name};
    if (file->tensor_count == 0)
        return NULL;
    return bsearch(&wanted, file->tensors, (size_t)file->tensor_count, sizeof wanted, by_name);
}

bool bn_gguf_has_meta(const bn_gguf *file, const bn_gguf_meta *meta)
{
    const size_t head = 4 + 4 + 8 + 8; /* magic, version, numbers */
    return meta->count == (uint64_t)file->value_count &&
           meta->bytes.size <= file->map.size - head &&
           memcmp(file->map.data + head, meta->bytes.data, meta->bytes.size) == 0;
}

/* ---- items of a value ---- */

uint64_t bn_gguf_bits(const unsigned char *at, int bytes)
{
    uint64_t bits = 0;
    for (int i = bytes - 1; i >= 0; i--)
        bits = bits << 8 | at[i];
    return bits;
}

double bn_gguf_number(const bn_gguf_value *v, uint64_t i)
{
    float single;
    double number;
    uint64_t bits;
    uint32_t low;
    switch (v->kind) {
    case BN_GGUF_I8:
        return (int8_t)v->data[i];
    case BN_GGUF_U16:
        return (double)bn_gguf_bits(v->data + 2 * i, 2);
    case BN_GGUF_I16:
        return (int16_t)bn_gguf_bits(v->data + 2 * i, 2);
    case BN_GGUF_U32:
        return (double)bn_gguf_bits(v->data + 4 * i, 4);
    case BN_GGUF_I32:
        return (int32_t)bn_gguf_bits(v->data + 4 * i, 4);
    case BN_GGUF_U64:
        return (double)bn_gguf_bits(v->data + 8 * i, 8);
    case BN_GGUF_I64:
        return (double)(int64_t)bn_gguf_bits(v->data + 8 * i, 8);
    case BN_GGUF_FLOAT32:
        low = (uint32_t)bn_gguf_bits(v->data + 4 * i, 4);
        memcpy(&single, &low, sizeof single);
        return (double)single;
    case BN_GGUF_FLOAT64:
        bits = bn_gguf_bits(v->data + 8 * i, 8);
        memcpy(&number, &bits, sizeof number);
        return number;
    default: /* uint8 and bool */
        return v->data[i];
    }
}

const char *bn_gguf_next_string(const unsigned char **at, uint64_t *bytes)
{
    const char *text = (const char *)*at + 8;
    *bytes = bn_gguf_bits(*at, 8);
    *at += 8 + *bytes;
    return text;
}
