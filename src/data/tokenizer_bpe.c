/* Encoding with a tokenizer.json: added tokens, words, merges. */
#include <stdlib.h>
#include <string.h>

#include "data/bpe_tokenizer.h"

enum {
    CACHE_SLOTS = 1 << 14,
    CACHE_TEXT = 26, /* longest word that is remembered */
    CACHE_IDS = 9,
    LOOKAHEAD = 1 << 16, /* text looked at behind a part */
    CUT_SEARCH = 1 << 16,
};

typedef struct cache_entry {
    unsigned char length; /* 0: free */
    unsigned char count;
    unsigned char text[CACHE_TEXT];
    int32_t ids[CACHE_IDS];
} cache_entry;

_Static_assert(sizeof(cache_entry) == 64, "one cache line");

/* What one encoding thread needs; kept for the next one. */
struct bn_bpe_scratch {
    bn_bpe_scratch *next;
    bn_split_work *split;
    bn_bpe_work merge;
    bn_unigram_work unigram;
    bn_normalizer_work normalizer;
    int32_t *ids; /* of a word */
    size_t ids_capacity;
    cache_entry cache[CACHE_SLOTS];
};

static const bn_bpe_tokenizer *bpe_of(const bn_tokenizer *tokenizer)
{
    return (const bn_bpe_tokenizer *)tokenizer;
}

/* ---- scratch ---- */

static void scratch_free(bn_bpe_scratch *s)
{
    if (!s)
        return;
    bn_split_work_free(s->split);
    bn_bpe_work_clear(&s->merge);
    bn_unigram_work_clear(&s->unigram);
    bn_normalizer_work_clear(&s->normalizer);
    free(s->ids);
    free(s);
}

/* The list of idle scratch is the one thing about a tokenizer that changes. */
static bn_bpe_tokenizer *pool_of(const bn_bpe_tokenizer *t)
{
    return (bn_bpe_tokenizer *)(uintptr_t)t;
}

static bn_status scratch_take(const bn_bpe_tokenizer *t, bn_bpe_scratch **out)
{
    bn_bpe_tokenizer *pool = pool_of(t);
    pthread_mutex_lock(&pool->lock);
    bn_bpe_scratch *s = pool->idle;
    if (s)
        pool->idle = s->next;
    pthread_mutex_unlock(&pool->lock);
    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s)
            return bn_error_nomem("the scratch of a tokenizer", sizeof *s);
        bn_status status = bn_split_work_new(&s->split);
        if (status != BN_OK) {
            scratch_free(s);
            return status;
        }
    }
    *out = s;
    return BN_OK;
}

static void scratch_give(const bn_bpe_tokenizer *t, bn_bpe_scratch *s)
{
    bn_bpe_tokenizer *pool = pool_of(t);
    pthread_mutex_lock(&pool->lock);
    s->next = pool->idle;
    pool->idle = s;
    pthread_mutex_unlock(&pool->lock);
}

static bn_status reserve_ids(bn_bpe_scratch *s, size_t ids)
{
    if (ids <= s->ids_capacity)
        return BN_OK;
    int32_t *grown = realloc(s->ids, 2 * ids * sizeof *grown);
    if (!grown)
        return bn_error_nomem("a word", 2 * ids * sizeof *grown);
    s->ids = grown;
    s->ids_capacity = 2 * ids;
    return BN_OK;
}

/* ---- one word ---- */

/* What has no token of its own: its bytes, or the unknown token. */
static size_t add_unknown(const bn_bpe_tokenizer *t, const unsigned char *bytes, size_t length,
                          int32_t *ids, size_t n)
{
    if (t->unknown < 0)
        for (size_t i = 0; i < length; i++)
            ids[n++] = t->byte_ids[bytes[i]];
    else if (!(t->fuse_unknown && n > 0 && ids[n - 1] == t->unknown))
        ids[n++] = t->unknown;
    return n;
}

/* The characters of a word as ids. */
static size_t character_ids(const bn_bpe_tokenizer *t, const unsigned char *word, size_t length,
                            int32_t *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < length;) {
        size_t bytes = bn_utf8_length(word[i]);
        bytes = bytes > length - i || bn_utf8_valid(word + i, bytes) != bytes ? 1 : bytes;
        const bool text = bytes > 1 || word[i] < 0x80;
        const int32_t id = text ? bn_vocab_find(&t->keys, word + i, bytes) : -1;
        if (id >= 0)
            ids[n++] = id;
        else
            n = add_unknown(t, word + i, bytes, ids, n);
        i += bytes;
    }
    return n;
}

static bn_status unigram_word(const bn_bpe_tokenizer *t, bn_bpe_scratch *s,
                              const unsigned char *word, size_t length, size_t *count)
{
    size_t pieces = 0, n = 0;
    if (bn_utf8_valid(word, length) != length) {
        *count = add_unknown(t, word, length, s->ids, 0);
        return BN_OK;
    }
    BN_TRY(bn_unigram_cut(&t->unigram, &t->keys, &s->unigram, word, length, &pieces));
    const struct bn_unigram_node *nodes = s->unigram.nodes;
    for (size_t i = 1; i <= pieces; i++) {
        const size_t end = i < pieces ? nodes[i + 1].start : length;
        if (nodes[i].id != BN_UNKNOWN_PIECE && nodes[i].id != t->unknown)
            s->ids[n++] = nodes[i].id;
        else
            n = add_unknown(t, word + nodes[i].start, end - nodes[i].start, s->ids, n);
    }
    *count = n;
    return BN_OK;
}

static bn_status merge_word(const bn_bpe_tokenizer *t, bn_bpe_scratch *s, const unsigned char *word,
                            size_t length, size_t *count)
{
    size_t n = length;
    BN_TRY(reserve_ids(s, length));
    if (t->ignore_merges) {
        const int32_t id = bn_vocab_find(&t->keys, word, length);
        if (id >= 0) {
            s->ids[0] = id;
            *count = 1;
            return BN_OK;
        }
    }
    if (t->model == BN_MODEL_UNIGRAM)
        return unigram_word(t, s, word, length, count);
    if (t->model == BN_MODEL_CHARACTERS)
        n = character_ids(t, word, length, s->ids);
    else
        for (size_t i = 0; i < length; i++)
            s->ids[i] = t->byte_ids[word[i]];
    return bn_bpe_merge(&t->merges, &s->merge, s->ids, n, count);
}

static bn_status encode_word(const bn_bpe_tokenizer *t, bn_bpe_scratch *s,
                             const unsigned char *word, size_t length, bn_ids *out)
{
    size_t count;
    cache_entry *entry = NULL;
    if (length <= CACHE_TEXT) {
        entry = &s->cache[bn_hash_bytes(word, length) % CACHE_SLOTS];
        if (entry->length == length && memcmp(entry->text, word, length) == 0)
            return bn_ids_add(out, entry->ids, entry->count);
    }
    BN_TRY(merge_word(t, s, word, length, &count));
    if (entry && count <= CACHE_IDS) {
        entry->length = (unsigned char)length;
        entry->count = (unsigned char)count;
        memcpy(entry->text, word, length);
        memcpy(entry->ids, s->ids, count * sizeof *s->ids);
    }
    return bn_ids_add(out, s->ids, count);
}

/* ---- a part of a text ---- */

/* Text that is cut into words, and where its places are in the whole text. */
typedef struct words {
    const unsigned char *bytes;
    size_t length;
    const uint32_t *raw; /* as bn_view's; NULL: every place is one */
    size_t base;         /* in the whole text */
    size_t trust;        /* words that end up to here do not depend on what follows */
} words;

typedef struct encoder {
    const bn_bpe_tokenizer *t;
    bn_bpe_scratch *s;
    const unsigned char *text;
    size_t bytes; /* of the text */
    size_t to;    /* words that begin here or later are not wanted */
    size_t limit; /* text is looked at up to here */
    size_t trust; /* what ends up to here does not depend on the limit */
    size_t at;    /* encoded so far */
    size_t count; /* ids up to there */
    bool fresh;   /* `at` is the start of the text or behind an added token */
    bool stopped; /* at `to`, or because: */
    bool need_more;
    words w;
    bn_ids *out;
} encoder;

static bool is_place(const words *w, size_t at)
{
    return !w->raw || w->raw[at] != BN_NO_PLACE;
}

static size_t place_of(const words *w, size_t at)
{
    return w->base + (w->raw ? w->raw[at] : at);
}

/* The ids of everything in front of w[end] are in the list. */
static void done_to(encoder *e, size_t end)
{
    if (!is_place(&e->w, end))
        return;
    e->at = place_of(&e->w, end);
    e->count = e->out->count;
    e->fresh = false;
}

/* Whether the word w[start..end-1] is to be encoded now; if not, stops. */
static bool wanted(encoder *e, size_t start, size_t end)
{
    const bool behind = is_place(&e->w, start) && place_of(&e->w, start) >= e->to;
    if (behind && place_of(&e->w, start) > e->at)
        done_to(e, start); /* what lies between the words is dropped */
    e->need_more = !behind && end > e->w.trust;
    e->stopped = behind || e->need_more;
    return !e->stopped;
}

/* One piece of a stage through the others. */
static bn_status encode_stages(encoder *e, int stage, const unsigned char *text, size_t length)
{
    size_t start, end;
    if (stage >= e->t->splitter.count)
        return encode_word(e->t, e->s, text, length, e->out);
    bn_split split = bn_split_start(&e->t->splitter, stage, e->s->split, text, length);
    for (;;) {
        BN_TRY(bn_split_next(&split, &start, &end));
        if (start == end)
            return BN_OK;
        BN_TRY(encode_stages(e, stage + 1, text + start, end - start));
    }
}

/* Bytes of the space mark at p, 0 if there is none. */
static size_t mark_at(const unsigned char *p, size_t left)
{
    return left >= BN_SPACE_MARK_BYTES && memcmp(p, BN_SPACE_MARK, BN_SPACE_MARK_BYTES) == 0
               ? BN_SPACE_MARK_BYTES
               : 0;
}

/* The end of the word that begins with w[at]. */
static size_t word_end(const encoder *e, size_t at, size_t end)
{
    const words *w = &e->w;
    const bn_word_rule rule = e->t->words;
    size_t least = 0, mark;
    if (rule == BN_WORDS_WHOLE)
        return end;
    if (rule == BN_WORDS_BLOCKS)
        least = ((is_place(w, at) ? place_of(w, at) : w->base) / BN_WORD_BLOCK + 1) * BN_WORD_BLOCK;
    for (;;) {
        if (rule == BN_WORDS_EACH_SPACE)
            at += mark_at(w->bytes + at, end - at);
        else
            while ((mark = mark_at(w->bytes + at, end - at)) > 0)
                at += mark;
        while (at < end && mark_at(w->bytes + at, end - at) == 0)
            at++;
        if (at >= end || rule != BN_WORDS_BLOCKS || (is_place(w, at) && place_of(w, at) >= least))
            return at;
    }
}

/* w[from..to-1] is UTF-8: the first stage makes words that are encoded one
 * after the other, as far as they are wanted. */
static bn_status encode_split(encoder *e, size_t from, size_t to)
{
    size_t start, end;
    bn_split split = bn_split_start(&e->t->splitter, 0, e->s->split, e->w.bytes + from, to - from);
    for (;;) {
        BN_TRY(bn_split_next(&split, &start, &end));
        if (start == end) {
            done_to(e, to);
            return BN_OK;
        }
        if (!wanted(e, from + start, from + end))
            return BN_OK;
        BN_TRY(encode_stages(e, 1, e->w.bytes + from + start, end - start));
        done_to(e, from + end);
    }
}

static bn_status encode_valid(encoder *e, size_t from, size_t to)
{
    if (e->t->splitter.count > 0 && e->t->words == BN_WORDS_WHOLE)
        return encode_split(e, from, to);
    while (from < to) {
        const size_t end = word_end(e, from, to);
        if (!wanted(e, from, end))
            break;
        BN_TRY(encode_stages(e, 0, e->w.bytes + from, end - from));
        done_to(e, end);
        from = end;
    }
    return BN_OK;
}

/* w[from..to-1] holds no added token. Bytes that are not UTF-8 are words of
 * their own. */
static bn_status encode_plain(encoder *e, size_t from, size_t to)
{
    const unsigned char *p = e->w.bytes;
    while (from < to && !e->stopped) {
        const size_t valid = bn_utf8_valid(p + from, to - from);
        if (valid > 0) {
            BN_TRY(encode_valid(e, from, from + valid));
            from += valid;
            continue;
        }
        size_t bad = from + 1;
        while (bad < to && bn_utf8_valid(p + bad, to - bad < 4 ? to - bad : 4) == 0)
            bad++;
        if (!wanted(e, from, bad))
            break;
        BN_TRY(encode_word(e->t, e->s, p + from, bad - from, e->out));
        done_to(e, bad);
        from = bad;
    }
    return BN_OK;
}

static bn_status encode_words(encoder *e)
{
    size_t at = 0;
    while (at < e->w.length && !e->stopped) {
        size_t from = e->w.length, to = e->w.length;
        const bn_added_token *token =
            bn_added_tokens_find(&e->t->later, e->w.bytes, at, e->w.length, &from, &to);
        BN_TRY(encode_plain(e, at, from));
        if (e->stopped || !token || !wanted(e, from, to))
            break;
        BN_TRY(bn_ids_add(e->out, &token->id, 1));
        done_to(e, at = to);
    }
    return BN_OK;
}

/* The last place of w that is at or in front of `raw`. */
static size_t trusted(const words *w, size_t raw)
{
    size_t at = w->length;
    while (at > 0 && (!is_place(w, at) || place_of(w, at) > raw))
        at--;
    return at;
}

/* Text without added tokens from e->at to `end`, behind which comes one if
 * `closed`. */
static bn_status encode_segment(encoder *e, size_t end, bool closed)
{
    const bool last = closed || end == e->bytes;
    const size_t raw_trust = end <= e->trust ? end : e->trust;
    e->w = (words){.bytes = e->text + e->at, .length = end - e->at, .base = e->at};
    if (e->t->normalizer.count > 0) {
        const bn_window window = {.text = e->w.bytes,
                                  .length = e->w.length,
                                  .fresh = e->fresh,
                                  .first = e->at == 0,
                                  .last = last};
        const bn_view *view;
        if (window.length >= BN_NO_PLACE)
            return bn_error(BN_BAD_DATA, "%zu bytes without a place to cut", window.length);
        BN_TRY(
            bn_normalizer_run(&e->t->normalizer, &window, &e->s->normalizer, e->s->split, &view));
        e->w.bytes = view->bytes;
        e->w.raw = view->raw;
        e->w.length = view->length;
    }
    e->w.trust = raw_trust <= e->at ? 0 : trusted(&e->w, raw_trust);
    BN_TRY(encode_words(e));
    if (e->stopped)
        return BN_OK;
    if (!last && e->at < end) { /* all of it is spaces that may go */
        e->need_more = e->stopped = true;
        return BN_OK;
    }
    e->at = end; /* what is left was dropped */
    e->count = e->out->count;
    return BN_OK;
}

/* From e->at to e->to, or until text behind the limit is needed. */
static bn_status encode_window(encoder *e)
{
    e->stopped = e->need_more = false;
    e->count = e->out->count;
    while (e->at < e->to && !e->stopped) {
        size_t from = e->limit, to = e->limit;
        const bn_added_token *token =
            bn_added_tokens_find(&e->t->added, e->text, e->at, e->limit, &from, &to);
        if (e->at < from)
            BN_TRY(encode_segment(e, from, token != NULL));
        if (e->stopped || !token || from >= e->to)
            break;
        e->need_more = e->stopped = to > e->trust;
        if (e->stopped)
            break;
        BN_TRY(bn_ids_add(e->out, &token->id, 1));
        e->count = e->out->count;
        e->at = to;
        e->fresh = true;
    }
    e->out->count = e->count; /* words behind the last place come again */
    return BN_OK;
}

/* Not in the middle of a character. */
static size_t character_start(const unsigned char *text, size_t at)
{
    for (int i = 0; i < 3 && at > 0 && (text[at] & 0xc0) == 0x80; i++)
        at--;
    return at;
}

/* How far a window that ends in front of the text's end can be trusted. */
static size_t trust_in(const encoder *e, size_t margin)
{
    const bn_bpe_tokenizer *t = e->t;
    size_t trust = e->limit - margin;
    if (t->added.strips || t->later.strips || t->normalizer.strips)
        trust = bn_utf8_rtrim(e->text, e->at, trust);
    return trust;
}

static bn_status bpe_encode_part(const bn_tokenizer *tokenizer, const bn_text_part *part,
                                 bn_ids *out, bn_text_part *rest)
{
    const bn_bpe_tokenizer *t = bpe_of(tokenizer);
    const size_t longest =
        t->later.longest > t->added.longest ? t->later.longest : t->added.longest;
    const size_t margin = longest + 16;
    size_t lookahead = LOOKAHEAD + 2 * margin;
    encoder e = {.t = t,
                 .text = part->text,
                 .bytes = part->bytes,
                 .to = part->to,
                 .at = part->from,
                 .fresh = part->fresh,
                 .out = out};
    bn_status status = BN_OK;
    BN_TRY(scratch_take(t, &e.s));
    do {
        if (part->to >= part->bytes || part->bytes - part->to <= lookahead) {
            e.limit = e.trust = part->bytes;
        } else {
            e.limit = character_start(e.text, part->to + lookahead);
            e.trust = trust_in(&e, margin);
        }
        status = encode_window(&e);
        lookahead *= 2;
    } while (status == BN_OK && e.need_more);
    scratch_give(t, e.s);
    *rest = *part;
    rest->from = e.at;
    rest->fresh = e.fresh;
    return status;
}

static size_t bpe_cut(const bn_tokenizer *tokenizer, const void *data, size_t bytes, size_t near)
{
    const bn_bpe_tokenizer *t = bpe_of(tokenizer);
    const unsigned char *text = data;
    if (t->splitter.looks_behind || t->later.looks_behind)
        return bytes;
    if (t->words == BN_WORDS_BLOCKS)
        near = (near + BN_WORD_BLOCK - 1) / BN_WORD_BLOCK * BN_WORD_BLOCK;
    if (near >= bytes)
        return bytes;
    const size_t last = bytes - near < CUT_SEARCH ? bytes : near + CUT_SEARCH;
    for (size_t i = near > 1 ? near : 1; i < last; i++) {
        const bool good = t->model == BN_MODEL_BYTES ? text[i - 1] == '\n' && text[i] > ' '
                                                     : text[i] == ' ' && text[i - 1] > ' ';
        if (good && (text[i - 1] & 0x80) == 0)
            return i;
    }
    return last == bytes ? bytes : character_start(text, last);
}

static size_t bpe_max_tokens(const bn_tokenizer *tokenizer, size_t bytes)
{
    return bpe_of(tokenizer)->normalizer.growth * (bytes + 1);
}

/* Whether decoding drops the space that ids[at] begins with. */
static bool bpe_starts_text(const bn_tokenizer *tokenizer, const int32_t *ids, size_t at,
                            bool empty)
{
    const bn_bpe_tokenizer *t = bpe_of(tokenizer);
    if (t->drops_spaces)
        return empty;
    if (t->prefix == BN_PREFIX_NEVER || t->starts_text[ids[at]])
        return false;
    return at == 0 || (t->prefix != BN_PREFIX_FIRST_UNLESS_THERE && t->starts_text[ids[at - 1]]);
}

static const unsigned char *bpe_piece(const bn_tokenizer *tokenizer, int32_t id, size_t *length)
{
    return bn_vocab_piece(&bpe_of(tokenizer)->pieces, id, length);
}

static const char *bpe_source(const bn_tokenizer *tokenizer)
{
    return bpe_of(tokenizer)->json;
}

static void bpe_destroy(bn_tokenizer *tokenizer)
{
    bn_bpe_tokenizer *t = (bn_bpe_tokenizer *)tokenizer;
    while (t->idle) {
        bn_bpe_scratch *s = t->idle;
        t->idle = s->next;
        scratch_free(s);
    }
    bn_added_tokens_clear(&t->added);
    bn_added_tokens_clear(&t->later);
    free(t->starts_text);
    bn_vocab_clear(&t->keys);
    bn_vocab_clear(&t->pieces);
    bn_merges_clear(&t->merges);
    bn_unigram_clear(&t->unigram);
    bn_normalizer_clear(&t->normalizer);
    bn_splitter_clear(&t->splitter);
    pthread_mutex_destroy(&t->lock);
    free(t->json);
    free(t);
}

static bn_status bpe_create(const bn_tokenizer_kind *kind, const char *source, bn_tokenizer **out)
{
    bn_bpe_tokenizer *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t)
        return bn_error_nomem("a tokenizer", sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    t->base.kind = kind;
    t->json = strdup(source);
    bn_status status =
        t->json ? bn_bpe_tokenizer_parse(source, t) : bn_error_nomem("a tokenizer", strlen(source));
    if (status != BN_OK) {
        bpe_destroy(&t->base);
        return status;
    }
    *out = &t->base;
    return BN_OK;
}

const bn_tokenizer_kind bn_tokenizer_bpe = {
    .name = "bpe",
    .create = bpe_create,
    .destroy = bpe_destroy,
    .encode_part = bpe_encode_part,
    .cut = bpe_cut,
    .max_tokens = bpe_max_tokens,
    .starts_text = bpe_starts_text,
    .piece = bpe_piece,
    .source = bpe_source,
};
