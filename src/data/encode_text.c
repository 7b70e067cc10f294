#include "data/encode_text.h"

#include <string.h>

enum {
    CHUNK = 1 << 18, /* bytes; where they end depends on the text alone */
    CHUNKS = 16,     /* encoded at a time */
    ERROR_TEXT = 512,
};

typedef struct chunk {
    bn_text_part part, rest;
    bn_ids ids;
    bn_status status;
    char error[ERROR_TEXT]; /* errors belong to threads */
} chunk;

typedef struct batch {
    const bn_tokenizer *tokenizer;
    chunk chunks[CHUNKS];
    int count;
} batch;

static void encode_chunk(void *arg, int64_t index, int worker)
{
    batch *b = arg;
    chunk *c = &b->chunks[index];
    (void)worker;
    c->ids.count = 0;
    c->status = bn_tokenizer_encode_part(b->tokenizer, &c->part, &c->ids, &c->rest);
    if (c->status != BN_OK) {
        strncpy(c->error, bn_error_text(), ERROR_TEXT - 1);
        c->error[ERROR_TEXT - 1] = '\0';
    }
}

/* Cuts what follows `start` at likely places. */
static void cut_batch(batch *b, const bn_text_part *start)
{
    bn_text_part part = *start;
    for (b->count = 0; b->count < CHUNKS && part.from < part.bytes; b->count++) {
        part.to = bn_tokenizer_cut(b->tokenizer, part.text, part.bytes, part.from + CHUNK);
        b->chunks[b->count].part = part;
        part.from = part.to;
        part.fresh = false;
    }
}

/* A chunk counts as it is when the one in front ended where it began; else it
 * is encoded again from there. */
static bn_status settle(batch *b, int index, const bn_text_part *at, bool *empty)
{
    chunk *c = &b->chunks[index];
    *empty = at->from >= c->part.to;
    if (*empty)
        return BN_OK;
    if (at->from != c->part.from || at->fresh != c->part.fresh) {
        c->part.from = at->from;
        c->part.fresh = at->fresh;
        encode_chunk(b, index, 0);
    }
    return c->status == BN_OK ? BN_OK : bn_error(c->status, "%s", c->error);
}

bn_status bn_encode_text(const bn_tokenizer *tokenizer, bn_threads *threads, const void *text,
                         size_t bytes, bn_ids_sink sink, void *arg)
{
    bn_status status = BN_OK;
    batch b = {.tokenizer = tokenizer};
    bn_text_part at = {.text = text, .bytes = bytes, .fresh = true};
    while (at.from < bytes) {
        cut_batch(&b, &at);
        bn_parallel_for(threads, b.count, encode_chunk, &b);
        for (int i = 0; i < b.count; i++) {
            bool empty;
            BN_TRY_OUT(settle(&b, i, &at, &empty));
            if (empty)
                continue;
            at = b.chunks[i].rest;
            BN_TRY_OUT(sink(arg, b.chunks[i].ids.items, b.chunks[i].ids.count, at.from));
        }
    }
out:
    for (int i = 0; i < CHUNKS; i++)
        bn_ids_clear(&b.chunks[i].ids);
    return status;
}
