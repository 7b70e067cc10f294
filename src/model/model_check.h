/* model_check.h - the gradient of a whole quantized model, proven in double.
 *
 * The straight-through gradient of a quantized model is the exact gradient of
 * the same model with every quantizer's residual q(x) - x frozen. The check
 *   1. runs the quantized graph forward and backward on the double reference,
 *   2. records the frozen graph, runs it: its loss must be the same, and every
 *      gradient element the same (two different routes to one number),
 *   3. compares elements of every parameter tensor's gradient with central
 *      differences of the frozen graph's loss.
 */
#ifndef BN_MODEL_MODEL_CHECK_H
#define BN_MODEL_MODEL_CHECK_H

#include "model/model.h"

/* With adapter.base set the model is a random one, frozen, and the gradients are
 * those of adapters over it. */
typedef struct bn_model_check {
    double loss_difference;        /* |quantized - frozen| loss */
    double route_error;            /* worst gradient difference between the two graphs */
    double numeric_error;          /* worst difference to central differences */
    char worst[BN_PARAM_NAME_MAX]; /* parameter of numeric_error */
    int64_t worst_index;
    int64_t elements; /* compared with central differences */
    int64_t sites;    /* quantizers frozen */
} bn_model_check;

/* Errors are |a-n| / max(1e-3 * largest |gradient| of the tensor, |a|, |n|):
 * relative, with a floor for elements that are nearly zero within their
 * tensor. `config` is used as it is (the caller shrinks it); batch x time
 * random tokens; up to `per_tensor` elements of each tensor. BN_FAIL if it
 * cannot run; whether the errors are small enough is the caller's verdict. */
bn_status bn_model_check_gradients(const bn_config *config, int64_t vocab, int64_t batch,
                                   int64_t time, int64_t per_tensor, uint64_t seed,
                                   bn_model_check *out) BN_MUST_CHECK;

#endif
