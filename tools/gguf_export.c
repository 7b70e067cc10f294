#include "tools/gguf_export.h"

#include <stdlib.h>
#include <string.h>

#include "interop/gguf_arch.h"
#include "interop/gguf_vocab.h"

/* Everything an export holds on its way. */
typedef struct job {
    const bn_gguf_export_request *request;
    bn_loaded *source;
    bn_export_job_facts facts;
    bn_export_set set; /* as it will read back */
    bn_gguf_meta meta;
    bn_strings gaps; /* what llama.cpp does differently */
    char *temp;
    bn_export_trial trial;
} job;

static void job_clear(job *j)
{
    bn_export_trial_clear(&j->trial);
    bn_export_set_clear(&j->set);
    bn_gguf_meta_clear(&j->meta);
    bn_strings_clear(&j->gaps);
    free(j->temp);
}

/* ---- what is written ---- */

/* "folder/name.gguf" is called "name". */
static bn_status add_name(job *j)
{
    const char *slash = strrchr(j->request->output, '/');
    char *name = bn_strdup(slash ? slash + 1 : j->request->output);
    if (!name)
        return BN_FAIL;
    char *dot = strrchr(name, '.');
    if (dot && dot > name)
        *dot = '\0';
    bn_gguf_meta_string(&j->meta, "general.name", name);
    free(name);
    return BN_OK;
}

static bn_status check_function(const job *j)
{
    if (j->gaps.count == 0 || j->request->force)
        return BN_OK;
    return bn_error(BN_USAGE, "--format gguf: %s; --force writes the file all the same",
                    j->gaps.items[0]);
}

static bn_status describe(job *j)
{
    const bn_loaded *source = j->source;
    const bn_config *config = &source->config;
    if (config->model.kind != BN_KIND_TRANSFORMER)
        return bn_error(BN_USAGE, "--format gguf: llama.cpp has no architecture for model.kind %s",
                        bn_config_word("model.kind", (int)config->model.kind));
    BN_TRY(bn_export_expect_ternary(source->model, "--format gguf"));
    bn_gguf_arch_meta(config, source->model->vocab, j->request->layout.ternary, &j->meta);
    BN_TRY(add_name(j));
    bn_gguf_meta_string(&j->meta, "general.quantized_by", j->request->producer);
    BN_TRY(bn_gguf_arch_gaps(config, &j->gaps));
    BN_TRY(bn_gguf_vocab_meta(bn_tokenizer_source(source->tokenizer), source->model->vocab,
                              &j->meta, &j->gaps));
    return check_function(j);
}

static bn_status collect(job *j)
{
    const bn_loaded *source = j->source;
    if (source->is_packed)
        return bn_export_collect_packed(source->path, &j->set);
    BN_TRY(bn_model_pack(source->model));
    return bn_export_collect_model(source->model, &j->set);
}

/* ---- the job ---- */

static bn_status compare_contents(job *j)
{
    bn_export_set found;
    bn_gguf *file;
    BN_TRY(bn_gguf_open(j->temp, &file));
    bn_status status = BN_OK;
    if (!bn_gguf_has_meta(file, &j->meta))
        status = bn_error(BN_MISMATCH, "%s: the keys are not those that were written", j->temp);
    if (status == BN_OK)
        status = bn_gguf_set_read(file, &j->set, &j->request->layout, &found);
    bn_gguf_close(file);
    BN_TRY(status);
    status = bn_export_compare(j->temp, &j->set, &found);
    if (status == BN_OK)
        status = bn_export_apply(&found, j->source->model);
    bn_export_set_clear(&found);
    return status;
}

/* The source with the numbers of the file, which it was given before the file
 * was written and again as they were read back, must be one model. */
static bn_status verify(job *j)
{
    bn_export_check *check = &j->facts.check;
    const bn_model *model = j->source->model;
    bn_status status = compare_contents(j);
    if (status != BN_OK)
        return status == BN_BAD_DATA || status == BN_NO_INPUT ? BN_MISMATCH : status;
    bn_export_count(&j->set, check);
    return bn_export_trial_compare(&j->trial, j->temp, model, model, check);
}

/* A verified file under the temporary name. */
static bn_status make(job *j)
{
    const bn_gguf_export_request *request = j->request;
    BN_TRY(describe(j));
    if (request->verify)
        BN_TRY(bn_export_trial_start(&j->trial, j->source, request->data, &j->facts.check));
    BN_TRY(collect(j));
    BN_TRY(bn_gguf_set_check(&j->set, &request->layout));
    BN_TRY(bn_gguf_set_round(&j->set, &request->layout));
    if (request->verify) {
        BN_TRY(bn_export_apply(&j->set, j->source->model));
        BN_TRY(bn_export_trial_stored(&j->trial, j->source->model));
    }
    BN_TRY(bn_gguf_set_write(j->temp, &j->meta, &j->set, &request->layout));
    if (request->written)
        request->written(request->arg, j->temp);
    return request->verify ? verify(j) : BN_OK;
}

static bn_status join(const bn_strings *list, char **out)
{
    bn_text text = {0};
    for (size_t i = 0; i < list->count; i++)
        bn_text_addf(&text, "%s%s", i ? "; " : "", list->items[i]);
    return bn_text_take(&text, out);
}

static bn_status make_report(job *j, const char *gaps, bn_export_report *report)
{
    const bn_gguf_layout *layout = &j->request->layout;
    const bn_export_fact more[] = {{"architecture", "bitnet"},
                                   {"weights", bn_gguf_type_name(layout->ternary)},
                                   {"float_dtype", bn_gguf_type_name(layout->floats)},
                                   {"computed_differently", *gaps ? gaps : NULL},
                                   {NULL, NULL}};
    bn_export_stored *stored = calloc((size_t)j->set.count + 1, sizeof *stored);
    if (!stored)
        return bn_error_nomem("the report", (size_t)j->set.count * sizeof *stored);
    for (int i = 0; i < j->set.count; i++)
        stored[i] =
            (bn_export_stored){bn_gguf_type_name(bn_gguf_item_type(&j->set.items[i], layout)),
                               bn_gguf_item_bytes(&j->set.items[i], layout)};
    j->facts.more = more;
    j->facts.note = *gaps ? gaps : NULL;
    bn_status status = bn_export_report_make(&j->facts, j->temp, &j->set, stored, report);
    free(stored);
    return status;
}

static bn_status report_of(job *j, bn_export_report *report)
{
    char *gaps = NULL;
    BN_TRY(join(&j->gaps, &gaps));
    bn_status status = make_report(j, gaps, report);
    free(gaps);
    return status;
}

bn_status bn_gguf_export_run(const bn_gguf_export_request *request, bn_loaded *source,
                             bn_export_report *report)
{
    job j = {.request = request,
             .source = source,
             .facts = {.source = source->path,
                       .output = request->output,
                       .step = source->is_packed ? -1 : source->step,
                       .format = "gguf"}};
    *report = (bn_export_report){0};
    if (!(j.temp = bn_format("%s.unverified", request->output)))
        return BN_FAIL;
    bn_status status = make(&j);
    if (status == BN_OK)
        status = report_of(&j, report);
    status = bn_export_settle(status, j.temp, request->output, report);
    job_clear(&j);
    return status;
}
