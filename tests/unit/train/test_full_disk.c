/* Disks that are full, for a while or for good: the run goes on as long as that
 * makes sense, nothing is torn, and the last checkpoint stays good. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "train_help.h"

static struct {
    int save, save_from, save_to; /* checkpoints so far; first and last that fail */
    int line, line_from, line_to; /* the same of writes to metrics.jsonl */
    int metrics_fd;
    uint64_t free_bytes; /* 0: as it is */
} disk;

static const bn_fs_ops *real;
static bn_text warnings;

static bool ends_with(const char *text, const char *end)
{
    const size_t size = strlen(text), tail = strlen(end);
    return size >= tail && strcmp(text + size - tail, end) == 0;
}

static int disk_open(const char *path, int flags, mode_t mode)
{
    const int fd = real->open(path, flags, mode);
    if (ends_with(path, "metrics.jsonl"))
        disk.metrics_fd = fd;
    return fd;
}

/* A full disk takes the start of a line. */
static ssize_t disk_write(int fd, const void *data, size_t size)
{
    if (fd != disk.metrics_fd)
        return real->write(fd, data, size);
    disk.line++;
    if (disk.line < disk.line_from || disk.line > disk.line_to)
        return real->write(fd, data, size);
    if (size > 40) {
        disk.line--;
        return real->write(fd, data, 20 + size % 20);
    }
    errno = ENOSPC;
    return -1;
}

static int disk_rename(const char *from, const char *to)
{
    if (!ends_with(to, ".h5"))
        return real->rename(from, to);
    disk.save++;
    if (disk.save < disk.save_from || disk.save > disk.save_to)
        return real->rename(from, to);
    errno = ENOSPC;
    return -1;
}

static int disk_statvfs(const char *path, struct statvfs *out)
{
    const int result = real->statvfs(path, out);
    if (disk.free_bytes) {
        out->f_frsize = 1;
        out->f_bavail = disk.free_bytes;
    }
    return result;
}

static void use_disk(void)
{
    static bn_fs_ops ops;
    real = bn_fs_get_ops();
    ops = *real;
    ops.open = disk_open;
    ops.write = disk_write;
    ops.rename = disk_rename;
    ops.statvfs = disk_statvfs;
    bn_fs_set_ops(&ops);
}

static void collect(void *arg, const char *text)
{
    bn_text_addf(arg, "%s\n", text);
}

static bn_run_options watched(void)
{
    bn_text_clear(&warnings);
    bn_text_add(&warnings, "");
    return (bn_run_options){.observer = {.arg = &warnings, .warning = collect}};
}

/* Checkpoints at 5, 10, 15, 20; metrics at 1, 4, 8, ... */
static void configure(bn_config *config, const char *out)
{
    help_config(config, out, "training.save_interval=5", "training.eval_interval=0",
                "data.validation_fraction=0", "training.save_total_limit=9", NULL);
    help_remove(out);
}

static void assert_warned(const char *part)
{
    if (!strstr(warnings.data, part))
        fail_msg("\"%s\" is not in: %s", part, warnings.data);
}

static void assert_error(const char *part)
{
    if (!strstr(bn_error_text(), part))
        fail_msg("\"%s\" is not in: %s", part, bn_error_text());
}

/* Of exactly these steps there are checkpoints, all good, and nothing else. */
static void assert_checkpoints(const char *dir, const int *steps, size_t count)
{
    bn_strings names = {0};
    assert_ok(bn_fs_list(dir, "checkpoint-", NULL, &names));
    assert_int_equal(names.count, count);
    for (size_t i = 0; i < count; i++) {
        char *path = bn_checkpoint_path(dir, steps[i]);
        assert_string_equal(help_path(dir, names.items[i]), path);
        assert_ok(bn_checkpoint_verify(path));
        free(path);
    }
    bn_strings_clear(&names);
}

static uint64_t straight_hash(void)
{
    return help_checkpoint_hash("full-never/checkpoint-00000020.h5");
}

static int setup(void **state)
{
    (void)state;
    bn_config config;
    configure(&config, "full-never");
    assert_ok(help_run(&config, NULL, NULL));
    bn_config_clear(&config);
    use_disk();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bn_fs_set_ops(NULL);
    bn_text_clear(&warnings);
    return 0;
}

static int clear(void **state)
{
    (void)state;
    memset(&disk, 0, sizeof disk);
    disk.metrics_fd = -1;
    return 0;
}

static void test_two_failures_are_survived(void **state)
{
    (void)state;
    bn_config config;
    bn_run_options options = watched();
    configure(&config, "full-twice");
    disk.save_from = 2;
    disk.save_to = 3;
    assert_ok(help_run(&config, &options, NULL));
    assert_warned("STEP 10 IS NOT SAVED");
    assert_warned("No space left on device");
    assert_warned(" needed, ");
    assert_warned("full-twice/checkpoint-00000005.h5");
    assert_warned("failure 2 of 3");
    assert_warned("step 20 is saved, after 2 failures");
    assert_checkpoints("full-twice", (const int[]){5, 20}, 2);
    assert_true(help_checkpoint_hash("full-twice/checkpoint-00000020.h5") == straight_hash());
    bn_config_clear(&config);
}

static void test_three_failures_end_the_run(void **state)
{
    (void)state;
    bn_config config;
    int64_t latest;
    bn_run_options options = watched();
    configure(&config, "full-thrice");
    assert_ok(bn_config_set(&config, "training.save_interval=4"));
    disk.save_from = 2;
    disk.save_to = 4;
    assert_int_equal(help_run(&config, &options, NULL), BN_IO);
    assert_error("3 saves in a row");
    assert_error("last good checkpoint: full-thrice/checkpoint-00000004.h5");
    assert_checkpoints("full-thrice", (const int[]){4}, 1);
    assert_ok(bn_checkpoint_get_mark("full-thrice", BN_MARK_LATEST, &latest));
    assert_int_equal(latest, 4);
    options.resume = "auto";
    assert_ok(help_run(&config, &options, NULL));
    assert_true(help_checkpoint_hash("full-thrice/checkpoint-00000020.h5") == straight_hash());
    bn_config_clear(&config);
}

static void test_the_last_save_must_succeed(void **state)
{
    (void)state;
    bn_config config;
    bn_run_options options = watched();
    configure(&config, "full-last");
    disk.save_from = disk.save_to = 4;
    assert_int_equal(help_run(&config, &options, NULL), BN_IO);
    assert_error("full-last/checkpoint-00000015.h5");
    assert_checkpoints("full-last", (const int[]){5, 10, 15}, 3);
    assert_false(bn_fs_exists("full-last/summary.json"));

    bn_config_clear(&config);
    configure(&config, "full-stop"); /* so must that of an interrupted run */
    clear(state);
    disk.save_from = disk.save_to = 1;
    options.stop_after = 3;
    assert_int_equal(help_run(&config, &options, NULL), BN_IO);
    assert_error("no checkpoint has been saved");
    bn_config_clear(&config);
}

/* The system itself refuses writes in the middle of a file. */
static void test_torn_writes(void **state)
{
    (void)state;
    bn_config config;
    struct rlimit before, limit;
    uint64_t whole;
    assert_ok(bn_fs_size("full-never/checkpoint-00000020.h5", &whole));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    static const double shares[] = {0.0, 0.05, 0.5, 0.99};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        bn_run_options options = watched();
        configure(&config, "full-torn");
        options.stop_after = 6;
        assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
        options.resume = "auto";
        options.stop_after = 9;
        limit = before;
        limit.rlim_cur = 4096 + (rlim_t)(shares[i] * (double)(whole - 8192));
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        const bn_status status = help_run(&config, &options, NULL);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(status, BN_IO);
        assert_checkpoints("full-torn", (const int[]){5, 6}, 2);
        options.stop_after = 0;
        assert_ok(help_run(&config, &options, NULL));
        assert_true(help_checkpoint_hash("full-torn/checkpoint-00000020.h5") == straight_hash());
        bn_config_clear(&config);
    }
    signal(SIGXFSZ, handler);
}

/* Steps of the metrics lines, as in "1 4 8 12 16 20". */
static char *steps_written(const char *dir)
{
    bn_text steps = {0};
    char *text = help_read(help_path(dir, "metrics.jsonl")), *out;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        bn_text_addf(&steps, "%.0f ", help_number(line, "step"));
    free(text);
    assert_ok(bn_text_take(&steps, &out));
    return out;
}

static void test_metrics_wait(void **state)
{
    (void)state;
    bn_config config;
    bn_run_options options = watched();
    configure(&config, "full-lines");
    disk.line_from = 2;
    disk.line_to = 4;
    assert_ok(help_run(&config, &options, NULL));
    assert_true(disk.line > 4);
    assert_warned("full-lines/metrics.jsonl: cannot write: No space left on device; metrics wait");
    assert_warned("none is lost");
    char *steps = steps_written("full-lines");
    assert_string_equal(steps, "1 4 8 12 16 20 ");
    free(steps);

    bn_config_clear(&config);
    configure(&config, "full-end"); /* until the end: that is an error, but no loss of weights */
    clear(state);
    disk.line_from = 3;
    disk.line_to = 1 << 20;
    options = watched();
    assert_int_equal(help_run(&config, &options, NULL), BN_IO);
    assert_error("full-end/metrics.jsonl");
    assert_true(help_checkpoint_hash("full-end/checkpoint-00000020.h5") == straight_hash());

    bn_config_clear(&config);
    configure(&config, "full-cut");
    clear(state);
    disk.line_from = 3;
    disk.line_to = 1 << 20;
    options = watched();
    options.stop_after = 14;
    assert_int_equal(help_run(&config, &options, NULL), BN_INTERRUPTED);
    assert_warned("the last metrics are lost");
    bn_config_clear(&config);
}

static void test_space_is_checked_before(void **state)
{
    (void)state;
    bn_config config;
    uint64_t one;
    bn_run_options options = watched();
    assert_ok(bn_fs_size("full-never/checkpoint-00000020.h5", &one));
    configure(&config, "full-before");
    disk.free_bytes = one / 2;
    assert_int_equal(help_run(&config, &options, NULL), BN_IO);
    assert_error("full-before: ");
    assert_error(" free, a checkpoint of this run takes ");
    assert_false(bn_fs_exists("full-before/config.json"));

    disk.free_bytes = 5 * one;
    assert_ok(help_run(&config, &options, NULL));
    assert_warned("lower training.save_total_limit (9)");

    options = watched(); /* what is there already need not fit again */
    options.overwrite = true;
    disk.free_bytes = one / 2;
    assert_ok(help_run(&config, &options, NULL));
    disk.free_bytes = 30 * one;
    options = watched();
    options.overwrite = true;
    assert_ok(help_run(&config, &options, NULL));
    assert_string_equal(warnings.data, "");
    bn_config_clear(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_two_failures_are_survived, clear),
        cmocka_unit_test_setup(test_three_failures_end_the_run, clear),
        cmocka_unit_test_setup(test_the_last_save_must_succeed, clear),
        cmocka_unit_test_setup(test_torn_writes, clear),
        cmocka_unit_test_setup(test_metrics_wait, clear),
        cmocka_unit_test_setup(test_space_is_checked_before, clear),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
