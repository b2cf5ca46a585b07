/*
 * WAIC and PSIS-LOO against an independent evaluation in extended precision, and against models
 * whose leave-one-out loss is known.
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

#include "metrics/pareto.h"
#include "core/random.h"
#include "ivon/information.h"
#include "psis_fixture.h"

enum { SAMPLES_MAX = 4000, EXAMPLES_MAX = 20 };

static double values[SAMPLES_MAX * EXAMPLES_MAX];
static double waic[EXAMPLES_MAX], penalty[EXAMPLES_MAX], loo[EXAMPLES_MAX], k[EXAMPLES_MAX];

static void check(const char *what, size_t i, double found, double expected, double allowed)
{
    bool same = found == expected || (isnan(found) && isnan(expected));
    if (!same && !(fabs(found - expected) <= allowed))
        fail_msg("%s %zu: %.17g, expected %.17g", what, i, found, expected);
}

static void compute(size_t samples, size_t examples, double exponent)
{
    double *exact = malloc(samples * examples *
                           sizeof *exact); /* so that reading beyond is found */
    memcpy(exact, values, samples * examples * sizeof *exact);
    struct ivon_log_likelihoods block = {exact, samples, 0, examples};
    assert_int_equal(ivon_waic(&block, exponent, waic, penalty, NULL), 0);
    assert_int_equal(ivon_psis_loo(&block, exponent, loo, k, NULL), 0);
    free(exact);
}

/*
 * Tolerances, with u = 2^-53 and S ≤ 320. WAIC: sums of S terms (ℓ − mean)² ≤ 64: 2e-12.
 * PSIS: the profile log-likelihood of the tail's M ≤ 54 exceedances is M times a number that errs
 * by some 100 u: each logarithm by a few u, amplified by 1/(1 − θ x) ≤ 12 M for the largest x. So
 * the weights of the grid's θ err by 2 M 100 u = 1e-12 of themselves, and k, their mean over values
 * that differ by less than 4, by 4e-12. A log quantile moves log(2 M) < 5 times as much: 2e-11.
 */
static void check_fixture(const int16_t *stored, size_t samples, size_t examples,
                          const double *expected)
{
    for (size_t i = 0; i < samples * examples; i++)
        values[i] = stored[i] / 1024.0;
    for (int e = 0; e < 2; e++) {
        compute(samples, examples, e ? 0.5 : 1);
        for (size_t i = 0; i < examples; i++, expected += 4) {
            check("waic", i, waic[i], expected[0], 2e-12);
            check("penalty", i, penalty[i], expected[1], 2e-12);
            check("loo", i, loo[i], expected[2], 2e-11);
            check("k", i, k[i], expected[3], 2e-11);
        }
    }
}

/* The same with weights that draws have in any case; they are multiples of 1/1024, too. */
static void check_weighted(const int16_t *stored, const int16_t *stored_ratios, size_t samples,
                           size_t examples, const double *expected)
{
    double ratios[SAMPLES_MAX], alone;
    for (size_t i = 0; i < samples * examples; i++)
        values[i] = stored[i] / 1024.0;
    for (size_t s = 0; s < samples; s++)
        ratios[s] = stored_ratios[s] / 1024.0;
    const struct ivon_log_likelihoods block = {values, samples, 0, examples};
    for (int shifted = 0; shifted < 2; shifted++) { /* by what all have in common */
        assert_int_equal(ivon_psis_k(ratios, samples, &alone, NULL), 0);
        check("k alone", 0, alone, expected[0], 2e-11);
        assert_int_equal(ivon_psis_loo_weighted(&block, 1, ratios, loo, k, NULL), 0);
        for (size_t i = 0; i < examples; i++) {
            check("weighted loo", i, loo[i], expected[1 + 2 * i], 2e-11);
            check("weighted k", i, k[i], expected[2 + 2 * i], 2e-11);
        }
        for (size_t s = 0; s < samples; s++)
            ratios[s] -= 100;
    }
}

static void weighs_draws(void **unused)
{
    (void)unused;
    check_weighted(fixture_values_0, fixture_ratios_0, 320, 5, fixture_weighted_0);
    check_weighted(fixture_values_1, fixture_ratios_1, 45, 4, fixture_weighted_1);
}

/* Draws without weight are as if they were not there; where all are, there is no estimate. */
static void passes_over_draws_without_weight(void **unused)
{
    (void)unused;
    enum { SAMPLES = 100 };
    double ratios[2 * SAMPLES], all[2 * SAMPLES], kept[SAMPLES], few, many;
    for (size_t s = 0; s < SAMPLES; s++) {
        kept[s] = -fabs(sin((double)s * 1.7));
        ratios[2 * s] = cos((double)s * 0.9);
        ratios[2 * s + 1] = -INFINITY;
        all[2 * s] = kept[s];
        all[2 * s + 1] = -1e3; /* which would decide everything if it counted */
    }
    double own[SAMPLES];
    for (size_t s = 0; s < SAMPLES; s++)
        own[s] = ratios[2 * s];
    const struct ivon_log_likelihoods half = {kept, SAMPLES, 0, 1},
                                      whole = {all, 2 * SAMPLES, 0, 1};
    assert_int_equal(ivon_psis_loo_weighted(&half, 1, own, &few, k, NULL), 0);
    assert_int_equal(ivon_psis_loo_weighted(&whole, 1, ratios, &many, k, NULL), 0);
    /* Their tails have 20 and 30 draws: the estimates are of one number. */
    assert_true(fabs(few - many) < 0.02);
    for (size_t s = 0; s < 2 * SAMPLES; s++)
        ratios[s] = -INFINITY;
    assert_int_equal(ivon_psis_loo_weighted(&whole, 1, ratios, &many, k, NULL), 0);
    assert_true(isinf(many) && isinf(k[0]));
    assert_int_equal(ivon_psis_k(ratios, 2 * SAMPLES, &many, NULL), 0);
    assert_true(isinf(many));
    for (size_t s = 0; s < 2 * SAMPLES; s++)
        ratios[s] = 7;
    assert_int_equal(ivon_psis_k(ratios, 2 * SAMPLES, &many, NULL), 0);
    assert_true(isnan(many));
    struct ivon_error error;
    ratios[3] = NAN;
    assert_int_equal(ivon_psis_k(ratios, 2 * SAMPLES, &many, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "the logarithm of importance ratio 3 is nan");
    ratios[3] = INFINITY;
    assert_int_equal(ivon_psis_loo_weighted(&whole, 1, ratios, &many, k, &error),
                     IVON_ERROR_ARGUMENT);
}

/*
 * Of N(0, 1) in two dimensions to draws of N(0, c²) the ratio is exp((1 − c²) ‖ε‖²/2), and ‖ε‖²/2
 * has the exponential distribution: P(r > t) = t^(−1/k) with k = 1 − c². With S = 4000, M = 190
 * exceedances give k to ±2 (1 + k)/√M = 0.28.
 */
static void tells_how_narrow_draws_are(void **unused)
{
    (void)unused;
    static const double widths[] = {0.9, 0.7, 0.5, 0.3};
    static double ratios[SAMPLES_MAX];
    static float normals[2 * SAMPLES_MAX];
    const struct random_stream stream = random_stream_of(5, 0, "draws");
    random_normal(&stream, 0, 2 * SAMPLES_MAX, normals);
    for (size_t w = 0; w < 4; w++) {
        double found, c = widths[w];
        for (size_t s = 0; s < SAMPLES_MAX; s++) {
            double e = (double)normals[2 * s], d = (double)normals[2 * s + 1];
            ratios[s] = (1 - c * c) * (e * e + d * d) / 2;
        }
        assert_int_equal(ivon_psis_k(ratios, SAMPLES_MAX, &found, NULL), 0);
        check("k of a width", w, found, 1 - c * c, 0.28);
    }
}

static void agrees_with_the_papers(void **unused)
{
    (void)unused;
    check_fixture(fixture_values_0, 320, 5, fixture_results_0);
    check_fixture(fixture_values_1, 45, 4, fixture_results_1);
}

/* log N(y; mean, variance) */
static double log_normal(double y, double mean, double variance)
{
    const double pi = 3.14159265358979323846;
    return -0.5 * (log(2 * pi * variance) + (y - mean) * (y - mean) / variance);
}

/* Of Σ w p / Σ w for its expectation, relative to it: the delta method. */
static double relative_error(size_t i, size_t examples, double exponent, double expectation)
{
    double sum = 0, square = 0;
    for (size_t s = 0; s < SAMPLES_MAX; s++) {
        double l = values[s * examples + i], weight = exp(-exponent * l);
        double residual = weight * (exp(l) / expectation - 1);
        sum += weight;
        square += residual * residual;
    }
    return sqrt(square) / sum;
}

/* y_i ~ N(θ, 1), θ ~ N(0, 4), tempered: with precision P = ¼ + ρ n, q = N(ρ Σ y/P, 1/P). Without
   example i that is P − ρ and ρ Σ_{j≠i} y_j/(P − ρ), and the example is N(that, 1 + 1/(P − ρ)).
   4.5 standard errors: 40 comparisons go beyond them once in 3,700 seeds. */
static void check_conjugate(double exponent)
{
    enum { N = EXAMPLES_MAX };
    float noise[N], draws[SAMPLES_MAX];
    double sum = 0, precision = 0.25 + exponent * N;
    struct random_stream data = random_stream_of(1, 0, "y"), theta = random_stream_of(1, 0, "θ");
    random_normal(&data, 0, N, noise);
    random_normal(&theta, 0, SAMPLES_MAX, draws);
    for (size_t i = 0; i < N; i++)
        sum += noise[i] + 1.0;
    for (size_t s = 0; s < SAMPLES_MAX; s++)
        for (size_t i = 0; i < N; i++)
            values[s * N + i] = log_normal(
                noise[i] + 1.0, exponent * sum / precision + draws[s] / sqrt(precision), 1);
    compute(SAMPLES_MAX, N, exponent);
    for (size_t i = 0; i < N; i++) {
        double y = noise[i] + 1.0, left = precision - exponent;
        double expected = -log_normal(y, exponent * (sum - y) / left, 1 + 1 / left);
        double error = relative_error(i, N, exponent, exp(-expected));
        check("loo", i, loo[i], expected, 4.5 * error);
        assert_true(k[i] < ivon_pareto_k_threshold(SAMPLES_MAX));
    }
}

static void finds_the_exact_loss_of_a_normal_model(void **unused)
{
    (void)unused;
    check_conjugate(1);
    check_conjugate(0.5);
}

/* Noise-free data: the estimate differs from the truth by the prior on k, which is known, and by
   its bias, of order 1/n as the variance (1 + k)²/n of the maximum-likelihood estimate is (Smith
   1984); ten of those are still a tenth of its standard error at n = 10,000. */
static void recovers_k_from_exact_quantiles(void **unused)
{
    (void)unused;
    enum { N = 10000 };
    static const double shapes[] = {-0.3, 0, 0.2, 0.5, 0.7, 1, 1.5};
    static double sorted[N];
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct pareto truth = {shapes[i], 3};
        for (size_t z = 0; z < N; z++) {
            double p = ((double)z + 0.5) / N;
            sorted[z] = pareto_quantile(&truth, p);
            double exceeded = truth.k == 0 ? exp(-sorted[z] / 3)
                                           : pow(1 + truth.k * sorted[z] / 3, -1 / truth.k);
            check("distribution", z, exceeded, 1 - p, 1e-12);
        }
        struct pareto found = pareto_fit(sorted, N);
        double allowed = 10 * (1 + truth.k) * (1 + truth.k) / N;
        check("k", i, found.k, (truth.k * N + 5) / (N + 10), allowed);
        check("sigma", i, found.sigma / 3, 1, allowed);
    }
}

static void fill_with_ramp(size_t samples, size_t examples)
{
    for (size_t s = 0; s < samples; s++)
        for (size_t i = 0; i < examples; i++)
            values[s * examples + i] = -(double)(s * 37 % samples + 1) / (double)(50 + i);
}

/* A number added to all log-likelihoods of an example, exactly, is taken from its loss. */
static void moves_with_the_likelihood(void **unused)
{
    (void)unused;
    enum { S = 101 };
    double before[4];
    for (size_t s = 0; s < S; s++)
        values[s] = -(double)(s * 37 % S) / 64;
    compute(S, 1, 1);
    memcpy(before, (double[]){waic[0], penalty[0], loo[0], k[0]}, sizeof before);
    for (size_t s = 0; s < S; s++)
        values[s] -= 8;
    compute(S, 1, 1);
    check("waic", 0, waic[0], before[0] + 8, 2e-12);
    check("penalty", 0, penalty[0], before[1], 2e-12);
    check("loo", 0, loo[0], before[2] + 8, 2e-12);
    assert_true(k[0] == before[3]); /* from differences, which are exact */
}

/* A sample that gives an example no probability. */
static void takes_impossible_samples(void **unused)
{
    (void)unused;
    enum { S = 100 };
    fill_with_ramp(S, 2);
    values[2 * 13] = -INFINITY; /* of example 0 */
    compute(S, 2, 1);
    assert_true(waic[0] == INFINITY && penalty[0] == INFINITY);
    assert_true(loo[0] == INFINITY && k[0] == INFINITY);
    assert_true(isfinite(waic[1]) && isfinite(penalty[1]) && isfinite(loo[1]) && isfinite(k[1]));
    compute(S, 2, 0); /* the example is not in the posterior: a mean of probabilities */
    double sum = 0;
    for (size_t s = 0; s < S; s++)
        sum += exp(values[2 * s]);
    check("waic", 0, waic[0], -log(sum / S), 2e-14);
    check("loo", 0, loo[0], -log(sum / S), 2e-14);
    assert_true(penalty[0] == 0 && isnan(k[0]));
    for (size_t s = 0; s < S; s++)
        values[2 * s] = -INFINITY;
    compute(S, 2, 0);
    assert_true(waic[0] == INFINITY && loo[0] == INFINITY);
}

/* Equal ratios need no smoothing; ratios that are alike up to the cutoff defeat the fit. */
static void takes_equal_values(void **unused)
{
    (void)unused;
    enum { S = 100 }; /* a tail of 20 */
    for (size_t s = 0; s < S; s++)
        values[s] = -0.25;
    compute(S, 1, 1);
    check("waic", 0, waic[0], 0.25, 1e-15);
    check("loo", 0, loo[0], 0.25, 1e-15);
    assert_true(penalty[0] == 0 && isnan(k[0]));
    for (size_t s = 0; s < 20; s++)
        values[s] = -1; /* all of the tail: its ratios are as they are, 20 e to 80 e^¼ */
    compute(S, 1, 1);
    assert_true(isnan(k[0]));
    double ratios = 20 * exp(1) + 80 * exp(0.25);
    check("loo", 0, loo[0], log(ratios / 100), 1e-15);
    for (size_t s = 0; s < 10; s++)
        values[s] = -2 - (double)s;
    for (size_t s = 10; s < 30; s++)
        values[s] = -1; /* half of the tail, and the one below it */
    compute(S, 1, 1);
    assert_true(k[0] == INFINITY);
    ratios = 20 * exp(1) + 70 * exp(0.25);
    for (size_t s = 0; s < 10; s++)
        ratios += exp(2 + (double)s);
    check("loo", 0, loo[0], log(ratios / 100), 1e-14);
}

/* Ratios that differ by more than the range of double, and by most of it. */
static void takes_extreme_ratios(void **unused)
{
    (void)unused;
    enum { S = 100 };
    fill_with_ramp(S, 1);
    for (size_t s = 0; s < 30; s++)
        values[s] -= 1000 * (double)s;
    compute(S, 1, 1);
    assert_true(isfinite(loo[0]) && k[0] == INFINITY);
    assert_true(isfinite(waic[0]) && penalty[0] > 1e6);
    fill_with_ramp(S, 1);
    for (size_t s = 0; s < 30; s++)
        values[s] -= 20 * (double)s; /* a cutoff of e^-380 */
    compute(S, 1, 1);
    assert_true(isfinite(loo[0]) && isfinite(k[0]) && k[0] > 1);
}

/* Tails of fewer than 5: plain importance sampling, −log of the harmonic mean. */
static void takes_few_samples(void **unused)
{
    (void)unused;
    for (size_t samples = 1; samples <= 20; samples++) {
        double ratios = 0;
        fill_with_ramp(samples, 1);
        for (size_t s = 0; s < samples; s++)
            ratios += exp(-values[s]);
        compute(samples, 1, 1);
        assert_true(k[0] == INFINITY);
        check("loo", samples, loo[0], log(ratios / (double)samples), 1e-14);
        assert_true(samples == 1 ? isnan(waic[0]) : isfinite(waic[0]));
    }
    fill_with_ramp(21, 1);
    compute(21, 1, 1);
    assert_true(isfinite(k[0]));
}

static void refuse(double value, double exponent, size_t samples, int code, const char *message)
{
    struct ivon_error error = {.message = "none"};
    struct ivon_log_likelihoods block = {values, samples, 1000, 3};
    fill_with_ramp(30, 3);
    values[3 * 4 + 1] = value;
    assert_int_equal(ivon_waic(&block, exponent, waic, NULL, &error), code);
    assert_string_equal(error.message, message);
    error.message[0] = '\0';
    assert_int_equal(ivon_psis_loo(&block, exponent, loo, k, &error), code);
    assert_string_equal(error.message, message);
}

static void refuses_what_is_no_log_likelihood(void **unused)
{
    (void)unused;
    refuse(NAN, 1, 30, IVON_ERROR_DATA,
           "row 1001: log-likelihood nan in sample 4, expected a finite one or -inf");
    refuse(INFINITY, 1, 30, IVON_ERROR_DATA,
           "row 1001: log-likelihood inf in sample 4, expected a finite one or -inf");
    refuse(0, -1, 30, IVON_ERROR_ARGUMENT, "exponent -1 of the likelihoods, expected 0 or more");
    refuse(0, INFINITY, 30, IVON_ERROR_ARGUMENT,
           "exponent inf of the likelihoods, expected 0 or more");
    refuse(0, NAN, 30, IVON_ERROR_ARGUMENT, "exponent nan of the likelihoods, expected 0 or more");
    refuse(0, 1, 0, IVON_ERROR_ARGUMENT, "0 samples, expected 1 or more");
}

static void knows_the_threshold(void **unused)
{
    (void)unused;
    check("threshold", 100, ivon_pareto_k_threshold(100), 0.5, 1e-15);
    check("threshold", 1000, ivon_pareto_k_threshold(1000), 1 - 1 / 3.0, 1e-15);
    assert_true(ivon_pareto_k_threshold(4000) == 0.7);
    assert_true(ivon_pareto_k_threshold(1) == -INFINITY);
}

static struct ivon_information_summary summarize(size_t block)
{
    struct ivon_information *information = NULL;
    assert_int_equal(ivon_information_new(&information, 100, NULL), 0);
    for (size_t at = 0; at < EXAMPLES_MAX; at += block) {
        size_t count = EXAMPLES_MAX - at < block ? EXAMPLES_MAX - at : block;
        ivon_information_add(information, count, waic + at, loo + at, k + at, NULL);
    }
    struct ivon_information_summary summary = ivon_information_summarize(information);
    ivon_information_free(information);
    return summary;
}

/* Columns that are computed apart, and added apart, have the same bits. */
static void does_not_depend_on_blocks(void **unused)
{
    (void)unused;
    enum { S = 100 };
    double together[4][EXAMPLES_MAX], column[S];
    fill_with_ramp(S, EXAMPLES_MAX);
    compute(S, EXAMPLES_MAX, 0.7);
    memcpy(together[0], waic, sizeof waic);
    memcpy(together[1], penalty, sizeof penalty);
    memcpy(together[2], loo, sizeof loo);
    memcpy(together[3], k, sizeof k);
    struct ivon_information_summary whole = summarize(EXAMPLES_MAX), pieces = summarize(3);
    assert_memory_equal(&whole.waic.value, &pieces.waic.value, sizeof(double));
    assert_memory_equal(&whole.psis_loo.value, &pieces.psis_loo.value, sizeof(double));
    assert_memory_equal(&whole.waic.standard_error, &pieces.waic.standard_error, sizeof(double));
    assert_memory_equal(&whole.psis_loo.standard_error, &pieces.psis_loo.standard_error,
                        sizeof(double));
    for (size_t i = 0; i < EXAMPLES_MAX; i++) {
        double one[4];
        struct ivon_log_likelihoods block = {column, S, i, 1};
        for (size_t s = 0; s < S; s++)
            column[s] = values[s * EXAMPLES_MAX + i];
        assert_int_equal(ivon_waic(&block, 0.7, &one[0], &one[1], NULL), 0);
        assert_int_equal(ivon_psis_loo(&block, 0.7, &one[2], &one[3], NULL), 0);
        for (int which = 0; which < 4; which++)
            assert_memory_equal(&one[which], &together[which][i], sizeof(double));
    }
}

/* Means are over positions: of 5 and 3 that count, (7 + 4)/8 = 1.375, with the error
   √(2/1 ((7 − 6.875)² + (4 − 4.125)²))/8 = .25/8. An example without one changes nothing. */
static void sums_over_positions(void **unused)
{
    (void)unused;
    struct ivon_information *information = NULL;
    const double losses[] = {7, 1000, 4}, shapes[] = {0.25, 9, 0.5};
    const size_t positions[] = {5, 0, 3};
    assert_int_equal(ivon_information_new(&information, 100, NULL), 0);
    ivon_information_add(information, 3, losses, losses, shapes, positions);
    struct ivon_information_summary summary = ivon_information_summarize(information);
    assert_true(summary.waic.value == 1.375 && summary.psis_loo.value == 1.375);
    check("error", 0, summary.waic.standard_error, 0.25 / 8, 1e-14);
    check("error", 0, summary.psis_loo.standard_error, 0.25 / 8, 1e-14);
    assert_true(summary.pareto_k_high == 0 && summary.pareto_k_max == 0.5);
    ivon_information_free(information);
}

static void summarizes(void **unused)
{
    (void)unused;
    struct ivon_information *information = NULL;
    assert_int_equal(ivon_information_new(&information, 100, NULL), 0);
    struct ivon_information_summary summary = ivon_information_summarize(information);
    assert_true(isnan(summary.waic.value) && isnan(summary.psis_loo.standard_error));
    assert_true(isnan(summary.pareto_k_max) && summary.pareto_k_high == 0);
    const double losses[] = {1, 2, 3, 6}, shapes[] = {0.25, NAN, 0.75, 0.625};
    ivon_information_add(information, 4, NULL, losses, shapes, NULL);
    summary = ivon_information_summarize(information);
    assert_string_equal(summary.waic.name, "waic");
    assert_string_equal(summary.psis_loo.name, "psis_loo");
    assert_true(isnan(summary.waic.value));
    assert_true(summary.psis_loo.value == 3);
    check("error", 0, summary.psis_loo.standard_error, sqrt(14 / 3.0 / 4), 1e-15);
    assert_true(summary.pareto_k_threshold == ivon_pareto_k_threshold(100));
    assert_true(summary.pareto_k_high == 2 && summary.pareto_k_max == 0.75);
    ivon_information_add(information, 1, losses, NULL, &(double){INFINITY}, NULL);
    summary = ivon_information_summarize(information);
    assert_true(summary.waic.value == 1 && isnan(summary.waic.standard_error));
    assert_true(summary.psis_loo.value == 3 && summary.pareto_k_high == 3);
    assert_true(summary.pareto_k_max == INFINITY);
    ivon_information_free(information);
    ivon_information_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_papers),
        cmocka_unit_test(weighs_draws),
        cmocka_unit_test(passes_over_draws_without_weight),
        cmocka_unit_test(tells_how_narrow_draws_are),
        cmocka_unit_test(finds_the_exact_loss_of_a_normal_model),
        cmocka_unit_test(recovers_k_from_exact_quantiles),
        cmocka_unit_test(moves_with_the_likelihood),
        cmocka_unit_test(takes_impossible_samples),
        cmocka_unit_test(takes_equal_values),
        cmocka_unit_test(takes_extreme_ratios),
        cmocka_unit_test(takes_few_samples),
        cmocka_unit_test(refuses_what_is_no_log_likelihood),
        cmocka_unit_test(knows_the_threshold),
        cmocka_unit_test(does_not_depend_on_blocks),
        cmocka_unit_test(sums_over_positions),
        cmocka_unit_test(summarizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
