/* cpu.h - the CPU backends.
 *
 *   "cpu"            float32, threads, the best kernels this CPU can run
 *   "ref32", "ref64" the portable reference kernels of ref/, single-threaded:
 *                    plain loops that can be checked against their formulas.
 *                    ref64 is what gradients are checked on.
 *
 * "cpu" starts from the float reference kernels and overlays the rows for which
 * something faster exists; bn_backend_coverage() tells which. One name, an
 * "isa", stands for a set of kernels:
 *
 *   ref      no overlay: the reference kernels
 *   generic  portable fast kernels and OpenBLAS for float products
 *   avx2 ... generic plus kernels for that instruction set
 *
 * Memory is host memory: buffer.host is always set. Results do not depend on
 * the number of threads.
 */
#ifndef BN_CPU_CPU_H
#define BN_CPU_CPU_H

#include "backend/backend.h"
#include "base/threads.h"
#include "quant/trit.h"

typedef struct bn_cpu_options {
    int threads;         /* 0 = all CPUs this process may run on */
    const char *isa;     /* NULL = the environment's BITNET_CPU, else the best */
    size_t memory_limit; /* most bytes of buffers at a time; 0 = no limit */
} bn_cpu_options;

/* `options` may be NULL: all defaults. BN_USAGE for an isa that is not known,
 * BN_NO_DEVICE for one this CPU cannot run. Free with bn_backend_free(). */
bn_status bn_cpu_backend_new(const bn_cpu_options *options, bn_backend **out) BN_MUST_CHECK;

/* `real` is BN_F32 ("ref32") or BN_F64 ("ref64"). */
bn_status bn_ref_backend_new(bn_dtype real, bn_backend **out) BN_MUST_CHECK;

/* The isa in use: "ref", "generic", ...; "ref" for ref32 and ref64. */
const char *bn_cpu_isa(const bn_backend *backend);

/* The pool of a "cpu" backend, borrowed; NULL for ref32 and ref64. */
bn_threads *bn_cpu_threads(const bn_backend *backend);

/* Trit arithmetic for the isa of any backend of this module. */
const bn_trit_ops *bn_cpu_trits(const bn_backend *backend);

/* Name of the index-th isa, from plain to best, that this build has and this
 * CPU can run; NULL past the last one. Index 0 is "ref". */
const char *bn_cpu_isa_choice(int index);

#endif
