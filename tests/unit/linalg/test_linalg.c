/* Factorizations against their definitions, and what they refuse. */
#include <cblas.h>
#include <cmocka_all.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linalg/linalg.h"

enum { ROOM = 64 * 64 };

/* Matrices of a test; tensors point into them. */
static double numbers[8][ROOM];
static bn_buffer memory[8];

static bn_tensor matrix(int slot, int64_t rows, int64_t cols)
{
    assert_true(rows * cols <= ROOM);
    memory[slot] = (bn_buffer){.host = numbers[slot], .bytes = sizeof numbers[slot]};
    return bn_tensor_at(bn_tensor_2d(BN_F64, rows, cols), &memory[slot], 0);
}

static bn_tensor vector(int slot, int64_t n)
{
    matrix(slot, 1, n);
    return bn_tensor_at(bn_tensor_1d(BN_F64, n), &memory[slot], 0);
}

static void fill_random(int slot, int64_t n, uint64_t seed)
{
    bn_rng rng = bn_rng_of(seed, 0);
    for (int64_t i = 0; i < n; i++)
        numbers[slot][i] = bn_rng_normal(&rng);
}

/* Sum of the products of k elements, which are a_step and b_step apart. */
static double dot(const double *a, int64_t a_step, const double *b, int64_t b_step, int64_t k)
{
    double sum = 0;
    for (int64_t i = 0; i < k; i++)
        sum += a[i * a_step] * b[i * b_step];
    return sum;
}

/* Largest |(a b - wanted)_ij| of a [m,k], b [k,n]. */
static double distance(const double *a, const double *b, const double *wanted, int64_t m, int64_t k,
                       int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            worst = fmax(worst, fabs(dot(a + i * k, 1, b + j, n, k) - wanted[i * n + j]));
    return worst;
}

/* Largest |(q^T q - 1)_ij| of q [m,k]. */
static double skew(const double *q, int64_t m, int64_t k)
{
    double worst = 0;
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++)
            worst = fmax(worst, fabs(dot(q + i, k, q + j, k, m) - (i == j)));
    return worst;
}

static const int64_t shapes[][2] = {{1, 1}, {7, 7}, {1, 5}, {5, 1}, {40, 13}, {13, 40}, {64, 64}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void test_svd(void **state)
{
    (void)state;
    for (int c = 0; c < N_SHAPES; c++) {
        const int64_t m = shapes[c][0], n = shapes[c][1], k = m < n ? m : n;
        const bn_tensor a = matrix(0, m, n), u = matrix(1, m, k), s = vector(2, k),
                        vt = matrix(3, k, n);
        double condition = 0;
        fill_random(0, m * n, 1 + (uint64_t)c);
        assert_ok(bn_linalg_svd(&a, &u, &s, &vt, &condition));
        for (int64_t i = 0; i < k; i++)
            assert_true(numbers[2][i] >= 0 && (i == 0 || numbers[2][i] <= numbers[2][i - 1]));
        assert_true(fabs(condition - numbers[2][0] / numbers[2][k - 1]) <= 1e-12 * condition);
        assert_true(skew(numbers[1], m, k) < 1e-13);
        for (int64_t i = 0; i < m * k; i++)
            numbers[1][i] *= numbers[2][i % k];
        assert_true(distance(numbers[1], numbers[3], numbers[0], m, k, n) < 1e-12);
    }
}

static void test_qr(void **state)
{
    (void)state;
    for (int c = 0; c < N_SHAPES; c++) {
        const int64_t m = shapes[c][0], n = shapes[c][1], k = m < n ? m : n;
        const bn_tensor a = matrix(0, m, n), q = matrix(1, m, k), r = matrix(2, k, n);
        double condition = 0;
        fill_random(0, m * n, 11 + (uint64_t)c);
        assert_ok(bn_linalg_qr(&a, &q, &r, &condition));
        assert_true(skew(numbers[1], m, k) < 1e-13);
        assert_true(distance(numbers[1], numbers[2], numbers[0], m, k, n) < 1e-12);
        assert_true(condition >= 1 && isfinite(condition));
        for (int64_t i = 0; i < k; i++) {
            assert_true(numbers[2][i * n + i] > 0);
            for (int64_t j = 0; j < i; j++)
                assert_true(numbers[2][i * n + j] == 0);
        }
    }
}

/* Symmetric with eigenvalues from 1 down to 1/condition, geometrically, the
 * last one with the sign given. Eigenvectors: columns of an orthogonal matrix. */
static bn_tensor symmetric(int slot, int64_t n, double condition, double last_sign)
{
    bn_rng rng = bn_rng_of(5, (uint64_t)n);
    const bn_tensor a = matrix(slot, n, n), v = matrix(7, n, n);
    assert_ok(bn_linalg_orthogonal(&rng, 1, &v));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double sum = 0;
            for (int64_t k = 0; k < n; k++) {
                const double w = pow(condition, -(double)k / (double)(n - 1));
                sum += (k == n - 1 ? last_sign * w : w) * numbers[7][i * n + k] *
                       numbers[7][j * n + k];
            }
            numbers[slot][i * n + j] = numbers[slot][j * n + i] = sum;
        }
    return a;
}

static void test_cholesky(void **state)
{
    const int64_t n = 24;
    const bn_tensor a = symmetric(0, n, 1e4, 1), l = matrix(1, n, n);
    double condition = 0;
    (void)state;
    assert_ok(bn_linalg_cholesky(&a, &l, &condition));
    /* The estimate is in the 1-norm: within n of the 2-norm's. */
    assert_true(condition > 1e4 / (double)n && condition < 1e4 * (double)n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            numbers[2][j * n + i] = numbers[1][i * n + j];
            assert_true(j <= i || numbers[1][i * n + j] == 0);
        }
    assert_true(distance(numbers[1], numbers[2], numbers[0], n, n, n) < 1e-14);
}

static void test_inverse_factor(void **state)
{
    const int64_t n = 24;
    const bn_tensor a = symmetric(0, n, 1e3, 1), u = matrix(1, n, n);
    (void)state;
    assert_ok(bn_linalg_inverse_factor(&a, &u, NULL));
    /* u^T u a = 1 */
    double *inverse = numbers[3], *one = numbers[4];
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            assert_true(j >= i || numbers[1][i * n + j] == 0);
            inverse[i * n + j] = dot(numbers[1] + i, n, numbers[1] + j, n, n);
            one[i * n + j] = i == j;
        }
    assert_true(distance(inverse, numbers[0], one, n, n, n) < 1e-11);
}

static void test_gram(void **state)
{
    const bn_tensor x = matrix(0, 5, 3), h = matrix(1, 3, 3), other = matrix(2, 4, 4);
    (void)state;
    fill_random(0, 15, 2);
    for (int i = 0; i < 9; i++)
        numbers[1][i] = i % 4 == 0; /* is added to */
    assert_ok(bn_linalg_add_gram(0.5, &x, &h));
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++)
            assert_true(fabs(numbers[1][i * 3 + k] - (i == k) -
                             0.5 * dot(numbers[0] + i, 3, numbers[0] + k, 3, 5)) < 1e-14);
    assert_int_equal(bn_linalg_add_gram(1, &x, &other), BN_BAD_DATA);
    numbers[0][4] = (double)INFINITY;
    assert_int_equal(bn_linalg_add_gram(1, &x, &h), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "gram: x: element [1, 1] is inf"));
}

static void test_eigh(void **state)
{
    const int64_t n = 20;
    const bn_tensor a = symmetric(0, n, 1e2, -1), w = vector(1, n), v = matrix(2, n, n);
    double condition = 0;
    (void)state;
    assert_ok(bn_linalg_eigh(&a, &w, &v, &condition));
    assert_true(fabs(numbers[1][0] + 1e-2) < 1e-13 && fabs(numbers[1][n - 1] - 1) < 1e-13);
    assert_true(fabs(condition - 100) < 1e-8);
    assert_true(skew(numbers[2], n, n) < 1e-13);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++) /* a v = v w */
            assert_true(fabs(dot(numbers[0] + i * n, 1, numbers[2] + k, n, n) -
                             numbers[2][i * n + k] * numbers[1][k]) < 1e-13);
}

static void test_unstable(void **state)
{
    const int64_t n = 12;
    const bn_tensor out = matrix(1, n, n);
    double condition = 0;
    (void)state;
    /* Ill-conditioned, but a factor exists: done, and the caller is told. */
    bn_tensor a = symmetric(0, n, 1e12, 1);
    assert_ok(bn_linalg_cholesky(&a, &out, &condition));
    assert_true(condition > 1e11 && condition < 1e14);
    /* Beyond working precision the factor is noise. */
    for (int64_t i = 0; i < n * n; i++)
        numbers[0][i] = i % (n + 1) ? 0 : i == 0 ? 1e-20 : 1;
    assert_int_equal(bn_linalg_cholesky(&a, &out, &condition), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "condition number 1e+20"));
    assert_int_equal(bn_linalg_inverse_factor(&a, &out, NULL), BN_FAIL);
    /* Indefinite. */
    a = symmetric(0, n, 1e2, -1);
    assert_int_equal(bn_linalg_cholesky(&a, &out, NULL), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "not positive definite"));
    assert_non_null(strstr(bn_error_text(), "condition number 100"));
    /* Where, by the number of its row in `a`: the second factor begins with the last. */
    a = matrix(0, n, n);
    for (int64_t i = 0; i < n * n; i++)
        numbers[0][i] = i % (n + 1) ? 0 : i == n + 1 ? -1 : 1;
    assert_int_equal(bn_linalg_cholesky(&a, &out, NULL), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "at pivot 2 of"));
    assert_int_equal(bn_linalg_inverse_factor(&a, &out, NULL), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "at pivot 2 of"));
}

static void test_rank_deficient(void **state)
{
    const int64_t m = 10, n = 6;
    const bn_tensor a = matrix(0, m, n), u = matrix(1, m, n), s = vector(2, n), v = matrix(3, n, n);
    double condition = 0;
    (void)state;
    fill_random(0, m * n, 3);
    for (int64_t i = 0; i < m; i++) /* rank 5 */
        numbers[0][i * n + 5] = numbers[0][i * n] - 2 * numbers[0][i * n + 1];
    assert_ok(bn_linalg_svd(&a, &u, &s, &v, &condition));
    assert_true(condition > 1e14 && numbers[2][4] > 0.1);
    assert_ok(bn_linalg_qr(&a, &u, &v, &condition));
    assert_true(condition > 1e14 && skew(numbers[1], m, n) < 1e-13);
    memset(numbers[0], 0, sizeof numbers[0]);
    assert_ok(bn_linalg_svd(&a, &u, &s, &v, &condition));
    assert_true(isinf(condition));
    assert_ok(bn_linalg_qr(&a, &u, &v, &condition));
    assert_true(isinf(condition));
}

static void refused(bn_status status, const char *text)
{
    assert_int_equal(status, BN_BAD_DATA);
    if (!strstr(bn_error_text(), text))
        fail_msg("'%s' is not in '%s'", text, bn_error_text());
}

static void test_operands(void **state)
{
    const bn_tensor a = matrix(0, 4, 3), u = matrix(1, 4, 3), s = vector(2, 3), v = matrix(3, 3, 3),
                    square = matrix(4, 4, 4);
    bn_tensor odd = a;
    (void)state;
    fill_random(0, 12, 1);
    fill_random(4, 16, 1);
    refused(bn_linalg_svd(&a, &v, &s, &v, NULL), "svd: u: expected the shape [4, 3], found [3, 3]");
    refused(bn_linalg_svd(&a, &u, &u, &v, NULL), "svd: s: expected the shape [3]");
    refused(bn_linalg_qr(&a, &u, &u, NULL), "qr: r: expected the shape [3, 3]");
    refused(bn_linalg_eigh(&a, &s, &v, NULL), "eigh: a: expected a square matrix, found [4, 3]");
    refused(bn_linalg_cholesky(&square, &square, NULL), "expected a symmetric matrix");
    refused(bn_linalg_qr(&s, &u, &v, NULL), "expected a matrix");
    odd.dtype = BN_I32;
    refused(bn_linalg_qr(&odd, &u, &v, NULL), "expected float32 or float64, found int32");
    odd = a;
    odd.buffer = NULL;
    refused(bn_linalg_qr(&odd, &u, &v, NULL), "host memory");
    numbers[0][7] = (double)NAN;
    refused(bn_linalg_qr(&a, &u, &v, NULL), "qr: a: element [2, 1] is nan");
    numbers[0][7] = -(double)INFINITY;
    refused(bn_linalg_svd(&a, &u, &s, &v, NULL), "svd: a: element [2, 1] is -inf");
    numbers[4][3] = (double)NAN;
    refused(bn_linalg_cholesky(&square, &square, NULL), "cholesky: a: element [0, 3] is nan");
}

/* float32 operands give what float64 ones do, rounded. */
static void test_float32(void **state)
{
    float a32[12], q32[12], r32[9];
    bn_buffer held[3] = {{.host = a32}, {.host = q32}, {.host = r32}};
    const bn_tensor a = bn_tensor_at(bn_tensor_2d(BN_F32, 4, 3), &held[0], 0);
    const bn_tensor q = bn_tensor_at(bn_tensor_2d(BN_F32, 4, 3), &held[1], 0);
    const bn_tensor r = bn_tensor_at(bn_tensor_2d(BN_F32, 3, 3), &held[2], 0);
    const bn_tensor a64 = matrix(0, 4, 3), q64 = matrix(1, 4, 3), r64 = matrix(2, 3, 3);
    (void)state;
    fill_random(0, 12, 9);
    for (int i = 0; i < 12; i++)
        numbers[0][i] = (double)(a32[i] = (float)numbers[0][i]);
    assert_ok(bn_linalg_qr(&a, &q, &r, NULL));
    assert_ok(bn_linalg_qr(&a64, &q64, &r64, NULL));
    for (int i = 0; i < 12; i++)
        assert_true(q32[i] == (float)numbers[1][i]);
    for (int i = 0; i < 9; i++)
        assert_true(r32[i] == (float)numbers[2][i]);
}

/* More threads would split sums, and their number would show in the result. */
static void test_one_thread(void **state)
{
    const bn_tensor a = matrix(0, 2, 2), l = matrix(1, 2, 2);
    (void)state;
    openblas_set_num_threads(2);
    memcpy(numbers[0], (const double[]){2, 1, 1, 2}, 4 * sizeof(double));
    assert_ok(bn_linalg_cholesky(&a, &l, NULL));
    assert_int_equal(openblas_get_num_threads(), 1);
}

static void test_orthogonal(void **state)
{
    (void)state;
    for (int c = 0; c < N_SHAPES; c++) {
        const int64_t m = shapes[c][0], n = shapes[c][1];
        const bn_tensor out = matrix(0, m, n);
        bn_rng rng = bn_rng_of(7, (uint64_t)c);
        assert_ok(bn_linalg_orthogonal(&rng, 1, &out));
        if (m < n) /* rows: turn them into columns */
            for (int64_t i = 0; i < m * n; i++)
                numbers[1][i % n * m + i / n] = numbers[0][i];
        assert_true(skew(numbers[m < n], m < n ? n : m, m < n ? m : n) < 1e-13);
        memcpy(numbers[2], numbers[0], sizeof numbers[0]);
        rng = bn_rng_of(7, (uint64_t)c);
        assert_ok(bn_linalg_orthogonal(&rng, 2, &out));
        for (int64_t i = 0; i < m * n; i++)
            assert_true(numbers[0][i] == 2 * numbers[2][i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_svd),        cmocka_unit_test(test_qr),
        cmocka_unit_test(test_cholesky),   cmocka_unit_test(test_inverse_factor),
        cmocka_unit_test(test_eigh),       cmocka_unit_test(test_gram),
        cmocka_unit_test(test_unstable),   cmocka_unit_test(test_rank_deficient),
        cmocka_unit_test(test_operands),   cmocka_unit_test(test_float32),
        cmocka_unit_test(test_orthogonal), cmocka_unit_test(test_one_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
