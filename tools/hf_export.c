#include "tools/hf_export.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "quant/pack.h"
#include "quant/quantize.h"
#include "tools/hf_export_report.h"
#include "tools/hf_import.h"
#include "tools/sample.h"
#include "tools/verify.h"

/* Everything an export holds on its way. */
typedef struct job {
    const bn_hf_export_request *request;
    bn_loaded *source;
    bn_hf_export_facts facts;
    bn_strings float_modules;
    bn_export_set set; /* as it will read back */
    bn_hf_folder folder;
    char *temp, *imported; /* the folder, and the file it imports as */
    bn_sample sample;
    bn_probe original; /* the source as it is */
    bn_probe stored;   /* with its numbers as stored */
} job;

static void job_clear(job *j)
{
    bn_probe_clear(&j->original);
    bn_probe_clear(&j->stored);
    bn_sample_clear(&j->sample);
    bn_export_set_clear(&j->set);
    bn_strings_clear(&j->float_modules);
    free(j->temp);
    free(j->imported);
}

/* ---- what this form can hold ---- */

static bool is_quantized(const bn_linear_layer *layer)
{
    return layer->quant.ternary_weights && layer->quant.int8_activations;
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
    if (!quantized)
        return codes ? refuse(j, "transformers quantizes weights and activations, or neither; the "
                                 "model does not quantize both: bf16 and float32 hold it")
                     : BN_OK;
    if (c->quantization.activation_scale == BN_ACTIVATION_SCALE_TENSOR)
        return refuse(j, "transformers has one activation scale per token, the model one per "
                         "tensor");
    j->folder.weights = form == BN_HF_SHADOW ? BN_HF_ONLINE : BN_HF_OFFLINE;
    if (form == BN_HF_PACKED)
        return check_packed(j);
    if (form == BN_HF_SHADOW && j->source->is_packed)
        return refuse(j, "a packed file has no shadow weights");
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

static bn_status probe(const job *j, const bn_model *model, bn_probe *out)
{
    enum { PROBE_TOKENS = 64 };
    const int64_t time = j->sample.time < PROBE_TOKENS ? j->sample.time : PROBE_TOKENS;
    return bn_probe_run(model, j->sample.tokens, time, out);
}

static bn_status measure_source(job *j)
{
    bn_score score;
    const bn_loaded *source = j->source;
    BN_TRY(bn_sample_open(&source->config, j->request->data, source->tokenizer, &j->sample));
    BN_TRY(bn_sample_score(&j->sample, source->model, &score));
    j->facts.loss_before = bn_score_loss(&score);
    j->facts.loss_tokens = score.labels;
    j->facts.text = j->sample.source;
    j->facts.random = j->sample.random;
    return probe(j, source->model, &j->original);
}

/* Weights of a layer whose activations are float: stored as plain numbers. */
static bn_status flatten(bn_export_item *item)
{
    const int64_t n = bn_export_numel(item);
    float *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return bn_error_nomem(item->name, (size_t)n * sizeof *values);
    bn_weight_dequantize_rows_f32(item->codes, item->data, 0, item->shape[0], item->shape[1],
                                  item->group_size, values);
    free(item->codes);
    free(item->data);
    item->codes = NULL;
    item->data = values;
    item->count = n;
    item->ternary = false;
    item->group_size = 0;
    return BN_OK;
}

/* The numbers as they will read back. */
static void round_item(const job *j, bn_export_item *item)
{
    bn_encoding encoding = j->folder.floats;
    if (item->ternary)
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
        if (j->set.items[i].ternary && j->folder.weights == BN_HF_FLOAT)
            BN_TRY(flatten(&j->set.items[i]));
        round_item(j, &j->set.items[i]);
    }
    return BN_OK;
}

/* ---- comparing ---- */

static bn_linear_layer *layer_of(const bn_model *model, const char *name)
{
    for (int i = 0; i < model->n_linears; i++) {
        const size_t length = strlen(model->linears[i]->name);
        if (strncmp(model->linears[i]->name, name, length) == 0 &&
            strcmp(name + length, ".weight") == 0)
            return model->linears[i];
    }
    return NULL;
}

/* Gives the source the numbers as they are stored; layers that were flattened
 * become float layers, as reading a packed file makes them. */
static bn_status round_source(const job *j)
{
    const bn_model *model = j->source->model;
    for (int i = 0; i < j->set.count; i++) {
        const bn_export_item *item = &j->set.items[i];
        bn_linear_layer *layer = layer_of(model, item->name);
        const bn_param *param = bn_param_set_find(&model->params, item->name);
        if (item->ternary)
            BN_TRY(bn_backend_put_f32(model->backend, &layer->scale, item->data, item->count));
        else if (param)
            BN_TRY(bn_backend_put_f32(model->backend, &param->value, item->data, item->count));
        if (layer && j->folder.weights == BN_HF_FLOAT)
            layer->is_bit = false;
    }
    return BN_OK;
}

static bn_status differs(const job *j, const bn_export_item *item, int64_t at, double expected,
                         double found)
{
    return bn_error(BN_MISMATCH, "%s: %s: number %lld reads back as %.9g, expected %.9g", j->temp,
                    item->name, (long long)at, found, expected);
}

static bn_status compare_item(job *j, const bn_export_item *a, const bn_export_item *b)
{
    const int64_t bytes = a->ternary ? bn_t2_row_bytes(a->shape[1]) : 0;
    if (a->ternary != b->ternary || a->count != b->count || a->group_size != b->group_size ||
        bn_export_numel(a) != bn_export_numel(b))
        return bn_error(BN_MISMATCH, "%s: %s reads back in another form", j->temp, a->name);
    for (int64_t r = 0; r < a->shape[0] && a->ternary; r++)
        if (memcmp(a->codes + r * bytes, b->codes + r * bytes, (size_t)bytes) != 0)
            return bn_error(BN_MISMATCH, "%s: %s: codes of row %lld read back changed", j->temp,
                            a->name, (long long)r);
    for (int64_t i = 0; i < a->count; i++)
        if (a->data[i] < b->data[i] || a->data[i] > b->data[i])
            return differs(j, a, i, (double)a->data[i], (double)b->data[i]);
    j->facts.codes += a->ternary ? bn_export_numel(a) : 0;
    *(a->ternary ? &j->facts.scales : &j->facts.floats) += a->count;
    return BN_OK;
}

static bn_status compare_sets(job *j, const bn_export_set *found)
{
    if (found->count != j->set.count)
        return bn_error(BN_MISMATCH, "%s: %d tensors read back, expected %d", j->temp, found->count,
                        j->set.count);
    for (int i = 0; i < j->set.count; i++) {
        const bn_export_item *other = NULL;
        for (int k = 0; k < found->count && !other; k++)
            if (strcmp(found->items[k].name, j->set.items[i].name) == 0)
                other = &found->items[k];
        if (!other)
            return bn_error(BN_MISMATCH, "%s: %s does not read back", j->temp,
                            j->set.items[i].name);
        BN_TRY(compare_item(j, &j->set.items[i], other));
    }
    return BN_OK;
}

static bn_status compare_contents(job *j, const bn_loaded *found)
{
    bn_export_set set;
    bn_status status = found->is_packed ? bn_export_collect_packed(found->path, &set)
                                        : bn_export_collect_model(found->model, &set);
    if (status != BN_OK)
        return status;
    status = compare_sets(j, &set);
    bn_export_set_clear(&set);
    return status;
}

static bn_status compare_results(job *j, const bn_model *found)
{
    bn_hf_export_facts *facts = &j->facts;
    bn_probe result;
    bn_score score;
    int first;
    bn_status status = probe(j, found, &result);
    if (status != BN_OK)
        return status;
    const int differing = bn_probe_differing_products(&j->stored, &result, &first);
    facts->products = result.products;
    facts->probe_tokens = result.count / j->source->model->vocab;
    facts->logit_difference = bn_probe_logit_difference(&j->original, &result, false);
    facts->logit_relative = bn_probe_logit_difference(&j->stored, &result, true);
    if (differing != 0)
        status = bn_error(BN_MISMATCH, "%s: integer products differ from the model's", j->temp);
    else if (!(facts->logit_relative <= 1e-5))
        status = bn_error(BN_MISMATCH, "%s: logits differ by %g relative, allowed is 1e-5", j->temp,
                          facts->logit_relative);
    bn_probe_clear(&result);
    BN_TRY(status);
    BN_TRY(bn_sample_score(&j->sample, found, &score));
    facts->loss_after = bn_score_loss(&score);
    facts->verified = true;
    return BN_OK;
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
        status = compare_results(j, found.model);
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
        BN_TRY(measure_source(j));
    BN_TRY(collect(j));
    if (request->verify) {
        BN_TRY(round_source(j));
        BN_TRY(probe(j, j->source->model, &j->stored));
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
                                        "model.safetensors", "tokenizer.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = bn_path_join(dir, names[i]);
        if (path)
            unlink(path);
        free(path);
    }
    rmdir(dir);
}

static bn_status finish(const job *j, const bn_hf_export_report *report)
{
    const char *output = j->request->output;
    if (bn_fs_get_ops()->rename(j->temp, output) != 0)
        return bn_error(BN_IO, "%s: cannot be renamed to %s: %s", j->temp, output, strerror(errno));
    char *path = bn_format("%s.report.json", output), *parent = bn_path_parent(output);
    bn_status status = path && parent ? bn_fs_sync(parent) : BN_FAIL;
    if (status == BN_OK)
        status = bn_fs_write(path, report->json, strlen(report->json));
    free(path);
    free(parent);
    return status;
}

bn_status bn_hf_export_run(const bn_hf_export_request *request, bn_loaded *source,
                           bn_hf_export_report *report)
{
    job j = {.request = request, .source = source};
    bn_status status = BN_OK;
    *report = (bn_hf_export_report){0};
    if (!(j.temp = bn_format("%s.unverified", request->output)) ||
        !(j.imported = bn_format("%s.unverified.h5", request->output))) {
        job_clear(&j);
        return BN_FAIL;
    }
    BN_TRY_OUT(prepare(&j));
    j.facts.source = source->path;
    j.facts.output = request->output;
    j.facts.step = source->is_packed ? -1 : source->step;
    status = make(&j);
    unlink(j.imported);
    if (status == BN_OK)
        status = bn_hf_export_report_make(j.temp, &j.facts, &j.folder, &j.set, report);
    if (status == BN_OK)
        status = finish(&j, report);
    if (status != BN_OK)
        remove_folder(j.temp);
out:
    if (status != BN_OK)
        bn_hf_export_report_clear(report);
    job_clear(&j);
    return status;
}
