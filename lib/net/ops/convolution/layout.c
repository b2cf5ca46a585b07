/* Conv: the layout of packed inputs, forward and for the derivatives. */
#include <math.h>

#include "core/stream.h"
#include "net/ops/convolution/convolution.h"

enum {
    COPY_COST = 16,       /* the cost of copying one element to columns, in products */
    PLANE_COST = 8,       /* to a row of planes, or from one to an output */
    BLOCK_COST = 2,       /* to a plane as wide as the image, whose rows are copied together */
    POSITIONS_MAX = 1024, /* of several images, whose gradient is taken at once */
    LAST_MAX = 256 << 10, /* floats of images with their channels last, packed at once */
};

/* The remainders of the kernel's rows or columns by the stride, as bits. */
static unsigned remainders(const struct net_window *window, int axis)
{
    unsigned used = 0;
    for (int64_t k = 0; k < window->kernel[axis] && k < CONVOLUTION_STRIDE_MAX; k++)
        used |= 1U << (k * window->dilation[axis] % window->stride[axis]);
    return used;
}

/* The elements that the kernel reaches beyond an output's own, along an axis of planes. */
static int64_t convolution_margin(const struct net_window *window, int axis)
{
    return (window->kernel[axis] - 1) * window->dilation[axis] / window->stride[axis];
}

/* The elements of a row of a shared plane beyond the output's own. The zeros behind the end of an
   image's row are those before the beginning of the next one, where there are as many. */
static int64_t convolution_overhang(const struct net_window *window)
{
    int64_t margin = convolution_margin(window, 1), zeros = 0;
    if (window->stride[1] == 1)
        zeros = window->output[1] + margin - window->before[1] - window->input[1];
    zeros = zeros < window->before[1] ? zeros : window->before[1];
    return zeros <= 0 ? margin : zeros < margin ? margin - zeros : 0;
}

/* Each cost is of a group's image, in products; infinite where the layout is not possible. */

static double cost_columns(const struct convolution *c)
{
    return (double)c->terms * (double)(c->filters + COPY_COST) * (double)c->output_plane;
}

/* Planes, whose bands are of equal height. */
static double cost_planes(struct convolution *c, enum convolution_layout layout)
{
    const struct net_window *window = &c->window;
    bool shared = layout == CONVOLUTION_SHARED;
    if (window->stride[0] > CONVOLUTION_STRIDE_MAX ||
        (shared && window->stride[1] > CONVOLUTION_STRIDE_MAX))
        return INFINITY;
    c->layout = layout;
    c->used[0] = remainders(window, 0);
    c->used[1] = shared ? remainders(window, 1) : 0;
    int64_t margin = convolution_margin(window, 0), height = window->output[0];
    int64_t pitch = window->output[1] + (shared ? convolution_overhang(window) : 0);
    if (margin > CONVOLUTION_PACKED_MAX || pitch > CONVOLUTION_PACKED_MAX ||
        c->channels > CONVOLUTION_PACKED_MAX || window->kernel[1] > CONVOLUTION_PACKED_MAX)
        return INFINITY;
    int64_t row = (int64_t)convolution_plane_count(c) * pitch; /* of factors of 18 bits */
    if (row > CONVOLUTION_PACKED_MAX || row * (margin + 1) > CONVOLUTION_PACKED_MAX)
        return INFINITY;
    int64_t most = CONVOLUTION_PACKED_MAX / row - margin, bands = (height + most - 1) / most;
    c->pitch = (size_t)pitch;
    c->band = (size_t)((height + bands - 1) / bands);
    c->rows = c->band + (size_t)margin;
    double computed = (double)round_up(c->band * c->pitch, PANEL_STEP);
    double moved = (double)convolution_planes_size(c) *
                   (convolution_packs_blocks(c) ? BLOCK_COST : PLANE_COST);
    if (shared)
        moved += (double)c->filters * (double)(c->band * c->pitch) * PLANE_COST;
    return (double)bands * ((double)c->terms * (double)c->filters * computed + moved);
}

static double cost_direct(const struct convolution *c)
{
    const struct net_window *window = &c->window;
    for (int axis = 0; axis < 2; axis++)
        if (window->kernel[axis] != 1 || window->stride[axis] != 1 || window->before[axis] != 0 ||
            window->input[axis] != window->output[axis])
            return INFINITY;
    if (c->output_plane < PANEL_STEP)
        return INFINITY;
    return (double)c->terms * (double)c->filters * (double)round_up(c->output_plane, PANEL_STEP);
}

/* Takes the layout that costs least. */
static void choose_layout(struct convolution *c)
{
    if (convolution_depthwise_lay_out(c))
        return;
    struct convolution planes = *c, shared = *c;
    double columns = cost_columns(c), direct = cost_direct(c);
    double of_planes = cost_planes(&planes, CONVOLUTION_PLANES);
    double of_shared = cost_planes(&shared, CONVOLUTION_SHARED);
    double least = fmin(fmin(columns, direct), fmin(of_planes, of_shared));
    if (least == of_planes)
        *c = planes;
    else if (least == of_shared)
        *c = shared;
    else
        c->layout = least == direct ? CONVOLUTION_DIRECT : CONVOLUTION_COLUMNS;
    if (c->layout == CONVOLUTION_DIRECT || c->layout == CONVOLUTION_COLUMNS)
        c->pitch = (size_t)c->window.output[1];
}

/* Lays out a pass whose window and counts are set. */
static bool lay_out_pass(struct convolution *c)
{
    c->input_plane = (size_t)(c->window.input[0] * c->window.input[1]);
    c->output_plane = (size_t)(c->window.output[0] * c->window.output[1]);
    choose_layout(c);
    size_t total = c->images * c->output_plane;
    c->columns = convolution_smaller(
        convolution_smaller(round_up(total ? total : 1, PANEL_WIDTH), CONVOLUTION_COLUMNS_MAX),
        CONVOLUTION_PACKED_MAX / c->terms / PANEL_WIDTH * PANEL_WIDTH);
    if (c->columns < PANEL_WIDTH)
        c->columns = PANEL_WIDTH;
    int64_t extents[] = {(int64_t)c->terms, (int64_t)c->columns};
    if (!tensor_shape_count(2, extents, 4 * sizeof(float), &c->packed))
        return false;
    bool planes = c->layout == CONVOLUTION_PLANES || c->layout == CONVOLUTION_SHARED;
    if (planes && convolution_planes_size(c) > c->packed)
        c->packed = convolution_planes_size(c);
    if (c->layout == CONVOLUTION_DEPTHWISE && c->band * c->pitch > c->packed)
        c->packed = c->band * c->pitch;
    c->packed = round_up(c->packed, PANEL_STEP);
    return true;
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/*
 * One axis of the phase of inputs i = stride t + at: output o = (i + before − dilation k) / stride
 * reaches them by tap k where that is an integer. False where there are no such inputs, or no taps.
 */
static bool lay_out_axis(const struct net_window *forward, int axis, int64_t at,
                         struct convolution_phase *phase)
{
    struct net_window *window = &phase->pass.window;
    int64_t stride = forward->stride[axis], dilation = forward->dilation[axis];
    int64_t between = stride / common_divisor(stride, dilation), first = 0;
    int64_t from = at + forward->before[axis];
    while (first < between && (from - dilation * first) % stride != 0)
        first++;
    if (first == between || first >= forward->kernel[axis] || at >= forward->input[axis])
        return false;
    int64_t taps = (forward->kernel[axis] - 1 - first) / between + 1;
    phase->between[axis] = between;
    phase->last[axis] = first + (taps - 1) * between;
    window->input[axis] = forward->output[axis];
    window->kernel[axis] = taps;
    window->stride[axis] = 1;
    window->dilation[axis] = dilation * between / stride;
    window->before[axis] = (dilation * phase->last[axis] - from) / stride;
    window->output[axis] = (forward->input[axis] - at - 1) / stride + 1;
    return true;
}

static bool lay_out_phases(struct convolution_plan *plan)
{
    const struct convolution *forward = &plan->forward;
    const int64_t *stride = forward->window.stride;
    if (stride[0] > CONVOLUTION_PHASES_MAX || stride[1] > CONVOLUTION_PHASES_MAX ||
        stride[0] * stride[1] > CONVOLUTION_PHASES_MAX)
        return true;
    for (int64_t at = 0; at < stride[0] * stride[1]; at++) {
        struct convolution_phase *phase = &plan->phases[plan->phase_count];
        int64_t y = at / stride[1], x = at % stride[1];
        *phase = (struct convolution_phase){.pass = {.images = forward->images,
                                                     .groups = forward->groups,
                                                     .channels = forward->filters,
                                                     .filters = forward->channels}};
        if (!lay_out_axis(&forward->window, 0, y, phase) ||
            !lay_out_axis(&forward->window, 1, x, phase))
            continue;
        struct convolution *pass = &phase->pass;
        int64_t width = forward->window.input[1];
        int64_t extents[] = {(int64_t)pass->channels, pass->window.kernel[0],
                             pass->window.kernel[1]};
        if (!tensor_shape_count(3, extents, sizeof(size_t), &pass->terms) ||
            pass->terms > INT32_MAX || !lay_out_pass(pass))
            return false;
        pass->target_plane = forward->input_plane;
        pass->target_first = (size_t)(y * width + x);
        pass->target_pitch = (size_t)(stride[0] * width);
        pass->target_step = (size_t)stride[1];
        plan->phase_count++;
    }
    return true;
}

/* Returns the rows or columns of the input, with padding, that `outputs` outputs need. */
static int64_t reach(const struct net_window *window, int axis, int64_t outputs)
{
    return (outputs - 1) * window->stride[axis] +
           (window->kernel[axis] - 1) * window->dilation[axis] + 1;
}

static bool lay_out_gradient(struct convolution_plan *plan)
{
    struct convolution_gradient *g = &plan->gradient;
    const struct convolution *c = &plan->forward;
    const struct net_window *window = &c->window;
    int64_t height = window->output[0], row = reach(window, 1, window->output[1]);
    int64_t whole[] = {reach(window, 0, height), row, (int64_t)c->channels};
    g->width = (size_t)row;
    g->images = 1;
    g->rows = (size_t)height;
    if (tensor_shape_count(3, whole, sizeof(float), &g->image) && g->image <= LAST_MAX) {
        size_t fit = convolution_smaller(LAST_MAX / g->image, POSITIONS_MAX / c->output_plane);
        fit = convolution_smaller(fit, LAST_MAX / c->output_plane / c->filters);
        if (!convolution_has_channel(c))
            g->images = convolution_smaller(fit ? fit : 1, c->images ? c->images : 1);
    } else {
        int64_t floats = row * (int64_t)c->channels; /* factors fit 32 bits */
        int64_t rows = (LAST_MAX / floats - reach(window, 0, 1)) / window->stride[0] + 1;
        g->rows = rows > 1 ? convolution_smaller((size_t)rows, (size_t)height) : 1;
    }
    g->height = (size_t)reach(window, 0, (int64_t)g->rows);
    int64_t extents[] = {(int64_t)g->height, row, (int64_t)c->channels};
    if (!tensor_shape_count(3, extents, 4 * sizeof(float), &g->image))
        return false;
    g->packed = round_up(g->images * g->image + PANEL_WIDTH, PANEL_STEP);
    if (g->images > 1)
        g->adjoints = g->images * c->output_plane * c->filters;
    if (convolution_has_channel(c))
        g->adjoints = g->rows * round_up((size_t)window->output[1], CONVOLUTION_LANES);
    return true;
}

bool convolution_lay_out(struct convolution_plan *plan)
{
    struct convolution *forward = &plan->forward;
    if (!lay_out_pass(forward) || !lay_out_phases(plan) || !lay_out_gradient(plan))
        return false;
    const struct convolution_gradient *gradient = &plan->gradient;
    forward->target_plane = forward->output_plane;
    forward->target_pitch = (size_t)forward->window.output[1];
    forward->target_step = 1;
    plan->packed = forward->packed;
    plan->offset_count = forward->terms +
                         gradient->images * gradient->rows * (size_t)forward->window.output[1];
    size_t kernels = 0;
    for (size_t i = 0; i < plan->phase_count; i++) {
        const struct convolution *pass = &plan->phases[i].pass;
        plan->packed = pass->packed > plan->packed ? pass->packed : plan->packed;
        plan->offset_count += pass->terms;
        kernels += pass->terms; /* each at most INT32_MAX */
    }
    int64_t extents[] = {(int64_t)kernels, (int64_t)forward->channels};
    if (!tensor_shape_count(2, extents, 4 * sizeof(float), &kernels))
        return false;
    size_t passes = plan->packed + kernels, whole = gradient->packed + gradient->adjoints;
    plan->workspace = CONVOLUTION_RESULTS + (passes > whole ? passes : whole);
    if (plan->volume.axes)
        return true;
    convolution_winograd_lay_out(forward, &plan->winograd);
    if (plan->winograd.used) {
        size_t winograd = convolution_winograd_workspace(&plan->winograd);
        plan->workspace = winograd > plan->workspace ? winograd : plan->workspace;
        plan->offset_count += forward->channels;
    }
    return true;
}

/* The place of a tap's plane among those of a channel, and of the tap in it. */
static size_t offset_in_planes(const struct convolution *c, int64_t y, int64_t x)
{
    const struct net_window *window = &c->window;
    int64_t down = y * window->dilation[0], right = x * window->dilation[1];
    unsigned above = c->used[0] & ((1U << down % window->stride[0]) - 1);
    size_t plane = (size_t)__builtin_popcount(above) * convolution_plane_columns(c), shift = 0;
    if (c->layout == CONVOLUTION_SHARED) {
        unsigned before = c->used[1] & ((1U << right % window->stride[1]) - 1);
        plane += (size_t)__builtin_popcount(before);
        shift = (size_t)(right / window->stride[1]);
    } else {
        plane += (size_t)x;
    }
    return (plane * c->rows + (size_t)(down / window->stride[0])) * c->pitch + shift;
}

void convolution_set_terms(struct convolution *c)
{
    const struct net_window *window = &c->window;
    size_t q = 0, channel_size = c->input_plane;
    bool planes = c->layout == CONVOLUTION_PLANES || c->layout == CONVOLUTION_SHARED;
    if (planes)
        channel_size = convolution_plane_count(c) / c->channels * c->rows * c->pitch;
    for (size_t channel = 0; channel < c->channels; channel++)
        for (int64_t y = 0; y < window->kernel[0]; y++)
            for (int64_t x = 0; x < window->kernel[1]; x++, q++)
                c->offsets[q] = c->layout == CONVOLUTION_COLUMNS
                                    ? q * c->columns
                                    : channel * channel_size +
                                          (planes ? offset_in_planes(c, y, x) : 0);
}

static void set_positions(struct convolution_plan *plan)
{
    const struct convolution_gradient *g = &plan->gradient;
    const struct net_window *window = &plan->forward.window;
    size_t channels = plan->forward.channels, p = 0;
    for (size_t image = 0; image < g->images; image++)
        for (size_t y = 0; y < g->rows; y++)
            for (size_t x = 0; x < (size_t)window->output[1]; x++)
                g->offsets[p++] = image * g->image + (y * (size_t)window->stride[0] * g->width +
                                                      x * (size_t)window->stride[1]) *
                                                         channels;
}

void convolution_set_offsets(struct convolution_plan *plan, size_t *offsets)
{
    plan->forward.offsets = offsets;
    offsets += plan->forward.terms;
    convolution_set_terms(&plan->forward);
    for (size_t i = 0; i < plan->phase_count; i++) {
        struct convolution *pass = &plan->phases[i].pass;
        pass->offsets = offsets;
        offsets += pass->terms;
        convolution_set_terms(pass);
    }
    for (size_t i = 0; plan->winograd.used && i < plan->forward.channels; i++)
        offsets[i] = i * plan->winograd.pitch;
    plan->winograd.offsets = offsets;
    plan->gradient.offsets = offsets + (plan->winograd.used ? plan->forward.channels : 0);
    set_positions(plan);
}
