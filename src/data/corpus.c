#include "data/corpus.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fs.h"
#include "data/token_shard.h"

typedef struct segment {
    bn_map map;
    const void *tokens; /* inside the map */
    int width;          /* bytes per token: 1, 2 or 4 */
    int64_t first;      /* its first token's place in the corpus */
    int64_t count;
} segment;

struct bn_corpus {
    char *name;
    bn_strings paths; /* one per segment */
    segment *segments;
    int64_t size;
};

static bn_status segment_open(const char *path, const bn_tokenizer *tokenizer, segment *out)
{
    if (bn_fs_is_dir(path))
        return bn_error(BN_NO_INPUT,
                        "%s: is a folder, expected a file or a pattern such as "
                        "%s/*.txt",
                        path, path);
    BN_TRY(bn_map_open(path, &out->map));
    if (out->map.size == 0)
        return bn_error(BN_BAD_DATA, "%s: is empty", path);
    if (bn_shard_is(out->map.data, out->map.size)) {
        bn_shard shard;
        bn_status status = bn_shard_parse(out->map.data, out->map.size, tokenizer, &shard);
        if (status != BN_OK)
            return bn_error_in(status, path);
        out->tokens = shard.tokens;
        out->width = shard.width;
        out->count = shard.count;
        return BN_OK;
    }
    if (!bn_tokenizer_is_bytes(tokenizer))
        return bn_error(BN_BAD_DATA, "%s: is no token shard, which tokenizer \"%s\" needs", path,
                        bn_tokenizer_name(tokenizer));
    out->tokens = out->map.data;
    out->width = 1;
    out->count = (int64_t)out->map.size;
    return BN_OK;
}

bn_status bn_corpus_open(const char *pattern, const bn_tokenizer *tokenizer, bn_corpus **out)
{
    *out = NULL;
    bn_corpus *corpus = calloc(1, sizeof *corpus);
    if (!corpus)
        return bn_error_nomem("corpus", sizeof *corpus);

    bn_status status = BN_OK;
    corpus->name = bn_strdup(pattern);
    if (!corpus->name) {
        status = BN_FAIL;
        goto out;
    }
    if (bn_fs_exists(pattern))
        BN_TRY_OUT(bn_strings_add(&corpus->paths, pattern));
    else
        BN_TRY_OUT(bn_fs_glob(pattern, &corpus->paths));

    size_t files = corpus->paths.count;
    corpus->segments = calloc(files, sizeof *corpus->segments);
    if (!corpus->segments) {
        status = bn_error_nomem("corpus segments", files * sizeof *corpus->segments);
        goto out;
    }
    for (size_t i = 0; i < files; i++) {
        segment *s = &corpus->segments[i];
        BN_TRY_OUT(segment_open(corpus->paths.items[i], tokenizer, s));
        s->first = corpus->size;
        if (!bn_add_i64(corpus->size, s->count, &corpus->size)) {
            status = bn_error(BN_BAD_DATA, "%s: more tokens than can be counted", pattern);
            goto out;
        }
    }
    *out = corpus;
    corpus = NULL;
out:
    bn_corpus_free(corpus);
    return status;
}

void bn_corpus_free(bn_corpus *corpus)
{
    if (!corpus)
        return;
    for (size_t i = 0; corpus->segments && i < corpus->paths.count; i++)
        bn_map_close(&corpus->segments[i].map);
    free(corpus->segments);
    bn_strings_clear(&corpus->paths);
    free(corpus->name);
    free(corpus);
}

int64_t bn_corpus_size(const bn_corpus *corpus)
{
    return corpus->size;
}

const char *bn_corpus_name(const bn_corpus *corpus)
{
    return corpus->name;
}

int64_t bn_corpus_segments(const bn_corpus *corpus)
{
    return (int64_t)corpus->paths.count;
}

const char *bn_corpus_segment_path(const bn_corpus *corpus, int64_t index)
{
    return corpus->paths.items[index];
}

/* The segment that holds token `at`: the last one that starts at or before. */
static const segment *segment_of(const bn_corpus *corpus, int64_t at)
{
    size_t low = 0, high = corpus->paths.count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (corpus->segments[middle].first <= at)
            low = middle;
        else
            high = middle;
    }
    return &corpus->segments[low];
}

static void widen(const segment *s, int64_t from, int64_t count, int32_t *out)
{
    if (s->width == 1) {
        const uint8_t *t = (const uint8_t *)s->tokens + from;
        for (int64_t i = 0; i < count; i++)
            out[i] = t[i];
    } else if (s->width == 2) {
        const uint16_t *t = (const uint16_t *)s->tokens + from;
        for (int64_t i = 0; i < count; i++)
            out[i] = t[i];
    } else {
        memcpy(out, (const uint32_t *)s->tokens + from, (size_t)count * sizeof *out);
    }
}

void bn_corpus_copy(const bn_corpus *corpus, int64_t start, int64_t count, int32_t *out)
{
    if (count <= 0)
        return;
    for (const segment *s = segment_of(corpus, start); count > 0; s++) {
        int64_t from = start - s->first, n = s->count - from;
        if (n > count)
            n = count;
        widen(s, from, n, out);
        start += n;
        out += n;
        count -= n;
    }
}

bn_span bn_corpus_all(const bn_corpus *corpus)
{
    return (bn_span){corpus, 0, corpus->size};
}

bn_status bn_corpus_split(const bn_corpus *corpus, double fraction, bn_span *train,
                          bn_span *validation)
{
    if (!(fraction >= 0.0 && fraction < 1.0))
        return bn_error(BN_BAD_CONFIG, "validation fraction %g, expected 0 <= fraction < 1",
                        fraction);
    /* The product is rounded, so it may reach a size that a double cannot hold. */
    int64_t cut = (int64_t)floor((double)corpus->size * (1.0 - fraction));
    if (cut > corpus->size)
        cut = corpus->size;
    *train = (bn_span){corpus, 0, cut};
    *validation = (bn_span){corpus, cut, corpus->size - cut};
    return BN_OK;
}
