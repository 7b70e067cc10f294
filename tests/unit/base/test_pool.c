/* The memory pool: zeroed aligned blocks, reuse, the limit, the accounts, and
 * the same from several threads at once. */
#include "cmocka_all.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/pool.h"
#include "base/rng.h"
#include "base/timer.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

static bn_pool *pool_of(size_t limit)
{
    bn_pool *pool;
    assert_ok(bn_pool_new(limit, &pool));
    return pool;
}

static bn_pool_usage usage_of(bn_pool *pool)
{
    bn_pool_usage usage;
    bn_pool_get_usage(pool, &usage);
    return usage;
}

static void assert_zero(const unsigned char *block, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (block[i] != 0)
            fail_msg("byte %zu of %zu is %d", i, bytes, block[i]);
}

/* Every size round the borders of the classes, used to the last byte, twice: a
 * block that comes back is zeroed again. */
static void blocks_are_zeroed_aligned_and_reused(void **state)
{
    (void)state;
    bn_pool *pool = pool_of(0);
    uint64_t small = 0;
    for (size_t quarter = 32; quarter <= 1 << 19; quarter *= 2)
        for (size_t bytes = 4 * quarter - 1; bytes <= 8 * quarter + 1; bytes += quarter) {
            void *first, *again;
            assert_ok(bn_pool_take(pool, bytes, &first));
            assert_int_equal((uintptr_t)first % BN_POOL_ALIGN, 0);
            assert_zero(first, bytes);
            memset(first, 0xff, bytes);
            bn_pool_give(pool, first);
            assert_ok(bn_pool_take(pool, bytes, &again));
            if (bytes <= BN_POOL_CACHED) {
                assert_ptr_equal(first, again);
                small++;
            }
            assert_zero(again, bytes);
            memset(again, 0xff, bytes);
            bn_pool_give(pool, again);
        }
    assert_true(small > 50);
    assert_true(usage_of(pool).reused >= small);
    bn_pool_free(pool);
}

static void sizes_share_a_class(void **state)
{
    (void)state;
    bn_pool *pool = pool_of(0);
    void *a, *b, *c;
    assert_ok(bn_pool_take(pool, 0, &a));
    assert_non_null(a);
    bn_pool_give(pool, a);
    assert_ok(bn_pool_take(pool, 128, &b)); /* 0 to 128 bytes */
    assert_ptr_equal(a, b);
    assert_ok(bn_pool_take(pool, 160, &a)); /* 129 to 160 */
    bn_pool_give(pool, a);
    assert_ok(bn_pool_take(pool, 129, &c));
    assert_ptr_equal(a, c);
    bn_pool_give(pool, c);
    assert_ok(bn_pool_take(pool, 161, &c)); /* the next one */
    assert_ptr_not_equal(a, c);
    bn_pool_give(pool, b);
    bn_pool_give(pool, c);
    bn_pool_give(pool, NULL);
    bn_pool_free(pool);
}

static void accounts_are_exact(void **state)
{
    (void)state;
    bn_pool *pool = pool_of(0);
    void *small, *large;
    assert_ok(bn_pool_take(pool, 1000, &small));
    assert_ok(bn_pool_take(pool, 5 << 20, &large));
    bn_pool_usage u = usage_of(pool);
    assert_int_equal(u.bytes, 1000 + (5 << 20));
    assert_int_equal(u.blocks, 2);
    assert_true(u.reserved_bytes > u.bytes && u.reserved_bytes < u.bytes + 2000);
    bn_pool_give(pool, large);
    u = usage_of(pool);
    assert_int_equal(u.bytes, 1000);
    assert_int_equal(u.peak_bytes, 1000 + (5 << 20));
    assert_true(u.reserved_bytes < 2500); /* a large block is not kept */
    assert_true(bn_pool_fragmentation(&u) > 0 && bn_pool_fragmentation(&u) < 0.6);
    bn_pool_give(pool, small);
    u = usage_of(pool);
    assert_int_equal(u.bytes, 0);
    assert_true(u.reserved_bytes > 1000 && bn_pool_fragmentation(&u) == 1);
    bn_pool_trim(pool);
    u = usage_of(pool);
    assert_int_equal(u.reserved_bytes, 0);
    assert_true(bn_pool_fragmentation(&u) == 0);
    assert_int_equal(u.takes, 2);
    assert_int_equal(u.reused, 0);
    bn_pool_free(pool);
}

static void the_limit_holds(void **state)
{
    (void)state;
    bn_pool *pool = pool_of(1 << 20);
    void *a, *b;
    assert_ok(bn_pool_take(pool, 768 << 10, &a));
    assert_int_equal(bn_pool_take(pool, (256 << 10) + 1, &b), BN_FAIL);
    assert_null(b);
    assert_string_equal(
        bn_error_text(),
        "256.0 KiB more would exceed the memory limit of 1.0 MiB (768.0 KiB in use)");
    assert_int_equal(usage_of(pool).bytes, 768 << 10);
    assert_ok(bn_pool_take(pool, 256 << 10, &b));
    bn_pool_give(pool, a);
    assert_int_equal(bn_pool_take(pool, SIZE_MAX, &a), BN_FAIL);
    bn_pool_trim(pool);
    assert_int_equal(usage_of(pool).bytes, 256 << 10);
    assert_ok(bn_pool_take(pool, 768 << 10, &a));
    bn_pool_give(pool, a);
    bn_pool_give(pool, b);
    bn_pool_free(pool);
}

static void what_the_system_lacks_is_not_counted(void **state)
{
    (void)state;
    bn_pool *pool = pool_of(0);
    void *block;
    assert_int_equal(bn_pool_take(pool, SIZE_MAX - 8, &block), BN_FAIL);
    assert_int_equal(bn_pool_take(pool, SIZE_MAX / 2, &block), BN_FAIL);
    assert_null(block);
    assert_int_equal(usage_of(pool).bytes, 0);
    assert_int_equal(usage_of(pool).blocks, 0);
    assert_int_equal(usage_of(pool).reserved_bytes, 0);
    bn_pool_free(pool);
}

/* ---- threads -------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 4000, HELD = 16 };

typedef struct taker {
    bn_pool *pool;
    unsigned char mark;
    int faults;
} taker;

/* Blocks of its own, each full of this thread's mark while it holds it. */
static void *take_and_give(void *arg)
{
    taker *t = arg;
    unsigned char *held[HELD] = {0};
    size_t bytes[HELD] = {0};
    bn_rng rng = bn_rng_of(t->mark, 0);
    for (int i = 0; i < ROUNDS; i++) {
        const int k = (int)bn_rng_below(&rng, HELD);
        void *block;
        for (size_t b = 0; held[k] && b < bytes[k]; b += 37)
            t->faults += held[k][b] != t->mark;
        bn_pool_give(t->pool, held[k]);
        bytes[k] = 1 + bn_rng_below(&rng, 3000);
        if (bn_pool_take(t->pool, bytes[k], &block) != BN_OK) {
            t->faults++;
            bytes[k] = 0;
        }
        held[k] = block;
        memset(block, t->mark, bytes[k]);
    }
    for (int k = 0; k < HELD; k++)
        bn_pool_give(t->pool, held[k]);
    return NULL;
}

static void threads_never_share_a_block(void **state)
{
    (void)state;
    bn_pool *pool = pool_of(0);
    pthread_t threads[THREADS];
    taker takers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        takers[i] = (taker){.pool = pool, .mark = (unsigned char)(i + 1)};
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &takers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(takers[i].faults, 0);
    }
    bn_pool_usage u = usage_of(pool);
    assert_int_equal(u.bytes, 0);
    assert_int_equal(u.takes, THREADS * ROUNDS);
    assert_true(u.reused > u.takes / 2);
    bn_pool_free(pool);
}

/* What nobody may touch is poisoned; elsewhere there is nothing to see. */
static void the_sanitizer_knows_the_blocks(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    bn_pool *pool = pool_of(0);
    void *block;
    assert_ok(bn_pool_take(pool, 200, &block));
    char *at = block;
    assert_false(__asan_address_is_poisoned(at + 199));
    assert_true(__asan_address_is_poisoned(at + 200));
    bn_pool_give(pool, block);
    assert_true(__asan_address_is_poisoned(at));
    bn_pool_free(pool);
#endif
}

/* Frees a pool one of whose blocks is out, in a process of its own with stderr in a
 * pipe; returns how that ended, with what it said. */
static int leak_a_block(char *said, size_t size)
{
    int fds[2], how;
    size_t length = 0;
    assert_int_equal(pipe(fds), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        void *block;
        bn_pool *pool = pool_of(0);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGABRT, SIG_DFL);
        dup2(fds[1], STDERR_FILENO);
        assert_ok(bn_pool_take(pool, 100, &block));
        bn_pool_free(pool);
        _Exit(0);
    }
    close(fds[1]);
    for (ssize_t got; (got = read(fds[0], said + length, size - 1 - length)) > 0;)
        length += (size_t)got;
    said[length] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(child, &how, 0), child);
    return how;
}

static void a_leaked_block_ends_a_debug_build(void **state)
{
    (void)state;
    char said[4096];
    const int how = leak_a_block(said, sizeof said);
#ifdef NDEBUG
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    assert_string_equal(said, "");
#else
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT);
    assert_non_null(strstr(said, "every block of the pool has been given back"));
#endif
}

/* A block from the cache and back, zeroing included: the fastest of many rounds, so
 * that other work on the machine does not count. Only optimized builds are judged. */
static void cached_blocks_are_fast(void **state)
{
    enum { BATCHES = 50, PAIRS = 1000, BYTES = 512 };
    bn_pool *pool = pool_of(0);
    double best = 1;
    (void)state;
    for (int r = 0; r < BATCHES; r++) {
        const double start = bn_seconds();
        for (int i = 0; i < PAIRS; i++) {
            void *block;
            assert_ok(bn_pool_take(pool, BYTES, &block));
            bn_pool_give(pool, block);
        }
        const double each = (bn_seconds() - start) / PAIRS;
        best = each < best ? each : best;
    }
    print_message("%d bytes from the cache and back: %.0f ns\n", BYTES, 1e9 * best);
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(best < 100e-9);
#endif
    bn_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_zeroed_aligned_and_reused),
        cmocka_unit_test(sizes_share_a_class),
        cmocka_unit_test(accounts_are_exact),
        cmocka_unit_test(the_limit_holds),
        cmocka_unit_test(what_the_system_lacks_is_not_counted),
        cmocka_unit_test(threads_never_share_a_block),
        cmocka_unit_test(the_sanitizer_knows_the_blocks),
        cmocka_unit_test(a_leaked_block_ends_a_debug_build),
        cmocka_unit_test(cached_blocks_are_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
