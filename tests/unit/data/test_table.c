/* Labelled tables: what is read, what is refused, which rows come when. */
#include <stdlib.h>

#include "data/table.h"
#include "unit/data/data_fixture.h"

static bn_table *open_text(const char *text, int64_t features, int64_t classes)
{
    bn_table *table;
    put_text("table.csv", text);
    assert_ok(bn_table_open("table.csv", features, classes, &table));
    return table;
}

static void test_forms(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "1,2,0\n-3.5,4e1,2\n",
        "1.000e+00 2.000e+00 0.000e+00\r\n-3.5 40 2.0\r\n",
        "# written by numpy.savetxt\nwidth,height,class\n\n 1 ; 2 ; 0 \n-3.5;40;2",
        "\t1\t2\t0\n-3.5, 40, 2\n# end",
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        bn_table *t = open_text(forms[i], 2, 3);
        assert_int_equal(bn_table_rows(t), 2);
        assert_string_equal(bn_table_name(t), "table.csv");
        assert_true(bn_table_features(t, 0)[0] == 1.0f && bn_table_features(t, 0)[1] == 2.0f);
        assert_true(bn_table_features(t, 1)[0] == -3.5f && bn_table_features(t, 1)[1] == 40.0f);
        assert_int_equal(bn_table_label(t, 0), 0);
        assert_int_equal(bn_table_label(t, 1), 2);
        bn_table_free(t);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"", "expected labelled examples, found none"},
        {"a,b,c\n", "found none"},
        {"1,2,0\n1,0\n", "line 2: expected 2 features and a class, found fewer fields"},
        {"1,2,3,0\n", "line 1: expected 2 features and a class, found more fields"},
        {"1,x,0\n", "line 1, field 2: expected a number, found \"x\""},
        {"1,2,0\na,b,c\n", "line 2, field 1"},
        {"1,,0\n", "field 2: expected a number, found \"\""},
        {"1,2,0,\n", "line 1: ends in a separator"},
        {"1,2x,0\n", "field 2"},
        {"1,nan,0\n", "field 2: expected a number, found \"nan\""},
        {"1,1e99,0\n", "field 2: expected a number, found \"1e99\""},
        {"1,2,3\n", "line 1: the class, its last field, is 3: expected a whole number from 0 to 2"},
        {"1,2,-1\n", "is -1"},
        {"1,2,0.5\n", "is 0.5"},
    };
    bn_table *t;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_text("bad.csv", bad[i].text);
        assert_int_equal(bn_table_open("bad.csv", 2, 3, &t), BN_BAD_DATA);
        assert_null(t);
        assert_error_has("bad.csv: ");
        assert_error_has(bad[i].part);
    }
    put_file("bad.csv", "1,2,0\n1\0,2,0\n", 13);
    assert_int_equal(bn_table_open("bad.csv", 2, 3, &t), BN_BAD_DATA);
    assert_error_has("zero byte");
    assert_int_equal(bn_table_open("missing.csv", 2, 3, &t), BN_NO_INPUT);
}

enum { ROWS = 1000, BATCH = 64 };

/* Row i holds the number i. */
static bn_table *numbered(void)
{
    char *text = malloc(ROWS * 16), *at = text;
    for (int i = 0; i < ROWS; i++)
        at += sprintf(at, "%d,%d\n", i, i % 5);
    bn_table *table = open_text(text, 1, 5);
    free(text);
    return table;
}

static void test_split(void **state)
{
    (void)state;
    bn_table *t = numbered();
    bn_rows train, held;
    int seen[ROWS] = {0}, late = 0;
    float x[BATCH];
    int32_t labels[BATCH];
    assert_ok(bn_table_split(t, 0.25, &train, &held));
    assert_int_equal(train.count, 750);
    assert_int_equal(held.count, 250);
    for (int64_t at = 0; at < held.count; at += BATCH) {
        const int64_t n = bn_rows_copy(held, at, BATCH, x, labels);
        assert_int_equal(n, at + BATCH <= 250 ? BATCH : 250 - at);
        for (int64_t i = 0; i < n; i++) {
            assert_int_equal(labels[i], (int)x[i] % 5);
            seen[(int)x[i]]++;
            late += x[i] >= 750;
        }
        for (int64_t i = n; i < BATCH; i++)
            assert_true(labels[i] == BN_LABEL_IGNORE && x[i] == 0);
    }
    assert_in_range(late, 40, 90); /* not the end of the file: 62.5 of 250 on average */
    for (int64_t i = 0; i < train.count; i++) {
        assert_int_equal(bn_rows_copy(train, i, 1, x, labels), 1);
        seen[(int)x[0]]++;
    }
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(seen[i], 1);
    assert_ok(bn_table_split(t, 0, &train, &held));
    assert_int_equal(held.count, 0);
    assert_int_equal(bn_table_split(t, 1, &train, &held), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "its 1000 examples leave none to train on"));
    bn_table_free(t);
    bn_table_free(NULL);
}

static void test_epochs(void **state)
{
    (void)state;
    bn_table *t = numbered();
    bn_row_batcher a = {.rows = bn_table_all(t), .state.seed = 3}, b;
    float x[ROWS], again[ROWS];
    int32_t labels[ROWS];
    int seen[ROWS] = {0}, same = 0;
    bn_row_batcher_next(&a, ROWS, x, labels);
    for (int i = 0; i < ROWS; i++)
        seen[(int)x[i]]++;
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(seen[i], 1);
    bn_row_batcher_next(&a, ROWS, again, labels);
    assert_int_equal(a.state.epoch, 1);
    for (int i = 0; i < ROWS; i++)
        same += x[i] == again[i];
    assert_in_range(same, 0, 10); /* another order */
    /* From a saved place, and in other portions, the same rows follow. */
    b = (bn_row_batcher){.rows = a.rows, .state = {.seed = 3, .epoch = 0, .index = 990}};
    bn_row_batcher_next(&b, 10, x, labels);
    bn_row_batcher_next(&b, 7, x, labels);
    for (int i = 0; i < 7; i++)
        assert_true(x[i] == again[i]);
    bn_table_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_epochs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
