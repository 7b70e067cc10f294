/* The health of a run: what counts as a spike, dead and stuck layers, the way
 * back to the last checkpoint, steps that hang, stops during an evaluation. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checkpoint/checkpoint.h"
#include "train/watchdog.h"
#include "train_help.h"

/* ---- parts ---- */

static void test_loss_limit(void **state)
{
    (void)state;
    bn_loss_window w = {0};
    double median = -1.0;
    for (int i = 0; i < BN_HEALTH_ENOUGH; i++) {
        assert_true(isinf(bn_loss_limit(&w, 10.0, &median)));
        bn_loss_window_add(&w, i % 2 ? 5.0 : 3.0); /* median 4, distances all 1 */
    }
    assert_true(fabs(bn_loss_limit(&w, 10.0, &median) - (4.0 + 10.0 * 1.4826)) < 1e-12);
    assert_true(median == 4.0);
    assert_true(isinf(bn_loss_limit(&w, 0.0, NULL)));
    bn_loss_window_add(&w, 1e6); /* one spike moves the limit little */
    assert_true(fabs(bn_loss_limit(&w, 10.0, &median) - (5.0 + 20.0 * 1.4826)) < 1e-12);
    for (int i = 0; i < BN_HEALTH_WINDOW; i++) /* a level without noise */
        bn_loss_window_add(&w, 2.0);
    assert_true(fabs(bn_loss_limit(&w, 10.0, &median) - 2.2) < 1e-12);
}

static void test_layers(void **state)
{
    (void)state;
    bn_layer_stats stats[] = {
        {.name = "fine", .zero_share = 0.3, .flip_rate = 0.01},
        {.name = "dead", .zero_share = 0.995, .flip_rate = 0.01},
        {.name = "still", .zero_share = 0.3, .flip_rate = 0.0},
    };
    const bn_telemetry telemetry = {.count = 3, .stats = stats};
    bn_layer_health health;
    bn_strings told = {0};
    assert_ok(bn_layer_health_init(&health, 3));
    bn_layer_health_check(&health, &telemetry, true, &told);
    assert_int_equal(told.count, 1);
    assert_string_equal(told.items[0], "DEAD LAYER: dead: 99.50 % of its codes are 0");
    bn_layer_health_check(&health, &telemetry, true, &told);
    bn_layer_health_check(&health, &telemetry, false, &told); /* the rate has come down */
    bn_layer_health_check(&health, &telemetry, true, &told);
    bn_layer_health_check(&health, &telemetry, true, &told);
    assert_int_equal(told.count, 1);
    bn_layer_health_check(&health, &telemetry, true, &told);
    bn_layer_health_check(&health, &telemetry, true, &told);
    assert_int_equal(told.count, 2);
    assert_non_null(strstr(told.items[1], "STUCK LAYER: still: no ternary code has changed"));
    bn_strings_clear(&told);
    bn_layer_health_clear(&health);
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

static _Atomic int64_t hung_step;

static void on_hung(void *arg, int64_t step, double seconds)
{
    (void)seconds;
    assert_ptr_equal(arg, &hung_step);
    hung_step = step;
}

static void test_watchdog(void **state)
{
    (void)state;
    bn_watchdog *watchdog;
    assert_ok(bn_watchdog_new(0.2, on_hung, &hung_step, &watchdog));
    for (int64_t step = 1; step <= 300; step++) { /* longer than that, but no single one is */
        bn_watchdog_begin(watchdog, step);
        sleep_ms(1);
        bn_watchdog_end(watchdog);
    }
    sleep_ms(300); /* no step is being made */
    assert_int_equal(hung_step, 0);
    bn_watchdog_begin(watchdog, 77);
    for (int i = 0; i < 1000 && hung_step == 0; i++)
        sleep_ms(10);
    assert_int_equal(hung_step, 77);
    bn_watchdog_free(watchdog);
}

/* ---- runs ---- */

static bn_text warnings;
static int64_t spoil_at; /* after this step the weights are spoilt, once */
static float spoil_by;

static void collect(void *arg, const char *text)
{
    bn_text_addf(arg, "%s\n", text);
}

static void spoil(void *arg, const bn_trainer *trainer, const bn_step_result *result)
{
    (void)arg;
    (void)result;
    if (trainer->progress.step != spoil_at)
        return;
    spoil_at = -1;
    float *x = trainer->model->values.host;
    for (size_t i = 0; i < trainer->model->values.bytes / sizeof *x; i++)
        x[i] *= i % 2 ? spoil_by : -spoil_by;
}

static bn_run_options spoilt_after(int64_t step, float factor)
{
    bn_text_clear(&warnings);
    bn_text_add(&warnings, "");
    spoil_at = step;
    spoil_by = factor;
    return (bn_run_options){
        .observer = {.arg = &warnings, .warning = collect, .step = spoil},
    };
}

static void configure(bn_config *config, const char *out, const char *further)
{
    help_config(config, out, "training.save_interval=20", "training.max_steps=40",
                "training.eval_interval=10", "training.log_interval=1", further, NULL);
    help_remove(out);
}

static void assert_warned(const char *part)
{
    if (!strstr(warnings.data, part))
        fail_msg("\"%s\" is not in: %s", part, warnings.data);
}

static uint64_t straight_hash(void)
{
    return help_checkpoint_hash("well/checkpoint-00000040.h5");
}

static void test_a_healthy_run_is_quiet(void **state)
{
    (void)state;
    bn_config config;
    bn_run_options options = spoilt_after(-1, 1.0f);
    configure(&config, "well", NULL);
    assert_ok(help_run(&config, &options, NULL));
    assert_string_equal(warnings.data, "");
    bn_config_clear(&config);
}

static void test_spike_is_reported(void **state)
{
    (void)state;
    bn_config config;
    bn_run_options options = spoilt_after(25, 30.0f);
    configure(&config, "spike", NULL);
    assert_ok(help_run(&config, &options, NULL));
    assert_warned("step 26: LOSS SPIKE: ");
    assert_null(strstr(warnings.data, "back from"));
    options = spoilt_after(25, 30.0f);
    bn_config_clear(&config);
    configure(&config, "spike", "training.spike_threshold=0");
    assert_ok(help_run(&config, &options, NULL));
    assert_null(strstr(warnings.data, "SPIKE"));
    bn_config_clear(&config);
}

/* Metrics lines have rising steps, 1 to 40; the learning rate at `step`. */
static double rate_at(const char *dir, int step)
{
    char *text = help_read(help_path(dir, "metrics.jsonl"));
    double rate = -1.0;
    int expected = 1;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), expected++) {
        assert_true(help_number(line, "step") == expected);
        if (expected == step)
            rate = help_number(line, "lr");
    }
    assert_int_equal(expected, 41);
    free(text);
    return rate;
}

/* Back to step 20 and forth again with the same rate: as if nothing had been. */
static void test_rollback(void **state)
{
    (void)state;
    static const float factors[] = {30.0f, NAN};
    for (int i = 0; i < 2; i++) {
        bn_config config;
        bn_run_options options = spoilt_after(25, factors[i]);
        configure(&config, "back", "training.spike_rollbacks=2");
        assert_ok(bn_config_set(&config, "training.spike_lr_factor=1"));
        assert_ok(help_run(&config, &options, NULL));
        assert_warned(i == 0 ? "LOSS SPIKE" : "step 26: loss is nan");
        assert_warned(" to back/checkpoint-00000020.h5, with 1 times the learning rate (1 of 2");
        assert_true(help_checkpoint_hash("back/checkpoint-00000040.h5") == straight_hash());
        assert_true(rate_at("back", 40) == rate_at("well", 40));
        bn_config_clear(&config);
    }
}

/* The reduced rate and the number of rollbacks outlive a restart. */
static void test_rollback_lowers_the_rate(void **state)
{
    (void)state;
    bn_config config;
    bn_run_options options = spoilt_after(25, NAN);
    configure(&config, "lower", "training.spike_rollbacks=1");
    options.stop_after = 30;
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
    options = spoilt_after(35, NAN);
    options.resume = "auto";
    assert_int_equal(help_run(&config, &options, NULL), BN_FAIL); /* there was one to spend */
    assert_non_null(strstr(bn_error_text(), "lower/checkpoint-00000030.h5"));
    options = spoilt_after(-1, 1.0f);
    options.resume = "auto";
    assert_ok(help_run(&config, &options, NULL));
    assert_true(rate_at("lower", 20) == rate_at("well", 20));
    assert_true(rate_at("lower", 21) == 0.5 * rate_at("well", 21));
    assert_true(rate_at("lower", 39) == 0.5 * rate_at("well", 39));
    bn_config_clear(&config);
}

static void test_nothing_to_go_back_to(void **state)
{
    (void)state;
    bn_config config;
    bn_run_options options = spoilt_after(5, NAN);
    configure(&config, "unsaved", "training.spike_rollbacks=9");
    assert_int_equal(help_run(&config, &options, NULL), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "no checkpoint has been saved"));
    bn_config_clear(&config);
}

/* ---- stops during an evaluation ---- */

static int polls_left;

static int interrupted(void)
{
    return polls_left-- <= 0;
}

/* Wherever it is stopped, between steps or within an evaluation, the run goes on
 * to the same end: weights, best step and metrics. */
static void test_stop_within_an_evaluation(void **state)
{
    (void)state;
    bn_config config;
    char *expected, *summary;
    int within = 0;
    configure(&config, "whole", "training.eval_interval=4");
    assert_ok(bn_config_set(&config, "training.max_steps=12"));
    assert_ok(help_run(&config, NULL, &expected));
    for (int polls = 1; polls < 30; polls += 3) {
        bn_run_options options = {.interrupted = interrupted};
        int64_t latest;
        help_remove("parts");
        assert_ok(bn_config_set(&config, "output_dir=parts"));
        polls_left = polls;
        bn_status status = help_run(&config, &options, &summary);
        if (status == BN_OK) { /* over before that many */
            free(summary);
            break;
        }
        assert_int_equal(status, BN_INTERRUPTED);
        assert_ok(bn_checkpoint_get_mark("parts", BN_MARK_LATEST, &latest));
        char *lines = help_read("parts/metrics.jsonl");
        char line[40];
        snprintf(line, sizeof line, "{\"step\": %lld,", (long long)latest);
        within += latest > 0 && !strstr(lines, line);
        free(lines);
        options = (bn_run_options){.resume = "auto"};
        assert_ok(help_run(&config, &options, &summary));
        assert_true(help_number(summary, "best_step") == help_number(expected, "best_step"));
        assert_true(help_number(summary, "best_val_loss") ==
                    help_number(expected, "best_val_loss"));
        assert_true(help_checkpoint_hash("parts/checkpoint-00000012.h5") ==
                    help_checkpoint_hash("whole/checkpoint-00000012.h5"));
        free(summary);
    }
    assert_true(within > 0);
    free(expected);
    bn_config_clear(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_limit),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_watchdog),
        cmocka_unit_test(test_a_healthy_run_is_quiet),
        cmocka_unit_test(test_spike_is_reported),
        cmocka_unit_test(test_rollback),
        cmocka_unit_test(test_rollback_lowers_the_rate),
        cmocka_unit_test(test_nothing_to_go_back_to),
        cmocka_unit_test(test_stop_within_an_evaluation),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    bn_text_clear(&warnings);
    return failed;
}
