/* data_fixture.h - files and an odd tokenizer for the tests of src/data. */
#ifndef BN_TESTS_DATA_FIXTURE_H
#define BN_TESTS_DATA_FIXTURE_H

#include <stdio.h>
#include <string.h>

#include "cmocka_all.h"

#include "data/corpus.h"
#include "data/tokenizer_impl.h"

/* Replaces a file in the test's own folder. */
static inline void put_file(const char *path, const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static inline void put_text(const char *path, const char *text)
{
    put_file(path, text, strlen(text));
}

/* `n` bytes that tell their place: token i is i % 251. */
static inline void put_pattern(const char *path, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        fputc((int)(i % 251), f);
    assert_int_equal(fclose(f), 0);
}

static inline bn_tokenizer *byte_tokenizer(void)
{
    bn_tokenizer *tokenizer;
    assert_ok(bn_tokenizer_new("byte", &tokenizer));
    return tokenizer;
}

static inline bn_corpus *open_corpus(const char *pattern, const bn_tokenizer *tokenizer)
{
    bn_corpus *corpus;
    assert_ok(bn_corpus_open(pattern, tokenizer, &corpus));
    return corpus;
}

/* The text of the last error has this in it. */
#define assert_error_has(part)                                                                     \
    do {                                                                                           \
        if (!strstr(bn_error_text(), part))                                                        \
            fail_msg("\"%s\" is not in: %s", part, bn_error_text());                               \
    } while (0)

/* A tokenizer with `vocab` ids whose piece for id i has 1 + i % 3 bytes, as a
 * vocabulary of longer pieces would have. It only decodes. */
static inline const unsigned char *odd_piece(const bn_tokenizer *tokenizer, int32_t id,
                                             size_t *length)
{
    (void)tokenizer;
    *length = 1 + (size_t)id % 3;
    return (const unsigned char *)"abc";
}

static inline bn_tokenizer odd_tokenizer(int64_t vocab)
{
    static const bn_tokenizer_kind kind = {.name = "odd", .piece = odd_piece};
    return (bn_tokenizer){.kind = &kind, .vocab_size = vocab, .hash = 0x0dd + (uint64_t)vocab};
}

#endif
