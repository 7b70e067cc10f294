#include "autograd/ops.h"

static bn_value record(bn_tape *t, bn_op op, const bn_op_params *params, int n_in,
                       const bn_value *in)
{
    bn_value out[BN_MAX_OUT];
    return bn_tape_record(t, op, params, n_in, in, out);
}

bn_value bn_embedding(bn_tape *t, bn_value ids, bn_value weight)
{
    return record(t, BN_OP_EMBEDDING, NULL, 2, (bn_value[]){ids, weight});
}

bn_value bn_linear(bn_tape *t, bn_value x, bn_value weight, bn_value bias)
{
    return record(t, BN_OP_LINEAR, NULL, 3, (bn_value[]){x, weight, bias});
}

bn_value bn_matmul(bn_tape *t, bn_value a, bn_value b)
{
    return record(t, BN_OP_MATMUL, NULL, 2, (bn_value[]){a, b});
}

static bn_quantized quantize(bn_tape *t, bn_op op, const bn_op_params *params, bn_value x)
{
    bn_value out[BN_MAX_OUT];
    bn_tape_record(t, op, params, 1, &x, out);
    return (bn_quantized){.codes = out[0], .scale = out[1]};
}

bn_quantized bn_act_quant(bn_tape *t, bn_value x, const bn_act_params *params)
{
    return quantize(t, BN_OP_ACT_QUANT, &(bn_op_params){.act = *params}, x);
}

bn_quantized bn_weight_quant(bn_tape *t, bn_value weight, bn_value scale,
                             const bn_weight_params *params)
{
    const bn_op_params p = {.weight = *params};
    bn_value out[BN_MAX_OUT];
    bn_tape_record(t, BN_OP_WEIGHT_QUANT, &p, 2, (bn_value[]){weight, scale}, out);
    bn_quantized q = {.codes = out[0], .scale = out[1]};
    if (params->estimator != BN_ESTIMATOR_IDENTITY || scale != BN_NO_VALUE)
        q.codes = record(t, BN_OP_WEIGHT_ESTIMATOR, &p, 3,
                         (bn_value[]){q.codes, weight, scale == BN_NO_VALUE ? q.scale : scale});
    return q;
}

bn_value bn_bitlinear(bn_tape *t, bn_quantized x, bn_quantized weight,
                      const bn_weight_params *params, bn_value bias)
{
    return record(t, BN_OP_BITLINEAR, &(bn_op_params){.weight = *params}, 5,
                  (bn_value[]){x.codes, x.scale, weight.codes, weight.scale, bias});
}

bn_value bn_act_fake_quant(bn_tape *t, bn_value x, const bn_act_params *params)
{
    return record(t, BN_OP_ACT_FAKE_QUANT, &(bn_op_params){.act = *params}, 1, &x);
}

bn_value bn_weight_fake_quant(bn_tape *t, bn_value weight, const bn_weight_params *params)
{
    return record(t, BN_OP_WEIGHT_FAKE_QUANT, &(bn_op_params){.weight = *params}, 1, &weight);
}

bn_value bn_add(bn_tape *t, bn_value a, bn_value b)
{
    return record(t, BN_OP_ADD, NULL, 2, (bn_value[]){a, b});
}

bn_value bn_mul(bn_tape *t, bn_value a, bn_value b)
{
    return record(t, BN_OP_MUL, NULL, 2, (bn_value[]){a, b});
}

bn_value bn_scale(bn_tape *t, bn_value x, double factor)
{
    return record(t, BN_OP_SCALE, &(bn_op_params){.scale = {factor}}, 1, &x);
}

bn_value bn_silu(bn_tape *t, bn_value x)
{
    return record(t, BN_OP_SILU, NULL, 1, &x);
}

bn_value bn_relu2(bn_tape *t, bn_value x)
{
    return record(t, BN_OP_RELU2, NULL, 1, &x);
}

bn_value bn_glu(bn_tape *t, bn_value gate, bn_value up, bn_activation activation)
{
    return record(t, BN_OP_GLU, &(bn_op_params){.glu = {activation}}, 2, (bn_value[]){gate, up});
}

bn_value bn_rmsnorm(bn_tape *t, bn_value x, bn_value weight, double eps)
{
    return record(t, BN_OP_RMSNORM, &(bn_op_params){.rmsnorm = {eps}}, 2, (bn_value[]){x, weight});
}

bn_value bn_rope(bn_tape *t, bn_value x, bn_value table, int64_t head_dim)
{
    return record(t, BN_OP_ROPE, &(bn_op_params){.rope = {head_dim}}, 2, (bn_value[]){x, table});
}

bn_value bn_hadamard(bn_tape *t, bn_value x)
{
    return record(t, BN_OP_HADAMARD, NULL, 1, &x);
}

bn_value bn_attention(bn_tape *t, bn_value q, bn_value k, bn_value v, int64_t heads,
                      int64_t kv_heads)
{
    return record(t, BN_OP_ATTENTION, &(bn_op_params){.attention = {heads, kv_heads, 0}}, 3,
                  (bn_value[]){q, k, v});
}

bn_value bn_kv_attention(bn_tape *t, bn_value q, bn_value k, bn_value v, bn_value k_cache,
                         bn_value v_cache, int64_t heads, int64_t kv_heads, int cache_bits)
{
    return record(t, BN_OP_KV_ATTENTION,
                  &(bn_op_params){.attention = {heads, kv_heads, cache_bits}}, 5,
                  (bn_value[]){q, k, v, k_cache, v_cache});
}

bn_value bn_softmax(bn_tape *t, bn_value x)
{
    return record(t, BN_OP_SOFTMAX, NULL, 1, &x);
}

bn_value bn_cross_entropy(bn_tape *t, bn_value logits, bn_value labels, int32_t ignore_index)
{
    bn_op_params params = {.cross_entropy = {.ignore_index = ignore_index}};
    return record(t, BN_OP_CROSS_ENTROPY, &params, 2, (bn_value[]){logits, labels});
}

bn_value bn_linear_cross_entropy(bn_tape *t, bn_value x, bn_value weight, bn_value labels,
                                 int32_t ignore_index, int64_t chunk_rows)
{
    bn_op_params params = {.cross_entropy = {ignore_index, chunk_rows}};
    return record(t, BN_OP_LINEAR_CROSS_ENTROPY, &params, 3, (bn_value[]){x, weight, labels});
}

bn_value bn_distill_kl(bn_tape *t, bn_value logits, bn_value target, double temperature,
                       double weight)
{
    bn_op_params params = {.distill = {.temperature = temperature, .weight = weight}};
    return record(t, BN_OP_DISTILL_KL, &params, 2, (bn_value[]){logits, target});
}

bn_value bn_relation_kl(bn_tape *t, bn_value x, bn_value target, int64_t heads, double weight)
{
    bn_op_params params = {.distill = {.weight = weight, .heads = heads}};
    return record(t, BN_OP_RELATION_KL, &params, 2, (bn_value[]){x, target});
}

bn_value bn_distance(bn_tape *t, bn_value x, bn_value target, double weight)
{
    bn_op_params params = {.distill = {.weight = weight}};
    return record(t, BN_OP_DISTANCE, &params, 2, (bn_value[]){x, target});
}

bn_value bn_dropout(bn_tape *t, bn_value x, double p)
{
    if (p == 0)
        return x;
    bn_op_params params = {.dropout = {.p = p, .site = bn_tape_next_site(t)}};
    return record(t, BN_OP_DROPOUT, &params, 1, &x);
}

bn_value bn_sum(bn_tape *t, bn_value x)
{
    return record(t, BN_OP_SUM, NULL, 1, &x);
}

bn_value bn_mean(bn_tape *t, bn_value x)
{
    return record(t, BN_OP_MEAN, NULL, 1, &x);
}

bn_value bn_reshape(bn_tape *t, bn_value x, int ndim, const int64_t *shape)
{
    bn_op_params params = {.reshape = {.ndim = ndim}};
    for (int i = 0; i < ndim && i < BN_MAX_DIMS; i++)
        params.reshape.shape[i] = shape[i];
    return record(t, BN_OP_RESHAPE, &params, 1, &x);
}

bn_value bn_transpose(bn_tape *t, bn_value x, int dim0, int dim1)
{
    return record(t, BN_OP_TRANSPOSE, &(bn_op_params){.transpose = {dim0, dim1}}, 1, &x);
}

bn_value bn_slice(bn_tape *t, bn_value x, int dim, int64_t start, int64_t length)
{
    return record(t, BN_OP_SLICE, &(bn_op_params){.slice = {dim, start, length}}, 1, &x);
}
