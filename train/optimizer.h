/* optimizer.h - AdamW, Muon or SGD over the role blocks of a parameter set.
 *
 * The moments m and v are one block each, laid out like the parameters
 * (param_set.h), so an update is one flat loop on the device. Under Muon the
 * hidden matrices are updated one by one and have no v: its block begins where
 * they end. SGD has no v at all. AdamW in 8 bits updates every parameter by
 * itself; matrices of at least BN_CODED_ELEMENTS have codes and block maxima for
 * moments (quant/dynamic8.h), the rest reals, all one after the other. The
 * gradient norm stays on the device too: bn_optimizer_step() queues norm,
 * clipping and update, and bn_optimizer_norm() reads it back when somebody wants
 * to see it. Formulas are in backend/backend.h.
 */
#ifndef BN_TRAIN_OPTIMIZER_H
#define BN_TRAIN_OPTIMIZER_H

#include "backend/backend.h"
#include "config/config.h"
#include "quant/dynamic8.h"
#include "tensor/param_set.h"

enum { BN_CODED_ELEMENTS = 4096 };

/* A moment of one parameter, absent where its update keeps none or it is frozen. */
typedef struct bn_moment {
    bn_tensor values; /* reals, or u8 codes, in the shape of the parameter */
    bn_tensor absmax; /* of every block of codes, f32; absent beside reals */
} bn_moment;

/* First and second. */
typedef struct bn_moments {
    bn_moment m, v;
} bn_moments;

/* What one call updates: a parameter or a range of the blocks. */
typedef struct bn_operands {
    bn_tensor value, grad;
    bn_moments moments;
    int64_t decaying; /* elements that decay, from the start */
} bn_operands;

typedef struct bn_optimizer {
    bn_backend *backend;        /* borrowed */
    const bn_param_set *params; /* borrowed */
    const bn_config *config;    /* borrowed */
    bn_buffer m, v;             /* zero at the start */
    bn_moments *moments;        /* of each of params->items, in m and v */
    bn_dynamic8 *maps;          /* of m and v in 8 bits; NULL: there are none */
    bn_buffer scratch_memory, norm_memory;
    bn_operands flat; /* what is updated as one; empty: nothing is */
    bn_tensor all_grads;
    bn_tensor norm; /* [1], norm of the last step's gradient */
    int64_t step;   /* updates made so far */
} bn_optimizer;

/* Bytes of device memory. */
typedef struct bn_optimizer_memory {
    size_t moments, scratch;
} bn_optimizer_memory;

bn_optimizer_memory bn_optimizer_bytes(const bn_config *config, const bn_param_set *params);

/* `params` is bound to its blocks, of which `values` and `grads` are two. *out
 * need not be initialised; on failure it is {0}. BN_BAD_CONFIG where the backend
 * lacks the configured update. */
bn_status bn_optimizer_init(bn_optimizer *out, const bn_config *config, bn_backend *backend,
                            const bn_param_set *params, const bn_buffer *values,
                            const bn_buffer *grads) BN_MUST_CHECK;
void bn_optimizer_clear(bn_optimizer *optimizer); /* {0} is fine */

bn_status bn_optimizer_zero_grad(bn_optimizer *optimizer) BN_MUST_CHECK;

/* One update from the gradients as they are; the norm is taken over all of
 * them. `lr` is the rate; Muon's is the same share of muon_learning_rate.
 * `decay` is the share of the configured weight decays that applies. Allocates
 * nothing and does not wait for the device. */
bn_status bn_optimizer_step(bn_optimizer *optimizer, double lr, double decay) BN_MUST_CHECK;

/* Norm of the gradient of the last step before clipping; waits. */
bn_status bn_optimizer_norm(bn_optimizer *optimizer, double *norm) BN_MUST_CHECK;

#endif
