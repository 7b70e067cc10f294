/* Scales, codes and the integer product against formulas written out here. */
#include <cmocka_all.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "quant/pack.h"
#include "quant/quantize.h"

enum { OUT_MAX = 9, IN_MAX = 131 };

static const int64_t ins[] = {1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 50, 64, 100, 131};
static const int64_t groups[] = {BN_PER_TENSOR, BN_PER_ROW, 1, 3, 7, 32, 50, 64, 1000};
enum { INS = sizeof ins / sizeof *ins, GROUPS = sizeof groups / sizeof *groups };

static void fill(float *w, int64_t n, uint64_t seed)
{
    bn_rng rng = bn_rng_of(seed, 1);
    for (int64_t i = 0; i < n; i++)
        w[i] = (float)(bn_rng_normal(&rng) * 0.02);
}

/* The canonical sum, one element at a time. */
static double lane_sum(const float *w, int64_t n)
{
    double s[8] = {0};
    for (int64_t k = 0; k < n; k++)
        s[k % 8] += fabs((double)w[k]);
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

static void test_sum_order(void **state)
{
    float w[IN_MAX];
    double d[IN_MAX];
    (void)state;
    for (int64_t n = 0; n <= IN_MAX; n++) {
        fill(w, n, 11 + (uint64_t)n);
        for (int64_t i = 0; i < n; i++)
            d[i] = (double)w[i];
        assert_true(bn_abs_sum_f32(w, n) == lane_sum(w, n));
        assert_true(bn_abs_sum_f64(d, n) == lane_sum(w, n));
    }
    /* Doubles of all sizes, so that every addition rounds. */
    bn_rng rng = bn_rng_of(8, 8);
    for (int64_t n = 8; n <= IN_MAX; n++) {
        double s[8] = {0};
        for (int64_t k = 0; k < n; k++) {
            d[k] = ldexp(bn_rng_normal(&rng), (int)bn_rng_below(&rng, 60));
            s[k % 8] += fabs(d[k]);
        }
        assert_true(bn_abs_sum_f64(d, n) ==
                    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])));
    }
    /* The order shows: from front to back the ones would be lost. */
    const double big[4] = {0x1p53, 1, 0, 1};
    assert_true(bn_abs_sum_f64(big, 4) == 0x1p53 + 2);
}

static void test_scales(void **state)
{
    float w[OUT_MAX * IN_MAX], scale[OUT_MAX * IN_MAX];
    (void)state;
    for (int i = 0; i < INS; i++)
        for (int g = 0; g < GROUPS; g++) {
            const int64_t in = ins[i], G = groups[g];
            fill(w, OUT_MAX * in, (uint64_t)in);
            bn_weight_scales_f32(w, OUT_MAX, in, G, scale);
            if (G == BN_PER_TENSOR) {
                double sum = 0;
                for (int r = 0; r < OUT_MAX; r++)
                    sum += lane_sum(w + r * in, in);
                assert_int_equal(bn_scale_count(OUT_MAX, in, G), 1);
                assert_true(scale[0] == (float)(sum / (double)(OUT_MAX * in)));
                continue;
            }
            const int64_t length = G == BN_PER_ROW || G > in ? in : G;
            const int64_t per_row = (in + length - 1) / length;
            assert_int_equal(bn_scale_count(OUT_MAX, in, G), OUT_MAX * per_row);
            for (int64_t r = 0; r < OUT_MAX; r++)
                for (int64_t j = 0; j < per_row; j++) {
                    const int64_t n = j + 1 < per_row ? length : in - j * length; /* short last */
                    const float mean = (float)(lane_sum(w + r * in + j * length, n) / (double)n);
                    assert_true(scale[r * per_row + j] == fmaxf(mean, 1e-5f));
                    assert_int_equal(bn_scale_index(r, j, in, G), r * per_row + j);
                }
        }
}

static void test_scale_extremes(void **state)
{
    float zero[8] = {0}, scale;
    (void)state;
    bn_weight_scales_f32(zero, 1, 8, BN_PER_ROW, &scale);
    assert_true(scale == 1e-5f);
    float tiny[3] = {FLT_TRUE_MIN, -FLT_TRUE_MIN, FLT_MIN};
    bn_weight_scales_f32(tiny, 1, 3, BN_PER_TENSOR, &scale);
    assert_true(scale == 1e-5f);
    float huge[2] = {FLT_MAX, -FLT_MAX}; /* the sum does not fit a float */
    bn_weight_scales_f32(huge, 1, 2, BN_PER_ROW, &scale);
    assert_true(scale == FLT_MAX);
    float bad[2] = {NAN, 1};
    bn_weight_scales_f32(bad, 1, 2, BN_PER_ROW, &scale);
    assert_true(isnan(scale));
    bad[0] = -INFINITY;
    bn_weight_scales_f32(bad, 1, 2, BN_PER_ROW, &scale);
    assert_true(isinf(scale) && scale > 0);
    double zero64[2] = {0}, scale64;
    bn_weight_scales_f64(zero64, 1, 2, BN_PER_TENSOR, &scale64);
    assert_true(scale64 == 1e-5);
}

static void test_group_size_ok(void **state)
{
    (void)state;
    assert_true(bn_group_size_ok(128, 0) && bn_group_size_ok(128, -1));
    assert_true(bn_group_size_ok(128, 32) && bn_group_size_ok(128, 128));
    assert_true(bn_group_size_ok(10, 10));
    assert_false(bn_group_size_ok(128, 31) || bn_group_size_ok(128, 129));
    assert_false(bn_group_size_ok(128, -2) || bn_group_size_ok(10, 9) || bn_group_size_ok(10, 32));
}

static void test_ties_to_even(void **state)
{
    const float w[8] = {0.5f, -0.5f, 1.5f, -1.5f, 0.50000006f, -0.50000006f, 100.0f, -0.49999997f};
    const int want[8] = {0, 0, 1, -1, 1, -1, 1, 0};
    const float one = 1.0f;
    const double one64 = 1.0;
    double w64[8];
    uint8_t packed[2];
    (void)state;
    bn_ternarize_f32(w, 1, 8, BN_PER_TENSOR, &one, packed);
    for (int k = 0; k < 8; k++)
        assert_int_equal(bn_t2_get(packed, k), want[k]);
    for (int k = 0; k < 8; k++)
        w64[k] = (double)w[k];
    bn_ternarize_f64(w64, 1, 8, BN_PER_TENSOR, &one64, packed);
    for (int k = 0; k < 8; k++)
        assert_int_equal(bn_t2_get(packed, k), want[k]);
    /* Activations: a = 127 gives the factor 1. */
    const float x[7] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -2.5f, -127};
    const int8_t codes_want[7] = {127, 0, 2, 2, 0, -2, -127};
    int8_t codes[7];
    assert_true(bn_absmax_codes_f32(x, 7, 127.0f, 8, codes) == 1.0f);
    assert_memory_equal(codes, codes_want, 7);
}

static void test_ternarize(void **state)
{
    float w[OUT_MAX * IN_MAX], scale[OUT_MAX * IN_MAX], back[OUT_MAX * IN_MAX];
    uint8_t packed[OUT_MAX * IN_MAX], part[OUT_MAX * IN_MAX];
    bn_code_fault fault;
    (void)state;
    for (int i = 0; i < INS; i++)
        for (int g = 0; g < GROUPS; g++) {
            const int64_t in = ins[i], G = groups[g];
            fill(w, OUT_MAX * in, 77 + (uint64_t)in);
            memset(w + in, 0, (size_t)in * sizeof *w); /* a row of zeros */
            bn_weight_scales_f32(w, OUT_MAX, in, G, scale);
            memset(packed, 0xff, sizeof packed);
            bn_ternarize_f32(w, OUT_MAX, in, G, scale, packed);
            assert_true(bn_t2_check(packed, OUT_MAX, in, &fault)); /* padding included */
            bn_weight_dequantize_rows_f32(packed, scale, 0, OUT_MAX, in, G, back);
            for (int64_t r = 0; r < OUT_MAX; r++)
                for (int64_t k = 0; k < in; k++) {
                    const int64_t length = bn_group_length(in, G);
                    const float gamma = scale[bn_scale_index(r, k / length, in, G)];
                    const float v = rintf(w[r * in + k] * (1.0f / gamma));
                    const int q = v < -1 ? -1 : v > 1 ? 1 : (int)v;
                    assert_int_equal(bn_t2_get(packed + r * bn_t2_row_bytes(in), k), q);
                    assert_true(back[r * in + k] == (float)q * gamma);
                }
            memset(part, 0xff, sizeof part); /* rows in two calls: the same bytes */
            bn_ternarize_rows_f32(w, 4, OUT_MAX - 4, in, G, scale, part);
            bn_ternarize_rows_f32(w, 0, 4, in, G, scale, part);
            assert_memory_equal(part, packed, (size_t)(OUT_MAX * bn_t2_row_bytes(in)));
        }
}

static void test_ternarize_not_finite(void **state)
{
    float w[4] = {NAN, 1, -2, 3}, scale;
    uint8_t packed;
    (void)state;
    bn_weight_scales_f32(w, 1, 4, BN_PER_ROW, &scale);
    bn_ternarize_f32(w, 1, 4, BN_PER_ROW, &scale, &packed);
    assert_int_equal(packed, BN_T2_ZERO_BYTE);
    w[0] = INFINITY;
    bn_weight_scales_f32(w, 1, 4, BN_PER_ROW, &scale);
    bn_ternarize_f32(w, 1, 4, BN_PER_ROW, &scale, &packed);
    assert_int_equal(packed, BN_T2_ZERO_BYTE);
}

static void test_absmax(void **state)
{
    float x[OUT_MAX * IN_MAX], step[OUT_MAX], back[OUT_MAX * IN_MAX];
    int8_t codes[OUT_MAX * IN_MAX];
    (void)state;
    for (int i = 0; i < INS; i++)
        for (int per_tensor = 0; per_tensor < 2; per_tensor++) {
            const int64_t in = ins[i], n = per_tensor ? OUT_MAX * in : in;
            fill(x, OUT_MAX * in, 5);
            memset(x + 2 * in, 0, (size_t)in * sizeof *x);
            bn_absmax_quantize_f32(x, OUT_MAX, in, per_tensor ? BN_PER_TENSOR : BN_PER_ROW, 8,
                                   codes, step);
            for (int64_t b = 0; b < OUT_MAX * in / n; b++) {
                float a = 0;
                for (int64_t k = 0; k < n; k++)
                    a = fmaxf(a, fabsf(x[b * n + k]));
                a = fmaxf(a, 1e-5f);
                assert_true(step[b] == a / 127.0f);
                for (int64_t k = 0; k < n; k++)
                    assert_int_equal(codes[b * n + k], (int)rintf(x[b * n + k] * (127.0f / a)));
            }
            bn_act_dequantize_f32(codes, step, OUT_MAX, in, per_tensor ? BN_PER_TENSOR : BN_PER_ROW,
                                  back);
            for (int64_t k = 0; k < OUT_MAX * in; k++)
                assert_true(back[k] == (float)codes[k] * step[per_tensor ? 0 : k / in]);
        }
}

static void test_absmax_extremes(void **state)
{
    const float x[5][2] = {
        {FLT_MAX, -FLT_MAX}, {FLT_TRUE_MIN, 0}, {NAN, 3}, {INFINITY, 3}, {INFINITY, NAN}};
    int8_t codes[10];
    float step[5];
    (void)state;
    bn_absmax_quantize_f32(&x[0][0], 5, 2, BN_PER_ROW, 8, codes, step);
    assert_true(step[0] == FLT_MAX / 127.0f && codes[0] == 127 && codes[1] == -127);
    assert_true(step[1] == 1e-5f / 127.0f && codes[2] == 0 && codes[3] == 0);
    assert_true(isnan(step[2]) && codes[4] == 0 && codes[5] == 0);
    assert_true(isinf(step[3]) && codes[6] == 0 && codes[7] == 0);
    assert_true(isnan(step[4]) && codes[8] == 0 && codes[9] == 0);
    /* Whatever the position, a NaN is not lost. */
    for (int at = 0; at < 3; at++) {
        float row[3] = {1, 2, 3};
        row[at] = NAN;
        assert_true(isnan(bn_absmax_f32(row, 3)));
    }
    assert_true(bn_absmax_f32(x[0], 0) == 0.0f);
}

/* Straight from the formula, with int64 sums. */
static float naive_product(const int8_t *x, const int8_t *q, int64_t in, int64_t group_size,
                           const float *scale, int64_t row, float step, const float *bias)
{
    const int64_t length = bn_group_length(in, group_size);
    float t = 0;
    for (int64_t g = 0; g * length < in; g++) {
        int64_t acc = 0;
        for (int64_t k = g * length; k < in && k < (g + 1) * length; k++)
            acc += (int64_t)q[k] * x[k];
        t = fmaf((float)acc, scale[bn_scale_index(row, g, in, group_size)], t);
    }
    return bias ? t * step + *bias : t * step;
}

static void test_product(void **state)
{
    enum { ROWS = 3 };
    float w[OUT_MAX * IN_MAX], scale[OUT_MAX * IN_MAX], x[ROWS * IN_MAX], step[ROWS];
    float bias[OUT_MAX], y[ROWS * OUT_MAX];
    uint8_t packed[OUT_MAX * IN_MAX];
    int8_t q[OUT_MAX * IN_MAX], codes[ROWS * IN_MAX];
    (void)state;
    fill(bias, OUT_MAX, 3);
    for (int i = 0; i < INS; i++)
        for (int g = 0; g < GROUPS; g++)
            for (int per_tensor = 0; per_tensor < 2; per_tensor++) {
                const int64_t in = ins[i], G = groups[g];
                fill(w, OUT_MAX * in, 1);
                fill(x, ROWS * in, 2);
                bn_weight_scales_f32(w, OUT_MAX, in, G, scale);
                bn_ternarize_f32(w, OUT_MAX, in, G, scale, packed);
                bn_t2_unpack(packed, 0, OUT_MAX, in, q);
                bn_absmax_quantize_f32(x, ROWS, in, per_tensor ? BN_PER_TENSOR : BN_PER_ROW, 8,
                                       codes, step);
                for (int how = 0; how < 4; how++) {
                    const bool with_bias = how % 2, wide = how / 2;
                    const bn_int_product p = {
                        codes,      wide ? NULL : packed, ROWS, OUT_MAX, in, G,
                        per_tensor, wide ? q : NULL,      0};
                    bn_int_product_f32(&p, step, scale, with_bias ? bias : NULL, y);
                    for (int64_t r = 0; r < ROWS; r++)
                        for (int64_t o = 0; o < OUT_MAX; o++)
                            assert_true(y[r * OUT_MAX + o] ==
                                        naive_product(codes + r * in, q + o * in, in, G, scale, o,
                                                      step[per_tensor ? 0 : r],
                                                      with_bias ? &bias[o] : NULL));
                }
            }
}

static void test_product_f64(void **state)
{
    const double w[2][5] = {{0.3, -0.7, 0.1, 2.0, -0.4}, {0, 0, 0, 0, 0}};
    const double x[5] = {1, -2, 3, -4, 5};
    double scale[2], step, y[2], dense[10], act[5];
    uint8_t packed[4];
    int8_t codes[5];
    (void)state;
    bn_weight_scales_f64(&w[0][0], 2, 5, BN_PER_ROW, scale);
    bn_ternarize_f64(&w[0][0], 2, 5, BN_PER_ROW, scale, packed);
    bn_absmax_quantize_f64(x, 1, 5, BN_PER_ROW, 8, codes, &step);
    bn_weight_dequantize_rows_f64(packed, scale, 0, 2, 5, BN_PER_ROW, dense);
    bn_act_dequantize_f64(codes, &step, 1, 5, BN_PER_ROW, act);
    const bn_int_product p = {codes, packed, 1, 2, 5, BN_PER_ROW, false, NULL, 0};
    bn_int_product_f64(&p, &step, scale, NULL, y);
    double want = 0;
    for (int k = 0; k < 5; k++)
        want += dense[k] * act[k];
    assert_true(fabs(y[0] - want) <= 1e-13);
    assert_true(y[1] == 0);
    assert_true(fabs(scale[0] - 0.7) <= 1e-15 && scale[1] == 1e-5);
}

/* A NaN activation reaches the output although its codes are 0. */
static void test_product_shows_nan(void **state)
{
    const float x[4] = {1, NAN, 2, 3}, scale = 1;
    const uint8_t packed = 0xaa;
    int8_t codes[4];
    float step, y;
    (void)state;
    bn_absmax_quantize_f32(x, 1, 4, BN_PER_ROW, 8, codes, &step);
    const bn_int_product p = {codes, &packed, 1, 1, 4, BN_PER_TENSOR, false, NULL, 0};
    bn_int_product_f32(&p, &step, &scale, NULL, &y);
    assert_true(isnan(y));
}

/* The accumulator is exact at its limits: -128 * -1 over a long row. */
static void test_accumulator_limit(void **state)
{
    const int64_t in = 1 << 20;
    int8_t *x = malloc((size_t)in);
    uint8_t *packed = malloc((size_t)in / 4);
    const float step = 1, scale = 1;
    float y;
    (void)state;
    assert_non_null(x);
    assert_non_null(packed);
    memset(x, -128, (size_t)in);
    memset(packed, 0, (size_t)in / 4);
    const bn_int_product p = {x, packed, 1, 1, in, BN_PER_TENSOR, false, NULL, 0};
    bn_int_product_f32(&p, &step, &scale, NULL, &y);
    assert_true(y == 0x1p27f);
    assert_true(INT64_C(128) * BN_MAX_IN_INT32 <= INT32_MAX);
    assert_true(INT64_C(128) * 128 * BN_MAX_IN_INT8 <= INT32_MAX);
    free(x);
    free(packed);
}

/* Rows of a KV cache: bytes and values worked out by hand. */
static void test_kv_codes(void **state)
{
    (void)state;
    enum { HD = 37 };
    float x[2 * HD], y[HD];
    uint8_t row[128];
    const bn_kv_codes eight = {8, 2, HD}, four = {4, 2, HD};
    assert_int_equal(bn_kv_row_bytes(&eight), 84); /* 2 * (4 + 37) = 82 */
    assert_int_equal(bn_kv_row_bytes(&four), 56);  /* 2 * (2 * 4 + 16 + 3) = 54 */
    for (int i = 0; i < 2 * HD; i++)
        x[i] = (float)(i % HD - 18) / 4;
    x[HD] = 254;
    bn_kv_encode_f32(&eight, x, row);
    const float step = bn_kv_step(row, 0);
    assert_true(step == 4.5f / 127 && bn_kv_step(row, 1) == 2);
    assert_int_equal((int8_t)row[8], -127); /* the first code, after two steps */
    assert_int_equal((int8_t)row[8 + HD], 127);
    bn_kv_decode_f32(&eight, row, 0, y);
    for (int i = 0; i < HD; i++)
        assert_true(y[i] == rintf(x[i] * (127 / 4.5f)) * step);
    bn_kv_decode_f32(&eight, row, 1, y);
    assert_true(y[0] == 254 && y[18] == 0 && y[HD - 1] == 4); /* 4.5 / 2 is 2 */
    bn_kv_encode_f32(&four, x, row);
    assert_true(bn_kv_step(row, 0) == 4.5f / 7 && bn_kv_step(row, 1) == 4.5f / 7);
    assert_true(bn_kv_step(row, 2) == 254.0f / 7);
    assert_int_equal(row[16], (8 - 7) | (8 - 1) << 4); /* elements 0 and 16: -4.5 and -0.5 */
    assert_int_equal(row[16 + 16 + 2], 8 + 6); /* element 34 of 32 .. 36: 4 / (4.5 / 7) is 6 */
    bn_kv_decode_f32(&four, row, 0, y);
    for (int i = 0; i < HD; i++)
        assert_true(y[i] == rintf(x[i] * (7 / 4.5f)) * (4.5f / 7));
    x[5] = NAN;
    bn_kv_encode_f32(&four, x, row);
    bn_kv_decode_f32(&four, row, 0, y);
    assert_true(isnan(y[0]) && isnan(y[31]) && y[32] == rintf(3.5f * 7 / 4.5f) * (4.5f / 7));
}

/* Codes of the grids that are not ternary, by hand; ties go to even numbers, and the
 * odd ones have none. */
static void test_grid_codes(void **state)
{
    static const struct {
        bn_grid grid;
        float v;
        int code;
    } cases[] = {
        {BN_GRID_BINARY, -7, -1},   {BN_GRID_BINARY, -0.01f, -1}, {BN_GRID_BINARY, 0, 1},
        {BN_GRID_BINARY, 7, 1},     {BN_GRID_BINARY, NAN, 1},     {BN_GRID_INT2, -9, -3},
        {BN_GRID_INT2, -2.01f, -3}, {BN_GRID_INT2, -2, -1},       {BN_GRID_INT2, -0.01f, -1},
        {BN_GRID_INT2, 0, 1},       {BN_GRID_INT2, 1.99f, 1},     {BN_GRID_INT2, 2, 3},
        {BN_GRID_INT2, 9, 3},       {BN_GRID_INT2, NAN, 1},       {BN_GRID_INT3, -9, -3},
        {BN_GRID_INT3, -2.5f, -2},  {BN_GRID_INT3, 0.5f, 0},      {BN_GRID_INT3, 1.5f, 2},
        {BN_GRID_INT3, 9, 3},       {BN_GRID_INT3, NAN, 0},       {BN_GRID_INT4, 6.6f, 7},
        {BN_GRID_INT4, -8, -7},     {BN_GRID_INT8, 126.6f, 127},  {BN_GRID_INT8, -128, -127},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(bn_grid_code_f32(cases[i].grid, cases[i].v), cases[i].code);
        assert_int_equal(bn_grid_code_f64(cases[i].grid, (double)cases[i].v), cases[i].code);
    }
}

/* The lower median of |w|, not a number or infinite where a weight is. */
static void test_median(void **state)
{
    const float w[] = {-8, 0.5f, 1, -2, 4, -0.25f}, floor = 1e-5f;
    (void)state;
    assert_true(bn_grid_scale_of_median_f32(BN_GRID_TERNARY, w, 5) == 2);
    assert_true(bn_grid_scale_of_median_f32(BN_GRID_TERNARY, w, 6) == 1);
    assert_true(bn_grid_scale_of_median_f32(BN_GRID_TERNARY, w, 1) == 8);
    assert_true(bn_grid_scale_of_median_f32(BN_GRID_INT3, w, 6) == 0.8156f);
    assert_true(bn_grid_scale_of_median_f32(BN_GRID_TERNARY, (const float[]){0, 0, 9}, 3) == floor);
    assert_true(
        isinf(bn_grid_scale_of_median_f32(BN_GRID_TERNARY, (const float[]){1, -INFINITY, 1}, 3)));
    assert_true(
        isnan(bn_grid_scale_of_median_f32(BN_GRID_TERNARY, (const float[]){1, INFINITY, NAN}, 3)));
}

/* A short last group of a row ends with it. */
static void test_short_group(void **state)
{
    enum { COLS = 40, GROUP = 32 };
    float x[2 * COLS], step[4];
    int8_t codes[2 * COLS];
    (void)state;
    for (int i = 0; i < 2 * COLS; i++)
        x[i] = i < COLS ? 1 : 100;
    bn_absmax_quantize_f32(x, 2, COLS, GROUP, 8, codes, step);
    for (int g = 0; g < 4; g++)
        assert_true(step[g] == (g < 2 ? 1.0f : 100.0f) / 127);
    for (int i = 0; i < 2 * COLS; i++)
        assert_int_equal(codes[i], 127);
}

/* A step for each group of the activation. */
static void test_product_of_groups(void **state)
{
    enum { IN = 64, GROUP = 32 };
    int8_t x[IN], w[IN];
    float y;
    (void)state;
    memset(x, 1, sizeof x);
    memset(w, 2, sizeof w);
    const bn_int_product p = {
        .x = x, .wide = w, .rows = 1, .out = 1, .in = IN, .group_size = GROUP, .step_group = GROUP};
    bn_int_product_f32(&p, (const float[]){1, 10}, (const float[]){0.5f, 0.25f}, NULL, &y);
    assert_true(y == 64 * 0.5f + 64 * 2.5f);
}

/* Beyond what |w| / scale the scale's gradient is that of a clamped code. */
static void test_estimator_limits(void **state)
{
    static const struct {
        bn_estimator estimator;
        bn_grid grid;
        double weight, scale;
    } cases[] = {
        {BN_ESTIMATOR_IDENTITY, BN_GRID_TERNARY, (double)INFINITY, 1.5},
        {BN_ESTIMATOR_IDENTITY, BN_GRID_INT2, (double)INFINITY, 4},
        {BN_ESTIMATOR_IDENTITY, BN_GRID_BINARY, (double)INFINITY, 0},
        {BN_ESTIMATOR_CLIPPED, BN_GRID_INT3, 3, 3},
        {BN_ESTIMATOR_TRUST, BN_GRID_INT3, 3.5, 3.5},
        {BN_ESTIMATOR_EWGS, BN_GRID_TERNARY, 1.5, 1.5},
        {BN_ESTIMATOR_LSQ, BN_GRID_INT2, 4, 4},
        {BN_ESTIMATOR_LSQ, BN_GRID_INT4, 7, 7},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(bn_estimator_weight_limit(cases[i].estimator, cases[i].grid) ==
                    cases[i].weight);
        assert_true(bn_estimator_scale_limit(cases[i].estimator, cases[i].grid) == cases[i].scale);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum_order),
        cmocka_unit_test(test_scales),
        cmocka_unit_test(test_scale_extremes),
        cmocka_unit_test(test_group_size_ok),
        cmocka_unit_test(test_ties_to_even),
        cmocka_unit_test(test_ternarize),
        cmocka_unit_test(test_ternarize_not_finite),
        cmocka_unit_test(test_absmax),
        cmocka_unit_test(test_absmax_extremes),
        cmocka_unit_test(test_grid_codes),
        cmocka_unit_test(test_median),
        cmocka_unit_test(test_short_group),
        cmocka_unit_test(test_product_of_groups),
        cmocka_unit_test(test_estimator_limits),
        cmocka_unit_test(test_product),
        cmocka_unit_test(test_product_f64),
        cmocka_unit_test(test_product_shows_nan),
        cmocka_unit_test(test_accumulator_limit),
        cmocka_unit_test(test_kv_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
