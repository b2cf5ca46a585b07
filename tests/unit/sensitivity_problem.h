/*
 * Problems of removing examples that are so small that every Jacobian fits on a page:
 * f = W₂ᵀ tanh(W₁ᵀ x + b₁) + b₂ or f = W₂ᵀ x + b₂ for each row; and what the library says of them.
 */
#ifndef TESTS_UNIT_SENSITIVITY_PROBLEM_H
#define TESTS_UNIT_SENSITIVITY_PROBLEM_H

#include "ivon/sensitivity.h"
#include "table_examples.h"

enum {
    EXAMPLES = 23,
    INPUTS = 5,
    HIDDEN = 4,
    CLASSES = 4, /* two means and two logarithms of variances */
    HALF = CLASSES / 2,
    TOKENS = 3,
    WIDTH = TOKENS * CLASSES,
    PARAMETERS = INPUTS * HIDDEN + HIDDEN + INPUTS * CLASSES + CLASSES,
    IGNORED = -1,
};

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

static inline float *add_parameter(struct problem *problem, const char *name, int rank,
                                   const int64_t *shape, bool random)
{
    struct model *m = &problem->model;
    float *values = model_parameter(m, name, rank, shape, -1, 1);
    size_t count = m->tensors[m->count - 1].count;
    const float *hessian = random ? model_hessian(m, name, rank, shape, 0, 2) : NULL;
    for (size_t i = 0; i < count; i++)
        problem->variance[problem->parameters++] =
            random ? 1 / (m->ess * ((double)hessian[i] + m->weight_decay)) : 0;
    return values;
}

/* From value "x" on: rows of INPUTS numbers. */
static inline void add_network(struct problem *problem)
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

static inline void add_data(struct problem *problem)
{
    size_t tokens = problem->tokens;
    bool classes = problem->likelihood == IVON_CATEGORICAL;
    size_t each = ivon_likelihood_targets(problem->likelihood, CLASSES), targets = tokens * each;
    for (size_t i = 0; i < EXAMPLES * tokens * INPUTS; i++)
        problem->x[i] = model_random(&problem->model, -1, 1);
    for (size_t i = 0; i < EXAMPLES * targets; i++) {
        problem->labels[i] = (int64_t)model_random(&problem->model, 0, classes ? CLASSES : 2);
        problem->numbers[i] = model_random(&problem->model, -2, 2);
        if (problem->likelihood == IVON_POISSON)
            problem->numbers[i] = floorf(2 * fabsf(problem->numbers[i]));
        if (classes && problem->token_axis && (i % 5 == 1 || i / tokens == 8))
            problem->labels[i] = IGNORED; /* and all of example 8's */
    }
    bool numbers = problem->likelihood >= IVON_GAUSSIAN;
    int64_t shape[] = {(int64_t)tokens, INPUTS}, wide[] = {(int64_t)tokens, (int64_t)each};
    int axis = !problem->token_axis;
    problem->examples = open_table(&problem->table, EXAMPLES, 2 - axis, shape + axis, problem->x,
                                   numbers ? IVON_F32 : IVON_I64, 2 - axis - classes, wide + axis,
                                   numbers ? (void *)problem->numbers : (void *)problem->labels);
}

/* Everything up to binding: a test may add to the graph. `batch`: the first axis of the input. */
static inline void problem_start(struct problem *problem, enum ivon_likelihood likelihood,
                                 bool token_axis, size_t hidden, int64_t batch)
{
    *problem = (struct problem){.likelihood = likelihood,
                                .token_axis = token_axis,
                                .tokens = token_axis ? TOKENS : 1,
                                .hidden = hidden};
    model_begin(&problem->model);
    int64_t shape[] = {batch, TOKENS, INPUTS}, flat[] = {batch, INPUTS};
    model_input(&problem->model, "x", NET_FLOAT, token_axis ? 3 : 2, token_axis ? shape : flat);
}

static inline void problem_finish(struct problem *problem)
{
    add_network(problem);
    model_bind(&problem->model);
    add_data(problem);
}

static inline void problem_begin(struct problem *problem, enum ivon_likelihood likelihood,
                                 bool token_axis, size_t hidden)
{
    problem_start(problem, likelihood, token_axis, hidden, -1);
    model_node(&problem->model, "Identity", "rows", "x");
    problem_finish(problem);
}

static inline void problem_end(struct problem *problem)
{
    ivon_examples_close(problem->examples);
    model_end(&problem->model);
}

static inline struct ivon_sensitivity_options options_of(const struct problem *problem)
{
    struct ivon_sensitivity_options options = ivon_sensitivity_defaults();
    options.task.likelihood = problem->likelihood;
    options.vectors = true;
    options.scores = IVON_SCORE_BIT(IVON_SCORE_DEVIATION) | IVON_SCORE_BIT(IVON_SCORE_MPE) |
                     IVON_SCORE_BIT(IVON_SCORE_SELF_INFLUENCE) |
                     IVON_SCORE_BIT(IVON_SCORE_LOO_LOSS);
    options.task.noise_std = problem->likelihood == IVON_GAUSSIAN ? 0.5 : NAN;
    options.task.ignored = problem->token_axis ? IGNORED : INT64_MIN;
    options.variances = true;
    options.resources.threads = 1;
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

#define TAKE_SCORE(name, score, list, each)                                                        \
    if (block->list[score])                                                                        \
    memcpy(collected->name + block->first * (each), block->list[score],                            \
           block->count * (each) * sizeof(double))

static inline int on_block(void *context, const struct ivon_sensitivities *block,
                           struct ivon_error *error)
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
    TAKE_SCORE(deviation, IVON_SCORE_DEVIATION, scores, 1);
    TAKE_SCORE(mpe, IVON_SCORE_MPE, scores, 1);
    TAKE_SCORE(self_influence, IVON_SCORE_SELF_INFLUENCE, scores, 1);
    TAKE_SCORE(loo_loss, IVON_SCORE_LOO_LOSS, scores, 1);
    TAKE_SCORE(influence, IVON_SCORE_INFLUENCE, scores, 1);
    TAKE(row_loss, tokens);
    TAKE(row_residual, tokens);
    TAKE_SCORE(row_deviation, IVON_SCORE_DEVIATION, row_scores, tokens);
    TAKE_SCORE(row_mpe, IVON_SCORE_MPE, row_scores, tokens);
    TAKE_SCORE(row_loo_loss, IVON_SCORE_LOO_LOSS, row_scores, tokens);
    TAKE(row_error, tokens);
    TAKE(row_loo_error, tokens);
    TAKE(outputs, wide);
    TAKE(residual_vector, wide);
    TAKE(deviation_vector, wide);
    TAKE(variance, wide);
    TAKE(covariance, wide * wide);
    TAKE(labels, each);
    TAKE(prediction, each);
    TAKE(targets, tokens * ivon_likelihood_targets(collector->problem->likelihood, CLASSES));
    bool numbers = collector->problem->likelihood >= IVON_GAUSSIAN;
    assert_true(!block->labels == numbers && !block->targets == !numbers);
    assert_true(!block->prediction == numbers && !block->row_error == numbers);
    assert_true(!block->means == !numbers);
    return 0;
}

static inline struct ivon_sensitivity *make(struct problem *problem,
                                            const struct ivon_sensitivity_options *options)
{
    struct ivon_sensitivity *sensitivity = NULL;
    struct ivon_error error = {0};
    if (ivon_sensitivity_new(&sensitivity, problem->model.network, problem->model.source,
                             problem->examples, "y", options, &error))
        fail_msg("%s", error.message);
    return sensitivity;
}

static inline void run_from(struct problem *problem, struct ivon_sensitivity *sensitivity,
                            uint64_t first, struct collected *collected)
{
    struct ivon_error error = {0};
    struct collector collector = {problem, collected};
    memset(collected, 0, sizeof *collected);
    collected->next = first;
    if (ivon_sensitivity_run(sensitivity, first, on_block, &collector, &error))
        fail_msg("%s", error.message);
    assert_false(ivon_sensitivity_saw_probabilities(sensitivity));
    assert_int_equal(collected->next, EXAMPLES);
}

static inline void collect(struct problem *problem, const struct ivon_sensitivity_options *options,
                           struct collected *collected)
{
    struct ivon_sensitivity *sensitivity = make(problem, options);
    struct ivon_error error = {0};
    if (options->scores & IVON_SCORE_BIT(IVON_SCORE_INFLUENCE) &&
        ivon_sensitivity_set_test_data(sensitivity, problem->examples, "y", &error))
        fail_msg("%s", error.message);
    run_from(problem, sensitivity, 0, collected);
    ivon_sensitivity_free(sensitivity);
}

/* The least memory that it runs with. */
static inline size_t least_memory(struct problem *problem, struct ivon_sensitivity_options options)
{
    size_t low = 1, high = 1 << 20; /* too little, enough */
    while (high - low > 1) {
        struct ivon_sensitivity *sensitivity = NULL;
        options.resources.memory = low + (high - low) / 2;
        int code = ivon_sensitivity_new(&sensitivity, problem->model.network, problem->model.source,
                                        problem->examples, "y", &options, NULL);
        assert_true(code == 0 || code == IVON_ERROR_MEMORY);
        *(code ? &low : &high) = options.resources.memory;
        ivon_sensitivity_free(sensitivity);
    }
    return high;
}

#endif
