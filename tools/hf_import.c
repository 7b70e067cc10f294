#include "tools/hf_import.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "cpu/cpu.h"
#include "tools/hf_tensors.h"
#include "tools/hf_tokenizer.h"
#include "tools/start_checkpoint.h"

typedef struct job {
    const bn_import_request *request;
    bn_import_report *report;
    bn_hf_model hf;
    bn_st_reader *file;
    bn_backend *backend;
    bn_tokenizer *tokenizer;
    bn_model *model; /* names and shapes; never has memory */
    bn_hf_tensors tensors;
    char *config_json;
} job;

static void job_clear(job *j)
{
    bn_hf_tensors_clear(&j->tensors);
    bn_model_free(j->model);
    bn_tokenizer_free(j->tokenizer);
    bn_backend_free(j->backend);
    bn_st_close(j->file);
    bn_hf_model_clear(&j->hf);
    free(j->config_json);
}

/* ---- reading ---- */

/* The tokenizer that was asked for, else the folder's. */
static bn_status find_tokenizer(const job *j, bn_tokenizer **out)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model"};
    if (j->request->tokenizer)
        return bn_tokenizer_open(j->request->tokenizer, out);
    for (int i = 0; i < 2; i++) {
        char *path = bn_path_join(j->request->dir, names[i]);
        if (!path)
            return BN_FAIL;
        const bool there = bn_fs_exists(path);
        bool bytes = false;
        bn_status status = there ? bn_hf_is_byte_tokenizer(path, &bytes) : BN_OK;
        if (there && status == BN_OK)
            status = bn_tokenizer_open(bytes ? "byte" : path, out);
        free(path);
        if (there)
            return status;
    }
    if (j->hf.config.model.vocab_size == 256)
        return bn_tokenizer_new("byte", out);
    return bn_error(BN_USAGE,
                    "%s: neither tokenizer.json nor tokenizer.model; --tokenizer FILE names "
                    "another, --tokenizer byte takes the first 256 tokens as bytes",
                    j->request->dir);
}

static bn_status open_tokenizer(job *j)
{
    bn_status status = find_tokenizer(j, &j->tokenizer);
    return status == BN_BAD_CONFIG ? BN_USAGE : status;
}

/* Names and shapes that the config asks for. */
static bn_status make_model(job *j)
{
    const bool offline = j->hf.weights == BN_HF_OFFLINE;
    BN_TRY(bn_cpu_backend_new(NULL, &j->backend));
    bn_status status =
        bn_model_create(&j->hf.config, bn_tokenizer_vocab_size(j->tokenizer), j->backend,
                        offline ? BN_MODEL_PACKED : BN_MODEL_FLOAT, &j->model);
    BN_TRY(bn_error_in(status == BN_BAD_CONFIG ? BN_BAD_DATA : status, j->request->dir));
    return bn_model_check_rules(j->model, &j->hf.config);
}

static bn_status read_folder(job *j)
{
    char *path = bn_path_join(j->request->dir, "config.json");
    bn_status status = path ? bn_hf_config_read(path, j->request->set, &j->hf) : BN_FAIL;
    free(path);
    BN_TRY(status);
    BN_TRY(bn_st_open_dir(j->request->dir, &j->file));
    BN_TRY(open_tokenizer(j));
    BN_TRY(make_model(j));
    return bn_hf_tensors_read(&j->hf, j->file, j->model, &j->tensors);
}

/* ---- writing ---- */

static bn_status write_file(job *j)
{
    if (j->hf.weights != BN_HF_OFFLINE) {
        const bn_start start = {&j->hf.config, bn_tokenizer_source(j->tokenizer),
                                j->request->producer, "none: imported"};
        return bn_start_save(j->request->output, &start, &j->tensors.set);
    }
    BN_TRY(bn_config_dump(&j->hf.config, &j->config_json));
    const bn_packed_info info = {j->config_json, bn_tokenizer_source(j->tokenizer),
                                 j->request->producer};
    const bn_export_format format = {BN_ENC_BASE3X5, j->tensors.floats, 0};
    return bn_export_write(j->request->output, &info, &j->tensors.set, &format);
}

/* ---- the report ---- */

static const char *form_of(const job *j)
{
    switch (j->hf.weights) {
    case BN_HF_ONLINE:
        return "shadow weights";
    case BN_HF_OFFLINE:
        return j->tensors.packed
                   ? j->tensors.unpacked ? "packed and unpacked codes" : "packed codes"
                   : "unpacked codes";
    default:
        return "float weights";
    }
}

static int64_t parameters(const bn_export_set *set)
{
    int64_t sum = 0;
    for (int i = 0; i < set->count; i++)
        sum += bn_export_numel(&set->items[i]);
    return sum;
}

static void list_json(bn_json *json, const char *key, const bn_strings *list)
{
    bn_json_array(json, key);
    for (size_t i = 0; i < list->count; i++)
        bn_json_string(json, NULL, list->items[i]);
    bn_json_array_end(json);
}

static bn_status make_json(const job *j, char **out)
{
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_string(&json, "source", j->request->dir);
    bn_json_string(&json, "file", j->request->output);
    bn_json_string(&json, "kind", j->report->packed ? "packed" : "checkpoint");
    bn_json_string(&json, "architecture", bn_hf_family_name(j->hf.family));
    bn_json_string(&json, "weights", form_of(j));
    if (j->hf.weights == BN_HF_OFFLINE) {
        bn_json_bool(&json, "scale_divides", j->hf.scale_divides);
        bn_json_string(&json, "float_dtype", bn_encoding_name(j->tensors.floats));
    }
    bn_json_int(&json, "tensors", bn_st_count(j->file));
    bn_json_int(&json, "parameters", parameters(&j->tensors.set));
    list_json(&json, "added", &j->tensors.added);
    list_json(&json, "renamed", &j->tensors.renamed);
    list_json(&json, "ignored", &j->tensors.ignored);
    bn_json_object_end(&json);
    return bn_json_take(&json, out);
}

static void list_text(bn_text *text, const char *what, const bn_strings *list)
{
    if (list->count == 1)
        bn_text_addf(text, "  %s: %s\n", what, list->items[0]);
    else if (list->count > 1)
        bn_text_addf(text, "  %s: %s and %zu more\n", what, list->items[0], list->count - 1);
}

static bn_status make_text(const job *j, char **out)
{
    bn_text text = {0};
    bn_text_addf(&text, "%s -> %s\n  %s, %s, %lld parameters in %d tensors\n", j->request->dir,
                 j->request->output, bn_hf_family_name(j->hf.family), form_of(j),
                 (long long)parameters(&j->tensors.set), bn_st_count(j->file));
    list_text(&text, "added, with weights of one", &j->tensors.added);
    list_text(&text, "renamed", &j->tensors.renamed);
    list_text(&text, "ignored", &j->tensors.ignored);
    if (j->report->packed)
        bn_text_add(&text, "  a packed file: it has no shadow weights to train\n");
    else if (j->hf.family == BN_HF_LLAMA)
        bn_text_add(&text, "  a start for training: it was not trained as a ternary model\n");
    return bn_text_take(&text, out);
}

bn_status bn_import_run(const bn_import_request *request, bn_import_report *report)
{
    job j = {.request = request, .report = report};
    bn_status status = BN_OK;
    *report = (bn_import_report){0};
    BN_TRY_OUT(read_folder(&j));
    report->packed = j.hf.weights == BN_HF_OFFLINE;
    BN_TRY_OUT(make_json(&j, &report->json));
    BN_TRY_OUT(make_text(&j, &report->text));
    BN_TRY_OUT(write_file(&j));
out:
    job_clear(&j);
    if (status != BN_OK)
        bn_import_report_clear(report);
    return status;
}

void bn_import_report_clear(bn_import_report *report)
{
    free(report->json);
    free(report->text);
    *report = (bn_import_report){0};
}
