/* Choosing tokens: greedy, top-k, top-p, and the distribution of draws. */
#include <math.h>
#include <string.h>

#include "cmocka_all.h"
#include "model/sampler.h"

enum { MOST = 512 };

static int32_t choose(bn_sampler *sampler, const float *logits, int64_t n)
{
    int32_t order[MOST], token = -1;
    assert_ok(bn_sampler_choose(sampler, logits, n, order, &token));
    assert_in_range(token, 0, n - 1);
    return token;
}

static bn_sampler sampler_of(double temperature, int64_t top_k, double top_p)
{
    return (bn_sampler){temperature, top_k, top_p, bn_rng_of(17, 0)};
}

/* Draws and asserts that exactly the tokens of `allowed` appear. */
static void check_support(bn_sampler sampler, const float *logits, int n, unsigned allowed)
{
    unsigned seen = 0;
    for (int i = 0; i < 4000; i++)
        seen |= 1u << choose(&sampler, logits, n);
    assert_int_equal(seen, allowed);
}

static void test_greedy(void **state)
{
    (void)state;
    const float plain[] = {0.5f, -1, 3, 2.9f}, tie[] = {1, 7, 2, 7, 7}, one[] = {-4};
    const float gaps[] = {-INFINITY, NAN, -8, NAN, -9, INFINITY};
    bn_sampler sampler = sampler_of(0, 40, 0.95);
    assert_int_equal(choose(&sampler, plain, 4), 2);
    assert_int_equal(choose(&sampler, tie, 5), 1); /* the lowest index */
    assert_int_equal(choose(&sampler, one, 1), 0);
    assert_int_equal(choose(&sampler, gaps, 6), 2); /* only finite ones count */
    assert_int_equal(sampler.rng.counter, 0);       /* nothing was drawn */
}

static void test_low_temperature_is_greedy(void **state)
{
    (void)state;
    const float logits[] = {1, 1.5f, 1.4f, -2};
    check_support(sampler_of(1e-3, 0, 1), logits, 4, 1u << 1);
}

static void test_top_k(void **state)
{
    (void)state;
    const float logits[] = {0, 0.3f, 0.1f, 0.2f, -0.1f};
    check_support(sampler_of(1, 0, 1), logits, 5, 0x1f);
    check_support(sampler_of(1, 5, 1), logits, 5, 0x1f);
    check_support(sampler_of(1, 99, 1), logits, 5, 0x1f);
    check_support(sampler_of(1, 3, 1), logits, 5, 1u << 1 | 1u << 3 | 1u << 2);
    check_support(sampler_of(1, 1, 1), logits, 5, 1u << 1);
    const float tie[] = {1, 1, 1, 1};
    check_support(sampler_of(1, 2, 1), tie, 4, 3); /* the lowest indices */
}

static void test_top_p(void **state)
{
    (void)state;
    /* probabilities 0.1, 0.4, 0.2, 0.3 */
    const float logits[] = {logf(1), logf(4), logf(2), logf(3)};
    check_support(sampler_of(1, 0, 0.39), logits, 4, 1u << 1);
    check_support(sampler_of(1, 0, 0.41), logits, 4, 1u << 1 | 1u << 3);
    check_support(sampler_of(1, 0, 0.69), logits, 4, 1u << 1 | 1u << 3);
    check_support(sampler_of(1, 0, 0.71), logits, 4, 1u << 1 | 1u << 3 | 1u << 2);
    check_support(sampler_of(1, 0, 1), logits, 4, 0xf);
    /* of the 2 likeliest, 4/7 and 3/7: */
    check_support(sampler_of(1, 2, 0.56), logits, 4, 1u << 1);
    check_support(sampler_of(1, 2, 0.58), logits, 4, 1u << 1 | 1u << 3);
    /* a temperature is applied first: 0.5 squares the weights, 1 4 16 9 of 30 */
    check_support(sampler_of(0.5, 0, 0.52), logits, 4, 1u << 1);
    check_support(sampler_of(0.5, 0, 0.55), logits, 4, 1u << 1 | 1u << 3);
}

/* Chi-square of draws against the softmax, over the kept tokens. */
static void check_distribution(bn_sampler sampler, const float *logits, int n, double limit)
{
    enum { DRAWS = 50000 };
    int count[MOST] = {0};
    double p[MOST], total = 0, chi = 0;
    int kept = 0;
    for (int i = 0; i < n; i++) {
        int better = 0;
        for (int j = 0; j < n; j++)
            better += logits[j] > logits[i] || (logits[j] == logits[i] && j < i);
        p[i] = sampler.top_k && better >= sampler.top_k
                   ? 0
                   : exp((double)logits[i] / sampler.temperature);
        total += p[i];
        kept += p[i] > 0;
    }
    for (int i = 0; i < DRAWS; i++)
        count[choose(&sampler, logits, n)]++;
    for (int i = 0; i < n; i++) {
        const double expected = p[i] / total * DRAWS;
        if (expected > 0)
            chi += (count[i] - expected) * (count[i] - expected) / expected;
        else
            assert_int_equal(count[i], 0);
    }
    if (!(chi <= limit))
        fail_msg("chi-square %.1f over %d tokens, allowed %.1f", chi, kept, limit);
}

static void test_distribution(void **state)
{
    (void)state;
    const float few[] = {0.3f, -0.9f, 1.1f, 0.5f, 0.5f};
    float many[100];
    for (int i = 0; i < 100; i++)
        many[i] = 0.02f * (float)((i * 37) % 100);
    /* limits: quantile 0.999 of chi-square with 4, 9 and 99 degrees of freedom */
    check_distribution(sampler_of(1, 0, 1), few, 5, 18.5);
    check_distribution(sampler_of(0.7, 0, 1), few, 5, 18.5);
    check_distribution(sampler_of(1.3, 10, 1), many, 100, 27.9);
    check_distribution(sampler_of(1, 0, 1), many, 100, 148.3);
}

static void test_reproducible(void **state)
{
    (void)state;
    float logits[64];
    bn_sampler a = sampler_of(1, 0, 0.9), b = a, c = a;
    c.rng = bn_rng_of(18, 0);
    int differing = 0;
    for (int i = 0; i < 64; i++)
        logits[i] = 0.01f * (float)i;
    for (int i = 0; i < 200; i++) {
        const int32_t token = choose(&a, logits, 64);
        assert_int_equal(token, choose(&b, logits, 64));
        differing += token != choose(&c, logits, 64);
    }
    assert_true(differing > 100);
}

static void test_huge_logits(void **state)
{
    (void)state;
    const float logits[] = {3e38f, -3e38f, 2.9e38f};
    check_support(sampler_of(1, 0, 1), logits, 3, 1);
}

static void test_nothing_finite(void **state)
{
    (void)state;
    const float logits[] = {NAN, -INFINITY, INFINITY};
    int32_t order[3], token;
    for (int greedy = 0; greedy < 2; greedy++) {
        bn_sampler sampler = sampler_of(greedy ? 0 : 1, 0, 1);
        assert_int_equal(bn_sampler_choose(&sampler, logits, 3, order, &token), BN_FAIL);
        assert_non_null(strstr(bn_error_text(), "none of the 3 logits is finite"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),       cmocka_unit_test(test_low_temperature_is_greedy),
        cmocka_unit_test(test_top_k),        cmocka_unit_test(test_top_p),
        cmocka_unit_test(test_distribution), cmocka_unit_test(test_reproducible),
        cmocka_unit_test(test_huge_logits),  cmocka_unit_test(test_nothing_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
