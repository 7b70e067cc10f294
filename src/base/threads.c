#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/timer.h"

enum { MAX_THREADS = 4096, PAUSES_PER_LOOK_AT_CLOCK = 32 };
static const double spin_seconds = 40e-6;
static const int64_t most_chunks = INT32_MAX;    /* of one posted loop */
static const uint64_t closed_chunk = UINT32_MAX; /* beyond any of them */

typedef struct worker {
    bn_threads *pool;
    pthread_t thread;
    int index;
} worker;

/* One loop is posted at a time. `ticket` holds its number (high 32 bits) and
 * its next chunk (low 32 bits); a chunk is claimed by a compare-and-swap of
 * both. A worker reads the loop's fields before it claims. The caller closes
 * the ticket of the last loop before it writes the next one's fields: a worker
 * that has read one of these (acquire) after they were written (release) finds
 * the ticket changed, so that its claim fails, and a claim that succeeds was
 * made with the fields of its own loop. Workers that are late therefore need
 * not be waited for. Without the closing, the ticket of a loop whose chunks are
 * all claimed would still match, and the next loop's larger number of chunks
 * would let a late worker claim one that does not exist. */
struct bn_threads {
    int count;
    double spin; /* seconds; 0 if there are more threads than CPUs */
    _Atomic uint64_t ticket;
    _Atomic int64_t chunks, base;
    _Atomic bn_chunk_fn fn;
    _Atomic(void *) arg;
    _Atomic int64_t done; /* chunks of this loop that have returned */

    pthread_mutex_t mutex;
    pthread_cond_t posted, finished;
    atomic_int sleepers;       /* workers in posted */
    atomic_bool caller_sleeps; /* the caller in finished */
    atomic_bool stop;
    int started;
    worker workers[];
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint32_t loop_of(uint64_t ticket)
{
    return (uint32_t)(ticket >> 32);
}

/* Runs chunks of loop `loop` until none is left to claim. */
static void run_chunks(bn_threads *pool, uint32_t loop, int index)
{
    uint64_t ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
    while (loop_of(ticket) == loop) {
        int64_t chunk = (uint32_t)ticket;
        int64_t chunks = atomic_load_explicit(&pool->chunks, memory_order_acquire);
        int64_t base = atomic_load_explicit(&pool->base, memory_order_acquire);
        bn_chunk_fn fn = atomic_load_explicit(&pool->fn, memory_order_acquire);
        void *arg = atomic_load_explicit(&pool->arg, memory_order_acquire);
        if (chunk >= chunks)
            return;
        if (!atomic_compare_exchange_weak_explicit(&pool->ticket, &ticket, ticket + 1,
                                                   memory_order_acq_rel, memory_order_acquire))
            continue;
        fn(arg, base + chunk, index);
        if (atomic_fetch_add(&pool->done, 1) + 1 == chunks && atomic_load(&pool->caller_sleeps)) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->finished);
            pthread_mutex_unlock(&pool->mutex);
        }
        ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
    }
}

/* True while there is nothing for a worker that has seen loop `seen`. */
static bool idle(bn_threads *pool, uint32_t seen)
{
    return loop_of(atomic_load(&pool->ticket)) == seen && !atomic_load(&pool->stop);
}

static void wait_for_loop(bn_threads *pool, uint32_t seen)
{
    for (double end = bn_seconds() + pool->spin; bn_seconds() < end;) {
        for (int i = 0; i < PAUSES_PER_LOOK_AT_CLOCK; i++) {
            if (!idle(pool, seen))
                return;
            relax();
        }
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while (idle(pool, seen))
        pthread_cond_wait(&pool->posted, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void *worker_main(void *arg)
{
    worker *self = arg;
    bn_threads *pool = self->pool;
    for (uint32_t seen = 0;;) {
        wait_for_loop(pool, seen);
        if (atomic_load(&pool->stop))
            return NULL;
        seen = loop_of(atomic_load(&pool->ticket));
        run_chunks(pool, seen, self->index);
    }
}

static void wait_until_done(bn_threads *pool, int64_t chunks)
{
    for (double end = bn_seconds() + pool->spin; bn_seconds() < end;) {
        for (int i = 0; i < PAUSES_PER_LOOK_AT_CLOCK; i++) {
            if (atomic_load_explicit(&pool->done, memory_order_acquire) == chunks)
                return;
            relax();
        }
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->caller_sleeps, true);
    while (atomic_load(&pool->done) != chunks)
        pthread_cond_wait(&pool->finished, &pool->mutex);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->mutex);
}

/* One loop of at most most_chunks chunks, numbered from `base`. */
static void run_loop(bn_threads *pool, int64_t base, int64_t chunks, bn_chunk_fn fn, void *arg)
{
    uint32_t last = loop_of(atomic_load_explicit(&pool->ticket, memory_order_relaxed));
    uint32_t loop = last + UINT32_C(1);
    atomic_store(&pool->ticket, (uint64_t)last << 32 | closed_chunk);
    atomic_store_explicit(&pool->chunks, chunks, memory_order_release);
    atomic_store_explicit(&pool->base, base, memory_order_release);
    atomic_store_explicit(&pool->fn, fn, memory_order_release);
    atomic_store_explicit(&pool->arg, arg, memory_order_release);
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    /* Sequentially consistent with `sleepers`: either we see the sleeper, or
     * it sees the new ticket before it sleeps. */
    atomic_store(&pool->ticket, (uint64_t)loop << 32);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->mutex);
        for (int64_t i = 1; i < chunks && i < pool->count; i++)
            pthread_cond_signal(&pool->posted);
        pthread_mutex_unlock(&pool->mutex);
    }
    run_chunks(pool, loop, 0);
    wait_until_done(pool, chunks);
}

void bn_parallel_for(bn_threads *pool, int64_t chunks, bn_chunk_fn fn, void *arg)
{
    if (pool->count == 1 || chunks <= 1) {
        for (int64_t chunk = 0; chunk < chunks; chunk++)
            fn(arg, chunk, 0);
        return;
    }
    for (int64_t base = 0; base < chunks; base += most_chunks) {
        int64_t rest = chunks - base;
        run_loop(pool, base, rest < most_chunks ? rest : most_chunks, fn, arg);
    }
}

int bn_cpu_count(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

int bn_threads_count(const bn_threads *pool)
{
    return pool->count;
}

/* Workers take no signals: those go to the thread that can act on them. */
static bn_status start_workers(bn_threads *pool)
{
    bn_status status = BN_OK;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 1; i < pool->count; i++) {
        worker *w = &pool->workers[i];
        *w = (worker){.pool = pool, .index = i};
        int error = pthread_create(&w->thread, NULL, worker_main, w);
        if (error) {
            status = bn_error(BN_FAIL, "threads: cannot start thread %d of %d: %s", i + 1,
                              pool->count, strerror(error));
            break;
        }
        pool->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

bn_status bn_threads_new(int count, bn_threads **out)
{
    *out = NULL;
    if (count < 0 || count > MAX_THREADS)
        return bn_error(BN_USAGE, "threads: %d, expected 0 (all) to %d", count, MAX_THREADS);
    int cpus = bn_cpu_count();
    if (count == 0)
        count = cpus;
    size_t bytes = sizeof(bn_threads) + (size_t)count * sizeof(worker);
    bn_threads *pool = calloc(1, bytes);
    if (!pool)
        return bn_error_nomem("thread pool", bytes);
    pool->count = count;
    pool->spin = count <= cpus ? spin_seconds : 0;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->posted, NULL);
    pthread_cond_init(&pool->finished, NULL);
    bn_status status = start_workers(pool);
    if (status != BN_OK)
        bn_threads_free(pool);
    else
        *out = pool;
    return status;
}

void bn_threads_free(bn_threads *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->stop, true);
    pthread_cond_broadcast(&pool->posted);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 1; i <= pool->started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->posted);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}
