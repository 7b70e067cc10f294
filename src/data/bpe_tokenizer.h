/* bpe_tokenizer.h - the tokenizer that a tokenizer.json describes, in memory.
 *
 * For tokenizer_bpe.c, which encodes, and tokenizer_json.c, which builds. Text
 * goes through: added tokens, normalizer, further added tokens, splitter, model
 * (docs/tokenizers.md).
 */
#ifndef BN_DATA_BPE_TOKENIZER_H
#define BN_DATA_BPE_TOKENIZER_H

#include <pthread.h>

#include "data/added_tokens.h"
#include "data/bpe.h"
#include "data/normalizer.h"
#include "data/splitter.h"
#include "data/tokenizer_impl.h"
#include "data/unigram.h"

typedef enum bn_token_model {
    BN_MODEL_BYTES,      /* merges of bytes */
    BN_MODEL_CHARACTERS, /* merges of characters; U+2581 stands for a space */
    BN_MODEL_UNIGRAM,    /* likely rows of characters; U+2581 stands for a space */
} bn_token_model;

/* How a text with U+2581 for spaces becomes words, in front of the splitter. */
typedef enum bn_word_rule {
    BN_WORDS_WHOLE,      /* not at all */
    BN_WORDS_BY_SPACE,   /* where a space follows something else: changes no
                            token, as none has a space behind something else */
    BN_WORDS_EACH_SPACE, /* in front of every space */
    BN_WORDS_BLOCKS,     /* as BY_SPACE, but only every BN_WORD_BLOCK bytes: for
                            models whose rounding depends on what is in front */
} bn_word_rule;

enum { BN_WORD_BLOCK = 1 << 16 };

typedef struct bn_bpe_scratch bn_bpe_scratch;

typedef struct bn_bpe_tokenizer {
    bn_tokenizer base;
    char *json;      /* the text it was made from */
    bn_vocab keys;   /* what the model works on */
    bn_vocab pieces; /* what ids decode to */
    bn_token_model model;
    bn_merges merges;
    bn_unigram unigram;
    int32_t byte_ids[256]; /* -1: none */
    int32_t unknown;       /* the token of what has none; -1: bytes */
    bool fuse_unknown;     /* one token for several in a row */
    bool ignore_merges;    /* a word that is a token is that token */
    bn_normalizer normalizer;
    bn_prefix_rule prefix; /* whether decoding drops a space at the start of a text */
    bool drops_spaces;     /* and the space of every piece until there is text */
    bn_word_rule words;
    bn_splitter splitter;
    bn_added_tokens added; /* found in the text */
    bn_added_tokens later; /* found in the normalized text */
    bool *starts_text;     /* by id: a text begins anew behind it */
    pthread_mutex_t lock;  /* of `idle` */
    bn_bpe_scratch *idle;  /* scratch not in use, warm caches included */
} bn_bpe_tokenizer;

/* Fills everything but base, json and lock; *out is {0} with a lock. */
bn_status bn_bpe_tokenizer_parse(const char *json, bn_bpe_tokenizer *out) BN_MUST_CHECK;

/* The character that stands for a byte in byte-level vocabularies (GPT-2's
 * table): printable Latin-1 stands for itself, the other 68 bytes, in order,
 * for U+0100 and up. */
int bn_byte_to_char(unsigned char byte);
/* And back; -1 for a character that stands for none. */
int bn_char_to_byte(uint32_t character);

/* The pattern of GPT-2: what ByteLevel with use_regex cuts by. */
extern const char bn_gpt2_pattern[];

#endif
