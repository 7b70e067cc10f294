/* Reading a tokenizer.json: what is understood, and a refusal of the rest. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/sha256.h"
#include "data/bpe_tokenizer.h"

enum {
    ID_LIMIT = 1 << 24,    /* as model.vocab_size */
    HOLES_LIMIT = 1 << 16, /* ids that may be left out */
    TOKEN_LIMIT = 1 << 16, /* bytes of one token */
    STEPS = 16,            /* parts of a Sequence */
};

const char bn_gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
                               "\\s+(?!\\S)|\\s+";

typedef struct reader {
    bn_bpe_tokenizer *t;
    const cJSON *root, *model, *vocab, *added;
    bool byte_level;       /* the pre-tokenizer says so */
    bool prepend, replace; /* normalizers of the SentencePiece family */
    bool metaspace, metaspace_split;
    bn_prefix_space metaspace_prefix;
    bn_sha256 sha; /* of all that decides the mapping */
} reader;

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

/* A token of the vocabulary as bytes; false when a character stands for none.
 * `out` has room for strlen(token). */
static bool token_bytes(const char *token, unsigned char *out, size_t *length)
{
    const unsigned char *p = (const unsigned char *)token;
    for (*length = 0; *p; (*length)++) {
        uint32_t c = *p++;
        if (c >= 0x80) { /* all characters of the alphabet have two bytes */
            if (c < 0xc2 || c > 0xdf)
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

static const cJSON *member(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNull(item) ? NULL : item;
}

static bool is_true(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(member(object, key));
}

/* "" if it is missing or no string. */
static const char *text_of(const cJSON *object, const char *key)
{
    const cJSON *item = member(object, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static bn_status id_of(const cJSON *item, const char *what, int32_t *id)
{
    const double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    *id = -1;
    if (!(value >= 0 && value < ID_LIMIT) || value != (double)(int32_t)value)
        return bn_error(BN_BAD_DATA, "%s \"%.60s\": expected an id from 0 to %d", what,
                        item && item->string ? item->string : "", ID_LIMIT - 1);
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

static void hash_int(reader *r, int64_t value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)value >> 8 * i);
    bn_sha256_add(&r->sha, bytes, sizeof bytes);
}

static void hash_text(reader *r, const char *text)
{
    hash_int(r, (int64_t)strlen(text));
    bn_sha256_add(&r->sha, text, strlen(text));
}

/* The steps of an object that may be a Sequence of them under `key`. */
static bn_status steps_of(const cJSON *object, const char *what, const char *key,
                          const cJSON *steps[STEPS], int *count)
{
    *count = 0;
    if (!object)
        return BN_OK;
    if (strcmp(text_of(object, "type"), "Sequence") != 0) {
        steps[(*count)++] = object;
        return BN_OK;
    }
    const cJSON *step;
    cJSON_ArrayForEach(step, member(object, key))
    {
        if (*count == STEPS)
            return bn_error(BN_BAD_DATA, "%s: more than %d steps", what, STEPS);
        steps[(*count)++] = step;
    }
    return BN_OK;
}

static bn_status not_supported(const char *what, const char *type, const char *known)
{
    return bn_error(BN_BAD_DATA, "%s \"%.60s\" is not supported; there is: %s", what, type, known);
}

/* ---- normalizer and pre-tokenizer ---- */

static bn_status read_normalizer(reader *r)
{
    const cJSON *steps[STEPS];
    int count;
    BN_TRY(steps_of(member(r->root, "normalizer"), "normalizer", "normalizers", steps, &count));
    for (int i = 0; i < count; i++) {
        const char *type = text_of(steps[i], "type");
        const cJSON *pattern = member(steps[i], "pattern");
        if (strcmp(type, "Prepend") == 0 && !r->replace && !r->prepend &&
            strcmp(text_of(steps[i], "prepend"), BN_SPACE_MARK) == 0)
            r->prepend = true;
        else if (strcmp(type, "Replace") == 0 && strcmp(text_of(pattern, "String"), " ") == 0 &&
                 strcmp(text_of(steps[i], "content"), BN_SPACE_MARK) == 0)
            r->replace = true;
        else
            return not_supported("normalizer", type,
                                 "Prepend of U+2581, Replace of a space by U+2581, in this order");
    }
    return BN_OK;
}

static bn_status read_split(reader *r, const cJSON *step)
{
    const char *behavior = text_of(step, "behavior");
    const cJSON *pattern = member(step, "pattern");
    const bool invert = is_true(step, "invert"), literal = member(pattern, "String") != NULL;
    const char *text = text_of(pattern, literal ? "String" : "Regex");
    /* "Removed" of what does not match: nothing, where a pattern matches all. */
    if (strcmp(behavior, "Isolated") != 0 && !(strcmp(behavior, "Removed") == 0 && invert))
        return not_supported("pre_tokenizer Split, behavior", behavior,
                             "Isolated; Removed with invert");
    hash_text(r, text);
    return bn_splitter_add(&r->t->splitter, text, literal);
}

static bn_status read_byte_level(reader *r, const cJSON *step)
{
    r->byte_level = true;
    if (is_true(step, "add_prefix_space"))
        return not_supported("pre_tokenizer ByteLevel, add_prefix_space", "true", "false");
    if (cJSON_IsFalse(member(step, "use_regex")))
        return BN_OK;
    hash_text(r, bn_gpt2_pattern);
    return bn_splitter_add(&r->t->splitter, bn_gpt2_pattern, false);
}

static bn_status read_metaspace(reader *r, const cJSON *step)
{
    const char *scheme = text_of(step, "prepend_scheme");
    if (strcmp(text_of(step, "replacement"), BN_SPACE_MARK) != 0)
        return not_supported("pre_tokenizer Metaspace, replacement", text_of(step, "replacement"),
                             "U+2581");
    if (strcmp(scheme, "") == 0)
        scheme = cJSON_IsFalse(member(step, "add_prefix_space")) ? "never" : "always";
    if (strcmp(scheme, "always") == 0)
        r->metaspace_prefix = BN_PREFIX_UNLESS_SPACE;
    else if (strcmp(scheme, "first") == 0)
        r->metaspace_prefix = BN_PREFIX_FIRST_UNLESS_SPACE;
    else if (strcmp(scheme, "never") != 0)
        return not_supported("pre_tokenizer Metaspace, prepend_scheme", scheme,
                             "always, first, never");
    r->metaspace = true;
    r->metaspace_split = !cJSON_IsFalse(member(step, "split"));
    return BN_OK;
}

static bn_status read_pre_tokenizer(reader *r)
{
    const cJSON *steps[STEPS];
    int count;
    BN_TRY(steps_of(member(r->root, "pre_tokenizer"), "pre_tokenizer", "pretokenizers", steps,
                    &count));
    for (int i = 0; i < count; i++) {
        const char *type = text_of(steps[i], "type");
        if (r->byte_level || (r->metaspace && count > 1))
            return bn_error(BN_BAD_DATA, "pre_tokenizer: \"%.60s\" behind or beside another kind",
                            type);
        if (strcmp(type, "Split") == 0) {
            BN_TRY(read_split(r, steps[i]));
        } else if (strcmp(type, "Digits") == 0) {
            const char *pattern = is_true(steps[i], "individual_digits") ? "\\p{N}" : "\\p{N}+";
            hash_text(r, pattern);
            BN_TRY(bn_splitter_add(&r->t->splitter, pattern, false));
        } else if (strcmp(type, "ByteLevel") == 0) {
            BN_TRY(read_byte_level(r, steps[i]));
        } else if (strcmp(type, "Metaspace") == 0 && i == 0) {
            BN_TRY(read_metaspace(r, steps[i]));
        } else {
            return not_supported("pre_tokenizer", type, "Split, Digits, ByteLevel, Metaspace");
        }
    }
    return BN_OK;
}

static bn_status decide_family(reader *r)
{
    bn_bpe_tokenizer *t = r->t;
    if (r->byte_level) {
        if (r->prepend || r->replace)
            return not_supported("normalizer", "Prepend or Replace",
                                 "none, where the pre-tokenizer is ByteLevel");
        return BN_OK;
    }
    if (t->splitter.count > 0)
        return bn_error(BN_BAD_DATA, "pre_tokenizer: a Split without ByteLevel is not supported");
    if (r->metaspace == r->replace || (r->prepend && !r->replace))
        return bn_error(BN_BAD_DATA, "expected pre_tokenizer ByteLevel or Metaspace, or normalizer "
                                     "Replace of a space by U+2581");
    t->sentencepiece = true;
    t->prefix = r->metaspace ? r->metaspace_prefix
                : r->prepend ? BN_PREFIX_ALWAYS
                             : BN_PREFIX_NEVER;
    return BN_OK;
}

/* ---- model ---- */

static bn_status check_model(reader *r)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *type = text_of(r->model, "type");
    const cJSON *dropout = member(r->model, "dropout");
    if (!cJSON_IsObject(r->model))
        return bn_error(BN_BAD_DATA, "model is missing");
    if (*type && strcmp(type, "BPE") != 0)
        return not_supported("model", type, "BPE");
    if (dropout && !(cJSON_IsNumber(dropout) && !(dropout->valuedouble > 0)))
        return bn_error(BN_BAD_DATA, "model.dropout is not supported");
    for (int i = 0; i < 2; i++)
        if (*text_of(r->model, affixes[i]))
            return bn_error(BN_BAD_DATA, "model.%s is not supported", affixes[i]);
    if (!cJSON_IsObject(r->vocab) || !r->vocab->child)
        return bn_error(BN_BAD_DATA, "model.vocab: expected an object with at least one token");
    if (!cJSON_IsArray(member(r->model, "merges")))
        return bn_error(BN_BAD_DATA, "model.merges: expected an array");
    r->t->ignore_merges = is_true(r->model, "ignore_merges");
    return BN_OK;
}

static bn_status init_vocab(reader *r)
{
    const cJSON *item;
    int64_t count = 0;
    int32_t id, most = -1;
    bn_bpe_tokenizer *t = r->t;
    cJSON_ArrayForEach(item, r->vocab)
    {
        BN_TRY(check_token("model.vocab", item->string));
        BN_TRY(id_of(item, "model.vocab", &id));
        most = id > most ? id : most;
        count++;
    }
    cJSON_ArrayForEach(item, r->added)
    {
        BN_TRY(check_token("added_tokens", text_of(item, "content")));
        BN_TRY(id_of(member(item, "id"), "added_tokens", &id));
        most = id > most ? id : most;
        count++;
    }
    if (most >= count + HOLES_LIMIT)
        return bn_error(BN_BAD_DATA, "id %d in a vocabulary of %lld tokens", most,
                        (long long)count);
    t->base.vocab_size = (int64_t)most + 1;
    t->is_added = calloc((size_t)most + 1, sizeof *t->is_added);
    if (!t->is_added)
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

static bn_status put_sentencepiece(bn_bpe_tokenizer *t, int32_t id, const char *token,
                                   unsigned char *bytes)
{
    const int byte = byte_token(token);
    size_t length = 0;
    if (byte >= 0) {
        t->byte_ids[byte] = id;
        bytes[length++] = (unsigned char)byte;
    }
    for (const char *p = token; *p && byte < 0;) {
        if (strncmp(p, BN_SPACE_MARK, BN_SPACE_MARK_BYTES) == 0) {
            bytes[length++] = ' ';
            p += BN_SPACE_MARK_BYTES;
        } else {
            bytes[length++] = (unsigned char)*p++;
        }
    }
    BN_TRY(bn_vocab_put(&t->pieces, id, bytes, length, false));
    return bn_vocab_put(&t->keys, id, token, strlen(token), true);
}

static bn_status read_vocab(reader *r)
{
    bn_bpe_tokenizer *t = r->t;
    unsigned char bytes[TOKEN_LIMIT];
    const cJSON *item;
    int32_t id;
    for (int b = 0; b < 256; b++)
        t->byte_ids[b] = -1;
    cJSON_ArrayForEach(item, r->vocab)
    {
        BN_TRY(id_of(item, "model.vocab", &id));
        bn_status status = t->sentencepiece ? put_sentencepiece(t, id, item->string, bytes)
                                            : put_byte_level(t, id, item->string, bytes);
        BN_TRY(bn_error_in(status, "model.vocab"));
        hash_int(r, id);
        hash_text(r, item->string);
    }
    for (int b = 0; b < 256; b++)
        if (t->byte_ids[b] < 0)
            return bn_error(BN_BAD_DATA,
                            "model.vocab: no token for byte 0x%02X; without all 256 not every "
                            "text can be encoded",
                            (unsigned)b);
    if (t->sentencepiece && !is_true(r->model, "byte_fallback"))
        return not_supported("model.byte_fallback", "false", "true, beside U+2581 for spaces");
    if (t->sentencepiece && bn_vocab_find(&t->keys, BN_SPACE_MARK, BN_SPACE_MARK_BYTES) < 0)
        return bn_error(BN_BAD_DATA, "model.vocab: no token for U+2581, the space");
    return BN_OK;
}

/* One side of a merge. */
static bn_status side_of(const bn_bpe_tokenizer *t, int64_t rank, const char *token, size_t length,
                         unsigned char *bytes, size_t *size, int32_t *id)
{
    char copy[TOKEN_LIMIT + 1];
    *id = -1;
    if (length > 0 && length <= TOKEN_LIMIT) {
        memcpy(copy, token, length);
        copy[length] = '\0';
        if (t->sentencepiece)
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
    const cJSON *merges = member(r->model, "merges"), *item;
    unsigned char bytes[2 * TOKEN_LIMIT];
    int64_t rank = 0;
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
        bn_merges_put(&t->merges, ids[0], ids[1], rank++, id);
        hash_int(r, (int64_t)ids[0] << 32 | ids[1]);
    }
    return BN_OK;
}

/* SentencePiece words may be cut in front of a space when no token goes on
 * with a space behind something else. */
static bn_word_rule word_rule(const reader *r)
{
    const cJSON *item;
    if (r->metaspace && r->metaspace_split)
        return BN_WORDS_EACH_SPACE;
    cJSON_ArrayForEach(item, r->vocab)
    {
        const char *p = item->string;
        while (strncmp(p, BN_SPACE_MARK, BN_SPACE_MARK_BYTES) == 0)
            p += BN_SPACE_MARK_BYTES;
        if (strstr(p, BN_SPACE_MARK))
            return BN_WORDS_WHOLE;
    }
    return BN_WORDS_BY_SPACE;
}

/* ---- added tokens ---- */

static int by_first_byte_then_longest(const void *a, const void *b)
{
    const bn_added_token *x = a, *y = b;
    if (x->bytes[0] != y->bytes[0])
        return x->bytes[0] < y->bytes[0] ? -1 : 1;
    if (x->length != y->length)
        return x->length > y->length ? -1 : 1;
    return memcmp(x->bytes, y->bytes, x->length);
}

static bn_status read_added_token(reader *r, const cJSON *item)
{
    static const char *const refused[] = {"single_word", "lstrip", "rstrip"};
    bn_bpe_tokenizer *t = r->t;
    const char *content = text_of(item, "content");
    const size_t length = strlen(content);
    size_t known;
    int32_t id;
    for (int i = 0; i < 3; i++)
        if (is_true(item, refused[i]))
            return bn_error(BN_BAD_DATA, "added_tokens: \"%.60s\": %s is not supported", content,
                            refused[i]);
    if (is_true(item, "normalized") && (r->prepend || r->replace))
        return bn_error(BN_BAD_DATA,
                        "added_tokens: \"%.60s\": normalized is not supported beside a normalizer",
                        content);
    BN_TRY(id_of(member(item, "id"), "added_tokens", &id));
    const unsigned char *piece = bn_vocab_piece(&t->pieces, id, &known);
    if (!piece)
        BN_TRY(bn_error_in(bn_vocab_put(&t->pieces, id, content, length, false), "added_tokens"));
    else if (known != length || memcmp(piece, content, length) != 0)
        return bn_error(BN_BAD_DATA,
                        "added_tokens: id %d is \"%.60s\", but another token in "
                        "model.vocab or another added token",
                        id, content);
    unsigned char *copy = malloc(length);
    if (!copy)
        return bn_error_nomem("an added token", length);
    memcpy(copy, content, length);
    t->added[t->added_count++] = (bn_added_token){copy, length, id};
    t->added_longest = length > t->added_longest ? length : t->added_longest;
    t->is_added[id] = true;
    hash_int(r, id);
    hash_text(r, content);
    return BN_OK;
}

static bn_status read_added(reader *r)
{
    bn_bpe_tokenizer *t = r->t;
    const int count = cJSON_GetArraySize(r->added);
    const cJSON *item;
    if (count == 0)
        return BN_OK;
    t->added = calloc((size_t)count, sizeof *t->added);
    if (!t->added)
        return bn_error_nomem("added tokens", (size_t)count * sizeof *t->added);
    cJSON_ArrayForEach(item, r->added) BN_TRY(read_added_token(r, item));
    qsort(t->added, (size_t)count, sizeof *t->added, by_first_byte_then_longest);
    int next = 0;
    for (int b = 0; b < 256; b++) {
        t->added_from[b] = next;
        while (next < count && t->added[next].bytes[0] == b)
            next++;
    }
    t->added_from[256] = next;
    return BN_OK;
}

static bn_status read_all(reader *r)
{
    bn_bpe_tokenizer *t = r->t;
    if (!cJSON_IsObject(r->root))
        return bn_error(BN_BAD_DATA, "expected a JSON object");
    r->model = member(r->root, "model");
    r->vocab = member(r->model, "vocab");
    r->added = member(r->root, "added_tokens");
    if (r->added && !cJSON_IsArray(r->added))
        return bn_error(BN_BAD_DATA, "added_tokens: expected an array");
    BN_TRY(check_model(r));
    BN_TRY(read_normalizer(r));
    BN_TRY(read_pre_tokenizer(r));
    BN_TRY(decide_family(r));
    BN_TRY(init_vocab(r));
    BN_TRY(read_vocab(r));
    BN_TRY(read_merges(r));
    BN_TRY(read_added(r));
    if (t->sentencepiece)
        t->words = word_rule(r);
    hash_int(r, t->sentencepiece * 2 + t->ignore_merges);
    hash_int(r, t->prefix * 4 + t->words);
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
