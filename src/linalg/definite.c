/* Symmetric positive definite matrices: made, and their factors. */
#include <cblas.h>
#include <float.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

#include "linalg/linalg_impl.h"

/* For the message about a matrix whose factorization stopped at `pivot`. */
static bn_status not_definite(const bn_tensor *a, const char *what, int pivot)
{
    bn_status status = BN_OK;
    double *work = NULL, *values = NULL;
    const int64_t n = a->shape[0];
    BN_TRY_OUT(bn_linalg_load(a, what, &work));
    BN_TRY_OUT(bn_linalg_alloc(1, n, &values));
    const int info =
        LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'N', 'L', (lapack_int)n, work, (lapack_int)n, values);
    if (info) {
        status = bn_linalg_failed(what, info, "the eigenvalues did not converge");
        goto out;
    }
    double most = 0, least = (double)INFINITY;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs(values[i]));
        least = fmin(least, fabs(values[i]));
    }
    status =
        bn_error(BN_FAIL,
                 "%s: not positive definite at pivot %d of %lld: eigenvalues %.3g to %.3g, "
                 "condition number %.3g",
                 what, pivot, (long long)n, values[0], values[n - 1], bn_linalg_ratio(most, least));
out:
    free(work);
    free(values);
    return status;
}

/* The lower factor of work [n,n] in its place; `a`, of which work may be the reverse, is only
 * for a message. */
static bn_status factor(const bn_tensor *a, const char *what, double *work, bool reversed,
                        double *condition)
{
    const lapack_int n = (lapack_int)a->shape[0];
    double rcond = 0;
    bn_linalg_begin();
    const double norm = LAPACKE_dlansy(LAPACK_ROW_MAJOR, '1', 'L', n, work, n);
    int info = LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', n, work, n);
    if (info > 0)
        return not_definite(a, what, reversed ? n + 1 - info : info);
    if (!info)
        info = LAPACKE_dpocon(LAPACK_ROW_MAJOR, 'L', n, work, n, norm, &rcond);
    if (info)
        return bn_linalg_failed(what, info, "it has no such value");
    const double found = bn_linalg_ratio(1, rcond);
    if (condition)
        *condition = found;
    if (!(rcond >= DBL_EPSILON))
        return bn_error(BN_FAIL,
                        "%s: singular to working precision: condition number %.3g, at most %.3g "
                        "can be used",
                        what, found, 1 / DBL_EPSILON);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++)
            work[i * n + j] = 0;
    return BN_OK;
}

bn_status bn_linalg_cholesky(const bn_tensor *a, const bn_tensor *l, double *condition)
{
    bn_status status = BN_OK;
    double *work = NULL;
    BN_TRY_OUT(bn_linalg_load_symmetric(a, "cholesky: a", &work));
    BN_TRY_OUT(bn_linalg_expect(l, "cholesky: l", 2, a->shape));
    BN_TRY_OUT(factor(a, "cholesky", work, false, condition));
    bn_linalg_store(work, a->shape[1], l);
out:
    free(work);
    return status;
}

/* Rows and columns in reverse order: turns a lower triangle into an upper one. */
static void reverse(double *a, int64_t n)
{
    for (int64_t i = 0, j = n * n - 1; i < j; i++, j--) {
        const double x = a[i];
        a[i] = a[j];
        a[j] = x;
    }
}

bn_status bn_linalg_inverse_factor(const bn_tensor *a, const bn_tensor *u, double *condition)
{
    bn_status status = BN_OK;
    double *work = NULL;
    BN_TRY_OUT(bn_linalg_load_symmetric(a, "inverse factor: a", &work));
    BN_TRY_OUT(bn_linalg_expect(u, "inverse factor: u", 2, a->shape));
    const int64_t n = a->shape[0];
    reverse(work, n);
    BN_TRY_OUT(factor(a, "inverse factor", work, true, condition));
    const int info = LAPACKE_dtrtri(LAPACK_ROW_MAJOR, 'L', 'N', (lapack_int)n, work, (lapack_int)n);
    if (info) {
        status = bn_linalg_failed("inverse factor", info, "a zero on the diagonal");
        goto out;
    }
    reverse(work, n);
    bn_linalg_store(work, n, u);
out:
    free(work);
    return status;
}

bn_status bn_linalg_add_gram(double factor, const bn_tensor *x, const bn_tensor *h)
{
    bn_status status = BN_OK;
    double *rows = NULL;
    BN_TRY_OUT(bn_linalg_load(x, "gram: x", &rows));
    const int64_t m = x->shape[0], n = x->shape[1];
    BN_TRY_OUT(bn_linalg_expect(h, "gram: h", 2, (const int64_t[]){n, n}));
    if (h->dtype != BN_F64) {
        status =
            bn_error(BN_BAD_DATA, "gram: h: expected float64, found %s", bn_dtype_name(h->dtype));
        goto out;
    }
    double *sums = bn_tensor_data(h);
    bn_linalg_begin();
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)n, (int)m, factor, rows, (int)n, 1,
                sums, (int)n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++)
            sums[i * n + j] = sums[j * n + i];
out:
    free(rows);
    return status;
}
