/* bpe_tokenizer.h - the tokenizer that a tokenizer.json describes, in memory.
 *
 * For tokenizer_bpe.c, which encodes, and tokenizer_json.c, which builds. Two
 * families (docs/tokenizers.md):
 *   byte-level     symbols are bytes; a splitter makes the words
 *   SentencePiece  symbols are characters, U+2581 stands for a space; words
 *                  begin with a space, bytes without a token are <0xNN>
 */
#ifndef BN_DATA_BPE_TOKENIZER_H
#define BN_DATA_BPE_TOKENIZER_H

#include <pthread.h>

#include "data/bpe.h"
#include "data/splitter.h"
#include "data/tokenizer_impl.h"

/* When a text (or what follows an added token) gets a space in front. */
typedef enum bn_prefix_space {
    BN_PREFIX_NEVER,
    BN_PREFIX_ALWAYS,
    BN_PREFIX_UNLESS_SPACE,       /* unless it begins with one */
    BN_PREFIX_FIRST_UNLESS_SPACE, /* the same, only at the start of the text */
} bn_prefix_space;

typedef enum bn_word_rule {
    BN_WORDS_WHOLE,      /* everything is one word */
    BN_WORDS_BY_SPACE,   /* cut where a space follows something else: changes no
                            token, as none has a space behind something else */
    BN_WORDS_EACH_SPACE, /* cut in front of every space */
} bn_word_rule;

/* A token that is found in the text before anything else. */
typedef struct bn_added_token {
    unsigned char *bytes;
    size_t length;
    int32_t id;
} bn_added_token;

typedef struct bn_bpe_scratch bn_bpe_scratch;

typedef struct bn_bpe_tokenizer {
    bn_tokenizer base;
    char *json;      /* the text it was made from */
    bn_vocab keys;   /* what merges work on */
    bn_vocab pieces; /* what ids decode to */
    bn_merges merges;
    int32_t byte_ids[256];
    bool ignore_merges; /* a word that is a token is that token */
    bool sentencepiece;
    bn_prefix_space prefix;
    bn_word_rule words;
    bn_splitter splitter;
    bn_added_token *added; /* by first byte, then the longest first */
    int added_count;
    int added_from[257]; /* those that start with byte b: from[b]..from[b+1]-1 */
    size_t added_longest;
    bool *is_added;       /* by id */
    pthread_mutex_t lock; /* of `idle` */
    bn_bpe_scratch *idle; /* scratch not in use, warm caches included */
} bn_bpe_tokenizer;

#define BN_SPACE_MARK       "\xe2\x96\x81" /* U+2581 */
#define BN_SPACE_MARK_BYTES 3

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
