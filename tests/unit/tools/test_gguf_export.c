/* GGUF exports: what is in the file, what is refused, and that no file is left
 * that differs from its model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/shortfloat.h"
#include "quant/quantize.h"
#include "tools/gguf_export.h"
#include "unit/model/model_fixture.h"

static const bn_gguf_layout tq2 = {BN_GGUF_TQ2_0, BN_GGUF_F32};
static const bn_gguf_layout q4 = {BN_GGUF_Q4_0, BN_GGUF_F32};

#define SAMPLE                                                                                     \
    "In the beginning God created the heaven and the earth. And the earth was without form, and "  \
    "void; and darkness was upon the face of the deep."

/* A random model wide enough for blocks of 256, saved as model.h5. */
static void save_wide(const char *first, const char *second)
{
    fixture lender;
    fixture_open(&lender, NULL);
    fixture f = {.backend = lender.backend};
    fixture_config(&f.config, "model.hidden_size=256", "model.intermediate_size=512",
                   "model.hidden_act=silu", first, second, NULL);
    assert_ok(bn_model_create(&f.config, 256, f.backend, BN_MODEL_FLOAT, &f.model));
    assert_ok(bn_model_alloc(f.model, false));
    assert_ok(bn_model_init(f.model, 3));
    fixture_save(&f, "model.h5");
    bn_model_free(f.model);
    bn_config_clear(&f.config);
    fixture_close(&lender);
}

/* Exports model.h5 as out.gguf. */
static bn_status export_as(bn_gguf_export_request request, bn_export_report *report)
{
    fixture lender;
    bn_loaded loaded;
    bn_export_report own;
    fixture_open(&lender, NULL);
    unlink("out.gguf");
    unlink("out.gguf.report.json");
    request.output = "out.gguf";
    request.producer = "test";
    request.verify = true;
    request.data = "text";
    assert_ok(bn_fs_write("text", SAMPLE, strlen(SAMPLE)));
    assert_ok(bn_loaded_open("model.h5", lender.backend, false, &loaded));
    bn_status status = bn_gguf_export_run(&request, &loaded, &own);
    bn_loaded_clear(&loaded);
    fixture_close(&lender);
    assert_false(bn_fs_exists("out.gguf.unverified"));
    assert_int_equal(bn_fs_exists("out.gguf"), status == BN_OK);
    assert_int_equal(bn_fs_exists("out.gguf.report.json"), status == BN_OK);
    if (status == BN_OK && report)
        *report = own;
    else
        bn_export_report_clear(&own);
    return status;
}

static void refuses(bn_gguf_layout layout, const char *reason)
{
    assert_int_equal(export_as((bn_gguf_export_request){.layout = layout}, NULL), BN_USAGE);
    if (!strstr(bn_error_text(), reason))
        fail_msg("expected '%s', refused because: %s", reason, bn_error_text());
}

static float *values_of(const bn_gguf *file, const char *name)
{
    const bn_gguf_tensor *t = bn_gguf_tensor_find(file, name);
    if (!t)
        fail_msg("no tensor %s", name);
    float *values = malloc((size_t)t->count * sizeof *values);
    bn_gguf_decode(t->type, t->data, t->count, values);
    return values;
}

/* Codes times scales of a weight from the checkpoint, computed here. */
static float *expected_of(const char *name, int64_t group, bool short_scales, int64_t *count)
{
    fixture lender;
    bn_loaded loaded;
    fixture_open(&lender, NULL);
    assert_ok(bn_loaded_open("model.h5", lender.backend, false, &loaded));
    const bn_param *param = bn_param_set_find(&loaded.model->params, name);
    const int64_t out = param->value.shape[0], in = param->value.shape[1];
    const int64_t scales = bn_scale_count(out, in, group);
    float *w = malloc((size_t)(out * in) * sizeof *w);
    float *scale = malloc((size_t)scales * sizeof *scale);
    uint8_t *codes = malloc((size_t)(out * in));
    assert_ok(bn_backend_get_f32(lender.backend, &param->value, w, out * in));
    bn_weight_scales_f32(w, out, in, group, scale);
    bn_ternarize_f32(w, out, in, group, scale, codes);
    for (int64_t i = 0; i < scales && short_scales; i++)
        scale[i] = bn_f16_to_f32(bn_f32_to_f16(scale[i]));
    bn_weight_dequantize_rows_f32(codes, scale, 0, out, in, group, w);
    *count = out * in;
    free(scale);
    free(codes);
    bn_loaded_clear(&loaded);
    fixture_close(&lender);
    return w;
}

/* The file's weight is the model's, by another way than the export's own. */
static void check_weight(const char *ours, const char *theirs, int64_t group)
{
    bn_gguf *file;
    char name[BN_GGUF_MAX_NAME];
    int64_t count;
    const bool per_tensor = group == BN_PER_TENSOR;
    assert_ok(bn_gguf_open("out.gguf", &file));
    snprintf(name, sizeof name, "%s.weight", theirs);
    float *found = values_of(file, name);
    float *expected = expected_of(ours, group, !per_tensor, &count);
    snprintf(name, sizeof name, "%s.scale", theirs);
    assert_int_equal(bn_gguf_tensor_find(file, name) != NULL, per_tensor);
    float *scale = per_tensor ? values_of(file, name) : NULL;
    for (int64_t i = 0; i < count; i++)
        assert_true(found[i] * (scale ? *scale : 1) == expected[i]);
    free(scale);
    free(found);
    free(expected);
    bn_gguf_close(file);
}

static void check_weights(int64_t group)
{
    check_weight("model.layers.0.self_attn.k_proj.weight", "blk.0.attn_k", group);
    check_weight("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down", group);
}

static void test_contents(void **state)
{
    (void)state;
    static const bn_gguf_type types[] = {BN_GGUF_TQ1_0, BN_GGUF_TQ2_0, BN_GGUF_Q4_0};
    save_wide("quantization.weight_scale=tensor", NULL);
    for (int i = 0; i < 3; i++) {
        bn_export_report report;
        const bn_gguf_layout layout = {types[i], BN_GGUF_F32};
        assert_ok(export_as((bn_gguf_export_request){.layout = layout}, &report));
        check_weights(BN_PER_TENSOR);
        assert_true(report.check.done && report.check.products == 14);
        assert_true(report.check.logit_difference <= 0); /* nothing was rounded */
        assert_true(report.check.loss_before >= report.check.loss_after &&
                    report.check.loss_before <= report.check.loss_after);
        assert_int_equal(report.layers, 14);
        bn_export_report_clear(&report);
    }
    save_wide("quantization.weight_scale=row", NULL);
    assert_ok(export_as((bn_gguf_export_request){.layout = tq2}, NULL));
    check_weights(BN_PER_ROW);
    save_wide("quantization.weight_scale=group", "quantization.group_size=256");
    assert_ok(export_as((bn_gguf_export_request){.layout = tq2}, NULL));
    check_weights(256);
    save_wide("quantization.weight_scale=group", "quantization.group_size=96");
    assert_ok(export_as((bn_gguf_export_request){.layout = q4}, NULL));
    check_weights(96);
}

/* float16 scales and rounded matrices move the logits a little, which is
 * reported; the bytes add up. */
static void test_report(void **state)
{
    (void)state;
    static const bn_gguf_type floats[] = {BN_GGUF_F16, BN_GGUF_BF16, BN_GGUF_Q8_0};
    save_wide("quantization.weight_scale=row", NULL);
    for (int i = 0; i < 3; i++) {
        bn_export_report report;
        bn_gguf *file;
        uint64_t bytes = 0;
        const bn_gguf_layout layout = {BN_GGUF_TQ2_0, floats[i]};
        assert_ok(export_as((bn_gguf_export_request){.layout = layout}, &report));
        assert_true(report.check.logit_difference > 0);
        assert_true(report.check.logit_relative <= 0);
        assert_ok(bn_gguf_open("out.gguf", &file));
        for (int t = 0; t < bn_gguf_tensor_count(file); t++)
            bytes += bn_gguf_tensor_at(file, t)->bytes;
        assert_int_equal(bytes, report.all.bytes_stored);
        assert_int_equal(bn_gguf_tensor_find(file, "token_embd.weight")->type, floats[i]);
        assert_int_equal(bn_gguf_tensor_find(file, "output_norm.weight")->type, BN_GGUF_F32);
        bn_gguf_close(file);
        assert_non_null(strstr(report.json, "\"format\": \"gguf\""));
        bn_export_report_clear(&report);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    save_wide("quantization.weight_scale=group", "quantization.group_size=64");
    refuses(tq2, "a scale per 64 weights, blocks of TQ2_0 hold 256; --gguf-type q4_0 holds it");
    save_wide("quantization.weight_scale=group", "quantization.group_size=48");
    refuses(q4, "a scale per 48 weights, blocks of Q4_0 hold 32");
    save_wide("quantization.weight_scale=tensor", "model.intermediate_size=320");
    refuses(tq2, "mlp.down_proj.weight has rows of 320, blocks of TQ2_0 hold 256; --gguf-type "
                 "q4_0 holds it");
    save_wide("quantization.weight_scale=tensor", "model.hidden_act=relu2");
    refuses(tq2, "SiLU");
    save_wide("quantization.weight_scale=tensor", "model.tie_word_embeddings=false");
    refuses(tq2, "a head of its own");
    const bn_gguf_export_request forced = {.layout = tq2, .force = true};
    bn_export_report report;
    assert_ok(export_as(forced, &report));
    assert_non_null(strstr(report.text, "a head of its own"));
    bn_export_report_clear(&report);
}

/* From a packed file, and of weights whose inputs stay float. */
static void test_sources(void **state)
{
    (void)state;
    fixture f;
    const bn_gguf_export_request request = {.layout = q4, .force = true};
    fixture_open(&f, "quantization.activation_bits=none");
    fixture_save(&f, "model.h5");
    assert_ok(export_as(request, NULL));
    fixture_save_packed(&f, "model.h5");
    assert_ok(export_as(request, NULL));
    fixture_close(&f);
    fixture_open(&f, NULL);
    fixture_save_packed(&f, "model.h5");
    assert_ok(export_as(request, NULL));
    fixture_close(&f);
    fixture_open(&f, "quantization.weight_bits=none");
    fixture_save(&f, "model.h5");
    assert_ok(export_as(request, NULL));
    fixture_close(&f);
}

/* ---- a file that is not the model ---- */

typedef enum damage { CODE, SCALE, SCALE_TENSOR, FLOAT, KEY, CUT, DAMAGES } damage;

/* Where these bytes are in the file. */
static size_t place_of(const char *data, const void *bytes, size_t size)
{
    size_t place = 0;
    while (memcmp(data + place, bytes, size) != 0)
        place++;
    return place;
}

static void do_damage(void *arg, const char *path)
{
    static const char *const tensors[] = {"blk.0.attn_q.weight", "blk.1.ffn_up.weight",
                                          "blk.1.ffn_up.scale", "token_embd.weight"};
    static const size_t at[] = {5, 64, 2, 1000};
    static const char key[] = "general.architecture";
    const damage kind = *(const damage *)arg;
    bn_gguf *file;
    char *data;
    size_t size, place = 0;
    assert_ok(bn_fs_read(path, 1 << 24, &data, &size));
    assert_ok(bn_gguf_open(path, &file));
    if (kind <= FLOAT) {
        const bn_gguf_tensor *t = bn_gguf_tensor_find(file, tensors[kind]);
        const size_t known = t->bytes < 64 ? (size_t)t->bytes : 64;
        place = place_of(data, t->data, known) + at[kind];
    } else if (kind == KEY) {
        place = place_of(data, key, strlen(key));
    }
    data[place] = (char)(data[place] ^ 1);
    bn_gguf_close(file);
    assert_ok(bn_fs_write(path, data, kind == CUT ? size / 2 : size));
    free(data);
}

static void test_damage(void **state)
{
    (void)state;
    save_wide("quantization.weight_scale=tensor", NULL);
    for (damage kind = CODE; kind < DAMAGES; kind++) {
        const bn_gguf_export_request request = {.layout = tq2, .written = do_damage, .arg = &kind};
        if (export_as(request, NULL) != BN_MISMATCH)
            fail_msg("damage %d: %s", (int)kind, bn_error_text());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contents), cmocka_unit_test(test_report),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_sources),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
