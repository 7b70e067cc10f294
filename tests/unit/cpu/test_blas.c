/* Whether the environment holds OpenBLAS back. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/blas/blas.h"
#include "cpu/fast/fast.h"

static void a_core_type_below_the_cpu_is_noticed(void **state)
{
    (void)state;
    const char *pinned = NULL, *possible = NULL;
    unsetenv("OPENBLAS_CORETYPE");
    assert_false(bn_blas_pinned(&pinned, &possible));
    setenv("OPENBLAS_CORETYPE", "", 1);
    assert_false(bn_blas_pinned(&pinned, &possible));
    setenv("OPENBLAS_CORETYPE", "SkylakeX", 1);
    assert_false(bn_blas_pinned(NULL, NULL));
    if (bn_cpu_runs_avx2()) {
        setenv("OPENBLAS_CORETYPE", "prescott", 1);
        assert_true(bn_blas_pinned(&pinned, &possible));
        assert_string_equal(pinned, "prescott");
        assert_true(strncmp(possible, "AVX", 3) == 0);
        setenv("OPENBLAS_CORETYPE", "haswell", 1);
        assert_int_equal(bn_blas_pinned(&pinned, &possible), bn_cpu_runs_avx512());
    }
    unsetenv("OPENBLAS_CORETYPE");
}

static void openblas_says_what_it_is(void **state)
{
    (void)state;
    assert_true(strlen(bn_blas_core()) > 0);
    assert_true(strstr(bn_blas_config(), "OpenBLAS") != NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_core_type_below_the_cpu_is_noticed),
        cmocka_unit_test(openblas_says_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
