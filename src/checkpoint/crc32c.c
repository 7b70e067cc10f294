#include "checkpoint/crc32c.h"

#include <string.h>

enum { POLYNOMIAL = (int)0x82f63b78u, LANES = 8, SHORT = 256 };

/* The remainder after eight more bits. */
static uint32_t eight_bits(uint32_t r)
{
    for (int bit = 0; bit < 8; bit++)
        r = (r >> 1) ^ ((r & 1) ? (uint32_t)POLYNOMIAL : 0);
    return r;
}

/* Tables would take longer than this. */
static uint32_t crc_of_few(uint32_t r, const unsigned char *p, size_t size)
{
    for (; size > 0; size--, p++)
        r = eight_bits(r ^ *p);
    return r;
}

/* Slicing by eight (Kounavis and Berry, 2008): table[k][b] is the remainder of
 * byte b followed by k zero bytes, so eight bytes take eight look-ups. */
uint32_t bn_crc32c(uint32_t crc, const void *data, size_t size)
{
    uint32_t table[LANES][256];
    if (size < SHORT)
        return ~crc_of_few(~crc, data, size);
    for (uint32_t b = 0; b < 256; b++)
        table[0][b] = eight_bits(b);
    for (int k = 1; k < LANES; k++)
        for (int b = 0; b < 256; b++)
            table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 0xff];

    const unsigned char *p = data;
    uint32_t r = ~crc;
    for (; size >= LANES; size -= LANES, p += LANES) {
        uint32_t lo, hi;
        memcpy(&lo, p, 4);
        memcpy(&hi, p + 4, 4);
        lo ^= r;
        r = table[7][lo & 0xff] ^ table[6][lo >> 8 & 0xff] ^ table[5][lo >> 16 & 0xff] ^
            table[4][lo >> 24] ^ table[3][hi & 0xff] ^ table[2][hi >> 8 & 0xff] ^
            table[1][hi >> 16 & 0xff] ^ table[0][hi >> 24];
    }
    for (; size > 0; size--, p++)
        r = (r >> 8) ^ table[0][(r ^ *p) & 0xff];
    return ~r;
}
