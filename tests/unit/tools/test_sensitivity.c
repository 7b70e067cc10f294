/* Sensitivity: what is measured by switching layers is what a model with such
 * rules has, and what is proposed is a config. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/sensitivity.h"
#include "unit/model/model_fixture.h"

static const bn_sensitivity_data data = {"text.txt", 2};

static void write_text(void)
{
    FILE *file = fopen("text.txt", "w");
    assert_non_null(file);
    for (int i = 0; i < 700; i++)
        assert_int_not_equal(fputc((int)fixture_token(i), file), EOF);
    assert_int_equal(fclose(file), 0);
}

static bn_sensitivity measure(const fixture *f, bn_loaded *loaded)
{
    bn_sensitivity s;
    fixture_save(f, "model.h5");
    assert_ok(bn_loaded_open("model.h5", f->backend, false, loaded));
    assert_ok(bn_sensitivity_measure(loaded, &data, &s));
    return s;
}

/* Loss of the same weights under other rules (a JSON array). */
static double loss_under(fixture *f, const char *rules)
{
    bn_loaded loaded;
    char *set = bn_format("quantization.rules=%s", rules);
    assert_ok(bn_config_set(&f->config, set));
    bn_sensitivity s = measure(f, &loaded);
    const double loss = s.loss;
    assert_ok(bn_config_set(&f->config, "quantization.rules=[]"));
    bn_sensitivity_clear(&s);
    bn_loaded_clear(&loaded);
    free(set);
    return loss;
}

/* The proposal is a config, and the model with it has the loss foretold. */
static void check_proposal(fixture *f, const bn_sensitivity *s, const bn_loaded *loaded)
{
    char *text, *rules;
    bn_config config;
    cJSON *json;
    assert_ok(bn_sensitivity_rules(s, &loaded->config, &text));
    assert_ok(bn_config_parse(text, "proposal", &config));
    int chosen = 0;
    for (int i = 0; i < s->count; i++)
        chosen += s->layers[i].chosen;
    assert_int_equal(config.quantization.rules.count, chosen);
    assert_ok(bn_model_check_rules(loaded->model, &config));
    bn_config_clear(&config);
    assert_ok(bn_json_parse("proposal", text, strlen(text), &json));
    rules = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(json->child, "rules"));
    assert_true(loss_under(f, rules) == s->loss_proposed);
    cJSON_free(rules);
    cJSON_Delete(json);
    free(text);
}

static void test_quantized_model(void **state)
{
    fixture f;
    bn_loaded loaded;
    (void)state;
    fixture_open(&f, NULL);
    fixture_train(&f, 10);
    bn_sensitivity s = measure(&f, &loaded);
    assert_true(s.to_float);
    assert_int_equal(s.count, 14);
    assert_true(s.bits > 1.6 && s.bits < 3); /* 1.6 and a float scale for 32 weights */
    for (int i = 1; i < s.count; i++)
        assert_true(fabs(s.layers[i - 1].change) >= fabs(s.layers[i].change));
    for (int i = 0; i < s.count; i += 13) {
        char *rules = bn_format("[{\"match\":\"%s\",\"weight_bits\":\"none\"}]", s.layers[i].name);
        assert_true(loss_under(&f, rules) == s.layers[i].loss);
        assert_true(s.layers[i].change == s.layers[i].loss - s.loss);
        free(rules);
    }
    bn_sensitivity again;
    assert_ok(bn_sensitivity_measure(&loaded, &data, &again)); /* all was put back */
    assert_true(again.loss == s.loss);
    bn_sensitivity_clear(&again);

    assert_int_equal(bn_sensitivity_choose(&s, &loaded, &data, 1), BN_USAGE);
    assert_non_null(strstr(bn_error_text(), "--budget 1: "));
    assert_ok(bn_sensitivity_choose(&s, &loaded, &data, 9));
    assert_true(s.bits_proposed > s.bits && s.bits_proposed <= 9);
    check_proposal(&f, &s, &loaded);
    bn_sensitivity_clear(&s);
    bn_loaded_clear(&loaded);
    fixture_close(&f);
}

static void test_float_model(void **state)
{
    fixture f;
    bn_loaded loaded;
    (void)state;
    fixture_open(&f, "quantization.weight_bits=none");
    fixture_train(&f, 10);
    bn_sensitivity s = measure(&f, &loaded);
    assert_false(s.to_float);
    assert_int_equal(s.count, 14);
    assert_true(s.bits == 32);
    char *rules = bn_format("[{\"match\":\"%s\",\"weight_bits\":\"ternary\"}]", s.layers[0].name);
    assert_true(loss_under(&f, rules) == s.layers[0].loss);
    free(rules);
    assert_ok(bn_sensitivity_choose(&s, &loaded, &data, 12));
    assert_true(s.bits_proposed > 2 && s.bits_proposed <= 12);
    check_proposal(&f, &s, &loaded);
    bn_sensitivity_clear(&s);
    bn_loaded_clear(&loaded);
    fixture_close(&f);
}

/* Scales that training would learn are measured as they begin. */
static void test_scales_to_be_learned(void **state)
{
    fixture f;
    double loss[2];
    (void)state;
    fixture_open(&f, "quantization.weight_bits=none");
    for (int i = 0; i < 2; i++) {
        bn_loaded loaded;
        bn_sensitivity s = measure(&f, &loaded);
        loss[i] = s.layers[0].loss;
        bn_sensitivity_clear(&s);
        bn_loaded_clear(&loaded);
        assert_ok(bn_config_set(&f.config, "quantization.scale_estimator=learned"));
    }
    assert_true(loss[0] == loss[1]);
    fixture_close(&f);
}

static void test_bits_of_other_grids(void **state)
{
    static const struct {
        const char *setting;
        double bits;
    } grids[] = {{"quantization.weight_bits=binary", 1}, {"quantization.weight_bits=8", 8}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        fixture f;
        bn_loaded loaded;
        fixture_open(&f, grids[i].setting);
        fixture_train(&f, 2);
        bn_sensitivity s = measure(&f, &loaded);
        assert_true(s.bits > grids[i].bits && s.bits <= grids[i].bits + 1.1); /* and scales */
        bn_sensitivity_clear(&s);
        bn_loaded_clear(&loaded);
        fixture_close(&f);
    }
}

static void test_refused(void **state)
{
    fixture f;
    bn_loaded loaded;
    bn_sensitivity s;
    (void)state;
    fixture_open(&f, NULL);
    fixture_save_packed(&f, "packed.h5");
    assert_ok(bn_loaded_open("packed.h5", f.backend, false, &loaded));
    assert_int_equal(bn_sensitivity_measure(&loaded, &data, &s), BN_USAGE);
    assert_non_null(strstr(bn_error_text(), "shadow weights"));
    bn_loaded_clear(&loaded);
    fixture_close(&f);
}

static int setup(void **state)
{
    (void)state;
    write_text();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantized_model),
        cmocka_unit_test(test_float_model),
        cmocka_unit_test(test_scales_to_be_learned),
        cmocka_unit_test(test_bits_of_other_grids),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
