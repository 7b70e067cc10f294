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
    parity_limits limits[BN_OP_COUNT];
    memcpy(limits, parity_table, sizeof limits);
    limits[BN_OP_WEIGHT_ESTIMATOR].backward = 3e-7; /* its scale's: rounded five times */
    limits[BN_OP_EMBEDDING].backward = 0; /* sums in the reference's order: ascending ids */
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    for (int s = 0; s < VARIANTS; s++) {
        int count = 0;
        assert_ok(bn_opencl_backend_new(NULL, &variants[s].options, &backend));
        assert_string_equal(bn_opencl_shape(backend), variants[s].options.shape);
        assert_int_equal(backend->backwards, 1u << BN_BACKWARD_FLOAT32 | 1u << BN_BACKWARD_BF16);
        for (int k = 0; k < cases.count; k++) {
            if (only && strcmp(only, bn_op_table[cases.items[k].spec.op].name) != 0)
                continue;
            if (parity_step_groups(&cases.items[k]))
                parity_refused(&cases.items[k], backend, "bitlinear has no product with a step");
            else
                count +=
                    parity_case(&cases.items[k], backend, reference, variants[s].label, limits);
        }
        assert_true(count > 0);
        print_message("%s: %d comparisons agree\n", variants[s].label, count);
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
