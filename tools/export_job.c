#include "tools/export_job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "tools/sample.h"
#include "tools/verify.h"

/* Everything an export holds on its way. */
typedef struct job {
    const bn_export_request *request;
    bn_loaded *source;
    bn_export_report *report;
    bn_export_set set;
    char *config_json, *temp;
    bn_packed_info info;
    bn_sample sample;
    bn_probe original; /* the source as it is */
    bn_probe rounded;  /* with its floats as stored; empty if those are float32 */
} job;

static void job_clear(job *j)
{
    bn_probe_clear(&j->original);
    bn_probe_clear(&j->rounded);
    bn_sample_clear(&j->sample);
    bn_export_set_clear(&j->set);
    free(j->config_json);
    free(j->temp);
}

static bn_status probe(const job *j, const bn_model *model, bn_probe *out)
{
    enum { PROBE_TOKENS = 64 };
    const int64_t time = j->sample.time < PROBE_TOKENS ? j->sample.time : PROBE_TOKENS;
    return bn_probe_run(model, j->sample.tokens, time, out);
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
                         model->linears[k]->quant.ternary_weights;
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

/* What the source computes before it is packed: a checkpoint's graph quantizes
 * the shadow weights itself, as an evaluation during training does. */
static bn_status measure_source(job *j)
{
    bn_model *model = j->source->model;
    bn_export_check *check = &j->report->check;
    bn_score score;
    BN_TRY(bn_sample_open(&j->source->config, j->request->data, j->source->tokenizer, &j->sample));
    BN_TRY(bn_sample_score(&j->sample, model, &score));
    check->loss_before = bn_score_loss(&score);
    check->loss_tokens = score.labels;
    check->random = j->sample.random;
    if (!(check->text = bn_strdup(j->sample.source)))
        return BN_FAIL;
    return probe(j, model, &j->original);
}

static bn_status collect(job *j)
{
    bn_loaded *source = j->source;
    if (source->is_packed)
        return bn_export_collect_packed(source->path, &j->set);
    BN_TRY(bn_model_pack(source->model));
    return bn_export_collect_model(source->model, &j->set);
}

/* The layer of integer product number `index` of a run. */
static const char *product_name(const bn_model *model, int index)
{
    for (int i = 0; i < model->n_linears; i++) {
        const bn_linear_layer *layer = model->linears[i];
        if (layer->is_bit && layer->quant.ternary_weights && layer->quant.int8_activations &&
            index-- == 0)
            return layer->name;
    }
    return "an unknown one";
}

static bn_status compare_probes(job *j, const bn_probe *packed)
{
    bn_export_check *check = &j->report->check;
    const bn_model *model = j->source->model;
    int first;
    const bn_probe *reference = j->rounded.logits ? &j->rounded : &j->original;
    const int differing = bn_probe_differing_products(reference, packed, &first);
    if (differing < 0)
        return bn_error(BN_MISMATCH, "%s: %d integer products, the model has %d", j->temp,
                        packed->products, reference->products);
    if (differing > 0)
        return bn_error(BN_MISMATCH,
                        "%s: %d of %d integer products differ from the model's, %s first", j->temp,
                        differing, packed->products, product_name(model, first));
    check->products = packed->products;
    check->probe_tokens = packed->count / model->vocab;
    check->logit_difference = bn_probe_logit_difference(&j->original, packed, false);
    check->logit_relative = bn_probe_logit_difference(reference, packed, true);
    if (!(check->logit_relative <= 1e-5))
        return bn_error(BN_MISMATCH, "%s: logits differ by %g relative, allowed is 1e-5", j->temp,
                        check->logit_relative);
    return BN_OK;
}

/* Loads the file as any program would, and lets it compute. */
static bn_status verify_results(job *j)
{
    bn_export_check *check = &j->report->check;
    bn_loaded packed;
    bn_probe result = {0};
    bn_score score;
    bn_status status = bn_loaded_open(j->temp, j->source->model->backend, true, &packed);
    if (status != BN_OK)
        return status == BN_BAD_DATA ? BN_MISMATCH : status;
    BN_TRY_OUT(probe(j, packed.model, &result));
    BN_TRY_OUT(compare_probes(j, &result));
    BN_TRY_OUT(bn_sample_score(&j->sample, packed.model, &score));
    check->loss_after = bn_score_loss(&score);
    if (!j->rounded.logits &&
        !(fabs(check->loss_after - check->loss_before) <= 1e-5 * fmax(1, check->loss_before)))
        status = bn_error(BN_MISMATCH, "%s: loss on %s is %.9g, the model's %.9g", j->temp,
                          check->text, check->loss_after, check->loss_before);
    check->done = true;
out:
    bn_probe_clear(&result);
    bn_loaded_clear(&packed);
    return status;
}

static bn_status verify(job *j)
{
    bn_export_check *check = &j->report->check;
    BN_TRY(bn_verify_contents(j->temp, &j->info, &j->set, &j->report->format));
    for (int i = 0; i < j->set.count; i++) {
        const bn_export_item *item = &j->set.items[i];
        check->codes += item->ternary ? bn_export_numel(item) : 0;
        *(item->ternary ? &check->scales : &check->floats) += item->count;
    }
    return verify_results(j);
}

/* A verified file under the temporary name, and the report on it. */
static bn_status make(job *j)
{
    const bn_export_request *request = j->request;
    bn_model *model = j->source->model;
    if (request->verify)
        BN_TRY(measure_source(j));
    BN_TRY(collect(j));
    if (request->verify && request->format.floats != BN_ENC_FLOAT32) {
        BN_TRY(round_floats(model, request->format.floats));
        BN_TRY(probe(j, model, &j->rounded));
    }
    BN_TRY(bn_config_dump(&j->source->config, &j->config_json));
    j->info = (bn_packed_info){j->config_json, bn_tokenizer_source(j->source->tokenizer),
                               request->producer};
    BN_TRY(bn_export_write(j->temp, &j->info, &j->set, &request->format));
    if (request->written)
        request->written(request->arg, j->temp);
    if (request->verify)
        BN_TRY(verify(j));
    return bn_export_report_make(j->temp, &j->set, j->report);
}

static bn_status finish(const job *j)
{
    const bn_export_report *report = j->report;
    char *path = bn_format("%s.report.json", report->path);
    if (!path)
        return BN_FAIL;
    bn_status status = bn_fs_commit(j->temp, report->path);
    if (status == BN_OK)
        status = bn_fs_write(path, report->json, strlen(report->json));
    free(path);
    return status;
}

bn_status bn_export_run(const bn_export_request *request, bn_loaded *source,
                        bn_export_report *report)
{
    job j = {.request = request, .source = source, .report = report};
    *report = (bn_export_report){.source = source->path,
                                 .path = request->output,
                                 .step = source->is_packed ? -1 : source->step,
                                 .format = request->format};
    if (!(j.temp = bn_format("%s.unverified", request->output)))
        return BN_FAIL;
    bn_status status = make(&j);
    if (status != BN_OK)
        unlink(j.temp); /* not bn_fs_remove(): the message stays */
    else
        status = finish(&j);
    if (status != BN_OK)
        bn_export_report_clear(report);
    job_clear(&j);
    return status;
}
