/* linalg.h - factorizations of dense matrices, by LAPACK (Anderson et al., LAPACK
 * Users' Guide, 3rd ed., 1999) through LAPACKE.
 *
 * Operands are tensors in host memory, float32 or float64, row-major; inputs
 * are not changed, and the arithmetic is float64 in either case. Every call
 * checks dtype, shape and finiteness, and estimates the condition number:
 * *condition (may be NULL) is in the 2-norm where singular or eigenvalues are
 * at hand, else LAPACK's estimate in the 1-norm; +infinity for a singular
 * matrix. A matrix that is singular to working precision is an error where the
 * result would be noise, and the message holds the condition number.
 *
 * OpenBLAS runs single-threaded (as in cpu/blas), so the bits of a result do
 * not depend on the number of threads; they may differ between CPUs.
 *
 * Status: BN_BAD_DATA for an operand of the wrong kind, shape or with a value
 * that is not finite, BN_FAIL for everything numerical and for lack of memory.
 */
#ifndef BN_LINALG_LINALG_H
#define BN_LINALG_LINALG_H

#include "base/rng.h"
#include "tensor/tensor.h"

/* a [m,n] = u diag(s) vt, k = min(m,n): u [m,k], s [k] descending, vt [k,n]. */
bn_status bn_linalg_svd(const bn_tensor *a, const bn_tensor *u, const bn_tensor *s,
                        const bn_tensor *vt, double *condition) BN_MUST_CHECK;

/* a [m,n] = q r, k = min(m,n): q [m,k] with orthonormal columns, r [k,n] upper
 * triangular with a diagonal >= 0, which makes them unique for full rank. The
 * condition is that of the first k columns of r. */
bn_status bn_linalg_qr(const bn_tensor *a, const bn_tensor *q, const bn_tensor *r,
                       double *condition) BN_MUST_CHECK;

/* Symmetric positive definite a [n,n] = l l^T, l lower triangular. */
bn_status bn_linalg_cholesky(const bn_tensor *a, const bn_tensor *l,
                             double *condition) BN_MUST_CHECK;

/* Symmetric positive definite a [n,n]: upper triangular u with u^T u = a^-1,
 * without making the inverse: where a = r r^T with r upper triangular,
 * u = r^-1. */
bn_status bn_linalg_inverse_factor(const bn_tensor *a, const bn_tensor *u,
                                   double *condition) BN_MUST_CHECK;

/* Symmetric a [n,n] = v diag(w) v^T: w [n] ascending, v [n,n] with the
 * eigenvectors as columns. */
bn_status bn_linalg_eigh(const bn_tensor *a, const bn_tensor *w, const bn_tensor *v,
                         double *condition) BN_MUST_CHECK;

/* h [n,n] += factor * x^T x of x [m,n], finite; h is float64. */
bn_status bn_linalg_add_gram(double factor, const bn_tensor *x, const bn_tensor *h) BN_MUST_CHECK;

/* `gain` times a random matrix [m,n] with orthonormal rows (m <= n) or columns,
 * distributed uniformly: q of the qr above of normal numbers (Mezzadri, How to
 * generate random matrices from the classical compact groups, 2007). */
bn_status bn_linalg_orthogonal(bn_rng *rng, double gain, const bn_tensor *out) BN_MUST_CHECK;

#endif
