#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "metrics/likelihood/targets.h"
#include "core/examples.h"

enum { IGNORED = -100 };

static bool counts(enum ivon_likelihood likelihood, size_t k, const int64_t *labels)
{
    return ivon_target_counts(likelihood, k, labels, IGNORED);
}

static void knows_what_counts(void **unused)
{
    (void)unused;
    const int64_t labels[] = {IGNORED, IGNORED, 1};
    assert_false(counts(IVON_CATEGORICAL, 3, labels));
    assert_true(counts(IVON_CATEGORICAL, 3, labels + 2));
    assert_false(counts(IVON_BERNOULLI, 2, labels));
    assert_true(counts(IVON_BERNOULLI, 3, labels)); /* one of three is a label */
    assert_true(counts(IVON_GAUSSIAN, 3, NULL));
    assert_true(ivon_target_counts(IVON_CATEGORICAL, 3, &(int64_t){INT64_MIN}, INT64_MIN));
}

enum { EXAMPLES = 200, FIRST = 40 };

/* Every third of examples that are called data, of which nothing is read. */
static struct ivon_examples *open_thirds(struct ivon_examples **all)
{
    static const unsigned char data[EXAMPLES];
    static const struct ivon_field field = {.name = "x", .dtype = IVON_U8};
    const void *arrays[] = {data};
    uint64_t rows[EXAMPLES / 3];
    struct ivon_examples *thirds;
    for (size_t i = 0; i < EXAMPLES / 3; i++)
        rows[i] = 3 * i;
    assert_int_equal(ivon_examples_from_memory(all, "data", EXAMPLES, &field, arrays, 1, NULL), 0);
    assert_int_equal(ivon_examples_select(&thirds, *all, rows, EXAMPLES / 3, NULL), 0);
    return thirds;
}

static const char *refusal(enum ivon_likelihood likelihood, size_t k, size_t tokens, size_t rows,
                           const int64_t *labels, struct ivon_error *error)
{
    const struct row_targets targets = {.labels = labels, .ignored = IGNORED};
    struct ivon_examples *all, *thirds = open_thirds(&all);
    int code = targets_check(&targets, likelihood, k, tokens, thirds, FIRST, rows, error);
    ivon_examples_close(thirds);
    ivon_examples_close(all);
    assert_true(!code || code == IVON_ERROR_DATA);
    return code ? error->message : "";
}

static void names_the_row(void **unused)
{
    (void)unused;
    const int64_t fine[] = {0, 2, IGNORED, 1}, high[] = {0, 1, 3, 0}, low[] = {0, -1, 0, 0};
    const int64_t some[] = {0, 1, IGNORED, 1}, none[] = {0, 1, IGNORED, IGNORED};
    struct ivon_error error;
    assert_string_equal(refusal(IVON_CATEGORICAL, 3, 1, 4, fine, &error), "");
    assert_string_equal(refusal(IVON_CATEGORICAL, 3, 1, 4, high, &error),
                        "data: row 126: target 3, expected a class from 0 to 2");
    assert_string_equal(refusal(IVON_CATEGORICAL, 3, 2, 4, low, &error),
                        "data: row 120, token 1: target -1, expected a class from 0 to 2");
    assert_string_equal(refusal(IVON_BERNOULLI, 2, 1, 2, none, &error), "");
    assert_string_equal(refusal(IVON_BERNOULLI, 2, 1, 2, some, &error),
                        "data: row 123: some of its 2 targets are the ignored label -100, expected "
                        "all or none");
    assert_string_equal(refusal(IVON_BERNOULLI, 2, 1, 2, high, &error),
                        "data: row 123: target 3, expected a class from 0 to 1");
    assert_string_equal(refusal(IVON_GAUSSIAN, 2, 1, 2, NULL, &error), "");
}

/* Cochran's ratio, from its definition. */
static void averages_over_positions(void **unused)
{
    (void)unused;
    enum { N = 7 };
    const double x[N] = {3, 1e6, 5.5, 2, 8, 0.25, 7}, t[N] = {2, 0, 3, 1, 4, 1, 3};
    struct ivon_ratio ratio = {0};
    double sum_x = 0, sum_t = 0, squares = 0;
    for (size_t i = 0; i < N; i++) {
        ivon_ratio_add(&ratio, x[i], t[i]);
        sum_x += t[i] > 0 ? x[i] : 0;
        sum_t += t[i];
    }
    double r = sum_x / sum_t;
    for (size_t i = 0; i < N; i++)
        squares += t[i] > 0 ? (x[i] - r * t[i]) * (x[i] - r * t[i]) : 0;
    struct ivon_metric mean = ivon_ratio_metric("x", &ratio);
    double expected = sqrt(6 / 5.0 * squares) / sum_t; /* six of the seven count */
    assert_true(fabs(mean.value - r) <= 1e-15 * r);
    assert_true(fabs(mean.standard_error - expected) <= 1e-14 * expected);
    ratio = (struct ivon_ratio){0};
    assert_true(isnan(ivon_ratio_metric("x", &ratio).value));
    ivon_ratio_add(&ratio, 3, 2);
    assert_true(ivon_ratio_metric("x", &ratio).value == 1.5);
    assert_true(isnan(ivon_ratio_metric("x", &ratio).standard_error));
}

/* Examples of one field of labels. */
static int read_labels(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    (void)field;
    (void)error;
    memcpy(buffer, (const int64_t *)self + 4 * first, 4 * count * sizeof(int64_t));
    return 0;
}

static void leave_labels(void *self)
{
    (void)self;
}

static void counts_positions(void **unused)
{
    (void)unused;
    static const struct ivon_examples_class class = {.read = read_labels, .close = leave_labels};
    static int64_t labels[] = {0,       1,       IGNORED, 1, IGNORED, IGNORED,
                               IGNORED, IGNORED, 1,       0, IGNORED, IGNORED};
    const struct ivon_field field = {.name = "y", .dtype = IVON_I64, .rank = 1, .shape = {4}};
    const struct examples_scaling scaling = {.divisor = 1, .channels = 1};
    struct ivon_examples *examples = NULL;
    struct ivon_positions found;
    struct ivon_error error;
    assert_int_equal(
        ivon_examples_new(&examples, &class, labels, "data", 3, &field, &scaling, 1, &error), 0);
    assert_int_equal(
        ivon_positions_count(&found, examples, "y", IVON_CATEGORICAL, 2, IGNORED, &error), 0);
    assert_true(found.all == 12 && found.counted == 5 && found.examples == 2);
    assert_int_equal(
        ivon_positions_count(&found, examples, "y", IVON_CATEGORICAL, 2, INT64_MIN, &error), 0);
    assert_true(found.all == 12 && found.counted == 12 && found.examples == 3);
    assert_int_equal(
        ivon_positions_count(&found, examples, "y", IVON_BERNOULLI, 2, IGNORED, &error), 0);
    assert_true(found.all == 6 && found.counted == 3 && found.examples == 2);
    assert_int_equal(ivon_positions_count(&found, examples, "y", IVON_GAUSSIAN, 4, IGNORED, &error),
                     0);
    assert_true(found.all == 3 && found.counted == 3 && found.examples == 3);
    assert_int_equal(
        ivon_positions_count(&found, examples, "y", IVON_BERNOULLI, 3, IGNORED, &error),
        IVON_ERROR_DATA);
    assert_string_equal(error.message, "data: 'y' has 4 numbers for each example, expected a "
                                       "multiple of the 3 outputs");
    assert_int_equal(
        ivon_positions_count(&found, examples, "z", IVON_BERNOULLI, 2, IGNORED, &error),
        IVON_ERROR_DATA);
    ivon_examples_close(examples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_what_counts),
        cmocka_unit_test(names_the_row),
        cmocka_unit_test(averages_over_positions),
        cmocka_unit_test(counts_positions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
