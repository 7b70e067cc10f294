/* pack.h - the encodings of codes, and their validation.
 *
 * ternary2 (BN_T2, in memory and in files): 4 codes per byte; see the diagram
 * in tensor/tensor.h. base3x5 (files only): 5 trits per byte,
 *
 *   byte = t0 + 3 t1 + 9 t2 + 27 t3 + 81 t4,   t_i = code of element 5j+i, + 1
 *
 * so a valid byte is at most 242. In both, rows start on byte boundaries and
 * the unused places of a row's last byte hold code 0, so equal codes are equal
 * bytes. Codes are -1, 0, +1 in an int8_t.
 */
#ifndef BN_QUANT_PACK_H
#define BN_QUANT_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/scheme.h"

enum {
    BN_T2_PER_BYTE = 4,
    BN_B3_PER_BYTE = 5,
    BN_B3_MAX_BYTE = 242,
    BN_T2_ZERO_BYTE = 0x55, /* four codes 0 */
};

/* Bytes of one row of `cols` >= 1 codes. */
static inline int64_t bn_t2_row_bytes(int64_t cols)
{
    return cols / BN_T2_PER_BYTE + (cols % BN_T2_PER_BYTE != 0);
}

static inline int64_t bn_b3_row_bytes(int64_t cols)
{
    return cols / BN_B3_PER_BYTE + (cols % BN_B3_PER_BYTE != 0);
}

/* Code of element k of a T2 row (which must be valid). */
static inline int bn_t2_get(const uint8_t *row, int64_t k)
{
    return ((row[k >> 2] >> (2 * (k & 3))) & 3) - 1;
}

/* Code of element k of a row of BN_T2 or BN_I8. */
static inline int bn_code_get(bn_dtype dtype, const void *row, int64_t k)
{
    return dtype == BN_T2 ? bn_t2_get(row, k) : ((const int8_t *)row)[k];
}

/* codes [rows, cols] (each -1, 0 or +1) -> T2 rows. */
void bn_t2_pack(const int8_t *codes, int64_t rows, int64_t cols, uint8_t *packed);

/* Rows row0 .. row0+rows-1 of a T2 weight -> codes [rows, cols]. */
void bn_t2_unpack(const uint8_t *packed, int64_t row0, int64_t rows, int64_t cols, int8_t *codes);

/* Elements k0 .. k0+n-1 of one T2 row -> n codes. */
void bn_t2_unpack_span(const uint8_t *row, int64_t k0, int64_t n, int8_t *codes);

/* T2 rows <-> base3x5 rows; the input is valid. */
void bn_b3_from_t2(const uint8_t *t2, int64_t rows, int64_t cols, uint8_t *b3);
void bn_b3_to_t2(const uint8_t *b3, int64_t rows, int64_t cols, uint8_t *t2);

/* Bit fields (files only): codes of any grid in bn_grid_table[grid].bits bits
 * each. The field is (code + max), halved where codes are odd, so it counts the
 * codes of the grid from 0; element k of a row is in bits k*bits and following,
 * from the lowest bit of the row's first byte on. Rows start on byte boundaries,
 * unused bits of a row's last byte are 0. Codes are rows of bn_grid_dtype(grid). */
static inline int64_t bn_bits_row_bytes(bn_grid grid, int64_t cols)
{
    return (cols * bn_grid_table[grid].bits + 7) / 8;
}

void bn_bits_pack(bn_grid grid, const void *codes, int64_t rows, int64_t cols, uint8_t *fields);
void bn_bits_unpack(bn_grid grid, const uint8_t *fields, int64_t rows, int64_t cols, void *codes);

/* What bn_t2_check / bn_b3_check / bn_bits_check found wrong first, in row-major order. */
typedef struct bn_code_fault {
    int64_t row;
    int64_t byte;  /* within the row */
    int64_t index; /* element of the row; >= cols for padding */
    int value;     /* T2 and bit fields: the field; base3x5: the byte, or the padding trit */
    bool padding;  /* a place after the row's end that does not hold code 0 */
} bn_code_fault;

/* True if every code of the rows is valid (no T2 field 3, no base3x5 byte above
 * 242) and all padding holds code 0; else false and *fault is filled. */
bool bn_t2_check(const uint8_t *packed, int64_t rows, int64_t cols, bn_code_fault *fault);
bool bn_b3_check(const uint8_t *packed, int64_t rows, int64_t cols, bn_code_fault *fault);

/* The same of bit fields: no field above that of the largest code, no unused bit 1. */
bool bn_bits_check(bn_grid grid, const uint8_t *fields, int64_t rows, int64_t cols,
                   bn_code_fault *fault);

/* Whether codes in memory are those of the grid; BN_I8 has no padding. */
bool bn_codes_check(bn_grid grid, const void *codes, int64_t rows, int64_t cols,
                    bn_code_fault *fault);

#endif
