/* safetensors: what is written reads back; everything else is refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "cmocka_all.h"
#include "interop/safetensors.h"

/* Without the flush to the disk that bn_fs_write() does: there are hundreds. */
static void put_raw(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* A file of this header and `data_bytes` zero bytes. */
static void put(const char *path, const char *header, size_t data_bytes)
{
    const size_t length = strlen(header);
    unsigned char *file = calloc(1, 8 + length + data_bytes);
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)length >> (8 * i));
    memcpy(file + 8, header, length);
    put_raw(path, file, 8 + length + data_bytes);
    free(file);
}

static void refuses(const char *header, size_t data_bytes, const char *reason)
{
    bn_st_reader *reader;
    put("hostile.safetensors", header, data_bytes);
    assert_int_equal(bn_st_open("hostile.safetensors", &reader), BN_BAD_DATA);
    assert_null(reader);
    if (!strstr(bn_error_text(), reason) || !strstr(bn_error_text(), "hostile.safetensors"))
        fail_msg("'%s' was refused because: %s", header, bn_error_text());
}

static const bn_st_spec specs[] = {
    {"b", BN_ST_F32, 2, {2, 3}},  {"c", BN_ST_BF16, 1, {3}},   {"d", BN_ST_F16, 0, {0}},
    {"a.x", BN_ST_U8, 2, {1, 5}}, {"e", BN_ST_F32, 2, {0, 7}},
};
static const float values[] = {1, -2.5f, 3e-8f, 0, 1e30f, -0.1f};

static void write_sample(const char *path)
{
    bn_st_writer *w;
    assert_ok(bn_st_create(path, specs, 5, "pt", &w));
    assert_ok(bn_st_write(w, values, 5));
    assert_ok(bn_st_write(w, (const char *)values + 5, sizeof values - 5));
    assert_ok(bn_st_write_f32(w, BN_ST_BF16, values, 3));
    assert_ok(bn_st_write_f32(w, BN_ST_F16, values + 1, 1));
    assert_ok(bn_st_write(w, "\1\2\3\4\5", 5));
    assert_ok(bn_st_commit(w));
}

static void test_round_trip(void **state)
{
    (void)state;
    bn_st_reader *reader;
    float found[6];
    write_sample("sample.safetensors");
    assert_false(bn_fs_exists("sample.safetensors.tmp"));
    assert_ok(bn_st_open("sample.safetensors", &reader));
    assert_int_equal(bn_st_count(reader), 5);
    for (int i = 1; i < 5; i++)
        assert_true(strcmp(bn_st_at(reader, i - 1)->name, bn_st_at(reader, i)->name) < 0);
    const bn_st_tensor *t = bn_st_find(reader, "b");
    assert_int_equal(t->ndim, 2);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal((uintptr_t)t->data % 4, 0);
    assert_ok(bn_st_read_f32(t, found));
    assert_memory_equal(found, values, sizeof values);
    assert_ok(bn_st_read_f32(bn_st_find(reader, "c"), found));
    assert_true(found[0] == 1 && found[1] == -2.5f && fabsf(found[2] - 3e-8f) < 1e-10f);
    assert_ok(bn_st_read_f32(bn_st_find(reader, "d"), found));
    assert_true(found[0] == -2.5f);
    assert_memory_equal(bn_st_find(reader, "a.x")->data, "\1\2\3\4\5", 5);
    assert_int_equal(bn_st_read_f32(bn_st_find(reader, "a.x"), found), BN_BAD_DATA);
    assert_int_equal(bn_st_find(reader, "e")->count, 0);
    assert_null(bn_st_find(reader, "missing"));
    bn_st_close(reader);
}

static void test_header_as_others_write_it(void **state)
{
    (void)state;
    bn_st_reader *reader;
    put("plain.safetensors",
        "{\"w\":{\"data_offsets\":[1,5],\"shape\":[1],\"dtype\":\"F32\"},"
        "\"u\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
        "\"__metadata__\":{\"format\":\"pt\"}}   ",
        5);
    float value = 1;
    assert_ok(bn_st_open("plain.safetensors", &reader));
    assert_ok(bn_st_read_f32(bn_st_find(reader, "w"), &value)); /* at an odd address */
    assert_true(value == 0);
    bn_st_close(reader);
    put("empty.safetensors", "{}", 0);
    assert_ok(bn_st_open("empty.safetensors", &reader));
    assert_int_equal(bn_st_count(reader), 0);
    assert_null(bn_st_find(reader, "w"));
    bn_st_close(reader);
}

static void test_writer_refuses(void **state)
{
    (void)state;
    bn_st_writer *w;
    const float large[] = {70000};
    const bn_st_spec huge = {"h", BN_ST_F32, 2, {INT64_MAX / 2, 8}};
    assert_ok(bn_fs_write("keep.safetensors", "old", 3));
    assert_ok(bn_st_create("keep.safetensors", specs, 5, "pt", &w));
    assert_int_equal(bn_st_commit(w), BN_FAIL); /* no data */
    assert_ok(bn_st_create("keep.safetensors", specs, 1, "pt", &w));
    assert_ok(bn_st_write(w, values, sizeof values));
    assert_int_equal(bn_st_write(w, values, 1), BN_FAIL);
    bn_st_abort(w);
    assert_ok(bn_st_create("keep.safetensors", specs + 2, 1, "pt", &w));
    assert_int_equal(bn_st_write_f32(w, BN_ST_F16, large, 1), BN_FAIL);
    bn_st_abort(w);
    assert_int_equal(bn_st_create("keep.safetensors", &huge, 1, "pt", &w), BN_FAIL);
    assert_int_equal(bn_st_create("no/such/folder", specs, 1, "pt", &w), BN_IO);
    uint64_t size;
    assert_ok(bn_fs_size("keep.safetensors", &size));
    assert_int_equal(size, 3);
    assert_false(bn_fs_exists("keep.safetensors.tmp"));
}

/* Cut anywhere, the file is refused. */
static void test_truncated(void **state)
{
    (void)state;
    char *data;
    size_t size;
    bn_st_reader *reader;
    write_sample("sample.safetensors");
    assert_ok(bn_fs_read("sample.safetensors", 1 << 20, &data, &size));
    for (size_t n = 0; n < size; n++) {
        put_raw("cut.safetensors", data, n);
        assert_int_equal(bn_st_open("cut.safetensors", &reader), BN_BAD_DATA);
    }
    /* and with a byte too many */
    char *longer = calloc(1, size + 1);
    memcpy(longer, data, size);
    assert_ok(bn_fs_write("cut.safetensors", longer, size + 1));
    assert_int_equal(bn_st_open("cut.safetensors", &reader), BN_BAD_DATA);
    free(longer);
    free(data);
}

/* Any byte of the header replaced: opened or refused, never a crash. */
static void test_damaged_header(void **state)
{
    (void)state;
    static const char bytes[] = {'9', '"', (char)0xff};
    char *data;
    size_t size;
    bn_st_reader *reader;
    int refused = 0;
    write_sample("sample.safetensors");
    assert_ok(bn_fs_read("sample.safetensors", 1 << 20, &data, &size));
    for (size_t i = 0; i < size - 40; i++)
        for (size_t k = 0; k < sizeof bytes; k++) {
            const char kept = data[i];
            data[i] = bytes[k];
            put_raw("damaged.safetensors", data, size);
            const bn_status status = bn_st_open("damaged.safetensors", &reader);
            assert_true(status == BN_OK || status == BN_BAD_DATA);
            refused += status != BN_OK;
            bn_st_close(status == BN_OK ? reader : NULL);
            data[i] = kept;
        }
    assert_true(refused > 300);
    free(data);
}

#define T(dtype, shape, offsets)                                                                   \
    "{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_hostile(void **state)
{
    (void)state;
    bn_st_reader *reader;
    const unsigned char huge[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    assert_ok(bn_fs_write("hostile.safetensors", huge, 8));
    assert_int_equal(bn_st_open("hostile.safetensors", &reader), BN_BAD_DATA);
    assert_int_equal(bn_st_open("missing.safetensors", &reader), BN_NO_INPUT);
    refuses("", 0, "does not start with '{'");
    refuses("[]", 0, "does not start with '{'");
    refuses("{", 0, "ends too early");
    refuses("{\"a\":1}", 0, "expected an object");
    refuses("{\"\":" T("\"U8\"", "[1]", "[0,1]") "}", 1, "without a name");
    refuses("{\"a\":" T("\"U8\"", "[1]", "[0,1]") ",\"a\":" T("\"U8\"", "[1]", "[0,1]") "}", 1,
            "given twice");
    refuses("{\"\\u0061\":" T("\"U8\"", "[1]", "[0,1]") ",\"a\":" T("\"U8\"", "[1]", "[1,2]") "}",
            2, "given twice");
    refuses("{\"a\\u0000b\":" T("\"U8\"", "[1]", "[0,1]") "}", 1, "NUL");
    refuses("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1,
            "given twice");
    refuses("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1, "alone");
    refuses("{\"a\":" T("\"U9\"", "[1]", "[0,1]") "}", 1, "unknown dtype 'U9'");
    refuses("{\"a\":" T("8", "[1]", "[0,1]") "}", 1, "dtype is not a string");
    refuses("{\"a\":" T("\"U8\"", "1", "[0,1]") "}", 1, "shape is not a list");
    refuses("{\"a\":" T("\"U8\"", "[-1]", "[0,1]") "}", 1, "not a whole number");
    refuses("{\"a\":" T("\"U8\"", "[1.5]", "[0,1]") "}", 1, "not a whole number");
    refuses("{\"a\":" T("\"U8\"", "[1e300]", "[0,1]") "}", 1, "not a whole number");
    refuses("{\"a\":" T("\"U8\"", "[\"1\"]", "[0,1]") "}", 1, "not a whole number");
    refuses("{\"a\":" T("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, "8 dimensions");
    refuses("{\"a\":" T("\"U8\"", "[4294967296,4294967296]", "[0,1]") "}", 1, "more elements");
    refuses("{\"a\":" T("\"F32\"", "[4294967296,1073741824]", "[0,0]") "}", 0, "elements of F32");
    refuses("{\"a\":" T("\"U8\"", "[2]", "[0,1]") "}", 1, "expected 2 elements");
    refuses("{\"a\":" T("\"U8\"", "[1]", "[0]") "}", 1, "pair");
    refuses("{\"a\":" T("\"U8\"", "[1]", "[-1,0]") "}", 1, "pair");
    refuses("{\"a\":" T("\"U8\"", "[1]", "[1,0]") "}", 1, "expected a range");
    refuses("{\"a\":" T("\"U8\"", "[9]", "[0,9]") "}", 1, "expected a range");
    refuses("{\"a\":" T("\"U8\"", "[1]", "[9007199254740992,9007199254740993]") "}", 1, "range");
    refuses("{\"a\":" T("\"U8\"", "[2]", "[0,2]") ",\"b\":" T("\"U8\"", "[2]", "[1,3]") "}", 3,
            "b starts at byte 1 of the data, expected 2");
    refuses("{\"a\":" T("\"U8\"", "[1]", "[0,1]") ",\"b\":" T("\"U8\"", "[1]", "[2,3]") "}", 3,
            "b starts at byte 2 of the data, expected 1");
    refuses("{\"a\":" T("\"U8\"", "[1]", "[0,1]") "}", 2, "header describes 1");
    refuses("{\"a\":" T("\"U8\"", "[1]", "[1,2]") "}", 2, "expected 0");
    refuses("{\"__metadata__\":{\"a\":1}}", 0, "map of strings");
    refuses("{\"__metadata__\":[]}", 0, "map of strings");
    refuses("{\"__metadata__\":[\"a\"]}", 0, "map of strings");
    refuses("{\"\xff\":" T("\"U8\"", "[1]", "[0,1]") "}", 1, "not UTF-8");
    refuses("{\"\xc0\xaf\":" T("\"U8\"", "[1]", "[0,1]") "}", 1, "not UTF-8");
    refuses("{\"\xed\xa0\x80\":" T("\"U8\"", "[1]", "[0,1]") "}", 1, "not UTF-8");
    refuses("{\"\xf4\x90\x80\x80\":" T("\"U8\"", "[1]", "[0,1]") "}", 1, "not UTF-8");
    refuses("{\"\xe2\x82", 0, "not UTF-8");
    refuses("{\"\xe0\x9f\xbf\":" T("\"U8\"", "[1]", "[0,1]") "}", 1, "not UTF-8");
    refuses("{\"\xf0\x8f\xbf\xbf\":" T("\"U8\"", "[1]", "[0,1]") "}", 1, "not UTF-8");
}

/* Characters at the ends of their ranges. */
static void test_names(void **state)
{
    (void)state;
    bn_st_reader *reader;
    put("names.safetensors",
        "{\"\xe0\xa0\x80\xed\x9f\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\":" T("\"U8\"", "[1]",
                                                                           "[0,1]") "}",
        1);
    assert_ok(bn_st_open("names.safetensors", &reader));
    assert_non_null(bn_st_find(reader, "\xe0\xa0\x80\xed\x9f\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
    bn_st_close(reader);
}

static void test_not_finite(void **state)
{
    (void)state;
    bn_st_writer *w;
    bn_st_reader *reader;
    float value = NAN;
    const bn_st_spec one = {"n", BN_ST_F32, 1, {1}};
    assert_ok(bn_st_create("nan.safetensors", &one, 1, "pt", &w));
    assert_ok(bn_st_write(w, &value, sizeof value));
    assert_ok(bn_st_commit(w));
    assert_ok(bn_st_open("nan.safetensors", &reader));
    assert_int_equal(bn_st_read_f32(bn_st_at(reader, 0), &value), BN_BAD_DATA);
    bn_st_close(reader);
    enum { COUNT = 5000, BAD = 4999 }; /* past the first block */
    static uint16_t shorts[COUNT];
    const uint16_t bad[2][2] = {{0x7f80, 0xffc0}, {0x7c00, 0xfe00}}; /* infinity, NaN */
    for (int i = 0; i < 4; i++) {
        const bn_st_spec half = {"n", i < 2 ? BN_ST_BF16 : BN_ST_F16, 1, {COUNT}};
        const bn_st_tensor good = {
            .name = "n", .dtype = half.dtype, .count = BAD, .data = (void *)shorts};
        assert_ok(bn_st_check_short(&good));
        shorts[BAD] = bad[i / 2][i % 2];
        assert_ok(bn_st_create("nan.safetensors", &half, 1, "pt", &w));
        assert_ok(bn_st_write(w, shorts, sizeof shorts));
        assert_ok(bn_st_commit(w));
        assert_ok(bn_st_open("nan.safetensors", &reader));
        assert_int_equal(bn_st_check_short(bn_st_at(reader, 0)), BN_BAD_DATA);
        assert_non_null(strstr(bn_error_text(), "element 4999"));
        bn_st_close(reader);
    }
}

static void put_index(const char *json)
{
    assert_ok(bn_fs_write("sharded/model.safetensors.index.json", json, strlen(json)));
}

static void refuses_index(const char *json, bn_status expected, const char *reason)
{
    bn_st_reader *reader;
    put_index(json);
    assert_int_equal(bn_st_open_dir("sharded", &reader), expected);
    assert_null(reader);
    if (!strstr(bn_error_text(), reason))
        fail_msg("'%s' was refused because: %s", json, bn_error_text());
}

static void test_shards(void **state)
{
    (void)state;
    bn_st_reader *reader;
    assert_ok(bn_fs_mkdirs("sharded"));
    assert_ok(bn_fs_remove("sharded/model.safetensors.index.json"));
    assert_int_equal(bn_st_open_dir("sharded", &reader), BN_NO_INPUT);
    put("sharded/model.safetensors", "{\"a\":" T("\"U8\"", "[1]", "[0,1]") "}", 1);
    assert_ok(bn_st_open_dir("sharded", &reader));
    assert_int_equal(bn_st_count(reader), 1);
    bn_st_close(reader);
    assert_ok(bn_fs_remove("sharded/model.safetensors"));
    put("sharded/1.safetensors", "{\"a\":" T("\"U8\"", "[1]", "[0,1]") "}", 1);
    put("sharded/2.safetensors",
        "{\"b\":" T("\"U8\"", "[1]", "[0,1]") ",\"A\":" T("\"U8\"", "[1]", "[1,2]") "}", 2);
    put_index("{\"metadata\":{\"total_size\":3},\"weight_map\":{\"a\":\"1.safetensors\","
              "\"b\":\"2.safetensors\",\"A\":\"2.safetensors\"}}");
    assert_ok(bn_st_open_dir("sharded", &reader));
    assert_int_equal(bn_st_count(reader), 3);
    assert_string_equal(bn_st_at(reader, 0)->name, "A");
    assert_non_null(strstr(bn_st_find(reader, "b")->path, "2.safetensors"));
    bn_st_close(reader);
    refuses_index("{}", BN_BAD_DATA, "weight_map");
    refuses_index("{\"weight_map\":{\"a\":1}}", BN_BAD_DATA, "name of a file");
    refuses_index("{\"weight_map\":{\"a\":\"\"}}", BN_BAD_DATA, "name of a file");
    refuses_index("{\"weight_map\":{\"a\":\"../x\"}}", BN_BAD_DATA, "name of a file");
    refuses_index("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", BN_BAD_DATA, "name of a file");
    refuses_index("{\"weight_map\":{\"a\":\"..\"}}", BN_BAD_DATA, "name of a file");
    refuses_index("{\"weight_map\":{\"a\":\"3.safetensors\"}}", BN_NO_INPUT, "3.safetensors");
    refuses_index("{\"weight_map\":{\"c\":\"1.safetensors\"}}", BN_BAD_DATA, "nowhere");
    refuses_index("{\"weight_map\":{\"b\":\"2.safetensors\"}}", BN_BAD_DATA, "hold 2");
    refuses_index("{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}", BN_BAD_DATA,
                  "expected in");
    put("sharded/2.safetensors", "{\"a\":" T("\"U8\"", "[1]", "[0,1]") "}", 1);
    refuses_index("{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}", BN_BAD_DATA,
                  "too");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_header_as_others_write_it),
        cmocka_unit_test(test_writer_refuses), cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_damaged_header), cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_names),          cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
