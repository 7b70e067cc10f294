/* linalg_impl.h - operands in and out, shared by the factorizations. */
#ifndef BN_LINALG_LINALG_IMPL_H
#define BN_LINALG_LINALG_IMPL_H

#include "linalg/linalg.h"

/* A float64 copy of a finite matrix, which the caller frees; `what` names it in
 * messages ("svd: a"). *copy is NULL on failure. */
bn_status bn_linalg_load(const bn_tensor *a, const char *what, double **copy) BN_MUST_CHECK;

/* As bn_linalg_load(), and square and symmetric to float32 rounding. */
bn_status bn_linalg_load_symmetric(const bn_tensor *a, const char *what,
                                   double **copy) BN_MUST_CHECK;

/* `t` can take a result of this shape. */
bn_status bn_linalg_expect(const bn_tensor *t, const char *what, int ndim,
                           const int64_t *shape) BN_MUST_CHECK;

/* Elements of `from`, whose rows are `stride` apart, into all of `t`. */
void bn_linalg_store(const double *from, int64_t stride, const bn_tensor *t);

bn_status bn_linalg_alloc(int64_t rows, int64_t cols, double **out) BN_MUST_CHECK;

/* Before a LAPACK call. */
void bn_linalg_begin(void);

/* A LAPACKE routine's return value other than 0 as an error; `why` says what a
 * positive one means. */
bn_status bn_linalg_failed(const char *what, int info, const char *why);

/* 1 / rcond, and largest / least magnitude: +infinity for a zero. */
double bn_linalg_ratio(double most, double least);

#endif
