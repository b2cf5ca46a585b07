/*
 * Influences by posteriors of structure, against the dense covariance (structured_network.h; its
 * bound on rounding is that of covariance_structured.c); and by every kind of weight: the sum over
 * queries is what the removal of an example does to their losses, which ivon_sensitivity_run finds
 * from a tangent in the direction of all their gradients, without any product of this one's.
 */
#include "structured_data.h"

#include "ivon/influence.h"
#include "ivon/sensitivity.h"

static const double BOUND = 164 * 0x1p-24;

enum { N = 40, MOST = 4096 };

static int on_influences(void *context, const struct ivon_influences *block,
                         struct ivon_error *error)
{
    (void)error;
    double *sums = context;
    for (size_t i = 0; i < block->count; i++)
        for (size_t q = 0; q < block->query_count; q++)
            sums[(block->first + i) * EXAMPLES + block->first_query + q] =
                (double)block->influence[i * block->query_count + q];
    return 0;
}

static void gradient_of(const struct structured *structured, const struct structured_data *data,
                        const struct dense *dense, size_t i, double *g)
{
    double f[OUT], p[OUT], e[OUT], jacobian[OUT][RANDOM], vector[DENSE_MOST];
    structured_run(structured, data->x + i * IN, f, jacobian);
    data_predict(data, f, p);
    data_residual(data, i, p, e);
    memset(g, 0, DENSE_MOST * sizeof *g);
    for (size_t c = 0; c < OUT; c++) {
        structured_to_dense(dense, jacobian[c], vector);
        for (size_t k = 0; k < dense->size; k++)
            g[k] += e[c] * vector[k];
    }
}

static void check_structured(struct structured *structured, const struct structured_data *data,
                             bool (*selected)(void *context, const char *name))
{
    static double found[EXAMPLES * EXAMPLES], expected[EXAMPLES * EXAMPLES];
    struct ivon_influence_options options = ivon_influence_defaults();
    struct ivon_influence *influence = NULL;
    struct ivon_error error = {0};
    double most = 0, rho = structured->model.ess / N;
    options.task.likelihood = data->likelihood;
    options.task.noise_std = data->likelihood == IVON_GAUSSIAN ? NOISE : NAN;
    options.n_train = N;
    options.sample.selected = selected;
    options.resources.threads = 2;
    if (ivon_influence_new(&influence, structured->model.network, structured->model.source,
                           data->examples, "y", &options, &error) ||
        ivon_influence_add_queries(influence, data->examples, "y", &error) ||
        ivon_influence_run(influence, on_influences, found, &error))
        fail_msg("%s", error.message);
    const struct ivon_influence_shape shape = ivon_influence_shape(influence);
    assert_true(fabs(shape.rho - rho) < 1e-12 && shape.n_train == N && shape.passes == 1);
    assert_true(shape.examples == EXAMPLES && shape.outputs == OUT && shape.tokens == 0);
    struct dense *dense = dense_new(structured->model.source, selected);
    for (size_t i = 0; i < EXAMPLES; i++) {
        double g[DENSE_MOST], q[DENSE_MOST], moved[DENSE_MOST];
        gradient_of(structured, data, dense, i, g);
        dense_multiply(dense, g, moved);
        for (size_t j = 0; j < EXAMPLES; j++) {
            gradient_of(structured, data, dense, j, q);
            double sum = 0;
            for (size_t k = 0; k < dense->size; k++)
                sum += rho * q[k] * moved[k];
            expected[i * EXAMPLES + j] = sum;
            most = fmax(most, fabs(sum));
        }
    }
    for (size_t i = 0; i < EXAMPLES * EXAMPLES; i++)
        if (!(fabs(found[i] - expected[i]) <= BOUND * most))
            fail_msg("influence %zu: %.9g, expected %.9g", i, found[i], expected[i]);
    dense_free(dense);
    ivon_influence_free(influence);
}

static void structures(void **state)
{
    (void)state;
    for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_POISSON; likelihood++)
        for (int low_rank = 0; low_rank < 2; low_rank++) {
            struct structured structured;
            struct structured_data data;
            structured_begin(&structured, low_rank);
            data_begin(&data, &structured.model, (enum ivon_likelihood)likelihood);
            check_structured(&structured, &data, NULL);
            check_structured(&structured, &data, all_but_b2);
            check_structured(&structured, &data, only_w2);
            data_end(&data);
            structured_end(&structured);
        }
}

/* Networks with every kind of weight. */

static void with_hessian(struct model *model, const char *name, int rank, const int64_t *shape)
{
    model_parameter(model, name, rank, shape, -0.5, 0.5);
    model_hessian(model, name, rank, shape, 0, 2);
}

/* Filters, of two groups among them; and rows by more weights than are formed at a time. */
static void images(struct model *model)
{
    model_input(model, "x", NET_FLOAT, 4, (const int64_t[]){-1, 2, 6, 5});
    with_hessian(model, "conv", SHAPE(4, 2, 3, 3));
    with_hessian(model, "conv.bias", SHAPE(4));
    with_hessian(model, "groups", SHAPE(4, 2, 2, 2));
    with_hessian(model, "fc1", SHAPE(70, 24));
    with_hessian(model, "fc1.bias", SHAPE(70));
    with_hessian(model, "fc2", SHAPE(70, 90));
    with_hessian(model, "fc2.bias", SHAPE(90));
    with_hessian(model, "head", SHAPE(90, OUT));
    model_node(model, "Conv", "c", "x", "conv", "conv.bias");
    model_node(model, "Tanh", "a", "c");
    model_int(model, "group", 2);
    model_node(model, "Conv", "g", "a", "groups");
    model_node(model, "Flatten", "flat", "g");
    model_int(model, "transB", 1);
    model_number(model, "alpha", 0.5);
    model_number(model, "beta", -2);
    model_node(model, "Gemm", "z", "flat", "fc1", "fc1.bias");
    model_node(model, "Tanh", "b", "z");
    model_node(model, "MatMul", "y2", "b", "fc2");
    model_node(model, "Add", "y3", "y2", "fc2.bias");
    model_node(model, "Tanh", "d", "y3");
    model_node(model, "MatMul", "y", "d", "head");
    model_output(model, "y");
}

/* Rows of tokens by weights of both orientations, a weight that is used twice, in two ways, and one
   whose last use is no product. */
static void sequences(struct model *model)
{
    model_input(model, "x", NET_FLOAT, 3, (const int64_t[]){-1, 4, 6});
    with_hessian(model, "in", SHAPE(6, 80));
    with_hessian(model, "square", SHAPE(80, 80));
    with_hessian(model, "scale", SHAPE(80));
    with_hessian(model, "twice", SHAPE(80, 80));
    with_hessian(model, "out", SHAPE(OUT, 80));
    model_node(model, "MatMul", "r", "x", "in");
    model_node(model, "MatMul", "s", "r", "square");
    model_node(model, "Mul", "m", "s", "scale");
    model_node(model, "Tanh", "t", "m");
    model_node(model, "MatMul", "u", "t", "square");
    model_ints(model, "perm", LIST(1, 0));
    model_node(model, "Transpose", "turned", "twice");
    model_node(model, "MatMul", "v", "u", "turned");
    model_node(model, "Tanh", "w", "v");
    model_node(model, "MatMul", "q", "w", "twice");
    model_node(model, "Abs", "positive", "twice");
    model_node(model, "MatMul", "k", "q", "positive");
    model_ints(model, "perm", LIST(1, 0));
    model_node(model, "Transpose", "head", "out");
    model_node(model, "MatMul", "y", "k", "head");
    model_output(model, "y");
}

/* Rows of a table, which is also the matrix behind them. */
static void words(struct model *model)
{
    model_input(model, "x", NET_FLOAT, 2, (const int64_t[]){-1, 5});
    with_hessian(model, "table", SHAPE(9, 20));
    with_hessian(model, "head", SHAPE(9, OUT));
    model_int(model, "to", 7);
    model_node(model, "Cast", "places", "x");
    model_node(model, "Gather", "e", "table", "places");
    model_node(model, "Tanh", "a", "e");
    model_ints(model, "perm", LIST(1, 0));
    model_node(model, "Transpose", "turned", "table");
    model_node(model, "MatMul", "z", "a", "turned");
    model_node(model, "Tanh", "b", "z");
    model_node(model, "MatMul", "y", "b", "head");
    model_output(model, "y");
}

struct trial {
    void (*fill)(struct model *model);
    size_t size, tokens; /* numbers of an example; tokens 0: no such axis */
    bool whole;          /* the numbers are places, from -9 on */
};

static int on_scores(void *context, const struct ivon_sensitivities *block,
                     struct ivon_error *error)
{
    (void)error;
    memcpy((double *)context + block->first, block->scores[IVON_SCORE_INFLUENCE],
           block->count * sizeof(double));
    return 0;
}

/* The influence on all queries of a set together. */
static void score(const struct model *model, struct ivon_examples *examples,
                  struct ivon_examples *queries, double *scores)
{
    struct ivon_sensitivity_options options = ivon_sensitivity_defaults();
    struct ivon_sensitivity *sensitivity = NULL;
    struct ivon_error error = {0};
    options.scores = IVON_SCORE_BIT(IVON_SCORE_INFLUENCE);
    options.task.ignored = -1;
    if (ivon_sensitivity_new(&sensitivity, model->network, model->source, examples, "y", &options,
                             &error) ||
        ivon_sensitivity_set_test_data(sensitivity, queries, "y", &error) ||
        ivon_sensitivity_run(sensitivity, 0, on_scores, scores, &error))
        fail_msg("%s", error.message);
    ivon_sensitivity_free(sensitivity);
}

static void check_trial(const struct trial *trial)
{
    static double found[EXAMPLES * EXAMPLES], scores[EXAMPLES];
    static float x[EXAMPLES * MOST];
    int64_t labels[EXAMPLES * IN * 2], wide[] = {(int64_t)trial->tokens};
    struct model model;
    struct table table;
    struct ivon_influence *influence = NULL;
    struct ivon_error error = {0};
    model_begin(&model);
    trial->fill(&model);
    model_bind(&model);
    for (size_t i = 0; i < EXAMPLES * trial->size; i++)
        x[i] = trial->whole ? floorf(model_random(&model, -9, 9)) : model_random(&model, -1, 1);
    for (size_t i = 0; i < EXAMPLES * (trial->tokens + !trial->tokens); i++)
        labels[i] = (int64_t)model_random(&model, trial->tokens ? -1.99 : 0, OUT);
    struct ivon_examples *examples = open_table(&table, EXAMPLES, 1,
                                                (const int64_t[]){(int64_t)trial->size}, x,
                                                IVON_I64, trial->tokens > 0, wide, labels);
    struct ivon_influence_options options = ivon_influence_defaults();
    options.task.ignored = -1;
    options.batch = 5;
    if (ivon_influence_new(&influence, model.network, model.source, examples, "y", &options,
                           &error) ||
        ivon_influence_add_queries(influence, examples, "y", &error) ||
        ivon_influence_run(influence, on_influences, found, &error))
        fail_msg("%s", error.message);
    for (uint64_t q = 0; q < EXAMPLES; q += 4) {
        struct ivon_examples *query = NULL;
        double most = 0;
        assert_int_equal(ivon_examples_select(&query, examples, &q, 1, NULL), 0);
        score(&model, examples, query, scores);
        for (size_t i = 0; i < EXAMPLES; i++)
            most = fmax(most, fabs(scores[i]));
        assert_true(most > 0);
        for (size_t i = 0; i < EXAMPLES; i++)
            if (!(fabs(found[i * EXAMPLES + q] - scores[i]) <= BOUND * most))
                fail_msg("influence %zu, %zu: %.9g, expected %.9g of %.3g", i, (size_t)q,
                         found[i * EXAMPLES + q], scores[i], most);
        ivon_examples_close(query);
    }
    ivon_influence_free(influence);
    ivon_examples_close(examples);
    model_end(&model);
}

static void every_weight(void **state)
{
    (void)state;
    check_trial(&(struct trial){images, 60, 0, false});
    check_trial(&(struct trial){sequences, 24, 4, false});
    check_trial(&(struct trial){words, 5, 5, true});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(structures),
        cmocka_unit_test(every_weight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
