/* Whole runs: folder, metrics, resume, early stop, guards. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/signals.h"
#include "checkpoint/checkpoint.h"
#include "train/run_folder.h"
#include "train_help.h"

/* Text of all notes of a run. */
static void collect(void *arg, const char *text)
{
    bn_text_addf(arg, "%s\n", text);
}

static bn_run_options with_notes(bn_text *notes)
{
    bn_text_clear(notes);
    return (bn_run_options){.observer = {.arg = notes, .note = collect}};
}

/* A metrics line without what depends on the clock. */
static void cut_times(char *text)
{
    for (char *at = text; (at = strstr(at, "\"tokens_per_second\"")) != NULL;) {
        char *end = strstr(at, "\"elapsed_s\": ");
        end += strcspn(end, ",}");
        memmove(at, end, strlen(end) + 1);
    }
}

static char *metrics_without_times(const char *folder)
{
    char *text = help_read(help_path(folder, "metrics.jsonl"));
    cut_times(text);
    return text;
}

static void test_finished_run(void **state)
{
    (void)state;
    bn_config config;
    char *summary;
    help_config(&config, "done", NULL);
    help_remove("done");
    assert_ok(help_run(&config, NULL, &summary));
    assert_true(help_number(summary, "steps") == 20);
    assert_true(help_number(summary, "tokens_seen") == 20 * 2 * 16);
    assert_true(help_number(summary, "train_loss") < 5.6);
    assert_true(help_number(summary, "val_loss") > 0);
    assert_true(help_number(summary, "bits_per_byte") > 0);
    assert_true(help_number(summary, "tokens_per_second") > 0);
    assert_true(help_number(summary, "elapsed_s") > 0);
    assert_true(help_number(summary, "peak_rss_bytes") > help_number(summary, "start_rss_bytes"));
    assert_true(help_number(summary, "device_bytes") > 0);
    assert_true(help_number(summary, "peak_device_bytes") > 0);
    assert_true(help_number(summary, "device_fragmentation") >= 0);
    assert_true(help_number(summary, "device_fragmentation") < 0.5);
    assert_true(help_number(summary, "parameters") > 0);
    assert_non_null(strstr(summary, "\"device\": \"cpu\""));
    char *file = help_read("done/summary.json");
    assert_string_equal(file, summary);
    free(file);
    free(summary);

    bn_config again; /* the resolved configuration reads back as it was */
    bn_config_diff diff;
    assert_ok(bn_config_load("done/config.json", &again));
    assert_ok(bn_config_compare(&config, &again, &diff));
    assert_int_equal(diff.count, 0);
    bn_config_diff_clear(&diff);
    bn_config_clear(&again);

    int64_t best, latest;
    assert_ok(bn_checkpoint_get_mark("done", BN_MARK_LATEST, &latest));
    assert_ok(bn_checkpoint_get_mark("done", BN_MARK_BEST, &best));
    assert_int_equal(latest, 20);
    assert_true(best == 8 || best == 16 || best == 20);
    bn_config_clear(&config);
}

/* The keys and their order, a line per interval and evaluation, parsable. */
static void test_metrics_lines(void **state)
{
    (void)state;
    static const char *const keys[] = {"step",
                                       "tokens_seen",
                                       "loss",
                                       "val_loss",
                                       "val_ppl",
                                       "lr",
                                       "grad_norm",
                                       "tokens_per_second",
                                       "device_bytes",
                                       "device_peak_bytes",
                                       "device_fragmentation",
                                       "elapsed_s"};
    enum { KEYS = sizeof keys / sizeof *keys };
    static const int steps[] = {1, 4, 8, 12, 16, 20};
    char *text = help_read("done/metrics.jsonl"); /* of test_finished_run */
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        cJSON *object;
        assert_true(lines < 6);
        assert_ok(bn_json_parse("line", line, strlen(line), &object));
        const cJSON *item = object->child;
        for (int k = 0; k < KEYS; k++, item = item->next)
            assert_string_equal(item->string, keys[k]);
        const bool evaluated = steps[lines] % 8 == 0 || steps[lines] == 20;
        assert_true(help_number(line, "step") == steps[lines]);
        assert_int_equal(isnan(help_number(line, "val_loss")) != 0, !evaluated);
        assert_int_equal(item != NULL, evaluated);
        if (evaluated) {
            assert_string_equal(item->string, "layers");
            assert_int_equal(cJSON_GetArraySize(item), 7);
            assert_null(item->next);
        }
        cJSON_Delete(object);
    }
    assert_int_equal(lines, 6);
    free(text);
}

/* Stopped after `stop` of 20 steps and resumed: the same weights and moments, the
 * same metrics but for the clock, on another number of threads. Dropout and
 * accumulation take part. The undisturbed run stays in `folder`. */
static void check_resume(int stop, const char *folder, const char *setting)
{
    bn_config straight, stopped;
    bn_text notes = {0};
    const char *dropout = "model.dropout=0.1";
    const char *accumulate = "training.gradient_accumulation_steps=2";
    help_config(&straight, folder, dropout, accumulate, setting, NULL);
    help_config(&stopped, "stopped", "training.threads=3", dropout, accumulate, setting, NULL);
    help_remove(folder);
    help_remove("stopped");
    assert_ok(help_run(&straight, NULL, NULL));
    bn_run_options options = with_notes(&notes);
    options.stop_after = stop;
    assert_int_equal(help_run(&stopped, &options, NULL), BN_INTERRUPTED);
    assert_non_null(strstr(bn_error_text(), "--resume auto"));
    options = with_notes(&notes);
    options.resume = "auto";
    assert_ok(help_run(&stopped, &options, NULL));
    assert_non_null(strstr(notes.data, "going on from stopped/checkpoint-000000"));
    assert_true(help_checkpoint_hash(help_path(folder, "checkpoint-00000020.h5")) ==
                help_checkpoint_hash("stopped/checkpoint-00000020.h5"));
    char *a = metrics_without_times(folder), *b = metrics_without_times("stopped");
    assert_string_equal(a, b);
    free(a);
    free(b);
    bn_text_clear(&notes);
    bn_config_clear(&straight);
    bn_config_clear(&stopped);
}

static void test_resume_equals_straight(void **state)
{
    (void)state;
    for (int stop = 1; stop < 20; stop += 5)
        check_resume(stop, "straight", NULL);
    assert_true(help_checkpoint_hash("straight/checkpoint-00000020.h5") !=
                help_checkpoint_hash("done/checkpoint-00000020.h5"));
}

/* The same with each way to train that keeps a state of its own. */
static void test_resume_of_variants(void **state)
{
    static const char *const settings[] = {
        "training.optimizer=muon",           "training.optimizer=sgd",
        "training.optimizer=adamw8bit",      "quantization.scale_estimator=learned",
        "quantization.weight_bits=3",        "training.lr_scheduler=wsd",
        "quantization.warmup_fraction=0.5",  /* stopped in the first step of the second half */
        "quantization.warmup_fraction=0.75", /* and within the first */
        "quantization.ramp_steps=15",        /* on the ramp */
        "quantization.ramp_steps=10",        /* behind it */
    };
    (void)state;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        check_resume(11, "variant", settings[i]);
        assert_true(help_checkpoint_hash("variant/checkpoint-00000020.h5") !=
                    help_checkpoint_hash("straight/checkpoint-00000020.h5"));
    }
}

/* A strength that is 0 or 1 to the last bit is still one of the ramp, as in the first
 * steps of one that is longer than any run. */
static void test_ramp_without_end(void **state)
{
    static const char *const warmups[] = {"quantization.warmup_fraction=0",
                                          "quantization.warmup_fraction=0.4"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        bn_config config;
        help_config(&config, "endless", "quantization.ramp_steps=1000000000",
                    "quantization.ramp_shape=cosine", warmups[i], NULL);
        help_remove("endless");
        assert_ok(help_run(&config, NULL, NULL));
        assert_int_equal(bn_train_strength(&config, 19), BN_STRENGTH_SOFT);
        bn_config_clear(&config);
    }
}

/* Float, ramp, full: the lines say the strength, the notes where a phase begins. */
static void test_strength_of_quantization(void **state)
{
    (void)state;
    bn_config config;
    bn_text notes = {0};
    bn_run_options options = with_notes(&notes);
    help_config(&config, "ramp", "quantization.warmup_fraction=0.4", "quantization.ramp_steps=4",
                "training.early_stop_patience=1", "training.learning_rate=0", NULL);
    help_remove("ramp");
    assert_ok(help_run(&config, &options, NULL));
    assert_non_null(strstr(notes.data, "the quantization ramp begins after step 8"));
    assert_non_null(strstr(notes.data, "full quantization begins after step 12"));
    assert_non_null(strstr(notes.data, "stopped early at step 16")); /* never before the end */
    char *text = help_read("ramp/metrics.jsonl");
    static const double strengths[] = {0, 0, 0, 0.8, 1};
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++)
        assert_true(fabs(help_number(line, "strength") - strengths[lines]) < 1e-12);
    assert_int_equal(lines, 5);
    free(text);
    bn_text_clear(&notes);
    bn_config_clear(&config);
}

static void append(const char *path, const char *text)
{
    bn_file *file;
    assert_ok(bn_file_append(path, &file));
    assert_ok(bn_file_write(file, text, strlen(text)));
    assert_ok(bn_file_close(file));
}

/* What a killed run wrote after its last checkpoint is cut away; a file that
 * has lost its tail is kept up to its last whole line. */
static void test_metrics_after_resume(void **state)
{
    (void)state;
    bn_config config;
    bn_run_options options = {.stop_after = 10};
    help_config(&config, "cut", NULL);
    help_remove("cut");
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
    append("cut/metrics.jsonl", "{\"step\": 12, \"loss\": 1}\n{\"step\": 16, \"lo");
    options = (bn_run_options){.resume = "auto"};
    assert_ok(help_run(&config, &options, NULL));
    char *a = metrics_without_times("cut"), *b = metrics_without_times("done");
    assert_string_equal(a, b);
    free(a);
    free(b);

    help_remove("cut");
    options = (bn_run_options){.stop_after = 10};
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
    char *text = help_read("cut/metrics.jsonl");
    const size_t first = strcspn(text, "\n") + 1;
    assert_ok(bn_fs_write("cut/metrics.jsonl", text, first + 30));
    free(text);
    options = (bn_run_options){.resume = "auto"};
    assert_ok(help_run(&config, &options, NULL));
    text = help_read("cut/metrics.jsonl");
    assert_true(help_number(strtok(text, "\n"), "step") == 1);
    assert_true(help_number(strtok(NULL, "\n"), "step") == 12);
    free(text);
    bn_config_clear(&config);
}

static void test_damaged_checkpoint_is_skipped(void **state)
{
    (void)state;
    bn_config config;
    bn_text notes = {0};
    bn_run_options options = {.stop_after = 15};
    help_config(&config, "damaged", "training.save_interval=5", "training.eval_interval=0", NULL);
    help_remove("damaged");
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
    assert_int_equal(truncate("damaged/checkpoint-00000015.h5", 5000), 0);
    options = with_notes(&notes);
    options.resume = "damaged"; /* by its name: what is newer there is no other history */
    options.stop_after = 12;
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
    assert_non_null(strstr(notes.data, "(step 10)"));
    options = with_notes(&notes);
    options.resume = "auto";
    assert_ok(help_run(&config, &options, NULL));
    assert_non_null(strstr(notes.data, "skipped"));
    assert_non_null(strstr(notes.data, "checkpoint-00000015.h5"));
    assert_non_null(strstr(notes.data, "(step 12)"));
    assert_true(help_checkpoint_hash("damaged/checkpoint-00000020.h5") ==
                help_checkpoint_hash("done/checkpoint-00000020.h5"));

    bn_strings names = {0}; /* none left to go on from */
    assert_ok(bn_fs_list("damaged", "checkpoint-", NULL, &names));
    for (size_t i = 0; i < names.count; i++)
        assert_int_equal(truncate(help_path("damaged", names.items[i]), 100), 0);
    bn_strings_clear(&names);
    options = with_notes(&notes);
    options.resume = "auto";
    assert_int_equal(help_run(&config, &options, NULL), BN_BAD_DATA);
    bn_text_clear(&notes);
    bn_config_clear(&config);
}

static void test_resume_with_changes(void **state)
{
    (void)state;
    bn_config config;
    bn_text notes = {0};
    bn_run_options options = {.stop_after = 10};
    help_config(&config, "changed", NULL);
    help_remove("changed");
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);

    options = with_notes(&notes);
    options.resume = "auto";
    assert_ok(bn_config_set(&config, "model.intermediate_size=96"));
    assert_int_equal(help_run(&config, &options, NULL), BN_BAD_CONFIG);
    assert_non_null(strstr(bn_error_text(), "model.intermediate_size"));

    assert_ok(bn_config_set(&config, "model.intermediate_size=64"));
    assert_ok(bn_config_set(&config, "training.learning_rate=0.001"));
    assert_ok(bn_config_set(&config, "training.seq_len=8"));
    assert_ok(bn_config_set(&config, "training.log_interval=2"));
    options = with_notes(&notes);
    options.resume = "auto";
    assert_ok(help_run(&config, &options, NULL));
    assert_non_null(strstr(notes.data, "training.learning_rate: 0.0015 -> 0.001"));
    assert_non_null(strstr(notes.data, "training.seq_len: 16 -> 8"));
    assert_non_null(strstr(notes.data, "starts anew"));
    assert_null(strstr(notes.data, "log_interval")); /* changes nothing that is learned */
    bn_text_clear(&notes);
    bn_config_clear(&config);
}

/* From a file into a new folder; from an older file into its own folder. */
static void test_resume_from_a_path(void **state)
{
    (void)state;
    bn_config config;
    bn_run_options options = {.resume = "straight/checkpoint-00000008.h5"};
    help_config(&config, "fork", "model.dropout=0.1", "training.gradient_accumulation_steps=2",
                NULL);
    help_remove("fork");
    assert_ok(help_run(&config, &options, NULL));
    assert_true(help_checkpoint_hash("fork/checkpoint-00000020.h5") ==
                help_checkpoint_hash("straight/checkpoint-00000020.h5"));
    options.resume = "straight";
    assert_ok(help_run(&config, &options, NULL)); /* nothing left to do */
    options.resume = "fork/checkpoint-00000008.h5";
    bn_status status = help_run(&config, &options, NULL);
    assert_int_equal(status, BN_NO_INPUT); /* was not saved there */
    options.resume = "straight/checkpoint-00000008.h5";
    assert_int_equal(help_run(&config, &options, NULL), BN_USAGE);
    assert_non_null(strstr(bn_error_text(), "step 20"));
    options.resume = "missing.h5";
    assert_int_equal(help_run(&config, &options, NULL), BN_NO_INPUT);
    options.resume = "text.txt";
    assert_int_equal(help_run(&config, &options, NULL), BN_BAD_DATA);
    bn_config_clear(&config);
}

/* A folder's own metrics are cut by step, whatever another folder's file was
 * as long as; its own checkpoint is known under any name of the folder. */
static void test_resume_knows_its_folder(void **state)
{
    (void)state;
    bn_config config;
    bn_text notes = {0};
    bn_run_options options = {.stop_after = 6};
    help_config(&config, "knows", "training.log_interval=1", NULL);
    help_remove("knows");
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
    options = (bn_run_options){.resume = "done/checkpoint-00000008.h5", .stop_after = 9};
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
    char *text = help_read("knows/metrics.jsonl"), *line = strtok(text, "\n");
    static const int steps[] = {1, 2, 3, 4, 5, 6, 9};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++, line = strtok(NULL, "\n"))
        assert_true(line && help_number(line, "step") == steps[i]);
    assert_null(line);
    free(text);

    options = with_notes(&notes); /* nothing to do: not saved a second time */
    options.resume = "./knows/../knows/checkpoint-00000009.h5";
    options.stop_after = 9;
    struct stat before, after;
    assert_int_equal(stat("knows/checkpoint-00000009.h5", &before), 0);
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
    assert_int_equal(stat("knows/checkpoint-00000009.h5", &after), 0);
    assert_true(before.st_ino == after.st_ino);
    bn_text_clear(&notes);
    bn_config_clear(&config);
}

/* What a text is counts, not where it lies. */
static void test_changed_text_is_noticed(void **state)
{
    (void)state;
    bn_config config;
    bn_text notes = {0};
    char *text = help_read("text.txt");
    assert_ok(bn_fs_write("moving.txt", text, strlen(text)));
    help_config(&config, "texts", "data.train=moving.txt", "training.eval_interval=0", NULL);
    help_remove("texts");
    bn_run_options options = {.stop_after = 5};
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);

    assert_int_equal(rename("moving.txt", "moved.txt"), 0);
    assert_ok(bn_config_set(&config, "data.train=moved.txt"));
    options = with_notes(&notes);
    options.resume = "auto";
    options.stop_after = 6;
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
    assert_null(strstr(notes.data, "starts anew"));
    assert_null(strstr(notes.data, "the training data"));

    text[100] = text[100] == 'x' ? 'y' : 'x'; /* same place, same length */
    assert_ok(bn_fs_write("moved.txt", text, strlen(text)));
    options = with_notes(&notes);
    options.resume = "auto";
    options.stop_after = 7;
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
    assert_non_null(strstr(notes.data, "the training data: 5400 tokens"));
    assert_non_null(strstr(notes.data, "starts anew"));
    assert_null(strstr(notes.data, "held-out"));
    free(text);
    bn_text_clear(&notes);
    bn_config_clear(&config);
}

/* The best checkpoint lies in the folder the run went on from. */
static void test_summary_names_a_file_of_the_folder(void **state)
{
    (void)state;
    bn_config config;
    char *summary;
    bn_run_options options = {.resume = "straight/checkpoint-00000008.h5"};
    help_config(&config, "elsewhere", "model.dropout=0.1", "training.gradient_accumulation_steps=2",
                "training.learning_rate=0", "training.weight_decay=0", NULL);
    help_remove("elsewhere");
    assert_ok(help_run(&config, &options, &summary));
    assert_true(help_number(summary, "best_step") == 8);
    assert_non_null(strstr(summary, "elsewhere/checkpoint-00000020.h5"));
    free(summary);
    bn_config_clear(&config);
}

static void test_automatic_resume_of_nothing(void **state)
{
    (void)state;
    bn_config config;
    bn_text notes = {0};
    bn_run_options options = with_notes(&notes);
    options.resume = "auto";
    help_config(&config, "fresh", NULL);
    help_remove("fresh");
    assert_ok(help_run(&config, &options, NULL));
    assert_non_null(strstr(notes.data, "starting at step 0"));
    assert_true(help_checkpoint_hash("fresh/checkpoint-00000020.h5") ==
                help_checkpoint_hash("done/checkpoint-00000020.h5"));
    bn_text_clear(&notes);
    bn_config_clear(&config);
}

static void test_folder_rules(void **state)
{
    (void)state;
    bn_config config;
    bn_run_options options = {0};
    help_config(&config, "rules", NULL);
    help_remove("rules");
    assert_ok(bn_fs_mkdirs("rules"));
    append("rules/notes.txt", "mine");
    assert_int_equal(help_run(&config, &options, NULL), BN_USAGE);
    assert_non_null(strstr(bn_error_text(), "--resume"));
    assert_non_null(strstr(bn_error_text(), "--overwrite"));
    assert_false(bn_fs_exists("rules/.lock")); /* nothing was touched */
    append("rules/checkpoint-00000099.h5", "old");
    append("rules/checkpoint-00000098.h5.tmp", "old");
    append("rules/metrics.jsonl", "old\n");
    append("rules/best", "old");
    options.overwrite = true;
    assert_ok(bn_config_set(&config, "model.vocab_size=8")); /* fewer than the tokenizer's */
    assert_int_equal(help_run(&config, &options, NULL), BN_BAD_CONFIG);
    assert_true(bn_fs_exists("rules/checkpoint-00000099.h5")); /* no run: nothing to replace it */
    assert_ok(bn_config_set(&config, "model.vocab_size=0"));
    assert_ok(help_run(&config, &options, NULL));
    assert_true(bn_fs_exists("rules/notes.txt"));
    assert_false(bn_fs_exists("rules/checkpoint-00000099.h5"));
    assert_false(bn_fs_exists("rules/checkpoint-00000098.h5.tmp"));
    char *a = metrics_without_times("rules"), *b = metrics_without_times("done");
    assert_string_equal(a, b);
    free(a);
    free(b);
    bn_config_clear(&config);
}

static void test_lock(void **state)
{
    (void)state;
    bn_config config;
    bn_run_folder folder;
    bn_run_options options = {.resume = "auto"};
    help_config(&config, "locked", NULL);
    help_remove("locked");
    assert_ok(bn_run_folder_open("locked", BN_FOLDER_NEW, &folder));
    assert_int_equal(help_run(&config, &options, NULL), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "another run"));
    bn_run_folder_close(&folder);
    assert_ok(help_run(&config, NULL, NULL)); /* a lock file alone is no content */
    bn_config_clear(&config);
}

/* No evaluation gets better when nothing is learned. */
static void test_early_stop(void **state)
{
    (void)state;
    bn_config config;
    bn_text notes = {0};
    char *summary;
    bn_run_options options = with_notes(&notes);
    help_config(&config, "early", "training.learning_rate=0", "training.weight_decay=0",
                "training.eval_interval=2", "training.early_stop_patience=3", NULL);
    help_remove("early");
    assert_ok(help_run(&config, &options, &summary));
    assert_true(help_number(summary, "steps") == 8);
    assert_true(help_number(summary, "best_step") == 2);
    assert_non_null(strstr(notes.data, "stopped early at step 8"));
    assert_non_null(strstr(summary, "early/checkpoint-00000002.h5"));
    free(summary);
    options = with_notes(&notes); /* it stays stopped */
    options.resume = "auto";
    assert_ok(help_run(&config, &options, &summary));
    assert_true(help_number(summary, "steps") == 8);
    free(summary);
    bn_text_clear(&notes);
    bn_config_clear(&config);
}

static void test_nan_names_last_good_checkpoint(void **state)
{
    (void)state;
    bn_config config;
    bn_run_options options = {.stop_after = 4};
    help_config(&config, "nan", "training.warmup_steps=0", "training.grad_clip=0", NULL);
    help_remove("nan");
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
    config.training.learning_rate = 1e30; /* beyond what a config may say */
    options = (bn_run_options){.resume = "auto"};
    assert_int_equal(help_run(&config, &options, NULL), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "nan"));
    assert_non_null(strstr(bn_error_text(), "nan/checkpoint-00000004.h5"));
    assert_ok(bn_checkpoint_verify("nan/checkpoint-00000004.h5"));
    bn_config_clear(&config);
}

static void test_checkpoints_are_pruned(void **state)
{
    (void)state;
    bn_config config;
    bn_strings names = {0};
    int64_t best;
    help_config(&config, "pruned", "training.save_interval=2", "training.save_total_limit=2", NULL);
    help_remove("pruned");
    assert_ok(help_run(&config, NULL, NULL));
    assert_ok(bn_fs_list("pruned", "checkpoint-", ".h5", &names));
    assert_ok(bn_checkpoint_get_mark("pruned", BN_MARK_BEST, &best));
    assert_true(names.count == 2 || (names.count == 3 && best < 18));
    char *path = bn_checkpoint_path("pruned", best);
    assert_ok(bn_checkpoint_verify(path));
    free(path);
    bn_strings_clear(&names);
    bn_config_clear(&config);
}

static void spoil_mark(void *arg, const bn_trainer *trainer, const bn_step_result *result)
{
    (void)arg;
    (void)result;
    if (trainer->progress.step == 5)
        assert_ok(bn_fs_write("spoilt/best", "which?\n", 7));
}

/* A mark that cannot be read may mean any checkpoint: all stay, the run goes on. */
static void test_unreadable_best(void **state)
{
    (void)state;
    bn_config config;
    bn_text notes = {0};
    bn_strings names = {0};
    help_config(&config, "spoilt", "training.save_interval=2", "training.save_total_limit=1",
                "training.max_steps=11", "data.validation_fraction=0", NULL);
    help_remove("spoilt");
    bn_run_options options = with_notes(&notes);
    options.observer.step = spoil_mark;
    assert_ok(help_run(&config, &options, NULL));
    assert_non_null(strstr(notes.data, "no old checkpoint is deleted: spoilt/best: expected"));
    assert_ok(bn_fs_list("spoilt", "checkpoint-", ".h5", &names));
    assert_int_equal(names.count, 5); /* 4, and all of 6, 8, 10, 11 */
    bn_strings_clear(&names);
    bn_text_clear(&notes);
    bn_config_clear(&config);
}

/* Nothing held out: no evaluation, no best; the summary says null. */
static void test_without_validation(void **state)
{
    (void)state;
    bn_config config;
    char *summary;
    help_config(&config, "unheld", "data.validation_fraction=0", NULL);
    help_remove("unheld");
    assert_ok(help_run(&config, NULL, &summary));
    assert_true(isnan(help_number(summary, "val_loss")));
    assert_true(isnan(help_number(summary, "bits_per_byte")));
    assert_false(bn_fs_exists("unheld/best"));
    assert_true(bn_fs_exists("unheld/checkpoint-00000020.h5"));
    free(summary);
    bn_config_clear(&config);
}

static void test_missing_and_short_text(void **state)
{
    (void)state;
    bn_config config;
    help_config(&config, "nodata", "data.train=no-such-file.txt", NULL);
    help_remove("nodata");
    assert_int_equal(help_run(&config, NULL, NULL), BN_NO_INPUT);
    assert_non_null(strstr(bn_error_text(), "no-such-file.txt"));
    assert_false(bn_fs_exists("nodata"));
    append("short.txt", "abc");
    assert_ok(bn_config_set(&config, "data.train=short.txt"));
    assert_int_equal(help_run(&config, NULL, NULL), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "short.txt"));
    assert_false(bn_fs_exists("nodata"));
    assert_ok(bn_fs_remove("short.txt"));
    bn_config_clear(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finished_run),
        cmocka_unit_test(test_metrics_lines),
        cmocka_unit_test(test_resume_equals_straight),
        cmocka_unit_test(test_resume_of_variants),
        cmocka_unit_test(test_ramp_without_end),
        cmocka_unit_test(test_strength_of_quantization),
        cmocka_unit_test(test_metrics_after_resume),
        cmocka_unit_test(test_damaged_checkpoint_is_skipped),
        cmocka_unit_test(test_resume_with_changes),
        cmocka_unit_test(test_resume_knows_its_folder),
        cmocka_unit_test(test_changed_text_is_noticed),
        cmocka_unit_test(test_resume_from_a_path),
        cmocka_unit_test(test_summary_names_a_file_of_the_folder),
        cmocka_unit_test(test_automatic_resume_of_nothing),
        cmocka_unit_test(test_folder_rules),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_early_stop),
        cmocka_unit_test(test_nan_names_last_good_checkpoint),
        cmocka_unit_test(test_checkpoints_are_pruned),
        cmocka_unit_test(test_unreadable_best),
        cmocka_unit_test(test_without_validation),
        cmocka_unit_test(test_missing_and_short_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
