/* gguf_merge.h - a SentencePiece-style BPE as llama.cpp's model "llama" cuts it.
 *
 * There is no list of merges there: two neighbours are put together whenever
 * the result is any token of the vocabulary, the one of highest score first, of
 * equals the leftmost. Merges by rank give the same tokens for every text if
 * and only if
 *   - every token that merging two neighbours here may meet is made by the
 *     merges when its own text is cut. Then only the last of those merges ever
 *     meets the token, and minus its rank is the score;
 *   - no other token falls into exactly two symbols when its text is cut, for
 *     llama.cpp would put those together.
 * (What a piece of a text is cut into inside of a text, as long as nothing
 * grows over its ends, are steps of how it is cut alone.)
 */
#ifndef BN_INTEROP_GGUF_MERGE_H
#define BN_INTEROP_GGUF_MERGE_H

#include "base/text.h"
#include "data/bpe_tokenizer.h"

/* The score of each of tokens[0..count-1]: minus the rank of its merge, below
 * all of those for what is not made. `skip[id]`: never met, since it is taken
 * out of the text before. NULL tokens are holes. Adds to `gaps` a sentence if
 * llama.cpp cuts texts differently. */
bn_status bn_gguf_merge_scores(const bn_bpe_tokenizer *tokenizer, const char *const *tokens,
                               const bool *skip, int64_t count, float *scores,
                               bn_strings *gaps) BN_MUST_CHECK;

#endif
