/* hf_pack.h - ternary weights as Hugging Face's BitNet models store them.
 *
 * Packed: uint8 [out/4, in]; byte (r, c) holds column c of four rows that are
 * out/4 apart,
 *
 *   bit  7 6        | 5 4        | 3 2      | 1 0
 *   row  r + 3out/4 | r + 2out/4 | r + out/4 | r       field = code + 1
 *
 * so `out` divides by four; field 3 is invalid. Unpacked: the codes themselves
 * as numbers, or, for groups, code times scale. mlx-lm reads the packed form
 * too. `t2` are BN_T2 rows (quant/pack.h) throughout.
 */
#ifndef BN_INTEROP_HF_PACK_H
#define BN_INTEROP_HF_PACK_H

#include <stdbool.h>
#include <stdint.h>

/* Where the first thing that is not ternary stands. */
typedef struct bn_hf_fault {
    int64_t row, column;
    double value;
} bn_hf_fault;

/* packed: out/4 * in bytes. */
void bn_hf_pack(const uint8_t *t2, int64_t out, int64_t in, uint8_t *packed);

/* False for a field 3; *fault says where. */
bool bn_hf_unpack(const uint8_t *packed, int64_t out, int64_t in, uint8_t *t2, bn_hf_fault *fault);

/* Codes and scales of weights [out, in] whose groups hold no values but 0 and
 * one magnitude, plus or minus. A group of zeros gets the smallest scale,
 * BN_QUANT_FLOOR, a whole tensor of zeros 1 (per tensor, the scale stands
 * beside the weights). False if a group has two magnitudes. */
bool bn_hf_recover(const float *weights, int64_t out, int64_t in, int64_t group_size, uint8_t *t2,
                   float *scales, bn_hf_fault *fault);

#endif
