/* gguf_types.h - how GGUF stores the elements of a tensor.
 *
 * A row is cut into blocks of a fixed number of elements and bytes (ggml's
 * ggml-common.h and ggml-quants.c). Written and decoded here:
 *
 *   F32, F16, BF16   one element per block
 *   Q8_0    32 elements: scale d (f16), 32 x int8; value = d * q
 *   Q4_0    32 elements: d (f16), 16 bytes; element j in the low half of byte
 *           j, element j+16 in the high half; value = d * (q - 8)
 *   TQ2_0   256 elements: 64 bytes, d (f16); element n in byte
 *           32*(n/128) + n%32 at bits 2*(n%128/32); value = d * (q - 1)
 *   TQ1_0   256 elements: 52 bytes, d (f16). Five elements to a byte: bytes
 *           0..31 hold n = byte + 32 i, bytes 32..47 n = 160 + byte-32 + 16 i,
 *           i = 0..4; four to a byte in bytes 48..51, n = 240 + byte-48 + 4 i.
 *           With t_i = code + 1 a byte is ceil(256 v / 243),
 *           v = 81 t_0 + 27 t_1 + 9 t_2 + 3 t_3 + t_4, so that t_i is the
 *           whole part of 3 * frac(3^i * byte / 256).
 *
 * All others are known by size, so that a file can be laid out.
 */
#ifndef BN_INTEROP_GGUF_TYPES_H
#define BN_INTEROP_GGUF_TYPES_H

#include <stdbool.h>
#include <stdint.h>

typedef enum bn_gguf_type { /* numbers as in files */
                            BN_GGUF_F32 = 0,
                            BN_GGUF_F16 = 1,
                            BN_GGUF_Q4_0 = 2,
                            BN_GGUF_Q8_0 = 8,
                            BN_GGUF_BF16 = 30,
                            BN_GGUF_TQ1_0 = 34,
                            BN_GGUF_TQ2_0 = 35,
} bn_gguf_type;

enum { BN_GGUF_BLOCK_MAX = 256 };

const char *bn_gguf_type_name(bn_gguf_type type); /* "TQ2_0"; NULL: unknown */
/* The type of this name, in any case; false: none. */
bool bn_gguf_type_find(const char *name, bn_gguf_type *out);
int bn_gguf_block_length(bn_gguf_type type); /* elements */
int bn_gguf_block_bytes(bn_gguf_type type);

/* Whether blocks of the type can hold codes -1, 0, +1 beside a scale. */
bool bn_gguf_holds_codes(bn_gguf_type type);

/* Whether bn_gguf_decode() takes the type. */
bool bn_gguf_is_decoded(bn_gguf_type type);

/* One block of codes under one scale. */
void bn_gguf_encode_codes(bn_gguf_type type, const int8_t *codes, float scale, uint8_t *block);

/* And back; false if a code is none of -1, 0, +1. */
bool bn_gguf_decode_codes(bn_gguf_type type, const uint8_t *block, int8_t *codes, float *scale);

/* `count` values (whole blocks) as F32, F16, BF16 or Q8_0, each rounded to the
 * nearest that the type holds. */
void bn_gguf_encode(bn_gguf_type type, const float *values, int64_t count, uint8_t *data);

/* `count` elements (whole blocks) as numbers. */
void bn_gguf_decode(bn_gguf_type type, const uint8_t *data, int64_t count, float *values);

#endif
