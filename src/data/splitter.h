/* splitter.h - cuts text into the pieces that are merged on their own.
 *
 * A list of regular expressions (PCRE2, in the dialect of tokenizer.json). The
 * first one cuts the text into matches and what lies between them; what becomes
 * of the two is its behaviour. The next one cuts every piece, and so on. Text is
 * UTF-8.
 *
 * Steps, memory and depth of a match are limited: a pattern that explodes ends
 * as BN_BAD_DATA, not as a program that hangs.
 */
#ifndef BN_DATA_SPLITTER_H
#define BN_DATA_SPLITTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "data/unicode.h"

enum { BN_SPLIT_STAGES = 8 };

typedef struct bn_splitter {
    int count; /* 0: every text is one piece */
    struct bn_split_stage *stages[BN_SPLIT_STAGES];
    bool looks_behind; /* a piece depends on the text in front of it */
} bn_splitter;

/* What becomes of matches and of what lies between them. */
typedef enum bn_split_behavior {
    BN_SPLIT_ISOLATED,      /* pieces, both */
    BN_SPLIT_REMOVED,       /* matches are dropped */
    BN_SPLIT_WITH_PREVIOUS, /* a match joins what is in front of it, unless that is a match */
    BN_SPLIT_WITH_NEXT,     /* a match joins what follows, unless that is a match */
    BN_SPLIT_CONTIGUOUS,    /* matches without anything between them are one piece */
} bn_split_behavior;

/* Adds one expression. `literal`: no expression, the text itself. `invert`:
 * matches and what lies between them change places. BN_BAD_DATA for what does
 * not compile, with the reason and its place. */
bn_status bn_splitter_add(bn_splitter *splitter, const char *pattern, bool literal,
                          bn_split_behavior behavior, bool invert) BN_MUST_CHECK;
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
    bool seen;        /* a piece was looked at that is still to come: */
    bool seen_match;
    size_t seen_start, seen_end;
} bn_split;

bn_split bn_split_start(const bn_splitter *splitter, int stage, bn_split_work *work,
                        const unsigned char *text, size_t length);

/* The next piece is text[*start..*end-1]; *start == *end when none is left. */
bn_status bn_split_next(bn_split *split, size_t *start, size_t *end) BN_MUST_CHECK;

/* The same whatever the stage's behaviour: a match, or what lies between two. */
bn_status bn_split_scan(bn_split *split, size_t *start, size_t *end, bool *match) BN_MUST_CHECK;

#endif
