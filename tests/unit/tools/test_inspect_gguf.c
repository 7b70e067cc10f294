/* What bitnet-inspect reads in a GGUF file. */
#include <stdlib.h>
#include <string.h>

#include "cmocka_all.h"
#include "tools/inspect.h"

/* Four tensors of one row of 256: TQ1_0 with a factor beside it, TQ2_0 and Q4_0
 * without; `break_at` is a byte of the TQ2_0 block to spoil, or -1, and so is
 * `spread` of the Q4_0 blocks. */
static void write_file(int break_at, int spread)
{
    static const bn_gguf_spec specs[] = {{"a.weight", BN_GGUF_TQ1_0, 2, {1, 256}},
                                         {"a.scale", BN_GGUF_F32, 1, {1}},
                                         {"b.weight", BN_GGUF_TQ2_0, 2, {1, 256}},
                                         {"c.weight", BN_GGUF_Q4_0, 2, {1, 256}}};
    int8_t codes[256];
    uint8_t block[66], q4[8 * 18];
    const float factor = 0.25f;
    bn_gguf_meta meta = {0};
    bn_gguf_writer *w;
    for (int i = 0; i < 256; i++)
        codes[i] = (int8_t)(i < 64 ? -1 : i < 128 ? 0 : 1);
    bn_gguf_meta_string(&meta, "general.name", "a \"name\"");
    bn_gguf_meta_array(&meta, "numbers", BN_GGUF_I32, 3);
    for (int i = -1; i < 2; i++)
        bn_gguf_item_i32(&meta, i);
    bn_gguf_meta_bool(&meta, "yes", true);
    assert_ok(bn_gguf_create("file.gguf", &meta, specs, 4, &w));
    bn_gguf_encode_codes(BN_GGUF_TQ1_0, codes, 2, block);
    assert_ok(bn_gguf_write(w, block, 54));
    assert_ok(bn_gguf_write(w, &factor, sizeof factor));
    bn_gguf_encode_codes(BN_GGUF_TQ2_0, codes, 2, block);
    if (break_at >= 0)
        block[break_at] = 0xff;
    assert_ok(bn_gguf_write(w, block, 66));
    for (int b = 0; b < 8; b++)
        bn_gguf_encode_codes(BN_GGUF_Q4_0, codes + 32 * b, (float)(b + 1), q4 + 18 * b);
    if (spread >= 0)
        q4[spread] = 0;
    assert_ok(bn_gguf_write(w, q4, sizeof q4));
    assert_ok(bn_gguf_finish(w, BN_OK));
    bn_gguf_meta_clear(&meta);
}

static void check_ternary(const bn_tensor_info *t, int64_t group, double least, double most)
{
    assert_true(t->coded && !t->has_shadow);
    assert_int_equal(t->group_size, group);
    assert_int_equal(t->q.codes.count[0], 64);
    assert_int_equal(t->q.codes.count[2], 128);
    assert_true(t->q.scale_min >= least && t->q.scale_min <= least);
    assert_true(t->q.scale_max >= most && t->q.scale_max <= most);
}

static void test_tensors(void **state)
{
    (void)state;
    bn_file_info info;
    write_file(-1, -1);
    assert_ok(bn_file_info_read("file.gguf", &info));
    assert_int_equal(info.count, 4); /* by name: a.scale is first */
    assert_false(info.tensors[0].coded);
    assert_string_equal(info.tensors[1].encoding, "TQ1_0");
    check_ternary(&info.tensors[1], BN_PER_TENSOR, 0.5, 0.5);
    check_ternary(&info.tensors[2], 256, 2, 2);
    check_ternary(&info.tensors[3], 32, 1, 8);
    assert_int_equal(info.tensors[2].bytes_packed, 66);
    bn_file_info_clear(&info);
}

static void test_other_codes(void **state)
{
    (void)state;
    bn_file_info info;
    write_file(7, -1);
    assert_int_equal(bn_file_info_read("file.gguf", &info), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "file.gguf: b.weight"));
    write_file(-1, 100); /* weights of any kind may be Q4_0 */
    assert_ok(bn_file_info_read("file.gguf", &info));
    assert_false(info.tensors[3].coded);
    bn_file_info_clear(&info);
}

static void test_keys(void **state)
{
    (void)state;
    bn_file_info info;
    bn_json json = {0};
    char *text;
    write_file(-1, -1);
    assert_ok(bn_file_info_read("file.gguf", &info));
    bn_json_object(&json, NULL);
    for (int i = 0; i < bn_gguf_value_count(info.gguf); i++) {
        const bn_gguf_value *value = bn_gguf_value_at(info.gguf, i);
        bn_gguf_value_json(&json, value, value->key, 2);
    }
    bn_json_object_end(&json);
    assert_ok(bn_json_take(&json, &text));
    assert_non_null(strstr(text, "\"general.name\": \"a \\\"name\\\"\""));
    assert_non_null(strstr(text, "\"numbers\": [-1, 0]"));
    assert_non_null(strstr(text, "\"yes\": true"));
    free(text);
    bn_file_info_clear(&info);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tensors),
                                       cmocka_unit_test(test_other_codes),
                                       cmocka_unit_test(test_keys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
