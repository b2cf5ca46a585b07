/* Conv: the shape rule, and how its inputs will be packed. */
#include "net/ops/convolution.h"

#include <inttypes.h>

#include "core/stream.h"

enum { COPY_COST = 16 }; /* what one copied element costs, in products */

/* Which remainders by the stride the rows of the kernel have. */
static unsigned remainders(const struct net_window *window)
{
    unsigned used = 0;
    for (int64_t k = 0; k < window->kernel[0] && k < CONVOLUTION_STRIDE_MAX; k++)
        used |= 1U << (k * window->dilation[0] % window->stride[0]);
    return used;
}

/* Lays out planes, and says whether they fit and beat columns. */
static bool prefer_planes(struct convolution *c)
{
    const struct net_window *window = &c->window;
    if (window->stride[0] > CONVOLUTION_STRIDE_MAX)
        return false;
    c->used = remainders(window);
    int64_t margin = (window->kernel[0] - 1) * window->dilation[0] / window->stride[0];
    int64_t row = (int64_t)convolution_plane_count(c) * window->output[1]; /* factors fit 32 bits */
    if (margin > CONVOLUTION_PACKED_MAX || row > CONVOLUTION_PACKED_MAX ||
        row * (margin + 1) > CONVOLUTION_PACKED_MAX)
        return false;
    c->band = smaller((size_t)window->output[0], (size_t)(CONVOLUTION_PACKED_MAX / row - margin));
    c->rows = c->band + (size_t)margin;
    double outputs = (double)(c->band * (size_t)window->output[1]);
    double computed = (double)round_up(c->band * (size_t)window->output[1], PANEL_STEP);
    double planes = (double)c->terms * (double)c->filters * computed +
                    (double)convolution_planes_size(c) * COPY_COST;
    double columns = (double)c->terms * (double)(c->filters + COPY_COST) * outputs;
    return planes < columns;
}

static void set_offsets(struct convolution *c)
{
    const struct net_window *window = &c->window;
    size_t width = (size_t)window->output[1], q = 0;
    for (size_t channel = 0; channel < c->channels; channel++)
        for (int64_t y = 0; y < window->kernel[0]; y++)
            for (int64_t x = 0; x < window->kernel[1]; x++, q++) {
                int64_t down = y * window->dilation[0];
                unsigned before = c->used & ((1U << down % window->stride[0]) - 1);
                size_t plane = channel * (size_t)__builtin_popcount(c->used) +
                               (size_t)__builtin_popcount(before);
                plane = plane * (size_t)window->kernel[1] + (size_t)x;
                c->offsets[q] =
                    c->planes
                        ? (plane * c->rows + (size_t)(down / window->stride[0])) * width
                        : q * c->columns;
            }
}

static int check_inputs(const struct net_call *call, int64_t groups, struct ivon_error *error)
{
    char found[256], expected[256];
    bool biased = call->node->input_count > 2 && call->inputs[2];
    for (size_t i = 0; i < (biased ? 3U : 2U); i++) {
        int code = net_expect_float(call, i, error);
        if (code)
            return code;
    }
    const struct net_tensor *x = call->inputs[0], *w = call->inputs[1];
    if (x->rank != w->rank || x->rank < 3)
        return net_fail(call, error, "weights of shape %s for an input of shape %s",
                        net_shape_text(w, found), net_shape_text(x, expected));
    if (groups < 1 || w->shape[1] < 1 || x->shape[1] % groups != 0 ||
        x->shape[1] / groups != w->shape[1] || w->shape[0] < 1 || w->shape[0] % groups != 0)
        return net_fail(call, error,
                        "weights of shape %s for an input of shape %s in %" PRId64 " groups",
                        net_shape_text(w, found), net_shape_text(x, expected), groups);
    if (biased && (call->inputs[2]->rank != 1 || call->inputs[2]->shape[0] != w->shape[0]))
        return net_fail(call, error, "bias of shape %s for weights of shape %s",
                        net_shape_text(call->inputs[2], found), net_shape_text(w, expected));
    return 0;
}

/* What forward and the derivatives need of memory, in call->workspace_size. */
static int set_workspace(struct net_call *call, struct convolution *c, struct ivon_error *error)
{
    size_t total = c->images * c->output_plane;
    c->columns = smaller(smaller(round_up(total ? total : 1, PANEL_WIDTH), CONVOLUTION_COLUMNS_MAX),
                         CONVOLUTION_PACKED_MAX / c->terms / PANEL_WIDTH * PANEL_WIDTH);
    if (c->columns < PANEL_WIDTH)
        c->columns = PANEL_WIDTH;
    int64_t extents[] = {(int64_t)c->terms, (int64_t)c->columns};
    size_t columns;
    if (!tensor_shape_count(2, extents, 2 * sizeof(float), &columns))
        return net_fail(call, error, "its kernels are too large");
    c->packed = columns;
    if (c->planes && convolution_planes_size(c) > columns)
        c->packed = convolution_planes_size(c);
    c->packed = round_up(c->packed, PANEL_STEP);
    call->workspace_size = (c->packed + CONVOLUTION_FILTERS * PANEL_WIDTH) * sizeof(float);
    return 0;
}

static int infer(struct net_call *call, struct ivon_error *error)
{
    int64_t groups = net_attribute_integer(call->node, "group", 1);
    struct net_window window;
    int code = check_inputs(call, groups, error);
    if (!code)
        code = net_window_infer(call, call->inputs[1]->shape + 2, &window, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[0], *w = call->inputs[1];
    struct net_tensor *y = call->outputs[0];
    int64_t shape[4] = {x->shape[0], w->shape[0], window.output[2 - (x->rank - 2)],
                        window.output[1]};
    code = net_tensor_set(y, NET_FLOAT, x->rank, shape, error);
    if (code)
        return code;
    char text[256];
    int64_t extents[] = {w->shape[1], window.kernel[0], window.kernel[1]};
    size_t terms;
    if (!tensor_shape_count(3, extents, sizeof(size_t), &terms) || terms > INT32_MAX ||
        w->shape[0] > INT32_MAX || window.output[0] * window.output[1] > INT32_MAX)
        return net_fail(call, error, "weights of shape %s are too large", net_shape_text(w, text));
    struct convolution *c = net_prepare(call, sizeof *c + terms * sizeof *c->offsets, error);
    if (!c)
        return IVON_ERROR_MEMORY;
    c->offsets = (size_t *)(c + 1);
    c->window = window;
    c->images = (size_t)x->shape[0];
    c->groups = (size_t)groups;
    c->channels = (size_t)w->shape[1];
    c->filters = (size_t)(w->shape[0] / groups);
    c->terms = terms;
    c->input_plane = (size_t)(window.input[0] * window.input[1]);
    c->output_plane = (size_t)(window.output[0] * window.output[1]);
    c->planes = prefer_planes(c);
    code = set_workspace(call, c, error);
    set_offsets(c);
    return code;
}

const struct net_operator net_convolution_operators[] = {
    {.name = "Conv",
     .inputs_min = 2,
     .inputs_max = 3,
     .outputs_max = 1,
     .attributes = {{"auto_pad", NET_TEXT},
                    {"dilations", NET_INTS},
                    {"group", NET_INT},
                    {"kernel_shape", NET_INTS},
                    {"pads", NET_INTS},
                    {"strides", NET_INTS}},
     .infer = infer,
     .forward = convolution_forward,
     .backward = convolution_backward,
     .tangent = convolution_tangent,
     .parameter_gradient = convolution_parameter_gradient},
    {0}};
