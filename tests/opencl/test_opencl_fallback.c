/* A device that fails in the middle of a run: at any call the run ends with its
 * last checkpoint intact, or goes on from it on the CPU. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "opencl/opencl.h"
#include "train/run.h"
#include "unit/train/train_help.h"

enum { STEPS = 9, SAVE = 3 };

static void config_of(bn_config *config, const char *out, bool fallback)
{
    help_remove(out);
    help_config(config, out, "training.max_steps=9", "training.save_interval=3",
                "training.eval_interval=4", "training.log_interval=1",
                fallback ? "training.device_fallback=true" : "training.device_fallback=false",
                NULL);
}

/* What the observer saw: driver calls after step 1, after step SAVE, and warnings. */
typedef struct watch {
    uint64_t first, saved;
    int warnings;
    char text[1024];
} watch;

static void on_step(void *arg, const bn_trainer *trainer, const bn_step_result *result)
{
    watch *w = arg;
    (void)result;
    if (strncmp(trainer->backend->name, "opencl", 6) != 0)
        return;
    if (trainer->progress.step == 1)
        w->first = bn_opencl_stats_of(trainer->backend).calls;
    if (trainer->progress.step == SAVE + 1)
        w->saved = bn_opencl_stats_of(trainer->backend).calls;
}

static void on_warning(void *arg, const char *text)
{
    watch *w = arg;
    w->warnings++;
    snprintf(w->text, sizeof w->text, "%s", text);
}

/* A run whose `fail`-th driver call fails (0: none). */
static bn_status run_on_device(const bn_config *config, int64_t fail, watch *w, uint64_t *calls,
                               char **summary)
{
    bn_backend *backend;
    *w = (watch){0};
    const bn_run_options options = {.observer = {.arg = w, .step = on_step, .warning = on_warning}};
    assert_ok(bn_opencl_backend_new(NULL, &(bn_opencl_options){.fail_call = fail}, &backend));
    bn_status status = bn_run_train(config, backend, &options, summary);
    if (calls)
        *calls = bn_opencl_stats_of(backend).calls;
    bn_backend_free(backend);
    return status;
}

/* Calls to fail: `count` of them, from the first step to the end of the run. */
enum { TRIES = 14 };
static void choose_calls(int64_t at[TRIES])
{
    bn_config config;
    watch w;
    uint64_t calls;
    char *summary;
    config_of(&config, "whole", false);
    assert_ok(run_on_device(&config, 0, &w, &calls, &summary));
    assert_int_equal(w.warnings, 0);
    assert_null(strstr(summary, "lost_device"));
    free(summary);
    assert_true(w.first > 0 && calls > w.saved);
    for (int i = 0; i < TRIES; i++) /* an odd stride meets every kind of call */
        at[i] = (int64_t)(w.first + 1 + (uint64_t)i * (calls - w.first - 1) / TRIES);
    bn_config_clear(&config);
}

static int64_t newest(const char *out)
{
    int64_t *steps, step = -1;
    size_t count;
    assert_ok(bn_checkpoint_list(out, &steps, &count));
    for (size_t i = 0; i < count; i++) {
        char *path = bn_checkpoint_path(out, steps[i]);
        assert_ok(bn_checkpoint_verify(path));
        free(path);
        step = steps[i] > step ? steps[i] : step;
    }
    free(steps);
    return step;
}

/* A line for each step, in order. */
static void metrics_are_whole(const char *out)
{
    char *text = help_read(help_path(out, "metrics.jsonl"));
    int step = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        assert_true(help_number(line, "step") == ++step);
    assert_int_equal(step, STEPS);
    free(text);
}

static void a_lost_device_ends_the_run(void **state)
{
    int64_t *at = *state;
    for (int i = 0; i < TRIES; i++) {
        bn_config config;
        watch w;
        char *summary, name[32];
        config_of(&config, "ends", false);
        assert_int_equal(run_on_device(&config, at[i], &w, NULL, &summary), BN_NO_DEVICE);
        assert_null(summary);
        assert_null(strchr(bn_error_text(), '\n'));
        assert_non_null(strstr(bn_error_text(), "CL_OUT_OF_RESOURCES"));
        const int64_t step = newest("ends");
        snprintf(name, sizeof name, "checkpoint-%08lld.h5", (long long)step);
        assert_non_null(strstr(bn_error_text(), step < 0 ? "no checkpoint has been saved" : name));
        const bn_run_options resume = {.resume = "auto"};
        assert_ok(help_run(&config, &resume, NULL)); /* on the CPU, from there */
        metrics_are_whole("ends");
        bn_config_clear(&config);
    }
}

static void a_run_goes_on_on_the_cpu(void **state)
{
    int64_t *at = *state;
    int before_first = 0;
    bn_config config;
    config_of(&config, "on-cpu", false);
    assert_ok(help_run(&config, NULL, NULL));
    const uint64_t cpu = help_checkpoint_hash("on-cpu/checkpoint-00000009.h5");
    bn_config_clear(&config);
    for (int i = 0; i < TRIES; i++) {
        watch w;
        char *summary;
        config_of(&config, "goes-on", true);
        assert_ok(run_on_device(&config, at[i], &w, NULL, &summary));
        assert_int_equal(w.warnings, 1);
        assert_non_null(strstr(w.text, "CL_OUT_OF_RESOURCES"));
        assert_non_null(strstr(summary, "\"device\": \"cpu ("));
        assert_non_null(strstr(summary, "\"lost_device\": \"opencl:"));
        assert_true(help_number(summary, "steps") == STEPS);
        const double from = help_number(summary, "fallback_step");
        assert_true(from >= 0 && from < STEPS);
        metrics_are_whole("goes-on");
        assert_int_equal(newest("goes-on"), STEPS);
        if (from == 0) { /* as if the device had never been */
            assert_true(help_checkpoint_hash("goes-on/checkpoint-00000009.h5") == cpu);
            before_first++;
        }
        free(summary);
        bn_config_clear(&config);
    }
    assert_true(before_first > 0 && before_first < TRIES);
}

/* Lost again and again is no way to lose the checkpoint that a run came with. */
static void a_resumed_run_falls_back_to_where_it_came_from(void **state)
{
    (void)state;
    bn_config config;
    watch w;
    char *summary;
    config_of(&config, "came-from", false);
    const bn_run_options four = {.stop_after = 4};
    assert_int_equal(help_run(&config, &four, NULL), BN_INTERRUPTED);
    bn_config_clear(&config);
    config_of(&config, "went-to", true);
    bn_backend *backend;
    w = (watch){0};
    const bn_run_options options = {.resume = "came-from",
                                    .observer = {.arg = &w, .warning = on_warning}};
    assert_ok(bn_opencl_backend_new(NULL, NULL, &backend));
    const int64_t opened = (int64_t)bn_opencl_stats_of(backend).calls;
    bn_backend_free(backend);
    /* the very first transfer of the model: before any step, or folder, is made */
    assert_ok(
        bn_opencl_backend_new(NULL, &(bn_opencl_options){.fail_call = opened + 30}, &backend));
    assert_ok(bn_run_train(&config, backend, &options, &summary));
    bn_backend_free(backend);
    assert_int_equal(w.warnings, 1);
    assert_true(help_number(summary, "fallback_step") == 4);
    assert_true(help_number(summary, "steps") == STEPS);
    assert_int_equal(newest("went-to"), STEPS);
    free(summary);
    bn_config_clear(&config);
}

static void too_little_memory_is_told_by_role(void **state)
{
    (void)state;
    bn_config config;
    bn_backend *backend;
    bn_train_data data;
    bn_trainer *trainer;
    static const struct {
        const char *setting;
        uint64_t limit;
        const char *what, *lower;
    } cases[] = {
        {"training.batch_size=64", 2 << 20, "activations of a step",
         "lower training.batch_size (training.gradient_accumulation_steps"},
        {"model.intermediate_size=8192", 3 << 20, "gradients", "lower the model's size"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        help_config(&config, "out", cases[i].setting, NULL);
        assert_ok(bn_train_data_open(&config, &data));
        assert_ok(bn_opencl_backend_new(NULL, &(bn_opencl_options){.memory_limit = cases[i].limit},
                                        &backend));
        assert_int_equal(bn_trainer_new(&config, &data, backend, false, &trainer), BN_FAIL);
        assert_null(trainer);
        static const char *const roles[] = {"parameters ",   "gradients ",         "moments ",
                                            "activations ",  "scratch and logits", "tables ",
                                            "the run needs "};
        for (size_t k = 0; k < sizeof roles / sizeof *roles; k++)
            assert_non_null(strstr(bn_error_text(), roles[k]));
        assert_non_null(strstr(bn_error_text(), cases[i].what));
        assert_non_null(strstr(bn_error_text(), cases[i].lower));
        bn_backend_free(backend);
        bn_train_data_clear(&data);
        bn_config_clear(&config);
    }
}

int main(void)
{
    static int64_t at[TRIES];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(a_lost_device_ends_the_run, at),
        cmocka_unit_test_prestate(a_run_goes_on_on_the_cpu, at),
        cmocka_unit_test(a_resumed_run_falls_back_to_where_it_came_from),
        cmocka_unit_test(too_little_memory_is_told_by_role),
    };
    choose_calls(at);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
