/* classifier.h - the layers of the MLP kind of model.
 *
 * x [N, input_size] real; per hidden layer RMSNorm, Linear or BitLinear with
 * bias, activation, dropout; then RMSNorm and a last such layer to the logits
 * [N, num_labels]. Parameters are "layers.0.norm.weight",
 * "layers.0.linear.weight", "layers.0.linear.bias", ... Part of a bn_model,
 * which owns parameters and memory.
 */
#ifndef BN_MODEL_CLASSIFIER_H
#define BN_MODEL_CLASSIFIER_H

#include "config/config.h"
#include "layers/layers.h"

typedef struct bn_classifier {
    int n_layers; /* hidden ones and the last; 0: not an MLP */
    int64_t inputs, classes;
    bn_activation activation;
    bn_norm_layer *norms;
    bn_linear_layer *linears;
} bn_classifier;

/* *out need not be initialised; on failure bn_classifier_clear() is due. */
bn_status bn_classifier_init(const bn_config *config, bn_classifier *out) BN_MUST_CHECK;
void bn_classifier_clear(bn_classifier *classifier); /* {0} is fine */

bn_status bn_classifier_register(bn_classifier *classifier, bn_param_set *set,
                                 bool packed) BN_MUST_CHECK;

/* x [N, inputs] -> logits [N, classes] */
bn_value bn_classifier_forward(const bn_classifier *classifier, bn_graph *g, bn_value x);

/* How many of logits [rows, classes] have their label's class as the largest,
 * or as the first of several equal ones. */
int64_t bn_classifier_correct(const float *logits, const int32_t *labels, int64_t rows,
                              int64_t classes);

#endif
