/* The integer product with NEON, compiled twice: for every ARMv8 CPU ("neon")
 * and for those with the dot product instructions of ARMv8.2 ("neondot").
 * Layouts and the sums are those of fast/ternary.h; a vector of 16 bytes holds
 * four k of four outputs.
 *
 * Without dot products, vmull multiplies to int16 (|product| <= 2 * 128, or 128^2
 * for an int8 weight), pairs are added there for ternary weights and all go on to
 * int32, so everything is exact. */
#include <arm_neon.h>
#include <string.h>

#include "cpu/fast/ternary.h"
#include "quant/pack.h"

#define NAME_(name, isa) name##__##isa
#define NAME(name, isa)  NAME_(name, isa)
#define NEON(name)       NAME(name, BN_ISA)
#define INLINE           static inline __attribute__((always_inline))

enum {
    ROWS = 6,       /* of x in a tile: 24 accumulators of four outputs */
    QUARTERS = 4,   /* vectors of four outputs in a panel */
    LANES = 8,      /* outputs in a panel of a weight in lanes */
    LANES_ROWS = 4, /* rows of x that share the unpacked fields */
    VECTOR_CODES = 16,
    VECTOR_BYTES = 32,
};

/* acc += for each of four outputs the product of its four weights (0..2) with
 * four of x. */
INLINE int32x4_t add_quad(int32x4_t acc, int8x16_t w, int8x16_t x)
{
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(acc, w, x);
#else
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    return vpadalq_s16(acc, vpaddq_s16(low, vmull_high_s8(w, x)));
#endif
}

INLINE int8x16_t four_of_x(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* Field f (a constant) of 16 packed bytes. */
#define FIELD(w, f)                                                                                \
    vreinterpretq_s8_u8((f) == 0   ? vandq_u8((w), vdupq_n_u8(3))                                  \
                        : (f) == 3 ? vshrq_n_u8((w), 6)                                            \
                                   : vandq_u8(vshrq_n_u8((w), (f) == 1 ? 2 : 4), vdupq_n_u8(3)))

/* ---- panels ---------------------------------------------------------------- */

/* Panels from a weight in lanes (ternary.h): k-quad 4v + f is field f of vector
 * v. Past the last output: the first half again. */
static void pack_lanes(const bn_ternary_job *job, int64_t p, uint8_t *panel, float *gamma)
{
    const int64_t ld_w = LANES * job->shape.in / 4, halves = job->shape.out / LANES;
    for (int h = 0; h < 2; h++) {
        const int64_t half = 2 * p + h < halves ? 2 * p + h : 2 * p;
        const uint8_t *w = job->shape.packed + half * ld_w;
        for (int64_t v = 0; v < job->shape.in / VECTOR_CODES; v++)
            for (int q = 0; q < 2; q++) {
                const uint8x16_t fields = vld1q_u8(w + VECTOR_BYTES * v + 16 * q);
                int8_t *to = (int8_t *)panel + 256 * v + 32 * h + 16 * q;
                vst1q_s8(to, FIELD(fields, 0));
                vst1q_s8(to + 64, FIELD(fields, 1));
                vst1q_s8(to + 128, FIELD(fields, 2));
                vst1q_s8(to + 192, FIELD(fields, 3));
            }
        for (int64_t g = 0; g < job->groups; g++)
            for (int c = 0; c < LANES; c++)
                gamma[g * BN_PANEL_COLS + LANES * h + c] =
                    job->scale[bn_ternary_gamma(job, half * LANES + c, g)];
    }
}

static void pack_rows(const bn_ternary_job *job, int64_t p, uint8_t *panel, float *gamma)
{
    const int64_t in = job->shape.in, last = job->shape.out - 1;
    memset(panel, 0, (size_t)job->quads * 64);
    for (int64_t c = 0; c < BN_PANEL_COLS; c++) { /* past the last output: that one again */
        const int64_t o = p * BN_PANEL_COLS + c < last ? p * BN_PANEL_COLS + c : last;
        const uint8_t *row = job->shape.packed + o * bn_t2_row_bytes(in);
        for (int64_t g = 0, k = 0; g < job->groups; g++) {
            const int64_t begin = k, end = in - k < job->group ? in : k + job->group;
            uint8_t *to = panel + g * job->group_quads * 64 + 4 * c;
            for (; k < end; k++)
                to[(k - begin) / 4 * 64 + (k - begin) % 4] = (uint8_t)(bn_t2_get(row, k) + 1);
            gamma[g * BN_PANEL_COLS + c] = job->scale[bn_ternary_gamma(job, o, g)];
        }
    }
}

static void pack_panel(const bn_ternary_job *job, int64_t p, uint8_t *panel)
{
    float *gamma = (float *)(void *)(panel + (size_t)job->quads * 64);
    if (job->lanes)
        pack_lanes(job, p, panel, gamma);
    else
        pack_rows(job, p, panel, gamma);
}

static void group_sums(const bn_ternary_job *job, const int8_t *x, int32_t *sum)
{
    for (int64_t g = 0, k = 0; g < job->groups; g++) {
        const int64_t end = job->shape.in - k < job->group ? job->shape.in : k + job->group;
        int32x4_t acc = vdupq_n_s32(0);
        for (; k + 16 <= end; k += 16)
            acc = vpadalq_s16(acc, vpaddlq_s8(vld1q_s8(x + k)));
        int32_t s = vaddvq_s32(acc);
        for (; k < end; k++)
            s += x[k];
        sum[g] = s;
    }
}

static void tile(const bn_ternary_job *job, const int8_t *x, int64_t ld_x, const int32_t *sums,
                 const float *steps, const uint8_t *panel, float *t)
{
    const float *gamma = (const float *)(const void *)(panel + (size_t)job->quads * 64);
    memset(t, 0, ROWS * BN_PANEL_COLS * sizeof *t);
    for (int64_t g = 0; g < job->groups; g++, gamma += BN_PANEL_COLS) {
        const int64_t quads = bn_ternary_quads_of(job, g);
        int32x4_t acc[ROWS][QUARTERS];
        for (int r = 0; r < ROWS; r++)
            for (int q = 0; q < QUARTERS; q++)
                acc[r][q] = vdupq_n_s32(-sums[r * job->groups + g]);
        for (int64_t i = 0; i < quads; i++, panel += 64, x += 4) {
            int8x16_t w[QUARTERS];
            for (int q = 0; q < QUARTERS; q++)
                w[q] = vreinterpretq_s8_u8(vld1q_u8(panel + 16 * q));
            for (int r = 0; r < ROWS; r++) {
                const int8x16_t four = four_of_x(x + r * ld_x);
                for (int q = 0; q < QUARTERS; q++)
                    acc[r][q] = add_quad(acc[r][q], w[q], four);
            }
        }
        for (int r = 0; r < ROWS; r++)
            for (int q = 0; q < QUARTERS; q++) {
                float *to = t + r * BN_PANEL_COLS + 4 * q;
                const float step = steps ? steps[r * job->groups + g] : 1.0f;
                vst1q_f32(to, vfmaq_f32(vld1q_f32(to), vcvtq_f32_s32(acc[r][q]),
                                        vmulq_n_f32(vld1q_f32(gamma + 4 * q), step)));
            }
    }
}

/* ---- few rows -------------------------------------------------------------- */

/* `rows` rows of x and the 8 outputs of one panel in lanes. */
INLINE void lanes_panel(const bn_ternary_job *job, const int32_t *sums, int rows, int64_t panel)
{
    const int64_t in = job->shape.in;
    const uint8_t *w = job->shape.packed + panel * LANES * in / 4;
    const bool one_scale = job->shape.group_size == BN_PER_TENSOR;
    float32x4_t t[LANES_ROWS][2];
    for (int r = 0; r < rows; r++)
        t[r][0] = t[r][1] = vdupq_n_f32(0);
    for (int64_t g = 0, k = 0; g < job->groups; g++) {
        const int64_t end = in - k < job->group ? in : k + job->group;
        int32x4_t acc[LANES_ROWS][2];
        for (int r = 0; r < rows; r++)
            acc[r][0] = acc[r][1] = vdupq_n_s32(-sums[r * job->groups + g]);
        for (; k < end; k += VECTOR_CODES, w += VECTOR_BYTES)
            for (int q = 0; q < 2; q++) {
                const uint8x16_t packed = vld1q_u8(w + 16 * q);
                const int8x16_t field[4] = {FIELD(packed, 0), FIELD(packed, 1), FIELD(packed, 2),
                                            FIELD(packed, 3)};
                for (int r = 0; r < rows; r++)
                    for (int f = 0; f < 4; f++)
                        acc[r][q] = add_quad(acc[r][q], field[f],
                                             four_of_x(job->shape.x + r * in + k + 4 * f));
            }
        const float *at = job->scale + (panel * job->groups + g) * LANES;
        for (int q = 0; q < 2; q++) {
            const float32x4_t gamma =
                one_scale ? vdupq_n_f32(job->scale[0]) : vld1q_f32(at + 4 * q);
            for (int r = 0; r < rows; r++)
                t[r][q] = vfmaq_f32(t[r][q], vcvtq_f32_s32(acc[r][q]), gamma);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < 2; q++) {
            const int64_t o = panel * LANES + 4 * q;
            float32x4_t y = vmulq_n_f32(t[r][q], job->step[job->shape.per_tensor_step ? 0 : r]);
            if (job->bias)
                y = vaddq_f32(y, vld1q_f32(job->bias + o));
            vst1q_f32(job->y + r * job->shape.out + o, y);
        }
}

static void lanes(const bn_ternary_job *job, const int32_t *sums, int64_t out0, int64_t out1)
{
    for (int64_t panel = out0 / LANES; panel < out1 / LANES; panel++) {
        if (job->shape.rows == 1)
            lanes_panel(job, sums, 1, panel);
        else if (job->shape.rows == 2)
            lanes_panel(job, sums, 2, panel);
        else if (job->shape.rows == 3)
            lanes_panel(job, sums, 3, panel);
        else
            lanes_panel(job, sums, 4, panel);
    }
}

/* ---- an int8 weight --------------------------------------------------------- */

/* Products of int8 with int8 fill an int16; two would not fit. */
INLINE int32x4_t add_wide(int32x4_t acc, int8x16_t w, int8x16_t x)
{
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(acc, w, x);
#else
    acc = vpadalq_s16(acc, vmull_s8(vget_low_s8(w), vget_low_s8(x)));
    return vpadalq_s16(acc, vmull_high_s8(w, x));
#endif
}

static int32_t wide_dot(const int8_t *w, const int8_t *x, int64_t n)
{
    int32x4_t acc = vdupq_n_s32(0);
    int64_t k = 0;
    for (; k + 16 <= n; k += 16)
        acc = add_wide(acc, vld1q_s8(w + k), vld1q_s8(x + k));
    int32_t sum = vaddvq_s32(acc);
    for (; k < n; k++)
        sum += w[k] * x[k];
    return sum;
}

static void wide(const bn_ternary_job *job, int64_t out0, int64_t out1)
{
    const bn_int_product *p = &job->shape;
    for (int64_t o = out0; o < out1; o++)
        for (int64_t r = 0; r < p->rows; r++) {
            float t = 0;
            for (int64_t g = 0, k = 0; g < job->groups; g++, k += job->group) {
                const int64_t n = p->in - k < job->group ? p->in - k : job->group;
                const int32_t acc = wide_dot(p->wide + o * p->in + k, p->x + r * p->in + k, n);
                t = __builtin_fmaf((float)acc,
                                   job->scale[bn_scale_index(o, g, p->in, p->group_size)], t);
            }
            const float y = t * job->step[p->per_tensor_step ? 0 : r];
            job->y[r * p->out + o] = job->bias ? y + job->bias[o] : y;
        }
}

const bn_ternary_kernels NEON(bn_ternary) = {
    .tile_rows = ROWS,
    .pack_panel = pack_panel,
    .group_sums = group_sums,
    .tile = tile,
    .lanes_rows = LANES_ROWS,
    .lanes = lanes,
    .wide = wide,
};
