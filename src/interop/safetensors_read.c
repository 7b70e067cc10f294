/* The reading half of safetensors.h: one file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/shortfloat.h"
#include "interop/safetensors_impl.h"

static const struct {
    const char *name;
    int size;
} dtypes[BN_ST_DTYPE_COUNT] = {
    [BN_ST_F32] = {"F32", 4},   [BN_ST_F16] = {"F16", 2}, [BN_ST_BF16] = {"BF16", 2},
    [BN_ST_U8] = {"U8", 1},     [BN_ST_I8] = {"I8", 1},   [BN_ST_F64] = {"F64", 8},
    [BN_ST_I64] = {"I64", 8},   [BN_ST_I32] = {"I32", 4}, [BN_ST_I16] = {"I16", 2},
    [BN_ST_BOOL] = {"BOOL", 1},
};

const char *bn_st_dtype_name(bn_st_dtype dtype)
{
    return dtypes[dtype].name;
}

int bn_st_dtype_size(bn_st_dtype dtype)
{
    return dtypes[dtype].size;
}

/* Length of the UTF-8 character at s[0..n-1], 0 if it is none (RFC 3629). */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80)
        return 1;
    const size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n < length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    const bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    const bool beyond = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || beyond ? 0 : length;
}

static bn_status check_utf8(const char *path, const unsigned char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        const size_t length = utf8_length(text + i, size - i);
        if (length == 0)
            return bn_error(BN_BAD_DATA, "%s: header: byte %zu is not UTF-8", path, i);
        i += length;
    }
    return BN_OK;
}

/* The header's text within the map. */
static bn_status find_header(const bn_st_file *file, const char **text, size_t *size)
{
    uint64_t length = 0;
    if (file->map.size < 8)
        return bn_error(BN_BAD_DATA, "%s: %zu bytes, a safetensors file has at least 8", file->path,
                        file->map.size);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | file->map.data[i];
    if (length > BN_ST_MAX_HEADER || length > file->map.size - 8)
        return bn_error(BN_BAD_DATA,
                        "%s: header of %llu bytes, expected at most %d in a file of %zu",
                        file->path, (unsigned long long)length, BN_ST_MAX_HEADER, file->map.size);
    *text = (const char *)file->map.data + 8;
    *size = (size_t)length;
    if (length == 0 || **text != '{')
        return bn_error(BN_BAD_DATA, "%s: the header does not start with '{'", file->path);
    if (memmem(*text, *size, "\\u0000", 6)) /* would end the name early */
        return bn_error(BN_BAD_DATA, "%s: header: a string with a NUL character", file->path);
    return check_utf8(file->path, file->map.data + 8, *size);
}

/* An integer from 0 to 2^53. */
static bool whole_number(const cJSON *item, int64_t *out)
{
    const double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0 && value <= 0x1p53) || floor(value) < value)
        return false;
    *out = (int64_t)value;
    return true;
}

static bn_status bad(const bn_st_tensor *t, const char *what)
{
    return bn_error(BN_BAD_DATA, "%s: %.200s: %s", t->path, t->name, what);
}

static bn_status read_dtype(const cJSON *object, bn_st_tensor *t)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, "dtype");
    if (!cJSON_IsString(item))
        return bad(t, "dtype is not a string");
    for (int i = 0; i < BN_ST_DTYPE_COUNT; i++)
        if (strcmp(dtypes[i].name, item->valuestring) == 0) {
            t->dtype = (bn_st_dtype)i;
            return BN_OK;
        }
    return bn_error(BN_BAD_DATA, "%s: %.200s: unknown dtype '%.32s'", t->path, t->name,
                    item->valuestring);
}

static bn_status read_shape(const cJSON *object, bn_st_tensor *t)
{
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(object, "shape"), *dim;
    if (!cJSON_IsArray(shape))
        return bad(t, "shape is not a list");
    t->count = 1;
    cJSON_ArrayForEach(dim, shape)
    {
        if (t->ndim == BN_ST_MAX_DIMS)
            return bad(t, "more than 8 dimensions");
        if (!whole_number(dim, &t->shape[t->ndim]))
            return bad(t, "a dimension is not a whole number from 0 to 2^53");
        if (!bn_mul_i64(t->count, t->shape[t->ndim], &t->count))
            return bad(t, "the shape has more elements than 2^63");
        t->ndim++;
    }
    return BN_OK;
}

/* Places the tensor in the `size` bytes of data. */
static bn_status read_offsets(const cJSON *object, const unsigned char *data, size_t size,
                              bn_st_tensor *t)
{
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(object, "data_offsets");
    int64_t begin, end, bytes;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !whole_number(offsets->child, &begin) || !whole_number(offsets->child->next, &end))
        return bad(t, "data_offsets is not a pair of whole numbers");
    if (begin > end || (uint64_t)end > size)
        return bn_error(BN_BAD_DATA,
                        "%s: %.200s: data_offsets [%lld, %lld], expected a range within %zu bytes",
                        t->path, t->name, (long long)begin, (long long)end, size);
    if (!bn_mul_i64(t->count, dtypes[t->dtype].size, &bytes) || bytes != end - begin)
        return bn_error(BN_BAD_DATA, "%s: %.200s: %lld bytes of data, expected %lld elements of %s",
                        t->path, t->name, (long long)(end - begin), (long long)t->count,
                        dtypes[t->dtype].name);
    t->data = data + begin;
    return BN_OK;
}

static bn_status read_tensor(const cJSON *object, const unsigned char *data, size_t size,
                             bn_st_tensor *t)
{
    if (!t->name[0])
        return bn_error(BN_BAD_DATA, "%s: a tensor without a name", t->path);
    if (!cJSON_IsObject(object) || cJSON_GetArraySize(object) != 3)
        return bad(t, "expected an object with dtype, shape and data_offsets alone");
    BN_TRY(read_dtype(object, t));
    BN_TRY(read_shape(object, t));
    return read_offsets(object, data, size, t);
}

static bn_status check_metadata(const char *path, const cJSON *metadata)
{
    const cJSON *item;
    bool ok = cJSON_IsObject(metadata);
    cJSON_ArrayForEach(item, metadata) ok = ok && cJSON_IsString(item);
    return ok ? BN_OK : bn_error(BN_BAD_DATA, "%s: __metadata__ is not a map of strings", path);
}

static int by_place(const void *a, const void *b)
{
    const bn_st_tensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return x->count < y->count ? -1 : x->count > y->count;
}

/* The tensors follow each other from the first byte to the last. */
static bn_status check_cover(const bn_st_file *file, bn_st_tensor *tensors, int count,
                             const unsigned char *data, size_t size)
{
    const unsigned char *at = data;
    if (count > 0)
        qsort(tensors, (size_t)count, sizeof *tensors, by_place);
    for (int i = 0; i < count; i++) {
        if (tensors[i].data != at)
            return bn_error(BN_BAD_DATA,
                            "%s: %.200s starts at byte %lld of the data, expected %lld", file->path,
                            tensors[i].name, (long long)(tensors[i].data - data),
                            (long long)(at - data));
        at += tensors[i].count * dtypes[tensors[i].dtype].size;
    }
    if (at != data + size)
        return bn_error(BN_BAD_DATA, "%s: %zu bytes of data, the header describes %lld", file->path,
                        size, (long long)(at - data));
    return BN_OK;
}

/* Room for `more` tensors, at least 1, behind those that are there. */
static bn_status reserve(bn_st_reader *reader, int more)
{
    const int capacity = reader->count + more;
    void *grown = realloc(reader->tensors, (size_t)capacity * sizeof *reader->tensors);
    if (!grown)
        return bn_error_nomem("the list of tensors", (size_t)capacity * sizeof *reader->tensors);
    reader->tensors = grown;
    return BN_OK;
}

bn_status bn_st_add_file(bn_st_reader *reader, const char *path)
{
    bn_st_file *file = &reader->files[reader->file_count++];
    const char *text = NULL;
    size_t length = 0;
    const cJSON *item;
    if (!(file->path = bn_strdup(path)))
        return BN_FAIL;
    BN_TRY(bn_map_open(path, &file->map));
    BN_TRY(find_header(file, &text, &length));
    BN_TRY(bn_json_parse(path, text, length, &file->header));
    const unsigned char *data = file->map.data + 8 + length;
    const size_t size = file->map.size - 8 - length;
    const int first = reader->count;
    BN_TRY(reserve(reader, cJSON_GetArraySize(file->header) + 1)); /* never none */
    cJSON_ArrayForEach(item, file->header)
    {
        if (strcmp(item->string, "__metadata__") == 0) {
            BN_TRY(check_metadata(path, item));
            continue;
        }
        bn_st_tensor *t = &reader->tensors[reader->count++];
        *t = (bn_st_tensor){.name = item->string, .path = file->path};
        BN_TRY(read_tensor(item, data, size, t));
    }
    return check_cover(file, reader->tensors + first, reader->count - first, data, size);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const bn_st_tensor *)a)->name, ((const bn_st_tensor *)b)->name);
}

bn_status bn_st_finish(bn_st_reader *reader)
{
    if (reader->count > 0)
        qsort(reader->tensors, (size_t)reader->count, sizeof *reader->tensors, by_name);
    for (int i = 1; i < reader->count; i++)
        if (by_name(&reader->tensors[i - 1], &reader->tensors[i]) == 0)
            return bn_error(BN_BAD_DATA, "%s: %.200s is in %s too", reader->tensors[i].path,
                            reader->tensors[i].name, reader->tensors[i - 1].path);
    return BN_OK;
}

bn_status bn_st_open(const char *path, bn_st_reader **out)
{
    *out = NULL;
    bn_st_reader *reader = calloc(1, sizeof *reader);
    if (reader)
        reader->files = calloc(1, sizeof *reader->files);
    if (!reader || !reader->files) {
        bn_st_close(reader);
        return bn_error_nomem(path, sizeof *reader);
    }
    bn_status status = bn_st_add_file(reader, path);
    if (status == BN_OK)
        status = bn_st_finish(reader);
    if (status != BN_OK)
        bn_st_close(reader);
    else
        *out = reader;
    return status;
}

void bn_st_close(bn_st_reader *reader)
{
    if (!reader)
        return;
    for (int i = 0; i < reader->file_count; i++) {
        cJSON_Delete(reader->files[i].header);
        bn_map_close(&reader->files[i].map);
        free(reader->files[i].path);
    }
    free(reader->files);
    free(reader->tensors);
    free(reader);
}

int bn_st_count(const bn_st_reader *reader)
{
    return reader->count;
}

const bn_st_tensor *bn_st_at(const bn_st_reader *reader, int i)
{
    return &reader->tensors[i];
}

const bn_st_tensor *bn_st_find(const bn_st_reader *reader, const char *name)
{
    const bn_st_tensor key = {.name = name};
    if (reader->count == 0)
        return NULL;
    return bsearch(&key, reader->tensors, (size_t)reader->count, sizeof key, by_name);
}

/* Element i; the data may lie at any address. */
static float element(const bn_st_tensor *t, int64_t i)
{
    const unsigned char *at = t->data + i * dtypes[t->dtype].size;
    uint16_t bits;
    float value;
    if (t->dtype == BN_ST_F32) {
        memcpy(&value, at, sizeof value);
        return value;
    }
    memcpy(&bits, at, sizeof bits);
    return t->dtype == BN_ST_F16 ? bn_f16_to_f32(bits) : bn_bf16_to_f32(bits);
}

static bn_status not_finite(const bn_st_tensor *t, int64_t i)
{
    return bn_error(BN_BAD_DATA, "%s: %s: element %lld: expected finite, found %g", t->path,
                    t->name, (long long)i, (double)element(t, i));
}

bn_status bn_st_read_f32(const bn_st_tensor *t, float *out)
{
    if (t->dtype != BN_ST_F32 && t->dtype != BN_ST_F16 && t->dtype != BN_ST_BF16)
        return bn_error(BN_BAD_DATA, "%s: %s: expected F32, F16 or BF16, found %s", t->path,
                        t->name, dtypes[t->dtype].name);
    for (int64_t i = 0; i < t->count; i++) {
        out[i] = element(t, i);
        if (!isfinite(out[i]))
            return not_finite(t, i);
    }
    return BN_OK;
}

bn_status bn_st_check_short(const bn_st_tensor *t)
{
    const int exponent = t->dtype == BN_ST_F16 ? BN_F16_EXPONENT : BN_BF16_EXPONENT;
    const int64_t bad = bn_shorts_not_finite(t->data, t->count, exponent);
    return bad < 0 ? BN_OK : not_finite(t, bad);
}
