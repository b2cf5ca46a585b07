/*
 * Scores of single examples by hand, and BatchBALD against joint entropies over all configurations
 * of a batch's targets, in double: H(y_1 … y_n) = −Σ_c p(c) log p(c), p(c) = Σ_s ω_s Π_i p_is(c_i).
 *
 * Tolerance: probabilities are kept as floats, right to 2^-24 of themselves. The entropy of one row
 * moves by at most 2^-24 Σ p |log p + 1| < 2^-24 (log K + 1), and a gain by twice that for each row
 * of the batch: below 1e-6 for what is here. Estimates of M draws are within 5 standard errors,
 * which the exact distribution of H[y_n | c] gives: draws are from a seed, so that this never fails
 * by chance.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/acquire.h"

enum { ROWS_MAX = 100, SAMPLES = 6, CLASSES_MAX = 40, BATCH_MAX = 5 };

static const double tolerance = 1e-6;
static const double weights[SAMPLES] = {1, 2, 1, .5, 3, 1};

struct problem {
    size_t rows, classes;
    float logits[SAMPLES * ROWS_MAX * CLASSES_MAX]; /* samples × rows × classes */
    double p[ROWS_MAX][SAMPLES][CLASSES_MAX];
    double shares[SAMPLES];
};

static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(*state >> 11) * 0x1p-53;
}

/* Rows whose samples differ by more and less; the last is certain in every sample, and of two
   minds. */
static struct problem *make_problem(size_t rows, size_t classes)
{
    struct problem *made = calloc(1, sizeof *made);
    uint64_t state = 5;
    double total = 0;
    assert_non_null(made);
    made->rows = rows;
    made->classes = classes;
    for (size_t s = 0; s < SAMPLES; s++)
        total += weights[s];
    for (size_t s = 0; s < SAMPLES; s++)
        made->shares[s] = weights[s] / total;
    for (size_t s = 0; s < SAMPLES; s++)
        for (size_t i = 0; i < rows; i++) {
            float *f = made->logits + (s * rows + i) * classes;
            double sum = 0;
            for (size_t k = 0; k < classes; k++) {
                double size = 4 * (double)(i % 5 + 1) / 5;
                f[k] = (float)(size * uniform(&state) + (k == i % classes ? 1 : 0));
                if (i == rows - 1)
                    f[k] = k == s % 2 ? 500 : 0;
            }
            for (size_t k = 0; k < classes; k++)
                sum += exp((double)f[k]);
            for (size_t k = 0; k < classes; k++)
                made->p[i][s][k] = exp((double)f[k]) / sum;
        }
    return made;
}

static struct ivon_batchbald *add_all(const struct problem *problem, size_t configurations,
                                      int threads)
{
    struct ivon_batchbald_options options = ivon_batchbald_defaults();
    struct ivon_batchbald *batchbald = NULL;
    struct ivon_error error = {0};
    options.outputs = problem->classes;
    options.samples = SAMPLES;
    options.weights = weights;
    options.rows = problem->rows;
    options.configurations = configurations;
    options.seed = 3;
    options.resources.threads = threads;
    assert_int_equal(ivon_batchbald_new(&batchbald, &options, &error), 0);
    /* In two parts, each of which has its samples together. */
    size_t first = problem->rows / 3, k = problem->classes;
    float *part = calloc(SAMPLES * problem->rows * k, sizeof *part);
    assert_non_null(part);
    for (size_t at = 0, count = first; at < problem->rows;
         at += count, count = problem->rows - at) {
        for (size_t s = 0; s < SAMPLES; s++)
            memcpy(part + s * count * k, problem->logits + (s * problem->rows + at) * k,
                   count * k * sizeof *part);
        assert_int_equal(ivon_batchbald_add(batchbald, count, part, &error), 0);
    }
    free(part);
    return batchbald;
}

static double term(double p)
{
    return p > 0 ? -p * log(p) : 0;
}

/* H(y_1 … y_n) of the batch, by recursion over its configurations. */
static double joint_entropy(const struct problem *problem, const uint64_t *batch, size_t n,
                            const double *product)
{
    double sum = 0;
    if (!n) {
        for (size_t s = 0; s < SAMPLES; s++)
            sum += product[s];
        return term(sum);
    }
    for (size_t k = 0; k < problem->classes; k++) {
        double next[SAMPLES];
        for (size_t s = 0; s < SAMPLES; s++)
            next[s] = product[s] * problem->p[*batch][s][k];
        sum += joint_entropy(problem, batch + 1, n - 1, next);
    }
    return sum;
}

static double own_entropy(const struct problem *problem, uint64_t row)
{
    double sum = 0;
    for (size_t s = 0; s < SAMPLES; s++)
        for (size_t k = 0; k < problem->classes; k++)
            sum += problem->shares[s] * term(problem->p[row][s][k]);
    return sum;
}

static double joint_information(const struct problem *problem, const uint64_t *batch, size_t n)
{
    double information = joint_entropy(problem, batch, n, problem->shares);
    for (size_t i = 0; i < n; i++)
        information -= own_entropy(problem, batch[i]);
    return information;
}

static void batches_are_those_of_the_joint_entropy(void **state)
{
    (void)state;
    struct problem *problem = make_problem(24, 3);
    struct ivon_batchbald *batchbald = add_all(problem, 0, 2);
    struct ivon_batchbald_choice *choices = NULL;
    struct ivon_error error = {0};
    uint64_t batch[BATCH_MAX];
    double before = 0;
    size_t count = 0;
    assert_int_equal(ivon_batchbald_choose(batchbald, BATCH_MAX, &choices, &count, &error), 0);
    assert_int_equal(count, BATCH_MAX);
    for (size_t n = 0; n < count; n++) {
        double best = -1, next = -1;
        uint64_t expected = 0;
        for (uint64_t row = 0; row < problem->rows; row++) {
            bool chosen = false;
            for (size_t i = 0; i < n; i++)
                chosen |= batch[i] == row;
            batch[n] = row;
            double gain = chosen ? -1 : joint_information(problem, batch, n + 1) - before;
            next = fmax(next, fmin(gain, best));
            expected = gain > best ? row : expected;
            best = fmax(best, gain);
        }
        assert_true(best - next > 4 * tolerance); /* there is one to be found */
        assert_int_equal(choices[n].row, expected);
        assert_true(choices[n].exact && fabs(choices[n].gain - best) <= tolerance);
        batch[n] = expected;
        before += best;
    }
    free(choices);
    ivon_batchbald_free(batchbald);
    free(problem);
}

/* Sums, over the configurations of a batch, w H and w H² with H = H[y | c] of one more row. */
static void add_entropies(const struct problem *problem, const uint64_t *batch, size_t n,
                          const double *product, uint64_t row, double *moments)
{
    double w = 0, entropy = 0;
    for (size_t k = 0; k < problem->classes && n; k++) {
        double next[SAMPLES];
        for (size_t s = 0; s < SAMPLES; s++)
            next[s] = product[s] * problem->p[*batch][s][k];
        add_entropies(problem, batch + 1, n - 1, next, row, moments);
    }
    if (n)
        return;
    for (size_t s = 0; s < SAMPLES; s++)
        w += product[s];
    for (size_t k = 0; k < problem->classes && w > 0; k++) {
        double p = 0;
        for (size_t s = 0; s < SAMPLES; s++)
            p += product[s] / w * problem->p[row][s][k];
        entropy += term(p);
    }
    moments[0] += w * entropy;
    moments[1] += w * entropy * entropy;
}

static void drawn_configurations_estimate_the_joint_entropy(void **state)
{
    (void)state;
    enum { CONFIGURATIONS = 1500, COUNT = 4 };
    struct problem *problem = make_problem(16, CLASSES_MAX);
    struct ivon_batchbald *batchbald = add_all(problem, CONFIGURATIONS, 2);
    struct ivon_batchbald_choice *choices = NULL;
    struct ivon_error error = {0};
    uint64_t batch[COUNT];
    size_t count = 0;
    assert_int_equal(ivon_batchbald_choose(batchbald, COUNT, &choices, &count, &error), 0);
    assert_int_equal(count, COUNT);
    for (size_t n = 0; n < COUNT; n++) {
        double moments[2] = {0};
        add_entropies(problem, batch, n, problem->shares, choices[n].row, moments);
        double variance = fmax(moments[1] - moments[0] * moments[0], 0);
        double exact = moments[0] - own_entropy(problem, choices[n].row);
        double chance = choices[n].exact ? 0 : 5 * sqrt(variance / CONFIGURATIONS);
        assert_true(fabs(choices[n].gain - exact) <= chance + tolerance);
        /* The gain is no less than 20 standard errors, or this would say nothing. */
        assert_true(exact > 4 * chance);
        batch[n] = choices[n].row;
    }
    /* The certain row is the first, and leaves two configurations; 2 × 40 and 2 × 40² are too many
       in the end. */
    assert_int_equal(choices[0].row, 15);
    assert_true(choices[0].exact && choices[1].exact && choices[2].exact && !choices[3].exact);
    free(choices);
    ivon_batchbald_free(batchbald);
    free(problem);
}

static void bits_depend_on_neither_threads_nor_the_batch(void **state)
{
    (void)state;
    struct problem *problem = make_problem(ROWS_MAX, 4);
    struct ivon_batchbald_choice *all = NULL, *few = NULL;
    struct ivon_error error = {0};
    size_t count = 0;
    for (int threads = 1; threads <= 3; threads++) {
        size_t most = threads == 1 ? SIZE_MAX : (size_t)4 * (size_t)threads;
        struct ivon_batchbald *batchbald = add_all(problem, 300, threads);
        assert_int_equal(ivon_batchbald_choose(batchbald, most, &few, &count, &error), 0);
        assert_int_equal(count, threads == 1 ? ROWS_MAX : most);
        for (size_t i = 0; i < count && all; i++) {
            assert_int_equal(few[i].row, all[i].row);
            assert_true(few[i].gain == all[i].gain && few[i].exact == all[i].exact);
        }
        if (threads == 1)
            all = few;
        else
            free(few);
        ivon_batchbald_free(batchbald);
    }
    free(all);
    free(problem);
}

/* After the first of many equal rows that are certain of their class the others are worth nothing,
   though they were worth most: all others have to be looked at, too. */
static void rows_that_say_nothing_new_are_passed_over(void **state)
{
    (void)state;
    enum { EQUAL = 80 };
    struct problem *problem = make_problem(ROWS_MAX, 3);
    struct ivon_batchbald_choice *choices = NULL;
    struct ivon_error error = {0};
    uint64_t batch[2] = {0, 0};
    double best = 0;
    size_t count = 0;
    for (size_t i = 0; i < EQUAL; i++) {
        for (size_t s = 0; s < SAMPLES; s++)
            memcpy(problem->logits + (s * ROWS_MAX + i) * 3,
                   problem->logits + (s * ROWS_MAX + ROWS_MAX - 1) * 3, 3 * sizeof(float));
        memcpy(problem->p[i], problem->p[ROWS_MAX - 1], sizeof problem->p[i]);
    }
    struct ivon_batchbald *batchbald = add_all(problem, 0, 2);
    assert_int_equal(ivon_batchbald_choose(batchbald, 2, &choices, &count, &error), 0);
    for (batch[1] = 1; batch[1] < ROWS_MAX; batch[1]++)
        best = fmax(best, joint_information(problem, batch, 2));
    assert_int_equal(choices[0].row, 0);
    assert_in_range(choices[1].row, EQUAL, ROWS_MAX - 2);
    assert_true(fabs(choices[0].gain + choices[1].gain - best) <= tolerance);
    assert_true(choices[1].gain > .1);
    free(choices);
    ivon_batchbald_free(batchbald);
    free(problem);
}

/* Every row is there once, and equal ones come by their number. */
static void equal_rows_come_by_their_number(void **state)
{
    (void)state;
    struct problem *problem = make_problem(ROWS_MAX, 3);
    for (size_t s = 0; s < SAMPLES; s++)
        for (size_t i = 1; i < ROWS_MAX; i++)
            memcpy(problem->logits + (s * ROWS_MAX + i) * 3, problem->logits + s * ROWS_MAX * 3,
                   3 * sizeof(float));
    struct ivon_batchbald *batchbald = add_all(problem, 0, 1);
    struct ivon_batchbald_choice *choices = NULL;
    struct ivon_error error = {0};
    size_t count = 0;
    assert_int_equal(ivon_batchbald_choose(batchbald, ROWS_MAX, &choices, &count, &error), 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(choices[i].row, i);
    assert_int_equal(count, ROWS_MAX);
    free(choices);
    ivon_batchbald_free(batchbald);
    free(problem);
}

/* The logit of an event is that of class 1 against 0. */
static void an_event_is_two_classes(void **state)
{
    (void)state;
    const float events[] = {1, -2, .5F, 3, 200, -200}; /* samples × rows */
    float logits[12] = {0};
    struct ivon_batchbald_choice *choices[2] = {NULL, NULL};
    struct ivon_error error = {0};
    size_t count = 0;
    for (size_t i = 0; i < 6; i++)
        logits[2 * i + 1] = events[i];
    for (int kind = 0; kind < 2; kind++) {
        struct ivon_batchbald_options options = ivon_batchbald_defaults();
        struct ivon_batchbald *batchbald = NULL;
        options.likelihood = kind ? IVON_BERNOULLI : IVON_CATEGORICAL;
        options.outputs = kind ? 1 : 2;
        options.samples = 3;
        options.rows = 2;
        assert_int_equal(ivon_batchbald_new(&batchbald, &options, &error), 0);
        assert_int_equal(ivon_batchbald_add(batchbald, 2, kind ? events : logits, &error), 0);
        assert_int_equal(ivon_batchbald_choose(batchbald, 2, &choices[kind], &count, &error), 0);
        assert_int_equal(count, 2);
        ivon_batchbald_free(batchbald);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(choices[0][i].row, choices[1][i].row);
        assert_true(fabs(choices[0][i].gain - choices[1][i].gain) <= tolerance);
    }
    free(choices[0]);
    free(choices[1]);
}

static void fails(struct ivon_batchbald_options options, int code, const char *text)
{
    struct ivon_batchbald *batchbald = NULL;
    struct ivon_error error = {0};
    assert_int_equal(ivon_batchbald_new(&batchbald, &options, &error), code);
    assert_null(batchbald);
    assert_non_null(strstr(error.message, text));
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    const float logits[] = {1, 2, 1, NAN};
    const double negative[] = {1, -1};
    struct ivon_batchbald_options good = ivon_batchbald_defaults(), options;
    struct ivon_batchbald *batchbald = NULL;
    struct ivon_error error = {0};
    good.outputs = 2;
    good.samples = 1;
    good.rows = 2;
    options = good;
    options.samples = 0;
    fails(options, IVON_ERROR_ARGUMENT, "without samples");
    options = good;
    options.likelihood = IVON_BERNOULLI;
    fails(options, IVON_ERROR_ARGUMENT, "2 outputs, expected classes or a single event");
    options.likelihood = IVON_GAUSSIAN;
    fails(options, IVON_ERROR_ARGUMENT, "expected classes or a single event");
    options = good;
    options.samples = 2;
    options.weights = negative;
    fails(options, IVON_ERROR_ARGUMENT, "sample 1 has weight -1, expected a positive number");
    options = good;
    options.configurations = 10;
    options.resources.memory = 2 * 2 * 4 + 16 * 10 - 1;
    fails(options, IVON_ERROR_MEMORY, "take 176 bytes of memory, which may be 175");
    options.resources.memory++;
    assert_int_equal(ivon_batchbald_new(&batchbald, &options, &error), 0);
    assert_int_equal(ivon_batchbald_add(batchbald, 2, logits, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "row 1: an output of sample 0 is not finite");
    assert_int_equal(ivon_batchbald_add(batchbald, 3, logits, &error), IVON_ERROR_ARGUMENT);
    ivon_batchbald_free(batchbald);
    options = good;
    options.rows = UINT64_MAX / 4;
    fails(options, IVON_ERROR_MEMORY, "");
}

static int stop(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return --*(int *)context < 0;
}

static void a_choice_can_be_stopped(void **state)
{
    (void)state;
    const float logits[] = {1, 2, 2, 1, 0, 1, 1, 0};
    struct ivon_batchbald_options options = ivon_batchbald_defaults();
    struct ivon_batchbald *batchbald = NULL;
    struct ivon_batchbald_choice *choices = NULL;
    struct ivon_error error = {0};
    size_t count = 1;
    int left = 2; /* the second row of a batch is looked at by the third question */
    options.outputs = options.samples = 2;
    options.rows = 2;
    options.resources.threads = 1;
    options.resources.progress = (struct ivon_progress){stop, &left};
    assert_int_equal(ivon_batchbald_new(&batchbald, &options, &error), 0);
    assert_int_equal(ivon_batchbald_add(batchbald, 2, logits, &error), 0);
    assert_int_equal(ivon_batchbald_choose(batchbald, 2, &choices, &count, &error),
                     IVON_ERROR_CANCELLED);
    assert_true(!choices && !count);
    ivon_batchbald_free(batchbald);
}

static void near(const double *found, double first, double second)
{
    assert_true(fabs(found[0] - first) < 1e-6 && fabs(found[1] - second) < 1e-6);
}

/* Two examples of classes, the same as one of two tokens, and as events. */
static void scores_of_single_examples(void **state)
{
    (void)state;
    const float p[] = {.5F, .2F, .3F, .1F, .8F, .1F}, most[] = {.5F, .8F};
    const float entropy[] = {1.25F, .5F}, information[] = {.25F, .125F}, events[] = {.8F, .65F};
    struct ivon_predictions predictions = {.count = 2,
                                           .probabilities = p,
                                           .max_probability = most,
                                           .entropy = entropy,
                                           .mutual_information = information};
    struct ivon_predict_shape shape = {.outputs = 3};
    double scores[2];
    const double expected[4][2] = {{.25, .125}, {1.25, .5}, {.5, .2}, {.2, .7}};
    for (int i = 0; i < 4; i++) {
        shape.tokens = 0;
        predictions.count = 2;
        assert_int_equal(ivon_acquisition_scores((enum ivon_acquisition)i, IVON_CATEGORICAL, &shape,
                                                 &predictions, scores, NULL),
                         0);
        near(scores, expected[i][0], expected[i][1]);
        shape.tokens = 2;
        predictions.count = 1;
        assert_int_equal(ivon_acquisition_scores((enum ivon_acquisition)i, IVON_CATEGORICAL, &shape,
                                                 &predictions, scores, NULL),
                         0);
        near(scores, (expected[i][0] + expected[i][1]) / 2, expected[i][1]);
    }
    shape.tokens = 0;
    predictions.count = 2;
    predictions.max_probability = events; /* means of three events' greater probabilities */
    assert_int_equal(ivon_acquisition_scores(IVON_ACQUIRE_MARGIN, IVON_BERNOULLI, &shape,
                                             &predictions, scores, NULL),
                     0);
    near(scores, .6, .3);
}

static void scores_need_what_they_are_made_of(void **state)
{
    (void)state;
    const float p[] = {.5F, .5F}, one[] = {.5F};
    const struct ivon_predictions predictions = {
        .count = 1, .probabilities = p, .max_probability = one, .entropy = one};
    const struct ivon_predict_shape shape = {.outputs = 2};
    struct ivon_error error = {0};
    double score;
    assert_int_equal(ivon_acquisition_scores(IVON_ACQUIRE_BALD, IVON_CATEGORICAL, &shape,
                                             &predictions, &score, &error),
                     IVON_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "acquisition bald"));
    assert_int_equal(ivon_acquisition_scores(IVON_ACQUIRE_BATCHBALD, IVON_CATEGORICAL, &shape,
                                             &predictions, &score, &error),
                     IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_acquisition_scores(IVON_ACQUIRE_ENTROPY, IVON_POISSON, &shape,
                                             &predictions, &score, &error),
                     IVON_ERROR_ARGUMENT);
    assert_true(ivon_acquisition_traits(IVON_ACQUIRE_MARGIN)->ascending);
    assert_null(ivon_acquisition_traits((enum ivon_acquisition)5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_are_those_of_the_joint_entropy),
        cmocka_unit_test(drawn_configurations_estimate_the_joint_entropy),
        cmocka_unit_test(bits_depend_on_neither_threads_nor_the_batch),
        cmocka_unit_test(rows_that_say_nothing_new_are_passed_over),
        cmocka_unit_test(equal_rows_come_by_their_number),
        cmocka_unit_test(an_event_is_two_classes),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_choice_can_be_stopped),
        cmocka_unit_test(scores_of_single_examples),
        cmocka_unit_test(scores_need_what_they_are_made_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
