/*
 * Fits of a small network against sums over examples in double: h in its basis and as the diagonal,
 * of every likelihood; factors; the evidence; a low-rank correction of full rank, which is all of
 * the GGN; and what is refused.
 *
 * Rounding: h is a mean of squares of numbers that are right to 64 · 2^-24 of the largest of their
 * kind, in a basis that is orthonormal to 2^-22.
 */
#include "structured_data.h"

#include "ivon/fit.h"
#include "ivon/summary.h"

enum { HESSIANS = 3 };

static const double BOUND = 164 * 0x1p-24;

struct trial {
    struct structured structured;
    struct structured_data data;
    struct ivon_fit *fit;
    struct ivon_source *source;
};

static struct ivon_fit_options fit_options(enum ivon_likelihood likelihood)
{
    struct ivon_fit_options options = ivon_fit_defaults();
    options.task.likelihood = likelihood;
    options.task.noise_std = likelihood == IVON_GAUSSIAN ? NOISE : NAN;
    options.weight_decay = 0.01;
    options.resources.threads = 1;
    return options;
}

static void trial_fit(struct trial *trial, const struct ivon_fit_options *options)
{
    struct ivon_error error = {0};
    int code = ivon_fit_new(&trial->fit, trial->structured.model.network,
                            trial->structured.model.source, trial->data.examples, "y", options,
                            &error);
    if (!code)
        code = ivon_fit_run(trial->fit, &error);
    if (!code && options->rank)
        code = ivon_fit_correct(trial->fit, &error);
    if (!code)
        code = ivon_fit_source(&trial->source, trial->fit, NULL, 0, &error);
    if (code)
        fail_msg("%s", error.message);
}

static void trial_prepare(struct trial *trial, enum ivon_likelihood likelihood)
{
    *trial = (struct trial){0};
    structured_begin(&trial->structured, false);
    data_begin(&trial->data, &trial->structured.model, likelihood);
}

static void trial_begin(struct trial *trial, const struct ivon_fit_options *options)
{
    trial_prepare(trial, options->task.likelihood);
    trial_fit(trial, options);
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
    data_end(&trial->data);
    structured_end(&trial->structured);
}

/* Returns (1/N) Σ Jᵀ Λ J over all examples. */
static void sum_curvature(const struct trial *trial, const struct dense *dense, dense_matrix ggn)
{
    double columns[OUT][DENSE_MOST];
    memset(ggn, 0, sizeof(dense_matrix));
    for (size_t e = 0; e < EXAMPLES; e++) {
        data_columns(&trial->structured, &trial->data, dense, e, columns);
        for (size_t k = 0; k < OUT; k++)
            for (size_t i = 0; i < dense->size; i++)
                for (size_t j = 0; j < dense->size; j++)
                    ggn[i][j] += columns[k][i] * columns[k][j] / EXAMPLES;
    }
}

/* h of every element is the curvature along its column of Q. */
static void check_moments(const struct trial *trial)
{
    static dense_matrix ggn;
    struct dense *dense = dense_new(trial->source, NULL);
    double most = 0, expected[DENSE_MOST] = {0};
    assert_int_equal(dense->size, RANDOM);
    sum_curvature(trial, dense, ggn);
    for (size_t c = 0; c < dense->size; c++) {
        for (size_t i = 0; i < dense->size; i++)
            for (size_t j = 0; j < dense->size; j++)
                expected[c] += dense->rotation[i][c] * ggn[i][j] * dense->rotation[j][c];
        most = fmax(most, expected[c]);
    }
    for (size_t t = 0; t < ivon_source_tensor_count(trial->source); t++)
        for (size_t i = 0; i < ivon_source_tensor(trial->source, t)->count && dense->random[t];
             i++) {
            double found = (double)dense_floats(trial->source, (ptrdiff_t)t)[i];
            if (!(fabs(found - expected[dense->at[t] + i]) <= BOUND * most))
                fail_msg("h %zu of tensor %zu: %.9g, expected %.9g", i, t, found,
                         expected[dense->at[t] + i]);
        }
    dense_free(dense);
}

static void moments_are_the_curvature_in_the_basis(void **state)
{
    (void)state;
    for (enum ivon_likelihood kind = IVON_CATEGORICAL; kind <= IVON_POISSON; kind++)
        for (int diagonal = 0; diagonal < 2; diagonal++) {
            struct trial trial;
            struct ivon_fit_options options = fit_options(kind);
            options.structure = diagonal ? IVON_FIT_DIAGONAL : IVON_FIT_KRONECKER;
            trial_begin(&trial, &options);
            struct ivon_fit_summary summary = ivon_fit_summary(trial.fit);
            assert_int_equal(summary.examples, EXAMPLES);
            assert_int_equal(summary.parameters, RANDOM);
            assert_int_equal(summary.blocks, diagonal ? 0 : 2);
            assert_int_equal(summary.passes, diagonal ? 1 : 2);
            assert_int_equal(summary.columns, OUT);
            assert_int_equal(summary.products, 0);
            assert_true(summary.n_train == EXAMPLES && summary.ess == EXAMPLES);
            assert_int_equal(ivon_source_find(trial.source, IVON_STRUCTURE, "structure.json") < 0,
                             diagonal);
            check_moments(&trial);
            trial_end(&trial);
        }
}

/* U diag(spectrum) Uᵀ of W₁'s inputs is the mean of [x 1]ᵀ [x 1], and what --gram gives. */
static void factors_are_means_of_products(void **state)
{
    (void)state;
    enum { N = IN + 1 };
    for (int gram = 0; gram < 2; gram++) {
        struct trial trial;
        struct ivon_fit_options options = fit_options(IVON_CATEGORICAL);
        options.gram = gram;
        size_t n = gram ? IN : N; /* a Gram matrix is of the weight's own inputs */
        trial_begin(&trial, &options);
        ptrdiff_t at = ivon_source_find(trial.source, gram ? IVON_GRAM : IVON_BASIS_INPUT, "w1");
        const float *basis = dense_floats(trial.source, at);
        assert_int_equal(ivon_source_tensor(trial.source, (size_t)at)->shape[0], n);
        ptrdiff_t spectrum = ivon_source_find(trial.source, IVON_SPECTRUM_INPUT, "w1");
        assert_int_equal(spectrum < 0, gram);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double found = gram ? (double)basis[i * n + j] : 0, expected = 0;
                for (size_t k = 0; k < n && !gram; k++)
                    found += (double)basis[i * n + k] * (double)basis[j * n + k] *
                             (double)dense_floats(trial.source, spectrum)[k];
                for (size_t e = 0; e < EXAMPLES; e++)
                    expected += (i < IN ? (double)trial.data.x[e * IN + i] : 1) *
                                (j < IN ? (double)trial.data.x[e * IN + j] : 1) / EXAMPLES;
                assert_true(fabs(found - expected) <= BOUND * 2);
            }
        trial_end(&trial);
    }
}

/* Labels that are drawn have the curvature on average: 3,000 draws of each of 23 examples are right
   to a few hundredths. */
static void drawn_labels_have_the_curvature_on_average(void **state)
{
    (void)state;
    for (enum ivon_likelihood kind = IVON_CATEGORICAL; kind <= IVON_POISSON; kind++) {
        struct trial trial;
        struct ivon_fit_options options = fit_options(kind);
        float exact[RANDOM];
        options.structure = IVON_FIT_DIAGONAL;
        trial_begin(&trial, &options);
        ptrdiff_t w1 = ivon_source_find(trial.source, IVON_HESSIAN, "w1");
        memcpy(exact, dense_floats(trial.source, w1), IN * HIDDEN * sizeof *exact);
        trial_leave(&trial);
        options.curvature = IVON_CURVATURE_FISHER;
        options.draws = 3000;
        trial_fit(&trial, &options);
        const float *drawn = dense_floats(trial.source,
                                          ivon_source_find(trial.source, IVON_HESSIAN, "w1"));
        for (size_t i = 0; i < IN * HIDDEN; i++)
            if (!(fabs((double)drawn[i] / (double)exact[i] - 1) <= 0.06))
                fail_msg("%zu: %.4g, expected about %.4g", i, (double)drawn[i], (double)exact[i]);
        trial_end(&trial);
    }
}

static double evidence_at(struct trial *trial, double weight_decay,
                          struct ivon_fit_summary *summary)
{
    struct ivon_fit_options options = fit_options(IVON_CATEGORICAL);
    options.weight_decay = weight_decay;
    trial_fit(trial, &options);
    *summary = ivon_fit_summary(trial->fit);
    trial_leave(trial);
    return summary->evidence;
}

/* δ is where N δ |m|² = γ, and a maximum of the evidence: log-spaced neighbours have less. */
static void the_weight_decay_has_the_greatest_evidence(void **state)
{
    (void)state;
    struct trial trial;
    struct ivon_fit_summary best, other;
    trial_prepare(&trial, IVON_CATEGORICAL);
    double most = evidence_at(&trial, NAN, &best);
    double fixed = best.n_train * best.weight_decay * best.squares;
    assert_true(fabs(fixed - best.effective) <= 1e-9 * fixed);
    for (int step = -8; step <= 8; step++) {
        double evidence = evidence_at(&trial, best.weight_decay * exp2(step / 4.0), &other);
        assert_true(step ? evidence < most : fabs(evidence - most) <= 1e-12);
    }
    trial_end(&trial);
}

/* s² = |f − y|² / (N K − γ), with the γ that h has by it. */
static void the_noise_has_the_greatest_evidence(void **state)
{
    (void)state;
    struct trial trial;
    struct ivon_fit_options options = fit_options(IVON_GAUSSIAN);
    double squares = 0, f[OUT], jacobian[OUT][RANDOM];
    options.task.noise_std = options.weight_decay = NAN;
    trial_begin(&trial, &options);
    struct ivon_fit_summary summary = ivon_fit_summary(trial.fit);
    for (size_t e = 0; e < EXAMPLES; e++) {
        structured_run(&trial.structured, trial.data.x + e * IN, f, jacobian);
        for (size_t c = 0; c < OUT; c++)
            squares += pow(f[c] - (double)trial.data.numbers[e * OUT + c], 2);
    }
    double expected = squares / (EXAMPLES * OUT - summary.effective);
    double found = summary.noise_std * summary.noise_std;
    assert_true(fabs(found - expected) <= 1e-5 * expected);
    double fixed = EXAMPLES * summary.weight_decay * summary.squares;
    assert_true(fabs(fixed - summary.effective) <= 1e-5 * fixed);
    trial_end(&trial);
}

/* With a weight decay, given or set afterwards, comes the noise that is the best for it: others, as
   they are given, have less evidence. */
static void the_noise_of_a_weight_decay_is_the_best(void **state)
{
    (void)state;
    for (int power = -9; power < 1; power += 3)
        for (int set = 0; set < 2; set++) {
            double decay = pow(10, power);
            struct trial trial;
            struct ivon_error error = {0};
            struct ivon_fit_options options = fit_options(IVON_GAUSSIAN);
            options.task.noise_std = NAN;
            options.weight_decay = set ? 0.3 : decay;
            trial_begin(&trial, &options);
            if (set)
                assert_int_equal(ivon_fit_set_weight_decay(trial.fit, decay, &error), 0);
            struct ivon_fit_summary best = ivon_fit_summary(trial.fit);
            options.weight_decay = decay;
            for (int step = -3; step <= 3; step++) {
                trial_leave(&trial);
                options.task.noise_std = best.noise_std * exp2(step / 8.0);
                trial_fit(&trial, &options);
                double evidence = ivon_fit_summary(trial.fit).evidence;
                assert_true(step ? evidence < best.evidence
                                 : fabs(evidence - best.evidence) <= 1e-5);
            }
            trial_end(&trial);
        }
}

static void expect_same_tensors(struct ivon_source *a, struct ivon_source *b, bool low_rank)
{
    for (size_t t = 0; t < ivon_source_tensor_count(a); t++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(a, t);
        ptrdiff_t other = ivon_source_find(b, tensor->part, tensor->name);
        if (tensor->part == IVON_STRUCTURE && low_rank)
            continue;
        assert_true(other >= 0);
        assert_memory_equal(ivon_source_view(a, t, 0), ivon_source_view(b, (size_t)other, 0),
                            tensor->count * ivon_dtype_size(tensor->dtype));
    }
}

/* A correction leaves its base as it is, and threads every bit. */
static void a_correction_lies_upon_the_same_base(void **state)
{
    (void)state;
    struct trial trial, corrected, threaded;
    struct ivon_fit_options options = fit_options(IVON_CATEGORICAL);
    trial_begin(&trial, &options);
    options.rank = 5;
    trial_begin(&corrected, &options);
    options.resources.threads = 3;
    trial_begin(&threaded, &options);
    expect_same_tensors(trial.source, corrected.source, true);
    expect_same_tensors(corrected.source, threaded.source, false);
    struct ivon_fit_summary summary = ivon_fit_summary(corrected.fit);
    assert_int_equal(summary.rank, 5);
    assert_true(summary.products > 5 && fabs(summary.first) >= fabs(summary.last));
    trial_end(&trial);
    trial_end(&corrected);
    trial_end(&threaded);
}

/*
 * With as many pairs as parameters the covariance is (λ(GGN + δ))^(−1), upon either base. Compared
 * is P Σ with the identity: a sum of 43 products, in which errors of the vectors, 2^-21 as products
 * of floats made them, count with the condition of P, below 45: 10^-3.
 */
static void of_full_rank_it_is_the_whole_curvature(void **state)
{
    (void)state;
    static dense_matrix precision, product;
    const double bound = 1e-3;
    for (int diagonal = 0; diagonal < 2; diagonal++) {
        struct trial trial;
        struct ivon_fit_options options = fit_options(IVON_CATEGORICAL);
        options.structure = diagonal ? IVON_FIT_DIAGONAL : IVON_FIT_KRONECKER;
        options.rank = 1000;
        options.weight_decay = 0.05;
        trial_begin(&trial, &options);
        assert_int_equal(ivon_fit_summary(trial.fit).rank, RANDOM);
        struct dense *dense = dense_new(trial.source, NULL);
        sum_curvature(&trial, dense, precision);
        for (size_t i = 0; i < RANDOM; i++)
            for (size_t j = 0; j < RANDOM; j++)
                precision[i][j] = EXAMPLES * (precision[i][j] + (i == j) * options.weight_decay);
        dense_product(RANDOM, precision, dense->covariance, product);
        for (size_t i = 0; i < RANDOM; i++)
            for (size_t j = 0; j < RANDOM; j++)
                if (!(fabs(product[i][j] - (i == j)) <= bound))
                    fail_msg("%zu, %zu: %.6g", i, j, product[i][j]);
        dense_free(dense);
        trial_end(&trial);
    }
}

/* Returns N gᵀ (H + δ)^(−1) g by the dense Σ = (N (H + δ))^(−1), g = (1/N) Σ Jᵀ e + δ m, or what
   bounds it. */
static double dense_decrement(const struct trial *trial, double decay)
{
    double f[OUT], p[OUT], e[OUT], jacobian[OUT][RANDOM], sum[RANDOM], g[DENSE_MOST];
    const float *means[] = {trial->structured.w1, trial->structured.b1, trial->structured.w2,
                            trial->structured.b2};
    const size_t counts[] = {HIDDEN * IN, HIDDEN, HIDDEN * OUT, OUT};
    struct dense *dense = dense_new(trial->source, NULL);
    for (size_t m = 0, at = 0; m < 4; at += counts[m++])
        for (size_t i = 0; i < counts[m]; i++)
            sum[at + i] = EXAMPLES * decay * (double)means[m][i];
    for (size_t i = 0; i < EXAMPLES; i++) {
        structured_run(&trial->structured, trial->data.x + i * IN, f, jacobian);
        data_predict(&trial->data, f, p);
        data_residual(&trial->data, i, p, e);
        for (size_t c = 0; c < OUT; c++)
            for (size_t j = 0; j < RANDOM; j++)
                sum[j] += jacobian[c][j] * e[c];
    }
    structured_to_dense(dense, sum, g);
    double decrement = dense_quadratic(dense, g);
    dense_free(dense);
    struct ivon_fit_summary summary = ivon_fit_summary(trial->fit);
    return fmin(decrement, 2 * EXAMPLES * summary.loss + EXAMPLES * decay * summary.squares);
}

/* Sums of 23 gradients of one sign or the other, right to 2^-22 of the largest, whose squares are
   within 30 of those of the sums: 10^-5. */
static void the_decrement_is_the_gradient_in_the_posteriors_metric(void **state)
{
    (void)state;
    for (enum ivon_likelihood kind = IVON_CATEGORICAL; kind <= IVON_POISSON; kind++)
        for (int structure = 0; structure < 4; structure++) {
            struct trial trial;
            struct ivon_fit_options options = fit_options(kind);
            struct ivon_error error = {0};
            options.structure = structure % 2 ? IVON_FIT_KRONECKER : IVON_FIT_DIAGONAL;
            options.rank = structure < 2 ? 0 : 4;
            trial_begin(&trial, &options);
            double found = ivon_fit_summary(trial.fit).decrement;
            double expected = dense_decrement(&trial, options.weight_decay);
            if (!(fabs(found / expected - 1) <= 1e-5))
                fail_msg("%d, %d: %.9g, expected %.9g", kind, structure, found, expected);
            assert_true(ivon_source_header(trial.source)->decrement == found);
            ivon_source_close(trial.source);
            trial.source = NULL;
            assert_int_equal(ivon_fit_set_weight_decay(trial.fit, 0.5, &error), 0);
            assert_int_equal(ivon_fit_source(&trial.source, trial.fit, NULL, 0, &error), 0);
            found = ivon_fit_summary(trial.fit).decrement;
            assert_true(fabs(found / dense_decrement(&trial, 0.5) - 1) <= 1e-5);
            trial_end(&trial);
        }
}

/* Where the noise is found, h and gradient are by it; with the larger weight decays the decrement
   is below its bound. */
static void the_decrement_is_by_the_noise_that_is_found(void **state)
{
    (void)state;
    size_t below = 0;
    for (int power = -2; power <= 2; power++) {
        double decay = pow(10, power);
        struct trial found, given;
        struct ivon_fit_options options = fit_options(IVON_GAUSSIAN);
        options.task.noise_std = NAN;
        options.weight_decay = decay;
        trial_begin(&found, &options);
        struct ivon_fit_summary summary = ivon_fit_summary(found.fit);
        options.task.noise_std = summary.noise_std;
        trial_begin(&given, &options);
        double expected = ivon_fit_summary(given.fit).decrement;
        assert_true(fabs(summary.decrement / expected - 1) <= 1e-5);
        below += summary.decrement <
                 2 * EXAMPLES * summary.loss + EXAMPLES * decay * summary.squares - 1e-3;
        trial_end(&found);
        trial_end(&given);
    }
    assert_true(below > 0);
}

static void a_mean_is_far_where_the_decrement_says_so(void **state)
{
    (void)state;
    assert_false(ivon_mean_is_far(NAN, 10));
    assert_false(ivon_mean_is_far(40, 10));
    assert_true(ivon_mean_is_far(41, 10));
}

/* A weight decay that is set afterwards is as one that was given, and undoes the correction. */
static void the_weight_decay_can_be_set(void **state)
{
    (void)state;
    struct trial given, set;
    struct ivon_fit_options options = fit_options(IVON_CATEGORICAL);
    struct ivon_error error = {0};
    options.rank = 3;
    options.weight_decay = 0.125;
    trial_begin(&given, &options);
    options.weight_decay = NAN;
    trial_begin(&set, &options);
    ivon_source_close(set.source);
    set.source = NULL;
    assert_int_equal(ivon_fit_set_weight_decay(set.fit, -1, &error), IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_fit_set_weight_decay(set.fit, 0.125, &error), 0);
    assert_int_equal(ivon_fit_summary(set.fit).rank, 0);
    assert_int_equal(ivon_fit_correct(set.fit, &error), 0);
    assert_int_equal(ivon_fit_source(&set.source, set.fit, NULL, 0, &error), 0);
    expect_same_tensors(given.source, set.source, false);
    trial_end(&given);
    trial_end(&set);
}

/* An input that is always 0 has no curvature: nothing but a weight decay bounds its weights. */
static void what_no_example_bends_needs_a_weight_decay(void **state)
{
    (void)state;
    struct trial trial;
    struct ivon_fit_options options = fit_options(IVON_CATEGORICAL);
    struct ivon_error error = {0};
    options.structure = IVON_FIT_DIAGONAL;
    options.weight_decay = 0;
    trial_prepare(&trial, IVON_CATEGORICAL);
    for (size_t i = 0; i < EXAMPLES; i++)
        trial.data.x[i * IN] = 0;
    assert_int_equal(ivon_fit_new(&trial.fit, trial.structured.model.network,
                                  trial.structured.model.source, trial.data.examples, "y", &options,
                                  &error),
                     0);
    assert_int_equal(ivon_fit_run(trial.fit, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message,
                        "posterior: the data say nothing of 5 of 25 elements of the Hessian of "
                        "'w1', and there is no weight decay: their variance is infinite");
    assert_int_equal(error.hint, IVON_HINT_WEIGHT_DECAY);
    trial_end(&trial);
}

static void what_moves_no_output_is_named(void **state)
{
    (void)state;
    struct trial trial;
    struct ivon_fit_options options = fit_options(IVON_CATEGORICAL);
    size_t count = 7;
    options.structure = IVON_FIT_DIAGONAL;
    trial_begin(&trial, &options);
    assert_null(ivon_fit_flat(trial.fit, &count));
    assert_int_equal(count, 0);
    trial_end(&trial);
    trial_prepare(&trial, IVON_CATEGORICAL);
    for (size_t i = 0; i < EXAMPLES * IN; i++)
        trial.data.x[i] = 0;
    trial_fit(&trial, &options);
    assert_string_equal(ivon_fit_flat(trial.fit, &count), "w1");
    assert_int_equal(count, 1);
    trial_end(&trial);
}

static bool no_name(void *context, const char *name)
{
    (void)context;
    (void)name;
    return false;
}

static void refused(struct trial *trial, const struct ivon_fit_options *options, int code,
                    const char *text)
{
    struct ivon_error error = {0};
    struct ivon_fit *fit = NULL;
    assert_int_equal(ivon_fit_new(&fit, trial->structured.model.network,
                                  trial->structured.model.source, trial->data.examples, "y",
                                  options, &error),
                     code);
    assert_null(fit);
    assert_non_null(strstr(error.message, text));
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct trial trial;
    const struct ivon_fit_options good = fit_options(IVON_CATEGORICAL);
    struct ivon_fit_options options = good;
    struct ivon_error error = {0};
    trial_prepare(&trial, IVON_CATEGORICAL);
    options.ess = 0;
    refused(&trial, &options, IVON_ERROR_ARGUMENT, "ess is 0, expected a positive number");
    options = good;
    options.weight_decay = -1;
    refused(&trial, &options, IVON_ERROR_ARGUMENT, "the weight decay is -1");
    options = good;
    options.gram = true;
    options.rank = 1;
    refused(&trial, &options, IVON_ERROR_ARGUMENT, "no low-rank correction");
    options = good;
    options.draws = 0;
    refused(&trial, &options, IVON_ERROR_ARGUMENT, "no labels are to be drawn");
    options = good;
    options.save_seconds = -1;
    refused(&trial, &options, IVON_ERROR_ARGUMENT, "seconds between states are -1");
    options = good;
    options.selected = no_name;
    refused(&trial, &options, IVON_ERROR_DATA, "nothing to fit");
    options = good;
    options.size = 0;
    refused(&trial, &options, IVON_ERROR_ARGUMENT, "ivon_fit_defaults");
    options = good;
    options.resources.memory = 1;
    refused(&trial, &options, IVON_ERROR_MEMORY, "memory");
    assert_int_equal(ivon_fit_new(&trial.fit, trial.structured.model.network,
                                  trial.structured.model.source, trial.data.examples, "y", &good,
                                  &error),
                     0);
    assert_int_equal(ivon_fit_source(&trial.source, trial.fit, NULL, 0, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "nothing was fitted yet");
    trial_end(&trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_are_the_curvature_in_the_basis),
        cmocka_unit_test(factors_are_means_of_products),
        cmocka_unit_test(drawn_labels_have_the_curvature_on_average),
        cmocka_unit_test(the_weight_decay_has_the_greatest_evidence),
        cmocka_unit_test(the_noise_has_the_greatest_evidence),
        cmocka_unit_test(the_noise_of_a_weight_decay_is_the_best),
        cmocka_unit_test(a_correction_lies_upon_the_same_base),
        cmocka_unit_test(of_full_rank_it_is_the_whole_curvature),
        cmocka_unit_test(the_weight_decay_can_be_set),
        cmocka_unit_test(the_decrement_is_the_gradient_in_the_posteriors_metric),
        cmocka_unit_test(the_decrement_is_by_the_noise_that_is_found),
        cmocka_unit_test(a_mean_is_far_where_the_decrement_says_so),
        cmocka_unit_test(what_no_example_bends_needs_a_weight_decay),
        cmocka_unit_test(what_moves_no_output_is_named),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
