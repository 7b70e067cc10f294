/* Tokenizers: round trips, pieces, ids outside the vocabulary. */
#include "data_fixture.h"

static void byte_round_trip(void **state)
{
    (void)state;
    bn_tokenizer *tokenizer = byte_tokenizer();
    unsigned char text[256], back[256];
    int32_t ids[256];
    size_t count = 0, bytes = 0;
    for (int i = 0; i < 256; i++)
        text[i] = (unsigned char)(255 - i);

    assert_string_equal(bn_tokenizer_name(tokenizer), "byte");
    assert_int_equal(bn_tokenizer_vocab_size(tokenizer), 256);
    assert_true(bn_tokenizer_is_bytes(tokenizer));
    assert_ok(bn_tokenizer_encode(tokenizer, text, 256, ids, &count));
    assert_int_equal(count, 256);
    for (int i = 0; i < 256; i++)
        assert_int_equal(ids[i], 255 - i);
    assert_ok(bn_tokenizer_decode(tokenizer, ids, count, back, sizeof back, &bytes));
    assert_int_equal(bytes, 256);
    assert_memory_equal(text, back, 256);
    bn_tokenizer_free(tokenizer);
    bn_tokenizer_free(NULL);
}

static void pieces_and_bytes(void **state)
{
    (void)state;
    bn_tokenizer *tokenizer = byte_tokenizer();
    size_t length = 7;
    for (int32_t id = 0; id < 256; id++) {
        const unsigned char *piece = bn_tokenizer_piece(tokenizer, id, &length);
        assert_int_equal(length, 1);
        assert_int_equal(*piece, id);
    }
    assert_null(bn_tokenizer_piece(tokenizer, 256, &length));
    assert_int_equal(length, 0);
    assert_null(bn_tokenizer_piece(tokenizer, -1, &length));

    bn_tokenizer odd = odd_tokenizer(1000);
    const int32_t ids[] = {0, 1, 2, 3, -100, 1000, 998};
    assert_int_equal(bn_tokenizer_count_bytes(&odd, ids, 7), 1 + 2 + 3 + 1 + 0 + 0 + 3);
    bn_tokenizer_free(tokenizer);
}

static void decode_refuses(void **state)
{
    (void)state;
    bn_tokenizer odd = odd_tokenizer(1000);
    const int32_t good[] = {2, 1}, outside[] = {2, 1000};
    char text[8];
    size_t bytes = 0;
    assert_ok(bn_tokenizer_decode(&odd, good, 2, text, 5, &bytes));
    assert_int_equal(bytes, 5);
    assert_memory_equal(text, "abcab", 5);
    assert_int_equal(bn_tokenizer_decode(&odd, good, 2, text, 4, &bytes), BN_FAIL);
    assert_int_equal(bn_tokenizer_decode(&odd, outside, 2, text, 8, &bytes), BN_BAD_DATA);
    assert_error_has("token 1 is 1000");
    assert_error_has("0..999");
}

static void unknown_name(void **state)
{
    (void)state;
    bn_tokenizer *tokenizer;
    assert_int_equal(bn_tokenizer_new("bytes", &tokenizer), BN_BAD_CONFIG);
    assert_null(tokenizer);
    assert_error_has("\"bytes\"");
    assert_error_has("there is: \"byte\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_round_trip),
        cmocka_unit_test(pieces_and_bytes),
        cmocka_unit_test(decode_refuses),
        cmocka_unit_test(unknown_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
