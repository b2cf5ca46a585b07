/*
 * Conv: what each tap of the window meets as it moves over an image: element p of the plane of tap
 * k and channel c is x[c, stride p + dilation k − pad], or 0 outside; planes are in the order of
 * the weights. Planes of taps that follow each other along the first axis, without a stride,
 * overlap but for a line: they are parts of one band. The layouts that forward packs are neither,
 * and differ by shape.
 */
#include <string.h>

#include "net/ops/convolution/convolution.h"

/* One tap, and the axes that it moves along. */
struct tap_place {
    const struct net_window_axis *axes;
    int count;           /* of axes */
    const int64_t *taps; /* the tap's place along each */
};

static void copy_line(const struct net_window_axis *axis, int64_t tap, const float *x, float *line)
{
    int64_t from = tap * axis->dilation - axis->before;
    size_t first, end, count = (size_t)axis->output;
    net_window_clip(from, axis->stride, axis->input, axis->output, &first, &end);
    memset(line, 0, first * sizeof *line);
    if (axis->stride == 1 && end > first)
        memcpy(line + first, x + ((int64_t)first + from), (end - first) * sizeof *line);
    for (size_t p = first; p < end && axis->stride != 1; p++)
        line[p] = x[(int64_t)p * axis->stride + from];
    memset(line + end, 0, (count - end) * sizeof *line);
}

/* Returns where in a channel the line begins that number `line` of the outputs' lines meets at this
   tap; -1 in the padding. */
static int64_t line_start(const struct tap_place *place, int64_t line)
{
    int64_t at = 0, step = place->axes[place->count - 1].input;
    for (int i = place->count - 2; i >= 0; i--) {
        const struct net_window_axis *axis = &place->axes[i];
        int64_t input = line % axis->output * axis->stride - axis->before +
                        place->taps[i] * axis->dilation;
        if (input < 0 || input >= axis->input)
            return -1;
        at += input * step;
        step *= axis->input;
        line /= axis->output;
    }
    return at;
}

static void copy_plane(const struct tap_place *place, const float *x, int64_t lines, float *plane)
{
    const struct net_window_axis *last = &place->axes[place->count - 1];
    for (int64_t i = 0; i < lines; i++, plane += last->output) {
        int64_t start = line_start(place, i);
        if (start >= 0)
            copy_line(last, place->taps[place->count - 1], x + start, plane);
        else
            memset(plane, 0, (size_t)last->output * sizeof *plane);
    }
}

/* Moves to the next tap; the last axis is the fastest. */
static void next_tap(const struct net_window_axis *axes, int count, int64_t *taps)
{
    for (int i = count - 1; i >= 0 && ++taps[i] == axes[i].kernel; i--)
        taps[i] = 0;
}

/* The axes of the window of one group; false if there are several. */
static bool planes_axes(const struct net_call *call, struct net_window_axis *axes)
{
    return net_attribute_integer(call->node, "group", 1) == 1 &&
           net_window_infer_axes(call, call->inputs[1]->shape + 2, axes, NULL) == 0;
}

static void copy_planes(const struct net_call *call, const struct net_window_axis *axes,
                        size_t count, size_t stride, float *planes)
{
    const struct net_tensor *x = call->inputs[0];
    int64_t taps[IVON_RANK_MAX] = {0};
    const struct tap_place place = {.axes = axes, .count = x->rank - 2, .taps = taps};
    size_t channels = (size_t)x->shape[1], plane = 1, window = 1, positions = 1;
    for (int i = 0; i < place.count; i++) {
        plane *= (size_t)axes[i].input;
        window *= (size_t)axes[i].kernel;
        positions *= (size_t)axes[i].output;
    }
    if (!positions)
        return;
    int64_t lines = (int64_t)positions / axes[place.count - 1].output;
    const float *channel = x->data;
    for (size_t image = 0; image < count; image++)
        for (size_t c = 0; c < channels; c++, channel += plane)
            for (size_t tap = 0; tap < window; tap++) {
                copy_plane(&place, channel, lines,
                           planes + image * stride + (c * window + tap) * positions);
                next_tap(axes, place.count, taps);
            }
}

bool convolution_planes(const struct net_call *call, size_t count, size_t stride, float *planes)
{
    struct net_window_axis axes[IVON_RANK_MAX];
    if (!planes_axes(call, axes))
        return false;
    if (planes)
        copy_planes(call, axes, count, stride, planes);
    return true;
}

/* A band is the plane of a first axis of one tap, for as many outputs as all taps meet. */
bool convolution_bands(const struct net_call *call, size_t count, size_t stride,
                       struct net_bands *layout, float *bands)
{
    struct net_window_axis axes[IVON_RANK_MAX], *first = axes;
    if (!planes_axes(call, axes) || first->stride != 1 || first->kernel == 1)
        return false;
    *layout = (struct net_bands){.taps = (size_t)first->kernel, .inner = 1, .step = 1};
    for (int i = 1; i < call->inputs[0]->rank - 2; i++) {
        layout->inner *= (size_t)axes[i].kernel;
        layout->step *= (size_t)axes[i].output;
    }
    first->output += (first->kernel - 1) * first->dilation;
    first->kernel = 1;
    layout->size = (size_t)first->output * layout->step;
    layout->step *= (size_t)first->dilation;
    if (bands)
        copy_planes(call, axes, count, stride, bands);
    return true;
}
