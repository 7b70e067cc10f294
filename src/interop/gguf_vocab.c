#include "interop/gguf_vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/bpe_tokenizer.h"

/* llama.cpp's types of tokens. */
enum { NORMAL = 1, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5 };

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
static const char byte_0[] = "\xc4\x80"; /* U+0100 */

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

static void add_flags(bn_gguf_meta *meta)
{
    bn_gguf_meta_bool(meta, "tokenizer.ggml.add_bos_token", false);
    bn_gguf_meta_bool(meta, "tokenizer.ggml.add_eos_token", false);
    bn_gguf_meta_bool(meta, "tokenizer.ggml.add_space_prefix", false);
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
    add_flags(meta);
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
    const char *const zero = byte_0;
    int64_t end = find_token(v, end_tokens, sizeof end_tokens / sizeof *end_tokens);
    int64_t begin = find_token(v, begin_tokens, sizeof begin_tokens / sizeof *begin_tokens);
    if (end < 0)
        end = find_token(v, &zero, 1);
    if (end >= 0)
        bn_gguf_meta_u32(meta, "tokenizer.ggml.eos_token_id", (uint32_t)end);
    if (begin < 0)
        begin = end;
    if (begin >= 0)
        bn_gguf_meta_u32(meta, "tokenizer.ggml.bos_token_id", (uint32_t)begin);
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
    bn_gguf_meta_array(meta, "tokenizer.ggml.tokens", BN_GGUF_STRING, (uint64_t)v->count);
    for (int64_t id = 0; id < v->count; id++)
        if (v->tokens[id])
            bn_gguf_item_string(meta, v->tokens[id], strlen(v->tokens[id]));
        else
            pad_token(meta, id);
    add_types(meta, v->types, v->count, v->count);
    add_merges(v, meta);
    add_special(v, meta);
    add_flags(meta);
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

/* Merging by scores, of which there are none here. */
static bn_status add_none(bn_gguf_meta *meta, bn_strings *gaps)
{
    bn_gguf_meta_string(meta, "tokenizer.ggml.model", "none");
    return bn_strings_add(gaps, "llama.cpp merges the tokens of SentencePiece vocabularies by "
                                "scores, which the tokenizer of this model does not carry");
}

static bn_status add_json(const char *source, int64_t rows, bn_gguf_meta *meta, bn_strings *gaps)
{
    cJSON *json = NULL;
    vocab v = {0};
    bn_status status = BN_OK;
    BN_TRY_OUT(bn_json_parse("tokenizer.json", source, strlen(source), &json));
    v.root = json;
    v.model = member(json, "model");
    if (is_byte_level(&v)) {
        BN_TRY_OUT(init_tokens(&v, rows));
        status = add_byte_level(&v, meta, gaps);
    } else {
        status = add_none(meta, gaps);
    }
out:
    free(v.tokens);
    free(v.types);
    cJSON_Delete(json);
    return status;
}

bn_status bn_gguf_vocab_meta(const char *source, int64_t rows, bn_gguf_meta *meta, bn_strings *gaps)
{
    if (*source == '{')
        return add_json(source, rows, meta, gaps);
    if (strcmp(source, "byte") != 0)
        return add_none(meta, gaps);
    add_bytes(rows, meta);
    return BN_OK;
}
