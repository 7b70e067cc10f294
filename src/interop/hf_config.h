/* hf_config.h - config.json of a Hugging Face model, both ways.
 *
 * Known models, told apart by model_type and architectures:
 *
 *   BitNetForCausalLM ("bitnet")  with a quantization_config: ternary, in the
 *       form that linear_class and quantization_mode say; without: float
 *   BitnetForCausalLM ("llama" with weight_bits 1, input_bits 8; 1bitLLM's)
 *       shadow weights of a ternary model; its inner norms have other names
 *   LlamaForCausalLM ("llama")    float weights to start a ternary model from
 *
 * Whatever would make the model compute something else than it does there
 * (biases, scaled rotary frequencies, another head size, another quantizer) is
 * refused, BN_BAD_DATA with file, key, expected and found.
 */
#ifndef BN_INTEROP_HF_CONFIG_H
#define BN_INTEROP_HF_CONFIG_H

#include "config/config.h"

typedef enum bn_hf_family {
    BN_HF_BITNET,
    BN_HF_1BITLLM,
    BN_HF_LLAMA,
} bn_hf_family;

/* What the weights of quantized layers are. */
typedef enum bn_hf_weights {
    BN_HF_FLOAT,   /* nothing is quantized */
    BN_HF_ONLINE,  /* shadow weights, quantized in every forward pass */
    BN_HF_OFFLINE, /* codes, packed or as numbers, beside a weight_scale */
} bn_hf_weights;

typedef struct bn_hf_model {
    bn_hf_family family;
    bn_hf_weights weights;
    bool scale_divides; /* offline: weight_scale is 1/scale ("bitlinear") */
    bn_config config;   /* model and quantization as the file says, else defaults */
} bn_hf_model;

const char *bn_hf_family_name(bn_hf_family family); /* "BitNetForCausalLM", ... */

/* Reads config.json. `set` holds "section.key=value" settings that go on top;
 * those that change the architecture are for BN_HF_LLAMA alone. *out need not
 * be initialised; on failure it is cleared. */
bn_status bn_hf_config_read(const char *path, const bn_strings *set,
                            bn_hf_model *out) BN_MUST_CHECK;
void bn_hf_model_clear(bn_hf_model *model); /* {0} is fine */

/* The config.json of a BitNetForCausalLM. */
typedef struct bn_hf_layout {
    bn_hf_weights weights;
    const char *dtype;               /* torch's: "float32", "bfloat16" */
    const bn_strings *float_modules; /* modules_to_not_convert, full names */
} bn_hf_layout;

/* Groups and rows of scales, which Hugging Face does not know, are noted as
 * quantization_config.group_size; bn_hf_config_read() understands it. The
 * caller frees *json. */
bn_status bn_hf_config_write(const bn_config *config, int64_t vocab, const bn_hf_layout *layout,
                             char **json) BN_MUST_CHECK;

#endif
