/* Error measures on weights whose answers are known. */
#include <cmocka_all.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "quant/analysis.h"
#include "quant/pack.h"
#include "quant/quantize.h"

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-12 * fmax(1, fabs(b));
}

static void test_exact_weight(void **state)
{
    /* Already ternary: nothing is lost. */
    const float w[6] = {0.5f, -0.5f, 0, 0, 0, 0}, scale[2] = {0.5f, 0.25f};
    const int8_t codes[6] = {1, -1, 0, 0, 0, 0};
    uint8_t packed[2];
    bn_quant_error e;
    (void)state;
    bn_t2_pack(codes, 2, 3, packed);
    bn_quant_error_of(w, 2, 3, BN_PER_ROW, BN_T2, packed, scale, &e);
    assert_true(e.mse == 0 && isinf(e.sqnr_db) && near(e.cosine, 1));
    assert_true(e.codes.count[0] == 1 && e.codes.count[1] == 4 && e.codes.count[2] == 1);
    assert_int_equal(e.codes.dead_rows, 1);
    assert_true(near(e.scale_min, 0.25) && near(e.scale_max, 0.5) && near(e.scale_mean, 0.375));
    assert_int_equal(e.worst_count, 2);
    assert_true(e.worst[0].relative == 0);
}

static void test_known_error(void **state)
{
    /* One row, groups of 2: w = (1, 3 | 4, 0), v = (2, 2 | 4, 0). */
    const float w[4] = {1, 3, 4, 0}, scale[2] = {2, 4};
    const int8_t codes[4] = {1, 1, 1, 0};
    uint8_t packed;
    bn_quant_error e;
    (void)state;
    bn_t2_pack(codes, 1, 4, &packed);
    bn_quant_error_of(w, 1, 4, 2, BN_T2, &packed, scale, &e);
    assert_true(near(e.mse, 0.5));
    assert_true(near(e.sqnr_db, 10 * log10(26.0 / 2.0)));
    assert_true(near(e.cosine, 24.0 / sqrt(26.0 * 24.0)));
    assert_int_equal(e.worst_count, 2);
    assert_true(e.worst[0].group == 0 && near(e.worst[0].relative, 0.2) && near(e.worst[0].mse, 1));
    assert_true(e.worst[1].group == 1 && e.worst[1].relative == 0);
}

static void test_zero_weight(void **state)
{
    const float w[8] = {0};
    float scale;
    uint8_t packed[2];
    bn_quant_error e;
    (void)state;
    bn_weight_scales_f32(w, 1, 8, BN_PER_TENSOR, &scale);
    bn_ternarize_f32(w, 1, 8, BN_PER_TENSOR, &scale, packed);
    bn_quant_error_of(w, 1, 8, BN_PER_TENSOR, BN_T2, packed, &scale, &e);
    assert_true(e.mse == 0 && e.cosine == 0 && e.codes.entropy_bits == 0);
    assert_int_equal(e.codes.dead_rows, 1);
}

static void test_worst_are_sorted(void **state)
{
    enum { ROWS = 20, IN = 37, G = 9, GROUPS = 5 };
    float w[ROWS * IN], scale[ROWS * GROUPS];
    uint8_t packed[ROWS * 10];
    bn_quant_error e;
    bn_rng rng = bn_rng_of(9, 9);
    (void)state;
    for (int i = 0; i < ROWS * IN; i++)
        w[i] = (float)bn_rng_normal(&rng);
    bn_weight_scales_f32(w, ROWS, IN, G, scale);
    bn_ternarize_f32(w, ROWS, IN, G, scale, packed);
    bn_quant_error_of(w, ROWS, IN, G, BN_T2, packed, scale, &e);
    assert_int_equal(e.worst_count, BN_WORST_GROUPS);
    /* As many groups are worse than the last of the list as stand before it. */
    int worse = 0;
    for (int r = 0; r < ROWS; r++)
        for (int g = 0; g < GROUPS; g++) {
            double ee = 0, ww = 0;
            for (int k = g * G; k < IN && k < (g + 1) * G; k++) {
                const double v = bn_t2_get(packed + r * 10, k) * (double)scale[r * GROUPS + g];
                ee += ((double)w[r * IN + k] - v) * ((double)w[r * IN + k] - v);
                ww += (double)w[r * IN + k] * (double)w[r * IN + k];
            }
            worse += ee / ww > e.worst[BN_WORST_GROUPS - 1].relative;
        }
    assert_int_equal(worse, BN_WORST_GROUPS - 1);
    for (int i = 1; i < BN_WORST_GROUPS; i++)
        assert_true(e.worst[i - 1].relative >= e.worst[i].relative);
    assert_true(e.sqnr_db > 0 && e.cosine > 0.8 && e.cosine < 1);
    assert_true(e.codes.entropy_bits > 1 && e.codes.entropy_bits < log2(3));
}

static void test_entropy(void **state)
{
    const int64_t even[3] = {5, 5, 5}, two[3] = {1, 0, 1}, none[3] = {0};
    (void)state;
    assert_true(near(bn_entropy_bits(even, 3), log2(3)));
    assert_true(near(bn_entropy_bits(two, 3), 1));
    assert_true(bn_entropy_bits(none, 3) == 0);
}

static void test_flips(void **state)
{
    enum { ROWS = 3, COLS = 11 };
    int8_t a[ROWS * COLS], b[ROWS * COLS];
    uint8_t pa[ROWS * 3], pb[ROWS * 3];
    bn_rng rng = bn_rng_of(4, 4);
    int64_t want = 0;
    (void)state;
    for (int i = 0; i < ROWS * COLS; i++) {
        a[i] = (int8_t)((int)bn_rng_below(&rng, 3) - 1);
        b[i] = (int8_t)((int)bn_rng_below(&rng, 3) - 1);
        want += a[i] != b[i];
    }
    bn_t2_pack(a, ROWS, COLS, pa);
    bn_t2_pack(b, ROWS, COLS, pb);
    assert_int_equal(bn_code_flips(BN_T2, pa, pb, ROWS, COLS), want);
    assert_int_equal(bn_code_flips(BN_T2, pa, pa, ROWS, COLS), 0);
}

/* Against the definition, kept as plain numbers. */
static void test_oscillations(void **state)
{
    enum { ROWS = 3, COLS = 11, BYTES = ROWS * 3, TIMES = 40 };
    int8_t now[ROWS * COLS] = {0}, last[ROWS * COLS] = {0}, moved[ROWS * COLS], before;
    uint8_t packed[2][BYTES], direction[BYTES], change[BYTES];
    int64_t total = 0;
    bn_rng rng = bn_rng_of(5, 5);
    (void)state;
    bn_t2_pack(now, ROWS, COLS, packed[0]);
    bn_t2_pack(last, ROWS, COLS, direction);
    for (int t = 1; t < TIMES; t++) {
        int64_t want = 0;
        for (int i = 0; i < ROWS * COLS; i++) {
            before = now[i];
            if (bn_rng_below(&rng, 3) == 0)
                now[i] = (int8_t)((int)bn_rng_below(&rng, 3) - 1);
            const int move = (now[i] > before) - (now[i] < before);
            want += move * last[i] < 0;
            last[i] = (int8_t)(move ? move : last[i]);
        }
        bn_t2_pack(now, ROWS, COLS, packed[t % 2]);
        assert_int_equal(
            bn_code_oscillations(BN_T2, packed[!(t % 2)], packed[t % 2], ROWS, COLS, direction, change),
            want);
        bn_t2_unpack(direction, 0, ROWS, COLS, moved);
        assert_memory_equal(moved, last, sizeof last);
        total += want;
    }
    assert_true(total > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_weight), cmocka_unit_test(test_known_error),
        cmocka_unit_test(test_zero_weight),  cmocka_unit_test(test_worst_are_sorted),
        cmocka_unit_test(test_entropy),      cmocka_unit_test(test_flips),
        cmocka_unit_test(test_oscillations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
