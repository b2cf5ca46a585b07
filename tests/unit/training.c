/* Networks in training: sums of gradients over a batch whose statistics normalize it, against a
   reference in double; what becomes of running statistics; what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/onnx.h"
#include "net/derivative.h"
#include "net/graph.h"

static uint64_t state;

static double uniform(void) /* in [-1, 1) */
{
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (double)(state >> 40) / 8388608.0 - 1;
}

/* Building. */

/* A constant of random numbers around `center`; a parameter where that is asked for. */
static void give(struct ivon_network *network, const char *name, bool parameter, double center,
                 int rank, const int64_t *shape)
{
    struct net_tensor tensor = {0};
    assert_int_equal(net_tensor_set(&tensor, NET_FLOAT, rank, shape, NULL), 0);
    assert_int_equal(net_tensor_allocate(&tensor, NULL), 0);
    for (size_t i = 0; i < tensor.count; i++)
        ((float *)tensor.data)[i] = (float)(center + 0.5 * uniform());
    assert_int_equal(graph_add_constant(network, name, &tensor, NULL), 0);
    if (!parameter)
        return;
    struct net_value *value = &network->values[graph_find(network, name)];
    value->role = NET_PARAMETER;
    value->parameter = network->parameter_count++;
}

static struct net_attribute *attribute(const char *name, enum net_attribute_kind kind)
{
    struct net_attribute *made = calloc(1, sizeof *made);
    made->name = strdup(name);
    made->kind = kind;
    return made;
}

static struct net_attribute *integer(const char *name, int64_t value)
{
    struct net_attribute *made = attribute(name, NET_INT);
    made->integer = value;
    return made;
}

/* Inputs and output, by blanks. */
static void node(struct ivon_network *network, const char *operator, const char *values,
                 struct net_attribute *attributes)
{
    char text[256], *list[8], *rest;
    size_t count = 0;
    assert_true(strlen(values) < sizeof text);
    strcpy(text, values);
    for (char *at = strtok_r(text, " ", &rest); at; at = strtok_r(NULL, " ", &rest))
        list[count++] = at;
    assert_int_equal(graph_add_node(network, operator, list[count - 1], (const char **)list,
                                    count - 1, (const char **)&list[count - 1], 1, attributes,
                                    attributes ? 1 : 0, NULL),
                     0);
}

static struct ivon_network *begin(int rank, const int64_t *shape)
{
    struct ivon_network *network;
    assert_int_equal(graph_new(&network, "network", NULL), 0);
    assert_int_equal(graph_add_input(network, "x", NET_FLOAT, rank, shape, NULL), 0);
    return network;
}

static void finish(struct ivon_network *network)
{
    assert_int_equal(graph_add_output(network, "y", NULL), 0);
    assert_int_equal(graph_finish(network, NULL), 0);
}

static struct net_tensor shape_of(int rank, int64_t first, const int64_t *rest)
{
    struct net_tensor tensor = {.type = NET_FLOAT};
    int64_t shape[IVON_RANK_MAX] = {first};
    for (int i = 1; i < rank; i++)
        shape[i] = rest[i - 1];
    assert_int_equal(net_tensor_set(&tensor, NET_FLOAT, rank, shape, NULL), 0);
    return tensor;
}

/* Every parameter is wanted; their arrays lie in the network. */
enum { PARAMETERS_MAX = 8 };

struct parameters {
    bool wanted[PARAMETERS_MAX];
    float *arrays[PARAMETERS_MAX], *gradients[PARAMETERS_MAX];
    size_t sizes[PARAMETERS_MAX];
};

static void parameters_begin(struct parameters *parameters, const struct ivon_network *network)
{
    for (size_t i = 0; i < network->value_count; i++) {
        const struct net_value *value = &network->values[i];
        if (value->role != NET_PARAMETER)
            continue;
        parameters->wanted[value->parameter] = true;
        parameters->arrays[value->parameter] = value->tensor.data;
        parameters->sizes[value->parameter] = value->tensor.count;
        parameters->gradients[value->parameter] = calloc(value->tensor.count, sizeof(float));
    }
}

static void parameters_end(struct parameters *parameters)
{
    for (size_t i = 0; i < PARAMETERS_MAX; i++)
        free(parameters->gradients[i]);
}

/* Convolution, BatchNormalization, ReLU, linear; and the same in double. */

enum { N = 8, IN = 2, SIDE = 5, PLANE = SIDE * SIDE, CHANNELS = 3, OUT = 4 };
enum { FLAT = CHANNELS * PLANE };
enum { KERNEL, SCALE, BIAS, MATRIX, SHIFT, COUNT };

static const size_t sizes[COUNT] = {CHANNELS * IN * 9, CHANNELS, CHANNELS, OUT * FLAT, OUT};

static struct ivon_network *convolutional(void)
{
    static const int64_t x[] = {-1, IN, SIDE, SIDE}, kernel[] = {CHANNELS, IN, 3, 3};
    static const int64_t matrix[] = {OUT, FLAT};
    struct ivon_network *network = begin(4, x);
    struct net_attribute *pads = attribute("pads", NET_INTS);
    pads->count = 4;
    pads->integers = malloc(4 * sizeof *pads->integers);
    for (size_t i = 0; i < 4; i++)
        pads->integers[i] = 1;
    give(network, "kernel", true, 0, 4, kernel);
    give(network, "scale", true, 1, 1, kernel);
    give(network, "bias", true, 0, 1, kernel);
    give(network, "matrix", true, 0, 2, matrix);
    give(network, "shift", true, 0, 1, matrix);
    give(network, "mean", false, 0, 1, kernel);
    give(network, "variance", false, 1, 1, kernel);
    node(network, "Conv", "x kernel c", pads);
    node(network, "BatchNormalization", "c scale bias mean variance n", NULL);
    node(network, "Relu", "n r", NULL);
    node(network, "Flatten", "r f", NULL);
    node(network, "Gemm", "f matrix shift y", integer("transB", 1));
    finish(network);
    return network;
}

static double pixel(const double *image, int row, int column)
{
    bool inside = row >= 0 && row < SIDE && column >= 0 && column < SIDE;
    return inside ? image[row * SIDE + column] : 0;
}

/* c of count × CHANNELS × PLANE. */
static void convolve(const double *x, size_t count, const double *kernel, double *c)
{
    for (size_t e = 0; e < count; e++)
        for (size_t to = 0; to < CHANNELS; to++)
            for (int at = 0; at < PLANE; at++) {
                double sum = 0;
                for (size_t from = 0; from < IN; from++)
                    for (int k = 0; k < 9; k++)
                        sum += kernel[(to * IN + from) * 9 + (size_t)k] *
                               pixel(x + (e * IN + from) * PLANE, at / SIDE + k / 3 - 1,
                                     at % SIDE + k % 3 - 1);
                c[(e * CHANNELS + to) * PLANE + (size_t)at] = sum;
            }
}

/* The biased ones. */
static void moments(const double *c, size_t count, size_t channel, double *mean, double *variance)
{
    double n = (double)count * PLANE;
    *mean = *variance = 0;
    for (size_t i = 0; i < count * FLAT; i++)
        *mean += i / PLANE % CHANNELS == channel ? c[i] / n : 0;
    for (size_t i = 0; i < count * FLAT; i++)
        *variance += i / PLANE % CHANNELS == channel ? pow(c[i] - *mean, 2) / n : 0;
}

/* y of count × OUT; by the given statistics, or the batch's own where they are null. */
static void reference(const double *x, size_t count, double *const *parameters, const float *mean,
                      const float *variance, double *y)
{
    double c[N * FLAT];
    convolve(x, count, parameters[KERNEL], c);
    double own[CHANNELS][2];
    for (size_t channel = 0; channel < CHANNELS; channel++) {
        moments(c, count, channel, &own[channel][0], &own[channel][1]);
        if (mean) {
            own[channel][0] = (double)mean[channel];
            own[channel][1] = (double)variance[channel];
        }
    }
    for (size_t e = 0; e < count; e++)
        for (size_t k = 0; k < OUT; k++) {
            double sum = parameters[SHIFT][k];
            for (size_t i = 0; i < FLAT; i++) {
                size_t channel = i / PLANE;
                double normal = (c[e * FLAT + i] - own[channel][0]) /
                                sqrt(own[channel][1] + (double)1e-5F);
                sum += parameters[MATRIX][k * FLAT + i] *
                       fmax(0, normal * parameters[SCALE][channel] + parameters[BIAS][channel]);
            }
            y[e * OUT + k] = sum;
        }
}

struct trial {
    struct ivon_network *network;
    struct net_training *training;
    struct parameters parameters;
    float x[N * IN * PLANE];
    double exact_x[N * IN * PLANE];
    double *exact[COUNT]; /* the parameters */
};

static void trial_begin(struct trial *trial)
{
    memset(trial, 0, sizeof *trial);
    state = 88172645463325252U;
    trial->network = convolutional();
    assert_int_equal(net_training_new(&trial->training, trial->network, NULL), 0);
    parameters_begin(&trial->parameters, trial->network);
    for (size_t i = 0; i < N * IN * PLANE; i++) {
        trial->x[i] = (float)uniform();
        trial->exact_x[i] = (double)trial->x[i];
    }
    for (size_t p = 0; p < COUNT; p++) {
        assert_int_equal(trial->parameters.sizes[p], sizes[p]);
        trial->exact[p] = calloc(sizes[p], sizeof(double));
        for (size_t i = 0; i < sizes[p]; i++)
            trial->exact[p][i] = (double)trial->parameters.arrays[p][i];
    }
}

static void trial_end(struct trial *trial)
{
    for (size_t p = 0; p < COUNT; p++)
        free(trial->exact[p]);
    parameters_end(&trial->parameters);
    net_training_free(trial->training);
    ivon_network_free(trial->network);
}

/* A derivative for `count` examples, after a run on those from `first` on. */
static struct net_derivative *run_on(const struct trial *trial, bool training, size_t first,
                                     size_t count)
{
    static const int64_t rest[] = {IN, SIDE, SIDE};
    struct net_derivative *derivative = NULL;
    struct net_tensor input = shape_of(4, (int64_t)count, rest);
    const void *inputs[] = {trial->x + first * IN * PLANE};
    assert_int_equal(net_derivative_new_summed(&derivative, trial->network,
                                               training ? trial->training : NULL, &input,
                                               trial->parameters.wanted, 0, NULL),
                     0);
    assert_int_equal(net_derivative_set_parameters(
                         derivative, (const float *const *)trial->parameters.arrays, NULL),
                     0);
    assert_int_equal(net_derivative_run(derivative, inputs, NULL), 0);
    return derivative;
}

/* Σ w y of two batches of N/2, each normalized by itself. */
static double loss(const struct trial *trial, const float *weight)
{
    double y[N * OUT], sum = 0;
    size_t half = N / 2;
    reference(trial->exact_x, half, trial->exact, NULL, NULL, y);
    reference(trial->exact_x + half * IN * PLANE, half, trial->exact, NULL, NULL, y + half * OUT);
    for (size_t i = 0; i < N * OUT; i++)
        sum += (double)weight[i] * y[i];
    return sum;
}

/*
 * The gradient of Σ w y over two ghost batches by central differences in double: right to 1e-9 but
 * for those few elements of the ReLU that change sides within 1e-6, whose derivative is wrong by no
 * more than a 1e-6th. The network computes in float: a gradient is a sum of up to 75 * 8 products
 * of numbers of up to 100 roundings, each 2^-24 of them: 700 * 2^-24 = 4e-5 of the sum of
 * magnitudes, which for random signs is some √(8 * 75) = 25 times the sum; of the largest gradient
 * of a tensor hence at most 1e-3, and less where roundings are random as well.
 */
static void gradients(void **unused)
{
    (void)unused;
    struct trial trial;
    trial_begin(&trial);
    float weight[N * OUT];
    double tangents = 0, adjoints = 0, magnitude = 0;
    for (size_t i = 0; i < N * OUT; i++)
        weight[i] = (float)uniform();
    float *direction[COUNT];
    for (size_t p = 0; p < COUNT; p++) {
        direction[p] = calloc(sizes[p], sizeof(float));
        for (size_t i = 0; i < sizes[p]; i++)
            direction[p][i] = (float)uniform();
    }
    for (size_t lane = 0; lane < 2; lane++) {
        struct net_derivative *derivative = run_on(&trial, true, lane * N / 2, N / 2);
        const float *w = weight + lane * N / 2 * OUT;
        net_derivative_backward(derivative, w, trial.parameters.gradients);
        const float *tangent =
            net_derivative_tangent(derivative, (const float *const *)direction);
        for (size_t i = 0; i < N / 2 * OUT; i++)
            tangents += (double)w[i] * (double)tangent[i];
        /* neither leaves a trace in the next */
        net_derivative_backward(derivative, w, NULL);
        net_derivative_free(derivative);
    }
    for (size_t p = 0; p < COUNT; p++) {
        double largest = 0, worst = 0;
        for (size_t i = 0; i < sizes[p]; i++) {
            const double step = 1e-6, kept = trial.exact[p][i];
            double found = (double)trial.parameters.gradients[p][i];
            trial.exact[p][i] = kept + step;
            double plus = loss(&trial, weight);
            trial.exact[p][i] = kept - step;
            double expected = (plus - loss(&trial, weight)) / (2 * step);
            trial.exact[p][i] = kept;
            largest = fmax(largest, fabs(expected));
            worst = fmax(worst, fabs(found - expected));
            adjoints += (double)direction[p][i] * found;
            magnitude += fabs((double)direction[p][i] * found);
        }
        if (!(worst <= 1e-3 * largest))
            fail_msg("parameter %zu: off by %g of %g", p, worst, largest);
    }
    assert_true(fabs(tangents - adjoints) <= 4e-5 * magnitude);
    for (size_t p = 0; p < COUNT; p++)
        free(direction[p]);
    trial_end(&trial);
}

/* Outputs in training and in evaluation, of up to 75 terms of size 1: 100 roundings of a sum of
   magnitudes of at most 75 * 0.5 * 4. */
static void outputs(void **unused)
{
    (void)unused;
    struct trial trial;
    trial_begin(&trial);
    const float *mean =
        trial.network->values[graph_find(trial.network, "mean")].tensor.data;
    const float *variance =
        trial.network->values[graph_find(trial.network, "variance")].tensor.data;
    for (int training = 0; training < 2; training++) {
        double y[N * OUT];
        struct net_derivative *derivative = run_on(&trial, training, 0, N);
        const float *found = net_derivative_output(derivative)->data;
        reference(trial.exact_x, N, trial.exact, training ? NULL : mean,
                  training ? NULL : variance, y);
        for (size_t i = 0; i < N * OUT; i++)
            assert_true(fabs((double)found[i] - y[i]) <= 100 * 0x1p-24 * 150);
        net_derivative_free(derivative);
    }
    trial_end(&trial);
}

/* Statistics of two lanes, averaged and given back: those of the reference, right to the roundings
   of the convolution's 18 terms of size 1/2. The graph is written as it was but for them. */
static void running(void **unused)
{
    (void)unused;
    struct trial trial;
    trial_begin(&trial);
    assert_int_equal(net_training_count(trial.training), 1);
    const struct net_running *bn = net_training_node(trial.training, 0);
    assert_string_equal(trial.network->values[bn->mean].name, "mean");
    assert_string_equal(trial.network->values[bn->variance].name, "variance");
    assert_int_equal(bn->channels, CHANNELS);
    assert_int_equal(net_training_size(trial.training), 2 * CHANNELS);
    assert_true(net_training_has(trial.training, bn->node));
    assert_string_equal(trial.network->nodes[bn->node].name, "n");

    double statistics[2][2 * CHANNELS], expected[2 * CHANNELS] = {0}, c[N / 2 * FLAT];
    for (size_t lane = 0; lane < 2; lane++) {
        struct net_derivative *derivative = run_on(&trial, true, lane * N / 2, N / 2);
        net_training_statistics(trial.training, derivative, statistics[lane]);
        net_derivative_free(derivative);
        convolve(trial.exact_x + lane * N / 2 * IN * PLANE, N / 2, trial.exact[KERNEL], c);
        for (size_t channel = 0; channel < CHANNELS; channel++) {
            double mean, variance, n = (double)N / 2 * PLANE;
            moments(c, N / 2, channel, &mean, &variance);
            expected[channel] += mean / 2;
            expected[CHANNELS + channel] += variance * n / (n - 1) / 2;
        }
    }
    const float *values[] = {trial.network->values[bn->mean].tensor.data,
                             trial.network->values[bn->variance].tensor.data};
    for (size_t i = 0; i < 2 * CHANNELS; i++) {
        statistics[0][i] = (statistics[0][i] + statistics[1][i]) / 2;
        assert_true(fabs(statistics[0][i] - expected[i]) <= 20 * 9 * 0x1p-24);
        expected[i] = 0.9 * (double)values[i / CHANNELS][i % CHANNELS] + 0.1 * statistics[0][i];
    }
    net_training_update(trial.training, statistics[0], 0.1);
    for (size_t i = 0; i < 2 * CHANNELS; i++)
        assert_true((float)expected[i] == values[i / CHANNELS][i % CHANNELS] ||
                    fabs(expected[i] - (double)values[i / CHANNELS][i % CHANNELS]) <= 0x1p-24);
    trial_end(&trial);
}

static void written(void **unused)
{
    (void)unused;
    struct trial trial;
    trial_begin(&trial);
    void *before = NULL, *after = NULL;
    size_t before_size, after_size;
    assert_int_equal(ivon_onnx_write(&before, &before_size, trial.network, NULL, NULL), 0);
    net_derivative_free(run_on(&trial, true, 0, N));
    assert_int_equal(ivon_onnx_write(&after, &after_size, trial.network, NULL, NULL), 0);
    assert_int_equal(before_size, after_size);
    assert_memory_equal(before, after, after_size);
    free(before);
    free(after);
    trial_end(&trial);
}

/* Where examples are independent: the sums are those of net_derivative_new, by the same calls. */
static void independent(void **unused)
{
    (void)unused;
    static const int64_t x[] = {-1, 6}, first[] = {5, 6}, second[] = {3, 5};
    state = 7;
    struct ivon_network *network = begin(2, x);
    give(network, "a", true, 0, 2, first);
    give(network, "b", true, 0, 1, first);
    give(network, "c", true, 0, 2, second);
    give(network, "d", true, 0, 1, second);
    node(network, "Gemm", "x a b h", integer("transB", 1));
    node(network, "Tanh", "h t", NULL);
    node(network, "Gemm", "t c d y", integer("transB", 1));
    finish(network);

    struct parameters parameters[2] = {0};
    struct net_derivative *derivatives[2] = {NULL};
    struct net_tensor input = shape_of(2, 8, x + 1), unit = shape_of(2, 1, x + 1);
    size_t tile = 8;
    float data[8 * 6], weight[8 * 3];
    const void *inputs[] = {data};
    for (size_t i = 0; i < 8 * 6; i++)
        data[i] = (float)uniform();
    for (size_t i = 0; i < 8 * 3; i++)
        weight[i] = (float)uniform();
    parameters_begin(&parameters[0], network);
    parameters_begin(&parameters[1], network);
    const bool *wanted = parameters[0].wanted;
    assert_int_equal(net_derivative_new(&derivatives[0], network, &input, &unit, &tile, wanted, 0,
                                        NULL), 0);
    assert_int_equal(net_derivative_new_summed(&derivatives[1], network, NULL, &input, wanted, 0,
                                               NULL), 0);
    assert_int_equal(tile, 8);
    const float *tangents[2];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(net_derivative_set_parameters(
            derivatives[i], (const float *const *)parameters[i].arrays, NULL), 0);
        assert_int_equal(net_derivative_run(derivatives[i], inputs, NULL), 0);
        net_derivative_backward(derivatives[i], weight, parameters[i].gradients);
        tangents[i] = net_derivative_tangent(derivatives[i],
                                             (const float *const *)parameters[0].arrays);
    }
    for (size_t p = 0; p < 4; p++)
        assert_memory_equal(parameters[0].gradients[p], parameters[1].gradients[p],
                            parameters[0].sizes[p] * sizeof(float));
    assert_memory_equal(tangents[0], tangents[1], sizeof weight);
    assert_true(net_derivative_memory(derivatives[1]) < net_derivative_memory(derivatives[0]));

    double q[8];
    const float *const *variance = (const float *const *)parameters[0].arrays;
    assert_null(net_derivative_own_tangent(derivatives[1], variance, 8));
    net_derivative_quadratic(derivatives[1], variance, 8, q);
    for (size_t e = 0; e < 8; e++)
        assert_true(isnan(q[e]));
    for (size_t i = 0; i < 2; i++) {
        net_derivative_free(derivatives[i]);
        parameters_end(&parameters[i]);
    }
    struct ivon_error error;
    assert_int_equal(net_derivative_new_summed(&derivatives[0], network, NULL, &input, wanted, 8,
                                               &error), IVON_ERROR_MEMORY);
    ivon_network_free(network);
}

/* A batch along the second axis: net_derivative_new falls back to single examples, and their sum
   is this one's, to the roundings of 8 terms of size 1. A parameter that two nodes use, as well. */
static void second_axis(void **unused)
{
    (void)unused;
    static const int64_t x[] = {-1, 3}, square[] = {3, 3};
    state = 11;
    struct ivon_network *network = begin(2, x);
    give(network, "a", true, 0, 2, square);
    node(network, "Transpose", "x z", NULL);
    node(network, "Tanh", "z t", NULL);
    node(network, "MatMul", "a t u", NULL);
    node(network, "MatMul", "a u v", NULL);
    node(network, "Transpose", "v y", NULL);
    finish(network);

    struct parameters whole = {0}, single = {0};
    struct net_tensor input = shape_of(2, 8, x + 1), unit = shape_of(2, 1, x + 1);
    struct net_derivative *derivative = NULL;
    float data[8 * 3], weight[8 * 3];
    const void *inputs[] = {data};
    size_t tile = 8;
    for (size_t i = 0; i < 8 * 3; i++) {
        data[i] = (float)uniform();
        weight[i] = (float)uniform();
    }
    parameters_begin(&whole, network);
    parameters_begin(&single, network);
    const float *const *arrays = (const float *const *)whole.arrays;
    assert_int_equal(net_derivative_new_summed(&derivative, network, NULL, &input, whole.wanted, 0,
                                               NULL), 0);
    assert_int_equal(net_derivative_set_parameters(derivative, arrays, NULL), 0);
    assert_int_equal(net_derivative_run(derivative, inputs, NULL), 0);
    net_derivative_backward(derivative, weight, whole.gradients);
    net_derivative_free(derivative);
    assert_int_equal(net_derivative_new(&derivative, network, &input, &unit, &tile, whole.wanted, 0,
                                        NULL), 0);
    assert_int_equal(tile, 1);
    assert_int_equal(net_derivative_set_parameters(derivative, arrays, NULL), 0);
    for (size_t e = 0; e < 8; e++) {
        inputs[0] = data + 3 * e;
        assert_int_equal(net_derivative_run(derivative, inputs, NULL), 0);
        net_derivative_backward(derivative, weight + 3 * e, single.gradients);
    }
    for (size_t i = 0; i < 9; i++)
        assert_true(fabs((double)(whole.gradients[0][i] - single.gradients[0][i])) <=
                    16 * 8 * 0x1p-24);
    net_derivative_free(derivative);
    parameters_end(&whole);
    parameters_end(&single);
    ivon_network_free(network);
}

/* Two normalizations of x, N × 3, one after the other. */
static struct ivon_network *pair(const char *first, const char *second,
                                 struct net_attribute *of_second, bool identity)
{
    static const int64_t x[] = {-1, 3};
    state = 5;
    struct ivon_network *network = begin(2, x);
    static const char *const names[] = {"s1", "b1", "m", "v", "s2", "b2", "v2"};
    for (size_t i = 0; i < 7; i++)
        give(network, names[i], *names[i] != 'm' && *names[i] != 'v', 1, 1, x + 1);
    if (identity) {
        node(network, "Identity", "m i", NULL);
        node(network, "Identity", "i m2", NULL);
    }
    node(network, "BatchNormalization", first, NULL);
    node(network, "BatchNormalization", second, of_second);
    finish(network);
    return network;
}

/* Exporters store equal buffers once; they must not stay one. */
static void separated(void **unused)
{
    (void)unused;
    struct net_training *training = NULL;
    struct ivon_network *network = pair("x s1 b1 m v h", "h s2 b2 m2 v2 y", NULL, true);
    assert_int_equal(net_training_new(&training, network, NULL), 0);
    assert_int_equal(net_training_count(training), 2);
    const struct net_value *first = &network->values[net_training_node(training, 0)->mean];
    const struct net_value *second = &network->values[net_training_node(training, 1)->mean];
    assert_string_equal(second->name, "m2");
    assert_int_equal(second->role, NET_CONSTANT);
    assert_memory_equal(first->tensor.data, second->tensor.data, 3 * sizeof(float));
    double statistics[12];
    for (size_t i = 0; i < 12; i++)
        statistics[i] = (double)i;
    net_training_update(training, statistics, 1);
    for (size_t i = 0; i < 3; i++) {
        assert_true(((float *)first->tensor.data)[i] == (float)i);
        assert_true(((float *)second->tensor.data)[i] == (float)(6 + i));
    }
    net_training_free(training);
    ivon_network_free(network);

    /* One module, used twice, is one all through: moved twice. */
    network = pair("x s1 b1 m v h", "h s1 b1 m v y", NULL, false);
    assert_int_equal(net_training_new(&training, network, NULL), 0);
    assert_int_equal(net_training_count(training), 2);
    net_training_update(training, statistics, 0.5);
    const struct net_value *mean = &network->values[graph_find(network, "m")];
    state = 5;
    for (size_t i = 0; i < 6; i++) /* s1, b1 */
        uniform();
    for (size_t i = 0; i < 3; i++) {
        float begun = (float)(1 + 0.5 * uniform());
        float once = (float)(0.5 * (double)begun + 0.5 * (double)i);
        assert_true(((float *)mean->tensor.data)[i] == 0.5F * once + 0.5F * (float)(6 + i));
    }
    net_training_free(training);
    ivon_network_free(network);
}

/* By parameters: as in evaluation. Of what no run needs, the running statistics stay. */
static void unchanged(void **unused)
{
    (void)unused;
    struct net_training *training = NULL;
    struct ivon_network *network = pair("x s1 b1 m b2 h", "h s2 b2 b1 v2 y", NULL, false);
    assert_int_equal(net_training_new(&training, network, NULL), 0);
    assert_int_equal(net_training_count(training), 0);
    assert_int_equal(net_training_size(training), 0);
    net_training_free(training);
    ivon_network_free(network);

    static const int64_t x[] = {-1, 3};
    network = begin(2, x);
    for (size_t i = 0; i < 4; i++)
        give(network, (const char *[]){"s", "b", "m", "v"}[i], i < 2, 1, 1, x + 1);
    node(network, "BatchNormalization", "x s b m v h", NULL);
    node(network, "Shape", "h n", NULL);
    node(network, "Reshape", "x n r", NULL);
    node(network, "Mul", "r s y", NULL);
    finish(network);
    struct net_derivative *derivative = NULL;
    struct parameters parameters = {0};
    struct net_tensor input = shape_of(2, 4, x + 1);
    float data[12] = {1};
    const void *inputs[] = {data};
    double statistics[6];
    parameters_begin(&parameters, network);
    assert_int_equal(net_training_new(&training, network, NULL), 0);
    assert_int_equal(net_derivative_new_summed(&derivative, network, training, &input,
                                               parameters.wanted, 0, NULL), 0);
    assert_int_equal(net_derivative_set_parameters(
        derivative, (const float *const *)parameters.arrays, NULL), 0);
    assert_int_equal(net_derivative_run(derivative, inputs, NULL), 0);
    net_training_statistics(training, derivative, statistics);
    const struct net_running *bn = net_training_node(training, 0);
    for (size_t i = 0; i < 3; i++) {
        assert_true(statistics[i] == (double)((float *)network->values[bn->mean].tensor.data)[i]);
        assert_true(statistics[3 + i] ==
                    (double)((float *)network->values[bn->variance].tensor.data)[i]);
    }
    net_derivative_free(derivative);
    parameters_end(&parameters);
    net_training_free(training);
    ivon_network_free(network);
}

static void refuses(void **unused)
{
    (void)unused;
    struct net_training *training = NULL;
    struct net_derivative *derivative = NULL;
    struct ivon_error error;
    static const int64_t x[] = {-1, 3};
    struct net_tensor input = shape_of(2, 4, x + 1), unit = shape_of(2, 1, x + 1);
    bool wanted[PARAMETERS_MAX] = {true};
    size_t tile = 4;
    static const char itself[] = "network: node 'y' (BatchNormalization): normalizes by the "
                                 "statistics of each batch; export the network in evaluation mode";
    struct ivon_network *network =
        pair("x s1 b1 m v h", "h s2 b2 m v2 y", integer("training_mode", 1), false);
    assert_int_equal(net_training_new(&training, network, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, itself);
    assert_int_equal(net_derivative_new(&derivative, network, &input, &unit, &tile, wanted, 0,
                                        &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, itself);
    ivon_network_free(network);

    network = pair("x s1 b1 m v h", "h s2 b2 m v2 y", NULL, false);
    assert_int_equal(net_training_new(&training, network, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "network: nodes 'h' and 'y' (BatchNormalization) have "
                                       "different scales and the same running statistics 'm'");
    ivon_network_free(network);

    network = pair("x s1 b1 m v h", "h s2 b2 v2 v2 y", NULL, false);
    assert_int_equal(net_training_new(&training, network, NULL), 0);
    assert_int_equal(net_derivative_new_summed(&derivative, network, training, &unit, wanted, 0,
                                               &error), IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "a batch has 1 element of each channel"));
    net_training_free(training);
    ivon_network_free(network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients),   cmocka_unit_test(outputs),   cmocka_unit_test(running),
        cmocka_unit_test(written),     cmocka_unit_test(independent), cmocka_unit_test(second_axis),
        cmocka_unit_test(separated),   cmocka_unit_test(unchanged), cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
