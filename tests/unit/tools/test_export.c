/* Whole exports: what they leave behind when all is well and when it is not. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/signals.h"
#include "tools/export_job.h"
#include "tools/inspect.h"
#include "tools/sample.h"
#include "unit/model/model_fixture.h"

static const bn_export_format base3 = {BN_ENC_BASE3X5, BN_ENC_FLOAT32, 0};
static const bn_export_format small = {BN_ENC_TERNARY2, BN_ENC_BFLOAT16, 6};

/* An export of `source`; *report may be NULL. */
static bn_status export(const char *source, bn_export_request request, bn_backend *backend,
                        bn_export_report *report)
{
    bn_loaded loaded;
    bn_export_report own;
    request.producer = "test";
    assert_ok(bn_loaded_open(source, backend, false, &loaded));
    bn_status status = bn_export_run(&request, &loaded, report ? report : &own);
    if (!report)
        bn_export_report_clear(&own);
    bn_loaded_clear(&loaded);
    return status;
}

static double number(const cJSON *json, const char *object, const char *key)
{
    if (object)
        json = cJSON_GetObjectItemCaseSensitive(json, object);
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(json, key);
    if (!cJSON_IsNumber(value))
        fail_msg("%s.%s is not a number", object ? object : "", key);
    return value->valuedouble;
}

static void test_report(void **state)
{
    (void)state;
    fixture f;
    cJSON *json;
    bn_export_report report;
    char sha[BN_SHA256_TEXT];
    uint64_t size;
    fixture_open(&f, NULL);
    fixture_train(&f, 3);
    fixture_save(&f, "model.h5");
    unlink("out.h5");
    bn_export_request request = {.output = "out.h5", .format = base3, .verify = true};
    assert_ok(export("model.h5", request, f.backend, &report));
    assert_false(bn_fs_exists("out.h5.unverified"));
    assert_false(bn_fs_exists("out.h5.tmp"));
    assert_ok(bn_json_read("out.h5.report.json", 1 << 20, &json));
    assert_ok(bn_sha256_file("out.h5", sha));
    assert_string_equal(cJSON_GetObjectItem(json, "sha256")->valuestring, sha);
    assert_ok(bn_fs_size("out.h5", &size));
    assert_true(number(json, NULL, "file_bytes") == (double)size);
    assert_true(number(json, NULL, "source_step") == 7);
    assert_true(number(json, NULL, "parameters") == (double)bn_param_set_numel(&f.model->params));
    assert_true(number(json, "quantized", "layers") == 14);
    assert_true(number(json, "verification", "codes_compared") ==
                number(json, "quantized", "weights"));
    assert_true(number(json, "verification", "products_bit_equal") == 14);
    assert_true(number(json, "verification", "largest_logit_difference") == 0);
    assert_true(number(json, "verification", "loss_before") ==
                number(json, "verification", "loss_after"));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "tensors")),
                     f.model->params.count);
    assert_true(report.check.done);
    assert_true(report.check.random); /* data/kjv.txt is not here */
    cJSON_Delete(json);
    bn_export_report_clear(&report);
    fixture_close(&f);
}

/* The layers of the main job's width: 13 bytes of codes and 4 of scale for 256
 * of floats. */
static void test_fourteen_times_smaller(void **state)
{
    (void)state;
    fixture lender;
    bn_export_report report;
    fixture_open(&lender, NULL);
    fixture f = {.backend = lender.backend};
    fixture_config(&f.config, "quantization.group_size=64", "model.hidden_size=128",
                   "model.intermediate_size=384", "model.num_attention_heads=4", NULL);
    assert_ok(bn_model_create(&f.config, 256, f.backend, BN_MODEL_FLOAT, &f.model));
    assert_ok(bn_model_alloc(f.model, false));
    assert_ok(bn_model_init(f.model, 3));
    fixture_save(&f, "wide.h5");
    bn_export_request request = {.output = "out.h5", .format = base3, .verify = true};
    assert_ok(export("wide.h5", request, f.backend, &report));
    assert_true(report.smallest_ratio >= 14);
    assert_true(8.0 * (double)report.quantized.bytes_stored / (double)report.quantized.weights <
                2.3);
    bn_export_report_clear(&report);
    bn_model_free(f.model);
    bn_config_clear(&f.config);
    fixture_close(&lender);
}

static void test_reencoding_is_exact(void **state)
{
    (void)state;
    fixture f;
    bn_export_set a, b;
    fixture_open(&f, NULL);
    fixture_save(&f, "model.h5");
    bn_export_request request = {.output = "one.h5", .format = base3, .verify = true};
    assert_ok(export("model.h5", request, f.backend, NULL));
    request = (bn_export_request){.output = "two.h5", .format = small, .verify = true};
    assert_ok(export("one.h5", request, f.backend, NULL));
    assert_ok(bn_export_collect_packed("one.h5", &a));
    assert_ok(bn_export_collect_packed("two.h5", &b));
    assert_int_equal(a.count, b.count);
    for (int i = 0; i < a.count; i++) {
        const bn_export_item *x = &a.items[i], *y = &b.items[i];
        assert_string_equal(x->name, y->name);
        if (x->coded)
            assert_memory_equal(x->codes, y->codes, (size_t)bn_export_numel(x) / 4);
        for (int64_t k = 0; k < x->count; k++)
            assert_true(x->coded || x->ndim == 1
                            ? x->data[k] == y->data[k]
                            : bn_export_round(x->data[k], BN_ENC_BFLOAT16) == y->data[k]);
    }
    bn_export_set_clear(&a);
    bn_export_set_clear(&b);
    fixture_close(&f);
}

/* What may happen to a file between writing and reading back. */
typedef enum damage { FLIP, CUT, SWAP, REMOVE, DAMAGES } damage;

static void do_damage(void *arg, const char *path)
{
    char *data;
    size_t size;
    assert_ok(bn_fs_read(path, 1 << 24, &data, &size));
    switch (*(const damage *)arg) {
    case FLIP: /* in the middle of the embedding, the largest tensor */
        data[size / 2] ^= 1;
        assert_ok(bn_fs_write(path, data, size));
        break;
    case CUT:
        assert_ok(bn_fs_write(path, data, size / 2));
        break;
    case SWAP: { /* a right file, of another model */
        char *other;
        size_t other_size;
        assert_ok(bn_fs_read("other.h5", 1 << 24, &other, &other_size));
        assert_ok(bn_fs_write(path, other, other_size));
        free(other);
        break;
    }
    default:
        assert_ok(bn_fs_remove(path));
    }
    free(data);
}

static void test_planted_corruption(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, NULL);
    fixture_save(&f, "model.h5");
    fixture_train(&f, 1);
    fixture_save_packed(&f, "other.h5");
    assert_ok(bn_fs_write("out.h5", "old", 3));
    unlink("out.h5.report.json");
    for (damage kind = FLIP; kind < DAMAGES; kind++) {
        bn_export_request request = {.output = "out.h5",
                                     .format = base3,
                                     .verify = true,
                                     .written = do_damage,
                                     .arg = &kind};
        char *data;
        assert_int_equal(export("model.h5", request, f.backend, NULL), BN_MISMATCH);
        assert_false(bn_fs_exists("out.h5.unverified"));
        assert_false(bn_fs_exists("out.h5.report.json"));
        assert_ok(bn_fs_read("out.h5", 100, &data, NULL)); /* untouched */
        assert_string_equal(data, "old");
        free(data);
    }
    fixture_close(&f);
}

/* Right numbers, wrong results: the probe is what sees that. */
static void test_wrong_results(void **state)
{
    (void)state;
    fixture f;
    bn_loaded loaded;
    bn_export_report report;
    fixture_open(&f, NULL);
    fixture_save(&f, "model.h5");
    assert_ok(bn_loaded_open("model.h5", f.backend, false, &loaded));
    /* The source computes with a rope table that no file carries. */
    float *rope = bn_tensor_data(&loaded.model->rope);
    rope[loaded.model->blocks[0].self_attn.head_dim * 20] *= 0.5f;
    unlink("out.h5");
    bn_export_request request = {
        .output = "out.h5", .producer = "test", .format = base3, .verify = true};
    assert_int_equal(bn_export_run(&request, &loaded, &report), BN_MISMATCH);
    assert_non_null(strstr(bn_error_text(), "integer products differ"));
    assert_non_null(strstr(bn_error_text(), "model.layers.0.self_attn.o_proj first"));
    assert_false(bn_fs_exists("out.h5"));
    bn_loaded_clear(&loaded);
    fixture_close(&f);
}

static void interrupt(void *arg, const char *path)
{
    (void)arg;
    (void)path;
    raise(SIGINT);
}

/* With nothing to verify, nothing else looks. */
static void test_interrupted(void **state)
{
    (void)state;
    fixture f;
    const bn_export_request request = {
        .output = "stopped.h5", .format = base3, .written = interrupt};
    fixture_open(&f, NULL);
    fixture_save(&f, "model.h5");
    assert_ok(bn_signals_install());
    assert_int_equal(export("model.h5", request, f.backend, NULL), BN_INTERRUPTED);
    assert_ok(bn_signals_install()); /* clears it */
    assert_false(bn_fs_exists("stopped.h5"));
    assert_false(bn_fs_exists("stopped.h5.unverified"));
    fixture_close(&f);
}

static void test_float16_overflow(void **state)
{
    (void)state;
    fixture f;
    bn_export_request request = {.output = "out.h5", .format = {BN_ENC_BASE3X5, BN_ENC_FLOAT16, 0}};
    fixture_open(&f, NULL);
    float *embedding = bn_tensor_data(&f.model->embed_tokens.weight->value);
    embedding[3] = 70000;
    fixture_save(&f, "model.h5");
    unlink("out.h5");
    assert_int_equal(export("model.h5", request, f.backend, NULL), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "float16"));
    assert_false(bn_fs_exists("out.h5"));
    assert_false(bn_fs_exists("out.h5.unverified"));
    fixture_close(&f);
}

static void test_sample(void **state)
{
    (void)state;
    bn_config config;
    bn_tokenizer *tokenizer;
    bn_sample a, b;
    char text[6000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)fixture_token((int64_t)i);
    assert_ok(bn_fs_write("text", text, sizeof text));
    assert_ok(bn_tokenizer_new("byte", &tokenizer));
    fixture_config(&config, NULL);

    assert_ok(bn_sample_open(&config, NULL, tokenizer, &a)); /* no such file: random */
    assert_ok(bn_sample_open(&config, NULL, tokenizer, &b));
    assert_true(a.random);
    assert_int_equal(a.batches * a.batch * a.time, 4096);
    assert_memory_equal(a.tokens, b.tokens, 4096 * sizeof(int32_t));
    bn_sample_clear(&a);
    bn_sample_clear(&b);

    assert_ok(bn_sample_open(&config, "text", tokenizer, &a)); /* asked for: all of it */
    assert_false(a.random);
    assert_string_equal(a.source, "text");
    assert_int_equal(*(const int32_t *)a.tokens, text[0]);
    assert_int_equal(a.labels[0], text[1]);
    bn_sample_clear(&a);
    assert_int_equal(bn_sample_open(&config, "missing", tokenizer, &a), BN_NO_INPUT);

    assert_ok(bn_config_set(&config, "data.train=text")); /* its last tenth */
    assert_ok(bn_sample_open(&config, NULL, tokenizer, &a));
    assert_false(a.random);
    assert_int_equal(*(const int32_t *)a.tokens, text[5400]);
    int64_t labels = 0;
    for (int64_t i = 0; i < a.batches; i++)
        labels += a.counts[i];
    assert_int_equal(labels, 599); /* the rest of the last batch is padding */
    bn_sample_clear(&a);

    /* A text that is there but bad is no reason to compare on noise instead. */
    assert_ok(bn_fs_write("short", "x", 1));
    assert_ok(bn_config_set(&config, "data.validation=short"));
    assert_int_equal(bn_sample_open(&config, NULL, tokenizer, &a), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "short"));
    assert_ok(bn_config_set(&config, "data.validation=null"));
    assert_ok(bn_config_set(&config, "data.validation_fraction=0")); /* nothing held out */
    assert_ok(bn_sample_open(&config, NULL, tokenizer, &a));
    assert_true(a.random);
    bn_sample_clear(&a);
    bn_tokenizer_free(tokenizer);
    bn_config_clear(&config);
}

/* A checkpoint and its packed file tell the same about the codes. */
static void test_inspection(void **state)
{
    (void)state;
    fixture f;
    bn_file_info checkpoint, packed;
    fixture_open(&f, NULL);
    fixture_train(&f, 2);
    fixture_save(&f, "model.h5");
    fixture_save_packed(&f, "packed.h5");
    assert_ok(bn_file_info_read("model.h5", &checkpoint));
    assert_ok(bn_file_info_read("packed.h5", &packed));
    assert_int_equal(checkpoint.state.step, 7);
    assert_int_equal(checkpoint.count, packed.count);
    int ternary = 0;
    for (int i = 0; i < packed.count; i++) {
        const bn_tensor_info *a = &checkpoint.tensors[i], *b = &packed.tensors[i];
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->coded, b->coded);
        assert_int_equal(a->bytes_float, b->bytes_float);
        if (!a->coded)
            continue;
        ternary++;
        assert_memory_equal(&a->q.codes, &b->q.codes, sizeof a->q.codes);
        assert_true(a->q.scale_min == b->q.scale_min && a->q.scale_max == b->q.scale_max);
        assert_true(fabs(a->q.scale_mean - b->q.scale_mean) <= 1e-12);
        assert_int_equal(a->group_size, b->group_size);
        assert_true(a->has_shadow && !b->has_shadow);
        assert_true(a->q.sqnr_db > 3 && a->q.cosine > 0.8 && a->q.mse > 0);
        assert_true(a->bytes_packed <= b->bytes_packed); /* the file adds checksums */
    }
    assert_int_equal(ternary, 14);
    bn_file_info_clear(&checkpoint);
    bn_file_info_clear(&packed);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_fourteen_times_smaller),
        cmocka_unit_test(test_reencoding_is_exact),
        cmocka_unit_test(test_planted_corruption),
        cmocka_unit_test(test_wrong_results),
        cmocka_unit_test(test_float16_overflow),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_sample),
        cmocka_unit_test(test_inspection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
