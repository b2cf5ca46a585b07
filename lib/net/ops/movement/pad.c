/* Operators that add elements at the ends of axes, or cut them off there. */
#include <inttypes.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/movement/table_copy.h"

/*
 * Pad: out[i_0 … i_n] = in[m_0(i_0) … m_n(i_n)], where m_k takes i_k less the padding before axis k
 * to the nearest element (edge), to its mirror image (reflect), round to the other end (wrap), or
 * to none, which yields the constant. A negative padding cuts elements off.
 */

/* The elements to add before and after each axis, and how. */
struct padding {
    char mode; /* the first letter of its name */
    int64_t extent[IVON_RANK_MAX], before[IVON_RANK_MAX], after[IVON_RANK_MAX];
};

static int pad_mode(const struct net_call *call, char *first, struct ivon_error *error)
{
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    const char *mode = net_attribute_text(call->node, "mode", "constant");
    *first = *mode;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(mode, modes[i]) == 0)
            return 0;
    return net_fail(call, error, "mode '%s', expected constant, reflect, edge or wrap", mode);
}

/* The lists of pads and of the axes they are for: all, if no axes are given. */
static int pad_find(const struct net_call *call, struct padding *padding, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    const int64_t *pads, *axes;
    size_t count, axis_count;
    int code = net_attribute_or_list(call, 1, "pads", &pads, &count, error);
    if (!code)
        code = net_known_list(call, 3, "axes", &axes, &axis_count, error);
    if (code)
        return code;
    if (!axes)
        axis_count = (size_t)input->rank;
    if (count != 2 * axis_count)
        return net_fail(call, error, "%zu pads for %zu axes", count, axis_count);
    *padding = (struct padding){0};
    unsigned seen = 0;
    for (size_t i = 0; i < axis_count; i++) {
        int axis = axes ? net_axis(axes[i], input->rank) : (int)i;
        if (axis < 0 || seen & 1U << axis)
            return net_fail(call, error, "axis %" PRId64 " is %s", axes ? axes[i] : (int64_t)i,
                            axis < 0 ? "none of the input's" : "named twice");
        seen |= 1U << axis;
        padding->before[axis] = pads[i];
        padding->after[axis] = pads[axis_count + i];
    }
    memcpy(padding->extent, input->shape, sizeof padding->extent);
    return pad_mode(call, &padding->mode, error);
}

/* Sets the output's shape and the workspace. */
static int pad_output(struct net_call *call, const struct padding *padding,
                      struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    int64_t shape[IVON_RANK_MAX];
    call->alias = true;
    for (int i = 0; i < input->rank; i++) {
        int64_t before = padding->before[i], after = padding->after[i];
        call->alias &= !before && !after;
        if (before < -INT64_MAX / 2 || after < -INT64_MAX / 2 ||
            __builtin_add_overflow(input->shape[i], before, &shape[i]) ||
            __builtin_add_overflow(shape[i], after, &shape[i]) || shape[i] < 0 ||
            (shape[i] && !input->shape[i] && padding->mode != 'c'))
            return net_fail(call, error,
                            "axis %d of extent %" PRId64 " cannot be padded by %" PRId64
                            " and %" PRId64,
                            i, input->shape[i], before, after);
    }
    int code = net_output_made(call, 0, input->type, input->rank, shape, input->count, error);
    call->workspace_size = code ? 0 : net_table_copy_size(call->outputs[0]);
    return code;
}

static int pad_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *constant = net_input(call, 2);
    struct padding padding;
    int code = pad_find(call, &padding, error);
    if (code)
        return code;
    if (constant && (constant->type != input->type || constant->count != 1))
        return net_fail(call, error, "constant_value is no single %s", net_type_name(input->type));
    if (net_attribute(call->node, "value") && input->type != NET_FLOAT)
        return net_fail(call, error, "value is a float, the input %s", net_type_name(input->type));
    return pad_output(call, &padding, error);
}

static int64_t pad_source(const void *context, int axis, int64_t at)
{
    const struct padding *padding = context;
    int64_t size = padding->extent[axis];
    at -= padding->before[axis];
    if (padding->mode == 'c')
        return at >= 0 && at < size ? at : -1;
    if (padding->mode == 'e' || size == 1)
        return at < 0 ? 0 : at < size ? at : size - 1;
    if (padding->mode == 'w')
        return (at % size + size) % size;
    int64_t period = 2 * (size - 1);
    at = (at < 0 ? -at : at) % period;
    return at < size ? at : period - at;
}

/* Fills the workspace. */
static void pad_begin(const struct net_call *call, const struct padding *padding,
                      struct net_table_copy *copy)
{
    net_table_copy_begin(copy, call->inputs[0], call->outputs[0], call->workspace, pad_source,
                         padding);
}

static struct net_table_copy pad_copy(const struct net_call *call)
{
    struct padding padding;
    struct net_table_copy copy;
    pad_find(call, &padding, NULL); /* succeeded in infer */
    pad_begin(call, &padding, &copy);
    return copy;
}

static int pad_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct net_table_copy copy = pad_copy(call);
    const struct net_tensor *constant = net_input(call, 2);
    float value = (float)net_attribute_number(call->node, "value", 0);
    net_table_copy_run(&copy, call->inputs[0]->type, call->outputs[0]->data, call->inputs[0]->data,
                       constant                             ? constant->data
                       : call->inputs[0]->type == NET_FLOAT ? &value
                                                            : NULL);
    return 0;
}

static void pad_tangent(const struct net_call *call, const float *const *input_tangents,
                        float *const *output_tangents)
{
    const struct net_table_copy copy = pad_copy(call);
    net_table_copy_run(&copy, NET_FLOAT, output_tangents[0], input_tangents[0],
                       call->node->input_count > 2 ? input_tangents[2] : NULL);
}

static void pad_backward(const struct net_call *call, const float *const *output_adjoints,
                         float *const *input_adjoints)
{
    if (!output_adjoints[0])
        return;
    const struct net_table_copy copy = pad_copy(call);
    double outside = net_table_copy_add(&copy, input_adjoints[0], output_adjoints[0]);
    if (call->node->input_count > 2 && input_adjoints[2])
        *input_adjoints[2] += (float)outside;
}

static bool pad_separable(const struct net_call *tile, const struct net_call *example)
{
    struct padding padding;
    int axis = net_example_axis(tile->inputs[0], example->inputs[0]);
    pad_find(tile, &padding, NULL); /* succeeded in infer */
    return axis < 0 || (!padding.before[axis] && !padding.after[axis]);
}

/* CenterCropPad: the middle of each axis, with zeros on both sides where the axis is shorter. Where
   the two sides cannot be equal, the one before is the smaller. */

static int crop_find(const struct net_call *call, struct padding *padding, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    size_t count, axis_count;
    const int64_t *sizes, *axes = net_attribute_integers(call->node, "axes", &axis_count);
    int code = net_known_list(call, 1, "the shape", &sizes, &count, error);
    if (code)
        return code;
    if (!axes)
        axis_count = (size_t)input->rank;
    if (count != axis_count)
        return net_fail(call, error, "a shape of %zu extents for %zu axes", count, axis_count);
    *padding = (struct padding){.mode = 'c'};
    memcpy(padding->extent, input->shape, sizeof padding->extent);
    unsigned seen = 0;
    for (size_t i = 0; i < axis_count; i++) {
        int axis = axes ? net_axis(axes[i], input->rank) : (int)i;
        if (axis < 0 || seen & 1U << axis)
            return net_fail(call, error, "axis %" PRId64 " is %s", axes ? axes[i] : (int64_t)i,
                            axis < 0 ? "none of the input's" : "named twice");
        if (sizes[i] < 0)
            return net_fail(call, error, "a shape with an extent of %" PRId64, sizes[i]);
        seen |= 1U << axis;
        int64_t more = sizes[i] - input->shape[axis];
        padding->before[axis] = more / 2;
        padding->after[axis] = more - more / 2;
    }
    return 0;
}

static int crop_infer(struct net_call *call, struct ivon_error *error)
{
    struct padding padding;
    int code = crop_find(call, &padding, error);
    return code ? code : pad_output(call, &padding, error);
}

static struct net_table_copy crop_copy(const struct net_call *call)
{
    struct padding padding;
    struct net_table_copy copy;
    crop_find(call, &padding, NULL); /* succeeded in infer */
    pad_begin(call, &padding, &copy);
    return copy;
}

static int crop_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct net_table_copy copy = crop_copy(call);
    net_table_copy_run(&copy, call->inputs[0]->type, call->outputs[0]->data, call->inputs[0]->data,
                       NULL);
    return 0;
}

static void crop_tangent(const struct net_call *call, const float *const *input_tangents,
                         float *const *output_tangents)
{
    const struct net_table_copy copy = crop_copy(call);
    net_table_copy_run(&copy, NET_FLOAT, output_tangents[0], input_tangents[0], NULL);
}

static void crop_backward(const struct net_call *call, const float *const *output_adjoints,
                          float *const *input_adjoints)
{
    if (!output_adjoints[0] || !input_adjoints[0])
        return;
    const struct net_table_copy copy = crop_copy(call);
    net_table_copy_add(&copy, input_adjoints[0], output_adjoints[0]);
}

#define PAD                                                                                        \
    .outputs_max = 1, .infer = pad_infer, .forward = pad_forward, .backward = pad_backward,        \
    .tangent = pad_tangent, .separable = pad_separable

const struct net_operator net_pad_operators[] = {
    {.name = "Pad",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .attributes = {{"mode", NET_TEXT}, {"pads", NET_INTS}, {"value", NET_FLT}},
     PAD},
    {.name = "Pad",
     .since = 11,
     .inputs_min = 2,
     .inputs_max = 3,
     .settings = 1U << 2,
     .attributes = {{"mode", NET_TEXT}},
     PAD},
    {.name = "Pad",
     .since = 18,
     .inputs_min = 2,
     .inputs_max = 4,
     .settings = 1U << 2,
     .attributes = {{"mode", NET_TEXT}},
     PAD},
    {.name = "CenterCropPad",
     .since = 18,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .attributes = {{"axes", NET_INTS}},
     .infer = crop_infer,
     .forward = crop_forward,
     .backward = crop_backward,
     .tangent = crop_tangent},
    {0}};
