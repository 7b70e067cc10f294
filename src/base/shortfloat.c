#include "base/shortfloat.h"

#include <stdbool.h>

#include <string.h>

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* v >> shift, rounded to nearest even. */
static uint32_t shift_rne(uint32_t v, int shift)
{
    const uint32_t half = UINT32_C(1) << (shift - 1);
    const uint32_t rest = v & ((half << 1) - 1);
    const uint32_t kept = v >> shift;
    return kept + (rest > half || (rest == half && (kept & 1)));
}

uint16_t bn_f32_to_f16(float value)
{
    const uint32_t bits = bits_of(value);
    const uint32_t sign = (bits >> 16) & 0x8000;
    const uint32_t rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) /* NaN: quiet, upper payload */
        return (uint16_t)(sign | 0x7e00 | ((rest >> 13) & 0x3ff));
    if (rest >= 0x47800000) /* 2^16 and above, infinity */
        return (uint16_t)(sign | 0x7c00);
    if (rest >= 0x38800000) /* normal: rebias; a carry runs into the exponent, up to infinity */
        return (uint16_t)(sign | shift_rne(rest - (UINT32_C(112) << 23), 13));
    const int exponent = (int)(rest >> 23);
    if (exponent < 102) /* below half of the smallest subnormal, 2^-25 */
        return (uint16_t)sign;
    /* Subnormal: value = m * 2^(exponent-150) in units of 2^-24. */
    return (uint16_t)(sign | shift_rne((rest & 0x7fffff) | 0x800000, 126 - exponent));
}

float bn_f16_to_f32(uint16_t bits)
{
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    const uint32_t exponent = (bits >> 10) & 31;
    const uint32_t mantissa = bits & 0x3ff;
    if (exponent == 31)
        return float_of(sign | 0x7f800000 | mantissa << 13);
    if (exponent != 0)
        return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
    const float magnitude = (float)mantissa * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

uint16_t bn_f32_to_bf16(float value)
{
    const uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffff) > 0x7f800000) /* NaN stays NaN when only its low bits are set */
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)shift_rne(bits, 16);
}

float bn_bf16_to_f32(uint16_t bits)
{
    return float_of((uint32_t)bits << 16);
}

int64_t bn_shorts_not_finite(const void *shorts, int64_t n, int exponent)
{
    enum { BLOCK = 4096 };
    uint16_t bits[BLOCK];
    for (int64_t first = 0; first < n; first += BLOCK) {
        const int64_t count = n - first < BLOCK ? n - first : BLOCK;
        bool found = false;
        memcpy(bits, (const char *)shorts + first * 2, (size_t)count * sizeof *bits);
        for (int64_t i = 0; i < count; i++)
            found |= (bits[i] & exponent) == exponent;
        for (int64_t i = 0; found && i < count; i++)
            if ((bits[i] & exponent) == exponent)
                return first + i;
    }
    return -1;
}
