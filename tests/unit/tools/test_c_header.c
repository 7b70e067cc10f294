/* C headers: what is written reads back, every planted difference is seen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "cpu/cpu.h"
#include "tools/c_header_export.h"
#include "unit/model/model_fixture.h"

#define MLP "model.kind=mlp", "model.input_size=13", "model.num_labels=5", "model.hidden_size=34"

static void open_mlp(fixture *f, const char *set)
{
    *f = (fixture){0};
    fixture_config(&f->config, MLP, "data.train=none.csv", set, NULL);
    assert_ok(bn_cpu_backend_new(NULL, &f->backend));
    assert_ok(bn_model_create(&f->config, 256, f->backend, BN_MODEL_FLOAT, &f->model));
    assert_ok(bn_model_alloc(f->model, false));
    assert_ok(bn_model_init(f->model, 5));
}

/* A flip of bit `bit` of byte `at`, between writing and verifying. */
typedef struct flip {
    size_t at;
    int bit;
    size_t size; /* of the file */
} flip;

static void plant(void *arg, const char *path)
{
    flip *f = arg;
    char *text;
    assert_ok(bn_fs_read(path, (size_t)1 << 24, &text, &f->size));
    if (f->at < f->size)
        text[f->at] = (char)(text[f->at] ^ 1 << f->bit);
    assert_ok(bn_fs_write(path, text, f->size));
    free(text);
}

static bn_status export_with(fixture *f, flip *planted, bn_export_report *report)
{
    bn_loaded loaded;
    fixture_save(f, "mlp.h5");
    assert_ok(bn_loaded_open("mlp.h5", f->backend, false, &loaded));
    const bn_c_header_request request = {.output = "mlp.h",
                                         .producer = "test",
                                         .verify = true,
                                         .written = planted ? plant : NULL,
                                         .arg = planted};
    const bn_status status = bn_c_header_run(&request, &loaded, report);
    bn_loaded_clear(&loaded);
    return status;
}

static void test_names(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"digits.h", "digits"}, {"out/my-model.v2.h", "my_model_v2"},
        {"8x8.h", "m8x8"},      {"a/b.c/noext", "noext"},
        {"\xc3\xa9.h", "__"},
    };
    char name[BN_C_HEADER_NAME], longest[200];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bn_c_header_name(names[i][0], name);
        assert_string_equal(name, names[i][1]);
    }
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    bn_c_header_name(longest, name);
    assert_int_equal(strlen(name), BN_C_HEADER_NAME - 1);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const char *const sets[] = {"quantization.weight_scale=group",
                                       "quantization.weight_scale=row",
                                       "quantization.weight_scale=tensor", "model.hidden_act=silu"};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        fixture f;
        bn_export_report report;
        open_mlp(&f, sets[i]);
        assert_ok(export_with(&f, NULL, &report));
        assert_true(report.check.done && report.check.products == 3);
        assert_true(report.check.logit_difference == 0);
        assert_int_equal(report.check.codes, 34 * 13 + 34 * 34 + 5 * 34);
        assert_non_null(strstr(report.json, "\"ram_bytes\": \"172\"")); /* 34 floats, 36 bytes */
        assert_true(bn_fs_exists("mlp.h") && bn_fs_exists("mlp.h.report.json"));
        assert_false(bn_fs_exists("mlp.h.unverified"));
        bn_export_report_clear(&report);
        fixture_close(&f);
    }
}

/* A flipped bit, in a comment, in code or in a number: exit 3, nothing left. */
static void test_flipped_bits(void **state)
{
    (void)state;
    fixture f;
    bn_export_report report;
    flip planted = {.at = SIZE_MAX};
    open_mlp(&f, NULL);
    assert_ok(bn_fs_write("mlp.h", "old", 3));
    assert_int_equal(export_with(&f, &(flip){.at = 0, .bit = 1}, &report), BN_MISMATCH);
    char *old;
    assert_ok(bn_fs_read("mlp.h", 10, &old, NULL));
    assert_string_equal(old, "old");
    free(old);
    assert_ok(bn_fs_remove("mlp.h"));
    assert_ok(export_with(&f, &planted, &report)); /* for the size */
    bn_export_report_clear(&report);
    const size_t size = planted.size;
    assert_ok(bn_fs_remove("mlp.h"));
    for (size_t at = 3; at < size; at += size / 80) {
        const bn_status status = export_with(&f, &(flip){.at = at, .bit = (int)(at % 7)}, &report);
        if (status != BN_MISMATCH)
            fail_msg("byte %zu: status %d: %s", at, status, bn_error_text());
        assert_non_null(strstr(bn_error_text(), "mlp.h.unverified: "));
        assert_false(bn_fs_exists("mlp.h") || bn_fs_exists("mlp.h.unverified"));
    }
    fixture_close(&f);
}

/* Texts that a reader must refuse, made from a good one. */
static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *part;
    } edits[] = {
        {"_run(mlp_layers, 3", "_run(mlp_layers, 4", "expected \"static const mlp_layer"},
        {"_run(mlp_layers, 3", "_run(mlp_layers, 99999999999", "a whole number in range"},
        {"{13, 34, 13, 1,", "{13, 34, 14, 1,", "a whole number in range"},
        {"{13, 34, 13, 1,", "{13, 34, 13, 2,", "as many scales as groups"},
        {"{13, 34, 13, 1,", "{13, 35, 13, 1,", "[140] = {"},
        {"mlp_codes_0[136] = {\n    0x", "mlp_codes_0[136] = {\n    0xff, 0x", "four codes"},
        {"mlp_norm_0[13] = {\n    1.0f,", "mlp_norm_0[13] = {\n    ", "expected ,"},
        {"return mlp_run(", "return run(", "NAME_run"},
        {"static const float mlp_bias_2", "static const int mlp_bias_2", "mlp_bias_2[5] = {"},
    };
    fixture f;
    bn_export_report report;
    char *good;
    open_mlp(&f, "quantization.weight_scale=row");
    assert_ok(export_with(&f, NULL, &report));
    bn_export_report_clear(&report);
    assert_ok(bn_fs_read("mlp.h", (size_t)1 << 24, &good, NULL));
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        bn_c_header header;
        const char *at = strstr(good, edits[i].from);
        assert_non_null(at);
        char *bad =
            bn_format("%.*s%s%s", (int)(at - good), good, edits[i].to, at + strlen(edits[i].from));
        assert_int_equal(bn_c_header_parse("bad.h", bad, &header), BN_BAD_DATA);
        if (!strstr(bn_error_text(), edits[i].part))
            fail_msg("%s: no \"%s\" in: %s", edits[i].to, edits[i].part, bn_error_text());
        free(bad);
    }
    for (size_t n = 0, size = strlen(good); n < size; n += size / 97) { /* cut short anywhere */
        bn_c_header header;
        char *bad = bn_format("%.*s", (int)n, good);
        assert_int_equal(bn_c_header_parse("bad.h", bad, &header), BN_BAD_DATA);
        free(bad);
    }
    free(good);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
