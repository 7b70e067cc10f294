/* Blockwise Walsh-Hadamard transform: the butterflies of ref_hadamard.c on
 * vectors, so the same bits. Those at a distance below VW stay inside a vector:
 * its lanes change places with their partners, and the upper of each pair
 * enters negated (a - b is a + (-b) exactly). */
#include "cpu/fast/row_impl.h"

#include "backend/op.h"

/* Lane i takes lane i ^ h. */
#if BN_VW == 4
#define PARTNERS(v, h) __builtin_shufflevector(v, v, 0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h)
#elif BN_VW == 8
#define PARTNERS(v, h)                                                                             \
    __builtin_shufflevector(v, v, 0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h, 4 ^ h, 5 ^ h, 6 ^ h, 7 ^ h)
#else
#define PARTNERS(v, h)                                                                             \
    __builtin_shufflevector(v, v, 0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h, 4 ^ h, 5 ^ h, 6 ^ h, 7 ^ h, 8 ^ h,   \
                            9 ^ h, 10 ^ h, 11 ^ h, 12 ^ h, 13 ^ h, 14 ^ h, 15 ^ h)
#endif

/* The sign bit in the lanes that are the upper of a pair at distance h. */
BN_INLINE vi upper_signs(int h)
{
    vi sign;
    for (int l = 0; l < VW; l++)
        sign[l] = l & h ? INT32_MIN : 0;
    return sign;
}

#define BUTTERFLY(v, h) (PARTNERS(v, h) + (vf)((vi)(v) ^ upper_signs(h)))

/* All butterflies at distances below VW. */
BN_INLINE vf inside(vf v)
{
    v = BUTTERFLY(v, 1);
    v = BUTTERFLY(v, 2);
#if BN_VW >= 8
    v = BUTTERFLY(v, 4);
#endif
#if BN_VW >= 16
    v = BUTTERFLY(v, 8);
#endif
    return v;
}

/* Butterflies at distance h, one element at a time. */
static void narrow_stage(float *v, int64_t block, int64_t h)
{
    for (int64_t i = 0; i < block; i += 2 * h)
        for (int64_t j = i; j < i + h; j++) {
            const float a = v[j], b = v[j + h];
            v[j] = a + b;
            v[j + h] = a - b;
        }
}

static void wide_stage(float *v, int64_t block, int64_t h)
{
    for (int64_t i = 0; i < block; i += 2 * h)
        for (int64_t j = i; j < i + h; j += VW) {
            const vf a = vf_load(v + j), b = vf_load(v + j + h);
            vf_store(v + j, a + b);
            vf_store(v + j + h, a - b);
        }
}

void FAST(bn_row_hadamard)(int64_t cols, int64_t block, float factor, const float *x, float *y,
                           bool add)
{
    float v[BN_HADAMARD_MAX];
    for (int64_t at = 0; at < cols; at += block) {
        if (block < VW) {
            for (int64_t i = 0; i < block; i++)
                v[i] = x[at + i];
            for (int64_t h = 1; h < block; h *= 2)
                narrow_stage(v, block, h);
        } else {
            for (int64_t i = 0; i < block; i += VW)
                vf_store(v + i, inside(vf_load(x + at + i)));
            for (int64_t h = VW; h < block; h *= 2)
                wide_stage(v, block, h);
        }
        for (int64_t i = 0; i < block; i++)
            y[at + i] = add ? y[at + i] + v[i] * factor : v[i] * factor;
    }
}
