/*
 * Singular values and orthogonal factors: the products give the matrix back and the vectors are
 * orthonormal, by sums in double. LAPACK's are right to a small multiple of max(m, n) 2^-53 of the
 * largest value: 16 of them.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/blas.h"

enum { MOST = 40 };

static uint64_t state_of_numbers = 1;

static double uniform(void)
{
    state_of_numbers = state_of_numbers * 6364136223846793005U + 1442695040888963407U;
    return (double)(state_of_numbers >> 11) * 0x1p-52 - 1;
}

/* Checks that the columns of an m × k matrix are orthonormal; `step` and `next` are the distances
   of rows and columns. */
static void check_orthonormal(const double *a, size_t m, size_t k, size_t step, size_t next,
                              double bound)
{
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < k; j++) {
            double sum = 0;
            for (size_t r = 0; r < m; r++)
                sum += a[r * step + i * next] * a[r * step + j * next];
            assert_true(fabs(sum - (i == j)) <= bound);
        }
}

static void check_singular(size_t m, size_t n, const double *a)
{
    static double lost[MOST * MOST], left[MOST * MOST], right[MOST * MOST], values[MOST];
    size_t k = m < n ? m : n;
    double bound = 16 * (double)(m > n ? m : n) * 0x1p-53;
    memcpy(lost, a, m * n * sizeof *a);
    assert_int_equal(blas_singular((int64_t)m, (int64_t)n, lost, values, left, right, NULL), 0);
    check_orthonormal(left, m, k, k, 1, bound);
    check_orthonormal(right, n, k, 1, n, bound);
    for (size_t i = 0; i < k; i++)
        assert_true(values[i] >= 0 && (!i || values[i] <= values[i - 1]));
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t s = 0; s < k; s++)
                sum += left[i * k + s] * values[s] * right[s * n + j];
            assert_true(fabs(sum - a[i * n + j]) <= bound * values[0]);
        }
}

static void check_orthogonal(size_t m, size_t n, const double *a)
{
    static double q[MOST * MOST], r[MOST * MOST];
    double bound = 16 * (double)m * 0x1p-53;
    memcpy(q, a, m * n * sizeof *a);
    assert_int_equal(blas_orthogonal((int64_t)m, (int64_t)n, q, r, NULL), 0);
    check_orthonormal(q, m, n, n, 1, bound);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t s = 0; s < n; s++)
                sum += q[i * n + s] * r[s * n + j];
            assert_true(fabs(sum - a[i * n + j]) <= bound * sqrt((double)m));
            assert_true(j >= i || i >= n || r[i * n + j] == 0);
        }
}

/* Each row of a matrix lies in the first of the orthonormal rows, as many as it is from above. */
static void check_orthonormal_rows(size_t k, size_t n, const double *a)
{
    static double q[MOST * MOST];
    double bound = 16 * (double)n * 0x1p-53;
    memcpy(q, a, k * n * sizeof *a);
    assert_int_equal(blas_orthonormal_rows((int64_t)k, (int64_t)n, q, NULL), 0);
    check_orthonormal(q, n, k, 1, n, bound);
    for (size_t i = 0; i < k; i++) {
        double left[MOST];
        memcpy(left, a + i * n, n * sizeof *left);
        for (size_t j = 0; j <= i; j++) {
            double part = 0;
            for (size_t c = 0; c < n; c++)
                part += q[j * n + c] * left[c];
            for (size_t c = 0; c < n; c++)
                left[c] -= part * q[j * n + c];
        }
        for (size_t c = 0; c < n; c++)
            assert_true(fabs(left[c]) <= bound * sqrt((double)n));
    }
}

static void random_matrices(void **state)
{
    (void)state;
    static double a[MOST * MOST];
    static const size_t sizes[][2] = {{1, 1}, {3, 1}, {1, 4}, {5, 3}, {3, 5}, {40, 40}, {37, 12}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t m = sizes[s][0], n = sizes[s][1];
        for (size_t i = 0; i < m * n; i++)
            a[i] = uniform();
        check_singular(m, n, a);
        if (m >= n)
            check_orthogonal(m, n, a);
        if (n >= m)
            check_orthonormal_rows(m, n, a);
    }
}

/* A matrix of rank one, and zeros, whose vectors are orthonormal all the same. */
static void deficient_matrices(void **state)
{
    (void)state;
    enum { M = 7, N = 4 };
    double a[M * N] = {0};
    check_singular(M, N, a);
    check_orthogonal(M, N, a);
    check_orthonormal_rows(N, M, a);
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++)
            a[i * N + j] = (double)((i + 1) * (j + 1)) / 64;
    check_singular(M, N, a);
    check_orthogonal(M, N, a);
    check_orthonormal_rows(N, M, a); /* read as another shape: of rank two */
    assert_int_equal(blas_orthonormal_rows(0, 3, NULL, NULL), 0);
    assert_int_equal(blas_singular(0, 3, NULL, NULL, NULL, NULL, NULL), 0);
    assert_int_equal(blas_orthogonal(3, 0, NULL, NULL, NULL), 0);
}

static void matrices_that_are_not_finite_have_none(void **state)
{
    (void)state;
    static const double wrong[] = {NAN, INFINITY, -INFINITY};
    for (size_t w = 0; w < 3; w++) {
        double a[6] = {1, 2, 3, 4, 5, 6}, left[4], right[6], values[2];
        struct ivon_error error = {0};
        a[4] = wrong[w];
        assert_int_equal(blas_singular(2, 3, a, values, left, right, &error), IVON_ERROR_DATA);
        assert_true(*error.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_matrices),
        cmocka_unit_test(deficient_matrices),
        cmocka_unit_test(matrices_that_are_not_finite_have_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
