/* sentencepiece_model.h - a SentencePiece tokenizer.model as a tokenizer.json.
 *
 * The file is a ModelProto of protocol buffers (sentencepiece_model.proto): the
 * pieces with scores and types, a TrainerSpec and a NormalizerSpec. Models of
 * type BPE and UNIGRAM are understood.
 *
 * The text that comes out says all that decides the tokens, so that checkpoints
 * and exports carry one kind of text for every tokenizer. Beyond what others
 * write into a tokenizer.json it has
 *   model.sentencepiece   true: special tokens and byte pieces are not found in
 *                         text; merges with one result have one rank; scores are
 *                         added in float
 *   model.min_score       the lowest score of an ordinary piece (Unigram)
 *   normalizer            type "SentencePiece", unless Prepend and Replace say
 *                         the same: its table (base64), flags, and the symbols
 *                         that are never replaced
 */
#ifndef BN_DATA_SENTENCEPIECE_MODEL_H
#define BN_DATA_SENTENCEPIECE_MODEL_H

#include <stddef.h>

#include "base/status.h"

/* The caller frees *json. BN_BAD_DATA for what is no such file or is not
 * supported. */
bn_status bn_sentencepiece_to_json(const void *model, size_t size, char **json) BN_MUST_CHECK;

#endif
