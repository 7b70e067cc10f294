#include "train/telemetry.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "quant/analysis.h"
#include "quant/pack.h"

/* The layer's weight is quantized in training. */
static bool is_ternary(const bn_linear_layer *layer)
{
    return layer->is_bit && layer->quant.weight.quantized && layer->weight;
}

size_t bn_telemetry_code_bytes(const bn_model *model)
{
    size_t bytes = 0;
    for (int i = 0; i < model->n_linears; i++)
        if (is_ternary(model->linears[i]))
            bytes += bn_tensor_bytes(&model->linears[i]->codes);
    return bytes;
}

static size_t scales_offset(const bn_linear_layer *layer)
{
    return bn_align_up(bn_tensor_bytes(&layer->codes), BN_ALIGN);
}

size_t bn_telemetry_device_bytes(const bn_model *model)
{
    size_t most = 0;
    for (int i = 0; i < model->n_linears; i++) {
        const bn_linear_layer *layer = model->linears[i];
        if (!is_ternary(layer))
            continue;
        size_t bytes = scales_offset(layer) + bn_tensor_bytes(&layer->scale);
        most = bytes > most ? bytes : most;
    }
    return most;
}

size_t bn_telemetry_host_bytes(const bn_model *model)
{
    size_t layer_codes = 0, scales = 0;
    for (int i = 0; i < model->n_linears; i++) {
        const bn_linear_layer *layer = model->linears[i];
        if (!is_ternary(layer))
            continue;
        const size_t codes = bn_tensor_bytes(&layer->codes);
        const size_t n = (size_t)bn_tensor_numel(&layer->scale);
        layer_codes = codes > layer_codes ? codes : layer_codes;
        scales = n > scales ? n : scales;
    }
    return 2 * bn_telemetry_code_bytes(model) + 2 * layer_codes + scales * sizeof(float);
}

static bn_status alloc_host(bn_telemetry *t)
{
    size_t layer_codes = 1, layer_scales = 1;
    for (int i = 0; i < t->model->n_linears; i++) {
        const bn_linear_layer *layer = t->model->linears[i];
        if (!is_ternary(layer))
            continue;
        size_t codes = bn_tensor_bytes(&layer->codes);
        size_t scales = (size_t)bn_tensor_numel(&layer->scale);
        layer_codes = codes > layer_codes ? codes : layer_codes;
        layer_scales = scales > layer_scales ? scales : layer_scales;
        t->count++;
    }
    t->code_bytes = bn_telemetry_code_bytes(t->model);
    t->stats = calloc((size_t)t->count + 1, sizeof *t->stats);
    t->scales = calloc((size_t)t->count + 1, sizeof *t->scales);
    t->codes = calloc(t->code_bytes + 1, 1);
    t->directions = calloc(t->code_bytes + 1, 1);
    t->fresh_codes = calloc(layer_codes, 1);
    t->change = calloc(layer_codes, 1);
    t->fresh_scales = calloc(layer_scales, sizeof *t->fresh_scales);
    if (!t->stats || !t->scales || !t->codes || !t->directions || !t->fresh_codes || !t->change ||
        !t->fresh_scales)
        return bn_error_nomem("the telemetry of ternary codes", bn_telemetry_host_bytes(t->model));
    return BN_OK;
}

bn_status bn_telemetry_init(bn_telemetry *out, const bn_model *model)
{
    bn_status status = BN_OK;
    *out = (bn_telemetry){.model = model};
    BN_TRY_OUT(alloc_host(out));
    if (out->count)
        BN_TRY_OUT(
            model->backend->alloc(model->backend, bn_telemetry_device_bytes(model), &out->device));
out:
    if (status != BN_OK)
        bn_telemetry_clear(out);
    return status;
}

void bn_telemetry_clear(bn_telemetry *t)
{
    if (t->model)
        t->model->backend->release(t->model->backend, &t->device);
    free(t->stats);
    free(t->scales);
    free(t->codes);
    free(t->directions);
    free(t->fresh_codes);
    free(t->change);
    free(t->fresh_scales);
    *t = (bn_telemetry){0};
}

static bn_status quantize(bn_telemetry *t, const bn_linear_layer *layer)
{
    bn_backend *be = t->model->backend;
    const bn_tensor codes = bn_tensor_at(layer->codes, &t->device, 0);
    const bn_tensor scale = bn_tensor_at(layer->scale, &t->device, scales_offset(layer));
    BN_TRY(bn_linear_layer_codes(layer, be, &layer->weight->value, &codes, &scale));
    BN_TRY(be->download(be, &codes, t->fresh_codes));
    return bn_backend_get_f32(be, &scale, t->fresh_scales, bn_tensor_numel(&scale));
}

static void compare(bn_telemetry *t, const bn_linear_layer *layer, int index, size_t at)
{
    uint8_t *baseline = t->codes + at;
    const int64_t n_scales = bn_tensor_numel(&layer->scale);
    const double weights = (double)layer->out * (double)layer->in;
    bn_code_stats codes;
    bn_code_stats_of(layer->codes.dtype, t->fresh_codes, layer->out, layer->in, &codes);
    double mean = 0.0;
    for (int64_t i = 0; i < n_scales; i++)
        mean += (double)t->fresh_scales[i];
    mean /= (double)n_scales;
    const double before = t->scales[index];
    t->stats[index] = (bn_layer_stats){
        .name = layer->name,
        .frozen = !layer->weight->trainable,
        .zero_share = (double)codes.count[1] / weights,
        .flip_rate = (double)bn_code_flips(layer->codes.dtype, t->fresh_codes, baseline, layer->out,
                                           layer->in) /
                     weights,
        .oscillation =
            (double)bn_code_oscillations(layer->codes.dtype, baseline, t->fresh_codes, layer->out,
                                         layer->in, t->directions + at, t->change) /
            weights,
        .entropy_bits = codes.entropy_bits,
        .scale_drift = before > 0.0 ? mean / before - 1.0 : 0.0,
    };
    t->scales[index] = mean;
    memcpy(baseline, t->fresh_codes, bn_tensor_bytes(&layer->codes));
}

bn_status bn_telemetry_measure(bn_telemetry *t)
{
    size_t at = 0;
    int index = 0;
    for (int i = 0; i < t->model->n_linears; i++) {
        const bn_linear_layer *layer = t->model->linears[i];
        if (!is_ternary(layer))
            continue;
        BN_TRY(quantize(t, layer));
        compare(t, layer, index++, at);
        at += bn_tensor_bytes(&layer->codes);
    }
    return BN_OK;
}

bn_status bn_telemetry_begin(bn_telemetry *t)
{
    BN_TRY(bn_telemetry_measure(t));
    memset(t->directions, BN_T2_ZERO_BYTE, t->code_bytes);
    return BN_OK;
}
