/*
 * Calibrations and conformal sets against numpy's formulas (tests/oracle/calibration_reference.py),
 * what is written against what is read, and what is refused.
 *
 * Tolerances: Newton's last step is below 2^-46 of 1/T, and squares what remains: 1e-10. The
 * vectors' objective is within 1e-18 of its value, whose least curvature is 0.01: √(2e-18 ·
 * 100/0.01) = 1.4e-7 at most. Floats are rounded once, 6e-8 of numbers up to 1; scores are the same
 * sums in the same order.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/calibrate.h"
#include "calibration_fixture.h"

static const double tolerance = 1e-10, rounding = 1.2e-7, scaling = 2e-7;

static uint64_t numbers[FIXTURE_ROWS];

static int number_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < FIXTURE_ROWS; i++)
        numbers[i] = i;
    return 0;
}

static struct ivon_calibration_data class_data(void)
{
    return (struct ivon_calibration_data){.rows = FIXTURE_ROWS,
                                          .numbers = numbers,
                                          .probabilities = fixture_probabilities,
                                          .labels = fixture_labels};
}

static struct ivon_calibration_data number_data(void)
{
    return (struct ivon_calibration_data){.rows = FIXTURE_ROWS,
                                          .numbers = numbers,
                                          .means = fixture_means,
                                          .deviations = fixture_deviations,
                                          .targets = fixture_numbers};
}

static struct ivon_calibration_data event_data(void)
{
    return (struct ivon_calibration_data){.rows = FIXTURE_ROWS,
                                          .numbers = numbers,
                                          .probabilities = fixture_events,
                                          .labels = fixture_happened};
}

static struct ivon_calibrate_options options_of(enum ivon_calibration_method method,
                                                enum ivon_conformal conformal)
{
    struct ivon_calibrate_options options = ivon_calibrate_defaults();
    options.outputs = FIXTURE_CLASSES;
    options.method = method;
    options.conformal = conformal;
    options.coverage = fixture_coverage;
    options.penalty = fixture_penalty;
    options.free_ranks = FIXTURE_FREE;
    options.seed = FIXTURE_SEED;
    if (conformal >= IVON_CONFORMAL_ABSOLUTE) {
        options.likelihood = IVON_GAUSSIAN;
        options.outputs = FIXTURE_OUTPUTS;
    }
    return options;
}

static struct ivon_calibration *fit(enum ivon_calibration_method method,
                                    enum ivon_conformal conformal)
{
    struct ivon_calibrate_options options = options_of(method, conformal);
    struct ivon_calibration_data data = conformal >= IVON_CONFORMAL_ABSOLUTE ? number_data()
                                                                             : class_data();
    struct ivon_calibration *calibration = NULL;
    struct ivon_error error = {0};
    if (ivon_calibration_fit(&calibration, &options, &data, &error))
        fail_msg("%s", error.message);
    return calibration;
}

static void check(const char *name, double found, double expected, double allowed)
{
    if (!(fabs(found - expected) <= allowed))
        fail_msg("%s: %.17g, expected %.17g", name, found, expected);
}

/* Applies it to the new rows. */
static void check_applied(const struct ivon_calibration *calibration, const float *expected)
{
    float out[FIXTURE_NEW * FIXTURE_CLASSES];
    assert_int_equal(ivon_calibration_apply(calibration, 0, FIXTURE_NEW, fixture_new, out, NULL),
                     0);
    for (size_t i = 0; i < FIXTURE_NEW * FIXTURE_CLASSES; i++)
        check("probability", (double)out[i], (double)expected[i], rounding);
}

static void test_temperature(void **state)
{
    (void)state;
    struct ivon_calibration *calibration = fit(IVON_CALIBRATION_TEMPERATURE, IVON_CONFORMAL_NONE);
    struct ivon_calibration_summary summary = ivon_calibration_summary(calibration);
    check("T", summary.temperature, fixture_temperature, tolerance);
    assert_int_equal(summary.fitted, FIXTURE_ROWS);
    assert_true(isnan(summary.quantile) && isnan(summary.coverage));
    check_applied(calibration, fixture_tempered);
    ivon_calibration_free(calibration);
}

/* One row that is right, one that is wrong, and rows that say nothing: the bounds, and 1. */
static void test_temperature_bounds(void **state)
{
    (void)state;
    static const float sure[] = {0.75f, 0.25f, 0.75f, 0.25f}, even[] = {0.5f, 0.5f, 0.5f, 0.5f};
    static const int64_t right[] = {0, 0}, wrong[] = {1, 1};
    const struct {
        const float *p;
        const int64_t *y;
        double expected;
    } cases[] = {{sure, right, 1.0 / 64}, {sure, wrong, 64}, {even, right, 1}};
    for (size_t i = 0; i < 3; i++) {
        struct ivon_calibrate_options options = options_of(IVON_CALIBRATION_TEMPERATURE,
                                                           IVON_CONFORMAL_NONE);
        struct ivon_calibration_data data = {
            .rows = 2, .numbers = numbers, .probabilities = cases[i].p, .labels = cases[i].y};
        struct ivon_calibration *calibration = NULL;
        options.outputs = 2;
        assert_int_equal(ivon_calibration_fit(&calibration, &options, &data, NULL), 0);
        assert_true(ivon_calibration_summary(calibration).temperature == cases[i].expected);
        ivon_calibration_free(calibration);
    }
}

/* One of eight rows that were certain is wrong: σ(126 log 2/T) is 7/8, where the loss at 1 has next
   to no curvature. */
static void test_certainty(void **state)
{
    (void)state;
    float p[16] = {0};
    int64_t labels[8] = {0};
    struct ivon_calibrate_options options = options_of(IVON_CALIBRATION_TEMPERATURE,
                                                       IVON_CONFORMAL_NONE);
    struct ivon_calibration_data data = {
        .rows = 8, .numbers = numbers, .probabilities = p, .labels = labels};
    struct ivon_calibration *calibration = NULL;
    for (size_t i = 0; i < 8; i++)
        p[2 * i] = 1;
    labels[3] = 1;
    options.outputs = 2;
    assert_int_equal(ivon_calibration_fit(&calibration, &options, &data, NULL), 0);
    double expected = 126 * log(2) / log(7);
    check("T", ivon_calibration_summary(calibration).temperature, expected, 1e-9);
    ivon_calibration_free(calibration);
}

static double number_in(const char *text, const char *member, size_t i)
{
    const char *at = strstr(text, member);
    assert_non_null(at);
    at = strpbrk(at + strlen(member) + 2, "[0123456789-");
    at += *at == '[';
    for (; i; i--)
        at = strchr(at, ',') + 1;
    return strtod(at, NULL);
}

static void test_vector(void **state)
{
    (void)state;
    struct ivon_calibration *calibration = fit(IVON_CALIBRATION_VECTOR, IVON_CONFORMAL_NONE);
    char *text = NULL;
    check_applied(calibration, fixture_scaled);
    assert_int_equal(ivon_calibration_print(calibration, &text, NULL), 0);
    for (size_t c = 0; c < FIXTURE_CLASSES; c++) {
        check("w", number_in(text, "\"weights\"", c), fixture_weights[c], scaling);
        check("b", number_in(text, "\"biases\"", c), fixture_biases[c], scaling);
    }
    free(text);
    ivon_calibration_free(calibration);
}

static void test_isotonic(void **state)
{
    (void)state;
    struct ivon_calibration *calibration = fit(IVON_CALIBRATION_ISOTONIC, IVON_CONFORMAL_NONE);
    check_applied(calibration, fixture_isotonic);
    ivon_calibration_free(calibration);
}

static struct ivon_calibrate_options event_options(enum ivon_calibration_method method)
{
    struct ivon_calibrate_options options = options_of(method, IVON_CONFORMAL_NONE);
    options.likelihood = IVON_BERNOULLI;
    options.outputs = FIXTURE_EVENTS;
    return options;
}

/* Events by all methods, as they were fitted and as they are read again. */
static void test_events(void **state)
{
    (void)state;
    static const struct {
        enum ivon_calibration_method method;
        const float *expected;
        double allowed; /* vectors: of 87 in the exponent at most */
    } cases[] = {{IVON_CALIBRATION_TEMPERATURE, fixture_events_tempered, rounding},
                 {IVON_CALIBRATION_VECTOR, fixture_events_scaled, 1e-5},
                 {IVON_CALIBRATION_ISOTONIC, fixture_events_isotonic, rounding}};
    for (size_t i = 0; i < 3; i++) {
        const struct ivon_calibrate_options options = event_options(cases[i].method);
        const struct ivon_calibration_data data = event_data();
        struct ivon_calibration *fitted = NULL, *read = NULL;
        struct ivon_error error = {0};
        float out[FIXTURE_NEW * FIXTURE_EVENTS], again[FIXTURE_NEW * FIXTURE_EVENTS];
        char *text = NULL;
        if (ivon_calibration_fit(&fitted, &options, &data, &error) ||
            ivon_calibration_print(fitted, &text, &error) ||
            ivon_calibration_parse(&read, "text", text, strlen(text), &error))
            fail_msg("%s", error.message);
        ivon_calibration_apply(fitted, 0, FIXTURE_NEW, fixture_new_events, out, NULL);
        ivon_calibration_apply(read, 0, FIXTURE_NEW, fixture_new_events, again, NULL);
        assert_memory_equal(out, again, sizeof out);
        for (size_t j = 0; j < FIXTURE_NEW * FIXTURE_EVENTS; j++)
            assert_true(out[j] < 1); /* no event is certain */
        for (size_t j = 0; j < FIXTURE_NEW * FIXTURE_EVENTS; j++)
            check("event", (double)out[j], (double)cases[i].expected[j], cases[i].allowed);
        double temperature = ivon_calibration_summary(fitted).temperature;
        if (cases[i].method == IVON_CALIBRATION_TEMPERATURE)
            check("T", temperature, fixture_event_temperature, tolerance);
        assert_int_equal(ivon_calibration_summary(fitted).fitted, FIXTURE_ROWS);
        free(text);
        ivon_calibration_free(fitted);
        ivon_calibration_free(read);
    }
}

/* Three rows, of which the first two have to be pooled: 1/2 and 1 as far as 1/5 and 4/5 let them.
   */
static void test_pools(void **state)
{
    (void)state;
    static const float p[] = {0.25f, 0.75f, 0.5f, 0.5f, 0.75f, 0.25f};
    static const int64_t y[] = {0, 1, 0};
    static const double expected[] = {0.5, 0.5, 0.65};
    struct ivon_calibrate_options options = options_of(IVON_CALIBRATION_ISOTONIC,
                                                       IVON_CONFORMAL_NONE);
    struct ivon_calibration_data data = {
        .rows = 3, .numbers = numbers, .probabilities = p, .labels = y};
    struct ivon_calibration *calibration = NULL;
    char *text = NULL;
    options.outputs = 2;
    assert_int_equal(ivon_calibration_fit(&calibration, &options, &data, NULL), 0);
    assert_int_equal(ivon_calibration_print(calibration, &text, NULL), 0);
    assert_true(number_in(text, "\"x\"", 0) == 0.25 && number_in(text, "\"x\"", 1) == 0.5);
    assert_true(number_in(text, "\"x\"", 2) == 0.75);
    assert_true(number_in(text, "\"y\"", 0) == expected[0]);
    assert_true(number_in(text, "\"y\"", 2) == 0.8);
    static const float new[] = {0.625f, 0.375f};
    float out[2];
    /* Of both classes (1/2 + 4/5)/2 and 1/5 … 1/2 between their ends. */
    assert_int_equal(ivon_calibration_apply(calibration, 0, 1, new, out, NULL), 0);
    check("between", (double)out[0] / ((double)out[0] + (double)out[1]), (double)out[0], 1e-6);
    check("ratio", (double)out[0] / (double)out[1], expected[2] / 0.35, 1e-5);
    free(text);
    ivon_calibration_free(calibration);
}

/* Outputs whose exponentials are no numbers. */
static void test_large_biases(void **state)
{
    (void)state;
    static const char text[] = "{\"format\": \"ivon-calibration\", \"format_version\": 1, "
                               "\"likelihood\": \"categorical\", \"outputs\": 2, \"method\": "
                               "\"vector\", \"rows\": 9, \"weights\": [1, 1], \"biases\": [1000, "
                               "1001]}";
    static const float even[] = {0.5f, 0.5f};
    struct ivon_calibration *calibration = NULL;
    float out[2];
    assert_int_equal(ivon_calibration_parse(&calibration, "text", text, strlen(text), NULL), 0);
    assert_int_equal(ivon_calibration_apply(calibration, 0, 1, even, out, NULL), 0);
    check("softmax", (double)out[1], 1 / (1 + exp(-1)), rounding);
    ivon_calibration_free(calibration);
}

static void test_sets(void **state)
{
    (void)state;
    const struct {
        enum ivon_conformal score;
        double quantile;
        const int64_t *sets;
    } cases[] = {{IVON_CONFORMAL_THR, fixture_thr, fixture_sets_thr},
                 {IVON_CONFORMAL_APS, fixture_aps, fixture_sets_aps},
                 {IVON_CONFORMAL_RAPS, fixture_raps, fixture_sets_raps}};
    for (size_t i = 0; i < 3; i++) {
        struct ivon_calibration *calibration = fit(IVON_CALIBRATION_NONE, cases[i].score);
        int64_t sets[FIXTURE_NEW * FIXTURE_CLASSES], sizes[FIXTURE_NEW];
        assert_true(ivon_calibration_summary(calibration).quantile == cases[i].quantile);
        /* The number of a row says which are its random numbers, in whatever call it comes. */
        for (size_t first = 0; first < FIXTURE_NEW; first += FIXTURE_NEW / 2)
            assert_int_equal(
                ivon_calibration_sets(calibration, FIXTURE_FIRST_NEW + first, FIXTURE_NEW / 2,
                                      fixture_new + first * FIXTURE_CLASSES,
                                      sets + first * FIXTURE_CLASSES, sizes + first, NULL),
                0);
        assert_memory_equal(sets, cases[i].sets, sizeof sets);
        for (size_t row = 0; row < FIXTURE_NEW; row++) {
            int64_t size = 0;
            for (size_t c = 0; c < FIXTURE_CLASSES; c++)
                size += sets[row * FIXTURE_CLASSES + c];
            assert_int_equal(size, sizes[row]);
        }
        ivon_calibration_free(calibration);
    }
}

static void test_halves(void **state)
{
    (void)state;
    struct ivon_calibration *calibration = fit(IVON_CALIBRATION_TEMPERATURE, IVON_CONFORMAL_APS);
    struct ivon_calibration_summary summary = ivon_calibration_summary(calibration);
    check("T", summary.temperature, fixture_half_temperature, tolerance);
    check("q", summary.quantile, fixture_half_quantile, 4 * rounding);
    assert_int_equal(summary.fitted + summary.scored, FIXTURE_ROWS);
    ivon_calibration_free(calibration);
}

/* A threshold that rows are too few for lets everything in. */
static void test_too_few(void **state)
{
    (void)state;
    struct ivon_calibrate_options options = options_of(IVON_CALIBRATION_NONE, IVON_CONFORMAL_APS);
    struct ivon_calibration_data data = class_data();
    struct ivon_calibration *calibration = NULL;
    int64_t set[FIXTURE_CLASSES], size;
    char *text = NULL;
    options.coverage = 0.8;
    for (data.rows = 3; data.rows < 5; data.rows++) { /* 4 · .8 > 3, 5 · .8 = 4 */
        assert_int_equal(ivon_calibration_fit(&calibration, &options, &data, NULL), 0);
        assert_true(isinf(ivon_calibration_summary(calibration).quantile) == (data.rows == 3));
        if (data.rows == 3) {
            assert_int_equal(
                ivon_calibration_sets(calibration, 0, 1, fixture_new, set, &size, NULL), 0);
            assert_int_equal(size, FIXTURE_CLASSES);
            assert_int_equal(ivon_calibration_print(calibration, &text, NULL), 0);
            ivon_calibration_free(calibration);
            assert_int_equal(ivon_calibration_parse(&calibration, "text", text, strlen(text), NULL),
                             0);
            assert_true(isinf(ivon_calibration_summary(calibration).quantile));
            free(text);
        }
        ivon_calibration_free(calibration);
    }
}

static void test_intervals(void **state)
{
    (void)state;
    enum { ALL = FIXTURE_ROWS * FIXTURE_OUTPUTS };
    for (int normalised = 0; normalised < 2; normalised++) {
        struct ivon_calibration *calibration = fit(IVON_CALIBRATION_NONE,
                                                   normalised ? IVON_CONFORMAL_NORMALISED
                                                              : IVON_CONFORMAL_ABSOLUTE);
        const double *q = normalised ? fixture_normalised : fixture_absolute;
        float lower[ALL], upper[ALL];
        assert_int_equal(ivon_calibration_intervals(calibration, 0, FIXTURE_ROWS, fixture_means,
                                                    fixture_deviations, lower, upper, NULL),
                         0);
        for (size_t i = 0; i < ALL; i++) {
            double half = q[i % FIXTURE_OUTPUTS] * (normalised ? (double)fixture_deviations[i] : 1);
            check("lower", (double)lower[i], (double)fixture_means[i] - half, 8 * rounding);
            check("upper", (double)upper[i], (double)fixture_means[i] + half, 8 * rounding);
        }
        ivon_calibration_free(calibration);
    }
}

static const struct ivon_calibration_effect *find(const struct ivon_calibration_effect *effects,
                                                  size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(effects[i].before.name, name) == 0)
            return &effects[i];
    fail_msg("no effect on %s", name);
    return NULL;
}

static void test_validation(void **state)
{
    (void)state;
    struct ivon_calibration_effect effects[IVON_CALIBRATION_EFFECTS_MAX];
    struct ivon_calibration_data data = class_data();
    struct ivon_calibrate_options options = options_of(IVON_CALIBRATION_TEMPERATURE,
                                                       IVON_CONFORMAL_NONE);
    const double *expected = fixture_validation;
    size_t count;
    assert_int_equal(
        ivon_calibration_validate(effects, &count, &options, FIXTURE_FOLDS, &data, NULL), 0);
    assert_int_equal(count, 4);
    check("nll", find(effects, count, "nll")->after.value, expected[0], 1e-6); /* of floats */
    check("its error", find(effects, count, "nll")->after.standard_error, expected[1], 1e-6);
    options = options_of(IVON_CALIBRATION_NONE, IVON_CONFORMAL_APS);
    assert_int_equal(
        ivon_calibration_validate(effects, &count, &options, FIXTURE_FOLDS, &data, NULL), 0);
    const struct ivon_calibration_effect *coverage = find(effects, count, "coverage");
    const struct ivon_calibration_effect *size = find(effects, count, "set_size");
    check("coverage", coverage->after.value, expected[2], tolerance);
    check("its error", coverage->after.standard_error, expected[3], tolerance);
    check("size", size->after.value, expected[4], tolerance);
    check("its error", size->after.standard_error, expected[5], tolerance);
    check("empty", find(effects, count, "empty")->after.value, expected[6], tolerance);
    check("coverage before", coverage->before.value, expected[7], tolerance);
    check("size before", size->before.value, expected[8], tolerance);
    check("empty before", find(effects, count, "empty")->before.value, expected[9], tolerance);
}

static void test_validation_of_events(void **state)
{
    (void)state;
    struct ivon_calibration_effect effects[IVON_CALIBRATION_EFFECTS_MAX];
    const struct ivon_calibration_data data = event_data();
    const struct ivon_calibrate_options options = event_options(IVON_CALIBRATION_ISOTONIC);
    const double *expected = fixture_events_validation;
    size_t count;
    assert_int_equal(
        ivon_calibration_validate(effects, &count, &options, FIXTURE_FOLDS, &data, NULL), 0);
    assert_int_equal(count, 4);
    const struct ivon_calibration_effect *accuracy = find(effects, count, "accuracy");
    const struct ivon_calibration_effect *brier = find(effects, count, "brier");
    check("accuracy", accuracy->after.value, expected[0], tolerance);
    check("brier", brier->after.value, expected[1], 1e-7); /* of floats */
    check("its error", brier->after.standard_error, expected[2], 1e-7);
    check("accuracy before", accuracy->before.value, expected[3], tolerance);
    check("brier before", brier->before.value, expected[4], tolerance);
}

static void test_validation_of_intervals(void **state)
{
    (void)state;
    struct ivon_calibration_effect effects[IVON_CALIBRATION_EFFECTS_MAX];
    struct ivon_calibration_data data = number_data();
    struct ivon_calibrate_options options = options_of(IVON_CALIBRATION_NONE,
                                                       IVON_CONFORMAL_NORMALISED);
    const double *expected = fixture_intervals;
    size_t count;
    assert_int_equal(
        ivon_calibration_validate(effects, &count, &options, FIXTURE_FOLDS, &data, NULL), 0);
    assert_int_equal(count, 2);
    check("coverage", effects[0].after.value, expected[0], tolerance);
    check("its error", effects[0].after.standard_error, expected[1], tolerance);
    check("width", effects[1].after.value, expected[2], 8 * rounding);
    check("its error", effects[1].after.standard_error, expected[3], 8 * rounding);
    check("coverage before", effects[0].before.value, expected[4], tolerance);
    check("width before", effects[1].before.value, expected[5], tolerance);
}

/* All rows are of examples of five: what one example has is fitted to, or judged, together, and is
   one observation of the errors. */
static void test_tokens(void **state)
{
    (void)state;
    struct ivon_calibration_effect single[IVON_CALIBRATION_EFFECTS_MAX];
    struct ivon_calibration_effect effects[IVON_CALIBRATION_EFFECTS_MAX];
    struct ivon_calibration_data data = class_data();
    struct ivon_calibrate_options options = options_of(IVON_CALIBRATION_NONE, IVON_CONFORMAL_APS);
    static float same[FIXTURE_ROWS * FIXTURE_CLASSES];
    static int64_t labels[FIXTURE_ROWS];
    size_t count, one = 0;
    options.coverage = 0.8;
    for (size_t i = 0; i < FIXTURE_ROWS; i++) {
        memcpy(same + i * FIXTURE_CLASSES, fixture_probabilities + i / 5 * FIXTURE_CLASSES,
               FIXTURE_CLASSES * sizeof *same);
        labels[i] = fixture_labels[i / 5];
    }
    data.probabilities = same;
    data.labels = labels;
    assert_int_equal(ivon_calibration_validate(single, &one, &options, 3, &data, NULL), 0);
    data.tokens = 5;
    assert_int_equal(ivon_calibration_validate(effects, &count, &options, 3, &data, NULL), 0);
    double few = find(effects, count, "set_size")->before.standard_error;
    double many = find(single, one, "set_size")->before.standard_error;
    assert_true(few > 1.5 * many && few < sqrt(5) * 1.2 * many);
    /* Halves are of whole examples. */
    struct ivon_calibration *calibration = NULL;
    options.method = IVON_CALIBRATION_TEMPERATURE;
    for (options.seed = 1; options.seed < 5; options.seed++) {
        assert_int_equal(ivon_calibration_fit(&calibration, &options, &data, NULL), 0);
        assert_int_equal(ivon_calibration_summary(calibration).fitted % 5, 0);
        ivon_calibration_free(calibration);
    }
}

/* What is written is what is read, to the last bit. */
static void test_text(void **state)
{
    (void)state;
    const struct {
        enum ivon_calibration_method method;
        enum ivon_conformal conformal;
    } cases[] = {{IVON_CALIBRATION_TEMPERATURE, IVON_CONFORMAL_THR},
                 {IVON_CALIBRATION_VECTOR, IVON_CONFORMAL_RAPS},
                 {IVON_CALIBRATION_ISOTONIC, IVON_CONFORMAL_APS},
                 {IVON_CALIBRATION_NONE, IVON_CONFORMAL_NORMALISED}};
    for (size_t i = 0; i < 4; i++) {
        struct ivon_calibration *calibration = fit(cases[i].method, cases[i].conformal);
        struct ivon_calibration *read = NULL;
        char *text = NULL, *again = NULL;
        struct ivon_error error = {0};
        assert_int_equal(ivon_calibration_print(calibration, &text, NULL), 0);
        if (ivon_calibration_parse(&read, "text", text, strlen(text), &error))
            fail_msg("%s", error.message);
        assert_int_equal(ivon_calibration_print(read, &again, NULL), 0);
        assert_string_equal(text, again);
        /* Every text that is cut off is refused. */
        for (size_t size = 0; size < strlen(text); size++) {
            struct ivon_calibration *cut = NULL;
            assert_int_equal(ivon_calibration_parse(&cut, "text", text, size, NULL),
                             IVON_ERROR_DATA);
        }
        free(text);
        free(again);
        ivon_calibration_free(calibration);
        ivon_calibration_free(read);
    }
}

static void test_damaged_text(void **state)
{
    (void)state;
    static const char begin[] = "{\"format\": \"ivon-calibration\", \"format_version\": ";
    static const char *const rest[] = {
        "2, \"likelihood\": \"categorical\"}",
        "1, \"likelihood\": \"bernoulli\", \"outputs\": 2, \"method\": \"none\", \"rows\": 1}",
        "1, \"likelihood\": \"bernoulli\", \"outputs\": 1, \"method\": \"temperature\", "
        "\"temperature\": 1, \"rows\": 1, \"conformal\": {\"score\": \"thr\", \"coverage\": 0.9, "
        "\"seed\": \"0\", \"rows\": 1, \"tie\": 1, \"quantiles\": [1]}}",
        "1, \"likelihood\": \"bernoulli\", \"outputs\": 2, \"method\": \"vector\", \"rows\": 1, "
        "\"weights\": [1, 1], \"biases\": [0, 0]}",
        "1, \"likelihood\": \"categorical\", \"outputs\": 0, \"method\": \"none\", \"rows\": 1}",
        "1, \"likelihood\": \"categorical\", \"outputs\": 2, \"method\": \"none\", \"rows\": 1}",
        "1, \"likelihood\": \"categorical\", \"outputs\": 2, \"method\": \"temperature\", "
        "\"rows\": 1, \"temperature\": 0}",
        "1, \"likelihood\": \"categorical\", \"outputs\": 2, \"method\": \"vector\", \"rows\": 1, "
        "\"weights\": [1], \"biases\": [0, 0]}",
        "1, \"likelihood\": \"categorical\", \"outputs\": 1, \"method\": \"isotonic\", \"rows\": "
        "1, \"isotonic\": [{\"x\": [0.5, 0.5], \"y\": [0.5, 0.5]}]}",
        "1, \"likelihood\": \"categorical\", \"outputs\": 1, \"method\": \"isotonic\", \"rows\": "
        "1, \"isotonic\": [{\"x\": [0.5, 0.6], \"y\": [0.5, 0.4]}]}",
        "1, \"likelihood\": \"categorical\", \"outputs\": 1, \"method\": \"isotonic\", \"rows\": "
        "1, \"isotonic\": [{\"x\": [], \"y\": []}]}",
        "1, \"likelihood\": \"gaussian\", \"outputs\": 1, \"method\": \"none\", \"rows\": 1, "
        "\"conformal\": {\"score\": \"aps\", \"coverage\": 0.9, \"seed\": \"0\", \"rows\": 1, "
        "\"quantiles\": [1]}}",
        "1, \"likelihood\": \"gaussian\", \"outputs\": 1, \"method\": \"temperature\", "
        "\"temperature\": 1, \"rows\": 1}",
        "1, \"likelihood\": \"gaussian\", \"outputs\": 1, \"method\": \"none\", \"rows\": 1, "
        "\"conformal\": {\"score\": \"absolute\", \"coverage\": 0.9, \"seed\": "
        "\"18446744073709551616\", \"rows\": 1, \"quantiles\": [1]}}",
        "1, \"likelihood\": \"gaussian\", \"outputs\": 2, \"method\": \"none\", \"rows\": 1, "
        "\"conformal\": {\"score\": \"absolute\", \"coverage\": 0.9, \"seed\": \"0\", \"rows\": "
        "1, \"quantiles\": [1]}}",
        "1, \"format\": \"ivon-calibration\"}",
    };
    char text[1024];
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        struct ivon_calibration *calibration = NULL;
        struct ivon_error error = {0};
        snprintf(text, sizeof text, "%s%s", begin, rest[i]);
        int code = ivon_calibration_parse(&calibration, "c.json", text, strlen(text), &error);
        if (code != IVON_ERROR_DATA || strncmp(error.message, "c.json: ", 8) != 0)
            fail_msg("text %zu: %d '%s'", i, code, error.message);
    }
}

static void refuse(const struct ivon_calibrate_options *options,
                   const struct ivon_calibration_data *data, int expected, const char *message)
{
    struct ivon_calibration *calibration = NULL;
    struct ivon_error error = {0};
    assert_int_equal(ivon_calibration_fit(&calibration, options, data, &error), expected);
    if (!strstr(error.message, message))
        fail_msg("'%s', expected '%s'", error.message, message);
}

static void test_refusals(void **state)
{
    (void)state;
    struct ivon_calibrate_options options = options_of(IVON_CALIBRATION_NONE, IVON_CONFORMAL_NONE);
    struct ivon_calibration_data data = class_data(), none = {0}, lost = number_data();
    struct ivon_calibration_effect effects[IVON_CALIBRATION_EFFECTS_MAX];
    int64_t labels[FIXTURE_ROWS];
    size_t count;
    refuse(&options, &data, IVON_ERROR_ARGUMENT, "neither");
    options = options_of(IVON_CALIBRATION_NONE, IVON_CONFORMAL_THR);
    refuse(&options, &none, IVON_ERROR_DATA, "no rows");
    assert_int_equal(ivon_calibration_validate(effects, &count, &options, 1, &data, NULL),
                     IVON_ERROR_ARGUMENT);
    data.labels = NULL;
    refuse(&options, &data, IVON_ERROR_ARGUMENT, "missing");
    memcpy(labels, fixture_labels, sizeof labels);
    labels[7] = FIXTURE_CLASSES;
    data.labels = labels;
    refuse(&options, &data, IVON_ERROR_DATA, "row 7 has class 4, expected 0 to 3");
    options.coverage = 1;
    refuse(&options, &data, IVON_ERROR_ARGUMENT, "a coverage of 1");
    options = options_of(IVON_CALIBRATION_NONE, IVON_CONFORMAL_RAPS);
    options.penalty = -1;
    refuse(&options, &data, IVON_ERROR_ARGUMENT, "a penalty of -1");
    options = options_of(IVON_CALIBRATION_NONE, IVON_CONFORMAL_ABSOLUTE);
    options.likelihood = IVON_CATEGORICAL;
    refuse(&options, &data, IVON_ERROR_ARGUMENT, "of regression");
    options.likelihood = (enum ivon_likelihood)99;
    refuse(&options, &data, IVON_ERROR_ARGUMENT, "no such likelihood");
    options = options_of(IVON_CALIBRATION_NONE, IVON_CONFORMAL_THR);
    options.likelihood = IVON_BERNOULLI;
    refuse(&options, &data, IVON_ERROR_ARGUMENT, "conformal sets are of classes");
    options = event_options(IVON_CALIBRATION_ISOTONIC);
    data = event_data();
    int64_t happened[FIXTURE_ROWS * FIXTURE_EVENTS] = {0};
    happened[3 * FIXTURE_EVENTS + 1] = 2;
    data.labels = happened;
    refuse(&options, &data, IVON_ERROR_DATA, "row 3 has event 2, expected 0 or 1");
    options = options_of(IVON_CALIBRATION_NONE, IVON_CONFORMAL_NORMALISED);
    float values[FIXTURE_ROWS * FIXTURE_OUTPUTS];
    memcpy(values, fixture_deviations, sizeof values);
    values[9 * FIXTURE_OUTPUTS + 1] = 0;
    lost.deviations = values;
    refuse(&options, &lost, IVON_ERROR_DATA, "row 9 has the standard deviation 0");
    lost.means = values;
    values[9 * FIXTURE_OUTPUTS] = NAN;
    refuse(&options, &lost, IVON_ERROR_DATA, "row 9 has the mean nan");
    lost = number_data();
    lost.deviations = NULL;
    refuse(&options, &lost, IVON_ERROR_ARGUMENT, "standard deviations");
    options.method = IVON_CALIBRATION_ISOTONIC;
    refuse(&options, &lost, IVON_ERROR_ARGUMENT, "a regression has none");
}

/* Each is asked for what it does not make. */
static void test_other_results(void **state)
{
    (void)state;
    struct ivon_calibration *classes = fit(IVON_CALIBRATION_TEMPERATURE, IVON_CONFORMAL_NONE);
    struct ivon_calibration *regression = fit(IVON_CALIBRATION_NONE, IVON_CONFORMAL_NORMALISED);
    static const float bad[FIXTURE_CLASSES] = {2};
    float lower[FIXTURE_CLASSES], upper[FIXTURE_CLASSES];
    int64_t set[FIXTURE_CLASSES], size;
    assert_int_equal(ivon_calibration_sets(classes, 0, 1, fixture_new, set, &size, NULL),
                     IVON_ERROR_ARGUMENT);
    assert_int_equal(
        ivon_calibration_intervals(classes, 0, 1, fixture_new, NULL, lower, upper, NULL),
        IVON_ERROR_ARGUMENT);
    assert_int_equal(
        ivon_calibration_intervals(regression, 0, 1, fixture_means, NULL, lower, upper, NULL),
        IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_calibration_apply(classes, 0, 1, bad, lower, NULL), IVON_ERROR_DATA);
    ivon_calibration_free(classes);
    ivon_calibration_free(regression);
    ivon_calibration_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_temperature_bounds),
        cmocka_unit_test(test_certainty),
        cmocka_unit_test(test_vector),
        cmocka_unit_test(test_isotonic),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_pools),
        cmocka_unit_test(test_large_biases),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_too_few),
        cmocka_unit_test(test_intervals),
        cmocka_unit_test(test_validation),
        cmocka_unit_test(test_validation_of_events),
        cmocka_unit_test(test_validation_of_intervals),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_damaged_text),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_other_results),
    };
    return cmocka_run_group_tests(tests, number_rows, NULL);
}
