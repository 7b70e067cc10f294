/* The graphs of a model. */
#include "model/model.h"

static bn_value block_forward(const bn_block *block, bn_graph *g, bn_value x, bn_value rope,
                              const bn_layer_cache *cache)
{
    bn_tape *t = g->tape;
    bn_value h = bn_norm_layer_forward(&block->input_layernorm, g, x);
    h = bn_attention_layer_forward(&block->self_attn, g, h, rope, cache);
    x = bn_add(t, x, bn_dropout(t, h, g->dropout));
    h = bn_norm_layer_forward(&block->post_attention_layernorm, g, x);
    h = bn_mlp_layer_forward(&block->mlp, g, h);
    return bn_add(t, x, bn_dropout(t, h, g->dropout));
}

bn_value bn_model_hidden(const bn_model *model, bn_graph *g, bn_value ids,
                         const bn_layer_cache *caches)
{
    bn_value rope = bn_tape_input(g->tape, &model->rope);
    bn_value x = bn_embedding_layer_forward(&model->embed_tokens, g, ids);
    x = bn_dropout(g->tape, x, g->dropout);
    for (int i = 0; i < model->n_blocks; i++)
        x = block_forward(&model->blocks[i], g, x, rope, caches ? &caches[i] : NULL);
    return bn_norm_layer_forward(&model->norm, g, x);
}

bn_value bn_model_head(const bn_model *model, bn_graph *g, bn_value hidden)
{
    if (bn_tensor_present(&model->head_codes)) {
        const bn_quantized w = {bn_tape_input(g->tape, &model->head_codes),
                                bn_tape_input(g->tape, &model->head_scale)};
        return bn_bitlinear(g->tape, bn_act_quant(g->tape, hidden, &(bn_act_params){8, BN_PER_ROW}),
                            w, &(bn_weight_params){.group_size = BN_PER_ROW}, BN_NO_VALUE);
    }
    if (model->tied)
        return bn_linear(g->tape, hidden, bn_tape_param(g->tape, model->embed_tokens.weight),
                         BN_NO_VALUE);
    bn_linear_input in = bn_linear_input_of(hidden);
    return bn_linear_layer_forward(&model->lm_head, g, &in);
}

/* Rows of logits made at once: about a megabyte of them. */
static int64_t chunk_rows(int64_t vocab)
{
    const int64_t elements = 1 << 18;
    return vocab >= elements / 16 ? 16 : elements / vocab;
}

static bn_value logits_of(const bn_model *model, bn_graph *g, bn_value input,
                          const bn_layer_cache *caches)
{
    if (bn_model_is_classifier(model))
        return bn_classifier_forward(&model->classifier, g, input);
    return bn_model_head(model, g, bn_model_hidden(model, g, input, caches));
}

bn_value bn_model_logits(const bn_model *model, bn_graph *g, bn_value input)
{
    return logits_of(model, g, input, NULL);
}

bn_value bn_model_score(const bn_model *model, bn_graph *g, bn_value input, bn_value labels,
                        const bn_layer_cache *caches, bn_value *logits)
{
    *logits = BN_NO_VALUE;
    if (bn_model_is_classifier(model) || (!model->tied && model->lm_head.is_bit)) {
        *logits = logits_of(model, g, input, caches);
        return bn_cross_entropy(g->tape, *logits, labels, BN_IGNORE_INDEX);
    }
    bn_value hidden = bn_model_hidden(model, g, input, caches);
    bn_param *weight = model->tied ? model->embed_tokens.weight : model->lm_head.weight;
    return bn_linear_cross_entropy(g->tape, hidden, bn_tape_param(g->tape, weight), labels,
                                   BN_IGNORE_INDEX, chunk_rows(model->vocab));
}

bn_value bn_model_loss(const bn_model *model, bn_graph *g, bn_value input, bn_value labels)
{
    bn_value logits;
    return bn_model_score(model, g, input, labels, NULL, &logits);
}
