/* Kernels of instruction sets that this CPU may lack, emulated, against the
 * reference: every BITLINEAR case of the op list, forward. */
#include "cmocka_all.h"

#include "cpu/cpu.h"
#include "cpu/fast/fast.h"
#include "cpu/fast/fast_impl.h"
#include "ops/parity.h"

extern const bn_ternary_kernels bn_ternary__emulated;

static void avx512vnni_product_equals_the_reference(void **state)
{
    (void)state;
    static const parity_limits limits[BN_OP_COUNT] = {[BN_OP_BITLINEAR] = {0, 2e-6}};
    if (!bn_cpu_runs_avx2())
        fail_msg("this test needs a CPU with AVX2: packing is shared with the AVX2 kernels");
    bn_backend *reference, *backend;
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    assert_ok(bn_cpu_backend_new(&(bn_cpu_options){.threads = 2, .isa = "avx2"}, &backend));
    bn_cpu *cpu = bn_cpu_of(backend);
    bn_fast emulated = *cpu->fast;
    emulated.ternary = &bn_ternary__emulated;
    cpu->fast = &emulated;
    op_case_list cases = op_cases_new();
    int checked = 0;
    for (int i = 0; i < cases.count; i++) {
        if (cases.items[i].spec.op != BN_OP_BITLINEAR)
            continue;
        checked += parity_case(&cases.items[i], backend, reference, "emulated avx512vnni", limits);
    }
    print_message("%d comparisons agree\n", checked);
    assert_true(checked >= 8);
    op_cases_free(&cases);
    bn_backend_free(backend);
    bn_backend_free(reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(avx512vnni_product_equals_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
