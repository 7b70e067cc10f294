/* checkpoint_io.h - a trainer into a checkpoint file and back.
 *
 * A checkpoint holds all that a trainer's state is made of: parameters,
 * moments, step, place in the data, counters, telemetry baseline. Restoring it
 * into a fresh trainer of the same configuration gives the trainer that was
 * saved, bit for bit. On a device whose memory the host can reach, arrays go to
 * and from the file without another copy in memory.
 *
 * Beyond checkpoint.h's fields these are kept as extra/NAME:
 *   progress          JSON: what bn_train_progress has beyond checkpoint.h
 *   data              bn_data_identity: what the run learned from
 *   telemetry_codes   the baseline of telemetry.h: packed codes
 *   telemetry_scales  the same: mean scales, float64
 *   base              of adapters: the identity of their base (model/adapter.h)
 */
#ifndef BN_TRAIN_CHECKPOINT_IO_H
#define BN_TRAIN_CHECKPOINT_IO_H

#include "checkpoint/checkpoint.h"
#include "train/trainer.h"

/* Writes `path`. `metrics_bytes`: length of the metrics file now. */
bn_status bn_trainer_save(bn_trainer *trainer, const char *path,
                          uint64_t metrics_bytes) BN_MUST_CHECK;

/* About what a checkpoint of this trainer takes on the disk, a little more. */
uint64_t bn_trainer_save_bytes(const bn_trainer *trainer);

/* What the config says that a fresh run begins with, in place of random numbers: the
 * weights of training.init_from, whatever their quantization, or adapters that make
 * up for that of their base. A resumed run does without, and without those files.
 * BN_BAD_CONFIG where parameters or tokenizer are others, or the base is packed. */
bn_status bn_trainer_start(bn_trainer *trainer) BN_MUST_CHECK;

/* What is not as it was when the checkpoint was saved. */
typedef struct bn_restored {
    bool data_restarted;   /* the order of the training data starts anew */
    bool data_known;       /* `data` is there: older files do not say what they learned from */
    bn_data_identity data; /* of the checkpoint */
} bn_restored;

/* Fills a trainer, fresh or not, from an open checkpoint. Training data, sequence length
 * or seed other than saved start the data anew (epoch 0); so does a file that
 * does not say what its data was. The same data under another name goes on.
 * BN_BAD_CONFIG: an architecture key differs; BN_BAD_DATA: damaged, without
 * moments, or its place in the data does not fit the text. */
bn_status bn_trainer_restore(bn_trainer *trainer, bn_checkpoint *checkpoint,
                             bn_restored *out) BN_MUST_CHECK;

#endif
