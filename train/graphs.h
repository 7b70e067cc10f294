/* graphs.h - the graphs of a run: training and evaluation.
 *
 * All take an input (bn_model_input()) and labels and end in the mean loss over
 * labels that count; with a teacher training graphs add its losses. Training
 * graphs have dropout and a backward pass; there is one for every strength of
 * quantization that the run comes through (float warm-up, ramp, full). The
 * evaluation graph has neither and always quantizes in full, as the exported
 * model does. No two of them ever run at once; they share one arena.
 */
#ifndef BN_TRAIN_GRAPHS_H
#define BN_TRAIN_GRAPHS_H

#include "model/distill.h"

typedef struct bn_train_graphs {
    bn_tape *train[BN_STRENGTH_COUNT]; /* NULL: not in this run; HARD always is */
    bn_value train_loss[BN_STRENGTH_COUNT];
    bn_tape *evaluate;
    bn_value evaluate_loss;
    bn_value evaluate_logits; /* of an MLP: readable after a run */
} bn_train_graphs;

/* The strength of a training step. */
bn_strength bn_train_strength(const bn_config *config, int64_t step);

/* Records and plans (`distill` NULL: no teacher); nothing is allocated on the
 * device. The model needs bound parameters, but they, `input` and `labels` may be
 * without memory as long as only sizes are asked for. On failure *out is {0}.
 * BN_BAD_CONFIG where the backend has no ramp. */
bn_status bn_train_graphs_record(const bn_config *config, const bn_model *model,
                                 const bn_distill *distill, const bn_tensor *input,
                                 const bn_tensor *labels, bn_train_graphs *out) BN_MUST_CHECK;
void bn_train_graphs_clear(bn_train_graphs *graphs); /* {0} is fine */

/* Bytes of the arena all share. */
size_t bn_train_graphs_arena(const bn_train_graphs *graphs);

/* Most bytes of it that hold something at one moment. */
size_t bn_train_graphs_peak(const bn_train_graphs *graphs);

bn_status bn_train_graphs_bind(bn_train_graphs *graphs, const bn_buffer *arena) BN_MUST_CHECK;

#endif
