/* quantization.rules: reading, messages, what holds for a module, resuming. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "config/config.h"

static const char text[] = "{\"quantization\": {\"weight_scale\": \"row\", \"rules\": ["
                           "{\"match\": \"layers.0\", \"weight_bits\": \"none\"},"
                           "{\"match\": \"model.layers.*.self_attn.o_proj\", \"group_size\": 32, "
                           "\"weight_scale\": \"group\", \"activation_bits\": \"none\"},"
                           "{\"match\": \"mlp\", \"weight_scale\": \"tensor\"}]}}";

static void test_meaning(void **state)
{
    static const struct {
        const char *module;
        bool quantized, activations;
        int group;
    } cases[] = {
        {"model.layers.0.mlp.up_proj", false, false, -1}, /* the first rule that matches */
        {"model.layers.0.self_attn.o_proj", false, false, -1},
        {"model.layers.1.self_attn.o_proj", true, false, 32},
        {"model.layers.1.self_attn.q_proj", true, true, -1}, /* no rule */
        {"model.layers.10.mlp.down_proj", true, true, 0},
        {"lm_head", true, true, -1},
    };
    bn_config c;
    (void)state;
    assert_ok(bn_config_parse(text, "f", &c));
    assert_ok(bn_config_check(&c, "f"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const bn_config of_module = bn_config_of_module(&c, cases[i].module);
        assert_int_equal(bn_config_quantized(&of_module), cases[i].quantized);
        assert_int_equal(bn_config_quantized_activations(&of_module), cases[i].activations);
        assert_int_equal(bn_config_group_size(&of_module), cases[i].group);
    }
    assert_true(bn_config_keeps_float(&c, "lm_head"));
    bn_config_clear(&c);
}

static const struct {
    const char *rules, *message;
} bad[] = {
    {"{}", ": expected a list of objects with match (a pattern) and any of weight_bits, "},
    {"[1]", "[0].match: expected a pattern of module names, found 1"},
    {"[{\"match\": \"a\"}, {\"weight_bits\": \"none\"}]",
     "[1].match: expected a pattern of module names, found {\"weight_bits\":\"none\"}"},
    {"[{\"match\": \"\"}]", "[0].match: expected a pattern of module names, found \"\""},
    {"[{\"match\": \"a\", \"weigth_bits\": 2}]",
     "[0].weigth_bits: unknown key in a rule (value 2); did you mean weight_bits?"},
    {"[{\"match\": \"a\", \"rules\": []}]", "[0].rules: unknown key in a rule (value [])"},
    {"[{\"match\": \"a\", \"mtach\": \"b\"}]",
     "[0].mtach: unknown key in a rule (value \"b\"); did you mean match?"},
    {"[{\"match\": \"a\", \"hidden_size\": 4}]",
     "[0].hidden_size: unknown key in a rule (value 4)"},
    {"[{\"match\": \"a\"}, {\"match\": \"b\", \"weight_bits\": \"no\"}]",
     "[1].weight_bits: expected \"ternary\""},
    {"[{\"match\": \"a\", \"group_size\": 8}]",
     "[0].group_size: expected a whole number from 32 to 1048576, found 8"},
};

static void test_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bn_config c;
        char *json = bn_format("{\"quantization\": {\"rules\": %s}}", bad[i].rules);
        char *set = bn_format("quantization.rules=%s", bad[i].rules);
        char *message = bn_format("f: quantization.rules%s", bad[i].message);
        assert_int_equal(bn_config_parse(json, "f", &c), BN_BAD_CONFIG);
        assert_non_null(message);
        if (strncmp(bn_error_text(), message, strlen(message)) != 0)
            fail_msg("\"%s\" instead of \"%s\"", bn_error_text(), message);
        assert_ok(bn_config_init(&c));
        assert_int_equal(bn_config_set(&c, set), BN_BAD_CONFIG);
        assert_int_equal(c.quantization.rules.count, 0);
        bn_config_clear(&c);
        free(message);
        free(set);
        free(json);
    }
}

static void test_misfit(void **state)
{
    bn_config c;
    (void)state;
    assert_ok(bn_config_init(&c));
    assert_ok(bn_config_set(&c, "quantization.rules=[{\"match\":\"a\"},{\"match\":\"b\","
                                "\"group_size\":129}]"));
    assert_int_equal(bn_config_check(&c, "f"), BN_BAD_CONFIG);
    assert_string_equal(bn_error_text(), "f: quantization.rules[1].group_size: expected at most "
                                         "model.hidden_size (128), found 129");
    assert_ok(bn_config_set(&c, "quantization.rules=[{\"match\":\"a\","
                                "\"scale_estimator\":\"learned\"}]"));
    assert_ok(bn_config_check(&c, "f"));
    assert_ok(bn_config_set(&c, "quantization.warmup_fraction=0.25"));
    assert_int_equal(bn_config_check(&c, "f"), BN_BAD_CONFIG);
    assert_string_equal(
        bn_error_text(),
        "f: quantization.rules[0].scale_estimator: \"learned\" starts from the "
        "first weights: expected warmup_fraction 0 and ramp_steps 0, found 0.25 and "
        "0");
    bn_config_clear(&c);
}

static void test_resume(void **state)
{
    bn_config saved, now;
    (void)state;
    assert_ok(bn_config_parse(text, "f", &saved));
    assert_ok(bn_config_copy(&saved, &now));
    assert_ok(bn_config_check_resume(&saved, &now));
    /* The row scales of the section need no group size, a rule may. */
    assert_ok(bn_config_set(&now, "quantization.group_size=32"));
    assert_int_equal(bn_config_check_resume(&saved, &now), BN_BAD_CONFIG);
    assert_ok(bn_config_set(&now, "quantization.group_size=64"));
    assert_ok(bn_config_set(&now, "quantization.rules=[]"));
    assert_int_equal(bn_config_check_resume(&saved, &now), BN_BAD_CONFIG);
    assert_non_null(strstr(bn_error_text(),
                           "quantization.rules: the checkpoint was trained with [{\"match\": "
                           "\"layers.0\", \"weight_bits\": \"none\"}, "));
    assert_non_null(strstr(bn_error_text(), "and cannot go on with []"));
    bn_config_clear(&saved);
    bn_config_clear(&now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meaning),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_misfit),
        cmocka_unit_test(test_resume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
