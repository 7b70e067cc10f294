/* distill.h - a model that learns from another one.
 *
 *   loss = cross-entropy with the labels
 *        + logits_weight T^2 KL(softmax(teacher / T) || softmax(student / T))
 *        + hidden_weight mean (student's - teacher's last hidden state)^2
 *        + attention_weight sum over Q, K, V of mean KL(R teacher || R student)
 *
 * (Hinton, Vinyals, Dean, arXiv 1503.02531: T^2 keeps the share of the gradient
 * when T changes; hidden states as in BitDistill's and TinyBERT's family,
 * arXiv 1909.10351). R are the relations of one layer, softmax(X X^T / sqrt(width of
 * a head)) over heads and earlier positions, of its queries, keys and values before
 * RoPE (Wang et al., MiniLM v2, arXiv 2012.15828; for ternary students BitDistill,
 * arXiv 2510.13998). The teacher is recorded into the student's training graph
 * without gradients: same inputs, same device, its values live in the same arena.
 */
#ifndef BN_MODEL_DISTILL_H
#define BN_MODEL_DISTILL_H

#include "model/load.h"

typedef struct bn_distill {
    const bn_model *teacher;
    double temperature, logits_weight, hidden_weight, attention_weight;
    int64_t attention_layer, attention_heads; /* as in the config; heads not 0 */
} bn_distill;

/* What the config says, with this teacher. */
bn_distill bn_distill_of(const bn_config *config, const bn_model *teacher);

/* Opens config->distillation.teacher for a student of `config` with this
 * tokenizer, on its backend. BN_BAD_CONFIG where the two do not fit: other
 * tokens, fewer positions, another width with hidden_weight, with attention_weight an
 * attention_layer that one of them lacks or attention_heads that do not divide their
 * widths; BN_USAGE where the backend has no kernels for it. *out as in bn_loaded_open(). */
bn_status bn_teacher_open(const bn_config *config, const bn_tokenizer *tokenizer,
                          bn_backend *backend, bn_loaded *out) BN_MUST_CHECK;
/* The same without memory: bn_loaded_outline(). `vocab` is the tokenizer's size; that
 * is all it compares of the tokenizers. */
bn_status bn_teacher_outline(const bn_config *config, int64_t vocab, bn_backend *backend,
                             bn_loaded *out) BN_MUST_CHECK;

/* The training loss above; `input` and `labels` as in bn_model_loss(). */
bn_value bn_model_distill_loss(const bn_model *student, const bn_distill *distill, bn_graph *g,
                               bn_value input, bn_value labels);

#endif
