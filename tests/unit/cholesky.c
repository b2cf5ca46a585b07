/*
 * Solutions by a Cholesky factor: x M against b, by sums in double. Backward stable: the residual
 * is within 8 n 2^-53 of |x| |M| (Higham, Accuracy and Stability, 2002, theorem 10.4).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/blas.h"

enum { MOST = 40, ROWS = 3 };

static uint64_t state_of_numbers = 1;

static double uniform(void)
{
    state_of_numbers = state_of_numbers * 6364136223846793005U + 1442695040888963407U;
    return (double)(state_of_numbers >> 11) * 0x1p-52 - 1;
}

static void test_solutions(void **unused)
{
    (void)unused;
    static double m[MOST * MOST], factor[MOST * MOST], b[ROWS * MOST], x[ROWS * MOST];
    for (size_t n = 1; n <= MOST; n += 13) {
        bool singular = true;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j <= i; j++)
                m[i * n + j] = m[j * n + i] = i == j ? (double)n : uniform();
        for (size_t i = 0; i < ROWS * n; i++)
            x[i] = b[i] = uniform();
        memcpy(factor, m, n * n * sizeof *m);
        for (size_t i = 0; i < n; i++)
            for (size_t j = i + 1; j < n; j++)
                factor[i * n + j] = NAN; /* not read */
        assert_int_equal(blas_cholesky((int64_t)n, factor, &singular, NULL), 0);
        assert_false(singular);
        blas_cholesky_solve((int64_t)n, ROWS, factor, x);
        for (size_t r = 0; r < ROWS; r++)
            for (size_t j = 0; j < n; j++) {
                double sum = -b[r * n + j], size = 0;
                for (size_t i = 0; i < n; i++) {
                    sum += x[r * n + i] * m[i * n + j];
                    size += fabs(x[r * n + i] * m[i * n + j]);
                }
                assert_true(fabs(sum) <= 8 * (double)n * 0x1p-53 * (size + 1));
            }
    }
}

static void test_what_has_no_factor(void **unused)
{
    (void)unused;
    bool singular = false;
    double indefinite[4] = {1, 0, 2, 1}, nothing[4] = {NAN, 0, 0, 1};
    assert_int_equal(blas_cholesky(2, indefinite, &singular, NULL), 0);
    assert_true(singular);
    bool refused = blas_cholesky(2, nothing, &singular, NULL) != 0;
    assert_true(refused || singular);
    assert_int_equal(blas_cholesky(0, NULL, &singular, NULL), 0);
    assert_false(singular);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_solutions),
        cmocka_unit_test(test_what_has_no_factor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
