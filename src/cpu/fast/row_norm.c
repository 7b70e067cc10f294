/* RMSNorm, softmax, cross-entropy and column sums on rows. */
#include "cpu/fast/row_impl.h"

#include <math.h>

#include "base/mathf.h"

/* Sum of a[i] b[i] (with b NULL: of a[i]) over LANES partial sums. */
BN_INLINE float dot_lanes(int64_t n, const float *a, const float *b)
{
    vf acc[NV] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int u = 0; u < NV; u++) {
            vf v = vf_load(a + i + u * VW);
            acc[u] += b ? v * vf_load(b + i + u * VW) : v;
        }
    float lane[LANES];
    __builtin_memcpy(lane, acc, sizeof lane);
    for (int l = 0; i + l < n; l++)
        lane[l] += b ? a[i + l] * b[i + l] : a[i + l];
    return lanes_sum(lane);
}

/* y = x rstd weight, rstd = 1 / sqrt(mean(x^2) + eps) */
void FAST(bn_row_rmsnorm)(int64_t rows, int64_t cols, double eps, const float *restrict x,
                          const float *restrict weight, float *restrict y, float *rstd)
{
    for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
        double mean = (double)dot_lanes(cols, x, x) / (double)cols;
        float scale = (float)(1.0 / sqrt(mean + eps));
        rstd[r] = scale;
        for (int64_t i = 0; i < cols; i++)
            y[i] = x[i] * scale * weight[i];
    }
}

/* Sum over i of dy w x, in double. */
BN_INLINE double dot3_lanes(int64_t n, const float *a, const float *b, const float *c)
{
    vd acc[ND] = {0};
    int64_t i = 0;
    for (; i + DLANES <= n; i += DLANES)
        for (int u = 0; u < ND; u++)
            acc[u] += vd_load_floats(a + i + u * DW) * vd_load_floats(b + i + u * DW) *
                      vd_load_floats(c + i + u * DW);
    double lane[DLANES];
    __builtin_memcpy(lane, acc, sizeof lane);
    for (int l = 0; i + l < n; l++)
        lane[l] += (double)a[i + l] * (double)b[i + l] * (double)c[i + l];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* dx = rstd (dy w - x rstd^2 mean(dy w x)), in double because the difference
 * may cancel; dweight += sum of dy x rstd */
void FAST(bn_row_rmsnorm_backward)(int64_t rows, int64_t cols, const float *restrict x,
                                   const float *restrict weight, const float *rstd,
                                   const float *restrict dy, float *restrict dx, bool add,
                                   float *restrict dweight)
{
    for (int64_t r = 0; r < rows; r++, x += cols, dy += cols) {
        double s = (double)rstd[r];
        if (dx) {
            double back = s * s * s * (dot3_lanes(cols, dy, weight, x) / (double)cols);
            if (add)
                for (int64_t i = 0; i < cols; i++)
                    dx[i] += (float)(s * ((double)weight[i] * (double)dy[i]) - (double)x[i] * back);
            else
                for (int64_t i = 0; i < cols; i++)
                    dx[i] = (float)(s * ((double)weight[i] * (double)dy[i]) - (double)x[i] * back);
            dx += cols;
        }
        if (dweight)
            for (int64_t i = 0; i < cols; i++)
                dweight[i] += dy[i] * (x[i] * rstd[r]);
    }
}

/* Largest of n values, or one that compares false with all (NaN). */
BN_INLINE float row_max(int64_t n, const float *x)
{
    vf acc[NV];
    float lane[LANES];
    int64_t i = 0;
    for (int u = 0; u < NV; u++)
        acc[u] = (vf){0} - INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int u = 0; u < NV; u++) {
            vf v = vf_load(x + i + u * VW);
            vi more = v > acc[u];
            acc[u] = (vf)(((vi)v & more) | ((vi)acc[u] & ~more));
        }
    __builtin_memcpy(lane, acc, sizeof lane);
    for (int l = 0; i + l < n; l++)
        lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    float max = lane[0];
    for (int l = 1; l < LANES; l++)
        max = lane[l] > max ? lane[l] : max;
    return max;
}

/* y = exp(x - max(x)) / sum */
void FAST(bn_row_softmax)(int64_t rows, int64_t cols, const float *restrict x, float *restrict y)
{
    for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
        float max = row_max(cols, x);
        for (int64_t i = 0; i < cols; i++)
            y[i] = bn_expf(x[i] - max);
        float inverse = 1.0f / dot_lanes(cols, y, NULL);
        for (int64_t i = 0; i < cols; i++)
            y[i] *= inverse;
    }
}

/* dx = y (dy - sum(dy y)) */
void FAST(bn_row_softmax_backward)(int64_t rows, int64_t cols, const float *restrict y,
                                   const float *restrict dy, float *restrict dx, bool add)
{
    for (int64_t r = 0; r < rows; r++, y += cols, dy += cols, dx += cols) {
        float dot = dot_lanes(cols, y, dy);
        if (add)
            for (int64_t i = 0; i < cols; i++)
                dx[i] += y[i] * (dy[i] - dot);
        else
            for (int64_t i = 0; i < cols; i++)
                dx[i] = y[i] * (dy[i] - dot);
    }
}

/* lse = max + log(sum(exp(x - max))), the exponentials a block at a time */
void FAST(bn_row_log_sum_exp)(int64_t rows, int64_t cols, const float *x, float *lse)
{
    enum { BLOCK = 256 };
    float e[BLOCK];
    for (int64_t r = 0; r < rows; r++, x += cols) {
        float max = row_max(cols, x);
        double sum = 0;
        for (int64_t i = 0; i < cols; i += BLOCK) {
            int64_t n = cols - i < BLOCK ? cols - i : BLOCK;
            for (int64_t j = 0; j < n; j++)
                e[j] = bn_expf(x[i + j] - max);
            sum += (double)dot_lanes(n, e, NULL);
        }
        lse[r] = (float)((double)max + log(sum));
    }
}

void FAST(bn_row_cross_entropy_backward)(int64_t rows, int64_t cols, const float *x,
                                         const float *lse, const int32_t *label,
                                         int32_t ignore_index, float factor, float *dx, bool add)
{
    for (int64_t r = 0; r < rows; r++, x += cols, dx += cols) {
        if (label[r] == ignore_index) {
            if (!add)
                __builtin_memset(dx, 0, (size_t)cols * sizeof *dx);
            continue;
        }
        float shift = lse[r];
        if (add) {
            VECTOR_LOOP
            for (int64_t i = 0; i < cols; i++)
                dx[i] += factor * bn_expf(x[i] - shift);
        } else {
            VECTOR_LOOP
            for (int64_t i = 0; i < cols; i++)
                dx[i] = factor * bn_expf(x[i] - shift);
        }
        dx[label[r]] -= factor;
    }
}

void FAST(bn_row_column_sums)(int64_t rows, int64_t cols, const float *restrict dy,
                              float *restrict sum)
{
    __builtin_memset(sum, 0, (size_t)cols * sizeof *sum);
    for (int64_t r = 0; r < rows; r++, dy += cols)
        for (int64_t i = 0; i < cols; i++)
            sum[i] += dy[i];
}
