/* bn_expf against the C library's double exp. */
#include "cmocka_all.h"

#include <math.h>

#include "base/mathf.h"

/* Distance from `exact` in units of the last place of a float of its size. */
static double ulps(float got, double exact)
{
    return fabs((double)got - exact) / ldexp(1, ilogb(exact) - 23);
}

static void expf_is_within_one_ulp(void **state)
{
    (void)state;
    double worst = 0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 1021) { /* a prime: all exponents */
        float x = bn_bits_float((uint32_t)bits);
        if (!(fabsf(x) <= 87))
            continue;
        double error = ulps(bn_expf(x), exp((double)x));
        worst = error > worst ? error : worst;
    }
    print_message("worst %.3f ulp\n", worst);
    assert_true(worst < 1);
}

static void expf_at_the_ends(void **state)
{
    (void)state;
    assert_true(bn_expf(0.0f) == 1.0f);
    assert_true(bn_expf(-0.0f) == 1.0f);
    assert_true(bn_expf(INFINITY) == bn_expf(87.0f));
    assert_true(bn_expf(1e30f) == bn_expf(87.0f));
    assert_true(bn_expf(-INFINITY) == bn_expf(-87.0f));
    assert_true(bn_expf(-1e30f) == bn_expf(-87.0f));
    assert_true(bn_expf(-87.0f) >= 0x1p-126f);
    assert_true(isnan(bn_expf(NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expf_is_within_one_ulp),
        cmocka_unit_test(expf_at_the_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
