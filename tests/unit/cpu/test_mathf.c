/* bn_expf against the C library's double exp over the whole range of float. */
#include "cmocka_all.h"

#include <math.h>

#include "base/mathf.h"

/* Distance from `exact` in units of the last place of a float of its size. */
static double ulps(float got, double exact)
{
    int exponent = ilogb(exact);
    return fabs((double)got - exact) / ldexp(1, (exponent < -126 ? -126 : exponent) - 23);
}

static void expf_is_within_one_ulp(void **state)
{
    (void)state;
    double worst = 0, worst_subnormal = 0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 1021) { /* a prime: all exponents */
        float x = bn_bits_float((uint32_t)bits);
        if (isnan(x) || x < -103.9f || x > 88.72f)
            continue;
        double exact = exp((double)x), error = ulps(bn_expf(x), exact);
        double *limit = exact < 0x1p-126 ? &worst_subnormal : &worst;
        *limit = error > *limit ? error : *limit;
    }
    print_message("worst %.3f ulp, below the normal numbers %.3f\n", worst, worst_subnormal);
    assert_true(worst < 1);
    assert_true(worst_subnormal < 1);
}

static void expf_at_the_ends(void **state)
{
    (void)state;
    assert_true(bn_expf(0.0f) == 1.0f);
    assert_true(bn_expf(-0.0f) == 1.0f);
    assert_true(bn_expf(89.0f) == INFINITY);
    assert_true(bn_expf(INFINITY) == INFINITY);
    assert_true(bn_expf(-INFINITY) == 0.0f);
    assert_true(bn_expf(-104.0f) == 0.0f);
    assert_true(bn_expf(-1e30f) == 0.0f);
    assert_true(isnan(bn_expf(NAN)));
    assert_true(isfinite(bn_expf(88.72f)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expf_is_within_one_ulp),
        cmocka_unit_test(expf_at_the_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
