/* Batches: each window once per epoch, exact resume, no leak from training
 * into validation, evaluation covers each label once. */
#include "data_fixture.h"

#include <stdlib.h>

#include "data/batcher.h"

/* A corpus in which every token tells its place: 4-byte tokens 0, 1, 2, ... */
#include "data/token_shard.h"

enum { VOCAB = 1 << 20 };

static bn_tokenizer counting;

static bn_corpus *counting_corpus(int64_t size)
{
    counting = odd_tokenizer(VOCAB);
    bn_shard_writer *writer;
    assert_ok(bn_shard_writer_new("count.bnt", &counting, &writer));
    for (int32_t i = 0; i < size; i++)
        assert_ok(bn_shard_writer_append(writer, &i, 1));
    assert_ok(bn_shard_writer_finish(writer));
    bn_shard_writer_free(writer);
    return open_corpus("count.bnt", &counting);
}

static void permutation_is_one(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1,  2,  3,   4,   5,   7,    8,    9,    15,   16,   17,   63,
                                     64, 65, 255, 256, 257, 1000, 1024, 4095, 4096, 4097, 10007};
    unsigned char *seen = malloc(10007);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (uint64_t key = 0; key < 5; key++) {
            memset(seen, 0, 10007);
            for (uint64_t x = 0; x < sizes[s]; x++) {
                uint64_t y = bn_permute(x, sizes[s], key);
                assert_true(y < sizes[s]);
                assert_int_equal(seen[y]++, 0);
            }
        }
    free(seen);

    /* a domain of the greatest width */
    uint64_t n = UINT64_C(1) << 62;
    for (uint64_t x = 0; x < 1000; x++) {
        assert_true(bn_permute(x, n, 9) < n);
        assert_int_not_equal(bn_permute(x, n, 9), bn_permute(x + 1, n, 9));
    }
}

/* Neighbours end up far apart: of 1000 steps few go on to the next window, and
 * two keys agree in few places (1 is expected for random orders in both). */
static void permutation_mixes(void **state)
{
    (void)state;
    int successors = 0, agreements = 0;
    for (uint64_t x = 0; x + 1 < 1000; x++) {
        successors += bn_permute(x + 1, 1000, 1) == bn_permute(x, 1000, 1) + 1;
        agreements += bn_permute(x, 1000, 1) == bn_permute(x, 1000, 2);
    }
    assert_true(successors < 8);
    assert_true(agreements < 8);
}

/* Runs one epoch row by row and checks that the windows tile the span from
 * the phase on, each one once. */
static void check_epoch(bn_batcher *batcher)
{
    int64_t t = batcher->seq_len, n = batcher->span.count;
    int64_t windows = batcher->windows, phase = batcher->phase;
    uint64_t epoch = batcher->state.epoch;
    int32_t *tokens = malloc((size_t)t * 4), *labels = malloc((size_t)t * 4);
    unsigned char *seen = calloc((size_t)windows, 1);

    assert_true(windows >= 1);
    assert_true(phase >= 0 && phase < t);
    assert_true(phase + windows * t + 1 <= n);      /* the last label is inside */
    assert_true(phase + (windows + 1) * t + 1 > n); /* no further window fits */
    for (int64_t w = 0; w < windows; w++) {
        assert_int_equal(batcher->state.epoch, epoch);
        bn_batcher_next(batcher, 1, tokens, labels);
        int64_t at = tokens[0] - batcher->span.start - phase;
        assert_true(at >= 0 && at % t == 0 && at / t < windows);
        assert_int_equal(seen[at / t]++, 0);
        for (int64_t i = 0; i < t; i++) {
            assert_int_equal(tokens[i], tokens[0] + i);
            assert_int_equal(labels[i], tokens[i] + 1);
        }
    }
    assert_int_equal(batcher->state.index, windows);
    free(tokens);
    free(labels);
    free(seen);
}

static void every_window_once(void **state)
{
    (void)state;
    bn_corpus *corpus = counting_corpus(1000);
    static const struct {
        int64_t start, count, t;
    } cases[] = {{0, 1000, 16}, {0, 1000, 1},   {100, 333, 10}, {3, 17, 16},
                 {3, 18, 16},   {0, 1000, 999}, {5, 33, 16},    {0, 2, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            bn_batcher batcher;
            bn_span span = {corpus, cases[c].start, cases[c].count};
            assert_ok(bn_batcher_init(&batcher, span, cases[c].t, seed));
            for (uint64_t epoch = 0; epoch < 4; epoch++) {
                bn_batcher_state at = {seed, epoch, 0};
                assert_ok(bn_batcher_restore(&batcher, &at));
                check_epoch(&batcher);
            }
        }
    bn_corpus_free(corpus);
}

/* Seeds and epochs differ in order and, over a few, in phase. */
static void epochs_differ(void **state)
{
    (void)state;
    bn_corpus *corpus = counting_corpus(1000);
    bn_batcher a;
    int phases = 0, orders = 0;
    int64_t last = -1, last_first = -1;
    int32_t inputs[16], targets[16];
    assert_ok(bn_batcher_init(&a, bn_corpus_all(corpus), 16, 7));
    for (uint64_t epoch = 0; epoch < 8; epoch++) {
        bn_batcher_state at = {7, epoch, 0};
        assert_ok(bn_batcher_restore(&a, &at));
        phases += a.phase != last;
        last = a.phase;
        bn_batcher_next(&a, 1, inputs, targets);
        int64_t first = (inputs[0] - a.phase) / 16; /* of about 61 windows */
        orders += first != last_first;
        last_first = first;
    }
    assert_true(phases >= 5);
    assert_true(orders >= 5);

    int32_t x[4][16], y[4][16], labels[4][16];
    bn_batcher b;
    assert_ok(bn_batcher_init(&a, bn_corpus_all(corpus), 16, 7));
    assert_ok(bn_batcher_init(&b, bn_corpus_all(corpus), 16, 8));
    bn_batcher_next(&a, 4, x[0], labels[0]);
    bn_batcher_next(&b, 4, y[0], labels[0]);
    assert_memory_not_equal(x, y, sizeof x);
    bn_corpus_free(corpus);
}

/* 40 batches straight against a run stopped after every one of them: a batch
 * of 5 does not divide the epoch, so epochs end inside batches. */
static void resume_is_exact(void **state)
{
    (void)state;
    enum { B = 5, T = 16, BATCHES = 40 };
    bn_corpus *corpus = counting_corpus(1000);
    bn_batcher straight;
    int32_t tokens[B * T], labels[B * T], tokens2[B * T], labels2[B * T];
    assert_ok(bn_batcher_init(&straight, bn_corpus_all(corpus), T, 42));
    bn_batcher_state saved = straight.state;
    for (int i = 0; i < BATCHES; i++) {
        bn_batcher resumed;
        assert_ok(bn_batcher_init(&resumed, bn_corpus_all(corpus), T, 0));
        assert_ok(bn_batcher_restore(&resumed, &saved));
        bn_batcher_next(&straight, B, tokens, labels);
        bn_batcher_next(&resumed, B, tokens2, labels2);
        assert_memory_equal(tokens, tokens2, sizeof tokens);
        assert_memory_equal(labels, labels2, sizeof labels);
        saved = resumed.state;
        assert_memory_equal(&saved, &straight.state, sizeof saved);
    }
    assert_true(saved.epoch >= 2);
    bn_corpus_free(corpus);
}

static void validation_stays_unseen(void **state)
{
    (void)state;
    enum { T = 16, B = 4 };
    bn_corpus *corpus = counting_corpus(1000);
    bn_span train, validation;
    bn_batcher batcher;
    int32_t tokens[B * T], labels[B * T];
    assert_ok(bn_corpus_split(corpus, 0.1, &train, &validation));
    assert_ok(bn_batcher_init(&batcher, train, T, 1));
    int32_t highest = 0;
    while (batcher.state.epoch < 40) {
        bn_batcher_next(&batcher, B, tokens, labels);
        for (int i = 0; i < B * T; i++)
            highest = labels[i] > highest ? labels[i] : highest;
    }
    assert_int_equal(highest, validation.start - 1); /* the last one is reached, too */

    bn_eval_batches it;
    bn_eval_count count;
    assert_ok(bn_eval_batches_init(&it, validation, &counting, T, B, 0));
    while (bn_eval_batches_next(&it, tokens, labels, &count))
        for (int64_t i = 0; i < count.labels; i++) {
            assert_true(tokens[i] >= validation.start);
            assert_true(labels[i] > validation.start);
        }
    bn_corpus_free(corpus);
}

static void too_short(void **state)
{
    (void)state;
    bn_corpus *corpus = counting_corpus(100);
    bn_batcher batcher;
    bn_span sixteen = {corpus, 0, 16}, one = {corpus, 99, 1}, none = {corpus, 100, 0};
    assert_int_equal(bn_batcher_init(&batcher, sixteen, 16, 0), BN_BAD_DATA);
    assert_error_has("count.bnt: too short to train on");
    assert_error_has("16 tokens needs 17");
    assert_error_has("has 16 of 100");

    bn_eval_batches it;
    assert_int_equal(bn_eval_batches_init(&it, one, &counting, 8, 2, 0), BN_BAD_DATA);
    assert_error_has("count.bnt: too short to evaluate on");
    assert_int_equal(bn_eval_batches_init(&it, none, &counting, 8, 2, 0), BN_BAD_DATA);

    /* a state from a longer text */
    assert_ok(bn_batcher_init(&batcher, bn_corpus_all(corpus), 16, 0));
    bn_batcher before = batcher;
    bn_batcher_state bad = {0, 0, 7};
    assert_int_equal(bn_batcher_restore(&batcher, &bad), BN_BAD_DATA);
    assert_error_has("count.bnt: ");
    assert_error_has("window 7 of epoch 0");
    assert_memory_equal(&batcher, &before, sizeof before);
    bn_corpus_free(corpus);
}

/* Every label once, the filling ignored, sums right: for all shapes around the
 * borders of windows and batches. */
static void eval_covers_all(void **state)
{
    (void)state;
    enum { T = 4, B = 3, START = 10 };
    bn_corpus *corpus = counting_corpus(200);
    for (int64_t n = 2; n <= 3 * T * B + 2; n++) {
        bn_eval_batches it;
        bn_eval_count count;
        int32_t tokens[B * T], labels[B * T], next = START + 1;
        int64_t sum = 0, bytes = 0, expected_bytes = 0, visited = 0;
        bn_span span = {corpus, START, n};
        assert_ok(bn_eval_batches_init(&it, span, &counting, T, B, 0));
        assert_int_equal(it.batches, it.total);
        while (bn_eval_batches_next(&it, tokens, labels, &count)) {
            assert_true(count.labels >= 1);
            for (int i = 0; i < B * T; i++) {
                if (i >= count.labels) {
                    assert_int_equal(labels[i], BN_LABEL_IGNORE);
                    assert_int_equal(tokens[i], 0);
                    continue;
                }
                assert_int_equal(tokens[i], next - 1);
                assert_int_equal(labels[i], next);
                expected_bytes += 1 + next % 3;
                next++;
            }
            sum += count.labels;
            bytes += count.bytes;
            visited++;
        }
        assert_int_equal(sum, n - 1);
        assert_int_equal(bytes, expected_bytes);
        assert_int_equal(visited, it.batches);
        assert_false(bn_eval_batches_next(&it, tokens, labels, &count));
        assert_int_equal(count.labels, 0);
    }
    bn_corpus_free(corpus);
}

static void eval_sample(void **state)
{
    (void)state;
    enum { T = 4, B = 2 };
    bn_corpus *corpus = counting_corpus(161); /* 20 batches of 8 labels */
    for (int64_t wanted = 1; wanted <= 25; wanted++) {
        bn_eval_batches it;
        bn_eval_count count;
        int32_t tokens[B * T], labels[B * T];
        int64_t visited = 0;
        assert_ok(bn_eval_batches_init(&it, bn_corpus_all(corpus), &counting, T, B, wanted));
        assert_int_equal(it.total, 20);
        assert_int_equal(it.batches, wanted < 20 ? wanted : 20);
        while (bn_eval_batches_next(&it, tokens, labels, &count)) {
            assert_int_equal(tokens[0], visited * 20 / it.batches * B * T);
            assert_int_equal(count.labels, B * T);
            visited++;
        }
        assert_int_equal(visited, it.batches);
    }
    bn_corpus_free(corpus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permutation_is_one), cmocka_unit_test(permutation_mixes),
        cmocka_unit_test(every_window_once),  cmocka_unit_test(epochs_differ),
        cmocka_unit_test(resume_is_exact),    cmocka_unit_test(validation_stays_unseen),
        cmocka_unit_test(too_short),          cmocka_unit_test(eval_covers_all),
        cmocka_unit_test(eval_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
