/* Random numbers: reproducible, in range, without bias. */
#include "cmocka_all.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

/* First outputs of splitmix64 seeded with 1234567 (its published test
 * vector), through the finaliser. */
static void test_finaliser(void **state)
{
    (void)state;
    static const uint64_t expected[] = {UINT64_C(6457827717110365317),
                                        UINT64_C(3203168211198807973),
                                        UINT64_C(9817491932198370423)};
    uint64_t s = 1234567;
    for (int i = 0; i < 3; i++)
        assert_true(bn_mix64(s += UINT64_C(0x9e3779b97f4a7c15)) == expected[i]);
}

static void test_counter_is_the_state(void **state)
{
    (void)state;
    bn_rng rng = bn_rng_of(1337, 1);
    for (int i = 0; i < 10; i++)
        (void)bn_rng_normal(&rng);
    assert_int_equal(rng.counter, 20);
    bn_rng resumed = {rng.key, rng.counter};
    assert_true(bn_rng_u64(&rng) == bn_rng_u64(&resumed));
    assert_true(bn_rng_u64(&rng) == bn_hash64(rng.key, 21));
    assert_true(bn_rng_key(1337, 1) != bn_rng_key(1337, 2));
    assert_true(bn_rng_key(1337, 1) != bn_rng_key(1338, 1));
}

static void test_below(void **state)
{
    (void)state;
    enum { N = 7, DRAWS = 70000 };
    bn_rng rng = bn_rng_of(1, 2);
    int counts[N] = {0};
    for (int i = 0; i < DRAWS; i++) {
        uint64_t x = bn_rng_below(&rng, N);
        assert_true(x < N);
        counts[x]++;
    }
    double chi2 = 0;
    for (int i = 0; i < N; i++)
        chi2 += pow(counts[i] - (double)DRAWS / N, 2) / ((double)DRAWS / N);
    assert_true(chi2 < 22.5); /* 6 degrees of freedom: 1 in 1000 */
    assert_int_equal(bn_rng_below(&rng, 1), 0);
}

/* With n = 3 * 2^62 a generator that only scales 64 bits gives the residues
 * 0, 1, 2 mod 3 the shares 1/2, 1/4, 1/4; rejection gives 1/3 each. */
static void test_below_large(void **state)
{
    (void)state;
    enum { DRAWS = 30000 };
    uint64_t n = UINT64_C(3) << 62;
    bn_rng rng = bn_rng_of(3, 4);
    int counts[3] = {0};
    for (int i = 0; i < DRAWS; i++) {
        uint64_t x = bn_rng_below(&rng, n);
        assert_true(x < n);
        counts[x % 3]++;
    }
    for (int i = 0; i < 3; i++)
        assert_true(abs(counts[i] - DRAWS / 3) < 400);
}

static void test_moments(void **state)
{
    (void)state;
    enum { DRAWS = 200000 };
    bn_rng rng = bn_rng_of(5, 6);
    double sum = 0, squares = 0, uniform = 0;
    for (int i = 0; i < DRAWS; i++) {
        double u = bn_rng_uniform(&rng), z = bn_rng_normal(&rng);
        assert_true(u >= 0 && u < 1 && isfinite(z));
        uniform += u;
        sum += z;
        squares += z * z;
    }
    assert_true(fabs(uniform / DRAWS - 0.5) < 0.003);
    assert_true(fabs(sum / DRAWS) < 0.01);
    assert_true(fabs(squares / DRAWS - 1) < 0.015);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finaliser), cmocka_unit_test(test_counter_is_the_state),
        cmocka_unit_test(test_below),     cmocka_unit_test(test_below_large),
        cmocka_unit_test(test_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
