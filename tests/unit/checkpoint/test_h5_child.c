/* Files read by a child process with limits (bn_h5_distrust). */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "h5_tools.h"

#include "checkpoint/checkpoint.h"
#include "checkpoint/h5file.h"
#include "checkpoint/packed.h"

#define FILE_NAME "child.h5"

enum { ROWS = 1200, COLS = 1000 }; /* 4.8 MB: two pieces */

static void write_sample(void)
{
    static float data[ROWS * COLS];
    const int64_t list[3] = {1, -2, 3};
    bn_h5_writer *w;
    for (int i = 0; i < ROWS * COLS; i++)
        data[i] = (float)(i % 1000);
    const bn_h5_array arrays[] = {{"params/x", BN_H5_F32, 2, {ROWS, COLS}, data},
                                  {"bytes", BN_H5_U8, 1, {7}, "seven b"}};
    assert_ok(bn_h5_create(FILE_NAME, 1, &w));
    assert_ok(bn_h5_put(w, &arrays[0]));
    assert_ok(bn_h5_put(w, &arrays[1]));
    assert_ok(bn_h5_put_string(w, NULL, "text", "words"));
    assert_ok(bn_h5_put_string(w, NULL, "empty", ""));
    assert_ok(bn_h5_put_i64s(w, "bytes", "list", 3, list));
    assert_ok(bn_h5_put_f64(w, NULL, "real", 0.5));
    assert_ok(bn_h5_commit(w));
}

static int start(void **state)
{
    (void)state;
    bn_h5_distrust(NULL);
    write_sample();
    bn_h5_distrust(&bn_h5_default_limits);
    return 0;
}

static int trust_again(void **state)
{
    (void)state;
    bn_h5_distrust(NULL);
    return 0;
}

/* The same as without a child. */
static void test_reads_the_same(void **state)
{
    static float data[ROWS * COLS];
    char bytes[7], *text;
    int64_t list[3];
    int count;
    double real;
    bn_h5_reader *r;
    (void)state;
    assert_ok(bn_h5_open(FILE_NAME, &r));
    assert_int_equal(bn_h5_count(r), 2);
    assert_string_equal(bn_h5_at(r, 1)->name, "params/x");
    assert_ok(bn_h5_verify(r));
    assert_ok(bn_h5_read(r, bn_h5_at(r, 1), data));
    for (int i = 0; i < ROWS * COLS; i++)
        assert_true(data[i] == (float)(i % 1000));
    assert_ok(bn_h5_read(r, bn_h5_at(r, 0), bytes));
    assert_memory_equal(bytes, "seven b", 7);
    assert_ok(bn_h5_get_string(r, NULL, "text", &text));
    assert_string_equal(text, "words");
    free(text);
    assert_ok(bn_h5_get_string(r, NULL, "empty", &text));
    assert_string_equal(text, "");
    free(text);
    assert_ok(bn_h5_get_i64s(r, "bytes", "list", 3, list, &count));
    assert_true(count == 3 && list[1] == -2);
    assert_ok(bn_h5_get_f64(r, NULL, "real", &real));
    assert_true(real == 0.5);
    assert_true(bn_h5_has_attr(r, "bytes", "list") && !bn_h5_has_attr(r, "bytes", "none"));
    assert_fails(bn_h5_get_string(r, NULL, "none", &text), BN_BAD_DATA,
                 FILE_NAME ": expected an attribute none");
    assert_fails(bn_h5_get_string(r, "bytes", "list", &text), BN_BAD_DATA, "expected a string");
    bn_h5_close(r);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

static void test_refusals(void **state)
{
    bn_h5_reader *r;
    size_t size;
    (void)state;
    assert_fails(bn_h5_open("none.h5", &r), BN_NO_INPUT, "none.h5: cannot be read");
    unsigned char *data = tool_slurp(FILE_NAME, &size);
    tool_spill("cut.h5", data, size / 2);
    free(data);
    assert_fails(bn_h5_open("cut.h5", &r), BN_BAD_DATA, "cut.h5: not a whole HDF5 file");
    assert_null(r);
}

/* A checksum that is wrong is found in the child, after the bytes were sent. */
static void test_wrong_checksum(void **state)
{
    char bytes[7];
    bn_h5_reader *r;
    (void)state;
    hid_t file = tool_open(FILE_NAME), d = H5Dopen2(file, "bytes", H5P_DEFAULT);
    assert_true(H5Dwrite(d, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, "seven c") >= 0);
    H5Dclose(d);
    H5Fclose(file);
    assert_ok(bn_h5_open(FILE_NAME, &r));
    assert_fails(bn_h5_read(r, bn_h5_at(r, 0), bytes), BN_BAD_DATA, "bytes: expected checksum");
    assert_fails(bn_h5_verify(r), BN_BAD_DATA, "bytes: expected checksum");
    assert_true(bn_h5_has_attr(r, "bytes", "list")); /* and it goes on */
    bn_h5_close(r);
}

static void test_memory_limit(void **state)
{
    static float data[5 * ROWS * COLS]; /* one row: read as one piece of 24 MB */
    const bn_h5_array wide = {"wide", BN_H5_F32, 2, {1, 5 * ROWS * COLS}, data};
    const bn_h5_limits little = {.memory_bytes = 12 << 20, .cpu_seconds = 10};
    bn_h5_reader *r;
    bn_h5_writer *w;
    (void)state;
    bn_h5_distrust(NULL);
    for (int i = 0; i < 5 * ROWS * COLS; i++)
        data[i] = (float)(i * 7);
    assert_ok(bn_h5_create("wide.h5", 0, &w));
    assert_ok(bn_h5_put(w, &wide));
    assert_ok(bn_h5_commit(w));
    bn_h5_distrust(&little);
    assert_ok(bn_h5_open("wide.h5", &r));
    assert_fails(bn_h5_read(r, bn_h5_at(r, 0), data), BN_BAD_DATA,
                 "wide.h5: refused: reading it took more memory than allowed");
    bn_h5_close(r);
}

static void test_time_limit(void **state)
{
    const bn_h5_limits little = {.memory_bytes = 256 << 20, .cpu_seconds = 1};
    bn_h5_reader *r;
    bn_status status = BN_OK;
    (void)state;
    bn_h5_distrust(&little);
    assert_ok(bn_h5_open(FILE_NAME, &r));
    for (int i = 0; i < 100000 && status == BN_OK; i++)
        status = bn_h5_verify(r);
    assert_int_equal(status, BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "more processor time than allowed"));
    assert_one_line();
    assert_int_equal(bn_h5_verify(r), BN_BAD_DATA); /* and so from now on */
    bn_h5_close(r);
}

/* The only child of this process. */
static pid_t child_pid(void)
{
    char path[64];
    int pid = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d", &pid), 1);
    fclose(f);
    return pid;
}

static void test_crash(void **state)
{
    bn_h5_reader *r;
    char bytes[7];
    (void)state;
    assert_ok(bn_h5_open(FILE_NAME, &r));
    kill(child_pid(), SIGSEGV);
    assert_fails(bn_h5_read(r, bn_h5_at(r, 0), bytes), BN_BAD_DATA,
                 FILE_NAME ": refused: reading it crashed (Segmentation fault)");
    assert_fails(bn_h5_verify(r), BN_BAD_DATA, FILE_NAME ": refused");
    bn_h5_close(r);
}

/* What the child is left with. */
static void test_limits_of_the_child(void **state)
{
    char path[64], line[256];
    int descriptors = 0, checked = 0;
    bn_h5_reader *r;
    (void)state;
    assert_ok(bn_h5_open(FILE_NAME, &r));
    const pid_t pid = child_pid();
    snprintf(path, sizeof path, "/proc/%d/limits", (int)pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        unsigned long long soft, hard;
        if (sscanf(line, "Max file size %llu %llu", &soft, &hard) == 2 ||
            sscanf(line, "Max core file size %llu %llu", &soft, &hard) == 2 ||
            sscanf(line, "Max processes %llu %llu", &soft, &hard) == 2) {
            assert_true(soft == 0 && hard == 0);
            checked++;
        }
    }
    fclose(f);
    assert_int_equal(checked, 3);
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    f = fopen(path, "r");
    assert_non_null(f);
    checked = 0;
    while (fgets(line, sizeof line, f))
        checked += strcmp(line, "Seccomp:\t2\n") == 0 || strcmp(line, "NoNewPrivs:\t1\n") == 0;
    fclose(f);
    assert_int_equal(checked, 2);
    for (int fd = 0; fd < 64; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
        descriptors += readlink(path, line, sizeof line) >= 0;
    }
    assert_int_equal(descriptors, 5); /* null three times, the socket, the file */
    bn_h5_close(r);
}

/* The formats above it do not notice. */
static void test_packed_and_checkpoint(void **state)
{
    static const uint8_t codes[2] = {0x55, 0x66};
    static const bn_packed_info info = {"{}", "byte", "test"};
    const float scales[2] = {0.5f, 1};
    float value[2] = {1, 2}, back[2];
    uint8_t codes_back[2];
    const bn_packed_tensor t = {.name = "w",
                                .encoding = BN_ENC_TERNARY2,
                                .ndim = 2,
                                .shape = {2, 4},
                                .group_size = -1,
                                .codes = codes,
                                .data = scales};
    const bn_train_state s = {.step = 3,
                              .best_step = -1,
                              .config_json = "{}",
                              .tokenizer = "byte",
                              .producer = "test",
                              .device = "cpu"};
    const bn_checkpoint_param p = {.name = "v", .ndim = 1, .shape = {2}, .value = value};
    bn_packed *packed;
    bn_checkpoint *c;
    (void)state;
    assert_ok(bn_packed_write("p.h5", &info, &t, 1, 0)); /* verified through a child too */
    assert_ok(bn_packed_open("p.h5", &packed));
    assert_ok(bn_packed_read_codes(packed, bn_packed_at(packed, 0), codes_back, back));
    assert_memory_equal(codes_back, codes, 2);
    bn_packed_close(packed);
    assert_ok(bn_checkpoint_save("c.h5", &s, &p, 1, NULL, 0));
    assert_ok(bn_checkpoint_verify("c.h5"));
    assert_ok(bn_checkpoint_open("c.h5", &c));
    assert_true(bn_checkpoint_state(c)->step == 3);
    bn_checkpoint_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_the_same, start, trust_again),
        cmocka_unit_test_setup_teardown(test_refusals, start, trust_again),
        cmocka_unit_test_setup_teardown(test_wrong_checksum, start, trust_again),
        cmocka_unit_test_setup_teardown(test_memory_limit, start, trust_again),
        cmocka_unit_test_setup_teardown(test_time_limit, start, trust_again),
        cmocka_unit_test_setup_teardown(test_crash, start, trust_again),
        cmocka_unit_test_setup_teardown(test_limits_of_the_child, start, trust_again),
        cmocka_unit_test_setup_teardown(test_packed_and_checkpoint, start, trust_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
