/*
 * Metrics and their standard errors against a naive evaluation by their definitions.
 *
 * Tolerance: a sum of n ≤ 300 doubles is within n 2^-53 of its terms' sizes, which are below 50
 * (−log of the smallest probability here is below 20): 2e-12, which the mean halves at least. The
 * reference is long double.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/metrics.h"
#include "metrics_fixture.h"

static const double tolerance = 2e-12;

enum { EXAMPLES_MAX = 300, OUTPUTS_MAX = 1000 };

static float p[EXAMPLES_MAX * OUTPUTS_MAX];
static int64_t y[EXAMPLES_MAX * OUTPUTS_MAX];

static uint64_t state = 1;

static double uniform(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(state >> 11) * 0x1p-53;
}

static struct ivon_metrics *new_metrics(enum ivon_likelihood likelihood, size_t outputs, int bins)
{
    struct ivon_metrics_options options = {.size = sizeof options, likelihood, outputs, bins};
    struct ivon_metrics *metrics = NULL;
    assert_int_equal(ivon_metrics_new(&metrics, &options, NULL), 0);
    return metrics;
}

static struct ivon_metric find(const struct ivon_metric *values, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(values[i].name, name) == 0)
            return values[i];
    fail_msg("no metric '%s'", name);
    return (struct ivon_metric){0};
}

static struct ivon_metric metric(struct ivon_metrics *metrics, const char *name)
{
    size_t count;
    const struct ivon_metric *values = ivon_metrics_values(metrics, &count);
    assert_non_null(values);
    return find(values, count, name);
}

static void check(const char *name, double found, double expected, double allowed)
{
    bool same = found == expected || (isnan(found) && isnan(expected));
    if (!same && !(fabs(found - expected) <= allowed))
        fail_msg("%s: %.17g, expected %.17g", name, found, expected);
}

/* A mean over examples by two passes. */
static struct ivon_metric mean_of(const char *name, const long double *z, size_t n)
{
    long double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++)
        sum += z[i];
    for (size_t i = 0; i < n; i++)
        square += (z[i] - sum / (long double)n) * (z[i] - sum / (long double)n);
    long double error = sqrtl(square / ((long double)n - 1) / (long double)n);
    return (struct ivon_metric){name, (double)(sum / (long double)n), n > 1 ? (double)error : NAN};
}

static void check_metric(struct ivon_metrics *metrics, struct ivon_metric expected)
{
    struct ivon_metric found = metric(metrics, expected.name);
    check(expected.name, found.value, expected.value, tolerance);
    check(expected.name, found.standard_error, expected.standard_error, tolerance);
}

/* Adds to each example's z what the calibration error takes of it: n × width confidences, of which
   `hit` came true, in bins. */
static void naive_calibration(long double *z, const float *confidence, const bool *hit,
                              const size_t *bin, size_t n, size_t width, size_t bins)
{
    for (size_t b = 0; b < bins; b++) {
        long double gap = 0;
        for (size_t e = 0; e < n * width; e++)
            gap += bin[e] == b ? hit[e] - (long double)confidence[e] : 0;
        for (size_t e = 0; e < n * width; e++)
            if (bin[e] == b && gap != 0)
                z[e / width] += (gap > 0 ? 1 : -1) * (hit[e] - (long double)confidence[e]) /
                                (long double)width;
    }
}

static void equal_width(size_t *bin, const float *confidence, size_t count, size_t bins)
{
    for (size_t e = 0; e < count; e++)
        for (bin[e] = 0; bin[e] + 1 < bins && (float)((long double)confidence[e] *
                                                      (long double)bins) >= (float)(bin[e] + 1);)
            bin[e]++;
}

static void equal_count(size_t *bin, const float *confidence, size_t count, size_t bins)
{
    for (size_t e = 0; e < count; e++) {
        size_t less = 0, equal = 0;
        for (size_t f = 0; f < count; f++) {
            less += confidence[f] < confidence[e];
            equal += confidence[f] == confidence[e];
        }
        bin[e] = (2 * less + equal - 1) * bins / (2 * count);
    }
}

static void check_calibration(struct ivon_metrics *metrics, const float *confidence,
                              const bool *hit, size_t n, size_t width, size_t bins)
{
    static size_t bin[EXAMPLES_MAX * OUTPUTS_MAX];
    long double z[EXAMPLES_MAX] = {0};
    equal_width(bin, confidence, n * width, bins);
    naive_calibration(z, confidence, hit, bin, n, width, bins);
    check_metric(metrics, mean_of("ece", z, n));
    memset(z, 0, sizeof z);
    equal_count(bin, confidence, n * width, bins);
    naive_calibration(z, confidence, hit, bin, n, width, bins);
    check_metric(metrics, mean_of("ece_adaptive", z, n));
}

static struct ivon_metric naive_classwise(size_t n, size_t outputs, size_t bins)
{
    long double z[EXAMPLES_MAX] = {0};
    for (size_t c = 0; c < outputs; c++) {
        float confidence[EXAMPLES_MAX];
        bool hit[EXAMPLES_MAX];
        size_t bin[EXAMPLES_MAX];
        for (size_t i = 0; i < n; i++) {
            confidence[i] = p[i * outputs + c];
            hit[i] = y[i] == (int64_t)c;
        }
        equal_width(bin, confidence, n, bins);
        naive_calibration(z, confidence, hit, bin, n, 1, bins);
    }
    for (size_t i = 0; i < n; i++)
        z[i] /= (long double)outputs;
    return mean_of("ece_classwise", z, n);
}

static size_t naive_best(const float *row, size_t outputs)
{
    for (size_t c = 0; c < outputs; c++) {
        bool best = true;
        for (size_t d = 0; d < outputs; d++)
            best = best && (d < c ? row[d] < row[c] : row[d] <= row[c]);
        if (best)
            return c;
    }
    return SIZE_MAX;
}

static void check_nll(struct ivon_metrics *metrics, const long double *z, size_t n)
{
    struct ivon_metric nll = mean_of("nll", z, n), found = metric(metrics, "perplexity");
    check_metric(metrics, nll);
    double perplexity = exp(nll.value); /* its relative error is the absolute one of nll */
    check("perplexity", found.value, perplexity, 2 * tolerance * perplexity);
    check("perplexity", found.standard_error, perplexity * nll.standard_error,
          2 * tolerance * perplexity * (1 + nll.standard_error));
}

static void check_categorical(struct ivon_metrics *metrics, size_t n, size_t outputs, size_t bins)
{
    long double accuracy[EXAMPLES_MAX] = {0}, nll[EXAMPLES_MAX] = {0}, brier[EXAMPLES_MAX] = {0};
    float confidence[EXAMPLES_MAX] = {0};
    bool hit[EXAMPLES_MAX] = {0};
    for (size_t i = 0; i < n; i++) {
        const float *row = p + i * outputs;
        size_t best = naive_best(row, outputs);
        confidence[i] = row[best];
        hit[i] = best == (size_t)y[i];
        accuracy[i] = hit[i];
        nll[i] = -logl((long double)row[y[i]]);
        for (size_t c = 0; c < outputs; c++)
            brier[i] += powl((long double)row[c] - (c == (size_t)y[i]), 2);
    }
    check_metric(metrics, mean_of("accuracy", accuracy, n));
    check_nll(metrics, nll, n);
    check_metric(metrics, mean_of("brier", brier, n));
    check_calibration(metrics, confidence, hit, n, 1, bins);
    struct ivon_metric classwise = naive_classwise(n, outputs, bins);
    if (n <= 32) /* beyond, see grouped_errors_are_unbiased */
        check_metric(metrics, classwise);
    check("ece_classwise", metric(metrics, "ece_classwise").value, classwise.value, tolerance);
}

/* Softmax of random numbers; or multiples of 1/64, which tie with each other and with the bins. */
static void draw_categorical(size_t n, size_t outputs, bool ties)
{
    for (size_t i = 0; i < n; i++) {
        double weights[OUTPUTS_MAX], sum = 0;
        for (size_t c = 0; c < outputs; c++)
            sum += weights[c] = exp(6 * uniform());
        for (size_t c = 0; c < outputs; c++)
            p[i * outputs + c] = ties ? (float)(1 + floor(63 * weights[c] / sum)) / 64
                                      : (float)(weights[c] / sum);
        y[i] = (int64_t)(uniform() * (double)outputs);
        if (uniform() < 0.5)
            y[i] = (int64_t)naive_best(p + i * outputs, outputs);
    }
}

static void agrees_with_the_definitions(void **unused)
{
    (void)unused;
    static const size_t counts[] = {1, 2, 7, 32, EXAMPLES_MAX}, outputs[] = {1, 2, 3, 10, 1000};
    static const int bins[] = {0, 1, 4, 16, 400};
    for (size_t round = 0; round < 50; round++) {
        size_t n = counts[round % 5], k = outputs[round / 5 % 5];
        int b = bins[(round + round / 5) % 5];
        struct ivon_metrics *metrics = new_metrics(IVON_CATEGORICAL, k, b);
        draw_categorical(n, k, round >= 25);
        assert_int_equal(ivon_metrics_add(metrics, 0, n, p, y, INT64_MIN, NULL), 0);
        check_categorical(metrics, n, k, b ? (size_t)b : 15);
        ivon_metrics_free(metrics);
    }
}

static void check_bernoulli(struct ivon_metrics *metrics, size_t n, size_t outputs, size_t bins)
{
    static float confidence[EXAMPLES_MAX * OUTPUTS_MAX];
    static bool hit[EXAMPLES_MAX * OUTPUTS_MAX];
    long double accuracy[EXAMPLES_MAX] = {0}, nll[EXAMPLES_MAX] = {0}, brier[EXAMPLES_MAX] = {0};
    for (size_t e = 0; e < n * outputs; e++) {
        float rows[2] = {1 - p[e], p[e]};
        size_t best = naive_best(rows, 2);
        long double share = 1 / (long double)outputs, one = p[e];
        confidence[e] = rows[best];
        hit[e] = best == (size_t)y[e];
        accuracy[e / outputs] += hit[e] * share;
        nll[e / outputs] -= (y[e] ? logl(one) : log1pl(-one)) * share;
        brier[e / outputs] += (one - (long double)y[e]) * (one - (long double)y[e]) * share;
    }
    check_metric(metrics, mean_of("accuracy", accuracy, n));
    check_nll(metrics, nll, n);
    check_metric(metrics, mean_of("brier", brier, n));
    check_calibration(metrics, confidence, hit, n, outputs, bins);
}

static void agrees_for_bernoulli(void **unused)
{
    (void)unused;
    static const size_t counts[] = {1, 2, 9, 100}, outputs[] = {1, 2, 10};
    for (size_t round = 0; round < 24; round++) {
        size_t n = counts[round % 4], k = outputs[round / 4 % 3], bins = round % 2 ? 15 : 8;
        struct ivon_metrics *metrics = new_metrics(IVON_BERNOULLI, k, (int)bins);
        for (size_t e = 0; e < n * k; e++) {
            double value = 0.001 + 0.998 * uniform();
            p[e] = (float)(round < 12 ? value : (1 + floor(31 * value)) / 32);
            y[e] = uniform() < 0.3 + 0.4 * value;
        }
        assert_int_equal(ivon_metrics_add(metrics, 0, n, p, y, INT64_MIN, NULL), 0);
        check_bernoulli(metrics, n, k, bins);
        size_t count;
        ivon_metrics_values(metrics, &count);
        assert_int_equal(count, 6);
        ivon_metrics_free(metrics);
    }
}

static void agrees_for_regression(void **unused)
{
    (void)unused;
    static const size_t counts[] = {1, 2, 50}, outputs[] = {1, 3};
    for (size_t round = 0; round < 6; round++) {
        size_t n = counts[round % 3], k = outputs[round / 3];
        struct ivon_metrics *metrics = new_metrics(IVON_GAUSSIAN, k, 0);
        double means[150], densities[50];
        float targets[150];
        long double square[50] = {0}, nll[50];
        for (size_t e = 0; e < n * k; e++) {
            means[e] = uniform();
            targets[e] = (float)uniform();
            square[e / k] += powl((long double)means[e] - targets[e], 2) / (long double)k;
        }
        for (size_t i = 0; i < n; i++)
            nll[i] = -(densities[i] = 5 * uniform() - 4);
        assert_int_equal(ivon_metrics_add_regression(metrics, n, means, targets, densities, NULL),
                         0);
        struct ivon_metric expected = mean_of("rmse", square, n);
        expected.value = sqrt(expected.value);
        expected.standard_error /= 2 * expected.value;
        check_metric(metrics, expected);
        check_metric(metrics, mean_of("nll", nll, n));
        ivon_metrics_free(metrics);
    }
}

static void agrees_with_scikit_learn(void **unused)
{
    (void)unused;
    struct ivon_metrics *metrics = new_metrics(IVON_CATEGORICAL, FIXTURE_CLASSES, 0);
    assert_int_equal(ivon_metrics_add(metrics, 0, FIXTURE_ROWS, fixture_probabilities,
                                      fixture_targets, INT64_MIN, NULL),
                     0);
    check("accuracy", metric(metrics, "accuracy").value, fixture_metrics[0], tolerance);
    check("nll", metric(metrics, "nll").value, fixture_metrics[1], tolerance);
    check("brier", metric(metrics, "brier").value, fixture_metrics[2], tolerance);
    ivon_metrics_free(metrics);
    metrics = new_metrics(IVON_BERNOULLI, FIXTURE_CLASSES, 0);
    for (size_t e = 0; e < FIXTURE_ROWS * FIXTURE_CLASSES; e++)
        y[e] = fixture_targets[e / FIXTURE_CLASSES] == (int64_t)(e % FIXTURE_CLASSES);
    assert_int_equal(
        ivon_metrics_add(metrics, 0, FIXTURE_ROWS, fixture_probabilities, y, INT64_MIN, NULL), 0);
    check("brier", metric(metrics, "brier").value, fixture_metrics[3], tolerance);
    ivon_metrics_free(metrics);
}

/* Four examples of two classes, by hand. */
static void agrees_with_paper_and_pencil(void **unused)
{
    (void)unused;
    const float rows[] = {0.75f, 0.25f, 0.75f, 0.25f, 0.5f, 0.5f, 0.125f, 0.875f};
    const int64_t targets[] = {0, 1, 0, 1}; /* right, wrong, right (a tie: class 0), right */
    struct ivon_metrics *metrics = new_metrics(IVON_CATEGORICAL, 2, 4);
    assert_int_equal(ivon_metrics_add(metrics, 0, 4, rows, targets, INT64_MIN, NULL), 0);
    check("accuracy", metric(metrics, "accuracy").value, 0.75, 0);
    check("accuracy", metric(metrics, "accuracy").standard_error, 0.25, 1e-15); /* √(3/4/3/4) */
    check("nll", metric(metrics, "nll").value, log(256.0 / 21) / 4, 1e-15);
    check("brier", metric(metrics, "brier").value, (2.0 / 16 + 18.0 / 16 + 0.5 + 2.0 / 64) / 4, 0);
    /* [.5, .75): 1 − .5; [.75, 1]: 2 right, confidences .75 + .75 + .875 */
    check("ece", metric(metrics, "ece").value, (0.5 + 0.375) / 4, 0);
    /* ranks 0; 1 and 2, whose mean 1.5 is bin 1; 3 */
    check("ece_adaptive", metric(metrics, "ece_adaptive").value, (0.5 + 0.5 + 0.125) / 4, 0);
    /* class 0: [0, .25) 0 − .125; [.5, .75) 1 − .5; [.75, 1] 1 − 1.5;
       class 1: [.25, .5) 1 − .5; [.5, .75) 0 − .5; [.75, 1] 1 − .875 */
    check("ece_classwise", metric(metrics, "ece_classwise").value, 2.25 / 4 / 2, 0);
    ivon_metrics_free(metrics);
}

static void does_not_depend_on_the_calls(void **unused)
{
    (void)unused;
    enum { N = 100, K = 10 };
    struct ivon_metrics *whole = new_metrics(IVON_CATEGORICAL, K, 0);
    struct ivon_metrics *parts = new_metrics(IVON_CATEGORICAL, K, 0);
    draw_categorical(N, K, false);
    assert_int_equal(ivon_metrics_add(whole, 0, N, p, y, INT64_MIN, NULL), 0);
    for (size_t i = 0, count = 1; i < N; i += count, count = count % 7 + 1) {
        count = count < N - i ? count : N - i;
        assert_int_equal(ivon_metrics_add(parts, i, count, p + i * K, y + i, INT64_MIN, NULL), 0);
        size_t values;
        assert_non_null(ivon_metrics_values(parts, &values)); /* looking changes nothing */
    }
    size_t count;
    const struct ivon_metric *expected = ivon_metrics_values(whole, &count);
    const struct ivon_metric *found = ivon_metrics_values(parts, &count);
    assert_int_equal(count, 7);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(found[i].name, expected[i].name);
        assert_true(found[i].value == expected[i].value);
        assert_true(found[i].standard_error == expected[i].standard_error);
    }
    ivon_metrics_free(whole);
    ivon_metrics_free(parts);
}

static void knows_nothing_without_examples(void **unused)
{
    (void)unused;
    for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_GAUSSIAN; likelihood++) {
        struct ivon_metrics *metrics = new_metrics((enum ivon_likelihood)likelihood, 3, 0);
        size_t count;
        const struct ivon_metric *values = ivon_metrics_values(metrics, &count);
        assert_int_equal(count, likelihood == IVON_CATEGORICAL ? 7
                                : likelihood == IVON_BERNOULLI ? 6
                                                               : 2);
        for (size_t i = 0; i < count; i++)
            assert_true(isnan(values[i].value) && isnan(values[i].standard_error));
        ivon_metrics_free(metrics);
    }
    ivon_metrics_free(NULL);
}

static void meets_the_extremes(void **unused)
{
    (void)unused;
    const float certain[] = {1, 0, 0, 1, 1.000001f, 0};
    const int64_t right[] = {0, 1, 0}, wrong[] = {0, 0, 0};
    struct ivon_metrics *metrics = new_metrics(IVON_CATEGORICAL, 2, 0);
    assert_int_equal(ivon_metrics_add(metrics, 0, 3, certain, right, INT64_MIN, NULL), 0);
    size_t count;
    const struct ivon_metric *values = ivon_metrics_values(metrics, &count);
    for (size_t i = 0; i < count; i++) {
        bool one = strcmp(values[i].name, "accuracy") == 0 ||
                   strcmp(values[i].name, "perplexity") == 0;
        assert_true(values[i].value == one && !signbit(values[i].value));
        assert_true(values[i].standard_error == 0);
    }
    assert_int_equal(ivon_metrics_add(metrics, 3, 3, certain, wrong, INT64_MIN, NULL), 0);
    check("nll", metric(metrics, "nll").value, INFINITY, 0);
    check("nll", metric(metrics, "nll").standard_error, NAN, 0);
    check("perplexity", metric(metrics, "perplexity").value, INFINITY, 0);
    check("accuracy", metric(metrics, "accuracy").value, 5.0 / 6, 1e-15);
    check("ece", metric(metrics, "ece").value, 1.0 / 6, 1e-15);
    ivon_metrics_free(metrics);
    metrics = new_metrics(IVON_BERNOULLI, 2, 0); /* the surplus above 1 is not an impossibility */
    assert_int_equal(ivon_metrics_add(metrics, 0, 1, (const float[]){1.000001f, 0},
                                      (const int64_t[]){1, 0}, INT64_MIN, NULL),
                     0);
    check("nll", metric(metrics, "nll").value, 0, 0);
    assert_int_equal(ivon_metrics_add(metrics, 1, 1, (const float[]){0, 0.5f},
                                      (const int64_t[]){1, 0}, INT64_MIN, NULL),
                     0);
    check("nll", metric(metrics, "nll").value, INFINITY, 0);
    check("accuracy", metric(metrics, "accuracy").value, 0.75, 0); /* .5 predicts 0 */
    ivon_metrics_free(metrics);
}

static void passes_over_ignored_targets(void **unused)
{
    (void)unused;
    const float rows[] = {0.75f, 0.25f, NAN, 7, 0.25f, 0.75f};
    struct ivon_metrics *metrics = new_metrics(IVON_CATEGORICAL, 2, 0);
    assert_int_equal(
        ivon_metrics_add(metrics, 0, 3, rows, (const int64_t[]){0, -100, 0}, -100, NULL), 0);
    check("accuracy", metric(metrics, "accuracy").value, 0.5, 0);
    assert_int_equal(ivon_metrics_add(metrics, 0, 1, rows, (const int64_t[]){1}, 1, NULL), 0);
    check("accuracy", metric(metrics, "accuracy").value, 0.5, 0);
    ivon_metrics_free(metrics);
}

static void names_what_is_wrong(void **unused)
{
    (void)unused;
    static const struct {
        float probability;
        int64_t target;
        const char *message;
    } cases[] = {
        {0.5f, 2, "row 8: target 2, expected a class from 0 to 1"},
        {0.5f, -100, "row 8: target -100, expected a class from 0 to 1"},
        {0.5f, INT64_MIN, "row 8: target -9223372036854775808, expected a class from 0 to 1"},
        {NAN, 0, "row 8: probability 1 is nan, expected 0 to 1"},
        {-0.25f, 0, "row 8: probability 1 is -0.25, expected 0 to 1"},
        {1.5f, 0, "row 8: probability 1 is 1.5, expected 0 to 1"},
        {INFINITY, 0, "row 8: probability 1 is inf, expected 0 to 1"},
    };
    struct ivon_error error;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_BERNOULLI; likelihood++) {
            struct ivon_metrics *metrics = new_metrics((enum ivon_likelihood)likelihood, 2, 0);
            const float rows[] = {0.5f, 0.5f, 0.5f, cases[i].probability};
            const int64_t targets[] = {0, likelihood == IVON_CATEGORICAL ? cases[i].target : 0, 0,
                                       cases[i].target};
            assert_int_equal(ivon_metrics_add(metrics, 7, 2, rows, targets, -1, &error),
                             IVON_ERROR_DATA);
            assert_string_equal(error.message, cases[i].message);
            assert_true(isnan(metric(metrics, "nll").value)); /* nothing was added */
            assert_int_equal(ivon_metrics_add_regression(metrics, 1, (const double[]){0, 0}, rows,
                                                         (const double[]){0}, &error),
                             IVON_ERROR_ARGUMENT);
            ivon_metrics_free(metrics);
        }
    const double means[] = {0, 1, NAN, INFINITY}, densities[] = {0, 0, 0, 0, NAN};
    const float targets[] = {0, 1, 2, INFINITY, 0};
    const char *const messages[] = {
        "row 2: output 0 has the mean nan and the target 2, expected finite numbers",
        "row 2: output 0 has the mean inf and the target inf, expected finite numbers"};
    struct ivon_metrics *metrics = new_metrics(IVON_GAUSSIAN, 1, 0);
    assert_int_equal(ivon_metrics_add_regression(metrics, 2, means, targets, densities, NULL), 0);
    for (size_t i = 2; i < 4; i++) {
        assert_int_equal(
            ivon_metrics_add_regression(metrics, 1, means + i, targets + i, densities, &error),
            IVON_ERROR_DATA);
        assert_string_equal(error.message, messages[i - 2]);
    }
    assert_int_equal(ivon_metrics_add_regression(metrics, 1, means, targets, densities + 4, &error),
                     IVON_ERROR_DATA);
    assert_int_equal(ivon_metrics_add(metrics, 0, 1, targets, y, -1, &error), IVON_ERROR_ARGUMENT);
    check("rmse", metric(metrics, "rmse").value, 0, 0);
    ivon_metrics_free(metrics);
}

static void refuses_impossible_options(void **unused)
{
    (void)unused;
    static const struct ivon_metrics_options bad[] = {
        {sizeof bad[0], IVON_CATEGORICAL, 0, 0},
        {sizeof bad[0], IVON_BERNOULLI, 1, -1},
        {sizeof bad[0], IVON_CATEGORICAL, 2, (1 << 16) + 1},
        {sizeof bad[0], (enum ivon_likelihood)7, 2, 0}};
    struct ivon_error error;
    struct ivon_metrics *metrics = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(ivon_metrics_new(&metrics, &bad[i], &error), IVON_ERROR_ARGUMENT);
    struct ivon_metrics_options huge = {.size = sizeof huge, IVON_CATEGORICAL, SIZE_MAX / 400, 0};
    assert_int_equal(ivon_metrics_new(&metrics, &huge, &error), IVON_ERROR_MEMORY);
    assert_null(metrics);
}

/* The variance of ece_classwise by groups, over that of all examples. */
static double grouped_ratio(size_t n)
{
    struct ivon_metrics *metrics = new_metrics(IVON_CATEGORICAL, 2, 4);
    assert_int_equal(ivon_metrics_add(metrics, 0, n, p, y, INT64_MIN, NULL), 0);
    double exact = naive_classwise(n, 2, 4).standard_error;
    double grouped = metric(metrics, "ece_classwise").standard_error;
    ivon_metrics_free(metrics);
    return grouped * grouped / (exact * exact);
}

/* By 32 groups a variance is known to √(2/31) = .254, its mean over 200 sets to .018; four of these
   are .072. */
static void grouped_errors_are_unbiased(void **unused)
{
    (void)unused;
    enum { N = EXAMPLES_MAX, SETS = 200 };
    double ratio = 0;
    for (int set = 0; set < SETS; set++) {
        draw_categorical(N, 2, false);
        ratio += grouped_ratio(N) / SETS;
    }
    print_message("ece_classwise: variance by groups %.3f of the exact one\n", ratio);
    assert_true(fabs(ratio - 1) < 0.072);
}

/* On edges that are no binary fractions, numpy decides. */
static void edges_are_where_numpy_has_them(void **unused)
{
    (void)unused;
    static const struct {
        size_t bins;
        const unsigned char *hundredths, *edges;
    } cases[] = {{10, fixture_hundredths_10, fixture_edges_10},
                 {15, fixture_hundredths_15, fixture_edges_15},
                 {20, fixture_hundredths_20, fixture_edges_20}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t bins = cases[i].bins;
        for (size_t k = 0; k < FIXTURE_HUNDREDTHS; k++)
            assert_int_equal(ivon_confidence_bin((float)((double)k / 100), bins),
                             cases[i].hundredths[k]);
        for (size_t k = 0; k <= bins; k++)
            assert_int_equal(ivon_confidence_bin((float)((double)k / (double)bins), bins),
                             cases[i].edges[k]);
        assert_int_equal(ivon_confidence_bin(1.00001f, bins), bins - 1);
    }
}

/* Bins of two predictions that differ by the edge alone: .7 belongs to the eighth of ten. */
static void an_edge_is_one_bin_for_all(void **unused)
{
    (void)unused;
    static const float probabilities[] = {.7f, .3f, .75f, .25f};
    static const int64_t labels[] = {1, 0};
    struct ivon_metrics *metrics = NULL;
    struct ivon_error error;
    const struct ivon_metrics_options options = {
        .size = sizeof options, .likelihood = IVON_CATEGORICAL, .outputs = 2, .bins = 10};
    assert_int_equal(ivon_metrics_new(&metrics, &options, &error), 0);
    assert_int_equal(ivon_metrics_add(metrics, 0, 2, probabilities, labels, INT64_MIN, &error), 0);
    /* In one bin, the gaps −.7 and .25 add up before their size counts. */
    check("ece", metric(metrics, "ece").value, (.7f - .25) / 2, 1e-12);
    ivon_metrics_free(metrics);
}

/* Examples may be sorted, here the right half first: groups that take turns would all have the same
   share of them, and a fifth of the variance. One set is known to .254; three of these are
   .762. */
static void groups_do_not_take_turns(void **unused)
{
    (void)unused;
    enum { N = EXAMPLES_MAX };
    draw_categorical(N, 2, false);
    for (size_t i = 0; i < N; i++)
        y[i] = (int64_t)((naive_best(p + 2 * i, 2) + (i >= N / 2)) % 2);
    double ratio = grouped_ratio(N);
    print_message("ece_classwise, sorted: variance by groups %.3f of the exact one\n", ratio);
    assert_true(fabs(ratio - 1) < 0.762);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_definitions),
        cmocka_unit_test(agrees_for_bernoulli),
        cmocka_unit_test(agrees_for_regression),
        cmocka_unit_test(agrees_with_scikit_learn),
        cmocka_unit_test(agrees_with_paper_and_pencil),
        cmocka_unit_test(does_not_depend_on_the_calls),
        cmocka_unit_test(knows_nothing_without_examples),
        cmocka_unit_test(meets_the_extremes),
        cmocka_unit_test(passes_over_ignored_targets),
        cmocka_unit_test(names_what_is_wrong),
        cmocka_unit_test(refuses_impossible_options),
        cmocka_unit_test(grouped_errors_are_unbiased),
        cmocka_unit_test(groups_do_not_take_turns),
        cmocka_unit_test(edges_are_where_numpy_has_them),
        cmocka_unit_test(an_edge_is_one_bin_for_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
