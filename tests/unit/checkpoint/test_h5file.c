/* The container: round trips, damage, hostile structure, refused writes. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "h5_tools.h"

#include "checkpoint/h5impl.h"
#include "hostile/h5_attacks.h"
#include "hostile/h5_repair.h"

#include "checkpoint/crc32c.h"
#include "checkpoint/h5file.h"

#define FILE_NAME "container.h5"

/* ---- refused writes: this program's pwrite comes before the C library's ---- */

static long writes_left = -1; /* to *.tmp; -1: no limit */

static ssize_t limited_write(int fd, const void *data, size_t size, off_t at)
{
    char link[64], target[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    if (writes_left >= 0 && strstr(target, ".h5.tmp")) {
        if (writes_left == 0) {
            errno = ENOSPC;
            return -1;
        }
        writes_left--;
    }
    return syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return limited_write(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at)
{
    return limited_write(fd, data, size, at);
}

/* ---- a sample file ---- */

static const float floats[2][3] = {{1, -2.5f, 3}, {4e-30f, 5, 6e30f}};
static const uint8_t bytes[7] = {0, 1, 2, 3, 254, 255, 7};
static const int64_t dims[2] = {2, 3};

static bn_status put_sample(bn_h5_writer *w)
{
    const double doubles[2] = {-1.5, 1e300};
    const int64_t longs[1] = {INT64_MIN};
    const uint64_t ulongs[1] = {UINT64_MAX};
    const uint16_t shorts[2] = {0x3c00, 0xbc00};
    const bn_h5_array arrays[] = {
        {"params/x", BN_H5_F32, 2, {2, 3}, floats}, {"bytes", BN_H5_U8, 1, {7}, bytes},
        {"params/d", BN_H5_F64, 1, {2}, doubles},   {"long", BN_H5_I64, 1, {1}, longs},
        {"ulong", BN_H5_U64, 1, {1}, ulongs},       {"half", BN_H5_F16, 4, {1, 2, 1, 1}, shorts},
        {"short", BN_H5_U16, 1, {2}, shorts},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        BN_TRY(bn_h5_put(w, &arrays[i]));
    BN_TRY(bn_h5_put_i64s(w, "params/x", "shape", 2, dims));
    BN_TRY(bn_h5_put_string(w, "params/x", "unit", "nats"));
    BN_TRY(bn_h5_put_i64(w, NULL, "step", -7));
    BN_TRY(bn_h5_put_u64(w, NULL, "seed", UINT64_MAX));
    BN_TRY(bn_h5_put_f64(w, NULL, "loss", HUGE_VAL));
    BN_TRY(bn_h5_put_string(w, NULL, "empty", ""));
    return bn_h5_put_string(w, NULL, "text", "gr\xc3\xbc\xc3\x9f dich\n{}");
}

static bn_status write_sample(const char *path, int deflate)
{
    bn_h5_writer *w;
    BN_TRY(bn_h5_create(path, deflate, &w));
    const bn_status status = put_sample(w);
    if (status == BN_OK)
        return bn_h5_commit(w);
    bn_h5_abort(w);
    return status;
}

/* Opens, verifies, and reads everything twice over. */
static bn_status read_all(const char *path)
{
    bn_h5_reader *r;
    BN_TRY(bn_h5_open(path, &r));
    bn_status status = bn_h5_verify(r);
    for (int i = 0; i < bn_h5_count(r) && status == BN_OK; i++) {
        void *data = malloc(bn_h5_at(r, i)->bytes);
        assert_non_null(data);
        status = bn_h5_read(r, bn_h5_at(r, i), data);
        free(data);
    }
    bn_h5_close(r);
    return status;
}

static void test_crc32c(void **state)
{
    const char *digits = "123456789";
    unsigned char zeros[32] = {0}, more[100];
    (void)state;
    assert_int_equal(bn_crc32c(0, digits, 9), 0xe3069283u);
    assert_int_equal(bn_crc32c(0, zeros, 32), 0x8a9136aau); /* RFC 3720 B.4 */
    assert_int_equal(bn_crc32c(0, "", 0), 0);
    for (int i = 0; i < 100; i++)
        more[i] = (unsigned char)(i * 37);
    for (size_t cut = 0; cut <= 100; cut++)
        assert_int_equal(bn_crc32c(bn_crc32c(0, more, cut), more + cut, 100 - cut),
                         bn_crc32c(0, more, 100));
}

static void check_sample(int deflate)
{
    bn_h5_reader *r;
    const bn_h5_entry *e;
    float x[2][3];
    int64_t i64, shape[4];
    uint64_t u64;
    double f64;
    char *text;
    int n;
    assert_ok(write_sample(FILE_NAME, deflate));
    assert_int_equal(access(FILE_NAME ".tmp", F_OK), -1);
    assert_ok(read_all(FILE_NAME));
    assert_ok(bn_h5_open(FILE_NAME, &r));
    assert_int_equal(bn_h5_count(r), 7);
    for (int i = 1; i < 7; i++)
        assert_true(strcmp(bn_h5_at(r, i - 1)->name, bn_h5_at(r, i)->name) < 0);
    assert_ok(bn_h5_expect(r, "params/x", BN_H5_F32, 2, dims, &e));
    assert_ok(bn_h5_read(r, e, x));
    assert_memory_equal(x, floats, sizeof x);
    assert_ok(bn_h5_get_i64(r, NULL, "step", &i64));
    assert_true(i64 == -7);
    assert_ok(bn_h5_get_u64(r, NULL, "seed", &u64));
    assert_true(u64 == UINT64_MAX);
    assert_ok(bn_h5_get_f64(r, NULL, "loss", &f64));
    assert_true(isinf(f64));
    assert_ok(bn_h5_get_i64s(r, "params/x", "shape", 4, shape, &n));
    assert_true(n == 2 && shape[0] == 2 && shape[1] == 3);
    assert_ok(bn_h5_get_string(r, NULL, "text", &text));
    assert_string_equal(text, "gr\xc3\xbc\xc3\x9f dich\n{}");
    free(text);
    assert_ok(bn_h5_get_string(r, NULL, "empty", &text));
    assert_string_equal(text, "");
    free(text);
    assert_true(bn_h5_has_attr(r, "params/x", "unit") && !bn_h5_has_attr(r, NULL, "unit"));

    assert_fails(bn_h5_expect(r, "params/y", BN_H5_F32, 2, dims, &e), BN_BAD_DATA, "params/y");
    assert_fails(bn_h5_expect(r, "params/x", BN_H5_F32, 1, dims, &e), BN_BAD_DATA,
                 "expected float32 [2], found float32 [2, 3]");
    assert_fails(bn_h5_expect(r, "params/x", BN_H5_F64, 2, dims, &e), BN_BAD_DATA,
                 "expected float64 [2, 3], found float32 [2, 3]");
    assert_fails(bn_h5_get_i64(r, NULL, "none", &i64), BN_BAD_DATA, "none");
    assert_fails(bn_h5_get_i64(r, NULL, "text", &i64), BN_BAD_DATA,
                 "expected one int64, found a string");
    assert_fails(bn_h5_get_i64(r, NULL, "seed", &i64), BN_BAD_DATA, "found uint64");
    assert_fails(bn_h5_get_i64(r, "params/x", "shape", &i64), BN_BAD_DATA, "a list of int64");
    assert_fails(bn_h5_get_i64s(r, "params/x", "shape", 1, shape, &n), BN_BAD_DATA, "found 2");
    assert_fails(bn_h5_get_string(r, NULL, "step", &text), BN_BAD_DATA, "expected a string");
    bn_h5_close(r);
}

static void test_round_trip(void **state)
{
    (void)state;
    check_sample(0);
    check_sample(6);
}

/* More than one chunk, in both directions. */
static void test_large(void **state)
{
    const int64_t shapes[][2] = {{1500, 700}, {1, 1 << 20}, {1 << 20, 1}, {3, 400000}};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t n = (size_t)(shapes[i][0] * shapes[i][1]);
        float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
        bn_h5_writer *w;
        bn_h5_reader *r;
        assert_true(x && y);
        for (size_t k = 0; k < n; k++)
            x[k] = (float)((k * 2654435761u) % 1000003);
        const bn_h5_array a = {"big", BN_H5_F32, 2, {shapes[i][0], shapes[i][1]}, x};
        assert_ok(bn_h5_create(FILE_NAME, 0, &w));
        assert_ok(bn_h5_put(w, &a));
        assert_ok(bn_h5_commit(w));
        assert_ok(bn_h5_open(FILE_NAME, &r));
        assert_ok(bn_h5_verify(r));
        assert_ok(bn_h5_read(r, bn_h5_find(r, "big"), y));
        assert_memory_equal(x, y, n * sizeof *x);
        bn_h5_close(r);
        free(x);
        free(y);
    }
}

static void test_long_text(void **state)
{
    enum { SIZE = 3 << 20 }; /* far beyond what an object header holds */
    char *text = malloc(SIZE + 1), *back;
    bn_h5_writer *w;
    bn_h5_reader *r;
    (void)state;
    assert_non_null(text);
    for (int i = 0; i < SIZE; i++)
        text[i] = (char)('a' + i % 23);
    text[SIZE] = '\0';
    assert_ok(bn_h5_create(FILE_NAME, 0, &w));
    assert_ok(bn_h5_put_string(w, NULL, "tokenizer_json", text));
    assert_ok(bn_h5_commit(w));
    assert_ok(bn_h5_open(FILE_NAME, &r));
    assert_ok(bn_h5_get_string(r, NULL, "tokenizer_json", &back));
    assert_string_equal(back, text);
    free(back);
    bn_h5_close(r);
    /* Such texts lie outside HDF5's checksummed metadata; ours covers them. */
    size_t size, at = 0;
    unsigned char *data = tool_slurp(FILE_NAME, &size);
    while (at + 64 < size && memcmp(data + at, text + 23 * 1000, 64) != 0)
        at++;
    assert_true(at + 64 < size);
    data[at] ^= 1;
    tool_spill(FILE_NAME, data, size);
    assert_fails(read_all(FILE_NAME), BN_BAD_DATA, "root attributes: expected checksum");
    free(data);
    free(text);
}

static void test_caller_mistakes(void **state)
{
    bn_h5_writer *w;
    const bn_h5_array bad[] = {
        {"", BN_H5_U8, 1, {7}, bytes},      {"/x", BN_H5_U8, 1, {7}, bytes},
        {"a/b/c", BN_H5_U8, 1, {7}, bytes}, {"..", BN_H5_U8, 1, {7}, bytes},
        {"a/.", BN_H5_U8, 1, {7}, bytes},   {"a b", BN_H5_U8, 1, {7}, bytes},
        {"a/", BN_H5_U8, 1, {7}, bytes},    {"./a", BN_H5_U8, 1, {7}, bytes},
    };
    (void)state;
    assert_ok(bn_h5_create(FILE_NAME, 0, &w));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_fails(bn_h5_put(w, &bad[i]), BN_FAIL, "cannot be the name");
    const bn_h5_array empty = {"x", BN_H5_U8, 1, {0}, bytes};
    assert_fails(bn_h5_put(w, &empty), BN_BAD_DATA, "dimension 0");
    bn_h5_abort(w);
    assert_int_equal(access(FILE_NAME ".tmp", F_OK), -1);
    bn_h5_abort(NULL);
    bn_h5_close(NULL);
}

static void test_no_file(void **state)
{
    (void)state;
    assert_fails(read_all("absent.h5"), BN_NO_INPUT, "absent.h5");
    assert_fails(read_all("."), BN_BAD_DATA, "found a folder");
    tool_spill("text.h5", "hello\n", 6);
    assert_fails(read_all("text.h5"), BN_BAD_DATA, "text.h5");
    tool_spill("nothing.h5", "", 0);
    assert_fails(read_all("nothing.h5"), BN_BAD_DATA, "nothing.h5");
    unlink("pipe.h5");
    assert_int_equal(mkfifo("pipe.h5", 0600), 0);
    assert_fails(read_all("pipe.h5"), BN_BAD_DATA, "device or pipe");
    bn_h5_writer *w;
    assert_fails(bn_h5_create("no/such/folder/x.h5", 0, &w), BN_IO, "no/such/folder");
}

/* ---- damage ---- */

static void test_truncated(void **state)
{
    size_t size;
    (void)state;
    assert_ok(write_sample(FILE_NAME, 0));
    unsigned char *data = tool_slurp(FILE_NAME, &size);
    for (size_t n = 0; n < size; n += n < 100 ? 7 : 211) {
        tool_spill("cut.h5", data, n);
        assert_fails(read_all("cut.h5"), BN_BAD_DATA, "cut.h5");
    }
    tool_spill("cut.h5", data, size - 1);
    assert_fails(read_all("cut.h5"), BN_BAD_DATA, "cut.h5");
    free(data);
}

/* A changed byte either makes the file unreadable or changes nothing that a
 * reader gets: the checksums would tell. */
static void test_flipped_bytes(void **state)
{
    size_t size;
    int refused = 0;
    (void)state;
    assert_ok(write_sample(FILE_NAME, 0));
    unsigned char *data = tool_slurp(FILE_NAME, &size);
    for (size_t i = 0; i < size; i += 3) {
        data[i] ^= (unsigned char)(1 << (i % 8));
        tool_spill("flip.h5", data, size);
        data[i] ^= (unsigned char)(1 << (i % 8));
        bn_error_clear();
        const bn_status status = read_all("flip.h5");
        if (status != BN_OK) {
            assert_int_equal(status, BN_BAD_DATA);
            assert_one_line();
            refused++;
        }
    }
    assert_true(refused > 0);
    free(data);
}

/* The bytes of every array, found through the library's own chunk index. */
static void test_flipped_in_each_array(void **state)
{
    static const char *const names[] = {"params/x", "params/d", "bytes", "long",
                                        "ulong",    "half",     "short"};
    size_t size;
    (void)state;
    assert_ok(write_sample(FILE_NAME, 0));
    unsigned char *data = tool_slurp(FILE_NAME, &size);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hid_t file = tool_open(FILE_NAME);
        hid_t dataset = H5Dopen2(file, names[i], H5P_DEFAULT);
        const hsize_t zero[4] = {0};
        unsigned mask;
        haddr_t at;
        hsize_t stored;
        assert_true(H5Dget_chunk_info_by_coord(dataset, zero, &mask, &at, &stored) >= 0);
        H5Dclose(dataset);
        H5Fclose(file);
        for (hsize_t k = 0; k < stored; k++) {
            data[at + k] ^= 0x10;
            tool_spill("flip.h5", data, size);
            data[at + k] ^= 0x10;
            assert_fails(read_all("flip.h5"), BN_BAD_DATA, names[i]);
        }
    }
    free(data);
}

/* Names cost a file nothing; here all are of one array. */
static void test_too_many(void **state)
{
    (void)state;
    assert_ok(write_sample(FILE_NAME, 0));
    hid_t file = tool_open(FILE_NAME);
    for (int i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        assert_true(H5Lcreate_hard(file, "bytes", file, name, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    }
    H5Fclose(file);
    assert_ok(read_all(FILE_NAME));
    bn_h5_max_objects = 1000;
    assert_fails(read_all(FILE_NAME), BN_BAD_DATA, "expected at most 1000 objects, found more");
    bn_h5_max_objects = BN_H5_MAX_ARRAYS;
}

/* Data and Fletcher-32 changed together: only our checksum is left. */
static void test_rewritten_array(void **state)
{
    const uint8_t other[7] = {0, 1, 2, 3, 254, 255, 8};
    (void)state;
    assert_ok(write_sample(FILE_NAME, 0));
    hid_t file = tool_open(FILE_NAME);
    hid_t dataset = H5Dopen2(file, "bytes", H5P_DEFAULT);
    assert_true(H5Dwrite(dataset, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, other) >= 0);
    H5Dclose(dataset);
    H5Fclose(file);
    assert_fails(read_all(FILE_NAME), BN_BAD_DATA, "bytes: expected checksum");
    bn_h5_reader *r;
    uint8_t data[7];
    assert_ok(bn_h5_open(FILE_NAME, &r));
    assert_fails(bn_h5_verify(r), BN_BAD_DATA, "bytes: expected checksum");
    assert_fails(bn_h5_read(r, bn_h5_find(r, "bytes"), data), BN_BAD_DATA,
                 "bytes: expected checksum");
    bn_h5_close(r);
}

/* Every bit in turn, so that the stored checksum is above and below the right one. */
static void test_changed_attribute(void **state)
{
    (void)state;
    for (int bit = 0; bit < 24; bit++) {
        const int64_t other = -7 ^ INT64_C(1) << bit;
        assert_ok(write_sample(FILE_NAME, 0));
        hid_t file = tool_open(FILE_NAME);
        hid_t attr = H5Aopen(file, "step", H5P_DEFAULT);
        assert_true(H5Awrite(attr, H5T_NATIVE_INT64, &other) >= 0);
        H5Aclose(attr);
        H5Fclose(file);
        assert_fails(read_all(FILE_NAME), BN_BAD_DATA, "root attributes: expected checksum");
    }
}

/* ---- hostile structure: each changes a good file and is refused ---- */

/* What other programs may have written and is as good: contiguous and compact arrays,
 * many arrays; and questions about arrays that are not there. */
static void test_foreign(void **state)
{
    enum { MANY = 70 };
    static const H5D_layout_t layouts[] = {H5D_CONTIGUOUS, H5D_COMPACT};
    const uint8_t four[4] = {1, 2, 3, 4};
    const hsize_t n = sizeof four;
    uint8_t found[sizeof four];
    int64_t number;
    bn_h5_reader *r;
    (void)state;
    assert_ok(write_sample(FILE_NAME, 0));
    hid_t file = tool_open(FILE_NAME), space = H5Screate_simple(1, &n, NULL);
    for (int i = 0; i < MANY; i++) {
        char name[24];
        snprintf(name, sizeof name, "foreign%d", i);
        hid_t create = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_layout(create, layouts[i % 2]);
        hid_t d = H5Dcreate2(file, name, H5T_STD_U8LE, space, H5P_DEFAULT, create, H5P_DEFAULT);
        assert_true(H5Dwrite(d, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, four) >= 0);
        H5Dclose(d);
        H5Pclose(create);
        assert_true(h5_repair_array(file, name, sizeof four));
    }
    H5Sclose(space);
    H5Fclose(file);
    assert_ok(read_all(FILE_NAME));
    assert_ok(bn_h5_open(FILE_NAME, &r));
    assert_ok(bn_h5_verify(r));
    assert_ok(bn_h5_read(r, bn_h5_find(r, "foreign69"), found));
    assert_memory_equal(found, four, sizeof four);
    assert_false(bn_h5_has_attr(r, "nowhere", "shape"));
    assert_true(bn_h5_has_attr(r, "params/x", "shape"));
    assert_fails(bn_h5_get_i64(r, "nowhere", "shape", &number), BN_BAD_DATA,
                 "nowhere: expected an array of this name, found none");
    bn_h5_close(r);
}

static void test_hostile(void **state)
{
    (void)state;
    for (int i = 0; i < h5_attack_count; i++) {
        assert_ok(write_sample(FILE_NAME, 0));
        hid_t file = h5_attack_open(FILE_NAME);
        h5_attacks[i].change(file, "/bytes");
        assert_true(H5Fclose(file) >= 0);
        assert_fails(read_all(FILE_NAME), BN_BAD_DATA, h5_attacks[i].message);
    }
}

/* ---- the disk is full at every write in turn ---- */

static int open_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_disk_full(void **state)
{
    long allowed = 0;
    int failures = 0;
    bn_h5_writer *w;
    (void)state;
    assert_ok(write_sample(FILE_NAME, 0));
    size_t before_size, after_size;
    unsigned char *before = tool_slurp(FILE_NAME, &before_size);
    const int descriptors = open_descriptors();
    for (;; allowed++) {
        assert_ok(bn_h5_create(FILE_NAME, 0, &w));
        writes_left = allowed;
        bn_error_clear();
        bn_status status = put_sample(w);
        if (status == BN_OK) {
            status = bn_h5_commit(w);
        } else {
            bn_h5_abort(w); /* the library lets go of the file */
            assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_FILE), 0);
        }
        writes_left = -1;
        assert_int_equal(access(FILE_NAME ".tmp", F_OK), -1);
        if (status == BN_OK)
            break;
        assert_int_equal(status, BN_IO);
        assert_one_line();
        assert_non_null(strstr(bn_error_text(), "No space left on device"));
        unsigned char *after = tool_slurp(FILE_NAME, &after_size);
        assert_int_equal(after_size, before_size); /* the old file is as it was */
        assert_memory_equal(after, before, before_size);
        free(after);
        failures++;
    }
    assert_true(failures > 5);
    assert_int_equal(open_descriptors(), descriptors);
    assert_ok(read_all(FILE_NAME));
    free(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_caller_mistakes),
        cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_flipped_bytes),
        cmocka_unit_test(test_flipped_in_each_array),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_rewritten_array),
        cmocka_unit_test(test_changed_attribute),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_disk_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
