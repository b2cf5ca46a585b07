/* What is summed over many examples: their influence on others, and the removal of groups. */
#include "sensitivity_dense.h"

static struct collected found;
static struct reference expected;

/* ρ gᵀ Σ Σ_t g_t of each example, the test examples being all of them, and then others. */
static void influence(void **state)
{
    (void)state;
    enum { TESTS = 6 };
    for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_HETEROSCEDASTIC; likelihood++) {
        struct problem problem;
        problem_begin(&problem, (enum ivon_likelihood)likelihood, true, HIDDEN);
        struct ivon_sensitivity_options options = options_of(&problem);
        options.scores = IVON_SCORE_BIT(IVON_SCORE_INFLUENCE);
        options.batch = 4;
        struct ivon_sensitivity *sensitivity = make(&problem, &options);
        refer(&problem, problem.model.ess / counted(&problem), true, NULL, &expected);
        bool classes = likelihood == IVON_CATEGORICAL, numbers = likelihood >= IVON_GAUSSIAN;
        struct table table;
        int64_t shape[] = {TOKENS, INPUTS},
                each = (int64_t)ivon_likelihood_targets(problem.likelihood, CLASSES);
        int64_t wide[] = {TOKENS, each};
        size_t at = 11 * TOKENS * (size_t)each;
        struct ivon_examples *tests = open_table(
            &table, TESTS, 2, shape, problem.x + 11 * TOKENS * INPUTS,
            numbers ? IVON_F32 : IVON_I64, classes ? 1 : 2, wide,
            numbers ? (void *)(problem.numbers + at) : (void *)(problem.labels + at));
        for (int own = 1; own >= 0; own--) {
            double influences[EXAMPLES] = {0};
            assert_int_equal(ivon_sensitivity_set_test_data(
                                 sensitivity, own ? problem.examples : tests, "y", NULL),
                             0);
            run_from(&problem, sensitivity, 0, &found);
            for (size_t i = 0; i < EXAMPLES; i++)
                for (size_t t = own ? 0 : 11; t < (own ? EXAMPLES : 11 + TESTS); t++)
                    for (size_t p = 0; p < problem.parameters; p++)
                        influences[i] += expected.rho * expected.gradient[i][p] *
                                         problem.variance[p] * expected.gradient[t][p];
            compare("influence", found.influence, influences, EXAMPLES);
        }
        ivon_examples_close(tests);
        ivon_sensitivity_free(sensitivity);
        problem_end(&problem);
    }
}

/* Groups. */

static struct ivon_group_removal *remove_groups(struct problem *problem,
                                                const struct ivon_sensitivity_options *options,
                                                const int64_t *groups, size_t *count)
{
    struct ivon_sensitivity *sensitivity = make(problem, options);
    struct ivon_group_removal *removals = NULL;
    struct ivon_error error = {0};
    if (ivon_sensitivity_groups(sensitivity, groups, &removals, count, &error))
        fail_msg("%s", error.message);
    ivon_sensitivity_free(sensitivity);
    return removals;
}

static void expect_mean(const char *what, double mean, double expected_mean)
{
    if (isnan(expected_mean) ? !isnan(mean)
                             : !(fabs(mean - expected_mean) <= ROUNDING * (1 + expected_mean)))
        fail_msg("%s: %.9g, expected %.9g", what, mean, expected_mean);
}

/* One group against u = ρ Σ Σ g and f + J u, written out. */
static void check_group(const struct problem *problem, const int64_t *groups,
                        const struct ivon_group_removal *removal)
{
    double u[PARAMETERS] = {0}, loss[2] = {0}, moved_loss[2] = {0}, rows[2] = {0};
    size_t tokens = problem->tokens, members = 0;
    for (size_t i = 0; i < EXAMPLES; i++)
        for (size_t p = 0; p < problem->parameters && groups[i] == removal->group; p++)
            u[p] += expected.rho * problem->variance[p] * expected.gradient[i][p];
    for (size_t i = 0; i < EXAMPLES; i++) {
        size_t rest = groups[i] != removal->group;
        size_t counting = 0;
        for (size_t t = 0; t < tokens; t++) {
            double f[CLASSES];
            for (size_t c = 0; c < CLASSES; c++) {
                f[c] = expected.f[i][t * CLASSES + c];
                for (size_t p = 0; p < problem->parameters; p++)
                    f[c] += expected.jacobian[i][t * CLASSES + c][p] * u[p];
            }
            if (ignored(problem, i * tokens + t))
                continue;
            counting += !rest;
            loss[rest] += expected.row_loss[i * tokens + t];
            moved_loss[rest] += loss_of(problem, i * tokens + t, f);
            rows[rest]++;
        }
        members += counting > 0;
    }
    assert_int_equal(removal->count, members);
    expect_mean("own loss", removal->own_loss, loss[0] / rows[0]);
    expect_mean("own loss without", removal->own_loss_without, moved_loss[0] / rows[0]);
    expect_mean("rest loss", removal->rest_loss, loss[1] / rows[1]);
    expect_mean("rest loss without", removal->rest_loss_without, moved_loss[1] / rows[1]);
    if (problem->likelihood >= IVON_GAUSSIAN)
        assert_true(isnan(removal->own_error) && isnan(removal->rest_error_without));
    else if (rows[1] > 0)
        assert_true(removal->rest_error >= 0 && removal->rest_error <= 1);
}

static void groups_of_examples(void **state)
{
    (void)state;
    for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_HETEROSCEDASTIC; likelihood++)
        for (int form = 0; form < 2; form++) {
            static const int64_t numbers[] = {INT64_MAX, -5, 7, 0};
            struct problem problem;
            problem_begin(&problem, (enum ivon_likelihood)likelihood, form, HIDDEN);
            struct ivon_sensitivity_options options = options_of(&problem);
            options.batch = 4;
            int64_t groups[EXAMPLES];
            size_t count = 0;
            for (size_t i = 0; i < EXAMPLES; i++)
                groups[i] = numbers[i % 7 % 4];
            refer(&problem, problem.model.ess / counted(&problem), true, NULL, &expected);
            struct ivon_group_removal *removals = remove_groups(&problem, &options, groups, &count);
            assert_int_equal(count, 4);
            for (size_t g = 0; g < count; g++) {
                assert_true(!g || removals[g - 1].group < removals[g].group);
                check_group(&problem, groups, &removals[g]);
            }
            free(removals);
            problem_end(&problem);
        }
}

/* A group of one example is that example's removal. */
static void groups_of_one(void **state)
{
    (void)state;
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, true, HIDDEN);
    struct ivon_sensitivity_options options = options_of(&problem);
    options.batch = 4;
    int64_t groups[EXAMPLES];
    size_t count = 0;
    for (size_t i = 0; i < EXAMPLES; i++)
        groups[i] = (int64_t)(EXAMPLES - i);
    collect(&problem, &options, &found);
    refer(&problem, problem.model.ess / counted(&problem), true, NULL, &expected);
    struct ivon_group_removal *removals = remove_groups(&problem, &options, groups, &count);
    size_t g = 0; /* groups rise as examples fall; one without a token that counts is in none */
    for (size_t i = EXAMPLES; i-- > 0;) {
        double rows = 0, missed = 0, moved_missed = 0;
        for (size_t t = 0; t < TOKENS; t++) {
            if (ignored(&problem, i * TOKENS + t))
                continue;
            rows++;
            missed += (double)found.row_error[i * TOKENS + t];
            moved_missed += (double)found.row_loo_error[i * TOKENS + t];
        }
        if (rows == 0)
            continue;
        assert_true(g < count && removals[g].group == groups[i]);
        check_group(&problem, groups, &removals[g]);
        expect_mean("own loss", removals[g].own_loss, found.loss[i] / rows);
        expect_mean("loo loss", removals[g].own_loss_without, found.loo_loss[i] / rows);
        expect_mean("own error", removals[g].own_error, missed / rows);
        expect_mean("loo error", removals[g].own_error_without, moved_missed / rows);
        g++;
    }
    assert_true(g == count && count < EXAMPLES);
    /* The same bits by several threads, and with one group at a time. */
    size_t least = least_memory(&problem, options);
    for (options.resources.threads = 1; options.resources.threads <= 3; options.resources.threads++)
        for (options.resources.memory = least; options.resources.memory <= 64 * least;
             options.resources.memory *= 4) {
            struct ivon_group_removal *again = remove_groups(&problem, &options, groups, &count);
            assert_memory_equal(again, removals, count * sizeof *again);
            free(again);
        }
    free(removals);
    problem_end(&problem);
}

static void one_group_of_all(void **state)
{
    (void)state;
    struct problem problem;
    problem_begin(&problem, IVON_BERNOULLI, false, HIDDEN);
    struct ivon_sensitivity_options options = options_of(&problem);
    const int64_t groups[EXAMPLES] = {0};
    size_t count = 0;
    refer(&problem, problem.model.ess / counted(&problem), true, NULL, &expected);
    struct ivon_group_removal *removals = remove_groups(&problem, &options, groups, &count);
    assert_int_equal(count, 1);
    check_group(&problem, groups, removals);
    assert_true(isnan(removals->rest_loss) && isnan(removals->rest_loss_without));
    assert_true(isnan(removals->rest_error) && isnan(removals->rest_error_without));
    free(removals);
    problem_end(&problem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(influence),
        cmocka_unit_test(groups_of_examples),
        cmocka_unit_test(groups_of_one),
        cmocka_unit_test(one_group_of_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
