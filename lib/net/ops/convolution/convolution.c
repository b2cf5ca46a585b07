/* Conv: the shape rule. */
#include "net/ops/convolution/convolution.h"

#include <inttypes.h>

#include "core/stream.h"

static int convolution_check_inputs(const struct net_call *call, int64_t groups,
                                    struct ivon_error *error)
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

/* Returns whether each output is a product of a whole image and the weights. */
static bool is_dense(const struct convolution *c)
{
    const struct net_window *window = &c->window;
    for (int axis = 0; axis < 2; axis++)
        if (window->output[axis] != 1 || window->before[axis] != 0 ||
            window->kernel[axis] != window->input[axis] ||
            (window->dilation[axis] != 1 && window->kernel[axis] != 1))
            return false;
    return c->groups == 1 && c->images <= INT32_MAX;
}

static const struct net_matmul *convolution_product(const struct net_call *call)
{
    const struct convolution_plan *plan = call->prepared;
    return plan->dense ? &plan->product : NULL;
}

static int convolution_infer(struct net_call *call, struct ivon_error *error)
{
    int64_t groups = net_attribute_integer(call->node, "group", 1);
    struct net_window window;
    int code = convolution_check_inputs(call, groups, error);
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
    struct convolution_plan plan = {.forward = {.window = window,
                                                .images = (size_t)x->shape[0],
                                                .groups = (size_t)groups,
                                                .channels = (size_t)w->shape[1],
                                                .filters = (size_t)(w->shape[0] / groups)}};
    if (!tensor_shape_count(3, extents, sizeof(size_t), &plan.forward.terms) ||
        plan.forward.terms > INT32_MAX || w->shape[0] > INT32_MAX ||
        window.output[0] * window.output[1] > INT32_MAX || !convolution_lay_out(&plan))
        return net_fail(call, error, "weights of shape %s are too large", net_shape_text(w, text));
    plan.dense = is_dense(&plan.forward);
    plan.product = (struct net_matmul){.transpose_b = true,
                                       .m = x->shape[0],
                                       .n = w->shape[0],
                                       .k = (int64_t)plan.forward.terms,
                                       .batch_count = 1};
    struct convolution_plan *stored = net_prepare(
        call, sizeof *stored + plan.offset_count * sizeof(size_t), error);
    if (!stored)
        return IVON_ERROR_MEMORY;
    *stored = plan;
    convolution_set_offsets(stored, (size_t *)(stored + 1));
    call->workspace_size = plan.workspace * sizeof(float);
    return 0;
}

const struct net_operator net_convolution_operators[] = {
    {.name = "Conv",
     .since = 1,
     .inputs_min = 2,
     .inputs_max = 3,
     .outputs_max = 1,
     .attributes = {{"auto_pad", NET_TEXT},
                    {"dilations", NET_INTS},
                    {"group", NET_INT},
                    {"kernel_shape", NET_INTS},
                    {"pads", NET_INTS},
                    {"strides", NET_INTS}},
     .infer = convolution_infer,
     .forward = convolution_forward,
     .backward = convolution_backward,
     .tangent = convolution_tangent,
     .product = convolution_product,
     .arranged_count = convolution_arranged_count,
     .arrange = convolution_arrange,
     .quadratic = convolution_quadratic},
    {0}};
