/* export.h - the tensors of a model on their way into a packed file.
 *
 * Weights of BitLinear layers are collected as codes and scales, exactly as the
 * device quantized them; everything else as float32. A set owns its memory.
 */
#ifndef BN_TOOLS_EXPORT_H
#define BN_TOOLS_EXPORT_H

#include "checkpoint/packed.h"
#include "model/load.h"

typedef struct bn_export_item {
    char name[BN_PARAM_NAME_MAX + 8];
    bool coded; /* codes and scales */
    int ndim;
    int64_t shape[BN_MAX_DIMS];
    int64_t group_size; /* of codes */
    uint8_t *codes;     /* rows of bn_grid_dtype(grid) */
    float *data;        /* of codes the scales; else the elements */
    int64_t count;      /* floats in `data` */
    /* A matrix that stays in the file it came from: borrowed, in place of
     * `data`, elements of a short encoding (bn_packed_tensor). */
    const uint8_t *stored;
    bn_grid grid; /* of codes */
} bn_export_item;

typedef struct bn_export_set {
    bn_export_item *items;
    int count;
} bn_export_set;

/* How tensors are written; codes of other grids than ternary as bit fields. 1-D tensors (norms,
 * biases) are always float32. */
typedef struct bn_export_format {
    bn_encoding ternary; /* BN_ENC_TERNARY2 or BN_ENC_BASE3X5 */
    bn_encoding floats;  /* BN_ENC_FLOAT32, _FLOAT16, _BFLOAT16 */
    int deflate;         /* 0: as they are */
} bn_export_format;

bn_encoding bn_export_encoding(const bn_export_item *item, const bn_export_format *format);

/* From a model with memory after bn_model_pack(). *out need not be
 * initialised; on failure it is cleared. */
bn_status bn_export_collect_model(const bn_model *model, bn_export_set *out) BN_MUST_CHECK;

/* BN_USAGE if a layer has codes that are not ternary: `form` ("--format gguf")
 * cannot hold them. */
bn_status bn_export_expect_ternary(const bn_model *model, const char *form) BN_MUST_CHECK;

/* From a packed file, codes and scales as stored. */
bn_status bn_export_collect_packed(const char *path, bn_export_set *out) BN_MUST_CHECK;

/* An empty set with room for `count` items, and memory for an item whose name,
 * shape, kind and group size are set (it sets `count`). */
bn_status bn_export_set_init(bn_export_set *set, int count) BN_MUST_CHECK;
bn_status bn_export_item_alloc(bn_export_item *item) BN_MUST_CHECK;

void bn_export_set_clear(bn_export_set *set); /* {0} is fine */

bn_status bn_export_write(const char *path, const bn_packed_info *info, const bn_export_set *set,
                          const bn_export_format *format) BN_MUST_CHECK;

/* Elements of the tensor. */
int64_t bn_export_numel(const bn_export_item *item);

/* Value as it reads back from a float encoding. */
float bn_export_round(float value, bn_encoding encoding);

#endif
