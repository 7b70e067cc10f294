/* SHA-256 against the examples of FIPS 180-4 and NIST's test vectors. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/sha256.h"
#include "cmocka_all.h"

/* Digest of `size` bytes given in pieces of `piece`. */
static const char *digest(const void *data, size_t size, size_t piece)
{
    static char text[BN_SHA256_TEXT];
    uint8_t bytes[BN_SHA256_BYTES];
    bn_sha256 sha;
    bn_sha256_init(&sha);
    for (size_t at = 0; at < size; at += piece)
        bn_sha256_add(&sha, (const char *)data + at, size - at < piece ? size - at : piece);
    bn_sha256_end(&sha, bytes);
    return bn_sha256_text(bytes, text);
}

static void test_vectors(void **state)
{
    (void)state;
    static const struct {
        const char *message, *digest;
    } vectors[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr"
         "lmnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        for (size_t piece = 1; piece < 120; piece++)
            assert_string_equal(digest(vectors[i].message, strlen(vectors[i].message), piece),
                                vectors[i].digest);
}

static void test_a_million(void **state)
{
    (void)state;
    enum { N = 1000000 };
    char *text = malloc(N);
    assert_non_null(text);
    memset(text, 'a', N);
    assert_string_equal(digest(text, N, 777),
                        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    assert_string_equal(digest(text, N, N),
                        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(text);
}

/* Lengths around the place where the padding takes another block. */
static void test_pieces_do_not_matter(void **state)
{
    (void)state;
    char data[200], whole[BN_SHA256_TEXT];
    for (int i = 0; i < 200; i++)
        data[i] = (char)(i * 89);
    for (size_t size = 0; size <= sizeof data; size++) {
        strcpy(whole, digest(data, size, sizeof data));
        assert_string_equal(digest(data, size, 1), whole);
        assert_string_equal(digest(data, size, 63), whole);
        assert_string_equal(digest(data, size, 64), whole);
    }
}

static void test_file(void **state)
{
    (void)state;
    char text[BN_SHA256_TEXT];
    assert_ok(bn_fs_write("abc", "abc", 3));
    assert_ok(bn_sha256_file("abc", text));
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(bn_sha256_file("missing", text), BN_NO_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_a_million),
        cmocka_unit_test(test_pieces_do_not_matter),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
