/*
 * Sums over weight samples, row by row, against the definitions in double: rows of few outputs and
 * of more than are worked on at a time, several groups of samples, rows added in pieces, and rows
 * that do not count.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bayes/predict/rows.h"

enum { ROWS = 7, SAMPLES = 5, GROUPS = 3, CAPACITY = 12, AT = 3, IGNORED = -7 };

/* Rows AT to AT + ROWS of the capacity are in use; they are added in pieces of 4 and 3. */
static const size_t pieces[] = {0, 4, ROWS};
static const double weights[SAMPLES] = {0.3, 0.1, 0.25, 0.2, 0.15};
static const size_t groups[SAMPLES] = {0, 1, 2, 0, 1};
static const double noise = 0.7;

struct problem {
    enum ivon_likelihood likelihood;
    size_t k;
    float *f; /* SAMPLES × ROWS × K */
    int64_t *labels;
    float *numbers;
    struct row_sums sums;
    double *log_likelihoods; /* SAMPLES × ROWS */
};

static float number(size_t i)
{
    uint64_t x = (i + 1) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9u;
    return (float)((double)(x >> 40) * 0x1p-22 - 2);
}

static size_t labels_of(const struct problem *p)
{
    return p->likelihood == IVON_BERNOULLI ? p->k : 1;
}

/* Row 2 does not count. */
static void begin(struct problem *p, enum ivon_likelihood likelihood, size_t k, bool targets)
{
    *p = (struct problem){.likelihood = likelihood, .k = k};
    p->f = calloc(SAMPLES * ROWS * k, sizeof *p->f);
    p->log_likelihoods = calloc(SAMPLES * ROWS, sizeof *p->log_likelihoods);
    for (size_t i = 0; i < SAMPLES * ROWS * k; i++)
        p->f[i] = 3 * number(i);
    /* Far out: what is as good as certain, and what no exponential holds. */
    p->f[1] += 60;
    p->f[k] -= 200;
    size_t each = labels_of(p);
    p->labels = calloc(ROWS * each, sizeof *p->labels);
    p->numbers = calloc(ROWS * k, sizeof *p->numbers);
    for (size_t i = 0; i < ROWS * each; i++)
        p->labels[i] = i / each == 2 ? IGNORED : (int64_t)(i * 5 % (each > 1 ? 2 : k));
    for (size_t i = 0; i < ROWS * k; i++)
        p->numbers[i] = likelihood == IVON_POISSON ? (float)(i % 5) : number(i + 1000);
    const struct likelihood of = {likelihood, k, noise};
    assert_int_equal(rows_init(&p->sums, &of, GROUPS, false, CAPACITY, NULL), 0);
    rows_clear(&p->sums);
    for (int pass = 0; pass < 2; pass++) { /* what is forgotten leaves nothing */
        rows_clear(&p->sums);
        for (size_t s = 0; s < SAMPLES; s++) {
            p->sums.group_weight[groups[s]] += weights[s];
            for (size_t i = 0; i < 2; i++) {
                size_t at = pieces[i], count = pieces[i + 1] - at;
                const struct row_targets own = {
                    targets && likelihood < IVON_GAUSSIAN ? p->labels + at * each : NULL,
                    targets && likelihood >= IVON_GAUSSIAN ? p->numbers + at * k : NULL, IGNORED};
                rows_add(&p->sums, groups[s], weights[s], AT + at, count,
                         p->f + (s * ROWS + at) * k, &own,
                         s == 1 && pass ? NULL : p->log_likelihoods + s * ROWS + at);
            }
        }
    }
}

static void end(struct problem *p)
{
    rows_release(&p->sums);
    free(p->f);
    free(p->labels);
    free(p->numbers);
    free(p->log_likelihoods);
}

/* The reference: probabilities and entropy of a sample's row, log p of its targets. */

static double softplus(double x)
{
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static double surprise(double p)
{
    return p > 0 ? -p * log(p) : 0;
}

static double sample_row(const struct problem *p, size_t s, size_t row, double *probabilities,
                         double *log_likelihood)
{
    const float *f = p->f + (s * ROWS + row) * p->k;
    double most = -INFINITY, z = 0, entropy = 0;
    const int64_t *labels = p->labels + row * labels_of(p);
    *log_likelihood = 0;
    if (p->likelihood == IVON_BERNOULLI) {
        for (size_t i = 0; i < p->k; i++) {
            double x = (double)f[i], q = 1 / (1 + exp(-x));
            probabilities[i] = q;
            entropy += softplus(x) - q * x;
            *log_likelihood += labels[i] ? -softplus(-x) : -softplus(x);
        }
    } else {
        for (size_t i = 0; i < p->k; i++)
            most = fmax(most, (double)f[i]);
        for (size_t i = 0; i < p->k; i++)
            z += exp((double)f[i] - most);
        for (size_t i = 0; i < p->k; i++) {
            probabilities[i] = exp((double)f[i] - most) / z;
            entropy += surprise(probabilities[i]);
        }
        if (labels[0] != IGNORED)
            *log_likelihood = (double)f[labels[0]] - most - log(z);
    }
    if (labels[0] == IGNORED)
        *log_likelihood = 0;
    return entropy;
}

/* Exponentials of 1 to 2 roundings and sums of 5 to 3000 terms in float: 1e-5 of them. Entropies
   are sums in double of what has that error, times logarithms of up to 60. */
static const double tolerance = 1e-5, entropy_tolerance = 1e-4;

static void near(double found, double expected, double within, const char *what, size_t row)
{
    if (!(fabs(found - expected) <= within))
        fail_msg("%s of row %zu: %.9g, expected %.9g", what, row, found, expected);
}

static void check_classes(struct problem *p)
{
    size_t k = p->k, predictions = p->likelihood == IVON_BERNOULLI ? k : 1;
    int64_t *prediction = calloc(ROWS * k, sizeof *prediction);
    float *out = calloc(ROWS * k, sizeof *out), *without = calloc(ROWS * k, sizeof *out),
          other[4][ROWS];
    double *mean = calloc(2 * k, sizeof *mean), *one = calloc(k, sizeof *one), log_likelihood;
    struct row_results results = {.prediction = prediction,
                                  .probabilities = out,
                                  .max_probability = other[0],
                                  .entropy = other[1],
                                  .expected_entropy = other[2],
                                  .mutual_information = other[3]};
    rows_finish(&p->sums, AT, ROWS, &results);
    rows_probabilities(&p->sums, 1, AT, ROWS, without);
    for (size_t row = 0; row < ROWS; row++) {
        double expected = 0, entropy = 0, most = 0, rest = 1 - weights[1] - weights[4];
        memset(mean, 0, 2 * k * sizeof *mean);
        for (size_t s = 0; s < SAMPLES; s++) {
            expected += weights[s] * sample_row(p, s, row, one, &log_likelihood);
            near(p->log_likelihoods[s * ROWS + row], log_likelihood, 1e-4, "log-likelihood", row);
            for (size_t i = 0; i < k; i++) {
                mean[i] += weights[s] * one[i];
                mean[k + i] += groups[s] == 1 ? 0 : weights[s] * one[i] / rest;
            }
        }
        size_t best = 0;
        for (size_t i = 0; i < k; i++) {
            near((double)out[row * k + i], mean[i], tolerance, "probability", row);
            near((double)without[row * k + i], mean[k + i], tolerance,
                 "probability without a group", row);
            best = mean[i] > mean[best] ? i : best;
            entropy += surprise(mean[i]) + (predictions > 1 ? surprise(1 - mean[i]) : 0);
            most += fmax(mean[i], 1 - mean[i]) / (double)k;
            if (predictions > 1)
                assert_int_equal(prediction[row * k + i], mean[i] > 0.5);
        }
        if (predictions == 1)
            assert_int_equal(prediction[row], best);
        near((double)other[0][row], predictions > 1 ? most : mean[best], tolerance, "greatest",
             row);
        near((double)other[1][row], entropy, entropy_tolerance, "entropy", row);
        near((double)other[2][row], expected, entropy_tolerance, "expected entropy", row);
        near((double)other[3][row], entropy - expected, 2 * entropy_tolerance, "information", row);
    }
    p->sums.same = true; /* nothing is to be learned from the same weights */
    rows_finish(&p->sums, AT, ROWS, &results);
    for (size_t row = 0; row < ROWS; row++)
        assert_true(other[1][row] == other[2][row] && other[3][row] == 0);
    free(prediction);
    free(out);
    free(without);
    free(mean);
    free(one);
}

static void classes(void **unused)
{
    (void)unused;
    static const size_t widths[] = {2, 3, 5, 300, 700, 1024, 1025, 3000};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        struct problem p;
        begin(&p, IVON_CATEGORICAL, widths[i], true);
        check_classes(&p);
        end(&p);
    }
}

static void events(void **unused)
{
    (void)unused;
    static const size_t widths[] = {2, 3, 700, 1025};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        struct problem p;
        begin(&p, IVON_BERNOULLI, widths[i], true);
        check_classes(&p);
        end(&p);
    }
}

/* Without targets there are no log-likelihoods. */
static void untold(void **unused)
{
    (void)unused;
    for (int bernoulli = 0; bernoulli < 2; bernoulli++) {
        struct problem p;
        begin(&p, bernoulli ? IVON_BERNOULLI : IVON_CATEGORICAL, 4, false);
        for (size_t i = 0; i < SAMPLES * ROWS; i++)
            assert_true(p.log_likelihoods[i] == 0);
        end(&p);
    }
}

/* log Σ ω N(y; f, s²) / Σ ω, and the mean, over the samples that are not of one group. */
static void check_densities(const struct problem *p, size_t without)
{
    double means[ROWS * 3], densities[ROWS];
    rows_densities(&p->sums, without, AT, ROWS, means, densities);
    for (size_t row = 0; row < ROWS; row++) {
        double sum = 0, total = 0, most = -INFINITY, mean[3] = {0}, log_terms[SAMPLES];
        for (size_t s = 0; s < SAMPLES; s++) {
            double density = 0;
            log_terms[s] = -INFINITY;
            if (groups[s] == without)
                continue;
            total += weights[s];
            for (size_t i = 0; i < 3; i++) {
                double f = (double)p->f[(s * ROWS + row) * 3 + i];
                double y = (double)p->numbers[row * 3 + i], e = y - f;
                bool poisson = p->likelihood == IVON_POISSON;
                mean[i] += weights[s] * (poisson ? exp(f) : f);
                density -= poisson
                               ? exp(f) - y * f + log(tgamma(y + 1))
                               : e * e / (2 * noise * noise) + log(noise * sqrt(2 * acos(-1.0)));
            }
            log_terms[s] = log(weights[s]) + density;
            most = fmax(most, log_terms[s]);
            if (without == ROWS_GROUPS_MAX)
                near(p->log_likelihoods[s * ROWS + row], density, 1e-9 * fabs(density),
                     "log density", row);
        }
        for (size_t i = 0; i < 3; i++)
            near(means[row * 3 + i], mean[i] / total, 1e-12 * (1 + fabs(mean[i])), "mean", row);
        for (size_t s = 0; s < SAMPLES; s++)
            sum += exp(log_terms[s] - most);
        near(densities[row], most + log(sum / total), 1e-9 * (1 + fabs(most)), "density", row);
    }
}

static void regression(void **unused)
{
    (void)unused;
    struct problem p;
    begin(&p, IVON_GAUSSIAN, 3, true);
    check_densities(&p, ROWS_GROUPS_MAX);
    check_densities(&p, 0);
    check_densities(&p, 1);
    float mean[ROWS * 3], deviation[ROWS * 3];
    const struct row_results results = {.mean = mean, .epistemic_std = deviation};
    rows_finish(&p.sums, AT, ROWS, &results);
    for (size_t i = 0; i < ROWS * 3; i++) {
        double first = 0, second = 0;
        for (size_t s = 0; s < SAMPLES; s++)
            first += weights[s] * (double)p.f[s * ROWS * 3 + i];
        for (size_t s = 0; s < SAMPLES; s++)
            second += weights[s] * pow((double)p.f[s * ROWS * 3 + i] - first, 2);
        near((double)mean[i], first, 1e-6 * (1 + fabs(first)), "mean", i);
        near((double)deviation[i], sqrt(second), 1e-6 * (1 + sqrt(second)), "deviation", i);
    }
    p.sums.same = true;
    rows_finish(&p.sums, AT, ROWS, &results);
    for (size_t i = 0; i < ROWS * 3; i++)
        assert_true(deviation[i] == 0);
    end(&p);

    /* One weight, several samples: a variance of exactly zero is not below it. */
    struct row_sums sums;
    float f = 0.1F;
    const struct row_targets none = {NULL, NULL, IGNORED};
    const struct likelihood unknown = {IVON_GAUSSIAN, 1, NAN};
    assert_int_equal(rows_init(&sums, &unknown, 1, false, 1, NULL), 0);
    rows_clear(&sums);
    for (size_t s = 0; s < SAMPLES; s++) {
        sums.group_weight[0] += weights[s];
        rows_add(&sums, 0, weights[s], 0, 1, &f, &none, NULL);
    }
    rows_finish(&sums, 0, 1, &results);
    assert_true(deviation[0] >= 0 && deviation[0] < 1e-7F);
    double density, center;
    rows_densities(&sums, ROWS_GROUPS_MAX, 0, 1, &center, &density);
    assert_true(isnan(density)); /* the noise is not known */
    rows_release(&sums);
}

/* The same of counts, whose noise follows from their mean. */
static void counts(void **unused)
{
    (void)unused;
    struct problem p;
    begin(&p, IVON_POISSON, 3, true);
    check_densities(&p, ROWS_GROUPS_MAX);
    check_densities(&p, 1);
    float mean[ROWS * 3], deviation[ROWS * 3], noise_std[ROWS * 3];
    const struct row_results results = {
        .mean = mean, .epistemic_std = deviation, .aleatoric_std = noise_std};
    rows_finish(&p.sums, AT, ROWS, &results);
    for (size_t i = 0; i < ROWS * 3; i++) {
        double first = 0, second = 0;
        for (size_t s = 0; s < SAMPLES; s++)
            first += weights[s] * exp((double)p.f[s * ROWS * 3 + i]);
        for (size_t s = 0; s < SAMPLES; s++)
            second += weights[s] * pow(exp((double)p.f[s * ROWS * 3 + i]) - first, 2);
        near((double)mean[i], first, 1e-6 * first, "mean", i);
        near((double)deviation[i], sqrt(second), 1e-6 * (1 + first), "deviation", i);
        near((double)noise_std[i], sqrt(first), 1e-6 * sqrt(first), "noise", i);
    }
    end(&p);
}

/* One sum of all groups gives the bits of groups that are summed apart. */
static void together(void **unused)
{
    (void)unused;
    static const size_t widths[] = {3, 300, 1025};
    for (size_t i = 0; i < 2 * sizeof widths / sizeof *widths; i++) {
        struct problem p;
        size_t k = widths[i / 2];
        begin(&p, i % 2 ? IVON_BERNOULLI : IVON_CATEGORICAL, k, true);
        const struct likelihood of = {p.likelihood, k, noise};
        const struct row_targets none = {NULL, NULL, IGNORED};
        float *out[2], other[2][4][ROWS];
        int64_t *prediction = calloc(ROWS * k, sizeof *prediction);
        for (int one = 0; one < 2; one++) {
            struct row_sums sums;
            assert_int_equal(rows_init(&sums, &of, SAMPLES, one, CAPACITY, NULL), 0);
            assert_int_equal(sums.together, one);
            rows_clear(&sums);
            for (size_t s = 0; s < SAMPLES; s++) {
                sums.group_weight[s] = weights[s];
                rows_add(&sums, s, weights[s], AT, ROWS, p.f + s * ROWS * k, &none, NULL);
            }
            out[one] = calloc(ROWS * k, sizeof *out[one]);
            const struct row_results results = {.prediction = prediction,
                                                .probabilities = out[one],
                                                .max_probability = other[one][0],
                                                .entropy = other[one][1],
                                                .expected_entropy = other[one][2],
                                                .mutual_information = other[one][3]};
            rows_finish(&sums, AT, ROWS, &results);
            rows_release(&sums);
        }
        assert_memory_equal(out[0], out[1], ROWS * k * sizeof *out[0]);
        assert_memory_equal(other[0], other[1], sizeof other[0]);
        free(out[0]);
        free(out[1]);
        free(prediction);
        end(&p);
    }
}

/* What rows_init takes for each row. */
static void sizes(void **unused)
{
    (void)unused;
    const struct likelihood numbers = {IVON_GAUSSIAN, 4, 1}, class = {IVON_CATEGORICAL, 4, 1};
    const struct likelihood several = {IVON_BERNOULLI, 4, 1};
    /* of each of 3 groups, Σ ω f and Σ ω f² of 4 outputs, and two numbers of the density */
    assert_int_equal(rows_size(&numbers, 3, false), 3 * (4 + 4 + 2) * sizeof(double));
    assert_int_equal(rows_size(&numbers, 3, true), 3 * (4 + 4 + 2) * sizeof(double));
    /* of each group, 4 probabilities; an entropy */
    assert_int_equal(rows_size(&class, 3, false), 3 * 4 * sizeof(float) + sizeof(double));
    assert_int_equal(rows_size(&several, 1, true), 4 * sizeof(float) + sizeof(double));
    /* 4 probabilities of all groups, and an entropy */
    assert_int_equal(rows_size(&class, 3, true), 4 * sizeof(double) + sizeof(double));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(classes), cmocka_unit_test(events),
                                       cmocka_unit_test(untold),  cmocka_unit_test(regression),
                                       cmocka_unit_test(counts),  cmocka_unit_test(together),
                                       cmocka_unit_test(sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
