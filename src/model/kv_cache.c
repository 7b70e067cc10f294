#include "model/kv_cache.h"

#include <stdlib.h>

#include "base/checked.h"

/* K or V of one block. */
static bn_tensor shape_of(const bn_model *model, const bn_backend *be, int64_t sequences,
                          int64_t positions, int bits)
{
    const bn_attention_layer *attn = &model->blocks[0].self_attn;
    const bn_kv_codes codes = {bits, attn->kv_heads, attn->head_dim};
    return bits ? bn_tensor_3d(BN_U8, sequences, positions, bn_kv_row_bytes(&codes))
                : bn_tensor_3d(be->real, sequences, positions, attn->kv_heads * attn->head_dim);
}

/* All of them in one buffer. */
static bn_status alloc_layers(const bn_model *model, bn_tensor shape, int bits, bn_kv_cache *out)
{
    const size_t each = bn_align_up(bn_tensor_bytes(&shape), BN_ALIGN);
    size_t all;
    if (!bn_mul_size(each, 2 * (size_t)model->n_blocks, &all))
        return bn_error_nomem("the KV cache", SIZE_MAX);
    out->layers = calloc((size_t)model->n_blocks, sizeof *out->layers);
    if (!out->layers)
        return bn_error_nomem("the KV cache", (size_t)model->n_blocks * sizeof *out->layers);
    BN_TRY(out->backend->alloc(out->backend, all, &out->memory));
    for (int i = 0; i < model->n_blocks; i++)
        out->layers[i] =
            (bn_layer_cache){.k = bn_tensor_at(shape, &out->memory, 2 * (size_t)i * each),
                             .v = bn_tensor_at(shape, &out->memory, (2 * (size_t)i + 1) * each),
                             .bits = bits};
    return BN_OK;
}

bn_status bn_kv_cache_init(const bn_model *model, bn_backend *backend, int64_t sequences,
                           int64_t positions, int bits, bn_kv_cache *out)
{
    *out = (bn_kv_cache){.backend = backend};
    if (bits && !backend->kv_codes)
        return bn_error(BN_USAGE,
                        "a KV cache of %d bits does not run on %s: --cache-type float32, or "
                        "--device cpu",
                        bits, backend->name);
    const bn_tensor shape = shape_of(model, backend, sequences, positions, bits);
    out->token_bytes =
        2 * (size_t)model->n_blocks * bn_tensor_bytes(&shape) / (size_t)bn_tensor_rows(&shape);
    bn_status status = alloc_layers(model, shape, bits, out);
    if (status != BN_OK)
        bn_kv_cache_clear(out);
    return status;
}

void bn_kv_cache_clear(bn_kv_cache *cache)
{
    if (cache->backend)
        cache->backend->release(cache->backend, &cache->memory);
    free(cache->layers);
    *cache = (bn_kv_cache){0};
}
