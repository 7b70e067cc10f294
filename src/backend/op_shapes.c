/* Shape inference of every op: operands checked, results described. */
#include "backend/op.h"

#include "base/checked.h"

typedef bn_status (*infer_fn)(bn_op_call *call, bn_dtype real);

static bn_status mismatch(const bn_op_call *c, const char *rule)
{
    char text[3][96];
    for (int i = 0; i < 3; i++)
        bn_tensor_shape_text(&c->in[i], text[i], sizeof text[i]);
    return bn_error(BN_FAIL, "%s: %s (operands %s %s, %s %s, %s %s)", bn_op_table[c->op].name, rule,
                    bn_dtype_name(c->in[0].dtype), text[0], bn_dtype_name(c->in[1].dtype), text[1],
                    bn_dtype_name(c->in[2].dtype), text[2]);
}

#define NEED(condition, rule)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return mismatch(c, rule);                                                              \
    } while (0)

static bool is(const bn_tensor *t, bn_dtype dtype, int ndim)
{
    return t->dtype == dtype && t->ndim == ndim;
}

static bool present(const bn_tensor *t)
{
    return bn_tensor_present(t);
}

/* `t` with another dtype or last dimension. */
static bn_tensor with(bn_tensor t, bn_dtype dtype, int64_t cols)
{
    t.buffer = NULL;
    t.offset = 0;
    t.dtype = dtype;
    t.shape[t.ndim - 1] = cols;
    return t;
}

static bn_tensor like(const bn_tensor *t)
{
    return with(*t, t->dtype, bn_tensor_cols(t));
}

bn_tensor bn_weight_scale_shape(bn_dtype real, int64_t out, int64_t in, int64_t group_size)
{
    if (group_size == BN_PER_TENSOR)
        return bn_tensor_1d(real, 1);
    if (group_size == BN_PER_ROW)
        return bn_tensor_2d(real, out, 1);
    return bn_tensor_2d(real, out, bn_ceil_div(in, group_size));
}

static bool group_ok(int64_t group_size, int64_t in)
{
    return group_size == BN_PER_TENSOR || group_size == BN_PER_ROW ||
           (group_size >= 1 && group_size <= in);
}

static bn_status infer_embedding(bn_op_call *c, bn_dtype real)
{
    NEED(c->in[0].dtype == BN_I32 && present(&c->in[0]) && c->in[0].ndim < BN_MAX_DIMS,
         "ids must be int32");
    NEED(is(&c->in[1], real, 2), "weight must be real [vocab, hidden]");
    c->out[0] = like(&c->in[0]);
    c->out[0].dtype = real;
    c->out[0].shape[c->out[0].ndim++] = c->in[1].shape[1];
    return BN_OK;
}

static bn_status infer_linear(bn_op_call *c, bn_dtype real)
{
    NEED(present(&c->in[0]) && c->in[0].dtype == real, "x must be real");
    NEED(is(&c->in[1], real, 2) && c->in[1].shape[1] == bn_tensor_cols(&c->in[0]),
         "weight must be real [out, last dimension of x]");
    NEED(!present(&c->in[2]) || (is(&c->in[2], real, 1) && c->in[2].shape[0] == c->in[1].shape[0]),
         "bias must be real [out]");
    c->out[0] = with(c->in[0], real, c->in[1].shape[0]);
    return BN_OK;
}

static bn_status infer_matmul(bn_op_call *c, bn_dtype real)
{
    NEED(is(&c->in[0], real, 2) && is(&c->in[1], real, 2) && c->in[0].shape[1] == c->in[1].shape[0],
         "operands must be real [M, K] and [K, N]");
    c->out[0] = bn_tensor_2d(real, c->in[0].shape[0], c->in[1].shape[1]);
    return BN_OK;
}

static bn_status infer_act_fake_quant(bn_op_call *c, bn_dtype real)
{
    NEED(present(&c->in[0]) && c->in[0].dtype == real, "x must be real");
    NEED(c->params->act.bits == 8 || c->params->act.bits == 4, "bits must be 8 or 4");
    NEED(group_ok(c->params->act.group_size, bn_tensor_cols(&c->in[0])),
         "group size must be in 1..last dimension of x");
    c->out[0] = like(&c->in[0]);
    return BN_OK;
}

static bn_status infer_act_quant(bn_op_call *c, bn_dtype real)
{
    const int64_t rows = bn_tensor_rows(&c->in[0]), cols = bn_tensor_cols(&c->in[0]);
    BN_TRY(infer_act_fake_quant(c, real));
    c->out[0].dtype = BN_I8;
    c->out[1] = c->params->act.group_size == BN_PER_ROW
                    ? bn_tensor_1d(real, rows)
                    : bn_weight_scale_shape(real, rows, cols, c->params->act.group_size);
    return BN_OK;
}

static bn_status infer_weight_quant(bn_op_call *c, bn_dtype real)
{
    const bn_tensor *w = &c->in[0];
    NEED(is(w, real, 2), "weight must be real [out, in]");
    NEED(group_ok(c->params->weight.group_size, w->shape[1]), "group size must be in 1..in");
    c->out[0] = with(*w, bn_grid_dtype(c->params->weight.grid), w->shape[1]);
    c->out[1] = bn_weight_scale_shape(real, w->shape[0], w->shape[1], c->params->weight.group_size);
    NEED(present(&c->in[1]) == (c->params->weight.rule == BN_SCALE_LEARNED),
         "a learned scale, and no other, is an operand");
    NEED(!present(&c->in[1]) ||
             (c->in[1].dtype == real && bn_tensor_same_shape(&c->in[1], &c->out[1])),
         "the scale does not fit the group size");
    return BN_OK;
}

static bn_status infer_weight_estimator(bn_op_call *c, bn_dtype real)
{
    const bn_tensor *w = &c->in[1];
    NEED(is(w, real, 2) && bn_tensor_same_shape(&c->in[0], w),
         "weight must be real, of the shape of its codes");
    const bn_tensor want =
        bn_weight_scale_shape(real, w->shape[0], w->shape[1], c->params->weight.group_size);
    NEED(c->in[2].dtype == real && bn_tensor_same_shape(&c->in[2], &want),
         "the scale does not fit the group size");
    c->out[0] = like(&c->in[0]);
    return BN_OK;
}

/* One step per token or tensor; or per group, which is a group of the weight
 * where that has several in a row. */
static bn_status check_step(bn_op_call *c, bn_dtype real)
{
    const bn_tensor *step = &c->in[1];
    const int64_t rows = bn_tensor_rows(&c->in[0]), in = bn_tensor_cols(&c->in[0]);
    const int64_t G = c->params->weight.act_group, weight = c->params->weight.group_size;
    if (G == 0) {
        NEED(is(step, real, 1) && (step->shape[0] == 1 || step->shape[0] == rows),
             "the activation step must be real [rows] or [1]");
        return BN_OK;
    }
    NEED(G >= 1 && G <= in && (weight <= 0 || weight == in || weight == G),
         "the groups of the activation must be those of the weight");
    const bn_tensor want = bn_weight_scale_shape(real, rows, in, G);
    NEED(step->dtype == real && bn_tensor_same_shape(step, &want),
         "the activation step must be real [rows, groups]");
    return BN_OK;
}

static bn_status infer_bitlinear(bn_op_call *c, bn_dtype real)
{
    const bn_tensor *x = &c->in[0], *w = &c->in[2], *scale = &c->in[3];
    NEED(present(x) && x->dtype == BN_I8, "x must be int8 codes");
    NEED((is(w, BN_T2, 2) || is(w, BN_T2_LANES, 2) || is(w, BN_I8, 2)) &&
             w->shape[1] == bn_tensor_cols(x),
         "weight must be codes [out, last dimension of x]");
    NEED(w->shape[1] <= (w->dtype == BN_I8 ? BN_MAX_IN_INT8 : BN_MAX_IN_INT32),
         "a row is too long for the int32 sum");
    NEED(group_ok(c->params->weight.group_size, w->shape[1]), "group size must be in 1..in");
    BN_TRY(check_step(c, real));
    bn_tensor want =
        bn_weight_scale_shape(real, w->shape[0], w->shape[1], c->params->weight.group_size);
    NEED(scale->dtype == real && bn_tensor_same_shape(scale, &want),
         "the weight scale does not fit the group size");
    NEED(!present(&c->in[4]) || (is(&c->in[4], real, 1) && c->in[4].shape[0] == w->shape[0]),
         "bias must be real [out]");
    c->out[0] = with(*x, real, w->shape[0]);
    return BN_OK;
}

static bn_status infer_unary(bn_op_call *c, bn_dtype real)
{
    NEED(present(&c->in[0]) && c->in[0].dtype == real, "x must be real");
    c->out[0] = like(&c->in[0]);
    return BN_OK;
}

static bn_status infer_weight_fake_quant(bn_op_call *c, bn_dtype real)
{
    NEED(is(&c->in[0], real, 2), "weight must be real [out, in]");
    NEED(group_ok(c->params->weight.group_size, c->in[0].shape[1]), "group size must be in 1..in");
    NEED(c->params->weight.rule != BN_SCALE_LEARNED, "the scale cannot be learned");
    return infer_unary(c, real);
}

static bn_status infer_binary(bn_op_call *c, bn_dtype real)
{
    NEED(present(&c->in[0]) && c->in[0].dtype == real && c->in[1].dtype == real &&
             bn_tensor_same_shape(&c->in[0], &c->in[1]),
         "operands must be real and of one shape");
    c->out[0] = like(&c->in[0]);
    return BN_OK;
}

static bn_status infer_rmsnorm(bn_op_call *c, bn_dtype real)
{
    NEED(present(&c->in[0]) && c->in[0].dtype == real, "x must be real");
    NEED(is(&c->in[1], real, 1) && c->in[1].shape[0] == bn_tensor_cols(&c->in[0]),
         "weight must be real [last dimension of x]");
    c->out[0] = like(&c->in[0]);
    c->out[1] = bn_tensor_1d(real, bn_tensor_rows(&c->in[0]));
    return BN_OK;
}

static bn_status infer_rope(bn_op_call *c, bn_dtype real)
{
    int64_t hd = c->params->rope.head_dim;
    NEED(is(&c->in[0], real, 3), "x must be real [batch, time, heads*head_dim]");
    NEED(hd >= 2 && hd % 2 == 0 && c->in[0].shape[2] % hd == 0,
         "the last dimension must be a multiple of an even head_dim");
    NEED(is(&c->in[1], real, 2) && c->in[1].shape[1] == hd &&
             c->in[1].shape[0] >= c->in[0].shape[1],
         "table must be real [positions >= time, head_dim]");
    c->out[0] = like(&c->in[0]);
    return BN_OK;
}

/* Shared by both attentions: q [B,T,H*hd], k and v [B,T,KV*hd]. */
static bn_status check_heads(bn_op_call *c, bn_dtype real)
{
    int64_t heads = c->params->attention.heads, kv = c->params->attention.kv_heads;
    const bn_tensor *q = &c->in[0], *k = &c->in[1], *v = &c->in[2];
    NEED(is(q, real, 3) && is(k, real, 3) && is(v, real, 3), "q, k, v must be real and 3-D");
    NEED(heads >= 1 && kv >= 1 && heads % kv == 0 && q->shape[2] % heads == 0,
         "heads must divide q's width and kv_heads must divide heads");
    NEED(k->shape[0] == q->shape[0] && k->shape[1] == q->shape[1] &&
             k->shape[2] == q->shape[2] / heads * kv && bn_tensor_same_shape(k, v),
         "k and v must be [batch, time, kv_heads*head_dim] of q");
    return BN_OK;
}

static bn_status infer_attention(bn_op_call *c, bn_dtype real)
{
    BN_TRY(check_heads(c, real));
    c->out[0] = like(&c->in[0]);
    c->out[1] =
        bn_tensor_3d(real, c->in[0].shape[0], c->params->attention.heads, c->in[0].shape[1]);
    return BN_OK;
}

static bn_status infer_kv_attention(bn_op_call *c, bn_dtype real)
{
    BN_TRY(check_heads(c, real));
    const bn_kv_codes codes = bn_op_kv_codes(c);
    NEED(codes.bits == 0 || bn_kv_bits_ok(codes.bits), "cache_bits must be 8, 4 or 0");
    const bn_dtype dtype = codes.bits ? BN_U8 : real;
    const int64_t cols = codes.bits ? bn_kv_row_bytes(&codes) : c->in[1].shape[2];
    for (int i = 3; i <= 4; i++)
        NEED((is(&c->in[i], dtype, 2) || is(&c->in[i], dtype, 3)) &&
                 bn_tensor_cols(&c->in[i]) == cols,
             "caches must be real [sequences, positions, kv_heads*head_dim], or u8 rows of codes");
    NEED(c->in[0].shape[0] <= (c->in[3].ndim == 3 ? c->in[3].shape[0] : 1),
         "the caches must have a sequence for each of the batch");
    NEED(bn_tensor_same_shape(&c->in[3], &c->in[4]), "both caches must have one shape");
    c->out[0] = like(&c->in[0]);
    return BN_OK;
}

bn_status bn_op_check_cache(const bn_op_call *c)
{
    const int64_t B = c->in[0].shape[0], T = c->in[0].shape[1];
    const int64_t P = bn_cache_positions(&c->in[3]), S = bn_tensor_rows(&c->in[3]) / P;
    if (c->run->sequence < 0 || c->run->sequence > S - B)
        return bn_error(BN_FAIL, "kv_attention: sequences %lld to %lld, the cache has %lld",
                        (long long)c->run->sequence, (long long)(c->run->sequence + B - 1),
                        (long long)S);
    for (int64_t b = 0; b < B; b++) {
        const int64_t first = bn_run_position(c->run, b);
        if (first < 0 || first > P - T)
            return bn_error(BN_FAIL, "kv_attention: positions %lld to %lld, the cache has %lld",
                            (long long)first, (long long)(first + T - 1), (long long)P);
    }
    return BN_OK;
}

static bn_status infer_cross_entropy(bn_op_call *c, bn_dtype real)
{
    NEED(present(&c->in[0]) && c->in[0].dtype == real, "logits must be real");
    NEED(c->in[1].dtype == BN_I32 && bn_tensor_numel(&c->in[1]) == bn_tensor_rows(&c->in[0]),
         "labels must be int32, one per row");
    c->out[0] = bn_tensor_1d(real, 1);
    c->out[1] = bn_tensor_1d(real, bn_tensor_rows(&c->in[0]));
    return BN_OK;
}

static bn_status infer_linear_cross_entropy(bn_op_call *c, bn_dtype real)
{
    NEED(present(&c->in[0]) && c->in[0].dtype == real, "x must be real");
    NEED(is(&c->in[1], real, 2) && c->in[1].shape[1] == bn_tensor_cols(&c->in[0]),
         "weight must be real [vocab, last dimension of x]");
    NEED(c->in[2].dtype == BN_I32 && bn_tensor_numel(&c->in[2]) == bn_tensor_rows(&c->in[0]),
         "labels must be int32, one per row");
    NEED(c->params->cross_entropy.chunk_rows >= 1, "chunk_rows must be >= 1");
    c->out[0] = bn_tensor_1d(real, 1);
    c->out[1] = bn_tensor_1d(real, bn_tensor_rows(&c->in[0]));
    return BN_OK;
}

static bn_status infer_distance(bn_op_call *c, bn_dtype real)
{
    NEED(present(&c->in[0]) && c->in[0].dtype == real && c->in[1].dtype == real &&
             bn_tensor_same_shape(&c->in[0], &c->in[1]),
         "operands must be real, of one shape");
    c->out[0] = bn_tensor_1d(real, 1);
    return BN_OK;
}

static bn_status infer_distill_kl(bn_op_call *c, bn_dtype real)
{
    BN_TRY(infer_distance(c, real));
    NEED(c->params->distill.temperature > 0, "the temperature must be > 0");
    c->out[1] = bn_tensor_2d(real, 2, bn_tensor_rows(&c->in[0]));
    return BN_OK;
}

static bn_status infer_relation_kl(bn_op_call *c, bn_dtype real)
{
    const bn_tensor *x = &c->in[0], *y = &c->in[1];
    const int64_t heads = c->params->distill.heads;
    NEED(is(x, real, 3) && is(y, real, 3) && x->shape[0] == y->shape[0] &&
             x->shape[1] == y->shape[1],
         "x and target must be real [batch, time, width] of one batch and time");
    NEED(heads >= 1 && x->shape[2] % heads == 0 && y->shape[2] % heads == 0,
         "heads must divide both widths");
    c->out[0] = bn_tensor_1d(real, 1);
    return BN_OK;
}

static bn_status infer_dropout(bn_op_call *c, bn_dtype real)
{
    double p = c->params->dropout.p;
    if (!(p >= 0 && p < 1))
        return bn_error(BN_FAIL, "dropout: p is %g, expected 0 <= p < 1", p);
    return infer_unary(c, real);
}

static bn_status infer_reduce(bn_op_call *c, bn_dtype real)
{
    NEED(present(&c->in[0]) && c->in[0].dtype == real, "x must be real");
    c->out[0] = bn_tensor_1d(real, 1);
    return BN_OK;
}

static bn_status infer_reshape(bn_op_call *c, bn_dtype real)
{
    (void)real;
    NEED(present(&c->in[0]) && c->in[0].dtype != BN_T2, "x must not be packed");
    c->out[0] = bn_tensor_of(c->in[0].dtype, c->params->reshape.ndim, c->params->reshape.shape);
    BN_TRY(bn_tensor_check(&c->out[0], "reshape: the new shape"));
    NEED(bn_tensor_numel(&c->out[0]) == bn_tensor_numel(&c->in[0]),
         "the new shape must hold the same number of elements");
    return BN_OK;
}

static bool dim_ok(const bn_tensor *t, int dim)
{
    return dim >= 0 && dim < t->ndim;
}

static bn_status infer_transpose(bn_op_call *c, bn_dtype real)
{
    int a = c->params->transpose.dim0, b = c->params->transpose.dim1;
    NEED(c->in[0].dtype == real && dim_ok(&c->in[0], a) && dim_ok(&c->in[0], b),
         "x must be real and both dimensions in range");
    c->out[0] = like(&c->in[0]);
    c->out[0].shape[a] = c->in[0].shape[b];
    c->out[0].shape[b] = c->in[0].shape[a];
    return BN_OK;
}

static bn_status infer_slice(bn_op_call *c, bn_dtype real)
{
    int dim = c->params->slice.dim;
    int64_t start = c->params->slice.start, length = c->params->slice.length;
    NEED(c->in[0].dtype == real && dim_ok(&c->in[0], dim), "x must be real, dimension in range");
    NEED(start >= 0 && length >= 1 && start <= c->in[0].shape[dim] - length,
         "start and length must lie inside the dimension");
    c->out[0] = like(&c->in[0]);
    c->out[0].shape[dim] = length;
    return BN_OK;
}

static const infer_fn infer_table[BN_OP_COUNT] = {
    [BN_OP_EMBEDDING] = infer_embedding,
    [BN_OP_LINEAR] = infer_linear,
    [BN_OP_MATMUL] = infer_matmul,
    [BN_OP_ACT_QUANT] = infer_act_quant,
    [BN_OP_WEIGHT_QUANT] = infer_weight_quant,
    [BN_OP_WEIGHT_ESTIMATOR] = infer_weight_estimator,
    [BN_OP_BITLINEAR] = infer_bitlinear,
    [BN_OP_ACT_FAKE_QUANT] = infer_act_fake_quant,
    [BN_OP_WEIGHT_FAKE_QUANT] = infer_weight_fake_quant,
    [BN_OP_ADD] = infer_binary,
    [BN_OP_MUL] = infer_binary,
    [BN_OP_SCALE] = infer_unary,
    [BN_OP_SILU] = infer_unary,
    [BN_OP_RELU2] = infer_unary,
    [BN_OP_GLU] = infer_binary,
    [BN_OP_RMSNORM] = infer_rmsnorm,
    [BN_OP_ROPE] = infer_rope,
    [BN_OP_HADAMARD] = infer_unary,
    [BN_OP_ATTENTION] = infer_attention,
    [BN_OP_KV_ATTENTION] = infer_kv_attention,
    [BN_OP_SOFTMAX] = infer_unary,
    [BN_OP_CROSS_ENTROPY] = infer_cross_entropy,
    [BN_OP_LINEAR_CROSS_ENTROPY] = infer_linear_cross_entropy,
    [BN_OP_DISTILL_KL] = infer_distill_kl,
    [BN_OP_RELATION_KL] = infer_relation_kl,
    [BN_OP_DISTANCE] = infer_distance,
    [BN_OP_DROPOUT] = infer_dropout,
    [BN_OP_SUM] = infer_reduce,
    [BN_OP_MEAN] = infer_reduce,
    [BN_OP_RESHAPE] = infer_reshape,
    [BN_OP_TRANSPOSE] = infer_transpose,
    [BN_OP_SLICE] = infer_slice,
};

bn_status bn_op_infer(bn_op_call *call, bn_dtype real)
{
    for (int i = 0; i < BN_MAX_OUT; i++)
        call->out[i] = (bn_tensor){0};
    BN_TRY(infer_table[call->op](call, real));
    for (int i = 0; i < bn_op_table[call->op].n_out; i++)
        BN_TRY(bn_tensor_check(&call->out[i], bn_op_table[call->op].name));
    return BN_OK;
}
