/* Fault sweep: the k-th allocation, file operation or HDF5 call fails, for rising k
 * until none is left, in a run, a resumed run, every kind of export, an import and a
 * session. Each time: a status with a message, no torn file, no open HDF5 object (and,
 * in the sanitizer build, no leak). */
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/h5file.h"
#include "cpu/cpu.h"
#include "faults.h"
#include "interop/gguf.h"
#include "model/session.h"
#include "tools/export_job.h"
#include "tools/gguf_export.h"
#include "tools/hf_export.h"
#include "tools/hf_import.h"
#include "train_help.h"

static const char *const kind_names[KINDS] = {"allocation", "file operation", "HDF5 call"};

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

/* One of the three exports of the base run's model. */
typedef bn_status (*exporter)(bn_loaded *loaded, bn_export_report *report);

static bn_status packed_exporter(bn_loaded *loaded, bn_export_report *report)
{
    const bn_export_request request = {.output = "faults/out.h5",
                                       .producer = "test",
                                       .format = {BN_ENC_BASE3X5, BN_ENC_FLOAT32, 0},
                                       .verify = true};
    return bn_export_run(&request, loaded, report);
}

static bn_status gguf_exporter(bn_loaded *loaded, bn_export_report *report)
{
    const bn_gguf_export_request request = {.output = "faults/out.gguf",
                                            .producer = "test",
                                            .layout = {BN_GGUF_Q4_0, BN_GGUF_F32},
                                            .verify = true,
                                            .force = true};
    return bn_gguf_export_run(&request, loaded, report);
}

static bn_status folder_exporter(bn_loaded *loaded, bn_export_report *report)
{
    const bn_hf_export_request request = {.output = "faults",
                                          .producer = "test",
                                          .form = BN_HF_BF16,
                                          .floats = BN_ENC_BFLOAT16,
                                          .verify = true};
    return bn_hf_export_run(&request, loaded, report);
}

static bn_status export_by(exporter run)
{
    bn_backend *backend;
    bn_loaded loaded;
    bn_export_report report = {0};
    BN_TRY(bn_cpu_backend_new(&(bn_cpu_options){.threads = 1}, &backend));
    bn_status status = bn_loaded_open("faults-base", backend, false, &loaded);
    if (status == BN_OK) {
        status = run(&loaded, &report);
        bn_loaded_clear(&loaded);
    }
    bn_export_report_clear(&report);
    bn_backend_free(backend);
    return status;
}

static bn_status export_packed(void)
{
    return export_by(packed_exporter);
}

static bn_status export_gguf(void)
{
    return export_by(gguf_exporter);
}

static bn_status export_folder(void)
{
    return export_by(folder_exporter);
}

static bn_status import(void)
{
    bn_import_report report;
    BN_TRY(bn_import_run(&(bn_import_request){"faults-folder", "faults/out.h5", "test", NULL, NULL},
                         &report));
    bn_import_report_clear(&report);
    return BN_OK;
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

static void verify_h5(const char *path)
{
    bn_h5_reader *reader;
    assert_ok(bn_h5_open(path, &reader));
    assert_ok(bn_h5_verify(reader));
    bn_h5_close(reader);
}

static void verify_gguf(const char *path)
{
    bn_gguf *file;
    assert_ok(bn_gguf_open(path, &file));
    bn_gguf_close(file);
}

/* Files under their final names are whole, others are not there. */
static void check_files(const char *what, long k)
{
    bn_strings names = {0};
    if (bn_fs_exists("faults.unverified") && !fault.removing)
        fail_msg("%s, %s %ld: faults.unverified is left over", what, kind_names[fault.kind], k);
    if (!bn_fs_is_dir("faults"))
        return;
    assert_ok(bn_fs_list("faults", NULL, NULL, &names));
    for (size_t i = 0; i < names.count; i++) {
        const char *name = names.items[i], *path = help_path("faults", name);
        if ((bn_glob_match("*.tmp", name) || bn_glob_match("*.unverified", name)) &&
            !fault.removing)
            fail_msg("%s, %s %ld: %s is left over", what, kind_names[fault.kind], k, path);
        if (bn_glob_match("*.h5", name))
            verify_h5(path);
        if (bn_glob_match("checkpoint-*.h5", name))
            assert_ok(bn_checkpoint_verify(path));
        if (bn_glob_match("*.gguf", name))
            verify_gguf(path);
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

/* Every call is one too many for an ordinary test: each so-many-th, or as the
 * environment says (scripts/reliability.sh faults: all). */
static long stride(fault_kind kind)
{
    static const int64_t ordinary[KINDS] = {
        [ALLOCATION] = 61, [FILE_OPERATION] = 17, [HDF5_CALL] = 601};
    int64_t number = ordinary[kind];
    const char *text = getenv("BITNET_FAULT_STRIDE");
    if (text)
        assert_true(bn_parse_i64(text, &number) && number > 0);
    return (long)number;
}

static void clean_up(void)
{
    help_remove("faults");
    help_remove("faults.unverified");
    assert_ok(bn_fs_remove("faults.report.json"));
}

/* Returns how many calls have failed. */
static long sweep(const char *what, bn_status (*work)(void), fault_kind kind)
{
    const long step = stride(kind);
    long failed = 0;
    for (long k = 1;; k += step, failed++) {
        clean_up();
        if (work != export_folder)
            assert_ok(bn_fs_mkdirs("faults"));
        bn_error_clear();
        fault.kind = kind;
        fault.calls = 0;
        fault.removing = false;
        fault_watch_files(true);
        fault.fail_at = k;
        const bn_status status = work();
        fault.fail_at = 0;
        fault_watch_files(false);
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
        /* A session writes nothing. */
        assert_true(count > 0 || (kind == FILE_OPERATION && work == generate));
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

static void test_export_packed(void **state)
{
    (void)state;
    sweep_all("export as packed file", export_packed);
}

static void test_export_gguf(void **state)
{
    (void)state;
    sweep_all("export as GGUF", export_gguf);
}

static void test_export_folder(void **state)
{
    (void)state;
    sweep_all("export as Hugging Face folder", export_folder);
}

static void test_import(void **state)
{
    (void)state;
    sweep_all("import", import);
}

static void test_generate(void **state)
{
    (void)state;
    sweep_all("generate", generate);
}

static int setup(void **state)
{
    (void)state;
    help_config(&config, "faults-base", "training.max_steps=2", "training.save_interval=1",
                "training.eval_batches=1", NULL);
    help_remove("faults-base");
    help_remove("faults-folder");
    clean_up();
    assert_ok(train());
    assert_ok(bn_fs_mkdirs("faults"));
    assert_ok(export_packed());
    assert_int_equal(rename("faults/out.h5", "faults-packed.h5"), 0);
    clean_up();
    assert_ok(export_folder());
    assert_int_equal(rename("faults", "faults-folder"), 0);
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
        cmocka_unit_test(test_train),         cmocka_unit_test(test_resume),
        cmocka_unit_test(test_export_packed), cmocka_unit_test(test_export_gguf),
        cmocka_unit_test(test_export_folder), cmocka_unit_test(test_import),
        cmocka_unit_test(test_generate),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
