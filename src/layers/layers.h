/* layers.h - the building blocks of a model. Composition only: a layer knows
 * its parameters and records tape operations, numbers are the backend's.
 *
 * Life of a layer: bn_*_layer_init() gives it a name and shapes; converting
 * (bn_linear_layer_quantize) may turn a Linear into a BitLinear; registering
 * adds its parameters to a set, or, for a packed model, makes it expect packed
 * codes and scales instead; then _forward() records it on any number of tapes.
 * Layers own no memory.
 */
#ifndef BN_LAYERS_LAYERS_H
#define BN_LAYERS_LAYERS_H

#include "autograd/ops.h"
#include "layers/quant_spec.h"
#include "layers/quant_trace.h"

enum { BN_LAYER_NAME_MAX = 112 }; /* leaves room for ".weight" */

struct bn_linear_layer;
struct bn_attention_layer;

/* How far BitLinears of a graph quantize. */
typedef enum bn_strength {
    BN_STRENGTH_HARD, /* as configured */
    BN_STRENGTH_SOFT, /* fake quantizers, softened by bn_run.softness */
    BN_STRENGTH_NONE, /* not at all: float products of the shadow weights */
    BN_STRENGTH_COUNT,
} bn_strength;

/* What recording a graph needs to know besides the layers. */
typedef struct bn_graph {
    bn_tape *tape;
    bn_strength strength;
    double dropout;         /* 0 outside training */
    double adapter_dropout; /* likewise */
    bn_quant_trace *trace;  /* NULL except where quantizers are looked into */
    /* The attention layer whose queries, keys and values (before RoPE) are wanted, and
     * these once it has been recorded; NULL: none. */
    const struct bn_attention_layer *watched;
    bn_value watched_qkv[3];
    /* Told the input of every linear layer before it is quantized; or NULL. */
    void (*see_input)(void *arg, const struct bn_linear_layer *layer, bn_value x);
    void *see_arg;
} bn_graph;

typedef struct bn_lora bn_lora; /* lora.h */

/* Linear: y = x W^T + b; BitLinear: the same with quantized operands. */
typedef struct bn_linear_layer {
    char name[BN_LAYER_NAME_MAX];
    int64_t in, out;
    bool has_bias;
    bool is_bit;       /* BitLinear */
    bool closes_block; /* reads the inside of a block, writes to the residual stream */
    bn_quant_spec quant;
    bn_param *weight, *bias; /* weight is NULL when only packed */
    bn_param *weight_scale;  /* learned; NULL where the scale is made from the weight */
    bn_tensor codes, scale;  /* packed weight; absent memory unless packed */
    const bn_lora *lora;     /* borrowed: the adapters in use; NULL: none */
} bn_linear_layer;

bn_status bn_linear_layer_init(bn_linear_layer *layer, const char *name, int64_t in, int64_t out,
                               bool has_bias) BN_MUST_CHECK;

/* Linear to BitLinear where the spec quantizes anything. A group size beyond `in` becomes one group
 * per row; the Hadamard transform stays where the layer closes a block. */
void bn_linear_layer_quantize(bn_linear_layer *layer, const bn_quant_spec *spec);

/* packed: a BitLinear with quantized weights gets no float parameter; its codes
 * and scale get their shapes and wait for memory. */
bn_status bn_linear_layer_register(bn_linear_layer *layer, bn_param_set *set,
                                   bool packed) BN_MUST_CHECK;

/* Runs WEIGHT_QUANT once, outside any tape: codes and scale of `weight`, the
 * layer's or another, into tensors of the shapes of layer->codes and layer->scale. */
bn_status bn_linear_layer_codes(const bn_linear_layer *layer, bn_backend *backend,
                                const bn_tensor *weight, const bn_tensor *codes,
                                const bn_tensor *scale) BN_MUST_CHECK;

/* An input that several layers share is quantized once: begin with {x}. */
typedef struct bn_linear_input {
    bn_value x;
    bn_quantized codes; /* valid if quantized; in a soft graph fake-quantized x */
    bool quantized;
    bn_act_params params; /* how */
} bn_linear_input;

static inline bn_linear_input bn_linear_input_of(bn_value x)
{
    return (bn_linear_input){.x = x};
}

/* x [..,in] -> [..,out] */
bn_value bn_linear_layer_forward(const bn_linear_layer *layer, bn_graph *g, bn_linear_input *x);

/* RMSNorm over the last dimension (Zhang & Sennrich, arXiv 1910.07467). */
typedef struct bn_norm_layer {
    char name[BN_LAYER_NAME_MAX];
    int64_t size;
    double eps;
    bn_param *weight; /* starts at one */
} bn_norm_layer;

bn_status bn_norm_layer_init(bn_norm_layer *layer, const char *name, int64_t size,
                             double eps) BN_MUST_CHECK;
bn_status bn_norm_layer_register(bn_norm_layer *layer, bn_param_set *set) BN_MUST_CHECK;
bn_value bn_norm_layer_forward(const bn_norm_layer *layer, bn_graph *g, bn_value x);

/* Token embedding, ids [B,T] -> [B,T,hidden]. */
typedef struct bn_embedding_layer {
    char name[BN_LAYER_NAME_MAX];
    int64_t vocab, hidden;
    bn_param *weight;
} bn_embedding_layer;

bn_status bn_embedding_layer_init(bn_embedding_layer *layer, const char *name, int64_t vocab,
                                  int64_t hidden) BN_MUST_CHECK;
bn_status bn_embedding_layer_register(bn_embedding_layer *layer, bn_param_set *set) BN_MUST_CHECK;
bn_value bn_embedding_layer_forward(const bn_embedding_layer *layer, bn_graph *g, bn_value ids);

/* Grouped-query causal self-attention with a norm before o_proj:
 *   o_proj(sub_norm(attention(rope(q_proj x), rope(k_proj x), v_proj x))) */
typedef struct bn_attention_layer {
    int64_t heads, kv_heads, head_dim;
    bn_linear_layer q_proj, k_proj, v_proj, o_proj;
    bn_norm_layer sub_norm;
} bn_attention_layer;

/* Keys and values of earlier positions of one layer, as KV_ATTENTION takes them. */
typedef struct bn_layer_cache {
    bn_tensor k, v;
    int bits; /* of codes; 0: reals */
} bn_layer_cache;

bn_status bn_attention_layer_init(bn_attention_layer *layer, const char *name, int64_t hidden,
                                  int64_t heads, int64_t kv_heads, double eps) BN_MUST_CHECK;
bn_status bn_attention_layer_register(bn_attention_layer *layer, bn_param_set *set,
                                      bool packed) BN_MUST_CHECK;

/* `rope`: leaf with the RoPE table; `cache` NULL for whole sequences. */
bn_value bn_attention_layer_forward(const bn_attention_layer *layer, bn_graph *g, bn_value x,
                                    bn_value rope, const bn_layer_cache *cache);

/* Gated feed-forward: down_proj(sub_norm(act(gate_proj x) * up_proj x)). */
typedef struct bn_mlp_layer {
    bn_activation activation;
    bn_linear_layer gate_proj, up_proj, down_proj;
    bn_norm_layer sub_norm;
} bn_mlp_layer;

bn_status bn_mlp_layer_init(bn_mlp_layer *layer, const char *name, int64_t hidden,
                            int64_t intermediate, bn_activation activation,
                            double eps) BN_MUST_CHECK;
bn_status bn_mlp_layer_register(bn_mlp_layer *layer, bn_param_set *set, bool packed) BN_MUST_CHECK;
bn_value bn_mlp_layer_forward(const bn_mlp_layer *layer, bn_graph *g, bn_value x);

#endif
