/* tokenizer.h - text to token ids and back.
 *
 * A tokenizer maps byte strings to ids 0..vocab_size-1 and every id to a fixed
 * piece of bytes, so that
 *   decode(encode(x)) == x                 for every byte string x,
 *   decode(ids) == piece(ids[0]) ...       concatenated.
 * Because pieces have a known length, a loss per token turns into bits per
 * byte without decoding (bn_tokenizer_count_bytes).
 *
 * Tokenizers are immutable after bn_tokenizer_new() and may be shared by
 * threads. A further kind (BPE, say) is one more implementation of
 * tokenizer_impl.h and one more row in the table of tokenizer.c.
 */
#ifndef BN_DATA_TOKENIZER_H
#define BN_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct bn_tokenizer bn_tokenizer;

/* "byte": 256 ids, id = value of the byte. BN_BAD_CONFIG for an unknown name,
 * with the names there are. */
bn_status bn_tokenizer_new(const char *name, bn_tokenizer **out) BN_MUST_CHECK;
void bn_tokenizer_free(bn_tokenizer *tokenizer);

/* The name bn_tokenizer_new() takes; belongs to the tokenizer. */
const char *bn_tokenizer_name(const bn_tokenizer *tokenizer);

int64_t bn_tokenizer_vocab_size(const bn_tokenizer *tokenizer);

/* Identifies the mapping (kind, vocabulary, merges): files of tokens carry it,
 * so that they are never read with another vocabulary. */
uint64_t bn_tokenizer_hash(const bn_tokenizer *tokenizer);

/* True when the bytes of a text are its token ids: such a tokenizer reads a
 * text file as its own array of uint8 tokens. */
bool bn_tokenizer_is_bytes(const bn_tokenizer *tokenizer);

/* ids[0..*count-1] of text[0..bytes-1]. `ids` has room for `bytes` ids: a
 * tokenizer never makes more tokens than there are bytes. */
bn_status bn_tokenizer_encode(const bn_tokenizer *tokenizer, const void *text, size_t bytes,
                              int32_t *ids, size_t *count) BN_MUST_CHECK;

/* The bytes of one id, borrowed from the tokenizer, not terminated; *length
 * gets their number. NULL and 0 for an id outside the vocabulary. */
const unsigned char *bn_tokenizer_piece(const bn_tokenizer *tokenizer, int32_t id, size_t *length);

/* Decodes into text[0..capacity-1]; *bytes gets the number written. BN_BAD_DATA
 * for an id outside the vocabulary, BN_FAIL when `capacity` is too small
 * (bn_tokenizer_count_bytes tells how much is needed). Adds no '\0'. */
bn_status bn_tokenizer_decode(const bn_tokenizer *tokenizer, const int32_t *ids, size_t count,
                              void *text, size_t capacity, size_t *bytes) BN_MUST_CHECK;

/* Bytes that ids[0..count-1] decode to; negative ids (ignored labels) and ids
 * outside the vocabulary count as none. */
int64_t bn_tokenizer_count_bytes(const bn_tokenizer *tokenizer, const int32_t *ids, size_t count);

#endif
