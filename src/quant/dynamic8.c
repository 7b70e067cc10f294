#include "quant/dynamic8.h"

#include <math.h>

static void fill_values(bn_dynamic8 *map, bool with_sign)
{
    static const double decades[] = {1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1};
    int n = with_sign ? 128 : 1; /* code of the least value above 0 */
    map->value[n - 1] = 0.0f;
    for (int i = 0; i < 7; i++) {
        const int parts = 1 << (with_sign ? i : i + 1);
        const double low = decades[i], part = 9.0 * low / parts;
        for (int k = 0; k < parts; k++)
            map->value[n++] = (float)(low + (k + 0.5) * part);
    }
    map->value[255] = 1.0f;
    for (int c = 0; with_sign && c < 127; c++)
        map->value[c] = -map->value[254 - c];
}

/* The code of x by its definition. */
static uint8_t search(const bn_dynamic8 *map, float x)
{
    int code = 0;
    while (x > map->border[code])
        code++;
    return (uint8_t)code;
}

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void bn_dynamic8_init(bn_dynamic8 *map, bool with_sign)
{
    fill_values(map, with_sign);
    for (int c = 0; c < 255; c++)
        map->border[c] = 0.5f * (map->value[c] + map->value[c + 1]);
    map->border[255] = INFINITY;
    if (!with_sign)
        map->border[0] = 0.0f;
    for (uint32_t bin = 0; bin < BN_DYNAMIC8_BINS; bin++) {
        const uint32_t first = (BN_DYNAMIC8_FIRST + bin) << 16, last = first | 0xffff;
        map->lowest[0][bin] = search(map, bin ? from_bits(first) : 0.0f);
        map->lowest[1][bin] = search(map, -from_bits(last));
    }
}

void bn_dynamic8_decode(const bn_dynamic8 *map, int64_t n, const uint8_t *codes, float absmax,
                        float *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = absmax * map->value[codes[i]];
}

void bn_dynamic8_encode(const bn_dynamic8 *map, int64_t n, const float *x, float absmax,
                        uint8_t *codes)
{
    const float inverse = absmax < 0x1p-125f ? 0.0f : 1.0f / absmax;
    for (int64_t i = 0; i < n; i++)
        codes[i] = bn_dynamic8_code(map, x[i] * inverse);
}
