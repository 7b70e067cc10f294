/* Hugging Face's packing of ternary weights, and its config.json. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "cmocka_all.h"
#include "interop/hf_config.h"
#include "interop/hf_pack.h"
#include "quant/pack.h"
#include "tensor/tensor.h"

/* The example of the layout: byte (r, c) holds rows r, r+R/4, r+2R/4, r+3R/4. */
static void test_layout(void **state)
{
    (void)state;
    const int8_t codes[8 * 2] = {0, -1, -1, 1, -1, 1, -1, 1, 1, 0, 0, -1, 1, -1, 1, -1};
    const uint8_t expected[4] = {0xa1, 0x18, 0x90, 0x0a};
    uint8_t t2[8], packed[4], back[8];
    bn_hf_fault fault;
    bn_t2_pack(codes, 8, 2, t2);
    bn_hf_pack(t2, 8, 2, packed);
    assert_memory_equal(packed, expected, 4);
    assert_true(bn_hf_unpack(packed, 8, 2, back, &fault));
    assert_memory_equal(back, t2, 8);
    packed[3] |= 0x30; /* second byte row, column 1, bits 4-5: row 1 + 4 */
    assert_false(bn_hf_unpack(packed, 8, 2, back, &fault));
    assert_int_equal(fault.row, 5);
    assert_int_equal(fault.column, 1);
}

/* Against the layout's definition, for columns that fill no byte or register. */
static void test_any_width(void **state)
{
    (void)state;
    enum { OUT = 12, MOST = 19 };
    int8_t codes[OUT * MOST];
    uint8_t t2[OUT * 5], back[OUT * 5], packed[OUT / 4 * MOST];
    bn_hf_fault fault;
    for (int64_t in = 1; in <= MOST; in++) {
        for (int i = 0; i < OUT * (int)in; i++)
            codes[i] = (int8_t)(i * i / 3 % 3 - 1);
        memset(packed, 0, sizeof packed);
        for (int64_t r = 0; r < OUT; r++)
            for (int64_t c = 0; c < in; c++)
                packed[r % (OUT / 4) * in + c] |=
                    (uint8_t)((codes[r * in + c] + 1) << (2 * (r / (OUT / 4))));
        bn_t2_pack(codes, OUT, in, t2);
        assert_true(bn_hf_unpack(packed, OUT, in, back, &fault));
        assert_memory_equal(back, t2, (size_t)(OUT * bn_t2_row_bytes(in)));
        packed[in] |= 0x0c; /* second byte row, column 0, bits 2-3: row 1 + 3 */
        assert_false(bn_hf_unpack(packed, OUT, in, back, &fault));
        assert_int_equal(fault.row, 4);
        assert_int_equal(fault.column, 0);
    }
}

static void test_recover(void **state)
{
    (void)state;
    const float w[] = {0.5f, 0, -0.5f, 2, 2, -2, 0, 0, 0, -1, 0, 1};
    const int8_t codes[] = {1, 0, -1, 1, 1, -1, 0, 0, 0, -1, 0, 1};
    const float scales[] = {0.5f, 2, 1e-5f, 1};
    uint8_t expected[4], t2[4];
    float found[4];
    bn_hf_fault fault;
    bn_t2_pack(codes, 2, 6, expected);
    assert_true(bn_hf_recover(w, 2, 6, 3, t2, found, &fault));
    assert_memory_equal(t2, expected, 4);
    assert_memory_equal(found, scales, sizeof scales);
    assert_false(bn_hf_recover(w, 2, 6, -1, t2, found, &fault));
    assert_int_equal(fault.row, 0);
    assert_int_equal(fault.column, 3);
    assert_true(bn_hf_recover(w + 6, 1, 3, 0, t2, found, &fault));
    assert_true(found[0] == 1); /* nothing but zeros */
}

#define SHAPE                                                                                      \
    "\"vocab_size\":256,\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":2,"      \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2"
#define BITNET      "{\"model_type\":\"bitnet\"," SHAPE
#define LLAMA       "{\"model_type\":\"llama\"," SHAPE
#define QUANT(more) ",\"quantization_config\":{\"quant_method\":\"bitnet\"" more "}}"

static bn_status read_config(const char *json, const bn_strings *set, bn_hf_model *out)
{
    assert_ok(bn_fs_write("config.json", json, strlen(json)));
    return bn_hf_config_read("config.json", set, out);
}

static void expect(const char *json, bn_hf_family family, bn_hf_weights weights, bool divides)
{
    bn_hf_model m;
    assert_ok(read_config(json, NULL, &m));
    assert_int_equal(m.family, family);
    assert_int_equal(m.weights, weights);
    assert_int_equal(m.scale_divides, divides);
    bn_hf_model_clear(&m);
}

static void test_families(void **state)
{
    (void)state;
    bn_hf_model m;
    expect(BITNET "}", BN_HF_BITNET, BN_HF_FLOAT, false);
    expect(BITNET QUANT(""), BN_HF_BITNET, BN_HF_OFFLINE, true);
    expect(BITNET QUANT(",\"linear_class\":\"bitlinear\""), BN_HF_BITNET, BN_HF_OFFLINE, true);
    expect(BITNET QUANT(",\"linear_class\":\"autobitlinear\",\"quantization_mode\":\"offline\""),
           BN_HF_BITNET, BN_HF_OFFLINE, false);
    expect(BITNET QUANT(",\"linear_class\":\"autobitlinear\",\"quantization_mode\":\"online\""),
           BN_HF_BITNET, BN_HF_ONLINE, false);
    expect(LLAMA ",\"weight_bits\":1,\"input_bits\":8}", BN_HF_1BITLLM, BN_HF_ONLINE, false);
    expect(LLAMA "}", BN_HF_LLAMA, BN_HF_FLOAT, false);
    assert_ok(read_config(BITNET ",\"rope_parameters\":{\"rope_theta\":7,\"rope_type\":\"default\"}"
                                 ",\"head_dim\":16,\"hidden_act\":\"silu\"}",
                          NULL, &m));
    assert_true(m.config.model.rope_theta == 7);
    assert_int_equal(m.config.model.hidden_act, BN_HIDDEN_ACT_SILU);
    bn_hf_model_clear(&m);
    assert_ok(read_config(LLAMA "}", NULL, &m)); /* other defaults than BitNet's */
    assert_true(m.config.model.rope_theta == 10000 && m.config.model.rms_norm_eps == 1e-6);
    bn_hf_model_clear(&m);
}

static void refuses(const char *json, const char *reason)
{
    bn_hf_model m;
    assert_int_equal(read_config(json, NULL, &m), BN_BAD_DATA);
    if (!strstr(bn_error_text(), reason) || !strstr(bn_error_text(), "config.json"))
        fail_msg("'%s' was refused because: %s", json, bn_error_text());
}

static void test_refused(void **state)
{
    (void)state;
    refuses("[]", "expected an object");
    refuses("{\"model_type\":\"gpt2\"}", "model_type: expected bitnet or llama, found \"gpt2\"");
    refuses("{\"model_type\":\"bitnet\"}", "vocab_size: expected a whole number, found none");
    refuses(BITNET ",\"vocab_size\":1}", "given twice");
    refuses(BITNET ",\"attention_bias\":true}", "attention_bias");
    refuses(BITNET ",\"head_dim\":32}", "head_dim");
    refuses(BITNET ",\"hidden_act\":\"gelu\"}", "relu2 or silu");
    refuses(BITNET ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}", "rope_scaling");
    refuses(BITNET ",\"rope_parameters\":{\"rope_type\":\"yarn\"}}", "rope_parameters");
    refuses(BITNET ",\"max_position_embeddings\":1.5}", "whole number");
    refuses(BITNET ",\"max_position_embeddings\":1e15}", "whole number");
    refuses(BITNET ",\"rms_norm_eps\":0}", "rms_norm_eps");
    refuses(BITNET ",\"quantization_config\":{\"quant_method\":\"gptq\"}}", "quant_method");
    refuses(BITNET QUANT(",\"linear_class\":\"x\""), "linear_class");
    refuses(BITNET QUANT(",\"quantization_mode\":\"x\""), "quantization_mode");
    refuses(BITNET QUANT(",\"use_rms_norm\":true"), "use_rms_norm");
    refuses(BITNET QUANT(",\"modules_to_not_convert\":[1]"), "modules_to_not_convert");
    refuses(LLAMA QUANT(""), "quantization_config");
    refuses(LLAMA ",\"weight_bits\":2}", "weight_bits");
}

static void test_settings(void **state)
{
    (void)state;
    bn_hf_model m;
    bn_strings set = {0};
    assert_ok(bn_strings_add(&set, "quantization.weight_scale=row"));
    assert_ok(read_config(LLAMA "}", &set, &m));
    assert_int_equal(bn_config_group_size(&m.config), BN_PER_ROW);
    bn_hf_model_clear(&m);
    assert_int_equal(read_config(BITNET QUANT(""), &set, &m), BN_BAD_CONFIG);
    bn_strings_clear(&set);
}

/* What is written reads back, groups included. */
static void test_written(void **state)
{
    (void)state;
    bn_hf_model m;
    bn_config config;
    bn_strings kept = {0};
    char *json;
    assert_ok(bn_config_init(&config));
    assert_ok(bn_strings_add(&kept, "lm_head"));
    for (int group = -1; group <= 64; group += group < 0 ? 1 : 64) {
        config.quantization.weight_scale = group < 0    ? BN_WEIGHT_SCALE_ROW
                                           : group == 0 ? BN_WEIGHT_SCALE_TENSOR
                                                        : BN_WEIGHT_SCALE_GROUP;
        const bn_hf_layout layout = {BN_HF_OFFLINE, "float32", &kept};
        assert_ok(bn_hf_config_write(&config, 300, &layout, &json));
        assert_ok(read_config(json, NULL, &m));
        assert_int_equal(m.weights, BN_HF_OFFLINE);
        assert_false(m.scale_divides);
        assert_int_equal(bn_config_group_size(&m.config), group);
        assert_int_equal(m.config.model.vocab_size, 300);
        assert_true(m.config.model.tie_word_embeddings);
        bn_hf_model_clear(&m);
        free(json);
    }
    bn_strings_clear(&kept);
    bn_config_clear(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),  cmocka_unit_test(test_any_width),
        cmocka_unit_test(test_recover), cmocka_unit_test(test_families),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_settings),
        cmocka_unit_test(test_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
