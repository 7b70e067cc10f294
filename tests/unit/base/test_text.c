/* Text, lists, numbers, edit distance, sizes, the error record. */
#include "cmocka_all.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/text.h"

static void test_text_grows(void **state)
{
    (void)state;
    bn_text text = {0};
    char *out;
    for (int i = 0; i < 1000; i++)
        bn_text_addf(&text, "%d,", i);
    bn_text_add_bytes(&text, "end", 2);
    assert_int_equal(text.size, 10 + 90 * 2 + 900 * 3 + 1000 + 2);
    assert_ok(bn_text_take(&text, &out));
    assert_string_equal(out + strlen(out) - 6, "999,en");
    free(out);
    assert_ok(bn_text_take(&text, &out));
    assert_string_equal(out, "");
    free(out);
    char *formatted = bn_format("%s-%d", "a", 7);
    assert_string_equal(formatted, "a-7");
    free(formatted);
}

static void test_strings(void **state)
{
    (void)state;
    bn_strings a = {0}, b;
    assert_ok(bn_strings_add(&a, "b"));
    assert_ok(bn_strings_add_bytes(&a, "abc", 1));
    assert_ok(bn_strings_add(&a, "A"));
    assert_ok(bn_strings_copy(&a, &b));
    assert_true(bn_strings_equal(&a, &b));
    bn_strings_sort(&a);
    assert_string_equal(a.items[0], "A");
    assert_string_equal(a.items[1], "a");
    assert_string_equal(a.items[2], "b");
    assert_false(bn_strings_equal(&a, &b));
    bn_strings_clear(&a);
    assert_false(bn_strings_equal(&a, &b));
    bn_strings_clear(&b);
    bn_strings_clear(&b);
    assert_true(bn_strings_equal(&a, &b));
}

static void test_edit_distance(void **state)
{
    (void)state;
    assert_int_equal(bn_edit_distance("", ""), 0);
    assert_int_equal(bn_edit_distance("abc", ""), 3);
    assert_int_equal(bn_edit_distance("", "abc"), 3);
    assert_int_equal(bn_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(bn_edit_distance("hiden_size", "hidden_size"), 1);
    assert_int_equal(bn_edit_distance("hdiden", "hidden"), 1); /* neighbours swapped */
    assert_int_equal(bn_edit_distance("Hidden-Size", "hidden_size"), 0);
    bn_nearest nearest = {.wanted = "learning_rat"};
    bn_nearest_offer(&nearest, "min_learning_rate");
    bn_nearest_offer(&nearest, "learning_rate");
    bn_nearest_offer(&nearest, "log_interval");
    assert_string_equal(nearest.best, "learning_rate");
    nearest = (bn_nearest){.wanted = "zebra"};
    bn_nearest_offer(&nearest, "learning_rate");
    bn_nearest_offer(&nearest, "x");
    assert_null(nearest.best);
    nearest = (bn_nearest){.wanted = "x"};
    bn_nearest_offer(&nearest, "n");
    assert_null(nearest.best);
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0 B"},
                 {1023, "1023 B"},
                 {1024, "1.0 KiB"},
                 {1536, "1.5 KiB"},
                 {1048575, "1.0 MiB"},
                 {UINT64_C(3435973837), "3.2 GiB"},
                 {UINT64_MAX, "16.0 EiB"}};
    char buffer[BN_SIZE_TEXT];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(bn_size_text(cases[i].bytes, buffer), cases[i].text);
}

static void test_numbers(void **state)
{
    (void)state;
    int64_t i;
    uint64_t u;
    double d;
    assert_true(bn_parse_i64("-9223372036854775808", &i) && i == INT64_MIN);
    assert_false(bn_parse_i64("9223372036854775808", &i));
    assert_true(bn_parse_u64("18446744073709551615", &u) && u == UINT64_MAX);
    assert_true(bn_parse_f64("1e-3", &d) && d == 1e-3);
    static const char *const bad[] = {"", " 1", "1 ", "1x", "x", "1.5.2", "--1", "1e999", "inf"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        assert_false(bn_parse_i64(bad[k], &i));
        assert_false(bn_parse_u64(bad[k], &u));
        assert_false(bn_parse_f64(bad[k], &d));
    }
    assert_false(bn_parse_u64("-1", &u));
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {{"1", 1},          {"4096", 4096},           {"100B", 100},
                 {"2K", 2048},      {"1.5KiB", 1536},         {"3 MiB", 3 << 20},
                 {"0.5G", 1 << 29}, {"1T", (uint64_t)1 << 40}};
    static const char *const no_sizes[] = {"",     "K",   "0",    "0.1", "-1K", "1k", "1KB",
                                           "1 K ", "1Gi", "1e30", "inf", "1P",  " 1", "1  K"};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        assert_true(bn_parse_size(sizes[k].text, &u) && u == sizes[k].bytes);
    for (size_t k = 0; k < sizeof no_sizes / sizeof *no_sizes; k++)
        assert_false(bn_parse_size(no_sizes[k], &u));
    assert_false(bn_parse_i64("1.5", &i));
}

static void test_number_text_is_exact(void **state)
{
    (void)state;
    char text[BN_NUMBER_TEXT];
    assert_string_equal(bn_number_text(0.1, text), "0.1");
    assert_string_equal(bn_number_text(1e-5, text), "1e-05");
    assert_string_equal(bn_number_text(10000, text), "10000");
    double corners[] = {0, DBL_MIN, DBL_MAX, DBL_TRUE_MIN, 1.0 / 3, 0.1 + 0.2};
    for (size_t i = 0; i < sizeof corners / sizeof *corners; i++)
        assert_true(strtod(bn_number_text(corners[i], text), NULL) == corners[i]);
    bn_rng rng = bn_rng_of(1, 1);
    for (int i = 0; i < 10000; i++) {
        double value = bn_rng_normal(&rng);
        assert_true(strtod(bn_number_text(value, text), NULL) == value);
    }
}

static void test_error_record(void **state)
{
    (void)state;
    assert_int_equal(bn_error(BN_IO, "disk %d", 7), BN_IO);
    assert_int_equal(bn_error_in(BN_IO, "file"), BN_IO);
    assert_string_equal(bn_error_text(), "file: disk 7");
    assert_int_equal(bn_error_in(BN_OK, "file"), BN_OK);
    assert_string_equal(bn_error_text(), "file: disk 7");
    assert_int_equal(bn_error_in(BN_IO, "file"), BN_IO); /* it says so already */
    assert_string_equal(bn_error_text(), "file: disk 7");
    assert_int_equal(bn_error_in(BN_IO, "fil"), BN_IO);
    assert_string_equal(bn_error_text(), "fil: file: disk 7");
    /* One line, and nothing that steers a terminal, whatever a file says. */
    assert_int_equal(bn_error(BN_BAD_DATA, "a\tb\r\nc\x1b[2J\x7f \xc3\xa9"), BN_BAD_DATA);
    assert_string_equal(bn_error_text(), "a b  c?[2J? \xc3\xa9");
    bn_error_clear();
    assert_string_equal(bn_error_text(), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_grows),    cmocka_unit_test(test_strings),
        cmocka_unit_test(test_edit_distance), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_numbers),       cmocka_unit_test(test_number_text_is_exact),
        cmocka_unit_test(test_error_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
