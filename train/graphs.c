#include "train/graphs.h"

bn_strength bn_train_strength(const bn_config *config, int64_t step)
{
    const bn_phases phases = bn_config_phases(config);
    if (step < phases.warmup)
        return BN_STRENGTH_NONE;
    return step < phases.warmup + phases.ramp ? BN_STRENGTH_SOFT : BN_STRENGTH_HARD;
}

/* Whether a run may come through this strength. */
static bool occurs(const bn_config *config, bn_strength strength)
{
    const bn_phases phases = bn_config_phases(config);
    return strength == BN_STRENGTH_HARD || (strength == BN_STRENGTH_NONE && phases.warmup > 0) ||
           (strength == BN_STRENGTH_SOFT && phases.ramp > 0);
}

static bn_status record_train(const bn_model *model, const bn_distill *distill,
                              const bn_tensor *input, const bn_tensor *labels, bn_strength strength,
                              bn_tape **out, bn_value *loss)
{
    BN_TRY(bn_tape_new(model->backend, out));
    bn_tape *tape = *out;
    bn_graph graph = {.tape = tape,
                      .strength = strength,
                      .dropout = model->dropout,
                      .adapter_dropout = model->adapter_dropout};
    bn_value x = bn_tape_input(tape, input), y = bn_tape_input(tape, labels);
    *loss = distill ? bn_model_distill_loss(model, distill, &graph, x, y)
                    : bn_model_loss(model, &graph, x, y);
    bn_tape_retain(tape, *loss);
    return bn_tape_plan(tape, *loss);
}

static bn_status record_evaluate(const bn_model *model, const bn_tensor *input,
                                 const bn_tensor *labels, bn_train_graphs *out)
{
    BN_TRY(bn_tape_new(model->backend, &out->evaluate));
    bn_tape *tape = out->evaluate;
    bn_graph graph = {.tape = tape};
    bn_tape_no_grad_push(tape);
    out->evaluate_loss = bn_model_score(model, &graph, bn_tape_input(tape, input),
                                        bn_tape_input(tape, labels), NULL, &out->evaluate_logits);
    bn_tape_retain(tape, out->evaluate_loss);
    if (bn_model_is_classifier(model))
        bn_tape_retain(tape, out->evaluate_logits);
    bn_tape_no_grad_pop(tape);
    return bn_tape_plan(tape, BN_NO_VALUE);
}

bn_status bn_train_graphs_record(const bn_config *config, const bn_model *model,
                                 const bn_distill *distill, const bn_tensor *input,
                                 const bn_tensor *labels, bn_train_graphs *out)
{
    bn_status status = BN_OK;
    *out = (bn_train_graphs){0};
    for (bn_strength s = 0; s < BN_STRENGTH_COUNT; s++)
        if (occurs(config, s))
            BN_TRY_OUT(record_train(model, distill, input, labels, s, &out->train[s],
                                    &out->train_loss[s]));
    BN_TRY_OUT(record_evaluate(model, input, labels, out));
out:
    if (status != BN_OK)
        bn_train_graphs_clear(out);
    return status;
}

void bn_train_graphs_clear(bn_train_graphs *graphs)
{
    for (int s = 0; s < BN_STRENGTH_COUNT; s++)
        bn_tape_free(graphs->train[s]);
    bn_tape_free(graphs->evaluate);
    *graphs = (bn_train_graphs){0};
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t bn_train_graphs_arena(const bn_train_graphs *graphs)
{
    size_t most = bn_tape_memory_of(graphs->evaluate).arena;
    for (int s = 0; s < BN_STRENGTH_COUNT; s++)
        if (graphs->train[s])
            most = larger(most, bn_tape_memory_of(graphs->train[s]).arena);
    return most;
}

size_t bn_train_graphs_peak(const bn_train_graphs *graphs)
{
    size_t most = bn_tape_memory_of(graphs->evaluate).peak;
    for (int s = 0; s < BN_STRENGTH_COUNT; s++)
        if (graphs->train[s])
            most = larger(most, bn_tape_memory_of(graphs->train[s]).peak);
    return most;
}

bn_status bn_train_graphs_bind(bn_train_graphs *graphs, const bn_buffer *arena)
{
    for (int s = 0; s < BN_STRENGTH_COUNT; s++)
        if (graphs->train[s])
            BN_TRY(bn_tape_bind(graphs->train[s], arena));
    return bn_tape_bind(graphs->evaluate, arena);
}
