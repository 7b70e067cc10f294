/* The verification of exports: it accepts what is right, and sees every single
 * planted difference. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "checkpoint/h5file.h"
#include "quant/pack.h"
#include "tools/verify.h"
#include "unit/model/model_fixture.h"

static const char config[] = "{\"model\": {}}";
static const bn_packed_info info = {config, "byte", "test"};

enum { OUT = 3, IN = 83, GROUP = 32, SCALES = 9, ROWS = 5, COLS = 4 };

/* A set of its own: one ternary tensor with short groups and padded bytes, one
 * matrix of floats, one vector. */
typedef struct own_set {
    bn_export_item items[3];
    uint8_t codes[OUT * 21];
    float scale[SCALES], matrix[ROWS * COLS], vector[COLS];
    bn_export_set set;
} own_set;

static void set_code(own_set *s, int row, int column, int code)
{
    uint8_t *byte = &s->codes[row * 21 + column / 4];
    const int shift = column % 4 * 2;
    *byte = (uint8_t)((*byte & ~(3 << shift)) | (code + 1) << shift);
}

static void open_set(own_set *s)
{
    static const float values[] = {0.1f,   -0.1f,   1,           -2.5f,   1e-3f, 65504, -3e-6f,
                                   5e-8f,  0,       -0.0f,       1.0005f, 7e4f,  0.3f,  33.3f,
                                   1e-30f, 2.9e-8f, 1.00048828f, 6.1e-5f, 1e3f,  9};
    memset(s, 0, sizeof *s);
    memset(s->codes, BN_T2_ZERO_BYTE, sizeof s->codes);
    for (int r = 0; r < OUT; r++)
        for (int k = 0; k < IN; k++)
            set_code(s, r, k, (r * 7 + k * k) % 3 - 1);
    for (int i = 0; i < SCALES; i++)
        s->scale[i] = 0.01f * (float)(i + 1);
    for (int i = 0; i < ROWS * COLS; i++)
        s->matrix[i] = values[i];
    s->matrix[11] = 6e4f; /* within float16 */
    for (int i = 0; i < COLS; i++)
        s->vector[i] = 1 + 0.1f * (float)i;
    s->items[0] = (bn_export_item){"a.weight", true,     2,      {OUT, IN}, GROUP,
                                   s->codes,   s->scale, SCALES, NULL,      BN_GRID_TERNARY};
    s->items[1] = (bn_export_item){"b.weight", false,       2,    {ROWS, COLS},   0, NULL,
                                   s->matrix,  ROWS * COLS, NULL, BN_GRID_TERNARY};
    s->items[2] = (bn_export_item){"c.weight", false,     1,    {COLS}, 0,
                                   NULL,       s->vector, COLS, NULL,   BN_GRID_TERNARY};
    s->set = (bn_export_set){s->items, 3};
}

static const bn_export_format formats[] = {
    {BN_ENC_BASE3X5, BN_ENC_FLOAT32, 0},  {BN_ENC_TERNARY2, BN_ENC_FLOAT32, 0},
    {BN_ENC_BASE3X5, BN_ENC_FLOAT16, 0},  {BN_ENC_TERNARY2, BN_ENC_BFLOAT16, 0},
    {BN_ENC_BASE3X5, BN_ENC_BFLOAT16, 6},
};
enum { FORMATS = sizeof formats / sizeof *formats };

/* Writes `written` and verifies it against `expected`. */
static bn_status verify(const own_set *written, const own_set *expected, int format)
{
    assert_ok(bn_export_write("set.h5", &info, &written->set, &formats[format]));
    return bn_verify_contents("set.h5", &info, &expected->set, &formats[format]);
}

static void expect_mismatch(bn_status status, const char *words)
{
    if (status != BN_MISMATCH || !strstr(bn_error_text(), words))
        fail_msg("expected a mismatch with \"%s\", got %d: %s", words, status, bn_error_text());
}

static void test_right_files_pass(void **state)
{
    (void)state;
    own_set s;
    open_set(&s);
    for (int f = 0; f < FORMATS; f++)
        assert_ok(verify(&s, &s, f));
}

static void test_every_code_counts(void **state)
{
    (void)state;
    own_set s, other;
    open_set(&s);
    for (int f = 0; f < 2; f++)
        for (int r = 0; r < OUT; r++)
            for (int k = 0; k < IN; k += f ? 9 : 7) {
                char place[64];
                open_set(&other);
                set_code(&other, r, k, bn_t2_get(s.codes + r * 21, k) == 1 ? -1 : 1);
                snprintf(place, sizeof place, "row %d, column %d is", r, k);
                expect_mismatch(verify(&other, &s, f), place);
            }
}

static void test_tokenizer_counts(void **state)
{
    (void)state;
    static const bn_packed_info others[] = {
        {config, "{\"model\": {\"type\": \"BPE\"}}", "test"}, /* not even the same attribute */
        {config, "bite", "test"},
    };
    own_set s;
    open_set(&s);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_ok(bn_export_write("set.h5", &others[i], &s.set, &formats[0]));
        expect_mismatch(bn_verify_contents("set.h5", &info, &s.set, &formats[0]), "tokenizer");
        assert_ok(bn_verify_contents("set.h5", &others[i], &s.set, &formats[0]));
    }
}

static void test_every_float_counts(void **state)
{
    (void)state;
    own_set s, other;
    open_set(&s);
    for (int i = 0; i < SCALES; i++) {
        open_set(&other);
        other.scale[i] = nextafterf(other.scale[i], 1);
        expect_mismatch(verify(&other, &s, 0), "a.weight_scale: element");
    }
    for (int i = 0; i < ROWS * COLS; i++) {
        open_set(&other);
        other.matrix[i] = nextafterf(other.matrix[i], 1e30f);
        expect_mismatch(verify(&other, &s, 0), "b.weight: element");
    }
    for (int i = 0; i < COLS; i++) {
        open_set(&other);
        other.vector[i] = nextafterf(other.vector[i], 0);
        for (int f = 0; f < FORMATS; f++) /* vectors are float32 always */
            expect_mismatch(verify(&other, &s, f), "c.weight: element");
    }
}

/* Short floats may be half a unit off, not one. */
static void test_rounding_counts(void **state)
{
    (void)state;
    own_set s, other;
    open_set(&s);
    open_set(&other);
    other.matrix[2] = 1 + 0x1p-10f;
    expect_mismatch(verify(&other, &s, 2), "b.weight: element 2");
    open_set(&other);
    other.matrix[7] = 1.2e-7f; /* two units of the smallest float16, for one */
    expect_mismatch(verify(&other, &s, 2), "b.weight: element 7");
    open_set(&other);
    other.matrix[2] = 1 + 0x1p-7f;
    expect_mismatch(verify(&other, &s, 3), "b.weight: element 2");
}

static void test_structure_counts(void **state)
{
    (void)state;
    own_set s, other;
    open_set(&s);
    open_set(&other);
    other.set.count = 2;
    expect_mismatch(verify(&other, &s, 0), "c.weight");
    expect_mismatch(verify(&s, &other, 0), "4 arrays, expected 3");
    open_set(&other);
    other.items[0].group_size = 33; /* as many scales */
    expect_mismatch(verify(&other, &s, 0), "group_size is 33, expected 32");
    open_set(&other);
    other.items[0].shape[1] = IN - 1;
    set_code(&other, 0, IN - 1, 0);
    set_code(&other, 1, IN - 1, 0);
    set_code(&other, 2, IN - 1, 0);
    expect_mismatch(verify(&other, &s, 0), "columns is 82, expected 83");
    open_set(&other);
    other.items[1].shape[0] = COLS;
    other.items[1].shape[1] = ROWS;
    expect_mismatch(verify(&other, &s, 0), "b.weight");

    assert_ok(bn_export_write("set.h5", &info, &s.set, &formats[0]));
    expect_mismatch(bn_verify_contents("set.h5", &info, &s.set, &formats[1]),
                    "encoding is 'base3x5', expected 'ternary2'");
    const bn_packed_info foreign = {"{}", "byte", "test"};
    expect_mismatch(bn_verify_contents("set.h5", &foreign, &s.set, &formats[0]), "config_json");
    expect_mismatch(bn_verify_contents("none.h5", &info, &s.set, &formats[0]), "none.h5");
}

/* Any byte of the file, as a disk or a cable would do it. */
static void test_flipped_bytes(void **state)
{
    (void)state;
    own_set s;
    char *data;
    size_t size;
    int seen = 0, tried = 0;
    open_set(&s);
    assert_ok(bn_export_write("set.h5", &info, &s.set, &formats[0]));
    assert_ok(bn_fs_read("set.h5", 1 << 24, &data, &size));
    for (size_t at = 0; at < size; at += 1 + size / 200) {
        data[at] ^= 0x10;
        assert_ok(bn_fs_write("flipped.h5", data, size));
        data[at] ^= 0x10;
        tried++;
        const bn_status status = bn_verify_contents("flipped.h5", &info, &s.set, &formats[0]);
        if (status == BN_OK)
            continue; /* a byte that carries nothing: the results are the same */
        assert_int_equal(status, BN_MISMATCH);
        seen++;
    }
    print_message("%d of %d flips were seen, the others carry no data\n", seen, tried);
    assert_true(seen > tried / 4);
    free(data);
}

/* A tensor a[1][IN] written byte by byte, with right checksums. */
static bn_status verify_bytes(const own_set *s, bn_encoding encoding, uint8_t *bytes, int64_t count)
{
    const bn_export_format format = {encoding, BN_ENC_FLOAT32, 0};
    const int64_t shape[] = {1, IN};
    const bn_h5_array codes = {"a.weight", BN_H5_U8, 2, {1, count}, bytes};
    const bn_h5_array scales = {"a.weight_scale", BN_H5_F32, 2, {1, 3}, s->scale};
    bn_export_item item = s->items[0];
    const bn_export_set one = {&item, 1};
    bn_h5_writer *w;
    item.shape[0] = 1;
    item.count = 3;
    assert_ok(bn_h5_create("raw.h5", 0, &w));
    assert_ok(bn_h5_put_string(w, NULL, "format", "bitnet-packed"));
    assert_ok(bn_h5_put_i64(w, NULL, "format_version", 1));
    assert_ok(bn_h5_put_string(w, NULL, "config_json", config));
    assert_ok(bn_h5_put_string(w, NULL, "tokenizer", "byte"));
    assert_ok(bn_h5_put(w, &codes));
    assert_ok(bn_h5_put_string(w, "a.weight", "encoding", bn_encoding_name(encoding)));
    assert_ok(bn_h5_put_i64s(w, "a.weight", "shape", 2, shape));
    assert_ok(bn_h5_put_i64(w, "a.weight", "group_size", GROUP));
    assert_ok(bn_h5_put(w, &scales));
    assert_ok(bn_h5_commit(w));
    return bn_verify_contents("raw.h5", &info, &one, &format);
}

static void test_invalid_bytes(void **state)
{
    (void)state;
    own_set s;
    uint8_t b3[17] = {0};
    open_set(&s);
    for (int k = 0; k < 85; k++) { /* digits by hand: 2 places of padding are 1 */
        static const int power[] = {1, 3, 9, 27, 81};
        b3[k / 5] =
            (uint8_t)(b3[k / 5] + ((k < IN ? bn_t2_get(s.codes, k) : 0) + 1) * power[k % 5]);
    }
    assert_ok(verify_bytes(&s, BN_ENC_BASE3X5, b3, 17));
    assert_ok(verify_bytes(&s, BN_ENC_TERNARY2, s.codes, 21));
    b3[16] = (uint8_t)(b3[16] + 81); /* padding that is not code 0 */
    expect_mismatch(verify_bytes(&s, BN_ENC_BASE3X5, b3, 17), "column 84 is 1, expected 0");
    b3[16] = (uint8_t)(b3[16] - 81);
    b3[3] = 243; /* no five trits give this */
    expect_mismatch(verify_bytes(&s, BN_ENC_BASE3X5, b3, 17), "row 0, column 15 is 2");
    s.codes[20] |= 3 << 6;
    const uint8_t kept = s.codes[20];
    uint8_t copy[21];
    memcpy(copy, s.codes, sizeof copy);
    open_set(&s);
    assert_int_not_equal(kept, s.codes[20]);
    expect_mismatch(verify_bytes(&s, BN_ENC_TERNARY2, copy, 21), "column 83 is 2, expected 0");
}

/* ---- probes ---- */

static void test_probe(void **state)
{
    (void)state;
    fixture f;
    bn_probe a, b, c;
    int32_t ids[40];
    int first;
    fixture_open(&f, NULL);
    for (int i = 0; i < 40; i++)
        ids[i] = (i * 37) % 256;
    assert_ok(bn_probe_run(f.model, ids, 40, &a));
    assert_int_equal(a.products, 14);
    assert_int_equal(a.count, 40 * 256);
    assert_ok(bn_model_pack(f.model));
    assert_ok(bn_probe_run(f.model, ids, 40, &b));
    assert_int_equal(bn_probe_differing_products(&a, &b, &first), 0);
    assert_true(bn_probe_logit_difference(&a, &b, false) == 0);

    /* one scale of layer 1's o_proj, the 11th product, by one unit */
    float *scale = bn_tensor_data(&f.model->linears[10]->scale);
    scale[5] = nextafterf(scale[5], 1);
    assert_ok(bn_probe_run(f.model, ids, 40, &c));
    assert_true(bn_probe_differing_products(&a, &c, &first) >= 1);
    assert_int_equal(first, 10);
    const double absolute = bn_probe_logit_difference(&a, &c, false);
    const double relative = bn_probe_logit_difference(&a, &c, true);
    assert_true(absolute > 0 && relative > 0 && relative < 1e-2);

    b.logits[7] = NAN;
    assert_true(isnan(bn_probe_logit_difference(&a, &b, true)));
    b.products--;
    assert_int_equal(bn_probe_differing_products(&a, &b, &first), -1);
    b.count--;
    assert_true(isinf(bn_probe_logit_difference(&a, &b, true)));
    bn_probe_clear(&a);
    bn_probe_clear(&b);
    bn_probe_clear(&c);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right_files_pass),
        cmocka_unit_test(test_every_code_counts),
        cmocka_unit_test(test_tokenizer_counts),
        cmocka_unit_test(test_every_float_counts),
        cmocka_unit_test(test_rounding_counts),
        cmocka_unit_test(test_structure_counts),
        cmocka_unit_test(test_flipped_bytes),
        cmocka_unit_test(test_invalid_bytes),
        cmocka_unit_test(test_probe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
