/* Hugging Face folders: every form that is exported imports as the same model,
 * and what does not is refused. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "interop/safetensors.h"
#include "tools/hf_export.h"
#include "tools/hf_import.h"
#include "unit/model/model_fixture.h"

static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors",
                                    "tokenizer.json", "tokenizer_config.json"};

static void remove_folder(const char *dir)
{
    for (int i = 0; i < 5; i++) {
        char *path = bn_path_join(dir, files[i]);
        unlink(path);
        free(path);
    }
    rmdir(dir);
}

static bn_status export_as(const char *source, bn_hf_export_request request, bn_backend *backend)
{
    bn_loaded loaded;
    bn_export_report report;
    remove_folder("out");
    request.output = "out";
    request.producer = "test";
    request.verify = true;
    assert_ok(bn_loaded_open(source, backend, false, &loaded));
    bn_status status = bn_hf_export_run(&request, &loaded, &report);
    bn_export_report_clear(&report);
    bn_loaded_clear(&loaded);
    assert_false(bn_fs_exists("out.unverified"));
    assert_false(bn_fs_exists("out.unverified.h5"));
    assert_int_equal(bn_fs_exists("out"), status == BN_OK);
    return status;
}

/* Which forms hold a model of these settings: packed, bf16, float32, shadow. */
static void forms(const char *set, const char *expected)
{
    fixture f;
    fixture_open(&f, set);
    fixture_train(&f, 2);
    fixture_save(&f, "model.h5");
    for (int form = 0; form < BN_HF_FORMS; form++) {
        const bn_hf_export_request request = {.form = (bn_hf_form)form,
                                              .floats = form == BN_HF_BF16 ? BN_ENC_BFLOAT16
                                                                           : BN_ENC_FLOAT32};
        const bn_status status = export_as("model.h5", request, f.backend);
        if (status != (expected[form] == 'y' ? BN_OK : BN_USAGE))
            fail_msg("%s as %s: status %d, %s", set, bn_hf_form_name((bn_hf_form)form), status,
                     bn_error_text());
    }
    fixture_close(&f);
}

static void test_forms(void **state)
{
    (void)state;
    forms("quantization.weight_scale=tensor", "yyyy");
    forms("quantization.weight_scale=row", "nyyn");
    forms("quantization.group_size=64", "nyyn");
    forms("quantization.weight_bits=none", "nyyn");
    forms("quantization.activation_bits=none", "nyyn");
    forms("quantization.activation_scale=tensor", "nnnn");
    forms("quantization.activation_scale=group", "nnnn");
    forms("quantization.activation_bits=4", "nnnn");
    forms("quantization.activation_transform=hadamard", "nnnn");
}

static void test_packed_source(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, "quantization.weight_scale=tensor");
    fixture_save_packed(&f, "packed.h5");
    bn_hf_export_request request = {.form = BN_HF_PACKED, .floats = BN_ENC_FLOAT16};
    assert_ok(export_as("packed.h5", request, f.backend));
    request.form = BN_HF_SHADOW;
    assert_int_equal(export_as("packed.h5", request, f.backend), BN_USAGE);
    fixture_close(&f);
}

/* A model of bytes leaves with a tokenizer that others read, and comes back as one. */
static void test_byte_tokenizer(void **state)
{
    (void)state;
    fixture f;
    bn_tokenizer *tokenizer;
    bn_import_report report;
    bn_loaded loaded;
    const bn_import_request request = {.dir = "out", .output = "back.h5", .producer = "test"};
    char bytes[256];
    int32_t ids[1024]; /* bn_tokenizer_max_tokens() may be generous */
    size_t count;
    fixture_open(&f, "quantization.weight_scale=tensor");
    fixture_save(&f, "model.h5");
    const bn_hf_export_request form = {.form = BN_HF_SHADOW, .floats = BN_ENC_FLOAT32};
    assert_ok(export_as("model.h5", form, f.backend));
    assert_ok(bn_tokenizer_open("out/tokenizer.json", &tokenizer));
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)(i * 7);
    assert_int_equal(bn_tokenizer_vocab_size(tokenizer), 256);
    assert_ok(bn_tokenizer_encode(tokenizer, bytes, sizeof bytes, ids, &count));
    assert_int_equal(count, 256);
    for (int i = 0; i < 256; i++)
        assert_int_equal(ids[i], (unsigned char)bytes[i]);
    bn_tokenizer_free(tokenizer);
    unlink("back.h5");
    assert_ok(bn_import_run(&request, &report));
    bn_import_report_clear(&report);
    assert_ok(bn_loaded_open("back.h5", f.backend, false, &loaded));
    assert_string_equal(bn_tokenizer_name(loaded.tokenizer), "byte");
    bn_loaded_clear(&loaded);
    fixture_close(&f);
}

/* Changes one byte of the data, or puts a folder of another kind there. */
static void damage(void *arg, const char *dir)
{
    char *path = bn_path_join(dir, files[*(int *)arg ? 2 : 0]), *data;
    size_t size;
    assert_ok(bn_fs_read(path, 1 << 26, &data, &size));
    if (*(int *)arg)
        data[size - 1] ^= 1; /* codes -1, 0 or invalid ones */
    else
        memcpy(strstr(data, "relu2"), "silu\" ", 6);
    assert_ok(bn_fs_write(path, data, size));
    free(data);
    free(path);
}

static void test_damaged_before_verification(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, "quantization.weight_scale=tensor");
    fixture_save(&f, "model.h5");
    for (int kind = 0; kind < 2; kind++) {
        const bn_hf_export_request request = {
            .form = BN_HF_PACKED, .floats = BN_ENC_FLOAT32, .written = damage, .arg = &kind};
        assert_int_equal(export_as("model.h5", request, f.backend), BN_MISMATCH);
    }
    fixture_close(&f);
}

static void test_full_folder_is_left_alone(void **state)
{
    (void)state;
    fixture f;
    bn_loaded loaded;
    bn_export_report report;
    const bn_hf_export_request request = {
        .output = "full", .producer = "test", .form = BN_HF_FLOAT32, .floats = BN_ENC_FLOAT32};
    fixture_open(&f, NULL);
    fixture_save(&f, "model.h5");
    assert_ok(bn_fs_mkdirs("full"));
    assert_ok(bn_fs_write("full/mine", "x", 1));
    assert_ok(bn_loaded_open("model.h5", f.backend, false, &loaded));
    assert_int_equal(bn_hf_export_run(&request, &loaded, &report), BN_USAGE);
    assert_true(bn_fs_exists("full/mine"));
    bn_loaded_clear(&loaded);
    fixture_close(&f);
}

/* ---- imports of folders that others make ---- */

typedef struct edit {
    const char *config;    /* in place of the exported config.json's model_type */
    const char *rename[2]; /* of tensors: part of the name, and what it becomes */
    const char *drop;      /* tensors whose name has this are left out */
    const char *extra;     /* a tensor [2] of this name is added */
    bool head;             /* an lm_head of zeros in float32 is added */
    bool misnamed_rule;    /* for the import */
} edit;

enum { VOCAB = 256, HIDDEN = 64 };

static char *renamed(const char *name, const edit *e)
{
    const char *at = e->rename[0] ? strstr(name, e->rename[0]) : NULL;
    return at ? bn_format("%.*s%s%s", (int)(at - name), name, e->rename[1],
                          at + strlen(e->rename[0]))
              : bn_strdup(name);
}

/* Writes the tensors of "out" into "theirs", changed. */
static void write_theirs(const edit *e)
{
    bn_st_reader *from;
    bn_st_writer *to;
    static const unsigned char zeros[VOCAB * HIDDEN * sizeof(float)];
    bn_st_spec specs[64] = {{0}};
    const unsigned char *data[64];
    int n = 0;
    assert_ok(bn_fs_mkdirs("theirs"));
    assert_ok(bn_fs_write("theirs/config.json", e->config, strlen(e->config)));
    assert_ok(bn_st_open_dir("out", &from));
    for (int i = 0; i < bn_st_count(from); i++) {
        const bn_st_tensor *t = bn_st_at(from, i);
        if (e->drop && strstr(t->name, e->drop))
            continue;
        specs[n] = (bn_st_spec){.name = renamed(t->name, e), .dtype = t->dtype, .ndim = t->ndim};
        memcpy(specs[n].shape, t->shape, sizeof t->shape);
        data[n++] = t->data;
    }
    if (e->extra) {
        specs[n] = (bn_st_spec){bn_strdup(e->extra), BN_ST_F32, 1, {2}};
        data[n++] = zeros;
    }
    if (e->head) {
        specs[n] = (bn_st_spec){bn_strdup("lm_head.weight"), BN_ST_F32, 2, {VOCAB, HIDDEN}};
        data[n++] = zeros;
    }
    assert_ok(bn_st_create("theirs/model.safetensors", specs, n, "pt", &to));
    for (int i = 0; i < n; i++) {
        size_t bytes = (size_t)bn_st_dtype_size(specs[i].dtype);
        for (int d = 0; d < specs[i].ndim; d++)
            bytes *= (size_t)specs[i].shape[d];
        assert_ok(bn_st_write(to, data[i], bytes));
        free((void *)(uintptr_t)specs[i].name);
    }
    assert_ok(bn_st_commit(to));
    bn_st_close(from);
}

#define UNTIED(type, more)                                                                         \
    "{\"model_type\":\"" type "\",\"vocab_size\":256,\"hidden_size\":64,"                          \
    "\"intermediate_size\":96,\"num_hidden_layers\":2,\"num_attention_heads\":4,"                  \
    "\"num_key_value_heads\":2,\"max_position_embeddings\":160" more "}"
#define CONFIG(type, more) UNTIED(type, ",\"tie_word_embeddings\":true" more)
#define OFFLINE                                                                                    \
    ",\"quantization_config\":{\"quant_method\":\"bitnet\",\"linear_class\":\"autobitlinear\"}"

static bn_status import_theirs(const edit *e, bn_import_report *report)
{
    static char rule[] = "quantization.rules=[{\"match\":\"q_prj\",\"group_size\":32}]";
    static char *settings[] = {rule};
    const bn_strings set = {settings, e->misnamed_rule ? 1 : 0};
    const bn_import_request request = {
        .dir = "theirs", .output = "imported.h5", .producer = "test", .set = &set};
    write_theirs(e);
    unlink("imported.h5");
    return bn_import_run(&request, report);
}

static void imports(const edit *e, const char *said)
{
    bn_import_report report;
    assert_ok(import_theirs(e, &report));
    if (!strstr(report.json, said))
        fail_msg("'%s' is not in %s", said, report.json);
    assert_true(bn_fs_exists("imported.h5"));
    bn_import_report_clear(&report);
}

static void refuses(const edit *e, const char *reason)
{
    bn_import_report report;
    assert_int_equal(import_theirs(e, &report), BN_BAD_DATA);
    if (!strstr(bn_error_text(), reason))
        fail_msg("refused because: %s", bn_error_text());
    assert_false(bn_fs_exists("imported.h5"));
}

static void test_imports(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, "quantization.weight_scale=tensor");
    fixture_save(&f, "model.h5");
    const bn_hf_export_request request = {.form = BN_HF_SHADOW, .floats = BN_ENC_FLOAT32};
    assert_ok(export_as("model.h5", request, f.backend));
    imports(&(edit){.config = CONFIG("bitnet", "")}, "\"float weights\"");
    imports(&(edit){.config = CONFIG("llama", ""), .drop = "sub_norm"},
            "model.layers.1.mlp.ffn_sub_norm.weight");
    imports(&(edit){.config = CONFIG("llama", ",\"weight_bits\":1"),
                    .rename = {"attn_sub_norm", "inner_attn_ln"}},
            "inner_attn_ln.weight -> model.layers.0.self_attn.attn_sub_norm.weight");
    imports(&(edit){.config = CONFIG("bitnet", ""),
                    .extra = "model.layers.0.self_attn.rotary_emb.inv_freq"},
            "inv_freq: computed from rope_theta");
    imports(&(edit){.config = CONFIG("bitnet", ""), .extra = "lm_head.weight"},
            "lm_head.weight: the head is the embedding");
    refuses(&(edit){.config = CONFIG("bitnet", ""), .drop = "sub_norm"}, "expected a tensor");
    refuses(&(edit){.config = CONFIG("bitnet", ""), .extra = "model.layers.0.mlp.up_proj.bias"},
            "does not belong");
    refuses(&(edit){.config = CONFIG("bitnet", ",\"head_dim\":8")}, "head_dim");
    const edit misnamed = {
        .config = CONFIG("llama", ""), .drop = "sub_norm", .misnamed_rule = true};
    bn_import_report report;
    assert_int_equal(import_theirs(&misnamed, &report), BN_BAD_CONFIG);
    assert_non_null(strstr(bn_error_text(), "\"q_prj\" matches none"));
    refuses(&(edit){.config =
                        CONFIG("bitnet", ",\"quantization_config\":{\"quant_method\":\"bitnet\"}")},
            "expected a ternary value");
    fixture_close(&f);
}

/* The same codes with the reciprocal meaning of the scale. */
static void test_scale_directions(void **state)
{
    (void)state;
    fixture f;
    bn_export_set once, again;
    bn_import_report report;
    const edit multiplies = {.config = CONFIG("bitnet", OFFLINE)};
    const edit divides = {
        .config = CONFIG("bitnet", ",\"quantization_config\":{\"quant_method\":\"bitnet\"}")};
    fixture_open(&f, "quantization.weight_scale=tensor");
    fixture_save(&f, "model.h5");
    const bn_hf_export_request request = {.form = BN_HF_PACKED, .floats = BN_ENC_FLOAT32};
    assert_ok(export_as("model.h5", request, f.backend));
    assert_ok(import_theirs(&multiplies, &report));
    assert_true(report.packed);
    bn_import_report_clear(&report);
    assert_ok(bn_export_collect_packed("imported.h5", &once));
    assert_ok(import_theirs(&divides, &report));
    bn_import_report_clear(&report);
    assert_ok(bn_export_collect_packed("imported.h5", &again));
    for (int i = 0; i < once.count; i++)
        if (once.items[i].coded)
            assert_true(again.items[i].data[0] == 1 / once.items[i].data[0]);
    bn_export_set_clear(&once);
    bn_export_set_clear(&again);
    fixture_close(&f);
}

/* Short matrices go into a packed file as they are, unless another one is wide. */
static void test_stored_types(void **state)
{
    (void)state;
    static const char name[] = "model.embed_tokens.weight";
    static const bn_encoding types[] = {BN_ENC_BFLOAT16, BN_ENC_FLOAT16};
    fixture f;
    bn_import_report report;
    bn_export_set stored, widened;
    const edit same = {.config = CONFIG("bitnet", OFFLINE)};
    const edit mixed = {.config = UNTIED("bitnet", OFFLINE), .head = true};
    fixture_open(&f, "quantization.weight_scale=tensor");
    fixture_save(&f, "model.h5");
    for (int i = 0; i < 2; i++) {
        const bn_hf_export_request request = {.form = BN_HF_PACKED, .floats = types[i]};
        assert_ok(export_as("model.h5", request, f.backend));
        assert_ok(import_theirs(&same, &report));
        assert_non_null(strstr(report.json, bn_encoding_name(types[i])));
        bn_import_report_clear(&report);
        assert_ok(bn_export_collect_packed("imported.h5", &stored));
        assert_ok(import_theirs(&mixed, &report));
        assert_non_null(strstr(report.json, "\"float32\""));
        bn_import_report_clear(&report);
        assert_ok(bn_export_collect_packed("imported.h5", &widened));
        for (int k = 0; k < stored.count; k++)
            if (strcmp(stored.items[k].name, name) == 0) {
                const float *exact = f.model->embed_tokens.weight->value.buffer
                                         ? bn_tensor_data(&f.model->embed_tokens.weight->value)
                                         : NULL;
                /* the head sorts before it */
                const bn_export_item *other = &widened.items[k + 1];
                assert_string_equal(other->name, name);
                for (int64_t e = 0; e < stored.items[k].count; e++) {
                    assert_true(stored.items[k].data[e] == bn_export_round(exact[e], types[i]));
                    assert_true(stored.items[k].data[e] == other->data[e]);
                }
            }
        bn_export_set_clear(&stored);
        bn_export_set_clear(&widened);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_packed_source),
        cmocka_unit_test(test_byte_tokenizer),
        cmocka_unit_test(test_damaged_before_verification),
        cmocka_unit_test(test_full_folder_is_left_alone),
        cmocka_unit_test(test_imports),
        cmocka_unit_test(test_scale_directions),
        cmocka_unit_test(test_stored_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
