/*
 * BatchNormalization: y = (x − mean) r scale + b with r = 1/sqrt(var + epsilon), of each channel.
 *
 * In training, mean and var are those of the channel's n elements in the batch, var with its bias:
 * derivatives are those of the formula, taken further by ∂mean = Σ ∂x / n and
 * ∂var = 2 Σ (x − mean) ∂x / n. Then running_mean = mean' momentum + mean (1 − momentum), mean'
 * being the input, and running_var likewise, by var with its bias: ONNX's definition since
 * opset 14.
 */
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/normalize/normalize.h"
#include "net/ops/sum.h"

enum { SCALE = 1, BIAS, MEAN, VARIANCE };

/* x as its channels lie: with spatial = 0 each element of an example is one. */
static struct net_tensor normalized_input(const struct net_call *call)
{
    struct net_tensor x = *call->inputs[0];
    if (!net_attribute_integer(call->node, "spatial", 1)) {
        for (int i = 2; i < x.rank; i++)
            x.shape[1] *= x.shape[i];
        x.rank = 2;
    }
    return x;
}

static size_t channel_count(const struct net_tensor *x)
{
    return (size_t)x->shape[1];
}

static size_t image_count(const struct net_tensor *x)
{
    return x->count ? (size_t)x->shape[0] : 0;
}

/* Statistics. */

IVON_DISPATCH static void add_row_squares(const float *x, size_t count, double *restrict sums,
                                          double *restrict squares)
{
    for (size_t i = 0; i < count; i++) {
        sums[i] += (double)x[i];
        squares[i] += (double)x[i] * (double)x[i];
    }
}

void net_channel_sums(const struct net_tensor *x, double *sums, double *squares)
{
    size_t images = image_count(x), channels = channel_count(x), plane = net_plane(x);
    const float *from = x->data;
    for (size_t image = 0; image < images; image++, from += channels * plane) {
        if (plane == 1)
            add_row_squares(from, channels, sums, squares);
        for (size_t c = 0; c < channels && plane > 1; c++) {
            sums[c] += net_sum(from + c * plane, plane);
            squares[c] += net_sum_squares(from + c * plane, 0, plane);
        }
    }
}

size_t net_channel_moments(const struct net_tensor *x, double *mean, double *variance)
{
    size_t channels = channel_count(x), n = image_count(x) * net_plane(x);
    if (!n)
        return n;
    memset(mean, 0, channels * sizeof *mean);
    memset(variance, 0, channels * sizeof *variance);
    net_channel_sums(x, mean, variance);
    for (size_t c = 0; c < channels; c++) {
        mean[c] /= (double)n;
        variance[c] = variance[c] / (double)n - mean[c] * mean[c];
        variance[c] = variance[c] < 0 ? 0 : variance[c]; /* by rounding; NaN stays */
    }
    return n;
}

double net_unbiased(double variance, size_t n)
{
    return n > 1 ? variance * (double)n / (double)(n - 1) : variance;
}

/* The batch statistics of a call in training: means, then variances. */
struct batch {
    size_t count, channels;
    double moments[];
};

struct net_batch net_batch_statistics(const struct net_call *call)
{
    const struct batch *batch = call->prepared;
    if (!batch)
        return (struct net_batch){0};
    return (struct net_batch){batch->count, batch->moments, batch->moments + batch->channels};
}

/* Shapes. */

static bool wants(const struct net_call *call, size_t output)
{
    return output < call->node->output_count && call->outputs[output];
}

/* The workspace: for each channel the sums of an adjoint or tangent, and the coefficients of
   maps. */
struct scratch {
    double *sums, *products;
    float *zeros, *slope, *center, *x_slope, *offset;
};

enum { SCRATCH_SIZE = 2 * sizeof(double) + 5 * sizeof(float) };

static struct scratch scratch_of_call(const struct net_call *call)
{
    struct net_tensor x = normalized_input(call);
    size_t channels = channel_count(&x);
    struct scratch scratch = {.sums = call->workspace};
    scratch.products = scratch.sums + channels;
    scratch.zeros = (float *)(scratch.products + channels);
    scratch.slope = scratch.zeros + channels;
    scratch.center = scratch.slope + channels;
    scratch.x_slope = scratch.center + channels;
    scratch.offset = scratch.x_slope + channels;
    return scratch;
}

static int prepare_batch(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    size_t channels = channel_count(x), count = image_count(x) * net_plane(x);
    size_t least = call->training ? 2 : 1; /* with one element, x − mean is zero */
    if (count < least)
        return net_fail(call, error,
                        "a batch has %zu element%s of each channel to take mean and variance of, "
                        "expected at least %zu",
                        count, count == 1 ? "" : "s", least);
    struct batch *batch = net_prepare(call, sizeof *batch + 2 * channels * sizeof *batch->moments,
                                      error);
    if (!batch)
        return IVON_ERROR_MEMORY;
    batch->channels = channels;
    int code = 0;
    for (size_t i = 1; i <= 2 && !code; i++)
        if (wants(call, i))
            code = net_tensor_set(call->outputs[i], NET_FLOAT, 1, x->shape + 1, error);
    return code;
}

/* Before opset 14 a node may have four more outputs. In evaluation, the only form that is
   computed, they mean nothing and hold the running statistics. */
static int infer_statistics(const struct net_call *call, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 1; i < call->node->output_count && !code; i++)
        if (wants(call, i))
            code = net_tensor_set(call->outputs[i], NET_FLOAT, call->inputs[MEAN]->rank,
                                  call->inputs[MEAN]->shape, error);
    return code;
}

/* With spatial = 0, the shape is that of an example. */
static int expect_statistics(const struct net_call *call, size_t input, struct ivon_error *error)
{
    if (net_attribute_integer(call->node, "spatial", 1))
        return net_expect_channels(call, input, error);
    char found[256], expected[256];
    int code = net_expect_float(call, input, error);
    const struct net_tensor *x = call->inputs[0], *values = call->inputs[input];
    if (!code &&
        (values->rank != x->rank - 1 ||
         memcmp(values->shape, x->shape + 1, (size_t)values->rank * sizeof *x->shape) != 0))
        return net_fail(call, error, "input %zu of shape %s, for examples of an input of shape %s",
                        input, net_shape_text(values, found), net_shape_text(x, expected));
    return code;
}

static int infer_batch(struct net_call *call, struct ivon_error *error)
{
    int code = net_expect_rank(call, 2, error);
    for (size_t i = SCALE; i <= VARIANCE && !code; i++)
        code = expect_statistics(call, i, error);
    if (code)
        return code;
    bool training = net_attribute_integer(call->node, "training_mode", 0) != 0;
    bool statistics = call->node->op->outputs_max == 5;
    if (!statistics && !training && (wants(call, 1) || wants(call, 2)))
        return net_fail(call, error,
                        "normalizes by the statistics of each batch; export the network in "
                        "evaluation mode");
    const struct net_tensor *x = call->inputs[0];
    size_t channels = call->inputs[SCALE]->count;
    if (channels > SIZE_MAX / 2 / SCRATCH_SIZE)
        return net_fail(call, error, "it has too many channels");
    call->workspace_size = channels * SCRATCH_SIZE;
    code = net_tensor_set(call->outputs[0], NET_FLOAT, x->rank, x->shape, error);
    if (!code && statistics)
        code = infer_statistics(call, error);
    return !code && (training || call->training) ? prepare_batch(call, error) : code;
}

/* A channel's numbers. */

static double channel_value(const struct net_call *call, size_t input, size_t c)
{
    return (double)((const float *)call->inputs[input]->data)[c];
}

static double batch_normalization_mean(const struct net_call *call, size_t c)
{
    return call->prepared ? net_batch_statistics(call).mean[c] : channel_value(call, MEAN, c);
}

/* 1/sqrt(var + epsilon) */
static double inverse_deviation(const struct net_call *call, size_t c)
{
    double variance = call->prepared ? net_batch_statistics(call).variance[c]
                                     : channel_value(call, VARIANCE, c);
    return 1 / sqrt(variance + net_attribute_number(call->node, "epsilon", (double)1e-5F));
}

static double running_momentum(const struct net_call *call)
{
    return net_attribute_number(call->node, "momentum", (double)0.9F);
}

/* Affine maps of all elements, (x − center) slope + offset, with coefficients for each channel. */

IVON_DISPATCH static void set_plane(float *y, const float *x, float center, float slope,
                                    float offset, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = (x[i] - center) * slope + offset;
}

IVON_DISPATCH static void set_row(float *y, const float *x, const float *center, const float *slope,
                                  const float *offset, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = (x[i] - center[i]) * slope[i] + offset[i];
}

IVON_DISPATCH static void add_plane(float *restrict y, const float *restrict x, float center,
                                    float slope, float offset, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] += (x[i] - center) * slope + offset;
}

IVON_DISPATCH static void batch_normalization_add_row(float *restrict y, const float *restrict x,
                                                      const float *center, const float *slope,
                                                      const float *offset, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] += (x[i] - center[i]) * slope[i] + offset[i];
}

/* y = the map of x; x may be y. */
static void set_map(const struct net_tensor *shape, float *y, const float *x, const float *center,
                    const float *slope, const float *offset)
{
    size_t channels = channel_count(shape), plane = net_plane(shape);
    for (size_t image = 0; image < image_count(shape); image++)
        if (plane == 1) {
            set_row(y, x, center, slope, offset, channels);
            x += channels;
            y += channels;
        } else {
            for (size_t c = 0; c < channels; c++, x += plane, y += plane)
                set_plane(y, x, center[c], slope[c], offset[c], plane);
        }
}

/* y += the map of x. */
static void add_map(const struct net_tensor *shape, float *y, const float *x, const float *center,
                    const float *slope, const float *offset)
{
    size_t channels = channel_count(shape), plane = net_plane(shape);
    for (size_t image = 0; image < image_count(shape); image++)
        if (plane == 1) {
            batch_normalization_add_row(y, x, center, slope, offset, channels);
            x += channels;
            y += channels;
        } else {
            for (size_t c = 0; c < channels; c++, x += plane, y += plane)
                add_plane(y, x, center[c], slope[c], offset[c], plane);
        }
}

/* The operator. */

static void batch_normalization_update_running(const struct net_call *call, size_t output,
                                               size_t input, const double *batch)
{
    if (!wants(call, output))
        return;
    float *running = call->outputs[output]->data;
    double momentum = running_momentum(call);
    for (size_t c = 0; c < call->inputs[input]->count; c++)
        running[c] = (float)(channel_value(call, input, c) * momentum + batch[c] * (1 - momentum));
}

void net_batch_coefficients(const struct net_call *call, float *center, float *slope, float *offset)
{
    const struct net_tensor view = normalized_input(call);
    for (size_t c = 0; c < channel_count(&view); c++) {
        center[c] = (float)batch_normalization_mean(call, c);
        slope[c] = (float)(channel_value(call, SCALE, c) * inverse_deviation(call, c));
        offset[c] = (float)channel_value(call, BIAS, c);
    }
}

void net_batch_map(float *y, const float *x, float center, float slope, float offset, size_t count)
{
    set_plane(y, x, center, slope, offset, count);
}

/* The input that output `output` of an older version has a copy of: mean, var, mean, var. */
static size_t running_input(size_t output)
{
    return output % 2 ? MEAN : VARIANCE;
}

static int forward_batch(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    struct net_tensor view = normalized_input(call), *x = &view;
    struct scratch scratch = scratch_of_call(call);
    struct batch *batch = call->prepared;
    size_t channels = channel_count(x);
    if (batch) { /* before y is set, which may overwrite an input */
        batch->count = net_channel_moments(x, batch->moments, batch->moments + channels);
        batch_normalization_update_running(call, 1, MEAN, batch->moments);
        batch_normalization_update_running(call, 2, VARIANCE, batch->moments + channels);
    }
    for (size_t i = batch ? 3 : 1; i < call->node->output_count; i++)
        if (wants(call, i))
            memcpy(call->outputs[i]->data, call->inputs[running_input(i)]->data,
                   channels * sizeof(float));
    net_batch_coefficients(call, scratch.center, scratch.slope, scratch.offset);
    set_map(x, call->outputs[0]->data, x->data, scratch.center, scratch.slope, scratch.offset);
    return 0;
}

IVON_DISPATCH static void add_row_products(const float *a, const float *x, size_t count,
                                           double *restrict sums, double *restrict products)
{
    for (size_t i = 0; i < count; i++) {
        sums[i] += (double)a[i];
        products[i] += (double)a[i] * (double)x[i];
    }
}

/* sums[c] = Σ a and products[c] = Σ a (x − mean); zero if `a` is null. */
static void sum_channels(const struct net_call *call, const float *a, struct scratch *scratch)
{
    struct net_tensor view = normalized_input(call), *tensor = &view;
    size_t channels = channel_count(tensor), plane = net_plane(tensor);
    memset(scratch->sums, 0, 2 * channels * sizeof *scratch->sums);
    if (!a)
        return;
    const float *x = tensor->data;
    for (size_t i = 0; i < image_count(tensor); i++, a += channels * plane, x += channels * plane) {
        if (plane == 1)
            add_row_products(a, x, channels, scratch->sums, scratch->products);
        for (size_t c = 0; c < channels && plane > 1; c++) {
            scratch->sums[c] += net_sum(a + c * plane, plane);
            scratch->products[c] += net_sum_products(a + c * plane, x + c * plane, plane);
        }
    }
    for (size_t c = 0; c < channels; c++)
        scratch->products[c] -= batch_normalization_mean(call, c) * scratch->sums[c];
}

/* The adjoints of a channel's scale, bias, mean and variance, from the sums of dy. */
static void channel_adjoints(const struct net_call *call, size_t c, const struct scratch *scratch,
                             double adjoints[5])
{
    double inverse = inverse_deviation(call, c), scale = channel_value(call, SCALE, c);
    double sum = scratch->sums[c], product = scratch->products[c];
    adjoints[SCALE] = product * inverse;
    adjoints[BIAS] = sum;
    adjoints[MEAN] = -sum * inverse * scale;
    adjoints[VARIANCE] = -0.5 * product * scale * inverse * inverse * inverse;
}

/* In training: adds the adjoints of mean and var to x's, and sets those of the inputs. */
static void add_statistics_adjoints(const struct net_call *call, size_t c,
                                    const float *const *output_adjoints,
                                    const struct scratch *scratch, double adjoints[5])
{
    double n = (double)net_batch_statistics(call).count, momentum = running_momentum(call);
    for (size_t i = MEAN; i <= VARIANCE; i++) {
        size_t output = i - MEAN + 1;
        double running = wants(call, output) && output_adjoints[output]
                             ? (double)output_adjoints[output][c]
                             : 0;
        double batch_adjoint = adjoints[i] + (1 - momentum) * running;
        adjoints[i] = momentum * running;
        if (i == MEAN)
            scratch->offset[c] = (float)(batch_adjoint / n);
        else
            scratch->x_slope[c] = (float)(2 * batch_adjoint / n);
    }
}

/* The outputs of older versions that are copies of running statistics. */
static void add_copies_adjoints(const struct net_call *call, const float *const *output_adjoints,
                                float *const *input_adjoints)
{
    for (size_t i = call->prepared ? 3 : 1; i < call->node->output_count; i++) {
        float *to = input_adjoints[running_input(i)];
        for (size_t c = 0; to && output_adjoints[i] && c < call->inputs[MEAN]->count; c++)
            to[c] += output_adjoints[i][c];
    }
}

static void backward_batch(const struct net_call *call, const float *const *output_adjoints,
                           float *const *input_adjoints)
{
    struct net_tensor view = normalized_input(call), *x = &view;
    const float *dy = output_adjoints[0];
    float *dx = input_adjoints[0];
    struct scratch scratch = scratch_of_call(call);
    sum_channels(call, dy, &scratch);
    for (size_t c = 0; c < channel_count(x); c++) {
        double adjoints[5];
        channel_adjoints(call, c, &scratch, adjoints);
        scratch.zeros[c] = 0;
        scratch.center[c] = (float)batch_normalization_mean(call, c);
        scratch.slope[c] = (float)(channel_value(call, SCALE, c) * inverse_deviation(call, c));
        if (call->prepared)
            add_statistics_adjoints(call, c, output_adjoints, &scratch, adjoints);
        for (size_t i = SCALE; i <= VARIANCE; i++)
            if (input_adjoints[i])
                input_adjoints[i][c] += (float)adjoints[i];
    }
    add_copies_adjoints(call, output_adjoints, input_adjoints);
    if (dx && dy)
        add_map(x, dx, dy, scratch.zeros, scratch.slope, scratch.zeros);
    if (dx && call->prepared)
        add_map(x, dx, x->data, scratch.center, scratch.x_slope, scratch.offset);
}

/* In training: the tangents of mean and var from the sums of ẋ; sets those of the running
   outputs. */
static void batch_normalization_statistics_tangents(const struct net_call *call, size_t c,
                                                    const struct scratch *scratch,
                                                    double tangents[5],
                                                    float *const *output_tangents)
{
    double n = (double)net_batch_statistics(call).count, momentum = running_momentum(call);
    double batch_tangents[] = {scratch->sums[c] / n, 2 * scratch->products[c] / n};
    for (size_t i = MEAN; i <= VARIANCE; i++) {
        size_t output = i - MEAN + 1;
        if (wants(call, output) && output_tangents[output])
            output_tangents[output][c] = (float)(momentum * tangents[i] +
                                                 (1 - momentum) * batch_tangents[i - MEAN]);
        tangents[i] = batch_tangents[i - MEAN];
    }
}

static void tangent_batch(const struct net_call *call, const float *const *input_tangents,
                          float *const *output_tangents)
{
    struct net_tensor view = normalized_input(call), *x = &view;
    const float *x_tangent = input_tangents[0];
    struct scratch scratch = scratch_of_call(call);
    if (call->prepared)
        sum_channels(call, x_tangent, &scratch);
    for (size_t c = 0; c < channel_count(x); c++) {
        double inverse = inverse_deviation(call, c), scale = channel_value(call, SCALE, c);
        double tangents[5] = {0};
        for (size_t i = SCALE; i <= VARIANCE; i++)
            tangents[i] = input_tangents[i] ? (double)input_tangents[i][c] : 0;
        if (call->prepared)
            batch_normalization_statistics_tangents(call, c, &scratch, tangents, output_tangents);
        scratch.zeros[c] = 0;
        scratch.center[c] = (float)batch_normalization_mean(call, c);
        scratch.slope[c] = (float)(scale * inverse);
        scratch.x_slope[c] = (float)(tangents[SCALE] * inverse - 0.5 * scale * inverse * inverse *
                                                                     inverse * tangents[VARIANCE]);
        scratch.offset[c] = (float)(tangents[BIAS] - scale * inverse * tangents[MEAN]);
    }
    for (size_t i = call->prepared ? 3 : 1; i < call->node->output_count; i++) {
        const float *from = input_tangents[running_input(i)];
        for (size_t c = 0; output_tangents[i] && c < call->inputs[MEAN]->count; c++)
            output_tangents[i][c] = from ? from[c] : 0;
    }
    if (!output_tangents[0])
        return;
    set_map(x, output_tangents[0], x->data, scratch.center, scratch.x_slope, scratch.offset);
    if (x_tangent)
        add_map(x, output_tangents[0], x_tangent, scratch.zeros, scratch.slope, scratch.zeros);
}

#define BATCH_NORMALIZATION                                                                        \
    .inputs_min = 5, .inputs_max = 5, .weights = 1U << 1 | 1U << 2,                                \
    .flags = NET_IN_PLACE | NET_BATCH_NORM, .infer = infer_batch, .forward = forward_batch,        \
    .backward = backward_batch, .tangent = tangent_batch

const struct net_operator net_batch_operators[] = {
    {.name = "BatchNormalization",
     .since = 1,
     .outputs_max = 5,
     .attributes = {{"epsilon", NET_FLT}, {"momentum", NET_FLT}, {"spatial", NET_INT}},
     BATCH_NORMALIZATION},
    {.name = "BatchNormalization",
     .since = 9, /* without spatial */
     .outputs_max = 5,
     .attributes = {{"epsilon", NET_FLT}, {"momentum", NET_FLT}},
     BATCH_NORMALIZATION},
    {.name = "BatchNormalization",
     .since = 14, /* with a form for training */
     .outputs_max = 3,
     .attributes = {{"epsilon", NET_FLT}, {"momentum", NET_FLT}, {"training_mode", NET_INT}},
     BATCH_NORMALIZATION},
    {0}};
