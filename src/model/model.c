#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/rng.h"
#include "quant/quantize.h"
#include "linalg/linalg.h"

static bn_status init_block(bn_model *model, const bn_config *config, int index)
{
    char name[64];
    const double eps = config->model.rms_norm_eps;
    bn_block *block = &model->blocks[index];
    snprintf(name, sizeof name, "model.layers.%d.input_layernorm", index);
    BN_TRY(bn_norm_layer_init(&block->input_layernorm, name, model->hidden, eps));
    snprintf(name, sizeof name, "model.layers.%d.self_attn", index);
    BN_TRY(bn_attention_layer_init(&block->self_attn, name, model->hidden,
                                   config->model.num_attention_heads, bn_config_kv_heads(config),
                                   eps));
    snprintf(name, sizeof name, "model.layers.%d.post_attention_layernorm", index);
    BN_TRY(bn_norm_layer_init(&block->post_attention_layernorm, name, model->hidden, eps));
    snprintf(name, sizeof name, "model.layers.%d.mlp", index);
    return bn_mlp_layer_init(
        &block->mlp, name, model->hidden, config->model.intermediate_size,
        config->model.hidden_act == BN_HIDDEN_ACT_SILU ? BN_ACT_SILU : BN_ACT_RELU2, eps);
}

/* The walkable list of every linear layer. */
static void list_linears(bn_model *model)
{
    int n = 0;
    for (int i = 0; i < model->classifier.n_layers; i++)
        model->linears[n++] = &model->classifier.linears[i];
    for (int i = 0; i < model->n_blocks; i++) {
        bn_attention_layer *attn = &model->blocks[i].self_attn;
        bn_mlp_layer *mlp = &model->blocks[i].mlp;
        bn_linear_layer *all[] = {&attn->q_proj,   &attn->k_proj, &attn->v_proj,  &attn->o_proj,
                                  &mlp->gate_proj, &mlp->up_proj, &mlp->down_proj};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            model->linears[n++] = all[k];
    }
    if (model->n_blocks && !model->tied)
        model->linears[n++] = &model->lm_head;
    model->n_linears = n;
}

/* A RoPE table is as long as one number of the config says, and no tensor of a
 * file bears it out: 2 GiB are 4 M positions of head size 128 in float32. */
static bn_status init_rope(bn_model *model)
{
    const size_t limit = (size_t)1 << 31;
    char found[BN_SIZE_TEXT], most[BN_SIZE_TEXT];
    model->rope =
        bn_tensor_2d(model->backend->real, model->positions, model->blocks[0].self_attn.head_dim);
    const size_t bytes = bn_tensor_bytes(&model->rope);
    return bytes <= limit
               ? BN_OK
               : bn_error(BN_BAD_CONFIG,
                          "model.max_position_embeddings: the RoPE table of %lld positions takes "
                          "%s, the limit is %s",
                          (long long)model->positions, bn_size_text(bytes, found),
                          bn_size_text(limit, most));
}

static bn_status init_transformer(bn_model *model, const bn_config *config, int64_t vocab)
{
    const int n_blocks = (int)config->model.num_hidden_layers;
    model->vocab = config->model.vocab_size ? config->model.vocab_size : vocab;
    if (model->vocab < vocab)
        return bn_error(BN_BAD_CONFIG, "model.vocab_size is %lld, the tokenizer has %lld tokens",
                        (long long)model->vocab, (long long)vocab);
    model->blocks = calloc((size_t)n_blocks, sizeof *model->blocks);
    if (!model->blocks)
        return bn_error_nomem("the layers", (size_t)n_blocks * sizeof *model->blocks);
    model->n_blocks = n_blocks;
    BN_TRY(bn_embedding_layer_init(&model->embed_tokens, "model.embed_tokens", model->vocab,
                                   model->hidden));
    for (int i = 0; i < n_blocks; i++)
        BN_TRY(init_block(model, config, i));
    BN_TRY(init_rope(model));
    BN_TRY(
        bn_norm_layer_init(&model->norm, "model.norm", model->hidden, config->model.rms_norm_eps));
    return bn_linear_layer_init(&model->lm_head, "lm_head", model->hidden, model->vocab, false);
}

static bn_status init_classifier(bn_model *model, const bn_config *config)
{
    model->vocab = config->model.num_labels;
    return bn_classifier_init(config, &model->classifier);
}

bn_status bn_model_new(const bn_config *config, int64_t vocab, bn_backend *backend, bn_model **out)
{
    bn_status status = BN_OK;
    bn_model *model = calloc(1, sizeof *model);
    if (!model)
        return bn_error_nomem("the model", sizeof *model);
    *model = (bn_model){
        .backend = backend,
        .hidden = config->model.hidden_size,
        .positions = config->model.max_position_embeddings,
        .tied = config->model.tie_word_embeddings,
        .dropout = config->model.dropout,
        .adapter_dropout = config->adapter.lora_dropout,
        .initializer = config->model.initializer,
        .initializer_range = config->model.initializer_range,
        .rope_theta = config->model.rope_theta,
    };
    bn_param_set_init(&model->params, backend->real);
    BN_TRY_OUT(config->model.kind == BN_KIND_MLP ? init_classifier(model, config)
                                                 : init_transformer(model, config, vocab));
    const size_t n_linears = (size_t)model->n_blocks * 7 + (size_t)model->classifier.n_layers + 1;
    model->linears = calloc(n_linears, sizeof *model->linears);
    if (!model->linears) {
        status = bn_error_nomem("the list of layers", n_linears * sizeof *model->linears);
        goto out;
    }
    list_linears(model);
out:
    if (status != BN_OK)
        bn_model_free(model);
    else
        *out = model;
    return status;
}

void bn_model_free(bn_model *model)
{
    if (!model)
        return;
    bn_buffer *buffers[] = {&model->values, &model->grads, &model->packed, &model->tables,
                            &model->head};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        model->backend->release(model->backend, buffers[i]);
    bn_param_set_clear(&model->params);
    bn_classifier_clear(&model->classifier);
    free(model->linears);
    free(model->blocks);
    free(model);
}

int bn_model_quantize(bn_model *model, const bn_config *config)
{
    int converted = 0;
    for (int i = 0; i < model->n_linears; i++) {
        bn_linear_layer *layer = model->linears[i];
        const bn_quant_spec spec = bn_quant_spec_of(config, layer->name);
        bn_linear_layer_quantize(layer, &spec);
        converted += layer->is_bit;
    }
    return converted;
}

bn_status bn_model_check_rules(const bn_model *model, const bn_config *config)
{
    const bn_config_rules *rules = &config->quantization.rules;
    for (size_t i = 0; i < rules->count; i++) {
        int k = 0;
        while (k < model->n_linears &&
               !bn_config_matches(rules->items[i].match, model->linears[k]->name))
            k++;
        if (k == model->n_linears)
            return bn_error(
                BN_BAD_CONFIG,
                "quantization.rules[%zu].match: \"%.80s\" matches none of the %d linear "
                "layers, which are named like %s",
                i, rules->items[i].match, model->n_linears, model->linears[0]->name);
    }
    return BN_OK;
}

/* Whether the backend can do what the layers are to do. */
static bn_status check_schemes(const bn_model *model, bool packed)
{
    const bn_backend *be = model->backend;
    for (int i = 0; i < model->n_linears; i++) {
        const bn_weight_spec *spec = &model->linears[i]->quant.weight;
        const bn_weight_params *p = &spec->params;
        if (!spec->quantized)
            continue;
        if (bn_grid_dtype(p->grid) == BN_I8 && !(be->weights & 1u << BN_I8))
            return bn_error(BN_NO_DEVICE,
                            "backend %s: quantization: expected ternary or binary weights, found "
                            "%s in %s",
                            be->name, bn_grid_table[p->grid].name, model->linears[i]->name);
        if (!packed && !(be->scale_rules >> p->rule & 1u))
            return bn_error(BN_NO_DEVICE,
                            "backend %s: quantization.scale_estimator: expected absmean or "
                            "learned, found absmedian in %s",
                            be->name, model->linears[i]->name);
    }
    return BN_OK;
}

static bn_status register_transformer(bn_model *model, bool packed)
{
    bn_param_set *set = &model->params;
    BN_TRY(bn_embedding_layer_register(&model->embed_tokens, set));
    for (int i = 0; i < model->n_blocks; i++) {
        bn_block *block = &model->blocks[i];
        BN_TRY(bn_norm_layer_register(&block->input_layernorm, set));
        BN_TRY(bn_attention_layer_register(&block->self_attn, set, packed));
        BN_TRY(bn_norm_layer_register(&block->post_attention_layernorm, set));
        BN_TRY(bn_mlp_layer_register(&block->mlp, set, packed));
    }
    BN_TRY(bn_norm_layer_register(&model->norm, set));
    return model->tied ? BN_OK : bn_linear_layer_register(&model->lm_head, set, packed);
}

bn_status bn_model_register(bn_model *model, bn_model_mode mode)
{
    const bool packed = mode == BN_MODEL_PACKED;
    BN_TRY(check_schemes(model, packed));
    BN_TRY(bn_model_is_classifier(model)
               ? bn_classifier_register(&model->classifier, &model->params, packed)
               : register_transformer(model, packed));
    /* All linear layers but the one that makes logits; a tied head is not in the list. */
    const int hidden = model->n_linears - (bn_model_is_classifier(model) || !model->tied);
    for (int i = 0; i < hidden; i++)
        if (model->linears[i]->weight)
            model->linears[i]->weight->hidden = true;
    return bn_param_set_layout(&model->params);
}

bn_status bn_model_freeze(bn_model *model, const bn_strings *patterns)
{
    bn_param_set *set = &model->params;
    for (size_t i = 0; i < patterns->count; i++) {
        const char *pattern = patterns->items[i];
        const bool thaw = pattern[0] == '!';
        int matches = 0;
        for (int k = 0; k < set->count; k++) {
            if (!bn_config_matches(pattern + thaw, set->items[k]->name))
                continue;
            set->items[k]->trainable = thaw;
            matches++;
        }
        if (matches == 0)
            return bn_error(BN_BAD_CONFIG, "training.freeze: \"%.60s\" matches no parameter",
                            pattern);
    }
    BN_TRY(bn_param_set_layout(set));
    return set->train_bytes ? BN_OK
                            : bn_error(BN_BAD_CONFIG,
                                       "training.freeze: expected to leave something to train, "
                                       "found all %d parameters frozen",
                                       set->count);
}

bn_status bn_model_create(const bn_config *config, int64_t vocab, bn_backend *backend,
                          bn_model_mode mode, bn_model **out)
{
    bn_model *model;
    BN_TRY(bn_model_new(config, vocab, backend, &model));
    bn_model_quantize(model, config);
    bn_status status = bn_model_register(model, mode);
    if (status != BN_OK)
        bn_model_free(model);
    else
        *out = model;
    return status;
}

/* cos and sin of p * theta^(-2i/hd). On a float32 backend the frequency and the
 * angle are rounded to float32 first, as transformers does: models trained here
 * and there must agree at far positions too. */
static double rope_angle(const bn_model *model, int64_t p, int64_t i, int64_t hd)
{
    const double power = pow(model->rope_theta, (double)(2 * i) / (double)hd);
    if (model->backend->real == BN_F64)
        return (double)p / power;
    const float frequency = 1.0f / (float)power;
    return (double)((float)p * frequency);
}

/* RoPE table (Su et al., arXiv 2104.09864): row p holds hd/2 cosines, then the
 * sines. */
static bn_status fill_rope(bn_model *model)
{
    const int64_t hd = bn_tensor_cols(&model->rope), half = hd / 2;
    const bool wide = model->backend->real == BN_F64;
    const size_t bytes = bn_tensor_bytes(&model->rope);
    void *table = malloc(bytes);
    if (!table)
        return bn_error_nomem("the RoPE table", bytes);
    for (int64_t p = 0; p < model->positions; p++)
        for (int64_t i = 0; i < half; i++) {
            const double angle = rope_angle(model, p, i, hd);
            const int64_t at = p * hd + i;
            if (wide) {
                ((double *)table)[at] = cos(angle);
                ((double *)table)[at + half] = sin(angle);
            } else {
                ((float *)table)[at] = (float)cos(angle);
                ((float *)table)[at + half] = (float)sin(angle);
            }
        }
    bn_status status = model->backend->upload(model->backend, &model->rope, table);
    free(table);
    return status;
}

/* Places codes and scales of all packable layers; with a buffer, binds them. */
static size_t place_packed(bn_model *model, const bn_buffer *buffer)
{
    size_t at = 0;
    for (int i = 0; i < model->n_linears; i++) {
        bn_linear_layer *layer = model->linears[i];
        if (!bn_tensor_present(&layer->codes))
            continue;
        bn_tensor *parts[] = {&layer->codes, &layer->scale};
        for (int k = 0; k < 2; k++) {
            if (buffer)
                *parts[k] = bn_tensor_at(*parts[k], buffer, at);
            at += bn_align_up(bn_tensor_bytes(parts[k]), BN_ALIGN);
        }
    }
    return at;
}

int64_t bn_model_numel(const bn_model *model)
{
    int64_t n = bn_param_set_numel(&model->params);
    for (int i = 0; i < model->n_linears; i++)
        if (!model->linears[i]->weight)
            n += model->linears[i]->out * model->linears[i]->in;
    return n;
}

size_t bn_model_packed_bytes(const bn_model *model)
{
    size_t bytes = 0;
    for (int i = 0; i < model->n_linears; i++)
        if (bn_tensor_present(&model->linears[i]->codes))
            bytes += bn_tensor_bytes(&model->linears[i]->codes) +
                     bn_tensor_bytes(&model->linears[i]->scale);
    return bytes;
}

static bn_status alloc_packed(bn_model *model)
{
    size_t bytes = place_packed(model, NULL);
    if (bytes == 0)
        return BN_OK;
    BN_TRY(model->backend->alloc(model->backend, bytes, &model->packed));
    place_packed(model, &model->packed);
    return BN_OK;
}

static bn_status alloc_rope(bn_model *model)
{
    bn_backend *be = model->backend;
    BN_TRY(be->alloc(be, bn_tensor_bytes(&model->rope), &model->tables));
    model->rope = bn_tensor_at(model->rope, &model->tables, 0);
    return fill_rope(model);
}

bn_status bn_model_alloc(bn_model *model, bool with_grads)
{
    bn_backend *be = model->backend;
    bool only_packed = false;
    BN_TRY(bn_error_in(be->alloc(be, model->params.block_bytes, &model->values), "weights"));
    if (with_grads)
        BN_TRY(bn_error_in(be->alloc(be, model->params.train_bytes, &model->grads), "gradients"));
    bn_param_set_bind(&model->params, &model->values, with_grads ? &model->grads : NULL);
    for (int i = 0; i < model->n_linears; i++)
        only_packed |= bn_tensor_present(&model->linears[i]->codes) && !model->linears[i]->weight;
    if (only_packed)
        BN_TRY(alloc_packed(model));
    return bn_model_is_classifier(model) ? BN_OK : alloc_rope(model);
}

bn_tensor bn_model_input(const bn_model *model, int64_t batch, int64_t time)
{
    return bn_model_is_classifier(model)
               ? bn_tensor_2d(model->backend->real, batch * time, model->classifier.inputs)
               : bn_tensor_2d(BN_I32, batch, time);
}

bn_status bn_model_put_input(const bn_model *model, const bn_tensor *input, const void *host)
{
    if (input->dtype == BN_I32)
        return model->backend->upload(model->backend, input, host);
    return bn_backend_put_f32(model->backend, input, host, bn_tensor_numel(input));
}

/* The values that a parameter of the stream `rng` starts from. */
static bn_status initial_values(const bn_model *model, const bn_param *p, bn_rng rng, float *values)
{
    const int64_t n = bn_tensor_numel(&p->value);
    const double range = model->initializer_range;
    if (p->kind == BN_PARAM_LINEAR && model->initializer == BN_INITIALIZER_ORTHOGONAL) {
        const int64_t rows = p->value.shape[0], cols = p->value.shape[1];
        const bn_buffer memory = {.host = values, .bytes = (size_t)n * sizeof *values};
        const bn_tensor out = bn_tensor_at(bn_tensor_2d(BN_F32, rows, cols), &memory, 0);
        return bn_linalg_orthogonal(&rng, range * sqrt((double)(rows > cols ? rows : cols)), &out);
    }
    for (int64_t k = 0; k < n; k++)
        values[k] = p->kind == BN_PARAM_NORM   ? 1.0f
                    : p->kind == BN_PARAM_BIAS ? 0.0f
                                               : (float)(bn_rng_normal(&rng) * range);
    return BN_OK;
}

bn_status bn_model_init(bn_model *model, uint64_t seed)
{
    for (int i = 0; i < model->params.count; i++) {
        const bn_param *p = model->params.items[i];
        const int64_t n = bn_tensor_numel(&p->value);
        float *values = malloc((size_t)n * sizeof *values);
        if (!values)
            return bn_error_nomem(p->name, (size_t)n * sizeof *values);
        bn_status status =
            initial_values(model, p, bn_rng_of(seed, UINT64_C(0x1000) + (uint64_t)i), values);
        if (status == BN_OK)
            status = bn_backend_put_f32(model->backend, &p->value, values, n);
        free(values);
        BN_TRY(status);
    }
    return bn_model_init_scales(model);
}

/* The scale that the mean gives, as the one that learning starts from. */
static bn_status init_scale(const bn_model *model, const bn_linear_layer *layer)
{
    bn_backend *be = model->backend;
    const bn_weight_params *p = &layer->quant.weight.params;
    const int64_t n = layer->out * layer->in, scales = bn_tensor_numel(&layer->scale);
    float *values = malloc((size_t)(n + scales) * sizeof *values);
    if (!values)
        return bn_error_nomem(layer->name, (size_t)(n + scales) * sizeof *values);
    bn_status status = bn_backend_get_f32(be, &layer->weight->value, values, n);
    bn_grid_scales_f32(p->grid, BN_SCALE_MEAN, values, layer->out, layer->in, p->group_size,
                       values + n);
    if (status == BN_OK)
        status = bn_backend_put_f32(be, &layer->weight_scale->value, values + n, scales);
    free(values);
    return status;
}

bn_status bn_model_init_scales(bn_model *model)
{
    for (int i = 0; i < model->n_linears; i++)
        if (model->linears[i]->weight_scale)
            BN_TRY(init_scale(model, model->linears[i]));
    return BN_OK;
}

bn_status bn_model_pack_layer(bn_model *model, bn_linear_layer *layer, const bn_tensor *weight)
{
    return bn_linear_layer_codes(layer, model->backend, weight, &layer->codes, &layer->scale);
}

bn_status bn_model_pack(bn_model *model)
{
    if (!model->packed.bytes)
        BN_TRY(alloc_packed(model));
    for (int i = 0; i < model->n_linears; i++) {
        bn_linear_layer *layer = model->linears[i];
        if (bn_tensor_present(&layer->codes) && layer->weight)
            BN_TRY(bn_model_pack_layer(model, layer, &layer->weight->value));
    }
    return BN_OK;
}

size_t bn_model_outline(bn_model *model)
{
    const size_t rope = bn_model_is_classifier(model) ? 0 : bn_tensor_bytes(&model->rope);
    bn_param_set_bind(&model->params, NULL, NULL);
    return model->params.block_bytes + place_packed(model, &model->packed) + rope;
}

bn_status bn_model_arrange(bn_model *model)
{
    bn_backend *be = model->backend;
    for (int i = 0; be->arrange && i < model->n_linears; i++) {
        bn_linear_layer *layer = model->linears[i];
        if (layer->codes.buffer)
            BN_TRY(be->arrange(be, &layer->codes, &layer->scale,
                               layer->quant.weight.params.group_size));
    }
    return BN_OK;
}

bn_status bn_model_quantize_head(bn_model *model)
{
    bn_backend *be = model->backend;
    if (!model->tied && model->lm_head.is_bit)
        return bn_error(BN_USAGE, "the output head has ternary weights already");
    if (!(be->weights & 1u << BN_I8))
        return bn_error(BN_USAGE, "backend %s has no product with int8 weights", be->name);
    const bn_param *weight = model->tied ? model->embed_tokens.weight : model->lm_head.weight;
    bn_op_params params = {.act = {.bits = 8, .group_size = BN_PER_ROW}};
    bn_op_call call = {.op = BN_OP_ACT_QUANT, .params = &params, .in[0] = weight->value};
    BN_TRY(bn_op_infer(&call, be->real));
    const size_t codes = bn_align_up(bn_tensor_bytes(&call.out[0]), BN_ALIGN);
    BN_TRY(be->alloc(be, codes + bn_tensor_bytes(&call.out[1]), &model->head));
    call.out[0] = bn_tensor_at(call.out[0], &model->head, 0);
    call.out[1] = bn_tensor_at(call.out[1], &model->head, codes);
    BN_TRY(bn_backend_forward_alone(be, &call));
    model->head_codes = call.out[0];
    model->head_scale = bn_tensor_at(bn_tensor_2d(be->real, model->vocab, 1), &model->head, codes);
    return BN_OK;
}
