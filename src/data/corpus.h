/* corpus.h - a text as one long array of tokens, mapped, never loaded.
 *
 * A corpus is a list of segments (files) seen as one array: token i of the
 * corpus lies in the segment that covers i. Every segment is mapped read-only;
 * nothing is copied until bn_corpus_copy() widens a piece to int32. Two kinds
 * of file are segments:
 *   - a token shard (token_shard.h; docs/token-shards.md), known by its magic;
 *   - any other file, when bn_tokenizer_is_bytes(): its bytes are the tokens.
 *
 * A corpus is immutable after opening and may be read by several threads. The
 * files must not shrink while they are mapped.
 */
#ifndef BN_DATA_CORPUS_H
#define BN_DATA_CORPUS_H

#include <stdint.h>

#include "base/status.h"
#include "data/tokenizer.h"

typedef struct bn_corpus bn_corpus;

/* Opens `pattern`: the path of one file, or a glob ("data/part-*.txt") whose
 * matches follow one another in byte order of their names. A path that exists
 * is never taken as a glob. The tokenizer is used during the call only.
 * BN_NO_INPUT: nothing matches, or a file cannot be read, or is a folder.
 * BN_BAD_DATA: an empty file, a damaged shard, a shard of another tokenizer,
 * a token outside the vocabulary. All messages begin with the path. */
bn_status bn_corpus_open(const char *pattern, const bn_tokenizer *tokenizer,
                         bn_corpus **out) BN_MUST_CHECK;
void bn_corpus_free(bn_corpus *corpus);

/* Tokens in all, at least 1. */
int64_t bn_corpus_size(const bn_corpus *corpus);

/* The pattern it was opened with, for messages; belongs to the corpus. */
const char *bn_corpus_name(const bn_corpus *corpus);

/* Files and their paths in order, segment 0..segments-1. */
int64_t bn_corpus_segments(const bn_corpus *corpus);
const char *bn_corpus_segment_path(const bn_corpus *corpus, int64_t segment);

/* out[0..count-1] = tokens start..start+count-1, across segments. The caller
 * keeps 0 <= start, 0 <= count, start + count <= size. */
void bn_corpus_copy(const bn_corpus *corpus, int64_t start, int64_t count, int32_t *out);

/* A contiguous part of a corpus, by value; the corpus is borrowed. */
typedef struct bn_span {
    const bn_corpus *corpus;
    int64_t start;
    int64_t count;
} bn_span;

/* The whole corpus. */
bn_span bn_corpus_all(const bn_corpus *corpus);

/* Cuts a corpus at token floor(size * (1 - fraction)): what is before trains,
 * the tail validates. No token is in both, and batches never leave their span,
 * so no training target is ever evaluated. fraction 0 leaves the tail empty
 * (count 0). BN_BAD_CONFIG: fraction not in [0, 1). */
bn_status bn_corpus_split(const bn_corpus *corpus, double fraction, bn_span *train,
                          bn_span *validation) BN_MUST_CHECK;

#endif
