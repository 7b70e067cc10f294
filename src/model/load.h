/* load.h - from a path to a model that can run.
 *
 * MODEL on a command line is an output folder (its best checkpoint, else the
 * newest that verifies), a training checkpoint, or a packed file. All become
 * the same thing: a config, a tokenizer and a model with memory on a backend.
 *
 * A file must hold the tensors that its own config asks for, all of them, with
 * exactly these shapes and encodings, and no others.
 *
 * Layers with quantized weights but float activations have no integer product.
 * From a packed file they become float layers whose weights are codes times
 * scales; the numbers are those of training.
 */
#ifndef BN_MODEL_LOAD_H
#define BN_MODEL_LOAD_H

#include "checkpoint/checkpoint.h"
#include "data/tokenizer.h"
#include "model/model.h"

typedef struct bn_loaded {
    bn_config config;
    bn_tokenizer *tokenizer;
    bn_model *model;
    bool is_packed;     /* from a packed file: no shadow weights */
    char *path;         /* the file that was read */
    int64_t step;       /* of a checkpoint, else 0 */
    bn_strings skipped; /* damaged checkpoints of the folder, with reasons */
} bn_loaded;

/* Checkpoints load as BN_MODEL_FLOAT without gradients. With `run` they are
 * packed, so that both kinds run the same integer product, and the codes are
 * arranged for it (bn_model_pack, bn_model_arrange): for using the model, not
 * for looking at its weights.
 * BN_NO_INPUT: nothing there; BN_BAD_DATA: not a model or damaged, with the
 * reason. *out need not be initialised; on failure it is cleared. */
bn_status bn_loaded_open(const char *path, bn_backend *backend, bool run,
                         bn_loaded *out) BN_MUST_CHECK;
/* As a frozen base for adapters: packed, not arranged, whatever the file is; of a
 * checkpoint each quantized weight is packed while it is read, and no float copy
 * stays. `run`, unless NULL, becomes the config: BN_BAD_CONFIG where it describes
 * another network, or one that has no packed product. */
bn_status bn_loaded_open_base(const char *path, bn_backend *backend, const bn_config *run,
                              bn_loaded *out) BN_MUST_CHECK;
/* What bn_loaded_open() checks, and a model without memory: bn_model_outline(). */
bn_status bn_loaded_outline(const char *path, bn_backend *backend, bn_loaded *out) BN_MUST_CHECK;
void bn_loaded_clear(bn_loaded *loaded); /* {0} is fine */

/* The parameters of `loaded` as those of `to`, a model with memory on any backend;
 * how layers are quantized may differ: a learned scale that `loaded` has not, or of
 * other codes, starts from the weights. BN_BAD_CONFIG naming the first that is
 * missing, too many or of another shape; BN_BAD_DATA for a packed file with
 * quantized layers, which has no shadow weights. */
bn_status bn_loaded_give(const bn_loaded *loaded, bn_model *to) BN_MUST_CHECK;

/* BN_BAD_DATA unless the model is of this kind: what only one can do. */
bn_status bn_loaded_expect(const bn_loaded *loaded, bn_cfg_kind kind) BN_MUST_CHECK;

/* The file that MODEL stands for, malloc'd, and what it is; nothing else is
 * read. `skipped` ({0}) as in bn_checkpoint_find_best(). */
bn_status bn_model_locate(const char *path, char **file, bn_model_file *kind,
                          bn_strings *skipped) BN_MUST_CHECK;

/* The config that a model file with so many tensors carries, checked. What is
 * wrong with it is BN_BAD_DATA: the file is to blame, not the user. */
bn_status bn_model_config_parse(const char *path, const char *json, int tensors,
                                bn_config *out) BN_MUST_CHECK;

/* The same of an open checkpoint; adapters may be in a few layers of many only. */
bn_status bn_checkpoint_config(const char *path, bn_checkpoint *file, bn_config *out) BN_MUST_CHECK;

#endif
