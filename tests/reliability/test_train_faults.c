/* Fault sweep: the k-th allocation, file operation or HDF5 call fails, for rising k
 * until none is left, in runs (from nothing, resumed, from other weights, of adapters),
 * every kind of export, an import, a conversion, what is done with adapters, sessions. Each time: a
 * status with a message, no torn file, no open HDF5 object (and, in the sanitizer build, no leak).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/h5file.h"
#include "cpu/cpu.h"
#include "fault_sweep.h"
#include "interop/gguf.h"
#include "model/peft.h"
#include "model/session.h"
#include "tools/adapter_merge.h"
#include "tools/export_job.h"
#include "tools/gguf_export.h"
#include "tools/hf_export.h"
#include "tools/hf_import.h"
#include "tools/quantize.h"
#include "unit/train/train_help.h"

/* ---- what is done ---- */

/* Two steps, two checkpoints, an evaluation; output in "faults". From nothing, from
 * the weights of another run, of adapters. */
static bn_config config, starting, adapting;

static bn_status run_of(const bn_config *run, const char *resume)
{
    const bn_run_options options = {.resume = resume};
    bn_backend *backend;
    char *summary = NULL;
    BN_TRY(bn_cpu_backend_new(&(bn_cpu_options){.threads = 1}, &backend));
    bn_status status = bn_run_train(run, backend, &options, &summary);
    free(summary);
    bn_backend_free(backend);
    return status;
}

static bn_status train(void)
{
    return run_of(&config, NULL);
}

static bn_status start_from(void)
{
    return run_of(&starting, NULL);
}

static bn_status adapt(void)
{
    return run_of(&adapting, NULL);
}

static bn_status resume(void)
{
    return run_of(&config, "faults-base/checkpoint-00000001.h5");
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
    bn_status status =
        bn_loaded_open("faults-base/checkpoint-00000002.h5", backend, false, &loaded);
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

static bn_status quantize(void)
{
    const bn_strings no_settings = {0};
    const bn_quantize_request request = {.output = "faults/out.h5",
                                         .producer = "test",
                                         .method = BN_QUANTIZE_GPTQ,
                                         .tokens = 32,
                                         .damping = 0.01,
                                         .max_batches = 1,
                                         .set = &no_settings};
    bn_backend *backend;
    bn_loaded source;
    bn_quantize_report report = {0};
    BN_TRY(bn_cpu_backend_new(&(bn_cpu_options){.threads = 1}, &backend));
    bn_status status =
        bn_loaded_open("faults-float/checkpoint-00000002.h5", backend, false, &source);
    if (status == BN_OK) {
        status = bn_quantize_run(&request, &source, &report);
        bn_loaded_clear(&source);
    }
    bn_quantize_report_clear(&report);
    bn_backend_free(backend);
    return status;
}

static const bn_tool_where cpu = {.device = "cpu", .threads = 1};

/* What is done with the adapters of a run over their base. */
typedef bn_status (*adapter_use)(bn_tool_model *model);

static bn_status with_adapter(adapter_use use)
{
    bn_tool_model model = {0};
    BN_TRY(bn_tool_open_base("faults-packed.h5", &cpu, &model));
    bn_status status = bn_tool_add_adapter("faults-adapter/checkpoint-00000002.h5", &model);
    if (status == BN_OK)
        status = use(&model);
    bn_tool_close(&model);
    return status;
}

static bn_status save_adapter(bn_tool_model *model)
{
    return bn_adapter_save(model->adapters[0], "faults/out.h5", &model->base, "byte", "test");
}

static bn_status save_peft(bn_tool_model *model)
{
    return bn_peft_write(model->adapters[0], "faults", &model->base);
}

static bn_status save_merged(bn_tool_model *model)
{
    bn_merge_losses losses;
    return bn_adapter_merge(model, "faults/out.h5", "faults-short.txt", &losses);
}

static bn_status export_adapter(void)
{
    return with_adapter(save_adapter);
}

static bn_status export_peft(void)
{
    return with_adapter(save_peft);
}

static bn_status merge(void)
{
    return with_adapter(save_merged);
}

static bn_status generate_with(const char *adapter)
{
    static const int32_t ids[] = {104, 101, 108, 108, 111};
    float logits[256];
    bn_strings adapters = {0};
    bn_tool_model model = {0};
    bn_session *session;
    bn_status status = adapter ? bn_strings_add(&adapters, adapter) : BN_OK;
    if (status == BN_OK)
        status = bn_tool_open_adapted("faults-packed.h5", &cpu, &adapters, &model);
    bn_strings_clear(&adapters);
    BN_TRY(status);
    status = bn_session_new(model.loaded.model, 0, &session);
    if (status == BN_OK) {
        status = bn_session_feed(session, ids, 5, logits);
        bn_session_free(session);
    }
    bn_tool_close(&model);
    return status;
}

static bn_status generate(void)
{
    return generate_with(NULL);
}

static bn_status generate_adapted(void)
{
    return generate_with("faults-adapter/checkpoint-00000002.h5");
}

static bn_status generate_peft(void)
{
    return generate_with("faults-peft");
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

static int64_t lines_of(const char *text)
{
    int64_t lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

/* Times apart, which differ from run to run. */
static bool same_file(const char *name)
{
    const char *path = help_path("faults", name), *whole_path = help_path("faults-whole", name);
    if (bn_glob_match("checkpoint-*.h5", name))
        return help_checkpoint_hash(path) == help_checkpoint_hash(whole_path);
    char *text = help_read(path), *whole = help_read(whole_path);
    uint64_t size, whole_size;
    assert_ok(bn_fs_size(path, &size));
    assert_ok(bn_fs_size(whole_path, &whole_size));
    bool same = size == whole_size && memcmp(text, whole, (size_t)size) == 0;
    if (strcmp(name, "metrics.jsonl") == 0)
        same = lines_of(text) == lines_of(whole);
    if (strcmp(name, "summary.json") == 0)
        same = help_number(text, "val_loss") == help_number(whole, "val_loss");
    free(text);
    free(whole);
    return same;
}

/* After success all that the undisturbed work wrote is there; a run survives that a
 * checkpoint is not saved, if it is not the last. */
static void check_complete(const char *what, long k)
{
    bn_strings names = {0};
    assert_ok(bn_fs_list("faults-whole", NULL, NULL, &names));
    assert_true(names.count > 0);
    for (size_t i = 0; i < names.count; i++) {
        const char *name = names.items[i];
        const bool there = bn_fs_exists(help_path("faults", name));
        if (!there && strcmp(name, "checkpoint-00000001.h5") == 0)
            continue;
        if (!there || !same_file(name))
            fail_msg("%s: success, and %s is %s", fault_place(what, k), name,
                     there ? "another" : "missing");
    }
    bn_strings_clear(&names);
}

/* Files under their final names are whole, others are not there. */
static void check_files(const char *what, long k, bn_status status)
{
    bn_strings names = {0};
    if (bn_fs_exists("faults.unverified") && !fault.removing)
        fail_msg("%s: faults.unverified is left over", fault_place(what, k));
    if (!bn_fs_is_dir("faults")) {
        if (status == BN_OK)
            fail_msg("%s: success without any output", fault_place(what, k));
        return;
    }
    assert_ok(bn_fs_list("faults", NULL, NULL, &names));
    for (size_t i = 0; i < names.count; i++) {
        const char *name = names.items[i], *path = help_path("faults", name);
        if ((bn_glob_match("*.tmp", name) || bn_glob_match("*.unverified", name)) &&
            !fault.removing)
            fail_msg("%s: %s is left over", fault_place(what, k), path);
        if (bn_glob_match("*.h5", name))
            verify_h5(path);
        if (bn_glob_match("checkpoint-*.h5", name))
            assert_ok(bn_checkpoint_verify(path));
        if (bn_glob_match("*.gguf", name))
            verify_gguf(path);
    }
    bn_strings_clear(&names);
    if (status == BN_OK)
        check_complete(what, k);
}

/* Every call is one too many for an ordinary test: each so-many-th. With the environment
 * variable (scripts/reliability.sh faults) every allocation and file operation, and of
 * the HDF5 calls, which are tens of thousands, each so-many-th. */
static long stride(fault_kind kind)
{
    static const int64_t ordinary[FAULT_KINDS] = {
        [ALLOCATION] = 97, [FILE_OPERATION] = 31, [HDF5_CALL] = 1201};
    int64_t number;
    const char *text = getenv("BITNET_FAULT_STRIDE");
    if (!text)
        return (long)ordinary[kind];
    assert_true(bn_parse_i64(text, &number) && number > 0);
    return kind == HDF5_CALL ? (long)number : 1;
}

static void clean_up(void)
{
    help_remove("faults");
    help_remove("faults.unverified");
    assert_ok(bn_fs_remove("faults.report.json"));
}

static void make_room(void)
{
    clean_up();
    assert_ok(bn_fs_mkdirs("faults"));
}

static void sweep(void **state)
{
    const fault_work *work = *state;
    if (work->after) { /* what it writes undisturbed */
        help_remove("faults-whole");
        work->before();
        assert_ok(work->run());
        assert_int_equal(rename("faults", "faults-whole"), 0);
    }
    for (fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
        const long count = fault_sweep(work, kind, stride(kind));
        assert_true(count > 0 || kind == FILE_OPERATION); /* a session writes nothing */
    }
}

static void configure(bn_config *run, const char *folder, const char *set)
{
    help_config(run, folder, "training.max_steps=2", "training.save_interval=1",
                "training.eval_batches=1", set, NULL);
    help_remove(folder);
}

static int setup(void **state)
{
    bn_config floating;
    (void)state;
    help_remove("faults-folder");
    help_remove("faults-peft");
    help_write_text("faults-short.txt", 100);
    configure(&floating, "faults-float", "quantization.weight_bits=none");
    assert_ok(run_of(&floating, NULL));
    bn_config_clear(&floating);
    configure(&config, "faults-base", NULL);
    clean_up();
    assert_ok(train());
    assert_ok(bn_fs_mkdirs("faults"));
    assert_ok(export_packed());
    assert_int_equal(rename("faults/out.h5", "faults-packed.h5"), 0);
    clean_up();
    assert_ok(export_folder());
    assert_int_equal(rename("faults", "faults-folder"), 0);
    assert_ok(bn_config_set(&config, "output_dir=faults"));
    configure(&adapting, "faults-adapter", "adapter.base=faults-packed.h5");
    assert_ok(adapt());
    assert_ok(export_peft());
    assert_int_equal(rename("faults", "faults-peft"), 0);
    assert_ok(bn_config_set(&adapting, "output_dir=faults"));
    configure(&starting, "faults", "training.init_from=faults-float/checkpoint-00000002.h5");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bn_config_clear(&config);
    bn_config_clear(&starting);
    bn_config_clear(&adapting);
    return 0;
}

/* With an argument only the works whose names match it: "export*", say. */
int main(int argc, char **argv)
{
    static fault_work works[] = {
        {"train", train, clean_up, check_files},
        {"resume", resume, clean_up, check_files},
        {"train from other weights", start_from, clean_up, check_files},
        {"train adapters", adapt, clean_up, check_files},
        {"export as packed file", export_packed, make_room, check_files},
        {"export as GGUF", export_gguf, make_room, check_files},
        {"export as Hugging Face folder", export_folder, clean_up, check_files},
        {"import", import, make_room, check_files},
        {"quantize", quantize, make_room, check_files},
        {"adapters alone", export_adapter, make_room, check_files},
        {"adapters for PEFT", export_peft, clean_up, check_files},
        {"adapters merged", merge, make_room, check_files},
        {"generate", generate, NULL, NULL},
        {"generate with adapters", generate_adapted, NULL, NULL},
        {"generate with adapters of PEFT", generate_peft, NULL, NULL},
    };
    struct CMUnitTest tests[sizeof works / sizeof *works];
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        tests[i] = (struct CMUnitTest){works[i].what, sweep, NULL, NULL, &works[i]};
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, setup, teardown);
}
