/* tokenizer.json: what is refused and how, and what decides the hash. */
#include "data_fixture.h"

#include <stdlib.h>

#include "base/text.h"
#include "data/bpe_tokenizer.h"

/* A small byte-level tokenizer with parts exchanged; NULL: the good part. */
typedef struct parts {
    const char *pre, *normalizer, *model, *vocab, *merges, *added;
} parts;

static char *build(const parts *p)
{
    bn_text text = {0};
    char *json;
    bn_text_addf(&text, "{\"version\":\"1.0\",\"added_tokens\":%s,\"normalizer\":%s,",
                 p->added ? p->added : "[{\"id\":300,\"content\":\"<x>\"}]",
                 p->normalizer ? p->normalizer : "null");
    bn_text_addf(&text, "\"pre_tokenizer\":%s,\"model\":{\"type\":\"BPE\",%s\"vocab\":{",
                 p->pre ? p->pre : "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}",
                 p->model ? p->model : "");
    for (int b = 0; b < 256; b++) {
        const int c = bn_byte_to_char((unsigned char)b);
        bn_text_addf(&text, "\"\\u%04x\":%d,", (unsigned)c, b);
    }
    bn_text_addf(&text, "%s},\"merges\":%s}}", p->vocab ? p->vocab : "\"ab\":256,\"abc\":257",
                 p->merges ? p->merges : "[\"a b\",[\"ab\",\"c\"]]");
    assert_ok(bn_text_take(&text, &json));
    return json;
}

static bn_tokenizer *make(const parts *p)
{
    bn_tokenizer *t;
    char *json = build(p);
    assert_ok(bn_tokenizer_new(json, &t));
    assert_string_equal(bn_tokenizer_source(t), json);
    free(json);
    return t;
}

static void encodes(void **state)
{
    (void)state;
    bn_tokenizer *t = make(&(parts){0}), *again;
    const char *text = "abcab<x>ab a";
    const int32_t expected[] = {257, 256, 300, 256, ' ', 'a'};
    int32_t ids[16];
    size_t count = 0, bytes = 0;
    char back[16];
    assert_string_equal(bn_tokenizer_name(t), "bpe");
    assert_int_equal(bn_tokenizer_vocab_size(t), 301);
    assert_false(bn_tokenizer_is_bytes(t));
    assert_ok(bn_tokenizer_encode(t, text, strlen(text), ids, &count));
    assert_int_equal(count, 6);
    assert_memory_equal(ids, expected, sizeof expected);
    assert_ok(bn_tokenizer_decode(t, ids, count, back, sizeof back, &bytes));
    assert_int_equal(bytes, strlen(text));
    assert_memory_equal(back, text, bytes);
    ids[0] = 280; /* a hole */
    assert_int_equal(bn_tokenizer_decode(t, ids, 1, back, sizeof back, &bytes), BN_BAD_DATA);
    assert_ok(bn_tokenizer_encode(t, text, 0, ids, &count));
    assert_int_equal(count, 0);
    assert_ok(bn_tokenizer_new(bn_tokenizer_source(t), &again));
    assert_true(bn_tokenizer_hash(t) == bn_tokenizer_hash(again));
    bn_tokenizer_free(again);
    bn_tokenizer_free(t);
}

/* Only the start of a text and an added token leave a fresh place behind them:
 * were it otherwise, parts encoded side by side would all be encoded again. */
static void parts_join(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool fresh;
    } cases[] = {{"ab ab", false}, {"\xff", false}, {"ab<x>", true}, {"<x>a", false}};
    bn_tokenizer *t = make(&(parts){0});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t bytes = strlen(cases[i].text);
        const bn_text_part part = {
            .text = cases[i].text, .bytes = bytes, .to = bytes, .fresh = true};
        bn_text_part rest;
        bn_ids ids = {0};
        assert_ok(bn_tokenizer_encode_part(t, &part, &ids, &rest));
        assert_int_equal(rest.from, bytes);
        assert_int_equal(rest.fresh, cases[i].fresh);
        bn_ids_clear(&ids);
    }
    bn_tokenizer_free(t);
}

static void hash_follows_the_mapping(void **state)
{
    (void)state;
    static const parts others[] = {
        {.merges = "[[\"ab\",\"c\"],\"a b\"]"},
        {.vocab = "\"ab\":257,\"abc\":256"},
        {.added = "[]"},
        {.added = "[{\"id\":300,\"content\":\"<y>\"}]"},
        {.model = "\"ignore_merges\":true,"},
        {.pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"},"
                "{\"type\":\"ByteLevel\"}]}"},
    };
    bn_tokenizer *t = make(&(parts){0});
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        bn_tokenizer *other = make(&others[i]);
        assert_true(bn_tokenizer_hash(t) != bn_tokenizer_hash(other));
        bn_tokenizer_free(other);
    }
    /* how it is written does not count */
    bn_tokenizer *same = make(&(parts){.merges = "[ [\"a\",\"b\"],  \"ab c\" ]"});
    assert_true(bn_tokenizer_hash(t) == bn_tokenizer_hash(same));
    bn_tokenizer_free(same);
    bn_tokenizer_free(t);
}

#define SPLIT(pattern, behavior)                                                                   \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"        \
    "\"" pattern "\"},\"behavior\":\"" behavior                                                    \
    "\"},{\"type\":\"ByteLevel\",\"use_regex\":false}]}"

static const struct {
    parts parts;
    const char *message;
} refused[] = {
    {{.vocab = "\"ab\":256,\"ab\":257"}, "given twice"},
    {{.vocab = "\"ab\":256,\"abc\":256"}, "id 256 is given twice"},
    {{.vocab = "\"ab\":256,\"abc\":-1"}, "expected an id from 0"},
    {{.vocab = "\"ab\":256,\"abc\":1.5"}, "expected an id from 0"},
    {{.vocab = "\"ab\":256,\"abc\":\"1\""}, "expected an id from 0"},
    {{.vocab = "\"ab\":256,\"abc\":16777216"}, "expected an id from 0"},
    {{.vocab = "\"ab\":256,\"abc\":1e300"}, "expected an id from 0"},
    {{.vocab = "\"ab\":256,\"abc\":16777215"}, "id 16777215 in a vocabulary of 259 tokens"},
    {{.vocab = "\"ab\":256,\"abc\":257,\"\":258"}, "0 bytes, expected 1"},
    {{.vocab = "\"ab\":256,\"abc\":257,\"\xff\xfe\":258"}, "is not UTF-8"},
    {{.vocab = "\"ab\":256,\"abc\":257,\"\xed\xa0\x80\":258"}, "is not UTF-8"},
    {{.vocab = "\"ab\":256"}, "merges[1]: \"ab\" + \"c\": the result is not in"},
    {{.merges = "[\"a b\",\"q zz\"]"}, "merges[1]: \"zz\" is not in the vocabulary"},
    {{.merges = "[\"zz b\"]"}, "merges[0]: \"zz\" is not in the vocabulary"},
    {{.merges = "[\"a \"]"}, "merges[0]: \"\" is not in the vocabulary"},
    {{.merges = "[\"a \\u0150\"]"}, "is not in the vocabulary"},
    {{.merges = "[\"a \xc3\"]"}, "is not in the vocabulary"}, /* half a character */
    {{.vocab =
          "\"xyb\":256,\"\\u00c0b\":257,\"xyb\\u00c0b\":258", /* the same, with what it would be */
      .merges = "[[\"xyb\",\"\xc3\"]]"}, /* if one read on over the side before it */
     "is not in the vocabulary"},
    {{.merges = "[[1,\"a\"]]"}, "merges[0]: expected \"left right\""},
    {{.added = "[{\"id\":97,\"content\":\"\xe2\x96\x81\"}]"}, "id 97 is"},
    {{.added = "[{\"id\":256,\"content\":\"a\"}]"}, "id 256 is \"a\", but another token"},
    {{.added = "[{\"id\":256,\"content\":\"abc\"}]"}, "id 256 is \"abc\", but another token"},
    {{.merges = "[\"ab\"]"}, "merges[0]: expected \"left right\""},
    {{.merges = "[\"a b c\"]"}, "merges[0]: expected \"left right\""},
    {{.merges = "[[\"a\"]]"}, "merges[0]: expected \"left right\""},
    {{.merges = "[[\"a\",1]]"}, "merges[0]: expected \"left right\""},
    {{.merges = "[7]"}, "merges[0]: expected \"left right\""},
    {{.merges = "{}"}, "model.merges: expected an array"},
    {{.merges = "null"}, "model.merges: expected an array"},
    {{.model = "\"dropout\":0.1,"}, "model.dropout is not supported"},
    {{.model = "\"end_of_word_suffix\":\"</w>\","}, "end_of_word_suffix is not supported"},
    {{.model = "\"continuing_subword_prefix\":\"##\","}, "continuing_subword_prefix is not"},
    {{.added = "{}"}, "added_tokens: expected an array"},
    {{.added = "[{\"id\":300}]"}, "0 bytes, expected 1"},
    {{.added = "[{\"content\":\"<x>\"}]"}, "expected an id from 0"},
    {{.added = "[{\"id\":97,\"content\":\"<x>\"}]"}, "id 97 is \"<x>\", but another token"},
    {{.added = "[{\"id\":300,\"content\":\"<x>\",\"normalized\":true}]",
      .normalizer = "{\"type\":\"NFC\"}",
      .pre = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}"},
     "normalized is not supported beside a normalizer and a pre_tokenizer"},
    {{.added = "[{\"id\":300,\"content\":\"  \",\"normalized\":true}]",
      .normalizer = "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}"},
     "id 300: 0 bytes once normalized"},
    {{.normalizer = "{\"type\":\"BertNormalizer\"}"},
     "normalizer \"BertNormalizer\" is not supported"},
    {{.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}"},
     "normalizer \"Precompiled\" is not supported"},
    {{.normalizer = "{\"type\":\"Sequence\"}"}, "normalizer Sequence: normalizers: expected an"},
    {{.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(?<=a)b\"},\"content\":\"\"}"},
     "looks behind"},
    {{.normalizer = "{\"type\":\"SentencePiece\",\"precompiled_charsmap\":\"AAA\"}"}, "no base64"},
    {{.normalizer = "{\"type\":\"SentencePiece\",\"precompiled_charsmap\":\"/////w==\"}"},
     "are no trie"},
    {{.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":"
                    "\"\xe2\x96\x81\"}"},
     "others, where the pre-tokenizer is ByteLevel"},
    {{.pre = "null"}, "expected pre_tokenizer ByteLevel or Metaspace"},
    {{.pre = "{\"type\":\"BertPreTokenizer\"}"}, "\"BertPreTokenizer\" is not supported"},
    {{.pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"},{\"type\":"
             "\"ByteLevel\",\"add_prefix_space\":true}]}"},
     "add_prefix_space \"true behind another one\""},
    {{.pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":"
             "\"Digits\"}]}"},
     "\"Digits\" behind ByteLevel"},
    {{.pre = SPLIT("a(", "Isolated")}, "does not compile"},
    {{.pre = SPLIT("", "Isolated")}, "a pattern of 0 bytes"},
    {{.pre = SPLIT("((a{999}){999}){999}", "Isolated")}, "does not compile"},
    {{.pre = SPLIT("a\\\\C", "Isolated")}, "does not compile"},
    {{.pre = SPLIT("a", "Merged")}, "\"Merged\" is not supported"},
    {{.pre = "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"}"},
     "neither byte_fallback nor an unk_token"},
};

static void refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        bn_tokenizer *t;
        char *json = build(&refused[i].parts);
        assert_int_equal(bn_tokenizer_new(json, &t), BN_BAD_DATA);
        assert_null(t);
        if (!strstr(bn_error_text(), refused[i].message))
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, bn_error_text(), refused[i].message);
        free(json);
    }
    bn_tokenizer *t;
    assert_int_equal(bn_tokenizer_new("{}", &t), BN_BAD_DATA);
    bn_bpe_tokenizer bpe = {0};
    assert_int_equal(bn_bpe_tokenizer_parse("[]", &bpe), BN_BAD_DATA);
    assert_string_equal(bn_error_text(), "expected a JSON object");
    assert_int_equal(bn_tokenizer_new("{\"model\":{\"vocab\":[]}}", &t), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "expected an object of tokens with their ids"));
    assert_int_equal(bn_tokenizer_new("{\"model\":{\"type\":\"Unigram\"}}", &t), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "expected an array of tokens with their scores"));
    assert_int_equal(bn_tokenizer_new("{\"model\":{\"type\":\"WordPiece\"}}", &t), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "WordPiece"));
    assert_int_equal(bn_tokenizer_open("missing.json", &t), BN_NO_INPUT);
}

#define MARK "\xe2\x96\x81"
#define UNIGRAM                                                                                    \
    "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" MARK                           \
    "\"},\"model\":{\"type\":\"Unigram\","
#define BPE                                                                                        \
    "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" MARK                           \
    "\"},\"model\":{\"type\":\"BPE\","

/* Vocabularies of characters: a list with scores, or an object with an unknown token. */
static void refuses_characters(void **state)
{
    static const char *const cases[][2] = {
        {UNIGRAM "\"vocab\":[]}}", "model.vocab: expected at least one token"},
        {UNIGRAM "\"vocab\":{\"a\":0}}}", "expected an array of tokens with their scores"},
        {UNIGRAM "\"vocab\":[7]}}", "model.vocab"},
        {UNIGRAM "\"vocab\":[[1,2]]}}", "model.vocab"},
        {UNIGRAM "\"vocab\":[[\"a\"]]}}", "model.vocab"},
        {UNIGRAM "\"vocab\":[[\"a\",\"b\"]]}}", "model.vocab"},
        {UNIGRAM "\"vocab\":[[\"a\",1,2]]}}", "model.vocab"},
        {UNIGRAM "\"vocab\":[[\"a\",1]]}}", "model.unk_id"},
        {UNIGRAM "\"unk_id\":5,\"vocab\":[[\"a\",1]]}}",
         "model.unk_id: 5, model.vocab has ids 0..0"},
        {UNIGRAM "\"unk_id\":0,\"vocab\":[[\"a\",1],[\"" MARK "\",1e999]]}}",
         "too large for a double"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"Unigram\","
         "\"unk_id\":0,\"vocab\":[[\"a\",1]]}}",
         "Unigram"},
        {BPE "\"vocab\":{},\"merges\":[]}}", "model.vocab: expected at least one token"},
        {BPE "\"dropout\":\"a\",\"vocab\":{\"a\":0},\"merges\":[]}}",
         "model.dropout is not supported"},
        {BPE "\"unk_token\":\"<unk>\",\"vocab\":{\"a\":0},\"merges\":[]}}",
         "neither byte_fallback nor an unk_token"},
        {BPE "\"unk_token\":\"a\",\"vocab\":{\"a\":0},\"merges\":[]}}",
         "no token for U+2581, the space"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bn_tokenizer *t;
        if (bn_tokenizer_new(cases[i][0], &t) != BN_BAD_DATA ||
            !strstr(bn_error_text(), cases[i][1]))
            fail_msg("%s: \"%s\" lacks \"%s\"", cases[i][0], bn_error_text(), cases[i][1]);
    }
}

/* Tokens and sides of merges beyond the limit, in a vocabulary of bytes. */
static void refuses_long_tokens(void **state)
{
    enum { LONG = (1 << 16) + 1 };
    char *text = malloc(LONG + 64);
    (void)state;
    for (int i = 0; i < 2; i++) {
        bn_tokenizer *t;
        char *at = text + sprintf(text, i ? "[\"a " : "\"ab\":256,\"abc\":257,\"");
        memset(at, 'a', LONG);
        sprintf(at + LONG, i ? "\"]" : "\":258");
        char *json = build(i ? &(parts){.merges = text} : &(parts){.vocab = text});
        assert_int_equal(bn_tokenizer_new(json, &t), BN_BAD_DATA);
        assert_non_null(strstr(bn_error_text(), i ? "aaa\" is not in the vocabulary"
                                                  : "65537 bytes, expected 1 to 65536"));
        free(json);
    }
    free(text);
}

/* Tokens that bytes have no part in are found as added tokens, never made by merges. */
static void tokens_beside_bytes(void **state)
{
    static const int32_t ids[] = {258, 259, 260};
    char back[32];
    size_t bytes;
    (void)state;
    bn_tokenizer *t = make(&(parts){.added = "[{\"id\":260,\"content\":\"" MARK "\"}]",
                                    .vocab = "\"ab\":256,\"abc\":257,\"x y\":258,\"\\u0150\":259,"
                                             "\"" MARK "\":260"});
    assert_ok(bn_tokenizer_decode(t, ids, 3, back, sizeof back, &bytes));
    assert_int_equal(bytes, 3 + 2 + 3);
    assert_memory_equal(back, "x y\xc5\x90" MARK, bytes);
    bn_tokenizer_free(t);
}

/* An added token is looked for in the text as the normalizer leaves it. */
static void normalized_tokens(void **state)
{
    static const struct {
        parts parts;
        const char *text;
        int32_t id;
    } cases[] = {
        {{.added = "[{\"id\":300,\"content\":\"<X>\",\"normalized\":true}]",
          .normalizer = "{\"type\":\"Lowercase\"}"},
         "<x>",
         300},
        {{.added = "[{\"id\":300,\"content\":\"<X>\",\"normalized\":true}]"}, "<X>", 300},
        {{.added = "[{\"id\":256,\"content\":\"ab\",\"normalized\":true}]",
          .normalizer = "{\"type\":\"Lowercase\"}"},
         "AB",
         256},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bn_tokenizer *t = make(&cases[i].parts);
        int32_t ids[8];
        size_t count;
        assert_ok(bn_tokenizer_encode(t, cases[i].text, strlen(cases[i].text), ids, &count));
        assert_true(count == 1 && ids[0] == cases[i].id);
        bn_tokenizer_free(t);
    }
    /* Normalizing may make a token longer than any: 3 bytes become 4. */
    enum { CHARACTERS = 21845 };
    char *added = malloc(3 * CHARACTERS + 64), *at = added;
    at += sprintf(at, "[{\"id\":300,\"normalized\":true,\"content\":\"");
    for (int i = 0; i < CHARACTERS; i++)
        at += sprintf(at, "\xef\xac\x83");
    sprintf(at, "\"}]");
    bn_tokenizer *t;
    char *json = build(&(parts){.added = added,
                                .normalizer = "{\"type\":\"Replace\",\"pattern\":{"
                                              "\"String\":\"\xef\xac\x83\"},"
                                              "\"content\":\"long\"}"});
    assert_int_equal(bn_tokenizer_new(json, &t), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "id 300: 87380 bytes once normalized"));
    free(json);
    free(added);
}

/* Vocabularies of characters that are fine. */
static void characters(void **state)
{
    static const char *const models[] = {
        UNIGRAM "\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"" MARK "\",-1],[\"a\",-2]]}}",
        UNIGRAM "\"unk_id\":0,\"min_score\":-3,\"vocab\":[[\"<unk>\",0],[\"" MARK
                "\",-1],[\"a\",-2]]}}",
        BPE "\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"" MARK "\":1,\"a\":2,\"a" MARK
            "b\":3},\"merges\":[]}}", /* a token that goes on behind a space */
        "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\","
        "\"replacement\":\"" MARK "\",\"split\":false},{\"type\":\"Digits\"}]},\"model\":{\"type\":"
        "\"BPE\",\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"" MARK
        "\":1,\"a\":2},\"merges\":[]}}", /* digits are words of their own */
        "{\"added_tokens\":[{\"id\":3,\"content\":\"a" MARK
        "\"}],\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\","
        "\"replacement\":\"" MARK "\",\"split\":false},{\"type\":\"Digits\"}]},\"model\":{\"type\":"
        "\"BPE\",\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"" MARK "\":1,\"a\":2,\"a" MARK
        "\":3},\"merges\":[\"a " MARK "\"]}}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        bn_tokenizer *t;
        int32_t ids[8];
        size_t count;
        assert_ok(bn_tokenizer_new(models[i], &t));
        assert_ok(bn_tokenizer_encode(t, "a", 1, ids, &count));
        assert_int_equal(ids[count - 1], 2);
        bn_tokenizer_free(t);
    }
}

/* What only looks like a byte is a token as any other, where bytes are tokens too. */
static void almost_bytes(void **state)
{
    static const char *const odd[] = {"<0x0G>", "<0xG0>", "<1x00>", "<0x000", "<0x41>>", "<0x41"};
    bn_text text = {0};
    char *json;
    bn_tokenizer *t;
    int32_t ids[8];
    size_t count;
    (void)state;
    bn_text_add(&text, BPE "\"byte_fallback\":true,\"vocab\":{\"" MARK "\":0");
    for (int b = 0; b < 256; b++)
        bn_text_addf(&text, ",\"<0x%02X>\":%d", (unsigned)b, b + 1);
    for (int i = 0; i < 6; i++)
        bn_text_addf(&text, ",\"%s\":%d", odd[i], 257 + i);
    bn_text_add(&text, "},\"merges\":[]}}");
    assert_ok(bn_text_take(&text, &json));
    assert_ok(bn_tokenizer_new(json, &t));
    assert_ok(bn_tokenizer_encode(t, "\x01", 1, ids, &count));
    assert_int_equal(ids[count - 1], 2);
    bn_tokenizer_free(t);
    free(json);
}

/* What only looks like a byte is a token as any other; dropout of zero is none. */
static void odd_tokens(void **state)
{
    static const char json[] = BPE
        "\"dropout\":0,\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"" MARK
        "\":1,\"<0x0G>\":2,\"<0xG0>\":3,\"<1x00>\":4,\"<0x000\":5,\"<0x41>\":6},\"merges\":[]}}";
    bn_tokenizer *t;
    (void)state;
    assert_ok(bn_tokenizer_new(json, &t));
    assert_int_equal(bn_tokenizer_vocab_size(t), 7);
    bn_tokenizer_free(t);
}

/* Cut anywhere, a file is refused, never read beyond its end. */
static void truncated(void **state)
{
    (void)state;
    char *json = build(&(parts){0});
    for (size_t n = strlen(json) - 1; n > 0; n = n > 400 ? n - 7 : n - 1) {
        bn_tokenizer *t;
        json[n] = '\0';
        assert_int_equal(bn_tokenizer_new(json, &t), BN_BAD_DATA);
    }
    free(json);
}

/* A pattern that backtracks without end stops at its limit. */
static void regex_bomb(void **state)
{
    enum { BYTES = 4000 };
    (void)state;
    bn_tokenizer *t = make(&(parts){.pre = SPLIT("(?:a+)+$(?<!a)", "Isolated")});
    char text[BYTES];
    int32_t ids[BYTES];
    size_t count;
    memset(text, 'a', BYTES);
    assert_int_equal(bn_tokenizer_encode(t, text, BYTES, ids, &count), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "cannot be matched"));
    bn_tokenizer_free(t);
}

/* Empty matches cut and do not stall. */
static void empty_matches(void **state)
{
    (void)state;
    bn_tokenizer *t = make(&(parts){.pre = SPLIT("x*", "Isolated")});
    const int32_t expected[] = {'a', 'b', 'c', 'x', 'x', 'a', 'b'};
    int32_t ids[16];
    size_t count;
    assert_ok(bn_tokenizer_encode(t, "abcxxab", 7, ids, &count));
    assert_int_equal(count, 7);
    assert_memory_equal(ids, expected, sizeof expected);
    bn_tokenizer_free(t);
}

static void utf8(void **state)
{
    static const struct {
        const char *text;
        size_t valid;
    } cases[] = {
        {"abcdefghi", 9},        {"abcdefgh\x80", 8},     {"\xc3\xa9", 2},
        {"\xc0\x80", 0},         {"\xc1\xbf", 0},         {"\xe0\x9f\xbf", 0},
        {"\xe0\xa0\x80", 3},     {"\xed\x9f\xbf", 3},     {"\xed\xa0\x80", 0},
        {"\xf0\x8f\xbf\xbf", 0}, {"\xf0\x90\x80\x80", 4}, {"\xf4\x8f\xbf\xbf", 4},
        {"\xf4\x90\x80\x80", 0}, {"\xf5\x80\x80\x80", 0}, {"a\xe2\x82", 1},
        {"\xf0\x90\x80", 0},     {"\xe2\x28\xa1", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(bn_utf8_valid((const unsigned char *)cases[i].text, strlen(cases[i].text)),
                         cases[i].valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes),
        cmocka_unit_test(hash_follows_the_mapping),
        cmocka_unit_test(refuses),
        cmocka_unit_test(truncated),
        cmocka_unit_test(regex_bomb),
        cmocka_unit_test(empty_matches),
        cmocka_unit_test(utf8),
        cmocka_unit_test(parts_join),
        cmocka_unit_test(refuses_characters),
        cmocka_unit_test(odd_tokens),
        cmocka_unit_test(refuses_long_tokens),
        cmocka_unit_test(tokens_beside_bytes),
        cmocka_unit_test(normalized_tokens),
        cmocka_unit_test(characters),
        cmocka_unit_test(almost_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
