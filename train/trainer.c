#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/timer.h"
#include "train/adapter_run.h"

int64_t bn_tokens_per_step(const bn_config *config)
{
    const int64_t time = config->model.kind == BN_KIND_MLP ? 1 : config->training.seq_len;
    return config->training.batch_size * time * config->training.gradient_accumulation_steps;
}

/* Room on the host for an MLP's logits: evaluation counts right answers. */
static bn_status alloc_logits(bn_trainer *t)
{
    if (!bn_model_is_classifier(t->model))
        return BN_OK;
    const size_t bytes =
        (size_t)(t->config->training.batch_size * t->model->vocab) * sizeof *t->logits;
    t->logits = malloc(bytes);
    return t->logits ? BN_OK : bn_error_nomem("the logits of a batch", bytes);
}

/* All that is large, in the order of its lifetime. */
static bn_status take_memory(bn_trainer *t)
{
    bn_backend *be = t->backend;
    if (!t->adapter)
        BN_TRY(bn_model_alloc(t->model, true));
    BN_TRY(bn_optimizer_init(&t->optimizer, t->config, be, t->params, t->values,
                             t->adapter ? &t->adapter->grads : &t->model->grads));
    BN_TRY(bn_feed_init(t->config, t->data, t->model, &t->feed));
    const bn_distill distill = bn_distill_of(t->config, t->teacher.model);
    BN_TRY(bn_train_graphs_record(t->config, t->model, distill.teacher ? &distill : NULL,
                                  &t->feed.input, &t->feed.labels, &t->graphs));
    BN_TRY(bn_error_in(be->alloc(be, bn_train_graphs_arena(&t->graphs), &t->arena),
                       "activations of a step"));
    return bn_train_graphs_bind(&t->graphs, &t->arena);
}

static bn_status check_backward(const bn_trainer *t)
{
    for (int i = 0; i < t->model->n_linears; i++) {
        const bn_linear_layer *layer = t->model->linears[i];
        if (layer->is_bit && !(t->backend->backwards >> layer->quant.weight.params.backward & 1u))
            return bn_error(BN_BAD_CONFIG,
                            "training.backward_precision: %s has no int16 products, expected "
                            "\"float32\" or \"bf16\"",
                            t->backend->name);
    }
    return BN_OK;
}

static bn_status make_model(bn_trainer *t, int64_t vocab)
{
    BN_TRY(bn_model_create(t->config, vocab, t->backend, BN_MODEL_FLOAT, &t->model));
    BN_TRY(bn_model_check_rules(t->model, t->config));
    t->params = &t->model->params;
    t->values = &t->model->values;
    return bn_model_freeze(t->model, &t->config->training.freeze);
}

static bn_status make_adapter(bn_trainer *t)
{
    BN_TRY(bn_adapter_run_open(t));
    t->params = &t->adapter->params;
    t->values = &t->adapter->values;
    return BN_OK;
}

static bn_status build(bn_trainer *t)
{
    const int64_t vocab = bn_tokenizer_vocab_size(t->data->tokenizer);
    BN_TRY(t->config->adapter.base ? make_adapter(t) : make_model(t, vocab));
    BN_TRY(check_backward(t));
    if (t->config->distillation.teacher)
        BN_TRY(bn_teacher_open(t->config, t->data->tokenizer, t->backend, &t->teacher));
    BN_TRY(bn_memory_explain(take_memory(t), t->config, vocab, t->backend));
    if (!t->adapter)
        BN_TRY(bn_model_init(t->model, (uint64_t)t->config->training.seed));
    BN_TRY(alloc_logits(t));
    BN_TRY(bn_telemetry_init(&t->telemetry, t->model));
    BN_TRY(bn_layer_health_init(&t->health, t->telemetry.count));
    return bn_telemetry_begin(&t->telemetry);
}

bn_train_progress bn_train_progress_new(void)
{
    return (bn_train_progress){.best_val_loss = (double)INFINITY,
                               .best_step = -1,
                               .last_loss = (double)NAN,
                               .lr_factor = 1.0};
}

bn_status bn_trainer_new(const bn_config *config, const bn_train_data *data, bn_backend *backend,
                         bool one_batch, bn_trainer **out)
{
    *out = NULL;
    bn_trainer *t = calloc(1, sizeof *t);
    if (!t)
        return bn_error_nomem("the trainer", sizeof *t);
    t->config = config;
    t->data = data;
    t->backend = backend;
    t->schedule = bn_schedule_of(config);
    t->one_batch = one_batch;
    t->progress = bn_train_progress_new();
    bn_status status = build(t);
    if (status != BN_OK)
        bn_trainer_free(t);
    else
        *out = t;
    return status;
}

void bn_trainer_free(bn_trainer *t)
{
    if (!t)
        return;
    bn_telemetry_clear(&t->telemetry);
    bn_layer_health_clear(&t->health);
    bn_train_graphs_clear(&t->graphs);
    bn_optimizer_clear(&t->optimizer);
    t->backend->release(t->backend, &t->arena);
    bn_feed_clear(&t->feed);
    free(t->logits);
    bn_loaded_clear(&t->teacher);
    bn_adapter_free(t->adapter);
    if (t->base.model)
        bn_loaded_clear(&t->base);
    else
        bn_model_free(t->model);
    free(t);
}

static bn_status next_batch(bn_trainer *t)
{
    if (!(t->one_batch && t->have_batch))
        bn_feed_next(&t->feed);
    t->have_batch = true;
    return bn_feed_upload(&t->feed);
}

/* Loss of the micro-batch that ran last. */
static bn_status read_loss(bn_trainer *t, double *loss)
{
    const bn_strength s = bn_train_strength(t->config, t->progress.step);
    return bn_backend_get_scalar(t->backend,
                                 bn_tape_tensor(t->graphs.train[s], t->graphs.train_loss[s]), loss);
}

/* Forward and backward of one micro-batch. Its mean loss enters the step's mean
 * with weight 1/count: every window of a training batch is full. */
static bn_status micro_step(bn_trainer *t, int64_t micro, int64_t count, double *loss)
{
    const bn_run run = {.seed = (uint64_t)t->config->training.seed,
                        .step = (uint64_t)(t->progress.step * count + micro),
                        .softness = 1.0 - bn_config_strength(t->config, t->progress.step)};
    bn_tape *tape = t->graphs.train[bn_train_strength(t->config, t->progress.step)];
    double value;
    BN_TRY(next_batch(t));
    BN_TRY(bn_tape_forward(tape, &run));
    BN_TRY(bn_tape_backward(tape, &run, 1.0 / (double)count));
    if (micro + 1 == count)
        return BN_OK; /* the caller reads the last loss, after the update is queued */
    BN_TRY(read_loss(t, &value));
    *loss += value;
    return BN_OK;
}

/* What the backend counts; zeros if it does not. */
static bn_backend_usage usage_of(const bn_backend *backend)
{
    bn_backend_usage usage = {0};
    if (backend->usage)
        backend->usage(backend, &usage);
    return usage;
}

bn_status bn_trainer_step(bn_trainer *t, bn_step_result *result)
{
    const double start = bn_seconds();
    const int64_t count = t->config->training.gradient_accumulation_steps;
    const int64_t step = t->progress.step;
    const bn_backend_usage before = usage_of(t->backend);
    double sum = 0.0, last;
    *result = (bn_step_result){.lr = t->progress.lr_factor * bn_schedule_lr(&t->schedule, step)};
    BN_TRY(bn_optimizer_zero_grad(&t->optimizer));
    for (int64_t micro = 0; micro < count; micro++)
        BN_TRY(micro_step(t, micro, count, &sum));
    BN_TRY(bn_optimizer_step(&t->optimizer, result->lr, bn_schedule_decay(&t->schedule, step)));
    BN_TRY(read_loss(t, &last));
    BN_TRY(bn_optimizer_norm(&t->optimizer, &result->grad_norm));
    const bn_backend_usage after = usage_of(t->backend);
    result->upload_bytes = after.upload_bytes - before.upload_bytes;
    result->download_bytes = after.download_bytes - before.download_bytes;
    result->loss = (sum + last) / (double)count;
    if (!isfinite(result->loss) || !isfinite(result->grad_norm))
        return bn_error(BN_FAIL, "step %lld: loss is %g, gradient norm is %g",
                        (long long)(step + 1), result->loss, result->grad_norm);
    t->progress.step++;
    t->progress.tokens_seen += bn_tokens_per_step(t->config);
    t->progress.loss_sum += result->loss;
    t->progress.loss_count++;
    bn_loss_window_add(&t->progress.recent, result->loss);
    if (bn_train_strength(t->config, step + 1) != bn_train_strength(t->config, step))
        t->progress.recent = (bn_loss_window){0}; /* the loss may jump: that is no spike */
    t->progress.step_lr = result->lr;
    t->progress.step_grad_norm = result->grad_norm;
    t->progress.training_s += bn_seconds() - start;
    return BN_OK;
}

bool bn_trainer_can_evaluate(const bn_trainer *t)
{
    return t->data->validation.count + t->data->validation_rows.count > 0 && !t->one_batch;
}

static bn_status count_correct(bn_trainer *t, int64_t rows, int64_t *correct)
{
    const bn_tensor *y = bn_tape_tensor(t->graphs.evaluate, t->graphs.evaluate_logits);
    BN_TRY(bn_backend_get_f32(t->backend, y, t->logits, bn_tensor_numel(y)));
    *correct += bn_classifier_correct(t->logits, t->feed.host_labels, rows, bn_tensor_cols(y));
    return BN_OK;
}

bn_status bn_trainer_evaluate(bn_trainer *t, bn_evaluation *out)
{
    bn_feed_held_out batches;
    bn_eval_count count;
    double nats = 0.0;
    int64_t correct = 0;
    *out = (bn_evaluation){0};
    BN_TRY(bn_feed_held_out_init(&t->feed, t->config, &batches));
    while (bn_feed_held_out_next(&batches, &count)) {
        double loss;
        if (t->interrupted && t->interrupted())
            return bn_error(BN_INTERRUPTED, "stopped during an evaluation");
        BN_TRY(bn_feed_upload(&t->feed));
        BN_TRY(bn_tape_forward(t->graphs.evaluate, NULL));
        BN_TRY(bn_backend_get_scalar(
            t->backend, bn_tape_tensor(t->graphs.evaluate, t->graphs.evaluate_loss), &loss));
        if (t->logits)
            BN_TRY(count_correct(t, count.labels, &correct));
        nats += loss * (double)count.labels;
        out->labels += count.labels;
        out->bytes += count.bytes;
    }
    out->loss = nats / (double)out->labels;
    out->perplexity = exp(out->loss);
    out->accuracy = (double)correct / (double)out->labels;
    out->bits_per_byte = nats / log(2.0) / (double)out->bytes;
    return BN_OK;
}

size_t bn_trainer_batch_bytes(const bn_trainer *t)
{
    return (size_t)t->config->training.gradient_accumulation_steps *
           (bn_tensor_bytes(&t->feed.input) + bn_tensor_bytes(&t->feed.labels));
}

int64_t bn_trainer_parameters(const bn_trainer *t)
{
    return bn_model_numel(t->model) + (t->adapter ? bn_param_set_numel(t->params) : 0);
}

bn_device_memory bn_trainer_device_memory(const bn_trainer *t)
{
    const bn_backend_usage usage = usage_of(t->backend);
    const double gaps = (double)(t->arena.bytes - bn_train_graphs_peak(&t->graphs));
    const double used = (double)usage.bytes - gaps, held = (double)usage.bytes;
    return (bn_device_memory){
        .bytes = usage.bytes,
        .peak_bytes = usage.peak_bytes,
        .fragmentation = held > 0.0 ? 1.0 - used / held * (1.0 - usage.fragmentation) : 0.0,
    };
}
