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

/* e^x for |x| <= 87, to 1 ulp; e^-87 = 1.6e-38 below, e^87 = 6.1e37 above, NaN
 * for NaN; exactly 1 at 0. Made for weights of a softmax and for sigmoids: what
 * lies outside does not matter there, and no result is subnormal, which many
 * CPUs are slow at.
 *
 *   x = n ln2 + r, |r| <= ln2/2:  e^x = 2^n (1 + r + r^2 P(r))
 *
 * n ln2 is subtracted in two parts; the upper has 16 bits, so its product with
 * n is exact. The range is cut on the bits of |x|, which order as integers do:
 * from comparisons of floats compilers make branches, one of them for a
 * constant result, and no minimum. */
static inline float bn_expf(float x)
{
    const float round_to_int = 0x1.8p23f; /* adding it leaves the integer in the low bits */
    const int32_t limit = 0x42ae0000, infinity = 0x7f800000, nan = 0x7fc00000;
    const uint32_t sign = bn_float_bits(x) & 0x80000000u;
    const int32_t size = (int32_t)(bn_float_bits(x) & 0x7fffffffu);
    const uint32_t if_nan = (uint32_t)(size > infinity ? nan : 0);
    x = bn_bits_float(sign | (uint32_t)(size < limit ? size : limit));
    float shifted = x * 0x1.715476p+0f + round_to_int;
    float n = shifted - round_to_int;
    float r = x - n * 0x1.62e4p-1f;
    r = r - n * 0x1.7f7d1cp-20f;
    float p = 0x1.6a1080p-10f;
    p = p * r + 0x1.1245c8p-7f;
    p = p * r + 0x1.55593cp-5f;
    p = p * r + 0x1.555482p-3f;
    p = p * r + 0x1.fffffcp-2f;
    float value = 1.0f + (r + r * r * p);
    value *= bn_bits_float((bn_float_bits(shifted) + 127u) << 23);
    return bn_bits_float(bn_float_bits(value) | if_nan);
}

#endif
