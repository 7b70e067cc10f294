#include "base/pool.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/text.h"

#ifndef BN_POOL_MALLOC
#define BN_POOL_MALLOC 0
#endif

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
enum { RED_ZONE = 128 };
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
enum { RED_ZONE = 0 };
#endif

enum {
    HEADER = BN_POOL_ALIGN, /* bytes in front of a block */
    SMALLEST_LOG2 = 7,
    SMALLEST = 1 << SMALLEST_LOG2,
    STEPS = 4,                                  /* classes to a doubling */
    CLASSES = STEPS * (20 - SMALLEST_LOG2) + 1, /* the last has 1 MiB */
    LARGE = -1,                                 /* of a block that is not cached */
};

typedef struct header {
    struct header *next; /* in the cache */
    void *memory;        /* what the system gave */
    size_t bytes;        /* asked for */
    size_t room;         /* of the class */
    size_t reserved;     /* of `memory` */
    int size_class;
} header;

_Static_assert(sizeof(header) <= HEADER, "the header fits in front of a block");

struct bn_pool {
    pthread_mutex_t mutex;
    bn_pool_usage usage;
    header *cached[CLASSES];
};

static void *block_of(header *h)
{
    return (char *)h + HEADER;
}

static header *header_of(void *block)
{
    return (header *)(void *)((char *)block - HEADER);
}

/* The smallest class with room for `bytes`, and its room. Class 4d + s has
 * 2^(7 + d) (4 + s) / 4 bytes. */
static int class_of(size_t bytes, size_t *room)
{
    if (BN_POOL_MALLOC || bytes > BN_POOL_CACHED) {
        *room = bytes;
        return LARGE;
    }
    if (bytes <= SMALLEST) {
        *room = SMALLEST;
        return 0;
    }
    const int log2 = 63 - __builtin_clzll(bytes - 1);
    const size_t power = (size_t)1 << log2, quarter = power / STEPS;
    const size_t steps = (bytes - power + quarter - 1) / quarter;
    *room = power + steps * quarter;
    return (log2 - SMALLEST_LOG2) * STEPS + (int)steps;
}

bn_status bn_pool_new(size_t limit, bn_pool **out)
{
    *out = NULL;
    bn_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return bn_error_nomem("a memory pool", sizeof *pool);
    pool->usage.limit = limit;
    pthread_mutex_init(&pool->mutex, NULL);
    *out = pool;
    return BN_OK;
}

void bn_pool_free(bn_pool *pool)
{
    if (!pool)
        return;
    assert(pool->usage.blocks == 0 && "every block of the pool has been given back");
    bn_pool_trim(pool);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

/* Counts a block in, unless that exceeds the limit. Locked. */
static bn_status count_in(bn_pool *pool, size_t bytes)
{
    bn_pool_usage *u = &pool->usage;
    if (u->limit && (bytes > u->limit || u->bytes > u->limit - bytes)) {
        char more[BN_SIZE_TEXT], used[BN_SIZE_TEXT], limit[BN_SIZE_TEXT];
        return bn_error(BN_FAIL, "%s more would exceed the memory limit of %s (%s in use)",
                        bn_size_text(bytes, more), bn_size_text(u->limit, limit),
                        bn_size_text(u->bytes, used));
    }
    u->bytes += bytes;
    u->peak_bytes = u->bytes > u->peak_bytes ? u->bytes : u->peak_bytes;
    u->blocks++;
    u->takes++;
    return BN_OK;
}

/* A block from the system: zeroed, `room` bytes and a red zone. */
static header *fresh(size_t room)
{
    size_t reserved; /* no object is larger than PTRDIFF_MAX */
    if (!bn_add_size(room, HEADER + RED_ZONE + BN_POOL_ALIGN, &reserved) || reserved > PTRDIFF_MAX)
        return NULL;
    char *memory = calloc(1, reserved);
    if (!memory)
        return NULL;
    header *h = (header *)(void *)(((uintptr_t)memory + BN_POOL_ALIGN - 1) &
                                   ~(uintptr_t)(BN_POOL_ALIGN - 1));
    *h = (header){.memory = memory, .room = room, .reserved = reserved};
    return h;
}

static void release(bn_pool *pool, header *h)
{
    pool->usage.reserved_bytes -= h->reserved;
    ASAN_UNPOISON_MEMORY_REGION(block_of(h), h->room + RED_ZONE);
    free(h->memory);
}

bn_status bn_pool_take(bn_pool *pool, size_t bytes, void **block)
{
    size_t room;
    const int size_class = class_of(bytes, &room);
    *block = NULL;
    pthread_mutex_lock(&pool->mutex);
    bn_status status = count_in(pool, bytes);
    header *h = status == BN_OK && size_class != LARGE ? pool->cached[size_class] : NULL;
    if (h) {
        pool->cached[size_class] = h->next;
        pool->usage.reused++;
    }
    pthread_mutex_unlock(&pool->mutex);
    BN_TRY(status);
    if (h) {
        ASAN_UNPOISON_MEMORY_REGION(block_of(h), room);
        memset(block_of(h), 0, bytes);
    } else {
        h = fresh(room);
        pthread_mutex_lock(&pool->mutex);
        if (h) {
            pool->usage.reserved_bytes += h->reserved;
        } else {
            pool->usage.bytes -= bytes;
            pool->usage.blocks--;
        }
        pthread_mutex_unlock(&pool->mutex);
        if (!h)
            return bn_error_nomem("a block", bytes);
    }
    h->bytes = bytes;
    h->size_class = size_class;
    ASAN_POISON_MEMORY_REGION((char *)block_of(h) + bytes, room - bytes + RED_ZONE);
    *block = block_of(h);
    return BN_OK;
}

void bn_pool_give(bn_pool *pool, void *block)
{
    if (!block)
        return;
    header *h = header_of(block);
    ASAN_POISON_MEMORY_REGION(block, h->room + RED_ZONE);
    pthread_mutex_lock(&pool->mutex);
    pool->usage.bytes -= h->bytes;
    pool->usage.blocks--;
    if (h->size_class == LARGE) {
        release(pool, h);
    } else {
        h->next = pool->cached[h->size_class];
        pool->cached[h->size_class] = h;
    }
    pthread_mutex_unlock(&pool->mutex);
}

void bn_pool_trim(bn_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    for (int i = 0; i < CLASSES; i++)
        while (pool->cached[i]) {
            header *h = pool->cached[i];
            pool->cached[i] = h->next;
            release(pool, h);
        }
    pthread_mutex_unlock(&pool->mutex);
}

void bn_pool_get_usage(bn_pool *pool, bn_pool_usage *out)
{
    pthread_mutex_lock(&pool->mutex);
    *out = pool->usage;
    pthread_mutex_unlock(&pool->mutex);
}
