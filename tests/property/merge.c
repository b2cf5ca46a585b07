/*
 * The identities of merging, on random posteriors in memory, and a naive evaluation in long double.
 *
 * Tolerance: inputs are exact in double. A precision is a sum of terms below 4000, so ten roundings
 * of 2^-53 leave an error of 4000 * 10 * 2^-53 = 2^-37.7; where the sum is 5 or more that is 2^-40
 * of it, and so is the error of a share of the mean. Rounding to binary32 adds 2^-24 of the result.
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

enum { TENSORS = 5, MODELS_MAX = 4, OUTPUTS_MAX = 2 * TENSORS };

static const int64_t sizes[TENSORS] = {1, 511, 513, 70000, 1100000};
static const char *const names[TENSORS] = {"scalar", "a.bias", "a.weight", "b.bias", "b.weight"};

static uint64_t state = 1;

static double uniform(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(state >> 11) * 0x1p-53;
}

struct posterior {
    struct ivon_source *source;
    float *mean[TENSORS], *hessian[TENSORS];
    double ess, weight_decay;
};

static void posterior_init(struct posterior *posterior, const char *name, int tensor_count,
                           bool with_hessian, double weight_decay, double hessian_factor)
{
    struct ivon_tensor tensors[2 * TENSORS];
    const void *data[2 * TENSORS];
    struct ivon_header header = ivon_header_empty();
    struct ivon_error error;
    size_t count = 0;
    posterior->ess = header.ess = 100 + 900 * uniform();
    posterior->weight_decay = header.weight_decay = weight_decay;
    for (int i = 0; i < tensor_count; i++) {
        size_t size = (size_t)sizes[i];
        posterior->mean[i] = malloc(size * sizeof(float));
        posterior->hessian[i] = malloc(size * sizeof(float));
        for (size_t j = 0; j < size; j++) {
            posterior->mean[i][j] = (float)(2 * uniform() - 1);
            posterior->hessian[i][j] = (float)(hessian_factor * uniform());
        }
        struct ivon_tensor tensor = {.name = names[i],
                                     .dtype = IVON_F32,
                                     .rank = 1,
                                     .shape = {sizes[i]},
                                     .ess = header.ess,
                                     .weight_decay = weight_decay};
        tensors[count] = tensor;
        data[count++] = posterior->mean[i];
        tensor.part = IVON_HESSIAN;
        tensors[count] = tensor;
        data[count] = posterior->hessian[i];
        count += with_hessian;
    }
    assert_int_equal(
        ivon_source_from_memory(&posterior->source, name, &header, tensors, data, count, &error),
        0);
}

static void posterior_release(struct posterior *posterior, int tensor_count)
{
    ivon_source_close(posterior->source);
    for (int i = 0; i < tensor_count; i++) {
        free(posterior->mean[i]);
        free(posterior->hessian[i]);
    }
}

struct result {
    int code;
    struct ivon_error error;
    struct ivon_header header;
    size_t count;
    float *data[OUTPUTS_MAX]; /* mean and Hessian in turn, or means alone */
    size_t bytes[OUTPUTS_MAX];
    struct ivon_merge *merge;
};

static struct result merge(struct posterior *base, struct posterior *models, const double *weights,
                           const int *order, size_t count, const struct ivon_merge_options *options)
{
    struct result result = {0};
    struct ivon_merge_model list[MODELS_MAX];
    struct ivon_sink *sink;
    for (size_t t = 0; t < count; t++)
        list[t] = (struct ivon_merge_model){models[order ? order[t] : (int)t].source,
                                            weights[order ? order[t] : (int)t]};
    result.code = ivon_merge_plan(&result.merge, base ? base->source : NULL, list, count, options,
                                  &result.error);
    if (result.code)
        return result;
    const struct ivon_tensor *outputs = ivon_merge_outputs(result.merge, &result.count);
    assert_true(result.count <= OUTPUTS_MAX);
    for (size_t i = 0; i < result.count; i++) {
        result.bytes[i] = outputs[i].count * ivon_dtype_size(outputs[i].dtype);
        result.data[i] = calloc(1, result.bytes[i]);
    }
    assert_int_equal(ivon_sink_to_memory(&sink, outputs, (void *const *)result.data, result.count,
                                         &result.error),
                     0);
    result.header = ivon_merge_header(result.merge, 0);
    result.code = ivon_merge_run(result.merge, &sink, &result.error);
    ivon_sink_close(sink);
    return result;
}

static void result_release(struct result *result)
{
    for (size_t i = 0; i < result->count; i++)
        free(result->data[i]);
    ivon_merge_free(result->merge);
}

static void assert_same_bits(const struct result *a, const struct result *b)
{
    assert_int_equal(a->code, 0);
    assert_int_equal(b->code, 0);
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++)
        assert_memory_equal(a->data[i], b->data[i], a->bytes[i]);
}

/* One element, by the formulas of ivon/merge.h; *size gets the sum of its terms' magnitudes. */
static long double naive(const struct ivon_merge_options *options, struct posterior *base,
                         struct posterior *models, const double *weights, size_t count, int tensor,
                         size_t j, long double *precision, long double *size)
{
    bool based = options->method == IVON_MERGE_GRADIENT_MATCHING ||
                 options->method == IVON_MERGE_TASK_ARITHMETIC;
    long double m0 = based ? base->mean[tensor][j] : 0, sum = 0, total = 0, mean = 0;
    long double s0 = based ? options->base_scale * (long double)base->ess *
                                 (base->hessian[tensor][j] + base->weight_decay)
                           : 0;
    total = s0;
    for (size_t t = 0; t < count; t++) {
        long double h = options->hessian_scale * (long double)models[t].hessian[tensor][j];
        total += weights[t] * models[t].ess * (based ? h : h + models[t].weight_decay);
        sum += weights[t];
    }
    *size = fabsl(m0);
    for (size_t t = 0; t < count; t++) {
        long double h = options->hessian_scale * (long double)models[t].hessian[tensor][j];
        long double own = models[t].ess * (based ? h : h + models[t].weight_decay);
        long double share = options->method == IVON_MERGE_GRADIENT_MATCHING
                                ? weights[t] * (s0 + own) / total
                            : options->method == IVON_MERGE_HESSIAN ? weights[t] * own / total
                            : options->method == IVON_MERGE_AVERAGE ? weights[t] / sum
                                                                    : weights[t];
        long double term = share * (models[t].mean[tensor][j] - m0);
        mean += term;
        *size += fabsl(term) + fabsl(share * m0);
    }
    *precision = total;
    return m0 + mean;
}

#ifdef __SANITIZE_THREAD__
enum { COMPARED = 16 }; /* the first of so many elements: a thread compares, which takes long */
#else
enum { COMPARED = 1 };
#endif

static void test_against_naive(void **unused)
{
    (void)unused;
    const double weights[MODELS_MAX] = {0.7, 1.2, -0.05, 0.4};
    struct posterior base, models[MODELS_MAX];
    posterior_init(&base, "base", TENSORS, true, 1e-2, 1);
    for (int t = 0; t < MODELS_MAX; t++) {
        char name[8] = {(char)('a' + t)};
        posterior_init(&models[t], name, TENSORS, true, 1e-3 * (t + 1), 0.5);
    }
    for (int method = 0; method < 4; method++)
        for (int count = 1; count <= MODELS_MAX; count += MODELS_MAX - 1) {
            struct ivon_merge_options options = ivon_merge_defaults();
            options.method = (enum ivon_merge_method)method;
            options.base_scale = count == 1 ? 1 : 0.8;
            options.hessian_scale = count == 1 ? 1 : 1.5;
            options.on_nonpositive = IVON_NONPOSITIVE_BASE;
            struct result result = merge(&base, models, weights, NULL, (size_t)count, &options);
            assert_int_equal(result.code, 0);
            assert_int_equal(result.count, 2 * TENSORS);
            size_t compared = 0;
            for (int i = 0; i < TENSORS; i++)
                for (size_t j = 0; j < (size_t)sizes[i]; j += COMPARED) {
                    long double precision, size;
                    long double mean = naive(&options, &base, models, weights, (size_t)count, i, j,
                                             &precision, &size);
                    double stored = result.data[2 * i + 1][j];
                    assert_true(stored + result.header.weight_decay > 0);
                    if (precision < 5) /* see above */
                        continue;
                    compared++;
                    assert_true(fabsl(result.data[2 * i][j] - mean) <=
                                0x1p-24L * fabsl(mean) + 0x1p-40L * size);
                    long double h = precision / result.header.ess - result.header.weight_decay;
                    assert_true(fabsl(stored - h) <=
                                0x1p-24L * fabsl(h) + 0x1p-40L * precision / result.header.ess);
                }
            assert_true(compared > 900000 / COMPARED);
            result_release(&result);
        }
    for (int t = 0; t < MODELS_MAX; t++)
        posterior_release(&models[t], TENSORS);
    posterior_release(&base, TENSORS);
}

static void test_same_bits_for_any_order_threads_and_memory(void **unused)
{
    (void)unused;
    static const int orders[3][3] = {{0, 1, 2}, {2, 0, 1}, {1, 2, 0}};
    const double weights[3] = {0.3, 1, 0.6};
    struct posterior base, models[3];
    posterior_init(&base, "base", TENSORS, true, 1e-2, 1);
    for (int t = 0; t < 3; t++)
        posterior_init(&models[t], (char[2]){(char)('a' + t)}, TENSORS, true, 1e-3, 1);
    struct ivon_merge_options options = ivon_merge_defaults();
    options.resources.threads = 1;
    struct result first = merge(&base, models, weights, orders[0], 3, &options);
    for (int i = 1; i < 3; i++) {
        options.resources.threads = i + 1;
        options.resources.memory = (size_t)(4 << i) << 20;
        struct result other = merge(&base, models, weights, orders[i], 3, &options);
        assert_same_bits(&first, &other);
        result_release(&other);
    }
    options.resources.memory = 1000;
    struct result starved = merge(&base, models, weights, NULL, 3, &options);
    assert_int_equal(starved.code, IVON_ERROR_MEMORY);
    result_release(&starved);
    result_release(&first);
    for (int t = 0; t < 3; t++)
        posterior_release(&models[t], TENSORS);
    posterior_release(&base, TENSORS);
}

/* All H_t = 0 gives task arithmetic; with weights 1/T that is the average; S_0 = 0 and δ_t = 0
   give Hessian weighting; one model with weight 1 comes back bit by bit. */
static void test_identities(void **unused)
{
    (void)unused;
    enum { T = 2, FEW = 4 };
    const double weights[T] = {0.5, 0.5}, one = 1;
    struct posterior base, flat[T], curved[T];
    posterior_init(&base, "base", FEW, true, 1e-2, 1);
    for (int t = 0; t < T; t++) {
        posterior_init(&flat[t], (char[2]){(char)('a' + t)}, FEW, true, 0, 0);
        posterior_init(&curved[t], (char[2]){(char)('a' + t)}, FEW, true, 0, 1);
        for (int i = 0; i < FEW; i++)
            for (size_t j = 0; j < (size_t)sizes[i]; j++)
                curved[t].hessian[i][j] += 0.01f;
    }
    struct ivon_merge_options matching = ivon_merge_defaults(), other = ivon_merge_defaults();
    struct result a = merge(&base, flat, weights, NULL, T, &matching);
    other.method = IVON_MERGE_TASK_ARITHMETIC;
    struct result b = merge(&base, flat, weights, NULL, T, &other);
    other.method = IVON_MERGE_AVERAGE;
    struct result c = merge(NULL, curved, weights, NULL, T, &other);
    matching.base_scale = 0;
    struct result d = merge(&base, curved, weights, NULL, T, &matching);
    other.method = IVON_MERGE_HESSIAN;
    struct result e = merge(NULL, curved, weights, NULL, T, &other);
    matching.base_scale = 1;
    struct result f = merge(&base, curved, &one, NULL, 1, &matching);
    assert_int_equal(a.code | b.code | c.code | d.code | e.code | f.code, 0);
    for (int i = 0; i < FEW; i++)
        for (size_t j = 0; j < (size_t)sizes[i]; j++) {
            double bound = 0x1p-23 * 3; /* two roundings to binary32 of values below 3 */
            assert_true(fabs(a.data[2 * i][j] - b.data[2 * i][j]) <= bound);
            assert_true(fabs(d.data[2 * i][j] - e.data[2 * i][j]) <= bound);
            assert_true(f.data[2 * i][j] == curved[0].mean[i][j]);
            double average = ((double)flat[0].mean[i][j] + flat[1].mean[i][j]) / 2;
            assert_true(fabs(b.data[2 * i][j] - average) <= bound);
            average = ((double)curved[0].mean[i][j] + curved[1].mean[i][j]) / 2;
            assert_true(fabs(c.data[2 * i][j] - average) <= bound);
        }
    struct result *results[] = {&a, &b, &c, &d, &e, &f};
    for (int i = 0; i < 6; i++)
        result_release(results[i]);
    for (int t = 0; t < T; t++) {
        posterior_release(&flat[t], FEW);
        posterior_release(&curved[t], FEW);
    }
    posterior_release(&base, FEW);
}

static void test_nonpositive_is_counted_exactly(void **unused)
{
    (void)unused;
    const double weight = -1;
    struct posterior base, model;
    posterior_init(&base, "base", 4, true, 1e-2, 1);
    posterior_init(&model, "a", 4, true, 0, 0.5);
    struct ivon_merge_options options = ivon_merge_defaults();
    size_t expected = 0, worst = 0, all = 0;
    double lowest = 0;
    int tensor = -1;
    for (int i = 0; i < 4; i++)
        for (size_t j = 0; j < (size_t)sizes[i]; j++) {
            double precision = base.ess * (base.hessian[i][j] + base.weight_decay) +
                               weight * (model.ess * model.hessian[i][j]);
            all += precision <= 0;
            if (precision > 0 || (tensor >= 0 && tensor != i))
                continue;
            tensor = i;
            expected++;
            if (precision < lowest) {
                lowest = precision;
                worst = j;
            }
        }
    assert_true(expected > 0);
    char text[200];
    snprintf(text, sizeof text, "tensor '%s': the merged precision is not positive for %zu of",
             names[tensor], expected);
    for (options.resources.threads = 1; options.resources.threads <= 2;
         options.resources.threads++) {
        struct result result = merge(&base, &model, &weight, NULL, 1, &options);
        assert_int_equal(result.code, IVON_ERROR_DATA);
        assert_non_null(strstr(result.error.message, text));
        char place[40];
        snprintf(place, sizeof place, "at element %zu", worst);
        const char *message = result.error.message;
        assert_string_equal(message + strlen(message) - strlen(place), place);
        result_release(&result);
    }
    options.on_nonpositive = IVON_NONPOSITIVE_BASE;
    struct result result = merge(&base, &model, &weight, NULL, 1, &options);
    assert_int_equal(result.code, 0);
    assert_int_equal(ivon_merge_nonpositive_count(result.merge, 0), all);
    assert_true(result.data[2 * tensor][worst] == base.mean[tensor][worst]);
    result_release(&result);
    posterior_release(&base, 4);
    posterior_release(&model, 4);
}

/* Model 0 by half its weight in the tensors of "a", model 1 not at all in those of "b". */
static double weight_by_name(void *context, size_t model, const char *name)
{
    const double *weights = context;
    return weights[model] * (model == 0 && name[0] == 'a' ? 0.5 : 1) *
           (model == 1 && name[0] == 'b' ? 0 : 1);
}

/* Each tensor is merged as if all had its weights; h and ess keep the models' own. */
static void test_weights_of_tensors(void **unused)
{
    (void)unused;
    static const char first[] = {'s', 'a', 'b'};
    struct posterior base, models[2];
    double weights[2] = {0.75, 1.25};
    posterior_init(&base, "base", TENSORS, true, 0.01, 1);
    for (int t = 0; t < 2; t++)
        posterior_init(&models[t], t ? "two" : "one", TENSORS, true, 0.02, 1);
    for (int method = 0; method < 4; method++) {
        struct ivon_merge_options options = ivon_merge_defaults();
        options.method = (enum ivon_merge_method)method;
        options.ess = 500;
        options.weight = weight_by_name;
        options.weight_context = weights;
        struct result result = merge(&base, models, weights, NULL, 2, &options);
        assert_int_equal(result.code, 0);
        options.weight = NULL;
        for (int part = 0; part < 3; part++) {
            char name[2] = {first[part], 0};
            double own[2] = {weight_by_name(weights, 0, name), weight_by_name(weights, 1, name)};
            struct result whole = merge(&base, models, own, NULL, 2, &options);
            assert_int_equal(whole.code, 0);
            for (size_t i = 0; i < result.count; i += 2) /* means */
                if (names[i / 2][0] == first[part])
                    assert_memory_equal(result.data[i], whole.data[i], result.bytes[i]);
            result_release(&whole);
        }
        result_release(&result);
    }
    posterior_release(&base, TENSORS);
    for (int t = 0; t < 2; t++)
        posterior_release(&models[t], TENSORS);
}

/* Vectors of weights in one merge are those merges, bit by bit, whatever the models' order. */
static void test_vectors_of_weights(void **unused)
{
    (void)unused;
    enum { VECTORS = 3, SMALL = 3 };
    struct posterior base, models[2];
    const double unit[2] = {1, 1}, vectors[2 * VECTORS] = {0.3, 0.7, 1, 0, -0.1, 0.8};
    posterior_init(&base, "base", SMALL, true, 0.01, 1);
    posterior_init(&models[0], "two", SMALL, true, 0.02, 1); /* sorted behind the other */
    posterior_init(&models[1], "one", SMALL, true, 0.02, 1);
    for (int method = 0; method < 4; method++) {
        struct ivon_merge_options options = ivon_merge_defaults();
        struct ivon_merge_model list[2] = {{models[0].source, 1}, {models[1].source, 1}};
        struct ivon_error error = {0};
        struct ivon_merge *plan;
        struct ivon_sink *sinks[VECTORS];
        float *data[VECTORS][2 * SMALL];
        options.method = (enum ivon_merge_method)method;
        options.on_nonpositive = IVON_NONPOSITIVE_BASE;
        options.vectors = vectors;
        options.vector_count = VECTORS;
        assert_int_equal(ivon_merge_plan(&plan, base.source, list, 2, &options, &error), 0);
        size_t count;
        const struct ivon_tensor *outputs = ivon_merge_outputs(plan, &count);
        assert_int_equal(count, 2 * SMALL);
        for (int v = 0; v < VECTORS; v++) {
            for (size_t i = 0; i < count; i++)
                data[v][i] = calloc(outputs[i].count, sizeof(float));
            assert_int_equal(
                ivon_sink_to_memory(&sinks[v], outputs, (void *const *)data[v], count, &error), 0);
        }
        assert_int_equal(ivon_merge_run(plan, sinks, &error), 0);
        options.vectors = NULL;
        for (int v = 0; v < VECTORS; v++) {
            struct result alone = merge(&base, models, vectors + (size_t)v * 2, NULL, 2, &options);
            assert_int_equal(alone.code, 0);
            assert_true(ivon_merge_header(plan, (size_t)v).ess == alone.header.ess);
            assert_true(ivon_merge_header(plan, (size_t)v).weight_decay ==
                        alone.header.weight_decay);
            for (size_t i = 0; i < count; i++)
                assert_memory_equal(data[v][i], alone.data[i], alone.bytes[i]);
            result_release(&alone);
        }
        for (int v = 0; v < VECTORS; v++) {
            ivon_sink_close(sinks[v]);
            for (size_t i = 0; i < count; i++)
                free(data[v][i]);
        }
        ivon_merge_free(plan);
        options.scales = unit;
        options.scale_count = 1;
        options.vectors = vectors;
        assert_int_equal(ivon_merge_plan(&plan, base.source, list, 2, &options, &error),
                         IVON_ERROR_ARGUMENT);
    }
    posterior_release(&base, SMALL);
    for (int t = 0; t < 2; t++)
        posterior_release(&models[t], SMALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_naive),
        cmocka_unit_test(test_same_bits_for_any_order_threads_and_memory),
        cmocka_unit_test(test_identities),
        cmocka_unit_test(test_nonpositive_is_counted_exactly),
        cmocka_unit_test(test_weights_of_tensors),
        cmocka_unit_test(test_vectors_of_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
