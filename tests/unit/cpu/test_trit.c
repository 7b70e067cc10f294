/* Trit arithmetic, of the reference and of every instruction set, against plain
 * loops over int8. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/cpu.h"

enum {
    LONGEST = 33003, /* more words than are counted at a time, of every width */
    GUARD = 8,       /* bytes behind an output that must stay */
    PACKED_MAX = (LONGEST + 3) / 4 + GUARD,
    MANY = 300, /* vectors in a bundle: more than 8 planes */
};

static const bn_trit_ops *ops; /* under test */
static int8_t *a, *b, *want, *got;
static uint8_t *pa, *pb, *out;

/* Runs a test on the reference and on every isa this CPU has. */
static void on_every_isa(void (*test)(void))
{
    ops = &bn_trit_ref;
    test();
    for (int i = 0; bn_cpu_isa_choice(i); i++) {
        const bn_cpu_options options = {.threads = 1, .isa = bn_cpu_isa_choice(i)};
        bn_backend *backend;
        assert_ok(bn_cpu_backend_new(&options, &backend));
        ops = bn_cpu_trits(backend);
        test();
        bn_backend_free(backend);
    }
}

static void expect_vector(int64_t n)
{
    bn_code_fault fault;
    const int64_t bytes = bn_t2_row_bytes(n);
    bn_trit_to_i8(out, n, got);
    assert_memory_equal(got, want, (size_t)n);
    assert_true(bn_t2_check(out, 1, n, &fault));
    for (int i = 0; i < GUARD; i++)
        assert_int_equal(out[bytes + i], 0xee);
}

static int8_t sign_of(int64_t x)
{
    return (int8_t)((x > 0) - (x < 0));
}

/* Every operation on a and b. */
static void expect_all(int64_t n)
{
    bn_trit_counts c = {0};
    int64_t dot = 0, hamming = 0, nonzero_b = 0;
    memset(out, 0xee, PACKED_MAX);
    bn_trit_from_i8(a, n, pa);
    bn_trit_from_i8(b, n, pb);
    for (int64_t k = 0; k < n; k++) {
        c.minus += a[k] < 0;
        c.zero += a[k] == 0;
        c.plus += a[k] > 0;
        nonzero_b += b[k] != 0;
        dot += a[k] * b[k];
        hamming += a[k] != b[k];
        want[k] = (int8_t)-a[k];
    }
    const bn_trit_counts counts = ops->count(pa, n);
    assert_memory_equal(&counts, &c, sizeof c);
    assert_int_equal(bn_trit_nonzero(ops, pb, n), nonzero_b);
    assert_int_equal(bn_trit_dot(ops, pa, pb, n), dot);
    assert_int_equal(bn_trit_hamming(ops, pa, pb, n), hamming);
    const double norms = sqrt((double)(n - c.zero)) * sqrt((double)nonzero_b);
    assert_true(bn_trit_cosine(ops, pa, pb, n) == (norms > 0 ? (double)dot / norms : 0));

    ops->negate(pa, n, out);
    expect_vector(n);
    ops->negate(out, n, out); /* in place, and its own inverse */
    memcpy(want, a, (size_t)n);
    expect_vector(n);
    for (int64_t k = 0; k < n; k++)
        want[k] = (int8_t)(a[k] * b[k]);
    ops->bind(out, pb, n, out);
    expect_vector(n);
    for (int64_t k = 0; k < n; k++)
        want[k] = sign_of(a[k] + b[k]);
    const uint8_t *const both[] = {pa, pb};
    ops->bundle(both, 2, n, out);
    expect_vector(n);
}

static void exhaustive(void)
{
    static const int pow3[] = {1, 3, 9, 27, 81};
    for (int n = 1; n <= 4; n++)
        for (int i = 0; i < pow3[n] * pow3[n]; i++) {
            for (int k = 0; k < n; k++) {
                a[k] = (int8_t)(i / pow3[k] % 3 - 1);
                b[k] = (int8_t)(i / pow3[n] / pow3[k] % 3 - 1);
            }
            expect_all(n);
        }
}

static void fill(int8_t *codes, int64_t n, uint64_t seed)
{
    bn_rng rng = bn_rng_of(seed, (uint64_t)n);
    for (int64_t k = 0; k < n; k++)
        codes[k] = (int8_t)((int)bn_rng_below(&rng, 3) - 1);
}

static void random_lengths(void)
{
    for (int64_t n = 1; n <= LONGEST; n = n < 530 ? n + 1 : n * 5 / 2) {
        fill(a, n, 1);
        fill(b, n, 2);
        expect_all(n);
    }
    memset(a, 1, LONGEST); /* the largest counts */
    memset(b, -1, LONGEST);
    expect_all(LONGEST);
}

/* Majorities of 1, 2, ... vectors, the same one several times among them. */
static void bundles(void)
{
    enum { N = 77, BYTES = 20 };
    static uint8_t packed[MANY][BYTES];
    const uint8_t *in[MANY];
    int64_t sum[N] = {0};
    for (int m = 0; m < MANY; m++) {
        fill(a, N, m % 4 == 3 ? 7 : (uint64_t)m);
        a[0] = 1; /* the largest sum and the smallest */
        a[1] = -1;
        a[2] = 0;
        a[3] = (int8_t)(m % 2 ? 1 : -1); /* a tie every other time */
        bn_trit_from_i8(a, N, packed[m]);
        in[m] = packed[m];
        memset(out, 0xee, PACKED_MAX);
        for (int k = 0; k < N; k++) {
            sum[k] += a[k];
            want[k] = sign_of(sum[k]);
        }
        ops->bundle(in, m + 1, N, out);
        expect_vector(N);
    }
}

static void test_exhaustive(void **state)
{
    (void)state;
    on_every_isa(exhaustive);
}

static void test_random_lengths(void **state)
{
    (void)state;
    on_every_isa(random_lengths);
}

static void test_bundles(void **state)
{
    (void)state;
    on_every_isa(bundles);
}

static int setup(void **state)
{
    (void)state;
    a = malloc(LONGEST);
    b = malloc(LONGEST);
    want = malloc(LONGEST);
    got = malloc(LONGEST);
    pa = malloc(PACKED_MAX);
    pb = malloc(PACKED_MAX);
    out = malloc(PACKED_MAX);
    return !(a && b && want && got && pa && pb && out);
}

static int teardown(void **state)
{
    void *all[] = {a, b, want, got, pa, pb, out};
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exhaustive),
        cmocka_unit_test(test_random_lengths),
        cmocka_unit_test(test_bundles),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
