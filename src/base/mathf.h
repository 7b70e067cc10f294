/* mathf.h - float functions without branches or tables, so that loops over
 * them vectorise and give the same bits at every vector width.
 *
 * Method: Cody & Waite's argument reduction (Software Manual for the Elementary
 * Functions, 1980) and a polynomial fitted for this file by iteratively
 * reweighted least squares (Lawson) on the reduced range.
 */
#ifndef BN_BASE_MATHF_H
#define BN_BASE_MATHF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t bn_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float bn_bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* e^x for every float: at most 1 ulp from the exact value where that is a
 * normal number, 1 ulp (of the smallest subnormal) below; exactly 1 at 0, +inf
 * above ln(FLT_MAX), 0 below ln(2^-150), NaN for NaN.
 *
 *   x = n ln2 + r, |r| <= ln2/2:  e^x = 2^n (1 + r + r^2 P(r))
 *
 * n ln2 is subtracted in two parts; the upper has 16 bits, so its product with
 * n is exact. 2^n is applied as two factors, because n runs from -150 to 128. */
static inline float bn_expf(float x)
{
    const float round_to_int = 0x1.8p23f; /* adding it leaves the integer in the low bits */
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    float shifted = x * 0x1.715476p+0f + round_to_int;
    float n = shifted - round_to_int;
    float r = x - n * 0x1.62e4p-1f;
    r = r - n * 0x1.7f7d1cp-20f;
    float p = 0x1.9efcdcp-13f;
    p = p * r + 0x1.6d9bd6p-10f;
    p = p * r + 0x1.11128ep-7f;
    p = p * r + 0x1.55547ep-5f;
    p = p * r + 0x1.555554p-3f;
    p = p * r + 0.5f;
    float value = 1.0f + (r + r * r * p);
    int32_t k = (int32_t)(bn_float_bits(shifted) - bn_float_bits(round_to_int));
    int32_t k_low = k >> 1;
    float scale_low = bn_bits_float((uint32_t)(k_low + 127) << 23);
    float scale_high = bn_bits_float((uint32_t)(k - k_low + 127) << 23);
    return value * scale_low * scale_high;
}

#endif
