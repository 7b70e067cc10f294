/* tape.h - reverse-mode automatic differentiation: record, plan, run.
 *
 * A graph is recorded once: each bn_*() builder appends one operation to an
 * array and returns the handle of its result. bn_tape_plan() then knows every
 * lifetime, forward and backward, and gives each intermediate value and
 * gradient its place in one arena: what backward does not need is reused at
 * once, a gradient's first writer stores and later ones add, and an op whose
 * gradient passes through unchanged (straight-through quantizers, reshape,
 * residual adds) shares its buffer. After that bn_tape_forward() and
 * bn_tape_backward() only call kernels: a step allocates nothing, and the size
 * of the arena is known without running (--dry-run).
 *
 * Builders never fail visibly: on the first error the tape remembers it,
 * returns BN_NO_VALUE, passes BN_NO_VALUE on silently, and bn_tape_plan()
 * returns the error. Not thread-safe.
 *
 *   bn_value y = bn_linear(t, x, w, BN_NO_VALUE);
 *   bn_value loss = bn_mean(t, bn_relu2(t, y));
 *   BN_TRY(bn_tape_plan(t, loss));
 *   BN_TRY(bn_backend_alloc... bn_tape_bind(t, &arena));
 *   BN_TRY(bn_tape_forward(t, &run));
 *   BN_TRY(bn_tape_backward(t, &run, 1.0));
 */
#ifndef BN_AUTOGRAD_TAPE_H
#define BN_AUTOGRAD_TAPE_H

#include "backend/backend.h"
#include "tensor/param_set.h"

typedef struct bn_tape bn_tape;

/* Index of a value on its tape. */
typedef int32_t bn_value;
enum { BN_NO_VALUE = -1 };

bn_status bn_tape_new(bn_backend *backend, bn_tape **out) BN_MUST_CHECK;
void bn_tape_free(bn_tape *tape);

/* Leaves. The tensor must have memory when the tape runs; a parameter's
 * gradient is added to (the caller zeroes gradients between steps).
 * bn_tape_leaf() is the general form: grad absent = a constant. */
bn_value bn_tape_param(bn_tape *tape, bn_param *param);
bn_value bn_tape_input(bn_tape *tape, const bn_tensor *tensor);
bn_value bn_tape_leaf(bn_tape *tape, const bn_tensor *tensor, const bn_tensor *grad);

/* Scope without gradients: between push and pop recorded results are
 * constants for backward and nothing is kept for it. */
void bn_tape_no_grad_push(bn_tape *tape);
void bn_tape_no_grad_pop(bn_tape *tape);

/* Marks a value to be readable after a run (logits, a loss): its memory is
 * not reused. The plan's target is marked by itself. */
void bn_tape_retain(bn_tape *tape, bn_value value);

/* Keeps every value (tests, residual capture); before bn_tape_plan(). */
void bn_tape_retain_all(bn_tape *tape);

/* Fixes the memory plan. `target`, a [1] real value, is what backward starts
 * from; BN_NO_VALUE plans forward only. Returns the recording's first error. */
bn_status bn_tape_plan(bn_tape *tape, bn_value target) BN_MUST_CHECK;

/* Bytes by role at the plan's fullest moment, and the arena that holds all. */
typedef struct bn_tape_memory {
    size_t arena;        /* bytes bn_tape_bind() needs */
    size_t peak;         /* most bytes live at one moment (arena >= peak) */
    size_t saved_codes;  /* kept for backward: int8 activations and steps */
    size_t saved_packed; /* kept for backward: packed weights and scales */
    size_t saved_float;  /* kept for backward: everything else */
    size_t gradients;    /* largest sum of live activation gradients */
    size_t scratch;      /* largest kernel scratch */
} bn_tape_memory;

bn_tape_memory bn_tape_memory_of(const bn_tape *tape);

/* Gives the plan its memory; `arena` is at least bn_tape_memory.arena bytes
 * and must outlive the tape. Tapes that never run at once may share it. */
bn_status bn_tape_bind(bn_tape *tape, const bn_buffer *arena) BN_MUST_CHECK;

bn_status bn_tape_forward(bn_tape *tape, const bn_run *run) BN_MUST_CHECK;

/* Adds d(target)/d(leaf) * seed to every leaf gradient. The forward pass of
 * the same run must have been the last one. */
bn_status bn_tape_backward(bn_tape *tape, const bn_run *run, double seed) BN_MUST_CHECK;

/* The tensor of a value: shape at once, memory after bn_tape_bind(). */
const bn_tensor *bn_tape_tensor(const bn_tape *tape, bn_value value);

/* First error recorded so far, BN_OK if none. */
bn_status bn_tape_status(const bn_tape *tape);

bn_backend *bn_tape_backend(const bn_tape *tape);

/* General builder: records `op` with up to BN_MAX_IN inputs (BN_NO_VALUE =
 * absent, only for optional operands); results in out[0..n_out-1]. */
bn_value bn_tape_record(bn_tape *tape, bn_op op, const bn_op_params *params, int n_in,
                        const bn_value *in, bn_value out[BN_MAX_OUT]);

/* A number that tells this tape's dropouts apart: 0, 1, 2 ... */
uint32_t bn_tape_next_site(bn_tape *tape);

/* Recorded operations, for reports, gradient checks and profiles. */
typedef struct bn_tape_node {
    bn_op op;
    bn_op_params params;
    int n_in;
    bn_value in[BN_MAX_IN];
    bn_value out[BN_MAX_OUT];
    bool differentiated; /* backward visits it */
} bn_tape_node;

int bn_tape_length(const bn_tape *tape);
const bn_tape_node *bn_tape_node_at(const bn_tape *tape, int index);

/* Called after each kernel of a run with the node's index; for profiles.
 * NULL removes it. */
typedef void (*bn_tape_hook)(void *arg, const bn_tape *tape, int node, bool backward);
void bn_tape_set_hook(bn_tape *tape, bn_tape_hook hook, void *arg);

#endif
