/*
 * Conv: what each tap of the window meets as it moves over an image: element p of the plane of tap
 * k and channel c is x[c, stride p + dilation k − pad], or 0 outside; planes are in the order of
 * the weights. The layouts that forward packs are no such planes, and differ by shape.
 */
#include <string.h>

#include "net/ops/convolution/convolution.h"

/* One tap, and the axes that it moves along. */
struct tap_place {
    const struct net_window_axis *axes;
    int count;           /* of axes */
    const int64_t *taps; /* the tap's place along each */
};

/* Output positions [*first, *end) along an axis meet the input at this tap. */
static void tap_range(const struct net_window_axis *axis, int64_t tap, int64_t *first, int64_t *end)
{
    int64_t from = tap * axis->dilation - axis->before; /* of output 0 */
    *first = from < 0 ? (-from + axis->stride - 1) / axis->stride : 0;
    *end = from < axis->input ? (axis->input - 1 - from) / axis->stride + 1 : 0;
    *first = *first > axis->output ? axis->output : *first;
    *end = *end > axis->output ? axis->output : *end;
    *end = *end < *first ? *first : *end;
}

static void copy_line(const struct net_window_axis *axis, int64_t tap, const float *x, float *line)
{
    int64_t first, end, from = tap * axis->dilation - axis->before;
    tap_range(axis, tap, &first, &end);
    memset(line, 0, (size_t)first * sizeof *line);
    if (axis->stride == 1 && end > first)
        memcpy(line + first, x + first + from, (size_t)(end - first) * sizeof *line);
    for (int64_t p = first; p < end && axis->stride != 1; p++)
        line[p] = x[p * axis->stride + from];
    memset(line + end, 0, (size_t)(axis->output - end) * sizeof *line);
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

bool convolution_planes(const struct net_call *call, size_t count, size_t stride, float *planes)
{
    const struct net_tensor *x = call->inputs[0], *w = call->inputs[1];
    struct net_window_axis axes[IVON_RANK_MAX];
    int64_t taps[IVON_RANK_MAX] = {0};
    if (net_attribute_integer(call->node, "group", 1) != 1 ||
        net_window_infer_axes(call, w->shape + 2, axes, NULL))
        return false;
    const struct tap_place place = {.axes = axes, .count = x->rank - 2, .taps = taps};
    size_t channels = (size_t)x->shape[1], plane = 1, window = 1, positions = 1;
    for (int i = 0; i < place.count; i++) {
        plane *= (size_t)axes[i].input;
        window *= (size_t)axes[i].kernel;
        positions *= (size_t)axes[i].output;
    }
    if (!planes || !positions)
        return true;
    int64_t lines = (int64_t)positions / axes[place.count - 1].output;
    const float *channel = x->data;
    for (size_t image = 0; image < count; image++)
        for (size_t c = 0; c < channels; c++, channel += plane)
            for (size_t tap = 0; tap < window; tap++) {
                copy_plane(&place, channel, lines,
                           planes + image * stride + (c * window + tap) * positions);
                next_tap(axes, place.count, taps);
            }
    return true;
}
