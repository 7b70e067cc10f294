/* classifier.h - a small multi-layer perceptron of BitLinear layers.
 *
 * For small classifiers and tests: x [N, sizes[0]] real; per hidden layer
 * RMSNorm, BitLinear with bias, activation; then RMSNorm and a BitLinear to
 * the logits [N, sizes[n-1]]. Parameters are "layers.0.norm.weight",
 * "layers.0.linear.weight", "layers.0.linear.bias", ...
 */
#ifndef BN_MODEL_CLASSIFIER_H
#define BN_MODEL_CLASSIFIER_H

#include "layers/layers.h"

typedef struct bn_classifier {
    bn_backend *backend; /* borrowed */
    int n_layers;
    bn_activation activation;
    bn_norm_layer *norms;
    bn_linear_layer *linears;
    bn_param_set params;
    bn_buffer values, grads;
} bn_classifier;

/* `sizes` holds n_layers + 1 widths, input first. `spec` NULL: a float MLP.
 * Has memory and random weights (normal, standard deviation 1/sqrt(in)). */
bn_status bn_classifier_new(bn_backend *backend, const int64_t *sizes, int n_layers,
                            bn_activation activation, const bn_quant_spec *spec, uint64_t seed,
                            bn_classifier **out) BN_MUST_CHECK;
void bn_classifier_free(bn_classifier *classifier); /* NULL is fine */

/* x [N, sizes[0]] -> logits [N, sizes[n_layers]] */
bn_value bn_classifier_forward(const bn_classifier *classifier, bn_graph *g, bn_value x);

#endif
