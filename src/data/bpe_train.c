#include "data/bpe_train.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/bpe_tokenizer.h"

/* A different word, its symbols and how often it occurs. */
typedef struct word {
    size_t at; /* in bytes[], and in symbols[] */
    uint32_t length;
    uint64_t hash;
    int64_t count;
} word;

/* A pair that may become a token, and the words it was seen to arise in. */
typedef struct candidate {
    int64_t count;
    uint64_t pair; /* left << 32 | right */
    uint32_t *words;
    size_t word_count;
} candidate;

/* A pair that a merge made arise in a word. */
typedef struct arisen {
    uint64_t pair;
    uint32_t word;
} arisen;

typedef struct pair_count {
    uint64_t pair;
    int64_t count;
    bool used;
} pair_count;

struct bn_bpe_trainer {
    bn_splitter splitter;
    bn_split_work *split;
    unsigned char *bytes; /* of all words */
    size_t bytes_used, bytes_capacity;
    word *words;
    size_t word_count, word_capacity;
    uint32_t *table; /* of words, by bytes; 0 is free, else index + 1 */
    size_t table_size;
    int32_t *symbols; /* of all words */
    pair_count *pairs;
    size_t pair_slots, pair_used;
    candidate *heap;
    size_t heap_size, heap_capacity;
    arisen *arisen;
    size_t arisen_count, arisen_capacity;
};

/* items[0..capacity-1] of `size` bytes each has room for `count`. */
static bn_status reserve(void **items, size_t *capacity, size_t count, size_t size)
{
    if (count <= *capacity)
        return BN_OK;
    const size_t wanted = 2 * count + 1024;
    void *grown = realloc(*items, wanted * size);
    if (!grown)
        return bn_error_nomem("the training of a tokenizer", wanted * size);
    *items = grown;
    *capacity = wanted;
    return BN_OK;
}

#define RESERVE(items, capacity, count)                                                            \
    BN_TRY(reserve((void **)&(items), &(capacity), count, sizeof *(items)))

bn_status bn_bpe_trainer_new(bn_bpe_trainer **out)
{
    bn_bpe_trainer *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t)
        return bn_error_nomem("the training of a tokenizer", sizeof *t);
    bn_status status =
        bn_splitter_add(&t->splitter, bn_gpt2_pattern, false, BN_SPLIT_ISOLATED, false);
    if (status == BN_OK)
        status = bn_split_work_new(&t->split);
    if (status != BN_OK) {
        bn_bpe_trainer_free(t);
        return status;
    }
    *out = t;
    return BN_OK;
}

void bn_bpe_trainer_free(bn_bpe_trainer *t)
{
    if (!t)
        return;
    bn_splitter_clear(&t->splitter);
    bn_split_work_free(t->split);
    for (size_t i = 0; i < t->heap_size; i++)
        free(t->heap[i].words);
    free(t->bytes);
    free(t->words);
    free(t->table);
    free(t->symbols);
    free(t->pairs);
    free(t->heap);
    free(t->arisen);
    free(t);
}

/* ---- counting words ---- */

static bn_status grow_table(bn_bpe_trainer *t)
{
    const size_t size = t->table_size ? 2 * t->table_size : 1 << 16;
    uint32_t *table = calloc(size, sizeof *table);
    if (!table)
        return bn_error_nomem("the training of a tokenizer", size * sizeof *table);
    for (size_t i = 0; i < t->word_count; i++) {
        size_t slot = t->words[i].hash & (size - 1);
        while (table[slot])
            slot = (slot + 1) & (size - 1);
        table[slot] = (uint32_t)i + 1;
    }
    free(t->table);
    t->table = table;
    t->table_size = size;
    return BN_OK;
}

static bn_status count_word(bn_bpe_trainer *t, const unsigned char *bytes, size_t length)
{
    const uint64_t hash = bn_hash_bytes(bytes, length);
    if (2 * t->word_count >= t->table_size)
        BN_TRY(grow_table(t));
    size_t slot = hash & (t->table_size - 1);
    for (; t->table[slot]; slot = (slot + 1) & (t->table_size - 1)) {
        word *w = &t->words[t->table[slot] - 1];
        if (w->hash == hash && w->length == length &&
            memcmp(t->bytes + w->at, bytes, length) == 0) {
            w->count++;
            return BN_OK;
        }
    }
    if (length > UINT32_MAX || t->word_count >= UINT32_MAX - 1)
        return bn_error(BN_BAD_DATA, "too many or too long words for training a tokenizer");
    RESERVE(t->words, t->word_capacity, t->word_count + 1);
    RESERVE(t->bytes, t->bytes_capacity, t->bytes_used + length);
    memcpy(t->bytes + t->bytes_used, bytes, length);
    t->words[t->word_count++] = (word){t->bytes_used, (uint32_t)length, hash, 1};
    t->bytes_used += length;
    t->table[slot] = (uint32_t)t->word_count;
    return BN_OK;
}

bn_status bn_bpe_trainer_add(bn_bpe_trainer *t, const void *text, size_t bytes)
{
    const unsigned char *p = text;
    size_t at = 0, start, end;
    while (at < bytes) {
        const size_t valid = bn_utf8_valid(p + at, bytes - at);
        if (valid == 0) { /* a byte that is no text trains nothing */
            at++;
            continue;
        }
        bn_split split = bn_split_start(&t->splitter, 0, t->split, p + at, valid);
        for (;;) {
            BN_TRY(bn_split_next(&split, &start, &end));
            if (start == end)
                break;
            BN_TRY(count_word(t, p + at + start, end - start));
        }
        at += valid;
    }
    return BN_OK;
}

/* ---- counts of pairs ---- */

static bn_status count_pair(bn_bpe_trainer *t, uint64_t pair, int64_t change)
{
    if (2 * t->pair_used >= t->pair_slots) {
        const size_t slots = t->pair_slots ? 2 * t->pair_slots : 1 << 16;
        pair_count *old = t->pairs, *pairs = calloc(slots, sizeof *pairs);
        if (!pairs)
            return bn_error_nomem("the training of a tokenizer", slots * sizeof *pairs);
        for (size_t i = 0; i < t->pair_slots; i++) {
            if (!old[i].used)
                continue;
            size_t slot = bn_hash_bytes(&old[i].pair, sizeof old[i].pair) & (slots - 1);
            while (pairs[slot].used)
                slot = (slot + 1) & (slots - 1);
            pairs[slot] = old[i];
        }
        free(old);
        t->pairs = pairs;
        t->pair_slots = slots;
    }
    size_t slot = bn_hash_bytes(&pair, sizeof pair) & (t->pair_slots - 1);
    while (t->pairs[slot].used && t->pairs[slot].pair != pair)
        slot = (slot + 1) & (t->pair_slots - 1);
    t->pair_used += !t->pairs[slot].used;
    t->pairs[slot].used = true;
    t->pairs[slot].pair = pair;
    t->pairs[slot].count += change;
    return BN_OK;
}

static int64_t pair_count_of(const bn_bpe_trainer *t, uint64_t pair)
{
    size_t slot = bn_hash_bytes(&pair, sizeof pair) & (t->pair_slots - 1);
    while (t->pairs[slot].used && t->pairs[slot].pair != pair)
        slot = (slot + 1) & (t->pair_slots - 1);
    return t->pairs[slot].used ? t->pairs[slot].count : 0;
}

/* A pair that now occurs in a word, or (change < 0) no longer does. */
static bn_status change_pair(bn_bpe_trainer *t, int32_t left, int32_t right, int64_t change,
                             uint32_t index)
{
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    BN_TRY(count_pair(t, pair, change * t->words[index].count));
    if (change < 0)
        return BN_OK;
    RESERVE(t->arisen, t->arisen_capacity, t->arisen_count + 1);
    t->arisen[t->arisen_count++] = (arisen){pair, index};
    return BN_OK;
}

/* ---- candidates: a heap, the most frequent and then the lowest pair first ---- */

static bool before(const candidate *a, const candidate *b)
{
    return a->count != b->count ? a->count > b->count : a->pair < b->pair;
}

static bn_status heap_add(bn_bpe_trainer *t, const candidate *c)
{
    RESERVE(t->heap, t->heap_capacity, t->heap_size + 1);
    size_t i = t->heap_size++;
    while (i > 0 && before(c, &t->heap[(i - 1) / 2])) {
        t->heap[i] = t->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    t->heap[i] = *c;
    return BN_OK;
}

static candidate heap_take(bn_bpe_trainer *t)
{
    const candidate top = t->heap[0], last = t->heap[--t->heap_size];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= t->heap_size)
            break;
        if (child + 1 < t->heap_size && before(&t->heap[child + 1], &t->heap[child]))
            child++;
        if (!before(&t->heap[child], &last))
            break;
        t->heap[i] = t->heap[child];
        i = child;
    }
    t->heap[i] = last;
    return top;
}

static int by_pair_then_word(const void *a, const void *b)
{
    const arisen *x = a, *y = b;
    if (x->pair != y->pair)
        return x->pair < y->pair ? -1 : 1;
    return (x->word > y->word) - (x->word < y->word);
}

/* Every pair that arose becomes a candidate with the words it arose in. */
static bn_status add_candidates(bn_bpe_trainer *t)
{
    if (t->arisen_count > 1)
        qsort(t->arisen, t->arisen_count, sizeof *t->arisen, by_pair_then_word);
    for (size_t i = 0, end; i < t->arisen_count; i = end) {
        for (end = i; end < t->arisen_count && t->arisen[end].pair == t->arisen[i].pair;)
            end++;
        candidate c = {.count = pair_count_of(t, t->arisen[i].pair), .pair = t->arisen[i].pair};
        if (c.count <= 0)
            continue;
        c.words = malloc((end - i) * sizeof *c.words);
        if (!c.words)
            return bn_error_nomem("the training of a tokenizer", (end - i) * sizeof *c.words);
        for (size_t k = i; k < end; k++)
            if (k == i || t->arisen[k].word != t->arisen[k - 1].word)
                c.words[c.word_count++] = t->arisen[k].word;
        bn_status status = heap_add(t, &c);
        if (status != BN_OK) {
            free(c.words);
            return status;
        }
    }
    t->arisen_count = 0;
    return BN_OK;
}

/* ---- merging ---- */

static bn_status start_pairs(bn_bpe_trainer *t, const int32_t byte_ids[256])
{
    t->symbols = malloc((t->bytes_used + 1) * sizeof *t->symbols);
    if (!t->symbols)
        return bn_error_nomem("the training of a tokenizer", t->bytes_used * sizeof *t->symbols);
    for (size_t i = 0; i < t->bytes_used; i++)
        t->symbols[i] = byte_ids[t->bytes[i]];
    for (size_t w = 0; w < t->word_count; w++) {
        const int32_t *s = t->symbols + t->words[w].at;
        for (uint32_t i = 0; i + 1 < t->words[w].length; i++)
            BN_TRY(change_pair(t, s[i], s[i + 1], 1, (uint32_t)w));
    }
    return add_candidates(t);
}

/* left right -> id everywhere in one word, with the counts that this changes. */
static bn_status merge_in_word(bn_bpe_trainer *t, uint32_t index, uint64_t pair, int32_t id)
{
    word *w = &t->words[index];
    int32_t *s = t->symbols + w->at;
    const int32_t left = (int32_t)(pair >> 32), right = (int32_t)(uint32_t)pair;
    for (uint32_t i = 0; i + 1 < w->length; i++) {
        if (s[i] != left || s[i + 1] != right)
            continue;
        if (i > 0) {
            BN_TRY(change_pair(t, s[i - 1], left, -1, index));
            BN_TRY(change_pair(t, s[i - 1], id, 1, index));
        }
        s[i] = id;
        w->length--;
        memmove(s + i + 1, s + i + 2, (w->length - i - 1) * sizeof *s);
        if (i + 1 < w->length) {
            BN_TRY(change_pair(t, right, s[i + 1], -1, index));
            BN_TRY(change_pair(t, id, s[i + 1], 1, index));
        }
    }
    return BN_OK;
}

/* What training makes: tokens as bytes, and merges as pairs of ids. */
typedef struct result {
    bn_vocab vocab;
    int64_t size; /* tokens so far */
    uint64_t *merges;
    size_t merge_count, merge_capacity;
} result;

/* The id of the merged token: a new one, or that of another pair with the same
 * bytes. */
static bn_status merged_id(result *r, uint64_t pair, int32_t *id)
{
    size_t left, right;
    const unsigned char *a = bn_vocab_piece(&r->vocab, (int64_t)(pair >> 32), &left);
    const unsigned char *b = bn_vocab_piece(&r->vocab, (int64_t)(uint32_t)pair, &right);
    unsigned char *joined = malloc(left + right);
    if (!joined)
        return bn_error_nomem("a token", left + right);
    memcpy(joined, a, left);
    memcpy(joined + left, b, right);
    bn_status status = BN_OK;
    *id = bn_vocab_find(&r->vocab, joined, left + right);
    if (*id < 0) {
        *id = (int32_t)r->size;
        status = bn_vocab_put(&r->vocab, r->size++, joined, left + right, true);
    }
    free(joined);
    return status;
}

static bn_status merge_all(bn_bpe_trainer *t, int64_t vocab_size, int64_t min_frequency, result *r)
{
    while (r->size < vocab_size && t->heap_size > 0) {
        candidate top = heap_take(t);
        const int64_t count = pair_count_of(t, top.pair);
        bn_status status = BN_OK;
        int32_t id = -1;
        if (count != top.count) { /* counted down meanwhile: back with its count */
            top.count = count;
            BN_TRY(heap_add(t, &top)); /* there is room: one was just taken */
            continue;
        }
        if (count < 1 || count < min_frequency) {
            free(top.words);
            break;
        }
        status =
            reserve((void **)&r->merges, &r->merge_capacity, r->merge_count + 1, sizeof *r->merges);
        if (status == BN_OK)
            status = merged_id(r, top.pair, &id);
        if (status == BN_OK)
            r->merges[r->merge_count++] = top.pair;
        for (size_t i = 0; i < top.word_count && status == BN_OK; i++)
            status = merge_in_word(t, top.words[i], top.pair, id);
        free(top.words);
        BN_TRY(status);
        BN_TRY(add_candidates(t));
    }
    return BN_OK;
}

/* ---- tokenizer.json ---- */

static void put_token(bn_text *text, const unsigned char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        const int c = bn_byte_to_char(bytes[i]);
        const char two[] = {(char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f))};
        const char one = (char)c;
        bn_text_add_bytes(text, c < 0x80 ? &one : two, c < 0x80 ? 1 : 2);
    }
}

static bn_status token_text(const result *r, int64_t id, const bn_strings *special, char **out)
{
    bn_text text = {0};
    size_t length;
    if (id < (int64_t)special->count) {
        bn_text_add(&text, special->items[id]);
    } else {
        const unsigned char *bytes = bn_vocab_piece(&r->vocab, id, &length);
        put_token(&text, bytes, length);
    }
    return bn_text_take(&text, out);
}

static void put_byte_level(bn_json *json, const char *key)
{
    bn_json_object(json, key);
    bn_json_string(json, "type", "ByteLevel");
    bn_json_bool(json, "add_prefix_space", false);
    bn_json_bool(json, "trim_offsets", true);
    bn_json_bool(json, "use_regex", true);
    bn_json_object_end(json);
}

static void put_special(bn_json *json, const bn_strings *special)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    bn_json_array(json, "added_tokens");
    for (size_t i = 0; i < special->count; i++) {
        bn_json_object(json, NULL);
        bn_json_int(json, "id", (int64_t)i);
        bn_json_string(json, "content", special->items[i]);
        for (int k = 0; k < 4; k++)
            bn_json_bool(json, flags[k], false);
        bn_json_bool(json, "special", true);
        bn_json_object_end(json);
    }
    bn_json_array_end(json);
}

static bn_status put_model(bn_json *json, const result *r, const bn_strings *special)
{
    static const char *const nulls[] = {"dropout", "unk_token", "continuing_subword_prefix",
                                        "end_of_word_suffix"};
    static const char *const off[] = {"fuse_unk", "byte_fallback", "ignore_merges"};
    bn_json_object(json, "model");
    bn_json_string(json, "type", "BPE");
    for (int i = 0; i < 4; i++)
        bn_json_null(json, nulls[i]);
    for (int i = 0; i < 3; i++)
        bn_json_bool(json, off[i], false);
    bn_json_object(json, "vocab");
    for (int64_t id = 0; id < r->size; id++) {
        char *text;
        BN_TRY(token_text(r, id, special, &text));
        bn_json_int(json, text, id);
        free(text);
    }
    bn_json_object_end(json);
    bn_json_array(json, "merges");
    for (size_t i = 0; i < r->merge_count; i++) {
        const int64_t sides[] = {(int64_t)(r->merges[i] >> 32), (int64_t)(uint32_t)r->merges[i]};
        bn_json_array_flat(json, NULL);
        for (int k = 0; k < 2; k++) {
            char *text;
            BN_TRY(token_text(r, sides[k], special, &text));
            bn_json_string(json, NULL, text);
            free(text);
        }
        bn_json_array_end(json);
    }
    bn_json_array_end(json);
    bn_json_object_end(json);
    return BN_OK;
}

static bn_status write_json(const result *r, const bn_strings *special, char **out)
{
    bn_json json = {.indent = 1};
    bn_json_object(&json, NULL);
    bn_json_string(&json, "version", "1.0");
    bn_json_null(&json, "truncation");
    bn_json_null(&json, "padding");
    put_special(&json, special);
    bn_json_null(&json, "normalizer");
    put_byte_level(&json, "pre_tokenizer");
    bn_json_null(&json, "post_processor");
    put_byte_level(&json, "decoder");
    bn_status status = put_model(&json, r, special);
    if (status != BN_OK) {
        bn_json_clear(&json);
        return status;
    }
    bn_json_object_end(&json);
    return bn_json_take(&json, out);
}

/* The special tokens and the 256 bytes, in the order of their characters. */
static bn_status start_vocab(result *r, const bn_strings *special, int32_t byte_ids[256])
{
    for (size_t i = 0; i < special->count; i++) {
        const size_t length = strlen(special->items[i]);
        if (length == 0 || bn_vocab_find(&r->vocab, special->items[i], length) >= 0)
            return bn_error(BN_USAGE, "special token \"%.60s\": empty, or given twice",
                            special->items[i]);
        BN_TRY(bn_vocab_put(&r->vocab, r->size++, special->items[i], length, length > 1));
    }
    for (uint32_t c = 0; c < 512; c++) {
        const int byte = bn_char_to_byte(c);
        if (byte < 0)
            continue;
        const unsigned char piece = (unsigned char)byte;
        byte_ids[byte] = (int32_t)r->size;
        BN_TRY(bn_vocab_put(&r->vocab, r->size++, &piece, 1, true));
    }
    return BN_OK;
}

bn_status bn_bpe_trainer_finish(bn_bpe_trainer *t, int64_t vocab_size, int64_t min_frequency,
                                const bn_strings *special, char **json, int64_t *size)
{
    enum { MOST = 1 << 24 };
    const int64_t least = 256 + (int64_t)special->count;
    bn_status status = BN_OK;
    result r = {0};
    int32_t byte_ids[256];
    *json = NULL;
    if (vocab_size < least || vocab_size > MOST)
        return bn_error(BN_USAGE,
                        "a vocabulary of %lld tokens: expected %lld (the bytes and the special "
                        "tokens) to %d",
                        (long long)vocab_size, (long long)least, MOST);
    BN_TRY(bn_vocab_init(&r.vocab, vocab_size));
    BN_TRY_OUT(start_vocab(&r, special, byte_ids));
    BN_TRY_OUT(start_pairs(t, byte_ids));
    BN_TRY_OUT(merge_all(t, vocab_size, min_frequency, &r));
    BN_TRY_OUT(write_json(&r, special, json));
    *size = r.size;
out:
    bn_vocab_clear(&r.vocab);
    free(r.merges);
    return status;
}
