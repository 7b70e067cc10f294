#include "interop/hf_pack.h"

#include <math.h>
#include <string.h>

#include "quant/pack.h"
#include "quant/quantize.h"

static void set_field(uint8_t *row, int64_t k, unsigned field)
{
    const int shift = 2 * (int)(k % BN_T2_PER_BYTE);
    row[k / BN_T2_PER_BYTE] =
        (uint8_t)((row[k / BN_T2_PER_BYTE] & ~(3u << shift)) | field << shift);
}

void bn_hf_pack(const uint8_t *t2, int64_t out, int64_t in, uint8_t *packed)
{
    const int64_t rows = out / 4, bytes = bn_t2_row_bytes(in);
    memset(packed, 0, (size_t)(rows * in));
    for (int64_t r = 0; r < out; r++)
        for (int64_t c = 0; c < in; c++)
            packed[r % rows * in + c] |=
                (uint8_t)((unsigned)(bn_t2_get(t2 + r * bytes, c) + 1) << (2 * (r / rows)));
}

/* The fields at `shift` of a packed row as a row of T2. */
static void unpack_row(const uint8_t *packed, int64_t in, int shift, uint8_t *t2)
{
    const int64_t whole = in / BN_T2_PER_BYTE;
    for (int64_t j = 0; j < whole; j++) {
        uint32_t four;
        memcpy(&four, packed + j * BN_T2_PER_BYTE, sizeof four);
        four = four >> shift & 0x03030303;
        t2[j] = (uint8_t)(four | four >> 6 | four >> 12 | four >> 18);
    }
    if (in % BN_T2_PER_BYTE != 0)
        t2[whole] = BN_T2_ZERO_BYTE;
    for (int64_t c = whole * BN_T2_PER_BYTE; c < in; c++)
        set_field(t2, c, packed[c] >> shift & 3);
}

/* Whether no field of n bytes is 3. */
static bool all_ternary(const uint8_t *packed, int64_t n)
{
    unsigned found = 0;
    for (int64_t i = 0; i < n; i++)
        found |= packed[i] & packed[i] >> 1;
    return (found & 0x55) == 0;
}

/* The first field 3 in row-major order of the weights; there is one. */
static bn_hf_fault find_fault(const uint8_t *packed, int64_t out, int64_t in)
{
    const int64_t rows = out / 4;
    int64_t r = 0, c = 0;
    while ((packed[r % rows * in + c] >> (2 * (r / rows)) & 3) != 3)
        if (++c == in) {
            c = 0;
            r++;
        }
    return (bn_hf_fault){r, c, 2};
}

bool bn_hf_unpack(const uint8_t *packed, int64_t out, int64_t in, uint8_t *t2, bn_hf_fault *fault)
{
    const int64_t rows = out / 4, bytes = bn_t2_row_bytes(in);
    if (!all_ternary(packed, rows * in)) {
        *fault = find_fault(packed, out, in);
        return false;
    }
    for (int64_t p = 0; p < rows; p++)
        for (int field = 0; field < 4; field++)
            unpack_row(packed + p * in, in, 2 * field, t2 + (field * rows + p) * bytes);
    return true;
}

/* The one magnitude of n values; the first value of another is *at. */
static bool magnitude(const float *w, int64_t n, float *scale, int64_t *at)
{
    *scale = 0;
    for (int64_t i = 0; i < n; i++) {
        const float size = fabsf(w[i]);
        if (size > 0 && *scale > 0 && (size < *scale || size > *scale)) {
            *at = i;
            return false;
        }
        if (size > 0)
            *scale = size;
    }
    return true;
}

bool bn_hf_recover(const float *w, int64_t out, int64_t in, int64_t group_size, uint8_t *t2,
                   float *scales, bn_hf_fault *fault)
{
    const int64_t bytes = bn_t2_row_bytes(in);
    const bool whole = group_size == BN_PER_TENSOR;
    const int64_t length = whole ? out * in : bn_group_length(in, group_size);
    const int64_t row_length = whole ? out * in : in, rows = whole ? 1 : out;
    int64_t group = 0, at;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < row_length; c += length, group++) {
            const int64_t n = row_length - c < length ? row_length - c : length;
            const int64_t start = r * row_length + c;
            if (!magnitude(w + start, n, &scales[group], &at)) {
                *fault = (bn_hf_fault){(start + at) / in, (start + at) % in, (double)w[start + at]};
                return false;
            }
            if (scales[group] <= 0)
                scales[group] = whole ? 1 : (float)BN_QUANT_FLOOR;
        }
    memset(t2, BN_T2_ZERO_BYTE, (size_t)(out * bytes));
    for (int64_t r = 0; r < out; r++)
        for (int64_t c = 0; c < in; c++) {
            const float value = w[r * in + c];
            set_field(t2 + r * bytes, c, value > 0 ? 2 : value < 0 ? 0 : 1);
        }
    return true;
}
