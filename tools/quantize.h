/* quantize.h - a float model made ternary without training: the layers one
 * after the other, each calibrated on what the quantized ones before it give
 * (methods and formulas: quant/ptq.h). The result is a training checkpoint of
 * step 0, whose shadow weights quantize to what was chosen: it is fine-tuned
 * like any other and packed by bitnet-export.
 */
#ifndef BN_TOOLS_QUANTIZE_H
#define BN_TOOLS_QUANTIZE_H

#include "model/load.h"

typedef enum bn_quantize_method {
    BN_QUANTIZE_RTN,        /* round to nearest: the float weights as they are */
    BN_QUANTIZE_CALIBRATED, /* scales by least error */
    BN_QUANTIZE_GPTQ,
    BN_QUANTIZE_METHODS,
} bn_quantize_method;

const char *bn_quantize_method_name(bn_quantize_method method);

typedef struct bn_quantize_request {
    const char *output, *producer;
    bn_quantize_method method;
    const char *calibration; /* text or table; NULL: what the model was trained on */
    int64_t tokens;          /* of it, evenly spaced (examples of an MLP) */
    double damping;          /* added to H's diagonal, in parts of its mean */
    const char *data;        /* to measure loss on; NULL: what training held out */
    int64_t max_batches;     /* of that; 0: all */
    const bn_strings *set;   /* configuration settings of the new model */
} bn_quantize_request;

typedef struct bn_quantized_layer {
    char name[BN_LAYER_NAME_MAX];
    double error;     /* bn_ptq_error() */
    double condition; /* of the damped H; 0 where it is not factored */
} bn_quantized_layer;

typedef struct bn_quantize_report {
    double loss_before, loss_after; /* nats per label */
    int64_t calibrated_on;          /* tokens or examples; 0 without calibration */
    bn_quantized_layer *layers;
    int count;
} bn_quantize_report;

/* `source` is a float model, opened with pack = false. BN_BAD_DATA if it is
 * quantized, BN_BAD_CONFIG for a scheme other than ternary absmean, BN_FAIL with
 * the condition number where H is not positive definite even with the damping.
 * OUTPUT is written as a whole or not at all. *report need not be initialised;
 * on failure it is cleared. */
bn_status bn_quantize_run(const bn_quantize_request *request, const bn_loaded *source,
                          bn_quantize_report *report) BN_MUST_CHECK;
void bn_quantize_report_clear(bn_quantize_report *report); /* {0} is fine */

#endif
