/* Agreement and total variation of two sets of predictions, against their definitions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/metrics.h"

enum { EXAMPLES_MAX = 40, OUTPUTS_MAX = 10 };

static uint64_t state = 1;

static double uniform(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(state >> 11) * 0x1p-53;
}

/* Whether no class before `c` is as probable, and none after it more. */
static bool is_best(const float *row, size_t outputs, size_t c)
{
    bool best = true;
    for (size_t d = 0; d < outputs; d++)
        best = best && (d < c ? row[d] < row[c] : row[d] <= row[c]);
    return best;
}

/* Sums of n ≤ 40 numbers of at most 10 each are within 40 · 10 · 2^-53 = 5e-14. */
static void check(const struct ivon_metric *found, const char *name, const long double *z, size_t n)
{
    long double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++)
        sum += z[i];
    for (size_t i = 0; i < n; i++)
        square += (z[i] - sum / (long double)n) * (z[i] - sum / (long double)n);
    double value = (double)(sum / (long double)n);
    double error = (double)sqrtl(square / (long double)(n - 1) / (long double)n);
    assert_string_equal(found->name, name);
    if (!(fabs(found->value - value) <= 5e-14))
        fail_msg("%s %.17g, expected %.17g", name, found->value, value);
    if (n == 1 ? !isnan(found->standard_error) : !(fabs(found->standard_error - error) <= 5e-14))
        fail_msg("%s ± %.17g, expected %.17g", name, found->standard_error, error);
}

/* Quarters: of events any number in each, of classes four among all of a row. With ties. */
static void draw_quarters(bool events, size_t n, size_t k, float *p)
{
    enum { QUARTERS = 4 };
    memset(p, 0, n * k * sizeof *p);
    for (size_t e = 0; e < n * k && events; e++)
        p[e] = (float)floor((QUARTERS + 1) * uniform()) / QUARTERS;
    for (size_t i = 0; i < n * QUARTERS && !events; i++)
        p[i / QUARTERS * k + (size_t)((double)k * uniform())] += 1.0F / QUARTERS;
}

static void compare(enum ivon_likelihood likelihood, size_t n, size_t k)
{
    float p[EXAMPLES_MAX * OUTPUTS_MAX], q[EXAMPLES_MAX * OUTPUTS_MAX];
    long double agreement[EXAMPLES_MAX] = {0}, variation[EXAMPLES_MAX] = {0};
    struct ivon_comparison *comparison = NULL;
    bool bernoulli = likelihood == IVON_BERNOULLI;
    draw_quarters(bernoulli, n, k, p);
    draw_quarters(bernoulli, n, k, q);
    for (size_t e = 0; e < n * k; e++) {
        long double distance = fabsl((long double)p[e] - q[e]);
        variation[e / k] += bernoulli ? distance / (long double)k : distance / 2;
        if (bernoulli)
            agreement[e / k] += ((p[e] > 0.5f) == (q[e] > 0.5f)) / (long double)k;
    }
    for (size_t e = 0; e < n * k && !bernoulli; e++)
        agreement[e / k] += is_best(p + e / k * k, k, e % k) && is_best(q + e / k * k, k, e % k);
    assert_int_equal(ivon_comparison_new(&comparison, likelihood, k, NULL), 0);
    assert_int_equal(ivon_comparison_add(comparison, 0, 1, p, q, NULL, NULL, NULL), 0);
    assert_int_equal(ivon_comparison_add(comparison, 1, n - 1, p + k, q + k, NULL, NULL, NULL), 0);
    size_t count;
    const struct ivon_metric *values = ivon_comparison_values(comparison, &count);
    assert_int_equal(count, 2);
    check(&values[0], "agreement", agreement, n);
    check(&values[1], "total_variation", variation, n);
    ivon_comparison_free(comparison);
}

static void agrees_with_the_definitions(void **unused)
{
    (void)unused;
    static const size_t counts[] = {1, 2, EXAMPLES_MAX}, outputs[] = {1, 2, OUTPUTS_MAX};
    for (size_t i = 0; i < 9; i++) {
        compare(IVON_CATEGORICAL, counts[i % 3], outputs[i / 3]);
        compare(IVON_BERNOULLI, counts[i % 3], outputs[i / 3]);
    }
}

/* Two of three examples have the same best class; ½ (0 + ½ + ½), ½ (¼ + ¼), ½ (1 + 1). */
static void agrees_with_paper_and_pencil(void **unused)
{
    (void)unused;
    const float p[] = {0.5f, 0.5f, 0, 0.75f, 0.25f, 0, 1, 0, 0};
    const float q[] = {0.5f, 0, 0.5f, 0.5f, 0.5f, 0, 0, 1, 0};
    struct ivon_comparison *comparison = NULL;
    assert_int_equal(ivon_comparison_new(&comparison, IVON_CATEGORICAL, 3, NULL), 0);
    assert_int_equal(ivon_comparison_add(comparison, 0, 3, p, q, NULL, NULL, NULL), 0);
    size_t count;
    const struct ivon_metric *values = ivon_comparison_values(comparison, &count);
    assert_true(values[0].value == 2.0 / 3);
    assert_true(values[1].value == 1.75 / 3);
    ivon_comparison_free(comparison);
}

/* What does not count may even be no probability. */
static void passes_over_what_does_not_count(void **unused)
{
    (void)unused;
    const float p[] = {0.5f, 0.5f, 0, NAN, 2, 0, 1, 0, 0};
    const float q[] = {0.5f, 0, 0.5f, 0.5f, 0.5f, 0, 0, 1, 0};
    const bool counts[] = {true, false, true};
    struct ivon_comparison *comparison = NULL;
    size_t count;
    assert_int_equal(ivon_comparison_new(&comparison, IVON_CATEGORICAL, 3, NULL), 0);
    assert_int_equal(ivon_comparison_add(comparison, 0, 3, p, q, NULL, counts, NULL), 0);
    const struct ivon_metric *values = ivon_comparison_values(comparison, &count);
    assert_true(values[0].value == 0.5);
    assert_true(values[1].value == 0.75);
    ivon_comparison_free(comparison);
}

/* Accuracies are 1, 0, 1 and 1, 1, 0; losses −log of .5, .25, 1 and of .5, .5, .25. */
static void differs_by_pairs(void **unused)
{
    (void)unused;
    const float p[] = {0.5f, 0.5f, 0, 0.75f, 0.25f, 0, 1, 0, 0};
    const float q[] = {0.5f, 0, 0.5f, 0.25f, 0.5f, 0.25f, 0.25f, 0.75f, 0};
    const int64_t labels[] = {0, 1, 0}, wrong[] = {0, 3, 0}, ignored[] = {0, -100, 0};
    const bool counts[] = {true, false, true};
    const long double accuracy[] = {0, -1, 1}, nll[] = {0, logl(2), logl(.25L)};
    struct ivon_comparison *comparison = NULL;
    struct ivon_error error;
    size_t count;
    assert_int_equal(ivon_comparison_new(&comparison, IVON_CATEGORICAL, 3, NULL), 0);
    assert_int_equal(ivon_comparison_add(comparison, 0, 3, p, q, labels, NULL, NULL), 0);
    const struct ivon_metric *values = ivon_comparison_values(comparison, &count);
    assert_int_equal(count, 4);
    check(&values[2], "accuracy_difference", accuracy, 3);
    check(&values[3], "nll_difference", nll, 3);
    assert_int_equal(ivon_comparison_add(comparison, 0, 3, p, q, ignored, counts, NULL), 0);
    assert_int_equal(ivon_comparison_add(comparison, 4, 3, p, q, wrong, NULL, &error),
                     IVON_ERROR_DATA);
    assert_string_equal(error.message, "row 5: target 3, expected 0 to 2");
    ivon_comparison_free(comparison);
}

/* Of two events each: p is right about 2 and 1 of them, q about 1 and 1. */
static void differs_in_events(void **unused)
{
    (void)unused;
    const float p[] = {0.75f, 0.25f, 0.75f, 0.75f}, q[] = {0.75f, 0.75f, 0.25f, 0.25f};
    const int64_t targets[] = {1, 0, 1, 0};
    const long double accuracy[] = {.5L, 0};
    const long double nll[] = {(logl(.25L) - logl(.75L)) / 2, 0};
    struct ivon_comparison *comparison = NULL;
    size_t count;
    assert_int_equal(ivon_comparison_new(&comparison, IVON_BERNOULLI, 2, NULL), 0);
    assert_int_equal(ivon_comparison_add(comparison, 0, 2, p, q, targets, NULL, NULL), 0);
    const struct ivon_metric *values = ivon_comparison_values(comparison, &count);
    assert_int_equal(count, 4);
    check(&values[2], "accuracy_difference", accuracy, 2);
    check(&values[3], "nll_difference", nll, 2);
    ivon_comparison_free(comparison);
}

static void compares_only_probabilities(void **unused)
{
    (void)unused;
    struct ivon_comparison *comparison = NULL;
    struct ivon_error error;
    assert_int_equal(ivon_comparison_new(&comparison, IVON_GAUSSIAN, 2, &error),
                     IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_comparison_new(&comparison, IVON_CATEGORICAL, 0, &error),
                     IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_comparison_new(&comparison, IVON_CATEGORICAL, 2, &error), 0);
    const float good[] = {0.5f, 0.5f, 0.25f, 0.75f}, bad[] = {0.5f, 0.5f, NAN, 0.75f};
    for (int side = 0; side < 2; side++) {
        assert_int_equal(ivon_comparison_add(comparison, 5, 2, side ? good : bad, side ? bad : good,
                                             NULL, NULL, &error),
                         IVON_ERROR_DATA);
        assert_string_equal(error.message, "row 6: probability 0 is nan, expected 0 to 1");
    }
    size_t count;
    const struct ivon_metric *values = ivon_comparison_values(comparison, &count);
    for (size_t i = 0; i < count; i++)
        assert_true(isnan(values[i].value) && isnan(values[i].standard_error));
    ivon_comparison_free(comparison);
    ivon_comparison_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_definitions),
        cmocka_unit_test(agrees_with_paper_and_pencil),
        cmocka_unit_test(passes_over_what_does_not_count),
        cmocka_unit_test(differs_by_pairs),
        cmocka_unit_test(differs_in_events),
        cmocka_unit_test(compares_only_probabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
