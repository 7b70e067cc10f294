/* From a path to a model: what loads, what is refused and how it says so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/rng.h"
#include "checkpoint/packed.h"
#include "tools/export.h"
#include "unit/model/model_fixture.h"

enum { VOCAB = 256, TIME = 70 };

static void random_row(int32_t *ids)
{
    bn_rng rng = bn_rng_of(9, 0);
    for (int i = 0; i < TIME; i++)
        ids[i] = (int32_t)bn_rng_below(&rng, VOCAB);
}

/* Opening fails with this status and these words in the message. */
static void check_refused(const fixture *f, const char *path, bn_status status, const char *words,
                          const char *more)
{
    bn_loaded loaded;
    memset(&loaded, 0xff, sizeof loaded); /* need not be initialised */
    const bn_status found = bn_loaded_open(path, f->backend, true, &loaded);
    const char *text = bn_error_text();
    if (found != status || !strstr(text, words) || !strstr(text, more))
        fail_msg("expected %d with \"%s\" and \"%s\", found %d: %s", status, words, more, found,
                 text);
    assert_null(strchr(text, '\n'));
    assert_null(loaded.model); /* cleared */
    bn_loaded_clear(&loaded);
}

static void test_checkpoint(void **state)
{
    (void)state;
    fixture f;
    bn_loaded loaded;
    int32_t ids[TIME];
    fixture_open(&f, NULL);
    fixture_train(&f, 3);
    fixture_save(&f, "plain.h5");
    random_row(ids);
    float *expected = fixture_full_logits(f.model, ids, TIME);
    for (int pack = 0; pack < 2; pack++) {
        assert_ok(bn_loaded_open("plain.h5", f.backend, pack, &loaded));
        assert_false(loaded.is_packed);
        assert_int_equal(loaded.step, 7);
        assert_string_equal(loaded.path, "plain.h5");
        assert_int_equal(loaded.config.model.hidden_size, 64);
        assert_int_equal(bn_tokenizer_vocab_size(loaded.tokenizer), VOCAB);
        assert_int_equal(loaded.model->packed.bytes > 0, pack);
        assert_int_equal(loaded.model->grads.bytes, 0);
        float *found = fixture_full_logits(loaded.model, ids, TIME);
        assert_memory_equal(expected, found, TIME * VOCAB * sizeof *found);
        free(found);
        bn_loaded_clear(&loaded);
    }
    free(expected);
    fixture_close(&f);
}

/* A packed file gives the bits of the checkpoint it was made from. */
static void check_packed(const char *set)
{
    fixture f;
    bn_loaded packed;
    int32_t ids[TIME];
    fixture_open(&f, set);
    fixture_train(&f, 3);
    random_row(ids);
    float *expected = fixture_full_logits(f.model, ids, TIME);
    fixture_save_packed(&f, "packed.h5");
    assert_ok(bn_loaded_open("packed.h5", f.backend, true, &packed));
    assert_true(packed.is_packed);
    assert_int_equal(packed.step, 0);
    float *found = fixture_full_logits(packed.model, ids, TIME);
    if (memcmp(expected, found, TIME * VOCAB * sizeof *found) != 0)
        fail_msg("%s: the packed model computes something else", set);
    free(found);
    free(expected);
    bn_loaded_clear(&packed);
    fixture_close(&f);
}

static void test_packed_equals_checkpoint(void **state)
{
    (void)state;
    check_packed("quantization.weight_scale=group");
    check_packed("quantization.weight_scale=row");
    check_packed("quantization.weight_scale=tensor");
    check_packed("quantization.activation_scale=tensor");
    check_packed("quantization.activation_bits=none");
    check_packed("quantization.activation_bits=4");
    check_packed("quantization.activation_scale=group");
    check_packed("quantization.activation_transform=hadamard");
    check_packed("quantization.weight_bits=none");
    check_packed("quantization.modules_to_not_convert=model.layers.0.*");
    check_packed("quantization.modules_to_not_convert=[]");
    check_packed("quantization.rules=[{\"match\":\"q_proj\",\"weight_bits\":\"none\"},"
                 "{\"match\":\"layers.1\",\"weight_scale\":\"row\"},"
                 "{\"match\":\"mlp\",\"group_size\":48},"
                 "{\"match\":\"k_proj\",\"activation_bits\":\"none\"}]");
    check_packed("model.tie_word_embeddings=false");
    check_packed("model.intermediate_size=83"); /* short groups, padded bytes */
}

static void test_untied_ternary_head(void **state)
{
    (void)state;
    fixture f, lender; /* of a backend */
    bn_loaded packed;
    int32_t ids[TIME];
    fixture_open(&lender, NULL);
    f = (fixture){.backend = lender.backend};
    fixture_config(&f.config, "model.tie_word_embeddings=false",
                   "quantization.modules_to_not_convert=[]", NULL);
    assert_ok(bn_model_create(&f.config, VOCAB, f.backend, BN_MODEL_FLOAT, &f.model));
    assert_ok(bn_model_alloc(f.model, false));
    assert_ok(bn_model_init(f.model, 6));
    random_row(ids);
    float *expected = fixture_full_logits(f.model, ids, TIME);
    fixture_save_packed(&f, "head.h5");
    assert_ok(bn_loaded_open("head.h5", f.backend, true, &packed));
    assert_null(packed.model->lm_head.weight);
    float *found = fixture_full_logits(packed.model, ids, TIME);
    assert_memory_equal(expected, found, TIME * VOCAB * sizeof *found);
    free(expected);
    free(found);
    bn_loaded_clear(&packed);
    bn_model_free(f.model);
    bn_config_clear(&f.config);
    fixture_close(&lender);
}

static void test_folder(void **state)
{
    (void)state;
    fixture f;
    bn_loaded loaded;
    bn_model_file kind;
    char *path;
    fixture_open(&f, NULL);
    assert_ok(bn_fs_mkdirs("folder"));
    unlink("folder/best");
    unlink("folder/checkpoint-00000003.h5");
    unlink("folder/checkpoint-00000005.h5");
    unlink("folder/checkpoint-00000009.h5");
    check_refused(&f, "folder", BN_NO_INPUT, "folder", "no checkpoint");
    fixture_save(&f, "folder/checkpoint-00000003.h5");
    fixture_save(&f, "folder/checkpoint-00000005.h5");
    assert_ok(bn_fs_write("folder/checkpoint-00000009.h5", "junk", 4));
    /* the newest that verifies, and what was passed over */
    assert_ok(bn_loaded_open("folder", f.backend, false, &loaded));
    assert_string_equal(loaded.path, "folder/checkpoint-00000005.h5");
    assert_int_equal(loaded.skipped.count, 1);
    assert_non_null(strstr(loaded.skipped.items[0], "checkpoint-00000009.h5"));
    bn_loaded_clear(&loaded);
    /* the best one, if it is known */
    assert_ok(bn_checkpoint_set_mark("folder", BN_MARK_BEST, 3));
    assert_ok(bn_model_locate("folder", &path, &kind, NULL));
    assert_string_equal(path, "folder/checkpoint-00000003.h5");
    assert_int_equal(kind, BN_MODEL_FILE_CHECKPOINT);
    free(path);
    fixture_close(&f);
}

static void test_not_a_model(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, NULL);
    check_refused(&f, "nowhere.h5", BN_NO_INPUT, "nowhere.h5", "");
    assert_ok(bn_fs_write("text.h5", "In the beginning", 16));
    check_refused(&f, "text.h5", BN_BAD_DATA, "text.h5", "");
    assert_ok(bn_fs_write("empty.h5", "", 0));
    check_refused(&f, "empty.h5", BN_BAD_DATA, "empty.h5", "");
    fixture_save(&f, "cut.h5");
    uint64_t size;
    assert_ok(bn_fs_size("cut.h5", &size));
    for (int part = 1; part < 8; part++) {
        fixture_save(&f, "cut.h5");
        assert_int_equal(truncate("cut.h5", (off_t)(size * (uint64_t)part / 8)), 0);
        check_refused(&f, "cut.h5", BN_BAD_DATA, "cut.h5", "");
    }
    fixture_close(&f);
}

/* ---- checkpoints with something wrong inside ---- */

static void test_checkpoint_tensors(void **state)
{
    (void)state;
    fixture f;
    int count;
    fixture_open(&f, NULL);
    bn_checkpoint_param *params = fixture_params(f.model, &count);
    bn_checkpoint_param first = params[0], last = params[count - 1];

    fixture_save_params(&f, "bad.h5", params + 1, count - 1, NULL, "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, first.name, "");
    fixture_save_params(&f, "bad.h5", params, count - 1, NULL, "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, last.name, "");

    params[0].shape[0] -= 1;
    fixture_save_params(&f, "bad.h5", params, count, NULL, "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, first.name, "[255, 64]");
    params[0] = first;

    params[0].name = "model.embed_tokens.wait";
    fixture_save_params(&f, "bad.h5", params, count, NULL, "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, "'model.embed_tokens.wait'", "does not belong");
    params[0] = first;

    fixture_params_free(params, count);
    fixture_close(&f);
}

static void test_checkpoint_head(void **state)
{
    (void)state;
    fixture f;
    int count;
    fixture_open(&f, NULL);
    bn_checkpoint_param *params = fixture_params(f.model, &count);
    fixture_save_params(&f, "bad.h5", params, count, "{\"model\": {\"hidden\": 3}}", "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, "bad.h5", "model.hidden");
    fixture_save_params(&f, "bad.h5", params, count, "{\"model\": ", "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, "bad.h5", "");
    /* values that do not fit each other: 64 / 5 heads */
    fixture_save_params(&f, "bad.h5", params, count, "{\"model\": {\"num_attention_heads\": 5}}",
                        "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, "bad.h5", "num_attention_heads");
    fixture_save_params(&f, "bad.h5", params, count, "{\"model\": {\"kind\": \"mlp\"}}", "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, "bad.h5", "mlp");
    fixture_save_params(&f, "bad.h5", params, count,
                        "{\"model\": {\"kind\": \"mlp\", \"input_size\": 8, \"num_labels\": 2}}",
                        "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, "bad.h5", "does not belong to the model");
    /* a rotary table beyond all measure, which no tensor's shape contradicts */
    fixture_save_params(&f, "bad.h5", params, count,
                        "{\"model\": {\"hidden_size\": 64, \"intermediate_size\": 96, "
                        "\"num_hidden_layers\": 2, \"num_attention_heads\": 1, "
                        "\"max_position_embeddings\": 16777216}}",
                        "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, "bad.h5", "RoPE table of 16777216 positions");
    fixture_save_params(&f, "bad.h5", params, count, "{\"model\": {\"vocab_size\": 3}}", "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, "bad.h5", "vocab_size");
    fixture_save_params(&f, "bad.h5", params, count, NULL, "runes");
    check_refused(&f, "bad.h5", BN_BAD_DATA, "bad.h5", "runes");
    /* another model's config: its tensors are not there */
    fixture_save_params(&f, "bad.h5", params, count, "{\"model\": {\"hidden_size\": 64}}", "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, "bad.h5", "");
    /* petabytes of them: found before any memory is asked for */
    fixture_save_params(&f, "bad.h5", params, count,
                        "{\"model\": {\"hidden_size\": 1048576, \"intermediate_size\": 1048576, "
                        "\"num_hidden_layers\": 20}}",
                        "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, "bad.h5", "1048576");
    /* more layers than the file could hold: found before they are made */
    fixture_save_params(&f, "bad.h5", params, count, "{\"model\": {\"num_hidden_layers\": 4096}}",
                        "byte");
    check_refused(&f, "bad.h5", BN_BAD_DATA, "bad.h5", "model.num_hidden_layers is 4096");
    fixture_params_free(params, count);
    fixture_close(&f);
}

/* ---- packed files with something wrong inside ---- */

/* Writes the set under the fixture's config and expects a refusal. */
static void check_set(fixture *f, const bn_export_set *set, const char *words, const char *more)
{
    const bn_export_format format = {BN_ENC_TERNARY2, BN_ENC_FLOAT32, 0};
    char *json;
    assert_ok(bn_config_dump(&f->config, &json));
    const bn_packed_info info = {json, "byte", "test"};
    assert_ok(bn_export_write("bad.h5", &info, set, &format));
    check_refused(f, "bad.h5", BN_BAD_DATA, words, more);
    free(json);
}

static void test_packed_tensors(void **state)
{
    (void)state;
    fixture f;
    bn_export_set set;
    fixture_open(&f, NULL);
    assert_ok(bn_model_pack(f.model));
    assert_ok(bn_export_collect_model(f.model, &set));
    bn_export_item *weight = &set.items[0], *norm = &set.items[set.count - 1];
    assert_true(weight->coded);
    assert_false(norm->coded);
    const bn_export_item old_weight = *weight, old_norm = *norm;

    set.count--;
    check_set(&f, &set, old_norm.name, "found none");
    set.count++;
    bn_export_set rest = {set.items + 1, set.count - 1};
    check_set(&f, &rest, old_weight.name, "found none");

    strcpy(weight->name, "model.layers.9.mlp.up_proj.weight");
    check_set(&f, &set, weight->name, "does not belong");
    *weight = old_weight;
    strcpy(norm->name, "model.abnorm.weight");
    check_set(&f, &set, norm->name, "does not belong");
    *norm = old_norm;

    weight->shape[0] = 32; /* fewer rows of the same codes */
    check_set(&f, &set, old_weight.name, "[32, 64]");
    *weight = old_weight;
    norm->shape[0] = 63;
    check_set(&f, &set, old_norm.name, "[63]");
    *norm = old_norm;

    weight->group_size = BN_PER_ROW;
    check_set(&f, &set, old_weight.name, "groups of 32");
    *weight = old_weight;

    /* floats where codes belong */
    weight->coded = false;
    weight->data = calloc(64 * 64, sizeof(float));
    check_set(&f, &set, old_weight.name, "found float32");
    free(weight->data);
    *weight = old_weight;

    /* codes where floats belong */
    for (int i = 0; i < set.count; i++)
        if (strcmp(set.items[i].name, "model.embed_tokens.weight") == 0) {
            bn_export_item *embedding = &set.items[i], old = *embedding;
            embedding->coded = true;
            embedding->group_size = BN_PER_ROW;
            embedding->codes = malloc(256 * 16);
            memset(embedding->codes, 0x55, 256 * 16);
            for (int k = 0; k < 256; k++)
                embedding->data[k] = 1;
            check_set(&f, &set, "model.embed_tokens.weight", "expected a float tensor");
            free(embedding->codes);
            *embedding = old;
        }
    bn_export_set_clear(&set);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoint),          cmocka_unit_test(test_packed_equals_checkpoint),
        cmocka_unit_test(test_untied_ternary_head), cmocka_unit_test(test_folder),
        cmocka_unit_test(test_not_a_model),         cmocka_unit_test(test_checkpoint_tensors),
        cmocka_unit_test(test_checkpoint_head),     cmocka_unit_test(test_packed_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
