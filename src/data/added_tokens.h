/* added_tokens.h - tokens that are found in a text before anything else.
 *
 * At the first place where one begins the longest one counts. A token may take
 * the spaces around it with it, or count only where it is a word of its own.
 */
#ifndef BN_DATA_ADDED_TOKENS_H
#define BN_DATA_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct bn_added_token {
    unsigned char *bytes;
    size_t length;
    int32_t id;
    bool lstrip, rstrip; /* spaces in front, behind belong to it */
    bool single_word;
} bn_added_token;

/* Starts as {0}. */
typedef struct bn_added_tokens {
    bn_added_token *items; /* by first byte, then the longest first */
    int count;
    int from[257]; /* those that start with byte b: from[b]..from[b+1]-1 */
    size_t longest;
    bool strips;       /* one of them takes spaces */
    bool looks_behind; /* one of them is a single word */
} bn_added_tokens;

/* Copies a token, its bytes included. */
bn_status bn_added_tokens_add(bn_added_tokens *set, const bn_added_token *token) BN_MUST_CHECK;
/* After the last one; before that nothing is found. */
void bn_added_tokens_sort(bn_added_tokens *set);
void bn_added_tokens_clear(bn_added_tokens *set);

/* The first token in text[at..end-1], NULL if there is none: it is
 * text[*from..*to-1], with the spaces that belong to it. text[0..at-1] is only
 * looked at for where a word ends. */
const bn_added_token *bn_added_tokens_find(const bn_added_tokens *set, const unsigned char *text,
                                           size_t at, size_t end, size_t *from, size_t *to);

#endif
