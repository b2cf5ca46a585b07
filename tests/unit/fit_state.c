/*
 * Fits that are interrupted wherever they can be, and resumed with another number of threads, to
 * the bits of one that was not; and states that are refused.
 */
#include "structured_data.h"

#include "ivon/fit.h"

enum { ARRAYS_MOST = 64, FOREVER = 1 << 30, STRIDE = 19 /* of asks, and savings */ };

/* A copy of a state. */
struct kept {
    struct ivon_tensor tensors[ARRAYS_MOST];
    void *data[ARRAYS_MOST];
    size_t count;
};

static void kept_release(struct kept *kept)
{
    for (size_t i = 0; i < kept->count; i++) {
        free((char *)kept->tensors[i].name);
        free(kept->data[i]);
    }
    kept->count = 0;
}

static void kept_copy(struct kept *kept, struct ivon_source *state)
{
    kept_release(kept);
    for (size_t i = 0; i < ivon_source_tensor_count(state); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(state, i);
        size_t size = tensor->count * ivon_dtype_size(tensor->dtype);
        assert_true(kept->count < ARRAYS_MOST);
        kept->tensors[i] = *tensor;
        kept->tensors[i].name = strdup(tensor->name);
        kept->data[i] = malloc(size);
        memcpy(kept->data[i], ivon_source_view(state, i, 0), size);
        kept->count++;
    }
}

static struct ivon_source *kept_source(const struct kept *kept)
{
    const struct ivon_header header = ivon_header_empty();
    struct ivon_source *source = NULL;
    assert_int_equal(ivon_source_from_memory(&source, "state", &header, kept->tensors,
                                             (const void *const *)kept->data, kept->count, NULL),
                     0);
    return source;
}

/* A fit with what interrupts it: the ask of that number, which says so once, or the saving of that
   number. */
struct trial {
    struct structured structured;
    struct structured_data data;
    struct ivon_fit *fit;
    struct ivon_source *source;
    int asks, saves, ask_that_stops, save_that_fails;
    struct kept kept;
};

static int ask(void *context, uint64_t done, uint64_t total)
{
    struct trial *trial = context;
    assert_true(done <= total);
    return __atomic_add_fetch(&trial->asks, 1, __ATOMIC_RELAXED) == trial->ask_that_stops;
}

static int save(void *context, struct ivon_source *state, struct ivon_error *error)
{
    struct trial *trial = context;
    (void)error;
    kept_copy(&trial->kept, state);
    return ++trial->saves == trial->save_that_fails ? IVON_ERROR_IO : 0;
}

static struct ivon_fit_options fit_options(struct trial *trial, enum ivon_likelihood likelihood)
{
    struct ivon_fit_options options = ivon_fit_defaults();
    options.task.likelihood = likelihood;
    options.resources.threads = 1;
    options.resources.progress = (struct ivon_progress){ask, trial};
    options.batch = 1;
    options.save = save;
    options.save_context = trial;
    options.save_seconds = FOREVER;
    options.run = "graph";
    options.run_size = 5;
    return options;
}

static void trial_begin(struct trial *trial, enum ivon_likelihood likelihood)
{
    *trial = (struct trial){.ask_that_stops = FOREVER};
    structured_begin(&trial->structured, false);
    data_begin(&trial->data, &trial->structured.model, likelihood);
}

static void trial_leave(struct trial *trial)
{
    ivon_source_close(trial->source);
    ivon_fit_free(trial->fit);
    trial->source = NULL;
    trial->fit = NULL;
}

static void trial_end(struct trial *trial)
{
    trial_leave(trial);
    kept_release(&trial->kept);
    data_end(&trial->data);
    structured_end(&trial->structured);
}

static int trial_new(struct trial *trial, const struct ivon_fit_options *options)
{
    struct ivon_error error = {0};
    int code = ivon_fit_new(&trial->fit, trial->structured.model.network,
                            trial->structured.model.source, trial->data.examples, "y", options,
                            &error);
    if (code)
        fail_msg("%s", error.message);
    return code;
}

static int trial_run(struct trial *trial, const struct ivon_fit_options *options)
{
    struct ivon_error error = {0};
    int code = ivon_fit_run(trial->fit, &error);
    if (!code && options->rank)
        code = ivon_fit_correct(trial->fit, &error);
    if (!code)
        code = ivon_fit_source(&trial->source, trial->fit, NULL, 0, &error);
    return code;
}

static void expect_same(struct ivon_source *a, struct ivon_source *b)
{
    assert_int_equal(ivon_source_tensor_count(a), ivon_source_tensor_count(b));
    assert_true(ivon_source_header(a)->ess == ivon_source_header(b)->ess ||
                isnan(ivon_source_header(a)->ess));
    for (size_t t = 0; t < ivon_source_tensor_count(a); t++) {
        const struct ivon_tensor *x = ivon_source_tensor(a, t), *y = ivon_source_tensor(b, t);
        assert_string_equal(x->name, y->name);
        assert_true(x->weight_decay == y->weight_decay || isnan(x->weight_decay));
        assert_memory_equal(ivon_source_view(a, t, 0), ivon_source_view(b, t, 0),
                            x->count * ivon_dtype_size(x->dtype));
    }
}

static void expect_same_summary(const struct ivon_fit *a, const struct ivon_fit *b)
{
    const struct ivon_fit_summary x = ivon_fit_summary(a), y = ivon_fit_summary(b);
    assert_true(x.loss == y.loss && x.noise_std == y.noise_std && x.rank == y.rank);
    assert_true(x.effective == y.effective && x.evidence == y.evidence);
    assert_true(x.first == y.first && x.last == y.last);
}

/* Resumes what the trial kept, by three threads, and again from what that keeps, if it is stopped
   by ask `stop`. Returns the examples that were left. */
static void resume(struct trial *trial, const struct trial *whole,
                   const struct ivon_fit_options *given, int stop)
{
    struct ivon_fit_options options = *given;
    struct ivon_error error = {0};
    int code = IVON_ERROR_CANCELLED;
    options.resources.threads = 3;
    options.save_seconds = FOREVER;
    trial->ask_that_stops = stop;
    trial->save_that_fails = 0;
    while (code == IVON_ERROR_CANCELLED) {
        struct ivon_source *state = kept_source(&trial->kept);
        trial_leave(trial);
        trial->asks = 0;
        trial_new(trial, &options);
        code = ivon_fit_resume(trial->fit, state, &error);
        ivon_source_close(state);
        if (code)
            fail_msg("%s", error.message);
        code = trial_run(trial, &options);
        trial->ask_that_stops = FOREVER;
    }
    assert_int_equal(code, 0);
    expect_same(whole->source, trial->source);
    expect_same_summary(whole->fit, trial->fit);
    trial_leave(trial);
}

/* Runs without an interruption, then with one at each ask, then at each saving. */
static void interrupt_everywhere(enum ivon_likelihood likelihood,
                                 void (*change)(struct ivon_fit_options *options), int waves)
{
    struct trial whole, trial;
    int resumed = 0, savings = 0;
    trial_begin(&whole, likelihood);
    trial_begin(&trial, likelihood);
    struct ivon_fit_options options = fit_options(&trial, likelihood);
    struct ivon_fit_options plain = fit_options(&whole, likelihood);
    change(&options);
    change(&plain);
    plain.save = NULL;
    plain.resources.threads = 2;
    trial_new(&whole, &plain);
    assert_int_equal(trial_run(&whole, &plain), 0);
    for (int stop = 1, code = IVON_ERROR_CANCELLED; code == IVON_ERROR_CANCELLED; stop += STRIDE) {
        kept_release(&trial.kept);
        trial.asks = trial.saves = 0;
        trial.ask_that_stops = stop;
        trial_new(&trial, &options);
        code = trial_run(&trial, &options);
        assert_true(trial.saves == (trial.kept.count > 0));
        if (code)
            assert_int_equal(code, IVON_ERROR_CANCELLED);
        if (trial.kept.count)
            resume(&trial, &whole, &options, resumed++ % 3 ? 7 : FOREVER);
        trial_leave(&trial);
    }
    options.save_seconds = 0;
    trial.ask_that_stops = FOREVER;
    for (int code = IVON_ERROR_IO; code;) {
        trial.asks = trial.saves = 0;
        trial.ask_that_stops = FOREVER;
        trial.save_that_fails = savings += savings < STRIDE ? 1 : STRIDE;
        trial_new(&trial, &options);
        code = trial_run(&trial, &options);
        if (code) {
            assert_int_equal(code, IVON_ERROR_IO);
            assert_int_equal(trial.saves, savings);
            resume(&trial, &whole, &options, FOREVER);
        }
        trial_leave(&trial);
    }
    assert_true(resumed > 0 && savings > waves);
    trial_end(&whole);
    trial_end(&trial);
}

static void kronecker(struct ivon_fit_options *options)
{
    options->weight_decay = 0.01;
}

static void corrected(struct ivon_fit_options *options)
{
    options->rank = 3;
}

static void diagonal(struct ivon_fit_options *options)
{
    options->structure = IVON_FIT_DIAGONAL;
    options->rank = 2;
    options->each = true;
    options->curvature = IVON_CURVATURE_FISHER;
    options->draws = 2;
}

static void gram(struct ivon_fit_options *options)
{
    options->gram = true;
}

static void product(struct ivon_fit_options *options)
{
    options->factor_moments = true;
    options->curvature = IVON_CURVATURE_EMPIRICAL;
}

static void an_interrupted_fit_ends_with_the_same_bits(void **state)
{
    (void)state;
    interrupt_everywhere(IVON_CATEGORICAL, kronecker, 6);
    interrupt_everywhere(IVON_BERNOULLI, corrected, 30);
    interrupt_everywhere(IVON_GAUSSIAN, corrected, 30);
    interrupt_everywhere(IVON_POISSON, diagonal, 30);
    interrupt_everywhere(IVON_CATEGORICAL, gram, 3);
    interrupt_everywhere(IVON_CATEGORICAL, product, 6);
}

/* Takes the state of a fit that is stopped at its ask of number `stop`. */
static void trial_stop(struct trial *trial, const struct ivon_fit_options *options, int stop)
{
    trial->ask_that_stops = stop;
    trial->asks = 0;
    trial_new(trial, options);
    assert_int_equal(trial_run(trial, options), IVON_ERROR_CANCELLED);
    assert_true(trial->kept.count);
    trial_leave(trial);
    trial->ask_that_stops = FOREVER;
}

/* Fails, and says so in words that begin with `text`, when the state is resumed. */
static void refused(struct trial *trial, const struct ivon_fit_options *options, const char *text)
{
    struct ivon_error error = {0};
    struct ivon_source *state = kept_source(&trial->kept);
    trial_new(trial, options);
    assert_int_equal(ivon_fit_resume(trial->fit, state, &error), IVON_ERROR_DATA);
    if (strncmp(error.message, text, strlen(text)) != 0)
        fail_msg("%s, expected %s", error.message, text);
    assert_int_equal(error.hint, IVON_HINT_START_ANEW);
    ivon_source_close(state);
    trial_leave(trial);
}

static void states_of_other_fits_are_refused(void **state)
{
    (void)state;
    struct trial trial;
    trial_begin(&trial, IVON_CATEGORICAL);
    const struct ivon_fit_options good = fit_options(&trial, IVON_CATEGORICAL);
    struct ivon_fit_options options = good;
    trial_stop(&trial, &good, 60);
    options.seed = 3;
    refused(&trial, &options, "state: is of a fit with 'seed 0', expected 'seed 3'");
    options = good;
    options.weight_decay = 0.5;
    refused(&trial, &options,
            "state: is of a fit with 'weight_decay nan', expected 'weight_decay 0.5'");
    options = good;
    options.run = "Graph";
    refused(&trial, &options, "state: is of a fit with 'network ");
    options = good;
    options.batch = 2;
    refused(&trial, &options, "state: is of a fit with 'tiles of 1 examples', expected");
    trial.structured.b2[0] += 1;
    refused(&trial, &good, "state: is of a fit with 'weights ");
    trial.structured.b2[0] -= 1;
    int64_t *last = &trial.data.labels[15]; /* of two waves */
    *last = (*last + 1) % OUT;
    refused(&trial, &good, "state: is of a fit with other examples than the first 16 of data");
    *last = (*last + OUT - 1) % OUT;
    trial.data.x[3] += 1;
    refused(&trial, &good, "state: is of a fit with other examples than the first 16 of data");
    trial_end(&trial);
}

static size_t find_array(const struct kept *kept, const char *name)
{
    for (size_t i = 0; i < kept->count; i++)
        if (strcmp(kept->tensors[i].name, name) == 0)
            return i;
    fail_msg("no array '%s'", name);
    return 0;
}

/* Each array left out, of another type, and one element shorter. */
static void damage_arrays(struct trial *trial, const struct ivon_fit_options *options)
{
    struct kept *kept = &trial->kept;
    for (size_t i = 0; i < kept->count; i++) {
        struct ivon_tensor *tensor = &kept->tensors[i], whole = *tensor;
        char other[] = "other";
        tensor->name = other;
        refused(trial, options, "state: is no ");
        *tensor = whole;
        tensor->shape[0] = (int64_t)--tensor->count;
        refused(trial, options, "state: ");
        *tensor = whole;
        tensor->dtype = tensor->dtype == IVON_U8 ? IVON_BOOL : IVON_U8;
        refused(trial, options, "state: ");
        *tensor = whole;
    }
}

static void damage_number(struct trial *trial, const struct ivon_fit_options *options,
                          const char *name, size_t at, double value)
{
    double *number = (double *)trial->kept.data[find_array(&trial->kept, name)] + at;
    double before = *number;
    *number = value;
    refused(trial, options, "state: its numbers are not those of a fit");
    *number = before;
}

/* Each count of another value. */
static void damage_counts(struct trial *trial, const struct ivon_fit_options *options)
{
    static const int64_t values[] = {-1, INT64_MIN, 24, 1000, INT64_MAX};
    enum { STAGE, POSITION, SUMMED, DIGEST, STEPS, COUNTS };
    int64_t *counts = trial->kept.data[find_array(&trial->kept, "counts")];
    for (size_t i = 0; i < COUNTS; i++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            int64_t before = counts[i];
            counts[i] = values[v];
            refused(trial, options,
                    i == DIGEST ? "state: is of a fit with other examples"
                                : "state: its counts are not those of a fit");
            counts[i] = before;
        }
}

static void damaged_states_are_refused(void **state)
{
    (void)state;
    struct trial trial;
    trial_begin(&trial, IVON_GAUSSIAN);
    struct ivon_fit_options options = fit_options(&trial, IVON_GAUSSIAN);
    options.rank = 4;
    trial_stop(&trial, &options, 400); /* within the correction */
    find_array(&trial.kept, "lanczos/sums");
    damage_arrays(&trial, &options);
    damage_counts(&trial, &options);
    for (size_t i = 0; i < 3; i++)
        damage_number(&trial, &options, "decays", 1, (const double[]){-1, NAN, INFINITY}[i]);
    damage_number(&trial, &options, "numbers", 2, 0);
    damage_number(&trial, &options, "numbers", 2, NAN);
    unsigned char *decomposed = trial.kept.data[find_array(&trial.kept, "decomposed")];
    decomposed[0] = 2;
    refused(&trial, &options, "state: its numbers are not those of a fit");
    decomposed[0] = 1;
    char *run = trial.kept.data[find_array(&trial.kept, "run")];
    run[0] = '\0';
    refused(&trial, &options, "state: is of a fit with '', expected 'version ");
    trial_end(&trial);
    trial_begin(&trial, IVON_CATEGORICAL);
    options = fit_options(&trial, IVON_CATEGORICAL);
    trial_stop(&trial, &options, 60); /* within the first pass */
    damage_arrays(&trial, &options);
    int64_t *counts = trial.kept.data[find_array(&trial.kept, "counts")];
    counts[1]--;
    refused(&trial, &options, "state: its sums end with example ");
    trial_end(&trial);
}

/* Numbers that are no fit's lead to an error, or a posterior of such numbers, and nowhere else. */
static void wild_numbers_end(void **state)
{
    (void)state;
    static const float values[] = {0, -1, 1e30F, NAN, INFINITY};
    struct trial trial;
    trial_begin(&trial, IVON_CATEGORICAL);
    struct ivon_fit_options options = fit_options(&trial, IVON_CATEGORICAL);
    options.rank = 4;
    for (int stop = 60; stop <= 400; stop += 340)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            trial_stop(&trial, &options, stop);
            for (size_t i = 0; i < trial.kept.count; i++)
                for (size_t k = 0; k < trial.kept.tensors[i].count; k++) {
                    if (trial.kept.tensors[i].dtype == IVON_F32)
                        ((float *)trial.kept.data[i])[k] = values[v];
                    else if (strncmp(trial.kept.tensors[i].name, "lanczos/", 8) == 0)
                        ((double *)trial.kept.data[i])[k] = (double)values[v];
                }
            struct ivon_source *source = kept_source(&trial.kept);
            trial_new(&trial, &options);
            int code = ivon_fit_resume(trial.fit, source, NULL);
            if (!code)
                code = trial_run(&trial, &options);
            assert_true(!code || code == IVON_ERROR_DATA);
            ivon_source_close(source);
            trial_leave(&trial);
        }
    trial_end(&trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_interrupted_fit_ends_with_the_same_bits),
        cmocka_unit_test(states_of_other_fits_are_refused),
        cmocka_unit_test(damaged_states_are_refused),
        cmocka_unit_test(wild_numbers_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
