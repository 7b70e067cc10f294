/* inspect.h - what is in a model file, tensor by tensor. */
#ifndef BN_TOOLS_INSPECT_H
#define BN_TOOLS_INSPECT_H

#include "base/json.h"
#include "interop/gguf.h"
#include "model/load.h"
#include "quant/analysis.h"

typedef struct bn_tensor_info {
    char name[256];
    const char *encoding; /* in the file */
    int ndim;
    int64_t shape[BN_MAX_DIMS];
    uint64_t bytes_float;  /* as float32 */
    uint64_t bytes_packed; /* in a packed file; of a checkpoint: as it would be, ternary ones as
                              base3x5 */
    bool coded;            /* codes and scales, or quantized in training */
    bn_grid grid;
    /* Of coded tensors: */
    int64_t group_size; /* of GGUF: BN_PER_TENSOR, or the length of a block */
    bool has_shadow;    /* mse, sqnr_db, cosine and worst groups are known */
    bn_quant_error q;   /* codes and scales are always */
} bn_tensor_info;

typedef struct bn_file_info {
    char *path;
    bn_model_file kind;
    uint64_t file_bytes;
    char *config_json, *tokenizer, *producer;
    bn_train_state state; /* of a checkpoint; its strings are not set */
    bool has_moments;
    bn_tensor_info *tensors; /* sorted by name */
    int count;
    bn_strings skipped; /* of a folder */
    bn_gguf *gguf;      /* of a GGUF file, which has no kind, texts or state; else NULL */
} bn_file_info;

/* Reads all of MODEL's file (or a GGUF file), so that every checksum is checked. Errors as
 * bn_loaded_open(). *out need not be initialised; on failure it is cleared. */
bn_status bn_file_info_read(const char *path, bn_file_info *out) BN_MUST_CHECK;
void bn_file_info_clear(bn_file_info *info); /* {0} is fine */

/* A key of a GGUF file as JSON, of an array the first `most` items. */
void bn_gguf_value_json(bn_json *json, const bn_gguf_value *value, const char *key, uint64_t most);

#endif
