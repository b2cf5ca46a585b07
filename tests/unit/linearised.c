/*
 * Predictions of a linearised network against J Σ Jᵀ and its formulas in double
 * (sensitivity_dense.h).
 *
 * Tolerances: f, C and what follows from them have the errors that ROUNDING bounds, relative to the
 * largest of their kind. A probability moves by at most half of what the logits do: logits lie
 * below 16, of which ROUNDING is 2^-14. A log-likelihood moves by e/s² = 64 at most for each
 * unit of f, and by as much of C.
 */
#include "sensitivity_dense.h"

#include "ivon/predict.h"

enum { DRAWS = 4096, PASSES = 3, ROWS = EXAMPLES * TOKENS, NUMBERS = EXAMPLES * WIDTH };

static const double OF_PROBABILITY = 0x1p-14, TEMPERATURE = 0.75, NOISE = 0.5;

struct seen {
    size_t blocks, next;
    float p[NUMBERS], entropy[ROWS], expected[ROWS];
    float information[ROWS], logits[NUMBERS];
    float mean[NUMBERS], epistemic[NUMBERS], aleatoric[NUMBERS];
    bool informed;
};

struct seeing {
    const struct problem *problem;
    struct seen *seen;
};

static void keep(float *to, const float *from, size_t first, size_t count, size_t each)
{
    if (from)
        memcpy(to + first * each, from, count * each * sizeof *to);
}

static int see(void *context, const struct ivon_predictions *p, struct ivon_error *error)
{
    (void)error;
    const struct seeing *seeing = context;
    struct seen *seen = seeing->seen;
    size_t tokens = seeing->problem->tokens, wide = tokens * CLASSES;
    assert_int_equal(p->first, seen->next);
    seen->next += p->count;
    seen->blocks++;
    seen->informed = p->mutual_information && p->expected_entropy;
    keep(seen->p, p->probabilities, p->first, p->count, wide);
    keep(seen->entropy, p->entropy, p->first, p->count, tokens);
    keep(seen->expected, p->expected_entropy, p->first, p->count, tokens);
    keep(seen->information, p->mutual_information, p->first, p->count, tokens);
    keep(seen->logits, p->logits, p->first, p->count, wide);
    keep(seen->mean, p->mean, p->first, p->count, wide);
    keep(seen->epistemic, p->epistemic_std, p->first, p->count, wide);
    keep(seen->aleatoric, p->aleatoric_std, p->first, p->count, wide);
    return 0;
}

static struct ivon_predict_options linear_options(const struct problem *problem,
                                                  enum ivon_predict_method method)
{
    struct ivon_predict_options options = ivon_predict_defaults();
    options.task.likelihood = problem->likelihood;
    options.task.noise_std = problem->likelihood == IVON_GAUSSIAN ? NOISE : NAN;
    options.task.ignored = problem->token_axis ? IGNORED : INT64_MIN;
    options.method = method;
    options.sample.temperature = TEMPERATURE;
    options.resources.threads = 2;
    options.logits = true;
    return options;
}

static struct ivon_predictor *predict(const struct problem *problem,
                                      const struct ivon_predict_options *options, struct seen *seen)
{
    struct ivon_member member = {problem->model.network, problem->model.source, 1};
    struct ivon_predictor *predictor = NULL;
    struct ivon_error error = {0};
    struct seeing seeing = {problem, seen};
    memset(seen, 0, sizeof *seen);
    if (ivon_predictor_new(&predictor, &member, 1, problem->examples, "y", options, &error) ||
        ivon_predictor_run(predictor, see, &seeing, &error))
        fail_msg("%s", error.message);
    assert_int_equal(seen->next, EXAMPLES);
    return predictor;
}

static double metric_of(struct ivon_predictor *predictor, const char *name, double *monte_carlo)
{
    size_t count;
    const struct ivon_predict_metric *metrics = ivon_predictor_metrics(predictor, &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(metrics[i].metric.name, name) == 0) {
            *monte_carlo = metrics[i].monte_carlo_error;
            return metrics[i].metric.value;
        }
    fail_msg("no metric %s", name);
    return NAN;
}

/* Outputs over √(1 + π/8 τ C_cc), which `problem` makes probabilities of. */
static void moderate(const struct reference *reference, size_t i, size_t at, double *f)
{
    const double pi = acos(-1);
    for (size_t c = 0; c < CLASSES; c++) {
        double variance = TEMPERATURE * reference->covariance[i][at + c][at + c];
        f[c] = reference->f[i][at + c] / sqrt(1 + pi / 8 * variance);
    }
}

static void check_probit(enum ivon_likelihood likelihood, bool tokens)
{
    static struct reference reference;
    static struct seen seen;
    struct problem problem;
    double nll = 0, unused, counts = 0;
    problem_begin(&problem, likelihood, tokens, HIDDEN);
    refer(&problem, 1, true, NULL, &reference);
    const struct ivon_predict_options options = linear_options(&problem, IVON_PREDICT_LINEAR);
    struct ivon_predictor *predictor = predict(&problem, &options, &seen);
    for (size_t i = 0; i < EXAMPLES; i++)
        for (size_t t = 0; t < problem.tokens; t++) {
            double f[CLASSES], p[CLASSES];
            size_t row = i * problem.tokens + t;
            moderate(&reference, i, t * CLASSES, f);
            probabilities(&problem, f, p);
            for (size_t c = 0; c < CLASSES; c++)
                assert_true(fabs((double)seen.p[row * CLASSES + c] - p[c]) < OF_PROBABILITY);
            nll += loss_of(&problem, row, f);
            counts += !ignored(&problem, row);
        }
    assert_false(seen.informed);
    assert_false(ivon_predict_varies(&options, 1));
    compare_floats("logit", seen.logits, reference.f[0], problem.tokens == 1 ? CLASSES : WIDTH);
    nll /= likelihood == IVON_BERNOULLI ? counts * CLASSES : counts;
    assert_true(fabs(metric_of(predictor, "nll", &unused) - nll) < 0x1p-13);
    assert_true(isnan(unused));
    ivon_predictor_free(predictor);
    problem_end(&problem);
}

static void classes_and_events_by_probit(void **state)
{
    (void)state;
    check_probit(IVON_CATEGORICAL, false);
    check_probit(IVON_CATEGORICAL, true);
    check_probit(IVON_BERNOULLI, false);
    check_probit(IVON_BERNOULLI, true);
}

/* −log N(y; f, τC + s²) by Gauss' elimination, which needs no root. */
static double joint_loss(const struct problem *problem, const struct reference *reference, size_t i,
                         size_t t)
{
    double a[CLASSES][CLASSES + 1], loss = CLASSES * log(2 * acos(-1)) / 2, e[CLASSES];
    size_t at = t * CLASSES, row = (i * problem->tokens + t) * CLASSES;
    for (size_t j = 0; j < CLASSES; j++) {
        for (size_t k = 0; k < CLASSES; k++)
            a[j][k] = TEMPERATURE * reference->covariance[i][at + j][at + k] +
                      (j == k ? NOISE * NOISE : 0);
        e[j] = a[j][CLASSES] = (double)problem->numbers[row + j] - reference->f[i][at + j];
    }
    for (size_t j = 0; j < CLASSES; j++) {
        loss += log(a[j][j]) / 2;
        for (size_t l = 0; l < CLASSES; l++)
            for (size_t k = CLASSES + 1; l != j && k-- > j;)
                a[l][k] -= a[l][j] / a[j][j] * a[j][k];
    }
    for (size_t j = 0; j < CLASSES; j++)
        loss += e[j] * a[j][CLASSES] / a[j][j] / 2;
    return loss;
}

static void numbers_in_closed_form(void **state)
{
    (void)state;
    static struct reference reference;
    static struct seen seen;
    for (int tokens = 0; tokens < 2; tokens++) {
        struct problem problem;
        double nll = 0, unused;
        problem_begin(&problem, IVON_GAUSSIAN, tokens, HIDDEN);
        refer(&problem, 1, true, NULL, &reference);
        const struct ivon_predict_options options = linear_options(&problem, IVON_PREDICT_LINEAR);
        struct ivon_predictor *predictor = predict(&problem, &options, &seen);
        size_t wide = problem.tokens * CLASSES;
        for (size_t i = 0; i < EXAMPLES; i++) {
            double deviation[WIDTH];
            for (size_t j = 0; j < wide; j++)
                deviation[j] = sqrt(TEMPERATURE * reference.covariance[i][j][j]);
            compare_floats("mean", seen.mean + i * wide, reference.f[i], wide);
            compare_floats("deviation", seen.epistemic + i * wide, deviation, wide);
            for (size_t t = 0; t < problem.tokens; t++)
                nll += joint_loss(&problem, &reference, i, t);
        }
        assert_true(seen.aleatoric[0] == (float)NOISE);
        nll /= (double)(EXAMPLES * problem.tokens);
        assert_true(fabs(metric_of(predictor, "nll", &unused) - nll) < 64 * ROUNDING * (1 + nll));
        ivon_predictor_free(predictor);
        problem_end(&problem);
    }
}

/* Of counts E exp f = exp(f + c/2), and its variance (exp c − 1) times the square of that. */
static void rates_in_closed_form(void **state)
{
    (void)state;
    static struct reference reference;
    static struct seen seen;
    struct problem problem;
    size_t count;
    problem_begin(&problem, IVON_POISSON, false, HIDDEN);
    refer(&problem, 1, true, NULL, &reference);
    const struct ivon_predict_options options = linear_options(&problem, IVON_PREDICT_LINEAR);
    struct ivon_predictor *predictor = predict(&problem, &options, &seen);
    for (size_t i = 0; i < EXAMPLES; i++) {
        double mean[CLASSES], deviation[CLASSES];
        for (size_t j = 0; j < CLASSES; j++) {
            double c = TEMPERATURE * reference.covariance[i][j][j];
            mean[j] = exp(reference.f[i][j] + c / 2);
            deviation[j] = sqrt(expm1(c)) * mean[j];
        }
        compare_floats("rate", seen.mean + i * CLASSES, mean, CLASSES);
        compare_floats("deviation", seen.epistemic + i * CLASSES, deviation, CLASSES);
    }
    assert_null(ivon_predictor_metrics(predictor, &count));
    ivon_predictor_free(predictor);
    problem_end(&problem);
}

/* Irwin and Hall: the sum of 12 uniform numbers. */
static double normal_number(uint64_t *state)
{
    double sum = -6;
    for (int i = 0; i < 12; i++) {
        *state = *state * 6364136223846793005U + 1442695040888963407U;
        sum += (double)(*state >> 11) * 0x1p-53;
    }
    return sum;
}

/* Cholesky's root of τC of an example. */
static void root_of(const struct reference *reference, size_t i, double (*root)[CLASSES])
{
    for (size_t j = 0; j < CLASSES; j++)
        for (size_t k = 0; k <= j; k++) {
            double sum = TEMPERATURE * reference->covariance[i][j][k];
            for (size_t l = 0; l < k; l++)
                sum -= root[j][l] * root[k][l];
            root[j][k] = j == k ? sqrt(sum) : sum / root[k][k];
        }
}

/* Averages p and its entropy over draws of an example's outputs. */
static void average_draws(const struct problem *problem, const struct reference *reference,
                          size_t i, double *average, double *expected)
{
    double root[CLASSES][CLASSES] = {{0}};
    uint64_t state = i;
    root_of(reference, i, root);
    for (size_t s = 0; s < DRAWS; s++) {
        double f[CLASSES], p[CLASSES], normal[CLASSES];
        for (size_t j = 0; j < CLASSES; j++) {
            normal[j] = normal_number(&state);
            f[j] = reference->f[i][j];
            for (size_t k = 0; k <= j; k++)
                f[j] += root[j][k] * normal[k];
        }
        probabilities(problem, f, p);
        for (size_t j = 0; j < CLASSES; j++) {
            average[j] += p[j] / DRAWS;
            *expected -= p[j] * log(p[j]) / DRAWS;
        }
    }
}

/* The difference of two means of S draws is below 5 times its own error, one chance in a million
   of each number; the standard deviation of a probability is below ½. */
static void classes_by_draws(void **state)
{
    (void)state;
    static struct reference reference;
    static struct seen seen;
    struct problem problem;
    double monte_carlo;
    const double chance = 5 * 0.5 * sqrt(2.0 / DRAWS);
    problem_begin(&problem, IVON_CATEGORICAL, false, HIDDEN);
    refer(&problem, 1, true, NULL, &reference);
    struct ivon_predict_options options = linear_options(&problem, IVON_PREDICT_LINEAR_DRAWS);
    options.samples = DRAWS;
    struct ivon_predictor *predictor = predict(&problem, &options, &seen);
    assert_true(seen.informed && ivon_predict_varies(&options, 1));
    for (size_t i = 0; i < EXAMPLES; i++) {
        double average[CLASSES] = {0}, expected = 0;
        average_draws(&problem, &reference, i, average, &expected);
        for (size_t j = 0; j < CLASSES; j++)
            assert_true(fabs((double)seen.p[i * CLASSES + j] - average[j]) < chance);
        assert_true(fabs((double)seen.expected[i] - expected) < log(3) * chance);
        assert_true(fabs((double)(seen.entropy[i] - seen.expected[i] - seen.information[i])) <
                    0x1p-21);
    }
    metric_of(predictor, "nll", &monte_carlo);
    assert_true(monte_carlo > 0);
    ivon_predictor_free(predictor);
    problem_end(&problem);
}

/* Neither threads nor blocks change a bit; with temperature 0 all draws are the mean. */
static void bits_of_draws(void **state)
{
    (void)state;
    static struct seen seen[4];
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, true, HIDDEN);
    struct ivon_predict_options options = linear_options(&problem, IVON_PREDICT_LINEAR_DRAWS);
    options.samples = PASSES;
    options.batch = 2;
    for (int i = 0; i < 4; i++) {
        options.resources.threads = i & 1 ? 3 : 1;
        options.resources.memory = i & 2 ? 4096 : 0;
        ivon_predictor_free(predict(&problem, &options, &seen[i]));
        assert_true((seen[i].blocks > 1) == (i > 1));
        seen[i].blocks = 0;
        assert_memory_equal(&seen[i], &seen[0], sizeof seen[0]);
    }
    options.sample.temperature = 0;
    ivon_predictor_free(predict(&problem, &options, &seen[0]));
    options.method = IVON_PREDICT_SAMPLES;
    options.samples = 0;
    ivon_predictor_free(predict(&problem, &options, &seen[1]));
    for (size_t i = 0; i < NUMBERS; i++)
        assert_true(fabs((double)(seen[0].p[i] - seen[1].p[i])) < 0x1p-20);
    for (size_t i = 0; i < ROWS; i++)
        assert_true(seen[0].information[i] < 0x1p-20F);
    problem_end(&problem);
}

static void check_refusal(struct problem *problem, const struct ivon_predict_options *options,
                          size_t members, int code, const char *text)
{
    const struct ivon_member member = {problem->model.network, problem->model.source, 1};
    const struct ivon_member both[] = {member, member};
    struct ivon_predictor *predictor = NULL;
    struct ivon_error error = {0};
    assert_int_equal(
        ivon_predictor_new(&predictor, both, members, problem->examples, "y", options, &error),
        code);
    assert_null(predictor);
    if (!strstr(error.message, text))
        fail_msg("%s", error.message);
}

static void what_linearised_networks_cannot(void **state)
{
    (void)state;
    struct problem problem;
    problem_begin(&problem, IVON_CATEGORICAL, true, HIDDEN);
    const struct ivon_predict_options options = linear_options(&problem, IVON_PREDICT_LINEAR);
    struct ivon_predict_options other = options;
    check_refusal(&problem, &other, 2, IVON_ERROR_ARGUMENT, "2 posteriors");
    other.recalibrate = problem.examples;
    check_refusal(&problem, &other, 1, IVON_ERROR_ARGUMENT, "recalibrated");
    other = options;
    other.log_likelihoods = true;
    check_refusal(&problem, &other, 1, IVON_ERROR_ARGUMENT, "log-likelihoods");
    other = options;
    other.method = IVON_PREDICT_LINEAR_DRAWS;
    other.samples = 0;
    check_refusal(&problem, &other, 1, IVON_ERROR_ARGUMENT, "0 draws");
    other.samples = 1;
    other.resources.memory = 100;
    check_refusal(&problem, &other, 1, IVON_ERROR_MEMORY, "3 x 4 x 4");
    problem_end(&problem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_and_events_by_probit),
        cmocka_unit_test(numbers_in_closed_form),
        cmocka_unit_test(rates_in_closed_form),
        cmocka_unit_test(classes_by_draws),
        cmocka_unit_test(bits_of_draws),
        cmocka_unit_test(what_linearised_networks_cannot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
