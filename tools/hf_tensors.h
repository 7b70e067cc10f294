/* hf_tensors.h - the tensors of a Hugging Face model as an export set.
 *
 * Every tensor that the model of the config asks for must be there with its
 * shape, and nothing else may be there but what is known to carry no weights:
 * rotary frequencies and the head of a model that ties it to the embedding.
 */
#ifndef BN_TOOLS_HF_TENSORS_H
#define BN_TOOLS_HF_TENSORS_H

#include "interop/hf_config.h"
#include "interop/safetensors.h"
#include "tools/export.h"

typedef struct bn_hf_tensors {
    bn_export_set set;
    bn_encoding floats;   /* holds every matrix that is not quantized as it was stored */
    bn_strings added;     /* sub-norms of ones */
    bn_strings renamed;   /* "from -> to" */
    bn_strings ignored;   /* "name: reason" */
    int packed, unpacked; /* ternary weights in each form */
} bn_hf_tensors;

/* `model` is registered, BN_MODEL_PACKED exactly for BN_HF_OFFLINE: then
 * matrices of a short type stay in `file`, which must live as long as *out.
 * *out need not be initialised; on failure it is cleared. */
bn_status bn_hf_tensors_read(const bn_hf_model *hf, const bn_st_reader *file, const bn_model *model,
                             bn_hf_tensors *out) BN_MUST_CHECK;
void bn_hf_tensors_clear(bn_hf_tensors *tensors); /* {0} is fine */

#endif
