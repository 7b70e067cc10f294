/* Which kernels OpenBLAS uses, and whether the environment holds it back. */
#include "cpu/blas/blas.h"

#include <cblas.h>
#include <stdlib.h>
#include <strings.h>

void bn_blas_init(void)
{
    openblas_set_num_threads(1);
}

const char *bn_blas_core(void)
{
    return openblas_get_corename();
}

const char *bn_blas_config(void)
{
    return openblas_get_config();
}

/* Instruction sets that OpenBLAS has kernels for, in ascending order. */
enum { LEVEL_OTHER, LEVEL_AVX, LEVEL_AVX2, LEVEL_AVX512 };

/* Core types by the instruction set of their sgemm; any other name is below. */
static const struct {
    const char *name;
    int level;
} core_types[] = {
    {"Sandybridge", LEVEL_AVX},   {"Bulldozer", LEVEL_AVX},
    {"Piledriver", LEVEL_AVX},    {"Steamroller", LEVEL_AVX},
    {"Excavator", LEVEL_AVX},     {"Haswell", LEVEL_AVX2},
    {"Zen", LEVEL_AVX2},          {"SkylakeX", LEVEL_AVX512},
    {"Cooperlake", LEVEL_AVX512}, {"SapphireRapids", LEVEL_AVX512},
};

static int level_of_cpu(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return LEVEL_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return LEVEL_AVX2;
    if (__builtin_cpu_supports("avx"))
        return LEVEL_AVX;
#endif
    return LEVEL_OTHER;
}

bool bn_blas_pinned(const char **pinned, const char **possible)
{
    static const char *const level_names[] = {"", "AVX", "AVX2", "AVX-512"};
    const char *value = getenv("OPENBLAS_CORETYPE");
    int cpu = level_of_cpu(), level = LEVEL_OTHER;
    if (!value || !*value)
        return false;
    for (size_t i = 0; i < sizeof core_types / sizeof core_types[0]; i++)
        if (strcasecmp(value, core_types[i].name) == 0)
            level = core_types[i].level;
    if (pinned)
        *pinned = value;
    if (possible)
        *possible = level_names[cpu];
    return level < cpu;
}
