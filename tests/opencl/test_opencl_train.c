/* The whole training step on an OpenCL device: the losses of the CPU backend,
 * the same bytes twice, checkpoints that move between devices, and next to
 * nothing but token ids between host and device. */
#include "cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "opencl/opencl.h"
#include "train/run.h"
#include "train/trainer.h"
#include "unit/train/train_help.h"

static bn_backend *open_device(bool opencl)
{
    bn_backend *backend;
    if (opencl)
        assert_ok(bn_opencl_backend_new(NULL, NULL, &backend));
    else
        assert_ok(bn_cpu_backend_new(&(bn_cpu_options){.threads = 2}, &backend));
    return backend;
}

/* Losses and gradient norms of `steps` steps. */
static void train(const bn_config *config, bool opencl, int steps, bn_step_result *results)
{
    bn_train_data data;
    bn_trainer *trainer;
    bn_backend *backend = open_device(opencl);
    assert_ok(bn_train_data_open(config, &data));
    assert_ok(bn_trainer_new(config, &data, backend, false, &trainer));
    for (int i = 0; i < steps; i++)
        assert_ok(bn_trainer_step(trainer, &results[i]));
    bn_trainer_free(trainer);
    bn_train_data_clear(&data);
    bn_backend_free(backend);
}

enum { STEPS = 50 };

static void small_config(bn_config *config, const char *one, const char *two)
{
    help_config(config, "out", "model.hidden_size=64", "model.intermediate_size=160",
                "model.num_hidden_layers=2", "model.num_attention_heads=4",
                "model.num_key_value_heads=2", "training.batch_size=4", "training.max_steps=50",
                one, two, NULL);
}

/* A flat block of parameters from one device to the other. */
static void copy_block(bn_trainer *from, const bn_buffer *source, bn_trainer *to,
                       const bn_buffer *target)
{
    bn_tensor a = bn_param_set_flat(&from->model->params, source);
    bn_tensor b = bn_param_set_flat(&to->model->params, target);
    void *bytes = malloc(bn_tensor_bytes(&a));
    assert_non_null(bytes);
    assert_ok(from->backend->download(from->backend, &a, bytes));
    assert_ok(to->backend->upload(to->backend, &b, bytes));
    free(bytes);
}

/* Each of 50 steps from the same state on both: a step's loss and gradient
 * agree. Runs that are left alone part sooner or later whatever the device (the
 * CPU's own kernels and the reference do): the last bit of an activation decides
 * now and then about a code, and training amplifies that. */
static void every_step_has_the_loss_of_the_cpu(void **state)
{
    (void)state;
    static const char *const settings[][2] = {
        {"quantization.ramp_steps=10", "quantization.weight_scale=group"},
        {"model.hidden_act=silu", "quantization.weight_scale=tensor"},
        {"quantization.activation_scale=tensor", "model.tie_word_embeddings=false"},
        {"quantization.weight_bits=binary", "quantization.scale_estimator=learned"},
    };
    for (size_t s = 0; s < sizeof settings / sizeof settings[0]; s++) {
        bn_config config;
        bn_train_data data;
        bn_trainer *t[2];
        bn_backend *backend[2];
        double largest = 0;
        small_config(&config, settings[s][0], settings[s][1]);
        assert_ok(bn_train_data_open(&config, &data));
        for (int d = 0; d < 2; d++) {
            backend[d] = open_device(d == 1);
            assert_ok(bn_trainer_new(&config, &data, backend[d], false, &t[d]));
        }
        for (int i = 0; i < STEPS; i++) {
            bn_step_result r[2];
            copy_block(t[0], &t[0]->model->values, t[1], &t[1]->model->values);
            copy_block(t[0], &t[0]->optimizer.m, t[1], &t[1]->optimizer.m);
            copy_block(t[0], &t[0]->optimizer.v, t[1], &t[1]->optimizer.v);
            for (int d = 0; d < 2; d++)
                assert_ok(bn_trainer_step(t[d], &r[d]));
            largest = fmax(largest, fabs(r[1].loss - r[0].loss));
            if (!(fabs(r[1].loss - r[0].loss) <= 1e-4))
                fail_msg("step %d: loss %.7f, on the CPU %.7f", i + 1, r[1].loss, r[0].loss);
        }
        print_message("%s: largest difference of a step's loss %.1e\n", settings[s][0], largest);
        for (int d = 0; d < 2; d++) {
            bn_trainer_free(t[d]);
            bn_backend_free(backend[d]);
        }
        bn_train_data_clear(&data);
        bn_config_clear(&config);
    }
}

/* Without quantizers nothing is decided by a last bit: 50 steps on their own. */
static void a_float_run_has_the_losses_of_the_cpu(void **state)
{
    (void)state;
    bn_config config;
    bn_step_result device[STEPS], cpu[STEPS];
    double largest = 0;
    small_config(&config, "quantization.weight_bits=none", "quantization.activation_bits=none");
    train(&config, true, STEPS, device);
    train(&config, false, STEPS, cpu);
    for (int i = 0; i < STEPS; i++) {
        largest = fmax(largest, fabs(device[i].loss - cpu[i].loss));
        if (!(fabs(device[i].loss - cpu[i].loss) <= 1e-4))
            fail_msg("step %d: loss %.7f, on the CPU %.7f", i + 1, device[i].loss, cpu[i].loss);
    }
    print_message("float: largest difference of a loss %.1e\n", largest);
    assert_true(device[STEPS - 1].loss < device[0].loss - 0.5); /* it learned */
    bn_config_clear(&config);
}

/* Over a float base 20 steps on their own; over a ternary one, where a last bit may
 * decide about a code, the first. */
static void adapters_have_the_losses_of_the_cpu(void **state)
{
    (void)state;
    static const char *const bits[] = {"quantization.weight_bits=none",
                                       "quantization.weight_bits=ternary"};
    for (int k = 0; k < 2; k++) {
        const int steps = k == 0 ? 20 : 1;
        bn_config base, config;
        bn_step_result device[20], cpu[20];
        help_remove("adapter-base");
        help_config(&base, "adapter-base", "training.max_steps=5", bits[k], NULL);
        assert_ok(help_run(&base, NULL, NULL));
        help_config(&config, "out", "adapter.base=adapter-base", "adapter.lora_alpha=20", bits[k],
                    NULL);
        train(&config, true, steps, device);
        train(&config, false, steps, cpu);
        for (int i = 0; i < steps; i++)
            if (!(fabs(device[i].loss - cpu[i].loss) <= 1e-4 &&
                  fabs(device[i].grad_norm - cpu[i].grad_norm) <= 1e-4))
                fail_msg("%s: step %d: loss %.7f, on the CPU %.7f", bits[k], i + 1, device[i].loss,
                         cpu[i].loss);
        assert_true(cpu[0].grad_norm > 0.0);
        bn_config_clear(&base);
        bn_config_clear(&config);
    }
}

static void two_runs_have_the_same_bytes(void **state)
{
    (void)state;
    uint64_t hash[2];
    static const char *const out[2] = {"same-a", "same-b"};
    for (int i = 0; i < 2; i++) {
        bn_config config;
        help_remove(out[i]);
        help_config(&config, out[i], "model.dropout=0.1", NULL);
        bn_backend *backend = open_device(true);
        char *summary;
        assert_ok(bn_run_train(&config, backend, &(bn_run_options){0}, &summary));
        free(summary);
        bn_backend_free(backend);
        hash[i] = help_checkpoint_hash(help_path(out[i], "checkpoint-00000020.h5"));
        bn_config_clear(&config);
    }
    assert_true(hash[0] == hash[1]);
}

/* Losses of the steps of a run with a metrics line for each, which must all be there once. */
static void read_losses(const char *out, int steps, double *losses)
{
    int step = 0;
    char *rest = NULL, *text = help_read(help_path(out, "metrics.jsonl"));
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (!strstr(line, "\"loss\""))
            continue; /* of an evaluation */
        assert_true(step < steps);
        losses[step] = help_number(line, "loss");
        assert_int_equal(help_number(line, "step"), ++step);
    }
    assert_int_equal(step, steps);
    free(text);
}

enum { RUN = 20, LEGS = 3 };

/* A run that changes from one leg's device to the next's, a process each. */
static void travel(const char *out, const char *bits, const bool opencl[LEGS], double losses[RUN])
{
    static const int64_t until[LEGS] = {6, 13, 0};
    char weights[64], activations[64];
    snprintf(weights, sizeof weights, "quantization.weight_bits=%s", bits);
    snprintf(activations, sizeof activations, "quantization.activation_bits=%s",
             strcmp(bits, "none") == 0 ? "none" : "8");
    help_remove(out);
    for (int leg = 0; leg < LEGS; leg++) {
        bn_config config;
        char *summary = NULL;
        help_config(&config, out, "training.log_interval=1", "model.dropout=0.1", weights,
                    activations, NULL);
        bn_backend *backend = open_device(opencl[leg]);
        const bn_run_options options = {.resume = leg ? "auto" : NULL, .stop_after = until[leg]};
        assert_int_equal(bn_run_train(&config, backend, &options, &summary),
                         until[leg] ? BN_INTERRUPTED : BN_OK);
        free(summary);
        bn_backend_free(backend);
        bn_config_clear(&config);
    }
    read_losses(out, RUN, losses);
}

/* There and back again, from either device: the losses of a run that stays. */
static void runs_move_between_devices(void **state)
{
    static const struct {
        const char *bits;
        double tolerance;
    } cases[] = {{"none", 1e-4}, {"ternary", 1e-2}};
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int first = 0; first < 2; first++) {
            double stayed[RUN], moved[RUN], largest = 0;
            travel("stayed", cases[c].bits, (const bool[]){first, first, first}, stayed);
            travel("moved", cases[c].bits, (const bool[]){first, !first, first}, moved);
            for (int i = 0; i < RUN; i++)
                largest = fmax(largest, fabs(moved[i] - stayed[i]));
            print_message("%s: largest difference of a loss %.1e\n", cases[c].bits, largest);
            assert_true(stayed[RUN - 1] < stayed[0] && largest <= cases[c].tolerance);
        }
}

/* On one device the end has the same bytes, wherever the run was stopped. */
static void a_resumed_run_has_the_same_bytes(void **state)
{
    (void)state;
    double losses[RUN];
    const bool opencl[LEGS] = {true, true, true};
    travel("moved", "ternary", opencl, losses);
    bn_config config;
    char *summary;
    help_remove("stayed");
    help_config(&config, "stayed", "training.log_interval=1", "model.dropout=0.1", NULL);
    bn_backend *backend = open_device(true);
    assert_ok(bn_run_train(&config, backend, &(bn_run_options){0}, &summary));
    free(summary);
    bn_backend_free(backend);
    bn_config_clear(&config);
    assert_true(help_checkpoint_hash(help_path("stayed", "checkpoint-00000020.h5")) ==
                help_checkpoint_hash(help_path("moved", "checkpoint-00000020.h5")));
}

static void a_step_moves_token_ids_and_scalars_only(void **state)
{
    (void)state;
    enum { COUNTED = 5 };
    bn_train_data data;
    bn_trainer *trainer;
    bn_config config;
    bn_step_result result;
    help_config(&config, "out", "training.gradient_accumulation_steps=2", NULL);
    bn_backend *backend = open_device(true);
    assert_ok(bn_train_data_open(&config, &data));
    assert_ok(bn_trainer_new(&config, &data, backend, false, &trainer));
    assert_ok(bn_trainer_step(trainer, &result));
    bn_opencl_stats before = bn_opencl_stats_of(backend);
    for (int i = 0; i < COUNTED; i++)
        assert_ok(bn_trainer_step(trainer, &result));
    bn_opencl_stats after = bn_opencl_stats_of(backend);
    uint64_t ids = 2 * (uint64_t)bn_tokens_per_step(&config) * sizeof(int32_t);
    uint64_t up = (after.upload_bytes - before.upload_bytes) / COUNTED;
    uint64_t down = (after.download_bytes - before.download_bytes) / COUNTED;
    print_message("per step: %llu bytes up (ids and labels %llu), %llu down, %llu launches\n",
                  (unsigned long long)up, (unsigned long long)ids, (unsigned long long)down,
                  (unsigned long long)((after.launches - before.launches) / COUNTED));
    assert_true(up - ids + down < 1024); /* of 64 KiB allowed */
    assert_true(after.bytes == before.bytes && after.peak_bytes == before.peak_bytes);
    assert_int_equal(after.built, before.built);
    bn_trainer_free(trainer);
    bn_train_data_clear(&data);
    bn_backend_free(backend);
    bn_config_clear(&config);
}

static void what_is_not_there_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *setting, *said;
    } refused[] = {
        {"quantization.weight_bits=4", "expected ternary or binary weights, found 4"},
        {"quantization.scale_estimator=absmedian", "found absmedian in model.layers.0"},
        {"training.backward_precision=int16", "training.backward_precision: opencl:"},
        {"training.optimizer=muon", "training.optimizer: \"muon\" does not run on opencl:"},
    };
    bn_backend *backend = open_device(true);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        bn_train_data data;
        bn_trainer *trainer;
        bn_config config;
        help_config(&config, "out", refused[i].setting, NULL);
        assert_ok(bn_train_data_open(&config, &data));
        assert_int_not_equal(bn_trainer_new(&config, &data, backend, false, &trainer), BN_OK);
        if (!strstr(bn_error_text(), refused[i].said))
            fail_msg("%s: %s", refused[i].setting, bn_error_text());
        bn_train_data_clear(&data);
        bn_config_clear(&config);
    }
    bn_backend_free(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_there_is_refused),
        cmocka_unit_test(every_step_has_the_loss_of_the_cpu),
        cmocka_unit_test(a_float_run_has_the_losses_of_the_cpu),
        cmocka_unit_test(adapters_have_the_losses_of_the_cpu),
        cmocka_unit_test(two_runs_have_the_same_bytes),
        cmocka_unit_test(runs_move_between_devices),
        cmocka_unit_test(a_resumed_run_has_the_same_bytes),
        cmocka_unit_test(a_step_moves_token_ids_and_scalars_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
