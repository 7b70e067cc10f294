/* Fault sweep: the k-th allocation, file operation or HDF5 call fails, for rising k
 * until none is left, in a run, a resumed run, an export and a session.
 * Each time: a status with a message, no torn file, no open HDF5 object (and, in
 * the sanitizer build, no leak). Calls are caught by the linker's --wrap and by
 * the seam of base/fs.h. */
#include <errno.h>
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/h5file.h"
#include "cpu/cpu.h"
#include "model/session.h"
#include "tools/export_job.h"
#include "train_help.h"

typedef enum fault_kind { ALLOCATION, FILE_OPERATION, HDF5_CALL, KINDS } fault_kind;

static const char *const kind_names[KINDS] = {"allocation", "file operation", "HDF5 call"};

static struct {
    fault_kind kind;
    long fail_at, calls; /* 0: none fails */
    bool removing;       /* the call that failed was to remove a file */
} fault;

static bool strike(fault_kind kind)
{
    return fault.fail_at && fault.kind == kind && ++fault.calls == fault.fail_at;
}

/* ---- allocations ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size)
{
    return strike(ALLOCATION) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return strike(ALLOCATION) ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return strike(ALLOCATION) ? NULL : __real_realloc(old, size);
}

/* ---- HDF5 ---- */

#define WRAP(type, name, parameters, arguments)                                                    \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return strike(HDF5_CALL) ? -1 : __real_##name arguments;                                   \
    }
/* What is closed is closed, whatever the call returns. */
#define WRAP_CLOSE(name)                                                                           \
    herr_t __real_##name(hid_t id);                                                                \
    herr_t __wrap_##name(hid_t id);                                                                \
    herr_t __wrap_##name(hid_t id)                                                                 \
    {                                                                                              \
        const herr_t result = __real_##name(id);                                                   \
        return strike(HDF5_CALL) ? -1 : result;                                                    \
    }

WRAP(hid_t, H5Fcreate, (const char *a, unsigned b, hid_t c, hid_t d), (a, b, c, d))
WRAP(hid_t, H5Fopen, (const char *a, unsigned b, hid_t c), (a, b, c))
WRAP(herr_t, H5Fflush, (hid_t a, H5F_scope_t b), (a, b))
WRAP(hid_t, H5Dcreate2, (hid_t a, const char *b, hid_t c, hid_t d, hid_t e, hid_t f, hid_t g),
     (a, b, c, d, e, f, g))
WRAP(hid_t, H5Dopen2, (hid_t a, const char *b, hid_t c), (a, b, c))
WRAP(hid_t, H5Dget_space, (hid_t a), (a))
WRAP(hid_t, H5Dget_type, (hid_t a), (a))
WRAP(herr_t, H5Dwrite, (hid_t a, hid_t b, hid_t c, hid_t d, hid_t e, const void *f),
     (a, b, c, d, e, f))
WRAP(herr_t, H5Dread, (hid_t a, hid_t b, hid_t c, hid_t d, hid_t e, void *f), (a, b, c, d, e, f))
WRAP(hid_t, H5Acreate2, (hid_t a, const char *b, hid_t c, hid_t d, hid_t e, hid_t f),
     (a, b, c, d, e, f))
WRAP(herr_t, H5Awrite, (hid_t a, hid_t b, const void *c), (a, b, c))
WRAP(herr_t, H5Aread, (hid_t a, hid_t b, void *c), (a, b, c))
WRAP(hid_t, H5Aopen, (hid_t a, const char *b, hid_t c), (a, b, c))
WRAP(hid_t, H5Oopen, (hid_t a, const char *b, hid_t c), (a, b, c))
WRAP(hid_t, H5Gopen2, (hid_t a, const char *b, hid_t c), (a, b, c))
WRAP(hid_t, H5Screate, (H5S_class_t a), (a))
WRAP(hid_t, H5Screate_simple, (int a, const hsize_t *b, const hsize_t *c), (a, b, c))
WRAP(hid_t, H5Pcreate, (hid_t a), (a))
WRAP(hid_t, H5Tcopy, (hid_t a), (a))
WRAP_CLOSE(H5Fclose)
WRAP_CLOSE(H5Dclose)
WRAP_CLOSE(H5Aclose)

/* ---- files ---- */

static const bn_fs_ops *real;

static bool refuse(void)
{
    const bool refused = strike(FILE_OPERATION);
    if (refused)
        errno = EIO;
    return refused;
}

static int faulty_open(const char *path, int flags, mode_t mode)
{
    return refuse() ? -1 : real->open(path, flags, mode);
}

static ssize_t faulty_write(int fd, const void *data, size_t size)
{
    return refuse() ? -1 : real->write(fd, data, size);
}

static int faulty_fsync(int fd)
{
    (void)fd; /* the test is of what follows, not of the disk */
    return refuse() ? -1 : 0;
}

static int faulty_ftruncate(int fd, off_t size)
{
    return refuse() ? -1 : real->ftruncate(fd, size);
}

static int faulty_close(int fd)
{
    const int result = real->close(fd);
    return refuse() ? -1 : result;
}

static int faulty_rename(const char *from, const char *to)
{
    return refuse() ? -1 : real->rename(from, to);
}

static int faulty_unlink(const char *path)
{
    if (!refuse())
        return real->unlink(path);
    fault.removing = true;
    return -1;
}

static int faulty_mkdir(const char *path, mode_t mode)
{
    return refuse() ? -1 : real->mkdir(path, mode);
}

static int faulty_statvfs(const char *path, struct statvfs *out)
{
    return refuse() ? -1 : real->statvfs(path, out);
}

static const bn_fs_ops faulty_ops = {
    faulty_open,   faulty_write,  faulty_fsync, faulty_ftruncate, faulty_close,
    faulty_rename, faulty_unlink, faulty_mkdir, faulty_statvfs,
};

/* ---- what is done ---- */

static bn_config config; /* two steps, two checkpoints, an evaluation; output in "faults" */

static bn_status run_with(const char *resume)
{
    const bn_run_options options = {.resume = resume};
    bn_backend *backend;
    char *summary = NULL;
    BN_TRY(bn_cpu_backend_new(&(bn_cpu_options){.threads = 1}, &backend));
    bn_status status = bn_run_train(&config, backend, &options, &summary);
    free(summary);
    bn_backend_free(backend);
    return status;
}

static bn_status train(void)
{
    return run_with(NULL);
}

static bn_status resume(void)
{
    return run_with("faults-base/checkpoint-00000001.h5");
}

static bn_status export(void)
{
    bn_backend *backend;
    bn_loaded loaded;
    bn_export_report report = {0};
    bn_export_request request = {.output = "faults/out.h5",
                                 .producer = "test",
                                 .format = {BN_ENC_BASE3X5, BN_ENC_FLOAT32, 0},
                                 .verify = true};
    BN_TRY(bn_cpu_backend_new(&(bn_cpu_options){.threads = 1}, &backend));
    bn_status status = bn_loaded_open("faults-base", backend, false, &loaded);
    if (status == BN_OK) {
        status = bn_export_run(&request, &loaded, &report);
        bn_loaded_clear(&loaded);
    }
    bn_export_report_clear(&report);
    bn_backend_free(backend);
    return status;
}

static bn_status generate(void)
{
    static const int32_t ids[] = {104, 101, 108, 108, 111};
    float logits[256];
    bn_backend *backend;
    bn_loaded loaded;
    bn_session *session;
    BN_TRY(bn_cpu_backend_new(&(bn_cpu_options){.threads = 1}, &backend));
    bn_status status = bn_loaded_open("faults-packed.h5", backend, true, &loaded);
    if (status == BN_OK) {
        status = bn_session_new(loaded.model, 0, &session);
        if (status == BN_OK) {
            status = bn_session_feed(session, ids, 5, logits);
            bn_session_free(session);
        }
        bn_loaded_clear(&loaded);
    }
    bn_backend_free(backend);
    return status;
}

/* ---- the sweep ---- */

static void verify_packed(const char *path)
{
    bn_h5_reader *reader;
    assert_ok(bn_h5_open(path, &reader));
    assert_ok(bn_h5_verify(reader));
    bn_h5_close(reader);
}

/* Files under their final names are whole, others are not there. */
static void check_files(const char *what, long k)
{
    bn_strings names = {0};
    if (!bn_fs_is_dir("faults"))
        return;
    assert_ok(bn_fs_list("faults", NULL, NULL, &names));
    for (size_t i = 0; i < names.count; i++) {
        const char *name = names.items[i], *path = help_path("faults", name);
        if ((bn_glob_match("*.tmp", name) || bn_glob_match("*.unverified", name)) &&
            !fault.removing)
            fail_msg("%s, %s %ld: %s is left over", what, kind_names[fault.kind], k, path);
        if (bn_glob_match("checkpoint-*.h5", name))
            assert_ok(bn_checkpoint_verify(path));
        if (strcmp(name, "out.h5") == 0)
            verify_packed(path);
    }
    bn_strings_clear(&names);
}

static bool possible(fault_kind kind, bn_status status)
{
    switch (status) {
    case BN_OK: /* a note that found no memory, a line of metrics that came later */
    case BN_FAIL:
        return true;
    case BN_IO:
    case BN_NO_INPUT:
    case BN_BAD_DATA:
    case BN_MISMATCH: /* an export that cannot read back what it wrote */
        return kind != ALLOCATION;
    default:
        return false;
    }
}

/* Every call is one too many for an ordinary test: each 61st, or as the environment
 * says (scripts/reliability.sh faults: all). */
static long stride(void)
{
    int64_t number = 61;
    const char *text = getenv("BITNET_FAULT_STRIDE");
    if (text)
        assert_true(bn_parse_i64(text, &number) && number > 0);
    return (long)number;
}

/* Returns how many calls have failed. */
static long sweep(const char *what, bn_status (*work)(void), fault_kind kind)
{
    const long step = stride();
    long failed = 0;
    for (long k = 1;; k += step, failed++) {
        help_remove("faults");
        if (work == export)
            assert_ok(bn_fs_mkdirs("faults"));
        bn_error_clear();
        fault.kind = kind;
        fault.calls = 0;
        fault.removing = false;
        bn_fs_set_ops(&faulty_ops);
        fault.fail_at = k;
        const bn_status status = work();
        fault.fail_at = 0;
        bn_fs_set_ops(NULL);
        if (fault.calls < k) {
            assert_int_equal(status, BN_OK);
            return failed;
        }
        if (!possible(kind, status) || (status != BN_OK && !*bn_error_text()))
            fail_msg("%s, %s %ld: status %d: %s", what, kind_names[kind], k, (int)status,
                     bn_error_text());
        if (H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) != 0)
            fail_msg("%s, %s %ld: an HDF5 object is still open", what, kind_names[kind], k);
        check_files(what, k);
    }
}

static void sweep_all(const char *what, bn_status (*work)(void))
{
    for (fault_kind kind = 0; kind < KINDS; kind++) {
        const long count = sweep(what, work, kind);
        print_message("%s: %ld %ss have failed, one at a time\n", what, count, kind_names[kind]);
        assert_true(count > 0 || kind == FILE_OPERATION); /* a session writes nothing */
    }
}

static void test_train(void **state)
{
    (void)state;
    sweep_all("train", train);
}

static void test_resume(void **state)
{
    (void)state;
    sweep_all("resume", resume);
}

static void test_export(void **state)
{
    (void)state;
    sweep_all("export", export);
}

static void test_generate(void **state)
{
    (void)state;
    sweep_all("generate", generate);
}

static int setup(void **state)
{
    (void)state;
    real = bn_fs_get_ops();
    help_config(&config, "faults-base", "training.max_steps=2", "training.save_interval=1",
                "training.eval_batches=1", NULL);
    help_remove("faults-base");
    help_remove("faults");
    assert_ok(train());
    assert_ok(bn_fs_mkdirs("faults"));
    assert_ok(export());
    assert_int_equal(rename("faults/out.h5", "faults-packed.h5"), 0);
    assert_ok(bn_config_set(&config, "output_dir=faults"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bn_config_clear(&config);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_train),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_export),
        cmocka_unit_test(test_generate),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
