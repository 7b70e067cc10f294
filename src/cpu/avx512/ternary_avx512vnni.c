/* The integer product with AVX-512 VNNI: vpdpbusd multiplies four unsigned
 * weights q + 1 with four signed x and adds all to an int32. A panel's k-quad is
 * one 64-byte vector. Packing and the few-rows kernels are those of AVX2. */
#include <immintrin.h>
#include <string.h>

#include "cpu/fast/ternary.h"

enum { ROWS = 12 };

/* acc[r] += the products of `quads` k-quads. Two sets of accumulators would
 * only matter below the 4 cycles that 12 rows already cover. */
static inline __attribute__((always_inline)) void
tile_quads(const int8_t *x, int64_t ld_x, const uint8_t *w, int64_t quads, __m512i acc[ROWS])
{
    for (int64_t i = 0; i < quads; i++) {
        const __m512i weights = _mm512_loadu_si512(w + 64 * i);
        for (int r = 0; r < ROWS; r++) {
            int32_t four;
            memcpy(&four, x + r * ld_x + 4 * i, 4);
            acc[r] = _mm512_dpbusd_epi32(acc[r], weights, _mm512_set1_epi32(four));
        }
    }
}

static void tile(const bn_ternary_job *job, const int8_t *x, int64_t ld_x, const int32_t *sums,
                 const float *steps, const uint8_t *panel, float *t)
{
    const float *gamma = (const float *)(const void *)(panel + (size_t)job->quads * 64);
    __m512 total[ROWS];
    for (int r = 0; r < ROWS; r++)
        total[r] = _mm512_setzero_ps();
    for (int64_t g = 0; g < job->groups; g++, gamma += BN_PANEL_COLS) {
        __m512i acc[ROWS];
        for (int r = 0; r < ROWS; r++)
            acc[r] = _mm512_set1_epi32(-sums[r * job->groups + g]);
        const int64_t quads = bn_ternary_quads_of(job, g);
        tile_quads(x, ld_x, panel, quads, acc);
        x += 4 * quads;
        panel += 64 * quads;
        const __m512 scale = _mm512_loadu_ps(gamma);
        for (int r = 0; r < ROWS; r++) {
            const __m512 step = _mm512_set1_ps(steps ? steps[r * job->groups + g] : 1.0f);
            total[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r]), _mm512_mul_ps(scale, step),
                                       total[r]);
        }
    }
    for (int r = 0; r < ROWS; r++)
        _mm512_storeu_ps(t + r * BN_PANEL_COLS, total[r]);
}

const bn_ternary_kernels bn_ternary__avx512vnni = {
    .tile_rows = ROWS,
    .pack_panel = bn_ternary_pack_panel__avx2,
    .group_sums = bn_ternary_group_sums__avx2,
    .tile = tile,
    .few_rows = BN_FEW_ROWS_AVX2,
    .few = bn_ternary_few__avx2,
    .lanes_rows = BN_LANES_ROWS_AVX2,
    .lanes = bn_ternary_lanes__avx2,
    .wide = bn_wide_product__avx2,
};
