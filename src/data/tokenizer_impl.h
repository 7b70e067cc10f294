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
    /* `source` as bn_tokenizer_source() gives it back */
    bn_status (*create)(const struct bn_tokenizer_kind *kind, const char *source,
                        bn_tokenizer **out);
    void (*destroy)(bn_tokenizer *tokenizer);
    /* as bn_tokenizer_encode_part() */
    bn_status (*encode_part)(const bn_tokenizer *tokenizer, const bn_text_part *part, bn_ids *out,
                             bn_text_part *rest);
    /* as bn_tokenizer_cut() and bn_tokenizer_max_tokens(); NULL: `near`, `bytes` */
    size_t (*cut)(const bn_tokenizer *tokenizer, const void *text, size_t bytes, size_t near);
    size_t (*max_tokens)(const bn_tokenizer *tokenizer, size_t bytes);
    /* Whether decoding drops a space at the start of ids[at]; `empty`: there is no
       text so far. NULL: never. */
    bool (*starts_text)(const bn_tokenizer *tokenizer, const int32_t *ids, size_t at, bool empty);
    /* as bn_tokenizer_piece(), for ids of the vocabulary only */
    const unsigned char *(*piece)(const bn_tokenizer *tokenizer, int32_t id, size_t *length);
    /* as bn_tokenizer_source(); NULL: the name */
    const char *(*source)(const bn_tokenizer *tokenizer);
} bn_tokenizer_kind;

struct bn_tokenizer {
    const bn_tokenizer_kind *kind;
    int64_t vocab_size;
    uint64_t hash; /* of everything that decides the mapping */
};

extern const bn_tokenizer_kind bn_tokenizer_byte;
extern const bn_tokenizer_kind bn_tokenizer_bpe;

#endif
