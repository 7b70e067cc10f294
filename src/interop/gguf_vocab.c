#include "interop/gguf_vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/bpe_tokenizer.h"
#include "interop/gguf_merge.h"

/* llama.cpp's types of tokens. */
enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

/* The pattern of Llama 3. */
static const char llama3_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* The same with single digits: of Qwen 2. */
static const char qwen2_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* Patterns and what llama.cpp calls the pre-tokenizer that cuts by them. */
static const struct {
    const char *name, *pattern;
    bool ignore_merges;
} pre_tokenizers[] = {
    {"gpt-2", bn_gpt2_pattern, false},
    {"llama-bpe", llama3_pattern, true},
    {"smaug-bpe", llama3_pattern, false},
    {"qwen2", qwen2_pattern, false},
};

/* Names of tokens that end or begin a text, the usual first. */
static const char *const end_tokens[] = {"</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>",
                                         "<|eot_id|>"};
static const char *const begin_tokens[] = {"<s>", "<|begin_of_text|>", "<|endoftext|>"};
/* The token of byte 0: of byte-level vocabularies (U+0100), and of others. */
static const char *const byte_0[] = {"\xc4\x80", "<0x00>"};

typedef struct vocab {
    const cJSON *root, *model;
    const char **tokens; /* by id; NULL: a hole */
    int32_t *types;
    int64_t count;
} vocab;

static const cJSON *member(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static const char *text_of(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(member(object, key));
    return text ? text : "";
}

static void pad_token(bn_gguf_meta *meta, int64_t id)
{
    char text[32];
    const int length = snprintf(text, sizeof text, "[PAD%lld]", (long long)id);
    bn_gguf_item_string(meta, text, (size_t)length);
}

static void add_flags(bool space_prefix, bn_gguf_meta *meta)
{
    bn_gguf_meta_bool(meta, "tokenizer.ggml.add_bos_token", false);
    bn_gguf_meta_bool(meta, "tokenizer.ggml.add_eos_token", false);
    bn_gguf_meta_bool(meta, "tokenizer.ggml.add_space_prefix", space_prefix);
}

static void add_types(bn_gguf_meta *meta, const int32_t *types, int64_t count, int64_t rows)
{
    bn_gguf_meta_array(meta, "tokenizer.ggml.token_type", BN_GGUF_I32, (uint64_t)rows);
    for (int64_t id = 0; id < rows; id++)
        bn_gguf_item_i32(meta, id >= count ? UNUSED : types ? types[id] : NORMAL);
}

/* Escapes are how this model's files write bytes. */
static void add_bytes(int64_t rows, bn_gguf_meta *meta)
{
    bn_gguf_meta_string(meta, "tokenizer.ggml.model", "rwkv");
    bn_gguf_meta_array(meta, "tokenizer.ggml.tokens", BN_GGUF_STRING, (uint64_t)rows);
    for (int64_t id = 0; id < rows; id++) {
        char text[8];
        if (id < 256)
            bn_gguf_item_string(meta, text,
                                (size_t)snprintf(text, sizeof text, "\\x%02x", (int)id));
        else
            pad_token(meta, id);
    }
    add_types(meta, NULL, 256, rows);
    add_flags(false, meta);
}

/* ---- tokenizer.json ---- */

static bn_status init_tokens(vocab *v, int64_t rows)
{
    const cJSON *item;
    v->tokens = calloc((size_t)rows + 1, sizeof *v->tokens);
    v->types = calloc((size_t)rows + 1, sizeof *v->types);
    if (!v->tokens || !v->types)
        return bn_error_nomem("a vocabulary", (size_t)rows * sizeof *v->tokens);
    v->count = rows;
    for (int64_t id = 0; id < rows; id++)
        v->types[id] = UNUSED;
    cJSON_ArrayForEach(item, member(v->model, "vocab"))
    {
        const int64_t id = (int64_t)item->valuedouble;
        if (id < 0 || id >= rows)
            return bn_error(BN_BAD_DATA, "token \"%.60s\": id %lld, the embedding has %lld rows",
                            item->string, (long long)id, (long long)rows);
        v->tokens[id] = item->string;
        v->types[id] = NORMAL;
    }
    cJSON_ArrayForEach(item, member(v->root, "added_tokens"))
    {
        const cJSON *number = member(item, "id");
        const int64_t id = number ? (int64_t)number->valuedouble : -1;
        if (id < 0 || id >= rows)
            return bn_error(BN_BAD_DATA, "token \"%.60s\": id %lld, the embedding has %lld rows",
                            text_of(item, "content"), (long long)id, (long long)rows);
        v->tokens[id] = text_of(item, "content");
        v->types[id] = cJSON_IsTrue(member(item, "special")) ? CONTROL : USER_DEFINED;
    }
    return BN_OK;
}

/* The pattern that words are cut by; NULL if it is not one pattern. */
static const char *pattern_of(const vocab *v)
{
    const cJSON *pre = member(v->root, "pre_tokenizer");
    const cJSON *steps = member(pre, "pretokenizers");
    const int count = steps ? cJSON_GetArraySize(steps) : 1;
    const cJSON *first = steps ? cJSON_GetArrayItem(steps, 0) : pre;
    const cJSON *last = count == 2 ? cJSON_GetArrayItem(steps, 1) : first;
    const bool own_pattern = !cJSON_IsFalse(member(last, "use_regex"));
    if (count < 1 || count > 2 || cJSON_IsTrue(member(last, "add_prefix_space")))
        return NULL;
    if (count == 1)
        return own_pattern ? bn_gpt2_pattern : NULL;
    if (own_pattern || strcmp(text_of(first, "type"), "Split") != 0)
        return NULL;
    return cJSON_GetStringValue(member(member(first, "pattern"), "Regex"));
}

static const char *pre_name(const vocab *v)
{
    const char *pattern = pattern_of(v);
    const bool ignore_merges = cJSON_IsTrue(member(v->model, "ignore_merges"));
    for (size_t i = 0; i < sizeof pre_tokenizers / sizeof *pre_tokenizers && pattern; i++)
        if (strcmp(pattern, pre_tokenizers[i].pattern) == 0 &&
            ignore_merges == pre_tokenizers[i].ignore_merges)
            return pre_tokenizers[i].name;
    return NULL;
}

static void add_merges(const vocab *v, bn_gguf_meta *meta)
{
    const cJSON *merges = member(v->model, "merges"), *merge;
    bn_gguf_meta_array(meta, "tokenizer.ggml.merges", BN_GGUF_STRING,
                       (uint64_t)cJSON_GetArraySize(merges));
    cJSON_ArrayForEach(merge, merges)
    {
        if (cJSON_IsString(merge)) {
            bn_gguf_item_string(meta, merge->valuestring, strlen(merge->valuestring));
            continue;
        }
        const char *left = cJSON_GetStringValue(cJSON_GetArrayItem(merge, 0));
        const char *right = cJSON_GetStringValue(cJSON_GetArrayItem(merge, 1));
        char *pair = bn_format("%s %s", left, right);
        if (pair)
            bn_gguf_item_string(meta, pair, strlen(pair));
        else
            meta->bytes.failed = true;
        free(pair);
    }
}

/* The id of the first of these names that is a token; -1: none is. */
static int64_t find_token(const vocab *v, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (int64_t id = 0; id < v->count; id++)
            if (v->tokens[id] && strcmp(v->tokens[id], names[i]) == 0)
                return id;
    return -1;
}

static void add_special(const vocab *v, bn_gguf_meta *meta)
{
    int64_t end = find_token(v, end_tokens, sizeof end_tokens / sizeof *end_tokens);
    int64_t begin = find_token(v, begin_tokens, sizeof begin_tokens / sizeof *begin_tokens);
    if (end < 0)
        end = find_token(v, byte_0, sizeof byte_0 / sizeof *byte_0);
    if (end >= 0)
        bn_gguf_meta_u32(meta, "tokenizer.ggml.eos_token_id", (uint32_t)end);
    if (begin < 0)
        begin = end;
    if (begin >= 0)
        bn_gguf_meta_u32(meta, "tokenizer.ggml.bos_token_id", (uint32_t)begin);
}

static void add_tokens(const vocab *v, bn_gguf_meta *meta)
{
    bn_gguf_meta_array(meta, "tokenizer.ggml.tokens", BN_GGUF_STRING, (uint64_t)v->count);
    for (int64_t id = 0; id < v->count; id++)
        if (v->tokens[id])
            bn_gguf_item_string(meta, v->tokens[id], strlen(v->tokens[id]));
        else
            pad_token(meta, id);
    add_types(meta, v->types, v->count, v->count);
}

static bn_status add_byte_level(const vocab *v, bn_gguf_meta *meta, bn_strings *gaps)
{
    const char *pre = pre_name(v);
    if (!pre)
        BN_TRY(bn_strings_add(gaps, "llama.cpp has no pre-tokenizer that is known to cut words "
                                    "by the pattern of this tokenizer"));
    if (member(v->root, "normalizer") && !cJSON_IsNull(member(v->root, "normalizer")))
        BN_TRY(bn_strings_add(gaps, "llama.cpp does not normalize text, which this tokenizer "
                                    "does"));
    bn_gguf_meta_string(meta, "tokenizer.ggml.model", "gpt2");
    bn_gguf_meta_string(meta, "tokenizer.ggml.pre", pre ? pre : "default");
    add_tokens(v, meta);
    add_merges(v, meta);
    add_special(v, meta);
    add_flags(false, meta);
    return BN_OK;
}

static bool is_byte_level(const vocab *v)
{
    const cJSON *pre = member(v->root, "pre_tokenizer"), *step;
    if (strcmp(text_of(pre, "type"), "ByteLevel") == 0)
        return true;
    cJSON_ArrayForEach(step, member(pre, "pretokenizers"))
    {
        if (strcmp(text_of(step, "type"), "ByteLevel") == 0)
            return true;
    }
    return false;
}

/* ---- in the manner of SentencePiece ---- */

static bn_status add_none(bn_gguf_meta *meta, bn_strings *gaps, const char *why)
{
    bn_gguf_meta_string(meta, "tokenizer.ggml.model", "none");
    return bn_strings_add(gaps, why);
}

/* What happens to a text before it is merged. llama.cpp writes U+2581 for
 * spaces, and may put one in front of a text and of what follows a token that
 * was found in it. */
static bn_status text_gaps(const vocab *v, const bn_bpe_tokenizer *t, bool *space_prefix,
                           bn_strings *gaps)
{
    const cJSON *normalizer = member(v->root, "normalizer"), *step;
    const cJSON *steps = member(normalizer, "normalizers");
    const bool own = strcmp(text_of(normalizer, "type"), "SentencePiece") == 0;
    bool normalizes = false;
    if (own)
        normalizes = cJSON_IsTrue(member(normalizer, "remove_extra_whitespaces")) ||
                     *text_of(normalizer, "precompiled_charsmap");
    for (step = steps ? steps->child
                : own ? NULL
                      : normalizer;
         step; step = steps ? step->next : NULL) {
        const char *type = text_of(step, "type");
        const bool replaces = strcmp(type, "Replace") == 0 &&
                              strcmp(text_of(member(step, "pattern"), "String"), " ") == 0 &&
                              strcmp(text_of(step, "content"), BN_SPACE_MARK) == 0;
        const bool prepends =
            strcmp(type, "Prepend") == 0 && strcmp(text_of(step, "prepend"), BN_SPACE_MARK) == 0;
        normalizes |= cJSON_IsObject(step) && !replaces && !prepends;
    }
    *space_prefix = t->prefix != BN_PREFIX_NEVER;
    if (normalizes)
        BN_TRY(bn_strings_add(gaps, "llama.cpp does not normalize text, which this tokenizer "
                                    "does"));
    if (!own && *space_prefix && t->prefix != BN_PREFIX_ALWAYS)
        BN_TRY(bn_strings_add(gaps, "llama.cpp puts a space in front of every text, this "
                                    "tokenizer not of one that begins with a space"));
    if (own && *space_prefix && t->later.count > 0)
        BN_TRY(bn_strings_add(gaps, "llama.cpp puts a space behind user-defined symbols, this "
                                    "tokenizer only in front of the text"));
    if (t->splitter.count > 0)
        BN_TRY(bn_strings_add(gaps, "llama.cpp does not cut words by a pattern before it merges, "
                                    "which this tokenizer does"));
    return BN_OK;
}

/* Tokens that are found in a text. */
static bn_status added_gaps(const bn_bpe_tokenizer *t, bool sentencepiece, bn_strings *gaps)
{
    bool flags = t->later.count > 0 && !sentencepiece;
    for (int i = 0; i < t->added.count; i++)
        flags |=
            t->added.items[i].lstrip || t->added.items[i].rstrip || t->added.items[i].single_word;
    return flags ? bn_strings_add(gaps, "llama.cpp finds added tokens in the text as it is: no "
                                        "lstrip, rstrip, single_word or normalized")
                 : BN_OK;
}

static void spm_types(vocab *v, const bn_bpe_tokenizer *t)
{
    const char *const unknown = text_of(v->model, "unk_token");
    const int64_t id = find_token(v, &unknown, 1);
    if (id >= 0)
        v->types[id] = UNKNOWN;
    for (int b = 0; b < 256; b++)
        v->types[t->byte_ids[b]] = BYTE;
}

static bn_status add_scores(const vocab *v, const bn_bpe_tokenizer *t, bn_gguf_meta *meta,
                            bn_strings *gaps)
{
    float *scores = calloc((size_t)v->count + 1, sizeof *scores);
    bool *skip = calloc((size_t)v->count + 1, sizeof *skip);
    bn_status status = BN_OK;
    if (!scores || !skip)
        status = bn_error_nomem("scores of tokens", (size_t)v->count * sizeof *scores);
    for (int i = 0; i < t->added.count && skip; i++)
        skip[t->added.items[i].id] = true;
    for (int i = 0; i < t->later.count && skip; i++)
        skip[t->later.items[i].id] = true;
    if (status == BN_OK)
        status = bn_gguf_merge_scores(t, v->tokens, skip, v->count, scores, gaps);
    if (status == BN_OK) {
        bn_gguf_meta_array(meta, "tokenizer.ggml.scores", BN_GGUF_FLOAT32, (uint64_t)v->count);
        for (int64_t id = 0; id < v->count; id++)
            bn_gguf_item_f32(meta, scores[id]);
    }
    free(scores);
    free(skip);
    return status;
}

static bn_status add_spm(vocab *v, const bn_bpe_tokenizer *t, bn_gguf_meta *meta, bn_strings *gaps)
{
    bool space_prefix;
    if (t->model == BN_MODEL_UNIGRAM)
        return add_none(meta, gaps,
                        "llama.cpp merges the tokens of such a vocabulary pair by "
                        "pair, this tokenizer (Unigram) takes the likeliest row");
    if (t->unknown >= 0)
        return add_none(meta, gaps,
                        "llama.cpp writes characters without a token as bytes, for "
                        "which this tokenizer has no tokens (byte_fallback)");
    BN_TRY(text_gaps(v, t, &space_prefix, gaps));
    BN_TRY(added_gaps(t, cJSON_IsTrue(member(v->model, "sentencepiece")), gaps));
    if (t->ignore_merges)
        BN_TRY(bn_strings_add(gaps, "llama.cpp has no ignore_merges for such a vocabulary"));
    spm_types(v, t);
    bn_gguf_meta_string(meta, "tokenizer.ggml.model", "llama");
    bn_gguf_meta_string(meta, "tokenizer.ggml.pre", "default");
    add_tokens(v, meta);
    BN_TRY(add_scores(v, t, meta, gaps));
    add_special(v, meta);
    add_flags(space_prefix, meta);
    return BN_OK;
}

static bn_status add_json(const char *source, int64_t rows, bn_gguf_meta *meta, bn_strings *gaps)
{
    cJSON *json = NULL;
    bn_tokenizer *tokenizer = NULL;
    vocab v = {0};
    bn_status status = BN_OK;
    BN_TRY_OUT(bn_json_parse("tokenizer.json", source, strlen(source), &json));
    v.root = json;
    v.model = member(json, "model");
    if (is_byte_level(&v)) {
        BN_TRY_OUT(init_tokens(&v, rows));
        status = add_byte_level(&v, meta, gaps);
        goto out;
    }
    BN_TRY_OUT(bn_tokenizer_new(source, &tokenizer));
    BN_TRY_OUT(init_tokens(&v, rows));
    status = add_spm(&v, (const bn_bpe_tokenizer *)tokenizer, meta, gaps);
out:
    bn_tokenizer_free(tokenizer);
    free(v.tokens);
    free(v.types);
    cJSON_Delete(json);
    return status;
}

bn_status bn_gguf_vocab_meta(const char *source, int64_t rows, bn_gguf_meta *meta, bn_strings *gaps)
{
    if (*source == '{')
        return add_json(source, rows, meta, gaps);
    add_bytes(rows, meta);
    return BN_OK;
}
