/*
 * SWAG's posterior of checkpoints in memory, as the dense matrix that it is, against its definition
 * in double: the average, and ½ diag v + D Dᵀ / (2 (K − 1)).
 *
 * Rounding: h, U and the deviations are binary32, of 2^-24 each. Σ has them in three products of
 * numbers of its own size, once or twice each: 2^-21 of its largest number is more. v itself and
 * the values ℓ are in double.
 */
#include "dense_covariance.h"

#include "ivon/swag.h"

static const double BOUND = 0x1p-21;

enum { MOST = 12, WEIGHTS = 12, BIASES = 3, FROZEN = 4, SIZE = WEIGHTS + BIASES };

/* A training's checkpoints: fc.weight and fc.bias move, but for one element, `frozen` does not. */
struct training {
    float weight[MOST][WEIGHTS], bias[MOST][BIASES], frozen[FROZEN], buffer[2];
    unsigned char graph[4];
    size_t count;
    struct ivon_source *sources[MOST];
};

static const struct ivon_tensor TENSORS[] = {
    {.name = "fc.weight",
     .part = IVON_MEAN,
     .dtype = IVON_F32,
     .rank = 2,
     .shape = {3, 4},
     .count = WEIGHTS,
     .ess = NAN,
     .weight_decay = NAN},
    {.name = "fc.bias",
     .part = IVON_MEAN,
     .dtype = IVON_F32,
     .rank = 1,
     .shape = {3},
     .count = BIASES,
     .ess = NAN,
     .weight_decay = NAN},
    {.name = "frozen",
     .part = IVON_MEAN,
     .dtype = IVON_F32,
     .rank = 1,
     .shape = {4},
     .count = FROZEN,
     .ess = NAN,
     .weight_decay = NAN},
    {.name = "steps",
     .part = IVON_BUFFER,
     .dtype = IVON_F32,
     .rank = 1,
     .shape = {2},
     .count = 2,
     .ess = NAN,
     .weight_decay = NAN},
    {.name = "model.onnx",
     .part = IVON_GRAPH,
     .dtype = IVON_U8,
     .rank = 1,
     .shape = {4},
     .count = 4,
     .ess = NAN,
     .weight_decay = NAN},
};

static void training_begin(struct training *training, size_t count)
{
    struct model random = {.state = 88172645463325252U + count};
    *training = (struct training){.count = count, .graph = {'o', 'n', 'n', 'x'}};
    for (size_t i = 0; i < FROZEN; i++)
        training->frozen[i] = model_random(&random, -1, 1);
    for (size_t t = 0; t < count; t++) {
        struct ivon_header header = ivon_header_empty();
        const void *const data[] = {training->weight[t], training->bias[t], training->frozen,
                                    training->buffer, training->graph};
        header.n_train = 50;
        header.step = (int64_t)t;
        for (size_t i = 0; i < WEIGHTS; i++)
            training->weight[t][i] = 2 + (t ? model_random(&random, -0.1, 0.1) : 0);
        for (size_t i = 0; i < BIASES; i++)
            training->bias[t][i] = model_random(&random, -1, 1);
        training->weight[t][5] = 0.1F;
        assert_int_equal(ivon_source_from_memory(&training->sources[t], "checkpoint", &header,
                                                 TENSORS, data, sizeof TENSORS / sizeof TENSORS[0],
                                                 NULL),
                         0);
    }
}

static void training_end(struct training *training)
{
    for (size_t t = 0; t < training->count; t++)
        ivon_source_close(training->sources[t]);
}

static double theta(const struct training *training, size_t t, size_t i)
{
    return (double)(i < WEIGHTS ? training->weight[t][i] : training->bias[t][i - WEIGHTS]);
}

/* The definition: the mean, v with its least value, and D in columns. */
static size_t expect(const struct training *training, size_t rank, double *mean, double *v,
                     double deviations[MOST][SIZE])
{
    size_t n = training->count, kept = rank < n ? rank : n;
    for (size_t i = 0; i < SIZE; i++) {
        double sum = 0, squares = 0;
        for (size_t t = 0; t < n; t++) {
            sum += theta(training, t, i);
            if (t + kept >= n)
                deviations[t + kept - n][i] = theta(training, t, i) - sum / (double)(t + 1);
        }
        mean[i] = sum / (double)n;
        for (size_t t = 0; t < n; t++)
            squares += pow(theta(training, t, i) - mean[i], 2);
        v[i] = fmax(squares / (double)n, 1e-30);
    }
    return kept;
}

static struct ivon_swag *swag_of(const struct training *training,
                                 const struct ivon_swag_options *options)
{
    struct ivon_swag *swag = NULL;
    struct ivon_error error = {0};
    if (ivon_swag_new(&swag, options, &error))
        fail_msg("%s", error.message);
    for (size_t t = 0; t < training->count; t++)
        if (ivon_swag_add(swag, training->sources[t], &error))
            fail_msg("%s", error.message);
    if (ivon_swag_finish(swag, &error))
        fail_msg("%s", error.message);
    return swag;
}

static struct ivon_source *source_of(struct ivon_swag *swag, const struct training *training)
{
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    if (ivon_swag_source(&source, swag, training->sources[training->count - 1], NULL, 0, &error))
        fail_msg("%s", error.message);
    return source;
}

static void check_covariance(const struct dense *dense, const double *v, size_t kept,
                             double deviations[MOST][SIZE])
{
    double most = 0;
    assert_int_equal(dense->size, SIZE);
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < SIZE; i++)
            for (size_t j = 0; j < SIZE; j++) {
                double expected = i == j ? (kept ? 0.5 : 1) * v[i] : 0;
                for (size_t k = 0; k < kept; k++)
                    expected += deviations[k][i] * deviations[k][j] / (2 * ((double)kept - 1));
                most = fmax(most, fabs(expected));
                if (pass && !(fabs(dense->covariance[i][j] - expected) <= BOUND * most))
                    fail_msg("covariance %zu, %zu: %.9g, expected %.9g", i, j,
                             dense->covariance[i][j], expected);
            }
}

static void check_summary(const struct ivon_swag *swag, const struct training *training,
                          size_t kept)
{
    struct ivon_swag_summary summary = ivon_swag_summary(swag);
    assert_int_equal(summary.checkpoints, training->count);
    assert_int_equal(summary.parameters, SIZE);
    assert_int_equal(summary.still, 1);
    assert_true(summary.ess == 50);
    /* A first checkpoint's deviation is nothing, and K points are in a plane of K − 1 dimensions
       but for the means that they are taken from. */
    assert_int_equal(summary.rank, kept == training->count ? kept - (kept > 0) : kept);
    if (summary.rank)
        assert_true(-1 < summary.first && summary.first <= summary.last && summary.last < 0);
    else
        assert_true(isnan(summary.first) && isnan(summary.last));
}

static void covariances_are_those_of_the_definition(void **state)
{
    (void)state;
    static const struct {
        size_t count, rank;
    } cases[] = {{7, 4}, {7, 7}, {3, 20}, {2, 2}, {12, 2}, {6, 0}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct training training;
        struct ivon_swag_options options = ivon_swag_defaults();
        double mean[SIZE], v[SIZE], deviations[MOST][SIZE];
        training_begin(&training, cases[c].count);
        options.rank = cases[c].rank;
        size_t kept = expect(&training, cases[c].rank, mean, v, deviations);
        struct ivon_swag *swag = swag_of(&training, &options);
        struct ivon_source *source = source_of(swag, &training);
        struct dense *dense = dense_new(source, NULL);
        check_summary(swag, &training, kept);
        check_covariance(dense, v, kept, deviations);
        const float *weight = ivon_source_view(source, 0, 0),
                    *bias = ivon_source_view(source, 1, 0);
        for (size_t i = 0; i < SIZE; i++) /* the sums are in double, and rounded once */
            assert_true(fabs((double)(i < WEIGHTS ? weight[i] : bias[i - WEIGHTS]) - mean[i]) <=
                        0x1.00001p-24 * fabs(mean[i]) + 1e-15);
        assert_int_equal(ivon_source_find(source, IVON_STRUCTURE, "structure.json") >= 0, kept > 0);
        dense_free(dense);
        ivon_source_close(source);
        ivon_swag_free(swag);
        training_end(&training);
    }
}

static bool only_bias(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "fc.bias") == 0;
}

static void the_rest_is_the_last_checkpoint_s(void **state)
{
    (void)state;
    struct training training;
    struct ivon_swag_options options = ivon_swag_defaults();
    training_begin(&training, 5);
    options.ess = 7;
    options.selected = only_bias;
    struct ivon_swag *swag = swag_of(&training, &options);
    struct ivon_source *source = source_of(swag, &training), *other = NULL;
    assert_true(ivon_source_find(source, IVON_HESSIAN, "fc.bias") >= 0);
    assert_true(ivon_source_find(source, IVON_HESSIAN, "fc.weight") < 0);
    assert_true(ivon_source_find(source, IVON_HESSIAN, "frozen") < 0);
    assert_memory_equal(ivon_source_view(source, 2, 0), training.frozen, sizeof training.frozen);
    ptrdiff_t buffer = ivon_source_find(source, IVON_BUFFER, "steps");
    assert_ptr_equal(ivon_source_view(source, (size_t)buffer, 0), training.buffer);
    ptrdiff_t graph = ivon_source_find(source, IVON_GRAPH, "model.onnx");
    assert_ptr_equal(ivon_source_view(source, (size_t)graph, 0), training.graph);
    const struct ivon_header *header = ivon_source_header(source);
    assert_true(header->ess == 7 && header->weight_decay == 0);
    assert_true(header->step == 4 && header->n_train == 50);
    assert_int_equal(ivon_swag_source(&other, swag, training.sources[4], "new", 3, NULL), 0);
    graph = ivon_source_find(other, IVON_GRAPH, "model.onnx");
    assert_memory_equal(ivon_source_view(other, (size_t)graph, 0), "new", 3);
    ivon_source_close(other);
    ivon_source_close(source);
    ivon_swag_free(swag);
    training_end(&training);
}

/* Weights enough for several pieces, in checkpoints of another type. */
enum { LARGE = 70001, LARGE_COUNT = 5 };

static double draw_half(size_t t, size_t i)
{
    uint64_t x = (t * LARGE + i + 1) * 6364136223846793005U;
    x ^= x >> 29;
    return (double)(int)(x * 1442695040888963407U >> 54) / 1024.0 - 0.5; /* f16 holds it */
}

static struct ivon_swag *large_swag(int threads, uint16_t (*data)[LARGE],
                                    struct ivon_source **sources)
{
    struct ivon_swag *swag = NULL;
    struct ivon_swag_options options = ivon_swag_defaults();
    const struct ivon_header header = ivon_header_empty();
    const struct ivon_tensor mean = {.name = "w",
                                     .part = IVON_MEAN,
                                     .dtype = IVON_F16,
                                     .rank = 1,
                                     .shape = {LARGE},
                                     .count = LARGE,
                                     .ess = NAN,
                                     .weight_decay = NAN};
    options.rank = 3;
    options.resources.threads = threads;
    assert_int_equal(ivon_swag_new(&swag, &options, NULL), 0);
    for (size_t t = 0; t < LARGE_COUNT; t++) {
        const void *at = data[t];
        for (size_t i = 0; i < LARGE; i++) {
            double value = draw_half(t, i);
            ivon_dtype_from_f64(&data[t][i], IVON_F16, &value, 1);
        }
        assert_int_equal(
            ivon_source_from_memory(&sources[t], "large", &header, &mean, &at, 1, NULL), 0);
        assert_int_equal(ivon_swag_add(swag, sources[t], NULL), 0);
    }
    assert_int_equal(ivon_swag_finish(swag, NULL), 0);
    return swag;
}

/* xᵀ Σ x of the stored numbers, for x_i = cos i, and of the definition. */
static void check_quadratic(struct ivon_source *source, const struct ivon_swag *swag)
{
    const float *h = ivon_source_view(source, 1, 0), *u = ivon_source_view(source, 2, 0);
    struct ivon_swag_summary summary = ivon_swag_summary(swag);
    double base = 0, along[3] = {0}, expected = 0, columns[3] = {0};
    assert_int_equal(summary.rank, 3);
    assert_true(summary.ess == 1);
    for (size_t i = 0; i < LARGE; i++) {
        double x = cos((double)i), s = 1 / sqrt((double)h[i]), sum = 0, squares = 0, mean;
        base += s * s * x * x;
        for (size_t k = 0; k < 3; k++)
            along[k] += (double)u[k * LARGE + i] * s * x;
        for (size_t t = 0; t < LARGE_COUNT; t++) {
            sum += draw_half(t, i);
            squares += pow(draw_half(t, i), 2);
            if (t >= 2)
                columns[t - 2] += x * (draw_half(t, i) - sum / (double)(t + 1));
        }
        ivon_dtype_to_f64(&mean, (const uint16_t *)ivon_source_view(source, 0, 0) + i, IVON_F16, 1);
        assert_true(fabs(mean - sum / LARGE_COUNT) <= 0x1p-12); /* of f16 below ½ */
        expected += 0.5 * x * x * (squares / LARGE_COUNT - pow(sum / LARGE_COUNT, 2));
    }
    for (size_t k = 0; k < 3; k++)
        expected += columns[k] * columns[k] / 4;
    ptrdiff_t text = ivon_source_find(source, IVON_STRUCTURE, "structure.json");
    struct structure *structure = NULL;
    assert_true(text >= 0);
    assert_int_equal(structure_read(&structure, source, NULL), 0);
    for (size_t k = 0; k < 3; k++)
        base -= structure->values[k] / (1 + structure->values[k]) * along[k] * along[k];
    structure_free(structure);
    /* Errors of 2^-24 of single numbers partly cancel in sums of 70,001. */
    if (!(fabs(base - expected) <= 1e-6 * expected))
        fail_msg("quadratic form %.12g, expected %.12g", base, expected);
}

static void large_tensors_go_in_pieces(void **state)
{
    (void)state;
    uint16_t(*data)[LARGE] = calloc(LARGE_COUNT, sizeof *data);
    struct ivon_source *sources[LARGE_COUNT], *first = NULL;
    struct ivon_swag *swag = large_swag(1, data, sources), *other;
    assert_int_equal(ivon_swag_source(&first, swag, sources[4], NULL, 0, NULL), 0);
    assert_int_equal(ivon_source_tensor(first, 0)->dtype, IVON_F16);
    check_quadratic(first, swag);
    for (int threads = 2; threads < 4; threads++) {
        struct ivon_source *again[LARGE_COUNT], *source = NULL;
        other = large_swag(threads, data, again);
        assert_int_equal(ivon_swag_source(&source, other, again[4], NULL, 0, NULL), 0);
        for (size_t t = 0; t < ivon_source_tensor_count(source); t++) {
            const struct ivon_tensor *tensor = ivon_source_tensor(source, t);
            assert_memory_equal(ivon_source_view(source, t, 0), ivon_source_view(first, t, 0),
                                tensor->count * ivon_dtype_size(tensor->dtype));
        }
        ivon_source_close(source);
        ivon_swag_free(other);
        for (size_t t = 0; t < LARGE_COUNT; t++)
            ivon_source_close(again[t]);
    }
    ivon_source_close(first);
    ivon_swag_free(swag);
    for (size_t t = 0; t < LARGE_COUNT; t++)
        ivon_source_close(sources[t]);
    free(data);
}

/* A checkpoint of the first `count` tensors, fc.bias under another name or shape. */
static void expect_no_checkpoint(const struct training *training, size_t count, const char *name,
                                 int64_t extent, float value, const char *message)
{
    struct ivon_tensor tensors[4];
    float bias[4] = {value, value, value, value};
    const void *const data[] = {training->weight[0], bias, training->frozen, training->frozen};
    struct ivon_swag *swag = NULL;
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    const struct ivon_header header = ivon_header_empty();
    memcpy(tensors, TENSORS, 3 * sizeof tensors[0]);
    tensors[1].name = name;
    tensors[1].shape[0] = extent;
    tensors[1].count = (size_t)extent;
    tensors[3] = tensors[2];
    tensors[3].name = "more";
    assert_int_equal(ivon_source_from_memory(&source, "odd", &header, tensors, data, count, NULL),
                     0);
    assert_int_equal(ivon_swag_new(&swag, NULL, NULL), 0);
    assert_int_equal(ivon_swag_add(swag, training->sources[0], NULL), 0);
    assert_int_equal(ivon_swag_add(swag, source, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, message);
    ivon_source_close(source);
    ivon_swag_free(swag);
}

static void checkpoints_are_of_one_training(void **state)
{
    (void)state;
    struct training training;
    training_begin(&training, 2);
    expect_no_checkpoint(&training, 3, "bias", 3, 1,
                         "odd: has no mean 'fc.bias', which the first checkpoint has");
    expect_no_checkpoint(&training, 3, "fc.bias", 4, 1,
                         "odd: 'fc.bias' has shape 4, and 3 in the first checkpoint");
    expect_no_checkpoint(&training, 4, "fc.bias", 3, 1,
                         "odd: has more means than the first checkpoint, which has 3");
    expect_no_checkpoint(&training, 3, "fc.bias", 3, -INFINITY,
                         "odd: 'fc.bias' is -inf at element 0, expected a finite number");
    training_end(&training);
}

static void expect_no_options(size_t rank, double ess, const char *message)
{
    struct ivon_swag *swag = NULL;
    struct ivon_error error = {0};
    struct ivon_swag_options options = ivon_swag_defaults();
    options.rank = rank;
    options.ess = ess;
    assert_int_equal(ivon_swag_new(&swag, &options, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, message);
}

static void mistakes_are_told(void **state)
{
    (void)state;
    struct training training;
    struct ivon_swag *swag = NULL;
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    expect_no_options(1, NAN,
                      "the rank is 1, expected 0 or at least 2: deviations are from their "
                      "own mean");
    expect_no_options(2, 0, "ess is 0, expected at least 1e-06");
    training_begin(&training, 2);
    assert_int_equal(ivon_swag_new(&swag, NULL, &error), 0);
    assert_int_equal(ivon_swag_add(swag, training.sources[0], &error), 0);
    assert_int_equal(ivon_swag_finish(swag, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "there are 1 checkpoints, expected at least 2");
    assert_int_equal(ivon_swag_source(&source, swag, training.sources[0], NULL, 0, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "the posterior is not finished yet");
    assert_int_equal(ivon_swag_add(swag, training.sources[0], &error), 0);
    assert_int_equal(ivon_swag_finish(swag, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "checkpoint: all selected weights are those of the "
                                       "checkpoints before it: nothing has a variance");
    assert_int_equal(ivon_swag_source(&source, swag, training.sources[0], NULL, 0, &error),
                     IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_swag_finish(swag, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "the posterior was finished before");
    assert_int_equal(ivon_swag_add(swag, training.sources[0], &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "checkpoint: the posterior was finished before");
    ivon_swag_free(swag);
    ivon_swag_free(NULL);
    training_end(&training);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(covariances_are_those_of_the_definition),
        cmocka_unit_test(the_rest_is_the_last_checkpoint_s),
        cmocka_unit_test(large_tensors_go_in_pieces),
        cmocka_unit_test(checkpoints_are_of_one_training),
        cmocka_unit_test(mistakes_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
