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
#include "net/ops/normalize.h"
#include "net/ops/sum.h"

enum { SCALE = 1, BIAS, MEAN, VARIANCE };

static size_t channels_of(const struct net_tensor *x)
{
    return (size_t)x->shape[1];
}

static size_t images_of(const struct net_tensor *x)
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
    size_t images = images_of(x), channels = channels_of(x), plane = net_plane(x);
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
    size_t channels = channels_of(x), n = images_of(x) * net_plane(x);
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
    size_t count;
    double moments[];
};

struct net_batch net_batch_of(const struct net_call *call)
{
    const struct batch *batch = call->prepared;
    if (!batch)
        return (struct net_batch){0};
    return (struct net_batch){batch->count, batch->moments,
                              batch->moments + channels_of(call->inputs[0])};
}

/* Shapes. */

static bool wants(const struct net_call *call, size_t output)
{
    return output < call->node->output_count && call->outputs[output];
}

/* The workspace: for each channel sums of an adjoint or tangent, and the numbers of affine maps. */
struct room {
    double *sums, *products;
    float *zeros, *slope, *center, *bend, *offset;
};

enum { ROOM = 2 * sizeof(double) + 5 * sizeof(float) };

static struct room room_of(const struct net_call *call)
{
    size_t channels = channels_of(call->inputs[0]);
    struct room room = {.sums = call->workspace};
    room.products = room.sums + channels;
    room.zeros = (float *)(room.products + channels);
    room.slope = room.zeros + channels;
    room.center = room.slope + channels;
    room.bend = room.center + channels;
    room.offset = room.bend + channels;
    return room;
}

static int prepare_batch(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    size_t channels = channels_of(x), count = images_of(x) * net_plane(x);
    size_t least = call->training ? 2 : 1; /* of one, nothing is left */
    if (count < least)
        return net_fail(call, error,
                        "a batch has %zu element%s of each channel to take mean and variance of, "
                        "expected at least %zu",
                        count, count == 1 ? "" : "s", least);
    struct batch *batch = net_prepare(call, sizeof *batch + 2 * channels * sizeof *batch->moments,
                                      error);
    if (!batch)
        return IVON_ERROR_MEMORY;
    int code = 0;
    for (size_t i = 1; i <= 2 && !code; i++)
        if (wants(call, i))
            code = net_tensor_set(call->outputs[i], NET_FLOAT, 1, x->shape + 1, error);
    return code;
}

static int infer_batch(struct net_call *call, struct ivon_error *error)
{
    int code = net_expect_rank(call, 2, error);
    for (size_t i = SCALE; i <= VARIANCE && !code; i++)
        code = net_expect_channels(call, i, error);
    if (code)
        return code;
    bool training = net_attribute_integer(call->node, "training_mode", 0) != 0;
    if (wants(call, 3) || wants(call, 4) || (!training && (wants(call, 1) || wants(call, 2))))
        return net_fail(call, error,
                        "normalizes by the statistics of each batch; export the network in "
                        "evaluation mode");
    const struct net_tensor *x = call->inputs[0];
    if (channels_of(x) > SIZE_MAX / 2 / ROOM)
        return net_fail(call, error, "it has too many channels");
    call->workspace_size = channels_of(x) * ROOM;
    code = net_tensor_set(call->outputs[0], NET_FLOAT, x->rank, x->shape, error);
    return !code && (training || call->training) ? prepare_batch(call, error) : code;
}

/* A channel's numbers. */

static double channel(const struct net_call *call, size_t input, size_t c)
{
    return (double)((const float *)call->inputs[input]->data)[c];
}

static double batch_normalization_mean_of(const struct net_call *call, size_t c)
{
    return call->prepared ? net_batch_of(call).mean[c] : channel(call, MEAN, c);
}

/* 1/sqrt(var + epsilon) */
static double inverse_deviation(const struct net_call *call, size_t c)
{
    double variance = call->prepared ? net_batch_of(call).variance[c] : channel(call, VARIANCE, c);
    return 1 / sqrt(variance + net_attribute_number(call->node, "epsilon", (double)1e-5F));
}

static double momentum_of(const struct net_call *call)
{
    return net_attribute_number(call->node, "momentum", (double)0.9F);
}

/* Maps of all elements, (x − center) slope + offset with numbers of each channel. */

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

/* y = the map of x, which may be y. */
static void set_map(const struct net_tensor *shape, float *y, const float *x, const float *center,
                    const float *slope, const float *offset)
{
    size_t channels = channels_of(shape), plane = net_plane(shape);
    for (size_t image = 0; image < images_of(shape); image++)
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
    size_t channels = channels_of(shape), plane = net_plane(shape);
    for (size_t image = 0; image < images_of(shape); image++)
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

static void run_on(const struct net_call *call, size_t output, size_t input, const double *batch)
{
    if (!wants(call, output))
        return;
    float *running = call->outputs[output]->data;
    double momentum = momentum_of(call);
    for (size_t c = 0; c < channels_of(call->inputs[0]); c++)
        running[c] = (float)(channel(call, input, c) * momentum + batch[c] * (1 - momentum));
}

static int forward_batch(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct net_tensor *x = call->inputs[0];
    struct room room = room_of(call);
    struct batch *batch = call->prepared;
    size_t channels = channels_of(x);
    if (batch) { /* before y is set, which may take the memory of an input */
        batch->count = net_channel_moments(x, batch->moments, batch->moments + channels);
        run_on(call, 1, MEAN, batch->moments);
        run_on(call, 2, VARIANCE, batch->moments + channels);
    }
    for (size_t c = 0; c < channels; c++) {
        room.center[c] = (float)batch_normalization_mean_of(call, c);
        room.slope[c] = (float)(channel(call, SCALE, c) * inverse_deviation(call, c));
        room.offset[c] = (float)channel(call, BIAS, c);
    }
    set_map(x, call->outputs[0]->data, x->data, room.center, room.slope, room.offset);
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

/* sums[c] = Σ a and products[c] = Σ a (x − mean); of an `a` that is null, zero. */
static void sum_channels(const struct net_call *call, const float *a, struct room *room)
{
    const struct net_tensor *tensor = call->inputs[0];
    size_t channels = channels_of(tensor), plane = net_plane(tensor);
    memset(room->sums, 0, 2 * channels * sizeof *room->sums);
    if (!a)
        return;
    const float *x = tensor->data;
    for (size_t i = 0; i < images_of(tensor); i++, a += channels * plane, x += channels * plane) {
        if (plane == 1)
            add_row_products(a, x, channels, room->sums, room->products);
        for (size_t c = 0; c < channels && plane > 1; c++) {
            room->sums[c] += net_sum(a + c * plane, plane);
            room->products[c] += net_sum_products(a + c * plane, x + c * plane, plane);
        }
    }
    for (size_t c = 0; c < channels; c++)
        room->products[c] -= batch_normalization_mean_of(call, c) * room->sums[c];
}

/* The adjoints of the four numbers of a channel, from the sums of dy. */
static void adjoints_of(const struct net_call *call, size_t c, const struct room *room,
                        double adjoints[5])
{
    double inverse = inverse_deviation(call, c), scale = channel(call, SCALE, c);
    double sum = room->sums[c], product = room->products[c];
    adjoints[SCALE] = product * inverse;
    adjoints[BIAS] = sum;
    adjoints[MEAN] = -sum * inverse * scale;
    adjoints[VARIANCE] = -0.5 * product * scale * inverse * inverse * inverse;
}

/* In training: takes the adjoints of mean and var on to x, and sets those of the inputs. */
static void pass_on(const struct net_call *call, size_t c, const float *const *output_adjoints,
                    const struct room *room, double adjoints[5])
{
    double n = (double)net_batch_of(call).count, momentum = momentum_of(call);
    for (size_t i = MEAN; i <= VARIANCE; i++) {
        size_t output = i - MEAN + 1;
        double running = wants(call, output) && output_adjoints[output]
                             ? (double)output_adjoints[output][c]
                             : 0;
        double of_batch = adjoints[i] + (1 - momentum) * running;
        adjoints[i] = momentum * running;
        if (i == MEAN)
            room->offset[c] = (float)(of_batch / n);
        else
            room->bend[c] = (float)(2 * of_batch / n);
    }
}

static void backward_batch(const struct net_call *call, const float *const *output_adjoints,
                           float *const *input_adjoints)
{
    const struct net_tensor *x = call->inputs[0];
    const float *dy = output_adjoints[0];
    float *dx = input_adjoints[0];
    struct room room = room_of(call);
    sum_channels(call, dy, &room);
    for (size_t c = 0; c < channels_of(x); c++) {
        double adjoints[5];
        adjoints_of(call, c, &room, adjoints);
        room.zeros[c] = 0;
        room.center[c] = (float)batch_normalization_mean_of(call, c);
        room.slope[c] = (float)(channel(call, SCALE, c) * inverse_deviation(call, c));
        if (call->prepared)
            pass_on(call, c, output_adjoints, &room, adjoints);
        for (size_t i = SCALE; i <= VARIANCE; i++)
            if (input_adjoints[i])
                input_adjoints[i][c] += (float)adjoints[i];
    }
    if (dx && dy)
        add_map(x, dx, dy, room.zeros, room.slope, room.zeros);
    if (dx && call->prepared)
        add_map(x, dx, x->data, room.center, room.bend, room.offset);
}

/* In training: the tangents of mean and var from the sums of ẋ; sets those of running outputs. */
static void batch_normalization_move_statistics(const struct net_call *call, size_t c,
                                                const struct room *room, double tangents[5],
                                                float *const *output_tangents)
{
    double n = (double)net_batch_of(call).count, momentum = momentum_of(call);
    double moved[] = {room->sums[c] / n, 2 * room->products[c] / n};
    for (size_t i = MEAN; i <= VARIANCE; i++) {
        size_t output = i - MEAN + 1;
        if (wants(call, output) && output_tangents[output])
            output_tangents[output][c] = (float)(momentum * tangents[i] +
                                                 (1 - momentum) * moved[i - MEAN]);
        tangents[i] = moved[i - MEAN];
    }
}

static void tangent_batch(const struct net_call *call, const float *const *input_tangents,
                          float *const *output_tangents)
{
    const struct net_tensor *x = call->inputs[0];
    const float *moved = input_tangents[0];
    struct room room = room_of(call);
    if (call->prepared)
        sum_channels(call, moved, &room);
    for (size_t c = 0; c < channels_of(x); c++) {
        double inverse = inverse_deviation(call, c), scale = channel(call, SCALE, c);
        double of[5] = {0};
        for (size_t i = SCALE; i <= VARIANCE; i++)
            of[i] = input_tangents[i] ? (double)input_tangents[i][c] : 0;
        if (call->prepared)
            batch_normalization_move_statistics(call, c, &room, of, output_tangents);
        room.zeros[c] = 0;
        room.center[c] = (float)batch_normalization_mean_of(call, c);
        room.slope[c] = (float)(scale * inverse);
        room.bend[c] = (float)(of[SCALE] * inverse -
                               0.5 * scale * inverse * inverse * inverse * of[VARIANCE]);
        room.offset[c] = (float)(of[BIAS] - scale * inverse * of[MEAN]);
    }
    if (!output_tangents[0])
        return;
    set_map(x, output_tangents[0], x->data, room.center, room.bend, room.offset);
    if (moved)
        add_map(x, output_tangents[0], moved, room.zeros, room.slope, room.zeros);
}

const struct net_operator net_batch_operators[] = {
    {.name = "BatchNormalization",
     .since = 1,
     .inputs_min = 5,
     .inputs_max = 5,
     .outputs_max = 5,
     .flags = NET_IN_PLACE | NET_BATCH_NORM,
     .attributes = {{"epsilon", NET_FLT}, {"momentum", NET_FLT}, {"training_mode", NET_INT}},
     .later = {{"training_mode", 14}},
     .infer = infer_batch,
     .forward = forward_batch,
     .backward = backward_batch,
     .tangent = tangent_batch},
    {0}};
