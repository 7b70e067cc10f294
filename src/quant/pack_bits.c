/* Bit fields of pack.h: codes of any grid. */
#include <string.h>

#include "quant/pack.h"

static int field_of(const bn_grid_info *g, int code)
{
    return g->odd ? (code + g->max) / 2 : code + g->max;
}

static int code_of(const bn_grid_info *g, int field)
{
    return (g->odd ? 2 * field : field) - g->max;
}

/* A field may lie in two bytes. */
static int get_field(const uint8_t *row, int64_t k, int bits)
{
    const int64_t at = k * bits;
    const int shift = (int)(at % 8);
    unsigned value = row[at / 8];
    if (shift + bits > 8)
        value |= (unsigned)row[at / 8 + 1] << 8;
    return (int)(value >> shift & ((1U << bits) - 1));
}

static void put_field(uint8_t *row, int64_t k, int bits, int field)
{
    const int64_t at = k * bits;
    const unsigned value = (unsigned)field << (at % 8);
    row[at / 8] |= (uint8_t)value;
    if (at % 8 + bits > 8)
        row[at / 8 + 1] |= (uint8_t)(value >> 8);
}

void bn_bits_pack(bn_grid grid, const void *codes, int64_t rows, int64_t cols, uint8_t *fields)
{
    const bn_grid_info *g = &bn_grid_table[grid];
    const int64_t row_bytes = bn_bits_row_bytes(grid, cols);
    memset(fields, 0, (size_t)(rows * row_bytes));
    for (int64_t r = 0; r < rows; r++) {
        const void *row = (const char *)codes + r * bn_grid_row_bytes(grid, cols);
        for (int64_t k = 0; k < cols; k++)
            put_field(fields + r * row_bytes, k, g->bits,
                      field_of(g, bn_code_get(bn_grid_dtype(grid), row, k)));
    }
}

void bn_bits_unpack(bn_grid grid, const uint8_t *fields, int64_t rows, int64_t cols, void *codes)
{
    const bn_grid_info *g = &bn_grid_table[grid];
    const int64_t row_bytes = bn_grid_row_bytes(grid, cols);
    for (int64_t r = 0; r < rows; r++) {
        const uint8_t *from = fields + r * bn_bits_row_bytes(grid, cols);
        uint8_t *row = (uint8_t *)codes + r * row_bytes;
        if (bn_grid_dtype(grid) == BN_I8) {
            for (int64_t k = 0; k < cols; k++)
                row[k] = (uint8_t)(int8_t)code_of(g, get_field(from, k, g->bits));
            continue;
        }
        memset(row, 0, (size_t)row_bytes);
        for (int64_t k = 0; k < cols; k++)
            put_field(row, k, 2, code_of(g, get_field(from, k, g->bits)) + 1);
        if (cols & 3)
            row[row_bytes - 1] |= (uint8_t)(BN_T2_ZERO_BYTE << (2 * (cols & 3)));
    }
}

bool bn_bits_check(bn_grid grid, const uint8_t *fields, int64_t rows, int64_t cols,
                   bn_code_fault *fault)
{
    const bn_grid_info *g = &bn_grid_table[grid];
    const int64_t row_bytes = bn_bits_row_bytes(grid, cols);
    const int largest = field_of(g, g->max), used = (int)(cols * g->bits % 8);
    for (int64_t r = 0; r < rows; r++) {
        const uint8_t *row = fields + r * row_bytes;
        for (int64_t k = 0; k < cols; k++) {
            const int field = get_field(row, k, g->bits);
            if (field > largest) {
                *fault = (bn_code_fault){r, k * g->bits / 8, k, field, false};
                return false;
            }
        }
        if (used && row[row_bytes - 1] >> used) {
            *fault = (bn_code_fault){r, row_bytes - 1, cols, row[row_bytes - 1] >> used, true};
            return false;
        }
    }
    return true;
}

bool bn_codes_check(bn_grid grid, const void *codes, int64_t rows, int64_t cols,
                    bn_code_fault *fault)
{
    const bn_grid_info *g = &bn_grid_table[grid];
    const bn_dtype dtype = bn_grid_dtype(grid);
    if (dtype == BN_T2 && !bn_t2_check(codes, rows, cols, fault))
        return false;
    for (int64_t r = 0; r < rows && (g->odd || dtype == BN_I8); r++) {
        const void *row = (const char *)codes + r * bn_grid_row_bytes(grid, cols);
        for (int64_t k = 0; k < cols; k++) {
            const int q = bn_code_get(dtype, row, k);
            if (q < -g->max || q > g->max || (g->odd && q % 2 == 0)) {
                *fault = (bn_code_fault){r, dtype == BN_T2 ? k / 4 : k, k, q, false};
                return false;
            }
        }
    }
    return true;
}
