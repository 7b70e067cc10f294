#include "tools/adapter_merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/signals.h"
#include "tools/measure.h"
#include "tools/start_checkpoint.h"

/* A float item of this name and shape; its data is to be filled. */
static bn_status add(bn_export_set *set, const char *name, const bn_tensor *shape, float **data)
{
    bn_export_item *item = &set->items[set->count];
    snprintf(item->name, sizeof item->name, "%s", name);
    item->ndim = shape->ndim;
    memcpy(item->shape, shape->shape, sizeof item->shape);
    BN_TRY(bn_export_item_alloc(item));
    set->count++;
    *data = item->data;
    return BN_OK;
}

/* weight += scale * B A */
static bn_status add_product(const bn_adapter *adapter, const bn_lora *lora, float *weight)
{
    bn_backend *be = adapter->model->backend;
    const int64_t r = bn_tensor_rows(&lora->a->value), in = bn_tensor_cols(&lora->a->value);
    const int64_t out = bn_tensor_rows(&lora->b->value);
    bn_status status = BN_OK;
    float *a = malloc((size_t)(r * in) * sizeof *a), *b = malloc((size_t)(out * r) * sizeof *b);
    if (!a || !b) {
        status = bn_error_nomem(lora->a->name, (size_t)(r * in) * sizeof *a);
        goto out;
    }
    BN_TRY_OUT(bn_backend_get_f32(be, &lora->a->value, a, r * in));
    BN_TRY_OUT(bn_backend_get_f32(be, &lora->b->value, b, out * r));
    for (int64_t o = 0; o < out; o++)
        for (int64_t j = 0; j < r; j++) {
            const double factor = lora->scale * (double)b[o * r + j];
            for (int64_t i = 0; i < in; i++)
                weight[o * in + i] =
                    (float)((double)weight[o * in + i] + factor * (double)a[j * in + i]);
        }
out:
    free(a);
    free(b);
    return status;
}

/* A learned scale that the base has packed is a parameter again. */
static bn_status add_scale(bn_export_set *set, const bn_adapter *adapter,
                           const bn_linear_layer *layer)
{
    char name[BN_PARAM_NAME_MAX];
    float *scale;
    if (!layer->codes.buffer || layer->quant.weight.params.rule != BN_SCALE_LEARNED)
        return BN_OK;
    snprintf(name, sizeof name, "%s.weight_scale", layer->name);
    BN_TRY(add(set, name, &layer->scale, &scale));
    return bn_backend_get_f32(adapter->model->backend, &layer->scale, scale,
                              bn_tensor_numel(&layer->scale));
}

static bn_status add_layer(bn_export_set *set, const bn_adapter *adapter, int index)
{
    const bn_linear_layer *layer = adapter->model->linears[index];
    const bn_tensor shape = bn_tensor_2d(BN_F32, layer->out, layer->in);
    char name[BN_PARAM_NAME_MAX];
    float *weight;
    snprintf(name, sizeof name, "%s.weight", layer->name);
    BN_TRY(add(set, name, &shape, &weight));
    BN_TRY(bn_model_layer_weight(adapter->model, layer, weight));
    BN_TRY(add_scale(set, adapter, layer));
    return adapter->layers[index].a ? add_product(adapter, &adapter->layers[index], weight) : BN_OK;
}

static bool is_linear_weight(const bn_model *model, const bn_param *param)
{
    for (int i = 0; i < model->n_linears; i++)
        if (model->linears[i]->weight == param)
            return true;
    return false;
}

static bn_status collect(const bn_adapter *adapter, bn_export_set *set)
{
    const bn_model *model = adapter->model;
    float *data;
    BN_TRY(bn_export_set_init(set, 2 * model->n_linears + model->params.count));
    for (int i = 0; i < model->n_linears; i++)
        BN_TRY(add_layer(set, adapter, i));
    for (int i = 0; i < model->params.count; i++) {
        const bn_param *p = model->params.items[i];
        if (is_linear_weight(model, p))
            continue;
        BN_TRY(add(set, p->name, &p->value, &data));
        BN_TRY(bn_backend_get_f32(model->backend, &p->value, data, bn_tensor_numel(&p->value)));
    }
    return BN_OK;
}

static bn_status write_merged(const bn_tool_model *model, const char *path)
{
    const bn_start start = {.config = &model->loaded.config,
                            .tokenizer = bn_tokenizer_source(model->loaded.tokenizer),
                            .producer = bn_tool_producer,
                            .origin = "none: merged"};
    bn_export_set set = {0};
    bn_status status = collect(model->adapters[0], &set);
    if (status == BN_OK)
        status = bn_start_save(path, &start, &set);
    bn_export_set_clear(&set);
    return status;
}

/* Reads back what was written. */
static bn_status loss_of_merged(const bn_tool_model *model, const char *path, const bn_measure *m,
                                double *loss)
{
    bn_loaded merged;
    BN_TRY(bn_loaded_open(path, model->backend, true, &merged));
    bn_status status = bn_measure_loss(m, merged.model, 0, loss);
    bn_loaded_clear(&merged);
    return status;
}

static bn_status merge(bn_tool_model *model, const char *path, const bn_measure *m,
                       bn_merge_losses *losses)
{
    bn_adapter_use(model->loaded.model, NULL);
    BN_TRY(bn_measure_loss(m, model->loaded.model, 0, &losses->base));
    bn_adapter_use(model->loaded.model, model->adapters[0]);
    BN_TRY(bn_measure_loss(m, model->loaded.model, 0, &losses->adapted));
    char *temp = bn_format("%s.unverified", path);
    bn_status status = temp ? write_merged(model, temp) : BN_FAIL;
    if (status == BN_OK)
        status = loss_of_merged(model, temp, m, &losses->merged);
    if (status == BN_OK)
        status = bn_signals_poll();
    if (status == BN_OK)
        status = bn_fs_commit(temp, path);
    else if (temp)
        unlink(temp); /* not bn_fs_remove(): the message stays */
    free(temp);
    return status;
}

bn_status bn_adapter_merge(bn_tool_model *model, const char *path, const char *data,
                           bn_merge_losses *losses)
{
    bn_measure m;
    BN_TRY(bn_measure_open(&model->loaded, data, BN_PART_ALL, &m));
    bn_status status = merge(model, path, &m, losses);
    bn_measure_close(&m);
    return status;
}
