#include "train/graphs.h"

static bn_status record(const bn_model *model, const bn_distill *distill, const bn_tensor *input,
                        const bn_tensor *labels, bool training, bn_tape **out, bn_value *loss,
                        bn_value *logits)
{
    const bool classifier = bn_model_is_classifier(model);
    BN_TRY(bn_tape_new(model->backend, out));
    bn_tape *tape = *out;
    bn_graph graph = {.tape = tape,
                      .dropout = training ? model->dropout : 0.0,
                      .adapter_dropout = training ? model->adapter_dropout : 0.0};
    if (!training)
        bn_tape_no_grad_push(tape);
    bn_value x = bn_tape_input(tape, input), y = bn_tape_input(tape, labels);
    *loss = training && distill ? bn_model_distill_loss(model, distill, &graph, x, y)
                                : bn_model_score(model, &graph, x, y, logits);
    bn_tape_retain(tape, *loss);
    if (classifier && !training)
        bn_tape_retain(tape, *logits);
    if (!training)
        bn_tape_no_grad_pop(tape);
    return bn_tape_plan(tape, training ? *loss : BN_NO_VALUE);
}

bn_status bn_train_graphs_record(const bn_model *model, const bn_distill *distill,
                                 const bn_tensor *input, const bn_tensor *labels,
                                 bn_train_graphs *out)
{
    bn_status status = BN_OK;
    bn_value ignored;
    *out = (bn_train_graphs){0};
    BN_TRY_OUT(
        record(model, distill, input, labels, true, &out->train, &out->train_loss, &ignored));
    BN_TRY_OUT(record(model, NULL, input, labels, false, &out->evaluate, &out->evaluate_loss,
                      &out->evaluate_logits));
out:
    if (status != BN_OK)
        bn_train_graphs_clear(out);
    return status;
}

void bn_train_graphs_clear(bn_train_graphs *graphs)
{
    bn_tape_free(graphs->train);
    bn_tape_free(graphs->evaluate);
    *graphs = (bn_train_graphs){0};
}

size_t bn_train_graphs_arena(const bn_train_graphs *graphs)
{
    size_t train = bn_tape_memory_of(graphs->train).arena;
    size_t evaluate = bn_tape_memory_of(graphs->evaluate).arena;
    return train > evaluate ? train : evaluate;
}

size_t bn_train_graphs_peak(const bn_train_graphs *graphs)
{
    size_t train = bn_tape_memory_of(graphs->train).peak;
    size_t evaluate = bn_tape_memory_of(graphs->evaluate).peak;
    return train > evaluate ? train : evaluate;
}

bn_status bn_train_graphs_bind(bn_train_graphs *graphs, const bn_buffer *arena)
{
    BN_TRY(bn_tape_bind(graphs->train, arena));
    return bn_tape_bind(graphs->evaluate, arena);
}
