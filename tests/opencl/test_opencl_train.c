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

static void fifty_steps_have_the_losses_of_the_cpu(void **state)
{
    (void)state;
    enum { STEPS = 50 };
    static const char *const settings[][2] = {
        {"model.hidden_act=relu2", "quantization.weight_scale=group"},
        {"model.hidden_act=silu", "quantization.weight_scale=tensor"},
    };
    for (int s = 0; s < 2; s++) {
        bn_config config;
        bn_step_result device[STEPS], cpu[STEPS];
        help_config(&config, "out", "model.hidden_size=64", "model.intermediate_size=160",
                    "model.num_hidden_layers=2", "model.num_attention_heads=4",
                    "model.num_key_value_heads=2", "training.batch_size=4", "training.max_steps=50",
                    settings[s][0], settings[s][1], NULL);
        train(&config, true, STEPS, device);
        train(&config, false, STEPS, cpu);
        for (int i = 0; i < STEPS; i++)
            if (!(fabs(device[i].loss - cpu[i].loss) <= 1e-4))
                fail_msg("step %d: loss %.7f, on the CPU %.7f", i + 1, device[i].loss, cpu[i].loss);
        assert_true(device[STEPS - 1].loss < device[0].loss - 0.5); /* it learned */
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
        assert_ok(bn_run_train(&config, backend, &(bn_run_options){0}, NULL));
        bn_backend_free(backend);
        hash[i] = help_checkpoint_hash(help_path(out[i], "checkpoint-00000020.h5"));
        bn_config_clear(&config);
    }
    assert_true(hash[0] == hash[1]);
}

/* 10 steps on one device and 10 on the other, against 20 on the CPU. */
static void checkpoints_move_between_devices(void **state)
{
    (void)state;
    bn_step_result all[20];
    bn_config config;
    help_config(&config, "straight", NULL);
    train(&config, false, 20, all);
    bn_config_clear(&config);
    for (int opencl_first = 0; opencl_first < 2; opencl_first++) {
        const char *out = opencl_first ? "opencl-cpu" : "cpu-opencl";
        char *summary = NULL;
        help_remove(out);
        help_config(&config, out, "training.log_interval=1", NULL);
        bn_backend *backend = open_device(opencl_first);
        assert_int_equal(bn_run_train(&config, backend, &(bn_run_options){.stop_after = 10}, NULL),
                         BN_INTERRUPTED);
        bn_backend_free(backend);
        backend = open_device(!opencl_first);
        assert_ok(bn_run_train(&config, backend, &(bn_run_options){.resume = "auto"}, &summary));
        bn_backend_free(backend);
        assert_true(fabs(help_number(summary, "steps") - 20) < 0.5);
        assert_true(fabs(help_number(summary, "train_loss") - all[19].loss) <= 1e-4);
        free(summary);
        bn_config_clear(&config);
    }
}

static void a_step_moves_token_ids_and_scalars_only(void **state)
{
    (void)state;
    enum { STEPS = 5 };
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
    for (int i = 0; i < STEPS; i++)
        assert_ok(bn_trainer_step(trainer, &result));
    bn_opencl_stats after = bn_opencl_stats_of(backend);
    uint64_t ids = 2 * (uint64_t)bn_tokens_per_step(&config) * sizeof(int32_t);
    uint64_t up = (after.upload_bytes - before.upload_bytes) / STEPS;
    uint64_t down = (after.download_bytes - before.download_bytes) / STEPS;
    print_message("per step: %llu bytes up (ids and labels %llu), %llu down, %llu launches\n",
                  (unsigned long long)up, (unsigned long long)ids, (unsigned long long)down,
                  (unsigned long long)((after.launches - before.launches) / STEPS));
    assert_true(up - ids + down < 1024); /* of 64 KiB allowed */
    assert_true(after.bytes == before.bytes && after.peak_bytes == before.peak_bytes);
    assert_int_equal(after.built, before.built);
    bn_trainer_free(trainer);
    bn_train_data_clear(&data);
    bn_backend_free(backend);
    bn_config_clear(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fifty_steps_have_the_losses_of_the_cpu),
        cmocka_unit_test(two_runs_have_the_same_bytes),
        cmocka_unit_test(checkpoints_move_between_devices),
        cmocka_unit_test(a_step_moves_token_ids_and_scalars_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
