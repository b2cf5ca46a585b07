/*
 * Posteriors without some of their examples, against u = (C^(−1) − Σ JᵀΛJ)^(−1) Σ Jᵀe, C = ρΣ being
 * a dense matrix that is inverted whole; of blocks and with a low-rank correction, every
 * likelihood.
 *
 * Rounding as in leverage.c: products with C are right to 164 · 2^-24 of their largest number, and
 * conjugate gradients end at 10^-5 of the right side. I − Rᵀ J C Jᵀ R has eigenvalues above .1
 * where u is compared: ten times both. Moves are read as differences of means in binary32 below 2.
 */
#include "structured_data.h"

#include "ivon/sensitivity.h"

static const double BOUND = 10 * (164 * 0x1p-24 + 1e-5), LEAST = 0.1, ROUNDING = 0x1p-23;

enum { REMOVED = 5, N = 40 };
static const uint64_t ROWS[REMOVED] = {1, 4, 5, 17, 22};

/* A removal, and what remains. */
struct removed {
    struct ivon_examples *rows;
    struct ivon_sensitivity *sensitivity;
    struct ivon_removal removal;
    struct ivon_source *remainder;
};

static struct ivon_sensitivity_options removal_options(const struct structured_data *data,
                                                       double rho, enum ivon_leverage leverage)
{
    struct ivon_sensitivity_options options = ivon_sensitivity_defaults();
    options.task.likelihood = data->likelihood;
    options.task.noise_std = data->likelihood == IVON_GAUSSIAN ? NOISE : NAN;
    options.rho = rho;
    options.n_train = N;
    options.leverage = leverage;
    options.resources.threads = 1;
    return options;
}

static void removed_begin(struct removed *removed, struct structured *structured,
                          struct structured_data *data,
                          const struct ivon_sensitivity_options *options)
{
    struct ivon_error error = {0};
    *removed = (struct removed){0};
    if (ivon_examples_select(&removed->rows, data->examples, ROWS, REMOVED, &error) ||
        ivon_sensitivity_new(&removed->sensitivity, structured->model.network,
                             structured->model.source, removed->rows, "y", options, &error))
        fail_msg("%s", error.message);
    assert_int_equal(ivon_sensitivity_remainder(&removed->remainder, removed->sensitivity, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "nothing was removed yet");
    if (ivon_sensitivity_remove(removed->sensitivity, &removed->removal, &error) ||
        ivon_sensitivity_remainder(&removed->remainder, removed->sensitivity, &error))
        fail_msg("%s", error.message);
}

static void removed_end(struct removed *removed)
{
    ivon_source_close(removed->remainder);
    ivon_sensitivity_free(removed->sensitivity);
    ivon_examples_close(removed->rows);
}

/* Adds to g the sum of the gradients, and to the curvature that of Jᵀ Λ J. */
static void add_examples(const struct structured *structured, const struct structured_data *data,
                         const struct dense *dense, double *g, dense_matrix curvature)
{
    static double columns[OUT][DENSE_MOST], j[OUT][DENSE_MOST];
    double f[OUT], p[OUT], e[OUT], jacobian[OUT][RANDOM];
    for (size_t r = 0; r < REMOVED; r++) {
        structured_run(structured, data->x + ROWS[r] * IN, f, jacobian);
        data_predict(data, f, p);
        data_residual(data, ROWS[r], p, e);
        data_columns(structured, data, dense, ROWS[r], columns);
        for (size_t c = 0; c < OUT; c++) {
            structured_to_dense(dense, jacobian[c], j[c]);
            for (size_t i = 0; i < dense->size; i++) {
                g[i] += e[c] * j[c][i];
                for (size_t k = 0; k < dense->size; k++)
                    curvature[i][k] += columns[c][i] * columns[c][k];
            }
        }
    }
}

/* The least eigenvalue of I − C^(1/2) Σ JᵀΛJ C^(1/2), which has those of I − Rᵀ J C Jᵀ R that are
   not 1. */
static double least_eigenvalue(const struct dense *dense, double rho, dense_matrix curvature)
{
    static dense_matrix inner, vectors, half, transposed;
    size_t n = dense->size;
    double least = INFINITY;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            transposed[i][j] = dense->root[j][i];
    dense_product(n, transposed, curvature, half); /* Lᵀ K, K being symmetric */
    dense_product(n, half, transposed, inner);     /* Lᵀ K L */
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            inner[i][j] = (i == j) - rho * inner[i][j];
    dense_eigen(n, inner, vectors);
    for (size_t i = 0; i < n; i++)
        least = fmin(least, inner[i][i]);
    return least;
}

/* u ← (C^(−1) − times · curvature)^(−1) g */
static void expected_move(const struct dense *dense, double rho, double times,
                          dense_matrix curvature, const double *g, double *u)
{
    static dense_matrix matrix, vectors, inverse, unused;
    size_t n = dense->size;
    memcpy(matrix, dense->covariance, sizeof matrix);
    dense_eigen(n, matrix, vectors);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            inverse[i][j] = -times * curvature[i][j];
            for (size_t k = 0; k < n; k++)
                inverse[i][j] += vectors[i][k] * vectors[j][k] / (rho * matrix[k][k]);
        }
    memcpy(matrix, inverse, sizeof matrix);
    dense_invert(n, matrix, inverse, unused);
    for (size_t i = 0; i < n; i++) {
        u[i] = 0;
        for (size_t j = 0; j < n; j++)
            u[i] += inverse[i][j] * g[j];
    }
}

/* The moves of all means, as elements of a dense vector, are u; returns ‖u‖. */
static double check_moves(const struct structured *structured, const struct dense *dense,
                          struct ivon_source *remainder, const double *u)
{
    struct ivon_source *source = structured->model.source;
    double most = 0, squares = 0;
    for (size_t i = 0; i < dense->size; i++) {
        most = fmax(most, fabs(u[i]));
        squares += u[i] * u[i];
    }
    for (size_t mean = 0; mean < 4; mean++) {
        const float *before = ivon_source_view(source, mean, 0);
        size_t count = ivon_source_tensor(source, mean)->count;
        float after[HIDDEN * IN];
        assert_null(ivon_source_view(remainder, mean, 0));
        assert_int_equal(ivon_source_read(remainder, mean, 0, count, after, NULL), 0);
        for (size_t i = 0; i < count; i++) {
            double move = (double)after[i] - (double)before[i];
            double expected = u[dense_index(dense, mean, i)];
            if (!(fabs(move - expected) <= BOUND * most + ROUNDING))
                fail_msg("mean %zu, element %zu: moves by %.9g, expected %.9g", mean, i, move,
                         expected);
        }
    }
    return sqrt(squares);
}

/* All but the means is the source's, to the bit. */
static void check_rest(struct structured *structured, struct ivon_source *remainder, bool low_rank)
{
    struct model *model = &structured->model;
    const struct ivon_header *header = ivon_source_header(remainder);
    double left = low_rank ? 1 : (N - REMOVED) / (double)N;
    assert_int_equal(header->n_train, N - REMOVED);
    assert_true(fabs(header->ess - model->ess * left) < 1e-12);
    assert_true(fabs(header->weight_decay - model->weight_decay / left) < 1e-12);
    assert_int_equal(ivon_source_tensor_count(remainder), model->count);
    for (size_t t = 0; t < model->count; t++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(remainder, t);
        assert_string_equal(tensor->name, model->tensors[t].name);
        assert_int_equal(tensor->part, model->tensors[t].part);
        if (tensor->part == IVON_HESSIAN)
            assert_true(tensor->ess == header->ess && tensor->weight_decay == header->weight_decay);
        if (tensor->part == IVON_MEAN)
            continue;
        const void *view = ivon_source_view(remainder, t, 0);
        assert_non_null(view);
        assert_memory_equal(view, model->data[t], tensor->count * ivon_dtype_size(tensor->dtype));
    }
}

/* The mean loss of the rows at the moved means, by the formulas. */
static double check_losses(struct structured *structured, const struct structured_data *data,
                           struct removed *removed)
{
    struct structured moved = *structured;
    float means[4][HIDDEN * IN];
    float **places[] = {&moved.w1, &moved.b1, &moved.w2, &moved.b2};
    double losses[2] = {0}, f[OUT], p[OUT], jacobian[OUT][RANDOM];
    for (size_t m = 0; m < 4; m++) {
        assert_int_equal(ivon_source_read(removed->remainder, m, 0,
                                          ivon_source_tensor(removed->remainder, m)->count,
                                          means[m], NULL),
                         0);
        *places[m] = means[m];
    }
    for (size_t r = 0; r < REMOVED; r++)
        for (int after = 0; after < 2; after++) {
            structured_run(after ? &moved : structured, data->x + ROWS[r] * IN, f, jacobian);
            data_predict(data, f, p);
            losses[after] -= log(p[data->labels[ROWS[r]]]) / REMOVED;
        }
    /* Some ten sums of terms below 10 in binary32. */
    assert_true(fabs(removed->removal.loss - losses[0]) < 1e-5);
    assert_true(fabs(removed->removal.loss_without - losses[1]) < 1e-5);
    return losses[1] - losses[0];
}

static void check_removal(struct structured *structured, struct structured_data *data,
                          const struct dense *dense, double rho, bool low_rank)
{
    static dense_matrix curvature;
    double g[DENSE_MOST] = {0}, u[DENSE_MOST];
    memset(curvature, 0, sizeof curvature);
    add_examples(structured, data, dense, g, curvature);
    double least = least_eigenvalue(dense, rho, curvature);
    for (int leverage = 0; leverage < 2; leverage++) {
        struct removed removed;
        struct ivon_sensitivity_options options = removal_options(
            data, rho, leverage ? IVON_LEVERAGE_NEWTON : IVON_LEVERAGE_NONE);
        removed_begin(&removed, structured, data, &options);
        const struct ivon_removal *removal = &removed.removal;
        bool inside = leverage && least > 0;
        assert_true(fabs(least) > LEAST); /* of these numbers; else nothing is known */
        assert_int_equal(removal->leverage, inside);
        assert_int_equal(removal->outside, leverage && !inside);
        assert_true(leverage ? removal->steps > 0 : removal->steps == 0);
        assert_int_equal(removal->examples, REMOVED);
        assert_int_equal(removal->positions, REMOVED);
        assert_true(removal->n_train == N - REMOVED);
        expected_move(dense, rho, inside, curvature, g, u);
        double norm = check_moves(structured, dense, removed.remainder, u);
        assert_true(fabs(removal->move - norm) <= BOUND * norm);
        check_rest(structured, removed.remainder, low_rank);
        if (data->likelihood == IVON_CATEGORICAL && inside)
            assert_true(check_losses(structured, data, &removed) > 0);
        removed_end(&removed);
    }
}

static void means_move_by_a_newton_step_of_the_whole_set(void **state)
{
    (void)state;
    for (enum ivon_likelihood kind = IVON_CATEGORICAL; kind <= IVON_POISSON; kind++)
        for (int low_rank = 0; low_rank < 2; low_rank++) {
            struct structured structured;
            struct structured_data data;
            structured_begin(&structured, low_rank);
            data_begin(&data, &structured.model, kind);
            struct dense *dense = dense_new(structured.model.source, NULL);
            check_removal(&structured, &data, dense, kind == IVON_GAUSSIAN ? 0.05 : 0.3, low_rank);
            check_removal(&structured, &data, dense, 30, low_rank);
            dense_free(dense);
            data_end(&data);
            structured_end(&structured);
        }
}

static void what_is_not_selected_stays(void **state)
{
    (void)state;
    struct structured structured;
    struct structured_data data;
    struct removed removed;
    structured_begin(&structured, true);
    data_begin(&data, &structured.model, IVON_CATEGORICAL);
    struct ivon_sensitivity_options options = removal_options(&data, 1, IVON_LEVERAGE_NONE);
    options.sample.selected = only_w2;
    removed_begin(&removed, &structured, &data, &options);
    for (size_t mean = 0; mean < 4; mean++) {
        const void *view = ivon_source_view(removed.remainder, mean, 0);
        assert_true(mean == 2 ? !view : view == structured.model.data[mean]);
    }
    removed_end(&removed);
    data_end(&data);
    structured_end(&structured);
}

static void read_means(struct ivon_source *remainder, float *out)
{
    for (size_t mean = 0; mean < 4; mean++) {
        size_t count = ivon_source_tensor(remainder, mean)->count;
        assert_int_equal(ivon_source_read(remainder, mean, 0, count, out, NULL), 0);
        out += count;
    }
}

static void bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    struct structured structured;
    struct structured_data data;
    struct removed removed;
    float first[RANDOM], other[RANDOM];
    structured_begin(&structured, true);
    data_begin(&data, &structured.model, IVON_CATEGORICAL);
    for (int threads = 1; threads < 5; threads++) {
        struct ivon_sensitivity_options options = removal_options(&data, 0.3, IVON_LEVERAGE_NEWTON);
        options.resources.threads = threads;
        options.batch = 2;
        removed_begin(&removed, &structured, &data, &options);
        read_means(removed.remainder, threads == 1 ? first : other);
        if (threads > 1)
            assert_memory_equal(other, first, sizeof first);
        removed_end(&removed);
    }
    data_end(&data);
    structured_end(&structured);
}

static void expect_no_removal(struct structured *structured, struct structured_data *data,
                              const struct ivon_sensitivity_options *options, const char *message)
{
    struct ivon_examples *rows = NULL;
    struct ivon_sensitivity *sensitivity = NULL;
    struct ivon_removal removal;
    struct ivon_error error = {0};
    assert_int_equal(ivon_examples_select(&rows, data->examples, ROWS, REMOVED, &error), 0);
    assert_int_equal(ivon_sensitivity_new(&sensitivity, structured->model.network,
                                          structured->model.source, rows, "y", options, &error),
                     0);
    assert_int_not_equal(ivon_sensitivity_remove(sensitivity, &removal, &error), 0);
    assert_string_equal(error.message, message);
    ivon_sensitivity_free(sensitivity);
    ivon_examples_close(rows);
}

static void what_cannot_be_removed_is_refused(void **state)
{
    (void)state;
    struct structured structured;
    struct structured_data data;
    structured_begin(&structured, false);
    data_begin(&data, &structured.model, IVON_CATEGORICAL);
    struct ivon_sensitivity_options options = removal_options(&data, 1, IVON_LEVERAGE_NONE);
    options.n_train = REMOVED;
    expect_no_removal(
        &structured, &data, &options,
        "data: 5 targets to remove, of 5 that the posterior is of: none would remain");
    for (size_t r = 0; r < REMOVED; r++)
        data.labels[ROWS[r]] = 2;
    options.n_train = N;
    options.task.ignored = 2;
    expect_no_removal(&structured, &data, &options,
                      "data: no target of the examples to remove counts");
    data_end(&data);
    structured_end(&structured);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means_move_by_a_newton_step_of_the_whole_set),
        cmocka_unit_test(what_is_not_selected_stays),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(what_cannot_be_removed_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
