/* Removing examples: what does not fit, what is refused, and that nothing is left of it. */
#include <float.h>

#include "sensitivity_problem.h"

static struct collected found, other;

/* Tiles. */

/* A network for one example at a time, and one whose examples lie apart for two and no more. */
static void single_examples(void **state)
{
    (void)state;
    static const int64_t zero[] = {0}, two[] = {2};
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    struct ivon_sensitivity_options options = options_of(&problem);
    options.batch = 1;
    collect(&problem, &options, &found);
    problem_end(&problem);

    problem_start(&problem, IVON_CATEGORICAL, false, HIDDEN, 1);
    model_node(&problem.model, "Identity", "rows", "x");
    problem_finish(&problem);
    for (options.batch = 0; options.batch <= 4; options.batch += 4) {
        collect(&problem, &options, &other);
        other.blocks = found.blocks;
        assert_memory_equal(&other, &found, sizeof found);
    }
    problem_end(&problem);

    problem_start(&problem, IVON_CATEGORICAL, false, HIDDEN, -1);
    model_integers(&problem.model, "from", 1, zero);
    model_integers(&problem.model, "to", 1, two);
    model_integers(&problem.model, "axes", 1, zero);
    model_node(&problem.model, "Slice", "rows", "x", "from", "to", "axes");
    problem_finish(&problem);
    for (options.batch = 0; options.batch <= 4; options.batch += 4) {
        collect(&problem, &options, &other);
        other.blocks = found.blocks;
        assert_memory_equal(&other, &found, sizeof found);
    }
    problem_end(&problem);
}

/* With memory for one example there is one at a time; more cannot be asked for. */
static void little_memory(void **state)
{
    (void)state;
    struct problem problem;
    struct ivon_sensitivity *sensitivity = NULL;
    struct ivon_error error = {0};
    problem_begin(&problem, IVON_CATEGORICAL, true, HIDDEN);
    struct ivon_sensitivity_options options = options_of(&problem);
    options.batch = 1;
    collect(&problem, &options, &found);
    options.resources.memory = least_memory(&problem, options);
    options.batch = 0;
    options.resources.threads = 3; /* as many as memory holds */
    collect(&problem, &options, &other);
    other.blocks = found.blocks;
    assert_memory_equal(&other, &found, sizeof found);
    options.batch = 4;
    assert_int_equal(ivon_sensitivity_new(&sensitivity, problem.model.network, problem.model.source,
                                          problem.examples, "y", &options, &error),
                     IVON_ERROR_MEMORY);
    assert_non_null(strstr(error.message, "4 examples take"));
    problem_end(&problem);
}

/* Errors. */

static void refuse(struct problem *problem, const struct ivon_sensitivity_options *options,
                   struct ivon_examples *examples, const char *targets, int code,
                   const char *message)
{
    struct ivon_sensitivity *sensitivity = NULL;
    struct ivon_error error = {0};
    assert_int_equal(ivon_sensitivity_new(&sensitivity, problem->model.network,
                                          problem->model.source, examples, targets, options,
                                          &error),
                     code);
    assert_null(sensitivity);
    if (!strstr(error.message, message))
        fail_msg("'%s', expected '%s'", error.message, message);
}

static void refusals(void **state)
{
    (void)state;
    struct problem problem;
    struct table table;
    int64_t shape[] = {INPUTS}, two[] = {2};
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    struct ivon_sensitivity_options fine = options_of(&problem), options = fine;
    struct ivon_examples *bare = open_table(&table, EXAMPLES, 1, shape, problem.x, IVON_I64, 0,
                                            NULL, NULL);
    refuse(&problem, &fine, bare, NULL, IVON_ERROR_DATA, "data: has no targets");
    refuse(&problem, &fine, bare, "y", IVON_ERROR_DATA, "data: has no targets");
    ivon_examples_close(bare);
    struct ivon_examples *empty = open_table(&table, 0, 1, shape, problem.x, IVON_I64, 0, NULL,
                                             problem.labels);
    refuse(&problem, &fine, empty, "y", IVON_ERROR_DATA, "data: has no examples");
    ivon_examples_close(empty);
    struct ivon_examples *wide = open_table(&table, 5, 1, shape, problem.x, IVON_I64, 1, two,
                                            problem.labels);
    refuse(&problem, &fine, wide, "y", IVON_ERROR_DATA,
           "data: 'y' has 2 numbers for each example, expected 1");
    ivon_examples_close(wide);
    static const double bad[] = {0, -1, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        options = fine;
        options.rho = bad[i];
        refuse(&problem, &options, problem.examples, "y", IVON_ERROR_ARGUMENT,
               "expected a positive number");
    }
    for (size_t i = 0; i < 2; i++) {
        options = fine;
        options.task.likelihood = IVON_GAUSSIAN;
        options.task.noise_std = i ? -1 : NAN;
        refuse(&problem, &options, problem.examples, "y", IVON_ERROR_ARGUMENT,
               "needs the standard deviation of the noise");
    }
    options = fine;
    options.scores = IVON_SCORE_BIT(IVON_SCORE_INFLUENCE);
    struct ivon_sensitivity *sensitivity = make(&problem, &options);
    struct ivon_error error = {0};
    assert_int_equal(ivon_sensitivity_run(sensitivity, 0, on_block, NULL, &error),
                     IVON_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "test examples, which were not given"));
    ivon_sensitivity_free(sensitivity);
    ivon_sensitivity_free(NULL);
    problem_end(&problem);
}

static void no_hessian(void **state)
{
    (void)state;
    struct problem problem;
    problem_start(&problem, IVON_CATEGORICAL, false, 0, -1);
    model_node(&problem.model, "Identity", "rows", "x");
    add_parameter(&problem, "w2", SHAPE(INPUTS, CLASSES), false);
    model_node(&problem.model, "MatMul", "y", "rows", "w2");
    model_output(&problem.model, "y");
    model_bind(&problem.model);
    add_data(&problem);
    struct ivon_sensitivity_options options = options_of(&problem);
    refuse(&problem, &options, problem.examples, "y", IVON_ERROR_DATA, "posterior: ");
    problem_end(&problem);
}

static void fixed_batch(void **state)
{
    (void)state;
    struct problem problem;
    problem_start(&problem, IVON_CATEGORICAL, false, HIDDEN, 4);
    model_node(&problem.model, "Identity", "rows", "x");
    problem_finish(&problem);
    struct ivon_sensitivity_options options = options_of(&problem);
    refuse(&problem, &options, problem.examples, "y", IVON_ERROR_DATA,
           "model: takes exactly 4 examples at a time, which cannot be told apart");
    problem_end(&problem);
}

static void expect_row(struct problem *problem, struct ivon_sensitivity *sensitivity,
                       const char *message)
{
    struct ivon_error error = {0};
    struct ivon_group_removal *removals = NULL;
    struct collector collector = {problem, &other};
    const int64_t groups[EXAMPLES] = {0};
    size_t count = 0;
    memset(&other, 0, sizeof other);
    assert_int_equal(ivon_sensitivity_run(sensitivity, 0, on_block, &collector, &error),
                     IVON_ERROR_DATA);
    if (strncmp(error.message, message, strlen(message)) != 0)
        fail_msg("'%s', expected '%s'", error.message, message);
    assert_int_equal(ivon_sensitivity_set_test_data(sensitivity, problem->examples, "y", NULL),
                     IVON_ERROR_DATA);
    assert_int_equal(ivon_sensitivity_groups(sensitivity, groups, &removals, &count, NULL),
                     IVON_ERROR_DATA);
    assert_null(removals);
}

/* Numbers that cannot be used are found with their row, in whatever block and thread; afterwards
   all is as before. */
static void bad_rows(void **state)
{
    (void)state;
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    struct ivon_sensitivity_options options = options_of(&problem);
    options.batch = 4;
    options.resources.threads = 2;
    struct ivon_sensitivity *sensitivity = make(&problem, &options);
    run_from(&problem, sensitivity, 0, &found);
    int64_t label = problem.labels[17];
    problem.labels[17] = CLASSES;
    expect_row(&problem, sensitivity, "data: row 17: target 4, expected a class from 0 to 3");
    problem.labels[17] = -1;
    expect_row(&problem, sensitivity, "data: row 17: target -1, expected a class from 0 to 3");
    problem.labels[17] = label;
    float x = problem.x[7 * INPUTS + 2];
    problem.x[7 * INPUTS + 2] = NAN;
    expect_row(&problem, sensitivity, "data: 'x': row 7 holds nan, expected a finite number");
    problem.x[7 * INPUTS + 2] = x;
    run_from(&problem, sensitivity, 0, &other);
    assert_memory_equal(&other, &found, sizeof found);
    ivon_sensitivity_free(sensitivity);
    problem_end(&problem);

    problem_begin(&problem, IVON_GAUSSIAN, true, HIDDEN); /* the example, not its token */
    options = options_of(&problem);
    sensitivity = make(&problem, &options);
    /* Of hidden units that are 0 but for one example, where they are 1, the sum overflows. */
    memset(problem.x, 0, sizeof problem.x);
    problem.x[(9 * TOKENS + 2) * INPUTS] = 1000;
    for (size_t i = 0; i < HIDDEN; i++) {
        problem.w1[i] = 1;
        problem.b1[i] = 0;
    }
    for (size_t i = 0; i < HIDDEN * CLASSES; i++)
        problem.w2[i] = FLT_MAX;
    ivon_sensitivity_free(sensitivity);
    sensitivity = make(&problem, &options);
    expect_row(&problem, sensitivity, "data: row 9: the network's output is not a finite number");
    ivon_sensitivity_free(sensitivity);
    problem_end(&problem);
}

/* Test examples of another length than those whose plans they would be run by. */
static void other_shapes(void **state)
{
    (void)state;
    enum { LONGER = 5 };
    struct problem problem;
    struct table table, longer_table;
    static float x[EXAMPLES * LONGER * INPUTS];
    int64_t shape[] = {TOKENS, INPUTS}, longer_shape[] = {LONGER, INPUTS}, axes[] = {1};
    int64_t extents[] = {-1, -1, INPUTS};
    struct ivon_error error = {0};
    problem = (struct problem){.likelihood = IVON_CATEGORICAL, .tokens = 1, .hidden = HIDDEN};
    model_begin(&problem.model);
    model_input(&problem.model, "x", NET_FLOAT, 3, extents);
    model_ints(&problem.model, "axes", 1, axes);
    model_int(&problem.model, "keepdims", 0);
    model_node(&problem.model, "ReduceMean", "rows", "x");
    problem_finish(&problem);
    ivon_examples_close(problem.examples);
    problem.examples = open_table(&table, EXAMPLES, 2, shape, x, IVON_I64, 0, NULL, problem.labels);
    struct ivon_examples *longer = open_table(&longer_table, EXAMPLES, 2, longer_shape, x, IVON_I64,
                                              0, NULL, problem.labels);
    struct ivon_sensitivity_options options = options_of(&problem);
    struct ivon_sensitivity *sensitivity = make(&problem, &options);
    assert_int_equal(ivon_sensitivity_set_test_data(sensitivity, longer, "y", &error),
                     IVON_ERROR_DATA);
    assert_string_equal(error.message, "data: an example for input 'x' has shape 1x5x5, data has "
                                       "1x3x5");
    assert_int_equal(ivon_sensitivity_set_test_data(sensitivity, problem.examples, "y", &error), 0);
    ivon_sensitivity_free(sensitivity);
    ivon_examples_close(longer);
    problem_end(&problem);
}

static int stop(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    assert_true(done <= total);
    return 1;
}

static int take_nothing(void *context, const struct ivon_sensitivities *block,
                        struct ivon_error *error)
{
    (void)context;
    (void)block;
    (void)error;
    return 42;
}

static void stops(void **state)
{
    (void)state;
    struct problem problem;
    struct ivon_group_removal *removals = NULL;
    size_t count = 0;
    const int64_t groups[EXAMPLES] = {0, 1};
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    struct ivon_sensitivity_options options = options_of(&problem);
    struct ivon_sensitivity *sensitivity = make(&problem, &options);
    assert_int_equal(ivon_sensitivity_run(sensitivity, 0, take_nothing, NULL, NULL), 42);
    ivon_sensitivity_free(sensitivity);
    options.resources.progress.report = stop;
    sensitivity = make(&problem, &options);
    assert_int_equal(ivon_sensitivity_run(sensitivity, 0, take_nothing, NULL, NULL),
                     IVON_ERROR_CANCELLED);
    assert_int_equal(ivon_sensitivity_groups(sensitivity, groups, &removals, &count, NULL),
                     IVON_ERROR_CANCELLED);
    ivon_sensitivity_free(sensitivity);
    problem_end(&problem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_examples), cmocka_unit_test(little_memory),
        cmocka_unit_test(refusals),        cmocka_unit_test(no_hessian),
        cmocka_unit_test(fixed_batch),     cmocka_unit_test(bad_rows),
        cmocka_unit_test(other_shapes),    cmocka_unit_test(stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
