/* Reading configs: defaults, aliases, and the text of every error. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "config/config.h"
#include "config/row.h"

static void test_defaults(void **state)
{
    (void)state;
    bn_config c;
    assert_ok(bn_config_init(&c));
    assert_ok(bn_config_check(&c, "defaults"));
    assert_int_equal(c.model.kind, BN_KIND_TRANSFORMER);
    assert_int_equal(c.model.vocab_size, 0);
    assert_int_equal(c.model.hidden_size, 128);
    assert_int_equal(bn_config_kv_heads(&c), 4);
    assert_int_equal(c.model.hidden_act, BN_HIDDEN_ACT_RELU2);
    assert_true(c.model.rms_norm_eps == 1e-5);
    assert_true(c.model.tie_word_embeddings);
    assert_int_equal(c.quantization.weight_bits, BN_WEIGHT_BITS_TERNARY);
    assert_int_equal(c.quantization.activation_bits, BN_ACTIVATION_BITS_8);
    assert_int_equal(bn_config_group_size(&c), 64);
    assert_int_equal(c.quantization.modules_to_not_convert.count, 1);
    assert_string_equal(c.quantization.modules_to_not_convert.items[0], "lm_head");
    assert_null(c.data.validation);
    assert_int_equal(c.training.lr_scheduler, BN_LR_SCHEDULER_TWO_STAGE);
    assert_int_equal(c.training.seed, 1337);
    assert_true(c.training.beta2 == 0.95);
    assert_string_equal(c.output_dir, "runs/small");
    bn_config_clear(&c);
    bn_config_clear(&c);
}

/* Every default passes the check of its own row. */
static void test_defaults_are_valid_values(void **state)
{
    (void)state;
    bn_config c, copy;
    assert_ok(bn_config_init(&c));
    for (int i = 0; i < bn_config_row_count; i++) {
        char *text;
        cJSON *value;
        assert_ok(bn_row_text(&c, &bn_config_rows[i], &text));
        assert_ok(bn_json_parse("default", text, strlen(text), &value));
        assert_ok(bn_row_set_json(&c, &bn_config_rows[i], "default", value));
        cJSON_Delete(value);
        free(text);
    }
    assert_ok(bn_config_init(&copy));
    for (int i = 0; i < bn_config_row_count; i++)
        assert_true(bn_row_equal(&c, &copy, &bn_config_rows[i]));
    bn_config_clear(&c);
    bn_config_clear(&copy);
}

static void test_values(void **state)
{
    (void)state;
    bn_config c;
    assert_ok(bn_config_parse(
        "{\"$schema\": \"x\", \"model\": {\"hidden_size\": 256, \"hidden_act\": \"silu\","
        " \"dropout\": 0.25, \"tie_word_embeddings\": false},"
        " \"quantization\": {\"activation_bits\": \"8\", \"weight_scale\": \"row\","
        " \"modules_to_not_convert\": [\"a\", \"b*\"]},"
        " \"data\": {\"train\": \"x\\u00e9.txt\", \"validation\": \"v.txt\"},"
        " \"training\": {\"seed\": 9007199254740991, \"learning_rate\": 3e-3},"
        " \"output_dir\": \"out\"}",
        "f", &c));
    assert_int_equal(c.model.hidden_size, 256);
    assert_int_equal(c.model.hidden_act, BN_HIDDEN_ACT_SILU);
    assert_true(c.model.dropout == 0.25);
    assert_false(c.model.tie_word_embeddings);
    assert_int_equal(c.quantization.activation_bits, BN_ACTIVATION_BITS_8);
    assert_int_equal(bn_config_group_size(&c), -1);
    assert_int_equal(c.quantization.modules_to_not_convert.count, 2);
    assert_string_equal(c.data.train, "x\xc3\xa9.txt");
    assert_string_equal(c.data.validation, "v.txt");
    assert_true(c.training.seed == BN_CFG_INT_MAX);
    assert_true(c.training.learning_rate == 3e-3);
    assert_string_equal(c.output_dir, "out");
    bn_config_clear(&c);
}

static void test_aliases(void **state)
{
    (void)state;
    bn_config c;
    assert_ok(bn_config_parse(
        "{\"model\": {\"n_layer\": 3, \"n_head\": 2, \"n_embd\": 96, \"block_size\": 64}}", "f",
        &c));
    assert_int_equal(c.model.num_hidden_layers, 3);
    assert_int_equal(c.model.num_attention_heads, 2);
    assert_int_equal(c.model.hidden_size, 96);
    assert_int_equal(c.model.max_position_embeddings, 64);
    bn_config_clear(&c);
}

static const struct {
    const char *text, *message;
} bad[] = {
    /* syntax */
    {"", "f:1:1: JSON text ends too early"},
    {"{\n \"model\": {\n  \"hidden_size\" 1}}", "f:3:17: expected ':'"},
    {"{} x", "f:1:4: text after the end of the JSON value"},
    {"{\"model\": {\"dropout\": 0, \"dropout\": 0}}", "f: key \"dropout\" is given twice"},
    {"{\"model\": {}, \"model\": {}}", "f: key \"model\" is given twice"},
    /* structure */
    {"[]", "f: the configuration: expected an object, found []"},
    {"{\"model\": 3}", "f: model: expected an object, found 3"},
    /* unknown keys */
    {"{\"model\": {\"hiden_size\": 128}}",
     "f: model.hiden_size: unknown key (value 128); did you mean model.hidden_size?"},
    {"{\"model\": {\"learning_rate\": 0.1}}",
     "f: model.learning_rate: unknown key (value 0.1); did you mean training.learning_rate?"},
    {"{\"hidden_size\": 128}",
     "f: hidden_size: unknown key (value 128); did you mean model.hidden_size?"},
    {"{\"n_embd\": 128}", "f: n_embd: unknown key (value 128); did you mean model.hidden_size?"},
    {"{\"trainning\": {}}", "f: trainning: unknown key (value {}); did you mean training?"},
    {"{\"outputdir\": \"x\"}", "f: outputdir: unknown key (value \"x\"); did you mean output_dir?"},
    {"{\"model\": {\"zzzzzz\": null}}", "f: model.zzzzzz: unknown key (value null)"},
    {"{\"training\": {\"lr_schedular\": \"cosine\"}}",
     "f: training.lr_schedular: unknown key (value \"cosine\"); did you mean "
     "training.lr_scheduler?"},
    /* aliases */
    {"{\"model\": {\"n_embd\": 128, \"hidden_size\": 128}}",
     "f: model.n_embd and model.hidden_size are the same key: keep one of them"},
    {"{\"training\": {\"n_layer\": 1}}",
     "f: training.n_layer: unknown key (value 1); did you mean model.num_hidden_layers?"},
    /* types and ranges */
    {"{\"model\": {\"hidden_size\": \"128\"}}",
     "f: model.hidden_size: expected a whole number from 1 to 1048576, found \"128\""},
    {"{\"model\": {\"hidden_size\": 128.5}}",
     "f: model.hidden_size: expected a whole number from 1 to 1048576, found 128.5"},
    {"{\"model\": {\"n_embd\": 0}}",
     "f: model.hidden_size: expected a whole number from 1 to 1048576, found 0"},
    {"{\"training\": {\"seed\": 9007199254740992}}",
     "f: training.seed: expected a whole number from 0 to 9007199254740991, found "
     "9007199254740992"},
    {"{\"training\": {\"max_steps\": 1e300}}",
     "f: training.max_steps: expected a whole number from 1 to 9007199254740991, found 1e+300"},
    {"{\"model\": {\"dropout\": 1}}",
     "f: model.dropout: expected a number from 0 to below 1, found 1"},
    {"{\"model\": {\"dropout\": -0.1}}",
     "f: model.dropout: expected a number from 0 to below 1, found -0.1"},
    {"{\"model\": {\"rope_theta\": null}}",
     "f: model.rope_theta: expected a number from 1 to 1000000000000, found null"},
    {"{\"model\": {\"tie_word_embeddings\": 1}}",
     "f: model.tie_word_embeddings: expected true or false, found 1"},
    {"{\"data\": {\"tokenizer\": null}}",
     "f: data.tokenizer: expected a non-empty string, found null"},
    {"{\"data\": {\"validation\": 3}}",
     "f: data.validation: expected a non-empty string or null, found 3"},
    {"{\"output_dir\": \"\"}", "f: output_dir: expected a non-empty string, found \"\""},
    {"{\"quantization\": {\"modules_to_not_convert\": \"lm_head\"}}",
     "f: quantization.modules_to_not_convert: expected a list of non-empty strings, found "
     "\"lm_head\""},
    {"{\"quantization\": {\"modules_to_not_convert\": [\"a\", 1]}}",
     "f: quantization.modules_to_not_convert: expected a list of non-empty strings, found "
     "[\"a\",1]"},
    {"{\"quantization\": {\"group_size\": 16}}",
     "f: quantization.group_size: expected a whole number from 32 to 1048576, found 16"},
    /* words, those not implemented included */
    {"{\"model\": {\"hidden_act\": \"gelu\"}}",
     "f: model.hidden_act: expected \"relu2\" or \"silu\", found \"gelu\""},
    {"{\"quantization\": {\"weight_bits\": 5}}",
     "f: quantization.weight_bits: expected \"ternary\", \"none\", \"binary\", 2, 3, 4 or 8, found "
     "5"},
    {"{\"quantization\": {\"activation_bits\": 5}}",
     "f: quantization.activation_bits: expected 8, 4 or \"none\", found 5"},
    {"{\"training\": {\"lr_scheduler\": \"step\"}}",
     "f: training.lr_scheduler: expected \"constant\", \"linear\", \"cosine\", \"two-stage\" or "
     "\"wsd\", "
     "found \"step\""},
    {"{\"training\": {\"backward_precision\": \"bfloat16\"}}",
     "f: training.backward_precision: expected \"float32\", \"bf16\" or \"int16\", found "
     "\"bfloat16\""},
};

static void test_errors(void **state)
{
    (void)state;
    bn_config c;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(bn_config_parse(bad[i].text, "f", &c), BN_BAD_CONFIG);
        assert_string_equal(bn_error_text(), bad[i].message);
        assert_null(c.output_dir);
    }
}

/* What does not fit together, as "key=value" changes to the defaults. */
static const struct {
    const char *set[4];
    const char *message;
} misfits[] = {
    {{"model.hidden_size=130"},
     "f: model.hidden_size: expected a multiple of model.num_attention_heads (4), found 130"},
    {{"model.hidden_size=132"},
     "f: model.num_attention_heads: expected an even head size, found hidden_size 132 / 4 heads "
     "= 33"},
    {{"model.kind=mlp", "model.num_labels=3"},
     "f: model.input_size: expected the number of features for model.kind \"mlp\", found 0"},
    {{"model.kind=mlp", "model.input_size=4"},
     "f: model.num_labels: expected 2 or more classes for model.kind \"mlp\", found 0"},
    {{"model.num_key_value_heads=3"},
     "f: model.num_key_value_heads: expected a divisor of model.num_attention_heads (4), found 3"},
    {{"model.num_key_value_heads=8"},
     "f: model.num_key_value_heads: expected a divisor of model.num_attention_heads (4), found 8"},
    {{"training.seq_len=129"},
     "f: training.seq_len: expected at most model.max_position_embeddings (128), found 129"},
    {{"model.vocab_size=255"},
     "f: model.vocab_size: expected 0 or at least 256 for data.tokenizer \"byte\", found 255"},
    {{"quantization.group_size=129"},
     "f: quantization.group_size: expected at most model.hidden_size (128), found 129"},
    {{"model.intermediate_size=32"},
     "f: quantization.group_size: expected at most model.intermediate_size (32), found 64"},
    {{"quantization.activation_transform=hadamard", "model.intermediate_size=200"},
     "f: model.intermediate_size: expected a multiple of 16 for quantization.activation_transform "
     "\"hadamard\", found 200"},
    {{"quantization.activation_scale=group", "quantization.group_size=40"},
     "f: quantization.group_size: expected a multiple of 16 for quantization.activation_scale "
     "\"group\", found 40"},
    {{"training.min_learning_rate=0.1"},
     "f: training.min_learning_rate: expected at most training.learning_rate (0.0015), found 0.1"},
    {{"adapter.base=b", "training.init_from=m"},
     "f: training.init_from: expected null with adapter.base, found \"m\""},
    {{"adapter.base=b", "training.freeze=lm_head"},
     "f: training.freeze: adapters leave their base as it is: expected [] with adapter.base, "
     "found \"lm_head\""},
    {{"adapter.base=b", "training.optimizer=muon"},
     "f: training.optimizer: expected \"adamw\" with adapter.base, found \"muon\""},
    {{"adapter.base=b", "adapter.init_lora_weights=residual", "adapter.lora_alpha=0"},
     "f: adapter.lora_alpha: expected more than 0 for adapter.init_lora_weights \"residual\", "
     "found 0"},
    {{"training.device=gpu"},
     "f: training.device: expected \"auto\", \"cpu\", \"opencl\" or \"opencl:N\", found \"gpu\""},
    {{"training.device=opencl:"},
     "f: training.device: expected \"auto\", \"cpu\", \"opencl\" or \"opencl:N\", found "
     "\"opencl:\""},
};

static void test_misfits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof misfits / sizeof *misfits; i++) {
        bn_config c;
        assert_ok(bn_config_init(&c));
        for (int k = 0; misfits[i].set[k]; k++)
            assert_ok(bn_config_set(&c, misfits[i].set[k]));
        assert_int_equal(bn_config_check(&c, "f"), BN_BAD_CONFIG);
        assert_string_equal(bn_error_text(), misfits[i].message);
        bn_config_clear(&c);
    }
}

/* Settings that only look wrong. */
static void test_fits(void **state)
{
    (void)state;
    static const char *const sets[][2] = {
        {"quantization.group_size=512", "quantization.weight_scale=row"},
        {"quantization.group_size=512", "quantization.weight_bits=none"},
        {"training.device=opencl:1", "model.vocab_size=300"},
        {"training.device=opencl", "model.num_key_value_heads=1"},
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        bn_config c;
        assert_ok(bn_config_init(&c));
        assert_ok(bn_config_set(&c, sets[i][0]));
        assert_ok(bn_config_set(&c, sets[i][1]));
        assert_ok(bn_config_check(&c, "f"));
        bn_config_clear(&c);
    }
}

static void test_files(void **state)
{
    (void)state;
    bn_config c;
    static const char good[] = "{\"output_dir\": \"here\"}", wrong[] = "{\n]";
    assert_ok(bn_fs_write("good.json", good, strlen(good)));
    assert_ok(bn_config_load("good.json", &c));
    assert_string_equal(c.output_dir, "here");
    bn_config_clear(&c);
    assert_ok(bn_fs_write("wrong.json", wrong, strlen(wrong)));
    assert_int_equal(bn_config_load("wrong.json", &c), BN_BAD_CONFIG);
    assert_string_equal(bn_error_text(), "wrong.json:2:1: expected a string in double quotes");
    assert_int_equal(bn_config_load("absent.json", &c), BN_NO_INPUT);
    assert_string_equal(bn_error_text(), "absent.json: cannot read: No such file or directory");

    char *large = calloc(1, (1 << 20) + 1);
    assert_non_null(large);
    assert_ok(bn_fs_write("large.json", large, (1 << 20) + 1));
    free(large);
    assert_int_equal(bn_config_load("large.json", &c), BN_BAD_CONFIG);
    assert_ok(bn_fs_remove("large.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_defaults_are_valid_values),
        cmocka_unit_test(test_values),   cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_errors),   cmocka_unit_test(test_misfits),
        cmocka_unit_test(test_fits),     cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
