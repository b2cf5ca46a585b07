/*
 * Selective risk, the calibration's line, scores of normal distributions and metrics by group,
 * against numpy's (tests/oracle/selective_reference.py).
 *
 * Tolerances: sums of 60 terms of at most 5 are within 60 · 5 · 2^-53 in each of a few steps:
 * 1e-12. Errors are differences there, of steps of 1e-5: 1e-8 of truncation and rounding. Integrals
 * are sums over 2e5 trapezoids of widths up to 1e-4: 1e-8. Newton's last step squares what is below
 * 1e-10.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/selective.h"
#include "selective_fixture.h"

static const double exact = 1e-12, differences = 1e-8;

static void check(const char *name, double found, double expected, double allowed)
{
    if (!(fabs(found - expected) <= allowed))
        fail_msg("%s: %.17g, expected %.17g", name, found, expected);
}

static void check_areas(const float *confidences, const float *errors, size_t count,
                        const double expected[4])
{
    struct ivon_metric found[IVON_SELECTIVE_COUNT];
    assert_int_equal(ivon_selective(found, confidences, errors, count, fixture_risk, NULL), 0);
    assert_string_equal(found[0].name, "aurc");
    assert_string_equal(found[1].name, "e_aurc");
    check("aurc", found[0].value, expected[0], exact);
    check("its error", found[0].standard_error, expected[1], differences);
    check("e_aurc", found[1].value, expected[2], exact);
    check("its error", found[1].standard_error, expected[3], differences);
}

static void test_areas(void **state)
{
    (void)state;
    check_areas(fixture_confidences, fixture_errors, FIXTURE_ROWS, fixture_areas);
}

/* The mean over all orders of rows of equal confidence, whose errors are shares. */
static void test_ties(void **state)
{
    (void)state;
    float confidences[FIXTURE_TIED], errors[FIXTURE_TIED];
    check_areas(fixture_tied_confidences, fixture_tied_errors, FIXTURE_TIED, fixture_tied_areas);
    for (size_t i = 0; i < FIXTURE_TIED; i++) {
        confidences[i] = fixture_tied_confidences[FIXTURE_TIED - 1 - i];
        errors[i] = fixture_tied_errors[FIXTURE_TIED - 1 - i];
    }
    check_areas(confidences, errors, FIXTURE_TIED, fixture_tied_areas);
}

static void test_coverage(void **state)
{
    (void)state;
    struct ivon_metric found[IVON_SELECTIVE_COUNT];
    assert_int_equal(ivon_selective(found, fixture_confidences, fixture_errors, FIXTURE_ROWS,
                                    fixture_risk, NULL),
                     0);
    check("coverage", found[2].value, fixture_coverage[0], exact);
    check("its error", found[2].standard_error, fixture_coverage[1], exact);
    assert_int_equal(ivon_selective(found, fixture_tied_confidences, fixture_tied_errors,
                                    FIXTURE_TIED, 0.3, NULL),
                     0);
    check("coverage of ties", found[2].value, fixture_coverage[2], exact);
}

/* All right, all wrong, one row, none. */
static void test_edges(void **state)
{
    (void)state;
    static const float confidences[] = {0.5f, 0.9f}, right[] = {0, 0}, wrong[] = {1, 1};
    static const float bad[] = {0, 2}, unknown[] = {0.5f, NAN};
    struct ivon_metric found[IVON_SELECTIVE_COUNT];
    struct ivon_error error = {0};
    assert_int_equal(ivon_selective(found, confidences, right, 2, 0, NULL), 0);
    assert_true(found[0].value == 0 && found[1].value == 0 && found[2].value == 1);
    assert_int_equal(ivon_selective(found, confidences, wrong, 2, 0.5, NULL), 0);
    assert_true(found[0].value == 1 && found[1].value == 0 && found[2].value == 0);
    assert_true(isnan(found[2].standard_error));
    assert_int_equal(ivon_selective(found, confidences, wrong, 1, 0.5, NULL), 0);
    assert_true(found[0].value == 1 && isnan(found[0].standard_error));
    assert_int_equal(ivon_selective(found, confidences, wrong, 0, 0.5, NULL), 0);
    assert_true(isnan(found[0].value));
    assert_int_equal(ivon_selective(found, confidences, bad, 2, 0.5, &error), IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "row 1 has "));
    assert_int_equal(ivon_selective(found, unknown, right, 2, 0.5, NULL), IVON_ERROR_DATA);
}

static void test_line(void **state)
{
    (void)state;
    struct ivon_metric found[IVON_CALIBRATION_LINE_COUNT];
    static const float apart[] = {0.2f, 0.3f, 0.7f, 0.8f}, errors[] = {1, 1, 0, 0};
    static const float equal[] = {0.6f, 0.6f, 0.6f, 0.6f};
    ivon_calibration_line(found, fixture_confidences, fixture_errors, FIXTURE_ROWS);
    assert_string_equal(found[0].name, "calibration_slope");
    assert_string_equal(found[1].name, "calibration_intercept");
    check("slope", found[0].value, fixture_line[0], 1e-10);
    check("its error", found[0].standard_error, fixture_line[1], 1e-10);
    check("intercept", found[1].value, fixture_line[2], 1e-10);
    check("its error", found[1].standard_error, fixture_line[3], 1e-10);
    ivon_calibration_line(found, apart, errors, 4);
    assert_true(isnan(found[0].value) && isnan(found[1].value));
    ivon_calibration_line(found, equal, errors, 4);
    assert_true(isnan(found[0].value));
    ivon_calibration_line(found, apart, apart, 4);
    assert_true(isnan(found[0].value));
    ivon_calibration_line(found, apart, errors, 0);
    assert_true(isnan(found[0].value));
    /* Confidences of 1 and 0, half of which are wrong: a line without a slope. */
    static const float sure[] = {1, 1, 0, 0}, half[] = {0, 1, 0, 1};
    ivon_calibration_line(found, sure, half, 4);
    check("slope", found[0].value, 0, exact);
    check("intercept", found[1].value, 0, exact);
    double bound = 24 * log(2);
    check("its error", found[0].standard_error, 1 / bound, 1e-7); /* of Σ ¼ bound² */
}

static void test_normal(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        const double *n = fixture_normals + 4 * i;
        check("crps", ivon_crps_normal(n[0], n[1], n[2]), n[3], 1e-7);
    }
    assert_true(ivon_crps_normal(1, 0, 3.5) == 2.5);
    /* Of tables. */
    check("bound", ivon_normal_bound(0.95), 1.959963984540054, 1e-14);
    check("bound", ivon_normal_bound(0.5), 0.6744897501960817, 1e-14);
}

static void test_groups(void **state)
{
    (void)state;
    struct ivon_group_metrics *metrics = NULL;
    static const int64_t ignored = -100;
    assert_int_equal(ivon_group_metrics_new(&metrics, IVON_CATEGORICAL, FIXTURE_CLASSES, NULL), 0);
    for (size_t i = 0; i < FIXTURE_ROWS; i++) {
        const float *p = fixture_probabilities + i * FIXTURE_CLASSES;
        assert_int_equal(ivon_group_metrics_add(metrics, fixture_groups[i], p, &fixture_labels[i],
                                                ignored, NULL),
                         0);
        assert_int_equal(ivon_group_metrics_add(metrics, 77, p, &ignored, ignored, NULL), 0);
    }
    assert_int_equal(ivon_group_metrics_count(metrics), FIXTURE_GROUPS);
    uint64_t rows = 0;
    for (size_t g = 0; g < FIXTURE_GROUPS; g++) {
        struct ivon_group_result result = ivon_group_metrics_get(metrics, g);
        assert_int_equal(result.group, (int64_t)g - 1);
        assert_int_equal(result.count, 4);
        rows += result.rows;
        for (size_t i = 0; i < 4; i++) {
            const double *expected = fixture_of_groups + 2 * (4 * g + i);
            check(result.values[i].name, result.values[i].value, expected[0], exact);
            check("its error", result.values[i].standard_error, expected[1], exact);
        }
    }
    assert_int_equal(rows, FIXTURE_ROWS);
    static const int64_t bad = FIXTURE_CLASSES;
    static const float number = 1;
    assert_int_equal(
        ivon_group_metrics_add(metrics, 0, fixture_probabilities, &bad, INT64_MIN, NULL),
        IVON_ERROR_DATA);
    assert_int_equal(ivon_group_metrics_add_regression(metrics, 0, &number, &number, &number, NULL),
                     IVON_ERROR_ARGUMENT);
    ivon_group_metrics_free(metrics);
    ivon_group_metrics_free(NULL);
}

/* Two events, and two numbers, of one row each: by hand. */
static void test_other_groups(void **state)
{
    (void)state;
    struct ivon_group_metrics *metrics = NULL;
    static const float p[] = {0.75f, 0.25f}, means[] = {1, 2}, stds[] = {1, 2}, y[] = {1, -2};
    static const int64_t events[] = {1, 1};
    assert_int_equal(ivon_group_metrics_new(&metrics, IVON_BERNOULLI, 2, NULL), 0);
    assert_int_equal(ivon_group_metrics_add(metrics, 5, p, events, INT64_MIN, NULL), 0);
    struct ivon_group_result result = ivon_group_metrics_get(metrics, 0);
    check("accuracy", result.values[0].value, 0.5, exact);
    check("nll", result.values[1].value, -(log(0.75) + log(0.25)) / 2, exact);
    check("brier", result.values[2].value, (0.0625 + 0.5625) / 2, exact);
    check("overconfidence", result.values[3].value, 0.25, exact);
    ivon_group_metrics_free(metrics);
    assert_int_equal(ivon_group_metrics_new(&metrics, IVON_GAUSSIAN, 2, NULL), 0);
    assert_int_equal(ivon_group_metrics_add_regression(metrics, -5, means, stds, y, NULL), 0);
    assert_int_equal(ivon_group_metrics_add(metrics, 5, p, events, INT64_MIN, NULL),
                     IVON_ERROR_ARGUMENT);
    result = ivon_group_metrics_get(metrics, 0);
    assert_int_equal(result.count, 3);
    check("rmse", result.values[0].value, sqrt(8), exact);
    check("crps", result.values[1].value,
          (ivon_crps_normal(1, 1, 1) + ivon_crps_normal(2, 2, -2)) / 2, exact);
    check("coverage_90", result.values[2].value, 0.5, exact);
    ivon_group_metrics_free(metrics);
    assert_int_equal(ivon_group_metrics_new(&metrics, IVON_GAUSSIAN, 0, NULL), IVON_ERROR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_areas),    cmocka_unit_test(test_ties),
        cmocka_unit_test(test_coverage), cmocka_unit_test(test_edges),
        cmocka_unit_test(test_line),     cmocka_unit_test(test_normal),
        cmocka_unit_test(test_groups),   cmocka_unit_test(test_other_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
