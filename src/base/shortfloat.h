/* shortfloat.h - float32 to and from the two 16-bit floats of files, by bits.
 *
 * to_* directions round to nearest even and keep NaN and infinity; float16
 * overflows to infinity.
 */
#ifndef BN_BASE_SHORTFLOAT_H
#define BN_BASE_SHORTFLOAT_H

#include <stdint.h>
#include <string.h>

uint16_t bn_f32_to_f16(float value);
float bn_f16_to_f32(uint16_t bits);
uint16_t bn_f32_to_bf16(float value);
float bn_bf16_to_f32(uint16_t bits);

/* Their exponents: all ones is infinity or NaN. */
enum { BN_F16_EXPONENT = 0x7c00, BN_BF16_EXPONENT = 0x7f80 };

/* The first of n such floats, at any address, that is not finite, or -1. */
int64_t bn_shorts_not_finite(const void *shorts, int64_t n, int exponent);

/* bn_bf16_to_f32(bn_f32_to_bf16(value)), in a form that loops vectorize. */
static inline float bn_bf16_round(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t nearest = bits + 0x7fff + (bits >> 16 & 1);
    const uint32_t is_nan = (bits & 0x7fffffff) > 0x7f800000;
    bits = (is_nan ? bits | 0x400000 : nearest) & 0xffff0000;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
