/* Factorizations with orthogonal factors: SVD, eigenvectors, QR. */
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

#include "linalg/linalg_impl.h"

static void report(double *condition, double value)
{
    if (condition)
        *condition = value;
}

bn_status bn_linalg_svd(const bn_tensor *a, const bn_tensor *u, const bn_tensor *s,
                        const bn_tensor *vt, double *condition)
{
    bn_status status = BN_OK;
    double *work = NULL, *left = NULL, *values = NULL, *right = NULL;
    BN_TRY_OUT(bn_linalg_load(a, "svd: a", &work));
    const int64_t m = a->shape[0], n = a->shape[1], k = m < n ? m : n;
    BN_TRY_OUT(bn_linalg_expect(u, "svd: u", 2, (const int64_t[]){m, k}));
    BN_TRY_OUT(bn_linalg_expect(s, "svd: s", 1, (const int64_t[]){k}));
    BN_TRY_OUT(bn_linalg_expect(vt, "svd: vt", 2, (const int64_t[]){k, n}));
    BN_TRY_OUT(bn_linalg_alloc(m, k, &left));
    BN_TRY_OUT(bn_linalg_alloc(1, k, &values));
    BN_TRY_OUT(bn_linalg_alloc(k, n, &right));
    bn_linalg_begin();
    const int info =
        LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', (lapack_int)m, (lapack_int)n, work, (lapack_int)n,
                       values, left, (lapack_int)k, right, (lapack_int)n);
    if (info) {
        status = bn_linalg_failed("svd", info, "the iteration did not converge");
        goto out;
    }
    bn_linalg_store(left, k, u);
    bn_linalg_store(values, k, s);
    bn_linalg_store(right, n, vt);
    report(condition, bn_linalg_ratio(values[0], values[k - 1]));
out:
    free(work);
    free(left);
    free(values);
    free(right);
    return status;
}

bn_status bn_linalg_eigh(const bn_tensor *a, const bn_tensor *w, const bn_tensor *v,
                         double *condition)
{
    bn_status status = BN_OK;
    double *work = NULL, *values = NULL;
    BN_TRY_OUT(bn_linalg_load_symmetric(a, "eigh: a", &work));
    const int64_t n = a->shape[0];
    BN_TRY_OUT(bn_linalg_expect(w, "eigh: w", 1, (const int64_t[]){n}));
    BN_TRY_OUT(bn_linalg_expect(v, "eigh: v", 2, (const int64_t[]){n, n}));
    BN_TRY_OUT(bn_linalg_alloc(1, n, &values));
    bn_linalg_begin();
    const int info =
        LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'V', 'L', (lapack_int)n, work, (lapack_int)n, values);
    if (info) {
        status = bn_linalg_failed("eigh", info, "the iteration did not converge");
        goto out;
    }
    double most = 0, least = (double)INFINITY;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs(values[i]));
        least = fmin(least, fabs(values[i]));
    }
    bn_linalg_store(values, n, w);
    bn_linalg_store(work, n, v);
    report(condition, bn_linalg_ratio(most, least));
out:
    free(work);
    free(values);
    return status;
}

/* Of r in the upper triangle of a [m,n], and its signs, then of q in its place:
 * both in row-major order with rows of n. */
static void fix_signs(double *r, double *q, int64_t m, int64_t n, int64_t k)
{
    for (int64_t i = 0; i < k; i++) {
        const double sign = r[i * n + i] < 0 ? -1 : 1;
        for (int64_t j = 0; j < n; j++)
            r[i * n + j] = j < i ? 0 : sign * r[i * n + j];
        for (int64_t j = 0; j < m; j++)
            q[j * n + i] *= sign;
    }
}

bn_status bn_linalg_qr(const bn_tensor *a, const bn_tensor *q, const bn_tensor *r,
                       double *condition)
{
    bn_status status = BN_OK;
    double *work = NULL, *tau = NULL, *upper = NULL, rcond = 0;
    BN_TRY_OUT(bn_linalg_load(a, "qr: a", &work));
    const int64_t m = a->shape[0], n = a->shape[1], k = m < n ? m : n;
    const lapack_int rows = (lapack_int)m, cols = (lapack_int)n, least = (lapack_int)k;
    BN_TRY_OUT(bn_linalg_expect(q, "qr: q", 2, (const int64_t[]){m, k}));
    BN_TRY_OUT(bn_linalg_expect(r, "qr: r", 2, (const int64_t[]){k, n}));
    BN_TRY_OUT(bn_linalg_alloc(1, k, &tau));
    BN_TRY_OUT(bn_linalg_alloc(k, n, &upper));
    bn_linalg_begin();
    int info = LAPACKE_dgeqrf(LAPACK_ROW_MAJOR, rows, cols, work, cols, tau);
    for (int64_t i = 0; i < k * n; i++)
        upper[i] = work[i];
    if (!info)
        info = LAPACKE_dtrcon(LAPACK_ROW_MAJOR, '1', 'U', 'N', least, upper, cols, &rcond);
    if (!info)
        info = LAPACKE_dorgqr(LAPACK_ROW_MAJOR, rows, least, least, work, cols, tau);
    if (info) {
        status = bn_linalg_failed("qr", info, "it has no such value");
        goto out;
    }
    fix_signs(upper, work, m, n, k);
    bn_linalg_store(work, n, q);
    bn_linalg_store(upper, n, r);
    report(condition, bn_linalg_ratio(1, rcond));
out:
    free(work);
    free(tau);
    free(upper);
    return status;
}

bn_status bn_linalg_orthogonal(bn_rng *rng, double gain, const bn_tensor *out)
{
    bn_status status = BN_OK;
    double *numbers = NULL, *upper = NULL;
    BN_TRY(bn_linalg_expect(out, "orthogonal: out", 2, out->shape));
    const int64_t rows = out->shape[0], cols = out->shape[1];
    const int64_t tall = rows > cols ? rows : cols, narrow = rows > cols ? cols : rows;
    BN_TRY_OUT(bn_linalg_alloc(tall, narrow, &numbers));
    BN_TRY_OUT(bn_linalg_alloc(narrow, narrow, &upper));
    for (int64_t i = 0; i < tall * narrow; i++)
        numbers[i] = bn_rng_normal(rng);
    const bn_buffer q_memory = {.host = numbers}, r_memory = {.host = upper};
    const bn_tensor q = bn_tensor_at(bn_tensor_2d(BN_F64, tall, narrow), &q_memory, 0);
    const bn_tensor r = bn_tensor_at(bn_tensor_2d(BN_F64, narrow, narrow), &r_memory, 0);
    BN_TRY_OUT(bn_linalg_qr(&q, &q, &r, NULL));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            const double x = gain * (rows > cols ? numbers[i * cols + j] : numbers[j * rows + i]);
            if (out->dtype == BN_F32)
                ((float *)bn_tensor_data(out))[i * cols + j] = (float)x;
            else
                ((double *)bn_tensor_data(out))[i * cols + j] = x;
        }
out:
    free(numbers);
    free(upper);
    return status;
}
