/*
 * Removing examples with their curvature, Δf = (I − V Λ)^(−1) V e, against a dense solution, on
 * posteriors with blocks and with a low-rank correction.
 *
 * Rounding: V e is right to 164 · 2^-24 of its largest number (covariance_structured.c), and
 * conjugate gradients end at a residual of 10^-5 of the right side. I − V Λ has eigenvalues above
 * .1 where the solution is compared: ten times both.
 */
#include "structured_data.h"

#include "ivon/sensitivity.h"

static const double BOUND = 10 * (164 * 0x1p-24 + 1e-5), LEAST = 0.1;

struct found {
    float deviation[EXAMPLES * OUT];
    struct ivon_leverage_use use;
};

static int on_block(void *context, const struct ivon_sensitivities *block, struct ivon_error *error)
{
    struct found *found = context;
    (void)error;
    memcpy(found->deviation + block->first * OUT, block->deviation_vector,
           block->count * OUT * sizeof(float));
    return 0;
}

static struct ivon_sensitivity_options options_of(const struct structured_data *data, double rho)
{
    struct ivon_sensitivity_options options = ivon_sensitivity_defaults();
    options.task.likelihood = data->likelihood;
    options.task.noise_std = data->likelihood == IVON_GAUSSIAN ? NOISE : NAN;
    options.vectors = true;
    options.rho = rho;
    options.resources.threads = 1;
    return options;
}

static void find(struct structured *structured, struct structured_data *data,
                 const struct ivon_sensitivity_options *options, struct found *found)
{
    struct ivon_sensitivity *sensitivity = NULL;
    struct ivon_error error = {0};
    memset(found, 0, sizeof *found);
    if (ivon_sensitivity_new(&sensitivity, structured->model.network, structured->model.source,
                             data->examples, "y", options, &error))
        fail_msg("%s", error.message);
    if (ivon_sensitivity_run(sensitivity, 0, on_block, found, &error))
        fail_msg("%s", error.message);
    found->use = ivon_sensitivity_leverage(sensitivity);
    ivon_sensitivity_free(sensitivity);
}

/* x ← a^(−1) x by elimination. */
static void solve(double a[OUT][OUT], double *x)
{
    for (size_t i = 0; i < OUT; i++) {
        size_t best = i;
        for (size_t j = i; j < OUT; j++)
            best = fabs(a[j][i]) > fabs(a[best][i]) ? j : best;
        for (size_t k = 0; k < OUT; k++) {
            double kept = a[i][k];
            a[i][k] = a[best][k];
            a[best][k] = kept;
        }
        double kept = x[i];
        x[i] = x[best];
        x[best] = kept;
        for (size_t j = 0; j < OUT; j++) {
            double times = j == i ? 0 : a[j][i] / a[i][i];
            for (size_t k = 0; k < OUT; k++)
                a[j][k] -= times * a[i][k];
            x[j] -= times * x[i];
        }
    }
    for (size_t i = 0; i < OUT; i++)
        x[i] /= a[i][i];
}

/* What an example should move without leverage, and with it. Returns the least eigenvalue of
   I − Rᵀ V R. */
static double expect_example(const struct structured *structured,
                             const struct structured_data *data, const struct dense *dense,
                             size_t example, double rho, double *plain, double *moved)
{
    static dense_matrix inner, vectors;
    double f[OUT], p[OUT], e[OUT], root[OUT][OUT], jacobian[OUT][RANDOM], j[OUT][DENSE_MOST];
    double v[OUT][OUT] = {{0}}, system[OUT][OUT], image[DENSE_MOST], least = INFINITY;
    structured_run(structured, data->x + example * IN, f, jacobian);
    data_predict(data, f, p);
    data_residual(data, example, p, e);
    data_root(data, p, root);
    for (size_t c = 0; c < OUT; c++)
        structured_to_dense(dense, jacobian[c], j[c]);
    for (size_t c = 0; c < OUT; c++) {
        dense_multiply(dense, j[c], image);
        for (size_t d = 0; d < OUT; d++)
            for (size_t i = 0; i < dense->size; i++)
                v[c][d] += rho * image[i] * j[d][i];
    }
    for (size_t c = 0; c < OUT; c++) {
        plain[c] = 0;
        for (size_t d = 0; d < OUT; d++) {
            plain[c] += v[c][d] * e[d];
            system[c][d] = inner[c][d] = c == d;
            for (size_t a = 0; a < OUT; a++)
                for (size_t b = 0; b < OUT; b++) {
                    system[c][d] -= v[c][a] * root[a][b] * root[d][b];
                    inner[c][d] -= root[a][c] * v[a][b] * root[b][d];
                }
        }
        moved[c] = plain[c];
    }
    solve(system, moved);
    dense_eigen(OUT, inner, vectors);
    for (size_t c = 0; c < OUT; c++)
        least = fmin(least, inner[c][c]);
    return least;
}

static void compare(size_t example, const float *found, const double *expected)
{
    double most = 0;
    for (size_t c = 0; c < OUT; c++)
        most = fmax(most, fabs(expected[c]));
    for (size_t c = 0; c < OUT; c++)
        if (!(fabs((double)found[c] - expected[c]) <= BOUND * most))
            fail_msg("example %zu, output %zu: %.9g, expected %.9g", example, c, (double)found[c],
                     expected[c]);
}

/* Where the posterior does not hold an example's curvature nothing is taken back, and it is
   counted; returns how many are compared with leverage. */
static size_t check_leverage(struct structured *structured, struct structured_data *data,
                             double rho)
{
    struct ivon_sensitivity_options options = options_of(data, rho);
    struct dense *dense = dense_new(structured->model.source, NULL);
    struct found with, without;
    size_t inside = 0, outside = 0, near = 0;
    options.leverage = IVON_LEVERAGE_NEWTON;
    find(structured, data, &options, &with);
    options.leverage = IVON_LEVERAGE_NONE;
    find(structured, data, &options, &without);
    assert_true(with.use.applied && !without.use.applied && without.use.outside == 0);
    for (size_t i = 0; i < EXAMPLES; i++) {
        double plain[OUT], moved[OUT];
        double least = expect_example(structured, data, dense, i, rho, plain, moved);
        compare(i, without.deviation + i * OUT, plain);
        if (least > LEAST)
            compare(i, with.deviation + i * OUT, moved);
        else if (least < -LEAST)
            compare(i, with.deviation + i * OUT, plain);
        inside += least > LEAST;
        outside += least < -LEAST;
        near += fabs(least) <= LEAST;
    }
    assert_true(with.use.outside >= outside && with.use.outside <= outside + near);
    dense_free(dense);
    return inside;
}

static void a_newton_step_takes_the_curvature_along(void **state)
{
    (void)state;
    for (enum ivon_likelihood kind = IVON_CATEGORICAL; kind <= IVON_POISSON; kind++)
        for (int low_rank = 0; low_rank < 2; low_rank++) {
            struct structured structured;
            struct structured_data data;
            structured_begin(&structured, low_rank);
            data_begin(&data, &structured.model, kind);
            assert_true(check_leverage(&structured, &data, kind == IVON_GAUSSIAN ? 0.1 : 1) > 9);
            assert_true(check_leverage(&structured, &data, 50) < EXAMPLES);
            data_end(&data);
            structured_end(&structured);
        }
}

/* By itself it is applied to a correction whose least value is below .9, of full covariances. */
static void it_is_chosen_by_the_correction(void **state)
{
    (void)state;
    for (int low_rank = 0; low_rank < 2; low_rank++) {
        struct structured structured;
        struct structured_data data;
        struct found found;
        structured_begin(&structured, low_rank);
        data_begin(&data, &structured.model, IVON_CATEGORICAL);
        struct ivon_sensitivity_options options = options_of(&data, 1);
        find(&structured, &data, &options, &found);
        assert_int_equal(found.use.applied, low_rank);
        assert_int_equal(found.use.rank, low_rank ? RANK : 0);
        assert_true(low_rank ? found.use.last == 0.125 : isnan(found.use.last));
        options.covariance = IVON_COVARIANCE_DIAGONAL;
        find(&structured, &data, &options, &found);
        assert_false(found.use.applied);
        data_end(&data);
        structured_end(&structured);
    }
}

static void it_is_not_of_a_diagonal(void **state)
{
    (void)state;
    struct structured structured;
    struct structured_data data;
    struct ivon_sensitivity *sensitivity = NULL;
    struct ivon_error error = {0};
    structured_begin(&structured, true);
    data_begin(&data, &structured.model, IVON_CATEGORICAL);
    struct ivon_sensitivity_options options = options_of(&data, 1);
    options.covariance = IVON_COVARIANCE_DIAGONAL;
    options.leverage = IVON_LEVERAGE_NEWTON;
    assert_int_equal(ivon_sensitivity_new(&sensitivity, structured.model.network,
                                          structured.model.source, data.examples, "y", &options,
                                          &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "leverage is of the whole covariance of the outputs, not of "
                                       "its diagonal");
    data_end(&data);
    structured_end(&structured);
}

/* An example's steps are its own. */
static void bits_depend_on_neither_threads_nor_tiles(void **state)
{
    (void)state;
    struct structured structured;
    struct structured_data data;
    struct found first, other;
    structured_begin(&structured, true);
    data_begin(&data, &structured.model, IVON_CATEGORICAL);
    struct ivon_sensitivity_options options = options_of(&data, 1);
    options.leverage = IVON_LEVERAGE_NEWTON;
    find(&structured, &data, &options, &first);
    for (int threads = 1; threads < 4; threads++) {
        options.resources.threads = threads;
        options.batch = (size_t)(2 * threads - 1);
        find(&structured, &data, &options, &other);
        assert_memory_equal(other.deviation, first.deviation, sizeof first.deviation);
        assert_int_equal(other.use.outside, first.use.outside);
    }
    data_end(&data);
    structured_end(&structured);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_newton_step_takes_the_curvature_along),
        cmocka_unit_test(it_is_chosen_by_the_correction),
        cmocka_unit_test(it_is_not_of_a_diagonal),
        cmocka_unit_test(bits_depend_on_neither_threads_nor_tiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
