/* The writing half of packed.h; docs/packed-format.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/h5file.h"
#include "checkpoint/packed_impl.h"
#include "quant/pack.h"
#include "quant/quantize.h"

/* A caller's tensor must be one that a reader accepts. */
static bn_status codes_check(const bn_packed_tensor *t)
{
    bn_code_fault fault;
    if (t->ndim != 2 || !bn_group_size_ok(t->shape[1], t->group_size))
        return bn_error(BN_FAIL, "%s: %d dimensions and group size %lld cannot be packed", t->name,
                        t->ndim, (long long)t->group_size);
    const bn_grid grid = bn_encoding_grid(t->encoding);
    if (!bn_codes_check(grid, t->codes, t->shape[0], t->shape[1], &fault))
        return bn_error(BN_FAIL, "%s: row %lld, element %lld: %s %d is not a %s code", t->name,
                        (long long)fault.row, (long long)fault.index,
                        grid == BN_GRID_TERNARY ? "field" : "number", fault.value,
                        bn_grid_table[grid].name);
    const int64_t scales = bn_scale_count(t->shape[0], t->shape[1], t->group_size);
    for (int64_t i = 0; i < scales; i++)
        if (!(isfinite(t->data[i]) && t->data[i] > 0))
            return bn_error(BN_FAIL, "%s: scale %lld is %g, expected finite and > 0", t->name,
                            (long long)i, (double)t->data[i]);
    return BN_OK;
}

static bn_status put_tensor_attrs(bn_h5_writer *w, const bn_packed_tensor *t)
{
    BN_TRY(bn_h5_put_string(w, t->name, BN_ATTR_ENCODING, bn_encoding_name(t->encoding)));
    BN_TRY(bn_h5_put_i64s(w, t->name, BN_ATTR_SHAPE, t->ndim, t->shape));
    if (bn_encoding_is_codes(t->encoding))
        BN_TRY(bn_h5_put_i64(w, t->name, BN_ATTR_GROUP_SIZE, t->group_size));
    return BN_OK;
}

static bn_status put_codes(bn_h5_writer *w, const bn_packed_tensor *t)
{
    bn_status status = BN_OK;
    uint8_t *stored = NULL;
    char scale_name[BN_H5_NAME_MAX + 1];
    const int64_t out = t->shape[0], in = t->shape[1];
    BN_TRY(codes_check(t));
    if (snprintf(scale_name, sizeof scale_name, "%s%s", t->name, BN_SCALE_SUFFIX) >=
        (int)sizeof scale_name)
        return bn_error(BN_FAIL, "%s: the name is too long", t->name);
    bn_h5_array codes = {
        t->name, BN_H5_U8, 2, {out, bn_packed_row_bytes(t->encoding, in)}, t->codes};
    bn_h5_array scales = {.name = scale_name, .type = BN_H5_F32, .data = t->data};
    scales.ndim = bn_packed_scale_shape(out, in, t->group_size, scales.shape);
    if (t->encoding != BN_ENC_TERNARY2) {
        stored = malloc((size_t)(out * codes.shape[1]));
        if (!stored)
            return bn_error_nomem(t->name, (unsigned long long)(out * codes.shape[1]));
        if (t->encoding == BN_ENC_BASE3X5)
            bn_b3_from_t2(t->codes, out, in, stored);
        else
            bn_bits_pack(bn_encoding_grid(t->encoding), t->codes, out, in, stored);
        codes.data = stored;
    }
    BN_TRY_OUT(bn_h5_put(w, &codes));
    BN_TRY_OUT(put_tensor_attrs(w, t));
    BN_TRY_OUT(bn_h5_put(w, &scales));
out:
    free(stored);
    return status;
}

static bn_status not_finite(const bn_packed_tensor *t, int64_t i, float value)
{
    return bn_error(BN_FAIL, "%s: element %lld is %g, which %s cannot hold", t->name, (long long)i,
                    (double)value, bn_encoding_name(t->encoding));
}

/* t->data as t->encoding, in `shorts` if that is a short one. */
static bn_status encode_floats(const bn_packed_tensor *t, int64_t n, uint16_t *shorts)
{
    for (int64_t i = 0; i < n; i++) {
        float stored = t->data[i];
        if (t->encoding == BN_ENC_FLOAT16) {
            shorts[i] = bn_f32_to_f16(stored);
            stored = bn_f16_to_f32(shorts[i]);
        } else if (t->encoding == BN_ENC_BFLOAT16) {
            shorts[i] = bn_f32_to_bf16(stored);
            stored = bn_bf16_to_f32(shorts[i]);
        }
        if (!isfinite(stored))
            return not_finite(t, i, t->data[i]);
    }
    return BN_OK;
}

static bn_status put_float(bn_h5_writer *w, const bn_packed_tensor *t)
{
    bn_status status = BN_OK;
    uint16_t *shorts = NULL;
    const bn_tensor shape = bn_tensor_of(BN_F32, t->ndim, t->shape);
    BN_TRY(bn_tensor_check(&shape, t->name));
    const int64_t n = bn_tensor_numel(&shape);
    bn_h5_array array = {.name = t->name, .type = BN_H5_F32, .ndim = t->ndim, .data = t->data};
    memcpy(array.shape, t->shape, sizeof array.shape);
    if (t->encoding != BN_ENC_FLOAT32)
        array.type = t->encoding == BN_ENC_FLOAT16 ? BN_H5_F16 : BN_H5_U16;
    if (!t->data) {
        const int exponent = t->encoding == BN_ENC_FLOAT16 ? BN_F16_EXPONENT : BN_BF16_EXPONENT;
        const int64_t bad = bn_shorts_not_finite(t->codes, n, exponent);
        if (bad >= 0)
            return not_finite(t, bad, (float)NAN);
        array.data = t->codes;
    } else {
        if (t->encoding != BN_ENC_FLOAT32) {
            if (!(shorts = malloc((size_t)n * sizeof *shorts)))
                return bn_error_nomem(t->name, (unsigned long long)n * sizeof *shorts);
            array.data = shorts;
        }
        BN_TRY_OUT(encode_floats(t, n, shorts));
    }
    BN_TRY_OUT(bn_h5_put(w, &array));
    BN_TRY_OUT(put_tensor_attrs(w, t));
out:
    free(shorts);
    return status;
}

static bn_status put_info(bn_h5_writer *w, const bn_packed_info *info)
{
    BN_TRY(bn_h5_put_string(w, NULL, BN_ATTR_FORMAT, BN_PACKED_FORMAT));
    BN_TRY(bn_h5_put_i64(w, NULL, BN_ATTR_VERSION, BN_PACKED_VERSION));
    BN_TRY(bn_h5_put_string(w, NULL, BN_ATTR_PRODUCER, info->producer));
    BN_TRY(bn_h5_put_string(w, NULL, BN_ATTR_CONFIG, info->config_json));
    const bool json = info->tokenizer[0] == '{';
    return bn_h5_put_string(w, NULL, json ? BN_ATTR_TOKENIZER_JSON : BN_ATTR_TOKENIZER,
                            info->tokenizer);
}

bn_status bn_packed_write(const char *path, const bn_packed_info *info,
                          const bn_packed_tensor *tensors, int count, int deflate)
{
    bn_h5_writer *w = NULL;
    bn_status status = bn_h5_create(path, deflate, &w);
    if (status != BN_OK)
        return status;
    BN_TRY_OUT(put_info(w, info));
    for (int i = 0; i < count; i++) {
        const bn_packed_tensor *t = &tensors[i];
        if (strchr(t->name, '/')) {
            status = bn_error(BN_FAIL, "%s: a packed tensor's name has no '/'", t->name);
            goto out;
        }
        BN_TRY_OUT(bn_encoding_is_codes(t->encoding) ? put_codes(w, t) : put_float(w, t));
    }
    return bn_h5_commit(w);
out:
    bn_h5_abort(w);
    return bn_error_in(status, path);
}
