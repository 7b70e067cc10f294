/* The bfloat16 backward of BITLINEAR (docs/numerics.md) against the exact one, in
 * double: within the rounding of each term, equal where nothing needs rounding,
 * and not equal where something does. */
#include "cmocka_all.h"

#include <math.h>
#include <stdlib.h>

#include "cpu/cpu.h"
#include "ops/op_cases.h"

/* Half a unit in the last of 8 bits, and the float32 product before it. */
static const double unit_roundoff = 0x1p-8 * (1 + 0x1p-20);

typedef struct gradients {
    double *of[BN_MAX_IN];
    int64_t n[BN_MAX_IN];
} gradients;

/* Which dy: random numbers, their magnitudes, or ones that gamma and step keep in
 * 8 bits. */
enum { RANDOM, SHORT };

static void run(bn_backend *backend, const op_case *k, bool bf16, int kind, bool magnitudes,
                gradients *out)
{
    bn_op_instance op;
    op_case c = *k;
    c.spec.params.weight.backward = bf16 ? BN_BACKWARD_BF16 : BN_BACKWARD_FLOAT32;
    assert_ok(bn_op_instance_init(&op, backend, &c.spec));
    double *dy = bn_tensor_data(&op.call.dout);
    for (int64_t i = 0; i < bn_tensor_numel(&op.call.dout); i++) {
        dy[i] = kind == SHORT ? (double)(i * 7 % 11 - 5) : sin(1.3 * (double)(i + 1));
        dy[i] = magnitudes ? fabs(dy[i]) : dy[i];
    }
    if (magnitudes) /* |codes|: the sum then bounds the terms */
        for (int64_t i = 0; i < bn_tensor_numel(&op.call.in[0]); i++) {
            int8_t *x = bn_tensor_data(&op.call.in[0]);
            x[i] = (int8_t)(x[i] < 0 ? -(x[i] + (x[i] == -128)) : x[i]);
        }
    uint8_t *w = bn_tensor_data(&op.call.in[2]);
    for (size_t i = 0; magnitudes && i < bn_tensor_bytes(&op.call.in[2]); i++)
        w[i] = op.call.in[2].dtype == BN_I8
                   ? (uint8_t)abs((int8_t)w[i])
                   : (uint8_t)(w[i] | (~(w[i] | w[i] >> 1) & 0x55) << 1); /* field 0 becomes 2 */
    double *scales[] = {bn_tensor_data(&op.call.in[1]), bn_tensor_data(&op.call.in[3])};
    const int64_t n_scales[] = {bn_tensor_numel(&op.call.in[1]), bn_tensor_numel(&op.call.in[3])};
    for (int s = 0; kind == SHORT && s < 2; s++)
        for (int64_t i = 0; i < n_scales[s]; i++)
            scales[s][i] = ldexp(1 + (double)(i % 3), -6);
    assert_ok(bn_op_instance_forward(&op));
    assert_ok(bn_op_instance_backward(&op, BN_I0 | BN_I2, 0));
    for (int i = 0; i < BN_MAX_IN; i++) {
        out->of[i] = NULL;
        if (i != 0 && i != 2)
            continue;
        out->n[i] = bn_tensor_numel(&op.call.din[i]);
        out->of[i] = malloc((size_t)out->n[i] * sizeof(double));
        assert_non_null(out->of[i]);
        assert_ok(bn_real_download(backend, &op.call.din[i], out->of[i]));
    }
    bn_op_instance_clear(&op);
}

static void clear(gradients *g)
{
    for (int i = 0; i < BN_MAX_IN; i++)
        free(g->of[i]);
}

static void compare(bn_backend *backend, const op_case *k, void *arg)
{
    int64_t *different = arg;
    gradients rounded, exact, sum;
    run(backend, k, true, RANDOM, false, &rounded);
    run(backend, k, false, RANDOM, false, &exact);
    run(backend, k, false, RANDOM, true, &sum);
    for (int i = 0; i < 3; i += 2)
        for (int64_t j = 0; j < exact.n[i]; j++) {
            const double error = fabs(rounded.of[i][j] - exact.of[i][j]);
            if (!(error <= unit_roundoff * 129.0 / 128 * sum.of[i][j]))
                fail_msg("%s: gradient %d[%lld] is %.9g, exactly %.9g; terms sum to %.9g", k->name,
                         i, (long long)j, rounded.of[i][j], exact.of[i][j], sum.of[i][j]);
            *different += error > 0;
        }
    clear(&rounded);
    clear(&exact);
    clear(&sum);
    run(backend, k, true, SHORT, false, &rounded);
    run(backend, k, false, SHORT, false, &exact);
    for (int i = 0; i < 3; i += 2)
        for (int64_t j = 0; j < exact.n[i]; j++)
            assert_true(rounded.of[i][j] == exact.of[i][j]);
    clear(&rounded);
    clear(&exact);
}

static void each_term_is_rounded_once(void **state)
{
    (void)state;
    bn_backend *backend;
    int64_t different = 0;
    assert_ok(bn_ref_backend_new(BN_F64, &backend));
    assert_true(op_cases_each(backend, BN_OP_BITLINEAR, compare, &different) > 5);
    assert_true(different > 1000);
    bn_backend_free(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_term_is_rounded_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
