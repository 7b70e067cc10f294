/* tokenizer.h - text to token ids and back.
 *
 * A tokenizer maps byte strings to ids 0..vocab_size-1 and every id to a fixed
 * piece of bytes, so that
 *   decode(encode(x)) == x                 for every byte string x,
 *   decode(ids) == piece(ids[0]) ...       concatenated.
 * Because pieces have a known length, a loss per token turns into bits per
 * byte without decoding (bn_tokenizer_count_bytes).
 *
 * Tokenizers in the manner of SentencePiece put a space in front of a text and
 * decoding drops it again; what that means for both rules is in
 * docs/tokenizers.md.
 *
 * Tokenizers are immutable after bn_tokenizer_new() and may be shared by
 * threads. A further kind is one more implementation of tokenizer_impl.h and
 * one more case in bn_tokenizer_new().
 */
#ifndef BN_DATA_TOKENIZER_H
#define BN_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct bn_tokenizer bn_tokenizer;

/* What a model file carries: "byte" (256 ids, id = value of the byte) or the
 * text of a tokenizer.json (it begins with '{'). BN_BAD_CONFIG for an unknown
 * name, BN_BAD_DATA for a text that is no tokenizer understood here. */
bn_status bn_tokenizer_new(const char *source, bn_tokenizer **out) BN_MUST_CHECK;

/* What a config says: "byte", or the path of a Hugging Face tokenizer.json or of
 * a SentencePiece tokenizer.model, told apart by ".json" and ".model". */
bn_status bn_tokenizer_open(const char *name_or_path, bn_tokenizer **out) BN_MUST_CHECK;
/* Whether bn_tokenizer_open() takes it for a path. */
bool bn_tokenizer_is_path(const char *name_or_path);
void bn_tokenizer_free(bn_tokenizer *tokenizer);

/* The kind: "byte" or "bpe". */
const char *bn_tokenizer_name(const bn_tokenizer *tokenizer);

/* What bn_tokenizer_new() makes the same tokenizer from; belongs to the
 * tokenizer. */
const char *bn_tokenizer_source(const bn_tokenizer *tokenizer);

int64_t bn_tokenizer_vocab_size(const bn_tokenizer *tokenizer);

/* Identifies the mapping (kind, vocabulary, merges): files of tokens carry it,
 * so that they are never read with another vocabulary. */
uint64_t bn_tokenizer_hash(const bn_tokenizer *tokenizer);

/* True when the bytes of a text are its token ids: such a tokenizer reads a
 * text file as its own array of uint8 tokens. */
bool bn_tokenizer_is_bytes(const bn_tokenizer *tokenizer);

/* Tokens that `bytes` bytes of text can become at most. */
size_t bn_tokenizer_max_tokens(const bn_tokenizer *tokenizer, size_t bytes);

/* ids[0..*count-1] of text[0..bytes-1]. `ids` has room for
 * bn_tokenizer_max_tokens() ids. */
bn_status bn_tokenizer_encode(const bn_tokenizer *tokenizer, const void *text, size_t bytes,
                              int32_t *ids, size_t *count) BN_MUST_CHECK;

/* ---- texts too long to encode at once ---- */

/* A list of ids that grows. Starts as {0}. */
typedef struct bn_ids {
    int32_t *items;
    size_t count, capacity;
    bool fixed; /* items belong to somebody else and cannot grow */
} bn_ids;

bn_status bn_ids_add(bn_ids *list, const int32_t *ids, size_t count) BN_MUST_CHECK;
void bn_ids_clear(bn_ids *list);

/* The words of a text that begin in [from, to). All of the text is there to be
 * looked at. */
typedef struct bn_text_part {
    const void *text;
    size_t bytes;
    size_t from, to;
    bool fresh; /* nothing of the text in front of `from` joins what follows:
                   true at 0, else what `rest` said */
} bn_text_part;

/* Adds the ids of a part to `out`. *rest is the same text from the end of the
 * last word on, which is at `to` or behind it: encoding it goes on exactly as
 * if the text had not been cut. */
bn_status bn_tokenizer_encode_part(const bn_tokenizer *tokenizer, const bn_text_part *part,
                                   bn_ids *out, bn_text_part *rest) BN_MUST_CHECK;

/* A place at or behind `near` where a word is likely to begin, so that several
 * threads can start there; whether it does is known when the part in front of
 * it ends exactly there, with `fresh` false. */
size_t bn_tokenizer_cut(const bn_tokenizer *tokenizer, const void *text, size_t bytes, size_t near);

/* ---- back to text ---- */

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
