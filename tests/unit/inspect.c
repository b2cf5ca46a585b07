/* What there is to see of a structure: spectra, correction, memory, and what is none. */
#include "structured_network.h"

#include "ivon/inspect.h"

static struct ivon_inspection *inspect(struct ivon_source *source)
{
    struct ivon_inspect_options options = ivon_inspect_defaults();
    struct ivon_inspection *inspection = NULL;
    struct ivon_error error = {0};
    options.orthonormal = true;
    options.resources.threads = 2;
    if (ivon_inspect_new(&inspection, source, &options, &error))
        fail_msg("%s", error.message);
    return inspection;
}

/* γ = P − Σ λδ Σ_ii. Sums of floats in double, of vectors orthonormal to 2^-22: 10^-6. */
static void the_correction_adds_to_the_effective_parameters(void **state)
{
    (void)state;
    struct structured structured;
    struct ivon_summaries *summaries = NULL;
    struct ivon_error error = {0};
    structured_begin(&structured, true);
    struct ivon_source *source = structured.model.source;
    struct dense *dense = dense_new(source, NULL);
    struct ivon_inspection *inspection = inspect(source);
    const struct ivon_low_rank *low_rank = ivon_inspect_low_rank(inspection);
    assert_int_equal(ivon_summary_new(&summaries, source, NULL, &error), 0);
    double expected = RANDOM, found = ivon_summary_total(summaries)->effective;
    for (size_t t = 0; t < ivon_source_tensor_count(source); t++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, t);
        if (tensor->part != IVON_HESSIAN)
            continue;
        for (size_t i = dense->at[t]; i < dense->at[t] + tensor->count; i++)
            expected -= tensor->ess * tensor->weight_decay * dense->covariance[i][i];
    }
    assert_true(fabs(found - expected) > 1e-3);
    assert_true(fabs(found + low_rank->effective - expected) <= 1e-6 * expected);
    assert_int_equal(low_rank->rank, RANK);
    assert_memory_equal(low_rank->values, VALUES, sizeof VALUES);
    assert_true(low_rank->skew < 1e-6 && !low_rank->skewed);
    size_t count;
    const struct ivon_block *blocks = ivon_inspect_blocks(inspection, &count);
    assert_int_equal(count, 2);
    assert_string_equal(blocks[0].weight, "w1");
    assert_string_equal(blocks[0].bias, "b1");
    assert_null(blocks[1].bias);
    assert_true(blocks[0].input.rotated && !blocks[0].input.spectrum && !blocks[1].input.rotated);
    assert_true(blocks[0].input.skew < 1e-6 && !blocks[0].input.skewed);
    assert_true(isnan(blocks[0].input_rows) && isnan(blocks[1].input.skew));
    ivon_summary_free(summaries);
    ivon_inspect_free(inspection);
    dense_free(dense);
    structured_end(&structured);
}

static void add_spectrum(struct model *model, const float *values)
{
    float *spectrum = structured_tensor(model, IVON_SPECTRUM_INPUT, "w1", IN + 1, 0);
    memcpy(spectrum, values, (IN + 1) * sizeof *values);
}

static struct ivon_factor spectrum_of(const float *values)
{
    struct structured structured;
    size_t count;
    structured_begin(&structured, false);
    struct model *model = &structured.model;
    add_spectrum(model, values);
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    const struct ivon_header header = ivon_header_empty();
    assert_int_equal(ivon_source_from_memory(&source, "posterior", &header, model->tensors,
                                             (const void *const *)model->data, model->count,
                                             &error),
                     0);
    struct ivon_inspection *inspection = inspect(source);
    struct ivon_factor factor = ivon_inspect_blocks(inspection, &count)[0].input;
    ivon_inspect_free(inspection);
    ivon_source_close(source);
    structured_end(&structured);
    return factor;
}

static void spectra_are_summarised(void **state)
{
    (void)state;
    struct ivon_factor good = spectrum_of((float[]){4, 0, 1, 8, 2});
    assert_true(good.spectrum && good.rows == 5 && good.least == 0 && good.greatest == 8);
    assert_true(good.quantiles[1] == 1 && good.quantiles[2] == 2 && good.quantiles[3] == 4);
    assert_true(fabs(good.quantiles[4] - 7.2) < 1e-12);
    assert_true(good.rank == 4 && !good.negative && !good.nonfinite);
    /* Rounding is 5 · 2^-23 of the largest. */
    struct ivon_factor rounded = spectrum_of((float[]){4, -2e-6f, 1, 8, 4e-6f});
    assert_true(rounded.rank == 3 && !rounded.negative);
    struct ivon_factor bad = spectrum_of((float[]){4, -1e-3f, NAN, 8, INFINITY});
    assert_true(bad.negative == 1 && bad.nonfinite == 2 && bad.least == (double)-1e-3f);
}

static void what_is_not_orthonormal_is_seen(void **state)
{
    (void)state;
    static const float factors[] = {1.01f, NAN, INFINITY};
    for (size_t i = 0; i < 3; i++)
        for (int vectors = 0; vectors < 2; vectors++) {
            struct structured structured;
            size_t count;
            structured_begin(&structured, true);
            struct ivon_source *source = structured.model.source;
            ptrdiff_t at = ivon_source_find(source, vectors ? IVON_LOW_RANK : IVON_BASIS_OUTPUT,
                                            "w2");
            float *elements = (float *)dense_floats(source, at);
            for (size_t j = 0; j < (size_t)OUT * OUT; j++)
                elements[j] *= factors[i];
            struct ivon_inspection *inspection = inspect(source);
            const struct ivon_block *blocks = ivon_inspect_blocks(inspection, &count);
            assert_int_equal(ivon_inspect_low_rank(inspection)->skewed, vectors);
            assert_int_equal(blocks[1].output.skewed, !vectors);
            if (!i && !vectors) /* 1.01² − 1 */
                assert_true(fabs(blocks[1].output.skew - 0.0201) < 1e-6);
            assert_false(blocks[0].output.skewed);
            ivon_inspect_free(inspection);
            structured_end(&structured);
        }
}

static bool gram_is_positive(const float *gram)
{
    const struct ivon_tensor tensors[] = {
        {.name = "w", .part = IVON_MEAN, .dtype = IVON_F32, .rank = 2, .shape = {3, 2}, .count = 6},
        {.name = "w", .part = IVON_GRAM, .dtype = IVON_F32, .rank = 2, .shape = {2, 2}, .count = 4},
    };
    static const float mean[6];
    const void *const data[] = {mean, gram};
    const struct ivon_header header = ivon_header_empty();
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    size_t count;
    assert_int_equal(ivon_source_from_memory(&source, "gram", &header, tensors, data, 2, &error),
                     0);
    struct ivon_inspection *inspection = inspect(source);
    const char *const *names = ivon_inspect_indefinite(inspection, &count);
    if (count)
        assert_string_equal(names[0], "w");
    ivon_inspect_free(inspection);
    ivon_source_close(source);
    return !count;
}

static void gram_matrices_are_positive(void **state)
{
    (void)state;
    assert_true(gram_is_positive((float[]){4, 2, 2, 1}));
    assert_true(gram_is_positive((float[]){0, 0, 0, 1}));
    assert_false(gram_is_positive((float[]){4, 2.01f, 2.01f, 1}));
    assert_false(gram_is_positive((float[]){-1, 0, 0, 1}));
    assert_false(gram_is_positive((float[]){4, NAN, NAN, 1}));
    assert_false(gram_is_positive((float[]){INFINITY, 0, 0, 1}));
}

static void options_have_a_size(void **state)
{
    (void)state;
    struct structured structured;
    struct ivon_inspect_options options = ivon_inspect_defaults();
    struct ivon_inspection *inspection = NULL;
    struct ivon_error error = {0};
    structured_begin(&structured, false);
    options.size = 0;
    assert_int_equal(ivon_inspect_new(&inspection, structured.model.source, &options, &error),
                     IVON_ERROR_ARGUMENT);
    assert_null(inspection);
    structured_end(&structured);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_correction_adds_to_the_effective_parameters),
        cmocka_unit_test(spectra_are_summarised),
        cmocka_unit_test(what_is_not_orthonormal_is_seen),
        cmocka_unit_test(gram_matrices_are_positive),
        cmocka_unit_test(options_have_a_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
