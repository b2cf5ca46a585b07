/*
 * Averaged predictions of a linear network, f = W₂ᵀ x + b₂, against softmax in double of weights
 * from ivon_sample_draw.
 *
 * Tolerances: means lie in [-1, 1], h + δ in [.25, 2.25] and λ is 20, so that σ < .45, and no
 * weight exceeds 4 as long as its normal stays below 6.7 (one in 10^10). Then |f| < 6 · 4 = 24, and
 * six roundings of 2^-24 each leave an error of f below 6 · 24 · 2^-24 < 2^-16. A probability moves
 * by at most 2 p times that, its own roundings are 2^-22: 2^-15 of it. An averaged −log p moves by
 * 2 · 2^-16 and rounds to 2^-22 of at most 48: 2^-14.
 */
#include "sensitivity_problem.h"

#include "bayes/predict/private.h"

enum { SAMPLES = 6, SEED = 11, STOP = 7 };

static const double of_probability = 0x1p-15, of_loss = 0x1p-14;

/* The softmax of every example at the weights of one sample; null: at the mean. */
static void softmax_of(const struct problem *problem, const struct ivon_sample_options *options,
                       uint64_t sample, double p[EXAMPLES][CLASSES])
{
    float w[INPUTS * CLASSES], b[CLASSES];
    const struct model *model = &problem->model;
    struct ivon_sample_options mean = ivon_sample_defaults();
    mean.temperature = 0;
    ptrdiff_t at_w = ivon_source_find(model->source, IVON_MEAN, "w2");
    ptrdiff_t at_b = ivon_source_find(model->source, IVON_MEAN, "b2");
    assert_true(at_w >= 0 && at_b >= 0);
    const struct ivon_sample_options *used = options ? options : &mean;
    assert_int_equal(ivon_sample_draw(model->source, (size_t)at_w, used, sample, 0,
                                      sizeof w / sizeof *w, w, NULL),
                     0);
    assert_int_equal(
        ivon_sample_draw(model->source, (size_t)at_b, used, sample, 0, CLASSES, b, NULL), 0);
    for (size_t i = 0; i < EXAMPLES; i++) {
        double sum = 0;
        for (size_t c = 0; c < CLASSES; c++) {
            double f = (double)b[c];
            for (size_t k = 0; k < INPUTS; k++)
                f += (double)problem->x[i * INPUTS + k] * (double)w[k * CLASSES + c];
            sum += p[i][c] = exp(f);
        }
        for (size_t c = 0; c < CLASSES; c++)
            p[i][c] /= sum;
    }
}

static double entropy_of(const double *p)
{
    double sum = 0;
    for (size_t c = 0; c < CLASSES; c++)
        sum -= p[c] > 0 ? p[c] * log(p[c]) : 0;
    return sum;
}

/* Everything that is handed out, put together again. */
struct seen {
    size_t blocks, next;
    bool stops;
    float p[EXAMPLES][CLASSES], largest[EXAMPLES], entropy[EXAMPLES], expected[EXAMPLES];
    float information[EXAMPLES];
    double loss[EXAMPLES];
    int64_t prediction[EXAMPLES], labels[EXAMPLES];
    double log_likelihoods[2 * SAMPLES][EXAMPLES];
    size_t passes;
};

static int see(void *context, const struct ivon_predictions *block, struct ivon_error *error)
{
    (void)error;
    struct seen *seen = context;
    assert_int_equal(block->first, seen->next);
    seen->next += block->count;
    seen->blocks++;
    if (seen->stops)
        return STOP;
    size_t first = block->first, count = block->count;
    memcpy(seen->p[first], block->probabilities, count * sizeof seen->p[0]);
    memcpy(seen->largest + first, block->max_probability, count * sizeof(float));
    memcpy(seen->entropy + first, block->entropy, count * sizeof(float));
    memcpy(seen->expected + first, block->expected_entropy, count * sizeof(float));
    memcpy(seen->information + first, block->mutual_information, count * sizeof(float));
    memcpy(seen->loss + first, block->loss, count * sizeof(double));
    memcpy(seen->prediction + first, block->prediction, count * sizeof(int64_t));
    memcpy(seen->labels + first, block->labels, count * sizeof(int64_t));
    assert_null(block->mean);
    assert_null(block->targets);
    for (size_t s = 0; s < seen->passes; s++)
        memcpy(seen->log_likelihoods[s] + first, block->log_likelihoods + s * count,
               count * sizeof(double));
    return 0;
}

static struct ivon_predictor *make_predictor(struct problem *const *problems, size_t count,
                                             const struct ivon_predict_options *options)
{
    struct ivon_member members[2];
    struct ivon_predictor *predictor = NULL;
    struct ivon_error error = {0};
    for (size_t m = 0; m < count; m++)
        members[m] = (struct ivon_member){problems[m]->model.network, problems[m]->model.source,
                                          m ? 3 : 1};
    if (ivon_predictor_new(&predictor, members, count, problems[0]->examples, "y", options, &error))
        fail_msg("%s", error.message);
    return predictor;
}

/* The averages of what `found` saw; `p[s]` and the weights are what it should be of. */
static void check_averages(const struct seen *seen, double p[][EXAMPLES][CLASSES],
                           const double *weights, size_t count)
{
    for (size_t i = 0; i < EXAMPLES; i++) {
        double average[CLASSES] = {0}, expected = 0, own[CLASSES];
        size_t best = 0;
        for (size_t s = 0; s < count; s++) {
            expected += weights[s] * entropy_of(p[s][i]);
            for (size_t c = 0; c < CLASSES; c++)
                average[c] += weights[s] * p[s][i][c];
        }
        for (size_t c = 0; c < CLASSES; c++) {
            own[c] = (double)seen->p[i][c];
            assert_true(fabs(own[c] - average[c]) < of_probability * average[c] + 0x1p-30);
            best = seen->p[i][c] > seen->p[i][best] ? c : best;
        }
        assert_int_equal(seen->prediction[i], best);
        assert_true(seen->largest[i] == seen->p[i][best]);
        /* Of the very probabilities: three terms below .37, rounded. */
        assert_true(fabs((double)seen->entropy[i] - entropy_of(own)) < 3 * 0x1p-22);
        /* |d(p log p)| <= (|log p| + 1) dp, where dp is 2^-15 p: 1.37 of it for each class. */
        assert_true(fabs((double)seen->expected[i] - expected) < 3 * 1.37 * of_probability);
        assert_true(fabs((double)(seen->entropy[i] - seen->expected[i] - seen->information[i])) <
                    0x1p-21);
        assert_true(seen->information[i] >= 0);
    }
}

static void averages_over_samples(void **state)
{
    (void)state;
    static double p[SAMPLES][EXAMPLES][CLASSES];
    double weights[SAMPLES];
    struct problem problem, *list[] = {&problem};
    problem_begin(&problem, IVON_CATEGORICAL, false, 0);
    struct ivon_predict_options options = ivon_predict_defaults();
    options.samples = SAMPLES;
    options.sample.seed = SEED;
    options.resources.threads = 2;
    options.log_likelihoods = true;
    struct ivon_predictor *predictor = make_predictor(list, 1, &options);
    struct ivon_predict_shape shape = ivon_predictor_shape(predictor);
    assert_true(shape.tokens == 0 && shape.outputs == CLASSES && shape.targets);
    assert_int_equal(ivon_predictor_fixed(predictor), 0);
    static struct seen seen;
    seen = (struct seen){.passes = SAMPLES};
    assert_int_equal(ivon_predictor_run(predictor, see, &seen, NULL), 0);
    assert_false(ivon_predictor_saw_probabilities(predictor));
    assert_null(ivon_predictor_whole_output(predictor));
    assert_int_equal(seen.next, EXAMPLES);
    for (uint64_t s = 0; s < SAMPLES; s++) {
        weights[s] = 1.0 / SAMPLES;
        softmax_of(&problem, &options.sample, s, p[s]);
        for (size_t i = 0; i < EXAMPLES; i++)
            assert_true(fabs(seen.log_likelihoods[s][i] - log(p[s][i][problem.labels[i]])) <
                        of_loss);
    }
    check_averages(&seen, p, weights, SAMPLES);
    assert_memory_equal(seen.labels, problem.labels, EXAMPLES * sizeof(int64_t));
    assert_true(isnan(ivon_predictor_nll_at_mean(predictor).value));
    ivon_predictor_free(predictor);
    problem_end(&problem);
}

/* Two posteriors, of weights 1 and 3: a quarter of one and three of the other. */
/* Probabilities alone: the same ones, and nothing of what follows from them. */
static int see_probabilities(void *context, const struct ivon_predictions *block,
                             struct ivon_error *error)
{
    struct seen *seen = context;
    (void)error;
    memcpy(seen->p[block->first], block->probabilities, block->count * sizeof seen->p[0]);
    assert_null(block->prediction);
    assert_null(block->max_probability);
    assert_null(block->entropy);
    assert_null(block->expected_entropy);
    assert_null(block->mutual_information);
    assert_null(block->loss);
    return 0;
}

static void descriptions_are_left_out(void **state)
{
    (void)state;
    struct problem problem, *problems[] = {&problem};
    struct ivon_predict_options options = ivon_predict_defaults();
    static struct seen whole, bare;
    problem_begin(&problem, IVON_CATEGORICAL, false, 0);
    options.samples = SAMPLES;
    struct ivon_predictor *predictor = make_predictor(problems, 1, &options);
    assert_int_equal(ivon_predictor_run(predictor, see, &whole, NULL), 0);
    ivon_predictor_free(predictor);
    options.descriptions = false;
    predictor = make_predictor(problems, 1, &options);
    assert_int_equal(ivon_predictor_run(predictor, see_probabilities, &bare, NULL), 0);
    ivon_predictor_free(predictor);
    assert_memory_equal(bare.p, whole.p, sizeof whole.p);
    problem_end(&problem);
}

static void averages_over_an_ensemble(void **state)
{
    (void)state;
    static double p[2 * SAMPLES][EXAMPLES][CLASSES];
    double weights[2 * SAMPLES];
    struct problem problem, other, *list[] = {&problem, &other};
    problem_begin(&problem, IVON_CATEGORICAL, false, 0);
    problem_begin(&other, IVON_CATEGORICAL, false, 0);
    for (size_t i = 0; i < INPUTS * CLASSES; i++)
        other.w2[i] = -other.w2[i]; /* its source borrows them */
    struct ivon_predict_options options = ivon_predict_defaults();
    options.samples = SAMPLES;
    options.sample.seed = SEED;
    struct ivon_predictor *predictor = make_predictor(list, 2, &options);
    static struct seen seen;
    seen = (struct seen){0};
    assert_int_equal(ivon_predictor_run(predictor, see, &seen, NULL), 0);
    for (uint64_t s = 0; s < 2 * SAMPLES; s++) {
        weights[s] = (s < SAMPLES ? 0.25 : 0.75) / SAMPLES;
        softmax_of(s < SAMPLES ? &problem : &other, &options.sample, s % SAMPLES, p[s]);
    }
    check_averages(&seen, p, weights, 2 * SAMPLES);
    ivon_predictor_free(predictor);
    problem_end(&other);
    problem_end(&problem);
}

/* Metrics are those of the probabilities that were handed out, and of outputs at the mean. */
static void metrics_of_predictions(void **state)
{
    (void)state;
    static double at_mean[EXAMPLES][CLASSES];
    struct problem problem, *list[] = {&problem};
    problem_begin(&problem, IVON_CATEGORICAL, false, 0);
    struct ivon_predict_options options = ivon_predict_defaults();
    options.samples = SAMPLES;
    options.nll_at_mean = true;
    struct ivon_predictor *predictor = make_predictor(list, 1, &options);
    static struct seen seen;
    seen = (struct seen){0};
    assert_int_equal(ivon_predictor_run(predictor, see, &seen, NULL), 0);
    softmax_of(&problem, NULL, 0, at_mean);
    double hits = 0, nll = 0, nll_at_mean = 0;
    for (size_t i = 0; i < EXAMPLES; i++) {
        hits += seen.prediction[i] == problem.labels[i];
        assert_true(seen.loss[i] == -log((double)seen.p[i][problem.labels[i]]));
        nll -= log((double)seen.p[i][problem.labels[i]]) / EXAMPLES;
        nll_at_mean -= log(at_mean[i][problem.labels[i]]) / EXAMPLES;
    }
    size_t count, found = 0;
    const struct ivon_predict_metric *metrics = ivon_predictor_metrics(predictor, &count);
    for (size_t m = 0; m < count; m++) {
        const struct ivon_metric *metric = &metrics[m].metric;
        if (strcmp(metric->name, "accuracy") == 0 && ++found)
            assert_true(fabs(metric->value - hits / EXAMPLES) < 0x1p-50);
        if (strcmp(metric->name, "nll") == 0 && ++found)
            assert_true(fabs(metric->value - nll) < 0x1p-21 * (1 + nll));
        assert_true(metrics[m].monte_carlo_error >= 0);
    }
    assert_int_equal(found, 2);
    struct ivon_metric mean = ivon_predictor_nll_at_mean(predictor);
    assert_string_equal(mean.name, "nll");
    assert_true(fabs(mean.value - nll_at_mean) < of_loss && mean.standard_error > 0);
    ivon_predictor_free(predictor);
    problem_end(&problem);
}

/* Weights that stay the same for all blocks: neither these nor threads change a bit. */
static void one_sample_in_blocks(void **state)
{
    (void)state;
    struct problem problem, *list[] = {&problem};
    problem_begin(&problem, IVON_CATEGORICAL, false, 0);
    for (size_t samples = 0; samples < 2; samples++) {
        static struct seen seen[4];
        for (int i = 0; i < 4; i++) {
            struct ivon_predict_options options = ivon_predict_defaults();
            options.samples = samples;
            options.sample.seed = SEED;
            options.batch = 4;
            options.logits = i & 1;
            options.resources.memory = i & 1; /* one tile at a time */
            options.resources.threads = i & 2 ? 2 : 1;
            struct ivon_predictor *predictor = make_predictor(list, 1, &options);
            seen[i] = (struct seen){0};
            assert_int_equal(ivon_predictor_run(predictor, see, &seen[i], NULL), 0);
            assert_int_equal(seen[i].blocks, i & 1 ? (EXAMPLES + 3) / 4 : 1);
            seen[i].blocks = 0;
            assert_memory_equal(&seen[i], &seen[0], sizeof seen[0]);
            ivon_predictor_free(predictor);
        }
        static double p[1][EXAMPLES][CLASSES];
        const double weight = 1;
        struct ivon_sample_options drawn = ivon_sample_defaults();
        drawn.seed = SEED;
        softmax_of(&problem, samples ? &drawn : NULL, 0, p[0]);
        check_averages(&seen[0], p, &weight, 1);
    }
    problem_end(&problem);
}

/* Many samples, by several threads: each has a sample of its own, or all have one, whose weights
   alone the memory holds; blocks, and pieces of them, of few examples or many. No bit changes. */
static void several_samples_in_blocks(void **state)
{
    (void)state;
    struct problem problem, *list[] = {&problem};
    problem_begin(&problem, IVON_CATEGORICAL, false, 0);
    static const size_t memory[] = {0, 1, 2000, 9000, 20000};
    static struct seen first, seen;
    for (size_t i = 0; i < 4 * sizeof memory / sizeof *memory; i++) {
        struct ivon_predict_options options = ivon_predict_defaults();
        options.samples = SAMPLES;
        options.sample.seed = SEED;
        options.batch = 4;
        options.log_likelihoods = true;
        options.metrics = i & 1;
        options.resources.threads = i & 2 ? 3 : 1;
        options.resources.memory = memory[i / 4];
        struct ivon_predictor *predictor = make_predictor(list, 1, &options);
        assert_int_equal(predictor->wave, i & 2 && memory[i / 4] != 1 ? 3 : 1);
        assert_int_equal(predictor->sums.together, !options.metrics);
        seen = (struct seen){.passes = SAMPLES};
        assert_int_equal(ivon_predictor_run(predictor, see, &seen, NULL), 0);
        assert_int_equal(seen.next, EXAMPLES);
        seen.blocks = 0;
        first = i ? first : seen;
        assert_memory_equal(&seen, &first, sizeof seen);
        size_t count;
        assert_int_equal(ivon_predictor_metrics(predictor, &count) != NULL, options.metrics);
        ivon_predictor_free(predictor);
    }
    problem_end(&problem);
}

/* The examples for which samples are drawn once, in a given memory. */
static size_t block_of(struct problem *problem, size_t memory, size_t samples, bool metrics)
{
    struct ivon_predict_options options = ivon_predict_defaults();
    options.samples = samples;
    options.metrics = metrics;
    options.batch = 1;
    options.resources.threads = 1;
    options.resources.memory = memory;
    struct ivon_predictor *predictor = make_predictor(&problem, 1, &options);
    size_t block = predictor->block;
    assert_true(predictor->piece <= block);
    ivon_predictor_free(predictor);
    return block;
}

/* Without metrics, a few samples need one sum and no other memory for each: a block has as many
   examples as for two, in as equal parts as the examples can be cut. */
static void blocks_of_samples(void **state)
{
    (void)state;
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, false, 0);
    /* 5 numbers, a label and whether it counts, sums and an entropy; the results of three */
    enum { EACH = 5 * 4 + 8 + 1 + CLASSES * 8 + 8, PIECE = 3 * (CLASSES * 4 + 8 + 4 * 4) };
    assert_int_equal(block_of(&problem, 0, 16, false), EXAMPLES);
    assert_int_equal(block_of(&problem, 12 * EACH + PIECE, 2, false), 12);
    assert_int_equal(block_of(&problem, 12 * EACH + PIECE, 16, false), 12);
    assert_int_equal(block_of(&problem, 11 * EACH + PIECE, 16, false), 8);
    assert_true(block_of(&problem, 12 * EACH + PIECE, 17, false) < 8);
    assert_true(block_of(&problem, 12 * EACH + PIECE, 16, true) < 8);
    problem_end(&problem);
}

/* A parameter without a Hessian stays at the mean and is counted; a caller stops the run. */
static void fixed_parameters_and_stops(void **state)
{
    (void)state;
    struct problem problem, *list[] = {&problem};
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    struct ivon_predict_options options = ivon_predict_defaults();
    options.samples = 2;
    options.batch = 4;
    options.resources.memory = 1; /* one tile at a time */
    struct ivon_predictor *predictor = make_predictor(list, 1, &options);
    assert_int_equal(ivon_predictor_fixed(predictor), 1);
    static struct seen seen;
    seen = (struct seen){.stops = true};
    assert_int_equal(ivon_predictor_run(predictor, see, &seen, NULL), STOP);
    assert_int_equal(seen.blocks, 1);
    assert_true(seen.next < EXAMPLES);
    ivon_predictor_free(predictor);
    struct ivon_error error = {0};
    const struct ivon_member none = {problem.model.network, problem.model.source, 0};
    predictor = NULL;
    assert_int_equal(
        ivon_predictor_new(&predictor, &none, 1, problem.examples, "y", &options, &error),
        IVON_ERROR_ARGUMENT);
    options.sample.size -= sizeof(size_t);
    assert_int_equal(
        ivon_predictor_new(&predictor, &none, 1, problem.examples, "y", &options, &error),
        IVON_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "ivon_sample_defaults()"));
    assert_null(predictor);
    problem_end(&problem);
}

static void predictions_vary_with_their_weights(void **state)
{
    (void)state;
    struct ivon_predict_options options = ivon_predict_defaults();
    assert_true(ivon_predict_varies(&options, 1));
    options.sample.temperature = 0;
    assert_false(ivon_predict_varies(&options, 1));
    assert_true(ivon_predict_varies(&options, 2));
    options.sample.temperature = 1;
    options.samples = 1;
    assert_false(ivon_predict_varies(&options, 1));
    options.samples = 0;
    assert_false(ivon_predict_varies(&options, 1));
}

/* Sums of halves and quarters are exact. */
static void probabilities_from_elsewhere(void **state)
{
    (void)state;
    float sum[6] = {0};
    const float first[] = {0.5F, 0.25F, 0.25F, 0, 1, 0}, second[] = {0, 0.5F, 0.5F, 1, 0, 0};
    const float averaged[] = {0.375F, 0.3125F, 0.3125F, 0.25F, 0.75F, 0};
    float wrong[] = {1, 0, 0, 0.5F, NAN, 0.5F};
    struct ivon_error error = {0};
    assert_int_equal(ivon_probabilities_add(sum, first, 0.75, 2, 3, 0, &error), 0);
    assert_int_equal(ivon_probabilities_add(sum, second, 0.25, 2, 3, 0, &error), 0);
    assert_memory_equal(sum, averaged, sizeof sum);
    assert_int_equal(ivon_probabilities_add(sum, wrong, 1, 2, 3, 40, &error), IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "41"));
    int64_t prediction[4];
    float largest[2], entropy[2];
    ivon_probabilities_describe(IVON_CATEGORICAL, 2, 3, averaged, prediction, largest, entropy);
    assert_true(prediction[0] == 0 && prediction[1] == 1);
    assert_true(largest[0] == 0.375F && largest[1] == 0.75F);
    double two = -(0.25 * log(0.25) + 0.75 * log(0.75));
    double three = -(0.375 * log(0.375) + 2 * 0.3125 * log(0.3125));
    assert_true(fabs((double)entropy[0] - three) < 0x1p-22);
    assert_true(fabs((double)entropy[1] - two) < 0x1p-22);
    /* Two events: their entropies are summed, their larger probabilities averaged. */
    const float events[] = {0.75F, 0.25F, 0.5F, 1};
    ivon_probabilities_describe(IVON_BERNOULLI, 2, 2, events, prediction, largest, entropy);
    assert_true(prediction[0] == 1 && prediction[1] == 0 && prediction[3] == 1);
    assert_true(largest[0] == 0.75F && largest[1] == 0.75F);
    assert_true(fabs((double)entropy[0] - 2 * two) < 0x1p-22);
    assert_true(fabs((double)entropy[1] - log(2)) < 0x1p-22);
}

static int expect_in_order(void *context, const struct ivon_predictions *p,
                           struct ivon_error *error)
{
    (void)error;
    uint64_t *next = context;
    assert_true(p->first == *next && p->count > 0);
    for (size_t i = 0; i < p->count; i++) {
        bool even = (p->first + i) % 2 == 0;
        assert_true(p->probabilities[2 * i] == (even ? 0.75F : 0.25F));
        assert_true(p->prediction[i] == !even && p->max_probability[i] == 0.75F);
    }
    *next += p->count;
    return 0;
}

/* More than one block; weights of 3 and 1, and what is no probability. */
static void files_from_elsewhere(void **state)
{
    (void)state;
    enum { ROWS = 600000 };
    const struct ivon_field field = {"p", IVON_F32, 1, {2}, 2};
    float *one = calloc(ROWS, 2 * sizeof *one), *other = calloc(ROWS, 2 * sizeof *other);
    const void *data[] = {one, other};
    const double weights[] = {3, 1};
    struct ivon_examples *files[2];
    struct ivon_error error = {0};
    assert_true(one && other);
    for (size_t i = 0; i < ROWS; i++) {
        one[2 * i + i % 2] = 1;
        other[2 * i + !(i % 2)] = 1;
    }
    for (int f = 0; f < 2; f++)
        assert_int_equal(ivon_examples_from_memory(&files[f], f ? "other" : "one", ROWS, &field,
                                                   &data[f], 1, &error),
                         0);
    const struct ivon_average average = {
        .files = files, .weights = weights, .file_count = 2, .likelihood = IVON_CATEGORICAL};
    uint64_t next = 0;
    assert_int_equal(ivon_average_run(&average, expect_in_order, &next, &error), 0);
    assert_true(next == ROWS);
    other[2 * 599999] = 7;
    next = 0;
    assert_int_equal(ivon_average_run(&average, expect_in_order, &next, &error), IVON_ERROR_DATA);
    assert_true(strstr(error.message, "other: ") && strstr(error.message, "599999"));
    assert_true(next > 0 && next < ROWS);
    for (int f = 0; f < 2; f++)
        ivon_examples_close(files[f]);
    free(one);
    free(other);
}

static int losses_of(enum ivon_likelihood likelihood, size_t outputs, const float *p,
                     const int64_t *labels, int64_t ignored, double losses[3],
                     struct ivon_error *error)
{
    return ivon_probabilities_losses(likelihood, 40, 3, outputs, p, labels, ignored, losses, error);
}

/* Powers of two, whose logarithms are known. */
static void losses_from_elsewhere(void **state)
{
    (void)state;
    const float p[] = {0.5F, 0.25F, 0.25F, 0.25F, 0.5F, 0.25F, 0, 1, 0};
    const float events[] = {0.5F, 0.25F, 0.75F, 0, 1, 0};
    const int64_t labels[] = {1, -100, 0}, happened[] = {1, 0, 0, 0, -1, -1};
    double losses[3];
    struct ivon_error error = {0};
    assert_int_equal(losses_of(IVON_CATEGORICAL, 3, p, labels, -100, losses, &error), 0);
    assert_true(fabs(losses[0] - 2 * log(2)) < 0x1p-50 && isnan(losses[1]) && isinf(losses[2]));
    assert_int_equal(losses_of(IVON_CATEGORICAL, 3, p, labels, INT64_MIN, losses, &error),
                     IVON_ERROR_DATA);
    assert_string_equal(error.message, "row 41: target -100, expected a class from 0 to 2");
    assert_int_equal(losses_of(IVON_BERNOULLI, 2, events, happened, -1, losses, &error), 0);
    assert_true(fabs(losses[0] - (log(2) + log(4.0 / 3)) / 2) < 0x1p-50);
    assert_true(fabs(losses[1] - log(2)) < 0x1p-50 && isnan(losses[2]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(averages_over_samples),
        cmocka_unit_test(descriptions_are_left_out),
        cmocka_unit_test(averages_over_an_ensemble),
        cmocka_unit_test(metrics_of_predictions),
        cmocka_unit_test(one_sample_in_blocks),
        cmocka_unit_test(several_samples_in_blocks),
        cmocka_unit_test(blocks_of_samples),
        cmocka_unit_test(fixed_parameters_and_stops),
        cmocka_unit_test(predictions_vary_with_their_weights),
        cmocka_unit_test(probabilities_from_elsewhere),
        cmocka_unit_test(files_from_elsewhere),
        cmocka_unit_test(losses_from_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
