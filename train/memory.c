#include "train/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/checked.h"
#include "train/feed.h"
#include "train/optimizer.h"
#include "train/telemetry.h"
#include "train/trainer.h"

static void count_parameters(const bn_model *model, bn_size_report *out)
{
    for (int i = 0; i < model->params.count; i++) {
        const bn_param *p = model->params.items[i];
        const int64_t n = bn_tensor_numel(&p->value);
        int64_t *kinds[] = {[BN_PARAM_LINEAR] = &out->linear,
                            [BN_PARAM_EMBEDDING] = &out->embedding,
                            [BN_PARAM_NORM] = &out->norm,
                            [BN_PARAM_BIAS] = &out->bias};
        *kinds[p->kind] += n;
    }
    for (int i = 0; i < model->n_linears; i++) {
        const bn_linear_layer *layer = model->linears[i];
        const int64_t n = layer->out * layer->in;
        if (layer->is_bit)
            out->quantized += n;
        if (!layer->weight)
            out->linear += n;
    }
    out->parameters = bn_model_numel(model);
    out->packed_bytes = (int64_t)bn_model_packed_bytes(model);
}

/* The graphs of models whose tensors have shapes but no memory; `teacher` may be
 * NULL. */
static bn_status measure_graphs(const bn_config *config, bn_model *model, const bn_model *teacher,
                                bn_memory_report *out)
{
    const bn_distill distill = bn_distill_of(config, teacher);
    bn_train_graphs graphs;
    bn_tensor input, labels;
    BN_TRY(bn_feed_shapes(config, model, &input, &labels));
    BN_TRY(
        bn_train_graphs_record(config, model, teacher ? &distill : NULL, &input, &labels, &graphs));
    const bn_tape_memory tape = bn_tape_memory_of(graphs.train[BN_STRENGTH_HARD]);
    out->arena = bn_train_graphs_arena(&graphs);
    out->saved_codes = tape.saved_codes;
    out->saved_packed = tape.saved_packed;
    out->saved_float = tape.saved_float;
    out->activation_gradients = tape.gradients;
    out->scratch = tape.scratch;
    out->tables = bn_tensor_bytes(&model->rope) + bn_align_up(bn_tensor_bytes(&input), BN_ALIGN) +
                  bn_align_up(bn_tensor_bytes(&labels), BN_ALIGN) + BN_ALIGN +
                  bn_telemetry_device_bytes(model);
    bn_train_graphs_clear(&graphs);
    return BN_OK;
}

bn_status bn_size_report_make(const bn_config *config, int64_t vocab, bn_backend *backend,
                              bn_size_report *out)
{
    const bool adapts = config->adapter.base != NULL;
    bn_model *model = NULL;
    bn_adapter *adapter = NULL;
    bn_loaded teacher = {0};
    bn_status status = BN_OK;
    bn_memory_report *memory = &out->memory;
    *out = (bn_size_report){
        .tokens_per_step = bn_tokens_per_step(config),
        .steps = config->training.max_steps,
        .layer_tokens = config->model.num_hidden_layers * bn_tokens_per_step(config) /
                        config->training.gradient_accumulation_steps,
    };
    BN_TRY_OUT(
        bn_model_create(config, vocab, backend, adapts ? BN_MODEL_PACKED : BN_MODEL_FLOAT, &model));
    count_parameters(model, out);
    BN_TRY_OUT(bn_model_check_rules(model, config));
    bn_param_set_bind(&model->params, NULL, NULL);
    const bn_param_set *trained = &model->params;
    memory->weights = model->params.block_bytes;
    if (adapts) {
        BN_TRY_OUT(bn_adapter_new(config, model, &adapter));
        bn_adapter_use(model, adapter);
        trained = &adapter->params;
        out->adapters = bn_param_set_numel(trained);
        out->parameters += out->adapters;
        memory->weights += trained->block_bytes + (size_t)out->packed_bytes;
    } else {
        BN_TRY_OUT(bn_model_freeze(model, &config->training.freeze));
    }
    out->trainable = bn_param_set_trainable(trained);
    memory->gradients = trained->train_bytes;
    const bn_optimizer_memory optimizer = bn_optimizer_bytes(config, trained);
    memory->moments = optimizer.moments;
    memory->update = optimizer.scratch;
    memory->host_telemetry = bn_telemetry_host_bytes(model);
    if (config->distillation.teacher) {
        BN_TRY_OUT(bn_teacher_outline(config, vocab, backend, &teacher));
        memory->teacher = bn_model_outline(teacher.model);
    }
    BN_TRY_OUT(measure_graphs(config, model, teacher.model, memory));
    memory->total = memory->weights + memory->gradients + memory->moments + memory->update +
                    memory->teacher + memory->arena + memory->tables;
out:
    bn_loaded_clear(&teacher);
    bn_adapter_free(adapter);
    bn_model_free(model);
    return status;
}

static const char *what_to_lower(const bn_memory_report *m)
{
    return m->arena > m->weights + m->gradients + m->moments
               ? "lower training.batch_size (training.gradient_accumulation_steps makes up for "
                 "it), training.seq_len or the model's size"
               : "lower the model's size: model.hidden_size, model.num_hidden_layers";
}

bn_status bn_memory_explain(bn_status status, const bn_config *config, int64_t vocab,
                            bn_backend *backend)
{
    enum { ROLES = 9 };
    bn_size_report sizes;
    char size[ROLES + 1][BN_SIZE_TEXT];
    if (status != BN_FAIL)
        return status;
    char *text = bn_strdup(bn_error_text());
    if (text && bn_size_report_make(config, vocab, backend, &sizes) == BN_OK) {
        const bn_memory_report *m = &sizes.memory;
        const size_t bytes[ROLES] = {
            m->total,
            m->weights,
            m->gradients,
            m->moments,
            m->arena,
            m->saved_codes + m->saved_packed + m->saved_float,
            m->activation_gradients,
            m->scratch,
            m->teacher,
        };
        for (int i = 0; i < ROLES; i++)
            bn_size_text(bytes[i], size[i]);
        bn_error(
            status,
            "%s; the run needs %s: parameters %s, gradients %s, moments %s, activations %s (up "
            "to %s kept for backward, %s of gradients, %s of scratch and logits), teacher %s, "
            "tables %s: %s",
            text, size[0], size[1], size[2], size[3], size[4], size[5], size[6], size[7], size[8],
            bn_size_text(m->tables, size[ROLES]), what_to_lower(m));
    } else if (text) {
        bn_error(status, "%s", text);
    }
    free(text);
    return status;
}

size_t bn_resident_bytes(void)
{
    unsigned long long size, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file)
        return 0;
    int found = fscanf(file, "%llu %llu", &size, &resident);
    fclose(file);
    return found == 2 ? (size_t)resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

size_t bn_peak_resident_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (size_t)usage.ru_maxrss * 1024 : 0;
}
