/* c_header_runtime.h - the inference routine of an exported MLP.
 *
 * bitnet-export copies the sections below (one of the two activations) into the
 * C headers it writes, with bn_mcu_ replaced by the model's own name, and runs
 * them itself to prove a header right. So they are C99 (and C++) without
 * anything of this project or of an operating system: no heap, <math.h> and
 * <stdint.h> alone. Before SiLU goes src/base/mathf.h.
 *
 * Every sum has the order of the CPU backend (src/cpu/fast/row_norm.c,
 * docs/numerics.md): the results have the same bits wherever float is IEEE
 * binary32 without excess precision and no multiply and add are fused unasked.
 */
#ifndef BN_TOOLS_C_HEADER_RUNTIME_H
#define BN_TOOLS_C_HEADER_RUNTIME_H

#include "base/mathf.h"

/* ---- routine ---- */
#include <math.h>
#include <stdint.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

/* One layer: y = W q(norm(x)) + bias, W [out, in] of codes times scales. Four
 * codes per byte, the first in the low bits, stored as code + 1; rows start at
 * a byte. */
typedef struct bn_mcu_layer {
    int32_t in, out;
    int32_t group;        /* columns that share a scale */
    int32_t scale_stride; /* scales per row; 0: one for the whole layer */
    const float *norm;    /* [in] */
    const uint8_t *codes; /* [out][(in + 3) / 4] */
    const float *scale;   /* [out][scale_stride] or [1] */
    const float *bias;    /* [out] */
} bn_mcu_layer;

/* Sum of squares: 16 running sums, added up in pairs. */
static float bn_mcu_sum_squares(int32_t n, const float *x)
{
    float lane[16] = {0};
    for (int32_t i = 0; i < n; i++) {
        const float square = x[i] * x[i];
        lane[i % 16] += square;
    }
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

/* RMSNorm: y = weight x / sqrt(mean(x^2) + eps); y may be x. */
static void bn_mcu_normalize(int32_t n, const float *x, const float *weight, double eps, float *y)
{
    const double mean = (double)bn_mcu_sum_squares(n, x) / (double)n;
    const float factor = (float)(1.0 / sqrt(mean + eps));
    for (int32_t i = 0; i < n; i++)
        y[i] = x[i] * factor * weight[i];
}

/* x to integers -127 .. 127 times the step that is returned. A NaN or infinity
 * in x shows in the step. */
static float bn_mcu_quantize(int32_t n, const float *x, int8_t *codes)
{
    float largest = 1e-5f;
    for (int32_t i = 0; i < n; i++) {
        const float size = fabsf(x[i]);
        if (size > largest || size != size)
            largest = size;
    }
    const float factor = 127.0f / largest;
    for (int32_t i = 0; i < n; i++) {
        const float scaled = x[i] * factor;
        codes[i] = (int8_t)(scaled == scaled ? rintf(scaled) : 0.0f);
    }
    return largest / 127.0f;
}

/* Sum of weight code times input over columns from .. to-1 of a row. */
static int32_t bn_mcu_dot(const uint8_t *row, const int8_t *x, int32_t from, int32_t to)
{
    int32_t sum = 0;
    for (int32_t i = from; i < to; i++)
        sum += ((row[i / 4] >> (i % 4 * 2) & 3) - 1) * (int32_t)x[i];
    return sum;
}

/* y = W codes step + bias */
static void bn_mcu_product(const bn_mcu_layer *layer, const int8_t *codes, float step, float *y)
{
    const int32_t row_bytes = (layer->in + 3) / 4;
    for (int32_t o = 0; o < layer->out; o++) {
        const float *scale = layer->scale + o * layer->scale_stride;
        float sum = 0.0f;
        for (int32_t from = 0; from < layer->in; from += layer->group) {
            const int32_t to = layer->in - from < layer->group ? layer->in : from + layer->group;
            const int32_t dot = bn_mcu_dot(layer->codes + o * row_bytes, codes, from, to);
            sum = fmaf((float)dot, *scale++, sum);
        }
        sum *= step;
        y[o] = sum + layer->bias[o];
    }
}

/* One layer, from x [in] to y [out]. work [in] and y may be the same memory,
 * and either may be x. */
static void bn_mcu_run_layer(const bn_mcu_layer *layer, double eps, const float *x, float *work,
                             int8_t *codes, float *y)
{
    bn_mcu_normalize(layer->in, x, layer->norm, eps, work);
    bn_mcu_product(layer, codes, bn_mcu_quantize(layer->in, work, codes), y);
}

/* Index of the largest of n values, the first of equal ones. */
static int32_t bn_mcu_largest(int32_t n, const float *x)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

/* All layers, with the activation between them: input to logits; returns the
 * class. x has room for the widest layer's input or output, codes for its
 * input. */
static int32_t bn_mcu_run(const bn_mcu_layer *layers, int32_t count, double eps,
                          void (*activate)(int32_t n, float *x), const float *input, float *logits,
                          float *x, int8_t *codes)
{
    for (int32_t i = 0; i + 1 < count; i++) {
        bn_mcu_run_layer(&layers[i], eps, i ? x : input, x, codes, x);
        activate(layers[i].out, x);
    }
    bn_mcu_run_layer(&layers[count - 1], eps, count > 1 ? x : input, x, codes, logits);
    return bn_mcu_largest(layers[count - 1].out, logits);
}

/* ---- relu2 ---- */
/* max(x, 0)^2 */
static void bn_mcu_relu2(int32_t n, float *x)
{
    for (int32_t i = 0; i < n; i++)
        x[i] = x[i] < 0.0f ? 0.0f : x[i] * x[i];
}

/* ---- silu ---- */
/* x / (1 + e^-x) */
static void bn_mcu_silu(int32_t n, float *x)
{
    for (int32_t i = 0; i < n; i++)
        x[i] *= 1.0f / (1.0f + bn_expf(-x[i]));
}

/* ---- end ---- */

#endif
