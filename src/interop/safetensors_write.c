/* The writing half of safetensors.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/shortfloat.h"
#include "interop/safetensors.h"

struct bn_st_writer {
    char *path, *temp;
    bn_file *file;
    uint64_t expected; /* bytes of the whole file */
};

/* The bytes of a tensor. */
static bn_status spec_bytes(const bn_st_spec *spec, int64_t *bytes)
{
    *bytes = bn_st_dtype_size(spec->dtype);
    for (int d = 0; d < spec->ndim; d++)
        if (spec->shape[d] < 0 || !bn_mul_i64(*bytes, spec->shape[d], bytes))
            return bn_error(BN_FAIL, "%s: a shape that no file can hold", spec->name);
    return BN_OK;
}

static bn_status add_spec(bn_json *json, const bn_st_spec *spec, int64_t *at)
{
    int64_t bytes;
    BN_TRY(spec_bytes(spec, &bytes));
    bn_json_object(json, spec->name);
    bn_json_string(json, "dtype", bn_st_dtype_name(spec->dtype));
    bn_json_array(json, "shape");
    for (int d = 0; d < spec->ndim; d++)
        bn_json_int(json, NULL, spec->shape[d]);
    bn_json_array_end(json);
    bn_json_array(json, "data_offsets");
    bn_json_int(json, NULL, *at);
    if (!bn_add_i64(*at, bytes, at))
        return bn_error(BN_FAIL, "%s: the data is larger than 2^63 bytes", spec->name);
    bn_json_int(json, NULL, *at);
    bn_json_array_end(json);
    bn_json_object_end(json);
    return BN_OK;
}

/* Header text, padded with blanks so that the data starts at a multiple of 8. */
static bn_status make_header(const bn_st_spec *specs, int count, const char *format,
                             bn_text *header, int64_t *data_bytes)
{
    bn_json json = {0};
    bn_status status = BN_OK;
    char *text = NULL;
    *data_bytes = 0;
    bn_json_object(&json, NULL);
    bn_json_object(&json, "__metadata__");
    bn_json_string(&json, "format", format);
    bn_json_object_end(&json);
    for (int i = 0; i < count; i++)
        BN_TRY_OUT(add_spec(&json, &specs[i], data_bytes));
    bn_json_object_end(&json);
    BN_TRY_OUT(bn_json_take(&json, &text));
    bn_text_addf(header, "%s%*s", text, (int)(bn_align_up(strlen(text), 8) - strlen(text)), "");
    free(text);
out:
    bn_json_clear(&json);
    return status;
}

static bn_status write_header(bn_st_writer *w, const bn_st_spec *specs, int count,
                              const char *format)
{
    bn_text header = {0};
    char *text = NULL;
    int64_t data_bytes;
    unsigned char length[8];
    bn_status status = make_header(specs, count, format, &header, &data_bytes);
    const size_t size = header.size;
    if (status != BN_OK) {
        bn_text_clear(&header);
        return status;
    }
    BN_TRY_OUT(bn_text_take(&header, &text));
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)size >> (8 * i));
    w->expected = 8 + size + (uint64_t)data_bytes;
    BN_TRY_OUT(bn_file_write(w->file, length, sizeof length));
    BN_TRY_OUT(bn_file_write(w->file, text, size));
out:
    free(text);
    return status;
}

bn_status bn_st_create(const char *path, const bn_st_spec *specs, int count, const char *format,
                       bn_st_writer **out)
{
    bn_status status = BN_FAIL;
    *out = NULL;
    bn_st_writer *w = calloc(1, sizeof *w);
    if (!w)
        return bn_error_nomem(path, sizeof *w);
    if (!(w->path = bn_strdup(path)) || !(w->temp = bn_format("%s.tmp", path)))
        goto out;
    BN_TRY_OUT(bn_file_create(w->temp, &w->file));
    BN_TRY_OUT(write_header(w, specs, count, format));
    *out = w;
    return BN_OK;
out:
    bn_st_abort(w);
    return status;
}

bn_status bn_st_write(bn_st_writer *w, const void *data, size_t bytes)
{
    if (bn_file_size(w->file) + bytes > w->expected)
        return bn_error(BN_FAIL, "%s: more data than its header describes", w->path);
    return bn_file_write(w->file, data, bytes);
}

bn_status bn_st_write_f32(bn_st_writer *w, bn_st_dtype dtype, const float *values, int64_t count)
{
    enum { CHUNK = 1 << 15 };
    bn_status status = BN_OK;
    if (dtype == BN_ST_F32)
        return bn_st_write(w, values, (size_t)count * sizeof *values);
    uint16_t *shorts = malloc(CHUNK * sizeof *shorts);
    if (!shorts)
        return bn_error_nomem(w->path, CHUNK * sizeof *shorts);
    for (int64_t at = 0; at < count && status == BN_OK; at += CHUNK) {
        const int64_t n = count - at < CHUNK ? count - at : CHUNK;
        for (int64_t i = 0; i < n && status == BN_OK; i++) {
            const float value = values[at + i];
            shorts[i] = dtype == BN_ST_F16 ? bn_f32_to_f16(value) : bn_f32_to_bf16(value);
            if (!isfinite(dtype == BN_ST_F16 ? bn_f16_to_f32(shorts[i])
                                             : bn_bf16_to_f32(shorts[i])))
                status =
                    bn_error(BN_FAIL, "%s: element %lld of a tensor is %g, which %s cannot hold",
                             w->path, (long long)(at + i), (double)value, bn_st_dtype_name(dtype));
        }
        if (status == BN_OK)
            status = bn_st_write(w, shorts, (size_t)n * sizeof *shorts);
    }
    free(shorts);
    return status;
}

bn_status bn_st_commit(bn_st_writer *w)
{
    bn_status status = BN_OK;
    if (bn_file_size(w->file) != w->expected)
        status =
            bn_error(BN_FAIL, "%s: %llu bytes written, its header describes %llu", w->path,
                     (unsigned long long)bn_file_size(w->file), (unsigned long long)w->expected);
    if (status == BN_OK) {
        status = bn_file_close(w->file);
        w->file = NULL;
    }
    if (status == BN_OK)
        status = bn_fs_commit(w->temp, w->path);
    if (status == BN_OK) { /* the name is given: nothing to remove */
        free(w->temp);
        w->temp = NULL;
    }
    bn_st_abort(w);
    return status;
}

void bn_st_abort(bn_st_writer *w)
{
    if (!w)
        return;
    if (w->file && bn_file_close(w->file) != BN_OK)
        bn_error_in(BN_IO, w->path);
    if (w->temp)
        unlink(w->temp); /* not bn_fs_remove(): the message stays */
    free(w->temp);
    free(w->path);
    free(w);
}
