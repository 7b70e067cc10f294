/* The AVX-512 VNNI kernel compiled against SIMDe, which computes every intrinsic
 * in plain C: its arithmetic can be tested on a CPU that cannot run it. */
#include <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wshadow"
#include <simde/x86/avx512.h>
#pragma GCC diagnostic pop

/* Missing in SIMDe 0.7.4. */
static inline simde__m512 emulated_cvtepi32_ps(simde__m512i a)
{
    int32_t from[16];
    float to[16];
    simde_mm512_storeu_si512(from, a);
    for (int i = 0; i < 16; i++)
        to[i] = (float)from[i];
    return simde_mm512_loadu_ps(to);
}
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps

#define bn_ternary__avx512vnni bn_ternary__emulated
#include "cpu/avx512/ternary_avx512vnni.c"
