/* GGUF: what is written reads back; everything else is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "cmocka_all.h"
#include "interop/gguf.h"

/* Without the flush to the disk that bn_fs_write() does: there are hundreds. */
static void put(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void poke(const char *path, size_t at, unsigned char byte)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fputc(byte, file), byte);
    assert_int_equal(fclose(file), 0);
}

static void write_sample(const char *path)
{
    static const bn_gguf_spec specs[] = {
        {"z.weight", BN_GGUF_F32, 2, {2, 3}},
        {"a.weight", BN_GGUF_Q4_0, 2, {2, 32}},
        {"m", BN_GGUF_F16, 1, {5}},
    };
    const float values[] = {1, -2, 3, -4, 5, -6};
    uint8_t blocks[36] = {0};
    const uint16_t halves[] = {0x3c00, 0x4000, 0, 0xc000, 1};
    bn_gguf_meta meta = {0};
    bn_gguf_writer *w;
    bn_gguf_meta_string(&meta, "general.name", "sample");
    bn_gguf_meta_u32(&meta, "n", 4000000000U);
    bn_gguf_meta_f32(&meta, "eps", 1e-5f);
    bn_gguf_meta_bool(&meta, "yes", true);
    bn_gguf_meta_array(&meta, "words", BN_GGUF_STRING, 3);
    bn_gguf_item_string(&meta, "one", 3);
    bn_gguf_item_string(&meta, "", 0);
    bn_gguf_item_string(&meta, "three", 5);
    bn_gguf_meta_array(&meta, "ints", BN_GGUF_I32, 2);
    bn_gguf_item_i32(&meta, -7);
    bn_gguf_item_i32(&meta, 8);
    assert_ok(bn_gguf_create(path, &meta, specs, 3, &w));
    assert_ok(bn_gguf_write(w, values, sizeof values));
    assert_ok(bn_gguf_write(w, blocks, sizeof blocks));
    assert_ok(bn_gguf_write(w, halves, sizeof halves));
    assert_ok(bn_gguf_finish(w, BN_OK));
    bn_gguf_meta_clear(&meta);
}

static void check_values(const bn_gguf *file)
{
    uint64_t bytes;
    assert_int_equal(bn_gguf_value_count(file), 6);
    for (int i = 1; i < 6; i++)
        assert_true(strcmp(bn_gguf_value_at(file, i - 1)->key, bn_gguf_value_at(file, i)->key) < 0);
    assert_true(bn_gguf_number(bn_gguf_value_find(file, "n"), 0) == 4e9);
    assert_true(bn_gguf_number(bn_gguf_value_find(file, "eps"), 0) == (double)1e-5f);
    assert_true(bn_gguf_number(bn_gguf_value_find(file, "yes"), 0) == 1);
    const bn_gguf_value *ints = bn_gguf_value_find(file, "ints");
    assert_true(ints->is_array && ints->kind == BN_GGUF_I32 && ints->count == 2);
    assert_true(bn_gguf_number(ints, 0) == -7 && bn_gguf_number(ints, 1) == 8);
    const bn_gguf_value *words = bn_gguf_value_find(file, "words");
    const unsigned char *at = words->data;
    static const char *const expected[] = {"one", "", "three"};
    assert_int_equal(words->count, 3);
    for (int i = 0; i < 3; i++) {
        const char *text = bn_gguf_next_string(&at, &bytes);
        assert_int_equal(bytes, strlen(expected[i]));
        assert_memory_equal(text, expected[i], bytes);
    }
    assert_null(bn_gguf_value_find(file, "general.nam"));
}

static void test_round_trip(void **state)
{
    (void)state;
    bn_gguf *file;
    float found[6];
    write_sample("sample.gguf");
    assert_true(bn_gguf_is("sample.gguf"));
    assert_ok(bn_gguf_open("sample.gguf", &file));
    assert_int_equal(bn_gguf_version(file), 3);
    assert_int_equal(bn_gguf_alignment(file), 32);
    check_values(file);
    assert_int_equal(bn_gguf_tensor_count(file), 3);
    assert_string_equal(bn_gguf_tensor_at(file, 0)->name, "a.weight");
    const bn_gguf_tensor *z = bn_gguf_tensor_find(file, "z.weight");
    assert_int_equal(z->ndim, 2);
    assert_int_equal(z->shape[0], 2);
    assert_int_equal(z->shape[1], 3);
    assert_int_equal(z->bytes, 24);
    bn_gguf_decode(z->type, z->data, z->count, found);
    assert_true(found[0] == 1 && found[5] == -6);
    assert_int_equal(bn_gguf_tensor_find(file, "a.weight")->bytes, 36);
    bn_gguf_decode(BN_GGUF_F16, bn_gguf_tensor_find(file, "m")->data, 5, found);
    assert_true(found[1] == 2 && found[3] == -2);
    bn_gguf_close(file);
}

/* Every prefix of a file is refused, and no byte of the header can be changed
 * into one that makes the reader leave the file. */
static void test_truncated_and_changed(void **state)
{
    (void)state;
    bn_gguf *file;
    char *data;
    size_t size;
    write_sample("sample.gguf");
    assert_ok(bn_fs_read("sample.gguf", 1 << 20, &data, &size));
    for (size_t n = 0; n < size - 22; n++) { /* the rest is the padding behind the data */
        put("hostile.gguf", data, n);
        assert_int_equal(bn_gguf_open("hostile.gguf", &file), BN_BAD_DATA);
        assert_non_null(strstr(bn_error_text(), "hostile.gguf"));
        assert_null(file);
    }
    static const unsigned char others[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    put("hostile.gguf", data, size);
    for (size_t at = 0; at < size - 128; at++) {
        for (size_t k = 0; k < sizeof others; k++) {
            poke("hostile.gguf", at, others[k]);
            if (bn_gguf_open("hostile.gguf", &file) == BN_OK)
                bn_gguf_close(file);
        }
        poke("hostile.gguf", at, (unsigned char)data[at]);
    }
    free(data);
}

/* ---- files made by hand ---- */

typedef struct image {
    unsigned char bytes[1024];
    size_t size;
} image;

static void add(image *f, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        f->bytes[f->size++] = (unsigned char)(value >> 8 * i);
}

static void add_text(image *f, const char *text)
{
    add(f, strlen(text), 8);
    memcpy(f->bytes + f->size, text, strlen(text));
    f->size += strlen(text);
}

static image head(uint64_t tensors, uint64_t values)
{
    image f = {.bytes = "GGUF", .size = 4};
    add(&f, 3, 4);
    add(&f, tensors, 8);
    add(&f, values, 8);
    return f;
}

static void add_number(image *f, const char *key, uint32_t kind, uint64_t value, int bytes)
{
    add_text(f, key);
    add(f, kind, 4);
    add(f, value, bytes);
}

static void add_tensor(image *f, const char *name, uint64_t columns, uint64_t rows, uint32_t type,
                       uint64_t offset)
{
    add_text(f, name);
    add(f, 2, 4);
    add(f, columns, 8);
    add(f, rows, 8);
    add(f, type, 4);
    add(f, offset, 8);
}

static void refuses(const image *f, const char *reason)
{
    bn_gguf *file;
    put("hostile.gguf", f->bytes, f->size);
    assert_int_equal(bn_gguf_open("hostile.gguf", &file), BN_BAD_DATA);
    assert_null(file);
    if (!strstr(bn_error_text(), reason) || !strstr(bn_error_text(), "hostile.gguf"))
        fail_msg("expected '%s', refused because: %s", reason, bn_error_text());
}

static void test_bad_head(void **state)
{
    (void)state;
    bn_gguf *file;
    image f = head(0, 0);
    f.bytes[0] = 'g';
    refuses(&f, "does not begin");
    f = head(0, 0);
    f.bytes[4] = 1;
    refuses(&f, "version 1");
    memcpy(f.bytes + 4, "\0\0\0\3", 4);
    refuses(&f, "version 50331648");
    f = head(0, UINT64_MAX);
    refuses(&f, "keys and");
    f = head(UINT64_MAX / 32, 0);
    refuses(&f, "tensors in a file");
    for (int i = 0; i < 2; i++) { /* room for as many, and yet too many */
        f = i ? head((1 << 20) + 1, 0) : head(0, (1 << 20) + 1);
        put("hostile.gguf", f.bytes, f.size);
        assert_int_equal(truncate("hostile.gguf", 64 << 20), 0);
        assert_int_equal(bn_gguf_open("hostile.gguf", &file), BN_BAD_DATA);
        assert_non_null(strstr(bn_error_text(), "expected at most 1048576 keys and tensors"));
    }
    f = head(0, 0); /* version 2 is laid out alike */
    f.bytes[4] = 2;
    put("two.gguf", f.bytes, f.size);
    assert_ok(bn_gguf_open("two.gguf", &file));
    assert_int_equal(bn_gguf_version(file), 2);
    bn_gguf_close(file);
}

static void test_bad_keys(void **state)
{
    (void)state;
    image f = head(0, 1);
    add(&f, UINT64_MAX, 8);
    add(&f, 0, 8);
    refuses(&f, "a string of 18446744073709551615 bytes");
    f = head(0, 1);
    add_number(&f, "", BN_GGUF_U32, 0, 4);
    refuses(&f, "a name of 0 bytes");
    f = head(0, 1);
    add_number(&f, "\xff\xfe", BN_GGUF_U32, 0, 4);
    refuses(&f, "not UTF-8");
    f = head(0, 1);
    add_number(&f, "k", BN_GGUF_KINDS, 0, 4);
    refuses(&f, "k: unknown type 13");
    f = head(0, 1);
    add_number(&f, "a_long_key_so_that_one_may_be_there", BN_GGUF_U64, 0, 2);
    refuses(&f, "a_long_key_so_that_one_may_be_there");
    f = head(0, 1);
    add_number(&f, "k", BN_GGUF_BOOL, 2, 1);
    refuses(&f, "a bool is 2");
    f = head(0, 2);
    add_number(&f, "k", BN_GGUF_U32, 0, 4);
    add_number(&f, "k", BN_GGUF_U8, 0, 1);
    refuses(&f, "key k is there twice");
}

static void add_array(image *f, const char *key, uint32_t kind, uint64_t count)
{
    add_text(f, key);
    add(f, BN_GGUF_ARRAY, 4);
    add(f, kind, 4);
    add(f, count, 8);
}

static void test_bad_arrays(void **state)
{
    (void)state;
    image f = head(0, 1);
    add_array(&f, "k", BN_GGUF_ARRAY, 1);
    refuses(&f, "array of arrays");
    f = head(0, 1);
    add_array(&f, "k", BN_GGUF_U64, UINT64_MAX / 8 + 2);
    refuses(&f, "items of 8 bytes");
    f = head(0, 1);
    add_array(&f, "k", BN_GGUF_STRING, UINT64_MAX);
    refuses(&f, "strings in the");
    f = head(0, 1);
    add_array(&f, "k", BN_GGUF_STRING, 1);
    add(&f, 9, 8);
    refuses(&f, "a string of 9 bytes");
}

static void test_bad_alignment(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0, 3, 48, UINT32_MAX};
    for (int i = 0; i < 4; i++) {
        image f = head(0, 1);
        add_number(&f, "general.alignment", BN_GGUF_U32, bad[i], 4);
        refuses(&f, "power of two");
    }
    image f = head(0, 1);
    add_number(&f, "general.alignment", BN_GGUF_U64, 32, 8);
    refuses(&f, "power of two");
    f = head(0, 1);
    add_array(&f, "general.alignment", BN_GGUF_U32, 1);
    add(&f, 32, 4);
    refuses(&f, "power of two");
}

static void one_tensor(uint64_t columns, uint64_t rows, uint32_t type, uint64_t offset,
                       const char *reason)
{
    image f = head(1, 0);
    add_tensor(&f, "t", columns, rows, type, offset);
    f.size = 512;
    refuses(&f, reason);
}

static void test_bad_tensors(void **state)
{
    (void)state;
    one_tensor(4, 0, BN_GGUF_F32, 0, "dimension 0");
    one_tensor(4, UINT64_MAX, BN_GGUF_F32, 0, "dimension 18446744073709551615");
    one_tensor(UINT64_C(1) << 40, UINT64_C(1) << 40, BN_GGUF_F32, 0, "dimension 1099511627776");
    one_tensor(UINT64_C(1) << 31, UINT64_C(1) << 31, BN_GGUF_F32, 0, "more than 2^63 bytes");
    one_tensor(4, 4, 5, 0, "unknown type 5");
    one_tensor(4, 4, UINT32_MAX, 0, "unknown type 4294967295");
    one_tensor(33, 2, BN_GGUF_Q8_0, 0, "a multiple of 32");
    one_tensor(4, 4, BN_GGUF_F32, 8, "no multiple of 32");
    one_tensor(4, 4, BN_GGUF_F32, UINT64_MAX - 31, "at offset 18446744073709551584");
    one_tensor(1000, 1, BN_GGUF_F32, 0, "4000 bytes at offset 0");
    image f = head(1, 0);
    add_text(&f, "t");
    add(&f, 5, 4);
    f.size = 512;
    refuses(&f, "rank 5");
    f = head(2, 0);
    add_tensor(&f, "t", 4, 4, BN_GGUF_F32, 0);
    add_tensor(&f, "t", 4, 4, BN_GGUF_F32, 64);
    f.size = 512;
    refuses(&f, "tensor t is there twice");
    f = head(2, 0);
    add_tensor(&f, "t", 4, 4, BN_GGUF_F32, 32);
    add_tensor(&f, "u", 4, 4, BN_GGUF_F32, 0);
    f.size = 512;
    refuses(&f, "u and t overlaps");
    f = head(1, 0);
    add_tensor(&f, "a name of sixty-five bytes is longer than what ggml has room for, yes", 4, 4,
               BN_GGUF_F32, 0);
    f.size = 512;
    refuses(&f, "a tensor's name");
}

static void test_writer_refuses(void **state)
{
    (void)state;
    const bn_gguf_spec spec = {"t", BN_GGUF_TQ2_0, 2, {1, 128}};
    const bn_gguf_spec good = {"t", BN_GGUF_F32, 1, {1}};
    const bn_gguf_meta none = {0};
    bn_gguf_writer *w;
    assert_int_equal(bn_gguf_create("w.gguf", &none, &spec, 1, &w), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "multiple of 256"));
    assert_ok(bn_gguf_create("w.gguf", &none, &good, 1, &w));
    assert_int_equal(bn_gguf_finish(w, bn_gguf_write(w, "", 1)), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "1 bytes"));
    assert_ok(bn_gguf_create("w.gguf", &none, &good, 1, &w));
    assert_int_equal(bn_gguf_finish(w, BN_OK), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "0 tensors written"));
    assert_int_equal(bn_gguf_create("no/such/w.gguf", &none, &good, 1, &w), BN_IO);
}

static void test_missing(void **state)
{
    (void)state;
    bn_gguf *file;
    assert_int_equal(bn_gguf_open("missing.gguf", &file), BN_NO_INPUT);
    assert_false(bn_gguf_is("missing.gguf"));
    put("empty", "", 0);
    assert_false(bn_gguf_is("empty"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_truncated_and_changed),
        cmocka_unit_test(test_bad_head),    cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_bad_arrays),  cmocka_unit_test(test_bad_alignment),
        cmocka_unit_test(test_bad_tensors), cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
