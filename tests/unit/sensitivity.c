/*
 * Removing examples, on problems so small that every Jacobian fits on a page: the library against
 * f, J, Σ written out in double, f = W₂ᵀ tanh(W₁ᵀ x + b₁) + b₂ or f = W₂ᵀ x + b₂ for each row.
 *
 * Rounding: the library's numbers are sums of at most a hundred products of floats, nested five
 * deep. Their errors, of 2^-24 each, stay below ROUNDING of the largest number of their kind.
 */
#include "core/error.h"
#include "core/examples.h"
#include "ivon/sensitivity.h"
#include "model.h"

enum {
    EXAMPLES = 23,
    INPUTS = 5,
    HIDDEN = 4,
    CLASSES = 3,
    TOKENS = 3,
    WIDTH = TOKENS * CLASSES,
    PARAMETERS = INPUTS * HIDDEN + HIDDEN + INPUTS * CLASSES + CLASSES,
    IGNORED = -1,
};

static const double ROUNDING = 64 * 0x1p-24;

/* Examples in memory. */
struct table {
    const void *data[2];
    size_t sizes[2]; /* bytes of one example */
    bool fails;
};

static int table_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                      struct ivon_error *error)
{
    const struct table *table = self;
    if (table->fails)
        return ivon_error_set(error, IVON_ERROR_IO, "out of reach");
    memcpy(buffer, (const char *)table->data[field] + first * table->sizes[field],
           count * table->sizes[field]);
    return 0;
}

static void table_close(void *self)
{
    (void)self;
}

static struct ivon_examples *open_table(struct table *table, size_t count, int rank,
                                        const int64_t *shape, const float *x,
                                        enum ivon_dtype dtype, int target_rank,
                                        const int64_t *target_shape, const void *targets)
{
    static const struct ivon_examples_class class = {table_read, table_close};
    static const struct examples_scaling scalings[2] = {{.divisor = 1, .channels = 1},
                                                        {.divisor = 1, .channels = 1}};
    struct ivon_field fields[2] = {{.name = "x", .dtype = IVON_F32, .rank = rank},
                                   {.name = "y", .dtype = dtype, .rank = target_rank}};
    struct ivon_examples *examples = NULL;
    *table = (struct table){.data = {x, targets}, .sizes = {sizeof *x, ivon_dtype_size(dtype)}};
    for (int i = 0; i < rank; i++)
        table->sizes[0] *= (size_t)(fields[0].shape[i] = shape[i]);
    for (int i = 0; i < target_rank; i++)
        table->sizes[1] *= (size_t)(fields[1].shape[i] = target_shape[i]);
    assert_int_equal(ivon_examples_new(&examples, &class, table, "data", count, fields, scalings,
                                       targets ? 2 : 1, NULL),
                     0);
    return examples;
}

/* A network, a posterior, and examples. */
struct problem {
    struct model model;
    enum ivon_likelihood likelihood;
    size_t tokens, hidden; /* tokens: rows of an example; hidden 0: linear */
    bool token_axis;
    float *w1, *b1, *w2, *b2;
    size_t parameters;
    double variance[PARAMETERS]; /* σ² = 1/(λ(h + δ)); of b1, which has no Hessian, 0 */
    float x[EXAMPLES * TOKENS * INPUTS], numbers[EXAMPLES * WIDTH];
    int64_t labels[EXAMPLES * WIDTH];
    struct table table;
    struct ivon_examples *examples;
};

#define SHAPE(...) (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
                   (const int64_t[]){__VA_ARGS__}

static float *add_parameter(struct problem *problem, const char *name, int rank,
                            const int64_t *shape, bool random)
{
    struct model *m = &problem->model;
    float *values = model_parameter(m, name, rank, shape, -1, 1);
    size_t count = m->tensors[m->count - 1].count;
    const float *hessian =
        random ? model_hessian(m, name, rank, shape, 0, 2) : NULL;
    for (size_t i = 0; i < count; i++)
        problem->variance[problem->parameters++] =
            random ? 1 / (m->ess * ((double)hessian[i] + m->weight_decay)) : 0;
    return values;
}

/* From value "x" on: rows of INPUTS numbers. */
static void add_network(struct problem *problem)
{
    struct model *m = &problem->model;
    int64_t inner = problem->hidden ? (int64_t)problem->hidden : INPUTS;
    if (problem->hidden) {
        problem->w1 = add_parameter(problem, "w1", SHAPE(INPUTS, HIDDEN), true);
        problem->b1 = add_parameter(problem, "b1", SHAPE(HIDDEN), false);
        model_node(m, "MatMul", "h", "rows", "w1");
        model_node(m, "Add", "hb", "h", "b1");
        model_node(m, "Tanh", "a", "hb");
    }
    problem->w2 = add_parameter(problem, "w2", SHAPE(inner, CLASSES), true);
    problem->b2 = add_parameter(problem, "b2", SHAPE(CLASSES), true);
    model_node(m, "MatMul", "f", problem->hidden ? "a" : "rows", "w2");
    model_node(m, "Add", "y", "f", "b2");
    model_output(m, "y");
}

static void add_data(struct problem *problem)
{
    size_t tokens = problem->tokens;
    bool classes = problem->likelihood == IVON_CATEGORICAL;
    size_t targets = tokens * (classes ? 1 : CLASSES);
    for (size_t i = 0; i < EXAMPLES * tokens * INPUTS; i++)
        problem->x[i] = model_random(&problem->model, -1, 1);
    for (size_t i = 0; i < EXAMPLES * targets; i++) {
        problem->labels[i] = (int64_t)model_random(&problem->model, 0, classes ? CLASSES : 2);
        problem->numbers[i] = model_random(&problem->model, -2, 2);
        if (classes && problem->token_axis && (i % 5 == 1 || i / tokens == 8))
            problem->labels[i] = IGNORED; /* and all of example 8's */
    }
    bool gaussian = problem->likelihood == IVON_GAUSSIAN;
    int64_t shape[] = {(int64_t)tokens, INPUTS}, wide[] = {(int64_t)tokens, CLASSES};
    int axis = !problem->token_axis;
    problem->examples = open_table(&problem->table, EXAMPLES, 2 - axis, shape + axis, problem->x,
                                   gaussian ? IVON_F32 : IVON_I64, 2 - axis - classes, wide + axis,
                                   gaussian ? (void *)problem->numbers : (void *)problem->labels);
}

/* Everything up to binding: a test may add to the graph. `batch`: the first axis of the input. */
static void problem_start(struct problem *problem, enum ivon_likelihood likelihood, bool token_axis,
                          size_t hidden, int64_t batch)
{
    *problem = (struct problem){.likelihood = likelihood,
                                .token_axis = token_axis,
                                .tokens = token_axis ? TOKENS : 1,
                                .hidden = hidden};
    model_begin(&problem->model);
    int64_t shape[] = {batch, TOKENS, INPUTS}, flat[] = {batch, INPUTS};
    model_input(&problem->model, "x", NET_FLOAT, token_axis ? 3 : 2, token_axis ? shape : flat);
}

static void problem_finish(struct problem *problem)
{
    add_network(problem);
    model_bind(&problem->model);
    add_data(problem);
}

static void problem_begin(struct problem *problem, enum ivon_likelihood likelihood, bool token_axis,
                          size_t hidden)
{
    problem_start(problem, likelihood, token_axis, hidden, -1);
    model_node(&problem->model, "Identity", "rows", "x");
    problem_finish(problem);
}

static void problem_end(struct problem *problem)
{
    ivon_examples_close(problem->examples);
    model_end(&problem->model);
}

static struct ivon_sensitivity_options options_of(const struct problem *problem)
{
    struct ivon_sensitivity_options options = ivon_sensitivity_defaults();
    options.likelihood = problem->likelihood;
    options.scores = IVON_SCORE_DEVIATION | IVON_SCORE_MPE | IVON_SCORE_SELF_INFLUENCE |
                     IVON_SCORE_LOO_LOSS;
    options.noise_std = problem->likelihood == IVON_GAUSSIAN ? 0.5 : NAN;
    options.ignored = problem->token_axis ? IGNORED : INT64_MIN;
    options.variances = true;
    options.threads = 1;
    return options;
}

/* What the library says. */

struct collected {
    size_t blocks, next; /* how many came, and the example that is to come */
    double loss[EXAMPLES], residual[EXAMPLES], deviation[EXAMPLES], mpe[EXAMPLES];
    double self_influence[EXAMPLES], loo_loss[EXAMPLES], influence[EXAMPLES];
    double row_loss[EXAMPLES * TOKENS], row_residual[EXAMPLES * TOKENS];
    double row_deviation[EXAMPLES * TOKENS], row_mpe[EXAMPLES * TOKENS];
    double row_loo_loss[EXAMPLES * TOKENS];
    float row_error[EXAMPLES * TOKENS], row_loo_error[EXAMPLES * TOKENS];
    float outputs[EXAMPLES * WIDTH], residual_vector[EXAMPLES * WIDTH];
    float deviation_vector[EXAMPLES * WIDTH], variance[EXAMPLES * WIDTH];
    float covariance[EXAMPLES * WIDTH * WIDTH];
    int64_t labels[EXAMPLES * WIDTH], prediction[EXAMPLES * WIDTH];
    float targets[EXAMPLES * WIDTH];
};

struct collector {
    const struct problem *problem;
    struct collected *collected;
};

#define TAKE(name, each)                                                                           \
    if (block->name)                                                                               \
    memcpy(collected->name + block->first * (each), block->name,                                   \
           block->count * (each) * sizeof *block->name)

static int take(void *context, const struct ivon_sensitivities *block, struct ivon_error *error)
{
    (void)error;
    const struct collector *collector = context;
    struct collected *collected = collector->collected;
    size_t tokens = collector->problem->tokens, wide = tokens * CLASSES;
    size_t each = collector->problem->likelihood == IVON_CATEGORICAL ? tokens : wide;
    assert_int_equal(block->first, collected->next);
    collected->next += block->count;
    collected->blocks++;
    TAKE(loss, 1);
    TAKE(residual, 1);
    TAKE(deviation, 1);
    TAKE(mpe, 1);
    TAKE(self_influence, 1);
    TAKE(loo_loss, 1);
    TAKE(influence, 1);
    TAKE(row_loss, tokens);
    TAKE(row_residual, tokens);
    TAKE(row_deviation, tokens);
    TAKE(row_mpe, tokens);
    TAKE(row_loo_loss, tokens);
    TAKE(row_error, tokens);
    TAKE(row_loo_error, tokens);
    TAKE(outputs, wide);
    TAKE(residual_vector, wide);
    TAKE(deviation_vector, wide);
    TAKE(variance, wide);
    TAKE(covariance, wide * wide);
    TAKE(labels, each);
    TAKE(prediction, each);
    TAKE(targets, wide);
    bool gaussian = collector->problem->likelihood == IVON_GAUSSIAN;
    assert_true(!block->labels == gaussian && !block->targets == !gaussian);
    assert_true(!block->prediction == gaussian && !block->row_error == gaussian);
    return 0;
}

static struct ivon_sensitivity *make(struct problem *problem,
                                     const struct ivon_sensitivity_options *options)
{
    struct ivon_sensitivity *sensitivity = NULL;
    struct ivon_error error = {0};
    if (ivon_sensitivity_new(&sensitivity, problem->model.network, problem->model.source,
                             problem->examples, "y", options, &error))
        fail_msg("%s", error.message);
    return sensitivity;
}

static void run_from(struct problem *problem, struct ivon_sensitivity *sensitivity, uint64_t first,
                     struct collected *collected)
{
    struct ivon_error error = {0};
    struct collector collector = {problem, collected};
    memset(collected, 0, sizeof *collected);
    collected->next = first;
    if (ivon_sensitivity_run(sensitivity, first, take, &collector, &error))
        fail_msg("%s", error.message);
    assert_int_equal(collected->next, EXAMPLES);
}

static void collect(struct problem *problem, const struct ivon_sensitivity_options *options,
                    struct collected *collected)
{
    struct ivon_sensitivity *sensitivity = make(problem, options);
    struct ivon_error error = {0};
    if (options->scores & IVON_SCORE_INFLUENCE &&
        ivon_sensitivity_aim(sensitivity, problem->examples, "y", &error))
        fail_msg("%s", error.message);
    run_from(problem, sensitivity, 0, collected);
    ivon_sensitivity_free(sensitivity);
}

/* The least memory that it runs with. */
static size_t least_memory(struct problem *problem, struct ivon_sensitivity_options options)
{
    size_t low = 1, high = 1 << 20; /* too little, enough */
    while (high - low > 1) {
        struct ivon_sensitivity *sensitivity = NULL;
        options.memory = low + (high - low) / 2;
        int code = ivon_sensitivity_new(&sensitivity, problem->model.network, problem->model.source,
                                        problem->examples, "y", &options, NULL);
        assert_true(code == 0 || code == IVON_ERROR_MEMORY);
        *(code ? &low : &high) = options.memory;
        ivon_sensitivity_free(sensitivity);
    }
    return high;
}

/* What it should say. */

struct reference {
    double rho;
    double f[EXAMPLES][WIDTH], e[EXAMPLES][WIDTH], jacobian[EXAMPLES][WIDTH][PARAMETERS];
    double gradient[EXAMPLES][PARAMETERS];
    double covariance[EXAMPLES][WIDTH][WIDTH], moved[EXAMPLES][WIDTH]; /* Δf */
    double loss[EXAMPLES], residual[EXAMPLES], deviation[EXAMPLES], mpe[EXAMPLES];
    double self_influence[EXAMPLES], loo_loss[EXAMPLES];
    double row_loss[EXAMPLES * TOKENS], row_loo_loss[EXAMPLES * TOKENS];
    double row_deviation[EXAMPLES * TOKENS];
};

/* One row: f, and its derivatives with respect to all parameters, in their order. */
static void differentiate(const struct problem *problem, const float *x, double *f,
                          double (*jacobian)[PARAMETERS])
{
    size_t hidden = problem->hidden, inner = hidden ? hidden : INPUTS;
    size_t first = hidden ? INPUTS * hidden + hidden : 0;
    double a[INPUTS + HIDDEN];
    for (size_t j = 0; j < inner; j++) {
        a[j] = hidden ? (double)problem->b1[j] : (double)x[j];
        for (size_t d = 0; d < INPUTS && hidden; d++)
            a[j] += (double)x[d] * (double)problem->w1[d * hidden + j];
        a[j] = hidden ? tanh(a[j]) : a[j];
    }
    for (size_t c = 0; c < CLASSES; c++) {
        memset(jacobian[c], 0, sizeof jacobian[c]);
        f[c] = (double)problem->b2[c];
        for (size_t j = 0; j < inner; j++) {
            double weight = (double)problem->w2[j * CLASSES + c];
            f[c] += a[j] * weight;
            jacobian[c][first + j * CLASSES + c] = a[j];
            double slope = weight * (1 - a[j] * a[j]);
            for (size_t d = 0; d < INPUTS && hidden; d++)
                jacobian[c][d * hidden + j] = slope * (double)x[d];
            if (hidden)
                jacobian[c][INPUTS * hidden + j] = slope;
        }
        jacobian[c][first + inner * CLASSES + c] = 1;
    }
}

static bool ignored(const struct problem *problem, size_t row)
{
    return problem->likelihood == IVON_CATEGORICAL && problem->token_axis &&
           problem->labels[row] == IGNORED;
}

/* p of one row of outputs. */
static void probabilities(const struct problem *problem, const double *f, double *p)
{
    double sum = 0;
    for (size_t c = 0; c < CLASSES; c++)
        sum += exp(f[c]);
    for (size_t c = 0; c < CLASSES; c++)
        p[c] = problem->likelihood == IVON_CATEGORICAL ? exp(f[c]) / sum
               : problem->likelihood == IVON_BERNOULLI ? 1 / (1 + exp(-f[c]))
                                                       : f[c];
}

static double loss_of(const struct problem *problem, size_t row, const double *f)
{
    double p[CLASSES], loss = 0;
    probabilities(problem, f, p);
    if (problem->likelihood == IVON_CATEGORICAL)
        return ignored(problem, row) ? 0 : -log(p[problem->labels[row]]);
    for (size_t c = 0; c < CLASSES; c++) {
        size_t at = row * CLASSES + c;
        double error = (f[c] - (double)problem->numbers[at]) / 0.5;
        loss += problem->likelihood == IVON_GAUSSIAN ? error * error / 2
                                                     : -log(problem->labels[at] ? p[c] : 1 - p[c]);
    }
    return loss;
}

/* e = (p − y), over s² for a Gaussian. */
static void residual_of(const struct problem *problem, size_t row, const double *p, double *e)
{
    for (size_t c = 0; c < CLASSES; c++) {
        size_t at = row * CLASSES + c;
        if (problem->likelihood == IVON_CATEGORICAL)
            e[c] = ignored(problem, row) ? 0 : p[c] - ((int64_t)c == problem->labels[row]);
        else if (problem->likelihood == IVON_BERNOULLI)
            e[c] = p[c] - (double)problem->labels[at];
        else
            e[c] = (p[c] - (double)problem->numbers[at]) / 0.25;
    }
}

/* C = J Σ Jᵀ of an example, and g = Jᵀ e. */
static void square(const struct problem *problem, struct reference *reference, size_t i)
{
    size_t wide = problem->tokens * CLASSES;
    for (size_t j = 0; j < wide; j++)
        for (size_t k = 0; k < wide; k++)
            for (size_t p = 0; p < problem->parameters; p++)
                reference->covariance[i][j][k] += reference->jacobian[i][j][p] *
                                                  problem->variance[p] *
                                                  reference->jacobian[i][k][p];
    for (size_t p = 0; p < problem->parameters; p++)
        for (size_t j = 0; j < wide; j++)
            reference->gradient[i][p] += reference->jacobian[i][j][p] * reference->e[i][j];
}

static void score(const struct problem *problem, struct reference *reference, size_t i, bool full)
{
    size_t tokens = problem->tokens, wide = tokens * CLASSES;
    double rho = reference->rho, *e = reference->e[i], (*c)[WIDTH] = reference->covariance[i];
    for (size_t j = 0; j < wide; j++)
        for (size_t k = 0; k < wide; k++) {
            reference->moved[i][j] += full || j == k ? rho * c[j][k] * e[k] : 0;
            reference->self_influence[i] += rho * e[j] * c[j][k] * e[k];
        }
    for (size_t t = 0; t < tokens; t++) {
        size_t row = i * tokens + t, at = t * CLASSES;
        double moved[CLASSES], before[CLASSES], after[CLASSES];
        for (size_t k = 0; k < CLASSES; k++)
            moved[k] = reference->f[i][at + k] + reference->moved[i][at + k];
        probabilities(problem, reference->f[i] + at, before);
        probabilities(problem, moved, after);
        for (size_t k = 0; k < CLASSES; k++) {
            double curvature = problem->likelihood == IVON_GAUSSIAN ? 4 : before[k] * (1 - before[k]);
            reference->residual[i] += fabs(e[at + k]);
            reference->mpe[i] += fabs(curvature * rho * c[at + k][at + k] * e[at + k]);
            if (!ignored(problem, row))
                reference->row_deviation[row] += fabs(after[k] - before[k]);
        }
        reference->row_loss[row] = loss_of(problem, row, reference->f[i] + at);
        reference->row_loo_loss[row] = loss_of(problem, row, moved);
        reference->loss[i] += reference->row_loss[row];
        reference->loo_loss[i] += reference->row_loo_loss[row];
        reference->deviation[i] += reference->row_deviation[row];
    }
}

/* `expected`: p averaged over samples, or null. */
static void refer(const struct problem *problem, double rho, bool full, const double *expected,
                  struct reference *reference)
{
    memset(reference, 0, sizeof *reference);
    reference->rho = rho;
    size_t tokens = problem->tokens;
    for (size_t i = 0; i < EXAMPLES; i++) {
        for (size_t t = 0; t < tokens; t++) {
            size_t row = i * tokens + t, at = t * CLASSES;
            double p[CLASSES];
            differentiate(problem, problem->x + row * INPUTS, reference->f[i] + at,
                          reference->jacobian[i] + at);
            probabilities(problem, reference->f[i] + at, p);
            residual_of(problem, row, expected ? expected + row * CLASSES : p,
                        reference->e[i] + at);
        }
        square(problem, reference, i);
        score(problem, reference, i, full);
    }
}

static void compare(const char *what, const double *found, const double *expected, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fabs(expected[i]));
    assert_true(most > 0);
    for (size_t i = 0; i < count; i++)
        if (!(fabs(found[i] - expected[i]) <= ROUNDING * most))
            fail_msg("%s %zu: %.9g, expected %.9g, to %.2g", what, i, found[i], expected[i],
                     ROUNDING * most);
}

static void compare_floats(const char *what, const float *found, const double *expected,
                           size_t count)
{
    double *wide = calloc(count, sizeof *wide);
    assert_non_null(wide);
    for (size_t i = 0; i < count; i++)
        wide[i] = (double)found[i];
    compare(what, wide, expected, count);
    free(wide);
}

/* Differences of probabilities are right to what the probabilities are, which are below 1. */
static void compare_differences(const char *what, const double *found, const double *expected,
                                size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabs(found[i] - expected[i]) <= ROUNDING * (1 + fabs(expected[i]))))
            fail_msg("%s %zu: %.9g, expected %.9g", what, i, found[i], expected[i]);
}

static void compare_all(const struct problem *problem, const struct collected *collected,
                        const struct reference *reference, bool covariances)
{
    size_t tokens = problem->tokens, wide = tokens * CLASSES, rows = EXAMPLES * tokens;
    compare("loss", collected->loss, reference->loss, EXAMPLES);
    compare("residual", collected->residual, reference->residual, EXAMPLES);
    compare("mpe", collected->mpe, reference->mpe, EXAMPLES);
    compare("self-influence", collected->self_influence, reference->self_influence, EXAMPLES);
    compare("loo loss", collected->loo_loss, reference->loo_loss, EXAMPLES);
    compare("row's loss", collected->row_loss, reference->row_loss, rows);
    compare("row's loo loss", collected->row_loo_loss, reference->row_loo_loss, rows);
    compare_differences("deviation", collected->deviation, reference->deviation, EXAMPLES);
    compare_differences("row's deviation", collected->row_deviation, reference->row_deviation, rows);
    for (size_t i = 0; i < EXAMPLES; i++) {
        compare_floats("output", collected->outputs + i * wide, reference->f[i], wide);
        double variance[WIDTH], covariance[WIDTH * WIDTH];
        for (size_t j = 0; j < wide; j++) {
            variance[j] = reference->covariance[i][j][j];
            for (size_t k = 0; k < wide; k++)
                covariance[j * wide + k] = reference->covariance[i][j][k];
        }
        compare_floats("variance", collected->variance + i * wide, variance, wide);
        if (covariances)
            compare_floats("covariance", collected->covariance + i * wide * wide, covariance,
                           wide * wide);
        bool any = false;
        for (size_t j = 0; j < wide; j++)
            any |= reference->e[i][j] != 0;
        if (!any) {
            assert_true(collected->self_influence[i] == 0 && collected->loss[i] == 0);
            continue;
        }
        compare_floats("residual", collected->residual_vector + i * wide, reference->e[i], wide);
        compare_floats("deviation", collected->deviation_vector + i * wide, reference->moved[i],
                       wide);
    }
}

/* Predictions, and whether they miss, follow from the outputs. */
static void check_errors(const struct problem *problem, const struct collected *collected)
{
    for (size_t row = 0; row < EXAMPLES * problem->tokens; row++) {
        const float *f = collected->outputs + row * CLASSES;
        const float *moved = collected->deviation_vector + row * CLASSES;
        size_t best = 0, moved_best = 0, missed = 0, moved_missed = 0;
        for (size_t c = 0; c < CLASSES; c++) {
            best = f[c] > f[best] ? c : best;
            moved_best = f[c] + moved[c] > f[moved_best] + moved[moved_best] ? c : moved_best;
            size_t at = row * CLASSES + c;
            missed += (f[c] > 0) != problem->labels[at];
            moved_missed += (f[c] + moved[c] > 0) != problem->labels[at];
            if (problem->likelihood == IVON_BERNOULLI)
                assert_int_equal(collected->prediction[at], f[c] > 0);
        }
        float error = (float)missed / CLASSES, moved_error = (float)moved_missed / CLASSES;
        if (problem->likelihood == IVON_CATEGORICAL) {
            assert_int_equal(collected->prediction[row], best);
            error = ignored(problem, row) ? -1 : (int64_t)best != problem->labels[row];
            moved_error = ignored(problem, row) ? -1 : (int64_t)moved_best != problem->labels[row];
        }
        assert_true(collected->row_error[row] == error);
        assert_true(collected->row_loo_error[row] == moved_error);
    }
}

static struct collected found, other;
static struct reference expected;

/* The tests. */

static void all_numbers(void **state)
{
    (void)state;
    static const size_t batches[] = {1, 4, 0};
    for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_GAUSSIAN; likelihood++)
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
                    refer(&problem, problem.model.ess / EXAMPLES, full, NULL, &expected);
                    compare_all(&problem, &found, &expected, options.covariances);
                    if (likelihood != IVON_GAUSSIAN)
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
    refer(&problem, problem.model.ess / EXAMPLES, true, NULL, &expected);
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

/* With samples, residuals are p averaged over networks with drawn weights; p is the library's own to
   the rounding of averages. */
static void residuals_over_samples(void **state)
{
    (void)state;
    enum { SAMPLES = 5 };
    for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_GAUSSIAN; likelihood++) {
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
                for (size_t c = 0; c < CLASSES; c++)
                    averages[row * CLASSES + c] += p[c] / SAMPLES;
            }
            for (size_t p = 0; p < 4; p++)
                free(draws[p]);
        }
        refer(&problem, problem.model.ess / EXAMPLES, true, averages, &expected);
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
    assert_int_equal(ivon_sensitivity_run(sensitivity, 0, take, &collector, &error), IVON_ERROR_IO);
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
        options.scores |= IVON_SCORE_INFLUENCE;
        options.covariances = true;
        options.batch = 2;
        collect(&problem, &options, &found);
        assert_int_equal(found.blocks, 1);
        size_t least = least_memory(&problem, options);
        for (options.threads = 1; options.threads <= 3; options.threads++)
            for (options.memory = least; options.memory <= 64 * least; options.memory *= 4) {
                collect(&problem, &options, &other);
                if (options.memory == least && problem.token_axis) /* larger than their plans */
                    assert_true(other.blocks > 1);
                other.blocks = found.blocks;
                assert_memory_equal(&other, &found, sizeof found);
            }
        problem_end(&problem);
    }
}

/* Goes on where it left off: the same bits from the beginning of a tile, and to rounding anywhere. */
static void goes_on(void **state)
{
    (void)state;
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, true, HIDDEN);
    struct ivon_sensitivity_options options = options_of(&problem);
    options.batch = 4;
    struct ivon_sensitivity *sensitivity = make(&problem, &options);
    run_from(&problem, sensitivity, 0, &found);
    refer(&problem, problem.model.ess / EXAMPLES, true, NULL, &expected);
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
    assert_int_equal(ivon_sensitivity_run(sensitivity, EXAMPLES, take, &collector, NULL), 0);
    ivon_sensitivity_free(sensitivity);
    problem_end(&problem);
}

/* ρ gᵀ Σ Σ_t g_t of each example, the test examples being all of them, and then others. */
static void influence(void **state)
{
    (void)state;
    enum { TESTS = 6 };
    for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_GAUSSIAN; likelihood++) {
        struct problem problem;
        problem_begin(&problem, (enum ivon_likelihood)likelihood, true, HIDDEN);
        struct ivon_sensitivity_options options = options_of(&problem);
        options.scores = IVON_SCORE_INFLUENCE;
        options.batch = 4;
        struct ivon_sensitivity *sensitivity = make(&problem, &options);
        refer(&problem, problem.model.ess / EXAMPLES, true, NULL, &expected);
        bool classes = likelihood == IVON_CATEGORICAL, gaussian = likelihood == IVON_GAUSSIAN;
        struct table table;
        int64_t shape[] = {TOKENS, INPUTS}, wide[] = {TOKENS, CLASSES};
        size_t at = 11 * TOKENS * (classes ? 1 : CLASSES);
        struct ivon_examples *tests = open_table(
            &table, TESTS, 2, shape, problem.x + 11 * TOKENS * INPUTS,
            gaussian ? IVON_F32 : IVON_I64, classes ? 1 : 2, wide,
            gaussian ? (void *)(problem.numbers + at) : (void *)(problem.labels + at));
        for (int own = 1; own >= 0; own--) {
            double influences[EXAMPLES] = {0};
            assert_int_equal(ivon_sensitivity_aim(sensitivity, own ? problem.examples : tests, "y",
                                                  NULL),
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
        members += !rest;
        for (size_t t = 0; t < tokens; t++) {
            double f[CLASSES];
            for (size_t c = 0; c < CLASSES; c++) {
                f[c] = expected.f[i][t * CLASSES + c];
                for (size_t p = 0; p < problem->parameters; p++)
                    f[c] += expected.jacobian[i][t * CLASSES + c][p] * u[p];
            }
            if (ignored(problem, i * tokens + t))
                continue;
            loss[rest] += expected.row_loss[i * tokens + t];
            moved_loss[rest] += loss_of(problem, i * tokens + t, f);
            rows[rest]++;
        }
    }
    assert_int_equal(removal->count, members);
    expect_mean("own loss", removal->own_loss, loss[0] / rows[0]);
    expect_mean("own loss without", removal->own_loss_without, moved_loss[0] / rows[0]);
    expect_mean("rest loss", removal->rest_loss, loss[1] / rows[1]);
    expect_mean("rest loss without", removal->rest_loss_without, moved_loss[1] / rows[1]);
    if (problem->likelihood == IVON_GAUSSIAN)
        assert_true(isnan(removal->own_error) && isnan(removal->rest_error_without));
    else if (rows[1] > 0)
        assert_true(removal->rest_error >= 0 && removal->rest_error <= 1);
}

static void groups_of_examples(void **state)
{
    (void)state;
    for (int likelihood = IVON_CATEGORICAL; likelihood <= IVON_GAUSSIAN; likelihood++)
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
            refer(&problem, problem.model.ess / EXAMPLES, true, NULL, &expected);
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
    refer(&problem, problem.model.ess / EXAMPLES, true, NULL, &expected);
    struct ivon_group_removal *removals = remove_groups(&problem, &options, groups, &count);
    assert_int_equal(count, EXAMPLES);
    for (size_t g = 0; g < count; g++) {
        size_t i = EXAMPLES - 1 - g;
        double rows = 0, missed = 0, moved_missed = 0;
        for (size_t t = 0; t < TOKENS; t++) {
            if (ignored(&problem, i * TOKENS + t))
                continue;
            rows++;
            missed += (double)found.row_error[i * TOKENS + t];
            moved_missed += (double)found.row_loo_error[i * TOKENS + t];
        }
        check_group(&problem, groups, &removals[g]);
        expect_mean("own loss", removals[g].own_loss, found.loss[i] / rows);
        expect_mean("loo loss", removals[g].own_loss_without, found.loo_loss[i] / rows);
        expect_mean("own error", removals[g].own_error, missed / rows);
        expect_mean("loo error", removals[g].own_error_without, moved_missed / rows);
    }
    /* The same bits by several threads, and with one group at a time. */
    size_t least = least_memory(&problem, options);
    for (options.threads = 1; options.threads <= 3; options.threads++)
        for (options.memory = least; options.memory <= 64 * least; options.memory *= 4) {
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
    refer(&problem, problem.model.ess / EXAMPLES, true, NULL, &expected);
    struct ivon_group_removal *removals = remove_groups(&problem, &options, groups, &count);
    assert_int_equal(count, 1);
    check_group(&problem, groups, removals);
    assert_true(isnan(removals->rest_loss) && isnan(removals->rest_loss_without));
    assert_true(isnan(removals->rest_error) && isnan(removals->rest_error_without));
    free(removals);
    problem_end(&problem);
}

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
    options.memory = least_memory(&problem, options);
    options.batch = 0;
    options.threads = 3; /* as many as memory holds */
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
    struct ivon_examples *empty =
        open_table(&table, 0, 1, shape, problem.x, IVON_I64, 0, NULL, problem.labels);
    refuse(&problem, &fine, empty, "y", IVON_ERROR_DATA, "data: has no examples");
    ivon_examples_close(empty);
    struct ivon_examples *wide =
        open_table(&table, 5, 1, shape, problem.x, IVON_I64, 1, two, problem.labels);
    refuse(&problem, &fine, wide, "y", IVON_ERROR_DATA,
           "data: 'y' has 2 numbers for each example, expected 1");
    ivon_examples_close(wide);
    struct ivon_examples *real =
        open_table(&table, 5, 1, shape, problem.x, IVON_F32, 0, NULL, problem.numbers);
    refuse(&problem, &fine, real, "y", IVON_ERROR_ARGUMENT, "is the likelihood gaussian?");
    ivon_examples_close(real);
    static const double bad[] = {0, -1, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        options = fine;
        options.rho = bad[i];
        refuse(&problem, &options, problem.examples, "y", IVON_ERROR_ARGUMENT,
               "expected a positive number");
    }
    for (size_t i = 0; i < 2; i++) {
        options = fine;
        options.likelihood = IVON_GAUSSIAN;
        options.noise_std = i ? -1 : NAN;
        refuse(&problem, &options, problem.examples, "y", IVON_ERROR_ARGUMENT,
               "needs the standard deviation of the noise");
    }
    options = fine;
    options.scores = IVON_SCORE_INFLUENCE;
    struct ivon_sensitivity *sensitivity = make(&problem, &options);
    struct ivon_error error = {0};
    assert_int_equal(ivon_sensitivity_run(sensitivity, 0, take, NULL, &error), IVON_ERROR_ARGUMENT);
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
    assert_int_equal(ivon_sensitivity_run(sensitivity, 0, take, &collector, &error),
                     IVON_ERROR_DATA);
    if (strncmp(error.message, message, strlen(message)) != 0)
        fail_msg("'%s', expected '%s'", error.message, message);
    assert_int_equal(ivon_sensitivity_aim(sensitivity, problem->examples, "y", NULL),
                     IVON_ERROR_DATA);
    assert_int_equal(ivon_sensitivity_groups(sensitivity, groups, &removals, &count, NULL),
                     IVON_ERROR_DATA);
    assert_null(removals);
}

/* Numbers that cannot be used are found with their row, in whatever block and thread; afterwards all
   is as before. */
static void bad_rows(void **state)
{
    (void)state;
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    struct ivon_sensitivity_options options = options_of(&problem);
    options.batch = 4;
    options.threads = 2;
    struct ivon_sensitivity *sensitivity = make(&problem, &options);
    run_from(&problem, sensitivity, 0, &found);
    int64_t label = problem.labels[17];
    problem.labels[17] = CLASSES;
    expect_row(&problem, sensitivity, "data: row 17: target 3, expected a class from 0 to 2");
    problem.labels[17] = -1;
    expect_row(&problem, sensitivity, "data: row 17: target -1, expected a class from 0 to 2");
    problem.labels[17] = label;
    float x = problem.x[7 * INPUTS + 2];
    problem.x[7 * INPUTS + 2] = NAN;
    expect_row(&problem, sensitivity, "data: row 7: the network's output is not a finite number");
    problem.x[7 * INPUTS + 2] = x;
    run_from(&problem, sensitivity, 0, &other);
    assert_memory_equal(&other, &found, sizeof found);
    ivon_sensitivity_free(sensitivity);
    problem_end(&problem);

    problem_begin(&problem, IVON_GAUSSIAN, true, HIDDEN); /* the example, not its token */
    options = options_of(&problem);
    sensitivity = make(&problem, &options);
    problem.x[(9 * TOKENS + 2) * INPUTS] = INFINITY;
    problem.w1[0] = 0; /* ∞ · 0 */
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
    problem.examples =
        open_table(&table, EXAMPLES, 2, shape, x, IVON_I64, 0, NULL, problem.labels);
    struct ivon_examples *longer =
        open_table(&longer_table, EXAMPLES, 2, longer_shape, x, IVON_I64, 0, NULL, problem.labels);
    struct ivon_sensitivity_options options = options_of(&problem);
    struct ivon_sensitivity *sensitivity = make(&problem, &options);
    assert_int_equal(ivon_sensitivity_aim(sensitivity, longer, "y", &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "data: an example for input 'x' has shape 1x5x5, data has "
                                       "1x3x5");
    assert_int_equal(ivon_sensitivity_aim(sensitivity, problem.examples, "y", &error), 0);
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
    options.progress.report = stop;
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
        cmocka_unit_test(all_numbers),
        cmocka_unit_test(targets_are_handed_out),
        cmocka_unit_test(sizes_of_removals),
        cmocka_unit_test(selected_parameters),
        cmocka_unit_test(nothing_moves),
        cmocka_unit_test(residuals_over_samples),
        cmocka_unit_test(averaging_that_fails),
        cmocka_unit_test(same_bits),
        cmocka_unit_test(goes_on),
        cmocka_unit_test(influence),
        cmocka_unit_test(groups_of_examples),
        cmocka_unit_test(groups_of_one),
        cmocka_unit_test(one_group_of_all),
        cmocka_unit_test(single_examples),
        cmocka_unit_test(little_memory),
        cmocka_unit_test(refusals),
        cmocka_unit_test(no_hessian),
        cmocka_unit_test(fixed_batch),
        cmocka_unit_test(bad_rows),
        cmocka_unit_test(other_shapes),
        cmocka_unit_test(stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
