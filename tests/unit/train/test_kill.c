/* bitnet-train as a process: killed at random moments and resumed it ends with
 * the same bytes as undisturbed; SIGTERM saves and exits with 75; two processes
 * never share a folder; a damaged checkpoint is passed over. BITNET_KILLS sets
 * the number of kills (scripts/reliability.sh). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "base/timer.h"
#include "checkpoint/checkpoint.h"
#include "train_help.h"

static const char *train_program(void)
{
    static char path[512];
    const char *bin = getenv("BITNET_BIN_DIR");
    snprintf(path, sizeof path, "%s/bitnet-train", bin ? bin : ".");
    return path;
}

static pid_t launch_with(const char *out, const char *third, const char *fourth)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout) || !freopen("train.log", "a", stderr))
            _exit(120);
        execl(train_program(), "bitnet-train", "config.json", "--output-dir", out, third, fourth,
              (char *)NULL);
        _exit(121);
    }
    return child;
}

static pid_t launch(const char *out, bool resume)
{
    return launch_with(out, "--quiet", resume ? "--resume=auto" : NULL);
}

static pid_t launch_loud(const char *out)
{
    return launch_with(out, "--resume=auto", NULL);
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
    help_config(&config, "unused", "training.max_steps=60", "training.save_interval=5",
                "training.eval_interval=20", "training.batch_size=16", "model.dropout=0.1", NULL);
    assert_ok(bn_config_dump(&config, &json));
    assert_ok(bn_fs_write("config.json", json, strlen(json)));
    free(json);
    bn_config_clear(&config);
    return 0;
}

/* What the undisturbed run ends with, and how long it takes. */
static struct {
    uint64_t hash;
    double seconds;
} straight;

static void run_straight(void)
{
    if (straight.hash)
        return;
    const double start = bn_seconds();
    help_remove("kill-straight");
    assert_int_equal(wait_for(launch("kill-straight", false)), 0);
    straight.seconds = bn_seconds() - start;
    straight.hash = help_checkpoint_hash("kill-straight/checkpoint-00000060.h5");
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

/* Every checkpoint under its final name is whole. Returns how many there are. */
static int verify_all(const char *dir)
{
    bn_strings names = {0};
    if (!bn_fs_is_dir(dir))
        return 0;
    assert_ok(bn_fs_list(dir, "checkpoint-", ".h5", &names));
    for (size_t i = 0; i < names.count; i++)
        assert_ok(bn_checkpoint_verify(help_path(dir, names.items[i])));
    const int count = (int)names.count;
    bn_strings_clear(&names);
    return count;
}

/* A run that came to its end after whatever: as undisturbed, nothing left over. */
static void check_finished(const char *dir)
{
    bn_strings left = {0};
    assert_true(help_checkpoint_hash(help_path(dir, "checkpoint-00000060.h5")) == straight.hash);
    assert_int_equal(count_lines(help_path(dir, "metrics.jsonl")),
                     count_lines("kill-straight/metrics.jsonl"));
    assert_ok(bn_fs_list(dir, NULL, ".tmp", &left));
    assert_int_equal(left.count, 0);
    bn_strings_clear(&left);
}

/* How many kills of each kind: 10, or what the environment says. */
static int wanted_kills(void)
{
    int64_t kills = 10;
    const char *text = getenv("BITNET_KILLS");
    if (text)
        assert_true(bn_parse_i64(text, &kills) && kills > 0);
    return (int)kills;
}

/* Sends `number` at random moments until that has ended a process so often,
 * with a new run whenever one is through. */
static void torment(const char *dir, int number)
{
    const int kills = wanted_kills();
    const uint64_t seed = (uint64_t)time(NULL);
    bn_rng rng = bn_rng_of(seed, (uint64_t)number);
    int ended = 0, saved = 0, runs = 0, verified = 0, exited = 0;
    run_straight();
    help_remove(dir);
    while (ended < kills) {
        pid_t child = launch(dir, true);
        sleep_for(0.6 * straight.seconds * bn_rng_uniform(&rng));
        kill(child, number);
        const int status = wait_for(child);
        verified += verify_all(dir);
        exited = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        if (exited == 0) {
            check_finished(dir);
            help_remove(dir);
            runs++;
            continue;
        }
        /* A signal in the first milliseconds finds no handler yet. */
        assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == number
                                        : number != SIGKILL && exited == BN_INTERRUPTED);
        saved += exited == BN_INTERRUPTED;
        ended++;
    }
    assert_int_equal(wait_for(launch(dir, true)), 0);
    check_finished(dir);
    print_message("signal %d: %d processes ended (%d with a checkpoint saved), %d whole runs, %d "
                  "verifications of checkpoints, seed %llu\n",
                  number, ended, saved, runs + 1, verified, (unsigned long long)seed);
}

static void test_killed_often(void **state)
{
    (void)state;
    torment("kill-often", SIGKILL);
}

static void test_terminated_often(void **state)
{
    (void)state;
    torment("kill-term", SIGTERM);
}

/* Each of the two signals, once there is a checkpoint. */
static void test_signals_save_and_exit_75(void **state)
{
    (void)state;
    static const int signals[] = {SIGTERM, SIGINT};
    run_straight();
    for (int k = 0; k < 2; k++) {
        int64_t step;
        help_remove("kill-once");
        pid_t child = launch("kill-once", true);
        for (int i = 0; i < 10000 && !bn_fs_exists("kill-once/latest"); i++)
            sleep_for(0.001);
        kill(child, signals[k]);
        int status = wait_for(child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), BN_INTERRUPTED);
        assert_ok(bn_checkpoint_get_mark("kill-once", BN_MARK_LATEST, &step));
        assert_true(step > 0 && step < 60);
        assert_int_equal(wait_for(launch("kill-once", true)), 0);
        check_finished("kill-once");
    }
}

/* While one run is in a folder, another is refused and touches nothing. */
static void test_second_run_is_refused(void **state)
{
    (void)state;
    run_straight();
    help_remove("race");
    const pid_t first = launch("race", true);
    for (int i = 0; i < 10000 && !bn_fs_exists("race/config.json"); i++)
        sleep_for(0.001);
    kill(first, SIGSTOP);
    assert_ok(bn_fs_write("train.log", "", 0));
    int status = wait_for(launch("race", true));
    kill(first, SIGCONT);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), BN_FAIL);
    char *log = help_read("train.log");
    assert_non_null(strstr(log, "race: another run is writing into this folder"));
    free(log);
    assert_int_equal(wait_for(first), 0);
    check_finished("race");
}

/* Two started at once: one wins, or both in turn. */
static void test_race_for_a_folder(void **state)
{
    (void)state;
    run_straight();
    for (int i = 0; i < 3; i++) {
        help_remove("race");
        const pid_t runs[] = {launch("race", true), launch("race", true)};
        int won = 0;
        for (int k = 0; k < 2; k++) {
            const int status = wait_for(runs[k]);
            assert_true(WIFEXITED(status));
            assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == BN_FAIL);
            won += WEXITSTATUS(status) == 0;
        }
        assert_true(won >= 1);
        check_finished("race");
    }
}

static void flip_bit(const char *path)
{
    uint64_t size;
    assert_ok(bn_fs_size(path, &size));
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)(size * 2 / 3), SEEK_SET), 0);
    const int byte = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_CUR), 0);
    assert_true(fputc(byte ^ 4, file) != EOF);
    assert_int_equal(fclose(file), 0);
}

static void cut(const char *path)
{
    uint64_t size;
    assert_ok(bn_fs_size(path, &size));
    assert_int_equal(truncate(path, (off_t)(size / 2)), 0);
}

/* The newest checkpoint damaged: the one before is taken, and stderr says so. */
static void test_damaged_newest(void **state)
{
    (void)state;
    static void (*const damage[])(const char *) = {cut, flip_bit};
    run_straight();
    for (int k = 0; k < 2; k++) {
        help_remove("damage");
        assert_ok(bn_fs_remove("train.log"));
        assert_int_equal(wait_for(launch("damage", false)), 0);
        damage[k]("damage/checkpoint-00000060.h5");
        assert_int_equal(wait_for(launch_loud("damage")), 0);
        char *log = help_read("train.log");
        assert_non_null(strstr(log, "skipped damage/checkpoint-00000060.h5"));
        assert_non_null(strstr(log, "going on from damage/checkpoint-00000055.h5 (step 55)"));
        free(log);
        check_finished("damage");
    }
}

/* A step that takes too long ends the program, and a resume goes on. */
static void test_hung_step(void **state)
{
    (void)state;
    run_straight();
    help_remove("hung");
    assert_ok(bn_fs_write("train.log", "", 0));
    int status = wait_for(launch_with("hung", "--set=training.watchdog_seconds=1e-5", NULL));
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), BN_NO_DEVICE);
    char *log = help_read("train.log");
    assert_non_null(strstr(log, "bitnet-train: step "));
    assert_non_null(strstr(log, "has taken more than 1e-05 s"));
    free(log);
    assert_int_equal(wait_for(launch("hung", true)), 0);
    check_finished("hung");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_often),
        cmocka_unit_test(test_terminated_often),
        cmocka_unit_test(test_signals_save_and_exit_75),
        cmocka_unit_test(test_second_run_is_refused),
        cmocka_unit_test(test_race_for_a_folder),
        cmocka_unit_test(test_damaged_newest),
        cmocka_unit_test(test_hung_step),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
