/* Float products out of packed panels, after Van Zee and van de Geijn (BLIS):
 * BN_GEMM_ROWS rows of a and two vectors of columns of b, whose sums stay in
 * registers. This file alone is compiled so that multiply and add may fuse; the
 * order of the sums depends on the shape and the instruction set only. */
#include "cpu/fast/row_impl.h"

enum { COLS = 2 * VW };

_Static_assert((int)COLS <= (int)BN_GEMM_MAX_COLS, "tiles of this instruction set");

/* a[k][BN_GEMM_ROWS] = rows of `from` (its columns where `transposed`); rows
 * past the last one are zero. */
void FAST(bn_row_gemm_pack_a)(int64_t rows, int64_t k, const float *restrict from, int64_t ld,
                              bool transposed, float *restrict a)
{
    const int64_t row = transposed ? 1 : ld, next = transposed ? ld : 1;
    if (rows == BN_GEMM_ROWS && transposed) {
        for (int64_t i = 0; i < k; i++, from += ld, a += BN_GEMM_ROWS)
            for (int r = 0; r < BN_GEMM_ROWS; r++)
                a[r] = from[r];
        return;
    }
    for (int64_t i = 0; i < k; i++, from += next, a += BN_GEMM_ROWS)
        for (int r = 0; r < BN_GEMM_ROWS; r++)
            a[r] = r < rows ? from[r * row] : 0;
}

/* Row `at` of every panel b[depth][COLS] = row[0..n-1], zeros behind it. */
void FAST(bn_row_gemm_pack_b)(int64_t n, int64_t depth, int64_t at, const float *restrict row,
                              float *restrict b)
{
    b += at * COLS;
    for (; n >= COLS; n -= COLS, row += COLS, b += depth * COLS) {
        vf_store(b, vf_load(row));
        vf_store(b + VW, vf_load(row + VW));
    }
    for (int64_t i = 0; i < COLS && n > 0; i++)
        b[i] = i < n ? row[i] : 0;
}

BN_INLINE void store(float *c, vf v, bool add)
{
    vf_store(c, add ? vf_load(c) + v : v);
}

/* c[rows][cols] = (add ? c : 0) + a b */
void FAST(bn_row_gemm_tile)(int64_t k, const float *restrict a, const float *restrict b,
                            float *restrict c, int64_t ld, int64_t rows, int64_t cols, bool add)
{
    vf sum[BN_GEMM_ROWS][2] = {0};
    for (int64_t r = 0; r < rows; r++)
        __builtin_prefetch(c + r * ld + cols - 1, 1);
    for (int64_t i = 0; i < k; i++, a += BN_GEMM_ROWS, b += COLS) {
        const vf b0 = vf_load(b), b1 = vf_load(b + VW);
#pragma GCC unroll 6
        for (int r = 0; r < BN_GEMM_ROWS; r++) {
            sum[r][0] += a[r] * b0;
            sum[r][1] += a[r] * b1;
        }
    }
    if (rows == BN_GEMM_ROWS && cols == COLS) {
#pragma GCC unroll 6
        for (int r = 0; r < BN_GEMM_ROWS; r++) {
            store(c + r * ld, sum[r][0], add);
            store(c + r * ld + VW, sum[r][1], add);
        }
        return;
    }
    float edge[BN_GEMM_ROWS][COLS];
#pragma GCC unroll 6
    for (int r = 0; r < BN_GEMM_ROWS; r++) {
        vf_store(edge[r], sum[r][0]);
        vf_store(edge[r] + VW, sum[r][1]);
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < cols; i++)
            c[r * ld + i] = (add ? c[r * ld + i] : 0) + edge[r][i];
}
