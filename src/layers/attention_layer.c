#include <string.h>

#include "layers/layer_util.h"

bn_status bn_attention_layer_init(bn_attention_layer *layer, const char *name, int64_t hidden,
                                  int64_t heads, int64_t kv_heads, double eps)
{
    int64_t head_dim = hidden / heads;
    char full[BN_LAYER_NAME_MAX];
    *layer = (bn_attention_layer){.heads = heads, .kv_heads = kv_heads, .head_dim = head_dim};
    BN_TRY(bn_layer_linear(&layer->q_proj, name, ".q_proj", hidden, heads * head_dim));
    BN_TRY(bn_layer_linear(&layer->k_proj, name, ".k_proj", hidden, kv_heads * head_dim));
    BN_TRY(bn_layer_linear(&layer->v_proj, name, ".v_proj", hidden, kv_heads * head_dim));
    BN_TRY(bn_layer_linear(&layer->o_proj, name, ".o_proj", heads * head_dim, hidden));
    layer->o_proj.closes_block = true;
    BN_TRY(bn_layer_name(full, name, ".attn_sub_norm"));
    return bn_norm_layer_init(&layer->sub_norm, full, heads * head_dim, eps);
}

bn_status bn_attention_layer_register(bn_attention_layer *layer, bn_param_set *set, bool packed)
{
    BN_TRY(bn_linear_layer_register(&layer->q_proj, set, packed));
    BN_TRY(bn_linear_layer_register(&layer->k_proj, set, packed));
    BN_TRY(bn_linear_layer_register(&layer->v_proj, set, packed));
    BN_TRY(bn_linear_layer_register(&layer->o_proj, set, packed));
    return bn_norm_layer_register(&layer->sub_norm, set);
}

bn_value bn_attention_layer_forward(const bn_attention_layer *layer, bn_graph *g, bn_value x,
                                    bn_value rope, const bn_layer_cache *cache)
{
    bn_tape *t = g->tape;
    bn_linear_input in = bn_linear_input_of(x);
    bn_value q = bn_linear_layer_forward(&layer->q_proj, g, &in);
    bn_value k = bn_linear_layer_forward(&layer->k_proj, g, &in);
    bn_value v = bn_linear_layer_forward(&layer->v_proj, g, &in);
    if (g->watched == layer)
        memcpy(g->watched_qkv, (const bn_value[]){q, k, v}, sizeof g->watched_qkv);
    q = bn_rope(t, q, rope, layer->head_dim);
    k = bn_rope(t, k, rope, layer->head_dim);
    bn_value o = cache ? bn_kv_attention(t, q, k, v, bn_tape_input(t, &cache->k),
                                         bn_tape_input(t, &cache->v), layer->heads, layer->kv_heads,
                                         cache->bits)
                       : bn_attention(t, q, k, v, layer->heads, layer->kv_heads);
    bn_linear_input normed = bn_linear_input_of(bn_norm_layer_forward(&layer->sub_norm, g, o));
    return bn_linear_layer_forward(&layer->o_proj, g, &normed);
}
