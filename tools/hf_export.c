#include "tools/hf_export.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/signals.h"
#include "quant/quantize.h"
#include "tools/hf_import.h"

/* Everything an export holds on its way. */
typedef struct job {
    const bn_hf_export_request *request;
    bn_loaded *source;
    bn_export_job_facts facts;
    bn_strings float_modules;
    bn_export_set set; /* as it will read back */
    bn_hf_folder folder;
    char *temp, *imported; /* the folder, and the file it imports as */
    bn_export_trial trial;
} job;

static void job_clear(job *j)
{
    bn_export_trial_clear(&j->trial);
    bn_export_set_clear(&j->set);
    bn_strings_clear(&j->float_modules);
    free(j->temp);
    free(j->imported);
}

/* ---- what this form can hold ---- */

static bool is_quantized(const bn_linear_layer *layer)
{
    return layer->quant.weight.quantized && layer->quant.act.quantized;
}

static bn_status refuse(const job *j, const char *reason)
{
    return bn_error(BN_USAGE, "--hf-weights %s: %s", bn_hf_form_name(j->request->form), reason);
}

static bn_status check_packed(const job *j)
{
    const bn_model *model = j->source->model;
    if (bn_config_group_size(&j->source->config) != BN_PER_TENSOR)
        return refuse(j, "this form has one scale per tensor, the model has one per group or row; "
                         "bf16 and float32 hold them");
    for (int i = 0; i < model->n_linears; i++)
        if (is_quantized(model->linears[i]) && model->linears[i]->out % 4 != 0)
            return bn_error(BN_USAGE,
                            "--hf-weights packed: %s has %lld rows, this form packs four to one",
                            model->linears[i]->name, (long long)model->linears[i]->out);
    return BN_OK;
}

static bn_status check_form(job *j)
{
    const bn_config *c = &j->source->config;
    const bn_hf_form form = j->request->form;
    const bool codes = form == BN_HF_PACKED || form == BN_HF_SHADOW;
    const bool quantized = bn_config_quantized(c) && bn_config_quantized_activations(c);
    j->folder.weights = BN_HF_FLOAT;
    if (c->quantization.rules.count)
        return refuse(j, "transformers has one scheme for all layers, the model has "
                         "quantization.rules; packed files (--format hdf5) hold them");
    if (quantized)
        BN_TRY(bn_export_expect_ternary(j->source->model, "--format safetensors"));
    if (!quantized)
        return codes ? refuse(j, "transformers quantizes weights and activations, or neither; the "
                                 "model does not quantize both: bf16 and float32 hold it")
                     : BN_OK;
    const char *unusual = bn_config_unusual_activations(c);
    if (unusual)
        return bn_error(BN_USAGE,
                        "--hf-weights %s: transformers has 8-bit activations per token, the model "
                        "has %s",
                        bn_hf_form_name(form), unusual);
    if (c->quantization.activation_scale == BN_ACTIVATION_SCALE_TENSOR)
        return refuse(j, "transformers has one activation scale per token, the model one per "
                         "tensor");
    j->folder.weights = form == BN_HF_SHADOW ? BN_HF_ONLINE : BN_HF_OFFLINE;
    if (form == BN_HF_PACKED)
        return check_packed(j);
    if (form == BN_HF_SHADOW && j->source->is_packed)
        return refuse(j, "a packed file has no shadow weights");
    if (form == BN_HF_SHADOW && c->quantization.scale_estimator != BN_SCALE_ESTIMATOR_ABSMEAN)
        return refuse(j, "transformers takes the scale from the mean of |w|, the model does not");
    if (form == BN_HF_SHADOW && bn_config_group_size(c) != BN_PER_TENSOR)
        return refuse(j, "transformers quantizes with one scale per tensor, the model has one per "
                         "group or row");
    return BN_OK;
}

/* Modules that transformers must leave float. */
static bn_status list_float_modules(job *j)
{
    const bn_model *model = j->source->model;
    for (int i = 0; i < model->n_linears; i++)
        if (!is_quantized(model->linears[i]))
            BN_TRY(bn_strings_add(&j->float_modules, model->linears[i]->name));
    return model->tied ? bn_strings_add(&j->float_modules, "lm_head") : BN_OK;
}

/* ---- the numbers ---- */

/* Weights of a layer whose activations are float: stored as plain numbers. */
static bn_status flatten(bn_export_item *item)
{
    const int64_t n = bn_export_numel(item);
    float *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return bn_error_nomem(item->name, (size_t)n * sizeof *values);
    bn_codes_dequantize_f32(bn_grid_dtype(item->grid), item->codes, item->data, item->shape[0],
                            item->shape[1], item->group_size, values);
    free(item->codes);
    free(item->data);
    item->codes = NULL;
    item->data = values;
    item->count = n;
    item->coded = false;
    item->group_size = 0;
    return BN_OK;
}

/* The numbers as they will read back. */
static void round_item(const job *j, bn_export_item *item)
{
    bn_encoding encoding = j->folder.floats;
    if (item->coded)
        encoding = j->request->form == BN_HF_BF16 && item->group_size != BN_PER_TENSOR
                       ? BN_ENC_BFLOAT16
                       : BN_ENC_FLOAT32;
    else if (item->ndim == 1)
        encoding = BN_ENC_FLOAT32;
    for (int64_t i = 0; i < item->count; i++)
        item->data[i] = bn_export_round(item->data[i], encoding);
}

static bn_status collect(job *j)
{
    const bn_loaded *source = j->source;
    if (source->is_packed) {
        BN_TRY(bn_export_collect_packed(source->path, &j->set));
    } else {
        if (j->request->form != BN_HF_SHADOW)
            BN_TRY(bn_model_pack(source->model));
        BN_TRY(bn_export_collect_model(source->model, &j->set));
    }
    for (int i = 0; i < j->set.count; i++) {
        BN_TRY(bn_signals_poll());
        if (j->set.items[i].coded && j->folder.weights == BN_HF_FLOAT)
            BN_TRY(flatten(&j->set.items[i]));
        round_item(j, &j->set.items[i]);
    }
    return BN_OK;
}

/* ---- comparing ---- */

static bn_status compare_contents(job *j, const bn_loaded *found)
{
    bn_export_set set;
    bn_status status = found->is_packed ? bn_export_collect_packed(found->path, &set)
                                        : bn_export_collect_model(found->model, &set);
    if (status != BN_OK)
        return status;
    status = bn_export_compare(j->temp, &j->set, &set);
    if (status == BN_OK)
        bn_export_count(&j->set, &j->facts.check);
    bn_export_set_clear(&set);
    return status;
}

/* Imports the folder as anybody would, and lets the result compute. */
static bn_status verify(job *j)
{
    const char *tokenizer = j->folder.tokenizer[0] == '{' ? NULL : j->folder.tokenizer;
    const bn_import_request request = {.dir = j->temp,
                                       .output = j->imported,
                                       .producer = j->request->producer,
                                       .tokenizer = tokenizer};
    bn_import_report report;
    bn_loaded found;
    bn_status status = bn_import_run(&request, &report);
    bn_import_report_clear(&report);
    if (status == BN_OK)
        status = bn_loaded_open(j->imported, j->source->model->backend, false, &found);
    if (status != BN_OK)
        return status == BN_BAD_DATA || status == BN_NO_INPUT ? BN_MISMATCH : status;
    status = compare_contents(j, &found);
    if (status == BN_OK)
        status = bn_export_trial_compare(&j->trial, j->temp, j->source->model, found.model,
                                         &j->facts.check);
    bn_loaded_clear(&found);
    return status;
}

/* ---- the job ---- */

static bn_status prepare(job *j)
{
    const bn_loaded *source = j->source;
    bool empty;
    BN_TRY(bn_fs_dir_empty(j->request->output, &empty));
    if (!empty)
        return bn_error(BN_USAGE, "-o %s: expected a folder that is missing or empty",
                        j->request->output);
    j->folder = (bn_hf_folder){.config = &source->config,
                               .vocab = source->model->vocab,
                               .tokenizer = bn_tokenizer_source(source->tokenizer),
                               .form = j->request->form,
                               .floats = j->request->floats,
                               .float_modules = &j->float_modules};
    BN_TRY(check_form(j));
    return list_float_modules(j);
}

/* A verified folder under the temporary name. */
static bn_status make(job *j)
{
    const bn_hf_export_request *request = j->request;
    if (request->verify)
        BN_TRY(bn_export_trial_start(&j->trial, j->source, request->data, &j->facts.check));
    BN_TRY(collect(j));
    if (request->verify) {
        BN_TRY(bn_export_apply(&j->set, j->source->model));
        BN_TRY(bn_export_trial_stored(&j->trial, j->source->model));
    }
    BN_TRY(bn_fs_mkdirs(j->temp));
    BN_TRY(bn_hf_folder_write(j->temp, &j->folder, &j->set));
    if (request->written)
        request->written(request->arg, j->temp);
    return request->verify ? verify(j) : BN_OK;
}

/* Removes what a failed export made; the message stays. */
static void remove_folder(const char *dir)
{
    static const char *const names[] = {"config.json", "generation_config.json",
                                        "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = bn_path_join(dir, names[i]);
        if (path)
            unlink(path);
        free(path);
    }
    rmdir(dir);
}

/* How the folder holds each item of the set, and what it says of all. */
static bn_status make_report(job *j, bn_export_report *report)
{
    const bn_hf_folder *folder = &j->folder;
    const bn_export_fact more[] = {{"architecture", bn_hf_family_name(BN_HF_BITNET)},
                                   {"weights", bn_hf_form_name(folder->form)},
                                   {"float_dtype", bn_encoding_name(folder->floats)},
                                   {NULL, NULL}};
    bn_export_stored *stored = calloc((size_t)j->set.count + 1, sizeof *stored);
    char *note = bn_format("%s, weights %s", more[0].value, more[1].value);
    bn_status status = stored && note ? BN_OK : bn_error_nomem("the report", sizeof *stored);
    for (int i = 0; i < j->set.count && status == BN_OK; i++)
        stored[i] = (bn_export_stored){bn_hf_stored_as(&j->set.items[i], folder),
                                       bn_hf_stored_bytes(&j->set.items[i], folder)};
    j->facts.more = more;
    j->facts.note = note;
    if (status == BN_OK)
        status = bn_export_report_make(&j->facts, j->temp, &j->set, stored, report);
    free(stored);
    free(note);
    return status;
}

static bn_status finish(const job *j, const bn_export_report *report)
{
    const char *output = j->request->output;
    if (bn_fs_get_ops()->rename(j->temp, output) != 0)
        return bn_error(BN_IO, "%s: cannot be renamed to %s: %s", j->temp, output, strerror(errno));
    char *parent = bn_path_parent(output);
    bn_status status = parent ? bn_fs_sync(parent) : BN_FAIL;
    free(parent);
    return status == BN_OK ? bn_export_report_save(report, output) : status;
}

bn_status bn_hf_export_run(const bn_hf_export_request *request, bn_loaded *source,
                           bn_export_report *report)
{
    job j = {.request = request,
             .source = source,
             .facts = {.source = source->path,
                       .output = request->output,
                       .step = source->is_packed ? -1 : source->step,
                       .format = "safetensors"}};
    bn_status status = BN_OK;
    *report = (bn_export_report){0};
    if (!(j.temp = bn_format("%s.unverified", request->output)) ||
        !(j.imported = bn_format("%s.unverified.h5", request->output))) {
        job_clear(&j);
        return BN_FAIL;
    }
    BN_TRY_OUT(prepare(&j));
    status = make(&j);
    unlink(j.imported);
    if (status == BN_OK)
        status = make_report(&j, report);
    if (status == BN_OK)
        status = finish(&j, report);
    if (status != BN_OK)
        remove_folder(j.temp);
out:
    if (status != BN_OK)
        bn_export_report_clear(report);
    job_clear(&j);
    return status;
}
