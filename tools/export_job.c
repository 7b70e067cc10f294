#include "tools/export_job.h"

#include <stdlib.h>

/* Everything an export holds on its way. */
typedef struct job {
    const bn_export_request *request;
    bn_loaded *source;
    bn_export_job_facts facts;
    bn_export_set set;
    char *config_json, *temp;
    bn_packed_info info;
    bn_export_trial trial;
} job;

static void job_clear(job *j)
{
    bn_export_trial_clear(&j->trial);
    bn_export_set_clear(&j->set);
    free(j->config_json);
    free(j->temp);
}

/* Replaces the floats of the source's matrices by what they will read back as. */
static bn_status round_floats(bn_model *model, bn_encoding encoding)
{
    for (int i = 0; i < model->params.count; i++) {
        const bn_tensor *value = &model->params.items[i]->value;
        const int64_t n = bn_tensor_numel(value);
        bool converted = value->ndim == 1;
        for (int k = 0; k < model->n_linears; k++)
            converted |= model->linears[k]->weight == model->params.items[i] &&
                         model->linears[k]->quant.weight.quantized;
        if (converted)
            continue;
        float *values = malloc((size_t)n * sizeof *values);
        if (!values)
            return bn_error_nomem(model->params.items[i]->name, (size_t)n * sizeof *values);
        bn_status status = bn_backend_get_f32(model->backend, value, values, n);
        for (int64_t k = 0; k < n; k++)
            values[k] = bn_export_round(values[k], encoding);
        if (status == BN_OK)
            status = bn_backend_put_f32(model->backend, value, values, n);
        free(values);
        BN_TRY(status);
    }
    return BN_OK;
}

static bn_status collect(job *j)
{
    bn_loaded *source = j->source;
    if (source->is_packed)
        return bn_export_collect_packed(source->path, &j->set);
    BN_TRY(bn_model_pack(source->model));
    return bn_export_collect_model(source->model, &j->set);
}

/* Loads the file as any program would, and lets it compute. */
static bn_status verify(job *j)
{
    const bn_model *model = j->source->model;
    bn_loaded packed;
    BN_TRY(bn_verify_contents(j->temp, &j->info, &j->set, &j->request->format));
    bn_export_count(&j->set, &j->facts.check);
    bn_status status = bn_loaded_open(j->temp, model->backend, true, &packed);
    if (status != BN_OK)
        return status == BN_BAD_DATA ? BN_MISMATCH : status;
    status = bn_export_trial_compare(&j->trial, j->temp, model, packed.model, &j->facts.check);
    bn_loaded_clear(&packed);
    return status;
}

/* A verified file under the temporary name. */
static bn_status make(job *j)
{
    const bn_export_request *request = j->request;
    bn_model *model = j->source->model;
    if (request->verify)
        BN_TRY(bn_export_trial_start(&j->trial, j->source, request->data, &j->facts.check));
    BN_TRY(collect(j));
    if (request->verify && request->format.floats != BN_ENC_FLOAT32) {
        BN_TRY(round_floats(model, request->format.floats));
        BN_TRY(bn_export_trial_stored(&j->trial, model));
    }
    BN_TRY(bn_config_dump(&j->source->config, &j->config_json));
    j->info = (bn_packed_info){j->config_json, bn_tokenizer_source(j->source->tokenizer),
                               request->producer};
    BN_TRY(bn_export_write(j->temp, &j->info, &j->set, &request->format));
    if (request->written)
        request->written(request->arg, j->temp);
    return request->verify ? verify(j) : BN_OK;
}

/* How the file holds each item of the set. */
static bn_status list_stored(const job *j, bn_export_stored *stored)
{
    bn_packed *file;
    bn_status status = BN_OK;
    BN_TRY(bn_packed_open(j->temp, &file));
    for (int i = 0; i < j->set.count; i++) {
        const bn_export_item *item = &j->set.items[i];
        const bn_packed_entry *entry;
        BN_TRY_OUT(bn_packed_expect(file, item->name, item->ndim, item->shape, &entry));
        stored[i] = (bn_export_stored){bn_encoding_name(entry->encoding), entry->stored_bytes};
    }
out:
    bn_packed_close(file);
    return status;
}

static bn_status make_report(job *j, bn_export_report *report)
{
    const bn_export_format *format = &j->request->format;
    const bn_export_fact more[] = {{"encoding", bn_encoding_name(format->ternary)},
                                   {"float_dtype", bn_encoding_name(format->floats)},
                                   {"compression", format->deflate ? "deflate" : NULL},
                                   {NULL, NULL}};
    bn_export_stored *stored = calloc((size_t)j->set.count + 1, sizeof *stored);
    if (!stored)
        return bn_error_nomem("the report", (size_t)j->set.count * sizeof *stored);
    j->facts.more = more;
    bn_status status = list_stored(j, stored);
    if (status == BN_OK)
        status = bn_export_report_make(&j->facts, j->temp, &j->set, stored, report);
    free(stored);
    return status;
}

bn_status bn_export_run(const bn_export_request *request, bn_loaded *source,
                        bn_export_report *report)
{
    job j = {.request = request,
             .source = source,
             .facts = {.source = source->path,
                       .output = request->output,
                       .step = source->is_packed ? -1 : source->step,
                       .format = "hdf5"}};
    *report = (bn_export_report){0};
    if (!(j.temp = bn_format("%s.unverified", request->output)))
        return BN_FAIL;
    bn_status status = make(&j);
    if (status == BN_OK)
        status = make_report(&j, report);
    status = bn_export_settle(status, j.temp, request->output, report);
    job_clear(&j);
    return status;
}
