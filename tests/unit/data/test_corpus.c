/* Corpora: order of files, copies across segments, splits, bad input. */
#include "data_fixture.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/token_shard.h"

static void one_file(void **state)
{
    (void)state;
    bn_tokenizer *tokenizer = byte_tokenizer();
    put_text("one.txt", "hello");
    bn_corpus *corpus = open_corpus("one.txt", tokenizer);
    int32_t ids[5];
    assert_int_equal(bn_corpus_size(corpus), 5);
    assert_int_equal(bn_corpus_segments(corpus), 1);
    assert_string_equal(bn_corpus_name(corpus), "one.txt");
    bn_corpus_copy(corpus, 0, 5, ids);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ids[i], "hello"[i]);
    bn_corpus_free(corpus);
    bn_corpus_free(NULL);
    bn_tokenizer_free(tokenizer);
}

/* Names are written in another order than they sort. */
static void glob_order(void **state)
{
    (void)state;
    bn_tokenizer *tokenizer = byte_tokenizer();
    put_text("part-2.txt", "c");
    put_text("part-10.txt", "b");
    put_text("part-a.txt", "defg");
    put_text("part-00.txt", "a");
    put_text("part-00.text", "not this one");
    bn_corpus *corpus = open_corpus("part-*.txt", tokenizer);
    assert_int_equal(bn_corpus_segments(corpus), 4);
    assert_int_equal(bn_corpus_size(corpus), 7);
    assert_string_equal(bn_corpus_segment_path(corpus, 1), "part-10.txt");

    /* every piece of every length, so every crossing of segments */
    for (int64_t start = 0; start < 7; start++)
        for (int64_t n = 0; start + n <= 7; n++) {
            int32_t ids[8] = {0};
            ids[n] = -1;
            bn_corpus_copy(corpus, start, n, ids);
            for (int64_t i = 0; i < n; i++)
                assert_int_equal(ids[i], "abcdefg"[start + i]);
            assert_int_equal(ids[n], -1);
        }
    bn_corpus_free(corpus);
    bn_tokenizer_free(tokenizer);
}

/* A file whose name has pattern letters is itself, not a pattern. */
static void literal_name(void **state)
{
    (void)state;
    bn_tokenizer *tokenizer = byte_tokenizer();
    put_text("lit[12].txt", "itself");
    put_text("lit1.txt", "x");
    bn_corpus *corpus = open_corpus("lit[12].txt", tokenizer);
    assert_int_equal(bn_corpus_size(corpus), 6);
    bn_corpus_free(corpus);
    assert_int_equal(unlink("lit[12].txt"), 0);
    corpus = open_corpus("lit[12].txt", tokenizer);
    assert_int_equal(bn_corpus_size(corpus), 1);
    bn_corpus_free(corpus);
    bn_tokenizer_free(tokenizer);
}

static void bad_input(void **state)
{
    (void)state;
    bn_tokenizer *tokenizer = byte_tokenizer(), odd = odd_tokenizer(1000);
    bn_corpus *corpus;

    assert_int_equal(bn_corpus_open("absent.txt", tokenizer, &corpus), BN_NO_INPUT);
    assert_null(corpus);
    assert_error_has("absent.txt");
    assert_int_equal(bn_corpus_open("absent-*.txt", tokenizer, &corpus), BN_NO_INPUT);
    assert_error_has("absent-*.txt");

    mkdir("folder", 0777);
    assert_int_equal(bn_corpus_open("folder", tokenizer, &corpus), BN_NO_INPUT);
    assert_error_has("folder: is a folder");

    put_text("empty-1.txt", "text");
    put_text("empty-2.txt", "");
    assert_int_equal(bn_corpus_open("empty-2.txt", tokenizer, &corpus), BN_BAD_DATA);
    assert_error_has("empty-2.txt: is empty");
    assert_int_equal(bn_corpus_open("empty-*.txt", tokenizer, &corpus), BN_BAD_DATA);
    assert_error_has("empty-2.txt: is empty");
    assert_null(corpus);

    put_text("plain.txt", "text");
    assert_int_equal(bn_corpus_open("plain.txt", &odd, &corpus), BN_BAD_DATA);
    assert_error_has("plain.txt: is no token shard");

    put_text("closed.txt", "text");
    assert_int_equal(chmod("closed.txt", 0), 0);
    if (access("closed.txt", R_OK) == 0) { /* root reads everything; a dangling link it cannot */
        unlink("closed.txt");
        assert_int_equal(symlink("nowhere", "closed.txt"), 0);
    }
    assert_int_equal(bn_corpus_open("closed.txt", tokenizer, &corpus), BN_NO_INPUT);
    assert_error_has("closed.txt");
    unlink("closed.txt");
    bn_tokenizer_free(tokenizer);
}

static void mixed_segments(void **state)
{
    (void)state;
    bn_tokenizer *tokenizer = byte_tokenizer();
    const int32_t ids[] = {'x', 'y', 'z'};
    bn_shard_writer *writer;
    assert_ok(bn_shard_writer_new("mix-b.bnt", tokenizer, &writer));
    assert_ok(bn_shard_writer_append(writer, ids, 3));
    assert_ok(bn_shard_writer_finish(writer));
    bn_shard_writer_free(writer);
    put_text("mix-a.txt", "ab");
    put_text("mix-c.txt", "c");

    bn_corpus *corpus = open_corpus("mix-*", tokenizer);
    int32_t all[6];
    assert_int_equal(bn_corpus_size(corpus), 6);
    bn_corpus_copy(corpus, 0, 6, all);
    for (int i = 0; i < 6; i++)
        assert_int_equal(all[i], "abxyzc"[i]);
    bn_corpus_free(corpus);
    bn_tokenizer_free(tokenizer);
}

static void split(void **state)
{
    (void)state;
    bn_tokenizer *tokenizer = byte_tokenizer();
    put_pattern("split.bin", 1003);
    bn_corpus *corpus = open_corpus("split.bin", tokenizer);
    bn_span train, validation;

    const double fractions[] = {0.0, 0.1, 0.25, 1.0 / 3.0, 0.5, 0.9, 0.999};
    for (size_t i = 0; i < sizeof fractions / sizeof *fractions; i++) {
        assert_ok(bn_corpus_split(corpus, fractions[i], &train, &validation));
        assert_int_equal(train.start, 0);
        assert_int_equal(train.count, validation.start);
        assert_int_equal(validation.start + validation.count, 1003);
    }
    assert_ok(bn_corpus_split(corpus, 0.1, &train, &validation));
    assert_int_equal(train.count, 902); /* floor(902.7) */
    assert_ok(bn_corpus_split(corpus, 0.0, &train, &validation));
    assert_int_equal(validation.count, 0);

    const double bad[] = {-0.1, 1.0, 2.0, (double)NAN};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(bn_corpus_split(corpus, bad[i], &train, &validation), BN_BAD_CONFIG);
    bn_corpus_free(corpus);
    bn_tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_file),       cmocka_unit_test(glob_order),
        cmocka_unit_test(literal_name),   cmocka_unit_test(bad_input),
        cmocka_unit_test(mixed_segments), cmocka_unit_test(split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
