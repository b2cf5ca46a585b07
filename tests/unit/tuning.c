/*
 * The prior of a posterior that there is already: its evidence is that of the fit that made it, and
 * as the definition has it, with a dense covariance; its best weight decay is the fit's; what
 * cannot be tuned is refused.
 */
#include "structured_data.h"

#include "ivon/fit.h"

enum { W2_COUNT = HIDDEN * OUT };

static const double PI = 3.14159265358979323846;

/* A posterior of structured_network.h, changed by the test, and its tuning. */
struct trial {
    struct structured structured;
    struct ivon_header header;
    struct ivon_source *source;
    struct ivon_tuning *tuning;
};

static void trial_prepare(struct trial *trial, bool low_rank)
{
    *trial = (struct trial){.header = ivon_header_empty()};
    structured_begin(&trial->structured, low_rank);
    trial->header.ess = 20;
    trial->header.weight_decay = 0.25;
}

static struct ivon_tensor *trial_tensor(struct trial *trial, enum ivon_part part, const char *name)
{
    struct model *model = &trial->structured.model;
    ptrdiff_t at = ivon_source_find(model->source, part, name);
    assert_true(at >= 0);
    return &model->tensors[at];
}

static float *trial_hessian(struct trial *trial, const char *name)
{
    struct model *model = &trial->structured.model;
    return model->data[ivon_source_find(model->source, IVON_HESSIAN, name)];
}

/* Sets what a Hessian has of its own; NaN: what the header has. */
static void trial_scale(struct trial *trial, const char *name, double ess, double weight_decay)
{
    struct ivon_tensor *tensor = trial_tensor(trial, IVON_HESSIAN, name);
    tensor->ess = ess;
    tensor->weight_decay = weight_decay;
}

static int trial_open(struct trial *trial, struct ivon_error *error)
{
    struct model *model = &trial->structured.model;
    int code = ivon_source_from_memory(&trial->source, "posterior", &trial->header, model->tensors,
                                       (const void *const *)model->data, model->count, error);
    assert_int_equal(code, 0);
    return ivon_tuning_new(&trial->tuning, trial->source, error);
}

static void trial_begin(struct trial *trial)
{
    struct ivon_error error = {0};
    if (trial_open(trial, &error))
        fail_msg("%s", error.message);
}

static void trial_end(struct trial *trial)
{
    ivon_tuning_free(trial->tuning);
    ivon_source_close(trial->source);
    structured_end(&trial->structured);
}

/* ½ (P log 2π + log |Σ|) + log N(m; 0, 1/(ess δ)), over N = ess: the loss aside, the evidence of
   posteriors whose Hessians have one δ. */
static double dense_evidence(struct ivon_source *source)
{
    const struct ivon_header *header = ivon_source_header(source);
    struct dense *dense = dense_new(source, NULL);
    double n = header->ess, precision = n * header->weight_decay, squares = 0;
    double size = (double)dense->size, sum = 0.5 * (size * log(2 * PI) + dense->log_determinant);
    for (size_t t = 0; t < ivon_source_tensor_count(source); t++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, t);
        for (size_t i = 0; i < tensor->count && tensor->part == IVON_MEAN; i++)
            squares += pow((double)dense_floats(source, (ptrdiff_t)t)[i], 2);
    }
    sum += 0.5 * (size * log(precision / (2 * PI)) - precision * squares);
    dense_free(dense);
    return sum / n;
}

/* Σ comes of its inverse, in whose factors 43 rows of bases that are orthonormal to 2^-22 meet. */
static void the_evidence_is_the_definition_s(void **state)
{
    (void)state;
    struct trial trial;
    trial_prepare(&trial, false);
    trial_begin(&trial);
    struct ivon_tuning_summary summary = ivon_tuning_summary(trial.tuning);
    double expected = dense_evidence(trial.structured.model.source);
    assert_true(fabs(summary.evidence - expected) <= 1e-5 * fabs(expected));
    assert_int_equal(summary.parameters, RANDOM);
    assert_int_equal(summary.hessians, 3);
    assert_int_equal(summary.rank, 0);
    assert_true(summary.n_train == 20 && summary.ess == 20 && summary.weight_decay == 0.25);
    trial_end(&trial);
}

/* The evidence of what a fit left is the fit's; δ is tuned to the one that the fit tuned it to. */
static void it_is_that_of_the_fit(void **state)
{
    (void)state;
    for (int variant = 0; variant < 3; variant++) {
        struct structured structured;
        struct structured_data data;
        struct ivon_fit_options options = ivon_fit_defaults();
        struct ivon_fit *fit = NULL;
        struct ivon_source *source = NULL;
        struct ivon_tuning *tuning = NULL;
        struct ivon_error error = {0};
        structured_begin(&structured, false);
        data_begin(&data, &structured.model, IVON_CATEGORICAL);
        options.structure = variant == 1 ? IVON_FIT_DIAGONAL : IVON_FIT_KRONECKER;
        options.each = variant == 2;
        options.ess = 1000; /* which the evidence does not ask for, as N is known */
        assert_int_equal(ivon_fit_new(&fit, structured.model.network, structured.model.source,
                                      data.examples, "y", &options, &error),
                         0);
        assert_int_equal(ivon_fit_run(fit, &error), 0);
        assert_false(ivon_fit_saw_probabilities(fit));
        assert_int_equal(ivon_fit_source(&source, fit, NULL, 0, &error), 0);
        assert_int_equal(ivon_tuning_new(&tuning, source, &error), 0);
        struct ivon_fit_summary fitted = ivon_fit_summary(fit);
        struct ivon_tuning_summary stored = ivon_tuning_summary(tuning);
        assert_true(stored.n_train == EXAMPLES && stored.ess == 1000);
        assert_true(fabs(stored.evidence - fitted.loss - fitted.evidence) <= 1e-12);
        assert_true(fabs(stored.effective - fitted.effective) <= 1e-12 * fitted.effective);
        assert_true(fabs(stored.squares - fitted.squares) <= 1e-12 * fitted.squares);
        assert_int_equal(isnan(stored.weight_decay), variant == 2);
        assert_int_equal(ivon_tuning_set(tuning, 3, 1, &error), 0);
        assert_int_equal(ivon_tuning_maximize(tuning, options.each, &error), 0);
        struct ivon_tuning_summary tuned = ivon_tuning_summary(tuning);
        assert_true(fabs(tuned.evidence - stored.evidence) <= 1e-12);
        assert_true(variant == 2 || fabs(tuned.weight_decay / fitted.weight_decay - 1) <= 1e-12);
        ivon_tuning_free(tuning);
        ivon_source_close(source);
        ivon_fit_free(fit);
        data_end(&data);
        structured_end(&structured);
    }
}

/* Without n_train N is the ess. N δ |m|² = γ of all, or of each, and no weight decay has to be
   there. */
static void of_each_it_is_the_fixed_point(void **state)
{
    (void)state;
    struct trial trial;
    struct ivon_source *tuned = NULL;
    struct ivon_error error = {0};
    trial_prepare(&trial, false);
    trial.header.weight_decay = NAN;
    trial_scale(&trial, "w2", 5, NAN);
    trial_begin(&trial);
    struct ivon_tuning_summary summary = ivon_tuning_summary(trial.tuning);
    assert_true(isnan(summary.weight_decay) && isnan(summary.ess) && isnan(summary.evidence));
    assert_int_equal(ivon_tuning_maximize(trial.tuning, false, &error), 0);
    summary = ivon_tuning_summary(trial.tuning);
    double one = summary.evidence, fixed = 20 * summary.weight_decay * summary.squares;
    assert_true(fabs(fixed / summary.effective - 1) <= 1e-12);
    assert_int_equal(ivon_tuning_maximize(trial.tuning, true, &error), 0);
    summary = ivon_tuning_summary(trial.tuning);
    assert_true(summary.evidence > one);
    assert_int_equal(ivon_tuning_source(&tuned, trial.tuning, &error), 0);
    const struct ivon_tensor *w2 = ivon_source_tensor(
        tuned, (size_t)ivon_source_find(tuned, IVON_HESSIAN, "w2"));
    const float *h = trial_hessian(&trial, "w2");
    double gamma = 0, squares = 0;
    for (size_t i = 0; i < W2_COUNT; i++) {
        gamma += (double)h[i] / ((double)h[i] + w2->weight_decay);
        squares += pow((double)trial.structured.w2[i], 2);
    }
    assert_true(fabs(20 * w2->weight_decay * squares / gamma - 1) <= 1e-12);
    assert_true(w2->ess == 5 && isnan(ivon_source_header(tuned)->ess));
    assert_true(isnan(ivon_source_header(tuned)->weight_decay));
    ivon_source_close(tuned);
    trial_end(&trial);
}

/* The result has the source's tensors, in their order, and other numbers for the Hessians. */
static void the_result_is_the_source_with_another_prior(void **state)
{
    (void)state;
    struct trial trial;
    struct ivon_source *tuned = NULL;
    struct ivon_error error = {0};
    trial_prepare(&trial, false);
    trial.header.step = 7;
    trial_begin(&trial);
    assert_int_equal(ivon_tuning_set(trial.tuning, 0.5, 4, &error), 0);
    assert_int_equal(ivon_tuning_source(&tuned, trial.tuning, &error), 0);
    const struct ivon_header *header = ivon_source_header(tuned);
    assert_true(header->ess == 5 && header->weight_decay == 0.5 && header->step == 7);
    assert_int_equal(ivon_source_tensor_count(tuned), ivon_source_tensor_count(trial.source));
    for (size_t t = 0; t < ivon_source_tensor_count(tuned); t++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(tuned, t);
        const struct ivon_tensor *old = ivon_source_tensor(trial.source, t);
        float numbers[RANDOM];
        assert_string_equal(tensor->name, old->name);
        assert_int_equal(tensor->part, old->part);
        assert_ptr_equal(ivon_source_view(tuned, t, 0), ivon_source_view(trial.source, t, 0));
        if (tensor->part != IVON_HESSIAN)
            continue;
        assert_true(tensor->ess == 5 && tensor->weight_decay == 0.5);
        assert_int_equal(ivon_source_read(tuned, t, 1, 2, numbers, &error), 0);
        assert_memory_equal(numbers, dense_floats(trial.source, (ptrdiff_t)t) + 1, 8);
    }
    ivon_source_close(tuned);
    trial_end(&trial);
}

/* What is below 0 counts as 0, and bounds the weight decay from below. */
static void elements_below_zero_count_as_zero(void **state)
{
    (void)state;
    struct trial trial, zero;
    struct ivon_error error = {0};
    trial_prepare(&trial, false);
    trial_prepare(&zero, false);
    trial_hessian(&trial, "b2")[1] = -0.125F;
    trial_hessian(&zero, "b2")[1] = 0;
    trial_begin(&trial);
    trial_begin(&zero);
    struct ivon_tuning_summary summary = ivon_tuning_summary(trial.tuning);
    assert_true(summary.evidence == ivon_tuning_summary(zero.tuning).evidence);
    assert_true(summary.least == -0.125);
    assert_true(trial_hessian(&trial, "b2")[1] < 0); /* the source's own stays */
    assert_int_equal(ivon_tuning_set(trial.tuning, 0.126, 1, &error), 0);
    assert_int_equal(ivon_tuning_set(trial.tuning, 0.125, 1, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "posterior: Hessian of 'b2' is -0.125 at its least, and the "
                                       "weight decay 0.125, expected above 0.125");
    trial_hessian(&trial, "b2")[2] = -1e6F;
    ivon_tuning_free(trial.tuning);
    assert_int_equal(ivon_tuning_new(&trial.tuning, trial.source, &error), 0);
    assert_int_equal(ivon_tuning_maximize(trial.tuning, false, &error), IVON_ERROR_DATA);
    trial_end(&trial);
    trial_end(&zero);
}

/* A low-rank correction holds for one weight decay, and for every temperature. */
static void a_low_rank_correction_keeps_its_weight_decay(void **state)
{
    (void)state;
    struct trial trial;
    struct ivon_error error = {0};
    trial_prepare(&trial, true);
    trial_begin(&trial);
    assert_int_equal(ivon_tuning_maximize(trial.tuning, false, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message,
                        "posterior: has a low-rank correction, which holds for its weight decay "
                        "alone: it has to be fitted anew, from the data");
    assert_int_equal(ivon_tuning_set(trial.tuning, 1, 1, &error), IVON_ERROR_DATA);
    assert_int_equal(ivon_tuning_set(trial.tuning, NAN, 0.5, &error), 0);
    struct ivon_tuning_summary summary = ivon_tuning_summary(trial.tuning);
    assert_true(summary.rank == RANK && summary.ess == 40 && summary.weight_decay == 0.25);
    trial_end(&trial);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct trial trial;
    struct ivon_error error = {0};
    trial_prepare(&trial, false);
    trial_begin(&trial);
    assert_int_equal(ivon_tuning_set(trial.tuning, NAN, 0, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "the temperature is 0, expected a positive number");
    assert_int_equal(ivon_tuning_set(trial.tuning, -1, 1, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "the weight decay is -1, expected zero or more");
    trial_end(&trial);
    trial_prepare(&trial, false);
    trial.header.ess = NAN;
    trial_scale(&trial, "w1", NAN, 0.25);
    assert_int_equal(trial_open(&trial, &error), IVON_ERROR_DATA);
    assert_int_equal(error.hint, IVON_HINT_ESS);
    trial_end(&trial);
    trial_prepare(&trial, false);
    trial_hessian(&trial, "w2")[3] = INFINITY;
    assert_int_equal(trial_open(&trial, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "posterior: Hessian of 'w2' is inf at element 3, expected a "
                                       "finite number");
    trial_end(&trial);
    struct ivon_source *bare = NULL;
    struct ivon_tuning *tuning = NULL;
    const struct ivon_tensor mean = {
        .name = "w", .dtype = IVON_F32, .rank = 1, .shape = {1}, .count = 1};
    const struct ivon_header header = ivon_header_empty();
    assert_int_equal(ivon_source_from_memory(&bare, "bare", &header, &mean,
                                             (const void *const[]){(const float[]){1}}, 1, &error),
                     0);
    assert_int_equal(ivon_tuning_new(&tuning, bare, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "bare: holds no Hessian, expected a posterior");
    assert_null(tuning);
    ivon_source_close(bare);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_evidence_is_the_definition_s),
        cmocka_unit_test(it_is_that_of_the_fit),
        cmocka_unit_test(of_each_it_is_the_fixed_point),
        cmocka_unit_test(the_result_is_the_source_with_another_prior),
        cmocka_unit_test(elements_below_zero_count_as_zero),
        cmocka_unit_test(a_low_rank_correction_keeps_its_weight_decay),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
