/* kv_cache.h - memory for the keys and values of a model's blocks.
 *
 * Elements are the backend's reals, or codes of 8 or 4 bits with their steps
 * (tensor/kv_codes.h; docs/numerics.md has the formula). What is fed is rounded
 * before anything reads it, so the logits do not depend on how tokens are cut into
 * calls.
 */
#ifndef BN_MODEL_KV_CACHE_H
#define BN_MODEL_KV_CACHE_H

#include "model/model.h"

typedef struct bn_kv_cache {
    bn_backend *backend;    /* borrowed */
    bn_layer_cache *layers; /* one per block, [sequences, positions, ..] */
    bn_buffer memory;
    size_t token_bytes; /* of one position of one sequence, all blocks */
} bn_kv_cache;

/* bits 8, 4, or 0: reals. BN_USAGE where the backend has no caches of codes. *out
 * need not be initialised; on failure it is cleared. */
bn_status bn_kv_cache_init(const bn_model *model, bn_backend *backend, int64_t sequences,
                           int64_t positions, int bits, bn_kv_cache *out) BN_MUST_CHECK;
void bn_kv_cache_clear(bn_kv_cache *cache); /* {0} is fine */

#endif
