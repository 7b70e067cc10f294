/* Gradients of whole models, against differences with frozen quantizers. */
#include "base/rng.h"
#include "cmocka_all.h"
#include "model/model_check.h"

static const char base[] =
    "{\"model\": {\"hidden_size\": 32, \"intermediate_size\": 48, \"num_hidden_layers\": 2,"
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"max_position_embeddings\": 16,"
    "\"initializer_range\": 0.2}, \"quantization\": {\"group_size\": 32},"
    "\"training\": {\"seq_len\": 16}}";

static void check_variant(const char *const *sets, int n, bool quantized)
{
    bn_config config;
    bn_model_check check;
    assert_ok(bn_config_parse(base, "test", &config));
    for (int i = 0; i < n; i++)
        assert_ok(bn_config_set(&config, sets[i]));
    assert_ok(bn_config_check(&config, "test"));
    assert_ok(bn_model_check_gradients(&config, 17, 2, 7, 24, 11, &check));
    print_message("%s: %lld sites, %lld elements, errors %.2g (routes) %.2g (numeric, %s)\n",
                  n ? sets[0] : "default", (long long)check.sites, (long long)check.elements,
                  check.route_error, check.numeric_error, check.worst);
    assert_true(check.loss_difference <= 1e-12);
    assert_true(check.route_error <= 1e-9);
    assert_true(check.numeric_error <= 1e-5);
    assert_true(check.elements > 100);
    assert_int_equal(check.sites > 0, quantized);
    bn_config_clear(&config);
}

static void test_transformer(void **state)
{
    (void)state;
    static const char *const variants[][2] = {
        {"quantization.weight_scale=group", NULL},
        {"quantization.weight_scale=tensor", NULL},
        {"quantization.weight_scale=row", "quantization.activation_scale=tensor"},
        {"quantization.activation_bits=4", "quantization.activation_transform=hadamard"},
        {"quantization.activation_scale=group", "quantization.activation_bits=4"},
        {"quantization.activation_scale=group", "quantization.weight_scale=row"},
        {"model.hidden_act=silu", "model.tie_word_embeddings=false"},
        {"quantization.activation_bits=none", NULL},
        {"quantization.modules_to_not_convert=down_proj", "model.tie_word_embeddings=false"},
        {"quantization.rules=[{\"match\":\"k_proj\",\"activation_scale\":\"tensor\"},"
         "{\"match\":\"layers.1.self_attn.q_proj\",\"activation_bits\":\"none\"},"
         "{\"match\":\"up_proj\",\"weight_bits\":\"none\"}]",
         NULL},
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        check_variant(variants[i], variants[i][1] ? 2 : 1, true);
    static const char *const adapters[][2] = {
        {"adapter.base=any", "adapter.lora_alpha=5"},
        {"adapter.base=any", "quantization.activation_bits=none"},
        {"adapter.base=any", "adapter.target_modules=k_proj,layers.1.mlp"},
    };
    for (size_t i = 0; i < sizeof adapters / sizeof *adapters; i++)
        check_variant(adapters[i], 2, true);
    static const char *const twin[] = {"quantization.weight_bits=none"};
    check_variant(twin, 1, false);
}

static void test_classifier(void **state)
{
    (void)state;
    static const char *const variants[][5] = {
        {"quantization.weight_scale=group", "model.kind=mlp", "model.input_size=40",
         "model.num_labels=7", "model.num_hidden_layers=5"},
        {"quantization.weight_scale=tensor", "model.kind=mlp", "model.input_size=5",
         "model.num_labels=2", "model.hidden_act=silu"},
        {"quantization.modules_to_not_convert=layers.0", "model.kind=mlp", "model.input_size=40",
         "model.num_labels=300", "model.num_hidden_layers=5"},
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        check_variant(variants[i], 5, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transformer),
        cmocka_unit_test(test_classifier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
