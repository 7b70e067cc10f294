/* graphs.h - the two graphs of a run: training and evaluation.
 *
 * Both take an input (bn_model_input()) and labels and end in the mean loss
 * over labels that count; with a teacher the training graph adds its losses. The training graph has
 * dropout and a backward pass, the evaluation graph neither. They never run at once and share one
 * arena.
 */
#ifndef BN_TRAIN_GRAPHS_H
#define BN_TRAIN_GRAPHS_H

#include "model/distill.h"

typedef struct bn_train_graphs {
    bn_tape *train, *evaluate;
    bn_value train_loss, evaluate_loss;
    bn_value evaluate_logits; /* of an MLP: readable after a run */
} bn_train_graphs;

/* Records and plans (`distill` NULL: no teacher); nothing is allocated on the device. The model
 * needs bound parameters, but they, `input` and `labels` may be without memory as long as only
 * sizes are asked for. On failure *out is {0}. */
bn_status bn_train_graphs_record(const bn_model *model, const bn_distill *distill,
                                 const bn_tensor *input, const bn_tensor *labels,
                                 bn_train_graphs *out) BN_MUST_CHECK;
void bn_train_graphs_clear(bn_train_graphs *graphs); /* {0} is fine */

/* Bytes of the arena both share. */
size_t bn_train_graphs_arena(const bn_train_graphs *graphs);

/* Most bytes of it that hold something at one moment. */
size_t bn_train_graphs_peak(const bn_train_graphs *graphs);

bn_status bn_train_graphs_bind(bn_train_graphs *graphs, const bn_buffer *arena) BN_MUST_CHECK;

#endif
