#include "data/batcher.h"

#include <string.h>

#include "base/checked.h"
#include "base/rng.h"

/* Streams of the run's seed; the numbers are part of what a resumed run
 * depends on. */
enum { STREAM_PHASE = 0x70686173, STREAM_ORDER = 0x6f726472 };

/* A balanced Feistel network on 2*half bits is a bijection whatever its round
 * function; four rounds of a good hash are indistinguishable from a random one
 * for this use (Luby and Rackoff 1988). */
enum { FEISTEL_ROUNDS = 4 };

static uint64_t feistel(uint64_t x, int half, uint64_t key)
{
    uint64_t mask = (UINT64_C(1) << half) - 1;
    uint64_t left = x >> half, right = x & mask;
    for (uint64_t round = 0; round < FEISTEL_ROUNDS; round++) {
        uint64_t mixed = left ^ (bn_hash64(key + round, right) & mask);
        left = right;
        right = mixed;
    }
    return left << half | right;
}

uint64_t bn_permute(uint64_t x, uint64_t n, uint64_t key)
{
    /* Smallest even width that holds 0..n-1: its domain is below 4n, so the
     * walk takes fewer than four steps on average. */
    int half = 1;
    while (half < 32 && (UINT64_C(1) << 2 * half) < n)
        half++;
    do
        x = feistel(x, half, key);
    while (x >= n);
    return x;
}

static void begin_epoch(bn_batcher *batcher, uint64_t epoch)
{
    int64_t n = batcher->span.count, t = batcher->seq_len;
    uint64_t phases = (uint64_t)(n - t < t ? n - t : t); /* leaves one window at least */
    bn_rng rng = bn_rng_of(bn_rng_key(batcher->state.seed, STREAM_PHASE), epoch);
    batcher->phase = (int64_t)bn_rng_below(&rng, phases);
    batcher->windows = (n - 1 - batcher->phase) / t;
    batcher->key = bn_rng_key(bn_rng_key(batcher->state.seed, STREAM_ORDER), epoch);
    batcher->state.epoch = epoch;
    batcher->state.index = 0;
}

bn_status bn_batcher_init(bn_batcher *batcher, bn_span span, int64_t seq_len, uint64_t seed)
{
    if (span.count <= seq_len)
        return bn_error(BN_BAD_DATA,
                        "%s: too short to train on: a sequence of %lld tokens needs %lld, the "
                        "training part has %lld of %lld",
                        bn_corpus_name(span.corpus), (long long)seq_len, (long long)seq_len + 1,
                        (long long)span.count, (long long)bn_corpus_size(span.corpus));
    *batcher = (bn_batcher){.span = span, .seq_len = seq_len, .state.seed = seed};
    begin_epoch(batcher, 0);
    return BN_OK;
}

bn_status bn_batcher_restore(bn_batcher *batcher, const bn_batcher_state *state)
{
    bn_batcher to = *batcher;
    to.state.seed = state->seed;
    begin_epoch(&to, state->epoch);
    if (state->index > (uint64_t)to.windows)
        return bn_error(BN_BAD_DATA,
                        "%s: the saved run was at window %llu of epoch %llu, the text has %lld "
                        "windows of %lld tokens: it is not the text the run was started with",
                        bn_corpus_name(to.span.corpus), (unsigned long long)state->index,
                        (unsigned long long)state->epoch, (long long)to.windows,
                        (long long)to.seq_len);
    to.state.index = state->index;
    *batcher = to;
    return BN_OK;
}

void bn_batcher_next(bn_batcher *batcher, int64_t batch, int32_t *tokens, int32_t *labels)
{
    int64_t t = batcher->seq_len;
    for (int64_t row = 0; row < batch; row++) {
        if (batcher->state.index >= (uint64_t)batcher->windows)
            begin_epoch(batcher, batcher->state.epoch + 1);
        uint64_t window =
            bn_permute(batcher->state.index++, (uint64_t)batcher->windows, batcher->key);
        int64_t start = batcher->span.start + batcher->phase + (int64_t)window * t;
        bn_corpus_copy(batcher->span.corpus, start, t, tokens + row * t);
        bn_corpus_copy(batcher->span.corpus, start + 1, t, labels + row * t);
    }
}

bn_status bn_eval_batches_init(bn_eval_batches *it, bn_span span, const bn_tokenizer *tokenizer,
                               int64_t seq_len, int64_t batch_size, int64_t max_batches)
{
    if (span.count < 2)
        return bn_error(BN_BAD_DATA,
                        "%s: too short to evaluate on: 2 tokens are needed, the validation part "
                        "has %lld of %lld",
                        bn_corpus_name(span.corpus), (long long)span.count,
                        (long long)bn_corpus_size(span.corpus));
    int64_t total = bn_ceil_div(bn_ceil_div(span.count - 1, seq_len), batch_size);
    *it = (bn_eval_batches){
        .span = span,
        .tokenizer = tokenizer,
        .seq_len = seq_len,
        .batch_size = batch_size,
        .total = total,
        .batches = max_batches > 0 && max_batches < total ? max_batches : total,
    };
    return BN_OK;
}

bool bn_eval_batches_next(bn_eval_batches *it, int32_t *tokens, int32_t *labels,
                          bn_eval_count *count)
{
    *count = (bn_eval_count){0};
    if (it->next >= it->batches)
        return false;
    /* floor(next * total / batches) without the product, which may overflow */
    int64_t quotient = it->total / it->batches, rest = it->total % it->batches;
    int64_t batch = it->next * quotient + it->next * rest / it->batches;
    it->next++;

    int64_t t = it->seq_len, places = it->batch_size * t;
    int64_t first = batch * places; /* of the inputs, within the span */
    int64_t left = it->span.count - 1 - first;
    int64_t filled = left < places ? left : places;
    bn_corpus_copy(it->span.corpus, it->span.start + first, filled, tokens);
    bn_corpus_copy(it->span.corpus, it->span.start + first + 1, filled, labels);
    memset(tokens + filled, 0, (size_t)(places - filled) * sizeof *tokens);
    for (int64_t i = filled; i < places; i++)
        labels[i] = BN_LABEL_IGNORE;

    count->labels = filled;
    count->bytes = bn_tokenizer_count_bytes(it->tokenizer, labels, (size_t)filled);
    return true;
}
