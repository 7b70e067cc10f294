/* charsmap.h - SentencePiece's normalizer: its table of replacements, and what
 * it does with spaces.
 *
 * The table ("precompiled_charsmap" of a tokenizer.model) is a double-array trie
 * (darts-clone) over the strings that are replaced, and the replacements one
 * after the other, each ended by NUL:
 *   u32 bytes of the trie | u32 units of the trie | replacements
 * At every place the longest string of the trie is replaced. A table that
 * points outside itself matches nothing there.
 */
#ifndef BN_DATA_CHARSMAP_H
#define BN_DATA_CHARSMAP_H

#include "base/text.h"

typedef struct bn_charsmap {
    uint32_t *units; /* NULL: nothing is replaced */
    size_t unit_count;
    char *replacements; /* ends with NUL */
    size_t replacement_bytes;
    bool add_dummy_prefix;         /* a space in front of a text */
    bool remove_extra_whitespaces; /* at the ends, and all but one between words */
    bn_strings keep;               /* user-defined symbols: never replaced */
} bn_charsmap;

/* Reads the table; the other members stay. Length 0 is no table. BN_BAD_DATA. */
bn_status bn_charsmap_read(bn_charsmap *map, const void *bytes, size_t length) BN_MUST_CHECK;
void bn_charsmap_clear(bn_charsmap *map);

/* Bytes of the longest replacement, at least 1. */
size_t bn_charsmap_longest(const bn_charsmap *map);

/* What the start of text[0..length-1], which is not empty, becomes: *out, of
 * *out_length bytes, borrowed from the map or the text. Returns the bytes that
 * were read, at least 1. */
size_t bn_charsmap_next(const bn_charsmap *map, const unsigned char *text, size_t length,
                        const unsigned char **out, size_t *out_length);

#endif
