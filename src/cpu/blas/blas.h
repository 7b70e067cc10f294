/* blas.h - float products through OpenBLAS.
 *
 * OpenBLAS runs single-threaded; products are cut into tiles whose borders
 * depend on their shape alone and spread over the backend's own threads, so
 * results do not depend on the number of threads.
 *
 * OpenBLAS chooses its kernels by CPU, unless the environment variable
 * OPENBLAS_CORETYPE names a core type; one below the CPU's costs half the speed
 * or more, so programs print the type in use and warn (bn_blas_pinned()).
 */
#ifndef BN_CPU_BLAS_BLAS_H
#define BN_CPU_BLAS_BLAS_H

#include <stdbool.h>

#include "cpu/fast/fast_impl.h"

/* Core type that OpenBLAS uses in this process ("Zen", "SkylakeX", ...). */
const char *bn_blas_core(void);

/* OpenBLAS's version and build options, one line. */
const char *bn_blas_config(void);

/* Whether OPENBLAS_CORETYPE names a core type whose instruction set is below
 * what this CPU can run; *pinned is its value then, *possible the instruction
 * set that is left unused ("AVX-512", "AVX2"). Either may be NULL. */
bool bn_blas_pinned(const char **pinned, const char **possible);

/* c[M,N] = (add ? c : 0) + op(a) op(b): a is [M,K], or [K,M] where
 * transpose_a; b is [K,N], or [N,K] where transpose_b. */
typedef struct bn_gemm {
    int64_t M, N, K;
    const float *a, *b;
    int64_t ld_a, ld_b;
    bool transpose_a, transpose_b;
    float *c;
    int64_t ld_c;
    bool add;
} bn_gemm;

/* One thread. BN_FAIL if a dimension does not fit OpenBLAS's int. */
bn_status bn_gemm_check(const bn_gemm *g) BN_MUST_CHECK;
void bn_gemm_run(const bn_gemm *g);

/* Width of a tile where a matrix of `cols` columns is cut into columns: halved
 * once and then until it is at most 128, in multiples of 32. */
int64_t bn_gemm_narrow_cols(int64_t cols);

/* All threads of the backend. */
bn_status bn_gemm_parallel(const bn_backend *backend, const bn_gemm *g) BN_MUST_CHECK;

/* Once per process: OpenBLAS single-threaded. */
void bn_blas_init(void);

/* Kernels. */
bn_status bn_blas_linear_forward(bn_backend *, const bn_op_call *);
bn_status bn_blas_linear_backward(bn_backend *, const bn_op_call *);
size_t bn_blas_linear_backward_scratch(const bn_backend *, const bn_op_call *);
bn_status bn_blas_matmul_forward(bn_backend *, const bn_op_call *);
bn_status bn_blas_matmul_backward(bn_backend *, const bn_op_call *);
bn_status bn_blas_linear_cross_entropy_forward(bn_backend *, const bn_op_call *);
bn_status bn_blas_linear_cross_entropy_backward(bn_backend *, const bn_op_call *);
size_t bn_blas_linear_cross_entropy_scratch(const bn_backend *, const bn_op_call *);

/* Routine: bn_backend.muon. */
bn_status bn_blas_muon(bn_backend *, const bn_muon *, const bn_tensor *param, const bn_tensor *grad,
                       const bn_tensor *m, const bn_tensor *norm, const bn_tensor *scratch);

#endif
