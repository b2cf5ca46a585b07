/* Conv: the layout of packed inputs, forward and for the derivatives. */
#include "core/stream.h"
#include "net/ops/convolution/convolution.h"

enum {
    COPY_COST = 16,       /* the cost of copying one element, in products */
    POSITIONS_MAX = 1024, /* of several images, whose gradient is taken at once */
    LAST_MAX = 256 << 10, /* floats of images with their channels last, packed at once */
};

/* The remainders of the kernel's rows by the stride, as bits. */
static unsigned remainders(const struct net_window *window)
{
    unsigned used = 0;
    for (int64_t k = 0; k < window->kernel[0] && k < CONVOLUTION_STRIDE_MAX; k++)
        used |= 1U << (k * window->dilation[0] % window->stride[0]);
    return used;
}

/* Lays out planes. Returns whether they fit and are cheaper than columns. */
static bool prefer_planes(struct convolution *c)
{
    const struct net_window *window = &c->window;
    if (window->stride[0] > CONVOLUTION_STRIDE_MAX)
        return false;
    c->used = remainders(window);
    int64_t margin = (window->kernel[0] - 1) * window->dilation[0] / window->stride[0];
    int64_t row = (int64_t)convolution_plane_count(c) * window->output[1]; /* fit 32 bits each */
    if (margin > CONVOLUTION_PACKED_MAX || row > CONVOLUTION_PACKED_MAX ||
        row * (margin + 1) > CONVOLUTION_PACKED_MAX)
        return false;
    c->band = convolution_smaller((size_t)window->output[0],
                                  (size_t)(CONVOLUTION_PACKED_MAX / row - margin));
    c->rows = c->band + (size_t)margin;
    double outputs = (double)(c->band * (size_t)window->output[1]);
    double computed = (double)round_up(c->band * (size_t)window->output[1], PANEL_STEP);
    double planes = (double)c->terms * (double)c->filters * computed +
                    (double)convolution_planes_size(c) * COPY_COST;
    double columns = (double)c->terms * (double)(c->filters + COPY_COST) * outputs;
    return planes < columns;
}

/* Lays out a pass whose window and counts are set. */
static bool lay_out_pass(struct convolution *c)
{
    c->input_plane = (size_t)(c->window.input[0] * c->window.input[1]);
    c->output_plane = (size_t)(c->window.output[0] * c->window.output[1]);
    c->planes = prefer_planes(c);
    size_t total = c->images * c->output_plane;
    c->columns = convolution_smaller(
        convolution_smaller(round_up(total ? total : 1, PANEL_WIDTH), CONVOLUTION_COLUMNS_MAX),
        CONVOLUTION_PACKED_MAX / c->terms / PANEL_WIDTH * PANEL_WIDTH);
    if (c->columns < PANEL_WIDTH)
        c->columns = PANEL_WIDTH;
    int64_t extents[] = {(int64_t)c->terms, (int64_t)c->columns};
    if (!tensor_shape_count(2, extents, 4 * sizeof(float), &c->packed))
        return false;
    if (c->planes && convolution_planes_size(c) > c->packed)
        c->packed = convolution_planes_size(c);
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
    return true;
}

static void set_offsets(struct convolution *c)
{
    const struct net_window *window = &c->window;
    size_t width = (size_t)window->output[1], q = 0;
    for (size_t channel = 0; channel < c->channels; channel++)
        for (int64_t y = 0; y < window->kernel[0]; y++)
            for (int64_t x = 0; x < window->kernel[1]; x++, q++) {
                int64_t down = y * window->dilation[0];
                if (!c->planes) {
                    c->offsets[q] = q * c->columns;
                    continue;
                }
                unsigned before = c->used & ((1U << down % window->stride[0]) - 1);
                size_t plane = channel * (size_t)__builtin_popcount(c->used) +
                               (size_t)__builtin_popcount(before);
                plane = plane * (size_t)window->kernel[1] + (size_t)x;
                c->offsets[q] = (plane * c->rows + (size_t)(down / window->stride[0])) * width;
            }
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
    set_offsets(&plan->forward);
    for (size_t i = 0; i < plan->phase_count; i++) {
        struct convolution *pass = &plan->phases[i].pass;
        pass->offsets = offsets;
        offsets += pass->terms;
        set_offsets(pass);
    }
    plan->gradient.offsets = offsets;
    set_positions(plan);
}
