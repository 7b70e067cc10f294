/* Training checkpoints: the file's schema, and the folder's rules. */
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "h5_tools.h"

#include "base/fs.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/h5file.h"
#include "checkpoint/packed.h"

#define DIR_NAME "run"

/* ---- a model of two parameters ---- */

static float w[2][3] = {{1, -2, 3}, {4, 5e-38f, 6}}, wm[2][3] = {{.1f}}, wv[2][3] = {{.2f}};
static float norm[4] = {1, 1, 1, 2}, norm_m[4] = {.3f}, norm_v[4] = {.4f};
static const uint8_t codes[5] = {1, 2, 3, 4, 5};

static void sample_params(bn_checkpoint_param params[2])
{
    params[0] = (bn_checkpoint_param){
        "model.layers.0.mlp.up_proj.weight", 2, {2, 3}, &w[0][0], &wm[0][0], &wv[0][0], NULL, NULL};
    params[1] =
        (bn_checkpoint_param){"model.norm.weight", 1, {4}, norm, norm_m, norm_v, NULL, NULL};
}

static bn_train_state sample_state(int64_t step)
{
    return (bn_train_state){
        .step = step,
        .tokens_seen = INT64_C(1) << 40,
        .seed = UINT64_MAX,
        .data_seed = 3,
        .data_epoch = 4,
        .data_index = 5,
        .best_val_loss = HUGE_VAL,
        .best_step = -1,
        .evals_since_best = 2,
        .metrics_bytes = 12345,
        .elapsed_s = 1.5,
        .config_json = "{\"model\":{}}",
        .tokenizer = "byte",
        .producer = "test 1.0",
        .device = "cpu",
    };
}

static bn_status save(const char *path, int64_t step)
{
    bn_checkpoint_param params[2];
    const bn_train_state state = sample_state(step);
    const bn_checkpoint_extra extra = {"codes", codes, sizeof codes};
    sample_params(params);
    return bn_checkpoint_save(path, &state, params, 2, &extra, 1);
}

static void test_round_trip(void **state)
{
    float w2[2][3], wm2[2][3], wv2[2][3], norm2[4], norm_m2[4], norm_v2[4];
    bn_checkpoint_param params[2], described;
    bn_checkpoint *c;
    void *data;
    size_t bytes;
    bn_model_file kind;
    (void)state;
    assert_ok(save("a.h5", 7));
    assert_ok(bn_checkpoint_verify("a.h5"));
    assert_ok(bn_model_file_kind("a.h5", &kind));
    assert_int_equal(kind, BN_MODEL_FILE_CHECKPOINT);
    assert_ok(bn_checkpoint_open("a.h5", &c));

    const bn_train_state want = sample_state(7), *got = bn_checkpoint_state(c);
    assert_memory_equal(got, &want, offsetof(bn_train_state, config_json)); /* the numbers */
    assert_string_equal(got->config_json, want.config_json);
    assert_string_equal(got->tokenizer, want.tokenizer);
    assert_string_equal(got->producer, want.producer);
    assert_string_equal(got->device, want.device);

    assert_true(bn_checkpoint_has_moments(c));
    assert_int_equal(bn_checkpoint_count(c), 2);
    bn_checkpoint_describe(c, 1, &described);
    assert_string_equal(described.name, "model.norm.weight");
    assert_true(described.ndim == 1 && described.shape[0] == 4);

    sample_params(params);
    params[0].value = &w2[0][0], params[0].moment1 = &wm2[0][0], params[0].moment2 = &wv2[0][0];
    params[1].value = norm2, params[1].moment1 = norm_m2, params[1].moment2 = norm_v2;
    assert_ok(bn_checkpoint_load(c, params, 2));
    assert_memory_equal(w2, w, sizeof w);
    assert_memory_equal(wm2, wm, sizeof wm);
    assert_memory_equal(wv2, wv, sizeof wv);
    assert_memory_equal(norm2, norm, sizeof norm);
    assert_memory_equal(norm_m2, norm_m, sizeof norm_m);
    assert_memory_equal(norm_v2, norm_v, sizeof norm_v);

    assert_ok(bn_checkpoint_get_extra(c, "codes", 5, &data, &bytes));
    assert_true(bytes == 5 && memcmp(data, codes, 5) == 0);
    free(data);
    assert_ok(bn_checkpoint_get_extra(c, "none", 5, &data, &bytes));
    assert_true(data == NULL && bytes == 0);
    assert_fails(bn_checkpoint_get_extra(c, "codes", 4, &data, &bytes), BN_BAD_DATA,
                 "expected at most 4 bytes, found 5");
    bn_checkpoint_close(c);
}

/* The same checkpoint is the same bytes whenever it is written, which HDF5 would not
 * have: it notes the second. */
static void test_no_times(void **state)
{
    size_t sizes[2];
    unsigned char *data[2];
    (void)state;
    assert_ok(save("a.h5", 7));
    data[0] = tool_slurp("a.h5", &sizes[0]);
    for (const time_t then = time(NULL); time(NULL) == then;)
        usleep(10000);
    assert_ok(save("a.h5", 7));
    data[1] = tool_slurp("a.h5", &sizes[1]);
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(data[0], data[1], sizes[0]);
    free(data[0]);
    free(data[1]);
}

/* A model to start from has zeros as reals; to moments as codes they are zeros as well. */
static void test_coded_start(void **state)
{
    float zeros[4] = {0}, most[1] = {7}, back[4];
    uint8_t c1[4] = {1, 2, 3, 4}, none[4] = {0};
    bn_checkpoint_param p = {"norm", 1, {4}, norm, zeros, zeros, NULL, NULL};
    (void)state;
    for (int64_t step = 0; step < 2; step++) {
        const bn_train_state s = sample_state(step);
        bn_checkpoint *c;
        assert_ok(bn_checkpoint_save("coded.h5", &s, &p, 1, NULL, 0));
        assert_ok(bn_checkpoint_open("coded.h5", &c));
        const bn_checkpoint_param to = {"norm", 1, {4}, back, most, NULL, c1, NULL};
        if (step == 0)
            assert_ok(bn_checkpoint_load(c, &to, 1));
        else
            assert_fails(bn_checkpoint_load(c, &to, 1), BN_BAD_DATA,
                         "adam_m/norm: expected uint8 [4], found float32 [4]");
        assert_memory_equal(c1, none, sizeof c1);
        assert_true(most[0] == 0);
        bn_checkpoint_close(c);
    }
}

/* Moments as codes with the largest magnitude of each block; beside a parameter whose
 * moments are reals. What a file does not have is zeros. */
static void test_coded_moments(void **state)
{
    enum { N = 300, BLOCKS = 2 };
    static float x[N], norm2[4], m2[4], v2[4];
    static uint8_t c1[N], c2[N], back1[N], back2[N];
    float most1[BLOCKS] = {0.5f, 2.0f}, most2[BLOCKS] = {1e-9f, 3.0f}, got1[BLOCKS], got2[BLOCKS];
    bn_checkpoint_param params[2] = {
        {"a", 2, {3, 100}, x, most1, most2, c1, c2},
        {"norm", 1, {4}, norm, norm_m, norm_v, NULL, NULL},
    };
    const bn_train_state s = sample_state(7);
    bn_checkpoint *c;
    (void)state;
    for (int i = 0; i < N; i++)
        c1[i] = (uint8_t)i, c2[i] = (uint8_t)(255 - i);
    assert_ok(bn_checkpoint_save("coded.h5", &s, params, 2, NULL, 0));
    assert_ok(bn_checkpoint_open("coded.h5", &c));
    assert_true(bn_checkpoint_has_moments(c));
    params[0].moment1 = got1, params[0].moment2 = got2;
    params[0].codes1 = back1, params[0].codes2 = back2;
    params[1].value = norm2, params[1].moment1 = m2, params[1].moment2 = v2;
    assert_ok(bn_checkpoint_load(c, params, 2));
    assert_memory_equal(back1, c1, sizeof c1);
    assert_memory_equal(back2, c2, sizeof c2);
    assert_memory_equal(got1, most1, sizeof most1);
    assert_memory_equal(got2, most2, sizeof most2);
    assert_memory_equal(m2, norm_m, sizeof norm_m);
    params[0].moment1 = x, params[0].codes1 = NULL;
    assert_fails(bn_checkpoint_load(c, params, 2), BN_BAD_DATA,
                 "adam_m/a: expected float32 [3, 100], found uint8 [3, 100]");
    bn_checkpoint_close(c);

    params[0] = (bn_checkpoint_param){"a", 2, {3, 100}, x, NULL, NULL, NULL, NULL};
    assert_ok(bn_checkpoint_save("coded.h5", &s, params, 2, NULL, 0));
    assert_ok(bn_checkpoint_open("coded.h5", &c));
    params[0] = (bn_checkpoint_param){"a", 2, {3, 100}, x, got1, got2, back1, back2};
    assert_ok(bn_checkpoint_load(c, params, 2));
    for (int i = 0; i < N; i++)
        assert_true(back1[i] == 0 && back2[i] == 0 && got1[i / 256] == 0 && got2[i / 256] == 0);
    bn_checkpoint_close(c);
}

static void test_without_moments(void **state)
{
    bn_checkpoint_param params[2];
    const bn_train_state s = sample_state(0);
    bn_checkpoint *c;
    float m[6] = {1.0f};
    const float zeros[6] = {0.0f};
    (void)state;
    sample_params(params);
    float *const kept1 = params[1].moment1, *const kept2 = params[1].moment2;
    for (int i = 0; i < 2; i++)
        params[i].moment1 = params[i].moment2 = NULL;
    assert_ok(bn_checkpoint_save("b.h5", &s, params, 2, NULL, 0));
    assert_ok(bn_checkpoint_open("b.h5", &c));
    assert_false(bn_checkpoint_has_moments(c));
    assert_ok(bn_checkpoint_load(c, params, 2));
    params[0].moment1 = m;
    assert_ok(bn_checkpoint_load(c, params, 2));
    assert_memory_equal(m, zeros, sizeof m);
    bn_checkpoint_close(c);
    params[0].moment1 = NULL; /* frozen; the other one was trained */
    params[1].moment1 = kept1;
    params[1].moment2 = kept2;
    assert_ok(bn_checkpoint_save("b.h5", &s, params, 2, NULL, 0));
    assert_ok(bn_checkpoint_open("b.h5", &c));
    assert_true(bn_checkpoint_has_moments(c));
    assert_ok(bn_checkpoint_load(c, params, 2));
    bn_checkpoint_close(c);
    params[1].moment1 = NULL;
    assert_fails(bn_checkpoint_save("b.h5", &s, params, 2, NULL, 0), BN_FAIL,
                 "second moment without a first");
}

static void test_wrong_model(void **state)
{
    bn_checkpoint_param params[3];
    bn_checkpoint *c;
    float more[8];
    (void)state;
    assert_ok(save("a.h5", 7));
    assert_ok(bn_checkpoint_open("a.h5", &c));
    sample_params(params);
    assert_fails(bn_checkpoint_load(c, params, 1), BN_BAD_DATA,
                 "params/model.norm.weight: the model has no such parameter");
    params[0].shape[1] = 4;
    params[0].value = more;
    assert_fails(bn_checkpoint_load(c, params, 2), BN_BAD_DATA,
                 "expected float32 [2, 4], found float32 [2, 3]");
    sample_params(params);
    params[2] = (bn_checkpoint_param){"lm_head.weight", 2, {2, 4}, more, NULL, NULL, NULL, NULL};
    assert_fails(bn_checkpoint_load(c, params, 3), BN_BAD_DATA, "params/lm_head.weight: expected");
    bn_checkpoint_close(c);
}

static void test_refuses_to_save_nan(void **state)
{
    (void)state;
    assert_ok(save("a.h5", 7));
    wv[1][1] = NAN;
    assert_fails(save("a.h5", 8), BN_FAIL, "adam_v/model.layers.0.mlp.up_proj.weight: element 4");
    wv[1][1] = 0;
    wm[1][1] = INFINITY;
    assert_fails(save("a.h5", 8), BN_FAIL, "adam_m/model.layers.0.mlp.up_proj.weight: element 4");
    wm[1][1] = 0;
    bn_checkpoint *c;
    assert_ok(bn_checkpoint_open("a.h5", &c)); /* the old one is still there */
    assert_int_equal(bn_checkpoint_state(c)->step, 7);
    bn_checkpoint_close(c);
    assert_false(bn_fs_exists("a.h5.tmp"));
}

static bn_status open_and_load(const char *path)
{
    float y[2];
    const bn_checkpoint_param p = {"a", 1, {2}, y, NULL, NULL, NULL, NULL};
    bn_checkpoint *c;
    BN_TRY(bn_checkpoint_open(path, &c));
    const bn_status status = bn_checkpoint_load(c, &p, 1);
    bn_checkpoint_close(c);
    return status;
}

/* Files that are sound containers but no checkpoints. */
static void test_schema(void **state)
{
    const float x[2] = {1, 2}, bad[2] = {1, NAN};
    const uint8_t u[2] = {1, 2};
    const struct {
        const char *format;
        int64_t version;
        bn_h5_array arrays[3];
        const char *part;
    } cases[] = {
        {"bitnet-packed",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, x}},
         "expected \"bitnet-checkpoint\""},
        {"bitnet-checkpoint", 2, {{"params/a", BN_H5_F32, 1, {2}, x}}, "expected 1, found 2"},
        {"bitnet-checkpoint", 1, {{"params/a", BN_H5_U8, 1, {2}, u}}, "expected float32"},
        {"bitnet-checkpoint", 1, {{"extra/a", BN_H5_F32, 1, {2}, x}}, "expected uint8"},
        {"bitnet-checkpoint", 1, {{"other/a", BN_H5_F32, 1, {2}, x}}, "expected params/"},
        {"bitnet-checkpoint", 1, {{"extra/a", BN_H5_U8, 1, {2}, u}}, "expected parameters"},
        {"bitnet-checkpoint",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, x}, {"adam_v/a", BN_H5_F32, 1, {2}, x}},
         "expected a first moment beside the second"},
        {"bitnet-checkpoint",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, x}, {"adam_m/b", BN_H5_F32, 1, {2}, x}},
         "1 moments belong to no parameter"},
        {"bitnet-checkpoint",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, x}, {"adam_m/a", BN_H5_U8, 1, {2}, u}},
         "adam_m_absmax/a: expected float32 [1], found no such array"},
        {"bitnet-checkpoint",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, x},
          {"adam_m/a", BN_H5_U8, 1, {2}, u},
          {"adam_m_absmax/a", BN_H5_F32, 1, {2}, x}},
         "adam_m_absmax/a: expected float32 [1], found float32 [2]"},
        {"bitnet-checkpoint",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, x},
          {"adam_m/a", BN_H5_F32, 1, {2}, x},
          {"adam_m_absmax/a", BN_H5_F32, 1, {1}, x}},
         "1 moments belong to no parameter"},
        {"bitnet-checkpoint",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, bad}},
         "element 1: expected finite"},
        {"bitnet-checkpoint",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, x},
          {"adam_m/a", BN_H5_F32, 1, {2}, x},
          {"adam_v/a", BN_H5_F32, 2, {2, 1}, x}},
         "adam_v/a: expected float32 [2], found float32 [2, 1]"},
        {"bitnet-checkpoint",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, x},
          {"adam_m/b", BN_H5_F32, 1, {2}, x},
          {"adam_v/b", BN_H5_F32, 1, {2}, x}},
         "2 moments belong to no parameter"},
        {"bitnet-checkpoint",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, x},
          {"adam_m/a", BN_H5_F32, 1, {2}, x},
          {"adam_v/b", BN_H5_F32, 1, {2}, x}},
         "1 moments belong to no parameter"},
        {"bitnet-checkpoint",
         1,
         {{"params/b", BN_H5_F32, 1, {2}, x}},
         "params/a: expected float32 [2], found no such array"},
        {"bitnet-checkpoint",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, x}, {"params/b", BN_H5_F32, 1, {2}, x}},
         "params/b: the model has no such parameter"},
        {"bitnet-checkpoint",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, x}},
         "step, tokens_seen: expected >= 0, found -5, -5"},
        {"bitnet-checkpoint",
         1,
         {{"params/a", BN_H5_F32, 1, {2}, x}},
         "step, tokens_seen: expected >= 0, found 1, -5"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static const char *const longs[] = {"step", "tokens_seen", "best_step", "evals_since_best"};
        static const char *const ulongs[] = {"seed", "data_seed", "data_epoch", "data_index",
                                             "metrics_bytes"};
        static const char *const strings[] = {"config_json", "tokenizer", "producer", "device"};
        const int64_t number = strstr(cases[i].part, "tokens_seen") ? -5 : 1;
        bn_h5_writer *f;
        assert_ok(bn_h5_create("schema.h5", 0, &f));
        assert_ok(bn_h5_put_string(f, NULL, "format", cases[i].format));
        assert_ok(bn_h5_put_i64(f, NULL, "format_version", cases[i].version));
        for (int k = 0; k < 4; k++)
            assert_ok(bn_h5_put_i64(f, NULL, longs[k],
                                    k == 0 && strstr(cases[i].part, "found 1, -5") ? 1 : number));
        for (int k = 0; k < 5; k++)
            assert_ok(bn_h5_put_u64(f, NULL, ulongs[k], 1));
        assert_ok(bn_h5_put_f64(f, NULL, "best_val_loss", 1));
        assert_ok(bn_h5_put_f64(f, NULL, "elapsed_s", 1));
        for (int k = 0; k < 4; k++)
            assert_ok(bn_h5_put_string(f, NULL, strings[k], "x"));
        for (int k = 0; k < 3 && cases[i].arrays[k].name; k++)
            assert_ok(bn_h5_put(f, &cases[i].arrays[k]));
        assert_ok(bn_h5_commit(f));
        assert_fails(open_and_load("schema.h5"), BN_BAD_DATA, cases[i].part);
    }
}

/* What a caller can ask for that no checkpoint can hold. */
static void test_caller_mistakes(void **state)
{
    char longer[300];
    float x[2] = {1, 2};
    void *data;
    size_t bytes;
    bn_checkpoint *c;
    const bn_train_state train = {
        .config_json = "{}", .tokenizer = "", .producer = "", .device = ""};
    const bn_checkpoint_param some[2] = {{"a", 1, {2}, x, x, x, NULL, NULL},
                                         {"b", 1, {2}, x, NULL, x, NULL, NULL}};
    const bn_checkpoint_param named = {longer, 1, {2}, x, NULL, NULL, NULL, NULL};
    const bn_checkpoint_extra extra = {longer, x, sizeof x};
    (void)state;
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_ok(bn_fs_remove("m.h5"));
    assert_fails(bn_checkpoint_save("m.h5", &train, some, 2, NULL, 0), BN_FAIL,
                 "b: a second moment without a first");
    assert_fails(bn_checkpoint_save("m.h5", &train, &named, 1, NULL, 0), BN_FAIL,
                 "the name is too long");
    assert_fails(bn_checkpoint_save("m.h5", &train, some, 1, &extra, 1), BN_FAIL,
                 "the name is too long");
    const bn_checkpoint_param no_shape = {"a", 1, {0}, x, NULL, NULL, NULL, NULL};
    const bn_checkpoint_extra empty = {"empty", x, 0};
    assert_fails(bn_checkpoint_save("m.h5", &train, &no_shape, 1, NULL, 0), BN_BAD_DATA,
                 "params/a: dimension 0 is 0");
    assert_fails(bn_checkpoint_save("m.h5", &train, some, 1, &empty, 1), BN_BAD_DATA,
                 "extra/empty: dimension 0 is 0");
    assert_false(bn_fs_exists("m.h5"));
    bn_checkpoint_close(NULL);
    assert_ok(bn_checkpoint_save("m.h5", &train, some, 1, NULL, 0));
    assert_ok(bn_checkpoint_open("m.h5", &c));
    assert_fails(bn_checkpoint_load(c, &named, 1), BN_FAIL, "the name is too long");
    assert_fails(bn_checkpoint_expect(c, &named), BN_FAIL, "the name is too long");
    assert_fails(bn_checkpoint_get_extra(c, longer, 64, &data, &bytes), BN_FAIL,
                 "the name is too long");
    bn_checkpoint_close(c);
}

/* ---- the folder ---- */

static void fresh_folder(void)
{
    bn_strings names = {0};
    assert_ok(bn_fs_mkdirs(DIR_NAME));
    assert_ok(bn_fs_list(DIR_NAME, NULL, NULL, &names));
    for (size_t i = 0; i < names.count; i++) {
        char *path = bn_path_join(DIR_NAME, names.items[i]);
        assert_ok(bn_fs_remove(path));
        free(path);
    }
    bn_strings_clear(&names);
}

static void save_step(int64_t step)
{
    char *path = bn_checkpoint_path(DIR_NAME, step);
    assert_ok(save(path, step));
    free(path);
}

static void damage_step(int64_t step)
{
    size_t size;
    char *path = bn_checkpoint_path(DIR_NAME, step);
    unsigned char *data = tool_slurp(path, &size);
    tool_spill(path, data, size / 2);
    free(data);
    free(path);
}

static void assert_steps(const int64_t *want, size_t n)
{
    int64_t *steps;
    size_t count;
    assert_ok(bn_checkpoint_list(DIR_NAME, &steps, &count));
    assert_int_equal(count, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(steps[i], want[i]);
    free(steps);
}

static void test_names(void **state)
{
    (void)state;
    char *path = bn_checkpoint_path("out", 1000);
    assert_string_equal(path, "out/checkpoint-00001000.h5");
    free(path);
    fresh_folder();
    assert_steps(NULL, 0);
    tool_spill(DIR_NAME "/checkpoint-00000002.h5", "", 0);
    tool_spill(DIR_NAME "/checkpoint-123456789.h5", "", 0);
    tool_spill(DIR_NAME "/checkpoint-00000010.h5", "", 0);
    tool_spill(DIR_NAME "/checkpoint-3.h5", "", 0);
    tool_spill(DIR_NAME "/checkpoint-0000000x.h5", "", 0);
    tool_spill(DIR_NAME "/checkpoint-00000004.h5.tmp", "", 0);
    tool_spill(DIR_NAME "/checkpoint--0000004.h5", "", 0);
    assert_steps((const int64_t[]){123456789, 10, 2}, 3);
}

static void test_marks(void **state)
{
    int64_t step;
    (void)state;
    fresh_folder();
    assert_ok(bn_checkpoint_get_mark(DIR_NAME, BN_MARK_BEST, &step));
    assert_int_equal(step, -1);
    assert_ok(bn_checkpoint_set_mark(DIR_NAME, BN_MARK_BEST, 5));
    assert_ok(bn_checkpoint_set_mark(DIR_NAME, BN_MARK_LATEST, 9));
    assert_ok(bn_checkpoint_set_mark(DIR_NAME, BN_MARK_LATEST, 10));
    assert_ok(bn_checkpoint_get_mark(DIR_NAME, BN_MARK_BEST, &step));
    assert_int_equal(step, 5);
    assert_ok(bn_checkpoint_get_mark(DIR_NAME, BN_MARK_LATEST, &step));
    assert_int_equal(step, 10);
    size_t size;
    unsigned char *text = tool_slurp(DIR_NAME "/latest", &size);
    assert_memory_equal(text, "checkpoint-00000010.h5\n", size);
    free(text);
    tool_spill(DIR_NAME "/best", "../../etc/passwd\n", 17);
    assert_fails(bn_checkpoint_get_mark(DIR_NAME, BN_MARK_BEST, &step), BN_BAD_DATA,
                 "expected the name of a checkpoint, found \"../../etc/passwd\"");
}

static void test_newest_that_verifies(void **state)
{
    bn_strings skipped = {0};
    int64_t step;
    char *path;
    (void)state;
    fresh_folder();
    assert_fails(bn_checkpoint_find_newest(DIR_NAME, &step, &path, NULL), BN_NO_INPUT,
                 "no checkpoint in this folder");
    for (int64_t s = 100; s <= 400; s += 100)
        save_step(s);
    assert_ok(bn_checkpoint_find_newest(DIR_NAME, &step, &path, &skipped));
    assert_true(step == 400 && skipped.count == 0);
    free(path);

    damage_step(400);
    damage_step(300);
    assert_ok(bn_checkpoint_find_newest(DIR_NAME, &step, &path, &skipped));
    assert_int_equal(step, 200);
    assert_string_equal(path, DIR_NAME "/checkpoint-00000200.h5");
    assert_int_equal(skipped.count, 2);
    assert_non_null(strstr(skipped.items[0], "checkpoint-00000400.h5"));
    assert_non_null(strstr(skipped.items[1], "checkpoint-00000300.h5"));
    free(path);
    bn_strings_clear(&skipped);

    assert_ok(bn_checkpoint_set_mark(DIR_NAME, BN_MARK_BEST, 100));
    assert_ok(bn_checkpoint_find_best(DIR_NAME, &step, &path, &skipped));
    assert_true(step == 100 && skipped.count == 0);
    free(path);
    damage_step(100); /* the best is lost: the newest that is left */
    assert_ok(bn_checkpoint_find_best(DIR_NAME, &step, &path, &skipped));
    assert_true(step == 200 && skipped.count == 3);
    free(path);
    bn_strings_clear(&skipped);

    damage_step(200);
    assert_fails(bn_checkpoint_find_newest(DIR_NAME, &step, &path, NULL), BN_NO_INPUT,
                 "none of 4 checkpoints can be used");
    assert_null(path);
}

static void test_prune(void **state)
{
    (void)state;
    fresh_folder();
    for (int64_t s = 1; s <= 6; s++) {
        char *path = bn_checkpoint_path(DIR_NAME, s);
        tool_spill(path, "", 0);
        free(path);
    }
    tool_spill(DIR_NAME "/checkpoint-00000007.h5.tmp", "", 0);
    tool_spill(DIR_NAME "/notes.txt", "", 0);
    assert_ok(bn_checkpoint_set_mark(DIR_NAME, BN_MARK_BEST, 2));
    assert_ok(bn_checkpoint_prune(DIR_NAME, 0, 6));
    assert_steps((const int64_t[]){6, 5, 4, 3, 2, 1}, 6);
    assert_false(bn_fs_exists(DIR_NAME "/checkpoint-00000007.h5.tmp"));
    assert_ok(bn_checkpoint_prune(DIR_NAME, 2, 3));
    assert_steps((const int64_t[]){6, 5, 3, 2}, 4);
    assert_ok(bn_checkpoint_prune(DIR_NAME, 1, 6));
    assert_steps((const int64_t[]){6, 2}, 2);
    assert_true(bn_fs_exists(DIR_NAME "/notes.txt"));
    tool_spill(DIR_NAME "/best", "?", 1); /* which one is it? delete none */
    assert_int_equal(bn_checkpoint_prune(DIR_NAME, 1, 6), BN_BAD_DATA);
    assert_steps((const int64_t[]){6, 2}, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_no_times),
        cmocka_unit_test(test_coded_moments),
        cmocka_unit_test(test_coded_start),
        cmocka_unit_test(test_without_moments),
        cmocka_unit_test(test_wrong_model),
        cmocka_unit_test(test_refuses_to_save_nan),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_caller_mistakes),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_newest_that_verifies),
        cmocka_unit_test(test_prune),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
