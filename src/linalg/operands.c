/* Checking, copying in and out. */
#include <cblas.h>
#include <lapacke.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "base/checked.h"
#include "linalg/linalg_impl.h"

void bn_linalg_begin(void)
{
    openblas_set_num_threads(1);
}

static double element(const bn_tensor *t, int64_t i)
{
    return t->dtype == BN_F32 ? (double)((const float *)bn_tensor_data(t))[i]
                              : ((const double *)bn_tensor_data(t))[i];
}

static bn_status check_memory(const bn_tensor *t, const char *what)
{
    BN_TRY(bn_tensor_check(t, what));
    if (t->dtype != BN_F32 && t->dtype != BN_F64)
        return bn_error(BN_BAD_DATA, "%s: expected float32 or float64, found %s", what,
                        bn_dtype_name(t->dtype));
    if (!t->buffer || !t->buffer->host)
        return bn_error(BN_BAD_DATA, "%s: expected a tensor in host memory", what);
    return BN_OK;
}

bn_status bn_linalg_alloc(int64_t rows, int64_t cols, double **out)
{
    int64_t n = 0;
    size_t bytes = 0;
    *out = NULL;
    if (bn_mul_i64(rows, cols, &n) && bn_mul_size((size_t)n, sizeof **out, &bytes))
        *out = malloc(bytes);
    return *out ? BN_OK : bn_error_nomem("a matrix", bytes);
}

bn_status bn_linalg_load(const bn_tensor *a, const char *what, double **copy)
{
    *copy = NULL;
    BN_TRY(check_memory(a, what));
    if (a->ndim != 2 || a->shape[0] > INT_MAX || a->shape[1] > INT_MAX) {
        char shape[96];
        return bn_error(BN_BAD_DATA,
                        "%s: expected a matrix of at most %d rows and columns, found %s", what,
                        INT_MAX, bn_tensor_shape_text(a, shape, sizeof shape));
    }
    BN_TRY(bn_linalg_alloc(a->shape[0], a->shape[1], copy));
    for (int64_t i = 0, n = bn_tensor_numel(a); i < n; i++) {
        (*copy)[i] = element(a, i);
        if (isfinite((*copy)[i]))
            continue;
        bn_error(BN_BAD_DATA, "%s: element [%lld, %lld] is %g, expected a finite number", what,
                 (long long)(i / a->shape[1]), (long long)(i % a->shape[1]), (*copy)[i]);
        free(*copy);
        *copy = NULL;
        return BN_BAD_DATA;
    }
    return BN_OK;
}

static bn_status check_symmetric(const double *a, int64_t n, const char *what)
{
    double most = 0;
    for (int64_t i = 0; i < n * n; i++)
        most = fmax(most, fabs(a[i]));
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < i; k++)
            if (fabs(a[i * n + k] - a[k * n + i]) > 1e-6 * most)
                return bn_error(BN_BAD_DATA,
                                "%s: expected a symmetric matrix, found %g at [%lld, %lld] and %g "
                                "at [%lld, %lld]",
                                what, a[i * n + k], (long long)i, (long long)k, a[k * n + i],
                                (long long)k, (long long)i);
    return BN_OK;
}

bn_status bn_linalg_load_symmetric(const bn_tensor *a, const char *what, double **copy)
{
    char shape[96];
    BN_TRY(bn_linalg_load(a, what, copy));
    bn_status status = a->shape[0] == a->shape[1]
                           ? check_symmetric(*copy, a->shape[0], what)
                           : bn_error(BN_BAD_DATA, "%s: expected a square matrix, found %s", what,
                                      bn_tensor_shape_text(a, shape, sizeof shape));
    if (status != BN_OK) {
        free(*copy);
        *copy = NULL;
    }
    return status;
}

bn_status bn_linalg_expect(const bn_tensor *t, const char *what, int ndim, const int64_t *shape)
{
    const bn_tensor wanted = bn_tensor_of(t->dtype, ndim, shape);
    char found[96], expected[96];
    BN_TRY(check_memory(t, what));
    if (bn_tensor_same_shape(t, &wanted))
        return BN_OK;
    return bn_error(BN_BAD_DATA, "%s: expected the shape %s, found %s", what,
                    bn_tensor_shape_text(&wanted, expected, sizeof expected),
                    bn_tensor_shape_text(t, found, sizeof found));
}

void bn_linalg_store(const double *from, int64_t stride, const bn_tensor *t)
{
    const int64_t cols = bn_tensor_cols(t);
    for (int64_t i = 0, n = bn_tensor_numel(t); i < n; i++) {
        const double x = from[i / cols * stride + i % cols];
        if (t->dtype == BN_F32)
            ((float *)bn_tensor_data(t))[i] = (float)x;
        else
            ((double *)bn_tensor_data(t))[i] = x;
    }
}

bn_status bn_linalg_failed(const char *what, int info, const char *why)
{
    if (info == LAPACK_WORK_MEMORY_ERROR || info == LAPACK_TRANSPOSE_MEMORY_ERROR)
        return bn_error(BN_FAIL, "%s: no memory for LAPACK's work space", what);
    return bn_error(BN_FAIL, "%s: LAPACK returned %d: %s", what, info,
                    info < 0 ? "an argument it refuses" : why);
}

double bn_linalg_ratio(double most, double least)
{
    return least > 0 ? most / least : (double)INFINITY;
}
