/* The writing half of gguf.h. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fs.h"
#include "interop/gguf.h"

struct bn_gguf_writer {
    char *path;
    bn_file *file;
    const bn_gguf_spec *specs;
    int count, next;
};

static void add_int(bn_text *text, uint64_t value, int bytes)
{
    unsigned char data[8];
    for (int i = 0; i < bytes; i++)
        data[i] = (unsigned char)(value >> 8 * i);
    bn_text_add_bytes(text, data, (size_t)bytes);
}

static void add_string(bn_text *text, const char *string, size_t bytes)
{
    add_int(text, bytes, 8);
    bn_text_add_bytes(text, string, bytes);
}

/* ---- keys ---- */

static void add_key(bn_gguf_meta *meta, const char *key, bn_gguf_kind kind)
{
    add_string(&meta->bytes, key, strlen(key));
    add_int(&meta->bytes, kind, 4);
    meta->count++;
}

void bn_gguf_meta_u32(bn_gguf_meta *meta, const char *key, uint32_t value)
{
    add_key(meta, key, BN_GGUF_U32);
    add_int(&meta->bytes, value, 4);
}

void bn_gguf_meta_f32(bn_gguf_meta *meta, const char *key, float value)
{
    add_key(meta, key, BN_GGUF_FLOAT32);
    bn_gguf_item_f32(meta, value);
}

void bn_gguf_meta_bool(bn_gguf_meta *meta, const char *key, bool value)
{
    add_key(meta, key, BN_GGUF_BOOL);
    add_int(&meta->bytes, value, 1);
}

void bn_gguf_meta_string(bn_gguf_meta *meta, const char *key, const char *value)
{
    add_key(meta, key, BN_GGUF_STRING);
    add_string(&meta->bytes, value, strlen(value));
}

void bn_gguf_meta_array(bn_gguf_meta *meta, const char *key, bn_gguf_kind kind, uint64_t count)
{
    add_key(meta, key, BN_GGUF_ARRAY);
    add_int(&meta->bytes, kind, 4);
    add_int(&meta->bytes, count, 8);
}

void bn_gguf_item_string(bn_gguf_meta *meta, const char *value, size_t bytes)
{
    add_string(&meta->bytes, value, bytes);
}

void bn_gguf_item_i32(bn_gguf_meta *meta, int32_t value)
{
    add_int(&meta->bytes, (uint32_t)value, 4);
}

void bn_gguf_item_f32(bn_gguf_meta *meta, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    add_int(&meta->bytes, bits, 4);
}

void bn_gguf_meta_clear(bn_gguf_meta *meta)
{
    bn_text_clear(&meta->bytes);
    *meta = (bn_gguf_meta){0};
}

/* ---- the file ---- */

static bn_status spec_bytes(const bn_gguf_spec *spec, int64_t *bytes)
{
    const int length = bn_gguf_block_length(spec->type);
    const int64_t row = spec->ndim > 0 ? spec->shape[spec->ndim - 1] : 0;
    if (strlen(spec->name) >= BN_GGUF_MAX_NAME)
        return bn_error(BN_FAIL, "tensor name %.100s: expected fewer than %d bytes", spec->name,
                        BN_GGUF_MAX_NAME);
    if (row < 1 || row % length != 0)
        return bn_error(BN_FAIL, "%s: rows of %lld elements, %s needs a multiple of %d", spec->name,
                        (long long)row, bn_gguf_type_name(spec->type), length);
    *bytes = bn_gguf_block_bytes(spec->type);
    for (int d = 0; d < spec->ndim; d++) {
        const int64_t n = d == spec->ndim - 1 ? row / length : spec->shape[d];
        if (n < 1 || !bn_mul_i64(*bytes, n, bytes) || *bytes > INT64_MAX / 2)
            return bn_error(BN_FAIL, "%s: a shape that no file can hold", spec->name);
    }
    return BN_OK;
}

static bn_status add_spec(bn_text *header, const bn_gguf_spec *spec, uint64_t *offset)
{
    int64_t bytes;
    BN_TRY(spec_bytes(spec, &bytes));
    add_string(header, spec->name, strlen(spec->name));
    add_int(header, (uint64_t)spec->ndim, 4);
    for (int d = spec->ndim - 1; d >= 0; d--)
        add_int(header, (uint64_t)spec->shape[d], 8);
    add_int(header, spec->type, 4);
    add_int(header, *offset, 8);
    *offset += bn_align_up((size_t)bytes, BN_GGUF_ALIGN);
    return BN_OK;
}

static bn_status pad(bn_gguf_writer *w)
{
    static const unsigned char zeros[BN_GGUF_ALIGN];
    const size_t size = (size_t)bn_file_size(w->file);
    return bn_file_write(w->file, zeros, bn_align_up(size, BN_GGUF_ALIGN) - size);
}

static bn_status write_header(bn_gguf_writer *w, const bn_gguf_meta *meta)
{
    bn_text header = {0};
    bn_status status = BN_OK;
    uint64_t offset = 0;
    bn_text_add(&header, "GGUF");
    add_int(&header, 3, 4);
    add_int(&header, (uint64_t)w->count, 8);
    add_int(&header, meta->count, 8);
    bn_text_add_bytes(&header, meta->bytes.data, meta->bytes.size);
    for (int i = 0; i < w->count && status == BN_OK; i++)
        status = add_spec(&header, &w->specs[i], &offset);
    if (status == BN_OK && (header.failed || meta->bytes.failed))
        status = bn_error_nomem("the header", header.size + meta->bytes.size);
    if (status == BN_OK)
        status = bn_file_write(w->file, header.data, header.size);
    bn_text_clear(&header);
    return status == BN_OK ? pad(w) : status;
}

bn_status bn_gguf_create(const char *path, const bn_gguf_meta *meta, const bn_gguf_spec *specs,
                         int count, bn_gguf_writer **out)
{
    *out = NULL;
    bn_gguf_writer *w = calloc(1, sizeof *w);
    if (!w)
        return bn_error_nomem(path, sizeof *w);
    *w = (bn_gguf_writer){.specs = specs, .count = count};
    bn_status status = (w->path = bn_strdup(path)) ? bn_file_create(path, &w->file) : BN_FAIL;
    if (status == BN_OK)
        status = write_header(w, meta);
    if (status != BN_OK)
        return bn_gguf_finish(w, status);
    *out = w;
    return BN_OK;
}

bn_status bn_gguf_write(bn_gguf_writer *w, const void *data, size_t bytes)
{
    int64_t expected;
    if (w->next == w->count)
        return bn_error(BN_FAIL, "%s: more tensors than its header describes", w->path);
    BN_TRY(spec_bytes(&w->specs[w->next], &expected));
    if (bytes != (size_t)expected)
        return bn_error(BN_FAIL, "%s: %s: %zu bytes, the header describes %lld", w->path,
                        w->specs[w->next].name, bytes, (long long)expected);
    w->next++;
    BN_TRY(bn_file_write(w->file, data, bytes));
    return pad(w);
}

bn_status bn_gguf_finish(bn_gguf_writer *w, bn_status status)
{
    if (status == BN_OK && w->next != w->count)
        status = bn_error(BN_FAIL, "%s: %d tensors written, its header describes %d", w->path,
                          w->next, w->count);
    if (w->file && status == BN_OK) {
        status = bn_file_close(w->file);
    } else if (w->file) { /* the first message stays */
        char *message = bn_strdup(bn_error_text());
        if (bn_file_close(w->file) != BN_OK && message)
            bn_error(status, "%s", message);
        free(message);
    }
    free(w->path);
    free(w);
    return status;
}
