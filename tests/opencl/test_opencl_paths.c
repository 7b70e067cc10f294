/* Hardware paths. Tensor-core kernels run on any device with their instructions
 * replaced by their definition, so that fragments, packing and scaling are compared
 * with the reference; and a path whose instruction is wrong or does not compile is
 * found out and left unused. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "opencl/opencl.h"
#include "opencl/product_cases.h"
#include "ops/parity.h"

static const parity_limits limits[BN_OP_COUNT] = {[BN_OP_BITLINEAR] = {0, 5e-6}};

static bn_backend *open_backend(bn_opencl_emulation emulation)
{
    bn_backend *backend;
    const bn_opencl_options options = {.shape = "gpu", .emulation = emulation};
    assert_ok(bn_opencl_backend_new(NULL, &options, &backend));
    return backend;
}

static void expect_paths(const bn_backend *backend, bool used, const char *why)
{
    static const bn_opencl_path both[] = {BN_OPENCL_MMA_S8, BN_OPENCL_MMA_BF16};
    for (int i = 0; i < 2; i++) {
        const char *found;
        const bool is_used = bn_opencl_path_used(backend, both[i], &found);
        if (is_used != used || !strstr(found, why))
            fail_msg("path %d: used %d, because '%s'; expected %d, '%s'", i, is_used, found, used,
                     why);
    }
}

static void tensor_cores_agree_with_the_reference(void **state)
{
    (void)state;
    /* rows, in, out, group: whole and ragged loads, several tiles, groups with two
     * versions of dy, with one, and none that fit (generic backward) */
    static const int64_t sizes[][4] = {
        {70, 256, 80, 64}, {133, 200, 150, BN_PER_ROW}, {64, 128, 36, 128}, {9, 259, 35, 37},
        {20, 96, 64, 32},  {5, 448, 33, 192},           {7, 64, 20, 0},
    };
    bn_backend *backend = open_backend(BN_OPENCL_EMULATED), *reference;
    expect_paths(backend, true, "");
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t *s = sizes[i];
        op_case k = case_bitlinear(s[0], s[1], s[2], s[3], i % 2);
        for (int c = 0; c < backend->n_choices; c++) /* the other size of tile */
            if (i % 2 && strcmp(backend->choices[c].name, "mma_large") == 0)
                backend->choices[c].value = 1048576;
        assert_true(parity_case(&k, backend, reference, "emulated tensor cores", limits) > 0);
        case_clear(&k);
    }
    bn_backend_free(reference);
    bn_backend_free(backend);
}

static void a_wrong_instruction_is_found_out(void **state)
{
    (void)state;
    bn_backend *backend = open_backend(BN_OPENCL_EMULATED_WRONG), *reference;
    expect_paths(backend, false, "self-test: element ");
    op_case k = case_bitlinear(70, 128, 40, 64, true);
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    assert_true(parity_case(&k, backend, reference, "after a failed self-test", limits) > 0);
    case_clear(&k);
    bn_backend_free(reference);
    bn_backend_free(backend);
}

static void an_instruction_that_does_not_compile_is_left_out(void **state)
{
    (void)state;
    bn_backend *backend = open_backend(BN_OPENCL_NOT_COMPILING);
    expect_paths(backend, false, "CL_");
    bn_backend_free(backend);
}

static void nothing_is_claimed_without_reason(void **state)
{
    (void)state;
    bn_backend *backend = open_backend(BN_OPENCL_REAL);
    if (bn_opencl_device_of(backend)->vendor == BN_OPENCL_POCL)
        expect_paths(backend, false, "");
    bn_backend_free(backend);
    assert_int_equal(setenv("BITNET_OPENCL_PATHS", "generic", 1), 0);
    backend = open_backend(BN_OPENCL_EMULATED);
    expect_paths(backend, false, "");
    bn_backend_free(backend);
    assert_int_equal(setenv("BITNET_OPENCL_PATHS", "all", 1), 0);
    assert_int_equal(bn_opencl_backend_new(NULL, NULL, &backend), BN_USAGE);
    assert_int_equal(unsetenv("BITNET_OPENCL_PATHS"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_claimed_without_reason),
        cmocka_unit_test(an_instruction_that_does_not_compile_is_left_out),
        cmocka_unit_test(tensor_cores_agree_with_the_reference),
        cmocka_unit_test(a_wrong_instruction_is_found_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
