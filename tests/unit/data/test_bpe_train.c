/* Training a vocabulary, and encoding long texts with it on several threads. */
#include "data_fixture.h"

#include <stdlib.h>

#include "base/json.h"
#include "base/rng.h"
#include "data/bpe_train.h"
#include "data/encode_text.h"

static const char small_text[] =
    "low lower lowest newer newest wider widest aaaa abab abababab\nno noon no-one 1000 10000\n";

static char *train(const char *text, size_t bytes, int64_t vocab, int64_t *size)
{
    char *special_items[] = {(char[]){"<s>"}};
    const bn_strings special = {special_items, 1};
    bn_bpe_trainer *trainer;
    char *json;
    assert_ok(bn_bpe_trainer_new(&trainer));
    assert_ok(bn_bpe_trainer_add(trainer, text, bytes));
    assert_ok(bn_bpe_trainer_finish(trainer, vocab, 2, &special, &json, size));
    bn_bpe_trainer_free(trainer);
    return json;
}

/* The merges of tokenizers 0.23.3: BpeTrainer(vocab_size=290, min_frequency=2,
 * special_tokens=["<s>"]) on the same text. */
static void merges_as_the_reference(void **state)
{
    static const char *const expected[][2] = {
        {"a", "b"},         {"0", "0"},         {"w", "e"},         {"\u0120", "n"},
        {"ab", "ab"},       {"a", "a"},         {"l", "o"},         {"s", "t"},
        {"1", "00"},        {"d", "e"},         {"e", "we"},        {"i", "de"},
        {"o", "n"},         {"w", "ide"},       {"\u0120", "abab"}, {"\u0120", "lo"},
        {"\u0120", "100"},  {"\u0120", "wide"}, {"\u0120n", "o"},   {"\u0120n", "ewe"},
        {"\u0120lo", "we"},
    };
    enum { COUNT = sizeof expected / sizeof expected[0] };
    int64_t size;
    cJSON *root;
    (void)state;
    char *json = train(small_text, strlen(small_text), 290, &size);
    assert_int_equal(size, 257 + COUNT);
    assert_ok(bn_json_parse("json", json, strlen(json), &root));
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(root, "model");
    const cJSON *merges = cJSON_GetObjectItemCaseSensitive(model, "merges");
    assert_int_equal(cJSON_GetArraySize(merges), COUNT);
    for (int i = 0; i < COUNT; i++)
        for (int k = 0; k < 2; k++)
            assert_string_equal(cJSON_GetArrayItem(cJSON_GetArrayItem(merges, i), k)->valuestring,
                                expected[i][k]);
    const cJSON *vocab = cJSON_GetObjectItemCaseSensitive(model, "vocab");
    assert_int_equal(cJSON_GetObjectItemCaseSensitive(vocab, "<s>")->valueint, 0);
    assert_int_equal(cJSON_GetObjectItemCaseSensitive(vocab, "!")->valueint, 1);
    assert_int_equal(cJSON_GetObjectItemCaseSensitive(vocab, "\u0143")->valueint, 256);
    assert_int_equal(cJSON_GetObjectItemCaseSensitive(vocab, "ab")->valueint, 257);
    cJSON_Delete(root);
    free(json);
}

static void refuses(void **state)
{
    char *twice_items[] = {(char[]){"<s>"}, (char[]){"<s>"}};
    const bn_strings none = {0}, twice = {twice_items, 2};
    bn_bpe_trainer *trainer;
    char *json;
    int64_t size;
    (void)state;
    assert_ok(bn_bpe_trainer_new(&trainer));
    assert_int_equal(bn_bpe_trainer_finish(trainer, 255, 1, &none, &json, &size), BN_USAGE);
    assert_int_equal(bn_bpe_trainer_finish(trainer, 1 << 25, 1, &none, &json, &size), BN_USAGE);
    assert_int_equal(bn_bpe_trainer_finish(trainer, 300, 1, &twice, &json, &size), BN_USAGE);
    bn_bpe_trainer_free(trainer);
}

static bn_status collect(void *arg, const int32_t *ids, size_t count, size_t done)
{
    (void)done;
    return bn_ids_add(arg, ids, count);
}

/* Several chunks, words that cross them, special tokens and bytes that are no
 * text: the same tokens as at once, for any number of threads. */
static void long_texts(void **state)
{
    enum { BYTES = 3 << 20 };
    static const char *const words[] = {" low", "\n", "\n\n",         "er ",    "<s>", "\xff",
                                        "ab",   "  ", "\xe2\x82\xac", "\n\nno", "1000"};
    bn_tokenizer *t;
    bn_rng rng = bn_rng_of(5, 0);
    int64_t size;
    char *text = malloc(BYTES + 16), *json = train(small_text, strlen(small_text), 280, &size);
    int32_t *ids = malloc(BYTES * sizeof *ids);
    size_t bytes = 0, count = 0;
    (void)state;
    assert_non_null(text);
    assert_non_null(ids);
    while (bytes < BYTES - 16) {
        const char *word = words[bn_rng_u64(&rng) % 11];
        memcpy(text + bytes, word, strlen(word));
        bytes += strlen(word);
    }
    for (size_t i = 0; i < 900000; i++) /* one word over two places to cut */
        text[400000 + i] = "ewe"[i % 3];
    assert_ok(bn_tokenizer_new(json, &t));
    assert_ok(bn_tokenizer_encode(t, text, bytes, ids, &count));
    for (int n = 1; n <= 3; n++) {
        bn_threads *threads;
        bn_ids list = {0};
        assert_ok(bn_threads_new(n, &threads));
        assert_ok(bn_encode_text(t, threads, text, bytes, collect, &list));
        assert_int_equal(list.count, count);
        assert_memory_equal(list.items, ids, count * sizeof *ids);
        bn_ids_clear(&list);
        bn_threads_free(threads);
    }
    bn_tokenizer_free(t);
    free(json);
    free(ids);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_as_the_reference),
        cmocka_unit_test(refuses),
        cmocka_unit_test(long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
