/* product.h - float products whose second operand is read a row at a time.
 *
 * c[M,N] = (add ? c : 0) + op(a) b. Rows of b are made by a function, so that
 * codes become floats on their way into the panels that the kernel reads
 * (row_gemm.c) and never lie in memory as a float matrix. Panels of b are as
 * deep as fits the first cache, blocks of a fit the second. How c is cut
 * depends on the shape alone: the same bits for any number of threads.
 */
#ifndef BN_CPU_FAST_PRODUCT_H
#define BN_CPU_FAST_PRODUCT_H

#include "cpu/fast/fast_impl.h"

typedef struct bn_product {
    int64_t M, N, K;
    const float *a; /* [M,K] with rows ld_a apart, or [K,M] where transposed */
    int64_t ld_a;
    bool transposed;
    /* b[k][0..N-1]: returns it, in `room` (N + BN_PRODUCT_ROOM floats) or not */
    const float *(*row)(const void *arg, int64_t k, float *room);
    const void *arg;
    float *c; /* rows ld_c apart */
    int64_t ld_c;
    bool add;
    float *scratch; /* bn_product_scratch() floats */
} bn_product;

enum { BN_PRODUCT_ROOM = 32 };

/* Floats of scratch for a product with N columns and K terms, and for one with
 * fewer. */
int64_t bn_product_scratch(const bn_backend *backend, int64_t N, int64_t K);

void bn_product_run(const bn_backend *backend, const bn_product *p);

#endif
