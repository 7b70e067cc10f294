/* Gradients of whole models, against differences with frozen quantizers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/cpu.h"
#include "cmocka_all.h"
#include "model/classifier.h"
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
    assert_true(check.elements > 300);
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
        {"model.hidden_act=silu", "model.tie_word_embeddings=false"},
        {"quantization.activation_bits=none", NULL},
        {"quantization.modules_to_not_convert=down_proj", "model.tie_word_embeddings=false"},
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        check_variant(variants[i], variants[i][1] ? 2 : 1, true);
    static const char *const twin[] = {"quantization.weight_bits=none"};
    check_variant(twin, 1, false);
}

/* A small classifier learns a nonlinear rule with ternary weights. */
static void test_classifier_learns(void **state)
{
    (void)state;
    enum { N = 256, IN = 8 };
    const int64_t sizes[] = {IN, 64, 2};
    const bn_quant_spec spec = {
        .ternary_weights = true, .group_size = 32, .int8_activations = true};
    bn_backend *be;
    bn_classifier *c;
    bn_buffer memory = {0}, arena = {0}, moments[2] = {{0}, {0}}, norm_memory = {0};
    assert_ok(bn_ref_backend_new(BN_F32, &be));
    assert_ok(bn_classifier_new(be, sizes, 2, BN_ACT_RELU2, &spec, 5, &c));
    assert_ok(be->alloc(be, N * IN * 4 + N * 4, &memory));
    bn_tensor x = bn_tensor_at(bn_tensor_2d(BN_F32, N, IN), &memory, 0);
    bn_tensor labels = bn_tensor_at(bn_tensor_1d(BN_I32, N), &memory, N * IN * 4);
    bn_rng rng = bn_rng_of(1, 1);
    float *xs = bn_tensor_data(&x);
    int32_t *ys = bn_tensor_data(&labels);
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < IN; k++)
            xs[i * IN + k] = (float)bn_rng_normal(&rng);
        ys[i] = xs[i * IN] * xs[i * IN + 1] > 0; /* not linearly separable */
    }
    bn_tape *tape;
    assert_ok(bn_tape_new(be, &tape));
    bn_graph g = {.tape = tape};
    bn_value logits = bn_classifier_forward(c, &g, bn_tape_input(tape, &x));
    bn_value loss = bn_cross_entropy(tape, logits, bn_tape_input(tape, &labels), -100);
    assert_ok(bn_tape_plan(tape, loss));
    assert_ok(be->alloc(be, bn_tape_memory_of(tape).arena, &arena));
    assert_ok(bn_tape_bind(tape, &arena));
    for (int i = 0; i < 2; i++)
        assert_ok(be->alloc(be, c->params.block_bytes, &moments[i]));
    assert_ok(be->alloc(be, 128, &norm_memory));
    bn_tensor norm = bn_tensor_at(bn_tensor_1d(BN_F32, 1), &norm_memory, 0);
    bn_tensor p = bn_param_set_flat(&c->params, &c->values);
    bn_tensor grad = bn_param_set_flat(&c->params, &c->grads);
    bn_tensor m = bn_param_set_flat(&c->params, &moments[0]);
    bn_tensor v = bn_param_set_flat(&c->params, &moments[1]);
    double first = 0, last = 0;
    for (int step = 1; step <= 300; step++) {
        bn_adamw hyper = {.lr = 5e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .step = step};
        assert_ok(be->fill_zero(be, &grad));
        assert_ok(bn_tape_forward(tape, NULL));
        assert_ok(bn_backend_get_scalar(be, bn_tape_tensor(tape, loss), &last));
        if (step == 1)
            first = last;
        assert_ok(bn_tape_backward(tape, NULL, 1));
        assert_ok(be->norm(be, &grad, &norm));
        assert_ok(be->adamw(be, &hyper, &p, &grad, &m, &v, &norm));
    }
    print_message("classifier: loss %.3f -> %.3f\n", first, last);
    assert_true(first > 0.5 && last < 0.2);
    bn_tape_free(tape);
    bn_buffer *buffers[] = {&memory, &arena, &moments[0], &moments[1], &norm_memory};
    for (int i = 0; i < 5; i++)
        be->release(be, buffers[i]);
    bn_classifier_free(c);
    bn_backend_free(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transformer),
        cmocka_unit_test(test_classifier_learns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
