#include "tools/sensitivity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/pack.h"
#include "quant/quantize.h"
#include "tools/measure.h"

enum { FLOAT_BITS = 32 };

/* ---- switching ---- */

/* The layer as the config makes it where weights are ternary. */
static bn_linear_layer quantized(const bn_linear_layer *layer, const bn_config *config)
{
    bn_linear_layer made = *layer;
    bn_config view = *config; /* shares the lists, is not cleared */
    if (!bn_config_quantized(config)) {
        view.quantization.weight_bits = BN_WEIGHT_BITS_TERNARY;
        if (view.quantization.scale_estimator == BN_SCALE_ESTIMATOR_LEARNED)
            view.quantization.scale_estimator = BN_SCALE_ESTIMATOR_ABSMEAN; /* its start */
        view.quantization.rules = (bn_config_rules){0};
    }
    const bn_quant_spec spec = bn_quant_spec_of(&view, layer->name);
    bn_linear_layer_quantize(&made, &spec);
    return made;
}

/* Float to quantized, or back to what it was. */
static void switch_layer(bn_linear_layer *layer, const bn_config *config, bool to_float)
{
    if (to_float)
        layer->is_bit = false;
    else
        *layer = quantized(layer, config);
}

static bool may_switch(const bn_linear_layer *layer, const bn_config *config, bool to_float)
{
    return to_float ? layer->is_bit && layer->quant.weight.quantized
                    : quantized(layer, config).quant.weight.quantized;
}

/* Bits per weight in a packed file. */
static double bits_of(const bn_linear_layer *layer)
{
    const int64_t scales =
        bn_scale_count(layer->out, layer->in, layer->quant.weight.params.group_size);
    const bn_grid grid = layer->quant.weight.params.grid;
    const int64_t row =
        grid == BN_GRID_TERNARY ? bn_b3_row_bytes(layer->in) : bn_bits_row_bytes(grid, layer->in);
    const int64_t bytes = layer->out * row + 4 * scales;
    return 8.0 * (double)bytes / ((double)layer->out * (double)layer->in);
}

static int by_change(const void *a, const void *b)
{
    const bn_layer_sensitivity *x = a, *y = b;
    const double p = fabs(x->change), q = fabs(y->change);
    return p != q ? (p < q) - (p > q) : strcmp(x->name, y->name);
}

static bn_status measure_layers(bn_loaded *loaded, const bn_measure *measure, int64_t max_batches,
                                bn_sensitivity *out)
{
    bn_model *model = loaded->model;
    for (int i = 0; i < model->n_linears; i++) {
        bn_linear_layer *layer = model->linears[i];
        if (!may_switch(layer, &loaded->config, out->to_float))
            continue;
        const bn_linear_layer was = *layer;
        const bn_linear_layer bit = out->to_float ? was : quantized(layer, &loaded->config);
        double loss;
        switch_layer(layer, &loaded->config, out->to_float);
        bn_status status = bn_measure_loss(measure, model, max_batches, &loss);
        *layer = was;
        BN_TRY(bn_error_in(status, layer->name));
        out->layers[out->count++] = (bn_layer_sensitivity){
            .name = layer->name,
            .weights = layer->out * layer->in,
            .bits = bits_of(&bit),
            .loss = loss,
            .change = loss - out->loss,
        };
    }
    qsort(out->layers, (size_t)out->count, sizeof *out->layers, by_change);
    return BN_OK;
}

/* Bits per weight of all layers, with the chosen ones switched. */
static double average_bits(const bn_sensitivity *s)
{
    double bits = 0, weights = 0;
    for (int i = 0; i < s->count; i++) {
        const bn_layer_sensitivity *l = &s->layers[i];
        bits += (double)l->weights * (l->chosen == s->to_float ? FLOAT_BITS : l->bits);
        weights += (double)l->weights;
    }
    return bits / weights;
}

bn_status bn_sensitivity_measure(bn_loaded *loaded, const bn_sensitivity_data *data,
                                 bn_sensitivity *out)
{
    bn_status status = BN_OK;
    bn_model *model = loaded->model;
    bn_measure measure = {0};
    bn_score base;
    *out = (bn_sensitivity){0};
    if (loaded->is_packed)
        return bn_error(BN_USAGE,
                        "%s: a packed file has no shadow weights: --sensitivity takes a "
                        "checkpoint",
                        loaded->path);
    for (int i = 0; i < model->n_linears; i++)
        out->to_float |= model->linears[i]->is_bit && model->linears[i]->quant.weight.quantized;
    out->layers = calloc((size_t)model->n_linears + 1, sizeof *out->layers);
    if (!out->layers)
        return bn_error_nomem("the layers", (size_t)model->n_linears * sizeof *out->layers);
    BN_TRY_OUT(bn_measure_open(loaded, data->path, BN_PART_ALL, &measure));
    BN_TRY_OUT(bn_measure_score(&measure, model, 0, data->max_batches, &base));
    out->loss = bn_score_loss(&base);
    out->labels = base.labels;
    BN_TRY_OUT(measure_layers(loaded, &measure, data->max_batches, out));
    if (out->count == 0)
        status = bn_error(BN_USAGE,
                          "%s: no layer can be quantized: modules_to_not_convert covers "
                          "them all",
                          loaded->path);
    else
        out->bits = average_bits(out);
out:
    bn_measure_close(&measure);
    if (status != BN_OK)
        bn_sensitivity_clear(out);
    return status;
}

void bn_sensitivity_clear(bn_sensitivity *s)
{
    free(s->layers);
    *s = (bn_sensitivity){0};
}

/* ---- choosing ---- */

/* Change of the loss per bit that switching a layer adds or takes away. */
static double per_bit(const bn_layer_sensitivity *l)
{
    return l->change / ((double)l->weights * (FLOAT_BITS - l->bits));
}

/* The layer to switch next: the one that helps most, or harms least. */
static bn_layer_sensitivity *best_left(bn_sensitivity *s, double budget)
{
    bn_layer_sensitivity *best = NULL;
    for (int i = 0; i < s->count; i++) {
        bn_layer_sensitivity *l = &s->layers[i];
        if (l->chosen || (best && per_bit(l) >= per_bit(best)))
            continue;
        l->chosen = true;
        const bool fits = !s->to_float || (l->change < 0 && average_bits(s) <= budget);
        l->chosen = false;
        if (fits)
            best = l;
    }
    return best;
}

static bn_status measure_choice(bn_sensitivity *s, bn_loaded *loaded,
                                const bn_sensitivity_data *data)
{
    bn_model *model = loaded->model;
    bn_measure measure;
    bn_linear_layer *was = malloc((size_t)model->n_linears * sizeof *was);
    if (!was)
        return bn_error_nomem("the layers", (size_t)model->n_linears * sizeof *was);
    for (int i = 0; i < model->n_linears; i++) {
        was[i] = *model->linears[i];
        for (int k = 0; k < s->count; k++)
            if (s->layers[k].chosen && s->layers[k].name == model->linears[i]->name)
                switch_layer(model->linears[i], &loaded->config, s->to_float);
    }
    bn_status status = bn_measure_open(loaded, data->path, BN_PART_ALL, &measure);
    if (status == BN_OK)
        status = bn_measure_loss(&measure, model, data->max_batches, &s->loss_proposed);
    bn_measure_close(&measure);
    for (int i = 0; i < model->n_linears; i++)
        *model->linears[i] = was[i];
    free(was);
    return status;
}

bn_status bn_sensitivity_choose(bn_sensitivity *s, bn_loaded *loaded,
                                const bn_sensitivity_data *data, double budget)
{
    bn_layer_sensitivity *next;
    while ((s->to_float || average_bits(s) > budget) && (next = best_left(s, budget)))
        next->chosen = true;
    s->bits_proposed = average_bits(s);
    if (s->bits_proposed > budget)
        return bn_error(BN_USAGE,
                        "--budget %g: with all layers quantized they take %.3f bits per weight",
                        budget, s->bits_proposed);
    return measure_choice(s, loaded, data);
}

/* ---- rules ---- */

/* The rules that the config has already, as a JSON array. */
static bn_status own_rules(const bn_config *config, cJSON **root, cJSON **rules)
{
    char *text;
    BN_TRY(bn_config_dump(config, &text));
    bn_status status = bn_json_parse("the config", text, strlen(text), root);
    free(text);
    BN_TRY(status);
    cJSON *section = cJSON_GetObjectItemCaseSensitive(*root, "quantization");
    *rules = cJSON_GetObjectItemCaseSensitive(section, "rules");
    return BN_OK;
}

bn_status bn_sensitivity_rules(const bn_sensitivity *s, const bn_config *config, char **out)
{
    cJSON *root, *own;
    bn_json json = {.indent = 2};
    BN_TRY(own_rules(config, &root, &own));
    bn_json_object(&json, NULL);
    bn_json_object(&json, "quantization");
    bn_json_array(&json, "rules");
    for (int i = 0; i < s->count; i++) {
        if (!s->layers[i].chosen)
            continue;
        bn_json_object(&json, NULL);
        bn_json_string(&json, "match", s->layers[i].name);
        bn_json_string(&json, "weight_bits", s->to_float ? "none" : "ternary");
        bn_json_object_end(&json);
    }
    for (const cJSON *rule = own->child; rule; rule = rule->next) {
        char *text = cJSON_PrintUnformatted(rule);
        bn_json_raw(&json, NULL, text ? text : "null");
        cJSON_free(text);
    }
    bn_json_array_end(&json);
    bn_json_object_end(&json);
    bn_json_object_end(&json);
    cJSON_Delete(root);
    return bn_json_take(&json, out);
}
