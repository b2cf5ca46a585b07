/*
 * Eigenvectors of symmetric matrices: V A Vᵀ is diagonal and V Vᵀ the identity, by products in
 * double. LAPACK's are right to a small multiple of n 2^-53 of the largest value: 8 of them.
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

enum { MOST = 70 };

static uint64_t state_of_numbers = 1;

static double uniform(void)
{
    state_of_numbers = state_of_numbers * 6364136223846793005U + 1442695040888963407U;
    return (double)(state_of_numbers >> 11) * 0x1p-52 - 1;
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* `a` is symmetric. What is above its diagonal is not read. */
static void check(size_t n, const double *a)
{
    static double vectors[MOST * MOST], image[MOST], values[MOST];
    double most = 0;
    memcpy(vectors, a, n * n * sizeof *a);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            vectors[i * n + j] = NAN;
    assert_int_equal(blas_eigen((int64_t)n, vectors, values, NULL), 0);
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(values[i]));
    const double bound = 8 * (double)n * 0x1p-53;
    for (size_t i = 0; i < n; i++) {
        const double *v = vectors + i * n;
        double largest = 0;
        assert_true(!i || values[i - 1] <= values[i]);
        for (size_t j = 0; j < n; j++) {
            image[j] = dot(a + j * n, v, n);
            largest = fabs(v[j]) > fabs(largest) ? v[j] : largest;
        }
        assert_true(largest > 0);
        for (size_t j = 0; j < n; j++) {
            assert_true(fabs(image[j] - values[i] * v[j]) <= bound * most);
            assert_true(fabs(dot(v, vectors + j * n, n) - (i == j)) <= bound);
        }
    }
}

static void random_matrices(void **state)
{
    (void)state;
    static double a[MOST * MOST];
    static const size_t sizes[] = {1, 2, 3, 17, MOST};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s];
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j <= i; j++)
                a[i * n + j] = a[j * n + i] = uniform();
        check(n, a);
    }
}

/* Values that are equal have any orthonormal vectors; of what is zero all values are. */
static void degenerate_matrices(void **state)
{
    (void)state;
    enum { N = 9 };
    double a[N * N] = {0}, values[N];
    check(N, a);
    for (size_t i = 0; i < N; i++)
        a[i * N + i] = 3;
    check(N, a);
    for (size_t i = 0; i < N; i++) /* rank one */
        for (size_t j = 0; j < N; j++)
            a[i * N + j] = (double)((i + 1) * (j + 1));
    check(N, a);
    assert_int_equal(blas_eigen(N, a, values, NULL), 0);
    assert_true(fabs(values[N - 1] - 285) <= 285 * 8 * N * 0x1p-53);
    double one = -2.5, value;
    assert_int_equal(blas_eigen(1, &one, &value, NULL), 0);
    assert_true(value == -2.5 && one == 1);
    assert_int_equal(blas_eigen(0, NULL, NULL, NULL), 0);
}

static void matrices_that_are_not_finite_have_none(void **state)
{
    (void)state;
    enum { N = 4 };
    static const double wrong[] = {NAN, INFINITY, -INFINITY};
    for (size_t w = 0; w < 3; w++) {
        double a[N * N] = {0}, values[N];
        struct ivon_error error = {0};
        a[2 * N + 1] = wrong[w];
        assert_int_equal(blas_eigen(N, a, values, &error), IVON_ERROR_DATA);
        assert_true(*error.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_matrices),
        cmocka_unit_test(degenerate_matrices),
        cmocka_unit_test(matrices_that_are_not_finite_have_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
