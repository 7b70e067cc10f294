/* tokenizer_impl.h - what one kind of tokenizer implements.
 *
 * For files that implement a tokenizer (and tests that need an odd one); users
 * include tokenizer.h. An implementation embeds bn_tokenizer as the first
 * member of its own struct, which its create() allocates and destroy() frees.
 */
#ifndef BN_DATA_TOKENIZER_IMPL_H
#define BN_DATA_TOKENIZER_IMPL_H

#include "data/tokenizer.h"

typedef struct bn_tokenizer_kind {
    const char *name; /* shorter than BN_SHARD_NAME_BYTES */
    bool is_bytes;    /* bytes of a text are its ids */
    bn_status (*create)(const struct bn_tokenizer_kind *kind, bn_tokenizer **out);
    void (*destroy)(bn_tokenizer *tokenizer);
    /* as bn_tokenizer_encode() */
    bn_status (*encode)(const bn_tokenizer *tokenizer, const void *text, size_t bytes, int32_t *ids,
                        size_t *count);
    /* as bn_tokenizer_piece(), for ids of the vocabulary only */
    const unsigned char *(*piece)(const bn_tokenizer *tokenizer, int32_t id, size_t *length);
} bn_tokenizer_kind;

struct bn_tokenizer {
    const bn_tokenizer_kind *kind;
    int64_t vocab_size;
    uint64_t hash; /* of everything that decides the mapping */
};

extern const bn_tokenizer_kind bn_tokenizer_byte;

#endif
