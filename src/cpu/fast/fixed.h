/* fixed.h - products of BitLinear's backward pass in 16-bit fixed point
 * (docs/numerics.md, backward_precision int16): exact integer sums over blocks
 * of the summed index, so that the split of the work changes no bit.
 *
 * The other operand, codes of at most 8 bits, is widened to int16 and laid out in
 * panels of 16 columns, two consecutive k of a column together:
 *
 *   panel p, k-pair i:  32 values, value 2c + e = code(k = 2i + e, column 16p + c)
 *
 * which is what multiply-add instructions on int16 eat.
 */
#ifndef BN_CPU_FAST_FIXED_H
#define BN_CPU_FAST_FIXED_H

#include <stdint.h>

enum { BN_FIXED_ROWS = 6, BN_FIXED_COLS = 16 };

/* t[6][16] = step[r] * (sum over `pairs` k-pairs of z q), the sum in int32; rows of
 * z are ld_z apart, panel is aligned to 32 bytes. */
typedef void (*bn_fixed_tile)(const int16_t *z, int64_t ld_z, const int16_t *panel, int64_t pairs,
                              const float *step, float *t);

void bn_fixed_tile__generic(const int16_t *z, int64_t ld_z, const int16_t *panel, int64_t pairs,
                            const float *step, float *t);
void bn_fixed_tile__avx2(const int16_t *z, int64_t ld_z, const int16_t *panel, int64_t pairs,
                         const float *step, float *t);

#endif
