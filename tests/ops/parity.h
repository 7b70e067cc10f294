/* parity.h - any backend against the float32 reference: one case of op_cases.h,
 * forward and every set of gradients, stored and added; BITLINEAR with all
 * precisions of the backward pass. Memory is read through
 * the backend, so it may be a device's. Fails the running test with the op, the
 * element and both values. */
#ifndef BN_TESTS_OPS_PARITY_H
#define BN_TESTS_OPS_PARITY_H

#include "ops/op_cases.h"

/* Largest |x - ref| / (|ref| + mean|ref| + what is added to), per op: the other terms because
 * a sum of products may cancel. 0 = the same bits. ATTENTION has attention_bound.h instead. */
typedef struct parity_limits {
    double forward, backward;
} parity_limits;

/* The limits for the cases of op_cases.h. */
extern const parity_limits parity_table[BN_OP_COUNT];

/* `label` names the backend in messages. What the backend says it does not have must be
 * refused. Returns how many comparisons were made. */
int parity_case(const op_case *k, bn_backend *backend, bn_backend *reference, const char *label,
                const parity_limits limits[BN_OP_COUNT]);

/* A step per group of activations, which not every backend has. */
static inline bool parity_step_groups(const op_case *k)
{
    return k->spec.op == BN_OP_BITLINEAR && k->spec.params.weight.act_group > 0;
}

/* The backend refuses the case with a message that has `text`. */
void parity_refused(const op_case *k, bn_backend *backend, const char *text);

/* norm, adamw and sgd (with and without clipping), scale; muon and adamw8bit
 * where there are. */
void parity_routines(bn_backend *backend, bn_backend *reference, const char *label);

#endif
