/* calibration.h - what the layers of a model receive from a calibration text. */
#ifndef BN_TOOLS_CALIBRATION_H
#define BN_TOOLS_CALIBRATION_H

#include "tools/sample.h"

typedef struct bn_calibration {
    const bn_model *model; /* borrowed */
    const bn_sample *sample;
    bn_tape *tape;
    bn_buffer arena, memory;
    bn_tensor input;
    const bn_linear_layer *wanted;
    bn_value x;  /* input of `wanted` */
    int sharing; /* layers with this input: `wanted` and those after it */
} bn_calibration;

/* Records the model as it is now. `wanted` is one of its layers. *out need not
 * be initialised; on failure it is cleared. */
bn_status bn_calibration_init(const bn_model *model, const bn_sample *sample,
                              const bn_linear_layer *wanted, bn_calibration *out) BN_MUST_CHECK;
void bn_calibration_clear(bn_calibration *c); /* {0} is fine */

/* h [in, in], float64 in host memory: mean of x x^T over the sample, x the
 * inputs of the wanted layer before they are quantized. */
bn_status bn_calibration_hessian(bn_calibration *c, const bn_tensor *h) BN_MUST_CHECK;

#endif
