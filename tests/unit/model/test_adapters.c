/* Adapters in use: several over one base, in sessions and files. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/rng.h"
#include "interop/safetensors.h"
#include "model/peft.h"
#include "model/session.h"
#include "model_fixture.h"

enum { TOKENS = 24 };

typedef struct shared {
    fixture f;
    bn_loaded base;
    bn_adapter_base over;
    bn_adapter *adapters[2];
} shared;

/* Random A and B, large enough to change what is said. */
static void randomize(bn_adapter *adapter, uint64_t seed)
{
    bn_rng rng = bn_rng_of(seed, 0);
    for (int i = 0; i < adapter->params.count; i++) {
        float *values = bn_tensor_data(&adapter->params.items[i]->value);
        for (int64_t k = 0; k < bn_tensor_numel(&adapter->params.items[i]->value); k++)
            values[k] = (float)(0.3 * bn_rng_normal(&rng));
    }
}

/* A base from "base.h5" with two adapters of other ranks. */
static void open_shared(shared *s)
{
    static const char *const sets[][2] = {{"adapter.r=3", "adapter.target_modules=*_proj"},
                                          {"adapter.r=5", "adapter.target_modules=q_proj,mlp"}};
    fixture_open(&s->f, NULL);
    fixture_train(&s->f, 3);
    fixture_save(&s->f, "base.h5");
    assert_ok(bn_loaded_open_base("base.h5", s->f.backend, NULL, &s->base));
    s->over = (bn_adapter_base){s->base.model, &s->base.config, "base.h5", {0}};
    assert_ok(bn_model_identity(s->base.model, s->over.id));
    for (int k = 0; k < 2; k++) {
        bn_config config;
        assert_ok(bn_config_copy(&s->base.config, &config));
        for (int i = 0; i < 2; i++)
            assert_ok(bn_config_set(&config, sets[k][i]));
        assert_ok(bn_adapter_new(&config, s->base.model, &s->adapters[k]));
        assert_ok(bn_adapter_alloc(s->adapters[k], false));
        randomize(s->adapters[k], 5 + (uint64_t)k);
        bn_config_clear(&config);
    }
}

static void close_shared(shared *s)
{
    for (int k = 0; k < 2; k++)
        bn_adapter_free(s->adapters[k]);
    bn_loaded_clear(&s->base);
    fixture_close(&s->f);
}

/* TOKENS greedy tokens after a prompt, from position 0. */
static void speak(bn_session *session, int64_t vocab, int32_t out[TOKENS])
{
    const int32_t prompt[] = {'a', 'b', 'c', 'd', 'e'};
    float *logits = malloc((size_t)vocab * sizeof *logits);
    assert_non_null(logits);
    bn_session_rewind(session, 0);
    assert_ok(bn_session_feed(session, prompt, 5, logits));
    for (int i = 0; i < TOKENS; i++) {
        out[i] = fixture_argmax(logits, vocab);
        assert_ok(bn_session_feed(session, &out[i], 1, logits));
    }
    free(logits);
}

/* Logits after a prompt with what is in use. */
static void say(const shared *s, float *logits)
{
    const int32_t prompt[] = {'a', 'b', 'c', 'd', 'e'};
    float *all = fixture_full_logits(s->base.model, prompt, 5);
    memcpy(logits, all + 4 * s->base.model->vocab, 256 * sizeof *logits);
    free(all);
}

static double distance(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < 256; i++)
        sum += pow((double)a[i] - (double)b[i], 2);
    return sqrt(sum);
}

/* Adapter k scaled by hand: what a factor must come to. */
static void scale_b(bn_adapter *adapter, float factor)
{
    for (int i = 0; i < adapter->model->n_linears; i++)
        if (adapter->layers[i].b) {
            const bn_tensor *b = &adapter->layers[i].b->value;
            for (int64_t k = 0; k < bn_tensor_numel(b); k++)
                ((float *)bn_tensor_data(b))[k] *= factor;
        }
}

/* Several at once: a layer gets the sum, in which the order is but rounding; a
 * factor is a factor on B; one taken out again leaves the other. */
static void test_the_sum_of_two(void **state)
{
    (void)state;
    shared s = {0};
    float first[256], both[256], other[256], scaled[256];
    open_shared(&s);
    assert_int_equal(s.base.model->vocab, 256);
    bn_adapter_use(s.base.model, s.adapters[0]);
    say(&s, first);
    bn_adapter_add(s.base.model, s.adapters[1]);
    say(&s, both);
    bn_adapter_use(s.base.model, s.adapters[1]);
    bn_adapter_add(s.base.model, s.adapters[0]);
    bn_adapter_add(s.base.model, s.adapters[1]); /* is there already */
    say(&s, other);
    assert_true(distance(first, both) > 0.1);
    assert_true(distance(both, other) < 0.02 * distance(first, both));
    bn_adapter_weigh(s.adapters[0], -0.5);
    bn_adapter_use(s.base.model, s.adapters[1]);
    bn_adapter_add(s.base.model, s.adapters[0]);
    say(&s, scaled);
    assert_true(distance(scaled, other) > 0.1);
    bn_adapter_weigh(s.adapters[0], -2);
    scale_b(s.adapters[0], -0.5f);
    bn_adapter_use(s.base.model, s.adapters[1]);
    bn_adapter_add(s.base.model, s.adapters[0]);
    say(&s, other);
    assert_memory_equal(scaled, other, sizeof other); /* powers of two: no rounding */
    bn_adapter_weigh(s.adapters[0], 0);
    bn_adapter_use(s.base.model, s.adapters[0]);
    bn_adapter_add(s.base.model, s.adapters[1]);
    say(&s, both);
    bn_adapter_use(s.base.model, s.adapters[1]);
    say(&s, other);
    assert_memory_equal(both, other, sizeof other);
    bn_adapter_use(s.base.model, NULL);
    close_shared(&s);
}

/* One base in memory, one session, three ways to go on; back to the first the
 * tokens are the first again. */
static void test_two_on_one_base(void **state)
{
    (void)state;
    shared s = {0};
    bn_session *session;
    int32_t base[TOKENS], first[TOKENS], second[TOKENS], again[TOKENS];
    open_shared(&s);
    const int64_t vocab = s.base.model->vocab;
    const void *weights = s.base.model->packed.host;
    assert_ok(bn_session_new(s.base.model, 0, &session));
    speak(session, vocab, base);
    assert_ok(bn_session_use(session, s.adapters[0]));
    speak(session, vocab, first);
    assert_ok(bn_session_use(session, s.adapters[1]));
    speak(session, vocab, second);
    assert_memory_not_equal(base, first, sizeof base);
    assert_memory_not_equal(base, second, sizeof base);
    assert_memory_not_equal(first, second, sizeof base);
    assert_ok(bn_session_use(session, s.adapters[0]));
    speak(session, vocab, again);
    assert_memory_equal(first, again, sizeof first);
    assert_ok(bn_session_use(session, NULL));
    speak(session, vocab, again);
    assert_memory_equal(base, again, sizeof base);
    assert_ptr_equal(s.base.model->packed.host, weights);
    for (int i = 0; i < s.base.model->n_linears; i++)
        assert_null(s.base.model->linears[i]->weight);
    bn_session_free(session);
    close_shared(&s);
}

/* The scale multiplies B A: 4 is the same as a B four times as large, to the bit. */
static void test_scale(void **state)
{
    enum { TIME = 6 };
    const int32_t ids[TIME] = {'a', 'b', 'c', 'd', 'e', 'f'};
    shared s = {0};
    (void)state;
    open_shared(&s);
    bn_adapter *adapter = s.adapters[0];
    const size_t bytes = TIME * (size_t)s.base.model->vocab * sizeof(float);
    float *logits[3];
    for (int k = 0; k < 3; k++) { /* scale 1; scale 4; B times 4 */
        for (int i = 0; i < s.base.model->n_linears; i++) {
            bn_lora *lora = &adapter->layers[i];
            lora->scale = k == 1 ? 4 : 1;
            for (int64_t n = 0; k == 2 && lora->b && n < bn_tensor_numel(&lora->b->value); n++)
                ((float *)bn_tensor_data(&lora->b->value))[n] *= 4;
        }
        bn_adapter_use(s.base.model, adapter);
        logits[k] = fixture_full_logits(s.base.model, ids, TIME);
    }
    assert_memory_not_equal(logits[0], logits[1], bytes);
    assert_memory_equal(logits[1], logits[2], bytes);
    for (int k = 0; k < 3; k++)
        free(logits[k]);
    close_shared(&s);
}

static void assert_same_values(const bn_adapter *a, const bn_adapter *b)
{
    assert_int_equal(a->params.count, b->params.count);
    for (int i = 0; i < a->params.count; i++) {
        const bn_param *p = a->params.items[i], *q = b->params.items[i];
        assert_string_equal(p->name, q->name);
        assert_memory_equal(bn_tensor_data(&p->value), bn_tensor_data(&q->value),
                            bn_tensor_bytes(&p->value));
    }
    for (int i = 0; i < a->model->n_linears; i++)
        assert_true(a->layers[i].scale == b->layers[i].scale);
}

static void expect_refused(const char *path, const bn_adapter_base *over, bn_status status,
                           const char *text)
{
    bn_adapter *adapter;
    assert_int_equal(bn_adapter_open(path, over, &adapter), status);
    assert_null(adapter);
    if (!strstr(bn_error_text(), text))
        fail_msg("'%s' is not in '%s'", text, bn_error_text());
}

static void test_checkpoint_of_adapters(void **state)
{
    (void)state;
    shared s = {0};
    bn_adapter *back;
    bn_loaded loaded;
    open_shared(&s);
    assert_ok(bn_adapter_save(s.adapters[1], "adapter.h5", &s.over, "byte", "test"));
    assert_ok(bn_adapter_open("adapter.h5", &s.over, &back));
    assert_same_values(s.adapters[1], back);
    bn_adapter_free(back);
    bn_adapter_base other = s.over;
    other.id[0] ^= 1;
    expect_refused("adapter.h5", &other, BN_BAD_DATA, "base.h5: is not the model");
    expect_refused("base.h5", &s.over, BN_BAD_DATA, "base.h5: holds a model, no adapters");
    expect_refused("missing.h5", &s.over, BN_NO_INPUT, "missing.h5");
    assert_int_equal(bn_loaded_open("adapter.h5", s.f.backend, true, &loaded), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "holds adapters, no model"));
    close_shared(&s);
}

/* A packed file of the same weights is the same base, another model is not. */
static void test_identity(void **state)
{
    (void)state;
    shared s = {0};
    bn_loaded packed;
    uint8_t id[BN_SHA256_BYTES];
    open_shared(&s);
    fixture_save_packed(&s.f, "packed.h5");
    assert_ok(bn_loaded_open_base("packed.h5", s.f.backend, NULL, &packed));
    assert_ok(bn_model_identity(packed.model, id));
    assert_memory_equal(id, s.over.id, sizeof id);
    float *norm =
        bn_tensor_data(&bn_param_set_find(&packed.model->params, "model.norm.weight")->value);
    norm[3] += 1.0f;
    assert_ok(bn_model_identity(packed.model, id));
    assert_memory_not_equal(id, s.over.id, sizeof id);
    bn_loaded_clear(&packed);
    close_shared(&s);
}

static void write_text(const char *path, const char *text)
{
    assert_ok(bn_fs_write(path, text, strlen(text)));
}

/* Names and shapes as PEFT has them; and back. */
static void test_peft(void **state)
{
    (void)state;
    shared s = {0};
    bn_adapter *back;
    bn_st_reader *file;
    open_shared(&s);
    assert_ok(bn_peft_write(s.adapters[0], "peft", &s.over));
    assert_ok(bn_st_open("peft/adapter_model.safetensors", &file));
    assert_int_equal(bn_st_count(file), 2 * 14);
    const bn_st_tensor *a =
        bn_st_find(file, "base_model.model.model.layers.1.self_attn.k_proj.lora_A.weight");
    const bn_st_tensor *b =
        bn_st_find(file, "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight");
    assert_non_null(a);
    assert_non_null(b);
    assert_true(a->ndim == 2 && a->shape[0] == 3 && a->shape[1] == 64);
    assert_true(b->ndim == 2 && b->shape[0] == 32 && b->shape[1] == 3);
    bn_st_close(file);
    assert_true(bn_peft_is("peft"));
    assert_ok(bn_adapter_open("peft", &s.over, &back));
    assert_same_values(s.adapters[0], back);
    bn_adapter_free(back);
    bn_adapter_base other = s.over;
    other.id[0] ^= 1;
    expect_refused("peft", &other, BN_BAD_DATA, "is not the model");
    write_text("peft/adapter_config.json",
               "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 6, \"use_rslora\": true}");
    assert_ok(bn_adapter_open("peft", &s.over, &back));
    assert_true(back->layers[0].scale > 3.46 && back->layers[0].scale < 3.47); /* 6 / sqrt 3 */
    bn_adapter_free(back);
    assert_ok(bn_config_set(&s.base.config, "adapter.use_rslora=true")); /* is not PEFT's */
    write_text("peft/adapter_config.json",
               "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 6}");
    assert_ok(bn_adapter_open("peft", &s.over, &back));
    assert_true(back->layers[0].scale == 2.0);
    bn_adapter_free(back);
    static const struct {
        const char *json, *text;
    } cases[] = {
        {"{\"peft_type\": \"IA3\"}", "peft_type: expected \"LORA\", found IA3"},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": 6}", "r: expected a number"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 6}", "expected shape [4, 64]"},
        {"{\"peft_type\": \"LORA\", \"r\": 0, \"lora_alpha\": 6}", "adapter.r"},
        {"{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 6, \"use_dora\": true}", "use_dora"},
        {"{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 6, \"bias\": \"all\"}", "bias"},
        {"{", "adapter_config.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text("peft/adapter_config.json", cases[i].json);
        expect_refused("peft", &s.over, BN_BAD_DATA, cases[i].text);
    }
    /* Weights that cannot be written leave no adapter with the old ones' settings. */
    assert_ok(bn_fs_mkdirs("mixed/adapter_model.safetensors"));
    write_text("mixed/adapter_config.json", cases[2].json);
    assert_int_not_equal(bn_peft_write(s.adapters[0], "mixed", &s.over), BN_OK);
    assert_false(bn_peft_is("mixed"));
    /* Those that are not even complete touch nothing. */
    assert_ok(bn_fs_mkdirs("kept/adapter_model.safetensors.new"));
    write_text("kept/adapter_config.json", cases[2].json);
    assert_int_not_equal(bn_peft_write(s.adapters[0], "kept", &s.over), BN_OK);
    assert_true(bn_peft_is("kept"));
    close_shared(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_on_one_base), cmocka_unit_test(test_the_sum_of_two),
        cmocka_unit_test(test_scale),           cmocka_unit_test(test_checkpoint_of_adapters),
        cmocka_unit_test(test_identity),        cmocka_unit_test(test_peft),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
