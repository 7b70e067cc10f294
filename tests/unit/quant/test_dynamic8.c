/* The map of 8-bit moments against its definition, by search over all values. */
#include <math.h>

#include "cmocka_all.h"
#include "quant/dynamic8.h"

/* Distance of x to the nearest value; without a sign 0 is none for x > 0. */
static double least_distance(const bn_dynamic8 *map, bool with_sign, float x)
{
    double least = 2.0;
    for (int c = !with_sign && x > 0.0f; c < 256; c++)
        least = fmin(least, fabs((double)x - (double)map->value[c]));
    return least;
}

/* All leading 18 bits of numbers of 2^-24 .. 1 and what lies at every border. */
static void check_codes(bool with_sign)
{
    static bn_dynamic8 map;
    bn_dynamic8_init(&map, with_sign);
    for (int c = 1; c < 256; c++)
        assert_true(map.value[c] > map.value[c - 1]);
    for (uint32_t bits = 0x33800000; bits <= 0x3f800000; bits += 1 << 14)
        for (int sign = 0; sign <= with_sign; sign++) {
            float x;
            memcpy(&x, &bits, sizeof x);
            x = sign ? -x : x;
            const int code = bn_dynamic8_code(&map, x);
            const double least = least_distance(&map, with_sign, x);
            if (!(fabs((double)x - (double)map.value[code]) <= least * (1 + 1e-5)))
                fail_msg("%.9g has code %d, there is a value at a distance of %.9g", (double)x,
                         code, least);
        }
    for (int c = 0; c < 255; c++) {
        const float above = nextafterf(map.border[c], 2.0f);
        assert_int_equal(bn_dynamic8_code(&map, map.border[c]), c);
        assert_int_equal(bn_dynamic8_code(&map, above), c + 1);
        assert_int_equal(bn_dynamic8_code(&map, map.value[c]), c);
    }
    assert_int_equal(bn_dynamic8_code(&map, 1.0001f), 255); /* what rounding makes of 1 */
}

static void test_codes(void **state)
{
    (void)state;
    check_codes(true);
    check_codes(false);
}

/* A few values by hand: middles of 1, 2, 4 .. 64 parts of a decade, twice as many
 * without a sign. */
static void test_values(void **state)
{
    (void)state;
    static bn_dynamic8 with, without;
    bn_dynamic8_init(&with, true);
    bn_dynamic8_init(&without, false);
    assert_true(with.value[127] == 0.0f && without.value[0] == 0.0f);
    assert_true(with.value[128] == 0.55e-6f && with.value[126] == -0.55e-6f);
    assert_true(with.value[129] == 3.25e-6f && with.value[130] == 7.75e-6f);
    assert_true(with.value[254] == 0.99296875f && with.value[0] == -0.99296875f);
    assert_true(without.value[1] == 0.325e-6f && without.value[2] == 0.775e-6f);
    assert_true(without.value[254] == 0.996484375f);
    assert_true(with.value[255] == 1.0f && without.value[255] == 1.0f);
}

static void test_blocks(void **state)
{
    (void)state;
    static bn_dynamic8 map;
    const float x[] = {3.0f, -3.0f, 0.0f, 0.3f, 1e-30f};
    float back[5];
    uint8_t codes[5];
    bn_dynamic8_init(&map, true);
    bn_dynamic8_encode(&map, 5, x, 3.0f, codes);
    bn_dynamic8_decode(&map, 5, codes, 3.0f, back);
    assert_true(back[0] == 3.0f && back[1] == -3.0f * 0.99296875f && back[2] == 0.0f);
    assert_true(fabs((double)back[3] - 0.3) < 0.011 && back[4] == 0.0f);
    const float tiny[] = {1e-40f, -1e-40f, 0.0f};
    bn_dynamic8_encode(&map, 3, tiny, 1e-40f, codes);
    for (int i = 0; i < 3; i++)
        assert_int_equal(codes[i], 127);
    bn_dynamic8_init(&map, false);
    bn_dynamic8_encode(&map, 5, (const float[]){1.0f, 1e-20f, 0.0f, 0.5f, 2e-7f}, 1.0f, codes);
    assert_int_equal(codes[1], 1); /* above 0 stays above 0 */
    assert_int_equal(codes[2], 0);
    assert_int_equal(codes[4], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
