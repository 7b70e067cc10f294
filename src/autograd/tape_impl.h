/* tape_impl.h - the tape's own data, shared by tape.c and plan.c only. */
#ifndef BN_AUTOGRAD_TAPE_IMPL_H
#define BN_AUTOGRAD_TAPE_IMPL_H

#include "autograd/tape.h"

typedef struct tape_value {
    bn_tensor tensor; /* memory after bind; leaves have it from the start */
    bn_tensor grad;   /* leaf gradient from outside, else placed by the plan */
    int producer;     /* node, -1 for leaves */
    bool is_leaf;
    bool requires_grad;
    bool retained;
    /* Set by the plan: */
    bool has_grad;      /* backward computes a gradient for it */
    bn_value memory_of; /* whose memory it shares (views), else itself */
    bn_value grad_of;   /* whose gradient buffer it shares, else itself */
} tape_value;

/* One block of the arena with its lifetime in ticks: forward of node i is tick
 * i, its backward is tick 2n-1-i. */
typedef struct tape_block {
    size_t bytes, offset;
    int first, last;
    enum { BLOCK_VALUE, BLOCK_GRAD, BLOCK_SCRATCH } role;
    int owner; /* value, or node * 2 + backward for scratch */
} tape_block;

typedef struct tape_calls {
    bn_op_call forward, backward;
} tape_calls;

struct bn_tape {
    bn_backend *backend;
    tape_value *values;
    int n_values, cap_values;
    bn_tape_node *nodes;
    int n_nodes, cap_nodes;
    int no_grad_depth;
    bool retain_all;
    bool planned, bound;
    uint32_t next_site; /* dropouts recorded so far */
    bn_status status;   /* first error while recording, with its text */
    char error[512];

    bn_value target;
    uint8_t *shares_dout; /* per node: inputs whose gradient buffer is dout's */
    uint8_t *accumulates; /* per node: inputs that add to their gradient */
    tape_block *blocks;
    int n_blocks, cap_blocks;
    tape_calls *calls; /* per node, ready to run after bind */
    bn_tape_memory memory;

    bn_tape_hook hook;
    void *hook_arg;
};

/* Takes the kernel call of a node from the recorded shapes, without memory. */
bn_op_call tape_shape_call(const bn_tape *tape, int node);

/* Does backward compute a gradient for input i of this (differentiated) node? */
bool tape_wants_grad(const bn_tape *tape, const bn_tape_node *node, int i);

#endif
