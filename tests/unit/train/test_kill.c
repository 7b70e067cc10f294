/* bitnet-train as a process: killed at random moments and resumed it ends with
 * the same bytes as undisturbed; SIGTERM saves and exits with 75. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "checkpoint/checkpoint.h"
#include "train_help.h"

static const char *train_program(void)
{
    static char path[512];
    const char *bin = getenv("BITNET_BIN_DIR");
    snprintf(path, sizeof path, "%s/bitnet-train", bin ? bin : ".");
    return path;
}

static pid_t launch(const char *out, bool resume)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout) || !freopen("train.log", "a", stderr))
            _exit(120);
        execl(train_program(), "bitnet-train", "config.json", "--output-dir", out, "--quiet",
              resume ? "--resume=auto" : NULL, (char *)NULL);
        _exit(121);
    }
    return child;
}

static int wait_for(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void sleep_for(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds,
                            .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
}

static int setup(void **state)
{
    (void)state;
    bn_config config;
    char *json;
    help_config(&config, "unused", "training.max_steps=400", "training.save_interval=7",
                "training.eval_interval=20", "model.dropout=0.1", NULL);
    assert_ok(bn_config_dump(&config, &json));
    assert_ok(bn_fs_write("config.json", json, strlen(json)));
    free(json);
    bn_config_clear(&config);
    return 0;
}

static uint64_t straight_hash(void)
{
    static uint64_t hash;
    if (!hash) {
        help_remove("kill-straight");
        assert_int_equal(wait_for(launch("kill-straight", false)), 0);
        hash = help_checkpoint_hash("kill-straight/checkpoint-00000400.h5");
    }
    return hash;
}

/* Steps of the metrics lines rise strictly: nothing is written twice. */
static int count_lines(const char *path)
{
    char *text = help_read(path);
    double before = 0;
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        const double step = help_number(line, "step");
        assert_true(step > before);
        before = step;
    }
    free(text);
    return lines;
}

static void test_killed_ten_times(void **state)
{
    (void)state;
    const uint64_t expected = straight_hash();
    bn_rng rng = bn_rng_of((uint64_t)time(NULL), 1);
    int killed = 0, status = -1;
    help_remove("kill-often");
    for (int i = 0; i < 10; i++) {
        pid_t child = launch("kill-often", true);
        sleep_for(0.02 + 0.18 * bn_rng_uniform(&rng));
        kill(child, SIGKILL);
        status = wait_for(child);
        killed += WIFSIGNALED(status);
        if (!WIFSIGNALED(status))
            assert_int_equal(status, 0);
    }
    assert_true(killed > 0);
    assert_int_equal(wait_for(launch("kill-often", true)), 0);
    assert_true(help_checkpoint_hash("kill-often/checkpoint-00000400.h5") == expected);
    assert_int_equal(count_lines("kill-often/metrics.jsonl"),
                     count_lines("kill-straight/metrics.jsonl"));
    bn_strings left = {0};
    assert_ok(bn_fs_list("kill-often", NULL, ".tmp", &left));
    assert_int_equal(left.count, 0);
    bn_strings_clear(&left);
}

static void test_signals_save_and_exit_75(void **state)
{
    (void)state;
    static const int signals[] = {SIGTERM, SIGINT};
    const uint64_t expected = straight_hash();
    for (int k = 0; k < 2; k++) {
        int64_t step;
        help_remove("kill-term");
        pid_t child = launch("kill-term", true);
        for (int i = 0; i < 1000 && !bn_fs_exists("kill-term/latest"); i++)
            sleep_for(0.005);
        kill(child, signals[k]);
        int status = wait_for(child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), BN_INTERRUPTED);
        assert_ok(bn_checkpoint_get_mark("kill-term", BN_MARK_LATEST, &step));
        assert_true(step > 0 && step < 400);
        assert_int_equal(wait_for(launch("kill-term", true)), 0);
        assert_true(help_checkpoint_hash("kill-term/checkpoint-00000400.h5") == expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_ten_times),
        cmocka_unit_test(test_signals_save_and_exit_75),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
