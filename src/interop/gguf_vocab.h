/* gguf_vocab.h - a tokenizer as llama.cpp's keys tokenizer.ggml.*.
 *
 *   bytes         model "rwkv", which matches tokens in the bytes of a text
 *                 and has no end token: any text round-trips exactly
 *   byte-level    model "gpt2" with tokens, merges and types, and the name of
 *                 the pre-tokenizer that cuts by the same pattern
 *   SentencePiece model "llama" with tokens, scores (gguf_merge.h) and types,
 *                 and whether a text gets a space in front; BPE only
 *
 * Nothing is put in front of or behind a text. llama.cpp ends a "gpt2" text at
 * token 11 where no end token is named: without one in the vocabulary the token
 * of byte 0 is named, which text does not have. Rows of the embedding beyond
 * the vocabulary get tokens "[PADn]".
 */
#ifndef BN_INTEROP_GGUF_VOCAB_H
#define BN_INTEROP_GGUF_VOCAB_H

#include "interop/gguf.h"

/* `source` as in bn_tokenizer_source(), `vocab` rows of the embedding. Adds to
 * `gaps` a sentence for everything that llama.cpp does differently: an unknown
 * pattern (written as pre-tokenizer "default"), a normalizer, other merges, and
 * what is written as model "none", token ids only: Unigram, no byte tokens. */
bn_status bn_gguf_vocab_meta(const char *source, int64_t vocab, bn_gguf_meta *meta,
                             bn_strings *gaps) BN_MUST_CHECK;

#endif
