/* GridSample, and AffineGrid, which makes its grids. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/resize/sample.h"
#include "net/ops/resize/weights.h"

/*
 * GridSample: out[n, c, p] = Σ_i w_i(g) in[n, c, i] with g = grid[n, p], of which the last number
 * is for the first spatial axis. From −1 to 1, g runs over an axis of extent I: from the center of
 * the first element to that of the last (align_corners), x = (g + 1)/2 (I − 1), or from edge to
 * edge, x = ((g + 1) I − 1)/2. Where x is outside, elements are 0 (zeros), x moves to the last
 * element (border), or is reflected at the ends. Then weights follow from x as in Resize.
 */

struct grid {
    enum resize_mode mode;
    char padding; /* the first letter of its name */
    bool align;
    int axes;
    int64_t extents[SAMPLE_AXES_MAX];
    size_t examples, channels, elements, points; /* elements and points of one channel */
};

static int grid_choice(const struct net_call *call, const char *name, const char *const *choices,
                       size_t count, size_t *choice, struct ivon_error *error)
{
    const char *text = net_attribute_text(call->node, name, choices[0]);
    for (*choice = 0; *choice < count; ++*choice)
        if (strcmp(text, choices[*choice]) == 0)
            return 0;
    return net_fail(call, error, "%s '%s' is not supported", name, text);
}

static int grid_read(const struct net_call *call, struct grid *grid, struct ivon_error *error)
{
    static const char *const modes[] = {"linear", "bilinear", "nearest", "cubic", "bicubic"};
    static const enum resize_mode kinds[] = {RESIZE_LINEAR, RESIZE_LINEAR, RESIZE_NEAREST,
                                             RESIZE_CUBIC, RESIZE_CUBIC};
    static const char *const paddings[] = {"zeros", "border", "reflection"};
    const struct net_tensor *input = call->inputs[0];
    size_t mode, padding;
    *grid = (struct grid){0};
    int code = grid_choice(call, "mode", modes, 5, &mode, error);
    if (!code)
        code = grid_choice(call, "padding_mode", paddings, 3, &padding, error);
    if (code)
        return code;
    *grid = (struct grid){.mode = kinds[mode], .padding = *paddings[padding]};
    grid->align = net_attribute_integer(call->node, "align_corners", 0) != 0;
    grid->axes = input->rank - 2;
    grid->examples = (size_t)input->shape[0];
    grid->channels = (size_t)input->shape[1];
    grid->elements = grid->points = 1;
    for (int i = 0; i < grid->axes; i++) {
        grid->extents[i] = input->shape[2 + i];
        grid->elements *= (size_t)input->shape[2 + i];
        grid->points *= (size_t)call->inputs[1]->shape[1 + i];
    }
    return 0;
}

static int grid_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *points = call->inputs[1];
    struct grid grid;
    int64_t shape[IVON_RANK_MAX];
    int code = net_expect_float(call, 0, error);
    if (!code)
        code = net_expect_float(call, 1, error);
    if (code)
        return code;
    bool fits = input->rank >= 3 && input->rank <= SAMPLE_AXES_MAX + 2 &&
                points->rank == input->rank && points->shape[0] == input->shape[0] &&
                points->shape[points->rank - 1] == input->rank - 2;
    char a[256], b[256];
    if (!fits)
        return net_fail(call, error, "a grid of shape %s for an input of shape %s",
                        net_shape_text(points, a), net_shape_text(input, b));
    for (int i = 0; i < input->rank; i++)
        shape[i] = i < 2 ? input->shape[i] : points->shape[i - 1];
    code = grid_read(call, &grid, error);
    if (!code)
        code = net_output(call, 0, NET_FLOAT, input->rank, shape, error);
    bool empty = !code && call->outputs[0]->count && !input->count;
    return empty ? net_fail(call, error, "an input of shape %s has no elements to sample",
                            net_shape_text(input, a))
                 : code;
}

/* Moves a position into [low, high] by reflections at both; *slope changes its sign at each. */
static double grid_reflect(double x, double low, double high, double *slope)
{
    double range = high - low;
    if (range <= 0) {
        *slope = 0;
        return low;
    }
    double at = fmod(x - low, 2 * range);
    at += at < 0 ? 2 * range : 0;
    *slope *= at > range ? -1 : 1;
    return at > range ? high - (at - range) : low + at;
}

/* Returns the position of g along an axis, moved inside as the padding says; *slope is its
   derivative. */
static double grid_position(const struct grid *grid, int64_t extent, double g, double *slope)
{
    double last = (double)(extent - 1);
    double low = grid->align ? 0 : -0.5, high = grid->align ? last : last + 0.5;
    *slope = grid->align ? last / 2 : (double)extent / 2;
    double x = grid->align ? (g + 1) / 2 * last : ((g + 1) * (double)extent - 1) / 2;
    if (grid->mode == RESIZE_NEAREST) {
        x = rint(x);
        *slope = 0;
    }
    if (x >= low && x <= high)
        return x;
    if (grid->padding == 'b') {
        *slope = 0;
        return x < 0 ? 0 : last;
    }
    return grid->padding == 'r' ? grid_reflect(x, low, high, slope) : x;
}

/* Returns the element at a position that may be outside; -1 if it is 0. */
static int64_t grid_element(const struct grid *grid, int64_t extent, int64_t at)
{
    double slope = 1, low = grid->align ? 0 : -0.5, last = (double)(extent - 1);
    if (at >= 0 && at < extent)
        return at;
    if (grid->padding == 'b')
        return at < 0 ? 0 : extent - 1;
    if (grid->padding == 'z')
        return -1;
    return (int64_t)rint(grid_reflect((double)at, low, last - low, &slope));
}

static void grid_axis(const struct grid *grid, int64_t extent, double g, struct sample_axis *axis)
{
    double slope, x = grid_position(grid, extent, g, &slope);
    axis->taps = 0;
    if (!(x > -4 && x < (double)extent + 4)) /* far outside, or NaN */
        return;
    int before = grid->mode == RESIZE_CUBIC;
    axis->taps = grid->mode == RESIZE_NEAREST ? 1 : grid->mode == RESIZE_LINEAR ? 2 : 4;
    for (int i = 0; i < axis->taps; i++) {
        double at = floor(x) - before + i, t = x - at;
        axis->index[i] = grid_element(grid, extent, (int64_t)at);
        if (grid->mode == RESIZE_CUBIC) {
            axis->weight[i] = resize_cubic(t, -0.75);
            axis->slope[i] = slope * resize_cubic_slope(t, -0.75);
        } else {
            axis->weight[i] = 1 - fabs(t);
            axis->slope[i] = t < 0 ? slope : -slope;
        }
    }
}

/* `point` is a point of the grid, of which `g` are the numbers. */
static void grid_sample(const struct grid *grid, const float *g, struct sample *sample)
{
    struct sample_axis axes[SAMPLE_AXES_MAX];
    for (int i = 0; i < grid->axes; i++)
        grid_axis(grid, grid->extents[i], (double)g[grid->axes - 1 - i], &axes[i]);
    sample_combine(sample, axes, grid->axes, grid->extents);
}

static int grid_forward(const struct net_call *call, struct ivon_error *error)
{
    const float *g = call->inputs[1]->data;
    struct grid grid;
    struct sample sample;
    int code = grid_read(call, &grid, error);
    for (size_t n = 0; n < grid.examples && !code; n++) {
        const float *x = (const float *)call->inputs[0]->data + n * grid.channels * grid.elements;
        float *y = (float *)call->outputs[0]->data + n * grid.channels * grid.points;
        for (size_t p = 0; p < grid.points; p++, g += grid.axes) {
            grid_sample(&grid, g, &sample);
            for (size_t c = 0; c < grid.channels; c++)
                y[c * grid.points + p] = (float)sample_value(&sample, x + c * grid.elements);
        }
    }
    return code;
}

static void grid_tangent(const struct net_call *call, const float *const *input_tangents,
                         float *const *output_tangents)
{
    const float *g = call->inputs[1]->data, *moves = input_tangents[1];
    struct grid grid;
    struct sample sample;
    grid_read(call, &grid, NULL); /* succeeded in infer */
    for (size_t n = 0; n < grid.examples; n++) {
        size_t first = n * grid.channels * grid.elements;
        const float *x = (const float *)call->inputs[0]->data + first;
        const float *x_moves = input_tangents[0] ? input_tangents[0] + first : NULL;
        float *y = output_tangents[0] + n * grid.channels * grid.points;
        for (size_t p = 0; p < grid.points; p++, g += grid.axes) {
            grid_sample(&grid, g, &sample);
            for (size_t c = 0; c < grid.channels; c++) {
                double sum = x_moves ? sample_value(&sample, x_moves + c * grid.elements) : 0;
                for (int i = 0; i < grid.axes && moves; i++)
                    sum += sample_slope(&sample, i, x + c * grid.elements) *
                           (double)moves[grid.axes - 1 - i];
                y[c * grid.points + p] = (float)sum;
            }
            moves = moves ? moves + grid.axes : NULL;
        }
    }
}

static void grid_backward(const struct net_call *call, const float *const *output_adjoints,
                          float *const *input_adjoints)
{
    const float *g = call->inputs[1]->data;
    float *to = input_adjoints[1];
    struct grid grid;
    struct sample sample;
    if (!output_adjoints[0])
        return;
    grid_read(call, &grid, NULL); /* succeeded in infer */
    for (size_t n = 0; n < grid.examples; n++) {
        size_t first = n * grid.channels * grid.elements;
        const float *x = (const float *)call->inputs[0]->data + first;
        float *x_to = input_adjoints[0] ? input_adjoints[0] + first : NULL;
        const float *dy = output_adjoints[0] + n * grid.channels * grid.points;
        for (size_t p = 0; p < grid.points; p++, g += grid.axes) {
            double sums[SAMPLE_AXES_MAX] = {0};
            grid_sample(&grid, g, &sample);
            for (size_t c = 0; c < grid.channels; c++) {
                double adjoint = (double)dy[c * grid.points + p];
                if (x_to)
                    sample_add(&sample, adjoint, x_to + c * grid.elements);
                for (int i = 0; i < grid.axes && to; i++)
                    sums[i] += adjoint * sample_slope(&sample, i, x + c * grid.elements);
            }
            for (int i = 0; i < grid.axes && to; i++)
                to[grid.axes - 1 - i] += (float)sums[i];
            to = to ? to + grid.axes : NULL;
        }
    }
}

/*
 * AffineGrid: out[n, p] = theta[n] (x, 1), where x are the coordinates of p, those of the last
 * spatial axis first: from −1 to 1 over an axis, as in GridSample.
 */

static int affine_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *theta = call->inputs[0];
    const int64_t *size;
    int64_t shape[IVON_RANK_MAX];
    int rank, code = net_known_shape(call, 1, &size, &rank, error);
    if (!code)
        code = net_expect_float(call, 0, error);
    if (code)
        return code;
    char text[256];
    if ((rank != 4 && rank != 5) || theta->rank != 3 || theta->shape[0] != size[0] ||
        theta->shape[1] != rank - 2 || theta->shape[2] != rank - 1)
        return net_fail(call, error, "theta of shape %s for a size of %d extents",
                        net_shape_text(theta, text), rank);
    shape[0] = size[0];
    for (int i = 2; i < rank; i++)
        shape[i - 1] = size[i];
    shape[rank - 1] = rank - 2;
    return net_output_made(call, 0, NET_FLOAT, rank, shape, theta->count, error);
}

/* Sets the coordinates of point p of the grid, and 1 behind them; returns their number. */
static int affine_point(const struct net_call *call, size_t p, double *x)
{
    const struct net_tensor *output = call->outputs[0];
    bool align = net_attribute_integer(call->node, "align_corners", 0) != 0;
    int axes = output->rank - 2;
    for (int i = 0; i < axes; i++) {
        size_t extent = (size_t)output->shape[axes - i], at = p % extent;
        double step = align ? extent > 1 ? 2 / (double)(extent - 1) : 0 : 2 / (double)extent;
        x[i] = ((double)at - (double)(extent - 1) / 2) * step;
        p /= extent;
    }
    x[axes] = 1;
    return axes;
}

static void affine_run(const struct net_call *call, const float *theta, float *out)
{
    const struct net_tensor *output = call->outputs[0];
    double x[IVON_RANK_MAX];
    size_t axes = (size_t)output->rank - 2, all = output->count / axes;
    size_t points = all ? all / (size_t)output->shape[0] : 0;
    for (size_t n = 0; n < all; n++) {
        const float *row = theta + n / points * axes * (axes + 1);
        affine_point(call, n % points, x);
        for (size_t i = 0; i < axes; i++, row += axes + 1) {
            double sum = 0;
            for (size_t k = 0; k <= axes; k++)
                sum += (double)row[k] * x[k];
            *out++ = (float)sum;
        }
    }
}

static int affine_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    affine_run(call, call->inputs[0]->data, call->outputs[0]->data);
    return 0;
}

static void affine_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    if (input_tangents[0])
        affine_run(call, input_tangents[0], output_tangents[0]);
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

static void affine_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    const struct net_tensor *output = call->outputs[0];
    const float *dy = output_adjoints[0];
    double x[IVON_RANK_MAX];
    size_t axes = (size_t)output->rank - 2, all = output->count / axes;
    size_t points = all ? all / (size_t)output->shape[0] : 0;
    float *to = input_adjoints[0];
    if (!dy || !to)
        return;
    for (size_t n = 0; n < all; n += points, to += axes * (axes + 1)) {
        double sums[SAMPLE_AXES_MAX * (SAMPLE_AXES_MAX + 1)] = {0};
        for (size_t p = 0; p < points; p++) {
            affine_point(call, p, x);
            for (size_t i = 0; i < axes; i++, dy++)
                for (size_t k = 0; k <= axes; k++)
                    sums[i * (axes + 1) + k] += (double)*dy * x[k];
        }
        for (size_t i = 0; i < axes * (axes + 1); i++)
            to[i] += (float)sums[i];
    }
}

const struct net_operator net_grid_operators[] = {
    {.name = "GridSample",
     .since = 16,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .attributes = {{"align_corners", NET_INT}, {"mode", NET_TEXT}, {"padding_mode", NET_TEXT}},
     .infer = grid_infer,
     .forward = grid_forward,
     .backward = grid_backward,
     .tangent = grid_tangent},
    {.name = "AffineGrid",
     .since = 20,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .attributes = {{"align_corners", NET_INT}},
     .infer = affine_infer,
     .forward = affine_forward,
     .backward = affine_backward,
     .tangent = affine_tangent},
    {0}};
