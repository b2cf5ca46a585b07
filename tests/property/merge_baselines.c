/*
 * The methods of merging that mask, measure or pass through, on random checkpoints in memory: what
 * they have in common with task arithmetic, how many elements they keep and which, and that order,
 * threads and memory change no bit. tests/oracle/merge_baselines.py has their formulas.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/ivon.h"

enum { TENSORS = 4, MODELS = 3, RESULTS_MAX = 3, OUTPUTS_MAX = 2 * TENSORS + 1 };

/* One job, several; few digits of magnitudes, all. */
static const int64_t sizes[TENSORS] = {1, 1000, 70001, 1100000};
static const char *const names[TENSORS] = {"scalar", "a.bias", "a.weight", "b.weight"};

static uint64_t state = 1;

static double uniform(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(state >> 11) * 0x1p-53;
}

struct input {
    struct ivon_source *source;
    float *mean[TENSORS];
};

/* Means that are multiples of `grain`, so that many differences are equal. */
static void input_init(struct input *input, const char *name, int count, double grain)
{
    struct ivon_tensor tensors[TENSORS];
    const void *data[TENSORS];
    struct ivon_header header = ivon_header_empty();
    struct ivon_error error;
    for (int i = 0; i < count; i++) {
        input->mean[i] = malloc((size_t)sizes[i] * sizeof(float));
        for (size_t j = 0; j < (size_t)sizes[i]; j++)
            input->mean[i][j] = (float)(grain * floor((2 * uniform() - 1) / grain));
        tensors[i] = (struct ivon_tensor){
            .name = names[i], .dtype = IVON_F32, .rank = 1, .shape = {sizes[i]}};
        data[i] = input->mean[i];
    }
    assert_int_equal(ivon_source_from_memory(&input->source, name, &header, tensors, data,
                                             (size_t)count, &error),
                     0);
}

static void input_release(struct input *input, int count)
{
    ivon_source_close(input->source);
    for (int i = 0; i < count; i++)
        free(input->mean[i]);
}

struct merged {
    int code;
    struct ivon_error error;
    struct ivon_merge *merge;
    size_t count, results;
    float *data[RESULTS_MAX][OUTPUTS_MAX];
    size_t bytes[OUTPUTS_MAX];
};

static struct merged merge(const struct input *base, const struct input *models,
                           const double *weights, const int *order, size_t count,
                           const struct ivon_merge_options *options)
{
    struct merged merged = {.results = options->scales    ? options->scale_count
                                       : options->vectors ? options->vector_count
                                                          : 1};
    struct ivon_merge_model list[MODELS];
    struct ivon_sink *sinks[RESULTS_MAX];
    for (size_t t = 0; t < count; t++) {
        int from = order ? order[t] : (int)t;
        list[t] = (struct ivon_merge_model){models[from].source, weights ? weights[from] : 1};
    }
    merged.code = ivon_merge_plan(&merged.merge, base ? base->source : NULL, list, count, options,
                                  &merged.error);
    if (merged.code)
        return merged;
    const struct ivon_tensor *outputs = ivon_merge_outputs(merged.merge, &merged.count);
    assert_true(merged.count <= OUTPUTS_MAX);
    for (size_t r = 0; r < merged.results; r++) {
        for (size_t i = 0; i < merged.count; i++) {
            merged.bytes[i] = outputs[i].count * ivon_dtype_size(outputs[i].dtype);
            merged.data[r][i] = calloc(1, merged.bytes[i]);
        }
        assert_int_equal(ivon_sink_to_memory(&sinks[r], outputs, (void *const *)merged.data[r],
                                             merged.count, &merged.error),
                         0);
    }
    merged.code = ivon_merge_run(merged.merge, sinks, &merged.error);
    for (size_t r = 0; r < merged.results; r++)
        ivon_sink_close(sinks[r]);
    return merged;
}

static void merged_release(struct merged *merged)
{
    for (size_t r = 0; r < merged->results; r++)
        for (size_t i = 0; i < merged->count; i++)
            free(merged->data[r][i]);
    ivon_merge_free(merged->merge);
}

static void assert_same(const struct merged *a, size_t result_a, const struct merged *b,
                        size_t result_b)
{
    assert_int_equal(a->code, 0);
    assert_int_equal(b->code, 0);
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++)
        assert_memory_equal(a->data[result_a][i], b->data[result_b][i], a->bytes[i]);
}

static const enum ivon_merge_method methods[] = {IVON_MERGE_TIES,      IVON_MERGE_DARE,
                                                 IVON_MERGE_DARE_TIES, IVON_MERGE_BREADCRUMBS,
                                                 IVON_MERGE_SLERP,     IVON_MERGE_MODEL_STOCK};
enum { METHODS = sizeof methods / sizeof methods[0], MASKS = 4 /* the first of them */ };

static void test_same_bits_for_any_order_threads_and_memory(void **unused)
{
    (void)unused;
    static const int orders[3][MODELS] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}};
    const double weights[MODELS] = {0.3, 1, -0.6};
    struct input base, models[MODELS];
    input_init(&base, "base", TENSORS, 0x1p-6);
    for (int t = 0; t < MODELS; t++)
        input_init(&models[t], (char[2]){(char)('a' + t)}, TENSORS, 0x1p-6);
    for (size_t m = 0; m < METHODS; m++) {
        bool pair = methods[m] == IVON_MERGE_SLERP;
        const double *own = methods[m] == IVON_MERGE_MODEL_STOCK ? NULL : weights;
        const struct input *origin = pair ? NULL : &base;
        struct ivon_merge_options options = ivon_merge_defaults();
        options.method = methods[m];
        options.resources.threads = 1;
        struct merged first = merge(origin, models, own, orders[0], pair ? 2 : MODELS, &options);
        assert_int_equal(first.code, 0);
        for (int i = 1; i < 3; i++) {
            static const int swapped[2][2] = {{1, 0}, {0, 1}};
            options.resources.threads = i + 1;
            options.resources.memory = (size_t)(6 * i) << 20;
            struct merged other = merge(origin, models, own, pair ? swapped[i - 1] : orders[i],
                                        pair ? 2 : MODELS, &options);
            assert_same(&first, 0, &other, 0);
            merged_release(&other);
        }
        options.resources.memory = 1000;
        struct merged starved = merge(origin, models, own, NULL, pair ? 2 : MODELS, &options);
        assert_int_equal(starved.code, IVON_ERROR_MEMORY);
        merged_release(&starved);
        merged_release(&first);
    }
    for (int t = 0; t < MODELS; t++)
        input_release(&models[t], TENSORS);
    input_release(&base, TENSORS);
}

/* A mask that keeps all leaves task arithmetic, or an election that does not depend on it. */
static void test_masks_that_keep_all(void **unused)
{
    (void)unused;
    enum { FEW = 3 };
    const double weights[2] = {0.5, -0.75};
    struct input base, models[2];
    input_init(&base, "base", FEW, 0x1p-20);
    for (int t = 0; t < 2; t++)
        input_init(&models[t], t ? "two" : "one", FEW, 0x1p-20);
    struct ivon_merge_options options = ivon_merge_defaults();
    options.method = IVON_MERGE_TASK_ARITHMETIC;
    struct merged arithmetic = merge(&base, models, weights, NULL, 2, &options);
    options.density = 1;
    options.method = IVON_MERGE_DARE;
    struct merged dare = merge(&base, models, weights, NULL, 2, &options);
    options.method = IVON_MERGE_TIES;
    struct merged ties = merge(&base, models, weights, NULL, 2, &options);
    options.method = IVON_MERGE_DARE_TIES;
    options.seed = 9;
    struct merged dare_ties = merge(&base, models, weights, NULL, 2, &options);
    options.method = IVON_MERGE_BREADCRUMBS;
    options.outliers = 0.5; /* yields to the density */
    struct merged breadcrumbs = merge(&base, models, weights, NULL, 2, &options);
    assert_same(&arithmetic, 0, &dare, 0);
    assert_same(&arithmetic, 0, &breadcrumbs, 0);
    assert_same(&ties, 0, &dare_ties, 0);
    for (int i = 0; i < FEW; i++)
        for (size_t j = 0; j < (size_t)sizes[i]; j++) {
            double d[2], sum = 0, mass = 0, total = 0;
            for (int t = 0; t < 2; t++)
                total += d[t] = weights[t] * ((double)models[t].mean[i][j] - base.mean[i][j]);
            for (int t = 0; t < 2; t++)
                if (d[t] * total > 0) {
                    sum += d[t];
                    mass += fabs(weights[t]);
                }
            double wanted = base.mean[i][j] + (mass > 0 ? sum / mass : 0);
            assert_true(fabs(ties.data[0][i][j] - wanted) <= 0x1p-23); /* |wanted| is below 3 */
        }
    struct merged *all[] = {&arithmetic, &dare, &ties, &dare_ties, &breadcrumbs};
    for (int i = 0; i < 5; i++)
        merged_release(all[i]);
    for (int t = 0; t < 2; t++)
        input_release(&models[t], FEW);
    input_release(&base, FEW);
}

/* Of one model, the kept elements are those that changed: as many as the density says, the largest
   by magnitude, and of equal ones the first. */
static void test_kept_elements(void **unused)
{
    (void)unused;
    static const double densities[] = {1e-9, 0.0105, 0.2, 0.5, 0.9995};
    struct input base, model;
    input_init(&base, "base", TENSORS, 0x1p-4);
    input_init(&model, "a", TENSORS, 0x1p-5); /* 2^-5 (odd), so that none is the base's */
    for (int i = 0; i < TENSORS; i++)
        for (size_t j = 0; j < (size_t)sizes[i]; j++)
            model.mean[i][j] += 0x1p-6f;
    for (size_t k = 0; k < sizeof densities / sizeof densities[0]; k++)
        for (int outliers = 0; outliers < 2; outliers++) {
            struct ivon_merge_options options = ivon_merge_defaults();
            options.method = outliers ? IVON_MERGE_BREADCRUMBS : IVON_MERGE_TIES;
            options.density = densities[k];
            options.outliers = outliers ? 0.1 : NAN;
            struct merged merged = merge(&base, &model, NULL, NULL, 1, &options);
            assert_int_equal(merged.code, 0);
            for (int i = 0; i < TENSORS; i++) {
                size_t n = (size_t)sizes[i], kept = (size_t)round(densities[k] * (double)n);
                size_t dropped = outliers ? (size_t)round(0.1 * (double)n) : 0, found = 0;
                kept = kept ? kept : 1;
                dropped = dropped < n - kept ? dropped : n - kept;
                enum { LEVELS = 1 << 9 /* of 2^-6 each: magnitudes are below 3 */ };
                size_t level_count[LEVELS] = {0}, rank[LEVELS], before = 0;
                for (size_t j = 0; j < n; j++)
                    level_count[(int)(fabsf(model.mean[i][j] - base.mean[i][j]) * 64)]++;
                for (int level = LEVELS; level-- > 0; before += level_count[level])
                    rank[level] = before;
                for (size_t j = 0; j < n; j++) {
                    size_t own = rank[(int)(fabsf(model.mean[i][j] - base.mean[i][j]) * 64)]++;
                    bool keeps = own >= dropped && own < dropped + kept;
                    assert_true(merged.data[0][i][j] ==
                                (keeps ? model.mean[i][j] : base.mean[i][j]));
                    found += keeps;
                }
                assert_int_equal(found, kept);
            }
            merged_release(&merged);
        }
    input_release(&model, TENSORS);
    input_release(&base, TENSORS);
}

/* Where all magnitudes are equal, the first elements are kept, also where the last of them lies at
   the boundary of two pieces of work. */
static void test_equal_magnitudes(void **unused)
{
    (void)unused;
    enum { PIECE = 1 << 20 };
    const size_t n = (size_t)sizes[TENSORS - 1];
    struct input base, model;
    input_init(&base, "base", TENSORS, 2);
    input_init(&model, "a", TENSORS, 2);
    for (size_t j = 0; j < n; j++)
        model.mean[TENSORS - 1][j] = base.mean[TENSORS - 1][j] + (j % 3 ? 1 : -1);
    for (size_t kept = PIECE - 1; kept <= PIECE + 1; kept++) {
        struct ivon_merge_options options = ivon_merge_defaults();
        options.method = IVON_MERGE_TIES;
        options.density = (double)kept / (double)n;
        struct merged merged = merge(&base, &model, NULL, NULL, 1, &options);
        assert_int_equal(merged.code, 0);
        for (size_t j = 0; j < n; j++)
            assert_true(merged.data[0][TENSORS - 1][j] ==
                        (j < kept ? model.mean : base.mean)[TENSORS - 1][j]);
        merged_release(&merged);
    }
    input_release(&model, TENSORS);
    input_release(&base, TENSORS);
}

/* By chance: the share that is kept is the density, within five standard deviations; two models'
   masks agree as often as independent ones; what is kept is divided by the density. */
static void test_kept_by_chance(void **unused)
{
    (void)unused;
    const double density = 0.25, n = (double)sizes[3];
    struct input base, models[2];
    input_init(&base, "base", TENSORS, 2); /* zeros and minus twos: differences are exact */
    for (int t = 0; t < 2; t++)
        input_init(&models[t], t ? "two" : "one", TENSORS, 2);
    for (size_t j = 0; j < (size_t)sizes[3]; j++) {
        models[0].mean[3][j] = base.mean[3][j] + 1;
        models[1].mean[3][j] = base.mean[3][j] + 16;
    }
    struct ivon_merge_options options = ivon_merge_defaults();
    options.method = IVON_MERGE_DARE;
    options.density = density;
    struct merged merged[2];
    double changed = 0;
    for (options.seed = 0; options.seed < 2; options.seed++) {
        struct merged *found = &merged[options.seed];
        *found = merge(&base, models, NULL, NULL, 2, &options);
        assert_int_equal(found->code, 0);
        double one = 0, two = 0, both = 0;
        for (size_t j = 0; j < (size_t)sizes[3]; j++) {
            float d = found->data[0][3][j] - base.mean[3][j];
            assert_true(d == 0 || d == 4 || d == 64 || d == 68);
            one += d == 4 || d == 68;
            two += d >= 64;
            both += d == 68;
        }
        assert_true(fabs(one - density * n) < 5 * sqrt(n * density * (1 - density)));
        assert_true(fabs(two - density * n) < 5 * sqrt(n * density * (1 - density)));
        assert_true(fabs(both - density * density * n) < 5 * sqrt(n * density * density));
    }
    for (size_t j = 0; j < (size_t)sizes[3]; j++)
        changed += merged[0].data[0][3][j] != merged[1].data[0][3][j];
    assert_true(changed > density * n);
    for (int t = 0; t < 2; t++) {
        merged_release(&merged[t]);
        input_release(&models[t], TENSORS);
    }
    input_release(&base, TENSORS);
}

/* Of two vectors of a plane: ends, middle, and where it falls back to a line. */
static void test_angles(void **unused)
{
    (void)unused;
    enum { FEW = 2 };
    struct input base, models[2];
    const double scales[3] = {0, 1, 0.5};
    input_init(&base, "base", FEW, 0x1p-20);
    for (int t = 0; t < 2; t++)
        input_init(&models[t], t ? "two" : "one", FEW, 0x1p-20);
    struct ivon_merge_options options = ivon_merge_defaults();
    options.method = IVON_MERGE_SLERP;
    options.scales = scales;
    options.scale_count = 3;
    options.movement = true;
    struct merged slerp = merge(&base, models, NULL, NULL, 1, &options);
    assert_int_equal(slerp.code, 0);
    double total, norms[3] = {0};
    for (size_t j = 0; j < (size_t)sizes[1]; j++) {
        assert_true(slerp.data[0][1][j] == base.mean[1][j]);
        assert_true(slerp.data[1][1][j] == models[0].mean[1][j]);
        norms[0] += (double)base.mean[1][j] * base.mean[1][j];
        norms[1] += (double)models[0].mean[1][j] * models[0].mean[1][j];
        norms[2] += (double)base.mean[1][j] * models[0].mean[1][j];
    }
    /* (a + b) / (2 cos(θ/2)), cos²(θ/2) = (1 + cos θ)/2 */
    double half = 2 * sqrt((1 + norms[2] / sqrt(norms[0] * norms[1])) / 2);
    for (size_t j = 0; j < (size_t)sizes[1]; j++)
        assert_true(fabs(slerp.data[2][1][j] -
                         ((double)base.mean[1][j] + models[0].mean[1][j]) / half) <= 0x1p-22);
    assert_true(ivon_merge_movement(slerp.merge, 0, 0, &total) == 0 && total == 0);
    assert_true(ivon_merge_movement(slerp.merge, 0, 1, &total) == total && total > 1);
    merged_release(&slerp);

    options.scales = NULL;
    options.method = IVON_MERGE_MODEL_STOCK;
    for (int opposite = 0; opposite < 2; opposite++) {
        for (int i = 0; i < FEW; i++)
            for (size_t j = 0; j < (size_t)sizes[i]; j++)
                models[1].mean[i][j] = opposite ? 2 * base.mean[i][j] - models[0].mean[i][j]
                                                : models[0].mean[i][j];
        struct merged stock = merge(&base, models, NULL, NULL, 2, &options);
        assert_int_equal(stock.code, 0);
        for (int i = 0; i < FEW; i++)
            for (size_t j = 0; j < (size_t)sizes[i]; j++) {
                double wanted = opposite ? base.mean[i][j] : models[0].mean[i][j];
                assert_true(fabs(stock.data[0][i][j] - wanted) <= 0x1p-23);
            }
        merged_release(&stock);
    }
    for (int t = 0; t < 2; t++)
        input_release(&models[t], FEW);
    input_release(&base, FEW);
}

/* Vectors of weights are those merges, bit by bit; a scale multiplies the sum. */
static void test_vectors_of_weights(void **unused)
{
    (void)unused;
    enum { FEW = 3, VECTORS = 3 };
    const double vectors[2 * VECTORS] = {0.3, 0.7, 1, 0.25, -0.5, 0.75};
    struct input base, models[2];
    input_init(&base, "base", FEW, 0x1p-20);
    input_init(&models[0], "two", FEW, 0x1p-20); /* sorted behind the other */
    input_init(&models[1], "one", FEW, 0x1p-20);
    for (size_t m = 0; m < METHODS - 1; m++) {
        const struct input *origin = methods[m] == IVON_MERGE_SLERP ? NULL : &base;
        struct ivon_merge_options options = ivon_merge_defaults();
        options.method = methods[m];
        options.vectors = vectors;
        options.vector_count = VECTORS;
        struct merged together = merge(origin, models, NULL, NULL, 2, &options);
        assert_int_equal(together.code, 0);
        options.vectors = NULL;
        for (size_t v = 0; v < VECTORS; v++) {
            struct merged alone = merge(origin, models, vectors + 2 * v, NULL, 2, &options);
            assert_same(&together, v, &alone, 0);
            merged_release(&alone);
        }
        merged_release(&together);
    }
    for (int t = 0; t < 2; t++)
        input_release(&models[t], FEW);
    input_release(&base, FEW);
}

/* An element that is not finite is named, although a mask would drop it. */
static void test_dropped_elements_are_looked_at(void **unused)
{
    (void)unused;
    enum { FEW = 3, AT = 60000 };
    static const float bad[] = {NAN, INFINITY};
    struct input base, models[2];
    input_init(&base, "base", FEW, 0x1p-20);
    for (int t = 0; t < 2; t++)
        input_init(&models[t], t ? "two" : "one", FEW, 0x1p-20);
    for (size_t m = 0; m < METHODS; m++)
        for (int b = 0; b < 2; b++)
            for (int where = 0; where < 2; where++) {
                struct ivon_merge_options options = ivon_merge_defaults();
                float *element = (where ? models[1].mean[2] : base.mean[2]) + AT, kept = *element;
                bool pair = methods[m] == IVON_MERGE_SLERP;
                options.method = methods[m];
                options.density = m < MASKS ? 0.01 : NAN;
                *element = bad[b];
                struct merged merged = merge(&base, models + pair, NULL, NULL, pair ? 1 : 2,
                                             &options);
                *element = kept;
                assert_int_equal(merged.code, IVON_ERROR_DATA);
                char text[80];
                snprintf(text, sizeof text, "%s: mean of 'a.weight' is %g at element %d",
                         where ? "two" : "base", (double)bad[b], AT);
                assert_non_null(strstr(merged.error.message, text));
                merged_release(&merged);
            }
    for (int t = 0; t < 2; t++)
        input_release(&models[t], FEW);
    input_release(&base, FEW);
}

/* Layers by name: "a" of model 0, "b" of model 1, "c" of both, others of none. */
static double layer_weight(void *context, size_t model, const char *name)
{
    (void)context;
    return name[0] == 'a' ? model == 0 : name[0] == 'b' ? model == 1 : name[0] == 'c';
}

static void source_of(struct ivon_source **source, const char *path, const char *const *tensors,
                      size_t count, const float *data, double ess)
{
    struct ivon_tensor list[OUTPUTS_MAX];
    const void *parts[OUTPUTS_MAX];
    struct ivon_header header = ivon_header_empty();
    struct ivon_error error;
    size_t total = 0;
    header.ess = ess;
    header.weight_decay = 0.5;
    for (size_t i = 0; i < count; i++)
        for (int part = 0; part < (isnan(ess) ? 1 : 2); part++) {
            list[total] = (struct ivon_tensor){.name = tensors[i],
                                               .part = part ? IVON_HESSIAN : IVON_MEAN,
                                               .dtype = IVON_F32,
                                               .rank = 1,
                                               .shape = {2},
                                               .ess = ess,
                                               .weight_decay = 0.5};
            parts[total++] = data + 4 * i + (part ? 2 : 0);
        }
    assert_int_equal(ivon_source_from_memory(source, path, &header, list, parts, total, &error), 0);
}

static void test_passing_through(void **unused)
{
    (void)unused;
    static const float one[] = {1, 2, 3, 4, 5, 6, 7, 8}, two[] = {9, 10, 11, 12, 13, 14, 15, 16};
    static const char *const of_one[] = {"a.w", "b.w"}, *const of_two[] = {"b.w", "b.more"};
    struct ivon_merge_options options = ivon_merge_defaults();
    options.method = IVON_MERGE_PASSTHROUGH;
    options.weight = layer_weight;
    for (int with_hessian = 0; with_hessian < 2; with_hessian++) {
        struct input models[2];
        size_t count;
        source_of(&models[0].source, "one", of_one, 2, one, 10);
        source_of(&models[1].source, "two", of_two, 2, two, with_hessian ? 20 : NAN);
        struct merged merged = merge(NULL, models, NULL, NULL, 2, &options);
        assert_int_equal(merged.code, 0);
        const struct ivon_tensor *outputs = ivon_merge_outputs(merged.merge, &count);
        assert_int_equal(count, with_hessian ? 6 : 3);
        for (size_t i = 0; i < count; i++) {
            bool hessian = outputs[i].part == IVON_HESSIAN;
            const float *wanted = strcmp(outputs[i].name, "a.w") == 0   ? one
                                  : strcmp(outputs[i].name, "b.w") == 0 ? two
                                                                        : two + 4;
            assert_memory_equal(merged.data[0][i], wanted + (hessian ? 2 : 0), 8);
            assert_true(!hessian || outputs[i].ess == (outputs[i].name[0] == 'a' ? 10 : 20));
        }
        assert_true(with_hessian ? ivon_merge_header(merged.merge, 0).ess == 10
                                 : isnan(ivon_merge_header(merged.merge, 0).ess));
        merged_release(&merged);
        for (int t = 0; t < 2; t++)
            ivon_source_close(models[t].source);
    }
    struct input bare[2]; /* a tensor that is not taken need not have a Hessian */
    source_of(&bare[0].source, "one", of_one, 1, one, 10);
    source_of(&bare[1].source, "two", of_one, 1, two, NAN);
    struct merged merged = merge(NULL, bare, NULL, NULL, 2, &options);
    assert_int_equal(merged.code, 0);
    assert_int_equal(merged.count, 2);
    assert_memory_equal(merged.data[0][1], one + 2, 8);
    merged_release(&merged);
    for (int t = 0; t < 2; t++)
        ivon_source_close(bare[t].source);
    static const char *const wrong[][2] = {
        {"c.w", "tensor 'c.w': one and two both have a weight, expected one model to take it from"},
        {"d.w", "tensor 'd.w': no model has a weight, expected one to take it from"},
        {"b.only", "two: tensor 'b.only' is missing, another input has it"}};
    for (int i = 0; i < 3; i++) {
        struct input models[2];
        const char *const list[] = {"a.w", wrong[i][0]};
        source_of(&models[0].source, "one", list, 2, one, NAN);
        source_of(&models[1].source, "two", of_two, 2, two, NAN);
        merged = merge(NULL, models, NULL, NULL, 2, &options);
        assert_int_equal(merged.code, i < 2 ? IVON_ERROR_ARGUMENT : IVON_ERROR_DATA);
        assert_string_equal(merged.error.message, wrong[i][1]);
        for (int t = 0; t < 2; t++)
            ivon_source_close(models[t].source);
    }
}

static void test_what_is_refused(void **unused)
{
    (void)unused;
    const double half = 0.5, none[2] = {0.5, -0.5};
    struct input base, models[2];
    input_init(&base, "base", 2, 0x1p-20);
    for (int t = 0; t < 2; t++)
        input_init(&models[t], t ? "two" : "one", 2, 0x1p-20);
    const struct {
        const char *text;
        enum ivon_merge_method method;
        bool base;
        size_t count;
        const double *weights, *scale;
        double density, outliers, ess;
    } rows[] = {
        {"there is no method of number 99", (enum ivon_merge_method)99, true, 1, NULL, NULL, NAN,
         NAN, NAN},
        {"TIES merging needs a base", IVON_MERGE_TIES, false, 2, NULL, NULL, NAN, NAN, NAN},
        {"DARE needs a base", IVON_MERGE_DARE, false, 2, NULL, NULL, NAN, NAN, NAN},
        {"density must be above 0", IVON_MERGE_TIES, true, 2, NULL, NULL, 0, NAN, NAN},
        {"at most 1", IVON_MERGE_DARE, true, 2, NULL, NULL, 1.5, NAN, NAN},
        {"outliers must be 0 or more", IVON_MERGE_BREADCRUMBS, true, 1, NULL, NULL, NAN, 1, NAN},
        {"drops no outliers", IVON_MERGE_TIES, true, 1, NULL, NULL, NAN, 0.1, NAN},
        {"keeps all elements", IVON_MERGE_AVERAGE, true, 1, NULL, NULL, 0.1, NAN, NAN},
        {"two models or more", IVON_MERGE_MODEL_STOCK, true, 1, NULL, NULL, NAN, NAN, NAN},
        {"all must be 1", IVON_MERGE_MODEL_STOCK, true, 2, none, NULL, NAN, NAN, NAN},
        {"finds its own scale", IVON_MERGE_MODEL_STOCK, true, 2, NULL, &half, NAN, NAN, NAN},
        {"two models, or a base and one", IVON_MERGE_SLERP, true, 2, NULL, NULL, NAN, NAN, NAN},
        {"two models, or a base and one", IVON_MERGE_SLERP, false, 1, NULL, NULL, NAN, NAN, NAN},
        {"does not change an average", IVON_MERGE_SLERP, false, 2, NULL, &half, NAN, NAN, NAN},
        {"add up to zero", IVON_MERGE_SLERP, false, 2, none, NULL, NAN, NAN, NAN},
        {"passed through are not scaled", IVON_MERGE_PASSTHROUGH, true, 1, NULL, &half, NAN, NAN,
         NAN},
        {"keep their effective sample size", IVON_MERGE_PASSTHROUGH, true, 1, NULL, NULL, NAN, NAN,
         5},
        {"means alone", IVON_MERGE_TIES, true, 1, NULL, NULL, NAN, NAN, 5},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ivon_merge_options options = ivon_merge_defaults();
        options.method = rows[i].method;
        options.scales = rows[i].scale;
        options.scale_count = 1;
        options.density = rows[i].density;
        options.outliers = rows[i].outliers;
        options.ess = rows[i].ess;
        struct merged merged = merge(rows[i].base ? &base : NULL, models, rows[i].weights, NULL,
                                     rows[i].count, &options);
        assert_int_equal(merged.code, IVON_ERROR_ARGUMENT);
        if (!strstr(merged.error.message, rows[i].text))
            fail_msg("'%s', expected '%s'", merged.error.message, rows[i].text);
    }
    for (int t = 0; t < 2; t++)
        input_release(&models[t], 2);
    input_release(&base, 2);
}

static void test_traits(void **unused)
{
    (void)unused;
    int count = 0;
    const struct ivon_merge_method_traits *traits;
    while ((traits = ivon_merge_method_traits((enum ivon_merge_method)count)) != NULL) {
        assert_true(traits->name && traits->models > 0);
        assert_true(traits->density || (!traits->outliers && !traits->seed));
        count++;
    }
    assert_int_equal(count, IVON_MERGE_PASSTHROUGH + 1);
    assert_null(ivon_merge_method_traits((enum ivon_merge_method) - 1));
    assert_string_equal(ivon_merge_method_traits(IVON_MERGE_DARE_TIES)->name, "dare-ties");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits_for_any_order_threads_and_memory),
        cmocka_unit_test(test_masks_that_keep_all),
        cmocka_unit_test(test_kept_elements),
        cmocka_unit_test(test_equal_magnitudes),
        cmocka_unit_test(test_kept_by_chance),
        cmocka_unit_test(test_angles),
        cmocka_unit_test(test_vectors_of_weights),
        cmocka_unit_test(test_dropped_elements_are_looked_at),
        cmocka_unit_test(test_passing_through),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_traits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
