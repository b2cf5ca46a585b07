/* The jackknife's standard error. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ivon/metrics.h"

/* Deleting one value at a time, the jackknife of a mean is its usual standard error. */
static void is_the_usual_error_of_a_mean(void **unused)
{
    (void)unused;
    enum { N = 50 };
    long double values[N], sum = 0, square = 0;
    double deleted[N];
    for (size_t i = 0; i < N; i++)
        sum += values[i] = (long double)(i * i % 17) / 16;
    for (size_t i = 0; i < N; i++) {
        square += (values[i] - sum / N) * (values[i] - sum / N);
        deleted[i] = (double)((sum - values[i]) / (N - 1));
    }
    double found = ivon_jackknife(deleted, N), expected = (double)sqrtl(square / (N - 1) / N);
    /* Deleted values below 1 are rounded by 2^-54, and their spread is multiplied by N − 1. */
    if (!(fabs(found - expected) <= N * 0x1p-53))
        fail_msg("%.17g, expected %.17g", found, expected);
}

static void takes_two_groups(void **unused)
{
    (void)unused;
    const double values[] = {1, 3};
    assert_true(ivon_jackknife(values, 2) == 1); /* √(½ (1 + 1)) */
    assert_true(isnan(ivon_jackknife(values, 1)));
    assert_true(isnan(ivon_jackknife(NULL, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_usual_error_of_a_mean),
        cmocka_unit_test(takes_two_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
