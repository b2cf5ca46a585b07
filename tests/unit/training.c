/* A network in training: sums of gradients over a batch whose statistics normalize it, against a
   reference in double; what becomes of running statistics. */
#include "graph_builder.h"

#include <math.h>

#include "ivon/onnx.h"
#include "net/derivative/derivative.h"

/* Convolution, BatchNormalization, ReLU, linear; and the same in double. */

enum { N = 8, IN = 2, SIDE = 5, PLANE = SIDE * SIDE, CHANNELS = 3, OUT = 4 };
enum { FLAT = CHANNELS * PLANE };
enum { KERNEL, SCALE, BIAS, MATRIX, SHIFT, COUNT };

static const size_t sizes[COUNT] = {CHANNELS * IN * 9, CHANNELS, CHANNELS, OUT *FLAT, OUT};

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
        const float *tangent = net_derivative_tangent(derivative, (const float *const *)direction);
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
    const float *mean = trial.network->values[graph_find(trial.network, "mean")].tensor.data;
    const float *variance =
        trial.network->values[graph_find(trial.network, "variance")].tensor.data;
    for (int training = 0; training < 2; training++) {
        double y[N * OUT];
        struct net_derivative *derivative = run_on(&trial, training, 0, N);
        const float *found = net_derivative_output(derivative)->data;
        reference(trial.exact_x, N, trial.exact, training ? NULL : mean, training ? NULL : variance,
                  y);
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
        net_derivative_statistics(derivative, statistics[lane]);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients),
        cmocka_unit_test(outputs),
        cmocka_unit_test(running),
        cmocka_unit_test(written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
