/* optimizer.h - AdamW or Muon over the role blocks of a parameter set.
 *
 * The moments m and v are one block each, laid out like the parameters
 * (param_set.h), so an update is one flat loop on the device. Under Muon the
 * hidden matrices are updated one by one and have no v: its block begins where
 * they end. The gradient norm stays on the device too: bn_optimizer_step()
 * queues norm, clipping and update, and bn_optimizer_norm() reads it back when
 * somebody wants to see it. Formulas are in backend/backend.h.
 */
#ifndef BN_TRAIN_OPTIMIZER_H
#define BN_TRAIN_OPTIMIZER_H

#include "backend/backend.h"
#include "config/config.h"
#include "tensor/param_set.h"

typedef struct bn_optimizer {
    bn_backend *backend;        /* borrowed */
    const bn_param_set *params; /* borrowed */
    const bn_config *config;    /* borrowed */
    bn_buffer m, v;             /* zero at the start */
    size_t v_from;              /* bytes of a role block that have no v */
    bn_buffer scratch_memory, norm_memory;
    bn_tensor values, grads, m_flat, v_flat; /* what AdamW updates: blocks from v_from on */
    bn_tensor all_grads;
    bn_tensor norm; /* [1], norm of the last step's gradient */
    int64_t step;   /* updates made so far */
} bn_optimizer;

/* Bytes of device memory. */
typedef struct bn_optimizer_memory {
    size_t moments, scratch;
} bn_optimizer_memory;

bn_optimizer_memory bn_optimizer_bytes(const bn_config *config, const bn_param_set *params);

/* `values` and `grads` are the blocks that `params` is bound to. *out need not
 * be initialised; on failure it is {0}. BN_BAD_CONFIG where the backend lacks
 * the configured update. */
bn_status bn_optimizer_init(bn_optimizer *out, const bn_config *config, bn_backend *backend,
                            const bn_param_set *params, const bn_buffer *values,
                            const bn_buffer *grads) BN_MUST_CHECK;
void bn_optimizer_clear(bn_optimizer *optimizer); /* {0} is fine */

bn_status bn_optimizer_zero_grad(bn_optimizer *optimizer) BN_MUST_CHECK;

/* One update from the gradients as they are; the norm is taken over all of
 * them. `lr` is AdamW's rate; Muon's is the same share of muon_learning_rate.
 * `decay` is the share of the configured weight decays that applies. Allocates
 * nothing and does not wait for the device. */
bn_status bn_optimizer_step(bn_optimizer *optimizer, double lr, double decay) BN_MUST_CHECK;

/* Norm of the gradient of the last step before clipping; waits. */
bn_status bn_optimizer_norm(bn_optimizer *optimizer, double *norm) BN_MUST_CHECK;

/* First and second moment of one parameter, in the shape of its value; absent
 * ({0}) where its update keeps none or it is frozen. */
bn_tensor bn_optimizer_m(const bn_optimizer *optimizer, const bn_param *param);
bn_tensor bn_optimizer_v(const bn_optimizer *optimizer, const bn_param *param);

#endif
