/* param_set.h - the named parameters of a model.
 *
 * Parameters are laid out in one flat block per role (values, gradients,
 * moments), all with the same offsets, so the optimizer is a flat loop and a
 * checkpoint a short list. Hidden matrices come first, then what else decays,
 * then the rest, so that each kind of update is one range; frozen ones last:
 * blocks of gradients and moments end where these begin. Every parameter starts at a
 * multiple of BN_ALIGN bytes; the padding between is zero and stays zero.
 */
#ifndef BN_TENSOR_PARAM_SET_H
#define BN_TENSOR_PARAM_SET_H

#include "tensor/tensor.h"

/* What a parameter is; quantization is decided by kind, never by name. */
typedef enum bn_param_kind {
    BN_PARAM_LINEAR,    /* weight [out,in] of a Linear or BitLinear */
    BN_PARAM_EMBEDDING, /* [vocab, hidden] */
    BN_PARAM_NORM,      /* [C] */
    BN_PARAM_BIAS,      /* [out] */
    BN_PARAM_SCALE,     /* learned scale of a quantized weight, [1], [out,1] or [out,groups] */
} bn_param_kind;

enum { BN_PARAM_NAME_MAX = 128 };

typedef struct bn_param {
    char name[BN_PARAM_NAME_MAX]; /* Hugging Face's, "model.layers.0..." */
    bn_param_kind kind;
    bool hidden;     /* weight [out,in] inside the network, neither embedding nor head; it decays */
    bool decay;      /* weight decay applies (matrices) */
    bool trainable;  /* gets a gradient; false: frozen */
    size_t offset;   /* bytes from the start of each role block */
    bn_tensor value; /* has memory after bn_param_set_bind() */
    bn_tensor grad;  /* absent memory when frozen, or bound without gradients */
} bn_param;

typedef struct bn_param_set {
    bn_dtype real;
    bn_param **items; /* addresses stay valid; order of bn_param_set_add */
    int count, capacity;
    int *slots; /* finds items by name */
    /* After bn_param_set_layout: */
    size_t block_bytes;  /* of all values */
    size_t train_bytes;  /* the part of them, from the start, that is trained */
    size_t decay_bytes;  /* the part of that, from the start, that decays */
    size_t hidden_bytes; /* the part of that, from the start, of hidden matrices */
} bn_param_set;

void bn_param_set_init(bn_param_set *set, bn_dtype real);
void bn_param_set_clear(bn_param_set *set);

/* Adds a parameter of the set's real type; decay is set for 2-D
 * shapes other than scales. BN_FAIL for a duplicate or over-long name. */
bn_status bn_param_set_add(bn_param_set *set, const char *name, bn_param_kind kind, int ndim,
                           const int64_t *shape, bn_param **out) BN_MUST_CHECK;

/* Fixes offsets; no bn_param_set_add() afterwards. Again after `trainable` of
 * some has changed, before bn_param_set_bind(). */
bn_status bn_param_set_layout(bn_param_set *set) BN_MUST_CHECK;

/* Points every value into `values` (block_bytes) and every gradient into `grads`
 * (train_bytes; NULL: no gradients). */
void bn_param_set_bind(bn_param_set *set, const bn_buffer *values, const bn_buffer *grads);

bn_param *bn_param_set_find(const bn_param_set *set, const char *name); /* NULL: none */

/* Number of parameter elements (without padding): of all, and of what is trained. */
int64_t bn_param_set_numel(const bn_param_set *set);
int64_t bn_param_set_trainable(const bn_param_set *set);

/* What is trained of a role block in `buffer`, as one flat real tensor. */
bn_tensor bn_param_set_flat(const bn_param_set *set, const bn_buffer *buffer);

#endif
