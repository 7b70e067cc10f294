/* Packed model files: round trips of every encoding and granularity, and
 * everything a reader refuses. */
#include <float.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "h5_tools.h"

#include "base/rng.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/h5file.h"
#include "checkpoint/packed.h"
#include "quant/pack.h"
#include "quant/quantize.h"

#define FILE_NAME "packed.h5"

static const bn_packed_info info = {"{\"model\": {}}", "byte", "test 1.0"};

static void test_short_floats(void **state)
{
    static const struct {
        float value;
        uint16_t f16, bf16;
    } cases[] = {
        {0.0f, 0x0000, 0x0000},
        {-0.0f, 0x8000, 0x8000},
        {1.0f, 0x3c00, 0x3f80},
        {-2.0f, 0xc000, 0xc000},
        {65504.0f, 0x7bff, 0x4780},
        {65519.99f, 0x7bff, 0x4780},
        {65520.0f, 0x7c00, 0x4780}, /* halfway to 2^16: to even, infinity */
        {0x1p-14f, 0x0400, 0x3880},
        {0x1p-24f, 0x0001, 0x3380},
        {0x1p-25f, 0x0000, 0x3300},          /* half of the smallest: to even */
        {0x1.8p-24f, 0x0002, 0x33c0},        /* 1.5 of the smallest: to even */
        {0x1.000002p-25f, 0x0001, 0x3300},   /* a little more than half */
        {1.0f + 0x1p-11f, 0x3c00, 0x3f80},   /* tie to even, down */
        {1.0f + 0x1.8p-10f, 0x3c02, 0x3f80}, /* tie to even, up */
        {1.0f + 0x1p-8f, 0x3c04, 0x3f80},    /* bf16: tie to even, down */
        {1.0f + 0x1.8p-7f, 0x3c0c, 0x3f82},  /* bf16: tie to even, up */
        {INFINITY, 0x7c00, 0x7f80},
        {FLT_MAX, 0x7c00, 0x7f80},
        {FLT_TRUE_MIN, 0x0000, 0x0000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(bn_f32_to_f16(cases[i].value), cases[i].f16);
        assert_int_equal(bn_f32_to_bf16(cases[i].value), cases[i].bf16);
    }
    assert_true(isnan(bn_f16_to_f32(bn_f32_to_f16(NAN))));
    assert_true(isnan(bn_bf16_to_f32(bn_f32_to_bf16(NAN))));
    for (int bits = 0; bits < 0x10000; bits++) { /* every short float comes back */
        const float h = bn_f16_to_f32((uint16_t)bits), b = bn_bf16_to_f32((uint16_t)bits);
        if (!isnan(h))
            assert_int_equal(bn_f32_to_f16(h), bits);
        if (!isnan(b))
            assert_int_equal(bn_f32_to_bf16(b), bits);
    }
}

static void check_weight(int64_t out, int64_t in, int64_t group_size, bn_encoding encoding,
                         int deflate)
{
    const bn_grid grid = bn_encoding_grid(encoding);
    const size_t n = (size_t)(out * in), bytes = (size_t)(out * bn_grid_row_bytes(grid, in));
    const size_t scales = (size_t)bn_scale_count(out, in, group_size);
    float *w = malloc(n * sizeof *w), *scale = malloc(scales * sizeof *scale);
    float *scale2 = malloc(scales * sizeof *scale);
    uint8_t *t2 = malloc(bytes), *t2_back = malloc(bytes);
    bn_rng rng = bn_rng_of((uint64_t)in, (uint64_t)group_size);
    const bn_packed_entry *e;
    bn_packed *p;
    assert_true(w && scale && scale2 && t2 && t2_back);
    for (size_t i = 0; i < n; i++)
        w[i] = (float)bn_rng_normal(&rng);
    bn_grid_scales_f32(grid, BN_SCALE_MEAN, w, out, in, group_size, scale);
    bn_grid_codes_f32(grid, w, out, in, group_size, scale, t2);
    const bn_packed_tensor t = {"model.w.weight", encoding, 2, {out, in}, group_size, t2, scale};
    assert_ok(bn_packed_write(FILE_NAME, &info, &t, 1, deflate));
    assert_ok(bn_packed_open(FILE_NAME, &p));
    assert_int_equal(bn_packed_count(p), 1);
    assert_ok(bn_packed_expect(p, "model.w.weight", 2, t.shape, &e));
    assert_true(e->encoding == encoding && e->group_size == group_size);
    assert_ok(bn_packed_read_codes(p, e, t2_back, scale2));
    assert_memory_equal(t2_back, t2, bytes);
    assert_memory_equal(scale2, scale, scales * sizeof *scale);
    bn_packed_close(p);
    free(w);
    free(scale);
    free(scale2);
    free(t2);
    free(t2_back);
}

static void test_weights(void **state)
{
    static const struct {
        int64_t out, in, group_size;
    } cases[] = {{1, 1, 0},   {1, 1, 1},    {3, 5, -1},    {7, 33, 32},   {4, 64, 64},
                 {5, 50, 50}, {5, 131, 50}, {300, 701, 0}, {8, 4096, 128}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int e = BN_ENC_TERNARY2; e < BN_ENC_FLOAT32; e++)
            check_weight(cases[i].out, cases[i].in, cases[i].group_size, (bn_encoding)e,
                         i % 2 ? 6 : 0);
}

/* base3x5 with a scale per 64 weights, against float32. */
static void test_size(void **state)
{
    enum { OUT = 512, IN = 2048 };
    bn_packed *p;
    (void)state;
    check_weight(OUT, IN, 128, BN_ENC_BASE3X5, 0);
    assert_ok(bn_packed_open(FILE_NAME, &p));
    const double ratio = 4.0 * OUT * IN / (double)bn_packed_at(p, 0)->stored_bytes;
    assert_true(ratio > 17);
    bn_packed_close(p);
}

static void test_floats(void **state)
{
    const float x[6] = {1, -0.333333f, 65504, 1e-6f, 0, -7}, tall[6] = {1, 2, 3, 4, 5, 6};
    const bn_packed_tensor t[] = {
        {"a.norm.weight", BN_ENC_FLOAT32, 1, {6}, 0, NULL, x},
        {"b.half", BN_ENC_FLOAT16, 2, {2, 3}, 0, NULL, x},
        {"c.brain", BN_ENC_BFLOAT16, 3, {1, 2, 3}, 0, NULL, x},
        {"d.tall_scale", BN_ENC_FLOAT32, 2, {6, 1}, 0, NULL, tall},
    };
    float y[6];
    bn_packed *p;
    bn_model_file kind;
    (void)state;
    assert_ok(bn_packed_write(FILE_NAME, &info, t, 4, 0));
    assert_ok(bn_model_file_kind(FILE_NAME, &kind));
    assert_int_equal(kind, BN_MODEL_FILE_PACKED);
    assert_ok(bn_packed_open(FILE_NAME, &p));
    assert_int_equal(bn_packed_count(p), 4);
    assert_string_equal(bn_packed_get_info(p)->config_json, info.config_json);
    assert_string_equal(bn_packed_get_info(p)->tokenizer, "byte");
    assert_string_equal(bn_packed_get_info(p)->producer, "test 1.0");
    assert_ok(bn_packed_read_float(p, bn_packed_find(p, "a.norm.weight"), y));
    assert_memory_equal(y, x, sizeof x);
    assert_ok(bn_packed_read_float(p, bn_packed_find(p, "b.half"), y));
    for (int i = 0; i < 6; i++)
        assert_true(y[i] == bn_f16_to_f32(bn_f32_to_f16(x[i])));
    assert_ok(bn_packed_read_float(p, bn_packed_find(p, "c.brain"), y));
    for (int i = 0; i < 6; i++)
        assert_true(y[i] == bn_bf16_to_f32(bn_f32_to_bf16(x[i])));
    assert_null(bn_packed_find(p, "e"));
    const bn_packed_entry *e;
    const int64_t shape[2] = {3, 2};
    assert_fails(bn_packed_expect(p, "b.half", 2, shape, &e), BN_BAD_DATA,
                 "b.half: expected [3, 2], found [2, 3]");
    assert_fails(bn_packed_expect(p, "e", 2, shape, &e), BN_BAD_DATA,
                 "e: expected a tensor [3, 2]");
    assert_fails(bn_packed_read_codes(p, bn_packed_find(p, "b.half"), NULL, NULL), BN_BAD_DATA,
                 "expected a tensor of codes, found float16");
    bn_packed_close(p);
}

static void test_tokenizer_json(void **state)
{
    const float one = 1;
    const bn_packed_tensor t = {"n", BN_ENC_FLOAT32, 1, {1}, 0, NULL, &one};
    const bn_packed_info json = {"{}", "{\"version\": \"1.0\"}", "test"};
    bn_packed *p;
    (void)state;
    assert_ok(bn_packed_write(FILE_NAME, &json, &t, 1, 0));
    hid_t file = tool_open(FILE_NAME);
    assert_true(H5Aexists(file, "tokenizer_json") > 0 && H5Aexists(file, "tokenizer") == 0);
    H5Fclose(file);
    assert_ok(bn_packed_open(FILE_NAME, &p));
    assert_string_equal(bn_packed_get_info(p)->tokenizer, json.tokenizer);
    bn_packed_close(p);
}

static void test_writer_refuses(void **state)
{
    const float big[1] = {65520}, nan[1] = {NAN}, zero[1] = {0}, one[1] = {1}, max[1] = {FLT_MAX};
    const uint8_t good[1] = {0x55}, three[1] = {0x5f}, pad[1] = {0x15};
    const struct {
        bn_packed_tensor t;
        const char *part;
    } cases[] = {
        {{"x", BN_ENC_FLOAT16, 1, {1}, 0, NULL, big}, "x: element 0 is 65520, which float16"},
        {{"x", BN_ENC_BFLOAT16, 1, {1}, 0, NULL, max}, "which bfloat16 cannot hold"},
        {{"x", BN_ENC_FLOAT32, 1, {1}, 0, NULL, nan}, "which float32 cannot hold"},
        {{"x", BN_ENC_TERNARY2, 2, {1, 4}, 0, good, zero}, "x: scale 0 is 0"},
        {{"x", BN_ENC_TERNARY2, 2, {1, 4}, 0, good, nan}, "x: scale 0 is "},
        {{"x", BN_ENC_TERNARY2, 2, {1, 4}, 0, three, one}, "field 3 is not a ternary code"},
        {{"x", BN_ENC_BASE3X5, 2, {1, 3}, 0, pad, one}, "element 3"},
        {{"x", BN_ENC_TERNARY2, 2, {1, 4}, 3, good, one}, "group size 3"},
        {{"a/x", BN_ENC_FLOAT32, 1, {1}, 0, NULL, one}, "no '/'"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_fails(bn_packed_write("refused.h5", &info, &cases[i].t, 1, 0), BN_FAIL,
                     cases[i].part);
        assert_int_equal(access("refused.h5", F_OK), -1);
        assert_int_equal(access("refused.h5.tmp", F_OK), -1);
    }
}

/* ---- sound containers with wrong content ---- */

/* A file of one weight [2, 40] in groups of 32 and one norm, each part of
 * which a test may replace. */
typedef struct parts {
    const char *format, *encoding, *tokenizer_json;
    int64_t version, group_size, shape[3];
    int shape_count;
    bn_h5_array codes, scale, norm;
    const char *norm_encoding;
} parts;

static const uint8_t t2_codes[2][10] = {
    {0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55},
    {0x00, 0xaa, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55}};
static const float scales[2][2] = {{1, 2}, {3, 4}};
static const float norm[2] = {1, 1};

static parts good_parts(void)
{
    return (parts){.format = "bitnet-packed",
                   .encoding = "ternary2",
                   .version = 1,
                   .group_size = 32,
                   .shape = {2, 40},
                   .shape_count = 2,
                   .codes = {"w", BN_H5_U8, 2, {2, 10}, t2_codes},
                   .scale = {"w_scale", BN_H5_F32, 2, {2, 2}, scales},
                   .norm = {"norm", BN_H5_F32, 1, {2}, norm},
                   .norm_encoding = "float32"};
}

static void write_parts(const parts *p)
{
    bn_h5_writer *f;
    assert_ok(bn_h5_create(FILE_NAME, 0, &f));
    assert_ok(bn_h5_put_string(f, NULL, "format", p->format));
    assert_ok(bn_h5_put_i64(f, NULL, "format_version", p->version));
    assert_ok(bn_h5_put_string(f, NULL, "producer", "test"));
    assert_ok(bn_h5_put_string(f, NULL, "config_json", "{}"));
    assert_ok(bn_h5_put_string(f, NULL, "tokenizer", "byte"));
    if (p->tokenizer_json)
        assert_ok(bn_h5_put_string(f, NULL, "tokenizer_json", p->tokenizer_json));
    assert_ok(bn_h5_put(f, &p->codes));
    if (p->encoding)
        assert_ok(bn_h5_put_string(f, p->codes.name, "encoding", p->encoding));
    assert_ok(bn_h5_put_i64s(f, p->codes.name, "shape", p->shape_count, p->shape));
    assert_ok(bn_h5_put_i64(f, p->codes.name, "group_size", p->group_size));
    if (p->scale.name)
        assert_ok(bn_h5_put(f, &p->scale));
    assert_ok(bn_h5_put(f, &p->norm));
    assert_ok(bn_h5_put_string(f, "norm", "encoding", p->norm_encoding));
    assert_ok(bn_h5_put_i64s(f, "norm", "shape", 1, p->norm.shape));
    assert_ok(bn_h5_commit(f));
}

static bn_status read_parts(void)
{
    uint8_t codes[64];
    float floats[64];
    bn_packed *p;
    BN_TRY(bn_packed_open(FILE_NAME, &p));
    bn_status status = bn_packed_read_codes(p, bn_packed_find(p, "w"), codes, floats);
    if (status == BN_OK)
        status = bn_packed_read_float(p, bn_packed_find(p, "norm"), floats);
    bn_packed_close(p);
    return status;
}

#define REFUSED(change, part)                                                                      \
    do {                                                                                           \
        parts p = good_parts();                                                                    \
        change;                                                                                    \
        write_parts(&p);                                                                           \
        assert_fails(read_parts(), BN_BAD_DATA, part);                                             \
    } while (0)

static void test_reader_refuses_attributes(void **state)
{
    const parts good = good_parts();
    (void)state;
    write_parts(&good);
    assert_ok(read_parts());
    REFUSED(p.format = "bitnet-checkpoint", "format: expected \"bitnet-packed\"");
    REFUSED(p.version = 2, "format_version: expected 1, found 2");
    REFUSED(p.tokenizer_json = "{}", "found both");
    REFUSED(p.encoding = "ternary3", "w: unknown encoding \"ternary3\"");
    REFUSED(p.encoding = NULL, "w: expected an encoding or a tensor of codes");
    REFUSED(p.encoding = "base3x5", "w: expected uint8 [2, 8], found uint8 [2, 10]");
    REFUSED(p.encoding = "float32", "w: expected float32 [2, 40], found uint8");
    REFUSED(p.shape[1] = 41, "w: expected uint8 [2, 11], found uint8 [2, 10]");
    REFUSED(p.shape[0] = 3, "w: expected uint8 [3, 10]");
    REFUSED(p.shape[0] = -2, "w: shape: dimension 0 is -2");
    REFUSED(p.shape[0] = INT64_MAX, "overflows");
    REFUSED(p.shape_count = 1, "w: shape: expected 2 dimensions, found 1");
    REFUSED(p.group_size = 31, "w: group_size: expected 0, -1 or 32 to 40, found 31");
    REFUSED(p.group_size = 41, "found 41");
    REFUSED(p.group_size = -3, "found -3");
    REFUSED(p.group_size = 0, "w_scale: expected float32 [1], found float32 [2, 2]");
    REFUSED(p.group_size = -1, "w_scale: expected float32 [2, 1]");
    REFUSED(p.scale.name = NULL, "w_scale: expected float32 [2, 2], found no such array");
    REFUSED(p.scale.name = "v_scale", "w_scale: expected float32 [2, 2]");
    REFUSED(p.codes.name = "group/w", "group/w: expected no groups");
    static const float w[2 * 40];
    REFUSED((p.codes = (bn_h5_array){"w", BN_H5_F32, 2, {2, 40}, w}, p.encoding = "float32"),
            "w_scale: expected an encoding or a tensor of codes");
    bn_packed_close(NULL);
    REFUSED(p.norm_encoding = "bfloat16", "norm: expected uint16 [2], found float32");
}

static void test_reader_refuses_values(void **state)
{
    uint8_t codes[2][10];
    uint8_t b3[2][8];
    float s[2][2], x[2] = {1, NAN};
    (void)state;
    memcpy(codes, t2_codes, sizeof codes);
    codes[1][3] = 0x75;
    REFUSED(p.codes.data = codes,
            "w: row 1, byte 3, element 14: expected a field up to 2, found 3");

    /* 38 columns: the last two fields are padding */
    memcpy(codes, t2_codes, sizeof codes);
    codes[0][9] = 0x15;
    REFUSED((p.codes.data = codes, p.shape[1] = 38),
            "w: row 0, byte 9, element 39: expected padding 1, found 0");

    memset(b3, 121, sizeof b3);
    parts good = good_parts();
    good.encoding = "base3x5";
    good.codes.shape[1] = 8;
    good.codes.data = b3;
    write_parts(&good);
    assert_ok(read_parts());
    b3[1][7] = 243;
    write_parts(&good);
    assert_fails(read_parts(), BN_BAD_DATA,
                 "w: row 1, byte 7, element 35: expected a byte up to 242, found 243");

    const float bad_scales[] = {NAN, INFINITY, 0, -1};
    for (int i = 0; i < 4; i++) {
        memcpy(s, scales, sizeof s);
        s[1][0] = bad_scales[i];
        REFUSED(p.scale.data = s, "w_scale: scale 2: expected finite and > 0");
    }
    REFUSED(p.norm.data = x, "norm: element 1: expected finite");
    const double wide[4] = {1, 1, 1, 1};
    REFUSED((p.scale.type = BN_H5_F64, p.scale.data = wide),
            "w_scale: expected float32 [2, 2], found float64 [2, 2]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_floats),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_tokenizer_json),
        cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_reader_refuses_attributes),
        cmocka_unit_test(test_reader_refuses_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
