/* sensitivity.h - what the quantization of each layer alone does to the loss,
 * and which layers to quantize for a given size.
 *
 * One layer at a time of a model with shadow weights is switched, and the loss
 * on a text (of an MLP on a table) measured again: where the model is quantized
 * the layer is left float, where it is float (weight_bits none) the layer is
 * made ternary as the section of its config says. The order in which layers are
 * chosen under a budget is greedy by the change of the loss per bit, as in
 * HAWQ's and many others' mixed precision; changes do not add up exactly, so
 * the loss of the choice as a whole is measured too.
 */
#ifndef BN_TOOLS_SENSITIVITY_H
#define BN_TOOLS_SENSITIVITY_H

#include "base/json.h"
#include "model/load.h"

typedef struct bn_layer_sensitivity {
    const char *name; /* the model's */
    int64_t weights;
    double bits;   /* per weight where quantized, scales included: base3x5 */
    double loss;   /* of the model with this layer alone switched */
    double change; /* loss - the model's own */
    bool chosen;   /* switched under the budget */
} bn_layer_sensitivity;

typedef struct bn_sensitivity {
    bool to_float; /* the model is quantized, switched layers are float */
    double loss;   /* of the model as it is */
    int64_t labels;
    bn_layer_sensitivity *layers; /* the largest change of the loss first */
    int count;
    /* bn_sensitivity_choose(): */
    double bits, bits_proposed; /* per weight of these layers, as it is and as proposed */
    double loss_proposed;       /* with all chosen layers switched */
} bn_sensitivity;

/* Which text to measure on: as bn_measure_open() and bn_measure_score(). */
typedef struct bn_sensitivity_data {
    const char *path; /* text or table */
    int64_t max_batches;
} bn_sensitivity_data;

/* `loaded` is a checkpoint opened without `run`; its layers are switched and
 * put back. BN_USAGE for a packed file, and where there is no layer to switch. */
bn_status bn_sensitivity_measure(bn_loaded *loaded, const bn_sensitivity_data *data,
                                 bn_sensitivity *out) BN_MUST_CHECK;
void bn_sensitivity_clear(bn_sensitivity *s); /* {0} is fine */

/* Chooses layers so that their weights take at most `budget` bits on average (a
 * float weight takes 32), and measures that. BN_USAGE where none can. */
bn_status bn_sensitivity_choose(bn_sensitivity *s, bn_loaded *loaded,
                                const bn_sensitivity_data *data, double budget) BN_MUST_CHECK;

/* The choice as JSON to paste into a config, {"quantization": {"rules": [...]}},
 * the config's own rules behind the new ones. The caller frees. */
bn_status bn_sensitivity_rules(const bn_sensitivity *s, const bn_config *config,
                               char **json) BN_MUST_CHECK;

#endif
