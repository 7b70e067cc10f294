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
    int32_t *ids; /* of a word */
    size_t ids_capacity;
    unsigned char *word; /* with space marks */
    size_t word_capacity;
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
    free(s->ids);
    free(s->word);
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

static bn_status scratch_reserve(bn_bpe_scratch *s, size_t ids, size_t word)
{
    if (ids > s->ids_capacity) {
        int32_t *grown = realloc(s->ids, 2 * ids * sizeof *grown);
        if (!grown)
            return bn_error_nomem("a word", 2 * ids * sizeof *grown);
        s->ids = grown;
        s->ids_capacity = 2 * ids;
    }
    if (word > s->word_capacity) {
        unsigned char *grown = realloc(s->word, 2 * word);
        if (!grown)
            return bn_error_nomem("a word", 2 * word);
        s->word = grown;
        s->word_capacity = 2 * word;
    }
    return BN_OK;
}

/* ---- one word ---- */

/* The characters of a word as ids, those without a token byte by byte. */
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
            for (size_t k = 0; k < bytes; k++)
                ids[n++] = t->byte_ids[word[i + k]];
        i += bytes;
    }
    return n;
}

static bn_status merge_word(const bn_bpe_tokenizer *t, bn_bpe_scratch *s, const unsigned char *word,
                            size_t length, size_t *count)
{
    size_t n = length;
    BN_TRY(scratch_reserve(s, length, 0));
    if (t->ignore_merges) {
        const int32_t id = bn_vocab_find(&t->keys, word, length);
        if (id >= 0) {
            s->ids[0] = id;
            *count = 1;
            return BN_OK;
        }
    }
    if (t->sentencepiece)
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

typedef struct encoder {
    const bn_bpe_tokenizer *t;
    bn_bpe_scratch *s;
    const unsigned char *text;
    size_t bytes; /* of the text */
    size_t to;    /* words that begin here or later are not wanted */
    size_t limit; /* text is looked at up to here */
    size_t trust; /* words that end up to here do not depend on the limit */
    size_t at;    /* encoded so far */
    bool fresh;   /* `at` is the start of the text or behind an added token */
    bool need_more;
    bn_ids *out;
} encoder;

/* Whether the word that ends at `end` is to be encoded now. */
static bool wanted(encoder *e, size_t start, size_t end)
{
    e->need_more = start < e->to && end > e->trust;
    return start < e->to && !e->need_more;
}

/* One piece of the first stage through the others. */
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

/* text[at..at+length-1] is UTF-8. */
static bn_status encode_valid(encoder *e, size_t length, bool *stopped)
{
    const size_t base = e->at;
    size_t start = 0, end = length;
    bn_split split = {0};
    if (e->t->splitter.count > 0)
        split = bn_split_start(&e->t->splitter, 0, e->s->split, e->text + base, length);
    do {
        if (e->t->splitter.count > 0)
            BN_TRY(bn_split_next(&split, &start, &end));
        if (start == end)
            break;
        *stopped = !wanted(e, base + start, base + end);
        if (*stopped)
            break;
        BN_TRY(encode_stages(e, 1, e->text + base + start, end - start));
        e->at = base + end;
        e->fresh = false;
    } while (end < length);
    return BN_OK;
}

/* Byte-level text without added tokens, up to `end`. Bytes that are not UTF-8
 * are words of their own. */
static bn_status encode_bytes(encoder *e, size_t end, bool *stopped)
{
    while (e->at < end && !*stopped) {
        const size_t valid = bn_utf8_valid(e->text + e->at, end - e->at);
        if (valid > 0) {
            BN_TRY(encode_valid(e, valid, stopped));
            continue;
        }
        size_t bad = 1;
        while (e->at + bad < end &&
               bn_utf8_valid(e->text + e->at + bad,
                             end - e->at - bad < 4 ? end - e->at - bad : 4) == 0)
            bad++;
        *stopped = !wanted(e, e->at, e->at + bad);
        if (!*stopped) {
            BN_TRY(encode_word(e->t, e->s, e->text + e->at, bad, e->out));
            e->at += bad;
            e->fresh = false;
        }
    }
    return BN_OK;
}

/* Bytes of the space or space mark at p, 0 if there is none. */
static size_t space_at(const unsigned char *p, size_t left)
{
    if (left > 0 && *p == ' ')
        return 1;
    return left >= BN_SPACE_MARK_BYTES && memcmp(p, BN_SPACE_MARK, BN_SPACE_MARK_BYTES) == 0
               ? BN_SPACE_MARK_BYTES
               : 0;
}

/* The end of the SentencePiece word that begins at `at`. */
static size_t spaced_word_end(const encoder *e, size_t at, size_t end)
{
    const bn_word_rule rule = e->t->words;
    size_t space;
    if (rule == BN_WORDS_WHOLE)
        return end;
    if (rule == BN_WORDS_EACH_SPACE)
        at += space_at(e->text + at, end - at);
    else
        while ((space = space_at(e->text + at, end - at)) > 0)
            at += space;
    while (at < end && space_at(e->text + at, end - at) == 0)
        at++;
    return at;
}

static bool gets_prefix(const encoder *e, size_t end)
{
    const bool space = space_at(e->text + e->at, end - e->at) > 0;
    switch (e->t->prefix) {
    case BN_PREFIX_NEVER:
        return false;
    case BN_PREFIX_ALWAYS:
        return true;
    case BN_PREFIX_UNLESS_SPACE:
        return !space;
    case BN_PREFIX_FIRST_UNLESS_SPACE:
        return !space && e->at == 0;
    }
    return false;
}

/* SentencePiece text without added tokens, up to `end`. */
static bn_status encode_spaced(encoder *e, size_t end, bool *stopped)
{
    while (e->at < end && !*stopped) {
        const bool prefix = e->fresh && gets_prefix(e, end);
        size_t stop = spaced_word_end(e, e->at, end), n = 0;
        *stopped = !wanted(e, e->at, stop);
        if (*stopped)
            break;
        BN_TRY(scratch_reserve(e->s, 0, BN_SPACE_MARK_BYTES * (stop - e->at + 1)));
        unsigned char *word = e->s->word;
        if (prefix) {
            memcpy(word, BN_SPACE_MARK, BN_SPACE_MARK_BYTES);
            n = BN_SPACE_MARK_BYTES;
        }
        for (; e->at < stop; e->at++) {
            if (e->text[e->at] == ' ') {
                memcpy(word + n, BN_SPACE_MARK, BN_SPACE_MARK_BYTES);
                n += BN_SPACE_MARK_BYTES;
            } else {
                word[n++] = e->text[e->at];
            }
        }
        e->fresh = false;
        BN_TRY(encode_word(e->t, e->s, word, n, e->out));
    }
    return BN_OK;
}

/* The first added token that begins at `at` or later, the longest there. */
static const bn_added_token *find_added(const encoder *e, size_t at, size_t *where)
{
    const bn_bpe_tokenizer *t = e->t;
    for (; t->added_count > 0 && at < e->limit; at++) {
        const int from = t->added_from[e->text[at]], end = t->added_from[e->text[at] + 1];
        for (int i = from; i < end; i++) {
            const bn_added_token *token = &t->added[i];
            if (token->length <= e->limit - at &&
                memcmp(e->text + at, token->bytes, token->length) == 0) {
                *where = at;
                return token;
            }
        }
    }
    *where = e->limit;
    return NULL;
}

/* From e->at to e->to, or until text behind the limit is needed. */
static bn_status encode_window(encoder *e)
{
    bool stopped = false;
    e->need_more = false;
    while (e->at < e->to && !stopped) {
        size_t where;
        const bn_added_token *token = find_added(e, e->at, &where);
        BN_TRY(e->t->sentencepiece ? encode_spaced(e, where, &stopped)
                                   : encode_bytes(e, where, &stopped));
        if (stopped || !token)
            break;
        if (!wanted(e, where, where + token->length))
            break;
        BN_TRY(bn_ids_add(e->out, &token->id, 1));
        e->at = where + token->length;
        e->fresh = true;
    }
    return BN_OK;
}

/* Not in the middle of a character. */
static size_t character_start(const unsigned char *text, size_t at)
{
    for (int i = 0; i < 3 && at > 0 && (text[at] & 0xc0) == 0x80; i++)
        at--;
    return at;
}

static bn_status bpe_encode_part(const bn_tokenizer *tokenizer, const bn_text_part *part,
                                 bn_ids *out, bn_text_part *rest)
{
    const bn_bpe_tokenizer *t = bpe_of(tokenizer);
    const size_t margin = t->added_longest + 16;
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
            e.trust = e.limit - margin;
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
    const size_t last = bytes - near < CUT_SEARCH ? bytes : near + CUT_SEARCH;
    if (t->splitter.looks_behind)
        return bytes;
    for (size_t i = near > 1 ? near : 1; i < last; i++) {
        const bool good = t->sentencepiece ? text[i] == ' ' && text[i - 1] > ' '
                                           : text[i - 1] == '\n' && text[i] > ' ';
        if (good && (text[i - 1] & 0x80) == 0)
            return i;
    }
    return last == bytes ? bytes : character_start(text, last);
}

static size_t bpe_max_tokens(const bn_tokenizer *tokenizer, size_t bytes)
{
    /* A space in front of the text and behind every added token. */
    return bpe_of(tokenizer)->sentencepiece ? 2 * bytes + 1 : bytes;
}

static bool bpe_starts_text(const bn_tokenizer *tokenizer, const int32_t *ids, size_t at)
{
    const bn_bpe_tokenizer *t = bpe_of(tokenizer);
    if (t->prefix == BN_PREFIX_NEVER || t->is_added[ids[at]])
        return false;
    return at == 0 || (t->prefix != BN_PREFIX_FIRST_UNLESS_SPACE && t->is_added[ids[at - 1]]);
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
    for (int i = 0; i < t->added_count; i++)
        free(t->added[i].bytes);
    free(t->added);
    free(t->is_added);
    bn_vocab_clear(&t->keys);
    bn_vocab_clear(&t->pieces);
    bn_merges_clear(&t->merges);
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
