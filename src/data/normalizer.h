/* normalizer.h - what is done to a text before it is cut into words.
 *
 * A list of steps, each of which reads what the one before wrote. A text is
 * normalized a window at a time, so that a file of any length can be encoded:
 * with the bytes goes a map that says at which places the text may be taken up
 * again. Bytes that are not UTF-8 pass through unchanged, except that they end
 * what a normal form composes.
 *
 * Normal forms and small letters: Unicode 14 (utf8proc).
 */
#ifndef BN_DATA_NORMALIZER_H
#define BN_DATA_NORMALIZER_H

#include "data/charsmap.h"
#include "data/splitter.h"

enum { BN_NORMALIZER_STEPS = 16 };

#define BN_NO_PLACE UINT32_MAX

/* A normalized window. Starts as {0}. */
typedef struct bn_view {
    unsigned char *bytes;
    uint32_t *raw; /* raw[i]: where in the window the text of bytes[i..] begins, if taking it up
                      there gives the same bytes, else BN_NO_PLACE; raw[length] is the end */
    size_t length, capacity;
} bn_view;

void bn_view_clear(bn_view *view);

/* When a text (or what follows an added token) gets something in front. */
typedef enum bn_prefix_rule {
    BN_PREFIX_NEVER,
    BN_PREFIX_ALWAYS,
    BN_PREFIX_UNLESS_THERE,       /* unless it begins with it */
    BN_PREFIX_FIRST_UNLESS_THERE, /* the same, only at the start of the text */
} bn_prefix_rule;

typedef enum bn_normal_form { BN_NFC, BN_NFD, BN_NFKC, BN_NFKD } bn_normal_form;

typedef struct bn_normalizer_step bn_normalizer_step;

/* Starts as {0}: nothing is done. Immutable once built. */
typedef struct bn_normalizer {
    int count;
    bn_normalizer_step *steps[BN_NORMALIZER_STEPS];
    bool strips;   /* drops spaces at the ends of a text */
    size_t growth; /* text[n] becomes growth * (n + 1) bytes at most; 0 while it is {0} */
} bn_normalizer;

void bn_normalizer_clear(bn_normalizer *normalizer);

/* Each adds one step; BN_BAD_DATA for more than BN_NORMALIZER_STEPS. */
bn_status bn_normalizer_add_form(bn_normalizer *normalizer, bn_normal_form form) BN_MUST_CHECK;
bn_status bn_normalizer_add_lowercase(bn_normalizer *normalizer) BN_MUST_CHECK;
bn_status bn_normalizer_add_prefix(bn_normalizer *normalizer, const char *prefix,
                                   bn_prefix_rule rule) BN_MUST_CHECK;
bn_status bn_normalizer_add_strip(bn_normalizer *normalizer, bool left, bool right) BN_MUST_CHECK;
/* Every match of the pattern (splitter.h) becomes `content`. */
bn_status bn_normalizer_add_replace(bn_normalizer *normalizer, const char *pattern, bool literal,
                                    const char *content) BN_MUST_CHECK;
/* All that SentencePiece does; the step takes the contents of `charsmap`. */
bn_status bn_normalizer_add_charsmap(bn_normalizer *normalizer,
                                     bn_charsmap *charsmap) BN_MUST_CHECK;

/* Which part of a text a window is. */
typedef struct bn_window {
    const unsigned char *text;
    size_t length; /* below BN_NO_PLACE */
    bool fresh;    /* it is the start of the text, or follows an added token */
    bool first;    /* it is the start of the text */
    bool last;     /* nothing follows, or an added token */
} bn_window;

/* Scratch of one thread. Starts as {0}. */
typedef struct bn_normalizer_work {
    bn_view views[2]; /* a step reads one and writes the other */
} bn_normalizer_work;

void bn_normalizer_work_clear(bn_normalizer_work *work);

/* *out belongs to `work`. */
bn_status bn_normalizer_run(const bn_normalizer *normalizer, const bn_window *window,
                            bn_normalizer_work *work, bn_split_work *split,
                            const bn_view **out) BN_MUST_CHECK;

/* ---- for steps ---- */

/* Appends bytes; the first of them is at place `raw`, none of the others is. */
bn_status bn_view_add(bn_view *view, const void *bytes, size_t length, uint32_t raw) BN_MUST_CHECK;

#endif
