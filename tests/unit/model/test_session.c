/* Sessions: the KV cache changes nothing but the time it takes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/session.h"
#include "unit/model/model_fixture.h"

enum { VOCAB = 256, POSITIONS = 2 * BN_PREFILL_ROWS + 32 };

static void random_ids(int32_t *ids, int64_t n, uint64_t seed)
{
    bn_rng rng = bn_rng_of(seed, 0);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)bn_rng_below(&rng, VOCAB);
}

/* Logits of the last row against those of the whole sequence on a fresh tape:
 * near (attention sums in another order) and the same choice. */
static void check_last_row(const bn_model *model, const int32_t *ids, int64_t n,
                           const float *logits)
{
    float *all = fixture_full_logits(model, ids, n);
    const float *last = all + (n - 1) * VOCAB;
    float size = 0;
    for (int i = 0; i < VOCAB; i++)
        size = fmaxf(size, fabsf(last[i]));
    assert_true(size > 0);
    for (int i = 0; i < VOCAB; i++)
        if (!(fabsf(last[i] - logits[i]) <= 1e-5f * size))
            fail_msg("%lld tokens, logit %d: %.9g with the cache, %.9g without", (long long)n, i,
                     (double)logits[i], (double)last[i]);
    assert_int_equal(fixture_argmax(last, VOCAB), fixture_argmax(logits, VOCAB));
    free(all);
}

/* Greedy tokens after a prompt; every one compared with a full forward pass. */
static void check_greedy(fixture *f, int64_t prompt, int64_t made)
{
    int32_t ids[POSITIONS];
    float logits[VOCAB];
    bn_session *session;
    random_ids(ids, prompt, (uint64_t)prompt);
    assert_ok(bn_session_new(f->model, 0, &session));
    assert_int_equal(bn_session_capacity(session), POSITIONS);
    assert_ok(bn_session_feed(session, ids, prompt, logits));
    for (int64_t i = prompt;; i++) {
        assert_int_equal(bn_session_position(session), i);
        check_last_row(f->model, ids, i, logits);
        if (i == prompt + made)
            break;
        ids[i] = fixture_argmax(logits, VOCAB);
        assert_ok(bn_session_feed(session, &ids[i], 1, logits));
    }
    bn_session_free(session);
}

static void check_variant(const char *set, int training_steps)
{
    fixture f;
    fixture_open(&f, set);
    fixture_train(&f, training_steps);
    assert_ok(bn_model_pack(f.model));
    check_greedy(&f, 1, 6);
    check_greedy(&f, BN_PREFILL_ROWS - 3, 7); /* cut into all the smaller chunks */
    check_greedy(&f, 2 * BN_PREFILL_ROWS - 1, 4);
    check_greedy(&f, POSITIONS - 2, 2);
    fixture_close(&f);
}

static void test_greedy_equals_full_forward(void **state)
{
    (void)state;
    check_variant("model.hidden_act=relu2", 0);
    check_variant("model.hidden_act=silu", 20);
}

static void test_greedy_of_other_models(void **state)
{
    (void)state;
    check_variant("model.tie_word_embeddings=false", 0);
    check_variant("quantization.modules_to_not_convert=down_proj", 3);
    check_variant("quantization.weight_scale=tensor", 3);
    check_variant("quantization.activation_bits=none", 3);
    check_variant("quantization.activation_bits=4", 3);
    check_variant("quantization.activation_scale=group", 3);
    check_variant("quantization.activation_transform=hadamard", 3);
    check_variant("quantization.weight_bits=none", 3);
}

/* Without packing, graphs quantize the shadow weights each time: same bits. */
static void test_packing_changes_no_bit(void **state)
{
    (void)state;
    fixture f;
    int32_t ids[100];
    fixture_open(&f, NULL);
    fixture_train(&f, 5);
    random_ids(ids, 100, 1);
    float *before = fixture_full_logits(f.model, ids, 100);
    assert_ok(bn_model_pack(f.model));
    float *after = fixture_full_logits(f.model, ids, 100);
    assert_memory_equal(before, after, 100 * VOCAB * sizeof *before);
    free(before);
    free(after);
    fixture_close(&f);
}

/* Feeds the ids in pieces of the given sizes, 0 at the end. */
static void feed_in_pieces(bn_session *session, const int32_t *ids, const int *pieces,
                           float *logits)
{
    for (int64_t at = bn_session_position(session); *pieces; at += *pieces++)
        assert_ok(bn_session_feed(session, ids + at, *pieces, logits));
}

static void check_cutting(int cache_bits)
{
    static const int cuts[][8] = {{300},    {64, 64, 172}, {63, 237},
                                  {1, 299}, {10, 280, 10}, {256, 4, 16, 20, 3, 1}};
    fixture f;
    bn_session *session;
    int32_t ids[POSITIONS];
    float expected[VOCAB], logits[VOCAB];
    fixture_open(&f, NULL);
    fixture_train(&f, 5);
    assert_ok(bn_model_pack(f.model));
    random_ids(ids, POSITIONS, 2);
    assert_ok(
        bn_session_new_with(f.model, &(bn_session_options){.cache_bits = cache_bits}, &session));
    for (int i = 0; i < 300; i++)
        assert_ok(bn_session_feed(session, ids + i, 1, expected));
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        bn_session_rewind(session, 0);
        feed_in_pieces(session, ids, cuts[i], logits);
        assert_int_equal(bn_session_position(session), 300);
        assert_memory_equal(expected, logits, sizeof logits);
    }
    bn_session_free(session);
    fixture_close(&f);
}

static void test_cutting_changes_no_bit(void **state)
{
    (void)state;
    check_cutting(0);
    check_cutting(8);
    check_cutting(4);
}

/* Logits of 300 tokens, and what a token takes. */
static void run_cached(bn_model *model, const int32_t *ids, int bits, float *logits, size_t *bytes)
{
    bn_session *session;
    assert_ok(bn_session_new_with(model, &(bn_session_options){.cache_bits = bits}, &session));
    assert_ok(bn_session_feed(session, ids, 300, logits));
    *bytes = bn_session_token_bytes(session);
    bn_session_free(session);
}

/* Codes are near the reals, 8 bits nearer than 4, in the bytes that the format says. */
static void test_a_cache_of_codes(void **state)
{
    (void)state;
    fixture f;
    int32_t ids[300];
    float expected[VOCAB], logits[VOCAB];
    double error[2] = {0}, size = 0;
    size_t bytes[3];
    fixture_open(&f, NULL);
    fixture_train(&f, 20);
    assert_ok(bn_model_pack(f.model));
    for (int i = 0; i < 300; i++)
        ids[i] = fixture_token(i);
    run_cached(f.model, ids, 0, expected, &bytes[0]);
    for (int i = 0; i < 2; i++) {
        run_cached(f.model, ids, i ? 4 : 8, logits, &bytes[1 + i]);
        for (int v = 0; v < VOCAB; v++)
            error[i] += pow((double)logits[v] - (double)expected[v], 2);
    }
    for (int v = 0; v < VOCAB; v++)
        size += pow((double)expected[v], 2);
    assert_true(error[0] > 0 && error[0] < 1e-3 * size);
    assert_true(error[1] > error[0] && error[1] < 0.1 * size);
    /* 2 layers, K and V, 2 heads of 16 */
    assert_int_equal(bytes[0], 2 * 2 * 2 * 16 * 4);
    assert_int_equal(bytes[1], 2 * 2 * 2 * (16 + 4));
    assert_int_equal(bytes[2], 2 * 2 * 2 * (8 + 4));
    fixture_close(&f);
}

/* Weights arranged for the backend's product are the same weights. */
static void test_arranging_changes_no_bit(void **state)
{
    (void)state;
    fixture f;
    bn_session *plain, *arranged;
    int32_t ids[POSITIONS];
    float expected[VOCAB], logits[VOCAB];
    int in_lanes = 0;
    fixture_open(&f, NULL);
    fixture_train(&f, 5);
    assert_ok(bn_model_pack(f.model));
    random_ids(ids, POSITIONS, 6);
    assert_ok(bn_session_new(f.model, 0, &plain));
    assert_ok(bn_session_feed(plain, ids, 70, expected));
    bn_session_free(plain);
    assert_ok(bn_model_arrange(f.model));
    for (int i = 0; i < f.model->n_linears; i++)
        in_lanes += f.model->linears[i]->codes.dtype == BN_T2_LANES;
    assert_true(!f.backend->arrange || in_lanes > 0);
    assert_ok(bn_session_new(f.model, 0, &arranged));
    assert_ok(bn_session_feed(arranged, ids, 70, logits));
    assert_memory_equal(expected, logits, sizeof logits);
    bn_session_free(arranged);
    fixture_close(&f);
}

/* An int8 head rounds weights and input to one part in 254 of the largest. */
static void test_int8_head_is_near(void **state)
{
    (void)state;
    static const char *const sets[] = {"model.tie_word_embeddings=true",
                                       "model.tie_word_embeddings=false"};
    for (int s = 0; s < 2; s++) {
        fixture f;
        bn_session *session;
        int32_t ids[POSITIONS];
        float expected[VOCAB], logits[VOCAB];
        double difference = 0, size = 0;
        fixture_open(&f, sets[s]);
        fixture_train(&f, 5);
        assert_ok(bn_model_pack(f.model));
        random_ids(ids, POSITIONS, 7);
        assert_ok(bn_session_new(f.model, 0, &session));
        assert_ok(bn_session_feed(session, ids, 40, expected));
        bn_session_free(session);
        assert_ok(bn_model_quantize_head(f.model));
        assert_ok(bn_session_new(f.model, 0, &session));
        assert_ok(bn_session_feed(session, ids, 40, logits));
        for (int i = 0; i < VOCAB; i++) {
            difference += pow((double)logits[i] - (double)expected[i], 2);
            size += pow((double)expected[i], 2);
        }
        assert_true(difference > 0); /* it is another head */
        if (!(difference <= 1e-4 * size))
            fail_msg("%s: %.3g of the logits' size apart", sets[s], sqrt(difference / size));
        bn_session_free(session);
        fixture_close(&f);
    }
}

static void test_a_ternary_head_stays(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, "model.tie_word_embeddings=false");
    f.model->lm_head.is_bit = true;
    assert_int_equal(bn_model_quantize_head(f.model), BN_USAGE);
    assert_string_equal(bn_error_text(), "the output head has ternary weights already");
    fixture_close(&f);
}

/* Sequences of different lengths, one that rests and one that starts over: every
 * one gets the tokens that it gets alone. */
static void check_many(const char *set, int cache_bits)
{
    enum { N = 5, MADE = 6 };
    static const int64_t length[N] = {1, 70, 7, 16, 3};
    fixture f;
    bn_session *many, *alone[N];
    int32_t ids[N][80], next[N];
    float *logits = malloc(sizeof(float) * N * VOCAB), one[VOCAB];
    fixture_open(&f, set);
    fixture_train(&f, 5);
    assert_non_null(logits);
    assert_ok(bn_model_pack(f.model));
    assert_ok(bn_model_arrange(f.model));
    assert_ok(bn_model_quantize_head(f.model)); /* no float product: the same bits */
    bn_session_options options = {.positions = 100, .sequences = N, .cache_bits = cache_bits};
    assert_ok(bn_session_new_with(f.model, &options, &many));
    options.sequences = 1;
    for (int i = 0; i < N; i++) {
        random_ids(ids[i], length[i], (uint64_t)i);
        assert_ok(bn_session_new_with(f.model, &options, &alone[i]));
        bn_session_select(many, i);
        assert_ok(bn_session_feed(many, ids[i], length[i], logits + i * VOCAB));
    }
    for (int step = 0; step < MADE; step++) {
        bool live[N];
        for (int i = 0; i < N; i++) {
            live[i] = (step + i) % 3 != 0;
            next[i] = live[i] ? (int32_t)(7 * i + step) : -1;
        }
        bn_session_select(many, 3);
        if (step == 4)
            bn_session_rewind(many, 2);
        assert_ok(bn_session_step(many, next, live, logits));
        for (int i = 0; i < N; i++) {
            if (step == 0)
                assert_ok(bn_session_feed(alone[i], ids[i], length[i], one));
            if (step == 4 && i == 3)
                bn_session_rewind(alone[i], 2);
            if (live[i])
                assert_ok(bn_session_feed(alone[i], &next[i], 1, one));
            bn_session_select(many, i);
            assert_int_equal(bn_session_position(many), bn_session_position(alone[i]));
            if (live[i])
                assert_memory_equal(logits + i * VOCAB, one, sizeof one);
        }
    }
    for (int i = 0; i < N; i++)
        bn_session_free(alone[i]);
    bn_session_free(many);
    free(logits);
    fixture_close(&f);
}

static void test_many_sequences(void **state)
{
    (void)state;
    check_many("quantization.weight_scale=group", 0);
    check_many("quantization.activation_scale=group", 0);
    check_many("quantization.weight_scale=group", 8);
    check_many("quantization.weight_scale=group", 4);
}

/* A full sequence rests without harm; fed, it is refused. */
static void test_a_full_sequence(void **state)
{
    (void)state;
    fixture f;
    bn_session *many;
    static float logits[2 * VOCAB], expected[VOCAB];
    const int32_t ids[4] = {1, 2, 3, 4}, next[2] = {5, 6};
    fixture_open(&f, NULL);
    assert_ok(bn_model_pack(f.model));
    assert_ok(
        bn_session_new_with(f.model, &(bn_session_options){.positions = 4, .sequences = 2}, &many));
    assert_ok(bn_session_feed(many, ids, 4, expected));
    assert_ok(bn_session_step(many, next, (const bool[]){false, true}, logits));
    assert_int_equal(bn_session_step(many, next, (const bool[]){true, true}, logits), BN_FAIL);
    assert_string_equal(bn_error_text(), "1 token does not fit: 4 of 4 positions are used");
    bn_session_rewind(many, 3);
    assert_ok(bn_session_feed(many, &ids[3], 1, logits));
    assert_memory_equal(logits, expected, sizeof expected);
    bn_session_free(many);
    fixture_close(&f);
}

static void test_rewind_forgets(void **state)
{
    (void)state;
    fixture f;
    bn_session *session;
    int32_t ids[POSITIONS], other[POSITIONS];
    float expected[VOCAB], logits[VOCAB];
    fixture_open(&f, NULL);
    assert_ok(bn_model_pack(f.model));
    random_ids(ids, POSITIONS, 3);
    random_ids(other, POSITIONS, 4);
    assert_ok(bn_session_new(f.model, 0, &session));
    assert_ok(bn_session_feed(session, ids, 100, expected));
    bn_session_rewind(session, 40);
    assert_ok(bn_session_feed(session, other, 100, logits));
    assert_memory_not_equal(expected, logits, sizeof logits);
    bn_session_rewind(session, 40);
    bn_session_rewind(session, 41); /* not back: no effect */
    assert_int_equal(bn_session_position(session), 40);
    assert_ok(bn_session_feed(session, ids + 40, 60, logits));
    assert_memory_equal(expected, logits, sizeof logits);
    bn_session_free(session);
    fixture_close(&f);
}

static void test_limits(void **state)
{
    (void)state;
    fixture f;
    bn_session *session;
    int32_t ids[POSITIONS];
    float logits[VOCAB];
    fixture_open(&f, NULL);
    assert_ok(bn_model_pack(f.model));
    random_ids(ids, POSITIONS, 5);
    assert_int_equal(bn_session_new(f.model, POSITIONS + 1, &session), BN_USAGE);
    assert_non_null(strstr(bn_error_text(), "545"));
    assert_ok(bn_session_new(f.model, 10, &session)); /* fewer than one chunk */
    assert_int_equal(bn_session_capacity(session), 10);
    assert_int_equal(bn_session_feed(session, ids, 0, logits), BN_FAIL);
    assert_int_equal(bn_session_feed(session, ids, 11, logits), BN_FAIL);
    assert_ok(bn_session_feed(session, ids, 10, logits));
    check_last_row(f.model, ids, 10, logits);
    assert_int_equal(bn_session_feed(session, ids, 1, logits), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "10 of 10"));
    bn_session_rewind(session, 9);
    assert_ok(bn_session_feed(session, ids + 9, 1, NULL)); /* logits not wanted */
    bn_session_free(session);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_equals_full_forward),
        cmocka_unit_test(test_greedy_of_other_models),
        cmocka_unit_test(test_packing_changes_no_bit),
        cmocka_unit_test(test_cutting_changes_no_bit),
        cmocka_unit_test(test_a_cache_of_codes),
        cmocka_unit_test(test_arranging_changes_no_bit),
        cmocka_unit_test(test_int8_head_is_near),
        cmocka_unit_test(test_a_ternary_head_stays),
        cmocka_unit_test(test_many_sequences),
        cmocka_unit_test(test_a_full_sequence),
        cmocka_unit_test(test_rewind_forgets),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
