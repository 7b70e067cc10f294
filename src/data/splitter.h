/* splitter.h - cuts text into the pieces that are merged on their own.
 *
 * A list of regular expressions (PCRE2, in the dialect of tokenizer.json). The
 * first one cuts the text: every match is a piece, and so is what lies between
 * two matches. The next one cuts every piece, and so on. Text is UTF-8.
 *
 * Steps, memory and depth of a match are limited: a pattern that explodes ends
 * as BN_BAD_DATA, not as a program that hangs.
 */
#ifndef BN_DATA_SPLITTER_H
#define BN_DATA_SPLITTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum { BN_SPLIT_STAGES = 8 };

typedef struct bn_splitter {
    int count; /* 0: every text is one piece */
    struct bn_split_stage *stages[BN_SPLIT_STAGES];
    bool looks_behind; /* a piece depends on the text in front of it */
} bn_splitter;

/* Adds one expression. `literal`: no expression, the text itself. BN_BAD_DATA
 * for what does not compile, with the reason and its place. */
bn_status bn_splitter_add(bn_splitter *splitter, const char *pattern, bool literal) BN_MUST_CHECK;
void bn_splitter_clear(bn_splitter *splitter);

/* Scratch of one thread. */
typedef struct bn_split_work bn_split_work;
bn_status bn_split_work_new(bn_split_work **out) BN_MUST_CHECK;
void bn_split_work_free(bn_split_work *work);

/* Walks over the pieces that one stage makes of text[0..length-1]. */
typedef struct bn_split {
    const struct bn_split_stage *stage;
    bn_split_work *work;
    const unsigned char *text;
    size_t length;
    size_t at;        /* end of the last piece */
    size_t search;    /* where to look for the next match */
    size_t match_end; /* end of a match that begins at `at`; 0: none known */
    bool done;        /* no match is left */
} bn_split;

bn_split bn_split_start(const bn_splitter *splitter, int stage, bn_split_work *work,
                        const unsigned char *text, size_t length);

/* The next piece is text[*start..*end-1]; *start == *end when none is left. */
bn_status bn_split_next(bn_split *split, size_t *start, size_t *end) BN_MUST_CHECK;

/* Length of the longest start of text[0..length-1] that is UTF-8 (no overlong
 * forms, no surrogates). */
size_t bn_utf8_valid(const unsigned char *text, size_t length);

/* Bytes of the character that starts with `first` in valid UTF-8. */
static inline size_t bn_utf8_length(unsigned char first)
{
    return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

#endif
