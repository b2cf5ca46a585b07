/* Targets drawn from what one weight sample says of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bayes/predict/private.h"

enum { ROWS = 30000, K = 4, IGNORED = -7 };

static float outputs[ROWS * K], numbers[ROWS * K];
static int64_t labels[ROWS * K];
static bool counts[ROWS];

static struct ivon_predictor predictor_of(enum ivon_likelihood likelihood)
{
    struct ivon_predictor predictor = {.outputs.k = K};
    predictor.likelihood = (struct likelihood){likelihood, K, 0.5};
    predictor.options.task.ignored = IGNORED;
    predictor.options.sample.seed = 3;
    return predictor;
}

static void fill(const float *row)
{
    for (size_t i = 0; i < ROWS; i++) {
        memcpy(outputs + i * K, row, K * sizeof *row);
        counts[i] = i % 3 != 2;
    }
}

/* A share of n draws deviates from p by less than 5 √(p(1 − p)/n), but for one time in 10^6. */
static void check_share(double found, double p, double n)
{
    if (!(fabs(found - p) < 5 * sqrt(p * (1 - p) / n)))
        fail_msg("a share of %g, expected %g", found, p);
}

static void classes(void **state)
{
    (void)state;
    static const double p[K] = {0.5, 0.125, 0.25, 0.125};
    const float logits[K] = {60 + (float)log(4), 60, 60 + (float)log(2), 60};
    struct ivon_predictor predictor = predictor_of(IVON_CATEGORICAL);
    double found[K] = {0};
    fill(logits);
    draw_replicates(&predictor, 1, 0, ROWS, outputs, counts, labels, NULL);
    for (size_t i = 0; i < ROWS; i++) {
        if (!counts[i]) {
            assert_int_equal(labels[i], IGNORED);
            continue;
        }
        assert_in_range(labels[i], 0, K - 1);
        found[labels[i]] += 1;
    }
    for (size_t c = 0; c < K; c++)
        check_share(found[c] / 20000, p[c], 20000);
}

static void events(void **state)
{
    (void)state;
    const float logits[K] = {0, 2, -3, 90};
    struct ivon_predictor predictor = predictor_of(IVON_BERNOULLI);
    double found[K] = {0};
    fill(logits);
    draw_replicates(&predictor, 1, 0, ROWS, outputs, counts, labels, NULL);
    for (size_t i = 0; i < ROWS * K; i++)
        if (counts[i / K])
            found[i % K] += (double)labels[i];
        else
            assert_int_equal(labels[i], IGNORED);
    for (size_t c = 0; c < 3; c++)
        check_share(found[c] / 20000, 1 / (1 + exp(-(double)logits[c])), 20000);
    assert_true(found[3] == 20000);
}

/* A mean of n normal numbers deviates by less than 5 s/√n, their variance by 5 √(2/n) of itself. */
static void values(void **state)
{
    (void)state;
    const float means[K] = {0, -4, 1, 100};
    struct ivon_predictor predictor = predictor_of(IVON_GAUSSIAN);
    fill(means);
    draw_replicates(&predictor, 1, 0, ROWS, outputs, counts, NULL, numbers);
    for (size_t c = 0; c < K; c++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < ROWS; i++) {
            double off = (double)numbers[i * K + c] - (double)means[c];
            sum += off;
            squares += off * off;
        }
        assert_true(fabs(sum / ROWS) < 5 * 0.5 / sqrt(ROWS));
        assert_true(fabs(squares / ROWS / 0.25 - 1) < 5 * sqrt(2.0 / ROWS));
    }
}

/* Counts by their distribution: of ROWS independent ones, each share p of a count deviates by less
   than 5 √(p/ROWS), and of a large rate λ the mean by 5 √(λ/ROWS), the variance by 5 √(2/ROWS) of
   itself and 1/λ. */
static void counts_of_events(void **state)
{
    (void)state;
    const float logs[K] = {-1, 0.7F, 6, 15};
    struct ivon_predictor predictor = predictor_of(IVON_POISSON);
    fill(logs);
    draw_replicates(&predictor, 1, 0, ROWS, outputs, counts, NULL, numbers);
    for (size_t c = 0; c < K; c++) {
        double rate = exp((double)logs[c]), sum = 0, squares = 0, probability = exp(-rate);
        for (size_t i = 0; i < ROWS; i++) {
            double number = (double)numbers[i * K + c], off = number - rate;
            assert_true(number >= 0 && number == rint(number));
            sum += off;
            squares += off * off;
        }
        assert_true(fabs(sum / ROWS) < 5 * sqrt(rate / ROWS));
        if (rate > 100)
            assert_true(fabs(squares / ROWS / rate - 1) < 5 * sqrt(2.0 / ROWS) + 1 / rate);
        for (int count = 0; rate < 100 && count < 6; probability *= rate / ++count) {
            double share = 0;
            for (size_t i = 0; i < ROWS; i++)
                share += (int)numbers[i * K + c] == count;
            assert_true(fabs(share / ROWS - probability) < 5 * sqrt(probability / ROWS));
        }
    }
}

/* A row's draw depends on its place in the data, the sample and the seed alone. */
static void addresses(void **state)
{
    (void)state;
    const float logits[K] = {0, 0.5F, -0.5F, 0.25F};
    for (int likelihood = 0; likelihood < 2; likelihood++) {
        struct ivon_predictor predictor = predictor_of(likelihood ? IVON_BERNOULLI
                                                                  : IVON_CATEGORICAL);
        size_t each = likelihood ? K : 1, first = 700, count = 600;
        int64_t part[600 * K], other[600 * K];
        fill(logits);
        memset(counts, 1, sizeof counts);
        draw_replicates(&predictor, 1, 0, ROWS, outputs, counts, labels, NULL);
        draw_replicates(&predictor, 1, first, count, outputs, counts, part, NULL);
        assert_memory_equal(part, labels + first * each, count * each * sizeof *part);
        draw_replicates(&predictor, 2, first, count, outputs, counts, other, NULL);
        assert_memory_not_equal(part, other, count * each * sizeof *part);
        predictor.options.sample.seed++;
        draw_replicates(&predictor, 1, first, count, outputs, counts, other, NULL);
        assert_memory_not_equal(part, other, count * each * sizeof *part);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(classes), cmocka_unit_test(events),
                                       cmocka_unit_test(values), cmocka_unit_test(counts_of_events),
                                       cmocka_unit_test(addresses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
