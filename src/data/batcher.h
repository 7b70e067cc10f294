/* batcher.h - which tokens a step sees: training batches and evaluation.
 *
 * A window is T inputs x[0..T-1] and T labels y[t] = the token after x[t].
 *
 * Training (bn_batcher): an epoch draws a phase p in 0..min(T, n-T)-1 and cuts
 * the span of n tokens into windows that start at p, p+T, p+2T, ..., so each
 * window appears once per epoch and the cuts move between epochs. The order is
 * a pseudo-random permutation computed, not stored: a Feistel network over the
 * next even number of bits, walked until it lands inside 0..windows-1 (Black
 * and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002), keyed by (seed,
 * epoch). So the whole state is three numbers, and seeking is O(1).
 *
 * Evaluation (bn_eval_batches): windows lie end to end from the first token,
 * the last one is filled up with BN_LABEL_IGNORE, so every token of the span
 * but its first is a label exactly once.
 *
 * Neither owns anything; the corpus of the span must outlive them. One thread
 * at a time per object.
 */
#ifndef BN_DATA_BATCHER_H
#define BN_DATA_BATCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/corpus.h"
#include "data/tokenizer.h"

/* Label of a position that has no target; the value PyTorch uses. */
#define BN_LABEL_IGNORE (-100)

/* Everything a checkpoint keeps: the next window is number `index` of `epoch`. */
typedef struct bn_batcher_state {
    uint64_t seed;
    uint64_t epoch;
    uint64_t index;
} bn_batcher_state;

typedef struct bn_batcher {
    bn_span span;
    int64_t seq_len;
    bn_batcher_state state; /* read freely; change through bn_batcher_restore() */
    /* of state.epoch: */
    int64_t phase;   /* first token of window 0, from the start of the span */
    int64_t windows; /* in this epoch, at least 1 */
    uint64_t key;    /* of the permutation */
} bn_batcher;

/* Starts at epoch 0. BN_BAD_DATA when the span holds fewer than seq_len + 1
 * tokens: names the corpus, needed and found. seq_len >= 1. */
bn_status bn_batcher_init(bn_batcher *batcher, bn_span span, int64_t seq_len,
                          uint64_t seed) BN_MUST_CHECK;

/* Goes on from a saved state, as if never stopped. BN_BAD_DATA when the state
 * does not fit this span and length (the training text has changed). */
bn_status bn_batcher_restore(bn_batcher *batcher, const bn_batcher_state *state) BN_MUST_CHECK;

/* tokens [batch, T], labels [batch, T]: the next `batch` windows; goes into
 * the next epoch where one ends. */
void bn_batcher_next(bn_batcher *batcher, int64_t batch, int32_t *tokens, int32_t *labels);

/* Image of x under the keyed permutation of 0..n-1, 0 <= x < n. */
uint64_t bn_permute(uint64_t x, uint64_t n, uint64_t key);

typedef struct bn_eval_batches {
    bn_span span;
    const bn_tokenizer *tokenizer; /* borrowed */
    int64_t seq_len;
    int64_t batch_size;
    int64_t total;   /* batches that cover the span */
    int64_t batches; /* batches to be visited, evenly spaced; = total for all */
    int64_t next;    /* the next of these */
} bn_eval_batches;

/* What one evaluation batch counts for. */
typedef struct bn_eval_count {
    int64_t labels; /* positions with a label; the rest is BN_LABEL_IGNORE */
    int64_t bytes;  /* text bytes these labels stand for: bits per byte =
                       sum of nats / ln 2 / sum of bytes */
} bn_eval_count;

/* max_batches 0 = the whole span, else at most so many batches, evenly spaced
 * and the same every time. Calling it again starts over. BN_BAD_DATA when the
 * span holds fewer than 2 tokens. */
bn_status bn_eval_batches_init(bn_eval_batches *it, bn_span span, const bn_tokenizer *tokenizer,
                               int64_t seq_len, int64_t batch_size,
                               int64_t max_batches) BN_MUST_CHECK;

/* Fills tokens and labels [batch_size, T], or returns false when all batches
 * have been visited. Positions past the end of the span hold token 0 and
 * BN_LABEL_IGNORE; every batch has at least one label. */
bool bn_eval_batches_next(bn_eval_batches *it, int32_t *tokens, int32_t *labels,
                          bn_eval_count *count);

#endif
