/* hf_folder.h - writes a Hugging Face folder that transformers loads as
 * BitNetForCausalLM. */
#ifndef BN_TOOLS_HF_FOLDER_H
#define BN_TOOLS_HF_FOLDER_H

#include "interop/hf_config.h"
#include "tools/export.h"

/* How the weights of quantized layers are stored. */
typedef enum bn_hf_form {
    BN_HF_PACKED,  /* uint8, four codes in a byte; one scale per tensor */
    BN_HF_BF16,    /* codes (or code * scale, for several scales) as bfloat16 */
    BN_HF_FLOAT32, /* the same as float32 */
    BN_HF_SHADOW,  /* float32 shadow weights, quantized in every forward pass */
    BN_HF_FORMS,
} bn_hf_form;

const char *bn_hf_form_name(bn_hf_form form); /* "packed", "bf16", ... */

typedef struct bn_hf_folder {
    const bn_config *config;
    int64_t vocab;
    const char *tokenizer; /* name or JSON text */
    bn_hf_form form;
    bn_hf_weights weights; /* what config.json says they are */
    bn_encoding floats;    /* of matrices that are not quantized */
    const bn_strings *float_modules;
} bn_hf_folder;

/* config.json, generation_config.json, model.safetensors, tokenizer.json and
 * tokenizer_config.json into the empty folder `dir`. */
bn_status bn_hf_folder_write(const char *dir, const bn_hf_folder *folder,
                             const bn_export_set *set) BN_MUST_CHECK;

/* Bytes of an item in model.safetensors, its scale included. */
uint64_t bn_hf_stored_bytes(const bn_export_item *item, const bn_hf_folder *folder);

/* A one-word description of how an item is stored: "packed", "bfloat16", ... */
const char *bn_hf_stored_as(const bn_export_item *item, const bn_hf_folder *folder);

#endif
