/* The int16 backward of BITLINEAR (docs/numerics.md) against the exact one, in
 * double: within half a step of each block's largest term, equal where the terms
 * are multiples of the step, and not equal everywhere. */
#include "cmocka_all.h"

#include <math.h>
#include <stdlib.h>

#include "cpu/cpu.h"
#include "ops/op_cases.h"
#include "quant/quantize.h"

enum { RANDOM, WHOLE };

typedef struct gradients {
    double *of[2]; /* of the activation and of the weight */
} gradients;

static void fill(bn_op_instance *op, int kind)
{
    double *dy = bn_tensor_data(&op->call.dout);
    const int64_t n = bn_tensor_numel(&op->call.dout);
    for (int64_t i = 0; i < n; i++)
        dy[i] = kind == WHOLE ? (i % 2 ? 32767.0 : (double)(i * 7 % 11 - 5)) : sin(1.3 * (double)i);
    for (int s = 1; kind == WHOLE && s <= 3; s += 2) {
        double *scale = bn_tensor_data(&op->call.in[s]);
        for (int64_t i = 0; i < bn_tensor_numel(&op->call.in[s]); i++)
            scale[i] = 1;
    }
}

static void run(bn_backend *backend, const op_case *k, bn_backward backward, int kind,
                gradients *out)
{
    bn_op_instance op;
    op_case c = *k;
    c.spec.params.weight.backward = backward;
    assert_ok(bn_op_instance_init(&op, backend, &c.spec));
    fill(&op, kind);
    assert_ok(bn_op_instance_forward(&op));
    assert_ok(bn_op_instance_backward(&op, BN_I0 | BN_I2, 0));
    for (int i = 0; i < 2; i++) {
        const bn_tensor *d = &op.call.din[2 * i];
        out->of[i] = malloc(bn_tensor_bytes(d));
        assert_non_null(out->of[i]);
        assert_ok(bn_real_download(backend, d, out->of[i]));
    }
    bn_op_instance_clear(&op);
}

/* Largest |code| times the sum over blocks of n/2 steps bounds an element's error. */
static double bound(int64_t n, double largest_code, double largest_term)
{
    return (double)n * largest_code * 0.5 * largest_term / BN_FIXED_MAX * (1 + 1e-12);
}

static double largest(const bn_op_instance *op, int input)
{
    const double *x = bn_tensor_data(&op->call.in[input]);
    double max = 0;
    for (int64_t i = 0; i < bn_tensor_numel(&op->call.in[input]); i++)
        max = fmax(max, x[i]);
    return max;
}

static void compare(bn_backend *backend, const op_case *k, void *arg)
{
    int64_t *different = arg;
    bn_op_instance op;
    gradients fixed, exact;
    assert_ok(bn_op_instance_init(&op, backend, &k->spec));
    const int64_t rows = bn_tensor_rows(&op.call.in[0]), out = op.call.in[2].shape[0];
    const double code = op.call.in[2].dtype == BN_I8 ? 127 : 1;
    const double limit[2] = {bound(out, code, largest(&op, 3)), bound(rows, 128, largest(&op, 1))};
    const int64_t n[2] = {bn_tensor_numel(&op.call.in[0]), bn_tensor_numel(&op.call.in[2])};
    bn_op_instance_clear(&op);
    for (int kind = RANDOM; kind <= WHOLE; kind++) {
        run(backend, k, BN_BACKWARD_INT16, kind, &fixed);
        run(backend, k, BN_BACKWARD_FLOAT32, kind, &exact);
        for (int i = 0; i < 2; i++) {
            for (int64_t j = 0; j < n[i]; j++) {
                const double error = fabs(fixed.of[i][j] - exact.of[i][j]);
                if (kind == RANDOM && !(error <= limit[i]))
                    fail_msg("%s: gradient %d[%lld] is %.9g, exactly %.9g", k->name, i,
                             (long long)j, fixed.of[i][j], exact.of[i][j]);
                if (kind == WHOLE && out % 2 == 0) /* every row of dy holds 32767 */
                    assert_true(i == 1 || error <= 1e-9 * fabs(exact.of[i][j]));
                *different += error > 0;
            }
            free(fixed.of[i]);
            free(exact.of[i]);
        }
    }
}

static void terms_are_fixed_point(void **state)
{
    (void)state;
    bn_backend *backend;
    int64_t different = 0;
    assert_ok(bn_ref_backend_new(BN_F64, &backend));
    assert_true(op_cases_each(backend, BN_OP_BITLINEAR, compare, &different) > 5);
    assert_true(different > 1000);
    bn_backend_free(backend);
}

/* A step per block of 512 and its formula, by hand. */
static void codes_follow_the_formula(void **state)
{
    (void)state;
    float u[4] = {1.0f, -0.5f, 0.25f / 32767, 0};
    int16_t z[4];
    assert_true(bn_fixed_codes_f32(u, 4, z) == 1.0f / 32767);
    assert_int_equal(z[0], 32767);
    assert_int_equal(z[1], -16384); /* 16383.5 to even */
    assert_int_equal(z[2], 0);
    assert_int_equal(z[3], 0);
    float zero[2] = {0, 0x1p-120f};
    assert_true(bn_fixed_codes_f32(zero, 2, z) == 0x1p-100f / 32767);
    assert_int_equal(z[1], 0);
    float bad[2] = {1, NAN};
    assert_true(isnan(bn_fixed_codes_f32(bad, 2, z)));
    assert_int_equal(z[0], 0);
    float large[2] = {1, INFINITY};
    assert_true(isinf(bn_fixed_codes_f32(large, 2, z)));
    assert_int_equal(z[0], 0);
    assert_int_equal(z[1], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_follow_the_formula),
        cmocka_unit_test(terms_are_fixed_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
