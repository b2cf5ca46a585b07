/* Pools against the definition in double over random shapes and attributes, their derivatives,
   hostile attributes. */
#include "operator.h"

struct shape {
    int axes;
    int64_t images, channels;
    int64_t input[2], kernel[2], stride[2], dilation[2], pads[4]; /* before, before, after, after */
    int64_t alone[2];                                             /* the pads of one axis */
    bool ceiling, count_padding;
    int64_t order;
};

static int64_t pick(struct trial *trial, int64_t low, int64_t high)
{
    return low + (int64_t)trial_random(trial, 0, (double)(high - low + 1) - 1e-3);
}

static void random_shape(uint64_t seed, bool dilated, struct shape *s)
{
    struct trial random = {.state = seed * 7919 + 1}, *trial = &random;
    *s = (struct shape){.axes = seed % 4 ? 2 : 1,
                        .images = pick(trial, 1, 3),
                        .channels = pick(trial, 1, 3),
                        .kernel = {1, 1},
                        .stride = {1, 1},
                        .dilation = {1, 1},
                        .input = {1, 1},
                        .ceiling = pick(trial, 0, 1),
                        .count_padding = pick(trial, 0, 1),
                        .order = pick(trial, 0, 1)};
    for (int i = s->axes == 1; i < 2; i++) {
        s->kernel[i] = pick(trial, 1, 4);
        s->stride[i] = pick(trial, 1, 3);
        s->dilation[i] = dilated && pick(trial, 0, 1) ? pick(trial, 2, 3) : 1;
        int64_t reach = (s->kernel[i] - 1) * s->dilation[i] + 1;
        s->input[i] = pick(trial, reach, 20);
        s->pads[i] = pick(trial, 0, 1) ? pick(trial, 0, reach - 1) : 0;
        s->pads[2 + i] = pick(trial, 0, 1) ? pick(trial, 0, reach - 1) : 0;
    }
    s->alone[0] = s->pads[1];
    s->alone[1] = s->pads[3];
}

static void begin(struct trial *trial, const char *op, struct shape *s)
{
    bool maximum = *op == 'M';
    trial_begin(trial, op, maximum ? 2 : 1);
    size_t skip = s->axes == 1, axes = (size_t)s->axes;
    int64_t x[4] = {s->images, s->channels, s->input[skip], s->input[1]};
    float *data = trial_floats(trial, 2 + s->axes, x, NULL, -1, 1)->data;
    /* Distinct elements, further apart than twice a step of the differences: the largest stays. */
    size_t count = trial->inputs[0].count;
    for (size_t i = 0; i < count; i++)
        data[i] = ((float)(i * 7927 % 10007) - 5003) / 5003;
    trial_ints(trial, "kernel_shape", s->kernel + skip, axes);
    trial_ints(trial, "strides", s->stride + skip, axes);
    trial_ints(trial, "pads", skip ? s->alone : s->pads, 2 * axes);
    trial_int(trial, "ceil_mode", s->ceiling);
    if (maximum) {
        trial_ints(trial, "dilations", s->dilation + skip, axes);
        trial_int(trial, "storage_order", s->order);
    } else {
        trial_int(trial, "count_include_pad", s->count_padding);
    }
}

static int64_t output_extent(const struct shape *s, int axis)
{
    int64_t free = s->input[axis] + s->pads[axis] + s->pads[2 + axis] -
                   (s->kernel[axis] - 1) * s->dilation[axis] - 1;
    int64_t extent = free / s->stride[axis] + 1;
    if (s->ceiling && free % s->stride[axis] &&
        extent * s->stride[axis] < s->input[axis] + s->pads[axis])
        extent++; /* a window that starts inside */
    return extent;
}

/* The largest element's index and value, the sum, how many count. */
struct window {
    int64_t index;
    double largest, sum;
    int64_t counted;
};

static struct window reference(const struct shape *s, const float *plane, int64_t y, int64_t x)
{
    struct window w = {.index = -1, .largest = -INFINITY};
    for (int64_t i = 0; i < s->kernel[0]; i++)
        for (int64_t j = 0; j < s->kernel[1]; j++) {
            int64_t down = y * s->stride[0] - s->pads[0] + i * s->dilation[0];
            int64_t right = x * s->stride[1] - s->pads[1] + j * s->dilation[1];
            bool inside = down >= 0 && down < s->input[0] && right >= 0 && right < s->input[1];
            w.counted += inside || (s->count_padding && down < s->input[0] + s->pads[2] &&
                                    right < s->input[1] + s->pads[3]);
            if (!inside)
                continue;
            double value = (double)plane[down * s->input[1] + right];
            w.sum += value;
            if (value > w.largest) {
                w.largest = value;
                w.index = s->order ? right * s->input[0] + down : down * s->input[1] + right;
            }
        }
    return w;
}

/* Maxima are exact. A mean of up to 16 terms of size up to 1: 15 additions, and three roundings of
   the reciprocals and the product: 18 * 2^-24, by the sum of sizes over the count, which is at most
   1. */
static void check(const char *op, struct shape *s)
{
    struct trial trial;
    begin(&trial, op, s);
    bool maximum = *op == 'M';
    assert_int_equal(trial_run(&trial, NULL), 0);
    int64_t height = output_extent(s, 0), width = output_extent(s, 1);
    const struct net_tensor *y = &trial.outputs[0];
    assert_int_equal(y->rank, 2 + s->axes);
    assert_int_equal(y->shape[1 + s->axes], width);
    assert_int_equal(y->count, s->images * s->channels * height * width);
    const float *found = y->data;
    const int64_t *index = trial.outputs[1].data;
    int64_t size = s->input[0] * s->input[1];
    for (int64_t p = 0; p < s->images * s->channels; p++)
        for (int64_t i = 0; i < height; i++)
            for (int64_t j = 0; j < width; j++, found++) {
                struct window w = reference(s, (float *)trial.inputs[0].data + p * size, i, j);
                if (maximum) {
                    assert_true((double)*found == w.largest);
                    assert_int_equal(*index++, w.index < 0 ? -1 : w.index + p * size);
                } else {
                    double mean = w.counted ? w.sum / (double)w.counted : 0;
                    assert_true(fabs((double)*found - mean) <= 18 * ldexp(1, -24));
                }
            }
    /* Piecewise linear, and a step of 2^-14 crosses no edge: the difference rounds to
       2 * 2^-24 / 2^-14. A window without elements stays at -inf, whose difference is no number. */
    bool empty = false;
    for (size_t i = 0; i < y->count; i++)
        empty |= isinf(((float *)y->data)[i]);
    if (!empty)
        trial_check_derivatives(&trial, 1, maximum ? ldexp(1, -14) : 0.25,
                                maximum ? ldexp(1, -9) : 1e-5, 1e-5);
    trial_end(&trial);
}

static void windows(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct shape s;
        random_shape(seed, false, &s);
        s.order = 0;
        check("AveragePool", &s);
        random_shape(seed, true, &s);
        s.count_padding = false;
        check("MaxPool", &s);
    }
    /* what has kernels of its own */
    for (int64_t kernel = 2; kernel < 4; kernel++)
        for (int64_t extent = 4; extent < 40; extent++) {
            struct shape s = {.axes = 2,
                              .images = 1,
                              .channels = 2,
                              .input = {extent, extent + 1},
                              .kernel = {kernel, kernel},
                              .stride = {2, 2},
                              .dilation = {1, 1}};
            check("AveragePool", &s);
            check("MaxPool", &s);
        }
}

/* NaN is the largest of its windows, wherever it stands. */
static void not_a_number(void **state)
{
    (void)state;
    for (int64_t kernel = 1; kernel < 5; kernel++)
        for (int64_t stride = 1; stride < 4; stride++) {
            struct shape s = {.axes = 2,
                              .images = 1,
                              .channels = 1,
                              .input = {9, 33},
                              .kernel = {kernel, kernel},
                              .stride = {stride, stride},
                              .dilation = {1, 1}};
            struct trial trial;
            begin(&trial, "MaxPool", &s);
            for (size_t i = 5; i < trial.inputs[0].count; i += 37)
                ((float *)trial.inputs[0].data)[i] = NAN;
            assert_int_equal(trial_run(&trial, NULL), 0);
            const float *x = trial.inputs[0].data, *y = trial.outputs[0].data;
            const int64_t *index = trial.outputs[1].data;
            int64_t width = output_extent(&s, 1);
            for (size_t i = 0; i < trial.outputs[0].count; i++) {
                int64_t top = (int64_t)i / width * stride, left = (int64_t)i % width * stride;
                bool any = false;
                for (int64_t k = 0; k < kernel * kernel; k++)
                    any |= isnan(x[(top + k / kernel) * 33 + left + k % kernel]);
                assert_int_equal(isnan(y[i]) != 0, any);
                assert_int_equal(isnan(x[index[i]]) != 0, any);
            }
            trial_end(&trial);
        }
}

/* Windows of padding alone: nothing is largest, and the mean of nothing is 0. */
static void padding_alone(void **state)
{
    (void)state;
    for (int maximum = 0; maximum < 2; maximum++)
        for (int axis = 0; axis < 2; axis++) {
            struct shape s = {.axes = 2,
                              .images = 1,
                              .channels = 2,
                              .input = {2, 2},
                              .kernel = {3, 3},
                              .stride = {1, 1},
                              .dilation = {1, 1},
                              .pads = {2, 2, 2, 2}};
            struct trial trial;
            s.input[axis] = 0;
            begin(&trial, maximum ? "MaxPool" : "AveragePool", &s);
            assert_int_equal(trial_run(&trial, NULL), 0);
            struct net_tensor *y = &trial.outputs[0];
            assert_int_equal(y->count, 2 * 2 * 4);
            memset(y->data, 0xff, y->count * sizeof(float));
            assert_int_equal(trial_forward(&trial, NULL), 0);
            for (size_t i = 0; i < y->count; i++)
                assert_true(((const float *)y->data)[i] == (maximum ? -INFINITY : 0));
            for (size_t i = 0; maximum && i < y->count; i++)
                assert_true(((const int64_t *)trial.outputs[1].data)[i] == -1);
            trial_end(&trial);
        }
}

static void global(void **state)
{
    (void)state;
    static const int64_t shapes[][5] = {
        {2, 3, 7, 0}, {2, 3, 5, 8, 0}, {1, 2, 3, 4, 5}, {0, 3, 4, 4, 0}, {3, 0, 4, 4, 0}};
    static const int ranks[] = {3, 4, 5, 4, 4};
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++)
        for (int maximum = 0; maximum < 2; maximum++) {
            struct trial trial;
            trial_begin(&trial, maximum ? "GlobalMaxPool" : "GlobalAveragePool", 1);
            const float *x = trial_floats(&trial, ranks[i], shapes[i], NULL, -1, 1)->data;
            assert_int_equal(trial_run(&trial, NULL), 0);
            const float *y = trial.outputs[0].data;
            size_t planes = (size_t)(shapes[i][0] * shapes[i][1]);
            assert_int_equal(trial.outputs[0].count, planes);
            assert_int_equal(trial.outputs[0].rank, ranks[i]);
            for (size_t p = 0; p < planes; p++) {
                double sum = 0, largest = -INFINITY;
                size_t size = trial.inputs[0].count / planes;
                for (size_t j = 0; j < size; j++) {
                    sum += (double)x[p * size + j];
                    largest = fmax(largest, (double)x[p * size + j]);
                }
                /* summed in double: one rounding to float of what is below 1 */
                if (maximum)
                    assert_true((double)y[p] == largest);
                else
                    assert_true(fabs((double)y[p] - sum / (double)size) <= ldexp(1.001, -25));
            }
            /* A step that no order of two elements survives is unlikely at 2^-16: 6 planes of 40
               elements, two largest closer than 2^-15 with odds of 1 in 100; these are not. */
            trial_check_derivatives(&trial, 1, maximum ? ldexp(1, -16) : 0.25,
                                    maximum ? ldexp(1, -7) : 1e-5, 1e-5);
            trial_end(&trial);
        }
}

static void refuse(const char *op, int rank, const int64_t *shape, const char *name,
                   const int64_t *values, size_t count, bool kernel, const char *expected)
{
    struct trial trial;
    struct ivon_error error;
    trial_begin(&trial, op, 1);
    trial.node.input_count = 1;
    trial.input_list[0] = &trial.inputs[0];
    trial.inputs[0] = (struct net_tensor){.type = NET_FLOAT, .rank = rank, .count = 1};
    memcpy(trial.inputs[0].shape, shape, (size_t)rank * sizeof *shape);
    for (int i = 0; i < rank; i++)
        trial.inputs[0].count *= (size_t)shape[i];
    static const int64_t two[] = {2, 2};
    if (kernel)
        trial_ints(&trial, "kernel_shape", two, 2);
    if (name)
        trial_ints(&trial, name, values, count);
    assert_int_equal(trial.node.op->infer(&trial.call, &error), IVON_ERROR_DATA);
    if (!strstr(error.message, expected))
        fail_msg("'%s' does not hold '%s'", error.message, expected);
    trial_end(&trial);
}

static void refuses(void **state)
{
    (void)state;
    const int64_t x[] = {2, 4, 8, 8, 8}, most = INT32_MAX;
#define ALL(v)                                                                                     \
    (const int64_t[])                                                                              \
    {                                                                                              \
        v, v, v, v                                                                                 \
    }
    for (int i = 0; i < 2; i++) {
        const char *op = i ? "MaxPool" : "AveragePool";
        refuse(op, 4, x, NULL, NULL, 0, false, "kernel_shape is missing");
        refuse(op, 5, x, NULL, NULL, 0, true, "2 values, expected 3");
        refuse(op, 2, x, NULL, NULL, 0, true, "input of shape 2x4");
        refuse(op, 4, x, "kernel_shape", ALL(0), 2, false, "kernel_shape has a value 0");
        refuse(op, 4, x, "kernel_shape", ALL(9), 2, false, "does not fit axis 2");
        refuse(op, 4, x, "kernel_shape", ALL(2), 1, false, "1 values, expected 2");
        refuse(op, 4, x, "strides", ALL(0), 2, true, "strides has a value 0");
        refuse(op, 4, x, "strides", ALL(INT64_MAX), 2, true, "strides has a value");
        refuse(op, 4, x, "pads", ALL(-1), 4, true, "pads has a value -1");
        refuse(op, 4, x, "pads", ALL(2), 4, true, "pads as large as its kernel");
        refuse(op, 4, x, "pads", ALL(most), 4, true, "does not fit axis 2");
        refuse(op, 4, (const int64_t[]){1, 1, 0, 4}, NULL, NULL, 0, true, "does not fit axis 2");
    }
    refuse("MaxPool", 4, x, "dilations", ALL(most), 2, true, "does not fit axis 2");
    refuse("MaxPool", 4, x, "dilations", ALL(0), 2, true, "dilations has a value 0");
    refuse("GlobalAveragePool", 2, x, NULL, NULL, 0, false, "input of shape 2x4");
    refuse("GlobalMaxPool", 4, (const int64_t[]){1, 1, 0, 4}, NULL, NULL, 0, false, "1x1x0x4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(windows), cmocka_unit_test(not_a_number),
                                       cmocka_unit_test(padding_alone), cmocka_unit_test(global),
                                       cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
