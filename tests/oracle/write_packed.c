/* Writes packed files and dumps what the C reader gets from them, for
 * check_packed.py: write_packed DIR. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/rng.h"
#include "base/text.h"
#include "checkpoint/h5file.h"
#include "checkpoint/packed.h"
#include "quant/pack.h"
#include "quant/quantize.h"

enum { OUT = 6, IN = 197 };

static const bn_packed_info info = {"{\"model\": {\"hidden_size\": 64}}", "byte", "oracle"};

static bn_status dump(const char *folder, const char *tensor, const char *kind, const void *data,
                      size_t bytes)
{
    char *path = bn_format("%s/%s.%s", folder, tensor, kind);
    if (!path)
        return BN_FAIL;
    const bn_status status = bn_fs_write(path, data, bytes);
    free(path);
    return status;
}

/* What the C reader makes of a file. */
static bn_status dump_file(const char *path, const char *folder)
{
    static uint8_t t2[OUT * IN];
    static int8_t codes[OUT * IN];
    static float scale[OUT * IN], value[OUT * IN];
    bn_packed *p;
    BN_TRY(bn_fs_mkdirs(folder));
    BN_TRY(bn_packed_open(path, &p));
    bn_status status = BN_OK;
    for (int i = 0; i < bn_packed_count(p); i++) {
        const bn_packed_entry *e = bn_packed_at(p, i);
        size_t n = 1;
        for (int d = 0; d < e->ndim; d++)
            n *= (size_t)e->shape[d];
        if (bn_encoding_is_codes(e->encoding)) {
            const int64_t out = e->shape[0], in = e->shape[1], G = e->group_size;
            BN_TRY_OUT(bn_packed_read_codes(p, e, t2, scale));
            const bn_dtype dtype = bn_grid_dtype(bn_encoding_grid(e->encoding));
            const int64_t row_bytes = dtype == BN_T2 ? bn_t2_row_bytes(in) : in;
            for (int64_t k = 0; k < out * in; k++)
                codes[k] = (int8_t)bn_code_get(dtype, t2 + k / in * row_bytes, k % in);
            bn_codes_dequantize_f32(dtype, t2, scale, out, in, G, value);
            BN_TRY_OUT(dump(folder, e->name, "codes", codes, n));
            BN_TRY_OUT(dump(folder, e->name, "scale", scale,
                            (size_t)bn_scale_count(out, in, G) * sizeof *scale));
        } else {
            BN_TRY_OUT(bn_packed_read_float(p, e, value));
        }
        BN_TRY_OUT(dump(folder, e->name, "value", value, n * sizeof *value));
    }
out:
    bn_packed_close(p);
    return status;
}

/* One file: a weight per granularity, a tall one, and floats of every kind. */
static bn_status write_file(const char *dir, bn_encoding encoding, int deflate)
{
    static const struct {
        const char *name;
        int64_t out, in, group_size;
    } weights[] = {{"layers.0.tensor.weight", OUT, IN, BN_PER_TENSOR},
                   {"layers.0.row.weight", OUT, IN, BN_PER_ROW},
                   {"layers.0.group.weight", OUT, IN, 64},
                   {"layers.0.odd.weight", OUT, IN, 33},
                   {"layers.0.whole.weight", OUT, 160, 32},
                   {"layers.0.small.weight", 1, 3, BN_PER_ROW}};
    enum { WEIGHTS = sizeof weights / sizeof *weights, FLOATS = 3 };
    static uint8_t codes[WEIGHTS][OUT * IN];
    static float scales[WEIGHTS][OUT * IN], w[OUT * IN], floats[12];
    bn_packed_tensor tensors[WEIGHTS + FLOATS];
    bn_rng rng = bn_rng_of(21, (uint64_t)encoding);
    for (int i = 0; i < WEIGHTS; i++) {
        const int64_t out = weights[i].out, in = weights[i].in, G = weights[i].group_size;
        for (int64_t k = 0; k < out * in; k++)
            w[k] = (float)(bn_rng_normal(&rng) * 0.02);
        memset(w, 0, (size_t)(in / 2) * sizeof *w); /* a dead stretch */
        const bn_grid grid = bn_encoding_grid(encoding);
        bn_grid_scales_f32(grid, BN_SCALE_MEAN, w, out, in, G, scales[i]);
        bn_grid_codes_f32(grid, w, out, in, G, scales[i], codes[i]);
        tensors[i] =
            (bn_packed_tensor){weights[i].name, encoding, 2, {out, in}, G, codes[i], scales[i]};
    }
    for (int i = 0; i < 12; i++)
        floats[i] = (float)bn_rng_normal(&rng);
    const bn_encoding kinds[FLOATS] = {BN_ENC_FLOAT32, BN_ENC_FLOAT16, BN_ENC_BFLOAT16};
    const char *const names[FLOATS] = {"norm.weight", "embed.half", "embed.brain"};
    for (int i = 0; i < FLOATS; i++)
        tensors[WEIGHTS + i] = (bn_packed_tensor){names[i], kinds[i], 2, {3, 4}, 0, NULL, floats};

    char *path = bn_format("%s/%s-%d.h5", dir, bn_encoding_name(encoding), deflate);
    char *folder = bn_format("%s/%s-%d.dump", dir, bn_encoding_name(encoding), deflate);
    bn_status status = path && folder ? BN_OK : BN_FAIL;
    if (status == BN_OK)
        status = bn_packed_write(path, &info, tensors, WEIGHTS + FLOATS, deflate);
    if (status == BN_OK)
        status = dump_file(path, folder);
    free(path);
    free(folder);
    return status;
}

static bn_status put_bad(bn_h5_writer *w, const char *encoding, int64_t in,
                         const bn_h5_array *codes, const bn_h5_array *scale)
{
    const int64_t shape[2] = {1, in};
    BN_TRY(bn_h5_put_string(w, NULL, "format", BN_PACKED_FORMAT));
    BN_TRY(bn_h5_put_i64(w, NULL, "format_version", BN_PACKED_VERSION));
    BN_TRY(bn_h5_put_string(w, NULL, "config_json", info.config_json));
    BN_TRY(bn_h5_put_string(w, NULL, "producer", info.producer));
    BN_TRY(bn_h5_put_string(w, NULL, "tokenizer", info.tokenizer));
    BN_TRY(bn_h5_put(w, codes));
    BN_TRY(bn_h5_put_string(w, "w", "encoding", encoding));
    BN_TRY(bn_h5_put_i64s(w, "w", "shape", 2, shape));
    BN_TRY(bn_h5_put_i64(w, "w", "group_size", BN_PER_TENSOR));
    return bn_h5_put(w, scale);
}

/* Sound containers of one weight [1, 7] that break the packed format. */
static bn_status write_bad(const char *dir)
{
    static const float good[1] = {1}, negative[1] = {-1};
    static const struct {
        const char *what, *encoding, *scale_name;
        uint8_t codes[2]; /* of 7 elements */
        const float *scale;
        int64_t in;
    } cases[] = {
        {"code-3", "ternary2", "w_scale", {0xd5, 0x55}, good, 7},
        {"byte-243", "base3x5", "w_scale", {243, 121}, good, 7},
        {"padding-t2", "ternary2", "w_scale", {0x55, 0x15}, good, 7},
        {"padding-b3", "base3x5", "w_scale", {121, 121 + 81}, good, 7},
        {"scale", "ternary2", "w_scale", {0x55, 0x55}, negative, 7},
        {"no-scale", "ternary2", "v_scale", {0x55, 0x55}, good, 7},
        {"shape", "ternary2", "w_scale", {0x55, 0x55}, good, 9},
        {"field-7", "int3", "w_scale", {0x3f, 0}, good, 5},
        {"field-15", "int4", "w_scale", {0xf0, 0}, good, 4},
        {"field-255", "int8", "w_scale", {0, 255}, good, 2},
        {"unused-bit", "binary1", "w_scale", {0, 0x80}, good, 15},
        {"encoding", "ternary9", "w_scale", {0x55, 0x55}, good, 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bn_h5_writer *w = NULL;
        const bn_h5_array codes = {"w", BN_H5_U8, 2, {1, 2}, cases[i].codes};
        const bn_h5_array scale = {cases[i].scale_name, BN_H5_F32, 1, {1}, cases[i].scale};
        char *path = bn_format("%s/bad-%s.h5", dir, cases[i].what);
        if (!path)
            return BN_FAIL;
        bn_status status = bn_h5_create(path, 0, &w);
        free(path);
        if (status != BN_OK)
            return status;
        status = put_bad(w, cases[i].encoding, cases[i].in, &codes, &scale);
        if (status != BN_OK) {
            bn_h5_abort(w);
            return status;
        }
        BN_TRY(bn_h5_commit(w));
    }
    return BN_OK;
}

int main(int argc, char **argv)
{
    const char *dir = argc == 2 ? argv[1] : ".";
    bn_status status = bn_fs_mkdirs(dir);
    for (int deflate = 0; deflate <= 6 && status == BN_OK; deflate += 6) {
        for (int e = 0; e < BN_ENC_FLOAT32 && status == BN_OK; e++)
            status = write_file(dir, (bn_encoding)e, deflate);
    }
    if (status == BN_OK)
        status = write_bad(dir);
    if (status != BN_OK)
        fprintf(stderr, "write_packed: %s\n", bn_error_text());
    return (int)status;
}
