/* pool.h - blocks of host memory by size class, with a limit and exact accounts.
 *
 * Released blocks of up to BN_POOL_CACHED bytes are kept by size class (four to
 * each doubling, so at most a quarter of a block is lost) and handed out again;
 * larger ones go back to the system at once, where new pages cost nothing until
 * they are touched. All functions may be called from any thread.
 *
 * Under the address sanitizer every block is followed by a red zone and cached
 * blocks are poisoned. Built with BN_POOL_MALLOC=1 nothing is cached, for tools
 * that watch malloc.
 */
#ifndef BN_BASE_POOL_H
#define BN_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    BN_POOL_ALIGN = 128,      /* of every block */
    BN_POOL_CACHED = 1 << 20, /* largest block that is kept */
};

typedef struct bn_pool bn_pool;

typedef struct bn_pool_usage {
    size_t bytes, peak_bytes; /* asked for and not yet given back: now, at most */
    size_t reserved_bytes;    /* held from the system, bookkeeping included */
    size_t limit;             /* 0: none */
    uint64_t blocks;          /* handed out now */
    uint64_t takes, reused;   /* calls of bn_pool_take() so far; of these from the cache */
} bn_pool_usage;

/* `limit`: most bytes handed out at a time, 0 = no limit. */
bn_status bn_pool_new(size_t limit, bn_pool **out) BN_MUST_CHECK;

/* Every block must have been given back (an assertion in debug builds). */
void bn_pool_free(bn_pool *pool); /* NULL is fine */

/* A zeroed block. BN_FAIL when the system has no memory, or beyond the limit,
 * which the message names. */
bn_status bn_pool_take(bn_pool *pool, size_t bytes, void **block) BN_MUST_CHECK;
void bn_pool_give(bn_pool *pool, void *block); /* NULL is fine */

/* Returns all cached blocks to the system. */
void bn_pool_trim(bn_pool *pool);

void bn_pool_get_usage(bn_pool *pool, bn_pool_usage *out);

/* The part of the held memory that nobody has asked for, 0 to 1: what rounding
 * to size classes and the cache cost. */
static inline double bn_pool_fragmentation(const bn_pool_usage *u)
{
    return u->reserved_bytes ? 1 - (double)u->bytes / (double)u->reserved_bytes : 0;
}

#endif
