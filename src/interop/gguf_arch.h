/* gguf_arch.h - a model under the names of llama.cpp's architecture "bitnet".
 *
 * That graph (llama.cpp: src/models/bitnet.cpp) has the sub-norms, rotates
 * halves of a head as Hugging Face does (so q and k are not permuted), takes
 * the embedding as the output head, multiplies the output of a quantized layer
 * with an optional "NAME.scale", and gates with SiLU.
 */
#ifndef BN_INTEROP_GGUF_ARCH_H
#define BN_INTEROP_GGUF_ARCH_H

#include "config/config.h"
#include "interop/gguf.h"

/* The GGUF name of a parameter: "model.layers.3.mlp.up_proj.weight" becomes
 * "blk.3.ffn_up.weight". False: the architecture has no such tensor. */
bool bn_gguf_tensor_name(const char *name, char out[BN_GGUF_MAX_NAME]);

/* The general and architecture keys. `type` is that of most weights. */
void bn_gguf_arch_meta(const bn_config *config, int64_t vocab, bn_gguf_type type,
                       bn_gguf_meta *meta);

/* Adds a sentence for everything that llama.cpp computes differently; none for
 * a model that it computes as it is. */
bn_status bn_gguf_arch_gaps(const bn_config *config, bn_strings *gaps) BN_MUST_CHECK;

#endif
