/* trit.h - arithmetic on packed vectors of trits (-1, 0, +1).
 *
 * A vector of n trits is one BN_T2 row (tensor/tensor.h, quant/pack.h): fields
 * of two bits that hold q + 1, unused fields of the last byte code 0. A row of a
 * packed weight is such a vector, and a whole weight is one of
 * rows * row_bytes * 4 trits, of which those past the rows' ends are 0.
 *
 *   bind      c_k = a_k b_k                   its own inverse where b has no 0
 *   bundle    c_k = sign(sum_i x_i,k)         majority of m vectors, a tie is 0
 *   negate    c_k = -a_k
 *   dot       sum_k a_k b_k                   exact
 *   cosine    dot / sqrt(|a| |b|)             |a| counts what is not 0; 0 for a zero vector
 *   Hamming   number of k with a_k != b_k
 *
 * The binding and bundling of vector symbolic architectures (Gayler, "Multiply,
 * Add, Permute", arXiv cs/0412059), on ternary vectors.
 *
 * Works on the fields in place, a word at a time, with no table and no
 * unpacking. One source (trit.inc) serves every width of word: bn_trit_ref uses
 * 64 bits, src/cpu compiles it for the vectors of each instruction set
 * (bn_cpu_trits); all give the same bits. Nothing allocates or fails; n >= 1;
 * inputs are valid; an output may be one of the inputs.
 */
#ifndef BN_QUANT_TRIT_H
#define BN_QUANT_TRIT_H

#include <math.h>

#include "quant/pack.h"

/* How many of the n trits are what. */
typedef struct bn_trit_counts {
    int64_t minus, zero, plus;
} bn_trit_counts;

/* How two vectors compare, position by position. */
typedef struct bn_trit_match {
    int64_t both;     /* neither is 0 */
    int64_t opposite; /* of these, with different signs */
    int64_t differ;   /* the Hamming distance */
} bn_trit_match;

typedef struct bn_trit_ops {
    void (*negate)(const uint8_t *a, int64_t n, uint8_t *out);
    void (*bind)(const uint8_t *a, const uint8_t *b, int64_t n, uint8_t *out);
    /* of 1 to 2^31 - 1 vectors */
    void (*bundle)(const uint8_t *const *in, int64_t vectors, int64_t n, uint8_t *out);
    bn_trit_counts (*count)(const uint8_t *a, int64_t n);
    bn_trit_match (*match)(const uint8_t *a, const uint8_t *b, int64_t n);
} bn_trit_ops;

extern const bn_trit_ops bn_trit_ref;

/* Codes -1, 0, +1 to a vector and back. */
static inline void bn_trit_from_i8(const int8_t *codes, int64_t n, uint8_t *out)
{
    bn_t2_pack(codes, 1, n, out);
}

static inline void bn_trit_to_i8(const uint8_t *a, int64_t n, int8_t *codes)
{
    bn_t2_unpack(a, 0, 1, n, codes);
}

static inline int64_t bn_trit_nonzero(const bn_trit_ops *ops, const uint8_t *a, int64_t n)
{
    return n - ops->count(a, n).zero;
}

static inline int64_t bn_trit_hamming(const bn_trit_ops *ops, const uint8_t *a, const uint8_t *b,
                                      int64_t n)
{
    return ops->match(a, b, n).differ;
}

static inline int64_t bn_trit_dot(const bn_trit_ops *ops, const uint8_t *a, const uint8_t *b,
                                  int64_t n)
{
    const bn_trit_match m = ops->match(a, b, n);
    return m.both - 2 * m.opposite;
}

static inline double bn_trit_cosine(const bn_trit_ops *ops, const uint8_t *a, const uint8_t *b,
                                    int64_t n)
{
    const double norms =
        sqrt((double)bn_trit_nonzero(ops, a, n)) * sqrt((double)bn_trit_nonzero(ops, b, n));
    return norms > 0 ? (double)bn_trit_dot(ops, a, b, n) / norms : 0;
}

#endif
