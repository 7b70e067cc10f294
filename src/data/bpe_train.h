/* bpe_train.h - makes a byte-level BPE vocabulary from texts.
 *
 * Words are those of GPT-2's pattern, symbols are bytes. The most frequent pair
 * of neighbours becomes a token, among equals the pair of lowest ids, until
 * the vocabulary has its size: the rule, and the ids, of Hugging Face's
 * trainer. The result depends on the texts alone.
 */
#ifndef BN_DATA_BPE_TRAIN_H
#define BN_DATA_BPE_TRAIN_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

typedef struct bn_bpe_trainer bn_bpe_trainer;

bn_status bn_bpe_trainer_new(bn_bpe_trainer **out) BN_MUST_CHECK;
void bn_bpe_trainer_free(bn_bpe_trainer *trainer);

/* Counts the words of a text; its bytes are not kept. */
bn_status bn_bpe_trainer_add(bn_bpe_trainer *trainer, const void *text, size_t bytes) BN_MUST_CHECK;

/* The text of a tokenizer.json; the caller frees. Ids: the special tokens, the
 * 256 bytes, then the merges. Texts without enough pairs that occur
 * `min_frequency` times give a smaller vocabulary; *size is what it became.
 * BN_USAGE: vocab_size below 256 and the special tokens, or one given twice. */
bn_status bn_bpe_trainer_finish(bn_bpe_trainer *trainer, int64_t vocab_size, int64_t min_frequency,
                                const bn_strings *special, char **json,
                                int64_t *size) BN_MUST_CHECK;

#endif
