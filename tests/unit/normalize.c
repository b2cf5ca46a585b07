/* Normalizations and softmax against their formulas in double, their derivatives, what single
   examples add to them, hostile shapes. */
#include "operator.h"

#include "net/ops/normalize/normalize.h"

static int64_t pick(struct trial *trial, int64_t low, int64_t high)
{
    return low + (int64_t)trial_random(trial, 0, (double)(high - low + 1) - 1e-3);
}

static double at(const struct net_tensor *tensor, size_t i)
{
    return (double)((float *)tensor->data)[i];
}

/* N × C × axes: of 0 to 2 axes after the first two. */
static size_t random_planes(struct trial *trial, uint64_t seed, int axes, int64_t *shape)
{
    trial->state += seed * 7919;
    shape[0] = pick(trial, 1, 4);
    shape[1] = pick(trial, 1, 20);
    size_t plane = 1;
    for (int i = 0; i < axes; i++) {
        shape[2 + i] = pick(trial, 2, 7);
        plane *= (size_t)shape[2 + i];
    }
    return plane;
}

/*
 * y = (x − mean) a + b in float, with a rounded from double: four roundings, none of a value larger
 * than |x − mean| a + |b|; to first order 4 * 2^-24 of that.
 */
static void batch(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 80; seed++) {
        struct trial trial;
        int64_t shape[4];
        int axes = (int)(seed % 3);
        trial_begin(&trial, "BatchNormalization", 1);
        size_t plane = random_planes(&trial, seed, axes, shape);
        const struct net_tensor *x = trial_floats(&trial, 2 + axes, shape, NULL, -1, 1);
        const struct net_tensor *scale = trial_floats(&trial, 1, shape + 1, NULL, -1, 1);
        const struct net_tensor *bias = trial_floats(&trial, 1, shape + 1, NULL, -1, 1);
        const struct net_tensor *mean = trial_floats(&trial, 1, shape + 1, NULL, -1, 1);
        const struct net_tensor *variance = trial_floats(&trial, 1, shape + 1, NULL, 0.5, 2);
        double epsilon = seed % 2 ? (double)0.1F : (double)1e-5F;
        if (seed % 2)
            trial_number(&trial, "epsilon", epsilon);
        trial_int(&trial, "training_mode", 0);
        assert_int_equal(trial_run(&trial, NULL), 0);
        const struct net_tensor *y = &trial.outputs[0];
        assert_int_equal(y->count, x->count);
        for (size_t i = 0; i < y->count; i++) {
            size_t c = i / plane % (size_t)shape[1];
            double moved = (at(x, i) - at(mean, c)) * at(scale, c) /
                           sqrt(at(variance, c) + epsilon);
            double bound = ldexp(fabs(moved) + fabs(at(bias, c)), -22);
            assert_true(fabs(at(y, i) - moved - at(bias, c)) <= bound);
        }
        /* Values up to 3: the difference rounds to 4 * 2^-23 / step, and curves by step² times a
           third derivative of up to 15/8 * 2 / 0.5^3.5, over 6: 7 step². */
        trial_check_derivatives(&trial, 31, ldexp(1, -7), 1e-3, 1e-5);
        for (size_t input = 1; input < 5; input++)
            trial_check_examples(&trial, input, ~1U, (size_t)shape[0], 1e-6);
        trial_end(&trial);
    }
}

/* The batch's own mean and biased variance of a channel. */
static void moments_of(const struct net_tensor *x, size_t plane, size_t c, double *mean,
                       double *variance)
{
    size_t channels = (size_t)x->shape[1], n = x->count / channels;
    *mean = *variance = 0;
    for (size_t i = 0; i < x->count; i++)
        *mean += i / plane % channels == c ? at(x, i) / (double)n : 0;
    for (size_t i = 0; i < x->count; i++)
        *variance += i / plane % channels == c ? pow(at(x, i) - *mean, 2) / (double)n : 0;
}

/* y as in evaluation, but that the mean rounds to float too; running statistics round once. */
static void check_training(const struct trial *trial, size_t plane, double epsilon, double momentum)
{
    const struct net_tensor *x = &trial->inputs[0], *y = &trial->outputs[0];
    size_t channels = (size_t)x->shape[1];
    struct net_batch of_call = net_batch_statistics(&trial->call);
    assert_int_equal(of_call.count, x->count / channels);
    for (size_t c = 0; c < channels; c++) {
        double mean, variance, bias = at(&trial->inputs[2], c);
        moments_of(x, plane, c, &mean, &variance);
        double slope = at(&trial->inputs[1], c) / sqrt(variance + epsilon);
        for (size_t i = 0; i < x->count; i++) {
            double moved = (at(x, i) - mean) * slope;
            double bound = ldexp(fabs(moved) + fabs(mean * slope) + fabs(bias), -22) + 1e-14;
            if (i / plane % channels == c)
                assert_true(fabs(at(y, i) - moved - bias) <= bound);
        }
        assert_true(fabs(of_call.mean[c] - mean) <= 1e-14); /* 200 doubles of size 1 */
        assert_true(fabs(of_call.variance[c] - variance) <= 1e-13);
        double running[] = {momentum * at(&trial->inputs[3], c) + (1 - momentum) * mean,
                            momentum * at(&trial->inputs[4], c) + (1 - momentum) * variance};
        for (size_t i = 1; i < trial->node.output_count; i++)
            assert_true(fabs(at(&trial->outputs[i], c) - running[i - 1]) <=
                        ldexp(fabs(running[i - 1]), -23) + 1e-13);
    }
}

/*
 * The derivatives of all three outputs: the running ones against their formula, with
 * ∂mean = Σ ∂x / n, ∂var = 2 Σ (x − mean) ∂x / n; all by <w, J v> = <Jᵀ w, v>. Floats of size 1,
 * of up to 4000 terms: what is summed rounds to 2^-24 of itself, a few times.
 */
static void check_running(struct trial *trial, size_t plane, double momentum)
{
    const struct net_operator *row = trial->node.op;
    const struct net_tensor *x = &trial->inputs[0];
    float *direction[5], *adjoint[5], *tangent[3], *weight[3];
    double left = 0, right = 0, scale = 1;
    for (size_t i = 0; i < 5; i++) {
        direction[i] = calloc(trial->inputs[i].count, sizeof(float));
        adjoint[i] = calloc(trial->inputs[i].count, sizeof(float));
        for (size_t j = 0; j < trial->inputs[i].count; j++)
            direction[i][j] = trial_random(trial, -1, 1);
    }
    for (size_t i = 0; i < 3; i++) {
        tangent[i] = calloc(trial->outputs[i].count, sizeof(float));
        weight[i] = calloc(trial->outputs[i].count, sizeof(float));
        for (size_t j = 0; j < trial->outputs[i].count; j++)
            weight[i][j] = trial_random(trial, -1, 1);
    }
    trial_spoil_workspace(trial);
    row->tangent(&trial->call, (const float *const *)direction, tangent);
    trial_spoil_workspace(trial);
    row->backward(&trial->call, (const float *const *)weight, adjoint);
    for (size_t c = 0; c < (size_t)x->shape[1]; c++) {
        double mean, variance, of_mean = 0, of_variance = 0;
        double n = (double)x->count / (double)x->shape[1];
        moments_of(x, plane, c, &mean, &variance);
        for (size_t i = 0; i < x->count; i++)
            if (i / plane % (size_t)x->shape[1] == c) {
                of_mean += (double)direction[0][i] / n;
                of_variance += 2 * (at(x, i) - mean) * (double)direction[0][i] / n;
            }
        of_mean = momentum * (double)direction[3][c] + (1 - momentum) * of_mean;
        of_variance = momentum * (double)direction[4][c] + (1 - momentum) * of_variance;
        assert_true(fabs((double)tangent[1][c] - of_mean) <= ldexp(1, -22));
        assert_true(fabs((double)tangent[2][c] - of_variance) <= ldexp(1, -22));
    }
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < trial->outputs[i].count; j++) {
            left += (double)weight[i][j] * (double)tangent[i][j];
            scale += fabs((double)weight[i][j] * (double)tangent[i][j]);
        }
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < trial->inputs[i].count; j++) {
            right += (double)direction[i][j] * (double)adjoint[i][j];
            scale += fabs((double)direction[i][j] * (double)adjoint[i][j]);
        }
    assert_true(fabs(left - right) <= ldexp(scale, -20));
    for (size_t i = 0; i < 5; i++) {
        free(direction[i]);
        free(adjoint[i]);
        free(i < 3 ? tangent[i] : NULL);
        free(i < 3 ? weight[i] : NULL);
    }
}

/* As rows are normalized, in layer() below: there is why epsilon is large, and the tolerances. */
static void training(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 80; seed++) {
        struct trial trial;
        int64_t shape[4];
        int axes = (int)(seed % 3);
        bool by_attribute = seed % 2;
        double momentum = seed % 4 == 1 ? 0.25 : (double)0.9F;
        trial_begin(&trial, "BatchNormalization", by_attribute ? 3 : 1);
        size_t plane = random_planes(&trial, seed, axes, shape);
        if (!by_attribute && shape[0] == 1)
            shape[0] = 2;
        bool shifted = seed % 5 == 0; /* a mean far from 0 */
        trial_floats(&trial, 2 + axes, shape, NULL, shifted ? 99 : -1, shifted ? 101 : 1);
        for (size_t i = 1; i < 4; i++)
            trial_floats(&trial, 1, shape + 1, NULL, -1, 1);
        trial_floats(&trial, 1, shape + 1, NULL, 0.5, 2);
        trial_number(&trial, "epsilon", 0.5);
        if (seed % 4 == 1)
            trial_number(&trial, "momentum", momentum);
        if (by_attribute)
            trial_int(&trial, "training_mode", 1);
        trial.call.training = !by_attribute;
        assert_int_equal(trial_run(&trial, NULL), 0);
        if (!shifted) {
            check_training(&trial, plane, 0.5, momentum);
            trial_check_derivatives(&trial, 7, ldexp(1, -7), 2e-3, 1e-5);
        } else { /* means of squares of 1e4 are right to 1e-11 */
            for (size_t c = 0; c < (size_t)shape[1]; c++) {
                double mean, variance;
                moments_of(&trial.inputs[0], plane, c, &mean, &variance);
                assert_true(fabs(net_batch_statistics(&trial.call).variance[c] - variance) <=
                            1e-11);
            }
        }
        if (by_attribute && !shifted)
            check_running(&trial, plane, momentum);
        trial_end(&trial);
    }
}

/* Rows of `length` elements: checks y and the statistics. Elements of a row are up to `size`, and
   spread: x̂ is computed in double and rounds three times on the way to y. */
static void check_rows(const struct trial *trial, size_t length, size_t channels, double epsilon)
{
    const struct net_tensor *x = &trial->inputs[0], *y = &trial->outputs[0];
    for (size_t row = 0; row < x->count / length; row++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < length; i++)
            sum += at(x, row * length + i);
        double mean = sum / (double)length;
        for (size_t i = 0; i < length; i++)
            squares += pow(at(x, row * length + i) - mean, 2);
        double inverse = 1 / sqrt(squares / (double)length + epsilon);
        for (size_t i = 0; i < length; i++) {
            size_t j = channels ? row % channels : i;
            bool biased = trial->node.input_count > 2;
            double bias = biased ? at(&trial->inputs[2], j) : 0;
            double normal = (at(x, row * length + i) - mean) * inverse * at(&trial->inputs[1], j);
            double bound = ldexp(fabs(normal) + fabs(bias), -22) + 1e-12;
            assert_true(fabs(at(y, row * length + i) - normal - bias) <= bound);
        }
        if (trial->node.output_count == 3) {
            assert_true(fabs(at(&trial->outputs[1], row) - mean) <= ldexp(fabs(mean), -23) + 1e-12);
            assert_true(fabs(at(&trial->outputs[2], row) - inverse) <= ldexp(inverse, -23));
        }
    }
}

/* Functions of differences over deviations of about 0.6, but for rows of two elements, where they
   may be close to each other: there the third derivative is bounded by epsilon alone, hence the
   large one. Rounding 2^-22/step, curvature about 10 step². */
static void layer(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 80; seed++) {
        struct trial trial;
        int64_t shape[4];
        trial_begin(&trial, "LayerNormalization", seed % 2 ? 3 : 1);
        trial.state += seed * 7919;
        int rank = (int)pick(&trial, 1, 4), axis = (int)pick(&trial, 0, rank - 1);
        size_t length = 1;
        for (int i = 0; i < rank; i++) {
            shape[i] = pick(&trial, 2, 9);
            length *= i < axis ? 1 : (size_t)shape[i];
        }
        bool shifted = seed % 5 == 0;          /* a mean far from 0; from 1500, its square */
        double middle = seed % 2 ? 1500 : 100; /* has 22 bits more than the variance */
        trial_floats(&trial, rank, shape, NULL, shifted ? middle - 1 : -1,
                     shifted ? middle + 1 : 1);
        trial_floats(&trial, rank - axis, shape + axis, NULL, -1, 1);
        if (seed % 3)
            trial_floats(&trial, rank - axis, shape + axis, NULL, -1, 1);
        if (axis != rank - 1 || seed % 4)
            trial_int(&trial, "axis", seed % 4 > 1 ? axis : axis - rank);
        trial_number(&trial, "epsilon", 0.5);
        assert_int_equal(trial_run(&trial, NULL), 0);
        check_rows(&trial, length, 0, 0.5);
        for (size_t output = 0; output < trial.node.output_count && !shifted; output++)
            trial_check_output_derivatives(&trial, output, 7, ldexp(1, -7), 2e-3, 1e-5);
        if (axis > 0)
            for (size_t input = 1; input < trial.node.input_count; input++)
                trial_check_examples(&trial, input, ~1U, (size_t)shape[0], 1e-6);
        trial_end(&trial);
    }
}

static void instance(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct trial trial;
        int64_t shape[4];
        int axes = 1 + (int)(seed % 2);
        trial_begin(&trial, "InstanceNormalization", 1);
        size_t plane = random_planes(&trial, seed, axes, shape);
        trial_floats(&trial, 2 + axes, shape, NULL, -1, 1);
        trial_floats(&trial, 1, shape + 1, NULL, -1, 1);
        trial_floats(&trial, 1, shape + 1, NULL, -1, 1);
        trial_number(&trial, "epsilon", 0.5);
        assert_int_equal(trial_run(&trial, NULL), 0);
        check_rows(&trial, plane, (size_t)shape[1], 0.5);
        trial_check_derivatives(&trial, 7, ldexp(1, -7), 2e-3, 1e-5);
        for (size_t input = 1; input < 3; input++)
            trial_check_examples(&trial, input, ~1U, (size_t)shape[0], 1e-6);
        trial_end(&trial);
    }
}

static void channel_sums(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct trial trial;
        int64_t shape[4];
        trial_begin(&trial, "InstanceNormalization", 1);
        int axes = (int)(seed % 3);
        size_t plane = random_planes(&trial, seed, axes, shape), channels = (size_t)shape[1];
        const struct net_tensor *x = trial_floats(&trial, 2 + axes, shape, NULL, -1, 1);
        double sums[20], squares[20], expected[2][20];
        for (size_t c = 0; c < 20; c++) {
            sums[c] = expected[0][c] = 1; /* it adds */
            squares[c] = expected[1][c] = 2;
        }
        net_channel_sums(x, sums, squares);
        for (size_t i = 0; i < x->count; i++) {
            expected[0][i / plane % channels] += at(x, i);
            expected[1][i / plane % channels] += at(x, i) * at(x, i);
        }
        for (size_t c = 0; c < channels; c++) { /* 200 doubles of size 1 */
            assert_true(fabs(sums[c] - expected[0][c]) <= 1e-12);
            assert_true(fabs(squares[c] - expected[1][c]) <= 1e-12);
        }
        trial_end(&trial);
    }
}

/*
 * An element of softmax has four roundings: x − m (the exponential magnifies it by |x − m|), the
 * exponential (1 ulp), 1/s and the product: (|x − m| + 6) 2^-24 of itself. The logarithm: x − m and
 * the last difference round to half an ulp of themselves, log s to 1.5 ulp.
 */
static void softmax(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 160; seed++) {
        struct trial trial;
        int64_t shape[4];
        bool logarithm = seed % 2;
        trial_begin(&trial, logarithm ? "LogSoftmax" : "Softmax", 1);
        trial.state += seed * 7919;
        int rank = (int)pick(&trial, 1, 4), axis = (int)pick(&trial, 0, rank - 1);
        for (int i = 0; i < rank; i++)
            shape[i] = pick(&trial, 1, rank > 2 ? 7 : 70);
        if (seed % 16 == 0)
            shape[rank - 1] = 600; /* more than a block */
        double range = seed % 3 ? 2 : 60;
        const struct net_tensor *x = trial_floats(&trial, rank, shape, NULL, -range, range);
        if (axis != rank - 1 || seed % 4)
            trial_int(&trial, "axis", seed % 4 > 1 ? axis : axis - rank);
        assert_int_equal(trial_run(&trial, NULL), 0);
        size_t length = (size_t)shape[axis], inner = 1;
        for (int i = axis + 1; i < rank; i++)
            inner *= (size_t)shape[i];
        for (size_t i = 0; i < x->count; i++) {
            size_t start = i - i / inner % length * inner;
            double most = -INFINITY, sum = 0;
            for (size_t j = 0; j < length; j++)
                most = fmax(most, at(x, start + j * inner));
            for (size_t j = 0; j < length; j++)
                sum += exp(at(x, start + j * inner) - most);
            double moved = at(x, i) - most, found = at(&trial.outputs[0], i);
            double expected = logarithm ? moved - log(sum) : exp(moved) / sum;
            double bound = logarithm ? ldexp(2 * fabs(moved) + 4 * log(sum) + 1, -24)
                                     : ldexp((fabs(moved) + 6) * expected, -24) + ldexp(1, -149);
            if (!(fabs(found - expected) <= bound))
                fail_msg("seed %zu: %.9g, expected %.9g", (size_t)seed, found, expected);
        }
        /* Rounding of values up to 8 for logarithms: 2^-21/step; curvature step²/6. */
        if (range < 3)
            trial_check_derivatives(&trial, 1, ldexp(1, -7), 3e-4, 1e-5);
        trial_end(&trial);
    }
}

/* Infinities: all weight on the largest; and no number out of none. */
static void infinite(void **state)
{
    (void)state;
    static const int64_t shape[] = {3};
    static const float x[] = {-INFINITY, 1000, -1000}, none[] = {-INFINITY, -INFINITY, -INFINITY};
    struct trial trial;
    trial_begin(&trial, "Softmax", 1);
    trial_floats(&trial, 1, shape, x, 0, 0);
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_true(at(&trial.outputs[0], 0) == 0 && at(&trial.outputs[0], 1) == 1);
    trial_end(&trial);
    trial_begin(&trial, "LogSoftmax", 1);
    trial_floats(&trial, 1, shape, x, 0, 0);
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_true(at(&trial.outputs[0], 1) == 0 && at(&trial.outputs[0], 2) == -2000);
    trial_end(&trial);
    trial_begin(&trial, "Softmax", 1);
    trial_floats(&trial, 1, shape, none, 0, 0);
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_true(isnan(at(&trial.outputs[0], 0)));
    trial_end(&trial);
}

static void refuse(struct trial *trial, const char *expected)
{
    struct ivon_error error;
    assert_int_equal(trial->node.op->infer(&trial->call, &error), IVON_ERROR_DATA);
    if (!strstr(error.message, expected))
        fail_msg("'%s' does not hold '%s'", error.message, expected);
    trial_end(trial);
}

static void refuses(void **state)
{
    (void)state;
    struct trial trial;
    static const int64_t x[] = {2, 3, 4, 5};
    for (size_t wrong = 1; wrong < 5; wrong++) {
        trial_begin(&trial, "BatchNormalization", 1);
        trial_floats(&trial, 4, x, NULL, 0, 1);
        for (size_t i = 1; i < 5; i++)
            trial_floats(&trial, 1, x + (i == wrong ? 2 : 1), NULL, 0, 1);
        refuse(&trial, "of shape 4, for channels of an input of shape 2x3x4x5");
    }
    trial_begin(&trial, "BatchNormalization", 1);
    trial_floats(&trial, 4, x, NULL, 0, 1);
    for (size_t i = 1; i < 5; i++)
        trial_floats(&trial, 1, x + 1, NULL, 0, 1);
    trial.output_list[1] = &trial.outputs[1]; /* in evaluation there are none */
    trial.node.output_count = 2;
    refuse(&trial, "export the network in evaluation mode");
    for (int itself = 0; itself < 2; itself++) {
        static const int64_t one[] = {1, 3}, none[] = {0, 3};
        trial_begin(&trial, "BatchNormalization", 1);
        trial_floats(&trial, 2, itself ? none : one, NULL, 0, 1);
        for (size_t i = 1; i < 5; i++)
            trial_floats(&trial, 1, one + 1, NULL, 0, 1);
        if (itself)
            trial_int(&trial, "training_mode", 1);
        trial.call.training = !itself;
        refuse(&trial, itself ? "a batch has 0 elements of each channel to take mean and variance "
                                "of, expected at least 1"
                              : "a batch has 1 element of each channel to take mean and variance "
                                "of, expected at least 2");
    }
    trial_begin(&trial, "BatchNormalization", 1);
    trial_floats(&trial, 1, x, NULL, 0, 1);
    trial.node.input_count = 5;
    refuse(&trial, "input of shape 2, expected at least 2 dimensions");
    trial_begin(&trial, "LayerNormalization", 1);
    trial_floats(&trial, 3, x, NULL, 0, 1);
    trial_floats(&trial, 1, x + 1, NULL, 0, 1);
    refuse(&trial, "input 1 of shape 3, expected 4");
    trial_begin(&trial, "LayerNormalization", 1);
    trial_floats(&trial, 3, x, NULL, 0, 1);
    trial_floats(&trial, 1, x + 2, NULL, 0, 1);
    trial_int(&trial, "axis", 3);
    refuse(&trial, "axis 3 of an input of shape 2x3x4");
    trial_begin(&trial, "LayerNormalization", 1);
    trial_floats(&trial, 0, x, NULL, 0, 1);
    trial_floats(&trial, 0, x, NULL, 0, 1);
    refuse(&trial, "input of shape scalar");
    trial_begin(&trial, "InstanceNormalization", 1);
    trial_floats(&trial, 3, x, NULL, 0, 1);
    trial_floats(&trial, 1, x + 1, NULL, 0, 1);
    trial_floats(&trial, 1, x + 2, NULL, 0, 1);
    refuse(&trial, "input 2 of shape 4, for channels");
    static const int64_t axes[] = {2, -3, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        trial_begin(&trial, i % 2 ? "Softmax" : "LogSoftmax", 1);
        trial_floats(&trial, 2, x, NULL, 0, 1);
        trial_int(&trial, "axis", axes[i]);
        refuse(&trial, "of an input of shape 2x3");
    }
    trial_begin(&trial, "Softmax", 1);
    trial_integers(&trial, 2, x, (int64_t[6]){0});
    refuse(&trial, "integer, expected float");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch),    cmocka_unit_test(training),     cmocka_unit_test(layer),
        cmocka_unit_test(instance), cmocka_unit_test(channel_sums), cmocka_unit_test(softmax),
        cmocka_unit_test(infinite), cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
