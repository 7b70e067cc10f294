/* Figures of activation quantizers, against a first layer worked out by hand:
 * what it reads is the embedding, each row divided by its root mean square. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quantize.h"
#include "tools/activations.h"
#include "unit/model/model_fixture.h"

enum { HIDDEN = 64 };

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-5 * fabs(b);
}

static bn_sample open_sample(const bn_loaded *loaded)
{
    bn_sample sample;
    FILE *file = fopen("text.txt", "w");
    assert_non_null(file);
    for (int i = 0; i < 1000; i++)
        assert_int_not_equal(fputc((int)fixture_token(i), file), EOF);
    assert_int_equal(fclose(file), 0);
    assert_ok(bn_sample_open(&loaded->config, "text.txt", loaded->tokenizer, &sample));
    return sample;
}

static void check_first(const bn_activation_stats *s, const bn_sample *sample,
                        const float *embedding)
{
    int64_t zero = 0, largest = 0, n = 0;
    double least = HUGE_VAL, most = 0;
    for (int64_t i = 0; i < sample->batches; i++) {
        const int32_t *tokens = bn_sample_input(sample, i);
        for (int64_t r = 0; r < sample->counts[i]; r++) {
            const float *row = embedding + (int64_t)tokens[r] * HIDDEN;
            float x[HIDDEN], step;
            int8_t codes[HIDDEN];
            double squares = 0;
            for (int k = 0; k < HIDDEN; k++)
                squares += (double)row[k] * (double)row[k];
            for (int k = 0; k < HIDDEN; k++)
                x[k] = (float)((double)row[k] / sqrt(squares / HIDDEN + 1e-5));
            bn_absmax_quantize_f32(x, 1, HIDDEN, BN_PER_ROW, 8, codes, &step);
            for (int k = 0; k < HIDDEN; k++) {
                zero += codes[k] == 0;
                largest += abs(codes[k]) == 127;
            }
            n += HIDDEN;
            least = fmin(least, 127 * (double)step);
            most = fmax(most, 127 * (double)step);
        }
    }
    assert_string_equal(s->name, "model.layers.0.self_attn.q_proj");
    assert_int_equal(s->layers, 3);
    assert_int_equal(s->codes, n);
    assert_int_equal(s->largest, 127);
    assert_true(fabs(s->zero_share * (double)n - (double)zero) <= 2);
    assert_true(fabs(s->largest_share * (double)n - (double)largest) <= 2);
    assert_true(near(s->absmax_min, least) && near(s->absmax_max, most));
    assert_true(s->absmax_median > least && s->absmax_median <= s->absmax_p99);
    assert_true(s->absmax_p99 <= s->absmax_max);
}

static void test_figures(void **state)
{
    fixture f;
    bn_loaded loaded;
    bn_activations a, of_packed;
    (void)state;
    fixture_open(&f, NULL);
    fixture_save(&f, "model.h5");
    assert_ok(bn_loaded_open("model.h5", f.backend, true, &loaded));
    bn_sample sample = open_sample(&loaded);
    assert_ok(bn_activations_measure(loaded.model, &sample, &a));
    assert_int_equal(a.count, 8); /* q k v, o, gate up, down; twice */
    assert_int_equal(a.items[2].layers, 2);
    assert_int_equal(a.items[3].layers, 1);
    check_first(&a.items[0], &sample, bn_tensor_data(&f.model->embed_tokens.weight->value));
    bn_loaded_clear(&loaded);

    fixture_save_packed(&f, "packed.h5");
    assert_ok(bn_loaded_open("packed.h5", f.backend, true, &loaded));
    assert_ok(bn_activations_measure(loaded.model, &sample, &of_packed));
    assert_int_equal(of_packed.count, a.count);
    for (int i = 0; i < a.count; i++) {
        const bn_activation_stats *x = &a.items[i], *y = &of_packed.items[i];
        assert_true(x->codes == y->codes && x->layers == y->layers);
        assert_true(x->zero_share == y->zero_share && x->largest_share == y->largest_share);
        assert_true(x->absmax_min == y->absmax_min && x->absmax_median == y->absmax_median);
        assert_true(x->absmax_p99 == y->absmax_p99 && x->absmax_max == y->absmax_max);
    }
    bn_activations_clear(&a);
    bn_activations_clear(&of_packed);
    bn_sample_clear(&sample);
    bn_loaded_clear(&loaded);
    fixture_close(&f);
}

static void test_nothing_to_measure(void **state)
{
    fixture f;
    bn_loaded loaded;
    bn_activations a;
    (void)state;
    fixture_open(&f, "quantization.activation_bits=none");
    fixture_save(&f, "floats.h5");
    assert_ok(bn_loaded_open("floats.h5", f.backend, true, &loaded));
    bn_sample sample = open_sample(&loaded);
    assert_int_equal(bn_activations_measure(loaded.model, &sample, &a), BN_USAGE);
    assert_non_null(strstr(bn_error_text(), "integer activations"));
    bn_sample_clear(&sample);
    bn_loaded_clear(&loaded);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_nothing_to_measure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
