/* ops.h - one builder per operation (shapes in backend/ops.def). */
#ifndef BN_AUTOGRAD_OPS_H
#define BN_AUTOGRAD_OPS_H

#include "autograd/tape.h"

/* A quantized activation or weight: integer codes and their scales. */
typedef struct bn_quantized {
    bn_value codes, scale;
} bn_quantized;

bn_value bn_embedding(bn_tape *t, bn_value ids, bn_value weight);
bn_value bn_linear(bn_tape *t, bn_value x, bn_value weight, bn_value bias);
bn_value bn_matmul(bn_tape *t, bn_value a, bn_value b);
bn_quantized bn_act_quant(bn_tape *t, bn_value x, const bn_act_params *params);
/* scale: a parameter where params->rule says that it is learned, else BN_NO_VALUE.
 * With an estimator other than identity or a learned scale the gradient takes the
 * way of WEIGHT_ESTIMATOR. */
bn_quantized bn_weight_quant(bn_tape *t, bn_value weight, bn_value scale,
                             const bn_weight_params *params);
bn_value bn_bitlinear(bn_tape *t, bn_quantized x, bn_quantized weight,
                      const bn_weight_params *params, bn_value bias);
bn_value bn_act_fake_quant(bn_tape *t, bn_value x, const bn_act_params *params);
bn_value bn_weight_fake_quant(bn_tape *t, bn_value weight, const bn_weight_params *params);
bn_value bn_add(bn_tape *t, bn_value a, bn_value b);
bn_value bn_mul(bn_tape *t, bn_value a, bn_value b);
bn_value bn_scale(bn_tape *t, bn_value x, double factor);
bn_value bn_silu(bn_tape *t, bn_value x);
bn_value bn_relu2(bn_tape *t, bn_value x);
bn_value bn_glu(bn_tape *t, bn_value gate, bn_value up, bn_activation activation);
bn_value bn_rmsnorm(bn_tape *t, bn_value x, bn_value weight, double eps);
bn_value bn_rope(bn_tape *t, bn_value x, bn_value table, int64_t head_dim);
bn_value bn_hadamard(bn_tape *t, bn_value x);
bn_value bn_attention(bn_tape *t, bn_value q, bn_value k, bn_value v, int64_t heads,
                      int64_t kv_heads);
bn_value bn_kv_attention(bn_tape *t, bn_value q, bn_value k, bn_value v, bn_value k_cache,
                         bn_value v_cache, int64_t heads, int64_t kv_heads, int cache_bits);
bn_value bn_softmax(bn_tape *t, bn_value x);
bn_value bn_cross_entropy(bn_tape *t, bn_value logits, bn_value labels, int32_t ignore_index);
bn_value bn_linear_cross_entropy(bn_tape *t, bn_value x, bn_value weight, bn_value labels,
                                 int32_t ignore_index, int64_t chunk_rows);
bn_value bn_distill_kl(bn_tape *t, bn_value logits, bn_value target, double temperature,
                       double weight);
bn_value bn_relation_kl(bn_tape *t, bn_value x, bn_value target, int64_t heads, double weight);
bn_value bn_distance(bn_tape *t, bn_value x, bn_value target, double weight);
/* Each call gets its own site number: masks differ. p = 0 returns x itself. */
bn_value bn_dropout(bn_tape *t, bn_value x, double p);
bn_value bn_sum(bn_tape *t, bn_value x);
bn_value bn_mean(bn_tape *t, bn_value x);
bn_value bn_reshape(bn_tape *t, bn_value x, int ndim, const int64_t *shape);
bn_value bn_transpose(bn_tape *t, bn_value x, int dim0, int dim1);
bn_value bn_slice(bn_tape *t, bn_value x, int dim, int64_t start, int64_t length);

#endif
