#include "model/distill.h"

/* Hidden state and logits of a model; an MLP has no hidden state to offer. */
static bn_value run_model(const bn_model *model, bn_graph *g, bn_value input, bn_value *hidden)
{
    *hidden = BN_NO_VALUE;
    if (bn_model_is_classifier(model))
        return bn_model_logits(model, g, input);
    *hidden = bn_model_hidden(model, g, input, NULL);
    return bn_model_head(model, g, *hidden);
}

bn_distill bn_distill_of(const bn_config *config, const bn_model *teacher)
{
    const int64_t asked = config->distillation.attention_heads;
    return (bn_distill){.teacher = teacher,
                        .temperature = config->distillation.temperature,
                        .logits_weight = config->distillation.logits_weight,
                        .hidden_weight = config->distillation.hidden_weight,
                        .attention_weight = config->distillation.attention_weight,
                        .attention_layer = config->distillation.attention_layer,
                        .attention_heads = asked ? asked : bn_config_kv_heads(config)};
}

/* The layer whose relations count; out of range where that is not one of `layers`. */
static int64_t relation_layer(int64_t asked, int64_t layers)
{
    return asked < 0 ? layers + asked : asked;
}

static void watch(const bn_model *model, const bn_distill *d, bn_graph *g)
{
    if (d->attention_weight > 0)
        g->watched = &model->blocks[relation_layer(d->attention_layer, model->n_blocks)].self_attn;
}

bn_value bn_model_distill_loss(const bn_model *student, const bn_distill *d, bn_graph *g,
                               bn_value input, bn_value labels)
{
    bn_tape *t = g->tape;
    bn_graph quiet = {.tape = t};
    bn_value hidden, teacher_hidden;
    watch(student, d, g);
    watch(d->teacher, d, &quiet);
    bn_value logits = run_model(student, g, input, &hidden);
    bn_value loss = bn_cross_entropy(t, logits, labels, BN_IGNORE_INDEX);
    bn_tape_no_grad_push(t);
    bn_value teacher = run_model(d->teacher, &quiet, input, &teacher_hidden);
    bn_tape_no_grad_pop(t);
    if (d->logits_weight > 0)
        loss = bn_add(t, loss, bn_distill_kl(t, logits, teacher, d->temperature, d->logits_weight));
    if (d->hidden_weight > 0)
        loss = bn_add(t, loss, bn_distance(t, hidden, teacher_hidden, d->hidden_weight));
    for (int i = 0; d->attention_weight > 0 && i < 3; i++)
        loss = bn_add(t, loss,
                      bn_relation_kl(t, g->watched_qkv[i], quiet.watched_qkv[i], d->attention_heads,
                                     d->attention_weight));
    return loss;
}

static bn_status check_kernels(const bn_config *config, const bn_backend *backend)
{
    const bn_op ops[] = {BN_OP_DISTILL_KL, BN_OP_DISTANCE, BN_OP_RELATION_KL};
    const double weights[] = {config->distillation.logits_weight,
                              config->distillation.hidden_weight,
                              config->distillation.attention_weight};
    for (int i = 0; i < 3; i++)
        if (weights[i] > 0 && !backend->rows[ops[i]].backward)
            return bn_error(BN_USAGE, "distillation: %s has no kernel for %s: --device cpu",
                            backend->name, bn_op_table[ops[i]].name);
    return BN_OK;
}

/* The layer exists and the heads fit, in the student and in the teacher. */
static bn_status check_relations(const bn_config *config, const bn_loaded *teacher)
{
    const bn_distill d = bn_distill_of(config, teacher->model);
    const bn_attention_layer *attn = &teacher->model->blocks[0].self_attn;
    const int64_t head_dim = config->model.hidden_size / config->model.num_attention_heads;
    const int64_t layers[] = {config->model.num_hidden_layers, teacher->model->n_blocks};
    const int64_t widths[] = {config->model.hidden_size, bn_config_kv_heads(config) * head_dim,
                              attn->heads * attn->head_dim, attn->kv_heads * attn->head_dim};
    for (int i = 0; i < 2; i++) {
        const int64_t layer = relation_layer(d.attention_layer, layers[i]);
        if (layer < 0 || layer >= layers[i])
            return bn_error(BN_BAD_CONFIG,
                            "distillation.attention_layer: expected a layer of both models, found "
                            "%lld; %s has %lld",
                            (long long)d.attention_layer, i ? teacher->path : "the student",
                            (long long)layers[i]);
    }
    for (int i = 0; i < 4; i++)
        if (widths[i] % d.attention_heads != 0)
            return bn_error(
                BN_BAD_CONFIG,
                "distillation.attention_heads: expected a divisor of %lld, the width of "
                "the %s of %s, found %lld",
                (long long)widths[i], i % 2 ? "keys and values" : "queries",
                i < 2 ? "the student" : teacher->path, (long long)d.attention_heads);
    return BN_OK;
}

/* `vocab` is that of the student's tokenizer. */
static bn_status check_fit(const bn_config *config, int64_t vocab, const bn_loaded *teacher)
{
    const bn_model *model = teacher->model;
    if (config->model.kind == BN_KIND_MLP)
        vocab = config->model.num_labels;
    else if (config->model.vocab_size)
        vocab = config->model.vocab_size;
    BN_TRY(bn_loaded_expect(teacher, config->model.kind));
    if (model->vocab != vocab)
        return bn_error(BN_BAD_CONFIG,
                        "distillation.teacher: %s gives %lld logits, expected the model's %lld",
                        teacher->path, (long long)model->vocab, (long long)vocab);
    if (config->model.kind == BN_KIND_MLP)
        return model->classifier.inputs == config->model.input_size
                   ? BN_OK
                   : bn_error(BN_BAD_CONFIG,
                              "distillation.teacher: %s has %lld inputs, expected the model's %lld",
                              teacher->path, (long long)model->classifier.inputs,
                              (long long)config->model.input_size);
    if (model->positions < config->training.seq_len)
        return bn_error(BN_BAD_CONFIG,
                        "distillation.teacher: %s has %lld positions, expected training.seq_len "
                        "(%lld) or more",
                        teacher->path, (long long)model->positions,
                        (long long)config->training.seq_len);
    if (config->distillation.hidden_weight > 0 && model->hidden != config->model.hidden_size)
        return bn_error(BN_BAD_CONFIG,
                        "distillation.hidden_weight: %s has hidden_size %lld, expected the "
                        "model's %lld",
                        teacher->path, (long long)model->hidden,
                        (long long)config->model.hidden_size);
    return config->distillation.attention_weight > 0 ? check_relations(config, teacher) : BN_OK;
}

/* An MLP has no use for its tokenizer. */
static bn_status check_tokenizer(const bn_config *config, const bn_tokenizer *tokenizer,
                                 const bn_loaded *teacher)
{
    if (config->model.kind == BN_KIND_MLP ||
        bn_tokenizer_hash(teacher->tokenizer) == bn_tokenizer_hash(tokenizer))
        return BN_OK;
    return bn_error(BN_BAD_CONFIG, "distillation.teacher: %s has another tokenizer than %s",
                    teacher->path, config->data.tokenizer);
}

bn_status bn_teacher_open(const bn_config *config, const bn_tokenizer *tokenizer,
                          bn_backend *backend, bn_loaded *out)
{
    *out = (bn_loaded){0};
    BN_TRY(check_kernels(config, backend));
    BN_TRY(bn_error_in(bn_loaded_open(config->distillation.teacher, backend, true, out),
                       "distillation.teacher"));
    bn_status status = check_fit(config, bn_tokenizer_vocab_size(tokenizer), out);
    if (status == BN_OK)
        status = check_tokenizer(config, tokenizer, out);
    if (status != BN_OK)
        bn_loaded_clear(out);
    return status;
}

bn_status bn_teacher_outline(const bn_config *config, int64_t vocab, bn_backend *backend,
                             bn_loaded *out)
{
    *out = (bn_loaded){0};
    BN_TRY(check_kernels(config, backend));
    BN_TRY(bn_error_in(bn_loaded_outline(config->distillation.teacher, backend, out),
                       "distillation.teacher"));
    bn_status status = check_fit(config, vocab, out);
    if (status != BN_OK)
        bn_loaded_clear(out);
    return status;
}
