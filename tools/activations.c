#include "tools/activations.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tools/tool_main.h"

/* A quantizer of the graph, and what is gathered of it. */
typedef struct quantizer {
    bn_activation_stats stats;
    bn_quantized q;
    int8_t *codes; /* of one batch */
    float *steps;  /* of all batches */
    int64_t step_count;
} quantizer;

typedef struct gathering {
    const bn_model *model;
    const bn_sample *sample;
    bn_tape *tape;
    bn_buffer arena, memory;
    bn_tensor input;
    bn_quant_trace trace;
    quantizer *items;
    int count, seen; /* sites of the trace that have an owner */
} gathering;

/* The quantizers recorded since the layer before belong to that one. */
static void claim_sites(gathering *g, const bn_linear_layer *layer)
{
    for (; g->seen < g->trace.count; g->seen++) {
        const bn_quant_site *site = &g->trace.sites[g->seen];
        if (site->is_weight || site->q.scale == BN_NO_VALUE)
            continue;
        g->items[g->count++] = (quantizer){.stats.name = layer->name, .q = site->q};
        bn_tape_retain(g->tape, site->q.codes);
        bn_tape_retain(g->tape, site->q.scale);
    }
    if (g->count && layer->quant.weight.quantized && layer->quant.act.quantized)
        g->items[g->count - 1].stats.layers++;
}

typedef struct see_state {
    gathering *g;
    const bn_linear_layer *last;
} see_state;

static void see(void *arg, const bn_linear_layer *layer, bn_value x)
{
    see_state *state = arg;
    (void)x;
    if (state->last)
        claim_sites(state->g, state->last);
    state->last = layer;
}

static bn_status record(gathering *g)
{
    see_state state = {.g = g};
    BN_TRY(bn_tape_new(g->model->backend, &g->tape));
    bn_graph graph = {.tape = g->tape, .trace = &g->trace, .see_input = see, .see_arg = &state};
    bn_tape_no_grad_push(g->tape);
    bn_value logits = bn_model_logits(g->model, &graph, bn_tape_input(g->tape, &g->input));
    (void)logits; /* what is wanted lies on the way to them */
    if (state.last)
        claim_sites(g, state.last);
    bn_tape_no_grad_pop(g->tape);
    return bn_tape_plan(g->tape, BN_NO_VALUE);
}

static bn_status alloc_hosts(gathering *g)
{
    for (int i = 0; i < g->count; i++) {
        quantizer *q = &g->items[i];
        const bn_tensor *codes = bn_tape_tensor(g->tape, q->q.codes);
        const bn_tensor *steps = bn_tape_tensor(g->tape, q->q.scale);
        q->codes = malloc(bn_tensor_bytes(codes));
        q->steps = malloc((size_t)(g->sample->batches * bn_tensor_numel(steps)) * sizeof(float));
        if (!q->codes || !q->steps)
            return bn_error_nomem(q->stats.name, bn_tensor_bytes(codes));
    }
    return BN_OK;
}

static bn_status gathering_init(gathering *g)
{
    bn_backend *be = g->model->backend;
    g->items = calloc((size_t)g->model->n_linears + 1, sizeof *g->items);
    if (!g->items)
        return bn_error_nomem("the quantizers", (size_t)g->model->n_linears * sizeof *g->items);
    g->input = bn_model_input(g->model, g->sample->batch, g->sample->time);
    BN_TRY(be->alloc(be, bn_tensor_bytes(&g->input), &g->memory));
    g->input = bn_tensor_at(g->input, &g->memory, 0);
    BN_TRY(record(g));
    BN_TRY(be->alloc(be, bn_tape_memory_of(g->tape).arena, &g->arena));
    BN_TRY(bn_tape_bind(g->tape, &g->arena));
    return alloc_hosts(g);
}

static void gathering_clear(gathering *g)
{
    bn_backend *be = g->model->backend;
    bn_tape_free(g->tape);
    be->release(be, &g->arena);
    be->release(be, &g->memory);
    bn_quant_trace_clear(&g->trace);
    for (int i = 0; g->items && i < g->count; i++) {
        free(g->items[i].codes);
        free(g->items[i].steps);
    }
    free(g->items);
}

/* ---- one batch ---- */

typedef struct code_counts {
    int64_t at[129]; /* by magnitude */
} code_counts;

/* The first `rows` rows of a batch count, the rest is padding. */
static bn_status gather(const gathering *g, quantizer *q, int64_t rows, code_counts *counts)
{
    bn_backend *be = g->model->backend;
    const bn_tensor *codes = bn_tape_tensor(g->tape, q->q.codes);
    const bn_tensor *steps = bn_tape_tensor(g->tape, q->q.scale);
    const int64_t all = g->sample->batch * g->sample->time, n = bn_tensor_numel(steps);
    float *at = q->steps + q->step_count;
    BN_TRY(be->download(be, codes, q->codes));
    BN_TRY(bn_backend_get_f32(be, steps, at, n));
    q->step_count += n % all == 0 ? n / all * rows : n; /* one per tensor otherwise */
    for (int64_t i = 0; i < rows * bn_tensor_cols(codes); i++)
        counts->at[abs(q->codes[i])]++;
    return BN_OK;
}

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void finish(quantizer *q, const code_counts *counts)
{
    bn_activation_stats *s = &q->stats;
    for (int c = 0; c <= 128; c++) {
        s->codes += counts->at[c];
        s->largest = counts->at[c] ? c : s->largest;
    }
    s->zero_share = (double)counts->at[0] / (double)s->codes;
    s->largest_share = (double)counts->at[s->largest] / (double)s->codes;
    qsort(q->steps, (size_t)q->step_count, sizeof *q->steps, ascending);
    const int64_t last = q->step_count - 1;
    s->absmax_min = s->largest * (double)q->steps[0];
    s->absmax_median = s->largest * (double)q->steps[last / 2];
    s->absmax_p99 = s->largest * (double)q->steps[last * 99 / 100];
    s->absmax_max = s->largest * (double)q->steps[last];
}

static bn_status run_batches(gathering *g, code_counts *counts)
{
    const bn_run run = {0};
    for (int64_t i = 0; i < g->sample->batches; i++) {
        BN_TRY(bn_model_put_input(g->model, &g->input, bn_sample_input(g->sample, i)));
        BN_TRY(bn_tape_forward(g->tape, &run));
        for (int k = 0; k < g->count; k++)
            BN_TRY(gather(g, &g->items[k], g->sample->counts[i], &counts[k]));
    }
    return BN_OK;
}

bn_status bn_activations_measure(const bn_model *model, const bn_sample *sample,
                                 bn_activations *out)
{
    bn_status status = BN_OK;
    gathering g = {.model = model, .sample = sample, .trace.mode = BN_TRACE_CAPTURE};
    code_counts *counts = NULL;
    *out = (bn_activations){0};
    BN_TRY_OUT(gathering_init(&g));
    if (g.count == 0) {
        status = bn_error(BN_USAGE, "no layer of this model has integer activations");
        goto out;
    }
    counts = calloc((size_t)g.count, sizeof *counts);
    out->items = calloc((size_t)g.count, sizeof *out->items);
    if (!counts || !out->items) {
        status = bn_error_nomem("statistics of activations", (size_t)g.count * sizeof *counts);
        goto out;
    }
    BN_TRY_OUT(run_batches(&g, counts));
    for (int k = 0; k < g.count; k++) {
        finish(&g.items[k], &counts[k]);
        out->items[out->count++] = g.items[k].stats;
    }
out:
    free(counts);
    gathering_clear(&g);
    if (status != BN_OK)
        bn_activations_clear(out);
    return status;
}

void bn_activations_clear(bn_activations *a)
{
    free(a->items);
    *a = (bn_activations){0};
}

/* ---- printing ---- */

static bn_status print_json(const bn_activations *a, const char *file, const char *data)
{
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_string(&json, "file", file);
    bn_json_string(&json, "data", data);
    bn_json_array(&json, "activations");
    for (int i = 0; i < a->count; i++) {
        const bn_activation_stats *s = &a->items[i];
        bn_json_object(&json, NULL);
        bn_json_string(&json, "name", s->name);
        bn_json_int(&json, "layers", s->layers);
        bn_json_int(&json, "codes", s->codes);
        bn_json_int(&json, "largest", s->largest);
        bn_json_double(&json, "share_largest", s->largest_share);
        bn_json_double(&json, "share_zero", s->zero_share);
        bn_json_double(&json, "absmax_min", s->absmax_min);
        bn_json_double(&json, "absmax_median", s->absmax_median);
        bn_json_double(&json, "absmax_p99", s->absmax_p99);
        bn_json_double(&json, "absmax_max", s->absmax_max);
        bn_json_object_end(&json);
    }
    bn_json_array_end(&json);
    bn_json_object_end(&json);
    return bn_tool_print_json(&json);
}

bn_status bn_activations_print(const bn_activations *a, const char *file, const char *data,
                               bool json)
{
    bn_text text = {0};
    int width = 8;
    if (json)
        return print_json(a, file, data);
    for (int i = 0; i < a->count; i++) {
        const int length = (int)strlen(a->items[i].name);
        width = length > width ? length : width;
    }
    bn_text_addf(&text, "%-*s %6s  %7s %7s  %10s %9s %9s %9s\n", width, "input of", "layers",
                 "largest", "0", "absmax min", "median", "99 %", "max");
    for (int i = 0; i < a->count; i++) {
        const bn_activation_stats *s = &a->items[i];
        bn_text_addf(&text, "%-*s %6d  %6.2f%% %6.2f%%  %10.4g %9.4g %9.4g %9.4g\n", width, s->name,
                     s->layers, 100 * s->largest_share, 100 * s->zero_share, s->absmax_min,
                     s->absmax_median, s->absmax_p99, s->absmax_max);
    }
    return bn_tool_print_text(&text);
}
