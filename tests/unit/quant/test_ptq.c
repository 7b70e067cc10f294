/* Post-training ternarization: what is chosen is the best, GPTQ makes errors up,
 * and the shadow weight says the same as what was chosen. */
#include <cmocka_all.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "linalg/linalg.h"
#include "quant/ptq.h"
#include "quant/quantize.h"

enum { OUT = 6, IN = 80 };

static float w[OUT * IN], shadow[OUT * IN], again[OUT * IN];
static double h[IN * IN], factor[IN * IN], inputs[3 * IN * IN];

/* w normal; H of inputs that depend on each other. */
static void fill(uint64_t seed)
{
    bn_rng rng = bn_rng_of(seed, 0);
    const bn_buffer memory[2] = {{.host = inputs}, {.host = h}};
    const bn_tensor x = bn_tensor_at(bn_tensor_2d(BN_F64, 3 * IN, IN), &memory[0], 0);
    const bn_tensor to = bn_tensor_at(bn_tensor_2d(BN_F64, IN, IN), &memory[1], 0);
    for (int i = 0; i < OUT * IN; i++)
        w[i] = (float)bn_rng_normal(&rng);
    for (int r = 0; r < 3 * IN; r++) {
        const double common = bn_rng_normal(&rng);
        for (int k = 0; k < IN; k++)
            inputs[r * IN + k] = (1 + k % 3) * (bn_rng_normal(&rng) + common);
    }
    memset(h, 0, sizeof h);
    assert_ok(bn_linalg_add_gram(1.0 / (3 * IN), &x, &to));
}

static void make_factor(void)
{
    const bn_buffer memory[2] = {{.host = h}, {.host = factor}};
    const bn_tensor a = bn_tensor_at(bn_tensor_2d(BN_F64, IN, IN), &memory[0], 0);
    const bn_tensor u = bn_tensor_at(bn_tensor_2d(BN_F64, IN, IN), &memory[1], 0);
    assert_ok(bn_linalg_inverse_factor(&a, &u, NULL));
}

static double error_of(const bn_ptq *p, const float *of)
{
    double error;
    assert_ok(bn_ptq_error(p, w, of, &error));
    return error;
}

static const int64_t sizes[] = {BN_PER_TENSOR, BN_PER_ROW, 32};

static void test_each_is_better(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        double calibrated = 0, gptq = 0, nearest = 0;
        bn_ptq p = {.out = OUT, .in = IN, .group_size = sizes[s], .h = h};
        for (uint64_t seed = 0; seed < 5; seed++) {
            fill(seed);
            make_factor();
            nearest += error_of(&p, w);
            assert_ok(bn_ptq_ternarize(&p, w, shadow));
            calibrated += error_of(&p, shadow);
            p.factor = factor;
            assert_ok(bn_ptq_ternarize(&p, w, shadow));
            gptq += error_of(&p, shadow);
            p.factor = NULL;
        }
        assert_true(calibrated < nearest);
        assert_true(gptq < 0.7 * calibrated);
    }
}

/* Least error of one row under a diagonal H, over all codes. */
static double exhaustive(const float *row, int n)
{
    int all = 1;
    double best = (double)INFINITY;
    for (int k = 0; k < n; k++)
        all *= 3;
    for (int c = 0; c < all; c++) {
        double dot = 0, norm = 0, error = 0;
        for (int k = 0, rest = c; k < n; k++, rest /= 3) {
            dot += h[k * n + k] * (double)row[k] * (rest % 3 - 1);
            norm += h[k * n + k] * (rest % 3 != 1);
            error += h[k * n + k] * (double)row[k] * (double)row[k];
        }
        if (norm > 0)
            error -= dot * dot / norm;
        best = fmin(best, error);
    }
    return best;
}

static void test_best_scale(void **state)
{
    enum { N = 7 };
    const bn_ptq p = {.out = 1, .in = N, .group_size = BN_PER_ROW, .h = h};
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        bn_rng rng = bn_rng_of(seed, 1);
        double all = 0;
        memset(h, 0, sizeof h);
        for (int k = 0; k < N; k++) {
            w[k] = (float)bn_rng_normal(&rng);
            h[k * N + k] = 0.1 + bn_rng_uniform(&rng);
            all += h[k * N + k] * (double)w[k] * (double)w[k];
        }
        assert_ok(bn_ptq_ternarize(&p, w, shadow));
        assert_true(fabs(error_of(&p, shadow) * all - exhaustive(w, N)) < 1e-6 * all);
    }
}

/* With independent inputs there is nothing to make up for: GPTQ's codes and
 * scales are those of the calibrated weight. */
static void test_independent_inputs(void **state)
{
    bn_ptq p = {.out = OUT, .in = IN, .group_size = 32, .h = h};
    (void)state;
    fill(3);
    for (int i = 0; i < IN * IN; i++)
        h[i] = i % (IN + 1) ? 0 : 1 + i % 5;
    make_factor();
    assert_ok(bn_ptq_ternarize(&p, w, shadow));
    p.factor = factor;
    assert_ok(bn_ptq_ternarize(&p, w, again));
    assert_memory_equal(shadow, again, sizeof shadow);
}

/* The ternary form of the shadow is a fixed point: quantizing it by least error
 * gives it again. */
static void test_shadow(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const bn_ptq p = {.out = OUT, .in = IN, .group_size = sizes[s], .h = h};
        float scale[OUT * 3], form[OUT * IN];
        uint8_t codes[2][OUT * IN / 4];
        fill(7);
        assert_ok(bn_ptq_ternarize(&p, w, shadow));
        bn_weight_scales_f32(shadow, OUT, IN, sizes[s], scale);
        bn_ternarize_f32(shadow, OUT, IN, sizes[s], scale, codes[0]);
        bn_weight_dequantize_rows_f32(codes[0], scale, 0, OUT, IN, sizes[s], form);
        const float first = scale[0];
        for (int i = 0; i < OUT * IN; i++) /* no code has another sign than its weight */
            assert_true(form[i] == 0 || (form[i] > 0) == (w[i] > 0));
        memcpy(w, form, sizeof w);
        assert_ok(bn_ptq_ternarize(&p, w, shadow));
        bn_weight_scales_f32(shadow, OUT, IN, sizes[s], scale);
        bn_ternarize_f32(shadow, OUT, IN, sizes[s], scale, codes[1]);
        assert_memory_equal(codes[0], codes[1], sizeof codes[0]);
        assert_true(fabsf(scale[0] / first - 1) < 1e-6f);
    }
}

static void test_zeros(void **state)
{
    const bn_ptq p = {.out = OUT, .in = IN, .group_size = 32, .h = h};
    (void)state;
    fill(9);
    memset(w, 0, 32 * sizeof *w);
    assert_ok(bn_ptq_ternarize(&p, w, shadow));
    for (int i = 0; i < 32; i++)
        assert_true(shadow[i] == 0);
    assert_true(shadow[32] != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_is_better),
        cmocka_unit_test(test_best_scale),
        cmocka_unit_test(test_independent_inputs),
        cmocka_unit_test(test_shadow),
        cmocka_unit_test(test_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
