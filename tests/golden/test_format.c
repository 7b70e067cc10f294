/* Files of every format version that was ever written stay readable.
 *
 * format/v1-*: written once by `test_format --write FOLDER` of the program that
 * introduced the version, from the numbers below; the v1-model files by
 * bitnet-train and bitnet-export, with what the model says (v1-model.txt).
 * They are never written again: a new version adds files and a table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka_all.h"

#include "base/fs.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/packed.h"
#include "cpu/cpu.h"
#include "data/corpus.h"
#include "data/token_shard.h"
#include "model/load.h"
#include "model/session.h"
#include "quant/pack.h"
#include "quant/quantize.h"

enum { OUT = 3, IN = 37, TOKENS = 300 };

static int code_at(int64_t i)
{
    return (int)(i * 5 % 7 % 3) - 1;
}

static float value_at(int64_t i)
{
    return (float)(i % 11 - 5) * 0.25f; /* exact in float16 and bfloat16 */
}

static float scale_at(int64_t i)
{
    return 0.125f * (float)(i + 1);
}

static const struct {
    const char *name;
    bn_encoding encoding;
    int64_t group_size;
} tensors[] = {{"a.weight", BN_ENC_TERNARY2, 32},    {"b.weight", BN_ENC_BASE3X5, -1},
               {"c.weight", BN_ENC_BASE3X5, 0},      {"norm.weight", BN_ENC_FLOAT32, 0},
               {"embed.weight", BN_ENC_BFLOAT16, 0}, {"half.weight", BN_ENC_FLOAT16, 0}};
enum { TENSORS = sizeof tensors / sizeof *tensors };

/* The encodings that version 1 got later. */
static const struct {
    const char *name;
    bn_encoding encoding;
    int64_t group_size;
} grids[] = {{"binary.weight", BN_ENC_BINARY1, 32},
             {"int2.weight", BN_ENC_INT2, -1},
             {"int3.weight", BN_ENC_INT3, 0},
             {"int4.weight", BN_ENC_INT4, 32},
             {"int8.weight", BN_ENC_INT8, -1}};
enum { GRIDS = sizeof grids / sizeof *grids };

/* All codes of a grid in turn. */
static int grid_code_at(bn_grid grid, int64_t i)
{
    const int max = bn_grid_table[grid].max, step = bn_grid_table[grid].odd ? 2 : 1;
    return (int)(i * 5 % (2 * max / step + 1)) * step - max;
}

static const char config[] = "{\"model\": {\"hidden_size\": 64}}";

static const char *golden(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/format/%s", getenv("BITNET_SOURCE_DIR"), name);
    return path;
}

/* ---- writing; once per version ---- */

static bn_status write_packed(const char *path)
{
    static int8_t codes[OUT * IN];
    static uint8_t t2[OUT * (IN / 4 + 1)];
    static float scales[OUT * 2], floats[OUT * IN];
    bn_packed_tensor list[TENSORS] = {0};
    const bn_packed_info info = {config, "byte", "golden 1"};
    for (int i = 0; i < OUT * IN; i++) {
        codes[i] = (int8_t)code_at(i);
        floats[i] = value_at(i);
    }
    for (int i = 0; i < OUT * 2; i++)
        scales[i] = scale_at(i);
    bn_t2_pack(codes, OUT, IN, t2);
    for (int i = 0; i < TENSORS; i++) {
        const bool ternary = bn_encoding_is_codes(tensors[i].encoding);
        list[i] = (bn_packed_tensor){.name = tensors[i].name,
                                     .encoding = tensors[i].encoding,
                                     .ndim = 2,
                                     .shape = {OUT, IN},
                                     .group_size = tensors[i].group_size,
                                     .codes = ternary ? t2 : NULL,
                                     .data = ternary ? scales : floats};
    }
    return bn_packed_write(path, &info, list, TENSORS, 6);
}

static bn_status write_grids(const char *path)
{
    static int8_t wide[GRIDS][OUT * IN];
    static uint8_t t2[OUT * (IN / 4 + 1)];
    static float scales[OUT * 2];
    bn_packed_tensor list[GRIDS] = {0};
    const bn_packed_info info = {config, "byte", "golden 1, other grids"};
    for (int i = 0; i < OUT * 2; i++)
        scales[i] = scale_at(i);
    for (int i = 0; i < GRIDS; i++) {
        const bn_grid grid = bn_encoding_grid(grids[i].encoding);
        for (int k = 0; k < OUT * IN; k++)
            wide[i][k] = (int8_t)grid_code_at(grid, k);
        if (bn_grid_dtype(grid) == BN_T2)
            bn_t2_pack(wide[i], OUT, IN, t2);
        list[i] = (bn_packed_tensor){
            .name = grids[i].name,
            .encoding = grids[i].encoding,
            .ndim = 2,
            .shape = {OUT, IN},
            .group_size = grids[i].group_size,
            .codes = bn_grid_dtype(grid) == BN_T2 ? t2 : (const uint8_t *)wide[i],
            .data = scales};
    }
    return bn_packed_write(path, &info, list, GRIDS, 6);
}

static bn_status write_checkpoint(const char *path)
{
    static float values[OUT * IN];
    const bn_train_state state = {.step = 1000,
                                  .tokens_seen = 123456,
                                  .seed = UINT64_MAX,
                                  .data_seed = 2,
                                  .data_epoch = 3,
                                  .data_index = 4,
                                  .best_val_loss = 1.25,
                                  .best_step = 900,
                                  .evals_since_best = 1,
                                  .metrics_bytes = 5,
                                  .elapsed_s = 60.5,
                                  .config_json = config,
                                  .tokenizer = "byte",
                                  .producer = "golden 1",
                                  .device = "cpu"};
    const bn_checkpoint_param params[] = {{"x", 2, {OUT, IN}, values, values, values, NULL, NULL},
                                          {"y", 1, {OUT}, values, values, values, NULL, NULL}};
    const bn_checkpoint_extra extra = {"more", "bytes", 5};
    for (int i = 0; i < OUT * IN; i++)
        values[i] = value_at(i);
    return bn_checkpoint_save(path, &state, params, 2, &extra, 1);
}

static bn_status write_tokens(const char *path)
{
    int32_t ids[TOKENS];
    bn_tokenizer *tokenizer;
    bn_shard_writer *writer = NULL;
    for (int i = 0; i < TOKENS; i++)
        ids[i] = i * 7 % 256;
    BN_TRY(bn_tokenizer_new("byte", &tokenizer));
    bn_status status = bn_shard_writer_new(path, tokenizer, &writer);
    if (status == BN_OK)
        status = bn_shard_writer_append(writer, ids, TOKENS);
    if (status == BN_OK)
        status = bn_shard_writer_finish(writer);
    bn_shard_writer_free(writer);
    bn_tokenizer_free(tokenizer);
    return status;
}

static int write_all(const char *folder)
{
    static const struct {
        const char *name;
        bn_status (*write)(const char *path);
    } files[] = {{"v1-packed.h5", write_packed},
                 {"v1-packed-grids.h5", write_grids},
                 {"v1-checkpoint.h5", write_checkpoint},
                 {"v1-tokens.bnt", write_tokens}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
        if (files[i].write(path) != BN_OK) {
            fprintf(stderr, "%s\n", bn_error_text());
            return 1;
        }
    }
    return 0;
}

/* ---- reading; for ever ---- */

static void test_packed_v1(void **state)
{
    bn_packed *p;
    uint8_t t2[OUT * (IN / 4 + 1)];
    float numbers[OUT * IN];
    (void)state;
    assert_ok(bn_packed_open(golden("v1-packed.h5"), &p));
    assert_string_equal(bn_packed_get_info(p)->config_json, config);
    assert_string_equal(bn_packed_get_info(p)->tokenizer, "byte");
    assert_string_equal(bn_packed_get_info(p)->producer, "golden 1");
    assert_int_equal(bn_packed_count(p), TENSORS);
    for (int i = 0; i < TENSORS; i++) {
        const bn_packed_entry *e;
        assert_ok(bn_packed_expect(p, tensors[i].name, 2, (const int64_t[]){OUT, IN}, &e));
        assert_int_equal(e->encoding, tensors[i].encoding);
        if (!bn_encoding_is_codes(e->encoding)) {
            assert_ok(bn_packed_read_float(p, e, numbers));
            for (int k = 0; k < OUT * IN; k++)
                assert_true(numbers[k] == value_at(k));
            continue;
        }
        assert_int_equal(e->group_size, tensors[i].group_size);
        assert_ok(bn_packed_read_codes(p, e, t2, numbers));
        for (int k = 0; k < OUT * IN; k++)
            assert_int_equal(bn_t2_get(t2 + k / IN * bn_t2_row_bytes(IN), k % IN), code_at(k));
        for (int64_t k = 0; k < bn_scale_count(OUT, IN, e->group_size); k++)
            assert_true(numbers[k] == scale_at(k));
    }
    bn_packed_close(p);
}

static void test_grids_v1(void **state)
{
    bn_packed *p;
    uint8_t codes[OUT * IN];
    float scales[OUT * 2];
    (void)state;
    assert_ok(bn_packed_open(golden("v1-packed-grids.h5"), &p));
    assert_int_equal(bn_packed_count(p), GRIDS);
    for (int i = 0; i < GRIDS; i++) {
        const bn_packed_entry *e;
        const bn_grid grid = bn_encoding_grid(grids[i].encoding);
        const int64_t row = bn_grid_row_bytes(grid, IN);
        assert_ok(bn_packed_expect(p, grids[i].name, 2, (const int64_t[]){OUT, IN}, &e));
        assert_int_equal(e->encoding, grids[i].encoding);
        assert_int_equal(e->group_size, grids[i].group_size);
        assert_ok(bn_packed_read_codes(p, e, codes, scales));
        for (int k = 0; k < OUT * IN; k++)
            assert_int_equal(bn_code_get(bn_grid_dtype(grid), codes + k / IN * row, k % IN),
                             grid_code_at(grid, k));
        for (int64_t k = 0; k < bn_scale_count(OUT, IN, e->group_size); k++)
            assert_true(scales[k] == scale_at(k));
    }
    bn_packed_close(p);
}

static void test_checkpoint_v1(void **state)
{
    float x[OUT * IN], m[OUT * IN], v[OUT * IN], y[OUT];
    const bn_checkpoint_param params[] = {{"x", 2, {OUT, IN}, x, m, v, NULL, NULL},
                                          {"y", 1, {OUT}, y, NULL, NULL, NULL, NULL}};
    bn_checkpoint *c;
    void *extra;
    size_t bytes;
    (void)state;
    assert_ok(bn_checkpoint_verify(golden("v1-checkpoint.h5")));
    assert_ok(bn_checkpoint_open(golden("v1-checkpoint.h5"), &c));
    const bn_train_state *s = bn_checkpoint_state(c);
    assert_true(s->step == 1000 && s->tokens_seen == 123456 && s->seed == UINT64_MAX);
    assert_true(s->data_seed == 2 && s->data_epoch == 3 && s->data_index == 4);
    assert_true(s->best_val_loss == 1.25 && s->best_step == 900 && s->evals_since_best == 1);
    assert_true(s->metrics_bytes == 5 && s->elapsed_s == 60.5);
    assert_string_equal(s->config_json, config);
    assert_string_equal(s->device, "cpu");
    assert_ok(bn_checkpoint_load(c, params, 2));
    for (int i = 0; i < OUT * IN; i++)
        assert_true(x[i] == value_at(i) && m[i] == value_at(i) && v[i] == value_at(i));
    assert_true(y[2] == value_at(2));
    assert_ok(bn_checkpoint_get_extra(c, "more", 5, &extra, &bytes));
    assert_int_equal(bytes, 5);
    assert_memory_equal(extra, "bytes", 5);
    free(extra);
    bn_checkpoint_close(c);
}

static void test_tokens_v1(void **state)
{
    int32_t ids[TOKENS];
    bn_tokenizer *tokenizer;
    bn_corpus *corpus;
    (void)state;
    assert_ok(bn_tokenizer_new("byte", &tokenizer));
    assert_ok(bn_corpus_open(golden("v1-tokens.bnt"), tokenizer, &corpus));
    assert_int_equal(bn_corpus_size(corpus), TOKENS);
    bn_corpus_copy(corpus, 0, TOKENS, ids);
    for (int i = 0; i < TOKENS; i++)
        assert_int_equal(ids[i], i * 7 % 256);
    bn_corpus_free(corpus);
    bn_tokenizer_free(tokenizer);
}

/* The likeliest bytes after a prompt. */
static void assert_says(const char *name, const char *want, size_t size)
{
    enum { PROMPT = 8 };
    int32_t ids[256];
    float logits[256];
    bn_backend *backend;
    bn_loaded loaded;
    bn_session *session;
    assert_ok(bn_cpu_backend_new(NULL, &backend));
    assert_ok(bn_loaded_open(golden(name), backend, true, &loaded));
    assert_ok(bn_session_new(loaded.model, 0, &session));
    for (int i = 0; i < PROMPT; i++)
        ids[i] = (unsigned char)want[i];
    assert_ok(bn_session_feed(session, ids, PROMPT, logits));
    for (size_t at = PROMPT; at < size; at++) {
        int32_t best = 0;
        for (int32_t k = 1; k < 256; k++)
            best = logits[k] > logits[best] ? k : best;
        assert_int_equal(best, (unsigned char)want[at]);
        assert_ok(bn_session_feed(session, &best, 1, logits));
    }
    bn_session_free(session);
    bn_loaded_clear(&loaded);
    bn_backend_free(backend);
}

static void test_model_v1(void **state)
{
    char *want;
    size_t size;
    (void)state;
    assert_ok(bn_fs_read(golden("v1-model.txt"), 256, &want, &size));
    assert_true(size > 16);
    assert_says("v1-model-checkpoint.h5", want, size);
    assert_says("v1-model-packed.h5", want, size);
    free(want);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packed_v1),     cmocka_unit_test(test_grids_v1),
        cmocka_unit_test(test_checkpoint_v1), cmocka_unit_test(test_tokens_v1),
        cmocka_unit_test(test_model_v1),
    };
    if (argc == 3 && strcmp(argv[1], "--write") == 0)
        return write_all(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
