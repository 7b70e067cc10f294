/* Strict JSON reading, and writing that reads back. */
#include "cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"

static void assert_rejected(const char *text, const char *message)
{
    cJSON *value;
    assert_int_equal(bn_json_parse("f", text, strlen(text), &value), BN_BAD_DATA);
    assert_null(value);
    assert_string_equal(bn_error_text(), message);
}

static void test_places_of_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "f:1:1: JSON text ends too early"},
        {" \n", "f:2:1: JSON text ends too early"},
        {"{\"a\": 1", "f:1:8: JSON text ends too early"},
        {"\"abc", "f:1:5: JSON text ends too early"},
        {"{\n  \"a\": tru\n}", "f:2:11: expected a value"},
        {"{\n  \"a\": 1\n  \"b\": 2\n}", "f:3:3: expected ',' or '}'"},
        {"{\"a\" 1}", "f:1:6: expected ':'"},
        {"{a: 1}", "f:1:2: expected a string in double quotes"},
        {"{\"a\": 1,}", "f:1:9: expected a string in double quotes"},
        {"[1, 2,]", "f:1:7: expected a value"},
        {"[1 2]", "f:1:4: expected ',' or ']'"},
        {"[01]", "f:1:3: expected ',' or ']'"},
        {"[1.]", "f:1:4: expected a digit"},
        {"[+1]", "f:1:2: expected a value"},
        {"[-]", "f:1:3: expected a digit"},
        {"[1e]", "f:1:4: expected a digit"},
        {"[NaN]", "f:1:2: expected a value"},
        {"['a']", "f:1:2: expected a value"},
        {"// no\n1", "f:1:1: expected a value"},
        {"[\"a\nb\"]", "f:1:4: a line break or control character in a string"},
        {"[\"\\x\"]", "f:1:4: unknown escape in a string"},
        {"[\"\\u12g4\"]", "f:1:7: expected four hexadecimal digits after \\u"},
        {"[\"\\ud800\"]", "f: a \\u escape that is no character, or out of memory"},
        {"{} {}", "f:1:4: text after the end of the JSON value"},
        {"[1e999]", "f: a number is too large for a double"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_rejected(cases[i].text, cases[i].message);
}

/* Everything the grammar has, in text without a NUL behind it. */
static void test_all_of_json(void **state)
{
    (void)state;
    static const char text[] =
        " { \"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\": [ -0, 1.5e-3, 2E+2, 0.25 ],\r\n"
        "\t\"b\": {}, \"c\": [], \"d\": [true, false, null] } ";
    size_t size = strlen(text);
    char *copy = malloc(size);
    cJSON *value;
    assert_non_null(copy);
    memcpy(copy, text, size);
    assert_ok(bn_json_parse("f", copy, size, &value));
    assert_int_equal(cJSON_GetArraySize(value), 4);
    assert_string_equal(value->child->string, "a\"\\/\b\f\n\r\t\xc3\xa9");
    assert_true(cJSON_GetArrayItem(value->child, 1)->valuedouble == 1.5e-3);
    cJSON_Delete(value);
    free(copy);
}

static void test_duplicate_keys(void **state)
{
    (void)state;
    assert_rejected("{\"a\": 1, \"b\": 2, \"a\": 3}", "f: key \"a\" is given twice");
    assert_rejected("[{\"x\": {\"k\": 1, \"k\": 1}}]", "f: key \"k\" is given twice");
    cJSON *value;
    const char *fine = "{\"a\": {\"a\": 1}, \"A\": 2} \n";
    assert_ok(bn_json_parse("f", fine, strlen(fine), &value));
    cJSON_Delete(value);
}

static void test_nul_byte(void **state)
{
    (void)state;
    cJSON *value;
    assert_int_equal(bn_json_parse("f", "{}\0{}", 5, &value), BN_BAD_DATA);
    assert_int_equal(bn_json_parse("f", "[\0]", 3, &value), BN_BAD_DATA);
    assert_string_equal(bn_error_text(), "f:1:2: expected a value");
}

static void test_deep_nesting(void **state)
{
    (void)state;
    cJSON *value;
    size_t size = 200000;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, '[', size);
    assert_int_equal(bn_json_parse("f", text, size, &value), BN_BAD_DATA);
    assert_string_equal(bn_error_text(), "f:1:501: nested too deeply");
    free(text);
}

static void test_file(void **state)
{
    (void)state;
    cJSON *value;
    assert_ok(bn_fs_write("test.json", "{\"a\": 1}\n", 9));
    assert_ok(bn_json_read("test.json", 100, &value));
    assert_true(cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(value, "a")));
    cJSON_Delete(value);
    assert_int_equal(bn_json_read("test.json", 5, &value), BN_BAD_DATA);
    assert_int_equal(bn_json_read("absent.json", 5, &value), BN_NO_INPUT);
}

static void write_all(bn_json *json)
{
    bn_json_object(json, NULL);
    bn_json_string(json, "s", "a\"\\\n\t\x01z");
    bn_json_int(json, "i", INT64_MIN);
    bn_json_double(json, "d", 0.1);
    bn_json_double(json, "nan", (double)NAN);
    bn_json_bool(json, "b", true);
    bn_json_array_flat(json, "flat");
    bn_json_int(json, NULL, 1);
    bn_json_array(json, NULL);
    bn_json_array_end(json);
    bn_json_array_end(json);
    bn_json_array(json, "list");
    bn_json_null(json, NULL);
    bn_json_object(json, NULL);
    bn_json_object_end(json);
    bn_json_array_end(json);
    bn_json_string(json, "none", NULL);
    bn_json_raw(json, "raw", "[0]");
    bn_json_object_end(json);
}

static void test_writer(void **state)
{
    (void)state;
    char *text;
    bn_json json = {0};
    write_all(&json);
    assert_ok(bn_json_take(&json, &text));
    assert_string_equal(text, "{\"s\": \"a\\\"\\\\\\n\\t\\u0001z\", \"i\": -9223372036854775808, "
                              "\"d\": 0.1, \"nan\": null, \"b\": true, \"flat\": [1, []], "
                              "\"list\": [null, {}], \"none\": null, \"raw\": [0]}\n");
    free(text);
    json = (bn_json){.indent = 2};
    write_all(&json);
    assert_ok(bn_json_take(&json, &text));
    assert_string_equal(text, "{\n  \"s\": \"a\\\"\\\\\\n\\t\\u0001z\",\n"
                              "  \"i\": -9223372036854775808,\n  \"d\": 0.1,\n  \"nan\": null,\n"
                              "  \"b\": true,\n  \"flat\": [1, []],\n  \"list\": [\n    null,\n"
                              "    {}\n  ],\n  \"none\": null,\n  \"raw\": [0]\n}\n");
    cJSON *value;
    assert_ok(bn_json_parse("own", text, strlen(text), &value));
    cJSON_Delete(value);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places_of_errors), cmocka_unit_test(test_all_of_json),
        cmocka_unit_test(test_duplicate_keys),   cmocka_unit_test(test_nul_byte),
        cmocka_unit_test(test_deep_nesting),     cmocka_unit_test(test_file),
        cmocka_unit_test(test_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
