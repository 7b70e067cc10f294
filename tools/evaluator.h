/* evaluator.h - the loss of a model on given tokens, and of an MLP its right
 * answers, without gradients. */
#ifndef BN_TOOLS_EVALUATOR_H
#define BN_TOOLS_EVALUATOR_H

#include "data/table.h"
#include "model/kv_cache.h"

/* How a text is cut. */
typedef struct bn_windows {
    int64_t batch, time; /* windows at a time, and their length */
    int64_t max_batches; /* as in bn_eval_batches_init() */
    /* 8 or 4: attention sees keys and values as a KV cache of codes gives them
     * (model/kv_cache.h); 0: as they are */
    int cache_bits;
} bn_windows;

/* One recorded graph: input as bn_model_input(), labels i32 [batch, time]. */
typedef struct bn_evaluator {
    const bn_model *model; /* borrowed */
    bn_kv_cache cache;     /* with windows.cache_bits */
    bn_tape *tape;
    bn_buffer arena, memory;
    bn_tensor input, labels;
    bn_value loss, logits;
    float *host_logits; /* of an MLP; else NULL */
} bn_evaluator;

/* The model must outlive the evaluator; time <= model->positions (an MLP takes
 * batch * time examples). *out need
 * not be initialised; on failure it is cleared. */
bn_status bn_evaluator_init(const bn_model *model, const bn_windows *windows,
                            bn_evaluator *out) BN_MUST_CHECK;
void bn_evaluator_clear(bn_evaluator *evaluator); /* {0} is fine */

/* Mean loss in nats over the labels that are not BN_LABEL_IGNORE; `input` as
 * for bn_model_put_input(). Polls for signals (bn_signals_poll). */
bn_status bn_evaluator_run(bn_evaluator *evaluator, const void *input, const int32_t *labels,
                           double *loss) BN_MUST_CHECK;

/* Of an MLP, after a run: its logits [batch * time, classes], good until the
 * next call. */
bn_status bn_evaluator_logits(bn_evaluator *evaluator, const float **logits) BN_MUST_CHECK;

typedef struct bn_score {
    double nats;            /* sum over the labels */
    int64_t correct;        /* of an MLP: labels that got the largest logit */
    int64_t labels, bytes;  /* predicted tokens, and the text bytes they stand for */
    int64_t batches, total; /* visited, and how many cover the text */
} bn_score;

static inline double bn_score_loss(const bn_score *score)
{
    return score->nats / (double)score->labels;
}

/* Adds one batch of which the first `count` labels are to be counted. */
bn_status bn_score_add(bn_evaluator *evaluator, const void *input, const int32_t *labels,
                       int64_t count, bn_score *score) BN_MUST_CHECK;

/* Of an MLP. */
static inline double bn_score_accuracy(const bn_score *score)
{
    return (double)score->correct / (double)score->labels;
}

double bn_score_perplexity(const bn_score *score);
double bn_score_bits_per_byte(const bn_score *score);

/* Loss over a span. BN_FAIL if it is not finite. */
bn_status bn_score_span(const bn_model *model, bn_span span, const bn_tokenizer *tokenizer,
                        const bn_windows *windows, bn_score *out) BN_MUST_CHECK;

/* Loss and right answers of an MLP over rows of a table, likewise. */
bn_status bn_score_rows(const bn_model *model, bn_rows rows, int64_t batch, int64_t max_batches,
                        bn_score *out) BN_MUST_CHECK;

#endif
