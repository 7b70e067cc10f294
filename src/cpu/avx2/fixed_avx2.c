/* The int16 tile with AVX2: vpmaddwd does 16 multiply-adds where a float FMA does
 * 8, and vpaddd has units of its own. */
#include "cpu/fast/fixed.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* *s += v, in the register that holds *s. The compiler would add into another
 * one, and each move back takes a place among the instructions of a cycle. */
INLINE void add_i32(__m256i *s, __m256i v)
{
    __asm__("vpaddd %1, %0, %0" : "+x"(*s) : "x"(v));
}

typedef struct row {
    __m256i lo, hi; /* sums of columns 0..7 and 8..15 */
} row;

INLINE void multiply_add(row *acc, const int16_t *z, __m256i lo, __m256i hi)
{
    int32_t pair;
    memcpy(&pair, z, sizeof pair);
    const __m256i v = _mm256_set1_epi32(pair);
    add_i32(&acc->lo, _mm256_madd_epi16(v, lo));
    add_i32(&acc->hi, _mm256_madd_epi16(v, hi));
}

INLINE void put(const row *acc, float step, float *t)
{
    const __m256 s = _mm256_set1_ps(step);
    _mm256_storeu_ps(t, _mm256_mul_ps(_mm256_cvtepi32_ps(acc->lo), s));
    _mm256_storeu_ps(t + 8, _mm256_mul_ps(_mm256_cvtepi32_ps(acc->hi), s));
}

/* Six variables, since the compiler keeps an array of them in memory. */
void bn_fixed_tile__avx2(const int16_t *z, int64_t ld_z, const int16_t *panel, int64_t pairs,
                         const float *step, float *t)
{
    const __m256i zero = _mm256_setzero_si256();
    row r0 = {zero, zero}, r1 = r0, r2 = r0, r3 = r0, r4 = r0, r5 = r0;
    const int16_t *z3 = z + 3 * ld_z;
    for (int64_t i = 0; i < pairs; i++, panel += 2 * BN_FIXED_COLS, z += 2, z3 += 2) {
        const __m256i lo = _mm256_load_si256((const __m256i *)panel);
        const __m256i hi = _mm256_load_si256((const __m256i *)(panel + BN_FIXED_COLS));
        multiply_add(&r0, z, lo, hi);
        multiply_add(&r1, z + ld_z, lo, hi);
        multiply_add(&r2, z + 2 * ld_z, lo, hi);
        multiply_add(&r3, z3, lo, hi);
        multiply_add(&r4, z3 + ld_z, lo, hi);
        multiply_add(&r5, z3 + 2 * ld_z, lo, hi);
    }
    put(&r0, step[0], t);
    put(&r1, step[1], t + BN_FIXED_COLS);
    put(&r2, step[2], t + 2 * BN_FIXED_COLS);
    put(&r3, step[3], t + 3 * BN_FIXED_COLS);
    put(&r4, step[4], t + 4 * BN_FIXED_COLS);
    put(&r5, step[5], t + 5 * BN_FIXED_COLS);
}
