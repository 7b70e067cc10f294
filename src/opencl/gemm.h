/* gemm.h - float products on the device, for LINEAR, MATMUL, the backward of
 * BITLINEAR and LINEAR_CROSS_ENTROPY. The order of every sum is that of
 * kernels/gemm.cl: one chain of fma over ascending k for each element.
 */
#ifndef BN_OPENCL_GEMM_H
#define BN_OPENCL_GEMM_H

#include "opencl/ocl_impl.h"

/* Sizes that the kernels get as macros in kernels.def. */
enum {
    BN_OCL_MR = 12, /* lines of an a panel (CPU shape) */
    BN_OCL_NR = 32, /* lines of a b panel */
};

/* c [M,N] = a b (+ bias), or c += a b. Float tensors; only their place counts. */
typedef struct bn_ocl_gemm {
    int64_t M, N, K;
    bn_tensor a, b, c, bias; /* bias [N] or absent */
    int64_t ld_a, ld_b, ld_c;
    bool a_across;           /* element (m,k) is a[m*ld_a + k]; across: a[k*ld_a + m] */
    bool b_across;           /* element (k,n) is b[n*ld_b + k]; across: b[k*ld_b + n];
                      where a is across, b must be */
    bool a_panels, b_panels; /* CPU shape: the operand is in panels already */
    bool add;
} bn_ocl_gemm;

/* Bytes of the panels of one operand; 0 in the GPU shape. */
size_t bn_ocl_a_panels(const bn_ocl *ocl, int64_t M, int64_t K);
size_t bn_ocl_b_panels(const bn_ocl *ocl, int64_t N, int64_t K);

/* Scratch of a product: both panels. */
size_t bn_ocl_gemm_scratch(const bn_ocl *ocl, int64_t M, int64_t N, int64_t K);

/* `scratch` has at least bn_ocl_gemm_scratch() bytes (absent if that is 0). */
bn_status bn_ocl_gemm_run(bn_ocl *ocl, const bn_ocl_gemm *g,
                          const bn_tensor *scratch) BN_MUST_CHECK;

/* sum [N] (+)= column sums of x [M,N] */
bn_status bn_ocl_column_sums(bn_ocl *ocl, const bn_tensor *x, int64_t M, int64_t N,
                             const bn_tensor *sum, bool add) BN_MUST_CHECK;

#endif
