#include "train/graphs.h"

static bn_status record(const bn_model *model, const bn_tensor *ids, const bn_tensor *labels,
                        bool training, bn_tape **out, bn_value *loss)
{
    BN_TRY(bn_tape_new(model->backend, out));
    bn_tape *tape = *out;
    bn_graph graph = {.tape = tape, .dropout = training ? model->dropout : 0.0};
    if (!training)
        bn_tape_no_grad_push(tape);
    *loss = bn_model_loss(model, &graph, bn_tape_input(tape, ids), bn_tape_input(tape, labels));
    bn_tape_retain(tape, *loss);
    if (!training)
        bn_tape_no_grad_pop(tape);
    return bn_tape_plan(tape, training ? *loss : BN_NO_VALUE);
}

bn_status bn_train_graphs_record(const bn_model *model, const bn_tensor *ids,
                                 const bn_tensor *labels, bn_train_graphs *out)
{
    bn_status status = BN_OK;
    *out = (bn_train_graphs){0};
    BN_TRY_OUT(record(model, ids, labels, true, &out->train, &out->train_loss));
    BN_TRY_OUT(record(model, ids, labels, false, &out->evaluate, &out->evaluate_loss));
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

bn_status bn_train_graphs_bind(bn_train_graphs *graphs, const bn_buffer *arena)
{
    BN_TRY(bn_tape_bind(graphs->train, arena));
    return bn_tape_bind(graphs->evaluate, arena);
}
