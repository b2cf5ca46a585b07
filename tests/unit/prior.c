/* Training steps with a structured posterior as the prior, against Algorithm 1 written out in
   double with the dense precision. */
#include "structured_data.h"

#include "train/trainer/private.h"

static const double ESS = 30, START = 0.5, RATE = 0.8, DECAY = 0.125, BETA1 = 0.9, BETA2 = 0.95;

static bool everything(void *context, const char *name)
{
    (void)context;
    (void)name;
    return true;
}

/* The same network, as a training takes it: bound to nothing. */
static void begin_unbound(struct structured *structured)
{
    structured_fill(structured, false);
    assert_int_equal(graph_finish(structured->model.network, NULL), 0);
}

static struct ivon_trainer *trainer_of(const struct structured *structured,
                                       const struct structured *unbound,
                                       const struct structured_data *data, double scale,
                                       int threads)
{
    struct ivon_train_options options = ivon_train_defaults(IVON_METHOD_IVON);
    const struct ivon_train_start start = {.network = unbound->model.network,
                                           .weights = structured->model.source,
                                           .prior = structured->model.source};
    struct ivon_trainer *trainer = NULL;
    struct ivon_error error = {0};
    options.rate = RATE;
    options.weight_decay = DECAY;
    options.beta2 = BETA2;
    options.ess = ESS;
    options.hessian_init = START;
    options.prior_scale = scale;
    options.batch = EXAMPLES;
    options.steps = 9;
    options.resources.threads = threads;
    if (ivon_trainer_new(&trainer, &start, data->examples, "y", &options, &error))
        fail_msg("%s", error.message);
    return trainer;
}

/* P/λ times the scale, row by row, of vectors of the dense covariance. */
static void dense_precision(const struct dense *dense, double scale, dense_matrix precision)
{
    static dense_matrix copy, root;
    memcpy(copy, dense->covariance, sizeof copy);
    dense_invert(dense->size, copy, precision, root);
    for (size_t i = 0; i < dense->size; i++)
        for (size_t j = 0; j < dense->size; j++)
            precision[i][j] *= scale / ESS;
}

/* Elements of a parameter in vectors of the dense covariance. */
static size_t place(const struct structured *structured, const struct dense *dense,
                    size_t parameter, size_t element)
{
    size_t at = dense_index(dense, structured->model.network->parameters[parameter], element);
    assert_true(at < dense->size);
    return at;
}

/* The optimizer's state in vectors of the dense covariance. */
struct state {
    double mean[DENSE_MOST], precision[DENSE_MOST] /* h + δ */, momentum[DENSE_MOST];
    double sample[DENSE_MOST], gradient[DENSE_MOST];
};

static void take_state(const struct ivon_trainer *trainer, const struct structured *structured,
                       const struct dense *dense, struct state *state)
{
    const struct optimizer *optimizer = trainer->optimizer;
    for (size_t p = 0; p < trainer->network->parameter_count; p++)
        for (size_t i = 0; i < trainer_parameter(trainer, p)->count; i++) {
            size_t at = place(structured, dense, p, i);
            state->mean[at] = (double)optimizer_mean(optimizer, p)[i];
            state->precision[at] = (double)optimizer_hessian(optimizer, p)[i] + DECAY;
            state->momentum[at] = (double)optimizer_momentum(optimizer, p)[i];
            state->sample[at] = (double)optimizer_parameter(optimizer, p)[i];
            state->gradient[at] = (double)trainer->gradient.arrays[p][i];
        }
}

/*
 * The step from a state. Rounding: what is subtracted and added in floats is below 2 here, the pull
 * is a product as those of tests/unit/precision.c, of at most 164 · 2^-24 of its largest, which the
 * rate, (h₀ + δ) RATE/(h + δ) < 1, makes smaller: 200 · 2^-24 in all.
 */
static void expect_step(const struct state *from, const struct state *to, const double *prior_mean,
                        dense_matrix precision, size_t size, uint64_t step)
{
    const double bound = 200 * 0x1p-24;
    double largest = 0;
    for (size_t i = 0; i < size; i++) {
        double d = from->precision[i], data = d - precision[i][i], g = from->gradient[i], pull = 0;
        for (size_t j = 0; j < size; j++)
            pull += precision[i][j] * (from->mean[j] - prior_mean[j]);
        largest = fmax(largest, fabs(pull));
        double estimate = g * (from->sample[i] - from->mean[i]) * ESS * d;
        double u = (1 - BETA2) * (estimate - data) / d, next = d * (1 + u + u * u / 2);
        double momentum = BETA1 * from->momentum[i] + (1 - BETA1) * (g + pull);
        double debiased = momentum / (1 - pow(BETA1, (double)step));
        double mean = from->mean[i] - RATE * (START + DECAY) * debiased / next;
        if (!(fabs(to->precision[i] - next) <= bound * d) || !(fabs(to->mean[i] - mean) <= bound))
            fail_msg("%zu: %.9g and %.9g, expected %.9g and %.9g", i, to->mean[i], to->precision[i],
                     mean, next);
    }
    assert_true(step == 1 ? largest == 0 : largest > 0.01); /* a pull that the bound cannot hide */
}

static void steps_are_pulled_by_the_whole_precision(void **unused)
{
    (void)unused;
    static dense_matrix precision;
    static struct state states[2];
    for (int i = 0; i < 4; i++) {
        bool low_rank = i % 2;
        double scale = i < 2 ? 1 : 0.7;
        struct structured structured, unbound;
        struct structured_data data;
        double prior_mean[DENSE_MOST];
        double loss;
        structured_begin(&structured, low_rank);
        begin_unbound(&unbound);
        data_begin(&data, &structured.model, IVON_CATEGORICAL);
        struct ivon_trainer *trainer = trainer_of(&structured, &unbound, &data, scale, 1);
        struct dense *dense = dense_new(structured.model.source, everything);
        dense_precision(dense, scale, precision);
        take_state(trainer, &structured, dense, &states[0]);
        memcpy(prior_mean, states[0].mean, sizeof prior_mean);
        for (size_t j = 0; j < dense->size; j++)
            assert_true(fabs(states[0].precision[j] - START - precision[j][j]) <=
                        200 * 0x1p-24 * states[0].precision[j]);
        for (uint64_t step = 1; step < 5; step++) {
            trainer->scale = 1 / data_choose(trainer);
            assert_int_equal(lanes_gradient(trainer, &loss, NULL), 0);
            take_state(trainer, &structured, dense, &states[0]);
            assert_int_equal(ivon_trainer_step(trainer, NULL), 0);
            take_state(trainer, &structured, dense, &states[1]);
            expect_step(&states[0], &states[1], prior_mean, precision, dense->size, step);
        }
        dense_free(dense);
        ivon_trainer_free(trainer);
        data_end(&data);
        structured_end(&unbound);
        structured_end(&structured);
    }
}

/* Nor do they need the prior's file after the beginning. */
static void threads_change_no_bit_of_a_training(void **unused)
{
    (void)unused;
    struct structured structured, unbound;
    struct structured_data data;
    float *means[MODEL_TENSORS] = {NULL};
    structured_begin(&structured, true);
    data_begin(&data, &structured.model, IVON_CATEGORICAL);
    for (int threads = 1; threads < 4; threads += 2) {
        begin_unbound(&unbound);
        struct ivon_trainer *trainer = trainer_of(&structured, &unbound, &data, 1, threads);
        for (int step = 0; step < 9; step++)
            assert_int_equal(ivon_trainer_step(trainer, NULL), 0);
        for (size_t p = 0; p < trainer->network->parameter_count; p++) {
            size_t bytes = trainer_parameter(trainer, p)->count * sizeof(float);
            const float *mean = optimizer_mean(trainer->optimizer, p);
            if (threads == 1)
                assert_non_null(memcpy(means[p] = malloc(bytes), mean, bytes));
            else
                assert_memory_equal(mean, means[p], bytes);
        }
        ivon_trainer_free(trainer);
        structured_end(&unbound);
    }
    for (size_t p = 0; p < MODEL_TENSORS; p++)
        free(means[p]);
    data_end(&data);
    structured_end(&structured);
}

static void expect_refusal(enum ivon_method method, double scale, const char *message)
{
    struct structured structured, unbound;
    struct structured_data data;
    struct ivon_train_options options = ivon_train_defaults(method);
    struct ivon_trainer *trainer = NULL;
    struct ivon_error error = {0};
    options.rate = RATE;
    options.prior_scale = scale;
    structured_begin(&structured, false);
    begin_unbound(&unbound);
    data_begin(&data, &structured.model, IVON_CATEGORICAL);
    const struct ivon_train_start start = {.network = unbound.model.network,
                                           .weights = structured.model.source,
                                           .prior = structured.model.source};
    assert_int_equal(ivon_trainer_new(&trainer, &start, data.examples, "y", &options, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, message);
    data_end(&data);
    structured_end(&unbound);
    structured_end(&structured);
}

static void only_ivon_takes_a_prior(void **unused)
{
    (void)unused;
    expect_refusal(IVON_METHOD_ADAMW, 1, "only IVON takes a posterior as a prior");
}

static void a_precision_is_multiplied_by_positive_numbers(void **unused)
{
    (void)unused;
    expect_refusal(IVON_METHOD_IVON, 0,
                   "the prior's precision is multiplied by 0, expected a positive number");
    expect_refusal(IVON_METHOD_IVON, (double)INFINITY,
                   "the prior's precision is multiplied by inf, expected a positive number");
    expect_refusal(IVON_METHOD_IVON, (double)NAN,
                   "the prior's precision is multiplied by nan, expected a positive number");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_pulled_by_the_whole_precision),
        cmocka_unit_test(threads_change_no_bit_of_a_training),
        cmocka_unit_test(only_ivon_takes_a_prior),
        cmocka_unit_test(a_precision_is_multiplied_by_positive_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
