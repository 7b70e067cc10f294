/* The integer product with AVX2: vpmaddubsw multiplies unsigned weights q + 1
 * (0..2) with signed x and adds pairs, -512 to 508, so an int16 holds the sum of
 * 64 of them exactly; then vpmaddwd adds pairs into int32. */
#include <immintrin.h>
#include <string.h>

#include "cpu/fast/ternary.h"
#include "quant/pack.h"

enum {
    ROWS = 6,         /* of x in a tile: 6 x 2 accumulators of 16 int16 */
    QUADS_EXACT = 64, /* k-quads that an int16 holds: -32768 .. 32512 */
    BLOCK_BYTES = 32, /* packed bytes that the few-rows kernel takes at once */
    BLOCK_CODES = 128,
    FEW_ROWS = BN_FEW_ROWS_AVX2,
    FEW_OUT = 8, /* outputs that it works on together */
};

#define INLINE static inline __attribute__((always_inline))
/* Arrays of accumulators stay in registers where no index is left at run time. */
#define UNROLL _Pragma("GCC unroll 6")

/* Byte 0 of each 32-bit lane holds four 2-bit fields; each to its own byte. */
INLINE __m256i spread_fields(__m256i byte)
{
    __m256i pair = _mm256_or_si256(byte, _mm256_slli_epi32(byte, 6));
    __m256i four = _mm256_or_si256(pair, _mm256_slli_epi32(pair, 12));
    return _mm256_and_si256(four, _mm256_set1_epi32(0x03030303));
}

/* Bytes 4i .. 4i+3 of a packed row that has `bytes` (those past its end 0). */
INLINE int32_t packed_word(const uint8_t *row, int64_t i, int64_t bytes)
{
    int32_t word = 0;
    if (4 * i + 4 <= bytes)
        memcpy(&word, row + 4 * i, 4);
    else
        memcpy(&word, row + 4 * i, (size_t)(bytes - 4 * i));
    return word;
}

/* Groups of whole bytes: k-quad i of a row is its packed byte i. */
static void pack_bytes(const bn_ternary_job *job, const uint8_t *const row[BN_PANEL_COLS],
                       uint8_t *panel)
{
    const int64_t bytes = job->quads;
    const __m256i low_byte = _mm256_set1_epi32(0xff);
    for (int64_t i = 0; 4 * i < bytes; i++)
        for (int half = 0; half < 2; half++) {
            int32_t word[8];
            for (int c = 0; c < 8; c++)
                word[c] = packed_word(row[8 * half + c], i, bytes);
            __m256i words = _mm256_loadu_si256((const __m256i *)word);
            int64_t n = bytes - 4 * i < 4 ? bytes - 4 * i : 4;
            for (int64_t j = 0; j < n; j++) {
                __m256i fields = spread_fields(_mm256_and_si256(words, low_byte));
                _mm256_storeu_si256((__m256i *)(panel + (4 * i + j) * 64 + half * 32), fields);
                words = _mm256_srli_epi32(words, 8);
            }
        }
}

/* Groups that end inside a byte: element by element. */
static void pack_elements(const bn_ternary_job *job, const uint8_t *const row[BN_PANEL_COLS],
                          uint8_t *panel)
{
    memset(panel, 0, (size_t)job->quads * 64);
    for (int64_t k = 0; k < job->shape.in; k++) {
        int64_t g = k / job->group, in_group = k - g * job->group;
        uint8_t *quad = panel + (g * job->group_quads + in_group / 4) * 64 + in_group % 4;
        for (int c = 0; c < BN_PANEL_COLS; c++)
            quad[4 * c] = (uint8_t)(bn_t2_get(row[c], k) + 1);
    }
}

void bn_ternary_pack_panel__avx2(const bn_ternary_job *job, int64_t p, uint8_t *panel)
{
    if (job->lanes) {
        bn_ternary_pack_lanes__avx2(job, p, panel);
        return;
    }
    const int64_t row_bytes = bn_t2_row_bytes(job->shape.in), last = job->shape.out - 1;
    const uint8_t *row[BN_PANEL_COLS];
    float *gamma = (float *)(void *)(panel + (size_t)job->quads * 64);
    for (int64_t c = 0; c < BN_PANEL_COLS; c++) { /* past the last output: that one again */
        int64_t o = p * BN_PANEL_COLS + c < last ? p * BN_PANEL_COLS + c : last;
        row[c] = job->shape.packed + o * row_bytes;
        for (int64_t g = 0; g < job->groups; g++)
            gamma[g * BN_PANEL_COLS + c] = job->scale[bn_ternary_gamma(job, o, g)];
    }
    if (job->groups == 1 || job->group % 4 == 0)
        pack_bytes(job, row, panel);
    else
        pack_elements(job, row, panel);
}

INLINE int32_t sum_i32(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

void bn_ternary_group_sums__avx2(const bn_ternary_job *job, const int8_t *x, int32_t *sum)
{
    const __m256i ones8 = _mm256_set1_epi8(1), ones16 = _mm256_set1_epi16(1);
    for (int64_t g = 0, k = 0; g < job->groups; g++) {
        int64_t end = job->shape.in - k < job->group ? job->shape.in : k + job->group;
        __m256i acc = _mm256_setzero_si256();
        for (; k + 32 <= end; k += 32) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(x + k));
            acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(ones8, v), ones16));
        }
        int32_t s = sum_i32(acc);
        for (; k < end; k++)
            s += x[k];
        sum[g] = s;
    }
}

/* *s += v, in the register that holds *s. The compiler would add into another
 * one, and each move back takes a place among the instructions of a cycle. */
INLINE void add_i16(__m256i *s, __m256i v)
{
    __asm__("vpaddw %1, %0, %0" : "+x"(*s) : "x"(v));
}

/* s = the sums of `quads` k-quads (at most QUADS_EXACT) of ROWS rows and one
 * panel, in pairs of neighbouring lanes. */
INLINE void tile_quads(const int8_t *x, int64_t ld_x, const uint8_t *w, int64_t quads,
                       __m256i s[ROWS][2])
{
    UNROLL for (int r = 0; r < ROWS; r++) s[r][0] = s[r][1] = _mm256_setzero_si256();
    const int8_t *x3 = x + 3 * ld_x;
    for (int64_t i = 0; i < quads; i++, w += 64, x += 4, x3 += 4) {
        const __m256i w0 = _mm256_load_si256((const __m256i *)w);
        const __m256i w1 = _mm256_load_si256((const __m256i *)(w + 32));
        UNROLL for (int r = 0; r < ROWS; r++)
        {
            int32_t four;
            memcpy(&four, r < 3 ? x + r * ld_x : x3 + (r - 3) * ld_x, 4);
            const __m256i v = _mm256_set1_epi32(four);
            add_i16(&s[r][0], _mm256_maddubs_epi16(w0, v));
            add_i16(&s[r][1], _mm256_maddubs_epi16(w1, v));
        }
    }
}

/* A group that is too long for int16: in pieces, added up in int32. Not inlined:
 * the address of acc leaves the registers. */
static __attribute__((noinline)) void long_group(const int8_t *x, int64_t ld_x, const uint8_t *w,
                                                 int64_t quads, __m256i acc[ROWS][2])
{
    const __m256i ones = _mm256_set1_epi16(1);
    memset(acc, 0, ROWS * sizeof *acc);
    for (int64_t i = 0; i < quads; i += QUADS_EXACT) {
        __m256i s[ROWS][2];
        tile_quads(x + 4 * i, ld_x, w + 64 * i, quads - i < QUADS_EXACT ? quads - i : QUADS_EXACT,
                   s);
        UNROLL for (int r = 0; r < ROWS; r++)
        {
            acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(s[r][0], ones));
            acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(s[r][1], ones));
        }
    }
}

/* What a group adds to 8 outputs of a row: fma(acc - sum, scale, t). */
INLINE void close_group(__m256i acc, __m256i sum, __m256 scale, bool first, float *t)
{
    const __m256 f = _mm256_cvtepi32_ps(_mm256_sub_epi32(acc, sum));
    const __m256 before = first ? _mm256_setzero_ps() : _mm256_loadu_ps(t);
    _mm256_storeu_ps(t, _mm256_fmadd_ps(f, scale, before));
}

/* The same for the tile: gammas of BN_PANEL_COLS outputs, and sums, steps (if the
 * group has some of its own) and sums of codes of ROWS rows, `ld` apart. */
INLINE void close_rows(__m256i acc[ROWS][2], const float *gamma, const int32_t *sums,
                       const float *steps, int64_t ld, bool first, float *t)
{
    const __m256 gamma0 = _mm256_loadu_ps(gamma), gamma1 = _mm256_loadu_ps(gamma + 8);
    UNROLL for (int r = 0; r < ROWS; r++)
    {
        const __m256i sum = _mm256_set1_epi32(sums[r * ld]);
        const __m256 step = steps ? _mm256_set1_ps(steps[r * ld]) : gamma0;
        float *to = t + r * BN_PANEL_COLS;
        close_group(acc[r][0], sum, steps ? _mm256_mul_ps(gamma0, step) : gamma0, first, to);
        close_group(acc[r][1], sum, steps ? _mm256_mul_ps(gamma1, step) : gamma1, first, to + 8);
    }
}

/* Group g of a tile. */
INLINE void tile_group(const bn_ternary_job *job, int64_t g, const int8_t *x, int64_t ld_x,
                       const int32_t *sums, const float *steps, const uint8_t *panel, bool first,
                       float *t)
{
    const int64_t quads = bn_ternary_quads_of(job, g), from = g * job->group_quads;
    const float *gamma = (const float *)(const void *)(panel + job->quads * 64);
    const __m256i ones = _mm256_set1_epi16(1);
    x += 4 * from;
    panel += 64 * from;
    gamma += g * BN_PANEL_COLS;
    sums += g;
    if (steps)
        steps += g;
    if (quads <= QUADS_EXACT) {
        __m256i s[ROWS][2];
        tile_quads(x, ld_x, panel, quads, s);
        UNROLL for (int r = 0; r < ROWS; r++)
        {
            s[r][0] = _mm256_madd_epi16(s[r][0], ones);
            s[r][1] = _mm256_madd_epi16(s[r][1], ones);
        }
        close_rows(s, gamma, sums, steps, job->groups, first, t);
    } else {
        __m256i acc[ROWS][2];
        long_group(x, ld_x, panel, quads, acc);
        close_rows(acc, gamma, sums, steps, job->groups, first, t);
    }
}

static void tile(const bn_ternary_job *job, const int8_t *x, int64_t ld_x, const int32_t *sums,
                 const float *steps, const uint8_t *panel, float *t)
{
    if (steps) {
        for (int64_t g = 0; g < job->groups; g++)
            tile_group(job, g, x, ld_x, sums, steps, panel, g == 0, t);
    } else {
        tile_group(job, 0, x, ld_x, sums, NULL, panel, true, t);
        for (int64_t g = 1; g < job->groups; g++)
            tile_group(job, g, x, ld_x, sums, NULL, panel, false, t);
    }
}

/* Dot products of FEW_OUT packed rows with one block of x: v[o] holds int32
 * partial sums, two lanes for each 32 codes. `from` and `bytes` are the block's
 * place in a packed row. */
INLINE void few_block(const uint8_t *const w[FEW_OUT], int64_t from, int64_t bytes,
                      const int8_t *planes, int64_t ld_planes, int rows,
                      __m256i v[FEW_ROWS][FEW_OUT])
{
    const __m256i low = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    for (int o = 0; o < FEW_OUT; o++) {
        __m256i packed;
        if (bytes == BLOCK_BYTES) {
            packed = _mm256_loadu_si256((const __m256i *)(w[o] + from));
        } else {
            uint8_t part[BLOCK_BYTES] = {0};
            memcpy(part, w[o] + from, (size_t)bytes);
            packed = _mm256_loadu_si256((const __m256i *)part);
        }
        const __m256i c0 = _mm256_and_si256(packed, low);
        const __m256i c1 = _mm256_and_si256(_mm256_srli_epi16(packed, 2), low);
        const __m256i c2 = _mm256_and_si256(_mm256_srli_epi16(packed, 4), low);
        const __m256i c3 = _mm256_and_si256(_mm256_srli_epi16(packed, 6), low);
        for (int r = 0; r < rows; r++) {
            const __m256i *x = (const __m256i *)(const void *)(planes + r * ld_planes);
            __m256i s01 = _mm256_add_epi16(_mm256_maddubs_epi16(c0, _mm256_loadu_si256(x)),
                                           _mm256_maddubs_epi16(c1, _mm256_loadu_si256(x + 1)));
            __m256i s23 = _mm256_add_epi16(_mm256_maddubs_epi16(c2, _mm256_loadu_si256(x + 2)),
                                           _mm256_maddubs_epi16(c3, _mm256_loadu_si256(x + 3)));
            v[r][o] = _mm256_madd_epi16(_mm256_add_epi16(s01, s23), ones);
        }
    }
}

/* Sums of the low and of the high half of v[0..7]: half[0], half[1], lane o. */
INLINE void sum_halves(const __m256i v[FEW_OUT], __m256i half[2])
{
    __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    half[0] = _mm256_permute2x128_si256(a, b, 0x20);
    half[1] = _mm256_permute2x128_si256(a, b, 0x31);
}

/* Sums of lanes (0,1), (2,3), (4,5), (6,7) of v[0..7]: quarter[0..3], lane o. */
INLINE void sum_quarters(const __m256i v[FEW_OUT], __m256i quarter[4])
{
    for (int odd = 0; odd < 2; odd++) {
        __m256i part[2];
        for (int i = 0; i < 2; i++) {
            __m256 p = _mm256_castsi256_ps(_mm256_hadd_epi32(v[4 * i], v[4 * i + 1]));
            __m256 q = _mm256_castsi256_ps(_mm256_hadd_epi32(v[4 * i + 2], v[4 * i + 3]));
            part[i] = _mm256_castps_si256(odd ? _mm256_shuffle_ps(p, q, 0xdd)
                                              : _mm256_shuffle_ps(p, q, 0x88));
        }
        quarter[odd] = _mm256_permute2x128_si256(part[0], part[1], 0x20);
        quarter[odd + 2] = _mm256_permute2x128_si256(part[0], part[1], 0x31);
    }
}

/* Running sums of FEW_OUT outputs. */
typedef struct few_state {
    const bn_ternary_job *job;
    const int32_t *sums;
    int64_t out[FEW_OUT]; /* their rows of the weight */
    int64_t group, left;  /* the group in work and how many of its codes are to come */
    __m256i acc[FEW_ROWS];
    __m256 t[FEW_ROWS];
} few_state;

/* Adds the sums of `codes` codes of the present group and closes it when it is
 * complete. */
INLINE void few_add(few_state *s, const __m256i sum[FEW_ROWS], int64_t codes, int rows)
{
    for (int r = 0; r < rows; r++)
        s->acc[r] = _mm256_add_epi32(s->acc[r], sum[r]);
    s->left -= codes;
    if (s->left > 0)
        return;
    const bn_ternary_job *job = s->job;
    float gamma[FEW_OUT];
    for (int o = 0; o < FEW_OUT; o++)
        gamma[o] =
            job->scale[bn_scale_index(s->out[o], s->group, job->shape.in, job->shape.group_size)];
    const __m256 g = _mm256_loadu_ps(gamma);
    for (int r = 0; r < rows; r++) {
        __m256i x_sum = _mm256_set1_epi32(s->sums[r * job->groups + s->group]);
        s->t[r] =
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(s->acc[r], x_sum)), g, s->t[r]);
        s->acc[r] = _mm256_setzero_si256();
    }
    s->group++;
    s->left = job->shape.in - s->group * job->group < job->group
                  ? job->shape.in - s->group * job->group
                  : job->group;
}

INLINE void few_outputs(const bn_ternary_job *job, const int8_t *planes, const int32_t *sums,
                        int64_t out0, int64_t n, int rows)
{
    const int64_t in = job->shape.in, row_bytes = bn_t2_row_bytes(in);
    const int64_t ld_planes = bn_ceil_div(in, BLOCK_CODES) * BLOCK_CODES;
    const int unit = job->groups == 1 || job->group % 128 == 0 ? 128
                     : job->group % 64 == 0                    ? 64
                                                               : 32;
    few_state state = {.job = job, .sums = sums, .left = job->group < in ? job->group : in};
    const uint8_t *w[FEW_OUT];
    for (int64_t o = 0; o < FEW_OUT; o++) {
        state.out[o] = out0 + (o < n ? o : n - 1);
        w[o] = job->shape.packed + state.out[o] * row_bytes;
    }
    for (int r = 0; r < rows; r++) {
        state.acc[r] = _mm256_setzero_si256();
        state.t[r] = _mm256_setzero_ps();
    }
    for (int64_t from = 0; from < row_bytes; from += BLOCK_BYTES) {
        __m256i v[FEW_ROWS][FEW_OUT], part[4], sum[4][FEW_ROWS];
        int64_t bytes = row_bytes - from < BLOCK_BYTES ? row_bytes - from : BLOCK_BYTES;
        few_block(w, from, bytes, planes + from * 4, ld_planes, rows, v);
        for (int r = 0; r < rows; r++) {
            if (unit == 32) {
                sum_quarters(v[r], part);
            } else {
                sum_halves(v[r], part);
                if (unit == 128)
                    part[0] = _mm256_add_epi32(part[0], part[1]);
            }
            for (int i = 0; i < BLOCK_CODES / unit; i++)
                sum[i][r] = part[i];
        }
        for (int i = 0; i < BLOCK_CODES / unit && from * 4 + i * unit < in; i++) {
            int64_t codes = in - from * 4 - i * unit;
            few_add(&state, sum[i], codes < unit ? codes : unit, rows);
        }
    }
    for (int r = 0; r < rows; r++) {
        float t[FEW_OUT], step = job->step[job->shape.per_tensor_step ? 0 : r];
        _mm256_storeu_ps(t, state.t[r]);
        for (int64_t o = 0; o < n; o++) {
            float y = t[o] * step;
            job->y[r * job->shape.out + out0 + o] = job->bias ? y + job->bias[out0 + o] : y;
        }
    }
}

void bn_ternary_few__avx2(const bn_ternary_job *job, const int8_t *planes, const int32_t *sums,
                          int64_t out0, int64_t out1)
{
    for (int64_t o = out0; o < out1; o += FEW_OUT) {
        int64_t n = out1 - o < FEW_OUT ? out1 - o : FEW_OUT;
        if (job->shape.rows == 1)
            few_outputs(job, planes, sums, o, n, 1);
        else if (job->shape.rows == 2)
            few_outputs(job, planes, sums, o, n, 2);
        else
            few_outputs(job, planes, sums, o, n, 3);
    }
}

const bn_ternary_kernels bn_ternary__avx2 = {
    .tile_rows = ROWS,
    .pack_panel = bn_ternary_pack_panel__avx2,
    .group_sums = bn_ternary_group_sums__avx2,
    .tile = tile,
    .few_rows = FEW_ROWS,
    .few = bn_ternary_few__avx2,
    .lanes_rows = BN_LANES_ROWS_AVX2,
    .lanes = bn_ternary_lanes__avx2,
    .wide = bn_wide_product__avx2,
};
