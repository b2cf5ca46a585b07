/* The covariance of a posterior against its definition, element by element. */
#include "bayes/covariance.h"

#include "ivon/sample.h"
#include "sensitivity_problem.h"

enum { PARTS = 4 };

static const char *const NAMES[PARTS] = {"w1", "b1", "w2", "b2"};
static const size_t SIZES[PARTS] = {INPUTS * HIDDEN, HIDDEN, HIDDEN *CLASSES, CLASSES};

static bool all_but_w2(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "w2") != 0;
}

/* The number of the network's parameter that has this name. */
static size_t parameter_named(const struct problem *problem, const char *name)
{
    const struct ivon_network *network = problem->model.network;
    for (size_t p = 0; p < network->parameter_count; p++) {
        size_t tensor = network->parameters[p];
        if (strcmp(ivon_source_tensor(problem->model.source, tensor)->name, name) == 0)
            return p;
    }
    fail_msg("no parameter is called %s", name);
    return 0;
}

static struct covariance *covariance_of(const struct problem *problem,
                                        const struct ivon_sample_options *options)
{
    struct covariance *covariance = NULL;
    struct ivon_error error = {0};
    assert_int_equal(
        covariance_new(&covariance, problem->model.network, problem->model.source, options, &error),
        0);
    return covariance;
}

/* σ² is rounded to binary32 when it is loaded, ε = 2⁻²⁴ relative: log σ² by as much, absolute. The
   product is rounded once more. */
static const double EPSILON = 1.0 / (1 << 24);

static void check_product(const struct problem *problem, const struct covariance *covariance,
                          double rho, bool without_w2)
{
    struct weights product;
    struct ivon_error error = {0};
    double expected_log = 0;
    size_t random = 0, variance = 0;
    assert_int_equal(weights_init(&product, problem->model.network, &error), 0);
    double *x = calloc(product.size / sizeof(float), sizeof *x);
    for (size_t i = 0; i < product.size / sizeof(float); i++)
        x[i] = (double)(i % 13) - 6.5;
    assert_int_equal(covariance_apply(covariance, x, &product, &error), 0);
    for (size_t part = 0; part < PARTS; part++) {
        bool still = part == 1 || (part == 2 && without_w2);
        const float *found = product.arrays[parameter_named(problem, NAMES[part])];
        for (size_t i = 0; i < SIZES[part]; i++) {
            double sigma = still ? 0 : rho * problem->variance[variance + i];
            double expected = sigma * x[(size_t)(found + i - product.data)];
            assert_true(fabs((double)found[i] - expected) <= 2.01 * EPSILON * fabs(expected));
            expected_log += still ? 0 : log(sigma);
            random += !still;
        }
        variance += SIZES[part];
    }
    double found_log = covariance_log_determinant(covariance);
    assert_true(fabs(found_log - expected_log) <= 2 * EPSILON * (double)random);
    assert_true(covariance_memory(covariance) >= problem->parameters * sizeof(float));
    free(x);
    weights_release(&product);
}

static void product_and_determinant_are_those_of_the_diagonal(void **state)
{
    (void)state;
    struct problem problem;
    struct ivon_error error = {0};
    struct ivon_sample_options options = ivon_sample_defaults();
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    for (int filtered = 0; filtered < 2; filtered++) {
        options.selected = filtered ? all_but_w2 : NULL;
        struct covariance *covariance = covariance_of(&problem, &options);
        const struct covariance_scale given = {.rho = 0.75, .n_train = 50};
        const struct covariance_scale by_n = {.rho = NAN, .n_train = 50};
        assert_int_equal(covariance_load(covariance, &given, 2, &error), 0);
        check_product(&problem, covariance, 0.75, filtered);
        assert_int_equal(covariance_load(covariance, &by_n, 1, &error), 0);
        check_product(&problem, covariance, problem.model.ess / 50, filtered);
        covariance_free(covariance);
    }
    problem_end(&problem);
}

/* Bits are those of a draw from the checkpoint; what is not random stays at its mean. */
static void draws_are_those_of_the_checkpoint(void **state)
{
    (void)state;
    struct problem problem;
    struct weights weights;
    struct ivon_error error = {0};
    struct ivon_sample_options options = ivon_sample_defaults(), filtered;
    float expected[INPUTS * HIDDEN];
    options.seed = 3;
    options.temperature = 0.5;
    filtered = options;
    filtered.selected = all_but_w2;
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    assert_int_equal(weights_init(&weights, problem.model.network, &error), 0);
    struct covariance *covariance = covariance_of(&problem, &filtered);
    for (uint64_t sample = 0; sample < 3; sample++) {
        assert_int_equal(covariance_draw(covariance, &weights, &options, sample, 2, &error), 0);
        for (size_t part = 0; part < PARTS; part++) {
            size_t p = parameter_named(&problem, NAMES[part]);
            struct ivon_sample_options own = options;
            own.temperature = part == 1 || part == 2 ? 0 : 0.5;
            assert_int_equal(ivon_sample_draw(problem.model.source,
                                              problem.model.network->parameters[p], &own, sample, 0,
                                              SIZES[part], expected, &error),
                             0);
            assert_memory_equal(weights.arrays[p], expected, SIZES[part] * sizeof(float));
        }
    }
    covariance_free(covariance);
    weights_release(&weights);
    problem_end(&problem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_and_determinant_are_those_of_the_diagonal),
        cmocka_unit_test(draws_are_those_of_the_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
