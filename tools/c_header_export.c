#include "tools/c_header_export.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "tools/c_header_runtime.h"

/* Everything an export holds on its way. */
typedef struct job {
    const bn_c_header_request *request;
    bn_loaded *source;
    bn_export_job_facts facts;
    bn_c_header header;
    char *temp, *origin;
    bn_export_trial trial;
} job;

static void job_clear(job *j)
{
    bn_export_trial_clear(&j->trial);
    bn_c_header_clear(&j->header);
    free(j->origin);
    free(j->temp);
}

/* ---- what the routine makes of a header that was read back ---- */

typedef struct machine {
    const bn_c_header *header;
    bn_mcu_layer *layers;
    float *x, *y; /* of the widest layer; the widest result */
    int8_t *codes;
} machine;

static void machine_clear(machine *m)
{
    free(m->layers);
    free(m->x);
    free(m->y);
    free(m->codes);
}

static bn_status machine_init(const bn_c_header *header, machine *m)
{
    const size_t n = (size_t)header->layers, widest = (size_t)bn_c_header_widest(header);
    size_t most = 1;
    *m = (machine){.header = header, .layers = calloc(n, sizeof *m->layers)};
    for (int i = 0; m->layers && i < header->layers; i++) {
        const bn_export_item *w = bn_c_header_item(header, i, BN_PART_WEIGHT);
        m->layers[i] = (bn_mcu_layer){
            .in = (int32_t)w->shape[1],
            .out = (int32_t)w->shape[0],
            .group = (int32_t)(w->group_size > 0 ? w->group_size : w->shape[1]),
            .scale_stride = (int32_t)(w->group_size == BN_PER_TENSOR ? 0 : w->count / w->shape[0]),
            .norm = bn_c_header_item(header, i, BN_PART_NORM)->data,
            .codes = w->codes,
            .scale = w->data,
            .bias = bn_c_header_item(header, i, BN_PART_BIAS)->data,
        };
        most = (size_t)w->shape[0] > most ? (size_t)w->shape[0] : most;
    }
    m->x = malloc(widest * sizeof *m->x);
    m->y = malloc(most * sizeof *m->y);
    m->codes = malloc(widest);
    return m->layers && m->x && m->y && m->codes ? BN_OK
                                                 : bn_error_nomem("the routine", 5 * widest);
}

static void (*activation(const machine *m))(int32_t n, float *x)
{
    return m->header->silu ? bn_mcu_silu : bn_mcu_relu2;
}

/* The rows through all layers, as bn_probe_run() does it for a model: a digest
 * of each layer's results for all rows, and the logits. */
static bn_status probe(machine *m, const float *input, int64_t rows, bn_probe *out)
{
    const bn_c_header *h = m->header;
    const int layers = h->layers;
    const int64_t inputs = m->layers[0].in, classes = m->layers[layers - 1].out;
    bn_sha256 *sums = calloc((size_t)layers, sizeof *sums);
    *out = (bn_probe){.products = layers, .count = rows * classes};
    out->digests = calloc((size_t)layers, sizeof *out->digests);
    out->logits = malloc((size_t)out->count * sizeof *out->logits);
    if (!sums || !out->digests || !out->logits) {
        free(sums);
        bn_probe_clear(out);
        return bn_error_nomem("a probe", (size_t)out->count * sizeof *out->logits);
    }
    for (int i = 0; i < layers; i++)
        bn_sha256_init(&sums[i]);
    for (int64_t r = 0; r < rows; r++) {
        const float *x = input + r * inputs;
        for (int i = 0; i < layers; i++, x = m->y) {
            const bn_mcu_layer *layer = &m->layers[i];
            bn_mcu_run_layer(layer, h->eps, x, m->x, m->codes, m->y);
            bn_sha256_add(&sums[i], m->y, (size_t)layer->out * sizeof *m->y);
            if (i + 1 < layers)
                activation(m)(layer->out, m->y);
        }
        memcpy(out->logits + r * classes, m->y, (size_t)classes * sizeof *m->y);
    }
    for (int i = 0; i < layers; i++)
        bn_sha256_end(&sums[i], out->digests[i]);
    free(sums);
    return BN_OK;
}

/* Mean cross-entropy over the sample, by the routine's own entry. */
static double loss_on(machine *m, const bn_sample *sample)
{
    const int layers = m->header->layers;
    const int64_t each = sample->batch * sample->time, classes = m->layers[layers - 1].out;
    double nats = 0;
    int64_t labels = 0;
    for (int64_t i = 0; i < sample->batches; i++)
        for (int64_t r = 0; r < sample->counts[i]; r++, labels++) {
            const float *x = (const float *)bn_sample_input(sample, i) + r * sample->width;
            const int32_t best = bn_mcu_run(m->layers, layers, m->header->eps, activation(m), x,
                                            m->y, m->x, m->codes);
            double sum = 0;
            for (int64_t k = 0; k < classes; k++)
                sum += exp((double)m->y[k] - (double)m->y[best]);
            nats += log(sum) + (double)m->y[best] - (double)m->y[sample->labels[i * each + r]];
        }
    return nats / (double)labels;
}

/* ---- verification ---- */

/* All of the text but the numbers, which were compared already, is what a
 * header with these numbers has. */
static bn_status compare_texts(const job *j, const bn_c_header *found, const char *text)
{
    char *expected;
    BN_TRY(bn_c_header_text(found, j->origin, &expected));
    size_t at = 0, line = 1;
    for (; text[at] && text[at] == expected[at]; at++)
        line += text[at] == '\n';
    const bool same = text[at] == expected[at];
    free(expected);
    return same ? BN_OK
                : bn_error(BN_MISMATCH, "%s: line %zu is not what was written", j->temp, line);
}

static bn_status verify_results(job *j, const bn_c_header *found)
{
    machine m;
    bn_probe result = {0};
    const bn_model *model = j->source->model;
    const int64_t rows = j->trial.original.count / model->vocab;
    bn_status status = BN_OK;
    BN_TRY_OUT(machine_init(found, &m));
    BN_TRY_OUT(probe(&m, j->trial.sample.tokens, rows, &result));
    BN_TRY_OUT(bn_export_trial_judge(&j->trial, j->temp, model, &result,
                                     loss_on(&m, &j->trial.sample), &j->facts.check));
out:
    bn_probe_clear(&result);
    machine_clear(&m);
    return status;
}

static bn_status verify(job *j)
{
    bn_c_header found = {0};
    char *text = NULL;
    bn_status status = BN_OK;
    BN_TRY_OUT(bn_fs_read(j->temp, (size_t)1 << 32, &text, NULL));
    BN_TRY_OUT(bn_c_header_parse(j->temp, text, &found));
    BN_TRY_OUT(bn_export_compare(j->temp, &j->header.set, &found.set));
    bn_export_count(&j->header.set, &j->facts.check);
    BN_TRY_OUT(compare_texts(j, &found, text));
    BN_TRY_OUT(verify_results(j, &found));
out:
    free(text);
    bn_c_header_clear(&found);
    return status == BN_BAD_DATA ? BN_MISMATCH : status;
}

/* ---- making ---- */

/* The routine has integer products of one example at a time, and no others. */
static bn_status check_layers(const bn_loaded *source)
{
    const bn_classifier *c = &source->model->classifier;
    const char *unusual = bn_config_unusual_activations(&source->config);
    if (unusual)
        return bn_error(BN_USAGE,
                        "%s: the model has %s: a C header holds ternary weights with 8-bit "
                        "activations per token only",
                        source->path, unusual);
    BN_TRY(bn_export_expect_ternary(source->model, "--format c-header"));
    for (int i = 0; i < c->n_layers; i++) {
        const bn_linear_layer *layer = &c->linears[i];
        const bn_quant_spec *spec = &layer->quant;
        const char *why = !spec->weight.quantized ? "has float weights"
                          : !spec->act.quantized  ? "has float activations"
                          : spec->act.params.group_size == BN_PER_TENSOR
                              ? "quantizes all examples of a batch together"
                              : NULL;
        if (why)
            return bn_error(BN_USAGE,
                            "%s: %s %s: a C header holds ternary weights with 8-bit activations "
                            "per token only",
                            source->path, layer->name, why);
    }
    return BN_OK;
}

static bn_status collect(job *j)
{
    bn_loaded *source = j->source;
    bn_export_set *set = &j->header.set;
    if (source->is_packed) {
        BN_TRY(bn_export_collect_packed(source->path, set));
    } else {
        BN_TRY(bn_model_pack(source->model));
        BN_TRY(bn_export_collect_model(source->model, set));
    }
    for (int i = 0; i < set->count; i++) /* a group as long as a row is the row */
        if (set->items[i].coded && set->items[i].group_size >= set->items[i].shape[1])
            set->items[i].group_size = BN_PER_ROW;
    return BN_OK;
}

static bn_status make(job *j)
{
    const bn_c_header_request *request = j->request;
    const bn_config *config = &j->source->config;
    char *text;
    BN_TRY(check_layers(j->source));
    if (request->verify)
        BN_TRY(bn_export_trial_start(&j->trial, j->source, request->data, &j->facts.check));
    BN_TRY(collect(j));
    j->header.layers = j->source->model->classifier.n_layers;
    j->header.silu = config->model.hidden_act == BN_HIDDEN_ACT_SILU;
    j->header.eps = config->model.rms_norm_eps;
    bn_c_header_name(request->output, j->header.name);
    if (!(j->origin = bn_format("Made by %s from a model of %d layers.", request->producer,
                                j->header.layers)))
        return BN_FAIL;
    BN_TRY(bn_c_header_text(&j->header, j->origin, &text));
    bn_status status = bn_fs_write(j->temp, text, strlen(text));
    free(text);
    BN_TRY(status);
    if (request->written)
        request->written(request->arg, j->temp);
    return request->verify ? verify(j) : BN_OK;
}

static bn_status make_report(job *j, bn_export_report *report)
{
    const bn_export_set *set = &j->header.set;
    const long long flash = bn_c_header_flash(&j->header), ram = bn_c_header_ram(&j->header);
    char flash_text[32], ram_text[32], note[160];
    snprintf(flash_text, sizeof flash_text, "%lld", flash);
    snprintf(ram_text, sizeof ram_text, "%lld", ram);
    snprintf(note, sizeof note,
             "arrays (flash) %lld bytes, work memory (RAM) %lld bytes; functions are %s_...", flash,
             ram, j->header.name);
    const bn_export_fact more[] = {{"flash_bytes", flash_text},
                                   {"ram_bytes", ram_text},
                                   {"prefix", j->header.name},
                                   {NULL, NULL}};
    bn_export_stored *stored = calloc((size_t)set->count + 1, sizeof *stored);
    if (!stored)
        return bn_error_nomem("the report", (size_t)set->count * sizeof *stored);
    for (int i = 0; i < set->count; i++) {
        const bn_export_item *item = &set->items[i];
        const uint64_t codes =
            item->coded ? (uint64_t)(item->shape[0] * ((item->shape[1] + 3) / 4)) : 0;
        stored[i] = (bn_export_stored){item->coded ? "ternary2" : "float32",
                                       codes + 4 * (uint64_t)item->count};
    }
    j->facts.more = more;
    j->facts.note = note;
    bn_status status = bn_export_report_make(&j->facts, j->temp, set, stored, report);
    free(stored);
    return status;
}

bn_status bn_c_header_run(const bn_c_header_request *request, bn_loaded *source,
                          bn_export_report *report)
{
    job j = {.request = request,
             .source = source,
             .facts = {.source = source->path,
                       .output = request->output,
                       .step = source->is_packed ? -1 : source->step,
                       .format = "c-header"}};
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
