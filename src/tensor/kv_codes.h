/* kv_codes.h - keys or values of one position as codes in a KV cache.
 *
 * A row holds `heads` heads of head_dim elements, each head cut into groups that
 * share one step (docs/numerics.md):
 *
 *   float32 step[heads * groups]   then the codes, group after group
 *
 *   8 bits: a head is one group; code i is byte i, int8
 *   4 bits: groups of BN_KV_GROUP elements, the last of a head may be short; of n
 *           elements, h = ceil(n/2), byte i < h holds element i in its low and
 *           element h + i in its high four bits, as code + 8
 *
 * and ends on a multiple of 4 bytes.
 */
#ifndef BN_TENSOR_KV_CODES_H
#define BN_TENSOR_KV_CODES_H

#include <string.h>

#include "base/checked.h"

enum { BN_KV_GROUP = 32 };

typedef struct bn_kv_codes {
    int bits; /* 8 or 4 */
    int64_t heads, head_dim;
} bn_kv_codes;

static inline bool bn_kv_bits_ok(int64_t bits)
{
    return bits == 8 || bits == 4;
}

/* Elements that share a step, the last group of a head aside. */
static inline int64_t bn_kv_group(const bn_kv_codes *c)
{
    return c->bits == 4 && c->head_dim > BN_KV_GROUP ? BN_KV_GROUP : c->head_dim;
}

/* Groups of a head. */
static inline int64_t bn_kv_groups(const bn_kv_codes *c)
{
    return bn_ceil_div(c->head_dim, bn_kv_group(c));
}

/* Bytes of the codes of n elements of one group. */
static inline int64_t bn_kv_code_bytes(const bn_kv_codes *c, int64_t n)
{
    return c->bits == 4 ? (n + 1) / 2 : n;
}

/* Bytes of the codes of a head. */
static inline int64_t bn_kv_head_bytes(const bn_kv_codes *c)
{
    const int64_t whole = c->head_dim / bn_kv_group(c), group = bn_kv_group(c);
    return whole * bn_kv_code_bytes(c, group) + bn_kv_code_bytes(c, c->head_dim - whole * group);
}

static inline int64_t bn_kv_row_bytes(const bn_kv_codes *c)
{
    const int64_t steps = c->heads * bn_kv_groups(c) * (int64_t)sizeof(float);
    return (steps + c->heads * bn_kv_head_bytes(c) + 3) / 4 * 4;
}

/* Step of group g of a row, counted over all its heads. */
static inline float bn_kv_step(const uint8_t *row, int64_t g)
{
    float step;
    memcpy(&step, row + g * (int64_t)sizeof step, sizeof step);
    return step;
}

/* Where a row's codes begin, and those of one head. */
static inline uint8_t *bn_kv_row_codes(const bn_kv_codes *c, uint8_t *row)
{
    return row + c->heads * bn_kv_groups(c) * (int64_t)sizeof(float);
}

static inline const uint8_t *bn_kv_head_codes(const bn_kv_codes *c, const uint8_t *row,
                                              int64_t head)
{
    return row + c->heads * bn_kv_groups(c) * (int64_t)sizeof(float) + head * bn_kv_head_bytes(c);
}

/* n codes of 4 bits of one group, and back. */
static inline void bn_kv_pack4(const int8_t *restrict codes, int64_t n, uint8_t *restrict bytes)
{
    const int64_t half = (n + 1) / 2;
    for (int64_t i = 0; i < n / 2; i++)
        bytes[i] = (uint8_t)((codes[i] + 8) | (codes[half + i] + 8) << 4);
    if (n % 2)
        bytes[half - 1] = (uint8_t)(codes[half - 1] + 8);
}

static inline void bn_kv_unpack4(const uint8_t *restrict bytes, int64_t n, int8_t *restrict codes)
{
    const int64_t half = (n + 1) / 2;
    for (int64_t i = 0; i < half; i++)
        codes[i] = (int8_t)((bytes[i] & 15) - 8);
    for (int64_t i = 0; i < n / 2; i++)
        codes[half + i] = (int8_t)((bytes[i] >> 4) - 8);
}

#endif
