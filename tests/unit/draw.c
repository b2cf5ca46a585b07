/*
 * Draws from posteriors with blocks and a low-rank correction: m + √τ T M^(−1/2) ε of the dense
 * covariance, from the same normals; the same however they are asked for.
 *
 * Rounding: a draw is a sum of a hundred products of floats, in two steps, beside what bases and
 * vectors lack to be orthonormal, 2^-22: 64 · 2^-23 of the largest element.
 */
#include "structured_network.h"

#include "bayes/draw.h"
#include "core/random.h"

enum { MEANS = 4 };

static const double BOUND = 64 * 0x1p-23;
static const size_t COUNTS[MEANS] = {HIDDEN * IN, HIDDEN, HIDDEN *OUT, OUT};

static struct ivon_sample_options draw_options(bool (*selected)(void *, const char *))
{
    struct ivon_sample_options options = ivon_sample_defaults();
    options.seed = 5;
    options.temperature = 0.75;
    options.selected = selected;
    return options;
}

/* What a sample's means should be. */
static void dense_draw(const struct dense *dense, const struct ivon_sample_options *options,
                       uint64_t sample, double expected[MEANS][RANDOM])
{
    double epsilon[DENSE_MOST] = {0}, moved[DENSE_MOST] = {0};
    for (size_t t = 0; t < ivon_source_tensor_count(dense->source); t++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(dense->source, t);
        float normals[RANDOM];
        if (!dense->random[t])
            continue;
        const struct random_stream stream = random_stream_of(options->seed, sample, tensor->name);
        random_normal(&stream, 0, tensor->count, normals);
        for (size_t i = 0; i < tensor->count; i++)
            epsilon[dense->at[t] + i] = (double)normals[i];
    }
    for (size_t i = 0; i < dense->size; i++)
        for (size_t j = 0; j < dense->size; j++)
            moved[i] += sqrt(options->temperature) * dense->root[i][j] * epsilon[j];
    for (size_t t = 0; t < MEANS; t++)
        for (size_t i = 0; i < COUNTS[t]; i++) {
            size_t at = dense_index(dense, t, i);
            expected[t][i] = (double)dense_floats(dense->source, (ptrdiff_t)t)[i] +
                             (at < DENSE_MOST ? moved[at] : 0);
        }
}

static void check_draws(struct ivon_source *source, bool (*selected)(void *, const char *))
{
    const struct ivon_sample_options options = draw_options(selected);
    struct dense *dense = dense_new(source, selected);
    double expected[MEANS][RANDOM], most = 0;
    float found[RANDOM], part[RANDOM];
    for (uint64_t sample = 0; sample < 3; sample++) {
        dense_draw(dense, &options, sample, expected);
        for (size_t t = 0; t < MEANS; t++) {
            for (size_t i = 0; i < COUNTS[t]; i++)
                most = fmax(most, fabs(expected[t][i]));
            assert_int_equal(
                ivon_sample_draw(source, t, &options, sample, 0, COUNTS[t], found, NULL), 0);
            for (size_t i = 0; i < COUNTS[t]; i++)
                if (!(fabs((double)found[i] - expected[t][i]) <= BOUND * most))
                    fail_msg("sample %d, %zu of tensor %zu: %.9g, expected %.9g", (int)sample, i, t,
                             (double)found[i], expected[t][i]);
            assert_int_equal(
                ivon_sample_draw(source, t, &options, sample, 1, COUNTS[t] - 1, part, NULL), 0);
            assert_memory_equal(part, found + 1, (COUNTS[t] - 1) * sizeof *part);
        }
    }
    dense_free(dense);
}

static void draws_are_those_of_the_dense_covariance(void **state)
{
    (void)state;
    for (int low_rank = 0; low_rank < 2; low_rank++) {
        struct structured structured;
        structured_begin(&structured, low_rank);
        check_draws(structured.model.source, NULL);
        check_draws(structured.model.source, all_but_b2);
        check_draws(structured.model.source, only_w2);
        structured_end(&structured);
    }
}

/* A weight and the bias of its block may be drawn at once or apart, on one thread or several. */
static void blocks_and_ranges_agree(void **state)
{
    (void)state;
    struct structured structured;
    struct draw *draw = NULL;
    const struct ivon_sample_options options = draw_options(NULL);
    double c[RANK], again[RANK];
    float weight[HIDDEN * IN], bias[HIDDEN], alone[HIDDEN * IN], whole[OUT], part[OUT];
    structured_begin(&structured, true);
    assert_int_equal(draw_new(&draw, structured.model.source, &options, NULL), 0);
    assert_int_equal(draw_begin(draw, &options, 7, 1, c, NULL), 0);
    assert_int_equal(draw_begin(draw, &options, 7, 2, again, NULL), 0);
    assert_memory_equal(c, again, sizeof c);
    const struct structure_block *block = draw_block_of(draw, 0);
    assert_non_null(block);
    assert_ptr_equal(block, draw_block_of(draw, 1));
    assert_null(draw_block_of(draw, 3));
    assert_int_equal(draw_block(draw, &options, 7, c, block, weight, bias, NULL), 0);
    assert_int_equal(draw_block(draw, &options, 7, c, block, alone, NULL, NULL), 0);
    assert_memory_equal(alone, weight, sizeof weight);
    assert_int_equal(draw_block(draw, &options, 7, c, block, NULL, alone, NULL), 0);
    assert_memory_equal(alone, bias, sizeof bias);
    assert_int_equal(draw_range(draw, &options, 7, c, 3, 0, OUT, whole, NULL), 0);
    for (size_t i = 0; i < OUT; i++)
        assert_int_equal(draw_range(draw, &options, 7, c, 3, i, 1, part + i, NULL), 0);
    assert_memory_equal(part, whole, sizeof whole);
    const struct draw_counts counts = draw_count(draw, &options);
    assert_int_equal(counts.means, MEANS);
    assert_int_equal(counts.random, MEANS);
    assert_int_equal(counts.lacking, 0);
    draw_free(draw);
    structured_end(&structured);
}

static void samples_that_are_written_are_those_draws(void **state)
{
    (void)state;
    enum { SAMPLES = 2, FIRST = 4 };
    struct structured structured;
    struct ivon_sample_options options = draw_options(NULL);
    struct ivon_tensor tensors[MODEL_TENSORS];
    struct ivon_sink *sinks[SAMPLES];
    float data[SAMPLES][MEANS][RANDOM], found[RANDOM];
    structured_begin(&structured, true);
    struct ivon_source *source = structured.model.source;
    assert_int_equal(ivon_sample_outputs(source, IVON_DTYPE_KEEP, tensors), MEANS);
    for (int threads = 1; threads < 4; threads++) {
        options.resources.threads = threads;
        memset(data, 0, sizeof data);
        for (size_t s = 0; s < SAMPLES; s++) {
            void *places[MEANS];
            for (size_t t = 0; t < MEANS; t++)
                places[t] = data[s][t];
            assert_int_equal(ivon_sink_to_memory(&sinks[s], tensors, places, MEANS, NULL), 0);
        }
        assert_int_equal(ivon_sample_write(source, &options, FIRST, sinks, SAMPLES, NULL), 0);
        for (size_t s = 0; s < SAMPLES; s++) {
            ivon_sink_close(sinks[s]);
            for (size_t t = 0; t < MEANS; t++) {
                assert_int_equal(
                    ivon_sample_draw(source, t, &options, FIRST + s, 0, COUNTS[t], found, NULL), 0);
                assert_memory_equal(data[s][t], found, COUNTS[t] * sizeof *found);
            }
        }
    }
    structured_end(&structured);
}

/* At temperature 0 nothing moves, and what the structure says does not matter. */
static void without_temperature_means_stay(void **state)
{
    (void)state;
    struct structured structured;
    struct ivon_sample_options options = draw_options(NULL);
    float found[RANDOM];
    options.temperature = 0;
    structured_begin(&structured, true);
    for (size_t t = 0; t < MEANS; t++) {
        assert_int_equal(
            ivon_sample_draw(structured.model.source, t, &options, 1, 0, COUNTS[t], found, NULL),
            0);
        assert_memory_equal(found, structured.model.data[t], COUNTS[t] * sizeof *found);
    }
    structured_end(&structured);
}

static bool weight_alone(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "w1") == 0;
}

static void a_block_is_selected_as_a_whole(void **state)
{
    (void)state;
    struct structured structured;
    struct draw *draw = NULL;
    struct ivon_error error = {0};
    const struct ivon_sample_options options = draw_options(weight_alone);
    structured_begin(&structured, true);
    assert_int_equal(draw_new(&draw, structured.model.source, &options, &error), IVON_ERROR_DATA);
    assert_null(draw);
    assert_string_equal(error.message, "posterior: 'w1' and 'b1' have one covariance: select both, "
                                       "or neither");
    assert_int_equal(error.hint, IVON_HINT_SELECTION);
    structured_end(&structured);
}

/*
 * −½ (θ − m)ᵀ (τ Σ)^(−1) (θ − m) and −½ Σ λδ/τ θ², of the draws themselves, by the inverse of the
 * dense covariance. An element errs by BOUND of the largest, which is some standard deviations: a
 * form of 50 of them by less than 1e-3 of itself.
 */
static void check_densities(struct ivon_source *source, bool (*selected)(void *, const char *))
{
    enum { SAMPLES = 3, FIRST = 2 };
    static dense_matrix covariance, precision, root;
    struct ivon_sample_options options = draw_options(selected);
    struct dense *dense = dense_new(source, selected);
    double density[2][SAMPLES], prior[2][SAMPLES];
    for (int i = 0; i < 2; i++) {
        options.resources.threads = 1 + 2 * i;
        assert_int_equal(
            ivon_sample_log_densities(source, &options, FIRST, SAMPLES, density[i], prior[i], NULL),
            0);
    }
    assert_memory_equal(density[0], density[1], sizeof density[0]);
    assert_memory_equal(prior[0], prior[1], sizeof prior[0]);
    memcpy(covariance, dense->covariance, sizeof covariance);
    dense_invert(dense->size, covariance, precision, root);
    for (uint64_t sample = 0; sample < SAMPLES; sample++) {
        double moved[DENSE_MOST] = {0}, form = 0, squares = 0;
        for (size_t t = 0; t < MEANS; t++) {
            float found[RANDOM];
            ptrdiff_t number = dense->structure->block_of[t];
            ptrdiff_t hessian = number < 0 ? ivon_source_find(source, IVON_HESSIAN,
                                                              ivon_source_tensor(source, t)->name)
                                           : dense->structure->blocks[number].hessian;
            assert_int_equal(
                ivon_sample_draw(source, t, &options, FIRST + sample, 0, COUNTS[t], found, NULL),
                0);
            for (size_t i = 0; i < COUNTS[t]; i++) {
                size_t at = dense_index(dense, t, i);
                if (at == DENSE_MOST)
                    continue;
                const struct ivon_tensor *h = ivon_source_tensor(source, (size_t)hessian);
                moved[at] = (double)found[i] - (double)dense_floats(source, (ptrdiff_t)t)[i];
                squares += h->ess * h->weight_decay * (double)found[i] * (double)found[i];
            }
        }
        for (size_t i = 0; i < dense->size; i++)
            for (size_t j = 0; j < dense->size; j++)
                form += moved[i] * precision[i][j] * moved[j];
        double expected[] = {-form / options.temperature / 2, -squares / options.temperature / 2};
        assert_true(fabs(density[0][sample] - expected[0]) < 1e-3 * fabs(expected[0]));
        assert_true(fabs(prior[0][sample] - expected[1]) < 1e-5 * fabs(expected[1]));
    }
    dense_free(dense);
}

static void densities_are_those_of_the_dense_covariance(void **state)
{
    (void)state;
    struct ivon_error error = {0};
    struct ivon_sample_options cold = draw_options(NULL);
    double density, prior;
    for (int low_rank = 0; low_rank < 2; low_rank++) {
        struct structured structured;
        structured_begin(&structured, low_rank);
        check_densities(structured.model.source, NULL);
        check_densities(structured.model.source, all_but_b2);
        check_densities(structured.model.source, only_w2);
        cold.temperature = 0;
        assert_int_equal(ivon_sample_log_densities(structured.model.source, &cold, 0, 1, &density,
                                                   &prior, &error),
                         IVON_ERROR_ARGUMENT);
        structured_end(&structured);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_are_those_of_the_dense_covariance),
        cmocka_unit_test(blocks_and_ranges_agree),
        cmocka_unit_test(samples_that_are_written_are_those_draws),
        cmocka_unit_test(without_temperature_means_stay),
        cmocka_unit_test(densities_are_those_of_the_dense_covariance),
        cmocka_unit_test(a_block_is_selected_as_a_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
