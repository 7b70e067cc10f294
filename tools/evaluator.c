#include "tools/evaluator.h"

#include <math.h>
#include <stdlib.h>

#include "base/checked.h"

static bn_status record(const bn_model *model, bn_evaluator *e)
{
    BN_TRY(bn_tape_new(model->backend, &e->tape));
    bn_graph graph = {.tape = e->tape};
    bn_tape_no_grad_push(e->tape);
    e->loss = bn_model_loss(model, &graph, bn_tape_input(e->tape, &e->ids),
                            bn_tape_input(e->tape, &e->labels));
    bn_tape_retain(e->tape, e->loss);
    bn_tape_no_grad_pop(e->tape);
    return bn_tape_plan(e->tape, BN_NO_VALUE);
}

bn_status bn_evaluator_init(const bn_model *model, int64_t batch, int64_t time, bn_evaluator *out)
{
    bn_status status = BN_OK;
    bn_backend *be = model->backend;
    const bn_tensor shape = bn_tensor_2d(BN_I32, batch, time);
    const size_t each = bn_align_up(bn_tensor_bytes(&shape), BN_ALIGN);
    *out = (bn_evaluator){.backend = be};
    BN_TRY_OUT(be->alloc(be, 2 * each, &out->tokens));
    out->ids = bn_tensor_at(shape, &out->tokens, 0);
    out->labels = bn_tensor_at(shape, &out->tokens, each);
    BN_TRY_OUT(record(model, out));
    BN_TRY_OUT(be->alloc(be, bn_tape_memory_of(out->tape).arena, &out->arena));
    BN_TRY_OUT(bn_tape_bind(out->tape, &out->arena));
out:
    if (status != BN_OK)
        bn_evaluator_clear(out);
    return status;
}

void bn_evaluator_clear(bn_evaluator *evaluator)
{
    bn_backend *be = evaluator->backend;
    if (be) {
        bn_tape_free(evaluator->tape);
        be->release(be, &evaluator->arena);
        be->release(be, &evaluator->tokens);
    }
    *evaluator = (bn_evaluator){0};
}

bn_status bn_evaluator_run(bn_evaluator *evaluator, const int32_t *tokens, const int32_t *labels,
                           double *loss)
{
    bn_backend *be = evaluator->backend;
    const bn_run run = {0};
    BN_TRY(be->upload(be, &evaluator->ids, tokens));
    BN_TRY(be->upload(be, &evaluator->labels, labels));
    BN_TRY(bn_tape_forward(evaluator->tape, &run));
    return bn_backend_get_scalar(be, bn_tape_tensor(evaluator->tape, evaluator->loss), loss);
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
                        int64_t batch, int64_t time, int64_t max_batches, bn_score *out)
{
    bn_status status = BN_OK;
    bn_evaluator evaluator;
    bn_eval_batches batches;
    bn_eval_count count;
    const size_t n = (size_t)(batch * time);
    *out = (bn_score){0};
    BN_TRY(bn_eval_batches_init(&batches, span, tokenizer, time, batch, max_batches));
    BN_TRY(bn_evaluator_init(model, batch, time, &evaluator));
    int32_t *tokens = malloc(2 * n * sizeof *tokens);
    if (!tokens) {
        status = bn_error_nomem("a batch", 2 * n * sizeof *tokens);
        goto out;
    }
    while (bn_eval_batches_next(&batches, tokens, tokens + n, &count)) {
        double loss;
        BN_TRY_OUT(bn_evaluator_run(&evaluator, tokens, tokens + n, &loss));
        out->nats += loss * (double)count.labels;
        out->labels += count.labels;
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
