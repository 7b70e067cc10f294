/* Every OpenCL kernel, in both shapes, against the float32 reference over all
 * cases of op_cases.c. The device is the first one there is (PoCL in ./test.sh);
 * that there is none is a failure, not a skip. An argument limits the cases to
 * an op of that name. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "opencl/opencl.h"
#include "ops/parity.h"

static const parity_limits limits[BN_OP_COUNT] = {
    [BN_OP_EMBEDDING] = {0, 0},
    [BN_OP_LINEAR] = {2e-6, 2e-6},
    [BN_OP_MATMUL] = {2e-6, 2e-6},
    [BN_OP_ACT_QUANT] = {0, 0},
    [BN_OP_WEIGHT_QUANT] = {0, 0},
    [BN_OP_BITLINEAR] = {0, 2e-6},
    [BN_OP_ACT_FAKE_QUANT] = {0, 0},
    [BN_OP_WEIGHT_FAKE_QUANT] = {0, 0},
    [BN_OP_ADD] = {0, 2e-7},
    [BN_OP_MUL] = {0, 2e-7},
    [BN_OP_SILU] = {5e-7, 1e-6},
    [BN_OP_RELU2] = {0, 2e-7},
    [BN_OP_GLU] = {5e-7, 1e-6},
    [BN_OP_RMSNORM] = {5e-7, 2e-6},
    [BN_OP_ROPE] = {5e-7, 5e-7},
    /* a score s carries an error of s * 2^-24 into the exponent; "peaked" has |s| > 100 */
    [BN_OP_ATTENTION] = {2e-6, 2e-5},
    [BN_OP_KV_ATTENTION] = {2e-6, 0},
    [BN_OP_SOFTMAX] = {1e-6, 2e-6},
    [BN_OP_CROSS_ENTROPY] = {1e-6, 2e-6},
    [BN_OP_LINEAR_CROSS_ENTROPY] = {2e-6, 5e-6},
    [BN_OP_DROPOUT] = {2e-7, 2e-7},
    [BN_OP_SUM] = {1e-6, 2e-7},
    [BN_OP_MEAN] = {1e-6, 2e-7},
    [BN_OP_RESHAPE] = {0, 0},
    [BN_OP_TRANSPOSE] = {0, 0},
    [BN_OP_SLICE] = {0, 0},
};

/* Both shapes, with double and as on a device without it (codes still agree
 * with the reference on these cases). */
static const struct {
    const char *label;
    bn_opencl_options options;
} variants[] = {
    {"cpu", {.shape = "cpu"}},
    {"gpu", {.shape = "gpu"}},
    {"cpu, no fp64", {.shape = "cpu", .without_fp64 = true}},
    {"gpu, no fp64", {.shape = "gpu", .without_fp64 = true}},
};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

static const char *only; /* an op's name; NULL: all */

static void kernels_agree_with_the_reference(void **state)
{
    (void)state;
    bn_backend *reference, *backend;
    op_case_list cases = op_cases_new();
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    for (int s = 0; s < VARIANTS; s++) {
        int count = 0;
        assert_ok(bn_opencl_backend_new(NULL, &variants[s].options, &backend));
        assert_string_equal(bn_opencl_shape(backend), variants[s].options.shape);
        for (int k = 0; k < cases.count; k++) {
            if (only && strcmp(only, bn_op_table[cases.items[k].spec.op].name) != 0)
                continue;
            parity_case(&cases.items[k], backend, reference, variants[s].label, limits);
            count++;
        }
        assert_true(count > 0);
        print_message("%s: %d cases agree\n", variants[s].label, count);
        bn_backend_free(backend);
    }
    bn_backend_free(reference);
    op_cases_free(&cases);
}

static void routines_agree_with_the_reference(void **state)
{
    (void)state;
    bn_backend *reference, *backend;
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    for (int s = 0; s < VARIANTS; s++) {
        assert_ok(bn_opencl_backend_new(NULL, &variants[s].options, &backend));
        parity_routines(backend, reference, variants[s].label);
        bn_backend_free(backend);
    }
    bn_backend_free(reference);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_agree_with_the_reference),
        cmocka_unit_test(routines_agree_with_the_reference),
    };
    only = argc > 1 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
