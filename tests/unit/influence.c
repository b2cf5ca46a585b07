/*
 * Matrices of influences against ρ qᵀ Σ g written out in double (sensitivity_dense.h, whose bound
 * on rounding holds: directions are one more product of floats), every likelihood, with and without
 * tokens; each measure, whose adjoint is differences of what is measured; and that neither memory,
 * threads nor other queries change a bit.
 */
#include "sensitivity_dense.h"

#include "ivon/influence.h"

enum { TILE = 4, MOST = EXAMPLES * TOKENS };

static struct reference expected;

/* What the library says. */

struct matrix {
    size_t queries, blocks;
    float influence[MOST][2 * MOST]; /* of each row */
    float parts[MOST][MOST][3];      /* of tensors */
    int64_t labels[EXAMPLES];
    bool labelled;
};

static int on_influences(void *context, const struct ivon_influences *block,
                         struct ivon_error *error)
{
    (void)error;
    struct matrix *matrix = context;
    matrix->blocks++;
    for (size_t i = 0; i < block->count * block->rows; i++) {
        float *row = &matrix->influence[block->first * block->rows + i][block->first_query];
        memcpy(row, block->influence + i * block->query_count,
               block->query_count * sizeof *block->influence);
        for (size_t q = 0; q < block->query_count && block->tensors; q++) {
            double sum = 0, size = 0;
            float *parts = matrix->parts[block->first * block->rows + i][block->first_query + q];
            for (size_t t = 0; t < 3; t++) {
                parts[t] = block->tensors[t][i * block->query_count + q];
                sum += (double)block->tensors[t][i * block->query_count + q];
                size += fabs((double)block->tensors[t][i * block->query_count + q]);
            }
            assert_true(fabs(sum - (double)row[q]) <= 0x1p-23 * size); /* rounded, each */
        }
    }
    matrix->labelled = block->labels != NULL;
    if (block->labels)
        memcpy(matrix->labels + block->first, block->labels, block->count * sizeof(int64_t));
    return 0;
}

static struct ivon_influence_options influence_options(const struct problem *problem)
{
    struct ivon_influence_options options = ivon_influence_defaults();
    options.task.likelihood = problem->likelihood;
    options.task.noise_std = problem->likelihood == IVON_GAUSSIAN ? 0.5 : NAN;
    options.task.ignored = problem->token_axis ? IGNORED : INT64_MIN;
    options.batch = TILE;
    options.resources.threads = 1;
    return options;
}

static struct ivon_influence *influence_make(struct problem *problem,
                                             const struct ivon_influence_options *options)
{
    struct ivon_influence *influence = NULL;
    struct ivon_error error = {0};
    if (ivon_influence_new(&influence, problem->model.network, problem->model.source,
                           problem->examples, "y", options, &error))
        fail_msg("%s", error.message);
    return influence;
}

static void influence_collect(struct ivon_influence *influence, struct matrix *matrix)
{
    struct ivon_error error = {0};
    memset(matrix, 0, sizeof *matrix);
    if (ivon_influence_run(influence, on_influences, matrix, &error))
        fail_msg("%s", error.message);
    assert_false(ivon_influence_saw_probabilities(influence));
    matrix->queries = (size_t)ivon_influence_shape(influence).queries;
}

/* The queries are all examples. */
static void influence_of_all(struct problem *problem, const struct ivon_influence_options *options,
                             struct matrix *matrix)
{
    struct ivon_influence *influence = influence_make(problem, options);
    assert_int_equal(ivon_influence_add_queries(influence, problem->examples, "y", NULL), 0);
    influence_collect(influence, matrix);
    ivon_influence_free(influence);
}

/* What it should say, of queries with gradients q. */
static void compare_matrix(const struct problem *problem, const struct matrix *matrix,
                           double (*q)[PARAMETERS], size_t queries)
{
    static double wanted[EXAMPLES * 2 * MOST];
    static float found[EXAMPLES * 2 * MOST];
    assert_int_equal(matrix->queries, queries);
    for (size_t i = 0; i < EXAMPLES; i++)
        for (size_t j = 0; j < queries; j++) {
            double sum = 0;
            for (size_t p = 0; p < problem->parameters; p++)
                sum += q[j][p] * problem->variance[p] * expected.gradient[i][p];
            wanted[i * queries + j] = expected.rho * sum;
            found[i * queries + j] = matrix->influence[i][j];
        }
    compare_floats("influence", found, wanted, EXAMPLES * queries);
}

static void every_likelihood(void **state)
{
    (void)state;
    static struct matrix matrix;
    for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_HETEROSCEDASTIC; likelihood++)
        for (int form = 0; form < 4; form++) {
            struct problem problem;
            problem_begin(&problem, (enum ivon_likelihood)likelihood, form % 2,
                          form / 2 ? HIDDEN : 0);
            const struct ivon_influence_options options = influence_options(&problem);
            influence_of_all(&problem, &options, &matrix);
            refer(&problem, problem.model.ess / counted(&problem), true, NULL, &expected);
            compare_matrix(&problem, &matrix, expected.gradient, EXAMPLES);
            assert_int_equal(matrix.labelled, likelihood == IVON_CATEGORICAL && form % 2 == 0);
            if (matrix.labelled)
                assert_memory_equal(matrix.labels, problem.labels, sizeof matrix.labels);
            problem_end(&problem);
        }
}

/* A proponent is what the query would do worse without: with the mean moved by ρ Σ g its loss is
   greater, in the first place its own. */
static void positive_is_helpful(void **state)
{
    (void)state;
    static struct matrix matrix;
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    const struct ivon_influence_options options = influence_options(&problem);
    influence_of_all(&problem, &options, &matrix);
    refer(&problem, problem.model.ess / counted(&problem), true, NULL, &expected);
    for (size_t i = 0; i < EXAMPLES; i++) {
        double own[CLASSES], without[CLASSES];
        for (size_t c = 0; c < CLASSES; c++) {
            own[c] = without[c] = expected.f[i][c];
            for (size_t p = 0; p < problem.parameters; p++)
                without[c] += 1e-3 * expected.rho * expected.jacobian[i][c][p] *
                              problem.variance[p] * expected.gradient[i][p];
        }
        double rise = (loss_of(&problem, i, without) - loss_of(&problem, i, own)) / 1e-3;
        assert_true(matrix.influence[i][i] > 0 && rise > 0);
        assert_true(fabs((double)matrix.influence[i][i] - rise) < 0.01 * rise);
    }
    problem_end(&problem);
}

/* Measures. */

static double measured(const struct problem *problem, size_t row, const double *f,
                       enum ivon_measure measure)
{
    double p[CLASSES], sum = 0;
    if (ignored(problem, row))
        return 0;
    if (measure == IVON_MEASURE_LOGIT)
        return -f[1];
    probabilities(problem, f, p);
    if (problem->likelihood == IVON_CATEGORICAL)
        return log((1 - p[problem->labels[row]]) / p[problem->labels[row]]);
    for (size_t c = 0; c < CLASSES; c++)
        sum += log(problem->labels[row * CLASSES + c] ? (1 - p[c]) / p[c] : p[c] / (1 - p[c]));
    return sum;
}

/* ∂M/∂θ of query i by central differences in f; of errors of some 1e-9. */
static void differentiate_measure(const struct problem *problem, size_t i,
                                  enum ivon_measure measure, double *q)
{
    const double STEP = 1e-5;
    memset(q, 0, PARAMETERS * sizeof *q);
    for (size_t k = 0; k < problem->tokens * CLASSES; k++) {
        size_t t = k / CLASSES, row = i * problem->tokens + t;
        double f[CLASSES], sides[2];
        for (int side = 0; side < 2; side++) {
            memcpy(f, expected.f[i] + t * CLASSES, sizeof f);
            f[k % CLASSES] += side ? STEP : -STEP;
            sides[side] = measured(problem, row, f, measure);
        }
        for (size_t p = 0; p < problem->parameters; p++)
            q[p] += (sides[1] - sides[0]) / (2 * STEP) * expected.jacobian[i][k][p];
    }
}

static void measures(void **state)
{
    (void)state;
    static struct matrix matrix;
    static double q[MOST][PARAMETERS];
    for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_HETEROSCEDASTIC; likelihood++)
        for (int form = 0; form < 4; form++) {
            struct problem problem;
            enum ivon_measure measure = form / 2 ? IVON_MEASURE_LOGIT : IVON_MEASURE_MARGIN;
            if (likelihood >= IVON_GAUSSIAN && measure == IVON_MEASURE_MARGIN)
                continue;
            problem_begin(&problem, (enum ivon_likelihood)likelihood, form % 2, HIDDEN);
            struct ivon_influence_options options = influence_options(&problem);
            options.measure = measure;
            options.output = 1;
            influence_of_all(&problem, &options, &matrix);
            refer(&problem, problem.model.ess / counted(&problem), true, NULL, &expected);
            for (size_t i = 0; i < EXAMPLES; i++)
                differentiate_measure(&problem, i, measure, q[i]);
            compare_matrix(&problem, &matrix, q, EXAMPLES);
            problem_end(&problem);
        }
}

/* Each token is a query; one that is ignored has no influence on it. */
static void tokens(void **state)
{
    (void)state;
    static struct matrix matrix;
    static double q[MOST][PARAMETERS];
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, true, HIDDEN);
    struct ivon_influence_options options = influence_options(&problem);
    options.measure = IVON_MEASURE_TOKEN_LOSS;
    influence_of_all(&problem, &options, &matrix);
    refer(&problem, problem.model.ess / counted(&problem), true, NULL, &expected);
    memset(q, 0, sizeof q);
    for (size_t row = 0; row < MOST; row++)
        for (size_t c = 0; c < CLASSES; c++) {
            size_t i = row / TOKENS, k = row % TOKENS * CLASSES + c;
            for (size_t p = 0; p < problem.parameters; p++)
                q[row][p] += expected.e[i][k] * expected.jacobian[i][k][p];
        }
    compare_matrix(&problem, &matrix, q, MOST);
    for (size_t row = 0; row < MOST; row++)
        for (size_t i = 0; i < EXAMPLES; i++)
            if (ignored(&problem, row) || i == 8) /* none of whose tokens counts */
                assert_true(matrix.influence[i][row] == 0);
    problem_end(&problem);
}

/* Each token of a training example is a row: its loss alone. Their sum is the example's. */
static void token_rows(void **state)
{
    (void)state;
    static struct matrix matrix, whole;
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, true, HIDDEN);
    struct ivon_influence_options options = influence_options(&problem);
    influence_of_all(&problem, &options, &whole);
    options.per_token = true;
    influence_of_all(&problem, &options, &matrix);
    refer(&problem, problem.model.ess / counted(&problem), true, NULL, &expected);
    double most = 0;
    for (size_t i = 0; i < EXAMPLES; i++)
        for (size_t j = 0; j < EXAMPLES; j++)
            most = fmax(most, fabs((double)whole.influence[i][j]));
    for (size_t row = 0; row < MOST; row++)
        for (size_t j = 0; j < EXAMPLES; j++) {
            size_t i = row / TOKENS, t = row % TOKENS;
            double wanted = 0;
            for (size_t c = 0; c < CLASSES; c++)
                for (size_t p = 0; p < problem.parameters; p++)
                    wanted += expected.rho * expected.e[i][t * CLASSES + c] *
                              expected.jacobian[i][t * CLASSES + c][p] * problem.variance[p] *
                              expected.gradient[j][p];
            assert_true(fabs((double)matrix.influence[row][j] - wanted) <= ROUNDING * most);
            assert_true(!ignored(&problem, row) || matrix.influence[row][j] == 0);
            if (t == TOKENS - 1) {
                double sum = (double)matrix.influence[row][j] +
                             (double)matrix.influence[row - 1][j] +
                             (double)matrix.influence[row - 2][j];
                assert_true(fabs(sum - (double)whole.influence[i][j]) <= ROUNDING * most);
            }
        }
    problem_end(&problem);
}

/* The parts of tensors, which on_influences adds up; one that does not move has none. */
static void parts_of_tensors(void **state)
{
    (void)state;
    static struct matrix matrix;
    static const char *const names[] = {"w1", "w2", "b2"};
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, true, HIDDEN);
    struct ivon_influence_options options = influence_options(&problem);
    options.by_tensor = true;
    struct ivon_influence *influence = influence_make(&problem, &options);
    assert_int_equal(ivon_influence_shape(influence).tensors, 3);
    for (size_t t = 0; t < 3; t++)
        assert_string_equal(ivon_influence_tensor(influence, t), names[t]);
    assert_null(ivon_influence_tensor(influence, 3));
    assert_int_equal(ivon_influence_add_queries(influence, problem.examples, "y", NULL), 0);
    influence_collect(influence, &matrix);
    refer(&problem, problem.model.ess / counted(&problem), true, NULL, &expected);
    size_t w2 = INPUTS * HIDDEN + HIDDEN, b2 = w2 + HIDDEN * CLASSES;
    const size_t begins[] = {0, w2, b2}, ends[] = {INPUTS * HIDDEN, b2, b2 + CLASSES};
    for (size_t t = 0; t < 3; t++) {
        double wanted[EXAMPLES * EXAMPLES] = {0};
        float found_parts[EXAMPLES * EXAMPLES];
        for (size_t i = 0; i < EXAMPLES * EXAMPLES; i++) {
            const double *g = expected.gradient[i / EXAMPLES], *q = expected.gradient[i % EXAMPLES];
            for (size_t p = begins[t]; p < ends[t]; p++)
                wanted[i] += expected.rho * q[p] * problem.variance[p] * g[p];
            found_parts[i] = matrix.parts[i / EXAMPLES][i % EXAMPLES][t];
        }
        compare_floats("part", found_parts, wanted, EXAMPLES * EXAMPLES);
    }
    ivon_influence_free(influence);
    problem_end(&problem);
}

/* A logit is measured of queries without targets. */
static void no_targets(void **state)
{
    (void)state;
    static struct matrix matrix, other;
    struct problem problem;
    struct table table;
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    struct ivon_influence_options options = influence_options(&problem);
    struct ivon_error error = {0};
    struct ivon_examples *bare = open_table(&table, EXAMPLES, 1, (const int64_t[]){INPUTS},
                                            problem.x, IVON_I64, 0, NULL, NULL);
    struct ivon_influence *influence = influence_make(&problem, &options);
    assert_int_equal(ivon_influence_add_queries(influence, bare, "y", &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "data: has no targets, which losses need");
    ivon_influence_free(influence);
    options.measure = IVON_MEASURE_LOGIT;
    influence_of_all(&problem, &options, &matrix);
    influence = influence_make(&problem, &options);
    assert_int_equal(ivon_influence_add_queries(influence, bare, "y", NULL), 0);
    influence_collect(influence, &other);
    assert_memory_equal(&matrix, &other, sizeof matrix);
    ivon_influence_free(influence);
    ivon_examples_close(bare);
    problem_end(&problem);
}

/* Bits. */

/* The same with threads, in many passes, and with each query alone, in sets and twice. */
static void same_bits(void **state)
{
    (void)state;
    static struct matrix matrix, other;
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, true, HIDDEN);
    struct ivon_influence_options options = influence_options(&problem);
    options.measure = IVON_MEASURE_TOKEN_LOSS;
    influence_of_all(&problem, &options, &matrix);
    assert_int_equal(matrix.blocks, 1);
    options.resources.threads = 3;
    influence_of_all(&problem, &options, &other);
    assert_memory_equal(&matrix, &other, sizeof matrix);
    options.resources.memory = 80000; /* half of it for tiles, some 85 directions */
    struct ivon_influence *influence = influence_make(&problem, &options);
    for (int set = 0; set < 2; set++)
        assert_int_equal(ivon_influence_add_queries(influence, problem.examples, "y", NULL), 0);
    uint64_t passes = ivon_influence_shape(influence).passes;
    assert_int_equal(passes, 2);
    influence_collect(influence, &other);
    assert_true(other.blocks > passes);
    for (size_t i = 0; i < EXAMPLES; i++)
        for (size_t set = 0; set < 2; set++)
            assert_memory_equal(other.influence[i] + set * MOST, matrix.influence[i],
                                MOST * sizeof(float));
    ivon_influence_free(influence);

    options.resources.memory = 0;
    for (uint64_t row = 0; row < EXAMPLES; row += 5) {
        struct ivon_examples *one = NULL;
        influence = influence_make(&problem, &options);
        assert_int_equal(ivon_examples_select(&one, problem.examples, &row, 1, NULL), 0);
        assert_int_equal(ivon_influence_add_queries(influence, one, "y", NULL), 0);
        assert_int_equal(ivon_influence_add_queries(influence, problem.examples, "y", NULL), 0);
        for (int again = 0; again < 2; again++) {
            influence_collect(influence, &other);
            for (size_t i = 0; i < EXAMPLES; i++) {
                assert_memory_equal(other.influence[i], matrix.influence[i] + row * TOKENS,
                                    TOKENS * sizeof(float));
                assert_memory_equal(other.influence[i] + TOKENS, matrix.influence[i],
                                    MOST * sizeof(float));
            }
        }
        ivon_influence_free(influence);
        ivon_examples_close(one);
    }
    problem_end(&problem);
}

/* The greatest. */

static void greatest(void **state)
{
    (void)state;
    enum { ROWS = 200, QUERIES = 3, BLOCK = 7 };
    static const size_t mosts[] = {1, 2, 5, 300};
    struct model model = {.state = 5};
    float all[ROWS * QUERIES], block[BLOCK * QUERIES];
    int64_t labels[BLOCK];
    for (size_t i = 0; i < ROWS * QUERIES; i++) /* with equal ones, zeros, and no numbers */
        all[i] = i % 31 == 7 ? NAN : floorf(model_random(&model, -40, 40)) / 8;
    all[5] = INFINITY;
    for (size_t m = 0; m < 4; m++) {
        struct ivon_influence_top *top = NULL;
        assert_int_equal(ivon_influence_top_new(&top, QUERIES, mosts[m], NULL), 0);
        for (size_t first = 0; first < ROWS; first += BLOCK) {
            size_t count = ROWS - first < BLOCK ? ROWS - first : BLOCK;
            const struct ivon_influence_entry *entries = NULL;
            memcpy(block, all + first * QUERIES, count * QUERIES * sizeof *block);
            for (size_t i = 0; i < count; i++)
                labels[i] = (int64_t)(first + i) * 3;
            ivon_influence_top_add(top, &(struct ivon_influences){.first = first,
                                                                  .count = count,
                                                                  .query_count = QUERIES,
                                                                  .rows = 1,
                                                                  .influence = block,
                                                                  .labels = labels});
            if (first % 3 == 0) /* a list in between changes nothing */
                ivon_influence_top_list(top, 1, first % 2, &entries);
        }
        for (size_t i = 0; i < 2 * QUERIES; i++) {
            const struct ivon_influence_entry *entries = NULL;
            size_t query = i / 2, count = ivon_influence_top_list(top, query, i % 2, &entries);
            size_t signs = 0;
            for (size_t row = 0; row < ROWS; row++) {
                float value = all[row * QUERIES + query];
                if (!(i % 2 ? value < 0 : value > 0))
                    continue;
                signs++;
                size_t before = 0, place = count;
                for (size_t other = 0; other < ROWS; other++) {
                    float rival = all[other * QUERIES + query];
                    bool same = i % 2 ? rival < 0 : rival > 0;
                    before += same && (fabsf(rival) > fabsf(value) ||
                                       (fabsf(rival) == fabsf(value) && other < row));
                }
                for (size_t e = 0; e < count; e++)
                    if (entries[e].row == row)
                        place = e;
                assert_int_equal(place, before < mosts[m] ? before : count);
                if (before < mosts[m]) {
                    assert_true(entries[place].influence == value);
                    assert_int_equal(entries[place].label, 3 * row);
                }
            }
            assert_int_equal(count, signs < mosts[m] ? signs : mosts[m]);
        }
        const struct ivon_influence_entry *entries = NULL;
        assert_int_equal(ivon_influence_top_list(top, QUERIES, false, &entries), 0);
        ivon_influence_top_free(top);
    }
    ivon_influence_top_free(NULL);
    assert_int_equal(
        ivon_influence_top_new(&(struct ivon_influence_top *){NULL}, UINT64_MAX, 2, NULL),
        IVON_ERROR_MEMORY);
}

/* Errors. */

static void refuse(struct problem *problem, const struct ivon_influence_options *options, int code,
                   const char *message)
{
    struct ivon_influence *influence = NULL;
    struct ivon_error error = {0};
    assert_int_equal(ivon_influence_new(&influence, problem->model.network, problem->model.source,
                                        problem->examples, "y", options, &error),
                     code);
    if (!strstr(error.message, message))
        fail_msg("'%s', expected '%s'", error.message, message);
    assert_null(influence);
}

static int stop(void *context, const struct ivon_influences *block, struct ivon_error *error)
{
    (void)block;
    (void)error;
    ++*(int *)context;
    return IVON_ERROR_CANCELLED;
}

static void refusals(void **state)
{
    (void)state;
    struct problem problem;
    struct ivon_error error = {0};
    struct ivon_influence *influence = NULL;
    int calls = 0;
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    struct ivon_influence_options options = influence_options(&problem);
    assert_int_equal(ivon_influence_new(&influence, problem.model.network, problem.model.source,
                                        problem.examples, "z", &options, &error),
                     IVON_ERROR_DATA);
    assert_string_equal(error.message, "data: has no targets, which losses need");
    options.measure = IVON_MEASURE_LOGIT;
    options.output = CLASSES;
    refuse(&problem, &options, IVON_ERROR_ARGUMENT, "there is no output 4 to measure");
    options.measure = IVON_MEASURE_TOKEN_LOSS;
    refuse(&problem, &options, IVON_ERROR_ARGUMENT, "no axis of tokens");
    options.measure = IVON_MEASURE_LOSS;
    options.per_token = true;
    refuse(&problem, &options, IVON_ERROR_ARGUMENT, "no axis of tokens");
    options.per_token = false;
    options.measure = (enum ivon_measure)7;
    refuse(&problem, &options, IVON_ERROR_ARGUMENT, "7 is not a measure");
    options = influence_options(&problem);
    options.task.likelihood = IVON_GAUSSIAN;
    refuse(&problem, &options, IVON_ERROR_ARGUMENT, "standard deviation of the noise");
    options = influence_options(&problem);
    options.rho = -1;
    refuse(&problem, &options, IVON_ERROR_ARGUMENT, "rho is -1");
    options = influence_options(&problem);
    options.resources.memory = 1;
    refuse(&problem, &options, IVON_ERROR_MEMORY, "memory");

    options = influence_options(&problem);
    influence = influence_make(&problem, &options);
    assert_int_equal(ivon_influence_run(influence, stop, &calls, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "the influence is on queries, which were not given");
    assert_int_equal(ivon_influence_add_queries(influence, problem.examples, "y", NULL), 0);
    assert_int_equal(ivon_influence_run(influence, stop, &calls, &error), IVON_ERROR_CANCELLED);
    assert_int_equal(calls, 1);
    problem.table.fails = true;
    assert_int_equal(ivon_influence_run(influence, stop, &calls, &error), IVON_ERROR_IO);
    ivon_influence_free(influence);
    problem_end(&problem);
    problem_begin(&problem, IVON_GAUSSIAN, false, HIDDEN);
    options = influence_options(&problem);
    options.measure = IVON_MEASURE_MARGIN;
    refuse(&problem, &options, IVON_ERROR_ARGUMENT, "a margin is between classes");
    problem_end(&problem);
    ivon_influence_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_likelihood), cmocka_unit_test(positive_is_helpful),
        cmocka_unit_test(measures),         cmocka_unit_test(tokens),
        cmocka_unit_test(token_rows),       cmocka_unit_test(parts_of_tensors),
        cmocka_unit_test(no_targets),       cmocka_unit_test(same_bits),
        cmocka_unit_test(greatest),         cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
