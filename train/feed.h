/* feed.h - what steps and evaluations are fed with: windows of a text for a
 * transformer, rows of a table for an MLP.
 *
 * A feed owns one batch of inputs and labels in host memory and on the device,
 * and the place in the training data.
 */
#ifndef BN_TRAIN_FEED_H
#define BN_TRAIN_FEED_H

#include "model/model.h"
#include "train/train_data.h"

typedef struct bn_feed {
    const bn_train_data *data;
    const bn_model *model;
    bn_batcher text;      /* of a transformer */
    bn_row_batcher table; /* of an MLP */
    uint64_t seed;        /* of the order */
    bn_buffer memory;
    bn_tensor input, labels; /* bn_model_input(); i32 */
    void *host_input;
    int32_t *host_labels;
} bn_feed;

/* Shapes of a batch, without memory. */
bn_status bn_feed_shapes(const bn_config *config, const bn_model *model, bn_tensor *input,
                         bn_tensor *labels) BN_MUST_CHECK;

/* Borrows data and model. *out need not be initialised; on failure
 * bn_feed_clear() is due. */
bn_status bn_feed_init(const bn_config *config, const bn_train_data *data, const bn_model *model,
                       bn_feed *out) BN_MUST_CHECK;
void bn_feed_clear(bn_feed *feed); /* {0} is fine */

/* Draws the next training batch into host memory; uploads what is there. */
void bn_feed_next(bn_feed *feed);
bn_status bn_feed_upload(bn_feed *feed) BN_MUST_CHECK;

/* The place in the training data, for checkpoints; see bn_batcher_restore(). */
bn_batcher_state bn_feed_state(const bn_feed *feed);
bn_status bn_feed_restore(bn_feed *feed, const bn_batcher_state *state) BN_MUST_CHECK;
/* To the place of a run that begins. */
bn_status bn_feed_rewind(bn_feed *feed) BN_MUST_CHECK;

/* The held-out data, batch by batch; always the same batches. */
typedef struct bn_feed_held_out {
    bn_feed *feed;
    bn_eval_batches text;
    int64_t next, batches; /* of a table */
} bn_feed_held_out;

bn_status bn_feed_held_out_init(bn_feed *feed, const bn_config *config,
                                bn_feed_held_out *out) BN_MUST_CHECK;
/* The next batch into host memory and what it counts for (a table's bytes are
 * 0); false when all have been visited. */
bool bn_feed_held_out_next(bn_feed_held_out *it, bn_eval_count *count);

#endif
