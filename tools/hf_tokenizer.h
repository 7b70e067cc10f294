/* hf_tokenizer.h - the byte tokenizer as Hugging Face knows it: a byte-level BPE
 * of 256 tokens, the id of each the value of its byte, without merges. */
#ifndef BN_TOOLS_HF_TOKENIZER_H
#define BN_TOOLS_HF_TOKENIZER_H

#include <stdbool.h>

#include "base/status.h"

/* The text of its tokenizer.json; the caller frees. */
bn_status bn_hf_byte_tokenizer(char **json) BN_MUST_CHECK;

/* Whether a file holds exactly that text. */
bn_status bn_hf_is_byte_tokenizer(const char *path, bool *yes) BN_MUST_CHECK;

#endif
