/* Token shards: round trips of the three widths, and every lie a header or
 * the tokens can tell. */
#include "data_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/rng.h"
#include "data/token_shard.h"

enum { MANY = 70000 }; /* more than the writer's buffer holds */

static void write_shard(const char *path, const bn_tokenizer *tokenizer, const int32_t *ids,
                        size_t count)
{
    bn_shard_writer *writer;
    assert_ok(bn_shard_writer_new(path, tokenizer, &writer));
    assert_ok(bn_shard_writer_append(writer, ids, count / 3));
    assert_ok(bn_shard_writer_append(writer, ids, 0));
    assert_ok(bn_shard_writer_append(writer, ids + count / 3, count - count / 3));
    assert_ok(bn_shard_writer_finish(writer));
    bn_shard_writer_free(writer);
}

static void round_trips(void **state)
{
    (void)state;
    static const struct {
        int64_t vocab;
        uint64_t width;
    } cases[] = {{100, 1},   {256, 1},   {257, 2},     {1000, 2},
                 {65536, 2}, {65537, 4}, {1 << 20, 4}, {INT32_MAX, 4}};
    int32_t *ids = malloc(MANY * sizeof *ids), *back = malloc(MANY * sizeof *back);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        bn_tokenizer odd = odd_tokenizer(cases[c].vocab);
        bn_rng rng = bn_rng_of(1, c);
        for (int i = 0; i < MANY; i++)
            ids[i] = (int32_t)bn_rng_below(&rng, (uint64_t)odd.vocab_size);
        ids[MANY - 1] = (int32_t)(odd.vocab_size - 1);
        write_shard("round.bnt", &odd, ids, MANY);

        uint64_t size;
        assert_ok(bn_fs_size("round.bnt", &size));
        assert_int_equal(size, BN_SHARD_HEADER_BYTES + MANY * cases[c].width);
        assert_false(bn_fs_exists("round.bnt.tmp"));
        bn_corpus *corpus = open_corpus("round.bnt", &odd);
        assert_int_equal(bn_corpus_size(corpus), MANY);
        bn_corpus_copy(corpus, 0, MANY, back);
        assert_memory_equal(ids, back, MANY * sizeof *ids);
        bn_corpus_copy(corpus, 1001, 9, back);
        assert_memory_equal(ids + 1001, back, 9 * sizeof *ids);
        bn_corpus_free(corpus);
    }
    free(ids);
    free(back);
}

enum { SMALL = BN_SHARD_HEADER_BYTES + 3 * 2 }; /* three tokens of two bytes */

static void small_shard(unsigned char bytes[SMALL], const bn_tokenizer *odd)
{
    const int32_t ids[] = {1, 2, 999};
    write_shard("small.bnt", odd, ids, 3);
    FILE *f = fopen("small.bnt", "rb");
    assert_non_null(f);
    assert_int_equal(fread(bytes, 1, SMALL, f), SMALL);
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
}

/* The bytes of the format as docs/token-shards.md gives them. */
static void layout(void **state)
{
    (void)state;
    bn_tokenizer odd = odd_tokenizer(1000);
    static const unsigned char expected[SMALL] = {
        'B', 'N', 'T', 'O', 'K', 'E', 'N', 'S',             /* magic */
        1,   0,   0,   0,   2,   0,   0,   0,               /* version, width */
        3,   0,   0,   0,   0,   0,   0,   0,               /* count */
        197, 4,   0,   0,   0,   0,   0,   0,               /* hash 0x0dd + 1000 */
        'o', 'd', 'd', 0,   0,   0,   0,   0,   0, 0, 0, 0, /* name */
        0,   0,   0,   0,   0,   0,   0,   0,   0, 0, 0, 0, /* name */
        0,   0,   0,   0,   0,   0,   0,   0,               /* reserved */
        1,   0,   2,   0,   231, 3,                         /* tokens */
    };
    unsigned char bytes[SMALL];
    small_shard(bytes, &odd);
    assert_memory_equal(bytes, expected, SMALL);
}

static void hostile(void **state)
{
    (void)state;
    static const struct {
        const char *what; /* part of the message */
        int at;           /* byte replaced */
        unsigned char value;
    } cases[] = {
        {"version 0", 8, 0},
        {"version 2", 8, 2},
        {"version 16777217", 11, 1},
        {"0 bytes per token", 12, 0},
        {"3 bytes per token", 12, 3},
        {"8 bytes per token", 12, 8},
        {"6 bytes follow", 12, 1}, /* a width that does not fit the size */
        {"6 bytes follow", 12, 4},
        {"says 0 tokens", 16, 0},
        {"says 2 tokens", 16, 2},
        {"says 4 tokens", 16, 4},
        {"says 9223372036854775811 tokens", 23, 0x80}, /* times 2 wraps to the right size */
        {"made with tokenizer \"odd\"", 24, 1},
        {"made with tokenizer \"oddx\"", 35, 'x'},
        {"made with tokenizer \"\"", 32, 0},
        {"not printable", 33, '\n'},
        {"not printable", 33, 0xff},
        {"after the tokenizer name", 40, 'x'},
        {"not terminated", 55, 'x'},
        {"reserved field is 1", 56, 1},
        {"token 0 is 1025", 65, 4},
        {"token 2 is 1000", 68, 232},
    };
    bn_tokenizer odd = odd_tokenizer(1000);
    unsigned char good[SMALL], bytes[SMALL] __attribute__((aligned(8)));
    small_shard(good, &odd);
    bn_shard shard;
    memcpy(bytes, good, SMALL);
    assert_ok(bn_shard_parse(bytes, SMALL, &odd, &shard));

    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        memcpy(bytes, good, SMALL);
        bytes[cases[c].at] = cases[c].value;
        if (strcmp(cases[c].what, "made with tokenizer \"\"") == 0)
            memset(bytes + 32, 0, BN_SHARD_NAME_BYTES);
        bn_error_clear();
        assert_int_equal(bn_shard_parse(bytes, SMALL, &odd, &shard), BN_BAD_DATA);
        assert_error_has(cases[c].what);

        /* and through the front door, with the path */
        put_file("hostile.bnt", bytes, SMALL);
        bn_corpus *corpus;
        assert_int_equal(bn_corpus_open("hostile.bnt", &odd, &corpus), BN_BAD_DATA);
        assert_error_has("hostile.bnt: token shard: ");
    }
}

/* The other widths, where they hold more than the tokenizer has. */
static void tokens_outside(void **state)
{
    (void)state;
    static const struct {
        int64_t vocab;
        int at; /* the last byte of token 1 */
        const char *what;
    } cases[] = {{100, 1, "token 1 is 255"}, {70000, 7, "token 1 is 4278190080"}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        bn_tokenizer odd = odd_tokenizer(cases[c].vocab);
        const int32_t ids[] = {1, 0, 2};
        char *bytes;
        size_t size;
        bn_shard shard;
        write_shard("wide.bnt", &odd, ids, 3);
        assert_ok(bn_fs_read("wide.bnt", 1000, &bytes, &size));
        assert_ok(bn_shard_parse(bytes, size, &odd, &shard));
        bytes[BN_SHARD_HEADER_BYTES + cases[c].at] = (char)0xff;
        assert_int_equal(bn_shard_parse(bytes, size, &odd, &shard), BN_BAD_DATA);
        assert_error_has(cases[c].what);
        bytes[0] = 'b';
        assert_int_equal(bn_shard_parse(bytes, size, &odd, &shard), BN_BAD_DATA);
        assert_error_has("begins with BNTOKENS");
        free(bytes);
    }
}

/* Every length but the right one; heap blocks of that very size, so that a
 * read past the end is seen by the address sanitizer. */
static void cut_anywhere(void **state)
{
    (void)state;
    bn_tokenizer odd = odd_tokenizer(1000);
    unsigned char good[SMALL];
    small_shard(good, &odd);
    for (size_t size = 0; size <= SMALL + 8; size++) {
        unsigned char *bytes = calloc(1, size ? size : 1);
        memcpy(bytes, good, size < SMALL ? size : SMALL);
        bn_shard shard;
        bn_status status = bn_shard_parse(bytes, size, &odd, &shard);
        assert_int_equal(status, size == SMALL ? BN_OK : BN_BAD_DATA);
        assert_int_equal(bn_shard_is(bytes, size), size >= 8);
        free(bytes);
    }
}

static void writer_refuses(void **state)
{
    (void)state;
    bn_tokenizer odd = odd_tokenizer(1000);
    const int32_t bad[][2] = {{1, 1000}, {1, -1}};
    bn_shard_writer *writer;
    unlink("refused.bnt");
    for (int i = 0; i < 2; i++) {
        assert_ok(bn_shard_writer_new("refused.bnt", &odd, &writer));
        assert_int_equal(bn_shard_writer_append(writer, bad[i], 2), BN_BAD_DATA);
        assert_error_has("refused.bnt: token 1 is");
        bn_shard_writer_free(writer);
    }
    assert_ok(bn_shard_writer_new("refused.bnt", &odd, &writer));
    assert_int_equal(bn_shard_writer_finish(writer), BN_BAD_DATA);
    bn_shard_writer_free(writer);
    assert_false(bn_fs_exists("refused.bnt"));
    assert_false(bn_fs_exists("refused.bnt.tmp"));

    assert_int_equal(bn_shard_writer_new("nowhere/x.bnt", &odd, &writer), BN_IO);
    assert_null(writer);
    assert_error_has("nowhere/x.bnt");
    bn_shard_writer_free(NULL);
}

static int writes_left;

static ssize_t write_until_full(int fd, const void *data, size_t size)
{
    if (writes_left-- > 0)
        return write(fd, data, size);
    errno = ENOSPC;
    return -1;
}

static int closes_left;

static int close_fails(int fd)
{
    if (closes_left-- > 0)
        return close(fd);
    close(fd);
    errno = EIO;
    return -1;
}

/* Whatever closing says, what writing said counts. */
static void header_and_close_fail(void **state)
{
    (void)state;
    bn_tokenizer odd = odd_tokenizer(1000);
    const int32_t ids[] = {7, 8};
    bn_fs_ops full = *bn_fs_get_ops();
    bn_shard_writer *writer;
    full.write = write_until_full;
    assert_ok(bn_shard_writer_new("both.bnt", &odd, &writer));
    assert_ok(bn_shard_writer_append(writer, ids, 2));
    full.close = close_fails;
    writes_left = 0; /* the tokens are written */
    closes_left = 1; /* of them */
    bn_fs_set_ops(&full);
    assert_int_equal(bn_shard_writer_finish(writer), BN_IO);
    assert_error_has("both.bnt.tmp: writing the header: No space left");
    bn_shard_writer_free(writer);
    bn_fs_set_ops(NULL);
    assert_false(bn_fs_exists("both.bnt"));
}

/* The disk fills up at the n-th write, for every n: an error, an untouched old
 * file, no temporary file. */
static void full_disk(void **state)
{
    (void)state;
    bn_tokenizer odd = odd_tokenizer(1000);
    unsigned char good[SMALL];
    small_shard(good, &odd);
    const bn_fs_ops *real = bn_fs_get_ops();
    bn_fs_ops full = *real;
    full.write = write_until_full;
    bn_status status = BN_IO;
    int failures = 0;
    for (; status != BN_OK; failures++) {
        const int32_t ids[] = {7, 8};
        bn_shard_writer *writer = NULL;
        writes_left = failures;
        bn_fs_set_ops(&full);
        status = bn_shard_writer_new("small.bnt", &odd, &writer);
        if (status == BN_OK)
            status = bn_shard_writer_append(writer, ids, 2);
        if (status == BN_OK)
            status = bn_shard_writer_finish(writer);
        bn_shard_writer_free(writer);
        bn_fs_set_ops(NULL);
        if (status == BN_OK)
            break;
        assert_int_equal(status, BN_IO);
        assert_error_has("small.bnt");
        assert_false(bn_fs_exists("small.bnt.tmp"));
        bn_corpus *corpus = open_corpus("small.bnt", &odd);
        assert_int_equal(bn_corpus_size(corpus), 3);
        bn_corpus_free(corpus);
    }
    assert_int_equal(failures, 3); /* place for the header, tokens, header */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),    cmocka_unit_test(layout),
        cmocka_unit_test(hostile),        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(writer_refuses), cmocka_unit_test(full_disk),
        cmocka_unit_test(tokens_outside), cmocka_unit_test(header_and_close_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
