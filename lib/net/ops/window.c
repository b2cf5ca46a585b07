#include "net/ops/window.h"

#include <inttypes.h>
#include <string.h>

/* Reads the `count` values of an attribute and checks them; without it, sets all to `otherwise`. */
static int read_values(const struct net_call *call, const char *name, size_t count, int64_t low,
                       int64_t otherwise, int64_t *out, struct ivon_error *error)
{
    size_t found;
    const int64_t *given = net_attribute_integers(call->node, name, &found);
    if (given && found != count)
        return net_fail(call, error, "%s has %zu values, expected %zu for an input of %d axes",
                        name, found, count, call->inputs[0]->rank);
    for (size_t i = 0; i < count; i++) {
        out[i] = given ? given[i] : otherwise;
        if (out[i] < low || out[i] > INT32_MAX)
            return net_fail(call, error, "%s has a value %" PRId64 ", expected %" PRId64 " to %d",
                            name, out[i], low, INT32_MAX);
    }
    return 0;
}

static int kernel_shape(const struct net_call *call, size_t axes, const int64_t *kernel,
                        int64_t *out, struct ivon_error *error)
{
    if (!net_attribute(call->node, "kernel_shape"))
        return net_fail(call, error, "kernel_shape is missing");
    int code = read_values(call, "kernel_shape", axes, 1, 1, out, error);
    char shape[256];
    if (!code && kernel && memcmp(kernel, out, axes * sizeof *kernel) != 0)
        return net_fail(call, error, "kernel_shape differs from the weights' shape %s",
                        net_shape_text(call->inputs[1], shape));
    return code;
}

static int read_padding(const struct net_call *call, enum net_padding *padding,
                        struct ivon_error *error)
{
    static const char *const names[] = {[NET_PADDING_EXPLICIT] = "NOTSET",
                                        [NET_SAME_UPPER] = "SAME_UPPER",
                                        [NET_SAME_LOWER] = "SAME_LOWER",
                                        [NET_VALID] = "VALID"};
    const char *text = net_attribute_text(call->node, "auto_pad", "NOTSET");
    for (int i = NET_PADDING_EXPLICIT; i <= NET_VALID; i++)
        if (strcmp(text, names[i]) == 0) {
            *padding = (enum net_padding)i;
            return 0;
        }
    return net_fail(call, error,
                    "auto_pad is '%s', expected NOTSET, SAME_UPPER, SAME_LOWER or VALID", text);
}

/* Computes the padding and the output along one axis; false if the kernel exceeds the input. */
static bool window_lay_out_axis(struct net_window *window, int axis, enum net_padding padding,
                                int64_t after, bool ceiling)
{
    int64_t input = window->input[axis], stride = window->stride[axis];
    int64_t reach = (window->kernel[axis] - 1) * window->dilation[axis] + 1;
    if (padding == NET_SAME_UPPER || padding == NET_SAME_LOWER) {
        int64_t output = (input + stride - 1) / stride;
        int64_t total = (output - 1) * stride + reach - input;
        if (total < 0 || input == 0)
            total = 0;
        window->before[axis] = padding == NET_SAME_UPPER ? total / 2 : total - total / 2;
        after = total - window->before[axis];
    } else if (padding == NET_VALID) {
        window->before[axis] = after = 0;
    }
    int64_t padded = input + window->before[axis] + after;
    window->padded[axis] = padded;
    if (reach > padded || padded > INT32_MAX)
        return false;
    window->output[axis] = (padded - reach + (ceiling ? stride - 1 : 0)) / stride + 1;
    if (ceiling && (window->output[axis] - 1) * stride >= input + window->before[axis])
        window->output[axis]--;
    return true;
}

int net_window_infer(const struct net_call *call, const int64_t *kernel, struct net_window *window,
                     struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    char shape[256];
    if (input->rank != 3 && input->rank != 4)
        return net_fail(
            call, error, "input of shape %s, expected N x C and one or two spatial axes%s",
            net_shape_text(input, shape), input->rank == 5 ? ": three are not supported" : "");
    size_t axes = (size_t)input->rank - 2;
    int64_t kernels[2], strides[2], dilations[2], pads[4];
    enum net_padding padding = NET_PADDING_EXPLICIT;
    int code = read_padding(call, &padding, error);
    if (!code && (!kernel || net_attribute(call->node, "kernel_shape")))
        code = kernel_shape(call, axes, kernel, kernels, error);
    if (!code)
        code = read_values(call, "strides", axes, 1, 1, strides, error);
    if (!code)
        code = read_values(call, "dilations", axes, 1, 1, dilations, error);
    if (!code)
        code = read_values(call, "pads", 2 * axes, 0, 0, pads, error);
    if (code)
        return code;
    *window = (struct net_window){.input = {1, 1},
                                  .kernel = {1, 1},
                                  .stride = {1, 1},
                                  .dilation = {1, 1},
                                  .output = {1, 1},
                                  .padded = {1, 1}};
    bool ceiling = net_attribute_integer(call->node, "ceil_mode", 0) != 0;
    for (size_t i = 0; i < axes; i++) {
        int axis = (int)(2 - axes + i);
        window->input[axis] = input->shape[2 + i];
        window->kernel[axis] = kernel ? kernel[i] : kernels[i];
        window->stride[axis] = strides[i];
        window->dilation[axis] = dilations[i];
        window->before[axis] = pads[i];
        if (window->input[axis] > INT32_MAX || window->kernel[axis] > INT32_MAX ||
            window->kernel[axis] < 1 ||
            !window_lay_out_axis(window, axis, padding, pads[axes + i], ceiling))
            return net_fail(call, error,
                            "kernel %" PRId64 " (dilation %" PRId64 ") does not fit axis %zu of "
                            "the input %s, padded to %" PRId64,
                            window->kernel[axis], window->dilation[axis], 2 + i,
                            net_shape_text(input, shape), window->padded[axis]);
    }
    return 0;
}

int net_window_read(const struct net_call *call, const int64_t *kernel, enum net_padding *padding,
                    struct net_window_axis *axes, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    int64_t values[4][2 * IVON_RANK_MAX];
    char shape[256];
    if (input->rank < 3)
        return net_fail(call, error, "input of shape %s, expected N x C and spatial axes",
                        net_shape_text(input, shape));
    size_t count = (size_t)input->rank - 2;
    int code = read_padding(call, padding, error);
    if (!code && (!kernel || net_attribute(call->node, "kernel_shape")))
        code = kernel_shape(call, count, kernel, values[0], error);
    if (!code)
        code = read_values(call, "strides", count, 1, 1, values[1], error);
    if (!code)
        code = read_values(call, "dilations", count, 1, 1, values[2], error);
    if (!code)
        code = read_values(call, "pads", 2 * count, 0, 0, values[3], error);
    for (size_t i = 0; i < count && !code; i++) {
        axes[i] = (struct net_window_axis){.input = input->shape[2 + i],
                                           .kernel = kernel ? kernel[i] : values[0][i],
                                           .stride = values[1][i],
                                           .dilation = values[2][i],
                                           .before = values[3][i],
                                           .after = values[3][count + i]};
        if (axes[i].input > INT32_MAX || axes[i].kernel > INT32_MAX || axes[i].kernel < 1)
            code = net_fail(call, error, "kernel %" PRId64 " does not fit axis %zu of the input %s",
                            axes[i].kernel, 2 + i, net_shape_text(input, shape));
    }
    return code;
}

int net_window_infer_axes(const struct net_call *call, const int64_t *kernel,
                          struct net_window_axis *axes, struct ivon_error *error)
{
    enum net_padding padding;
    int code = net_window_read(call, kernel, &padding, axes, error);
    char shape[256];
    for (int i = 0; i < call->inputs[0]->rank - 2 && !code; i++) {
        struct net_window_axis *axis = &axes[i];
        struct net_window window = {.input = {axis->input},
                                    .kernel = {axis->kernel},
                                    .stride = {axis->stride},
                                    .dilation = {axis->dilation},
                                    .before = {axis->before}};
        if (!window_lay_out_axis(&window, 0, padding, axis->after, false))
            return net_fail(call, error,
                            "kernel %" PRId64 " (dilation %" PRId64 ") does not fit axis %d of "
                            "the input %s, padded to %" PRId64,
                            axis->kernel, axis->dilation, 2 + i,
                            net_shape_text(call->inputs[0], shape), window.padded[0]);
        axis->before = window.before[0];
        axis->after = window.padded[0] - axis->input - axis->before;
        axis->output = window.output[0];
    }
    return code;
}
