/* fast.h - the overlay of the "cpu" backend: threads, vectors, OpenBLAS.
 *
 * Kernels are chosen once, when a backend is made. Work is cut into chunks
 * whose borders depend on shapes alone, and sums that cross chunks are added in
 * chunk order, so results are the same bits for any number of threads; the row
 * kernels (rowops.h) and the integer product (ternary.h) also give the same
 * bits for every instruction set.
 */
#ifndef BN_CPU_FAST_FAST_H
#define BN_CPU_FAST_FAST_H

#include <stdbool.h>

#include "backend/backend.h"

/* Whether this CPU can run the kernels of the "avx2", "avx512", "neondot" isa. */
bool bn_cpu_runs_avx2(void);
bool bn_cpu_runs_avx512(void);
bool bn_cpu_runs_neondot(void);

/* Replaces the rows of a "cpu" backend for which its isa (bn_cpu_isa(), other
 * than "ref") has something faster. Its thread pool must be there. */
bn_status bn_cpu_overlay_fast(bn_backend *backend) BN_MUST_CHECK;

#endif
