#include "tools/quantize.h"

#include <stdlib.h>
#include <string.h>

#include "linalg/linalg.h"
#include "quant/ptq.h"
#include "tools/calibration.h"
#include "tools/measure.h"
#include "tools/start_checkpoint.h"

typedef struct job {
    const bn_quantize_request *request;
    const bn_loaded *source;
    bn_quantize_report *report;
    bn_config config; /* of the result */
    bn_model *model;
    bn_sample sample;
    bn_measure measure;
} job;

/* H of the layers that share an input, and its factor. */
typedef struct hessian {
    bn_buffer memory[2];
    bn_tensor h, factor;
    double condition;
} hessian;

const char *bn_quantize_method_name(bn_quantize_method method)
{
    static const char *const names[BN_QUANTIZE_METHODS] = {"rtn", "calibrated", "gptq"};
    return names[method];
}

/* ---- H ---- */

static void hessian_clear(hessian *h)
{
    free(h->memory[0].host);
    free(h->memory[1].host);
    *h = (hessian){0};
}

static bn_status hessian_alloc(hessian *h, int64_t in)
{
    const bn_tensor shape = bn_tensor_2d(BN_F64, in, in);
    const size_t bytes = bn_tensor_bytes(&shape);
    *h = (hessian){0};
    for (int i = 0; i < 2; i++) {
        h->memory[i] = (bn_buffer){.host = malloc(bytes), .bytes = bytes};
        if (!h->memory[i].host)
            return bn_error_nomem("a layer's Hessian", bytes);
    }
    h->h = bn_tensor_at(shape, &h->memory[0], 0);
    h->factor = bn_tensor_at(shape, &h->memory[1], 0);
    return BN_OK;
}

/* Inputs that are never used are as good as any: the damping alone counts. */
static void damp(const bn_tensor *h, double damping)
{
    const int64_t n = h->shape[0];
    double *values = bn_tensor_data(h), mean = 0;
    for (int64_t i = 0; i < n; i++)
        mean += values[i * n + i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        values[i * n + i] += mean > 0 ? damping * mean : 1;
}

/* ---- layers ---- */

/* The layers from number `first` on that share its input. */
static bn_status measure(const job *j, int first, hessian *h, int *sharing)
{
    const bn_linear_layer *layer = j->model->linears[first];
    const bn_quantize_request *request = j->request;
    bn_calibration c;
    BN_TRY(hessian_alloc(h, layer->in));
    BN_TRY(bn_calibration_init(j->model, &j->sample, layer, &c));
    *sharing = c.sharing;
    bn_status status = bn_calibration_hessian(&c, &h->h);
    bn_calibration_clear(&c);
    BN_TRY(status);
    damp(&h->h, request->damping);
    if (request->method != BN_QUANTIZE_GPTQ)
        return BN_OK;
    return bn_error_in(bn_linalg_inverse_factor(&h->h, &h->factor, &h->condition), layer->name);
}

static bn_status quantize_layer(const job *j, const bn_linear_layer *layer, const hessian *h)
{
    const bool calibrated = h->memory[0].host != NULL;
    bn_backend *be = j->model->backend;
    bn_quantized_layer *report = &j->report->layers[j->report->count++];
    const int64_t n = layer->out * layer->in;
    const bn_ptq p = {
        .out = layer->out,
        .in = layer->in,
        .group_size = layer->quant.weight.params.group_size,
        .h = calibrated ? bn_tensor_data(&h->h) : NULL,
        .factor = j->request->method == BN_QUANTIZE_GPTQ ? bn_tensor_data(&h->factor) : NULL,
    };
    bn_status status = BN_OK;
    float *w = malloc(2 * (size_t)n * sizeof *w), *shadow = w ? w + n : NULL;
    if (!w)
        return bn_error_nomem(layer->name, 2 * (size_t)n * sizeof *w);
    memcpy(report->name, layer->name, sizeof report->name);
    report->condition = h->condition;
    BN_TRY_OUT(bn_backend_get_f32(be, &layer->weight->value, w, n));
    if (j->request->method == BN_QUANTIZE_RTN)
        memcpy(shadow, w, (size_t)n * sizeof *w);
    else
        BN_TRY_OUT(bn_ptq_ternarize(&p, w, shadow));
    BN_TRY_OUT(bn_ptq_error(&p, w, shadow, &report->error));
    BN_TRY_OUT(bn_backend_put_f32(be, &layer->weight->value, shadow, n));
out:
    free(w);
    return status;
}

/* Layers that share an input are one stage: none of them changes it. */
static bn_status quantize_layers(const job *j)
{
    bn_model *model = j->model;
    j->report->layers = calloc((size_t)model->n_linears + 1, sizeof *j->report->layers);
    if (!j->report->layers)
        return bn_error_nomem("the report", (size_t)model->n_linears);
    for (int first = 0, stage = 1; first < model->n_linears; first += stage, stage = 1) {
        hessian h = {0};
        bn_status status = BN_OK;
        if (!model->linears[first]->quant.weight.quantized)
            continue;
        if (j->request->calibration || j->request->method != BN_QUANTIZE_RTN)
            status = measure(j, first, &h, &stage);
        for (int i = first; status == BN_OK && i < first + stage; i++)
            if (model->linears[i]->quant.weight.quantized)
                status = quantize_layer(j, model->linears[i], &h);
        hessian_clear(&h);
        BN_TRY(status);
    }
    return BN_OK;
}

/* ---- the whole ---- */

static bn_status make_config(job *j)
{
    const bn_strings *set = j->request->set;
    if (bn_config_quantized(&j->source->config))
        return bn_error(
            BN_BAD_DATA, "%s: quantization.weight_bits: expected none, found %s", j->source->path,
            bn_config_word("quantization.weight_bits", j->source->config.quantization.weight_bits));
    BN_TRY(bn_config_copy(&j->source->config, &j->config));
    BN_TRY(bn_config_set(&j->config, "quantization.weight_bits=ternary"));
    for (size_t i = 0; i < set->count; i++)
        BN_TRY(bn_config_set(&j->config, set->items[i]));
    return bn_config_check(&j->config, j->source->path);
}

/* Rules may give layers other schemes. */
static bn_status check_schemes(const job *j)
{
    int quantized = 0;
    for (int i = 0; i < j->model->n_linears; i++) {
        const bn_linear_layer *layer = j->model->linears[i];
        const bn_config config = bn_config_of_module(&j->config, layer->name);
        if (!layer->quant.weight.quantized)
            continue;
        quantized++;
        if (config.quantization.weight_bits != BN_WEIGHT_BITS_TERNARY ||
            config.quantization.scale_estimator != BN_SCALE_ESTIMATOR_ABSMEAN)
            return bn_error(
                BN_BAD_CONFIG,
                "%s: expected quantization.weight_bits ternary and scale_estimator "
                "absmean, found %s and %s",
                layer->name,
                bn_config_word("quantization.weight_bits", config.quantization.weight_bits),
                bn_config_word("quantization.scale_estimator",
                               config.quantization.scale_estimator));
    }
    return quantized ? BN_OK
                     : bn_error(BN_BAD_CONFIG,
                                "quantization.weight_bits: expected ternary layers, found none");
}

static bn_status make_model(job *j)
{
    BN_TRY(bn_model_create(&j->config, bn_tokenizer_vocab_size(j->source->tokenizer),
                           j->source->model->backend, BN_MODEL_FLOAT, &j->model));
    BN_TRY(bn_model_check_rules(j->model, &j->config));
    BN_TRY(check_schemes(j));
    BN_TRY(bn_model_alloc(j->model, false));
    return bn_loaded_give(j->source, j->model);
}

static bn_status open_calibration(job *j)
{
    const bn_quantize_request *request = j->request;
    if (request->method == BN_QUANTIZE_RTN && !request->calibration)
        return BN_OK;
    if (!request->calibration && !j->source->config.data.train)
        return bn_error(BN_USAGE, "the model's config names no data: --calibration FILE");
    BN_TRY(bn_sample_open_trained(&j->source->config, request->calibration, request->tokens,
                                  j->source->tokenizer, &j->sample));
    for (int64_t i = 0; i < j->sample.batches; i++)
        j->report->calibrated_on += j->sample.counts[i];
    return BN_OK;
}

static bn_status write_checkpoint(const job *j)
{
    const bn_start start = {&j->config, bn_tokenizer_source(j->source->tokenizer),
                            j->request->producer, "none: quantized"};
    bn_export_set set;
    BN_TRY(bn_export_collect_model(j->model, &set));
    bn_status status = bn_start_save(j->request->output, &start, &set);
    bn_export_set_clear(&set);
    return status;
}

bn_status bn_quantize_run(const bn_quantize_request *request, const bn_loaded *source,
                          bn_quantize_report *report)
{
    job j = {.request = request, .source = source, .report = report};
    bn_status status = BN_OK;
    *report = (bn_quantize_report){0};
    BN_TRY_OUT(make_config(&j));
    BN_TRY_OUT(make_model(&j));
    BN_TRY_OUT(open_calibration(&j));
    BN_TRY_OUT(bn_measure_open(source, request->data, BN_PART_ALL, &j.measure));
    BN_TRY_OUT(
        bn_measure_loss(&j.measure, source->model, request->max_batches, &report->loss_before));
    BN_TRY_OUT(quantize_layers(&j));
    BN_TRY_OUT(bn_measure_loss(&j.measure, j.model, request->max_batches, &report->loss_after));
    BN_TRY_OUT(write_checkpoint(&j));
out:
    bn_measure_close(&j.measure);
    bn_sample_clear(&j.sample);
    bn_model_free(j.model);
    bn_config_clear(&j.config);
    if (status != BN_OK)
        bn_quantize_report_clear(report);
    return status;
}

void bn_quantize_report_clear(bn_quantize_report *report)
{
    free(report->layers);
    *report = (bn_quantize_report){0};
}
