/* adapter.h - low-rank adapters over a frozen base model (layers/lora.h).
 *
 * An adapter is a parameter set of its own with memory of its own: A and B for
 * each linear layer that config->adapter.target_modules covers. The base is only
 * read, so several adapters lie over one base: bn_adapter_use() says which one graphs
 * recorded afterwards have, bn_adapter_add() that they have another one besides.
 *
 * A base may be float or packed; what is to be trained through must not be
 * arranged (bn_model_arrange).
 */
#ifndef BN_MODEL_ADAPTER_H
#define BN_MODEL_ADAPTER_H

#include "base/sha256.h"
#include "checkpoint/checkpoint.h"
#include "layers/lora.h"
#include "model/model.h"

typedef struct bn_adapter {
    bn_model *model;  /* borrowed: the base */
    bn_lora *layers;  /* one for each of model->linears */
    bn_config config; /* whose adapter section they follow */
    bn_param_set params;
    bn_buffer values, grads;
} bn_adapter;

/* Names, shapes and scales, as config->adapter says. The base's parameters become
 * frozen. BN_BAD_CONFIG: no layer is covered. A head that is no BitLinear is never
 * adapted. The base must outlive the adapter. */
bn_status bn_adapter_new(const bn_config *config, bn_model *model, bn_adapter **out) BN_MUST_CHECK;
void bn_adapter_free(bn_adapter *adapter); /* not while in use; NULL is fine */

bn_status bn_adapter_alloc(bn_adapter *adapter, bool with_grads) BN_MUST_CHECK;

/* Q(W) of a packed layer, W of a float one, [out,in] on the host. */
bn_status bn_model_layer_weight(const bn_model *model, const bn_linear_layer *layer,
                                float *out) BN_MUST_CHECK;

/* As PEFT begins: A uniform within 1/sqrt(in) (Kaiming with a = sqrt 5), B zero,
 * so that the adapted model is the base. One random stream per parameter. */
bn_status bn_adapter_init(bn_adapter *adapter, uint64_t seed) BN_MUST_CHECK;

/* After bn_adapter_init(): B A of each layer, times its scale, is the best
 * approximation of rank r (by SVD; Li et al., LoftQ, arXiv 2310.08659) of W - Q(W),
 * with the float weights W of the checkpoint that the base was packed from. What r
 * has beyond the rank of W - Q(W), in a float layer all, stays as it was.
 * BN_BAD_CONFIG: `checkpoint` is no checkpoint. */
bn_status bn_adapter_init_residual(bn_adapter *adapter, const char *checkpoint) BN_MUST_CHECK;

/* Graphs of the model that are recorded from now on have this adapter; NULL: none. */
void bn_adapter_use(bn_model *model, bn_adapter *adapter);

/* And this one too, on top of those in use: a layer gets the sum of their outputs. One
 * that is in use already stays as it is. */
void bn_adapter_add(bn_model *model, bn_adapter *adapter);

/* Multiplies what the adapter adds; for graphs recorded afterwards. */
void bn_adapter_weigh(bn_adapter *adapter, double factor);

/* SHA-256 of what a base computes with: names, shapes, codes with their scales, and
 * the float parameters that are left. A checkpoint and the float32 packed file that
 * was made of it have the same. The model is packed and not arranged. */
bn_status bn_model_identity(const bn_model *model, uint8_t digest[BN_SHA256_BYTES]) BN_MUST_CHECK;

/* ---- in files ----
 * A checkpoint of adapters holds their parameters, a config whose adapter section
 * they follow, and extra/base, the identity of their base; while they are trained
 * also moments and the rest of a run. PEFT's folders: peft.h. */
#define BN_ADAPTER_BASE "base"

/* *known: the checkpoint is one of adapters. */
bn_status bn_adapter_base_of(bn_checkpoint *checkpoint, uint8_t digest[BN_SHA256_BYTES],
                             bool *known) BN_MUST_CHECK;

/* BN_BAD_DATA unless the two are the same; `path` is the base's. */
bn_status bn_adapter_expect_base(const uint8_t wanted[BN_SHA256_BYTES],
                                 const uint8_t found[BN_SHA256_BYTES],
                                 const char *path) BN_MUST_CHECK;

/* What adapters are opened over; all borrowed. */
typedef struct bn_adapter_base {
    bn_model *model;
    const bn_config *config;
    const char *path; /* for messages */
    uint8_t id[BN_SHA256_BYTES];
} bn_adapter_base;

/* Adapters to be used, not trained: from an output folder (its best checkpoint), a
 * checkpoint, or a folder of PEFT. BN_BAD_DATA: damaged, or of another base.
 * On failure *out is NULL. */
bn_status bn_adapter_open(const char *path, const bn_adapter_base *base,
                          bn_adapter **out) BN_MUST_CHECK;

/* Adapters alone, without moments, as a checkpoint of step 0. */
bn_status bn_adapter_save(const bn_adapter *adapter, const char *path, const bn_adapter_base *base,
                          const char *tokenizer, const char *producer) BN_MUST_CHECK;

#endif
