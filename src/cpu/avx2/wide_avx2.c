/* The integer product with an int8 weight, AVX2: both sides widened to int16,
 * vpmaddwd adds pairs of products to int32, which is exact for all codes.
 * Four outputs share the widened x. Bound: 13 vector operations for 64 products,
 * several times what memory delivers when there are few rows. */
#include <immintrin.h>

#include "cpu/fast/ternary.h"

enum { OUTPUTS = 4, STEP = 16 };

static inline __m256i widened(const int8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

static inline int32_t sum_i32(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

/* acc[o] = sum over n elements of w[o][k] x[k]; rows of the weight have `in`. */
static inline void dot(const int8_t *x, const int8_t *const w[OUTPUTS], int64_t in, int64_t from,
                       int64_t n, int32_t acc[OUTPUTS])
{
    __m256i sum[OUTPUTS];
    int64_t k = from;
    for (int o = 0; o < OUTPUTS; o++)
        sum[o] = _mm256_setzero_si256();
    for (; k + STEP <= from + n; k += STEP) {
        const __m256i v = widened(x + k);
        if ((k - from) % (4 * STEP) == 0) /* a line of the next outputs */
            for (int o = 0; o < OUTPUTS; o++)
                _mm_prefetch((const char *)w[o] + OUTPUTS * in + k, _MM_HINT_T0);
        for (int o = 0; o < OUTPUTS; o++)
            sum[o] = _mm256_add_epi32(sum[o], _mm256_madd_epi16(v, widened(w[o] + k)));
    }
    for (int o = 0; o < OUTPUTS; o++) {
        acc[o] = sum_i32(sum[o]);
        for (int64_t rest = k; rest < from + n; rest++)
            acc[o] += x[rest] * w[o][rest];
    }
}

void bn_wide_product__avx2(const bn_ternary_job *job, int64_t out0, int64_t out1)
{
    const bn_int_product *p = &job->shape;
    const int64_t in = p->in;
    for (int64_t o0 = out0; o0 < out1; o0 += OUTPUTS) {
        const int64_t n = out1 - o0 < OUTPUTS ? out1 - o0 : OUTPUTS;
        const int8_t *w[OUTPUTS]; /* past the last output: that one again */
        for (int64_t o = 0; o < OUTPUTS; o++)
            w[o] = p->wide + (o0 + (o < n ? o : n - 1)) * in;
        for (int64_t r = 0; r < p->rows; r++) {
            float t[OUTPUTS] = {0};
            for (int64_t g = 0, k = 0; g < job->groups; g++, k += job->group) {
                int32_t acc[OUTPUTS];
                dot(p->x + r * in, w, in, k, in - k < job->group ? in - k : job->group, acc);
                for (int64_t o = 0; o < n; o++)
                    t[o] = __builtin_fmaf((float)acc[o],
                                          job->scale[bn_scale_index(o0 + o, g, in, p->group_size)],
                                          t[o]);
            }
            const float step = job->step[p->per_tensor_step ? 0 : r];
            for (int64_t o = 0; o < n; o++) {
                const float y = t[o] * step;
                job->y[r * p->out + o0 + o] = job->bias ? y + job->bias[o0 + o] : y;
            }
        }
    }
}
