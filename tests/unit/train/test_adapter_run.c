/* Training adapters: the base stays, the adapters learn, resume is exact, a wrong
 * base is refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "cpu/cpu.h"
#include "model/load.h"
#include "train/checkpoint_io.h"
#include "train/memory.h"
#include "train_help.h"

typedef struct fixture {
    bn_config config;
    bn_train_data data;
    bn_backend *backend;
    bn_trainer *trainer;
} fixture;

static const char *const base_file = "base/checkpoint-00000020.h5";

static void make_base(const char *folder, const char *set, const char *also)
{
    bn_config config;
    help_config(&config, folder, set, also, NULL);
    help_remove(folder);
    assert_ok(help_run(&config, NULL, NULL));
    bn_config_clear(&config);
}

static int group_setup(void **state)
{
    (void)state;
    make_base("base", "training.seed=1", NULL);
    make_base("other", "training.seed=2", NULL);
    make_base("float", "quantization.weight_bits=none", NULL);
    return 0;
}

static void start_with(fixture *f, bn_backend *backend, const char *base, const char *set)
{
    char line[128];
    snprintf(line, sizeof line, "adapter.base=%s", base);
    help_config(&f->config, "unused", line, "adapter.r=4", set, NULL);
    assert_ok(bn_train_data_open(&f->config, &f->data));
    f->backend = backend;
    assert_ok(bn_trainer_new(&f->config, &f->data, f->backend, false, &f->trainer));
}

static void start(fixture *f, const char *base, const char *set)
{
    bn_backend *backend;
    assert_ok(bn_cpu_backend_new(NULL, &backend));
    start_with(f, backend, base, set);
}

static void stop(fixture *f)
{
    bn_trainer_free(f->trainer);
    bn_backend_free(f->backend);
    bn_train_data_clear(&f->data);
    bn_config_clear(&f->config);
}

static double evaluate(fixture *f)
{
    bn_evaluation evaluation;
    assert_ok(bn_trainer_evaluate(f->trainer, &evaluation));
    return evaluation.loss;
}

/* The base's own loss at the end of its run. */
static double base_loss(void)
{
    char *text = help_read("base/summary.json");
    const double loss = help_number(text, "val_loss");
    free(text);
    return loss;
}

static void test_starts_as_the_base_and_learns(void **state)
{
    (void)state;
    fixture f = {0};
    uint8_t before[BN_SHA256_BYTES], after[BN_SHA256_BYTES];
    start(&f, "base", "training.learning_rate=0.01");
    const double first = evaluate(&f);
    assert_true(first == base_loss()); /* B = 0: the very bits */
    assert_ok(bn_model_identity(f.trainer->model, before));
    bn_step_result step;
    for (int i = 0; i < 20; i++)
        assert_ok(bn_trainer_step(f.trainer, &step));
    assert_true(evaluate(&f) < first - 0.01);
    assert_ok(bn_model_identity(f.trainer->model, after));
    assert_memory_equal(before, after, sizeof before);
    stop(&f);
}

/* Memory of the base is codes, and gradients and moments are the adapters'. */
static void test_memory(void **state)
{
    (void)state;
    fixture f = {0};
    bn_size_report report;
    start(&f, base_file, "training.log_interval=4");
    const bn_trainer *t = f.trainer;
    assert_true(t->model->values.bytes < 2 * 256 * 32 * sizeof(float)); /* embedding, norms */
    assert_int_equal(t->model->grads.bytes, 0);
    for (int i = 0; i < t->model->n_linears; i++)
        assert_null(t->model->linears[i]->weight);
    int64_t expected = 0;
    for (int i = 0; i < t->model->n_linears; i++)
        expected += 4 * (t->model->linears[i]->in + t->model->linears[i]->out);
    assert_int_equal(bn_param_set_numel(t->params), expected);
    assert_int_equal(t->optimizer.m.bytes, t->params->train_bytes);
    assert_ok(bn_size_report_make(&f.config, 256, f.backend, &report));
    assert_int_equal(report.trainable, expected);
    assert_int_equal(report.parameters, bn_trainer_parameters(t));
    assert_int_equal(report.memory.gradients, t->adapter->grads.bytes);
    assert_int_equal(report.memory.moments, 2 * t->optimizer.m.bytes);
    const double measured = (double)bn_trainer_device_memory(t).peak_bytes;
    assert_true(fabs(measured - (double)report.memory.total) < 0.15 * measured);
    stop(&f);
}

/* With the residual B A, the adapted weight is nearer to the float one: over the
 * whole rank it is the float weight. */
static void test_residual(void **state)
{
    (void)state;
    enum { RANKS = 4 };
    double distance[RANKS];
    static const char *const ranks[RANKS] = {"adapter.r=1", "adapter.r=4", "adapter.r=32",
                                             "adapter.r=40"};
    for (int k = 0; k < RANKS; k++) {
        fixture f = {0};
        bn_config config;
        help_config(&config, "unused", "adapter.base=base", "adapter.init_lora_weights=residual",
                    "adapter.lora_alpha=2", ranks[k], NULL);
        f.config = config;
        assert_ok(bn_train_data_open(&f.config, &f.data));
        assert_ok(bn_cpu_backend_new(NULL, &f.backend));
        assert_ok(bn_trainer_new(&f.config, &f.data, f.backend, false, &f.trainer));
        assert_ok(bn_trainer_start(f.trainer));
        const bn_linear_layer *layer = f.trainer->model->linears[0];
        const int64_t n = layer->out * layer->in, r = f.config.adapter.r;
        float *w = malloc((size_t)n * sizeof *w), *q = malloc((size_t)n * sizeof *q);
        const float *a = bn_tensor_data(&layer->lora->a->value);
        const float *b = bn_tensor_data(&layer->lora->b->value);
        bn_checkpoint *file;
        assert_ok(bn_checkpoint_open(base_file, &file));
        const bn_checkpoint_param wanted = {.name = "model.layers.0.self_attn.q_proj.weight",
                                            .ndim = 2,
                                            .shape = {layer->out, layer->in},
                                            .value = w};
        assert_ok(bn_checkpoint_load_one(file, &wanted));
        bn_checkpoint_close(file);
        assert_ok(bn_model_layer_weight(f.trainer->model, layer, q));
        distance[k] = 0;
        for (int64_t o = 0; o < layer->out; o++)
            for (int64_t i = 0; i < layer->in; i++) {
                double d = (double)w[o * layer->in + i] - (double)q[o * layer->in + i];
                for (int64_t j = 0; j < r; j++)
                    d -= layer->lora->scale * (double)b[o * r + j] * (double)a[j * layer->in + i];
                distance[k] += d * d;
            }
        for (int64_t j = 0; j < r; j++) /* or it would never learn */
            assert_true(a[j * layer->in] != 0.0f);
        free(w);
        free(q);
        stop(&f);
    }
    assert_true(distance[1] < 0.9 * distance[0]);
    assert_true(distance[2] < 1e-8 * distance[0]);
    assert_true(distance[3] < 1e-8 * distance[0]);
}

/* Quantization took nothing from a float layer: its adapter begins as any other. */
static void test_residual_of_nothing(void **state)
{
    (void)state;
    fixture f = {0};
    bn_step_result step;
    help_config(&f.config, "unused", "adapter.base=float", "quantization.weight_bits=none",
                "adapter.init_lora_weights=residual", NULL);
    assert_ok(bn_train_data_open(&f.config, &f.data));
    assert_ok(bn_cpu_backend_new(NULL, &f.backend));
    assert_ok(bn_trainer_new(&f.config, &f.data, f.backend, false, &f.trainer));
    assert_ok(bn_trainer_start(f.trainer));
    assert_ok(bn_trainer_step(f.trainer, &step));
    assert_true(step.grad_norm > 0.0);
    stop(&f);
}

static void test_resume(void **state)
{
    (void)state;
    bn_config straight, stopped;
    const char *base = "adapter.base=base", *dropout = "adapter.lora_dropout=0.1";
    help_config(&straight, "straight", base, dropout, NULL);
    help_config(&stopped, "stopped", base, dropout, NULL);
    help_stop_and_resume(&straight, &stopped, 7, 20);
    /* Adapters alone are in the file. */
    bn_checkpoint *c;
    bn_checkpoint_param p;
    assert_ok(bn_checkpoint_open("stopped/checkpoint-00000020.h5", &c));
    assert_int_equal(bn_checkpoint_count(c), 14);
    bn_checkpoint_describe(c, 0, &p);
    assert_string_equal(p.name, "model.layers.0.mlp.down_proj.lora_A.weight");
    bn_checkpoint_close(c);
    bn_config_clear(&straight);
    bn_config_clear(&stopped);
}

/* Fewer tensors than the base has layers. */
static void test_resume_of_few_layers(void **state)
{
    (void)state;
    bn_config straight, stopped;
    const char *deep = "model.num_hidden_layers=4", *base = "adapter.base=deep";
    const char *target = "adapter.target_modules=layers.3.mlp.up_proj";
    make_base("deep", deep, "training.max_steps=1");
    help_config(&straight, "straight", deep, base, target, NULL);
    help_config(&stopped, "few", deep, base, target, NULL);
    help_stop_and_resume(&straight, &stopped, 7, 20);
    bn_config_clear(&straight);
    bn_config_clear(&stopped);
}

static void expect_failure(const char *out, const char *set, const char *also, bool resume,
                           bn_status status, const char *text)
{
    bn_config config;
    const bn_run_options options = {.resume = resume ? "auto" : NULL};
    help_config(&config, out, "training.max_steps=24", set, also, NULL);
    assert_int_equal(help_run(&config, &options, NULL), status);
    if (!strstr(bn_error_text(), text))
        fail_msg("'%s' is not in '%s'", text, bn_error_text());
    bn_config_clear(&config);
}

static void test_refusals(void **state)
{
    (void)state;
    const char *base = "adapter.base=base", *seed = "training.seed=1337";
    expect_failure("stopped", "adapter.base=other", NULL, true, BN_BAD_DATA,
                   "is not the model that the adapter was trained on: expected SHA-256");
    expect_failure("stopped", seed, NULL, true, BN_BAD_CONFIG, "the checkpoint holds adapters");
    expect_failure("base", base, "training.seed=1", true, BN_BAD_CONFIG, "no adapters");
    expect_failure("stopped", base, "adapter.r=3", true, BN_BAD_CONFIG, "adapter.r");
    expect_failure("refused", base, "adapter.target_modules=q_prj", false, BN_BAD_CONFIG,
                   "adapter.target_modules");
    expect_failure("refused", base, "model.hidden_size=64", false, BN_BAD_CONFIG,
                   "model.hidden_size: expected 32, as the base base/checkpoint-");
    expect_failure("refused", "adapter.base=missing.h5", NULL, false, BN_NO_INPUT, "missing.h5");
}

/* A head of floats is left alone, and a float base can be adapted too. */
static void test_float_base(void **state)
{
    (void)state;
    fixture f = {0};
    bn_step_result step;
    start(&f, "float", "quantization.weight_bits=none");
    assert_ok(bn_trainer_step(f.trainer, &step));
    assert_true(step.grad_norm > 0.0);
    assert_int_equal(f.trainer->params->count, 14);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_as_the_base_and_learns),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_residual),
        cmocka_unit_test(test_residual_of_nothing),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_resume_of_few_layers),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_float_base),
    };
    return cmocka_run_group_tests(tests, group_setup, NULL);
}
