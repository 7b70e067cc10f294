#include "model/model_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/rng.h"
#include "cpu/cpu.h"
#include "model/adapter.h"
#include "quant/quantize.h"

/* One graph of the model: quantized and captured, or frozen. */
typedef struct check_graph {
    bn_tape *tape;
    bn_value loss;
    bn_buffer arena;
} check_graph;

typedef struct check_state {
    bn_backend *backend; /* ref64: host memory */
    bn_model *model;
    bn_adapter *adapter; /* of a config with adapter.base: what is checked */
    bn_buffer tokens, residuals;
    bn_tensor ids, labels;
    bn_quant_trace trace;
    check_graph captured, frozen;
    double *analytic; /* gradients of the captured graph */
} check_state;

/* Random tokens, or an MLP's features, with random labels. */
static bn_status make_batch(check_state *s, int64_t vocab, int64_t batch, int64_t time,
                            uint64_t seed)
{
    const bool classifier = bn_model_is_classifier(s->model);
    const bn_tensor input = bn_model_input(s->model, batch, time);
    const bn_tensor shape = bn_tensor_2d(BN_I32, batch, time);
    const size_t bytes = bn_align_up(bn_tensor_bytes(&input), BN_ALIGN);
    BN_TRY(s->backend->alloc(s->backend, bytes + bn_align_up(bn_tensor_bytes(&shape), BN_ALIGN),
                             &s->tokens));
    s->ids = bn_tensor_at(input, &s->tokens, 0);
    s->labels = bn_tensor_at(shape, &s->tokens, bytes);
    bn_rng rng = bn_rng_of(seed, UINT64_C(0x2000));
    int32_t *labels = bn_tensor_data(&s->labels);
    for (int64_t i = 0; i < bn_tensor_numel(&input); i++)
        if (classifier)
            ((double *)bn_tensor_data(&s->ids))[i] = bn_rng_normal(&rng);
        else
            ((int32_t *)bn_tensor_data(&s->ids))[i] = (int32_t)bn_rng_below(&rng, (uint64_t)vocab);
    for (int64_t i = 0; i < bn_tensor_numel(&shape); i++)
        labels[i] = (int32_t)bn_rng_below(&rng, (uint64_t)vocab);
    if (bn_tensor_numel(&shape) > 1)
        labels[0] = BN_IGNORE_INDEX;
    return BN_OK;
}

static bn_status record(check_state *s, check_graph *graph, bool keep_all)
{
    bn_backend *be = s->backend;
    BN_TRY(bn_tape_new(be, &graph->tape));
    bn_graph g = {.tape = graph->tape, .trace = &s->trace};
    graph->loss = bn_model_loss(s->model, &g, bn_tape_input(graph->tape, &s->ids),
                                bn_tape_input(graph->tape, &s->labels));
    if (keep_all)
        bn_tape_retain_all(graph->tape);
    BN_TRY(bn_tape_plan(graph->tape, graph->loss));
    BN_TRY(be->alloc(be, bn_tape_memory_of(graph->tape).arena, &graph->arena));
    return bn_tape_bind(graph->tape, &graph->arena);
}

static bn_status loss_of(check_state *s, const check_graph *graph, double *loss)
{
    BN_TRY(bn_tape_forward(graph->tape, NULL));
    return bn_backend_get_scalar(s->backend, bn_tape_tensor(graph->tape, graph->loss), loss);
}

static const bn_param_set *params_of(const check_state *s)
{
    return s->adapter ? &s->adapter->params : &s->model->params;
}

static const bn_buffer *grads_of(const check_state *s)
{
    return s->adapter ? &s->adapter->grads : &s->model->grads;
}

static bn_status gradients(check_state *s, const check_graph *graph, double *loss)
{
    bn_tensor flat = bn_param_set_flat(params_of(s), grads_of(s));
    BN_TRY(s->backend->fill_zero(s->backend, &flat));
    BN_TRY(loss_of(s, graph, loss));
    return bn_tape_backward(graph->tape, NULL, 1.0);
}

/* Residual q(x) - x of every captured quantizer, each in its place. */
static bn_status freeze_residuals(check_state *s)
{
    size_t bytes = 0;
    for (int i = 0; i < s->trace.count; i++) {
        bn_quant_site *site = &s->trace.sites[i];
        site->residual = *bn_tape_tensor(s->captured.tape, site->x);
        site->residual.offset = bytes;
        bytes += bn_align_up(bn_tensor_bytes(&site->residual), BN_ALIGN);
    }
    if (bytes)
        BN_TRY(s->backend->alloc(s->backend, bytes, &s->residuals));
    for (int i = 0; i < s->trace.count; i++) {
        bn_quant_site *site = &s->trace.sites[i];
        const bn_tensor *x = bn_tape_tensor(s->captured.tape, site->x);
        const bn_tensor *codes = bn_tape_tensor(s->captured.tape, site->q.codes);
        site->residual.buffer = &s->residuals;
        double *r = bn_tensor_data(&site->residual);
        const double *values = bn_tensor_data(x);
        const int64_t rows = bn_tensor_rows(x), cols = bn_tensor_cols(x);
        if (site->q.scale == BN_NO_VALUE) {
            memcpy(r, bn_tensor_data(codes), bn_tensor_bytes(codes));
        } else {
            const bn_tensor *scale = bn_tape_tensor(s->captured.tape, site->q.scale);
            if (site->is_weight)
                bn_codes_dequantize_f64(codes->dtype, bn_tensor_data(codes), bn_tensor_data(scale),
                                        rows, cols, site->group_size, r);
            else
                bn_act_dequantize_f64(bn_tensor_data(codes), bn_tensor_data(scale), rows, cols,
                                      site->group_size, r);
        }
        for (int64_t k = 0; k < rows * cols; k++)
            r[k] -= values[k];
    }
    s->trace.mode = BN_TRACE_FROZEN;
    return BN_OK;
}

static double error_of(double a, double n, double floor)
{
    return fabs(a - n) / fmax(floor, fmax(fabs(a), fabs(n)));
}

/* d(loss)/d(*x) by central differences of fourth order, with a step relative to
 * the element. */
static bn_status slope_at(check_state *s, double *x, double relative_step, double *slope)
{
    static const double offsets[4] = {-2, -1, 1, 2}, weights[4] = {1, -8, 8, -1};
    const double at = *x, h = relative_step * fmax(fabs(at), 0.1);
    double sum = 0, loss;
    for (int k = 0; k < 4; k++) {
        *x = at + offsets[k] * h;
        bn_status status = loss_of(s, &s->frozen, &loss);
        *x = at;
        BN_TRY(status);
        sum += weights[k] * loss;
    }
    *slope = sum / (12 * h);
    return BN_OK;
}

static bn_status compare_param(check_state *s, const bn_param *p, int64_t per_tensor, bn_rng *rng,
                               bn_model_check *out)
{
    const int64_t n = bn_tensor_numel(&p->value);
    const int64_t count = n < per_tensor ? n : per_tensor;
    double *values = bn_tensor_data(&p->value);
    const double *captured = s->analytic + p->offset / sizeof(double);
    const double *frozen = bn_tensor_data(&p->grad);
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(frozen[i]));
    const double floor = fmax(1e-3 * largest, 1e-12);
    for (int64_t i = 0; i < n; i++) {
        double error = error_of(captured[i], frozen[i], floor);
        if (!(error <= out->route_error))
            out->route_error = error;
    }
    for (int64_t k = 0; k < count; k++) {
        const int64_t i = count == n ? k : (int64_t)bn_rng_below(rng, (uint64_t)n);
        double error = (double)INFINITY;
        /* The second derivative of relu2 jumps: where a stencil straddles that,
         * a finer one does not. A wrong gradient is wrong at every step. */
        for (double step = 1e-4; step >= 0.9e-6 && !(error <= 1e-6); step /= 10) {
            double slope;
            BN_TRY(slope_at(s, &values[i], step, &slope));
            error = fmin(error, error_of(captured[i], slope, floor));
        }
        out->elements++;
        if (!(error <= out->numeric_error)) {
            out->numeric_error = error;
            snprintf(out->worst, sizeof out->worst, "%s", p->name);
            out->worst_index = i;
        }
    }
    return BN_OK;
}

/* Adapters with random A and B over the frozen model. */
static bn_status make_adapter(check_state *s, const bn_config *config, uint64_t seed)
{
    if (!config->adapter.base)
        return BN_OK;
    bn_rng rng = bn_rng_of(seed, UINT64_C(0x2002));
    BN_TRY(bn_adapter_new(config, s->model, &s->adapter));
    BN_TRY(bn_adapter_alloc(s->adapter, true));
    for (int i = 0; i < s->adapter->params.count; i++) {
        const bn_param *p = s->adapter->params.items[i];
        double *values = bn_tensor_data(&p->value);
        for (int64_t k = 0; k < bn_tensor_numel(&p->value); k++)
            values[k] = bn_rng_normal(&rng) * s->model->initializer_range;
    }
    bn_adapter_use(s->model, s->adapter);
    return BN_OK;
}

/* The frozen model is the surrogate of the straight-through estimator alone. */
static bn_status check_estimators(const bn_model *model)
{
    for (int i = 0; i < model->n_linears; i++) {
        const bn_linear_layer *layer = model->linears[i];
        if (layer->weight_scale || layer->quant.weight.params.estimator != BN_ESTIMATOR_IDENTITY)
            return bn_error(BN_USAGE,
                            "%s: the gradient check of a model is for gradient_estimator identity "
                            "without learned scales; tests/ops check the others",
                            layer->name);
    }
    return BN_OK;
}

static void clear_state(check_state *s)
{
    check_graph *graphs[] = {&s->captured, &s->frozen};
    for (int i = 0; i < 2; i++) {
        bn_tape_free(graphs[i]->tape);
        s->backend->release(s->backend, &graphs[i]->arena);
    }
    s->backend->release(s->backend, &s->tokens);
    s->backend->release(s->backend, &s->residuals);
    bn_quant_trace_clear(&s->trace);
    free(s->analytic);
    bn_adapter_free(s->adapter);
    bn_model_free(s->model);
    bn_backend_free(s->backend);
}

bn_status bn_model_check_gradients(const bn_config *config, int64_t vocab, int64_t batch,
                                   int64_t time, int64_t per_tensor, uint64_t seed,
                                   bn_model_check *out)
{
    bn_status status = BN_OK;
    double quantized_loss, frozen_loss;
    check_state s = {.trace = {.mode = BN_TRACE_CAPTURE}};
    *out = (bn_model_check){0};
    BN_TRY(bn_ref_backend_new(BN_F64, &s.backend));
    BN_TRY_OUT(bn_model_create(config, vocab, s.backend, BN_MODEL_FLOAT, &s.model));
    BN_TRY_OUT(check_estimators(s.model));
    BN_TRY_OUT(bn_model_alloc(s.model, true));
    BN_TRY_OUT(bn_model_init(s.model, seed));
    BN_TRY_OUT(make_adapter(&s, config, seed));
    BN_TRY_OUT(make_batch(&s, s.model->vocab, batch, time, seed));

    BN_TRY_OUT(record(&s, &s.captured, true));
    BN_TRY_OUT(gradients(&s, &s.captured, &quantized_loss));
    const bn_param_set *params = params_of(&s);
    s.analytic = malloc(params->train_bytes);
    if (!s.analytic) {
        status = bn_error_nomem("the gradient check", params->train_bytes);
        goto out;
    }
    memcpy(s.analytic, grads_of(&s)->host, params->train_bytes);
    BN_TRY_OUT(freeze_residuals(&s));
    BN_TRY_OUT(record(&s, &s.frozen, false));
    BN_TRY_OUT(gradients(&s, &s.frozen, &frozen_loss));
    if (s.trace.next != s.trace.count) {
        status = bn_error(BN_FAIL, "the frozen graph used %d of %d residuals", s.trace.next,
                          s.trace.count);
        goto out;
    }
    out->loss_difference = fabs(quantized_loss - frozen_loss);
    out->sites = s.trace.count;
    bn_rng rng = bn_rng_of(seed, UINT64_C(0x2001));
    for (int i = 0; i < params->count; i++)
        BN_TRY_OUT(compare_param(&s, params->items[i], per_tensor, &rng, out));
out:
    clear_state(&s);
    return status;
}
