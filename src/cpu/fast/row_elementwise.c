/* Elementwise kernels. */
#include "cpu/fast/row_impl.h"

#include <math.h>

#include "base/mathf.h"

BN_INLINE float sigmoid(float x)
{
    return 1.0f / (1.0f + bn_expf(-x));
}

BN_INLINE float silu(float x)
{
    return x * sigmoid(x);
}

/* sigmoid(x) (1 + x (1 - sigmoid(x))) */
BN_INLINE float silu_slope(float x)
{
    float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

/* max(x,0), and NaN for NaN */
BN_INLINE float relu(float x)
{
    return x < 0.0f ? 0.0f : x;
}

BN_INLINE float relu2(float x)
{
    float r = relu(x);
    return r * r;
}

void FAST(bn_row_add)(int64_t n, const float *a, const float *b, float *y)
{
    VECTOR_LOOP
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

void FAST(bn_row_copy_add)(int64_t n, const float *dy, float *d, bool add)
{
    if (add) {
        VECTOR_LOOP
        for (int64_t i = 0; i < n; i++)
            d[i] += dy[i];
    } else if (d != dy) {
        VECTOR_LOOP
        for (int64_t i = 0; i < n; i++)
            d[i] = dy[i];
    }
}

void FAST(bn_row_mul)(int64_t n, const float *a, const float *b, float *y)
{
    VECTOR_LOOP
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] * b[i];
}

/* d = dy a */
void FAST(bn_row_mul_backward)(int64_t n, const float *a, const float *dy, float *d, bool add)
{
    if (add) {
        VECTOR_LOOP
        for (int64_t i = 0; i < n; i++)
            d[i] += dy[i] * a[i];
    } else {
        FAST(bn_row_mul)(n, a, dy, d);
    }
}

void FAST(bn_row_silu)(int64_t n, const float *x, float *y)
{
    VECTOR_LOOP
    for (int64_t i = 0; i < n; i++)
        y[i] = silu(x[i]);
}

void FAST(bn_row_silu_backward)(int64_t n, const float *x, const float *dy, float *dx, bool add)
{
    if (add) {
        VECTOR_LOOP
        for (int64_t i = 0; i < n; i++)
            dx[i] += dy[i] * silu_slope(x[i]);
    } else {
        VECTOR_LOOP
        for (int64_t i = 0; i < n; i++)
            dx[i] = dy[i] * silu_slope(x[i]);
    }
}

void FAST(bn_row_relu2)(int64_t n, const float *x, float *y)
{
    VECTOR_LOOP
    for (int64_t i = 0; i < n; i++)
        y[i] = relu2(x[i]);
}

void FAST(bn_row_relu2_backward)(int64_t n, const float *x, const float *dy, float *dx, bool add)
{
    if (add) {
        VECTOR_LOOP
        for (int64_t i = 0; i < n; i++)
            dx[i] += dy[i] * (2.0f * relu(x[i]));
    } else {
        VECTOR_LOOP
        for (int64_t i = 0; i < n; i++)
            dx[i] = dy[i] * (2.0f * relu(x[i]));
    }
}

void FAST(bn_row_silu_glu)(int64_t n, const float *gate, const float *up, float *y)
{
    VECTOR_LOOP
    for (int64_t i = 0; i < n; i++)
        y[i] = silu(gate[i]) * up[i];
}

void FAST(bn_row_relu2_glu)(int64_t n, const float *gate, const float *up, float *y)
{
    VECTOR_LOOP
    for (int64_t i = 0; i < n; i++)
        y[i] = relu2(gate[i]) * up[i];
}

/* dgate = dy up act'(gate), dup = dy act(gate), a block at a time: both are
 * worked out before either is written, because dgate may be gate's or dy's
 * memory and dup up's. */
enum { GLU_BLOCK = 256 };

BN_INLINE void glu_block(int64_t n, const float *gate, const float *up, const float *dy,
                         float *dgate, float *dup, bool is_silu)
{
    if (is_silu) {
        VECTOR_LOOP
        for (int64_t i = 0; i < n; i++) {
            float s = sigmoid(gate[i]);
            dgate[i] = dy[i] * up[i] * (s * (1.0f + gate[i] * (1.0f - s)));
            dup[i] = dy[i] * (gate[i] * s);
        }
    } else {
        VECTOR_LOOP
        for (int64_t i = 0; i < n; i++) {
            float r = relu(gate[i]);
            dgate[i] = dy[i] * up[i] * (2.0f * r);
            dup[i] = dy[i] * (r * r);
        }
    }
}

BN_INLINE void glu_backward(int64_t n, const float *gate, const float *up, const float *dy,
                            float *dgate, float *dup, const bool *add, bool is_silu)
{
    float g[GLU_BLOCK], u[GLU_BLOCK];
    for (int64_t i = 0; i < n; i += GLU_BLOCK) {
        int64_t m = n - i < GLU_BLOCK ? n - i : GLU_BLOCK;
        glu_block(m, gate + i, up + i, dy + i, g, u, is_silu);
        if (dgate)
            FAST(bn_row_copy_add)(m, g, dgate + i, add[0]);
        if (dup)
            FAST(bn_row_copy_add)(m, u, dup + i, add[1]);
    }
}

void FAST(bn_row_silu_glu_backward)(int64_t n, const float *gate, const float *up, const float *dy,
                                    float *dgate, float *dup, const bool *add)
{
    glu_backward(n, gate, up, dy, dgate, dup, add, true);
}

void FAST(bn_row_relu2_glu_backward)(int64_t n, const float *gate, const float *up, const float *dy,
                                     float *dgate, float *dup, const bool *add)
{
    glu_backward(n, gate, up, dy, dgate, dup, add, false);
}

/* x [heads, head_dim]; table: head_dim/2 cosines, then head_dim/2 sines. Pair
 * (j, j + head_dim/2) turns by its angle times `sign`. */
void FAST(bn_row_rope)(int64_t heads, int64_t head_dim, const float *table, float sign,
                       const float *x, float *y, bool add)
{
    int64_t half = head_dim / 2;
    for (int64_t h = 0; h < heads; h++) {
        const float *lo = x + h * head_dim, *hi = lo + half;
        float *y_lo = y + h * head_dim, *y_hi = y_lo + half;
        if (add) {
            VECTOR_LOOP
            for (int64_t j = 0; j < half; j++) {
                float c = table[j], s = sign * table[half + j], a = lo[j], b = hi[j];
                y_lo[j] += a * c - b * s;
                y_hi[j] += b * c + a * s;
            }
        } else {
            VECTOR_LOOP
            for (int64_t j = 0; j < half; j++) {
                float c = table[j], s = sign * table[half + j], a = lo[j], b = hi[j];
                y_lo[j] = a * c - b * s;
                y_hi[j] = b * c + a * s;
            }
        }
    }
}

typedef float v4 __attribute__((vector_size(16)));
typedef float v4_any __attribute__((vector_size(16), aligned(4), may_alias));

/* t[i * ld_t + j] = x[j * ld_x + i] for i, j = 0..3. */
BN_INLINE void transpose_4x4(const float *x, int64_t ld_x, float *t, int64_t ld_t)
{
    v4 r[4], s[4];
    for (int i = 0; i < 4; i++)
        r[i] = *(const v4_any *)(x + i * ld_x);
    for (int i = 0; i < 2; i++) {
        s[i] = __builtin_shufflevector(r[i], r[i + 2], 0, 4, 1, 5);
        s[i + 2] = __builtin_shufflevector(r[i], r[i + 2], 2, 6, 3, 7);
    }
    for (int i = 0; i < 2; i++) {
        *(v4_any *)(t + 2 * i * ld_t) = __builtin_shufflevector(s[2 * i], s[2 * i + 1], 0, 4, 1, 5);
        *(v4_any *)(t + (2 * i + 1) * ld_t) =
            __builtin_shufflevector(s[2 * i], s[2 * i + 1], 2, 6, 3, 7);
    }
}

void FAST(bn_row_transpose)(int64_t rows, int64_t cols, const float *restrict x, int64_t ld_x,
                            float *restrict t, int64_t ld_t)
{
    const int64_t rows4 = rows & ~(int64_t)3, cols4 = cols & ~(int64_t)3;
    for (int64_t r = 0; r < rows4; r += 4)
        for (int64_t c = 0; c < cols4; c += 4)
            transpose_4x4(x + r * ld_x + c, ld_x, t + c * ld_t + r, ld_t);
    for (int64_t c = 0; c < cols; c++)
        for (int64_t r = c < cols4 ? rows4 : 0; r < rows; r++)
            t[c * ld_t + r] = x[r * ld_x + c];
}

void FAST(bn_row_scale)(int64_t n, double factor, float *x)
{
    VECTOR_LOOP
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] * factor);
}

double FAST(bn_row_sum_squares)(int64_t n, const float *x)
{
    vd acc[ND] = {0};
    int64_t i = 0;
    for (; i + DLANES <= n; i += DLANES)
        for (int u = 0; u < ND; u++) {
            vd v = vd_load_floats(x + i + u * DW);
            acc[u] += v * v;
        }
    double lane[DLANES];
    __builtin_memcpy(lane, acc, sizeof lane);
    for (int l = 0; i + l < n; l++)
        lane[l] += (double)x[i + l] * (double)x[i + l];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

void FAST(bn_row_adamw)(int64_t n, const bn_adamw_scalars *s, const float *grad, float *param,
                        float *m, float *v)
{
    const bn_adamw_scalars k = *s;
    VECTOR_LOOP
    for (int64_t i = 0; i < n; i++) {
        float g = k.clip * grad[i], p = param[i];
        float mean = k.beta1 * m[i] + k.one_beta1 * g;
        float square = k.beta2 * v[i] + k.one_beta2 * (g * g);
        m[i] = mean;
        v[i] = square;
        p -= k.decay * p;
        param[i] = p - k.rate * (mean / (sqrtf(square) / k.root + k.eps));
    }
}

void FAST(bn_row_sgd)(int64_t n, const bn_sgd_scalars *s, const float *grad, float *param, float *m)
{
    const bn_sgd_scalars k = *s;
    VECTOR_LOOP
    for (int64_t i = 0; i < n; i++) {
        const float p = param[i], g = k.clip * grad[i] + k.decay * p;
        const float momentum = k.momentum * m[i] + g;
        m[i] = momentum;
        param[i] = p - k.rate * (k.grad_share * g + k.momentum_share * momentum);
    }
}
