/* Conv against sums in double over random shapes and attributes, its derivatives, what single
   images add to them, hostile attributes. */
#include "operator.h"

#include "net/ops/convolution/convolution.h"
#include "net/ops/convolution/reference.h"
#include "net/ops/product/panel.h"

/* What a case asks for; two spatial axes, of which the first is not there in one dimension. */
struct shape {
    int axes;
    int64_t images, groups, channels, filters;                    /* of a group */
    int64_t input[2], kernel[2], stride[2], dilation[2], pads[4]; /* before, before, after, after */
    bool bias;
};

static int64_t pick(struct trial *trial, int64_t low, int64_t high)
{
    return low + (int64_t)trial_random(trial, 0, (double)(high - low + 1) - 1e-3);
}

static void begin(struct trial *trial, const struct shape *s)
{
    trial_begin(trial, "Conv", 1);
    size_t skip = s->axes == 1;
    int64_t x[4] = {s->images, s->groups * s->channels, s->input[skip], s->input[1]};
    int64_t w[4] = {s->groups * s->filters, s->channels, s->kernel[skip], s->kernel[1]};
    trial_floats(trial, 2 + s->axes, x, NULL, -1, 1);
    trial_floats(trial, 2 + s->axes, w, NULL, -1, 1);
    if (s->bias)
        trial_floats(trial, 1, w, NULL, -1, 1);
    static const int64_t alone[2] = {1, 3};
    int64_t pads[2] = {s->pads[alone[0]], s->pads[alone[1]]};
    trial_ints(trial, "kernel_shape", s->kernel + skip, (size_t)s->axes);
    trial_ints(trial, "strides", s->stride + skip, (size_t)s->axes);
    trial_ints(trial, "dilations", s->dilation + skip, (size_t)s->axes);
    trial_ints(trial, "pads",
               s->axes == 1 ? memcpy(trial->attributes[9].tensor.shape, pads, 16) : s->pads,
               2 * (size_t)s->axes);
    trial_int(trial, "group", s->groups);
}

static int64_t output_extent(const struct shape *s, int axis)
{
    return (s->input[axis] + s->pads[axis] + s->pads[2 + axis] -
            (s->kernel[axis] - 1) * s->dilation[axis] - 1) /
               s->stride[axis] +
           1;
}

/* One output, and the sum of the sizes of its terms. */
static double reference(const struct trial *trial, const struct shape *s, int64_t image,
                        int64_t filter, int64_t y, int64_t x, double *size)
{
    struct net_window window = {.before = {s->pads[0], s->pads[1]}};
    memcpy(window.input, s->input, sizeof window.input);
    memcpy(window.kernel, s->kernel, sizeof window.kernel);
    memcpy(window.stride, s->stride, sizeof window.stride);
    memcpy(window.dilation, s->dilation, sizeof window.dilation);
    double bias = s->bias ? (double)((float *)trial->inputs[2].data)[filter] : 0;
    double sum = convolution_reference(&window, s->groups, s->channels, s->filters,
                                       trial->inputs[0].data, trial->inputs[1].data, image, filter,
                                       y, x, size);
    *size += fabs(bias);
    return sum + bias;
}

/* Sums of k products in any order: within (k + 1) 2^-24 of the sum of their sizes (Higham,
   Accuracy and Stability, 2002, eq. 3.5, to first order); the bias adds one. */
static void check_forward(const struct trial *trial, const struct shape *s)
{
    int64_t height = output_extent(s, 0), width = output_extent(s, 1);
    const struct net_tensor *y = &trial->outputs[0];
    assert_int_equal(y->rank, 2 + s->axes);
    assert_int_equal(y->shape[0], s->images);
    assert_int_equal(y->shape[1], s->groups * s->filters);
    assert_int_equal(y->shape[1 + s->axes], width);
    assert_int_equal(y->count, s->images * s->groups * s->filters * height * width);
    if (((const struct convolution_plan *)trial->call.prepared)->winograd.used)
        return; /* winograd.c has the bound of these */
    double bound = (double)(s->channels * s->kernel[0] * s->kernel[1] + 2) * ldexp(1, -24);
    const float *found = y->data;
    for (int64_t n = 0; n < s->images; n++)
        for (int64_t m = 0; m < s->groups * s->filters; m++)
            for (int64_t i = 0; i < height; i++)
                for (int64_t j = 0; j < width; j++) {
                    double size, expected = reference(trial, s, n, m, i, j, &size);
                    if (!(fabs((double)*found++ - expected) <= bound * size))
                        fail_msg("image %d, filter %d, %d, %d: %.9g, expected %.9g", (int)n, (int)m,
                                 (int)i, (int)j, (double)found[-1], expected);
                }
}

static void random_shape(struct trial *trial, uint64_t seed, struct shape *s)
{
    trial->state = seed * 7919 + 1;
    *s = (struct shape){.axes = seed % 4 ? 2 : 1,
                        .images = pick(trial, 1, 3),
                        .groups = pick(trial, 0, 2) ? 1 : pick(trial, 2, 3),
                        .channels = pick(trial, 1, 5),
                        .filters = pick(trial, 1, seed % 5 ? 7 : 60),
                        .kernel = {1, 1},
                        .stride = {1, 1},
                        .dilation = {1, 1},
                        .input = {1, 1},
                        .bias = seed % 3};
    for (int i = s->axes == 1; i < 2; i++) {
        s->kernel[i] = pick(trial, 1, 4);
        s->stride[i] = pick(trial, 0, 1) ? 1 : pick(trial, 2, 5);
        s->dilation[i] = pick(trial, 0, 1) ? 1 : pick(trial, 2, 3);
        s->pads[i] = pick(trial, 0, 1) ? pick(trial, 0, 4) : 0;
        s->pads[2 + i] = pick(trial, 0, 1) ? pick(trial, 0, 4) : 0;
        int64_t reach = (s->kernel[i] - 1) * s->dilation[i] + 1;
        int64_t low = reach - s->pads[i] - s->pads[2 + i];
        s->input[i] = pick(trial, low > 1 ? low : 1, seed % 7 ? 13 : 40);
        if (s->input[i] < low)
            s->input[i] = low;
    }
}

/* Outputs of up to about sqrt(80), whose difference rounds to 8 * 2^-24 / step; the function is
   bilinear, so central differences have no other error. The identity sums up to 80 products, or the
   outputs of 3 images of 40 * 40, in float. */
static void check(const struct shape *s)
{
    struct trial trial;
    begin(&trial, s);
    assert_int_equal(trial_run(&trial, NULL), 0);
    check_forward(&trial, s);
    trial_check_derivatives(&trial, 7, 0.25, 1e-4, 1e-5);
    size_t images = (size_t)s->images;
    for (size_t input = 1; input < (s->bias ? 3U : 2U); input++)
        trial_check_examples(&trial, input, 6, images, 1e-5);
    trial_end(&trial);
}

static void random_shapes(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 250; seed++) {
        struct trial trial;
        struct shape s;
        random_shape(&trial, seed, &s);
        check(&s);
    }
}

/* Groups of a channel and a filter, of kernels that read the images where they lie, up to several
   bands of rows. */
static void depthwise_shapes(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 120; seed++) {
        struct trial trial;
        struct shape s;
        random_shape(&trial, 4 * seed + 1, &s);
        s.groups = pick(&trial, 1, 4);
        s.channels = s.filters = 1;
        for (int i = 0; i < 2; i++) {
            s.kernel[i] = seed % 2 ? 3 : 5;
            s.dilation[i] = 1;
            s.stride[i] = seed % 6 < 2 ? 1 : pick(&trial, 1, 2);
            s.input[i] = pick(&trial, s.kernel[i], seed % 10 ? 50 : 110);
        }
        check(&s);
    }
}

/* The layers of LeNet-5 and ResNet-20, 1 x 1 and depthwise ones, and what is packed in several
   pieces. */
static void real_shapes(void **state)
{
    (void)state;
#define SQUARE(x)                                                                                  \
    {                                                                                              \
        x, x                                                                                       \
    }
#define LAYER(n, g, c, m, i, k, s, p)                                                              \
    {                                                                                              \
        .axes = 2, .images = n, .groups = g, .channels = c, .filters = m, .input = SQUARE(i),      \
        .kernel = SQUARE(k), .stride = SQUARE(s), .dilation = SQUARE(1), .pads = {p, p, p, p},     \
        .bias = true                                                                               \
    }
    static const struct shape layers[] = {
        LAYER(2, 1, 3, 6, 32, 5, 1, 2),   LAYER(2, 1, 6, 16, 16, 5, 1, 0),
        LAYER(5, 1, 16, 120, 6, 5, 1, 0), LAYER(3, 1, 16, 120, 5, 5, 1, 0),
        LAYER(1, 1, 16, 16, 32, 3, 1, 1), LAYER(1, 1, 16, 32, 32, 3, 2, 1),
        LAYER(3, 1, 64, 64, 8, 3, 1, 1),  LAYER(1, 1, 16, 32, 32, 1, 2, 0),
        LAYER(2, 1, 70, 9, 7, 1, 1, 0),   LAYER(2, 12, 1, 1, 20, 3, 1, 1),
        LAYER(1, 8, 1, 2, 31, 3, 2, 1),   LAYER(1, 1, 100, 3, 30, 3, 1, 1),
        LAYER(1, 1, 1, 1, 700, 2, 1, 0),  LAYER(2, 2, 1, 2, 600, 1, 1, 0),
        LAYER(2, 1, 900, 2, 4, 3, 1, 1),  LAYER(2, 1, 2, 3, 120, 3, 4, 1),
        LAYER(1, 1, 3, 20, 95, 5, 3, 0),
    };
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++)
        check(&layers[i]);
    /* One output each, of a kernel as large as the image: all of the image, or not quite. */
    static const struct shape single[] = {
        {2, 3, 1, 2, 4, {3, 4}, {3, 4}, {1, 1}, {1, 1}, {0, 0, 0, 0}, true},
        {2, 3, 1, 2, 4, {3, 3}, {3, 3}, {2, 2}, {1, 1}, {1, 1, 0, 0}, true},
        {2, 3, 1, 2, 4, {3, 3}, {3, 3}, {2, 1}, {1, 1}, {1, 0, 0, 0}, true},
        {2, 3, 1, 2, 4, {3, 3}, {3, 3}, {1, 2}, {1, 1}, {0, 1, 0, 0}, true},
        {2, 3, 1, 2, 4, {2, 2}, {2, 2}, {1, 1}, {2, 2}, {0, 0, 1, 1}, true},
        {2, 3, 1, 2, 4, {2, 3}, {2, 3}, {1, 1}, {2, 1}, {0, 0, 1, 0}, false},
        {2, 3, 1, 2, 4, {3, 2}, {3, 2}, {1, 1}, {1, 2}, {0, 0, 0, 1}, false},
        {2, 3, 1, 2, 4, {1, 1}, {1, 1}, {1, 1}, {2, 2}, {0, 0, 0, 0}, false},
        {2, 3, 2, 2, 4, {40, 5}, {9, 2}, {3, 1}, {2, 1}, {4, 0, 4, 1}, true},
        {2, 3, 2, 2, 4, {5, 40}, {2, 9}, {1, 3}, {1, 2}, {0, 4, 1, 4}, true},
        {2, 3, 2, 2, 4, {2, 2}, {2, 2}, {1, 1}, {1, 1}, {0, 0, 0, 0}, true},
    };
    for (size_t i = 0; i < sizeof single / sizeof single[0]; i++)
        check(&single[i]);
}

/* auto_pad against the pads that it stands for. */
static void automatic_pads(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct trial explicit, automatic;
        struct shape s;
        random_shape(&explicit, 4 * seed + 1, &s);
        static const char *const modes[] = {"SAME_UPPER", "SAME_LOWER", "VALID"};
        size_t mode = seed % 3;
        for (int i = 0; i < 2; i++) {
            int64_t reach = (s.kernel[i] - 1) * s.dilation[i] + 1;
            if (s.input[i] < reach)
                s.input[i] = reach;
            int64_t output = (s.input[i] + s.stride[i] - 1) / s.stride[i];
            int64_t total = (output - 1) * s.stride[i] + reach - s.input[i];
            total = mode == 2 || total < 0 ? 0 : total;
            s.pads[i] = mode == 0 ? total / 2 : total - total / 2;
            s.pads[2 + i] = total - s.pads[i];
        }
        begin(&explicit, &s);
        assert_int_equal(trial_run(&explicit, NULL), 0);
        begin(&automatic, &s);
        automatic.attributes[3] = automatic.attributes[4]; /* in place of the pads */
        automatic.node.attribute_count--;
        trial_text(&automatic, "auto_pad", modes[mode]);
        assert_int_equal(trial_run(&automatic, NULL), 0);
        assert_int_equal(automatic.outputs[0].rank, explicit.outputs[0].rank);
        assert_memory_equal(automatic.outputs[0].shape, explicit.outputs[0].shape,
                            4 * sizeof(int64_t));
        assert_memory_equal(automatic.outputs[0].data, explicit.outputs[0].data,
                            explicit.outputs[0].count * sizeof(float));
        trial_end(&explicit);
        trial_end(&automatic);
    }
}

static float *input_adjoint(struct trial *trial)
{
    float *wanted[3] = {calloc(trial->inputs[0].count, sizeof(float)), NULL, NULL};
    const float *dy = trial->outputs[0].data;
    trial->node.op->backward(&trial->call, &dy, wanted);
    return wanted[0];
}

/* The bits of an image's output, and of its input's adjoint for an output adjoint that is its
   output, do not depend on the images beside it. */
static void batches(void **state)
{
    (void)state;
    static const struct shape layers[] = {
        LAYER(7, 1, 16, 120, 6, 5, 1, 0), LAYER(7, 1, 3, 6, 32, 5, 1, 2),
        LAYER(7, 1, 64, 64, 8, 3, 1, 1),  LAYER(7, 1, 5, 9, 5, 3, 1, 0),
        LAYER(7, 1, 16, 32, 9, 3, 2, 1),  LAYER(7, 3, 1, 1, 14, 3, 1, 1),
        LAYER(7, 5, 1, 1, 7, 5, 1, 2),    LAYER(7, 1, 4, 5, 11, 3, 3, 0),
        LAYER(7, 1, 6, 4, 60, 3, 2, 1)};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        struct trial all, one;
        struct shape alone = layers[i];
        alone.images = 1;
        begin(&all, &layers[i]);
        assert_int_equal(trial_run(&all, NULL), 0);
        float *of_all = input_adjoint(&all);
        for (size_t image = 0; image < 7; image++) {
            begin(&one, &alone);
            memcpy(one.inputs[0].data, (float *)all.inputs[0].data + image * one.inputs[0].count,
                   one.inputs[0].count * sizeof(float));
            for (size_t j = 1; j < 3; j++)
                memcpy(one.inputs[j].data, all.inputs[j].data, one.inputs[j].count * sizeof(float));
            assert_int_equal(trial_run(&one, NULL), 0);
            assert_memory_equal(one.outputs[0].data,
                                (float *)all.outputs[0].data + image * one.outputs[0].count,
                                one.outputs[0].count * sizeof(float));
            float *of_one = input_adjoint(&one);
            size_t count = one.inputs[0].count;
            assert_memory_equal(of_one, of_all + image * count, count * sizeof *of_one);
            free(of_one);
            trial_end(&one);
        }
        free(of_all);
        trial_end(&all);
    }
}

/* Every instruction set gives the bits of the plain sums, term after term. */
static void bits(void **state)
{
    (void)state;
    enum { TERMS = 29, FIRST = 11, ROWS = 14, STRIDE = 80 };
    struct trial trial = {.state = 1};
    float weights[ROWS * TERMS], bias[ROWS], columns[600], found[ROWS * STRIDE];
    size_t offsets[TERMS];
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        weights[i] = trial_random(&trial, -1, 1);
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        columns[i] = trial_random(&trial, -1, 1);
    for (size_t i = 0; i < ROWS; i++)
        bias[i] = trial_random(&trial, -1, 1);
    for (size_t i = 0; i < TERMS; i++)
        offsets[i] = (size_t)trial_random(&trial, 0, 600 - PANEL_WIDTH);
    for (size_t rows = 1; rows <= ROWS; rows++)
        for (size_t width = PANEL_STEP; width <= PANEL_WIDTH; width += PANEL_STEP)
            for (int biased = 0; biased < 2; biased++) {
                struct net_panel panel = {.weights = weights,
                                          .stride = TERMS,
                                          .bias = biased ? bias : NULL,
                                          .terms = FIRST,
                                          .offsets = offsets};
                memset(found, 0xff, sizeof found);
                net_panel_run(&panel, columns, rows, width, found, STRIDE);
                panel.weights += FIRST;
                panel.offsets += FIRST;
                panel.terms = TERMS - FIRST;
                panel.resume = true;
                net_panel_run(&panel, columns, rows, width, found, STRIDE);
                for (size_t i = 0; i < ROWS; i++)
                    for (size_t j = 0; j < STRIDE; j++) {
                        float sum = biased ? bias[i] : 0;
                        for (size_t q = 0; q < TERMS; q++)
                            sum = fmaf(weights[i * TERMS + q], columns[offsets[q] + j % width],
                                       sum);
                        if (i < rows && j < width)
                            assert_true(found[i * STRIDE + j] == sum);
                        else
                            assert_true(isnan(found[i * STRIDE + j])); /* not touched */
                    }
            }
}

/* ConvTranspose. */

/* The forward pass is the adjoint of the convolution from its output to its input, bit by bit. The
   derivatives are those of a bilinear function, as above. */
static void transposes(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct trial forward, trial;
        struct shape s;
        random_shape(&forward, seed, &s);
        s.bias = false;
        begin(&forward, &s);
        assert_int_equal(trial_run(&forward, NULL), 0);
        float *expected = input_adjoint(&forward);
        begin(&trial, &s);
        trial.node.op = net_operator_find(NULL, "ConvTranspose", NET_OPSET_MOST);
        const struct net_tensor *y = &forward.outputs[0];
        struct net_tensor *x = &trial.inputs[0];
        free(x->data);
        assert_int_equal(net_tensor_set(x, NET_FLOAT, y->rank, y->shape, NULL), 0);
        assert_int_equal(net_tensor_allocate(x, NULL), 0);
        memcpy(x->data, y->data, y->count * sizeof(float));
        int64_t longer[2];
        for (int i = 0; i < 2; i++)
            longer[i] = s.input[i] + s.pads[i] + s.pads[2 + i] -
                        ((output_extent(&s, i) - 1) * s.stride[i] +
                         (s.kernel[i] - 1) * s.dilation[i] + 1);
        trial_ints(&trial, "output_padding", longer + 2 - s.axes, (size_t)s.axes);
        assert_int_equal(trial_run(&trial, NULL), 0);
        assert_int_equal(trial.outputs[0].count, forward.inputs[0].count);
        assert_memory_equal(trial.outputs[0].data, expected,
                            trial.outputs[0].count * sizeof(float));
        trial_check_derivatives(&trial, 7, 0.25, 1e-4, 1e-5);
        trial_check_examples(&trial, 1, 6, (size_t)s.images, 1e-5);
        free(expected);
        trial_end(&trial);
        trial_end(&forward);
    }
}

/* Infers alone: shapes without elements. */
static void refuse_by(const char *op, int rank_x, const int64_t *x, int rank_w, const int64_t *w,
                      const char *name, const int64_t *values, size_t count, const char *expected)
{
    struct trial trial;
    struct ivon_error error;
    trial_begin(&trial, op, 1);
    trial.node.input_count = 2;
    trial.input_list[0] = &trial.inputs[0];
    trial.input_list[1] = &trial.inputs[1];
    trial.inputs[0] = (struct net_tensor){.type = NET_FLOAT, .rank = rank_x};
    trial.inputs[1] = (struct net_tensor){.type = NET_FLOAT, .rank = rank_w};
    memcpy(trial.inputs[0].shape, x, (size_t)rank_x * sizeof *x);
    memcpy(trial.inputs[1].shape, w, (size_t)rank_w * sizeof *w);
    if (count)
        trial_ints(&trial, name, values, count);
    else if (name)
        trial_int(&trial, name, *values);
    assert_int_equal(trial.node.op->infer(&trial.call, &error), IVON_ERROR_DATA);
    if (!strstr(error.message, expected))
        fail_msg("'%s' does not hold '%s'", error.message, expected);
    trial_end(&trial);
}

static void refuse(int rank_x, const int64_t *x, int rank_w, const int64_t *w, const char *name,
                   const int64_t *values, size_t count, const char *expected)
{
    refuse_by("Conv", rank_x, x, rank_w, w, name, values, count, expected);
}

static void refuses(void **state)
{
    (void)state;
    const int64_t x[] = {2, 4, 8, 8, 8}, w[] = {6, 4, 3, 3, 3}, huge = INT64_MAX, most = INT32_MAX;
#define ALL(v) (const int64_t[]){v, v, v, v}
    refuse(5, x, 5, (const int64_t[]){6, 4, 3, 9, 3}, NULL, NULL, 0, "does not fit axis 3");
    refuse(5, x, 5, w, "strides", ALL(1), 2, "strides has 2 values, expected 3");
    refuse(2, x, 2, w, NULL, NULL, 0, "weights of shape 6x4 for an input of shape 2x4");
    refuse(4, x, 3, w, NULL, NULL, 0, "weights of shape 6x4x3 for an input of shape 2x4x8x8");
    refuse(4, x, 4, (const int64_t[]){6, 3, 3, 3}, NULL, NULL, 0, "6x3x3x3 for an input");
    refuse(4, x, 4, (const int64_t[]){6, 1, 3, 3}, "group", ALL(4), 0, "in 4 groups");
    refuse(4, x, 4, w, "group", ALL(0), 0, "in 0 groups");
    refuse(4, x, 4, w, "group", ALL(-1), 0, "in -1 groups");
    refuse(4, x, 4, w, "group", ALL(INT64_MIN), 0, "groups");
    refuse(4, x, 4, (const int64_t[]){0, 4, 3, 3}, NULL, NULL, 0, "0x4x3x3");
    refuse(4, (const int64_t[]){1, 0, 8, 8}, 4, (const int64_t[]){6, 0, 3, 3}, NULL, NULL, 0,
           "6x0");
    refuse(4, x, 4, (const int64_t[]){6, 4, 0, 3}, NULL, NULL, 0, "kernel 0");
    refuse(4, x, 4, (const int64_t[]){6, 4, 9, 3}, NULL, NULL, 0,
           "kernel 9 (dilation 1) does not fit axis 2 of the input 2x4x8x8, padded to 8");
    refuse(4, x, 4, (const int64_t[]){6, 4, 3, huge}, NULL, NULL, 0, "does not fit axis 3");
    refuse(4, x, 4, w, "kernel_shape", ALL(2), 2, "kernel_shape differs from the weights' shape");
    refuse(4, x, 4, w, "strides", ALL(0), 2, "strides has a value 0");
    refuse(4, x, 4, w, "strides", ALL(-1), 2, "strides has a value -1");
    refuse(4, x, 4, w, "strides", ALL(huge), 2, "strides has a value");
    refuse(4, x, 4, w, "strides", ALL(1), 3, "strides has 3 values, expected 2");
    refuse(4, x, 4, w, "dilations", ALL(most), 2, "does not fit axis 2");
    refuse(4, x, 4, w, "dilations", ALL(0), 2, "dilations has a value 0");
    refuse(4, x, 4, w, "pads", ALL(-1), 4, "pads has a value -1");
    refuse(4, x, 4, w, "pads", ALL(huge), 4, "pads has a value");
    refuse(4, x, 4, w, "pads", ALL(1), 2, "pads has 2 values, expected 4");
    refuse(4, x, 4, w, "pads", ALL(most), 4, "does not fit axis 2");
    refuse(4, x, 4, w, "pads", ALL(most / 3), 4, "too large");
    refuse(4, (const int64_t[]){huge, 4, 8, 8}, 4, w, NULL, NULL, 0, "too large");
    refuse(4, (const int64_t[]){1, most, 8, 8}, 4, (const int64_t[]){1, most, 8, 8}, NULL, NULL, 0,
           "too large");
}

static void refuses_transposes(void **state)
{
    (void)state;
    const int64_t x[] = {2, 4, 8, 8, 8}, w[] = {4, 6, 3, 3, 3}, huge = INT64_MAX, most = INT32_MAX;
    static const char op[] = "ConvTranspose";
    refuse_by(op, 2, x, 2, w, NULL, NULL, 0, "weights of shape 4x6 for an input of shape 2x4");
    refuse_by(op, 4, x, 4, (const int64_t[]){6, 4, 3, 3}, NULL, NULL, 0, "6x4x3x3 for an input");
    refuse_by(op, 4, x, 4, w, "group", ALL(3), 0, "in 3 groups");
    refuse_by(op, 4, x, 4, w, "group", ALL(-1), 0, "in -1 groups");
    refuse_by(op, 4, x, 4, (const int64_t[]){4, huge, 3, 3}, "group", ALL(4), 0, "in 4 groups");
    refuse_by(op, 4, x, 4, (const int64_t[]){4, 6, 0, 3}, NULL, NULL, 0, "kernel 0");
    refuse_by(op, 4, x, 4, w, "pads", ALL(5), 4, "axis 2 of the input 2x4x8x8 leads to an output");
    refuse_by(op, 4, x, 4, w, "pads", ALL(most), 4, "leads to an output");
    refuse_by(op, 4, x, 4, w, "strides", ALL(most), 2, "leads to an output");
    refuse_by(op, 4, x, 4, w, "dilations", ALL(most), 2, "leads to an output");
    refuse_by(op, 4, x, 4, w, "strides", ALL(1 << 20), 2, "it would make a tensor");
    refuse_by(op, 4, x, 4, w, "output_padding", ALL(-1), 2, "output_padding has a value -1");
    refuse_by(op, 4, x, 4, w, "output_padding", ALL(1), 3, "output_padding has 3 values");
    refuse_by(op, 4, x, 4, w, "output_shape", ALL(0), 2, "output_shape has a value 0");
    refuse_by(op, 4, x, 4, w, "output_shape", ALL(most), 2, "too large");
    refuse_by(op, 4, x, 4, w, "output_shape", ALL(huge), 2, "output_shape has a value");
    refuse_by(op, 4, (const int64_t[]){1, 4, 0, 8}, 4, w, NULL, NULL, 0, "axis 2 of the input");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_shapes),
        cmocka_unit_test(depthwise_shapes),
        cmocka_unit_test(real_shapes),
        cmocka_unit_test(automatic_pads),
        cmocka_unit_test(batches),
        cmocka_unit_test(bits),
        cmocka_unit_test(refuses),
        cmocka_unit_test(transposes),
        cmocka_unit_test(refuses_transposes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
