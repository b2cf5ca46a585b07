/*
 * Identities of merging with structure, on random posteriors in memory: of one layer, its weight
 * (3 × 5) and its bias, one block of 3 × 6, and of a scale that is in none.
 *
 * Tolerance: conjugate gradients, eight steps past the error that they estimate, leave 1e-7 of an
 * element where precisions are between 1 and 300 and displacements below 4; bases in binary32 are
 * orthonormal to 6 2^-24, as much of a displacement. Means are in binary64.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/ivon.h"

enum { ROWS = 3, INPUTS = 5, COLUMNS = 6, SIZE = ROWS * COLUMNS, OTHER = 7, OUTPUTS_MAX = 9 };

static uint64_t state = 1;

static double uniform(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(state >> 11) * 0x1p-53;
}

struct posterior {
    struct ivon_source *source;
    double weight[ROWS * INPUTS], bias[ROWS], scale[OTHER];
    float h[SIZE], h_scale[OTHER], input[COLUMNS * COLUMNS], output[ROWS * ROWS];
    float gram[COLUMNS * COLUMNS];
};

/* A product of rotations in planes: n × n. */
static void random_basis(float *basis, size_t n)
{
    double u[COLUMNS * COLUMNS] = {0};
    for (size_t i = 0; i < n; i++)
        u[i * n + i] = 1;
    for (size_t a = 0; a < n; a++)
        for (size_t b = a + 1; b < n; b++) {
            double angle = 6.28 * uniform(), c = cos(angle), s = sin(angle);
            for (size_t i = 0; i < n; i++) {
                double x = u[i * n + a], y = u[i * n + b];
                u[i * n + a] = c * x - s * y;
                u[i * n + b] = s * x + c * y;
            }
        }
    for (size_t i = 0; i < n * n; i++)
        basis[i] = (float)u[i];
}

static void add(struct ivon_tensor *tensors, const void **data, size_t *count,
                struct ivon_tensor tensor, const void *elements)
{
    bool hessian = tensor.part == IVON_HESSIAN;
    tensor.ess = hessian ? 100 : NAN;
    tensor.weight_decay = hessian ? 0.01 : NAN;
    tensors[*count] = tensor;
    data[(*count)++] = elements;
}

static void posterior_init(struct posterior *posterior, const char *name,
                           const struct posterior *bases)
{
    static const char text[] = "{\"blocks\":{\"w\":{\"bias\":\"b\"}}}";
    struct ivon_tensor tensors[12];
    const void *data[12];
    struct ivon_header header = ivon_header_empty();
    struct ivon_error error;
    size_t count = 0;
    header.ess = 100;
    header.weight_decay = 0.01;
    for (size_t i = 0; i < ROWS * INPUTS; i++)
        posterior->weight[i] = 2 * uniform() - 1;
    for (size_t i = 0; i < ROWS; i++)
        posterior->bias[i] = 2 * uniform() - 1;
    for (size_t i = 0; i < OTHER; i++) {
        posterior->scale[i] = 2 * uniform() - 1;
        posterior->h_scale[i] = (float)(3 * uniform());
    }
    for (size_t i = 0; i < SIZE; i++)
        posterior->h[i] = (float)(3 * uniform());
    random_basis(posterior->input, COLUMNS);
    random_basis(posterior->output, ROWS);
    if (bases) {
        memcpy(posterior->input, bases->input, sizeof bases->input);
        memcpy(posterior->output, bases->output, sizeof bases->output);
    }
    for (size_t i = 0; i < COLUMNS; i++)
        for (size_t j = 0; j < COLUMNS; j++)
            posterior->gram[i * COLUMNS + j] = (float)(i == j ? 1 + uniform() : 0.25);
    const struct ivon_tensor weight = {
        .name = "w", .dtype = IVON_F64, .rank = 2, .shape = {ROWS, INPUTS}};
    const struct ivon_tensor bias = {.name = "b", .dtype = IVON_F64, .rank = 1, .shape = {ROWS}};
    struct ivon_tensor scale = {.name = "s", .dtype = IVON_F64, .rank = 1, .shape = {OTHER}};
    struct ivon_tensor matrix = {.name = "w", .dtype = IVON_F32, .rank = 2};
    add(tensors, data, &count, weight, posterior->weight);
    add(tensors, data, &count, bias, posterior->bias);
    add(tensors, data, &count, scale, posterior->scale);
    scale.part = IVON_HESSIAN;
    scale.dtype = IVON_F32;
    add(tensors, data, &count, scale, posterior->h_scale);
    matrix.part = IVON_HESSIAN;
    matrix.shape[0] = ROWS;
    matrix.shape[1] = COLUMNS;
    add(tensors, data, &count, matrix, posterior->h);
    matrix.part = IVON_BASIS_INPUT;
    matrix.shape[0] = COLUMNS;
    add(tensors, data, &count, matrix, posterior->input);
    matrix.part = IVON_GRAM;
    add(tensors, data, &count, matrix, posterior->gram);
    matrix.part = IVON_BASIS_OUTPUT;
    matrix.shape[0] = matrix.shape[1] = ROWS;
    add(tensors, data, &count, matrix, posterior->output);
    const struct ivon_tensor structure = {.name = ivon_part_name(IVON_STRUCTURE),
                                          .part = IVON_STRUCTURE,
                                          .dtype = IVON_U8,
                                          .rank = 1,
                                          .shape = {sizeof text - 1}};
    add(tensors, data, &count, structure, text);
    assert_int_equal(
        ivon_source_from_memory(&posterior->source, name, &header, tensors, data, count, &error),
        0);
}

struct result {
    int code;
    struct ivon_error error;
    struct ivon_merge *merge;
    size_t count;
    void *data[OUTPUTS_MAX];
    size_t bytes[OUTPUTS_MAX];
};

static struct result merge(struct posterior *base, struct posterior *const *models,
                           const double *weights, size_t count,
                           const struct ivon_merge_options *options)
{
    struct result result = {0};
    struct ivon_merge_model list[3];
    struct ivon_sink *sink;
    for (size_t t = 0; t < count; t++)
        list[t] = (struct ivon_merge_model){models[t]->source, weights[t]};
    result.code = ivon_merge_plan(&result.merge, base ? base->source : NULL, list, count, options,
                                  &result.error);
    if (result.code)
        return result;
    const struct ivon_tensor *outputs = ivon_merge_outputs(result.merge, &result.count);
    assert_true(result.count <= OUTPUTS_MAX);
    for (size_t i = 0; i < result.count; i++) {
        result.bytes[i] = outputs[i].count * ivon_dtype_size(outputs[i].dtype);
        result.data[i] = calloc(1, result.bytes[i] + 1);
    }
    assert_int_equal(ivon_sink_to_memory(&sink, outputs, result.data, result.count, &result.error),
                     0);
    result.code = ivon_merge_run(result.merge, &sink, &result.error);
    ivon_sink_close(sink);
    return result;
}

static void release(struct result *result)
{
    for (size_t i = 0; i < result->count; i++)
        free(result->data[i]);
    ivon_merge_free(result->merge);
}

static const void *output(const struct result *result, enum ivon_part part, const char *name)
{
    size_t count;
    const struct ivon_tensor *outputs = ivon_merge_outputs(result->merge, &count);
    for (size_t i = 0; i < count; i++)
        if (outputs[i].part == part && strcmp(outputs[i].name, name) == 0)
            return result->data[i];
    return NULL;
}

/* [W | b] */
static void joined(const double *weight, const double *bias, double *x)
{
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < COLUMNS; j++)
            x[i * COLUMNS + j] = j < INPUTS ? weight[i * INPUTS + j] : bias[i];
}

/* U_Bᵀ x U_A, or with `back` U_B x U_Aᵀ. */
static void rotate(const struct posterior *bases, bool back, const double *x, double *y)
{
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < COLUMNS; j++) {
            double sum = 0;
            for (size_t k = 0; k < ROWS; k++)
                for (size_t l = 0; l < COLUMNS; l++)
                    sum += (double)bases->output[back ? i * ROWS + k : k * ROWS + i] *
                           x[k * COLUMNS + l] *
                           (double)bases->input[back ? j * COLUMNS + l : l * COLUMNS + j];
            y[i * COLUMNS + j] = sum;
        }
}

/* Where all share the basis the merge is the diagonal one in it. */
static void test_in_one_basis(void **unused)
{
    (void)unused;
    struct posterior base, one, two, *models[2] = {&one, &two};
    const double weights[2] = {0.75, 0.5};
    posterior_init(&base, "base", NULL);
    posterior_init(&one, "one", &base);
    posterior_init(&two, "two", &base);
    for (int method = 0; method < 2; method++) {
        struct ivon_merge_options options = ivon_merge_defaults();
        double x[SIZE], own[3][SIZE], expected[SIZE], got[SIZE], precision[SIZE];
        options.method = (enum ivon_merge_method)method;
        struct result result = merge(&base, models, weights, 2, &options);
        assert_int_equal(result.code, 0);
        struct posterior *inputs[3] = {&base, &one, &two};
        for (int t = 0; t < 3; t++) {
            joined(inputs[t]->weight, inputs[t]->bias, x);
            rotate(&base, false, x, own[t]);
        }
        for (size_t i = 0; i < SIZE; i++) {
            bool based = options.method == IVON_MERGE_GRADIENT_MATCHING;
            double prior = based ? 100 * ((double)base.h[i] + 0.01) : 0, sum = 0;
            precision[i] = prior;
            for (int t = 0; t < 2; t++) {
                double h = 100 * ((double)models[t]->h[i] + (based ? 0 : 0.01));
                precision[i] += weights[t] * h;
                sum += weights[t] * (prior + h) * (own[t + 1][i] - (based ? own[0][i] : 0));
            }
            own[0][i] = (based ? own[0][i] : 0) + sum / precision[i];
        }
        rotate(&base, true, own[0], expected);
        joined(output(&result, IVON_MEAN, "w"), output(&result, IVON_MEAN, "b"), got);
        struct ivon_header header = ivon_merge_header(result.merge, 0);
        const float *h = output(&result, IVON_HESSIAN, "w");
        for (size_t i = 0; i < SIZE; i++) {
            assert_true(fabs(got[i] - expected[i]) < 2e-6);
            assert_true(fabs(header.ess * ((double)h[i] + header.weight_decay) - precision[i]) <
                        1e-6 * (precision[i] + 100));
        }
        assert_memory_equal(output(&result, IVON_BASIS_INPUT, "w"), base.input, sizeof base.input);
        assert_null(output(&result, IVON_HESSIAN, "b"));
        size_t count;
        const struct ivon_merge_solve *solves = ivon_merge_solves(result.merge, &count);
        assert_int_equal(count, 1);
        assert_string_equal(solves->name, "w");
        assert_true(solves->converged && solves->iterations == 0);
        release(&result);
    }
    ivon_source_close(base.source);
    ivon_source_close(one.source);
    ivon_source_close(two.source);
}

static void test_same_bits(void **unused)
{
    (void)unused;
    struct posterior base, one, two;
    posterior_init(&base, "base", NULL);
    posterior_init(&one, "one", NULL);
    posterior_init(&two, "two", NULL);
    struct posterior *order[2] = {&one, &two}, *other[2] = {&two, &one};
    const double weights[2] = {0.75, 0.5}, swapped[2] = {0.5, 0.75}, one_weight = 1;
    for (int method = 0; method <= IVON_MERGE_REGMEAN; method++) {
        struct ivon_merge_options options = ivon_merge_defaults();
        options.method = (enum ivon_merge_method)method;
        options.resources.threads = 1;
        struct result a = merge(&base, order, weights, 2, &options);
        options.resources.threads = 3;
        struct result b = merge(&base, other, swapped, 2, &options);
        assert_int_equal(a.code | b.code, 0);
        assert_int_equal(a.count, b.count);
        for (size_t i = 0; i < a.count; i++)
            assert_memory_equal(a.data[i], b.data[i], a.bytes[i]);
        /* One model with weight 1 is given back. */
        struct result alone = merge(&base, order, &one_weight, 1, &options);
        assert_int_equal(alone.code, 0);
        if (options.method != IVON_MERGE_TASK_ARITHMETIC)
            assert_memory_equal(output(&alone, IVON_MEAN, "w"), one.weight, sizeof one.weight);
        assert_int_equal(output(&alone, IVON_GRAM, "w") != NULL, method == IVON_MERGE_REGMEAN);
        release(&a);
        release(&b);
        release(&alone);
    }
    ivon_source_close(base.source);
    ivon_source_close(one.source);
    ivon_source_close(two.source);
}

/* Weights that leave no precision: an error that names the tensor, or the base's block as it is. */
static void test_nonpositive(void **unused)
{
    (void)unused;
    struct posterior base, one, *models[1] = {&one};
    const double weight = -2;
    posterior_init(&base, "base", NULL);
    posterior_init(&one, "one", NULL);
    memset(one.h_scale, 0, sizeof one.h_scale);
    struct ivon_merge_options options = ivon_merge_defaults();
    struct result result = merge(&base, models, &weight, 1, &options);
    assert_int_equal(result.code, IVON_ERROR_DATA);
    assert_non_null(
        strstr(result.error.message, "tensor 'w': the merged precision is not positive"));
    assert_int_equal(result.error.hint, IVON_HINT_NONPOSITIVE);
    release(&result);
    options.on_nonpositive = IVON_NONPOSITIVE_BASE;
    result = merge(&base, models, &weight, 1, &options);
    assert_int_equal(result.code, 0);
    assert_int_equal(ivon_merge_nonpositive_count(result.merge, 0), SIZE);
    assert_memory_equal(output(&result, IVON_MEAN, "w"), base.weight, sizeof base.weight);
    assert_memory_equal(output(&result, IVON_MEAN, "b"), base.bias, sizeof base.bias);
    const float *h = output(&result, IVON_HESSIAN, "w");
    for (size_t i = 0; i < SIZE; i++)
        assert_true(fabsf(h[i] - base.h[i]) < 1e-6F);
    release(&result);
    options.method = IVON_MERGE_REGMEAN;
    options.on_nonpositive = IVON_NONPOSITIVE_ERROR;
    result = merge(NULL, models, &weight, 1, &options);
    assert_int_equal(result.code, IVON_ERROR_DATA);
    release(&result);
    options.shrink = 1.5;
    result = merge(NULL, models, &weight, 1, &options);
    assert_int_equal(result.code, IVON_ERROR_ARGUMENT);
    ivon_source_close(base.source);
    ivon_source_close(one.source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_one_basis),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_nonpositive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
