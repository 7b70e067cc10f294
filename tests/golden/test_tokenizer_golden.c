/* Our tokens and decoded texts against those of Hugging Face's tokenizers, as committed in
 * tests/golden/tokenizer/ (make_tokenizer_golden.py), or as in the two files
 * on the command line: TOKENIZER.json VECTORS.bin. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/rng.h"
#include "data/tokenizer.h"

static const char *given_tokenizer, *given_vectors;

static uint32_t u32(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The ids decode to text[0..bytes-1]. */
static void check_back(const char *name, const bn_tokenizer *t, const int32_t *ids, size_t count,
                       const void *text, size_t bytes)
{
    const int64_t capacity = bn_tokenizer_count_bytes(t, ids, count);
    char *back = malloc((size_t)capacity + 1);
    size_t size = 0;
    assert_non_null(back);
    assert_ok(bn_tokenizer_decode(t, ids, count, back, (size_t)capacity, &size));
    back[size] = '\0';
    if (size != bytes || memcmp(back, text, bytes) != 0)
        fail_msg("%s: decoded to %zu bytes, expected %zu: \"%.60s\", expected \"%.*s\"", name, size,
                 bytes, back, bytes < 60 ? (int)bytes : 60, (const char *)text);
    free(back);
}

/* Encoding in parts of about `step` bytes gives the same tokens. */
static void check_parts(const bn_tokenizer *t, const void *text, size_t bytes, size_t step,
                        const int32_t *ids, size_t count)
{
    bn_ids list = {0};
    bn_text_part part = {.text = text, .bytes = bytes, .fresh = true};
    while (part.from < bytes) {
        const size_t to = bn_tokenizer_cut(t, text, bytes, part.from + step);
        part.to = to;
        assert_ok(bn_tokenizer_encode_part(t, &part, &list, &part));
        assert_true(part.from >= to);
    }
    assert_int_equal(list.count, count);
    assert_memory_equal(list.items, ids, count * sizeof *ids);
    bn_ids_clear(&list);
}

/* What a vectors file says of one text. */
typedef struct vector {
    const unsigned char *text, *ids, *back;
    size_t bytes, count, back_bytes;
} vector;

static const unsigned char *read_vector(const unsigned char *p, vector *v)
{
    v->bytes = u32(p);
    v->text = p + 4;
    v->count = u32(v->text + v->bytes);
    v->ids = v->text + v->bytes + 4;
    v->back = v->ids + 2 * v->count + 4;
    v->back_bytes = u32(v->back - 4);
    return v->back + v->back_bytes;
}

static void check_text(const char *name, const bn_tokenizer *t, const vector *v)
{
    size_t count = 0;
    int32_t *ids = malloc((bn_tokenizer_max_tokens(t, v->bytes) + 1) * sizeof *ids);
    assert_non_null(ids);
    assert_ok(bn_tokenizer_encode(t, v->text, v->bytes, ids, &count));
    for (size_t i = 0; i < count && i < v->count; i++)
        if (ids[i] != (v->ids[2 * i] | v->ids[2 * i + 1] << 8))
            fail_msg("%s: \"%.40s\": token %zu is %d, expected %d", name, (const char *)v->text, i,
                     ids[i], v->ids[2 * i] | v->ids[2 * i + 1] << 8);
    assert_int_equal(count, v->count);
    check_back(name, t, ids, count, v->back, v->back_bytes);
    if (v->bytes > 0 && v->bytes < 4000) {
        check_parts(t, v->text, v->bytes, 1, ids, count);
        check_parts(t, v->text, v->bytes, 100, ids, count);
    }
    free(ids);
}

static int check_file(const char *tokenizer_path, const char *vectors_path)
{
    bn_tokenizer *t;
    char *data;
    size_t size;
    int texts = 0;
    vector v;
    assert_ok(bn_tokenizer_open(tokenizer_path, &t));
    assert_ok(bn_fs_read(vectors_path, 64 << 20, &data, &size));
    const unsigned char *p = (const unsigned char *)data, *end = p + size;
    for (; p < end; texts++) {
        p = read_vector(p, &v);
        check_text(tokenizer_path, t, &v);
    }
    free(data);
    bn_tokenizer_free(t);
    return texts;
}

static void golden(const char *name)
{
    char *base = bn_format("%s/tests/golden/tokenizer/%s", getenv("BITNET_SOURCE_DIR"), name);
    char *json = bn_format("%s.json", base), *vectors = bn_format("%s.bin", base);
    assert_true(check_file(json, vectors) > 300);
    free(base);
    free(json);
    free(vectors);
}

static void gpt2(void **state)
{
    (void)state;
    golden("gpt2");
}

static void llama3(void **state)
{
    (void)state;
    golden("llama3");
}

static void llama2(void **state)
{
    (void)state;
    golden("llama2");
}

static void metaspace(void **state)
{
    (void)state;
    golden("metaspace");
}

/* 1 MB that is mostly no UTF-8 comes back exactly. */
static void random_bytes(void **state)
{
    enum { BYTES = 1 << 20 };
    static const char *const names[] = {"gpt2", "llama3", "llama2"};
    unsigned char *text = malloc(BYTES);
    bn_rng rng = bn_rng_of(11, 0);
    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < BYTES; i++)
        text[i] = (unsigned char)bn_rng_u64(&rng);
    for (int k = 0; k < 3; k++) {
        bn_tokenizer *t;
        size_t count = 0;
        char *path =
            bn_format("%s/tests/golden/tokenizer/%s.json", getenv("BITNET_SOURCE_DIR"), names[k]);
        assert_ok(bn_tokenizer_open(path, &t));
        int32_t *ids = malloc(bn_tokenizer_max_tokens(t, BYTES) * sizeof *ids);
        assert_non_null(ids);
        assert_ok(bn_tokenizer_encode(t, text, BYTES, ids, &count));
        check_back(path, t, ids, count, text, BYTES);
        check_parts(t, text, BYTES, 1000, ids, count);
        free(ids);
        free(path);
        bn_tokenizer_free(t);
    }
    free(text);
}

static void given(void **state)
{
    (void)state;
    const int texts = check_file(given_tokenizer, given_vectors);
    assert_true(texts > 0);
    print_message("%s: %d texts equal\n", given_tokenizer, texts);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2),      cmocka_unit_test(llama3),       cmocka_unit_test(llama2),
        cmocka_unit_test(metaspace), cmocka_unit_test(random_bytes),
    };
    const struct CMUnitTest live[] = {cmocka_unit_test(given)};
    if (argc != 3)
        return cmocka_run_group_tests(tests, NULL, NULL);
    given_tokenizer = argv[1];
    given_vectors = argv[2];
    return cmocka_run_group_tests(live, NULL, NULL);
}
