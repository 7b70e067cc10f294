/* peft.h - adapters in the layout of Hugging Face's PEFT: a folder with
 * adapter_model.safetensors and adapter_config.json.
 *
 * Tensors are base_model.model.<layer>.lora_A.weight [r,in] and lora_B.weight
 * [out,r]. PEFT has no place for what an adapter belongs to; base.sha256 beside its
 * two files holds the base's identity, and is checked where it is there.
 */
#ifndef BN_MODEL_PEFT_H
#define BN_MODEL_PEFT_H

#include "model/adapter.h"

/* A folder with an adapter_config.json. */
bool bn_peft_is(const char *path);

/* Part of bn_adapter_open(). What this project has no layer or no formula for (DoRA,
 * trained biases, ranks that differ) is BN_BAD_DATA. On failure *out may be set. */
bn_status bn_peft_read(const char *dir, const bn_adapter_base *base,
                       bn_adapter **out) BN_MUST_CHECK;

/* Makes the folder if it is missing; float32. */
bn_status bn_peft_write(const bn_adapter *adapter, const char *dir,
                        const bn_adapter_base *base) BN_MUST_CHECK;

#endif
