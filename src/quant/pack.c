#include "quant/pack.h"

#include <string.h>

/* Powers of three of the trits of a base3x5 byte. */
static const uint8_t pow3[BN_B3_PER_BYTE] = {1, 3, 9, 27, 81};

void bn_t2_pack(const int8_t *codes, int64_t rows, int64_t cols, uint8_t *packed)
{
    const int64_t row_bytes = bn_t2_row_bytes(cols);
    for (int64_t r = 0; r < rows; r++) {
        const int8_t *q = codes + r * cols;
        uint8_t *row = packed + r * row_bytes;
        memset(row, BN_T2_ZERO_BYTE, (size_t)row_bytes);
        /* 01 xor (0 | 1 | 3) = 01, 00, 10: code 0 leaves the byte as it is. */
        for (int64_t k = 0; k < cols; k++) {
            const unsigned flip = q[k] == 0 ? 0 : q[k] < 0 ? 1 : 3;
            row[k >> 2] ^= (uint8_t)(flip << (2 * (k & 3)));
        }
    }
}

void bn_t2_unpack_span(const uint8_t *row, int64_t k0, int64_t n, int8_t *codes)
{
    for (int64_t k = k0; k < k0 + n; k++)
        *codes++ = (int8_t)bn_t2_get(row, k);
}

void bn_t2_unpack(const uint8_t *packed, int64_t row0, int64_t rows, int64_t cols, int8_t *codes)
{
    const int64_t row_bytes = bn_t2_row_bytes(cols);
    for (int64_t r = 0; r < rows; r++)
        bn_t2_unpack_span(packed + (row0 + r) * row_bytes, 0, cols, codes + r * cols);
}

void bn_b3_from_t2(const uint8_t *t2, int64_t rows, int64_t cols, uint8_t *b3)
{
    for (int64_t r = 0; r < rows; r++) {
        const uint8_t *row = t2 + r * bn_t2_row_bytes(cols);
        for (int64_t k0 = 0; k0 < cols; k0 += BN_B3_PER_BYTE) {
            int byte = 0;
            for (int i = 0; i < BN_B3_PER_BYTE; i++) {
                const int trit = k0 + i < cols ? bn_t2_get(row, k0 + i) + 1 : 1;
                byte += trit * pow3[i];
            }
            *b3++ = (uint8_t)byte;
        }
    }
}

void bn_b3_to_t2(const uint8_t *b3, int64_t rows, int64_t cols, uint8_t *t2)
{
    const int64_t row_bytes = bn_t2_row_bytes(cols);
    for (int64_t r = 0; r < rows; r++) {
        uint8_t *row = t2 + r * row_bytes;
        memset(row, 0, (size_t)row_bytes);
        for (int64_t k0 = 0; k0 < cols; k0 += BN_B3_PER_BYTE) {
            unsigned rest = *b3++;
            for (int64_t k = k0; k < k0 + BN_B3_PER_BYTE && k < cols; k++, rest /= 3)
                row[k >> 2] |= (uint8_t)((rest % 3) << (2 * (k & 3)));
        }
        if (cols & 3)
            row[row_bytes - 1] |= (uint8_t)(BN_T2_ZERO_BYTE << (2 * (cols & 3)));
    }
}

bool bn_t2_check(const uint8_t *packed, int64_t rows, int64_t cols, bn_code_fault *fault)
{
    const int64_t row_bytes = bn_t2_row_bytes(cols);
    for (int64_t r = 0; r < rows; r++) {
        const uint8_t *row = packed + r * row_bytes;
        for (int64_t j = 0; j < row_bytes; j++) {
            const unsigned both = row[j] & (row[j] >> 1) & 0x55u; /* fields that hold 3 */
            if (!both && j + 1 < row_bytes)
                continue;
            for (int i = 0; i < BN_T2_PER_BYTE; i++) {
                const int64_t k = j * BN_T2_PER_BYTE + i;
                const int field = (row[j] >> (2 * i)) & 3;
                const bool padding = k >= cols;
                if (padding ? field == 1 : field != 3)
                    continue;
                *fault = (bn_code_fault){r, j, k, field, padding};
                return false;
            }
        }
    }
    return true;
}

bool bn_b3_check(const uint8_t *packed, int64_t rows, int64_t cols, bn_code_fault *fault)
{
    const int64_t row_bytes = bn_b3_row_bytes(cols);
    for (int64_t r = 0; r < rows; r++) {
        const uint8_t *row = packed + r * row_bytes;
        for (int64_t j = 0; j < row_bytes; j++) {
            if (row[j] > BN_B3_MAX_BYTE) {
                *fault = (bn_code_fault){r, j, j * BN_B3_PER_BYTE, row[j], false};
                return false;
            }
        }
        for (int64_t k = cols; k < row_bytes * BN_B3_PER_BYTE; k++) {
            const int trit = row[row_bytes - 1] / pow3[k % BN_B3_PER_BYTE] % 3;
            if (trit != 1) {
                *fault = (bn_code_fault){r, row_bytes - 1, k, trit, true};
                return false;
            }
        }
    }
    return true;
}
