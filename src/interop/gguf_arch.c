#include "interop/gguf_arch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *ours, *theirs;
} top_names[] =
    {
        {"model.embed_tokens.weight", "token_embd.weight"},
        {"model.norm.weight", "output_norm.weight"},
        {"lm_head.weight", "output.weight"},
},
  block_names[] = {
      {"input_layernorm.weight", "attn_norm.weight"},
      {"self_attn.q_proj.weight", "attn_q.weight"},
      {"self_attn.k_proj.weight", "attn_k.weight"},
      {"self_attn.v_proj.weight", "attn_v.weight"},
      {"self_attn.o_proj.weight", "attn_output.weight"},
      {"self_attn.attn_sub_norm.weight", "attn_sub_norm.weight"},
      {"post_attention_layernorm.weight", "ffn_norm.weight"},
      {"mlp.gate_proj.weight", "ffn_gate.weight"},
      {"mlp.up_proj.weight", "ffn_up.weight"},
      {"mlp.down_proj.weight", "ffn_down.weight"},
      {"mlp.ffn_sub_norm.weight", "ffn_sub_norm.weight"},
};

bool bn_gguf_tensor_name(const char *name, char out[BN_GGUF_MAX_NAME])
{
    static const char prefix[] = "model.layers.";
    for (size_t i = 0; i < sizeof top_names / sizeof *top_names; i++)
        if (strcmp(name, top_names[i].ours) == 0) {
            snprintf(out, BN_GGUF_MAX_NAME, "%s", top_names[i].theirs);
            return true;
        }
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return false;
    char *rest;
    const unsigned long block = strtoul(name + sizeof prefix - 1, &rest, 10);
    for (size_t i = 0; i < sizeof block_names / sizeof *block_names && *rest == '.'; i++)
        if (strcmp(rest + 1, block_names[i].ours) == 0) {
            snprintf(out, BN_GGUF_MAX_NAME, "blk.%lu.%s", block, block_names[i].theirs);
            return true;
        }
    return false;
}

/* llama.cpp's number for "most weights are of this type". */
static uint32_t file_type(bn_gguf_type type)
{
    switch (type) {
    case BN_GGUF_TQ1_0:
        return 36;
    case BN_GGUF_TQ2_0:
        return 37;
    case BN_GGUF_Q4_0:
        return 2;
    case BN_GGUF_Q8_0:
        return 7;
    case BN_GGUF_BF16:
        return 32;
    default:
        return type == BN_GGUF_F16;
    }
}

void bn_gguf_arch_meta(const bn_config *c, int64_t vocab, bn_gguf_type type, bn_gguf_meta *meta)
{
    const uint32_t heads = (uint32_t)c->model.num_attention_heads;
    const uint32_t hidden = (uint32_t)c->model.hidden_size;
    bn_gguf_meta_string(meta, "general.architecture", "bitnet");
    bn_gguf_meta_string(meta, "general.type", "model");
    bn_gguf_meta_u32(meta, "general.file_type", file_type(type));
    bn_gguf_meta_u32(meta, "general.quantization_version", 2);
    bn_gguf_meta_u32(meta, "general.alignment", BN_GGUF_ALIGN);
    bn_gguf_meta_u32(meta, "bitnet.vocab_size", (uint32_t)vocab);
    bn_gguf_meta_u32(meta, "bitnet.context_length", (uint32_t)c->model.max_position_embeddings);
    bn_gguf_meta_u32(meta, "bitnet.embedding_length", hidden);
    bn_gguf_meta_u32(meta, "bitnet.block_count", (uint32_t)c->model.num_hidden_layers);
    bn_gguf_meta_u32(meta, "bitnet.feed_forward_length", (uint32_t)c->model.intermediate_size);
    bn_gguf_meta_u32(meta, "bitnet.attention.head_count", heads);
    bn_gguf_meta_u32(meta, "bitnet.attention.head_count_kv", (uint32_t)bn_config_kv_heads(c));
    bn_gguf_meta_f32(meta, "bitnet.attention.layer_norm_rms_epsilon", (float)c->model.rms_norm_eps);
    bn_gguf_meta_u32(meta, "bitnet.rope.dimension_count", hidden / heads);
    bn_gguf_meta_f32(meta, "bitnet.rope.freq_base", (float)c->model.rope_theta);
    /* SiLU is what a reader assumes without the key. */
    if (c->model.hidden_act == BN_HIDDEN_ACT_RELU2)
        bn_gguf_meta_string(meta, "bitnet.hidden_activation", "relu2");
}

bn_status bn_gguf_arch_gaps(const bn_config *c, bn_strings *gaps)
{
    if (c->model.hidden_act == BN_HIDDEN_ACT_RELU2)
        BN_TRY(bn_strings_add(gaps, "llama.cpp gates its bitnet architecture with SiLU, the "
                                    "model with relu2 (model.hidden_act)"));
    if (!c->model.tie_word_embeddings)
        BN_TRY(bn_strings_add(gaps, "llama.cpp's bitnet architecture takes the embedding as the "
                                    "head, the model has a head of its own "
                                    "(model.tie_word_embeddings)"));
    const char *activations = bn_config_unusual_activations(c);
    if (!activations)
        return BN_OK;
    char gap[160];
    snprintf(gap, sizeof gap, "llama.cpp has 8-bit activations of its own, the model has %s",
             activations);
    return bn_strings_add(gaps, gap);
}
