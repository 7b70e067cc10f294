/* threads.h - a persistent pool that runs a loop over independent chunks.
 *
 * How many chunks there are is the caller's choice and must depend on the
 * problem alone, never on the number of threads: then results are the same for
 * any number of threads. Workers spin for a few microseconds between loops,
 * then sleep. One thread drives a pool; loops do not nest.
 */
#ifndef BN_BASE_THREADS_H
#define BN_BASE_THREADS_H

#include <stdint.h>

#include "base/status.h"

typedef struct bn_threads bn_threads;

/* `count` threads in all, the caller included; 0 = the CPUs this process may
 * run on. */
bn_status bn_threads_new(int count, bn_threads **out) BN_MUST_CHECK;
void bn_threads_free(bn_threads *threads);

int bn_threads_count(const bn_threads *threads);

/* CPUs this process may run on, at least 1. */
int bn_cpu_count(void);

/* Calls fn(arg, chunk, worker) once for every chunk in 0..chunks-1, each on
 * some worker 0..count-1 (0 is the caller), and returns when all are done.
 * Two calls with the same worker never overlap, so worker indexes scratch. */
typedef void (*bn_chunk_fn)(void *arg, int64_t chunk, int worker);
void bn_parallel_for(bn_threads *threads, int64_t chunks, bn_chunk_fn fn, void *arg);

#endif
