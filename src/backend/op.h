/* op.h - what an operation is: its row in ops.def, its parameters, and the
 * call record that every kernel of every backend receives. */
#ifndef BN_BACKEND_OP_H
#define BN_BACKEND_OP_H

#include "tensor/kv_codes.h"
#include "tensor/scheme.h"
#include "tensor/tensor.h"

enum { BN_MAX_IN = 5, BN_MAX_OUT = 2 };

/* Operand masks of ops.def. */
enum {
    BN_I0 = 1 << 0,
    BN_I1 = 1 << 1,
    BN_I2 = 1 << 2,
    BN_I3 = 1 << 3,
    BN_I4 = 1 << 4,
    BN_O0 = 1 << 8,
    BN_O1 = 1 << 9,
};

/* Traits of ops.def. */
enum { BN_PASS = 1 << 0, BN_VIEW = 1 << 1, BN_NOGRAD = 1 << 2 };

typedef enum bn_op {
#define BN_OP(ID, ...) BN_OP_##ID,
#include "backend/ops.def"
#undef BN_OP
    BN_OP_COUNT,
} bn_op;

typedef enum bn_grad_contract {
    BN_GRAD_EXACT,
    BN_GRAD_SURROGATE,
    BN_GRAD_NONE,
} bn_grad_contract;

typedef struct bn_op_info {
    const char *name;
    int n_in, n_out;
    unsigned grads;  /* inputs that can receive a gradient */
    unsigned keeps;  /* operands that backward reads */
    unsigned traits; /* BN_PASS, BN_VIEW, BN_NOGRAD */
    bn_grad_contract contract;
    double warn, fail;
} bn_op_info;

extern const bn_op_info bn_op_table[BN_OP_COUNT];

typedef enum bn_activation {
    BN_ACT_RELU2, /* max(x,0)^2 */
    BN_ACT_SILU,  /* x sigmoid(x) */
} bn_activation;

/* How BITLINEAR's backward multiplies (docs/numerics.md). */
typedef enum bn_backward {
    BN_BACKWARD_FLOAT32,
    BN_BACKWARD_BF16,
    BN_BACKWARD_INT16,
} bn_backward;

/* Of ACT_QUANT, ACT_FAKE_QUANT. */
typedef struct bn_act_params {
    int bits;           /* 8 or 4; codes are int8 either way */
    int64_t group_size; /* one step: BN_PER_TENSOR, BN_PER_ROW (a token), or per G elements */
} bn_act_params;

/* Of WEIGHT_QUANT, WEIGHT_FAKE_QUANT, WEIGHT_ESTIMATOR, BITLINEAR. All zero:
 * ternary, one scale per tensor, the mean, straight through. */
typedef struct bn_weight_params {
    int64_t group_size;   /* BN_PER_TENSOR, BN_PER_ROW or G */
    bn_backward backward; /* BITLINEAR */
    bn_grid grid;
    bn_scale_rule rule; /* BN_SCALE_LEARNED: WEIGHT_QUANT has input 1 */
    bn_estimator estimator;
    double ewgs_delta;
    int64_t act_group; /* BITLINEAR: elements per step of a row of x; 0: not in groups */
} bn_weight_params;

/* The granularity of a BITLINEAR's activation, whose steps are `step`: BN_PER_TENSOR, BN_PER_ROW
 * or elements per step of a row. */
static inline int64_t bn_step_group(const bn_weight_params *params, const bn_tensor *step)
{
    if (params->act_group)
        return params->act_group;
    return bn_tensor_numel(step) == 1 ? BN_PER_TENSOR : BN_PER_ROW;
}

/* Parameters of an op, one member per family. */
typedef union bn_op_params {
    bn_act_params act;
    bn_weight_params weight;
    struct {
        double factor;
    } scale;
    struct {
        bn_activation activation;
    } glu;
    struct {
        double eps;
    } rmsnorm;
    struct {
        int64_t head_dim;
    } rope;
    struct {
        int64_t heads, kv_heads;
        int cache_bits; /* KV_ATTENTION: 8 or 4: caches of codes; 0: of reals */
    } attention;        /* ATTENTION, KV_ATTENTION */
    struct {
        int32_t ignore_index; /* rows with this label count for nothing */
        int64_t chunk_rows;   /* LINEAR_CROSS_ENTROPY: rows of logits at once */
    } cross_entropy;
    struct {
        double temperature; /* > 0; DISTILL_KL */
        double weight;      /* on the loss */
        int64_t heads;      /* RELATION_KL */
    } distill;              /* DISTILL_KL, RELATION_KL, DISTANCE */
    struct {
        double p;      /* probability that an element is dropped, 0 <= p < 1 */
        uint32_t site; /* tells the dropouts of one graph apart */
    } dropout;
    struct {
        int ndim;
        int64_t shape[BN_MAX_DIMS];
    } reshape;
    struct {
        int dim0, dim1;
    } transpose;
    struct {
        int dim;
        int64_t start, length;
    } slice;
} bn_op_params;

/* What changes from run to run while the graph stays the same. */
typedef struct bn_run {
    uint64_t seed;            /* of the run's random numbers */
    uint64_t step;            /* counter: a different one gives different numbers */
    int64_t position;         /* of the first row in its sequence (KV cache, RoPE) */
    int64_t sequence;         /* of the KV cache that the first row belongs to */
    const int64_t *positions; /* one per sequence of the batch instead of `position`, or NULL */
    double softness;          /* of fake quantizers: y = q + softness (x - q) */
} bn_run;

static inline int64_t bn_run_position(const bn_run *run, int64_t batch)
{
    return run->positions ? run->positions[batch] : run->position;
}

/* One kernel call. Absent operands have ndim 0. Inputs and params are const;
 * forward writes out[]. Backward reads what the op's row says it keeps (other
 * operands have a shape but no memory), reads dout (gradient of out[0]) and,
 * for every present din[i], stores the gradient of in[i], or adds to it where
 * accumulate[i]. An absent din[i] is not wanted. All gradients are real. */
typedef struct bn_op_call {
    bn_op op;
    const bn_op_params *params;
    const bn_run *run;
    bn_tensor in[BN_MAX_IN];
    bn_tensor out[BN_MAX_OUT];
    bn_tensor dout;
    bn_tensor din[BN_MAX_IN];
    bool accumulate[BN_MAX_IN];
    bn_tensor scratch; /* u8, of the size the backend asked for, or absent */
} bn_op_call;

/* The rows of a KV_ATTENTION call in its caches: BN_FAIL where a sequence or a
 * position is outside them. */
bn_status bn_op_check_cache(const bn_op_call *call) BN_MUST_CHECK;

/* How the rows of a KV_ATTENTION call's caches lie, where they hold codes. */
static inline bn_kv_codes bn_op_kv_codes(const bn_op_call *c)
{
    return (bn_kv_codes){.bits = c->params->attention.cache_bits,
                         .heads = c->params->attention.kv_heads,
                         .head_dim = c->in[0].shape[2] / c->params->attention.heads};
}

/* Positions of a KV cache: its rows per sequence. */
static inline int64_t bn_cache_positions(const bn_tensor *cache)
{
    return cache->shape[cache->ndim - 2];
}

/* Shape inference: checks call->in and call->params, fills dtype and shape of
 * call->out (real = the backend's float type). BN_FAIL with the shapes in the
 * text when operands do not fit. Pure metadata: no memory is touched. */
bn_status bn_op_infer(bn_op_call *call, bn_dtype real) BN_MUST_CHECK;

/* Elements that HADAMARD transforms together: the largest power of two that
 * divides the width of a row, at most BN_HADAMARD_MAX. */
enum { BN_HADAMARD_MAX = 4096 };
static inline int64_t bn_hadamard_block(int64_t cols)
{
    const int64_t power = cols & -cols;
    return power < BN_HADAMARD_MAX ? power : BN_HADAMARD_MAX;
}

/* Shape of the scales of a weight [out,in] at a granularity. */
bn_tensor bn_weight_scale_shape(bn_dtype real, int64_t out, int64_t in, int64_t group_size);

#endif
