#include "tools/export_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quantize.h"

/* ---- numbers ---- */

void bn_export_count(const bn_export_set *set, bn_export_check *check)
{
    for (int i = 0; i < set->count; i++) {
        const bn_export_item *item = &set->items[i];
        check->codes += item->coded ? bn_export_numel(item) : 0;
        *(item->coded ? &check->scales : &check->floats) += item->count;
    }
}

static bn_status compare_item(const char *path, const bn_export_item *a, const bn_export_item *b)
{
    const int64_t bytes = a->coded ? bn_grid_row_bytes(a->grid, a->shape[1]) : 0;
    if (a->coded != b->coded || a->grid != b->grid || a->count != b->count ||
        a->group_size != b->group_size || bn_export_numel(a) != bn_export_numel(b))
        return bn_error(BN_MISMATCH, "%s: %s reads back in another form", path, a->name);
    for (int64_t r = 0; r < a->shape[0] && a->coded; r++)
        if (memcmp(a->codes + r * bytes, b->codes + r * bytes, (size_t)bytes) != 0)
            return bn_error(BN_MISMATCH, "%s: %s: codes of row %lld read back changed", path,
                            a->name, (long long)r);
    for (int64_t i = 0; i < a->count; i++)
        if (!(a->data[i] >= b->data[i] && a->data[i] <= b->data[i]))
            return bn_error(BN_MISMATCH, "%s: %s: number %lld reads back as %.9g, expected %.9g",
                            path, a->name, (long long)i, (double)b->data[i], (double)a->data[i]);
    return BN_OK;
}

bn_status bn_export_compare(const char *path, const bn_export_set *expected,
                            const bn_export_set *found)
{
    if (found->count != expected->count)
        return bn_error(BN_MISMATCH, "%s: %d tensors read back, expected %d", path, found->count,
                        expected->count);
    for (int i = 0; i < expected->count; i++) {
        const bn_export_item *other = NULL;
        for (int k = 0; k < found->count && !other; k++)
            if (strcmp(found->items[k].name, expected->items[i].name) == 0)
                other = &found->items[k];
        if (!other)
            return bn_error(BN_MISMATCH, "%s: %s does not read back", path,
                            expected->items[i].name);
        BN_TRY(compare_item(path, &expected->items[i], other));
    }
    return BN_OK;
}

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

/* Codes times scales, for a layer that computes with float weights. */
static bn_status apply_flat(const bn_export_item *item, bn_backend *be, const bn_tensor *value)
{
    const int64_t n = bn_export_numel(item);
    float *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return bn_error_nomem(item->name, (size_t)n * sizeof *values);
    bn_codes_dequantize_f32(bn_grid_dtype(item->grid), item->codes, item->data, item->shape[0],
                            item->shape[1], item->group_size, values);
    bn_status status = bn_backend_put_f32(be, value, values, n);
    free(values);
    return status;
}

static bn_status apply_item(const bn_export_item *item, const bn_model *model)
{
    bn_backend *be = model->backend;
    bn_linear_layer *layer = layer_of(model, item->name);
    const bn_param *param = bn_param_set_find(&model->params, item->name);
    if (item->coded)
        return layer->codes.buffer ? bn_backend_put_f32(be, &layer->scale, item->data, item->count)
                                   : apply_flat(item, be, &layer->weight->value);
    if (!param)
        return BN_OK;
    if (layer && layer->codes.buffer)
        layer->is_bit = false;
    return bn_backend_put_f32(be, &param->value, item->data, item->count);
}

bn_status bn_export_apply(const bn_export_set *set, const bn_model *model)
{
    for (int i = 0; i < set->count; i++)
        BN_TRY(apply_item(&set->items[i], model));
    return BN_OK;
}

/* ---- results ---- */

static bn_status probe(const bn_export_trial *trial, const bn_model *model, bn_probe *out)
{
    enum { PROBE_TOKENS = 64 };
    const bn_sample *sample = &trial->sample;
    const int64_t time = sample->time < PROBE_TOKENS ? sample->time : PROBE_TOKENS;
    return bn_probe_run(model, sample->tokens, time, out);
}

bn_status bn_export_trial_start(bn_export_trial *trial, const bn_loaded *source, const char *data,
                                bn_export_check *check)
{
    bn_score score;
    BN_TRY(bn_sample_open(&source->config, data, source->tokenizer, &trial->sample));
    BN_TRY(bn_sample_score(&trial->sample, source->model, &score));
    check->loss_before = bn_score_loss(&score);
    check->loss_tokens = score.labels;
    check->text = trial->sample.source;
    check->random = trial->sample.random;
    return probe(trial, source->model, &trial->original);
}

bn_status bn_export_trial_stored(bn_export_trial *trial, const bn_model *source)
{
    return probe(trial, source, &trial->stored);
}

/* The layer of integer product number `index` of a run. */
static const char *product_name(const bn_model *model, int index)
{
    for (int i = 0; i < model->n_linears; i++) {
        const bn_linear_layer *layer = model->linears[i];
        if (layer->is_bit && layer->quant.weight.quantized && layer->quant.act.quantized &&
            index-- == 0)
            return layer->name;
    }
    return "an unknown one";
}

static bn_status compare_probes(const bn_export_trial *trial, const char *path,
                                const bn_model *source, const bn_probe *found,
                                bn_export_check *check)
{
    const bn_probe *reference = trial->stored.logits ? &trial->stored : &trial->original;
    int first;
    const int differing = bn_probe_differing_products(reference, found, &first);
    if (differing < 0)
        return bn_error(BN_MISMATCH, "%s: %d integer products, the model has %d", path,
                        found->products, reference->products);
    if (differing > 0)
        return bn_error(BN_MISMATCH,
                        "%s: %d of %d integer products differ from the model's, %s first", path,
                        differing, found->products, product_name(source, first));
    check->products = found->products;
    check->probe_tokens = found->count / source->vocab;
    check->logit_difference = bn_probe_logit_difference(&trial->original, found, false);
    check->logit_relative = bn_probe_logit_difference(reference, found, true);
    if (!(check->logit_relative <= 1e-5))
        return bn_error(BN_MISMATCH, "%s: logits differ by %g relative, allowed is 1e-5", path,
                        check->logit_relative);
    return BN_OK;
}

bn_status bn_export_trial_compare(const bn_export_trial *trial, const char *path,
                                  const bn_model *source, const bn_model *found,
                                  bn_export_check *check)
{
    bn_probe result;
    bn_score score;
    BN_TRY(probe(trial, found, &result));
    bn_status status = bn_sample_score(&trial->sample, found, &score);
    if (status == BN_OK)
        status = bn_export_trial_judge(trial, path, source, &result, bn_score_loss(&score), check);
    bn_probe_clear(&result);
    return status;
}

bn_status bn_export_trial_judge(const bn_export_trial *trial, const char *path,
                                const bn_model *source, const bn_probe *result, double loss,
                                bn_export_check *check)
{
    BN_TRY(compare_probes(trial, path, source, result, check));
    check->loss_after = loss;
    if (!trial->stored.logits &&
        !(fabs(check->loss_after - check->loss_before) <= 1e-5 * fmax(1, check->loss_before)))
        return bn_error(BN_MISMATCH, "%s: loss on %s is %.9g, the model's %.9g", path, check->text,
                        check->loss_after, check->loss_before);
    check->done = true;
    return BN_OK;
}

void bn_export_trial_clear(bn_export_trial *trial)
{
    bn_probe_clear(&trial->original);
    bn_probe_clear(&trial->stored);
    bn_sample_clear(&trial->sample);
}
