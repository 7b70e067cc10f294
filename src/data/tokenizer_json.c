/* Reading a tokenizer.json: what is understood, and a refusal of the rest. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_json_impl.h"

enum {
    ID_LIMIT = 1 << 24,    /* as model.vocab_size */
    HOLES_LIMIT = 1 << 16, /* ids that may be left out */
    TOKEN_LIMIT = 1 << 16, /* bytes of one token */
};

const char bn_gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
                               "\\s+(?!\\S)|\\s+";

typedef bn_json_reader reader;

/* ---- the byte-level alphabet ---- */

static bool stands_for_itself(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

int bn_byte_to_char(unsigned char byte)
{
    int character = 256;
    if (stands_for_itself(byte))
        return byte;
    for (int b = 0; b < byte; b++)
        character += !stands_for_itself(b);
    return character;
}

int bn_char_to_byte(uint32_t character)
{
    static const unsigned char others[] = {
        0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14,  15,  16,
        17,  18,  19,  20,  21,  22,  23,  24,  25,  26,  27,  28,  29,  30,  31,  32,  127,
        128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141, 142, 143, 144,
        145, 146, 147, 148, 149, 150, 151, 152, 153, 154, 155, 156, 157, 158, 159, 160, 173};
    if (character < 256)
        return stands_for_itself((int)character) ? (int)character : -1;
    return character < 256 + sizeof others ? others[character - 256] : -1;
}

/* A token, which is UTF-8, as bytes; false when a character stands for none.
 * `out` has room for strlen(token). */
static bool token_bytes(const char *token, unsigned char *out, size_t *length)
{
    const unsigned char *p = (const unsigned char *)token;
    for (*length = 0; *p; (*length)++) {
        uint32_t c = *p++;
        if (c >= 0x80) { /* all characters of the alphabet have two bytes */
            if (c > 0xdf)
                return false;
            c = (c & 0x1f) << 6 | (*p++ & 0x3f);
        }
        const int byte = bn_char_to_byte(c);
        if (byte < 0)
            return false;
        out[*length] = (unsigned char)byte;
    }
    return true;
}

/* ---- small readers ---- */

const cJSON *bn_json_member(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNull(item) ? NULL : item;
}

bool bn_json_is_true(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(bn_json_member(object, key));
}

const char *bn_json_text_of(const cJSON *object, const char *key)
{
    const cJSON *item = bn_json_member(object, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static bn_status id_of(const cJSON *item, const char *what, int32_t *id)
{
    const double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    *id = -1;
    if (!(value >= 0 && value < ID_LIMIT) || value != (double)(int32_t)value)
        return bn_error(BN_BAD_DATA, "%s \"%.60s\": expected an id from 0 to %d", what,
                        item ? item->string : "", ID_LIMIT - 1);
    *id = (int32_t)value;
    return BN_OK;
}

static bn_status check_token(const char *what, const char *token)
{
    const size_t length = strlen(token);
    if (length == 0 || length > TOKEN_LIMIT)
        return bn_error(BN_BAD_DATA, "%s \"%.60s\": %zu bytes, expected 1 to %d", what, token,
                        length, TOKEN_LIMIT);
    if (bn_utf8_valid((const unsigned char *)token, length) != length)
        return bn_error(BN_BAD_DATA, "%s \"%.60s\" is not UTF-8", what, token);
    return BN_OK;
}

void bn_json_hash_int(bn_json_reader *r, int64_t value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)value >> 8 * i);
    bn_sha256_add(&r->sha, bytes, sizeof bytes);
}

void bn_json_hash_text(bn_json_reader *r, const char *text)
{
    bn_json_hash_int(r, (int64_t)strlen(text));
    bn_sha256_add(&r->sha, text, strlen(text));
}

bn_status bn_json_not_supported(const char *what, const char *type, const char *known)
{
    return bn_error(BN_BAD_DATA, "%s \"%.60s\" is not supported; there is: %s", what, type, known);
}

/* ---- model ---- */

static bn_status check_model(reader *r)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *type = bn_json_text_of(r->model, "type");
    const cJSON *dropout = bn_json_member(r->model, "dropout");
    if (!cJSON_IsObject(r->model))
        return bn_error(BN_BAD_DATA, "model is missing");
    r->unigram = strcmp(type, "Unigram") == 0;
    if (*type && !r->unigram && strcmp(type, "BPE") != 0)
        return bn_json_not_supported("model", type, "BPE, Unigram");
    if (dropout && !(cJSON_IsNumber(dropout) && !(dropout->valuedouble > 0)))
        return bn_error(BN_BAD_DATA, "model.dropout is not supported");
    for (int i = 0; i < 2; i++)
        if (*bn_json_text_of(r->model, affixes[i]))
            return bn_error(BN_BAD_DATA, "model.%s is not supported", affixes[i]);
    if (r->unigram ? !cJSON_IsArray(r->vocab) : !cJSON_IsObject(r->vocab))
        return bn_error(BN_BAD_DATA, "model.vocab: expected %s",
                        r->unigram ? "an array of tokens with their scores"
                                   : "an object of tokens with their ids");
    if (!r->vocab->child)
        return bn_error(BN_BAD_DATA, "model.vocab: expected at least one token");
    if (!r->unigram && !cJSON_IsArray(bn_json_member(r->model, "merges")))
        return bn_error(BN_BAD_DATA, "model.merges: expected an array");
    r->t->ignore_merges = bn_json_is_true(r->model, "ignore_merges");
    r->sentencepiece = bn_json_is_true(r->model, "sentencepiece");
    return BN_OK;
}

/* An entry of the vocabulary: "token": id, or the index-th ["token", score]. */
static const char *entry_of(const reader *r, const cJSON *item, int32_t index, int32_t *id)
{
    *id = r->unigram ? index : (int32_t)item->valuedouble;
    return r->unigram ? item->child->valuestring : item->string;
}

static bn_status check_entry(const reader *r, const cJSON *item, int32_t index)
{
    int32_t id;
    if (!r->unigram)
        BN_TRY(id_of(item, "model.vocab", &id));
    else if (!cJSON_IsArray(item) || !cJSON_IsString(item->child) ||
             !cJSON_IsNumber(item->child->next) || item->child->next->next)
        return bn_error(BN_BAD_DATA, "model.vocab[%d]: expected a token and its score", index);
    return check_token("model.vocab", entry_of(r, item, index, &id));
}

static bn_status init_vocab(reader *r)
{
    const cJSON *item;
    int64_t count = 0;
    int32_t id, most = -1;
    bn_bpe_tokenizer *t = r->t;
    cJSON_ArrayForEach(item, r->vocab)
    {
        BN_TRY(check_entry(r, item, (int32_t)count));
        entry_of(r, item, (int32_t)count, &id);
        most = id > most ? id : most;
        count++;
    }
    cJSON_ArrayForEach(item, r->added)
    {
        BN_TRY(check_token("added_tokens", bn_json_text_of(item, "content")));
        BN_TRY(id_of(bn_json_member(item, "id"), "added_tokens", &id));
        most = id > most ? id : most;
        count++;
    }
    if (most >= count + HOLES_LIMIT)
        return bn_error(BN_BAD_DATA, "id %d in a vocabulary of %lld tokens", most,
                        (long long)count);
    t->base.vocab_size = (int64_t)most + 1;
    t->starts_text = calloc((size_t)most + 1, sizeof *t->starts_text);
    t->unigram.scores = r->unigram ? calloc((size_t)most + 1, sizeof(double)) : NULL;
    if (!t->starts_text || (r->unigram && !t->unigram.scores))
        return bn_error_nomem("a vocabulary", (size_t)most + 1);
    BN_TRY(bn_vocab_init(&t->keys, t->base.vocab_size));
    return bn_vocab_init(&t->pieces, t->base.vocab_size);
}

/* "<0x0A>" gives 10, anything else -1. */
static int byte_token(const char *token)
{
    static const char digits[] = "0123456789ABCDEF";
    if (strlen(token) != 6 || strncmp(token, "<0x", 3) != 0 || token[5] != '>')
        return -1;
    const char *high = strchr(digits, token[3]), *low = strchr(digits, token[4]);
    return high && low ? (int)(high - digits) * 16 + (int)(low - digits) : -1;
}

static bn_status put_byte_level(bn_bpe_tokenizer *t, int32_t id, const char *token,
                                unsigned char *bytes)
{
    size_t length;
    const bool is_bytes = token_bytes(token, bytes, &length);
    if (!is_bytes) /* a special token among the others: never the result of merges */
        length = strlen(token);
    const void *piece = is_bytes ? (const void *)bytes : token;
    BN_TRY(bn_vocab_put(&t->pieces, id, piece, length, false));
    if (!is_bytes)
        return BN_OK;
    if (length == 1)
        t->byte_ids[bytes[0]] = id;
    return bn_vocab_put(&t->keys, id, bytes, length, true);
}

/* A token with spaces for U+2581; returns the bytes of `to`, at most `length`. */
static size_t with_spaces(const char *token, size_t length, unsigned char *to)
{
    size_t n = 0;
    for (const char *p = token, *end = token + length; p < end;) {
        const bool mark =
            end - p >= BN_SPACE_MARK_BYTES && memcmp(p, BN_SPACE_MARK, BN_SPACE_MARK_BYTES) == 0;
        to[n++] = mark ? ' ' : (unsigned char)*p;
        p += mark ? BN_SPACE_MARK_BYTES : 1;
    }
    return n;
}

/* SentencePiece finds neither its bytes nor its special tokens in a text. */
static bool is_searchable(const reader *r, int32_t id, int byte)
{
    const cJSON *item;
    if (!r->sentencepiece)
        return true;
    cJSON_ArrayForEach(item, r->added)
    {
        if (bn_json_member(item, "id")->valuedouble == (double)id)
            return !bn_json_is_true(item, "special");
    }
    return byte < 0;
}

static bn_status put_marked(reader *r, int32_t id, const char *token, unsigned char *bytes)
{
    bn_bpe_tokenizer *t = r->t;
    const int byte = bn_json_is_true(r->model, "byte_fallback") ? byte_token(token) : -1;
    size_t length = 0;
    if (byte >= 0) {
        t->byte_ids[byte] = id;
        bytes[length++] = (unsigned char)byte;
    }
    if (byte < 0)
        length = with_spaces(token, strlen(token), bytes);
    BN_TRY(bn_vocab_put(&t->pieces, id, bytes, length, false));
    if (!is_searchable(r, id, byte))
        return BN_OK;
    t->unigram.longest = strlen(token) > t->unigram.longest ? strlen(token) : t->unigram.longest;
    return bn_vocab_put(&t->keys, id, token, strlen(token), true);
}

/* What stands for text without tokens: bytes, or the unknown token. */
static bn_status read_fallback(reader *r)
{
    bn_bpe_tokenizer *t = r->t;
    const char *unknown = bn_json_text_of(r->model, "unk_token");
    const bool bytes = r->byte_level || bn_json_is_true(r->model, "byte_fallback");
    t->unknown = -1;
    t->fuse_unknown =
        r->unigram || bn_json_is_true(r->model, "fuse_unk"); /* a Unigram always does */
    for (int b = 0; b < 256 && bytes; b++)
        if (t->byte_ids[b] < 0)
            return bn_error(BN_BAD_DATA,
                            "model.vocab: no token for byte 0x%02X; without all 256 not every "
                            "text can be encoded",
                            (unsigned)b);
    if (bytes)
        return BN_OK;
    if (r->unigram) {
        BN_TRY(id_of(bn_json_member(r->model, "unk_id"), "model.unk_id", &t->unknown));
        if (t->unknown >= cJSON_GetArraySize(r->vocab))
            return bn_error(BN_BAD_DATA, "model.unk_id: %d, model.vocab has ids 0..%d", t->unknown,
                            cJSON_GetArraySize(r->vocab) - 1);
        return BN_OK;
    }
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(r->vocab, unknown);
    if (!*unknown || !item)
        return bn_error(BN_BAD_DATA,
                        "model: neither byte_fallback nor an unk_token of the vocabulary; not "
                        "every text can be encoded");
    return id_of(item, "model.vocab", &t->unknown);
}

static void read_scores(reader *r)
{
    bn_unigram *unigram = &r->t->unigram;
    const cJSON *item, *least = bn_json_member(r->model, "min_score");
    double lowest = HUGE_VAL;
    int32_t id = 0;
    cJSON_ArrayForEach(item, r->vocab)
    {
        const double score = item->child->next->valuedouble; /* finite: bn_json_parse() */
        unigram->scores[id++] = score;
        lowest = score < lowest ? score : lowest;
    }
    unigram->single = r->sentencepiece;
    unigram->unknown = (cJSON_IsNumber(least) ? least->valuedouble : lowest) - 10;
    if (unigram->single)
        unigram->unknown = (double)(float)unigram->unknown;
    bn_json_hash_int(r, r->sentencepiece);
}

static bn_status read_vocab(reader *r)
{
    bn_bpe_tokenizer *t = r->t;
    unsigned char bytes[TOKEN_LIMIT];
    const cJSON *item;
    int32_t id, index = 0;
    for (int b = 0; b < 256; b++)
        t->byte_ids[b] = -1;
    cJSON_ArrayForEach(item, r->vocab)
    {
        const char *token = entry_of(r, item, index++, &id);
        bn_status status = t->model == BN_MODEL_BYTES ? put_byte_level(t, id, token, bytes)
                                                      : put_marked(r, id, token, bytes);
        BN_TRY(bn_error_in(status, "model.vocab"));
        bn_json_hash_int(r, id);
        bn_json_hash_text(r, token);
        if (r->unigram)
            bn_sha256_add(&r->sha, &item->child->next->valuedouble, sizeof(double));
    }
    BN_TRY(read_fallback(r));
    if (t->model == BN_MODEL_CHARACTERS &&
        bn_vocab_find(&t->keys, BN_SPACE_MARK, BN_SPACE_MARK_BYTES) < 0)
        return bn_error(BN_BAD_DATA, "model.vocab: no token for U+2581, the space");
    if (r->unigram)
        read_scores(r);
    return BN_OK;
}

/* One side of a merge. Its bytes are at most as many as its text's. */
static bn_status side_of(const bn_bpe_tokenizer *t, int64_t rank, const char *token, size_t length,
                         unsigned char *bytes, size_t *size, int32_t *id)
{
    char copy[TOKEN_LIMIT + 1];
    *id = -1;
    if (length > 0 && length <= TOKEN_LIMIT &&
        bn_utf8_valid((const unsigned char *)token, length) == length) {
        memcpy(copy, token, length);
        copy[length] = '\0';
        if (t->model != BN_MODEL_BYTES)
            memcpy(bytes, copy, *size = length);
        else if (!token_bytes(copy, bytes, size))
            *size = 0;
        *id = bn_vocab_find(&t->keys, bytes, *size);
    }
    return *id >= 0 ? BN_OK
                    : bn_error(BN_BAD_DATA, "model.merges[%lld]: \"%.*s\" is not in the vocabulary",
                               (long long)rank, (int)(length < 60 ? length : 60), token);
}

/* "left right", or ["left", "right"]. */
static bn_status sides_of(const cJSON *item, int64_t rank, const char *sides[2], size_t lengths[2])
{
    if (cJSON_IsArray(item) && cJSON_GetArraySize(item) == 2 && cJSON_IsString(item->child) &&
        cJSON_IsString(item->child->next)) {
        sides[0] = item->child->valuestring;
        sides[1] = item->child->next->valuestring;
        lengths[0] = strlen(sides[0]);
    } else {
        const char *space = cJSON_IsString(item) ? strchr(item->valuestring, ' ') : NULL;
        if (!space || strchr(space + 1, ' '))
            return bn_error(BN_BAD_DATA,
                            "model.merges[%lld]: expected \"left right\" or two strings",
                            (long long)rank);
        sides[0] = item->valuestring;
        lengths[0] = (size_t)(space - sides[0]);
        sides[1] = space + 1;
    }
    lengths[1] = strlen(sides[1]);
    return BN_OK;
}

static bn_status read_merges(reader *r)
{
    bn_bpe_tokenizer *t = r->t;
    const cJSON *merges = bn_json_member(r->model, "merges"), *item;
    unsigned char bytes[2 * TOKEN_LIMIT];
    int64_t rank = 0, place = 0;
    int32_t last = -1;
    BN_TRY(bn_merges_init(&t->merges, cJSON_GetArraySize(merges)));
    cJSON_ArrayForEach(item, merges)
    {
        const char *sides[2] = {"", ""};
        size_t lengths[2] = {0}, sizes[2] = {0};
        int32_t ids[2] = {-1, -1};
        BN_TRY(sides_of(item, rank, sides, lengths));
        BN_TRY(side_of(t, rank, sides[0], lengths[0], bytes, &sizes[0], &ids[0]));
        BN_TRY(side_of(t, rank, sides[1], lengths[1], bytes + sizes[0], &sizes[1], &ids[1]));
        const int32_t id = bn_vocab_find(&t->keys, bytes, sizes[0] + sizes[1]);
        if (id < 0)
            return bn_error(BN_BAD_DATA,
                            "model.merges[%lld]: \"%.60s\" + \"%.60s\": the result is not in the "
                            "vocabulary",
                            (long long)rank, sides[0], sides[1]);
        /* SentencePiece ranks results: all ways to the same one count alike. */
        if (!r->sentencepiece || id != last)
            place = rank;
        last = id;
        bn_merges_put(&t->merges, ids[0], ids[1], place, id);
        rank++;
        bn_json_hash_int(r, (int64_t)ids[0] << 32 | ids[1]);
    }
    return BN_OK;
}

/* Words may be cut in front of a space when no token goes on with a space
 * behind something else. */
static bn_word_rule word_rule(const reader *r)
{
    const bn_bpe_tokenizer *t = r->t;
    if (t->model == BN_MODEL_BYTES)
        return BN_WORDS_WHOLE;
    if (r->spaces_split)
        return BN_WORDS_EACH_SPACE;
    for (int64_t id = 0; id < t->keys.size; id++) {
        size_t length;
        const unsigned char *p = bn_vocab_piece(&t->keys, id, &length);
        if (!p)
            continue;
        const unsigned char *end = p + length;
        while (end - p >= BN_SPACE_MARK_BYTES && memcmp(p, BN_SPACE_MARK, 3) == 0)
            p += BN_SPACE_MARK_BYTES;
        if (memmem(p, (size_t)(end - p), BN_SPACE_MARK, BN_SPACE_MARK_BYTES))
            return BN_WORDS_WHOLE;
    }
    if (t->splitter.count > 0)
        return BN_WORDS_WHOLE;
    return r->unigram ? BN_WORDS_BLOCKS : BN_WORDS_BY_SPACE;
}

/* ---- added tokens ---- */

/* Into which of the two sets a token goes; NULL: it is not looked for. */
static bn_status set_of(reader *r, const cJSON *item, bn_added_tokens **set)
{
    const bool normalized = bn_json_is_true(item, "normalized");
    *set = &r->t->added;
    if (r->sentencepiece && bn_json_is_true(item, "special"))
        *set = NULL;
    else if (normalized && bn_json_member(r->root, "normalizer"))
        *set = &r->t->later;
    if (*set == &r->t->later && r->re_prefixes)
        return bn_error(BN_BAD_DATA,
                        "added_tokens: \"%.60s\": normalized is not supported beside a normalizer "
                        "and a pre_tokenizer that adds a space",
                        bn_json_text_of(item, "content"));
    return BN_OK;
}

/* A token as the normalizer leaves it; a `fresh` one decodes to that. */
static bn_status put_later(reader *r, bn_added_token *token, bool fresh)
{
    unsigned char piece[TOKEN_LIMIT];
    bn_normalizer_work work = {0};
    bn_split_work *split = NULL;
    const bn_view *view;
    bn_status status = BN_OK;
    const bn_window window = {
        .text = token->bytes, .length = token->length, .fresh = true, .first = true, .last = true};
    BN_TRY_OUT(bn_split_work_new(&split));
    BN_TRY_OUT(bn_normalizer_run(&r->t->normalizer, &window, &work, split, &view));
    if (view->length == 0 || view->length > TOKEN_LIMIT) {
        status = bn_error(BN_BAD_DATA, "added_tokens: id %d: %zu bytes once normalized", token->id,
                          view->length);
        goto out;
    }
    token->bytes = view->bytes;
    token->length = view->length;
    BN_TRY_OUT(bn_added_tokens_add(&r->t->later, token));
    if (fresh && r->t->model == BN_MODEL_BYTES)
        status = bn_vocab_put(&r->t->pieces, token->id, view->bytes, view->length, false);
    else if (fresh)
        status = bn_vocab_put(&r->t->pieces, token->id, piece,
                              with_spaces((const char *)view->bytes, view->length, piece), false);
out:
    bn_normalizer_work_clear(&work);
    bn_split_work_free(split);
    return status;
}

/* Whether a token is the piece of its id, which has spaces for U+2581. */
static bool names_piece(const char *token, const unsigned char *piece, size_t length)
{
    size_t i = 0;
    while (*token && i < length) {
        const bool mark = strncmp(token, BN_SPACE_MARK, BN_SPACE_MARK_BYTES) == 0;
        if ((unsigned char)*token != piece[i] && !(mark && piece[i] == ' '))
            return false;
        token += mark && piece[i] == ' ' ? BN_SPACE_MARK_BYTES : 1;
        i++;
    }
    return !*token && i == length;
}

static bn_status read_added_token(reader *r, const cJSON *item)
{
    bn_bpe_tokenizer *t = r->t;
    char *content = bn_json_member(item, "content")->valuestring;
    const size_t length = strlen(content);
    bn_added_tokens *set;
    bn_added_token token = {.bytes = (unsigned char *)content,
                            .length = length,
                            .lstrip = bn_json_is_true(item, "lstrip"),
                            .rstrip = bn_json_is_true(item, "rstrip"),
                            .single_word = bn_json_is_true(item, "single_word")};
    size_t known;
    BN_TRY(set_of(r, item, &set));
    token.id = (int32_t)bn_json_member(item, "id")->valuedouble; /* init_vocab() has checked it */
    const unsigned char *piece = bn_vocab_piece(&t->pieces, token.id, &known);
    const bool normalized = set == &t->later && !r->sentencepiece; /* there it stays as it is */
    if (!piece && !normalized)
        BN_TRY(bn_error_in(bn_vocab_put(&t->pieces, token.id, content, length, false),
                           "added_tokens"));
    if (piece && !names_piece(content, piece, known))
        return bn_error(BN_BAD_DATA,
                        "added_tokens: id %d is \"%.60s\", but another token in "
                        "model.vocab or another added token",
                        token.id, content);
    bn_json_hash_int(r, token.id);
    bn_json_hash_text(r, content);
    bn_json_hash_int(r, (set == &t->later) * 8 + token.lstrip * 4 + token.rstrip * 2 +
                            token.single_word);
    if (normalized)
        return put_later(r, &token, !piece);
    t->starts_text[token.id] |= set == &t->added;
    return set ? bn_added_tokens_add(set, &token) : BN_OK;
}

static bn_status read_added(reader *r)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, r->added) BN_TRY(read_added_token(r, item));
    bn_added_tokens_sort(&r->t->added);
    bn_added_tokens_sort(&r->t->later);
    return BN_OK;
}

static bn_status read_all(reader *r)
{
    bn_bpe_tokenizer *t = r->t;
    if (!cJSON_IsObject(r->root))
        return bn_error(BN_BAD_DATA, "expected a JSON object");
    r->model = bn_json_member(r->root, "model");
    r->vocab = bn_json_member(r->model, "vocab");
    r->added = bn_json_member(r->root, "added_tokens");
    if (r->added && !cJSON_IsArray(r->added))
        return bn_error(BN_BAD_DATA, "added_tokens: expected an array");
    BN_TRY(check_model(r));
    BN_TRY(bn_json_read_steps(r));
    if (r->byte_level && r->unigram)
        return bn_json_not_supported("model", "Unigram",
                                     "BPE, where the pre-tokenizer is ByteLevel");
    t->model = r->byte_level ? BN_MODEL_BYTES : r->unigram ? BN_MODEL_UNIGRAM : BN_MODEL_CHARACTERS;
    BN_TRY(init_vocab(r));
    BN_TRY(read_vocab(r));
    if (!r->unigram)
        BN_TRY(read_merges(r));
    BN_TRY(read_added(r));
    t->words = word_rule(r);
    bn_json_hash_int(r, t->model * 4 + t->fuse_unknown * 2 + t->ignore_merges);
    bn_json_hash_int(r, t->unknown);
    return BN_OK;
}

bn_status bn_bpe_tokenizer_parse(const char *json, bn_bpe_tokenizer *out)
{
    reader r = {.t = out};
    unsigned char digest[BN_SHA256_BYTES];
    cJSON *root;
    BN_TRY(bn_json_parse("tokenizer.json", json, strlen(json), &root));
    r.root = root;
    bn_sha256_init(&r.sha);
    bn_status status = read_all(&r);
    cJSON_Delete(root);
    BN_TRY(status);
    bn_sha256_end(&r.sha, digest);
    for (int i = 0; i < 8; i++)
        out->base.hash |= (uint64_t)digest[i] << 8 * i;
    return BN_OK;
}
