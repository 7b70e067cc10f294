/* checkpoint.h - training checkpoints: the file and the folder of them.
 *
 * A checkpoint holds everything a run needs to go on as if never stopped. It is
 * an h5file.h container, written to a temporary name, verified and renamed, and
 * never changed in place. Schema ("bitnet-checkpoint", version 1):
 *
 *   params/NAME   float32, the parameter's shape   shadow weights
 *   adam_m/NAME   float32 or uint8, the same       first moments
 *   adam_v/NAME   float32 or uint8, the same       second moments
 *   adam_m_absmax/NAME, adam_v_absmax/NAME         float32, of uint8 codes: the largest
 *                 [ceil(elements / 256)]           magnitude of each block (quant/dynamic8.h)
 *   extra/NAME    uint8 [bytes]                    whatever else the trainer keeps
 *
 * NAME is the Hugging Face name. First moments are there for each parameter that
 * is trained, second ones if its update keeps them: none of a frozen parameter, nor
 * of adapters saved alone. A model to start from (imported, quantized or merged, of
 * step 0) has zeros, float32 for whatever optimizer comes. Root attributes:
 *
 *   format = "bitnet-checkpoint"   format_version = 1 (int64)   producer
 *   config_json   tokenizer ("byte", or tokenizer JSON)   device
 *   int64:  step, tokens_seen, best_step, evals_since_best
 *   uint64: seed, data_seed, data_epoch, data_index, metrics_bytes
 *   float64: best_val_loss, elapsed_s
 *
 * Random numbers are functions of (seed, step, ...), so no other RNG state
 * exists. Errors as in h5file.h.
 */
#ifndef BN_CHECKPOINT_CHECKPOINT_H
#define BN_CHECKPOINT_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/text.h"
#include "tensor/tensor.h"

#define BN_CHECKPOINT_FORMAT "bitnet-checkpoint"
enum { BN_CHECKPOINT_VERSION = 1 };

typedef struct bn_train_state {
    int64_t step;        /* optimizer steps done */
    int64_t tokens_seen; /* tokens trained on */
    uint64_t seed;       /* of the run */
    /* Next training window, as bn_batcher_state. */
    uint64_t data_seed, data_epoch, data_index;
    double best_val_loss;     /* nats; +infinity before the first evaluation */
    int64_t best_step;        /* -1 before the first evaluation */
    int64_t evals_since_best; /* for early stopping */
    uint64_t metrics_bytes;   /* length of metrics.jsonl at this step */
    double elapsed_s;         /* of training, over all sittings */
    /* Borrowed when saving; owned by the bn_checkpoint when reading. */
    const char *config_json;
    const char *tokenizer;
    const char *producer;
    const char *device;
} bn_train_state;

/* One parameter in host memory, each pointer to contiguous floats of `shape`. A
 * moment with codes beside it is the blocks' largest magnitudes. For saving, moment2 goes with a
 * moment1, and NULL means that there is none; for loading, NULL means not wanted, and moments that
 * the file does not have are zeros. */
typedef struct bn_checkpoint_param {
    const char *name;
    int ndim;
    int64_t shape[BN_MAX_DIMS];
    float *value, *moment1, *moment2;
    uint8_t *codes1, *codes2;
} bn_checkpoint_param;

/* Further bytes, at least one each. */
typedef struct bn_checkpoint_extra {
    const char *name;
    const void *data;
    size_t bytes;
} bn_checkpoint_extra;

/* ---- one file ---- */

/* Writes and verifies `path`. A parameter or moment that is not finite is
 * BN_FAIL and nothing is written: such a checkpoint could not help anybody. */
bn_status bn_checkpoint_save(const char *path, const bn_train_state *state,
                             const bn_checkpoint_param *params, int count,
                             const bn_checkpoint_extra *extras, int extra_count) BN_MUST_CHECK;

typedef struct bn_checkpoint bn_checkpoint;

/* Checks structure, schema and attributes. On failure *out is NULL. */
bn_status bn_checkpoint_open(const char *path, bn_checkpoint **out) BN_MUST_CHECK;
void bn_checkpoint_close(bn_checkpoint *c); /* NULL is fine */

/* Belongs to the checkpoint, strings included. */
const bn_train_state *bn_checkpoint_state(const bn_checkpoint *c);
bool bn_checkpoint_has_moments(const bn_checkpoint *c);

/* Parameters in the file, sorted by name: name and shape; no data. For tools
 * that look at a file without a model. */
int bn_checkpoint_count(const bn_checkpoint *c);
void bn_checkpoint_describe(const bn_checkpoint *c, int i, bn_checkpoint_param *out);

/* Fills the memory of all `params`. The file must hold these parameters with
 * these shapes, no fewer and no others, finite and with right checksums, else
 * BN_BAD_DATA (some memory may have been written then). */
bn_status bn_checkpoint_load(bn_checkpoint *c, const bn_checkpoint_param *params,
                             int count) BN_MUST_CHECK;

/* BN_BAD_DATA unless the file has this parameter in this shape; reads no data. */
bn_status bn_checkpoint_expect(const bn_checkpoint *c,
                               const bn_checkpoint_param *param) BN_MUST_CHECK;

/* One parameter's values into numel floats; checked likewise. */
bn_status bn_checkpoint_load_one(bn_checkpoint *c, const bn_checkpoint_param *param) BN_MUST_CHECK;

/* extra/NAME; the caller frees *data. Missing: BN_OK with NULL and 0. More
 * than `limit` bytes: BN_BAD_DATA. */
bn_status bn_checkpoint_get_extra(bn_checkpoint *c, const char *name, size_t limit, void **data,
                                  size_t *bytes) BN_MUST_CHECK;

/* Opens, checks the schema and every checksum. */
bn_status bn_checkpoint_verify(const char *path) BN_MUST_CHECK;

/* ---- a folder of them ----
 * DIR/checkpoint-%08lld.h5 (by step), and two small text files with the name of
 * one of them and a newline, replaced as a whole. Strings are malloc'd. */

char *bn_checkpoint_path(const char *dir, int64_t step); /* NULL: no memory */

typedef enum bn_checkpoint_mark { BN_MARK_LATEST, BN_MARK_BEST } bn_checkpoint_mark;

bn_status bn_checkpoint_set_mark(const char *dir, bn_checkpoint_mark mark,
                                 int64_t step) BN_MUST_CHECK;
/* Step of the marked checkpoint; -1 if the mark is missing. BN_BAD_DATA if its
 * text is not a checkpoint name. */
bn_status bn_checkpoint_get_mark(const char *dir, bn_checkpoint_mark mark,
                                 int64_t *step) BN_MUST_CHECK;

/* Steps present by name, newest first, not opened. The caller frees *steps
 * (NULL if none). */
bn_status bn_checkpoint_list(const char *dir, int64_t **steps, size_t *count) BN_MUST_CHECK;

/* The newest that verifies; BN_NO_INPUT if the folder has none. Every newer
 * one that was passed over adds its reason, one string each, to `skipped`
 * ({0} at the start; NULL: not wanted; the caller clears). */
bn_status bn_checkpoint_find_newest(const char *dir, int64_t *step, char **path,
                                    bn_strings *skipped) BN_MUST_CHECK;

/* The best one if it is marked and verifies, else the newest that does. */
bn_status bn_checkpoint_find_best(const char *dir, int64_t *step, char **path,
                                  bn_strings *skipped) BN_MUST_CHECK;

/* Deletes all but the newest `limit` (0: delete none), the one marked best and
 * the one of step `verified` (the last that was seen to verify: after a save,
 * that one). Also removes temporary files that a killed run left behind.
 * BN_BAD_DATA or BN_NO_INPUT: the mark of the best one cannot be read, and no
 * checkpoint was deleted. */
bn_status bn_checkpoint_prune(const char *dir, int limit, int64_t verified) BN_MUST_CHECK;

/* ---- what a file is ---- */
typedef enum bn_model_file {
    BN_MODEL_FILE_CHECKPOINT,
    BN_MODEL_FILE_PACKED,
} bn_model_file;

/* Reads the `format` attribute; BN_BAD_DATA if it is neither. */
bn_status bn_model_file_kind(const char *path, bn_model_file *kind) BN_MUST_CHECK;

#endif
