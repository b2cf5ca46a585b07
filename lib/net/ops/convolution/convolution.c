/* Conv: the shape rule and the row's functions. */
#include "net/ops/convolution/convolution.h"

#include <inttypes.h>

#include "core/stream.h"
#include "net/graph/rules.h"

int convolution_check_types(const struct net_call *call, struct ivon_error *error)
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
    return 0;
}

int convolution_check_bias(const struct net_call *call, int64_t filters, struct ivon_error *error)
{
    char found[256], expected[256];
    const struct net_tensor *bias = net_input(call, 2);
    if (bias && (bias->rank != 1 || bias->shape[0] != filters))
        return net_fail(call, error, "bias of shape %s for weights of shape %s",
                        net_shape_text(bias, found), net_shape_text(call->inputs[1], expected));
    return 0;
}

/* Preparing. */

/* Returns whether each output is a product of a whole image and the weights. */
static bool is_dense(const struct convolution_plan *plan)
{
    const struct convolution *c = &plan->forward;
    const struct net_window *window = &c->window;
    for (int axis = 0; axis < 2; axis++)
        if (window->output[axis] != 1 || window->before[axis] != 0 ||
            window->kernel[axis] != window->input[axis] ||
            (window->dilation[axis] != 1 && window->kernel[axis] != 1))
            return false;
    return c->groups == 1 && c->images <= INT32_MAX && !plan->volume.axes;
}

enum { ONE_ROW_MAX = 256 }; /* positions; derivatives cut large images into rows */

/* Returns whether each position of a small image is multiplied by itself. */
static bool convolution_takes_all(const struct net_window *window)
{
    for (int axis = 0; axis < 2; axis++)
        if (window->kernel[axis] != 1 || window->stride[axis] != 1 || window->before[axis] != 0 ||
            window->input[axis] != window->output[axis])
            return false;
    return window->input[0] * window->input[1] <= ONE_ROW_MAX;
}

/* The last two axes as a window; of one axis, the height is 1, as it is where the rows of an image
   are no different from one long row, which is packed faster. */
static struct net_window convolution_window(const struct convolution_shape *shape)
{
    struct net_window window = {
        .input = {1}, .kernel = {1}, .stride = {1}, .dilation = {1}, .output = {1}, .padded = {1}};
    for (int i = shape->axes == 1; i < 2; i++) {
        const struct net_window_axis *axis = &shape->axis[shape->axes - 2 + i];
        window.input[i] = axis->input;
        window.kernel[i] = axis->kernel;
        window.stride[i] = axis->stride;
        window.dilation[i] = axis->dilation;
        window.before[i] = axis->before;
        window.output[i] = axis->output;
        window.padded[i] = axis->before + axis->input + axis->after;
    }
    if (convolution_takes_all(&window)) {
        window.padded[1] = window.output[1] = window.input[1] *= window.input[0];
        window.padded[0] = window.output[0] = window.input[0] = 1;
    }
    return window;
}

/* Lays the axes before the last two out; false where sizes overflow. */
static bool lay_out_volume(const struct convolution_shape *shape, struct convolution_volume *volume)
{
    int64_t inputs[IVON_RANK_MAX], taps[IVON_RANK_MAX], outputs[IVON_RANK_MAX];
    *volume = (struct convolution_volume){.images = (size_t)shape->images};
    for (; volume->axes < shape->axes - 2; volume->axes++) {
        const struct net_window_axis *axis = &shape->axis[volume->axes];
        volume->axis[volume->axes] = *axis;
        inputs[volume->axes] = axis->input;
        taps[volume->axes] = axis->kernel;
        outputs[volume->axes] = axis->output;
    }
    return tensor_shape_count(volume->axes, inputs, sizeof(float), &volume->inputs) &&
           tensor_shape_count(volume->axes, taps, sizeof(float), &volume->taps) &&
           tensor_shape_count(volume->axes, outputs, sizeof(float), &volume->outputs);
}

/* Sets the counts of a plan; false where they are too large. */
static bool lay_out_counts(const struct convolution_shape *shape, struct convolution_plan *plan)
{
    struct convolution *c = &plan->forward;
    struct convolution_volume *volume = &plan->volume;
    if (!lay_out_volume(shape, volume))
        return false;
    c->window = convolution_window(shape);
    const struct net_window *window = &c->window;
    int64_t channels[] = {shape->channels, (int64_t)volume->taps};
    int64_t terms[] = {shape->channels, (int64_t)volume->taps, window->kernel[0],
                       window->kernel[1]};
    int64_t input[] = {shape->groups, shape->channels, (int64_t)volume->taps, window->input[0],
                       window->input[1]};
    int64_t output[] = {shape->groups, shape->filters, window->output[0], window->output[1]};
    c->images = volume->axes ? 1 : volume->images;
    c->groups = (size_t)shape->groups;
    c->filters = (size_t)shape->filters;
    return tensor_shape_count(2, channels, 1, &c->channels) &&
           tensor_shape_count(4, terms, sizeof(size_t), &c->terms) && c->terms <= INT32_MAX &&
           tensor_shape_count(5, input, 4 * sizeof(float), &volume->input) &&
           tensor_shape_count(4, output, 4 * sizeof(float), &volume->output) &&
           shape->groups * shape->filters <= INT32_MAX &&
           window->input[0] * window->input[1] <= INT32_MAX &&
           window->output[0] * window->output[1] <= INT32_MAX;
}

int convolution_prepare(struct net_call *call, const struct convolution_shape *shape,
                        struct ivon_error *error)
{
    struct convolution_plan plan = {0};
    char text[256];
    if (!lay_out_counts(shape, &plan) || !convolution_lay_out(&plan))
        return net_fail(call, error, "weights of shape %s are too large",
                        net_shape_text(call->inputs[1], text));
    plan.dense = is_dense(&plan);
    plan.product = (struct net_matmul){.transpose_b = true,
                                       .m = shape->images,
                                       .n = shape->filters,
                                       .k = (int64_t)plan.forward.terms,
                                       .batch_count = 1};
    plan.finish = plan.workspace;
    plan.workspace += net_finish_scratch((size_t)(shape->groups * shape->filters));
    if (plan.volume.axes)
        plan.workspace += plan.volume.input + plan.volume.output;
    struct convolution_plan *stored = net_prepare(
        call, sizeof *stored + plan.offset_count * sizeof(size_t), error);
    if (!stored)
        return IVON_ERROR_MEMORY;
    *stored = plan;
    convolution_set_offsets(stored, (size_t *)(stored + 1));
    call->workspace_size = plan.workspace * sizeof(float);
    return 0;
}

/* Conv. */

static const struct net_matmul *convolution_product(const struct net_call *call)
{
    const struct convolution_plan *plan = call->prepared;
    return plan->dense ? &plan->product : NULL;
}

int convolution_infer(struct net_call *call, struct ivon_error *error)
{
    char found[256], expected[256];
    int64_t groups = net_attribute_integer(call->node, "group", 1);
    int code = convolution_check_types(call, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[0], *w = call->inputs[1];
    if (groups < 1 || w->shape[1] < 1 || x->shape[1] % groups != 0 ||
        x->shape[1] / groups != w->shape[1] || w->shape[0] < 1 || w->shape[0] % groups != 0)
        return net_fail(call, error,
                        "weights of shape %s for an input of shape %s in %" PRId64 " groups",
                        net_shape_text(w, found), net_shape_text(x, expected), groups);
    struct net_window_axis axes[IVON_RANK_MAX];
    code = convolution_check_bias(call, w->shape[0], error);
    if (!code)
        code = net_window_infer_axes(call, w->shape + 2, axes, error);
    if (code)
        return code;
    int64_t shape[IVON_RANK_MAX] = {x->shape[0], w->shape[0]};
    for (int i = 2; i < x->rank; i++)
        shape[i] = axes[i - 2].output;
    code = net_output(call, 0, NET_FLOAT, x->rank, shape, error);
    struct convolution_shape convolution = {.axes = x->rank - 2,
                                            .axis = axes,
                                            .images = x->shape[0],
                                            .groups = groups,
                                            .channels = w->shape[1],
                                            .filters = w->shape[0] / groups};
    return code ? code : convolution_prepare(call, &convolution, error);
}

void convolution_forward_apply(const struct convolution_plan *plan, const float *x, const float *w,
                               const float *bias, float *y, const struct net_finish *steps,
                               float *workspace)
{
    float *scratch = workspace + plan->finish;
    struct convolution_finish finish = {steps, scratch, plan->forward.filters, 0};
    if (plan->winograd.used) {
        if (steps)
            net_finish_begin(steps, finish.channels, scratch);
        convolution_winograd_run(&plan->forward, &plan->winograd, w, bias, x, y,
                                 steps ? &finish : NULL, workspace);
    } else if (steps) {
        convolution_images_apply(plan, x, w, bias, false, y, steps, workspace);
    } else {
        convolution_apply(plan, x, w, bias, false, y, workspace);
    }
}

static int convolution_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    convolution_forward_apply(call->prepared, call->inputs[0]->data, call->inputs[1]->data,
                              convolution_bias(call), call->outputs[0]->data, call->finish,
                              call->workspace);
    return 0;
}

/* ẏ = conv(ẋ, w) + conv(x, ẇ) + ḃ */
void convolution_tangent(const struct net_call *call, const float *const *input_tangents,
                         float *const *output_tangents)
{
    const struct convolution_plan *plan = call->prepared;
    const float *bias = convolution_bias(call) ? input_tangents[2] : NULL;
    const float *x = input_tangents[0], *w = input_tangents[1];
    float *y = output_tangents[0];
    if (x)
        convolution_apply(plan, x, call->inputs[1]->data, bias, false, y, call->workspace);
    if (w)
        convolution_apply(plan, call->inputs[0]->data, w, x ? NULL : bias, x != NULL, y,
                          call->workspace);
    if (!x && !w)
        convolution_fill(call->outputs[0], bias, y);
}

void convolution_backward(const struct net_call *call, const float *const *output_adjoints,
                          float *const *input_adjoints)
{
    const struct convolution_plan *plan = call->prepared;
    const float *dy = output_adjoints[0];
    if (!dy)
        return;
    if (convolution_bias(call) && input_adjoints[2])
        convolution_add_bias(call->outputs[0], dy, input_adjoints[2]);
    if (input_adjoints[0])
        convolution_add_input(plan, call->inputs[1]->data, dy, input_adjoints[0], call->workspace);
    if (input_adjoints[1])
        convolution_add_weights(plan, call->inputs[0]->data, dy, input_adjoints[1],
                                call->workspace);
}

const struct net_operator net_convolution_operators[] = {
    {.name = "Conv",
     .since = 1,
     .inputs_min = 2,
     .inputs_max = 3,
     .outputs_max = 1,
     .weights = 1U << 1 | 1U << 2,
     .flags = NET_FINISHES,
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
     .paired_workspace = convolution_pair_workspace,
     .forward_paired = convolution_pair_forward,
     .product = convolution_product,
     .planes = convolution_planes,
     .bands = convolution_bands,
     .arranged_count = convolution_arranged_count,
     .arrange = convolution_arrange,
     .quadratic = convolution_quadratic},
    {.name = "ConvTranspose",
     .since = 1,
     .inputs_min = 2,
     .inputs_max = 3,
     .outputs_max = 1,
     .weights = 1U << 1 | 1U << 2,
     .attributes = {{"auto_pad", NET_TEXT},
                    {"dilations", NET_INTS},
                    {"group", NET_INT},
                    {"kernel_shape", NET_INTS},
                    {"output_padding", NET_INTS},
                    {"output_shape", NET_INTS},
                    {"pads", NET_INTS},
                    {"strides", NET_INTS}},
     .infer = convolution_transpose_infer,
     .forward = convolution_transpose_forward,
     .backward = convolution_transpose_backward,
     .tangent = convolution_transpose_tangent},
    {0}};
