/* cpu_impl.h - what the files of src/cpu share. Not for other modules. */
#ifndef BN_CPU_CPU_IMPL_H
#define BN_CPU_CPU_IMPL_H

#include "base/pool.h"
#include "cpu/cpu.h"

/* bn_backend.impl of every backend of this module. */
typedef struct bn_cpu {
    bn_backend backend;
    bn_pool *memory;
    bn_threads *threads;        /* NULL: single-threaded reference */
    const char *isa;            /* a name of isa_table in cpu_backend.c */
    const struct bn_fast *fast; /* its kernels (fast/fast_impl.h); NULL: reference only */
} bn_cpu;

static inline bn_cpu *bn_cpu_of(const bn_backend *backend)
{
    return backend->impl;
}

/* Fills every row and the routines with the reference kernels (ref/ref_rows.c). */
void bn_ref_fill_f32(bn_backend *backend);
void bn_ref_fill_f64(bn_backend *backend);

#endif
