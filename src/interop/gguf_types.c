#include "interop/gguf_types.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/shortfloat.h"

static const struct {
    const char *name;
    int length, bytes;
} types[] = {
    [BN_GGUF_F32] = {"F32", 1, 4},
    [BN_GGUF_F16] = {"F16", 1, 2},
    [BN_GGUF_Q4_0] = {"Q4_0", 32, 18},
    [3] = {"Q4_1", 32, 20},
    [6] = {"Q5_0", 32, 22},
    [7] = {"Q5_1", 32, 24},
    [BN_GGUF_Q8_0] = {"Q8_0", 32, 34},
    [9] = {"Q8_1", 32, 40},
    [10] = {"Q2_K", 256, 84},
    [11] = {"Q3_K", 256, 110},
    [12] = {"Q4_K", 256, 144},
    [13] = {"Q5_K", 256, 176},
    [14] = {"Q6_K", 256, 210},
    [15] = {"Q8_K", 256, 292},
    [16] = {"IQ2_XXS", 256, 66},
    [17] = {"IQ2_XS", 256, 74},
    [18] = {"IQ3_XXS", 256, 98},
    [19] = {"IQ1_S", 256, 50},
    [20] = {"IQ4_NL", 32, 18},
    [21] = {"IQ3_S", 256, 110},
    [22] = {"IQ2_S", 256, 82},
    [23] = {"IQ4_XS", 256, 136},
    [24] = {"I8", 1, 1},
    [25] = {"I16", 1, 2},
    [26] = {"I32", 1, 4},
    [27] = {"I64", 1, 8},
    [28] = {"F64", 1, 8},
    [29] = {"IQ1_M", 256, 56},
    [BN_GGUF_BF16] = {"BF16", 1, 2},
    [BN_GGUF_TQ1_0] = {"TQ1_0", 256, 54},
    [BN_GGUF_TQ2_0] = {"TQ2_0", 256, 66},
    [39] = {"MXFP4", 32, 17},
};
enum { TYPES = sizeof types / sizeof *types };

const char *bn_gguf_type_name(bn_gguf_type type)
{
    return (unsigned)type < TYPES ? types[type].name : NULL;
}

bool bn_gguf_type_find(const char *name, bn_gguf_type *out)
{
    for (int i = 0; i < TYPES; i++)
        if (types[i].name && strcasecmp(types[i].name, name) == 0) {
            *out = (bn_gguf_type)i;
            return true;
        }
    return false;
}

int bn_gguf_block_length(bn_gguf_type type)
{
    return types[type].length;
}

int bn_gguf_block_bytes(bn_gguf_type type)
{
    return types[type].bytes;
}

bool bn_gguf_holds_codes(bn_gguf_type type)
{
    return type == BN_GGUF_Q4_0 || type == BN_GGUF_TQ1_0 || type == BN_GGUF_TQ2_0;
}

bool bn_gguf_is_decoded(bn_gguf_type type)
{
    return type == BN_GGUF_F32 || type == BN_GGUF_F16 || type == BN_GGUF_BF16 ||
           type == BN_GGUF_Q8_0 || bn_gguf_holds_codes(type);
}

/* ---- numbers at any address, little-endian ---- */

static void put_u16(uint8_t *at, uint16_t bits)
{
    at[0] = (uint8_t)bits;
    at[1] = (uint8_t)(bits >> 8);
}

static uint16_t get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static void put_f32(uint8_t *at, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_u16(at, (uint16_t)bits);
    put_u16(at + 2, (uint16_t)(bits >> 16));
}

static float get_f32(const uint8_t *at)
{
    const uint32_t bits = (uint32_t)get_u16(at) | (uint32_t)get_u16(at + 2) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- TQ1_0 ---- */

/* The elements of byte b: first, step and how many. */
static int tq1_elements(int b, int *first, int *step)
{
    *first = b < 32 ? b : b < 48 ? 160 + b - 32 : 240 + b - 48;
    *step = b < 32 ? 32 : b < 48 ? 16 : 4;
    return b < 48 ? 5 : 4;
}

static void tq1_encode(const int8_t *codes, uint8_t *block)
{
    for (int b = 0; b < 52; b++) {
        int first, step, value = 0;
        const int count = tq1_elements(b, &first, &step);
        for (int i = 0; i < 5; i++)
            value = 3 * value + (i < count ? codes[first + i * step] + 1 : 0);
        block[b] = (uint8_t)((256 * value + 242) / 243);
    }
}

static void tq1_decode(const uint8_t *block, int8_t *codes)
{
    for (int b = 0; b < 52; b++) {
        int first, step;
        const int count = tq1_elements(b, &first, &step);
        uint8_t rest = block[b];
        for (int i = 0; i < count; i++) {
            codes[first + i * step] = (int8_t)((3 * rest >> 8) - 1);
            rest = (uint8_t)(3 * rest);
        }
    }
}

/* ---- TQ2_0 and Q4_0 ---- */

static void tq2_encode(const int8_t *codes, uint8_t *block)
{
    memset(block, 0, 64);
    for (int n = 0; n < 256; n++)
        block[32 * (n / 128) + n % 32] |= (uint8_t)((codes[n] + 1) << 2 * (n % 128 / 32));
}

static void tq2_decode(const uint8_t *block, int8_t *codes)
{
    for (int n = 0; n < 256; n++)
        codes[n] = (int8_t)((block[32 * (n / 128) + n % 32] >> 2 * (n % 128 / 32) & 3) - 1);
}

static void q4_encode(const int8_t *codes, uint8_t *bytes)
{
    for (int j = 0; j < 16; j++)
        bytes[j] = (uint8_t)((codes[j] + 8) | (codes[j + 16] + 8) << 4);
}

static void q4_decode(const uint8_t *bytes, int8_t *codes)
{
    for (int j = 0; j < 16; j++) {
        codes[j] = (int8_t)((bytes[j] & 15) - 8);
        codes[j + 16] = (int8_t)((bytes[j] >> 4) - 8);
    }
}

/* Offset of the f16 scale in a block. */
static int scale_offset(bn_gguf_type type)
{
    return type == BN_GGUF_TQ1_0 ? 52 : type == BN_GGUF_TQ2_0 ? 64 : 0;
}

void bn_gguf_encode_codes(bn_gguf_type type, const int8_t *codes, float scale, uint8_t *block)
{
    put_u16(block + scale_offset(type), bn_f32_to_f16(scale));
    if (type == BN_GGUF_TQ1_0)
        tq1_encode(codes, block);
    else if (type == BN_GGUF_TQ2_0)
        tq2_encode(codes, block);
    else
        q4_encode(codes, block + 2);
}

/* The integers of a block of codes, whatever they are. */
static float decode_block(bn_gguf_type type, const uint8_t *block, int8_t *codes)
{
    if (type == BN_GGUF_TQ1_0)
        tq1_decode(block, codes);
    else if (type == BN_GGUF_TQ2_0)
        tq2_decode(block, codes);
    else
        q4_decode(block + 2, codes);
    return bn_f16_to_f32(get_u16(block + scale_offset(type)));
}

bool bn_gguf_decode_codes(bn_gguf_type type, const uint8_t *block, int8_t *codes, float *scale)
{
    *scale = decode_block(type, block, codes);
    for (int i = 0; i < types[type].length; i++)
        if (codes[i] < -1 || codes[i] > 1)
            return false;
    return true;
}

/* ---- numbers ---- */

/* The codes are chosen for the scale as it is stored. */
static void q8_encode(const float *values, uint8_t *block)
{
    float most = 0;
    for (int i = 0; i < 32; i++)
        most = fmaxf(most, fabsf(values[i]));
    put_u16(block, bn_f32_to_f16(most / 127));
    const float d = bn_f16_to_f32(get_u16(block));
    for (int i = 0; i < 32; i++) {
        const float q = d > 0 ? rintf(values[i] / d) : 0;
        block[2 + i] = (uint8_t)(int8_t)fminf(fmaxf(q, -127), 127);
    }
}

void bn_gguf_encode(bn_gguf_type type, const float *values, int64_t count, uint8_t *data)
{
    const int length = types[type].length, bytes = types[type].bytes;
    for (int64_t i = 0; i < count; i += length, data += bytes)
        switch (type) {
        case BN_GGUF_F32:
            put_f32(data, values[i]);
            break;
        case BN_GGUF_F16:
            put_u16(data, bn_f32_to_f16(values[i]));
            break;
        case BN_GGUF_BF16:
            put_u16(data, bn_f32_to_bf16(values[i]));
            break;
        default:
            q8_encode(values + i, data);
        }
}

static void decode_scaled(bn_gguf_type type, const uint8_t *block, float *values)
{
    int8_t codes[BN_GGUF_BLOCK_MAX];
    float scale;
    if (type == BN_GGUF_Q8_0) {
        scale = bn_f16_to_f32(get_u16(block));
        memcpy(codes, block + 2, 32);
    } else {
        scale = decode_block(type, block, codes);
    }
    for (int i = 0; i < types[type].length; i++)
        values[i] = scale * (float)codes[i];
}

void bn_gguf_decode(bn_gguf_type type, const uint8_t *data, int64_t count, float *values)
{
    const int length = types[type].length, bytes = types[type].bytes;
    for (int64_t i = 0; i < count; i += length, data += bytes)
        switch (type) {
        case BN_GGUF_F32:
            values[i] = get_f32(data);
            break;
        case BN_GGUF_F16:
            values[i] = bn_f16_to_f32(get_u16(data));
            break;
        case BN_GGUF_BF16:
            values[i] = bn_bf16_to_f32(get_u16(data));
            break;
        default:
            decode_scaled(type, data, values + i);
        }
}
