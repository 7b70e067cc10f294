/* --set, copies, comparison for resume, and what values mean. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/row.h"

static bn_config config;

static int setup(void **state)
{
    (void)state;
    return bn_config_init(&config);
}

static int teardown(void **state)
{
    (void)state;
    bn_config_clear(&config);
    return 0;
}

static void set(const char *assignment)
{
    assert_ok(bn_config_set(&config, assignment));
}

static void test_every_type(void **state)
{
    (void)state;
    set("model.hidden_size=256");
    assert_int_equal(config.model.hidden_size, 256);
    set("training.max_steps=1e6");
    assert_int_equal(config.training.max_steps, 1000000);
    set("training.learning_rate=3e-3");
    assert_true(config.training.learning_rate == 3e-3);
    set("model.tie_word_embeddings=false");
    assert_false(config.model.tie_word_embeddings);
    set("quantization.activation_bits=none");
    assert_int_equal(config.quantization.activation_bits, BN_ACTIVATION_BITS_NONE);
    set("quantization.activation_bits=8");
    assert_int_equal(config.quantization.activation_bits, BN_ACTIVATION_BITS_8);
    set("data.train=a=b.txt");
    assert_string_equal(config.data.train, "a=b.txt");
    set("data.validation=v.txt");
    assert_string_equal(config.data.validation, "v.txt");
    set("data.validation=null");
    assert_null(config.data.validation);
    set("output_dir=runs/x");
    assert_string_equal(config.output_dir, "runs/x");
    set("model.n_layer=7");
    assert_int_equal(config.model.num_hidden_layers, 7);
}

static void test_lists(void **state)
{
    (void)state;
    const bn_strings *list = &config.quantization.modules_to_not_convert;
    set("quantization.modules_to_not_convert=lm_head, layers.0,");
    assert_int_equal(list->count, 2);
    assert_string_equal(list->items[0], "lm_head");
    assert_string_equal(list->items[1], "layers.0");
    set("quantization.modules_to_not_convert=[\"a,b\"]");
    assert_int_equal(list->count, 1);
    assert_string_equal(list->items[0], "a,b");
    set("quantization.modules_to_not_convert=");
    assert_int_equal(list->count, 0);
}

static void test_errors_change_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *assignment, *message;
    } cases[] = {
        {"model.hidden_size", "--set: expected section.key=value, found 'model.hidden_size'"},
        {"=3", "--set: expected section.key=value, found '=3'"},
        {"model.hidden_size=big",
         "--set: model.hidden_size: expected a whole number from 1 to 1048576, found big"},
        {"model.hidden_size=",
         "--set: model.hidden_size: expected a whole number from 1 to 1048576, found nothing"},
        {"model.hiden_size=3",
         "--set: model.hiden_size: unknown key (value 3); did you mean model.hidden_size?"},
        {"modle.hidden_size=3",
         "--set: modle.hidden_size: unknown key (value 3); did you mean model.hidden_size?"},
        {"learning_rate=3",
         "--set: learning_rate: unknown key (value 3); did you mean training.learning_rate?"},
        {"model=3", "--set: model: unknown key (value 3)"},
        {"model.dropout=1", "--set: model.dropout: expected a number from 0 to below 1, found 1"},
        {"model.tie_word_embeddings=yes",
         "--set: model.tie_word_embeddings: expected true or false, found yes"},
        {"data.train=", "--set: data.train: expected a non-empty string or null, found nothing"},
        {"training.optimizer=lion",
         "--set: training.optimizer: expected \"adamw\", \"muon\", \"sgd\" or \"adamw8bit\", found "
         "lion"},
        {"quantization.modules_to_not_convert=[1]",
         "--set: quantization.modules_to_not_convert: expected a list of non-empty strings, found "
         "[1]"},
        {"quantization.modules_to_not_convert=[",
         "--set: quantization.modules_to_not_convert: expected a list of non-empty strings, found "
         "["},
    };
    bn_config before;
    bn_config_diff diff;
    assert_ok(bn_config_copy(&config, &before));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(bn_config_set(&config, cases[i].assignment), BN_BAD_CONFIG);
        assert_string_equal(bn_error_text(), cases[i].message);
    }
    assert_ok(bn_config_compare(&before, &config, &diff));
    assert_int_equal(diff.count, 0);
    bn_config_diff_clear(&diff);
    bn_config_clear(&before);
}

static void test_compare(void **state)
{
    (void)state;
    bn_config saved;
    bn_config_diff diff;
    assert_ok(bn_config_copy(&config, &saved));
    set("training.max_steps=10");
    set("training.threads=2");
    set("data.validation=v");
    assert_ok(bn_config_check_resume(&saved, &config));
    set("quantization.group_size=128"); /* counts where scales are per group */
    assert_int_equal(bn_config_check_resume(&saved, &config), BN_BAD_CONFIG);
    saved.quantization.weight_scale = config.quantization.weight_scale = BN_WEIGHT_SCALE_TENSOR;
    assert_ok(bn_config_check_resume(&saved, &config));
    saved.quantization.activation_scale = BN_ACTIVATION_SCALE_GROUP; /* and where steps are */
    config.quantization.activation_scale = BN_ACTIVATION_SCALE_GROUP;
    assert_int_equal(bn_config_check_resume(&saved, &config), BN_BAD_CONFIG);
    saved.quantization.activation_scale = BN_ACTIVATION_SCALE_TOKEN;
    config.quantization.activation_scale = BN_ACTIVATION_SCALE_TOKEN;
    saved.quantization.weight_scale = config.quantization.weight_scale = BN_WEIGHT_SCALE_GROUP;
    set("quantization.group_size=64");
    set("model.hidden_act=silu");
    set("quantization.modules_to_not_convert=a,b");
    assert_ok(bn_config_compare(&saved, &config, &diff));
    static const bn_config_difference expected[] = {
        {"model.hidden_act", BN_CFG_ARCH, NULL, NULL},
        {"quantization.modules_to_not_convert", BN_CFG_ARCH, NULL, NULL},
        {"data.validation", BN_CFG_SCHEDULE, NULL, NULL},
        {"training.threads", BN_CFG_RUNTIME, NULL, NULL},
        {"training.max_steps", BN_CFG_SCHEDULE, NULL, NULL},
    };
    static const char *const values[][2] = {{"\"relu2\"", "\"silu\""},
                                            {"[\"lm_head\"]", "[\"a\", \"b\"]"},
                                            {"null", "\"v\""},
                                            {"0", "2"},
                                            {"2000", "10"}};
    assert_int_equal(diff.count, 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(diff.items[i].key, expected[i].key);
        assert_int_equal(diff.items[i].role, expected[i].role);
        assert_string_equal(diff.items[i].a, values[i][0]);
        assert_string_equal(diff.items[i].b, values[i][1]);
    }
    bn_config_diff_clear(&diff);
    assert_int_equal(bn_config_check_resume(&saved, &config), BN_BAD_CONFIG);
    assert_string_equal(bn_error_text(), "model.hidden_act: the checkpoint was trained with "
                                         "\"relu2\" and cannot go on with \"silu\"; "
                                         "quantization.modules_to_not_convert: [\"lm_head\"] -> "
                                         "[\"a\", \"b\"]");
    bn_config_clear(&saved);
}

static void test_meaning(void **state)
{
    (void)state;
    assert_int_equal(bn_config_group_size(&config), 64);
    set("quantization.weight_scale=tensor");
    assert_int_equal(bn_config_group_size(&config), 0);
    set("quantization.weight_scale=row");
    assert_int_equal(bn_config_group_size(&config), -1);
    assert_true(bn_config_quantized(&config) && bn_config_quantized_activations(&config));
    set("quantization.activation_bits=none");
    assert_true(bn_config_quantized(&config) && !bn_config_quantized_activations(&config));
    set("quantization.activation_bits=8");
    set("quantization.weight_bits=none");
    assert_false(bn_config_quantized(&config) || bn_config_quantized_activations(&config));
    assert_int_equal(bn_config_kv_heads(&config), 4);
    set("model.num_key_value_heads=2");
    assert_int_equal(bn_config_kv_heads(&config), 2);
    assert_string_equal(bn_config_word("model.hidden_act", BN_HIDDEN_ACT_SILU), "silu");
    assert_null(bn_config_word("model.hidden_act", 2));
    assert_null(bn_config_word("model.hidden_size", 0));
}

static void test_modules_to_not_convert(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *module;
        bool covered;
    } cases[] = {
        {"lm_head", "lm_head", true},
        {"lm_head", "model.layers.0.mlp.up_proj", false},
        {"down_proj", "model.layers.3.mlp.down_proj", true},
        {"down", "model.layers.3.mlp.down_proj", false},
        {"layers.0", "model.layers.0.mlp.down_proj", true},
        {"layers.0", "model.layers.10.mlp.down_proj", false},
        {"layers.1", "model.layers.10.mlp.down_proj", false},
        {"model.layers.*.mlp", "model.layers.7.mlp.up_proj", true},
        {"model.layers.*.mlp", "model.layers.7.self_attn.q_proj", false},
        {"?_proj", "model.layers.7.self_attn.q_proj", true},
        {"*", "anything.at.all", true},
        {"x,down_proj", "a.down_proj", true},
        {"", "lm_head", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *assignment = bn_format("quantization.modules_to_not_convert=%s", cases[i].pattern);
        set(assignment);
        free(assignment);
        if (bn_config_keeps_float(&config, cases[i].module) != cases[i].covered)
            fail_msg("%s against %s", cases[i].pattern, cases[i].module);
    }
}

int main(void)
{
#define WITH_CONFIG(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_CONFIG(test_every_type),
        WITH_CONFIG(test_lists),
        WITH_CONFIG(test_errors_change_nothing),
        WITH_CONFIG(test_compare),
        WITH_CONFIG(test_meaning),
        WITH_CONFIG(test_modules_to_not_convert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
