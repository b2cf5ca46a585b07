/*
 * ConvTranspose: y[n, m, stride p + dilation k − pad] = b[m] + Σ w[c, m, k] x[n, c, p], over all
 * c, p and k that lead there. It is the adjoint of a convolution from y's shape to x's, whose
 * weights are w as they stand.
 */
#include <inttypes.h>

#include "net/graph/rules.h"
#include "net/ops/convolution/convolution.h"

/* Sets *values to an attribute with a value of at least `low` for each axis; null where it is
   missing. */
static int transpose_values(const struct net_call *call, const char *name, int axes, int64_t low,
                            const int64_t **values, struct ivon_error *error)
{
    size_t count = 0;
    *values = net_attribute_integers(call->node, name, &count);
    if (*values && count != (size_t)axes)
        return net_fail(call, error, "%s has %zu values, expected %d for an input of %d axes", name,
                        count, axes, axes + 2);
    for (size_t i = 0; *values && i < count; i++)
        if ((*values)[i] < low || (*values)[i] > INT32_MAX)
            return net_fail(call, error, "%s has a value %" PRId64 ", expected %" PRId64 " to %d",
                            name, (*values)[i], low, INT32_MAX);
    return 0;
}

/* Turns an axis of ConvTranspose into that of the convolution whose adjoint it is. `extent` is the
   output's, or 0. Returns false where the output is empty or too long. */
static bool transpose_axis(struct net_window_axis *axis, enum net_padding padding, int64_t longer,
                           int64_t extent)
{
    int64_t reach = (axis->kernel - 1) * axis->dilation + 1; /* of factors of 32 bits */
    int64_t whole = (axis->input - 1) * axis->stride + reach;
    bool same = padding == NET_SAME_UPPER || padding == NET_SAME_LOWER;
    if (!extent && same)
        extent = axis->input * axis->stride;
    if (extent) {
        int64_t total = whole + longer > extent ? whole + longer - extent : 0;
        axis->before = padding == NET_SAME_UPPER ? total / 2 : total - total / 2;
    } else {
        if (padding == NET_VALID)
            axis->before = axis->after = 0;
        extent = whole + longer - axis->before - axis->after;
    }
    axis->output = axis->input;
    axis->input = extent;
    axis->after = 0;
    return axis->output > 0 && extent > 0 && extent <= INT32_MAX && whole <= INT32_MAX;
}

static int transpose_axes(const struct net_call *call, struct net_window_axis *axes,
                          struct ivon_error *error)
{
    enum net_padding padding;
    const int64_t *longer = NULL, *extents = NULL;
    int count = call->inputs[0]->rank - 2;
    char text[256];
    int code = net_window_read(call, call->inputs[1]->shape + 2, &padding, axes, error);
    if (!code)
        code = transpose_values(call, "output_padding", count, 0, &longer, error);
    if (!code)
        code = transpose_values(call, "output_shape", count, 1, &extents, error);
    for (int i = 0; i < count && !code; i++)
        if (!transpose_axis(&axes[i], padding, longer ? longer[i] : 0, extents ? extents[i] : 0))
            code = net_fail(call, error,
                            "axis %d of the input %s leads to an output of %" PRId64
                            " elements, expected 1 to %d",
                            i + 2, net_shape_text(call->inputs[0], text), axes[i].input, INT32_MAX);
    return code;
}

int convolution_transpose_infer(struct net_call *call, struct ivon_error *error)
{
    char found[256], expected[256];
    int64_t groups = net_attribute_integer(call->node, "group", 1), filters;
    struct net_window_axis axes[IVON_RANK_MAX];
    int code = convolution_check_types(call, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[0], *w = call->inputs[1];
    if (groups < 1 || w->shape[0] < 1 || w->shape[1] < 1 || x->shape[1] != w->shape[0] ||
        w->shape[0] % groups != 0 || __builtin_mul_overflow(w->shape[1], groups, &filters))
        return net_fail(call, error,
                        "weights of shape %s for an input of shape %s in %" PRId64 " groups",
                        net_shape_text(w, found), net_shape_text(x, expected), groups);
    code = convolution_check_bias(call, filters, error);
    if (!code)
        code = transpose_axes(call, axes, error);
    if (code)
        return code;
    int64_t shape[IVON_RANK_MAX] = {x->shape[0], filters};
    for (int i = 2; i < x->rank; i++)
        shape[i] = axes[i - 2].input;
    code = net_output_made(call, 0, NET_FLOAT, x->rank, shape, x->count, error);
    struct convolution_shape convolution = {.axes = x->rank - 2,
                                            .axis = axes,
                                            .images = x->shape[0],
                                            .groups = groups,
                                            .channels = w->shape[1],
                                            .filters = w->shape[0] / groups};
    return code ? code : convolution_prepare(call, &convolution, error);
}

int convolution_transpose_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    float *y = call->outputs[0]->data;
    convolution_fill(call->outputs[0], convolution_bias(call), y);
    convolution_add_input(call->prepared, call->inputs[1]->data, call->inputs[0]->data, y,
                          call->workspace);
    return 0;
}

void convolution_transpose_tangent(const struct net_call *call, const float *const *input_tangents,
                                   float *const *output_tangents)
{
    const float *x = input_tangents[0], *w = input_tangents[1];
    float *y = output_tangents[0];
    convolution_fill(call->outputs[0], convolution_bias(call) ? input_tangents[2] : NULL, y);
    if (x)
        convolution_add_input(call->prepared, call->inputs[1]->data, x, y, call->workspace);
    if (w)
        convolution_add_input(call->prepared, w, call->inputs[0]->data, y, call->workspace);
}

void convolution_transpose_backward(const struct net_call *call,
                                    const float *const *output_adjoints,
                                    float *const *input_adjoints)
{
    const float *dy = output_adjoints[0];
    if (!dy)
        return;
    if (convolution_bias(call) && input_adjoints[2])
        convolution_add_bias(call->outputs[0], dy, input_adjoints[2]);
    if (input_adjoints[0])
        convolution_apply(call->prepared, dy, call->inputs[1]->data, NULL, true, input_adjoints[0],
                          call->workspace);
    if (input_adjoints[1])
        convolution_add_weights(call->prepared, dy, call->inputs[0]->data, input_adjoints[1],
                                call->workspace);
}
