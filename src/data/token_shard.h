/* token_shard.h - the .bnt file: a checked header, then an array of tokens.
 *
 * Specified in docs/token-shards.md. Little-endian; 64 bytes of header, then
 * `count` tokens of 1, 2 or 4 bytes. Readers map the file and use the tokens
 * where they lie.
 */
#ifndef BN_DATA_TOKEN_SHARD_H
#define BN_DATA_TOKEN_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/tokenizer.h"

enum {
    BN_SHARD_HEADER_BYTES = 64,
    BN_SHARD_VERSION = 1,
    BN_SHARD_NAME_BYTES = 24, /* tokenizer name with its '\0' */
};

typedef struct bn_shard {
    int width;          /* bytes per token: 1, 2 or 4 */
    int64_t count;      /* tokens, at least 1 */
    const void *tokens; /* `count` of them, inside the caller's bytes */
} bn_shard;

/* True when a file that begins with bytes[0..size-1] claims to be a shard. */
bool bn_shard_is(const void *bytes, size_t size);

/* Checks a whole shard in memory (a mapped file, aligned to 4 bytes at least)
 * and describes it: header, size, tokenizer, and every token below the
 * tokenizer's vocabulary size. BN_BAD_DATA with what was expected and found;
 * the caller adds the path. */
bn_status bn_shard_parse(const void *bytes, size_t size, const bn_tokenizer *tokenizer,
                         bn_shard *out) BN_MUST_CHECK;

/* Writes shards piece by piece, of the narrowest width that holds the
 * vocabulary. The file appears under `path` only when bn_shard_writer_finish()
 * has returned BN_OK (temporary name, fsync, rename). */
typedef struct bn_shard_writer bn_shard_writer;

bn_status bn_shard_writer_new(const char *path, const bn_tokenizer *tokenizer,
                              bn_shard_writer **out) BN_MUST_CHECK;

/* BN_BAD_DATA for an id outside the vocabulary, BN_IO when writing fails. */
bn_status bn_shard_writer_append(bn_shard_writer *writer, const int32_t *ids,
                                 size_t count) BN_MUST_CHECK;

/* BN_BAD_DATA when nothing was appended. The writer still has to be freed. */
bn_status bn_shard_writer_finish(bn_shard_writer *writer) BN_MUST_CHECK;

/* Frees; without a successful finish nothing is left on disk. */
void bn_shard_writer_free(bn_shard_writer *writer);

#endif
