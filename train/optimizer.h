/* optimizer.h - AdamW over the flat role blocks of a parameter set.
 *
 * The moments m and v are one block each, laid out like the parameters
 * (param_set.h), so an update is one flat loop on the device. The gradient norm
 * stays there too: bn_optimizer_step() queues norm, clipping and update, and
 * bn_optimizer_norm() reads it back when somebody wants to see it.
 */
#ifndef BN_TRAIN_OPTIMIZER_H
#define BN_TRAIN_OPTIMIZER_H

#include "backend/backend.h"
#include "config/config.h"
#include "tensor/param_set.h"

typedef struct bn_optimizer {
    bn_backend *backend;        /* borrowed */
    const bn_param_set *params; /* borrowed */
    bn_buffer m, v;             /* train_bytes each, zero at the start */
    bn_buffer norm_memory;
    bn_tensor values, grads, m_flat, v_flat; /* whole blocks */
    bn_tensor norm;                          /* [1], norm of the last step's gradient */
    double beta1, beta2, eps, clip;
    int64_t step; /* updates made so far */
} bn_optimizer;

/* Bytes of device memory the moments take. */
size_t bn_optimizer_bytes(const bn_param_set *params);

/* `values` and `grads` are the blocks that `params` is bound to. *out need not
 * be initialised; on failure it is {0}. */
bn_status bn_optimizer_init(bn_optimizer *out, const bn_config *config, bn_backend *backend,
                            const bn_param_set *params, const bn_buffer *values,
                            const bn_buffer *grads) BN_MUST_CHECK;
void bn_optimizer_clear(bn_optimizer *optimizer); /* {0} is fine */

bn_status bn_optimizer_zero_grad(bn_optimizer *optimizer) BN_MUST_CHECK;

/* One update from the gradients as they are; the norm is taken over all of
 * them. Allocates nothing and does not wait for the device. */
bn_status bn_optimizer_step(bn_optimizer *optimizer, double lr, double weight_decay) BN_MUST_CHECK;

/* Norm of the gradient of the last step before clipping; waits. */
bn_status bn_optimizer_norm(bn_optimizer *optimizer, double *norm) BN_MUST_CHECK;

/* First and second moment of one trained parameter, in the shape of its value. */
bn_tensor bn_optimizer_m(const bn_optimizer *optimizer, const bn_param *param);
bn_tensor bn_optimizer_v(const bn_optimizer *optimizer, const bn_param *param);

#endif
