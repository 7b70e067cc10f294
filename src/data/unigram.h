/* unigram.h - the most likely way to cut a word into tokens.
 *
 * Kudo 2018 (arXiv 1804.10959): every token has a log probability; of all ways
 * to write a word as a row of tokens the one of the largest sum is taken, by
 * Viterbi's algorithm. A character without a token of its own costs 10 more
 * than the most unlikely token. Immutable once built.
 */
#ifndef BN_DATA_UNIGRAM_H
#define BN_DATA_UNIGRAM_H

#include "data/bpe.h"

/* Starts as {0}. */
typedef struct bn_unigram {
    double *scores; /* by id of the vocabulary */
    double unknown; /* of a character without a token */
    size_t longest; /* bytes of the longest token */
    bool single;    /* sums are rounded to float, as SentencePiece does */
} bn_unigram;

void bn_unigram_clear(bn_unigram *unigram);

/* Scratch of one thread. Starts as {0}. */
typedef struct bn_unigram_work {
    struct bn_unigram_node {
        double best;
        size_t start;
        int32_t id; /* BN_UNKNOWN_PIECE: a character without a token */
        bool reached;
    } * nodes;
    size_t capacity;
} bn_unigram_work;

#define BN_UNKNOWN_PIECE (-1)

void bn_unigram_work_clear(bn_unigram_work *work);

/* Cuts text[0..length-1], which is UTF-8. The pieces are
 * nodes[1..*count] of `work`: `start` and `id`. */
bn_status bn_unigram_cut(const bn_unigram *unigram, const bn_vocab *vocab, bn_unigram_work *work,
                         const unsigned char *text, size_t length, size_t *count) BN_MUST_CHECK;

#endif
