/*
 * Conv: the row of inputs that each output is a product of, by the definition: element (c, k) of
 * output p's is x[c, stride p + dilation k − pad], in the order of the weights. The layouts that
 * forward packs are no rows, and differ by shape.
 */
#include "net/ops/convolution/convolution.h"

/* Taps along all axes but the last. */
struct row_place {
    const struct net_window_axis *axes;
    int count;             /* of axes */
    const int64_t *output; /* position of the output along each */
};

/* Returns the index in a channel at which the input's row begins that tap number `tap` of the axes
   before the last meets; -1 in the padding. */
static int64_t row_start(const struct row_place *place, int64_t tap)
{
    int64_t at = 0, step = place->axes[place->count - 1].input;
    for (int i = place->count - 2; i >= 0; i--) {
        const struct net_window_axis *axis = &place->axes[i];
        int64_t input = place->output[i] * axis->stride - axis->before +
                        tap % axis->kernel * axis->dilation;
        if (input < 0 || input >= axis->input)
            return -1;
        at += input * step;
        step *= axis->input;
        tap /= axis->kernel;
    }
    return at;
}

/* The row of one output; x is the image's first channel, of `plane` elements. */
static void convolution_row(const struct row_place *place, const float *x, size_t channels,
                            size_t plane, float *row)
{
    const struct net_window_axis *last = &place->axes[place->count - 1];
    int64_t taps = 1, first, end, from;
    for (int i = 0; i < place->count - 1; i++)
        taps *= place->axes[i].kernel;
    net_window_axis_taps(last, place->output[place->count - 1], &first, &end, &from);
    for (int64_t tap = 0; tap < taps; tap++) {
        int64_t start = row_start(place, tap);
        float *to = row + tap * last->kernel;
        for (size_t channel = 0; channel < channels; channel++, to += taps * last->kernel) {
            const float *input = x + channel * plane;
            for (int64_t k = 0; k < last->kernel; k++)
                to[k] = 0;
            for (int64_t k = first; k < end && start >= 0; k++)
                to[k] = input[start + from + k * last->dilation];
        }
    }
}

/* Moves to the next output; the last axis is the fastest. */
static void convolution_next(const struct net_window_axis *axes, int count, int64_t *output)
{
    for (int i = count - 1; i >= 0 && ++output[i] == axes[i].output; i--)
        output[i] = 0;
}

bool convolution_rows(const struct net_call *call, size_t count, size_t stride, float *rows)
{
    const struct net_tensor *x = call->inputs[0], *w = call->inputs[1], *y = call->outputs[0];
    struct net_window_axis axes[IVON_RANK_MAX];
    int64_t output[IVON_RANK_MAX] = {0};
    if (net_attribute_integer(call->node, "group", 1) != 1 ||
        net_window_infer_axes(call, w->shape + 2, axes, NULL))
        return false;
    const struct row_place place = {.axes = axes, .count = x->rank - 2, .output = output};
    size_t channels = (size_t)x->shape[1], plane = 1, positions = 1;
    for (int i = 2; i < x->rank; i++) {
        plane *= (size_t)x->shape[i];
        positions *= (size_t)y->shape[i];
    }
    const float *image = rows ? x->data : NULL;
    for (size_t i = 0; i < count && rows; i++, image += channels * plane)
        for (size_t p = 0; p < positions; p++, rows += stride) {
            convolution_row(&place, image, channels, plane, rows);
            convolution_next(axes, place.count, output);
        }
    return true;
}
