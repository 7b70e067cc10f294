/* Names of a parameter set: found, unknown, given twice, too long; across growth. */
#include <cmocka_all.h>

#include <stdio.h>
#include <string.h>

#include "tensor/param_set.h"

enum { COUNT = 3000 }; /* grows several times */

static void name_of(int i, char name[32])
{
    snprintf(name, 32, "model.layers.%d.weight", i);
}

static void test_names(void **state)
{
    const int64_t shape[2] = {2, 3};
    bn_param_set set;
    bn_param *first, *p;
    char name[32], longer[BN_PARAM_NAME_MAX + 1];
    (void)state;
    bn_param_set_init(&set, BN_F32);
    assert_null(bn_param_set_find(&set, "a"));
    for (int i = 0; i < COUNT; i++) {
        name_of(i, name);
        assert_null(bn_param_set_find(&set, name));
        assert_ok(bn_param_set_add(&set, name, BN_PARAM_LINEAR, 2, shape, i ? &p : &first));
    }
    for (int i = 0; i < COUNT; i++) {
        name_of(i, name);
        assert_ptr_equal(bn_param_set_find(&set, name), set.items[i]);
        assert_string_equal(set.items[i]->name, name);
    }
    assert_ptr_equal(first, set.items[0]);
    name_of(COUNT, name);
    assert_null(bn_param_set_find(&set, name));
    name_of(7, name);
    assert_int_equal(bn_param_set_add(&set, name, BN_PARAM_NORM, 1, shape, &p), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "'model.layers.7.weight' is defined twice"));
    memset(longer, 'a', BN_PARAM_NAME_MAX);
    longer[BN_PARAM_NAME_MAX] = '\0';
    assert_int_equal(bn_param_set_add(&set, longer, BN_PARAM_NORM, 1, shape, &p), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "is longer than 127 bytes"));
    assert_int_equal(set.count, COUNT);
    bn_param_set_clear(&set);
    assert_null(bn_param_set_find(&set, "a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
