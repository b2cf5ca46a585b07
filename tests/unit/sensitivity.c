/* Removing examples, one by one: every number against its definition, whatever the batch, the
   threads and the blocks. */
#include "sensitivity_dense.h"

static struct collected found, other;
static struct reference expected;

static void all_numbers(void **state)
{
    (void)state;
    static const size_t batches[] = {1, 4, 0};
    for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_HETEROSCEDASTIC; likelihood++)
        for (int form = 0; form < 4; form++) {
            struct problem problem;
            problem_begin(&problem, (enum ivon_likelihood)likelihood, form & 1,
                          form & 2 ? HIDDEN : 0);
            for (int full = 0; full < 2; full++)
                for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
                    struct ivon_sensitivity_options options = options_of(&problem);
                    options.covariance = full ? IVON_COVARIANCE_FULL : IVON_COVARIANCE_DIAGONAL;
                    options.covariances = b == 1;
                    options.batch = batches[b];
                    collect(&problem, &options, &found);
                    refer(&problem, problem.model.ess / counted(&problem), full, NULL, &expected);
                    compare_all(&problem, &found, &expected, options.covariances);
                    if (likelihood < IVON_GAUSSIAN)
                        check_errors(&problem, &found);
                }
            problem_end(&problem);
        }
}

static void targets_are_handed_out(void **state)
{
    (void)state;
    struct problem problem;
    problem_begin(&problem, IVON_BERNOULLI, true, 0);
    struct ivon_sensitivity_options options = options_of(&problem);
    collect(&problem, &options, &found);
    assert_memory_equal(found.labels, problem.labels, EXAMPLES * WIDTH * sizeof *found.labels);
    problem_end(&problem);
    problem_begin(&problem, IVON_GAUSSIAN, true, 0);
    options = options_of(&problem);
    collect(&problem, &options, &found);
    assert_memory_equal(found.targets, problem.numbers, EXAMPLES * WIDTH * sizeof *found.targets);
    problem_end(&problem);
    problem_begin(&problem, IVON_HETEROSCEDASTIC, true, 0);
    options = options_of(&problem);
    collect(&problem, &options, &found);
    assert_memory_equal(found.targets, problem.numbers,
                        EXAMPLES * WIDTH / 2 * sizeof *found.targets);
    problem_end(&problem);
}

/* ρ as given, or λ/N with N as given, the checkpoint's, or the number of examples. */
static void sizes_of_removals(void **state)
{
    (void)state;
    struct problem problem;
    problem_start(&problem, IVON_CATEGORICAL, false, HIDDEN, -1);
    problem.model.n_train = 60;
    model_node(&problem.model, "Identity", "rows", "x");
    problem_finish(&problem);
    static const struct {
        double rho;
        int64_t n_train;
        double expected, n;
    } cases[] = {{0.75, -1, 0.75, 60}, {NAN, 40, 0.5, 40}, {NAN, -1, 20.0 / 60, 60}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ivon_sensitivity_options options = options_of(&problem);
        options.rho = cases[i].rho;
        options.n_train = cases[i].n_train;
        struct ivon_sensitivity *sensitivity = make(&problem, &options);
        struct ivon_sensitivity_shape shape = ivon_sensitivity_shape(sensitivity);
        assert_true(shape.rho == cases[i].expected && shape.n_train == cases[i].n);
        assert_true(shape.tokens == 0 && shape.outputs == CLASSES && shape.examples == EXAMPLES);
        assert_int_equal(shape.fixed, 1); /* b1 has no Hessian */
        run_from(&problem, sensitivity, 0, &found);
        ivon_sensitivity_free(sensitivity);
        refer(&problem, cases[i].expected, true, NULL, &expected);
        compare_all(&problem, &found, &expected, false);
    }
    problem_end(&problem);
}

static bool is_selected(void *context, const char *name)
{
    return strcmp(context, name) == 0;
}

/* Parameters that are not selected are not moved. */
static void selected_parameters(void **state)
{
    (void)state;
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, true, HIDDEN);
    struct ivon_sensitivity_options options = options_of(&problem);
    options.sample.selected = is_selected;
    options.sample.selected_context = (void *)"w1";
    collect(&problem, &options, &found);
    memset(problem.variance + INPUTS * HIDDEN, 0,
           (PARAMETERS - INPUTS * HIDDEN) * sizeof *problem.variance);
    refer(&problem, problem.model.ess / counted(&problem), true, NULL, &expected);
    compare_all(&problem, &found, &expected, false);
    problem_end(&problem);
}

/* Where nothing that is selected leads to the output, nothing moves. */
static void nothing_moves(void **state)
{
    (void)state;
    struct problem problem;
    problem_start(&problem, IVON_CATEGORICAL, false, HIDDEN, -1);
    model_node(&problem.model, "Identity", "rows", "x");
    add_network(&problem);
    add_parameter(&problem, "unused", SHAPE(1), true);
    model_node(&problem.model, "Add", "z", "y", "unused");
    model_output(&problem.model, "z");
    model_bind(&problem.model);
    add_data(&problem);
    struct ivon_sensitivity_options options = options_of(&problem);
    options.sample.selected = is_selected;
    options.sample.selected_context = (void *)"unused";
    for (int covariances = 0; covariances < 2; covariances++) {
        options.covariances = covariances;
        collect(&problem, &options, &found);
        for (size_t i = 0; i < EXAMPLES; i++) {
            assert_true(found.deviation[i] == 0 && found.self_influence[i] == 0);
            assert_true(found.loo_loss[i] == found.loss[i] && found.loss[i] > 0);
            assert_true(found.covariance[i * CLASSES * CLASSES] == 0 && found.variance[i] == 0);
        }
    }
    problem_end(&problem);
}

/* With samples, residuals are of p averaged over networks with drawn weights, or where they are not
   linear in p themselves averages; p is the library's own
   to the rounding of averages. */
static void residuals_over_samples(void **state)
{
    (void)state;
    enum { SAMPLES = 5 };
    for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_HETEROSCEDASTIC; likelihood++) {
        struct problem problem;
        static double averages[EXAMPLES * WIDTH];
        problem_begin(&problem, (enum ivon_likelihood)likelihood, true, HIDDEN);
        struct ivon_sensitivity_options options = options_of(&problem);
        options.samples = SAMPLES;
        options.sample.seed = 7;
        options.batch = 4;
        collect(&problem, &options, &found);
        struct problem drawn = problem;
        float *const kept[] = {problem.w1, problem.b1, problem.w2, problem.b2};
        float *draws[4];
        memset(averages, 0, sizeof averages);
        for (uint64_t s = 0; s < SAMPLES; s++) {
            for (size_t p = 0; p < 4; p++) {
                size_t tensor = 0;
                while (problem.model.data[tensor] != kept[p])
                    tensor++;
                size_t count = problem.model.tensors[tensor].count;
                struct ivon_sample_options sample = options.sample;
                sample.temperature = p == 1 ? 0 : sample.temperature; /* b1 has no Hessian */
                draws[p] = model_allocate(count * sizeof(float));
                assert_int_equal(ivon_sample_draw(problem.model.source, tensor, &sample, s, 0,
                                                  count, draws[p], NULL),
                                 0);
            }
            drawn.w1 = draws[0];
            drawn.b1 = draws[1];
            drawn.w2 = draws[2];
            drawn.b2 = draws[3];
            for (size_t row = 0; row < EXAMPLES * TOKENS; row++) {
                static double jacobian[CLASSES][PARAMETERS];
                double f[CLASSES], p[CLASSES];
                differentiate(&drawn, problem.x + row * INPUTS, f, jacobian);
                probabilities(&drawn, f, p);
                if (likelihood == IVON_HETEROSCEDASTIC)
                    residual_of(&problem, row, f, p);
                for (size_t c = 0; c < CLASSES; c++)
                    averages[row * CLASSES + c] += p[c] / SAMPLES;
            }
            for (size_t p = 0; p < 4; p++)
                free(draws[p]);
        }
        refer(&problem, problem.model.ess / counted(&problem), true, averages, &expected);
        compare_all(&problem, &found, &expected, false);
        problem_end(&problem);
    }
}

/* A run that fails while it averages leaves no half of an average behind. */
static void averaging_that_fails(void **state)
{
    (void)state;
    struct problem problem;
    struct ivon_error error = {0};
    struct collector collector = {&problem, &other};
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    struct ivon_sensitivity_options options = options_of(&problem);
    options.samples = 3;
    collect(&problem, &options, &found);
    struct ivon_sensitivity *sensitivity = make(&problem, &options);
    problem.table.fails = true;
    assert_int_equal(ivon_sensitivity_run(sensitivity, 0, on_block, &collector, &error),
                     IVON_ERROR_IO);
    problem.table.fails = false;
    run_from(&problem, sensitivity, 0, &other);
    assert_memory_equal(&other, &found, sizeof found);
    ivon_sensitivity_free(sensitivity);
    problem_end(&problem);
}

/* Neither threads nor blocks change a bit, whatever is computed. */
static void same_bits(void **state)
{
    (void)state;
    for (int form = 0; form < 2; form++) {
        struct problem problem;
        problem_begin(&problem, IVON_CATEGORICAL, form, HIDDEN);
        struct ivon_sensitivity_options options = options_of(&problem);
        options.scores |= IVON_SCORE_BIT(IVON_SCORE_INFLUENCE);
        options.covariances = true;
        options.batch = 2;
        options.resources.threads = 1;
        collect(&problem, &options, &found);
        assert_int_equal(found.blocks, 4); /* 2, 4, 8 examples, and the 9 that are left */
        size_t least = least_memory(&problem, options);
        for (options.resources.threads = 1; options.resources.threads <= 3;
             options.resources.threads++)
            for (options.resources.memory = least; options.resources.memory <= 64 * least;
                 options.resources.memory *= 4) {
                collect(&problem, &options, &other);
                if (options.resources.memory == least &&
                    problem.token_axis) /* larger than their plans */
                    assert_true(other.blocks > 1);
                other.blocks = found.blocks;
                assert_memory_equal(&other, &found, sizeof found);
            }
        problem_end(&problem);
    }
}

/* Goes on where it left off: the same bits from a tile's beginning, and to rounding anywhere. */
static void goes_on(void **state)
{
    (void)state;
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, true, HIDDEN);
    struct ivon_sensitivity_options options = options_of(&problem);
    options.batch = 4;
    struct ivon_sensitivity *sensitivity = make(&problem, &options);
    run_from(&problem, sensitivity, 0, &found);
    refer(&problem, problem.model.ess / counted(&problem), true, NULL, &expected);
    static const uint64_t firsts[] = {4, 8, 20, 5, 22, 0};
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
        uint64_t first = firsts[i];
        size_t left = EXAMPLES - first;
        run_from(&problem, sensitivity, first, &other);
        if (first % 4 == 0) {
            assert_memory_equal(other.loo_loss + first, found.loo_loss + first,
                                left * sizeof *other.loo_loss);
            assert_memory_equal(other.deviation_vector + first * WIDTH,
                                found.deviation_vector + first * WIDTH,
                                left * WIDTH * sizeof *other.deviation_vector);
        }
        compare("loo loss", other.loo_loss + first, expected.loo_loss + first, left);
        compare("mpe", other.mpe + first, expected.mpe + first, left);
    }
    struct collector collector = {&problem, &other};
    assert_int_equal(ivon_sensitivity_run(sensitivity, EXAMPLES, on_block, &collector, NULL), 0);
    ivon_sensitivity_free(sensitivity);
    problem_end(&problem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_numbers),
        cmocka_unit_test(targets_are_handed_out),
        cmocka_unit_test(sizes_of_removals),
        cmocka_unit_test(selected_parameters),
        cmocka_unit_test(nothing_moves),
        cmocka_unit_test(residuals_over_samples),
        cmocka_unit_test(averaging_that_fails),
        cmocka_unit_test(same_bits),
        cmocka_unit_test(goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
