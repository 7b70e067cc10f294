/* The quantizers of quant/quantize.h: the same bits, on vectors. */
#include "cpu/fast/row_impl.h"

#include <math.h>

#include "base/mathf.h"
#include "quant/quantize.h"

/* Bits of |x| order as |x| does, with NaN above infinity, so the integer
 * maximum is max|x|, and a NaN if there is one. */
float FAST(bn_row_absmax)(int64_t n, const float *x)
{
    const vi magnitude = (vi){0} + 0x7fffffff;
    vi acc[NV] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int u = 0; u < NV; u++) {
            vi v = (vi)vf_load(x + i + u * VW) & magnitude;
            vi more = v > acc[u];
            acc[u] = (v & more) | (acc[u] & ~more);
        }
    int32_t lane[LANES];
    __builtin_memcpy(lane, acc, sizeof lane);
    int32_t max = 0;
    for (int l = 0; l < LANES; l++)
        max = lane[l] > max ? lane[l] : max;
    for (; i < n; i++) {
        int32_t v = (int32_t)(bn_float_bits(x[i]) & 0x7fffffffu);
        max = v > max ? v : max;
    }
    return bn_bits_float((uint32_t)max);
}

/* clamp(rne(x * (L/a))), NaN products give 0. |x| <= a, so the product is at
 * most L after rounding and its code is the low byte of product + 1.5 2^23. */
void FAST(bn_row_act_codes)(int64_t n, const float *restrict x, float absmax, int bits,
                            int8_t *restrict codes)
{
    const float factor = (float)bn_act_limit(bits) / absmax;
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] * factor;
        v = v == v ? v : 0.0f;
        codes[i] = (int8_t)(uint8_t)bn_float_bits(v + 0x1.8p23f);
    }
}

/* rne(x * factor), NaN gives 0. |x * factor| <= 32767 after rounding, so the code
 * is the low half of the product + 1.5 2^23. */
void FAST(bn_row_codes16)(int64_t n, const float *restrict x, float factor,
                          int16_t *restrict codes)
{
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] * factor;
        v = v == v ? v : 0.0f;
        codes[i] = (int16_t)(uint16_t)bn_float_bits(v + 0x1.8p23f);
    }
}

/* Eight partial sums in double, lane = index mod 8 (quant/quantize.h). */
double FAST(bn_row_abs_sum)(int64_t n, const float *w)
{
    const vl magnitude = (vl){0} + INT64_MAX;
    vd acc[ND] = {0};
    int64_t i = 0;
    for (; i + DLANES <= n; i += DLANES)
        for (int u = 0; u < ND; u++)
            acc[u] += (vd)((vl)vd_load_floats(w + i + u * DW) & magnitude);
    double lane[DLANES];
    __builtin_memcpy(lane, acc, sizeof lane);
    for (int l = 0; i + l < n; l++)
        lane[l] += (double)fabsf(w[i + l]);
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

enum { CODE_BLOCK = 512 }; /* codes at once; a multiple of 4 */

/* rne(v) is 1 above 0.5 (which rounds to even, 0), -1 below -0.5, else 0. */
void FAST(bn_row_ternarize)(int64_t in, int64_t group, const float *restrict w, const float *scale,
                            int64_t scale_stride, uint8_t *restrict packed)
{
    uint8_t field[CODE_BLOCK];
    for (int64_t k0 = 0; k0 < in; k0 += CODE_BLOCK) {
        int64_t end = in - k0 < CODE_BLOCK ? in : k0 + CODE_BLOCK;
        for (int64_t k = k0; k < end;) {
            int64_t g = k / group;
            int64_t stop = (g + 1) * group < end ? (g + 1) * group : end;
            float inverse = 1.0f / scale[g * scale_stride];
            for (int64_t i = k; i < stop; i++) {
                float v = w[i] * inverse;
                field[i - k0] = (uint8_t)(1 + (v > 0.5f) - (v < -0.5f));
            }
            k = stop;
        }
        int64_t bytes = (end - k0 + 3) / 4;
        for (int64_t i = end - k0; i < bytes * 4; i++)
            field[i] = 1;
        for (int64_t j = 0; j < bytes; j++) {
            uint32_t four;
            memcpy(&four, field + 4 * j, sizeof four);
            packed[k0 / 4 + j] = (uint8_t)(four | four >> 6 | four >> 12 | four >> 18);
        }
    }
}

void FAST(bn_row_dequantize)(int64_t in, int64_t group, const uint8_t *restrict packed,
                             const float *scale, int64_t scale_stride, float *restrict w)
{
    float code[CODE_BLOCK];
    for (int64_t k0 = 0; k0 < in; k0 += CODE_BLOCK) {
        int64_t end = in - k0 < CODE_BLOCK ? in : k0 + CODE_BLOCK;
        int64_t bytes = (end - k0 + 3) / 4;
        for (int64_t j = 0; j < bytes; j++)
            for (int64_t l = 0; l < 4; l++)
                code[4 * j + l] = (float)(((packed[k0 / 4 + j] >> (2 * l)) & 3) - 1);
        for (int64_t k = k0; k < end;) {
            int64_t g = k / group;
            int64_t stop = (g + 1) * group < end ? (g + 1) * group : end;
            float gamma = scale[g * scale_stride];
            for (int64_t i = k; i < stop; i++)
                w[i] = code[i - k0] * gamma;
            k = stop;
        }
    }
}

void FAST(bn_row_dequantize_codes)(int64_t n, const int8_t *restrict codes, float step,
                                   float *restrict x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)codes[i] * step;
}
