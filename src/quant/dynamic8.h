/* dynamic8.h - numbers of -1..1 as 8-bit codes with small steps near zero.
 *
 * Dynamic tree quantization as optimizers keep their moments in it (T. Dettmers
 * et al., "8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861). A
 * map has 256 values in ascending order. Decade i of 0..6, from 10^(i-7) to
 * 10^(i-6), is cut into equal parts, of which the middles are values: 2^i of
 * them with either sign, or 2^(i+1) where the map has no sign; 0 and 1 make 256.
 *
 * An array is coded in blocks, each over its largest magnitude: x = absmax *
 * value[code], code that of the value nearest to x / absmax, the lower one of
 * two that are as near. In a map without sign what is above 0 does not become 0:
 * a second moment is a denominator.
 */
#ifndef BN_QUANT_DYNAMIC8_H
#define BN_QUANT_DYNAMIC8_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    BN_DYNAMIC8_BLOCK = 256,
    /* Bins of numbers with the same leading 16 bits, from 2^-23 to 1; none has two borders. */
    BN_DYNAMIC8_FIRST = (127 - 23) << 7,
    BN_DYNAMIC8_BINS = (23 << 7) + 1,
};

typedef struct bn_dynamic8 {
    float value[256];
    float border[256];                   /* what is above border[c] has a code above c */
    uint8_t lowest[2][BN_DYNAMIC8_BINS]; /* code of a bin's least number; [1]: negative */
} bn_dynamic8;

void bn_dynamic8_init(bn_dynamic8 *map, bool with_sign);

/* Code of x, -1 <= x <= 1; 1 is the limit of what is above, any code for NaN. */
static inline uint8_t bn_dynamic8_code(const bn_dynamic8 *map, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t bin = (int32_t)(bits >> 16 & 0x7fff) - BN_DYNAMIC8_FIRST;
    bin = bin < 0 ? 0 : bin < BN_DYNAMIC8_BINS ? bin : BN_DYNAMIC8_BINS - 1;
    const uint8_t low = map->lowest[bits >> 31][bin];
    return (uint8_t)(low + (x > map->border[low]));
}

/* x [n] = absmax * value of the codes. */
void bn_dynamic8_decode(const bn_dynamic8 *map, int64_t n, const uint8_t *codes, float absmax,
                        float *x);

/* Codes of x [n], whose largest magnitude is absmax. Below 2^-125 all are those of 0. */
void bn_dynamic8_encode(const bn_dynamic8 *map, int64_t n, const float *x, float absmax,
                        uint8_t *codes);

#endif
