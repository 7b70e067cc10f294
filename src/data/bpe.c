#include "data/bpe.h"

#include <stdlib.h>
#include <string.h>

enum {
    SHORT = 64,             /* symbols; up to here scanning beats a heap */
    LONGEST = (1 << 30) - 1 /* positions fit 32 bits with room for the heap's size */
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

uint64_t bn_hash_bytes(const void *bytes, size_t length)
{
    const unsigned char *p = bytes;
    uint64_t hash = length * UINT64_C(0x9e3779b97f4a7c15), word;
    for (; length > 8; p += 8, length -= 8) {
        memcpy(&word, p, 8);
        hash = (hash ^ word) * UINT64_C(0xd6e8feb86659fd93);
        hash ^= hash >> 29;
    }
    word = 0;
    for (size_t i = 0; i < length; i++)
        word |= (uint64_t)p[i] << 8 * i;
    return mix(hash ^ word);
}

/* ---- vocabulary ---- */

/* A power of two of at least twice `count`. */
static size_t table_size(int64_t count)
{
    size_t size = 16;
    while (size < 2 * (size_t)count)
        size *= 2;
    return size;
}

bn_status bn_vocab_init(bn_vocab *vocab, int64_t size)
{
    const size_t slots = table_size(size);
    *vocab = (bn_vocab){.size = size, .mask = slots - 1};
    vocab->pieces = calloc((size_t)size + 1, sizeof *vocab->pieces);
    vocab->table = malloc(slots * sizeof *vocab->table);
    if (!vocab->pieces || !vocab->table) {
        bn_vocab_clear(vocab);
        return bn_error_nomem("a vocabulary", slots * sizeof *vocab->table);
    }
    memset(vocab->table, 0xff, slots * sizeof *vocab->table);
    return BN_OK;
}

void bn_vocab_clear(bn_vocab *vocab)
{
    free(vocab->bytes);
    free(vocab->pieces);
    free(vocab->table);
    *vocab = (bn_vocab){0};
}

/* The slot of a string: its own, or the free one where it would go. */
static size_t vocab_slot(const bn_vocab *vocab, const void *bytes, size_t length)
{
    size_t slot = bn_hash_bytes(bytes, length) & vocab->mask;
    for (;; slot = (slot + 1) & vocab->mask) {
        const int32_t id = vocab->table[slot];
        if (id < 0)
            return slot;
        const struct bn_vocab_piece *piece = &vocab->pieces[id];
        if (piece->length == length && memcmp(vocab->bytes + piece->at, bytes, length) == 0)
            return slot;
    }
}

bn_status bn_vocab_put(bn_vocab *vocab, int64_t id, const void *bytes, size_t length,
                       bool searchable)
{
    if (vocab->pieces[id].present)
        return bn_error(BN_BAD_DATA, "id %lld is given twice", (long long)id);
    if (length > UINT32_MAX / 2)
        return bn_error(BN_BAD_DATA, "id %lld: a token of %zu bytes", (long long)id, length);
    if (vocab->used + length + 1 > vocab->capacity) {
        const size_t capacity = 2 * vocab->capacity + length + 4096;
        unsigned char *grown = realloc(vocab->bytes, capacity);
        if (!grown)
            return bn_error_nomem("a vocabulary", capacity);
        vocab->bytes = grown;
        vocab->capacity = capacity;
    }
    if (length > 0)
        memcpy(vocab->bytes + vocab->used, bytes, length);
    vocab->pieces[id] = (struct bn_vocab_piece){vocab->used, (uint32_t)length, true};
    vocab->used += length;
    if (!searchable)
        return BN_OK;
    const size_t slot = vocab_slot(vocab, bytes, length);
    if (vocab->table[slot] >= 0)
        return bn_error(BN_BAD_DATA, "ids %d and %lld are the same token", vocab->table[slot],
                        (long long)id);
    vocab->table[slot] = (int32_t)id;
    return BN_OK;
}

int32_t bn_vocab_find(const bn_vocab *vocab, const void *bytes, size_t length)
{
    return vocab->table[vocab_slot(vocab, bytes, length)];
}

const unsigned char *bn_vocab_piece(const bn_vocab *vocab, int64_t id, size_t *length)
{
    const struct bn_vocab_piece *piece = &vocab->pieces[id];
    *length = piece->length;
    return piece->present ? vocab->bytes + piece->at : NULL;
}

/* ---- merges ---- */

bn_status bn_merges_init(bn_merges *merges, int64_t count)
{
    const size_t slots = table_size(count);
    *merges = (bn_merges){.mask = slots - 1, .count = count};
    merges->pairs = malloc(slots * sizeof *merges->pairs);
    merges->results = malloc(slots * sizeof *merges->results);
    if (!merges->pairs || !merges->results) {
        bn_merges_clear(merges);
        return bn_error_nomem("merges", 2 * slots * sizeof *merges->pairs);
    }
    memset(merges->pairs, 0xff, slots * sizeof *merges->pairs);
    memset(merges->results, 0xff, slots * sizeof *merges->results);
    return BN_OK;
}

void bn_merges_clear(bn_merges *merges)
{
    free(merges->pairs);
    free(merges->results);
    *merges = (bn_merges){0};
}

static size_t merge_slot(const bn_merges *merges, uint64_t pair)
{
    size_t slot = mix(pair) & merges->mask;
    while (merges->pairs[slot] != pair && merges->results[slot] != BN_NO_MERGE)
        slot = (slot + 1) & merges->mask;
    return slot;
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

void bn_merges_put(bn_merges *merges, int32_t left, int32_t right, int64_t rank, int32_t id)
{
    const size_t slot = merge_slot(merges, pair_of(left, right));
    merges->pairs[slot] = pair_of(left, right);
    merges->results[slot] = (uint64_t)rank << 32 | (uint32_t)id;
}

uint64_t bn_merges_find(const bn_merges *merges, int32_t left, int32_t right)
{
    return merges->results[merge_slot(merges, pair_of(left, right))];
}

/* ---- merging ---- */

void bn_bpe_work_clear(bn_bpe_work *work)
{
    free(work->pairs);
    free(work->links);
    free(work->heap);
    *work = (bn_bpe_work){0};
}

static size_t merge_short(const bn_merges *merges, int32_t *ids, size_t n)
{
    uint64_t pairs[SHORT];
    for (size_t i = 0; i + 1 < n; i++)
        pairs[i] = bn_merges_find(merges, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (pairs[i] >> 32 < pairs[best] >> 32)
                best = i;
        if (pairs[best] == BN_NO_MERGE)
            break;
        ids[best] = (int32_t)(uint32_t)pairs[best];
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        if (best + 1 < n)
            memmove(pairs + best + 1, pairs + best + 2, (n - best - 2) * sizeof *pairs);
        if (best + 1 < n)
            pairs[best] = bn_merges_find(merges, ids[best], ids[best + 1]);
        if (best > 0)
            pairs[best - 1] = bn_merges_find(merges, ids[best - 1], ids[best]);
    }
    return n;
}

static bn_status work_reserve(bn_bpe_work *work, size_t n)
{
    if (n > LONGEST)
        return bn_error(BN_BAD_DATA, "a piece of %zu symbols without a place to cut", n);
    if (n <= work->capacity)
        return BN_OK;
    bn_bpe_work_clear(work);
    work->pairs = malloc(n * sizeof *work->pairs);
    work->links = malloc(2 * n * sizeof *work->links);
    work->heap = malloc(3 * n * sizeof *work->heap); /* n at first, two per merge, less one */
    if (!work->pairs || !work->links || !work->heap) {
        bn_bpe_work_clear(work);
        return bn_error_nomem("the merging of a long word", 40ULL * n);
    }
    work->capacity = n;
    return BN_OK;
}

static void heap_push(uint64_t *heap, size_t *size, uint64_t value)
{
    size_t i = (*size)++;
    while (i > 0 && heap[(i - 1) / 2] > value) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = value;
}

static uint64_t heap_pop(uint64_t *heap, size_t *size)
{
    const uint64_t top = heap[0], last = heap[--*size];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= *size)
            break;
        if (child + 1 < *size && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* Symbols in a doubly linked list, candidate pairs in a heap ordered by rank,
 * then position. An entry whose pair is no longer there is passed over. */
static size_t merge_long(const bn_merges *merges, bn_bpe_work *work, int32_t *ids, size_t n)
{
    uint32_t *next = work->links, *previous = work->links + n;
    uint64_t *pairs = work->pairs;
    const uint32_t end = UINT32_MAX;
    size_t size = 0, left = 0;
    for (size_t i = 0; i < n; i++) {
        next[i] = i + 1 < n ? (uint32_t)i + 1 : end;
        previous[i] = i > 0 ? (uint32_t)i - 1 : end;
        pairs[i] = i + 1 < n ? bn_merges_find(merges, ids[i], ids[i + 1]) : BN_NO_MERGE;
        if (pairs[i] != BN_NO_MERGE)
            heap_push(work->heap, &size, pairs[i] >> 32 << 32 | i);
    }
    while (size > 0) {
        const uint64_t top = heap_pop(work->heap, &size);
        const uint32_t at = (uint32_t)top;
        if (pairs[at] == BN_NO_MERGE || pairs[at] >> 32 != top >> 32)
            continue;
        const uint32_t gone = next[at];
        ids[at] = (int32_t)(uint32_t)pairs[at];
        next[at] = next[gone];
        if (next[at] != end)
            previous[next[at]] = at;
        pairs[gone] = BN_NO_MERGE;
        const uint32_t changed[] = {at, previous[at]};
        for (int k = 0; k < 2; k++) {
            const uint32_t p = changed[k];
            if (p == end)
                continue;
            pairs[p] = next[p] == end ? BN_NO_MERGE : bn_merges_find(merges, ids[p], ids[next[p]]);
            if (pairs[p] != BN_NO_MERGE)
                heap_push(work->heap, &size, pairs[p] >> 32 << 32 | p);
        }
    }
    for (uint32_t i = 0; i != end; i = next[i])
        ids[left++] = ids[i];
    return left;
}

bn_status bn_bpe_merge(const bn_merges *merges, bn_bpe_work *work, int32_t *ids, size_t n,
                       size_t *count)
{
    if (n <= SHORT) {
        *count = merge_short(merges, ids, n);
        return BN_OK;
    }
    BN_TRY(work_reserve(work, n));
    *count = merge_long(merges, work, ids, n);
    return BN_OK;
}
