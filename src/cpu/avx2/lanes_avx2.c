/* The integer product of few rows with a weight in lanes (BN_T2_LANES), AVX2.
 *
 * A vector of 32 bytes holds 16 codes of 8 outputs, an output in each 32-bit
 * lane, so nothing is summed across lanes and a group's 8 scales are one load.
 * Its four fields meet 4 bytes of x each, repeated in all lanes. Fields 0 and 2
 * are used as they lie (after one shift by 4), fields 1 and 3 as 4 (q + 1), in
 * sums of their own that are shifted once: one shift for four products.
 *
 * int16 sums: a product of pairs is at most 2 * 2 * 127 and at least -512, twice
 * per vector; four times that for the odd fields. 8 vectors give -32768 .. 32512.
 * Panels are short streams, too short for the CPU to see what comes next: the
 * same place of the next panels is asked for instead, which is worth a third.
 * Bound: 13 vector operations for 128 products of a row, or the memory's speed. */
#include <immintrin.h>
#include <string.h>

#include "cpu/fast/ternary.h"

enum {
    ROWS = BN_LANES_ROWS_AVX2,
    VECTORS_EXACT = 8,
    LANES = 8,
    VECTOR_CODES = 16, /* of one output */
    VECTOR_BYTES = 32,
};

#define INLINE static inline __attribute__((always_inline))

INLINE __m256i four_of_x(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, 4);
    return _mm256_set1_epi32(four);
}

/* Four fields of a vector; odd ones times 4. */
INLINE void split_fields(const uint8_t *w, __m256i field[4])
{
    const __m256i even = _mm256_set1_epi8(0x03), odd = _mm256_set1_epi8(0x0c);
    const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)w);
    const __m256i high = _mm256_srli_epi16(low, 4);
    field[0] = _mm256_and_si256(low, even);
    field[1] = _mm256_and_si256(low, odd);
    field[2] = _mm256_and_si256(high, even);
    field[3] = _mm256_and_si256(high, odd);
}

/* acc[r][p] += the products of at most VECTORS_EXACT vectors of `panels` panels
 * (`ld_w` bytes apart) and `rows` rows of x. */
INLINE void add_vectors(const uint8_t *w, int64_t ld_w, int panels, const int8_t *x, int64_t ld_x,
                        int rows, int64_t vectors, __m256i acc[ROWS][2])
{
    __m256i even[ROWS][2], odd[ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++)
            even[r][p] = odd[r][p] = _mm256_setzero_si256();
    for (int64_t v = 0; v < vectors; v++, w += VECTOR_BYTES, x += VECTOR_CODES) {
        __m256i field[2][4];
        for (int p = 0; p < panels; p++) {
            split_fields(w + p * ld_w, field[p]);
            if (v % 2 == 0)
                _mm_prefetch((const char *)w + (panels + p) * ld_w, _MM_HINT_T0);
        }
        for (int r = 0; r < rows; r++)
            for (int f = 0; f < 4; f++) {
                const __m256i four = four_of_x(x + r * ld_x + 4 * f);
                for (int p = 0; p < panels; p++) {
                    __m256i *sum = f % 2 ? &odd[r][p] : &even[r][p];
                    *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(field[p][f], four));
                }
            }
    }
    const __m256i ones = _mm256_set1_epi16(1);
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++) {
            __m256i sum = _mm256_add_epi16(even[r][p], _mm256_srai_epi16(odd[r][p], 2));
            acc[r][p] = _mm256_add_epi32(acc[r][p], _mm256_madd_epi16(sum, ones));
        }
}

/* `rows` rows of x from row0, panels panel .. panel + panels - 1. */
INLINE void outputs(const bn_ternary_job *job, const int32_t *sums, int64_t row0, int rows,
                    int64_t panel, int panels)
{
    const int64_t in = job->shape.in, ld_w = LANES * in / 4;
    const uint8_t *w = job->shape.packed + panel * ld_w;
    const int8_t *x = job->shape.x + row0 * in;
    const bool one_scale = job->shape.group_size == BN_PER_TENSOR;
    __m256 t[ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++)
            t[r][p] = _mm256_setzero_ps();
    for (int64_t g = 0, k = 0; g < job->groups; g++) {
        const int64_t end = in - k < job->group ? in : k + job->group;
        __m256i acc[ROWS][2];
        for (int r = 0; r < rows; r++)
            for (int p = 0; p < panels; p++)
                acc[r][p] = _mm256_set1_epi32(-sums[(row0 + r) * job->groups + g]);
        while (k < end) {
            int64_t vectors = (end - k) / VECTOR_CODES;
            vectors = vectors < VECTORS_EXACT ? vectors : VECTORS_EXACT;
            add_vectors(w, ld_w, panels, x + k, in, rows, vectors, acc);
            w += vectors * VECTOR_BYTES;
            k += vectors * VECTOR_CODES;
        }
        for (int p = 0; p < panels; p++) {
            const float *at = job->scale + ((panel + p) * job->groups + g) * LANES;
            const __m256 gamma = one_scale ? _mm256_set1_ps(job->scale[0]) : _mm256_loadu_ps(at);
            for (int r = 0; r < rows; r++)
                t[r][p] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[r][p]), gamma, t[r][p]);
        }
    }
    for (int r = 0; r < rows; r++) {
        const __m256 step = _mm256_set1_ps(job->step[job->shape.per_tensor_step ? 0 : row0 + r]);
        for (int p = 0; p < panels; p++) {
            const int64_t o = (panel + p) * LANES;
            __m256 y = _mm256_mul_ps(t[r][p], step);
            if (job->bias)
                y = _mm256_add_ps(y, _mm256_loadu_ps(job->bias + o));
            _mm256_storeu_ps(job->y + (row0 + r) * job->shape.out + o, y);
        }
    }
}

/* Two panels share the loads of one row of x; of more rows, the accumulators of
 * one panel fill the registers. */
void bn_ternary_lanes__avx2(const bn_ternary_job *job, const int32_t *sums, int64_t out0,
                            int64_t out1)
{
    int64_t panel = out0 / LANES;
    const int64_t end = out1 / LANES, rows = job->shape.rows;
    for (; rows == 1 && panel + 2 <= end; panel += 2)
        outputs(job, sums, 0, 1, panel, 2);
    for (; panel < end; panel++) {
        if (rows == 1)
            outputs(job, sums, 0, 1, panel, 1);
        else if (rows == 2)
            outputs(job, sums, 0, 2, panel, 1);
        else if (rows == 3)
            outputs(job, sums, 0, 3, panel, 1);
        else
            outputs(job, sums, 0, 4, panel, 1);
    }
}

/* Panel p of 16 outputs (ternary.h) from two panels of lanes: k-quad 4v + f is
 * field f of vector v of both. Past the last output: the first half again. */
void bn_ternary_pack_lanes__avx2(const bn_ternary_job *job, int64_t p, uint8_t *panel)
{
    const int64_t ld_w = LANES * job->shape.in / 4, halves = job->shape.out / LANES;
    const __m256i mask = _mm256_set1_epi8(3);
    float *gamma = (float *)(void *)(panel + (size_t)job->quads * 64);
    for (int h = 0; h < 2; h++) {
        const int64_t half = 2 * p + h < halves ? 2 * p + h : 2 * p;
        const uint8_t *w = job->shape.packed + half * ld_w;
        for (int64_t v = 0; v < job->shape.in / VECTOR_CODES; v++) {
            __m256i fields = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32 * v));
            __m256i *to = (__m256i *)(void *)(panel + 256 * v + 32 * h);
            for (int f = 0; f < 4; f++, fields = _mm256_srli_epi16(fields, 2))
                _mm256_store_si256(to + 2 * f, _mm256_and_si256(fields, mask));
        }
        for (int64_t g = 0; g < job->groups; g++)
            for (int c = 0; c < LANES; c++)
                gamma[g * BN_PANEL_COLS + LANES * h + c] =
                    job->scale[bn_ternary_gamma(job, half * LANES + c, g)];
    }
}
