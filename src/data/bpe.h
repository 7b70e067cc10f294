/* bpe.h - byte pair encoding of one word: a vocabulary and ranked merges.
 *
 * Sennrich et al. 2016 (arXiv 1508.07909) on any starting symbols. While two
 * neighbours have a merge, the merge of lowest rank is applied, the leftmost
 * one first. Immutable once built; bn_bpe_work is per thread.
 */
#ifndef BN_DATA_BPE_H
#define BN_DATA_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Strings with numbers 0..size-1, both ways. Numbers may be left out (holes);
 * a string may have a number and not be searchable. Starts as {0}. */
typedef struct bn_vocab {
    int64_t size;
    unsigned char *bytes;
    size_t used, capacity;
    struct bn_vocab_piece {
        size_t at;
        uint32_t length;
        bool present;
    } * pieces;
    int32_t *table; /* open addressing, -1 is free */
    size_t mask;
} bn_vocab;

/* Room for ids 0..size-1. */
bn_status bn_vocab_init(bn_vocab *vocab, int64_t size) BN_MUST_CHECK;
void bn_vocab_clear(bn_vocab *vocab);
/* Stores a string under a free id; `searchable`: bn_vocab_find() may return
 * it (BN_BAD_DATA when that string is there already). */
bn_status bn_vocab_put(bn_vocab *vocab, int64_t id, const void *bytes, size_t length,
                       bool searchable) BN_MUST_CHECK;
/* The id of a string, -1 if there is none. */
int32_t bn_vocab_find(const bn_vocab *vocab, const void *bytes, size_t length);
/* Never NULL for an id that is present, also when length is 0. */
const unsigned char *bn_vocab_piece(const bn_vocab *vocab, int64_t id, size_t *length);

/* Merges, by pair of ids. Starts as {0}. */
typedef struct bn_merges {
    uint64_t *pairs;   /* left << 32 | right; open addressing */
    uint64_t *results; /* rank << 32 | id; BN_NO_MERGE is free */
    size_t mask;
    int64_t count;
} bn_merges;

#define BN_NO_MERGE UINT64_MAX

bn_status bn_merges_init(bn_merges *merges, int64_t count) BN_MUST_CHECK;
void bn_merges_clear(bn_merges *merges);
/* A pair given again takes the new rank. At most the `count` of init. */
void bn_merges_put(bn_merges *merges, int32_t left, int32_t right, int64_t rank, int32_t id);
/* rank << 32 | id, or BN_NO_MERGE. */
uint64_t bn_merges_find(const bn_merges *merges, int32_t left, int32_t right);

/* Scratch of one thread. Starts as {0}. */
typedef struct bn_bpe_work {
    uint64_t *pairs; /* of short words: result of each pair */
    uint32_t *links; /* of long words: next, then previous */
    uint64_t *heap;  /* rank << 32 | position */
    size_t capacity;
} bn_bpe_work;

void bn_bpe_work_clear(bn_bpe_work *work);

/* Merges ids[0..n-1] in place; the number left goes to *count. */
bn_status bn_bpe_merge(const bn_merges *merges, bn_bpe_work *work, int32_t *ids, size_t n,
                       size_t *count) BN_MUST_CHECK;

/* A fast, well mixing hash of short byte strings (not against attackers). */
uint64_t bn_hash_bytes(const void *bytes, size_t length);

#endif
