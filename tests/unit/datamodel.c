/*
 * Rank correlations against the sum over pairs that they are; halves, their sums and trainings
 * against ones made singly, to the bit, whatever the threads; what is measured against the losses
 * of an independent path; and scores against their definition.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bayes/measure.h"
#include "core/examples.h"
#include "ivon/datamodel.h"

enum { ROWS = 31, INPUTS = 4, CLASSES = 3, HALVES = 5, IGNORED = -100 };

/* A number that looks random, from 0 to below 1. */
static double number(uint64_t i)
{
    i = (i + 1) * 0x9E3779B97F4A7C15u;
    i = (i ^ (i >> 29)) * 0xBF58476D1CE4E5B9u;
    return (double)(i >> 40) * 0x1p-24;
}

/* Rank correlation. */

static double sign(double x)
{
    return (x > 0) - (x < 0);
}

/* Of equal numbers each ranks in the middle, so that rank − mean rank = ½ Σ_j sign(x_i − x_j). */
static double correlation_by_pairs(const double *x, const double *y, size_t count)
{
    double xx = 0, xy = 0, yy = 0;
    for (size_t i = 0; i < count; i++) {
        double a = 0, b = 0;
        for (size_t j = 0; j < count; j++) {
            a += sign(x[i] - x[j]);
            b += sign(y[i] - y[j]);
        }
        xx += a * a;
        xy += a * b;
        yy += b * b;
    }
    return xy / sqrt(xx * yy);
}

static double correlation_of(const double *x, const double *y, size_t count)
{
    double found = 0;
    assert_int_equal(ivon_rank_correlation(&found, x, y, count, NULL), 0);
    return found;
}

/* Both are quotients of whole numbers below 2^53 whose roots are rounded: 4 roundings. */
static void correlates_ranks(void **state)
{
    (void)state;
    for (size_t count = 2; count < 40; count++)
        for (int ties = 0; ties < 3; ties++) {
            double x[40], y[40];
            for (size_t i = 0; i < count; i++) {
                x[i] = number(i + 100 * count) - 0.5;
                y[i] = x[i] + number(i + 1000 * count) - 0.5;
                x[i] = ties ? floor(x[i] * 4) : x[i];
                y[i] = ties > 1 ? floor(y[i] * 2) : y[i];
            }
            double expected = correlation_by_pairs(x, y, count);
            double found = correlation_of(x, y, count);
            assert_true(isnan(expected) ? isnan(found) : fabs(found - expected) <= 0x1p-51);
        }
}

static void knows_what_has_no_ranks(void **state)
{
    (void)state;
    const double rising[] = {-INFINITY, 1, 2, INFINITY}, falling[] = {4, 3, 2, 1};
    const double equal[] = {2, 2, 2, 2}, odd[] = {1, NAN, 2, 3};
    assert_true(correlation_of(rising, falling, 4) == -1);
    assert_true(correlation_of(rising, rising, 4) == 1);
    assert_true(isnan(correlation_of(rising, equal, 4)));
    assert_true(isnan(correlation_of(odd, rising, 4)));
    assert_true(isnan(correlation_of(rising, odd, 4)));
    assert_true(isnan(correlation_of(rising, rising, 1)));
    assert_true(isnan(correlation_of(rising, rising, 0)));
}

/* Halves. */

static struct ivon_halves *halves_of(uint64_t rows, size_t count, uint64_t seed)
{
    struct ivon_halves *halves = NULL;
    struct ivon_error error = {0};
    if (ivon_halves_new(&halves, rows, count, seed, &error))
        fail_msg("%s", error.message);
    return halves;
}

/* How often a row is in a half is binomial, of 400 halves 200 with a deviation of 10: of 31 rows
   none is further than 5 deviations. */
static void draws_halves(void **state)
{
    (void)state;
    enum { MANY = 400 };
    struct ivon_halves *halves = halves_of(ROWS + 1, MANY, 3), *again = halves_of(ROWS + 1, 2, 3);
    struct ivon_halves *other = halves_of(ROWS + 1, 2, 4), *odd = halves_of(ROWS, 1, 0);
    size_t size = ivon_halves_size(halves), counts[ROWS + 1] = {0}, bytes = size * sizeof(uint64_t);
    assert_int_equal(size, 16);
    assert_int_equal(ivon_halves_size(odd), 15);
    for (size_t half = 0; half < MANY; half++) {
        const uint64_t *rows = ivon_halves_rows(halves, half);
        for (size_t i = 0; i < size; i++) {
            assert_true(rows[i] <= ROWS && (!i || rows[i] > rows[i - 1]));
            counts[rows[i]]++;
        }
    }
    for (size_t i = 0; i <= ROWS; i++)
        assert_true(counts[i] > 150 && counts[i] < 250);
    assert_memory_equal(ivon_halves_rows(halves, 1), ivon_halves_rows(again, 1), bytes);
    assert_memory_not_equal(ivon_halves_rows(halves, 1), ivon_halves_rows(halves, 0), bytes);
    assert_memory_not_equal(ivon_halves_rows(halves, 1), ivon_halves_rows(other, 1), bytes);
    struct ivon_error error = {0};
    struct ivon_halves *none = NULL;
    assert_int_equal(ivon_halves_new(&none, 1, 3, 0, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "3 halves of 1 rows, expected one or more, of 2 or more");
    assert_int_equal(ivon_halves_new(&none, 9, 0, 0, &error), IVON_ERROR_ARGUMENT);
    assert_null(none);
    ivon_halves_free(halves);
    ivon_halves_free(again);
    ivon_halves_free(other);
    ivon_halves_free(odd);
}

/* Blocks of any size, of one row or several for each example, of some queries. */
static void sums_influences(void **state)
{
    (void)state;
    enum { QUERIES = 5, WIDTH = 3, FIRST = 1, TOKENS = 2 };
    struct ivon_halves *halves = halves_of(ROWS, HALVES, 7);
    float influence[ROWS * TOKENS * WIDTH];
    double sums[HALVES * QUERIES] = {0};
    for (size_t i = 0; i < ROWS * TOKENS * WIDTH; i++)
        influence[i] = (float)(1 + floor(8 * number(i)));
    for (size_t first = 0, count; first < ROWS; first += count) {
        count = first + 7 < ROWS ? 7 : ROWS - first;
        const struct ivon_influences block = {.first = first,
                                              .first_query = FIRST,
                                              .count = count,
                                              .query_count = WIDTH,
                                              .rows = TOKENS,
                                              .influence = influence + first * TOKENS * WIDTH};
        ivon_halves_add(halves, &block, QUERIES, sums);
    }
    for (size_t half = 0; half < HALVES; half++)
        for (size_t q = 0; q < QUERIES; q++) {
            double expected = 0; /* of small whole numbers: exact */
            bool has = q >= FIRST && q < FIRST + WIDTH;
            for (size_t i = 0; i < ivon_halves_size(halves) && has; i++)
                for (size_t t = 0; t < TOKENS; t++)
                    expected +=
                        (double)influence[(ivon_halves_rows(halves, half)[i] * TOKENS + t) * WIDTH +
                                          q - FIRST];
            assert_true(sums[half * QUERIES + q] == expected);
        }
    ivon_halves_free(halves);
}

/* Trainings. */

struct sample_data {
    const char *architecture;
    int64_t tokens; /* of an example, which is then of tokens; 0: none */
};

static const struct sample_data plain = {"mlp:4,5,3,tanh", 0}, sequences = {"gpt:7,3,4,1,1", 3};

static int read_sample(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    (void)error;
    const struct sample_data *data = self;
    size_t each = data->tokens ? (size_t)data->tokens : field ? 1 : INPUTS;
    for (size_t i = 0; i < count * each; i++) {
        double x = number(2 * (first * each + i) + field);
        if (!data->tokens && !field)
            ((float *)buffer)[i] = (float)(2 * x - 1);
        else if (data->tokens)
            ((int64_t *)buffer)[i] = field && i % each == 1 ? IGNORED : (int64_t)(x * 7);
        else
            ((int64_t *)buffer)[i] = (int64_t)(x * CLASSES);
    }
    return 0;
}

static void close_sample(void *self)
{
    (void)self;
}

static struct ivon_examples *open_sample(const struct sample_data *data)
{
    static const struct ivon_examples_class class = {.read = read_sample, .close = close_sample};
    const struct ivon_field fields[2] = {
        {.name = "x",
         .dtype = data->tokens ? IVON_I64 : IVON_F32,
         .rank = 1,
         .shape = {data->tokens ? data->tokens : INPUTS}},
        {.name = "y", .dtype = IVON_I64, .rank = data->tokens > 0, .shape = {data->tokens}}};
    const struct examples_scaling scalings[2] = {{.divisor = 1, .channels = 1},
                                                 {.divisor = 1, .channels = 1}};
    struct ivon_examples *examples = NULL;
    struct ivon_error error = {0};
    if (ivon_examples_new(&examples, &class, (void *)data, "sample", ROWS, fields, scalings, 2,
                          &error))
        fail_msg("%s", error.message);
    return examples;
}

static struct ivon_train_options options_of(int threads)
{
    struct ivon_train_options options = ivon_train_defaults(IVON_METHOD_IVON);
    options.task.ignored = IGNORED;
    options.rate = 0.1;
    options.batch = 4;
    options.epochs = 2;
    options.resources.threads = threads;
    return options;
}

/* One training by hand, on a half, and what is measured. */
static void train_one(const struct sample_data *data, const struct ivon_halves *halves, size_t half,
                      enum ivon_measure measure, size_t output, double *values)
{
    struct ivon_examples *all = open_sample(data), *chosen = NULL;
    const struct ivon_train_start start = {.architecture = data->architecture};
    const struct ivon_train_options options = options_of(2);
    struct ivon_trainer *trainer = NULL;
    struct ivon_error error = {0};
    if (ivon_examples_select(&chosen, all, ivon_halves_rows(halves, half), ivon_halves_size(halves),
                             &error) ||
        ivon_trainer_new(&trainer, &start, chosen, "y", &options, &error))
        fail_msg("%s", error.message);
    while (ivon_trainer_state(trainer).step < ivon_trainer_state(trainer).steps)
        assert_int_equal(ivon_trainer_step(trainer, NULL), 0);
    assert_int_equal(ivon_trainer_measure(trainer, all, "y", measure, output, values, NULL), 0);
    ivon_trainer_free(trainer);
    ivon_examples_close(chosen);
    ivon_examples_close(all);
}

static int train_halves(const struct sample_data *data, const struct ivon_halves *halves,
                        const struct ivon_train_options *options, enum ivon_measure measure,
                        uint64_t queries, double *values, struct ivon_error *error)
{
    struct ivon_examples *examples = open_sample(data), *others = open_sample(data);
    struct ivon_examples *const sets[] = {others, examples};
    const struct ivon_halves_training training = {.start = {.architecture = data->architecture},
                                                  .examples = examples,
                                                  .targets = "y",
                                                  .options = options,
                                                  .queries = sets,
                                                  .query_sets = 2,
                                                  .measure = measure,
                                                  .output = 1};
    int code = ivon_halves_train(halves, &training, queries, values, error);
    ivon_examples_close(others);
    ivon_examples_close(examples);
    return code;
}

static void trains_as_one_does(void **state)
{
    (void)state;
    enum { QUERIES = 2 * ROWS };
    struct ivon_halves *halves = halves_of(ROWS, HALVES, 1);
    static double values[HALVES * QUERIES], others[HALVES * QUERIES], one[ROWS];
    struct ivon_train_options options = options_of(3);
    struct ivon_error error = {0};
    if (train_halves(&plain, halves, &options, IVON_MEASURE_LOSS, QUERIES, values, &error))
        fail_msg("%s", error.message);
    for (size_t half = 0; half < HALVES; half++) {
        train_one(&plain, halves, half, IVON_MEASURE_LOSS, 0, one);
        assert_memory_equal(values + half * QUERIES, one, sizeof one);
        assert_memory_equal(values + half * QUERIES + ROWS, one, sizeof one);
    }
    options.resources.threads = 1;
    options.resources.memory = 1 << 20;
    assert_int_equal(
        train_halves(&plain, halves, &options, IVON_MEASURE_LOSS, QUERIES, others, NULL), 0);
    assert_memory_equal(values, others, sizeof values);
    ivon_halves_free(halves);
}

static int stop(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    return total && done >= total / 2;
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    struct ivon_halves *halves = halves_of(ROWS, HALVES, 1), *fewer = halves_of(ROWS - 1, 3, 1);
    static double values[HALVES * 2 * ROWS];
    struct ivon_train_options options = options_of(2);
    struct ivon_error error = {0};
    options.rate = 1e30;
    assert_int_equal(
        train_halves(&plain, halves, &options, IVON_MEASURE_LOSS, 2 * ROWS, values, &error),
        IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "sample: training on half 0: step "));
    options = options_of(2);
    assert_int_equal(
        train_halves(&plain, halves, &options, IVON_MEASURE_LOSS, ROWS, values, &error),
        IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message,
                        "sample: training on half 0: 31 values of 62 queries are wanted");
    assert_int_equal(
        train_halves(&plain, fewer, &options, IVON_MEASURE_LOSS, 2 * ROWS, values, &error),
        IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "sample: has 31 examples, the halves are of 30");
    assert_int_equal(
        train_halves(&plain, halves, &options, IVON_MEASURE_TOKEN_LOSS, 2 * ROWS, values, &error),
        IVON_ERROR_ARGUMENT);
    options.resources.progress.report = stop;
    assert_int_equal(
        train_halves(&plain, halves, &options, IVON_MEASURE_LOSS, 2 * ROWS, values, &error),
        IVON_ERROR_CANCELLED);
    ivon_halves_free(halves);
    ivon_halves_free(fewer);
}

/* Measures. */

/* Outputs f of all examples, as the negative of what is measured of each. */
static void outputs_of(const struct sample_data *data, const struct ivon_halves *halves,
                       double f[][CLASSES])
{
    double values[ROWS];
    for (size_t c = 0; c < CLASSES; c++) {
        train_one(data, halves, 0, IVON_MEASURE_LOGIT, c, values);
        for (size_t i = 0; i < ROWS; i++)
            f[i][c] = -values[i];
    }
}

/* Losses are sums of a few exponentials of binary32, of relative error 2^-21 (vector_math.h). */
static void measures_outputs(void **state)
{
    (void)state;
    struct ivon_halves *halves = halves_of(ROWS, 1, 0);
    struct ivon_examples *examples = open_sample(&plain);
    double f[ROWS][CLASSES], loss[ROWS], margin[ROWS];
    int64_t y[ROWS];
    outputs_of(&plain, halves, f);
    train_one(&plain, halves, 0, IVON_MEASURE_LOSS, 0, loss);
    train_one(&plain, halves, 0, IVON_MEASURE_MARGIN, 0, margin);
    assert_int_equal(ivon_examples_read_i64(examples, 1, 0, ROWS, y, NULL), 0);
    for (size_t i = 0; i < ROWS; i++) {
        double sum = 0;
        for (size_t c = 0; c < CLASSES; c++)
            sum += exp(f[i][c]);
        double p = exp(f[i][y[i]]) / sum;
        assert_true(fabs(loss[i] + log(p)) <= 0x1p-18);
        assert_true(fabs(margin[i] + log(p / (1 - p))) <= 0x1p-40);
    }
    ivon_examples_close(examples);
    ivon_halves_free(halves);
}

/* The differences of a value are its adjoint: with a step of 2^-8 they miss it by the third
   derivative, below 1, over 6 of 2^-16, and what a row that does not count has is 0. */
static void values_have_their_adjoints(void **state)
{
    (void)state;
    const struct measure measures[] = {{IVON_MEASURE_MARGIN, 0}, {IVON_MEASURE_LOGIT, 2}};
    const int64_t labels[] = {1, 0, 1}, none[] = {IGNORED, IGNORED, IGNORED};
    for (int kind = IVON_CATEGORICAL; kind <= IVON_BERNOULLI; kind++)
        for (size_t m = 0; m < 2; m++) {
            const struct likelihood likelihood = {(enum ivon_likelihood)kind, CLASSES, NAN};
            const struct row_targets target = {.labels = labels, .ignored = IGNORED};
            const struct row_targets ignored = {.labels = none, .ignored = IGNORED};
            float f[CLASSES] = {0.5F, -1, 2}, adjoint[CLASSES];
            measure_adjoint(&measures[m], &likelihood, f, &target, adjoint);
            for (size_t c = 0; c < CLASSES; c++) {
                const float at = f[c];
                f[c] = at + 0x1p-8F;
                double above = measure_value(&measures[m], &likelihood, f, &target);
                f[c] = at - 0x1p-8F;
                double below = measure_value(&measures[m], &likelihood, f, &target);
                f[c] = at;
                assert_true(fabs((above - below) * 0x1p7 - (double)adjoint[c]) <= 0x1p-18);
            }
            assert_true(measure_value(&measures[m], &likelihood, f, &ignored) == 0);
            measure_adjoint(&measures[m], &likelihood, f, &ignored, adjoint);
            assert_true(adjoint[0] == 0 && adjoint[1] == 0 && adjoint[2] == 0);
        }
}

/* Of tokens, those that do not count have no loss, and a sequence has the sum. */
static void measures_tokens(void **state)
{
    (void)state;
    struct ivon_halves *halves = halves_of(ROWS, 2, 0);
    static double whole[ROWS], apart[3 * ROWS], all[2 * 6 * ROWS];
    const struct ivon_train_options options = options_of(2);
    train_one(&sequences, halves, 1, IVON_MEASURE_LOSS, 0, whole);
    train_one(&sequences, halves, 1, IVON_MEASURE_TOKEN_LOSS, 0, apart);
    assert_int_equal(
        train_halves(&sequences, halves, &options, IVON_MEASURE_TOKEN_LOSS, 6 * ROWS, all, NULL),
        0);
    assert_memory_equal(all + 6 * ROWS, apart, sizeof apart);
    for (size_t i = 0; i < ROWS; i++) {
        assert_true(apart[3 * i] > 0 && apart[3 * i + 1] == 0 && apart[3 * i + 2] > 0);
        assert_true(apart[3 * i] + apart[3 * i + 1] + apart[3 * i + 2] == whole[i]);
    }
    ivon_halves_free(halves);
}

/* Scores. */

static void scores_by_definition(void **state)
{
    (void)state;
    enum { QUERIES = 4, COUNT = 9 };
    double sums[COUNT][QUERIES], values[COUNT][QUERIES], scores[QUERIES], errors[QUERIES];
    double left[COUNT], means[COUNT] = {0}, mean = 0, square = 0;
    struct ivon_datamodel_score score;
    for (size_t i = 0; i < COUNT; i++)
        for (size_t q = 0; q < QUERIES; q++) {
            sums[i][q] = number(i * QUERIES + q);
            values[i][q] = q == 2 ? 1 : number(1000 + i * QUERIES + q) - sums[i][q];
        }
    assert_int_equal(ivon_datamodel_score(&score, scores, errors, &sums[0][0], &values[0][0], COUNT,
                                          QUERIES, NULL),
                     0);
    for (size_t q = 0; q < QUERIES; q++) {
        double x[COUNT], y[COUNT];
        for (size_t i = 0; i < COUNT; i++) {
            x[i] = sums[i][q];
            y[i] = -values[i][q];
        }
        if (q == 2) {
            assert_true(isnan(scores[q]) && isnan(errors[q]));
            continue;
        }
        double expected = correlation_of(x, y, COUNT);
        assert_true(scores[q] == expected);
        mean += expected / 3;
        for (size_t out = 0; out < COUNT; out++) {
            double a[COUNT], b[COUNT];
            for (size_t i = 0; i + 1 < COUNT; i++) {
                a[i] = x[i + (i >= out)];
                b[i] = y[i + (i >= out)];
            }
            left[out] = correlation_of(a, b, COUNT - 1);
            means[out] += left[out] / 3;
        }
        assert_true(errors[q] == ivon_jackknife(left, COUNT));
    }
    for (size_t q = 0; q < QUERIES; q++)
        square += q == 2 ? 0 : (scores[q] - mean) * (scores[q] - mean);
    /* a few roundings of numbers below 1 */
    assert_true(fabs(score.mean - mean) <= 0x1p-50);
    assert_true(fabs(score.half_error - ivon_jackknife(means, COUNT)) <= 0x1p-48);
    assert_true(fabs(score.query_error - sqrt(square / 2 / 3)) <= 0x1p-48);
    assert_int_equal(score.scored, 3);
    assert_int_equal(
        ivon_datamodel_score(&score, scores, errors, &sums[0][0], &values[0][0], 1, QUERIES, NULL),
        0);
    assert_true(isnan(score.mean) && isnan(score.half_error) && score.scored == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(correlates_ranks),   cmocka_unit_test(knows_what_has_no_ranks),
        cmocka_unit_test(draws_halves),       cmocka_unit_test(sums_influences),
        cmocka_unit_test(trains_as_one_does), cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(measures_outputs),   cmocka_unit_test(values_have_their_adjoints),
        cmocka_unit_test(measures_tokens),    cmocka_unit_test(scores_by_definition)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
