/* trainer.h - a model in training: one object, one step at a time.
 *
 * A trainer holds everything that a step changes (parameters, moments, place in
 * the data, counters) and everything a step needs (graphs and their arena,
 * token buffers). It knows nothing of files: checkpoint_io.h saves and restores
 * it, run.h makes steps until a run is over.
 *
 * After the first step a step allocates nothing. All sequences, masks and
 * initial weights come from config->training.seed; the state after N steps is
 * the same on one device for any number of threads, and whether or not the run
 * was interrupted. Not thread-safe.
 */
#ifndef BN_TRAIN_TRAINER_H
#define BN_TRAIN_TRAINER_H

#include "model/adapter.h"
#include "model/load.h"
#include "train/feed.h"
#include "train/graphs.h"
#include "train/health.h"
#include "train/memory.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "train/telemetry.h"

/* What a run has seen and reached so far; all of it goes into checkpoints. */
typedef struct bn_train_progress {
    int64_t step;             /* optimizer steps done */
    int64_t tokens_seen;      /* tokens trained on */
    double best_val_loss;     /* +infinity before the first evaluation */
    int64_t best_step;        /* -1 before the first evaluation */
    int64_t evals_since_best; /* evaluations in a row without a better loss */
    double loss_sum;          /* of the steps since the last metrics line */
    int64_t loss_count;
    double last_loss;  /* mean training loss of the last metrics line; NaN before */
    double elapsed_s;  /* wall clock, over all sittings */
    double training_s; /* the part of it spent in steps */
    bn_loss_window recent;
    double lr_factor;  /* on the schedule's learning rate: 1 until a rollback */
    int64_t rollbacks; /* times the run went back */
    bool pending;      /* stopped in the evaluation of this step: it is still to be made */
    double step_lr, step_grad_norm; /* of this step */
} bn_train_progress;

bn_train_progress bn_train_progress_new(void); /* of a run that begins */

typedef struct bn_trainer {
    const bn_config *config;   /* borrowed */
    const bn_train_data *data; /* borrowed */
    bn_backend *backend;       /* borrowed */
    bn_model *model;
    bn_loaded teacher;   /* of distillation.teacher, else {0} */
    bn_loaded base;      /* of adapters: owns `model`; else {0} */
    bn_adapter *adapter; /* what is trained; NULL: the model itself */
    uint8_t base_id[BN_SHA256_BYTES];
    bn_param_set *params; /* borrowed: the adapter's or the model's */
    bn_buffer *values;    /* their block */
    bn_optimizer optimizer;
    bn_schedule schedule;
    bn_telemetry telemetry;
    bn_train_graphs graphs;
    bn_buffer arena;
    bn_feed feed;
    float *logits; /* of an MLP's evaluation batch; else NULL */
    bn_layer_health health;
    int (*interrupted)(void); /* polled between batches of an evaluation; may be NULL */
    bool one_batch;           /* every step trains on the first batch */
    bool have_batch;          /* the first batch has been drawn */
    bn_train_progress progress;
} bn_trainer;

/* One step's figures. */
typedef struct bn_step_result {
    double loss;      /* mean over the step's micro-batches, nats per token */
    double grad_norm; /* before clipping */
    double lr;
    uint64_t upload_bytes, download_bytes; /* to and from a device with memory of its own */
} bn_step_result;

/* Random weights, step 0. `one_batch`: for overfitting a single batch. The
 * trainer borrows its arguments. On failure *out is NULL. */
bn_status bn_trainer_new(const bn_config *config, const bn_train_data *data, bn_backend *backend,
                         bool one_batch, bn_trainer **out) BN_MUST_CHECK;
void bn_trainer_free(bn_trainer *trainer); /* NULL is fine */

/* One optimizer step: gradient_accumulation_steps micro-batches, norm, clipped
 * update. BN_FAIL naming the step when loss or norm is not finite; the weights
 * are spoilt then. */
bn_status bn_trainer_step(bn_trainer *trainer, bn_step_result *result) BN_MUST_CHECK;

typedef struct bn_evaluation {
    double loss; /* nats per token, over all labels */
    double perplexity;
    double bits_per_byte;
    double accuracy; /* of an MLP: share of examples whose class has the largest logit */
    int64_t labels, bytes;
} bn_evaluation;

/* Held-out text exists. */
bool bn_trainer_can_evaluate(const bn_trainer *trainer);

/* Loss over the held-out text (or eval_batches batches of it). BN_INTERRUPTED
 * when `interrupted` says so; nothing has changed then. */
bn_status bn_trainer_evaluate(bn_trainer *trainer, bn_evaluation *out) BN_MUST_CHECK;

/* Tokens of one optimizer step; of an MLP, examples. */
int64_t bn_tokens_per_step(const bn_config *config);

/* Bytes of inputs and labels of one step. */
size_t bn_trainer_batch_bytes(const bn_trainer *trainer);

/* Weights of the model and its adapters, trained or not. */
int64_t bn_trainer_parameters(const bn_trainer *trainer);

bn_device_memory bn_trainer_device_memory(const bn_trainer *trainer);

#endif
