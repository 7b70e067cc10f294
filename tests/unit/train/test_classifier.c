/* The MLP kind in the trainer: it learns, counts, stops and goes on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "unit/train/train_help.h"

/* Points of a plane whose class is the quadrant's parity: no line parts them. */
static void write_table(const char *path, int rows, uint64_t seed)
{
    bn_text text = {0};
    bn_rng rng = bn_rng_of(seed, 1);
    for (int i = 0; i < rows; i++) {
        const double x = bn_rng_normal(&rng), y = bn_rng_normal(&rng);
        bn_text_addf(&text, "%.6f,%.6f,%.6f,%d\n", x, y, x + y, x * y > 0);
    }
    assert_ok(bn_fs_write(path, text.data, text.size));
    bn_text_clear(&text);
}

static void config_of(bn_config *config, const char *out, const char *more)
{
    write_table("train.csv", 500, 1);
    write_table("held.csv", 203, 2);
    help_config(config, out, "model.kind=mlp", "model.input_size=3", "model.num_labels=2",
                "model.num_hidden_layers=2", "data.train=train.csv", "data.validation=held.csv",
                "training.batch_size=50", "training.max_steps=400", "training.eval_interval=200",
                "training.eval_batches=0", "training.learning_rate=0.01", more, NULL);
}

static void test_learns(void **state)
{
    (void)state;
    bn_config config;
    char *summary, *metrics;
    help_remove("mlp");
    config_of(&config, "mlp", "model.dropout=0.01");
    assert_ok(help_run(&config, &(bn_run_options){0}, &summary));
    const double accuracy = help_number(summary, "val_accuracy");
    print_message("accuracy %.3f of 203\n", accuracy);
    assert_true(accuracy > 0.9);
    assert_true(fabs(accuracy * 203 - round(accuracy * 203)) < 1e-9); /* every row once */
    assert_true(help_number(summary, "tokens_seen") == 400 * 50);
    assert_null(strstr(summary, "bits_per_byte"));
    metrics = help_read(help_path("mlp", "metrics.jsonl"));
    assert_non_null(strstr(metrics, "\"val_accuracy\""));
    free(metrics);
    free(summary);
    bn_config_clear(&config);
}

static void count_changes(void *arg, const char *text)
{
    *(int *)arg += strstr(text, "the training data: 500 tokens or rows") != NULL;
}

static void test_resumes(void **state)
{
    (void)state;
    bn_config config;
    char *summary;
    help_remove("whole");
    help_remove("parts");
    config_of(&config, "whole", "training.max_steps=60");
    assert_ok(help_run(&config, &(bn_run_options){0}, &summary));
    free(summary);
    assert_ok(bn_config_set(&config, "output_dir=parts"));
    assert_int_equal(help_run(&config, &(bn_run_options){.stop_after = 23}, &summary),
                     BN_INTERRUPTED);
    assert_ok(help_run(&config, &(bn_run_options){.resume = "auto"}, &summary));
    free(summary);
    assert_true(help_checkpoint_hash("whole/checkpoint-00000060.h5") ==
                help_checkpoint_hash("parts/checkpoint-00000060.h5"));
    /* Another table of the same name is noticed and starts anew. */
    int told = 0;
    write_table("train.csv", 60, 3);
    assert_ok(bn_config_set(&config, "output_dir=parts"));
    assert_ok(bn_config_set(&config, "training.max_steps=70"));
    assert_ok(help_run(
        &config,
        &(bn_run_options){.resume = "auto", .observer = {.note = count_changes, .arg = &told}},
        &summary));
    free(summary);
    assert_int_equal(told, 1);
    bn_config_clear(&config);
}

static void test_own_split(void **state)
{
    (void)state;
    bn_config config;
    bn_train_data data;
    config_of(&config, "unused", "data.validation=null");
    assert_ok(bn_train_data_open(&config, &data));
    assert_int_equal(data.train_rows.count, 450);
    assert_int_equal(data.validation_rows.count, 50);
    bn_train_data_clear(&data);
    assert_ok(bn_config_set(&config, "model.input_size=4"));
    assert_int_equal(bn_train_data_open(&config, &data), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "train.csv: line 1: expected 4 features"));
    bn_config_clear(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_resumes),
        cmocka_unit_test(test_own_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
