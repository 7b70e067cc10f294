/* unicode.h - UTF-8, and the few classes of characters that tokenizers ask for. */
#ifndef BN_DATA_UNICODE_H
#define BN_DATA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BN_SPACE_MARK       "\xe2\x96\x81" /* U+2581, SentencePiece's sign for a space */
#define BN_SPACE_MARK_BYTES 3

/* Length of the longest start of text[0..length-1] that is UTF-8 (no overlong
 * forms, no surrogates). */
size_t bn_utf8_valid(const unsigned char *text, size_t length);

/* Bytes of the character that starts with `first` in valid UTF-8. */
static inline size_t bn_utf8_length(unsigned char first)
{
    return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* The character at the start of text[0..length-1] and its bytes; 0 bytes if
 * there is none. */
size_t bn_utf8_decode(const unsigned char *text, size_t length, uint32_t *character);
/* The character that ends at text[length-1], likewise. */
size_t bn_utf8_decode_last(const unsigned char *text, size_t length, uint32_t *character);
/* Writes 1 to 4 bytes; returns how many. */
size_t bn_utf8_encode(uint32_t character, unsigned char *out);

/* White_Space. */
bool bn_is_space(uint32_t character);
/* What \w matches: letters, marks, decimal digits, connectors, joiners. */
bool bn_is_word(uint32_t character);

/* The end of text[from..to-1] without the spaces there. */
size_t bn_utf8_rtrim(const unsigned char *text, size_t from, size_t to);
/* The end of the spaces that begin at `from`. */
size_t bn_utf8_ltrim(const unsigned char *text, size_t from, size_t to);

#endif
