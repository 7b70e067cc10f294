#include "tools/evaluator.h"

#include <math.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/signals.h"

static bn_status record(bn_evaluator *e)
{
    BN_TRY(bn_tape_new(e->model->backend, &e->tape));
    bn_graph graph = {.tape = e->tape};
    bn_tape_no_grad_push(e->tape);
    e->loss = bn_model_score(e->model, &graph, bn_tape_input(e->tape, &e->input),
                             bn_tape_input(e->tape, &e->labels), e->cache.layers, &e->logits);
    bn_tape_retain(e->tape, e->loss);
    if (e->host_logits)
        bn_tape_retain(e->tape, e->logits);
    bn_tape_no_grad_pop(e->tape);
    return bn_tape_plan(e->tape, BN_NO_VALUE);
}

static bn_status alloc_batch(bn_evaluator *e, int64_t batch, int64_t time)
{
    bn_backend *be = e->model->backend;
    e->input = bn_model_input(e->model, batch, time);
    e->labels = bn_tensor_2d(BN_I32, batch, time);
    const size_t stride = bn_align_up(bn_tensor_bytes(&e->input), BN_ALIGN);
    BN_TRY(be->alloc(be, stride + bn_align_up(bn_tensor_bytes(&e->labels), BN_ALIGN), &e->memory));
    e->input = bn_tensor_at(e->input, &e->memory, 0);
    e->labels = bn_tensor_at(e->labels, &e->memory, stride);
    if (!bn_model_is_classifier(e->model))
        return BN_OK;
    const size_t bytes = (size_t)(batch * time * e->model->vocab) * sizeof *e->host_logits;
    e->host_logits = malloc(bytes);
    return e->host_logits ? BN_OK : bn_error_nomem("the logits of a batch", bytes);
}

bn_status bn_evaluator_init(const bn_model *model, const bn_windows *w, bn_evaluator *out)
{
    bn_status status = BN_OK;
    bn_backend *be = model->backend;
    *out = (bn_evaluator){.model = model};
    BN_TRY_OUT(alloc_batch(out, w->batch, w->time));
    if (w->cache_bits)
        BN_TRY_OUT(bn_kv_cache_init(model, be, w->batch, w->time, w->cache_bits, &out->cache));
    BN_TRY_OUT(record(out));
    BN_TRY_OUT(be->alloc(be, bn_tape_memory_of(out->tape).arena, &out->arena));
    BN_TRY_OUT(bn_tape_bind(out->tape, &out->arena));
out:
    if (status != BN_OK)
        bn_evaluator_clear(out);
    return status;
}

void bn_evaluator_clear(bn_evaluator *evaluator)
{
    if (evaluator->model) {
        bn_backend *be = evaluator->model->backend;
        bn_tape_free(evaluator->tape);
        be->release(be, &evaluator->arena);
        be->release(be, &evaluator->memory);
        bn_kv_cache_clear(&evaluator->cache);
        free(evaluator->host_logits);
    }
    *evaluator = (bn_evaluator){0};
}

bn_status bn_evaluator_run(bn_evaluator *evaluator, const void *input, const int32_t *labels,
                           double *loss)
{
    bn_backend *be = evaluator->model->backend;
    const bn_run run = {0};
    BN_TRY(bn_signals_poll());
    BN_TRY(bn_model_put_input(evaluator->model, &evaluator->input, input));
    BN_TRY(be->upload(be, &evaluator->labels, labels));
    BN_TRY(bn_tape_forward(evaluator->tape, &run));
    return bn_backend_get_scalar(be, bn_tape_tensor(evaluator->tape, evaluator->loss), loss);
}

bn_status bn_evaluator_logits(bn_evaluator *evaluator, const float **logits)
{
    const bn_tensor *y = bn_tape_tensor(evaluator->tape, evaluator->logits);
    *logits = evaluator->host_logits;
    return bn_backend_get_f32(evaluator->model->backend, y, evaluator->host_logits,
                              bn_tensor_numel(y));
}

bn_status bn_score_add(bn_evaluator *evaluator, const void *input, const int32_t *labels,
                       int64_t count, bn_score *score)
{
    double loss;
    BN_TRY(bn_evaluator_run(evaluator, input, labels, &loss));
    score->nats += loss * (double)count;
    score->labels += count;
    if (!evaluator->host_logits)
        return BN_OK;
    const float *logits;
    BN_TRY(bn_evaluator_logits(evaluator, &logits));
    score->correct +=
        bn_classifier_correct(logits, labels, count, evaluator->model->classifier.classes);
    return BN_OK;
}

double bn_score_perplexity(const bn_score *score)
{
    return exp(bn_score_loss(score));
}

double bn_score_bits_per_byte(const bn_score *score)
{
    return score->nats / log(2.0) / (double)score->bytes;
}

bn_status bn_score_span(const bn_model *model, bn_span span, const bn_tokenizer *tokenizer,
                        const bn_windows *w, bn_score *out)
{
    bn_status status = BN_OK;
    bn_evaluator evaluator;
    bn_eval_batches batches;
    bn_eval_count count;
    const size_t n = (size_t)(w->batch * w->time);
    *out = (bn_score){0};
    BN_TRY(bn_eval_batches_init(&batches, span, tokenizer, w->time, w->batch, w->max_batches));
    BN_TRY(bn_evaluator_init(model, w, &evaluator));
    int32_t *tokens = malloc(2 * n * sizeof *tokens);
    if (!tokens) {
        status = bn_error_nomem("a batch", 2 * n * sizeof *tokens);
        goto out;
    }
    while (bn_eval_batches_next(&batches, tokens, tokens + n, &count)) {
        BN_TRY_OUT(bn_score_add(&evaluator, tokens, tokens + n, count.labels, out));
        out->bytes += count.bytes;
    }
    out->batches = batches.batches;
    out->total = batches.total;
    if (!isfinite(out->nats))
        status = bn_error(BN_FAIL, "%s: the loss is not finite", bn_corpus_name(span.corpus));
out:
    free(tokens);
    bn_evaluator_clear(&evaluator);
    return status;
}

bn_status bn_score_rows(const bn_model *model, bn_rows rows, int64_t batch, int64_t max_batches,
                        bn_score *out)
{
    bn_status status = BN_OK;
    bn_evaluator evaluator;
    const size_t inputs = (size_t)(batch * model->classifier.inputs);
    const int64_t total = bn_ceil_div(rows.count, batch);
    *out = (bn_score){.total = total,
                      .batches = max_batches > 0 && max_batches < total ? max_batches : total};
    BN_TRY(bn_evaluator_init(model, &(bn_windows){.batch = batch, .time = 1}, &evaluator));
    float *x = malloc(inputs * sizeof *x);
    int32_t *labels = malloc((size_t)batch * sizeof *labels);
    if (!x || !labels) {
        status = bn_error_nomem("a batch", inputs * sizeof *x);
        goto out;
    }
    for (int64_t i = 0; i < out->batches; i++) {
        const int64_t count = bn_rows_copy(rows, i * batch, batch, x, labels);
        BN_TRY_OUT(bn_score_add(&evaluator, x, labels, count, out));
    }
    if (!isfinite(out->nats))
        status = bn_error(BN_FAIL, "%s: the loss is not finite", bn_table_name(rows.table));
out:
    free(x);
    free(labels);
    bn_evaluator_clear(&evaluator);
    return status;
}
