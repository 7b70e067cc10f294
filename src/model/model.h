/* model.h - a model: layers, parameters, graphs. Of two kinds, by
 * config->model.kind: a BitNet b1.58 transformer, or the MLP of classifier.h.
 *
 * Architecture (arXiv 2402.17764, 2504.12285; the maths of transformers'
 * BitNetForCausalLM): token embedding; per block
 *   x += o_proj(attn_sub_norm(attention(input_layernorm x)))
 *   x += down_proj(ffn_sub_norm(act(gate_proj h) * up_proj h)),
 *                                      h = post_attention_layernorm x
 * then the final norm and a tied or untied float head. Names of parameters are
 * Hugging Face's.
 *
 * A model is made in steps:
 *   bn_model_new        layers with names and shapes, all Linear
 *   bn_model_quantize   Linear -> BitLinear where the config says so
 *   bn_model_register   parameters known, sizes known (enough for --dry-run)
 *   bn_model_alloc      memory on the backend
 *   bn_model_init       random weights, or the caller fills model->params
 * bn_model_create() does the first three from a config.
 */
#ifndef BN_MODEL_MODEL_H
#define BN_MODEL_MODEL_H

#include "config/config.h"
#include "layers/layers.h"
#include "model/classifier.h"

typedef struct bn_block {
    bn_norm_layer input_layernorm, post_attention_layernorm;
    bn_attention_layer self_attn;
    bn_mlp_layer mlp;
} bn_block;

typedef enum bn_model_mode {
    BN_MODEL_FLOAT,  /* shadow weights: training, evaluation */
    BN_MODEL_PACKED, /* BitLinear weights exist as codes and scales only */
} bn_model_mode;

typedef struct bn_model {
    bn_backend *backend; /* borrowed */
    int64_t vocab, hidden, positions;
    bool tied;
    double dropout, adapter_dropout; /* applied by training graphs */
    bn_cfg_initializer initializer;
    double initializer_range, rope_theta;
    bn_classifier classifier; /* an MLP has only this; a transformer all the others */
    bn_embedding_layer embed_tokens;
    bn_block *blocks;
    int n_blocks;
    bn_norm_layer norm;
    bn_linear_layer lm_head; /* unused when tied */

    bn_linear_layer **linears; /* every Linear and BitLinear, in order */
    int n_linears;
    bn_param_set params;
    bn_buffer values, grads, packed, tables, head;
    bn_tensor rope;                   /* [positions, head_dim]; memory after bn_model_alloc() */
    bn_tensor head_codes, head_scale; /* memory after bn_model_quantize_head() */
} bn_model;

/* Layers only. vocab is the tokenizer's when the config says 0; an MLP's is
 * its number of classes. */
bn_status bn_model_new(const bn_config *config, int64_t vocab, bn_backend *backend,
                       bn_model **out) BN_MUST_CHECK;
void bn_model_free(bn_model *model); /* frees device memory too; NULL is fine */

/* The converter: turns every Linear into a BitLinear as config->quantization
 * says, except modules ("model.layers.0.mlp.up_proj") that match a pattern of
 * modules_to_not_convert. What is converted is decided by kind: embeddings and
 * norms never are, nor a tied head. Returns how many layers were converted.
 * Before bn_model_register(). */
int bn_model_quantize(bn_model *model, const bn_config *config);

/* BN_BAD_CONFIG for a rule of quantization.rules that matches no layer: a
 * mistyped name must not train something else in silence. */
bn_status bn_model_check_rules(const bn_model *model, const bn_config *config) BN_MUST_CHECK;

bn_status bn_model_register(bn_model *model, bn_model_mode mode) BN_MUST_CHECK;

/* training.freeze: parameters without gradients. After bn_model_register(),
 * before bn_model_alloc(). BN_BAD_CONFIG: a pattern matches nothing, or nothing
 * is left to train. */
bn_status bn_model_freeze(bn_model *model, const bn_strings *patterns) BN_MUST_CHECK;

/* The steps above, driven by config->quantization. */
bn_status bn_model_create(const bn_config *config, int64_t vocab, bn_backend *backend,
                          bn_model_mode mode, bn_model **out) BN_MUST_CHECK;

bn_status bn_model_alloc(bn_model *model, bool with_grads) BN_MUST_CHECK;

/* N(0, initializer_range) for matrices, 1 for norms, 0 for biases; one random
 * stream per parameter. With model.initializer "orthogonal" the matrices of
 * linear layers are orthogonal (Saxe et al., arXiv 1312.6120), scaled to the
 * same mean square of an element. */
bn_status bn_model_init(bn_model *model, uint64_t seed) BN_MUST_CHECK;

/* Quantizes `weight` into the layer's codes and scale, which have memory. */
bn_status bn_model_pack_layer(bn_model *model, bn_linear_layer *layer,
                              const bn_tensor *weight) BN_MUST_CHECK;

/* Learned weight scales from the weights as they are: bn_model_init() does it, and
 * whoever changes weights from outside. */
bn_status bn_model_init_scales(bn_model *model) BN_MUST_CHECK;

/* Quantizes every BitLinear with quantized weights once into model->packed, so that graphs
 * recorded afterwards read codes instead of weights. */
bn_status bn_model_pack(bn_model *model) BN_MUST_CHECK;

/* In place of bn_model_alloc() and bn_model_pack(): shapes without memory, for graphs
 * that are planned but never run. Returns the bytes that both would take. */
size_t bn_model_outline(bn_model *model);

/* Lays the packed weights out as the backend's product reads them fastest
 * (bn_backend.arrange). From then on they are for graphs without gradients that
 * are recorded afterwards; nobody else can read the codes. */
bn_status bn_model_arrange(bn_model *model) BN_MUST_CHECK;

/* The output head as int8 codes with one absmax scale per token of the
 * vocabulary, its input as int8 too: a quarter of the bytes of the float head,
 * which otherwise are most of what a decoded token reads. Rounds the logits.
 * For graphs that are recorded afterwards. BN_USAGE where the head is a
 * BitLinear already or the backend has no such product. */
bn_status bn_model_quantize_head(bn_model *model) BN_MUST_CHECK;

/* Elements of all weights, whether they are float or packed. */
int64_t bn_model_numel(const bn_model *model);

/* Bytes of codes and scales of all BitLinear layers with quantized weights. */
size_t bn_model_packed_bytes(const bn_model *model);

/* Graphs. ids i32 [B,T]; labels i32 [B,T] (-100 = ignored).
 * `caches`: one per block for incremental runs, NULL for whole sequences. */
enum { BN_IGNORE_INDEX = -100 };
bn_value bn_model_hidden(const bn_model *model, bn_graph *g, bn_value ids,
                         const bn_layer_cache *caches);
bn_value bn_model_head(const bn_model *model, bn_graph *g, bn_value hidden); /* -> [..,V] */

/* For either kind. The input is bn_model_input(): i32 [batch, time], or of an
 * MLP real [batch * time, features]; labels i32 [batch, time]. */
bn_value bn_model_logits(const bn_model *model, bn_graph *g, bn_value input);
bn_value bn_model_loss(const bn_model *model, bn_graph *g, bn_value input, bn_value labels);
/* The loss, and the logits where they exist as a whole, else BN_NO_VALUE. `caches`
 * as in bn_model_hidden(). */
bn_value bn_model_score(const bn_model *model, bn_graph *g, bn_value input, bn_value labels,
                        const bn_layer_cache *caches, bn_value *logits);
bn_tensor bn_model_input(const bn_model *model, int64_t batch, int64_t time);

/* Fills an input from host memory: int32_t, or float for an MLP. */
bn_status bn_model_put_input(const bn_model *model, const bn_tensor *input,
                             const void *host) BN_MUST_CHECK;

static inline bool bn_model_is_classifier(const bn_model *model)
{
    return model->classifier.n_layers > 0;
}

#endif
