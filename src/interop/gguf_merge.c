#include "interop/gguf_merge.h"

#include <stdlib.h>
#include <string.h>

enum { SYMBOLS = 512 }; /* of the longest token that is looked at */

/* A text that is being cut, as ids. */
typedef struct word {
    int32_t ids[SYMBOLS];
    int count;
    int64_t rank; /* of the last merge; -1: there was none */
} word;

/* The characters of a token. One without a token of its own is a symbol that
 * nothing merges with. */
static bool start_word(const bn_bpe_tokenizer *t, const char *token, word *w)
{
    const unsigned char *p = (const unsigned char *)token;
    *w = (word){.count = 0, .rank = -1};
    while (*p && w->count < SYMBOLS) {
        const size_t bytes = bn_utf8_length(*p);
        const int32_t id = bn_vocab_find(&t->keys, p, bytes);
        w->ids[w->count++] = id >= 0 ? id : (int32_t)t->keys.size;
        p += bytes;
    }
    return !*p;
}

static bool begins_with_space(const bn_bpe_tokenizer *t, int32_t id)
{
    size_t length = 0;
    const unsigned char *p = bn_vocab_piece(&t->keys, id, &length);
    return length >= BN_SPACE_MARK_BYTES && memcmp(p, BN_SPACE_MARK, BN_SPACE_MARK_BYTES) == 0;
}

/* What the tokenizer makes of it. */
static void merge_word(const bn_bpe_tokenizer *t, word *w)
{
    for (;;) {
        uint64_t best = BN_NO_MERGE;
        int at = 0;
        for (int i = 0; i + 1 < w->count; i++) {
            const uint64_t found = bn_merges_find(&t->merges, w->ids[i], w->ids[i + 1]);
            if (found == BN_NO_MERGE || (best != BN_NO_MERGE && found >> 32 >= best >> 32))
                continue;
            if (t->words == BN_WORDS_EACH_SPACE && begins_with_space(t, w->ids[i + 1]))
                continue;
            best = found;
            at = i;
        }
        if (best == BN_NO_MERGE)
            return;
        w->rank = (int64_t)(best >> 32);
        w->ids[at] = (int32_t)(uint32_t)best;
        w->count--;
        memmove(w->ids + at + 1, w->ids + at + 2, (size_t)(w->count - at - 1) * sizeof *w->ids);
    }
}

/* Bytes of a character without a token do not merge in llama.cpp. */
static bool merges_bytes(const bn_bpe_tokenizer *t)
{
    for (size_t i = 0; i <= t->merges.mask; i++)
        for (int b = 0; b < 256 && t->merges.results[i] != BN_NO_MERGE; b++)
            if ((int32_t)(t->merges.pairs[i] >> 32) == t->byte_ids[b] ||
                (int32_t)(uint32_t)t->merges.pairs[i] == t->byte_ids[b])
                return true;
    return false;
}

bn_status bn_gguf_merge_scores(const bn_bpe_tokenizer *t, const char *const *tokens,
                               const bool *skip, int64_t count, float *scores, bn_strings *gaps)
{
    const float lowest = -(float)(t->merges.count + 1);
    const char *other = NULL;
    word w;
    if (merges_bytes(t))
        BN_TRY(bn_strings_add(gaps, "llama.cpp does not merge bytes, which this tokenizer does"));
    for (int64_t id = 0; id < count; id++) {
        scores[id] = lowest;
        if (!tokens[id] || skip[id])
            continue;
        const bool whole = start_word(t, tokens[id], &w);
        if (whole)
            merge_word(t, &w);
        if (whole && w.count == 1 && w.ids[0] == (int32_t)id)
            scores[id] = w.rank < 0 ? 0 : -(float)w.rank;
        else if (!whole || w.count < 3)
            other = tokens[id];
    }
    if (!other)
        return BN_OK;
    char *gap = bn_format("llama.cpp puts the token \"%.60s\" together, which the merges of this "
                          "tokenizer do not",
                          other);
    bn_status status = gap ? bn_strings_add(gaps, gap) : BN_FAIL;
    free(gap);
    return status;
}
