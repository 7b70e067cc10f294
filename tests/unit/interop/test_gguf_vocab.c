/* Tokenizers as llama.cpp's keys, and tensors under its names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka_all.h"
#include "interop/gguf_arch.h"
#include "interop/gguf_vocab.h"

/* The keys of a tokenizer in a file; the gaps are *gaps. */
static bn_gguf *written(const char *source, int64_t rows, bn_strings *gaps)
{
    bn_gguf_meta meta = {0};
    bn_gguf_writer *w;
    bn_gguf *file;
    *gaps = (bn_strings){0};
    assert_ok(bn_gguf_vocab_meta(source, rows, &meta, gaps));
    assert_ok(bn_gguf_create("vocab.gguf", &meta, NULL, 0, &w));
    assert_ok(bn_gguf_finish(w, BN_OK));
    assert_ok(bn_gguf_open("vocab.gguf", &file));
    assert_true(bn_gguf_has_meta(file, &meta));
    bn_gguf_meta_string(&meta, "more", "");
    assert_false(bn_gguf_has_meta(file, &meta));
    bn_gguf_meta_clear(&meta);
    return file;
}

/* Whether item `i` of the key is this text. */
static void assert_item(const bn_gguf *file, const char *key, int64_t i, const char *expected)
{
    const bn_gguf_value *v = bn_gguf_value_find(file, key);
    assert_non_null(v);
    assert_int_equal(v->kind, BN_GGUF_STRING);
    assert_true((uint64_t)i < v->count);
    const unsigned char *at = v->data;
    const char *text = NULL;
    uint64_t bytes = 0;
    for (int64_t k = 0; k <= i; k++)
        text = bn_gguf_next_string(&at, &bytes);
    if (bytes != strlen(expected) || memcmp(text, expected, bytes) != 0)
        fail_msg("%s %lld is '%.*s', expected '%s'", key, (long long)i, (int)bytes, text, expected);
}

static int number_of(const bn_gguf *file, const char *key, uint64_t i)
{
    const bn_gguf_value *v = bn_gguf_value_find(file, key);
    return v && i < v->count ? (int)bn_gguf_number(v, i) : -1;
}

static void test_bytes(void **state)
{
    (void)state;
    bn_strings gaps;
    bn_gguf *file = written("byte", 258, &gaps);
    assert_int_equal(gaps.count, 0);
    assert_item(file, "tokenizer.ggml.model", 0, "rwkv");
    assert_item(file, "tokenizer.ggml.tokens", 0, "\\x00");
    assert_item(file, "tokenizer.ggml.tokens", 255, "\\xff");
    assert_item(file, "tokenizer.ggml.tokens", 257, "[PAD257]");
    assert_int_equal(number_of(file, "tokenizer.ggml.token_type", 255), 1);
    assert_int_equal(number_of(file, "tokenizer.ggml.token_type", 256), 5);
    assert_int_equal(number_of(file, "tokenizer.ggml.add_bos_token", 0), 0);
    assert_null(bn_gguf_value_find(file, "tokenizer.ggml.eos_token_id"));
    bn_gguf_close(file);
}

#define LLAMA3                                                                                     \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s" \
    "\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(pattern)                                                                             \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"        \
    "\"" pattern "\"},\"behavior\":\"Isolated\",\"invert\":false},"                                \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
/* Token 4 is a hole. */
#define TOKENIZER(pre, merges, more, added)                                                        \
    "{\"pre_tokenizer\":" pre ",\"model\":{\"type\":\"BPE\"" more ",\"vocab\":{\"a\":0,\"b\":1,"   \
    "\"ab\":2,\"\\u0100\":3},\"merges\":[" merges "]},\"added_tokens\":[" added "]}"

static void test_byte_level(void **state)
{
    (void)state;
    bn_strings gaps;
    bn_gguf *file = written(TOKENIZER(BYTE_LEVEL, "\"a b\"", "", ""), 6, &gaps);
    assert_int_equal(gaps.count, 0);
    assert_item(file, "tokenizer.ggml.model", 0, "gpt2");
    assert_item(file, "tokenizer.ggml.pre", 0, "gpt-2");
    assert_item(file, "tokenizer.ggml.tokens", 2, "ab");
    assert_item(file, "tokenizer.ggml.tokens", 4, "[PAD4]");
    assert_item(file, "tokenizer.ggml.merges", 0, "a b");
    assert_int_equal(number_of(file, "tokenizer.ggml.token_type", 2), 1);
    assert_int_equal(number_of(file, "tokenizer.ggml.token_type", 5), 5);
    /* no token ends a text: byte 0 does */
    assert_int_equal(number_of(file, "tokenizer.ggml.eos_token_id", 0), 3);
    bn_gguf_close(file);
}

static void test_added_tokens(void **state)
{
    (void)state;
    bn_strings gaps;
    bn_gguf *file = written(TOKENIZER(BYTE_LEVEL, "[\"a\",\"b\"]", "",
                                      "{\"id\":5,\"content\":\"<|endoftext|>\",\"special\":true},"
                                      "{\"id\":4,\"content\":\"  \",\"special\":false}"),
                            6, &gaps);
    assert_item(file, "tokenizer.ggml.merges", 0, "a b");
    assert_item(file, "tokenizer.ggml.tokens", 4, "  ");
    assert_int_equal(number_of(file, "tokenizer.ggml.token_type", 4), 4);
    assert_int_equal(number_of(file, "tokenizer.ggml.token_type", 5), 3);
    assert_int_equal(number_of(file, "tokenizer.ggml.eos_token_id", 0), 5);
    assert_int_equal(number_of(file, "tokenizer.ggml.bos_token_id", 0), 5);
    bn_gguf_close(file);
}

static void test_pre_tokenizers(void **state)
{
    (void)state;
    static const struct {
        const char *source, *name;
        size_t gaps;
    } cases[] = {
        {TOKENIZER(SPLIT(LLAMA3), "", ",\"ignore_merges\":true", ""), "llama-bpe", 0},
        {TOKENIZER(SPLIT(LLAMA3), "", "", ""), "smaug-bpe", 0},
        {TOKENIZER(SPLIT("\\\\s+"), "", "", ""), "default", 1},
        {TOKENIZER(BYTE_LEVEL, "", ",\"ignore_merges\":true", ""), "default", 1},
        {TOKENIZER("{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "", "", ""), "default", 1},
        {TOKENIZER(BYTE_LEVEL ",\"normalizer\":null", "", "", ""), "gpt-2", 0},
        {TOKENIZER(BYTE_LEVEL ",\"normalizer\":{\"type\":\"NFC\"}", "", "", ""), "gpt-2", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bn_strings gaps;
        bn_gguf *file = written(cases[i].source, 4, &gaps);
        assert_item(file, "tokenizer.ggml.pre", 0, cases[i].name);
        assert_int_equal(gaps.count, cases[i].gaps);
        bn_strings_clear(&gaps);
        bn_gguf_close(file);
    }
}

/* A vocabulary of bytes (ids 0 to 255), <unk>, U+2581, a, b, c and what `more`
 * adds from id 261 on. */
static char *marked(const char *head, const char *more, const char *merges)
{
    bn_text text = {0};
    char *out;
    bn_text_addf(&text,
                 "{%s,\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"unk_token\":"
                 "\"<unk>\",\"merges\":[%s],\"vocab\":{",
                 head, merges);
    for (int b = 0; b < 256; b++)
        bn_text_addf(&text, "\"<0x%02X>\":%d,", (unsigned)b, b);
    bn_text_addf(&text, "\"<unk>\":256,\"\u2581\":257,\"a\":258,\"b\":259,\"c\":260%s}}}", more);
    assert_ok(bn_text_take(&text, &out));
    return out;
}

#define REPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\u2581\"}"
#define LLAMA2                                                                                     \
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"    \
    "\"\u2581\"}," REPLACE "]}"
#define METASPACE(scheme)                                                                          \
    "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":"     \
    "\"" scheme "\"}"

static double score(const bn_gguf *file, uint64_t id)
{
    return bn_gguf_number(bn_gguf_value_find(file, "tokenizer.ggml.scores"), id);
}

static void test_merges_as_scores(void **state)
{
    (void)state;
    bn_strings gaps;
    /* two ways to abc, of which only the second comes about */
    char *source =
        marked(LLAMA2, ",\"bc\":261,\"abc\":262,\"ab\":263", "\"b c\",\"ab c\",\"a bc\",\"a b\"");
    bn_gguf *file = written(source, 265, &gaps);
    assert_int_equal(gaps.count, 0);
    assert_item(file, "tokenizer.ggml.model", 0, "llama");
    assert_item(file, "tokenizer.ggml.tokens", 262, "abc");
    assert_true(score(file, 258) == 0 && score(file, 261) == 0 && score(file, 262) == -2 &&
                score(file, 263) == -3);
    assert_int_equal(number_of(file, "tokenizer.ggml.token_type", 0), 6);
    assert_int_equal(number_of(file, "tokenizer.ggml.token_type", 256), 2);
    assert_int_equal(number_of(file, "tokenizer.ggml.token_type", 262), 1);
    assert_int_equal(number_of(file, "tokenizer.ggml.token_type", 264), 5);
    assert_int_equal(number_of(file, "tokenizer.ggml.add_space_prefix", 0), 1);
    assert_int_equal(number_of(file, "tokenizer.ggml.add_bos_token", 0), 0);
    assert_int_equal(number_of(file, "tokenizer.ggml.eos_token_id", 0), 0);
    bn_gguf_close(file);
    free(source);
}

/* What llama.cpp does not reproduce, and the word that says so; NULL: it does. */
static void test_sentencepiece(void **state)
{
    (void)state;
    static const struct {
        const char *head, *more, *merges, *gap;
    } cases[] = {
        {"\"normalizer\":" REPLACE, "", "", NULL},
        {METASPACE("never"), "", "", NULL},
        {METASPACE("always"), "", "", "begins with a space"},
        {METASPACE("first"), "", "", "begins with a space"},
        {METASPACE("never") ",\"normalizer\":{\"type\":\"NFC\"}", "", "", "normalize"},
        {LLAMA2 ",\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":true}", "", "",
         "pattern"},
        {LLAMA2, ",\"ab\":261", "", "\"ab\""},
        {LLAMA2, ",\"abc\":261", "", NULL}, /* no two symbols ever make it */
        {METASPACE("never"), ",\"a\u2581\":261", "\"a \u2581\"", "\"a\u2581\""},
        {LLAMA2, ",\"a\u2581\":261", "\"a \u2581\"", NULL},
        {LLAMA2, ",\"<0x61>b\":261", "\"<0x61> b\"", "bytes"},
        {LLAMA2 ",\"added_tokens\":[{\"id\":256,\"content\":\"<unk>\",\"special\":true,"
                "\"lstrip\":true}]",
         "", "", "lstrip"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bn_strings gaps;
        char *source = marked(cases[i].head, cases[i].more, cases[i].merges);
        bn_gguf *file = written(source, 262, &gaps);
        assert_item(file, "tokenizer.ggml.model", 0, "llama");
        if (gaps.count != (cases[i].gap != NULL) ||
            (cases[i].gap && !strstr(gaps.items[0], cases[i].gap)))
            fail_msg("case %zu: %zu gaps, %s", i, gaps.count, gaps.count ? gaps.items[0] : "");
        bn_strings_clear(&gaps);
        bn_gguf_close(file);
        free(source);
    }
}

/* Token ids are all that llama.cpp can have. */
static void test_no_llama_tokenizer(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{" METASPACE("always") ",\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":"
                                 "[[\"<unk>\",0],[\"\u2581\",-1]]}}",
         "Unigram"},
        {"{" METASPACE("never") ",\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"merges\":"
                                "[],\"vocab\":{\"<unk>\":0,\"\u2581\":1}}}",
         "byte_fallback"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bn_strings gaps;
        bn_gguf *file = written(cases[i][0], 4, &gaps);
        assert_item(file, "tokenizer.ggml.model", 0, "none");
        assert_int_equal(gaps.count, 1);
        assert_non_null(strstr(gaps.items[0], cases[i][1]));
        bn_strings_clear(&gaps);
        bn_gguf_close(file);
    }
}

static void test_id_beyond_embedding(void **state)
{
    (void)state;
    bn_gguf_meta meta = {0};
    bn_strings gaps = {0};
    assert_int_equal(bn_gguf_vocab_meta(TOKENIZER(BYTE_LEVEL, "", "", ""), 3, &meta, &gaps),
                     BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "id 3"));
    bn_gguf_meta_clear(&meta);
    bn_strings_clear(&gaps);
}

static void test_names(void **state)
{
    (void)state;
    char name[BN_GGUF_MAX_NAME];
    assert_true(bn_gguf_tensor_name("model.embed_tokens.weight", name));
    assert_string_equal(name, "token_embd.weight");
    assert_true(bn_gguf_tensor_name("model.layers.17.self_attn.o_proj.weight", name));
    assert_string_equal(name, "blk.17.attn_output.weight");
    assert_true(bn_gguf_tensor_name("model.layers.0.post_attention_layernorm.weight", name));
    assert_string_equal(name, "blk.0.ffn_norm.weight");
    assert_false(bn_gguf_tensor_name("model.layers.0.mlp.up_proj.bias", name));
    assert_false(bn_gguf_tensor_name("model.layers.mlp", name));
    assert_false(bn_gguf_tensor_name("layers.0.weight", name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_byte_level),
        cmocka_unit_test(test_added_tokens),
        cmocka_unit_test(test_pre_tokenizers),
        cmocka_unit_test(test_sentencepiece),
        cmocka_unit_test(test_id_beyond_embedding),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_merges_as_scores),
        cmocka_unit_test(test_no_llama_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
