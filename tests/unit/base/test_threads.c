/* The pool: every chunk once, any number of threads, many short loops. */
#include "cmocka_all.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/threads.h"

enum { MAX_COUNT = 4, MAX_CHUNKS = 1000 };

typedef struct loop {
    atomic_int runs[MAX_CHUNKS];
    atomic_int busy[MAX_COUNT]; /* calls now running on a worker */
    atomic_int overlaps, strangers;
    int count;
} loop;

static void mark(void *arg, int64_t chunk, int worker)
{
    loop *l = arg;
    if (worker < 0 || worker >= l->count) {
        atomic_fetch_add(&l->strangers, 1);
        return;
    }
    if (atomic_fetch_add(&l->busy[worker], 1) != 0)
        atomic_fetch_add(&l->overlaps, 1);
    atomic_fetch_add(&l->runs[chunk], 1);
    atomic_fetch_sub(&l->busy[worker], 1);
}

static void test_each_chunk_once(void **state)
{
    (void)state;
    for (int count = 1; count <= MAX_COUNT; count++) {
        bn_threads *pool;
        assert_ok(bn_threads_new(count, &pool));
        assert_int_equal(bn_threads_count(pool), count);
        for (int64_t chunks = 0; chunks <= MAX_CHUNKS; chunks = chunks * 2 + 1) {
            loop l;
            memset(&l, 0, sizeof l);
            l.count = count;
            bn_parallel_for(pool, chunks, mark, &l);
            for (int64_t i = 0; i < MAX_CHUNKS; i++)
                assert_int_equal(atomic_load(&l.runs[i]), i < chunks);
            assert_int_equal(atomic_load(&l.overlaps), 0);
            assert_int_equal(atomic_load(&l.strangers), 0);
        }
        bn_threads_free(pool);
    }
}

typedef struct sums {
    int64_t input[8], output[8]; /* plain memory: the pool orders accesses */
} sums;

static void add(void *arg, int64_t chunk, int worker)
{
    (void)worker;
    sums *s = arg;
    s->output[chunk] += s->input[chunk];
}

/* What one loop wrote, the caller and the next loop see. */
static void test_many_short_loops(void **state)
{
    (void)state;
    for (int count = 1; count <= MAX_COUNT; count++) {
        bn_threads *pool;
        sums s = {{0}, {0}};
        int64_t expected = 0;
        assert_ok(bn_threads_new(count, &pool));
        for (int i = 0; i < 10000; i++) {
            for (int k = 0; k < 8; k++)
                s.input[k] = i;
            bn_parallel_for(pool, 8, add, &s);
            expected += i;
            for (int k = 0; k < 8; k++)
                assert_int_equal(s.output[k], expected);
        }
        bn_threads_free(pool);
    }
}

/* Workers that have gone to sleep take part again. */
typedef struct counted {
    int64_t chunks;
    atomic_int runs;
    atomic_int *strangers; /* chunks that the loop does not have, or that ran after its end */
    bool over;
} counted;

static void count_run(void *arg, int64_t chunk, int worker)
{
    (void)worker;
    counted *c = arg;
    atomic_fetch_add(&c->runs, 1);
    if (c->over || chunk >= c->chunks)
        atomic_fetch_add(c->strangers, 1);
}

/* A worker that is late for a short loop must not take a chunk of it when the
 * next, longer one is being posted. */
static void test_short_and_long_loops_take_turns(void **state)
{
    (void)state;
    enum { LOOPS = 400000 };
    bn_threads *pool;
    atomic_int strangers = 0;
    assert_ok(bn_threads_new(2, &pool));
    for (int i = 0; i < LOOPS; i++) {
        counted c = {.chunks = i % 2 ? 2 : 9, .strangers = &strangers};
        bn_parallel_for(pool, c.chunks, count_run, &c);
        assert_int_equal(atomic_load(&c.runs), c.chunks);
        c.over = true;
    }
    assert_int_equal(atomic_load(&strangers), 0);
    bn_threads_free(pool);
}

static void test_after_a_pause(void **state)
{
    (void)state;
    bn_threads *pool;
    assert_ok(bn_threads_new(3, &pool));
    for (int i = 0; i < 20; i++) {
        loop l;
        memset(&l, 0, sizeof l);
        l.count = 3;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        bn_parallel_for(pool, 50, mark, &l);
        for (int k = 0; k < 50; k++)
            assert_int_equal(atomic_load(&l.runs[k]), 1);
    }
    bn_threads_free(pool);
}

static void meet(void *arg, int64_t chunk, int worker)
{
    atomic_int *arrived = arg;
    (void)chunk;
    (void)worker;
    atomic_fetch_add(arrived, 1);
    while (atomic_load(arrived) < 3)
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

/* Three chunks that wait for each other end only if three threads run. */
static void test_chunks_run_at_the_same_time(void **state)
{
    (void)state;
    bn_threads *pool;
    atomic_int arrived = 0;
    assert_ok(bn_threads_new(3, &pool));
    bn_parallel_for(pool, 3, meet, &arrived);
    assert_int_equal(atomic_load(&arrived), 3);
    bn_threads_free(pool);
}

static void test_counts(void **state)
{
    (void)state;
    bn_threads *pool;
    assert_true(bn_cpu_count() >= 1);
    assert_ok(bn_threads_new(0, &pool));
    assert_int_equal(bn_threads_count(pool), bn_cpu_count());
    bn_threads_free(pool);
    bn_threads_free(NULL);
    assert_int_equal(bn_threads_new(-1, &pool), BN_USAGE);
    assert_null(pool);
    assert_string_equal(bn_error_text(), "threads: -1, expected 0 (all) to 4096");
    assert_int_equal(bn_threads_new(4097, &pool), BN_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_chunk_once),
        cmocka_unit_test(test_many_short_loops),
        cmocka_unit_test(test_short_and_long_loops_take_turns),
        cmocka_unit_test(test_after_a_pause),
        cmocka_unit_test(test_chunks_run_at_the_same_time),
        cmocka_unit_test(test_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
