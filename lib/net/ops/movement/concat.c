/* Operators that join tensors along an axis, or split one: each part is a strided copy of the
   whole. */
#include <inttypes.h>
#include <string.h>

#include "net/ops/movement/strided_copy.h"
#include "net/graph/rules.h"

/* The product of the extents of the axes [first, end). */
static int64_t extent(const struct net_tensor *tensor, int first, int end)
{
    int64_t product = 1;
    for (int i = first; i < end; i++)
        product *= tensor->shape[i];
    return product;
}

/* Returns the copy from `whole` to `part`, which begins at `first` along one axis. */
static struct net_strided_copy part_copy(const struct net_tensor *part,
                                         const struct net_tensor *whole, int axis, int64_t first)
{
    struct net_strided_copy copy = {0};
    int64_t inner = extent(whole, axis + 1, whole->rank);
    copy.from_first = first * inner;
    net_strided_copy_add_axis(&copy, extent(part, 0, axis), part->shape[axis] * inner,
                              whole->shape[axis] * inner);
    net_strided_copy_add_axis(&copy, part->shape[axis] * inner, 1, 1);
    return copy;
}

/* Concat: the inputs one after another along `axis`. */

static int concat_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *first = call->inputs[0];
    int64_t shape[IVON_RANK_MAX];
    int64_t named = net_attribute_integer(call->node, "axis", INT64_MAX);
    int axis = net_axis(named, first->rank);
    if (axis < 0)
        return net_fail(call, error, "axis %" PRId64 " is none of the inputs'", named);
    memcpy(shape, first->shape, sizeof shape);
    for (size_t i = 1; i < call->node->input_count; i++) {
        const struct net_tensor *input = call->inputs[i];
        bool fits = input && input->type == first->type && input->rank == first->rank;
        for (int k = 0; fits && k < first->rank; k++)
            fits = k == axis || input->shape[k] == first->shape[k];
        fits = fits && !__builtin_add_overflow(shape[axis], input->shape[axis], &shape[axis]);
        char a[256], b[256];
        if (!fits)
            return net_fail(call, error,
                            "input %zu of shape %s (%s) cannot follow one of shape %s "
                            "(%s) along axis %d",
                            i + 1, input ? net_shape_text(input, a) : "none",
                            input ? net_type_name(input->type) : "left out",
                            net_shape_text(first, b), net_type_name(first->type), axis);
    }
    return net_output(call, 0, first->type, first->rank, shape, error);
}

/* Returns the copy from the output to input i. *first is its position along the axis, and is
   advanced to the next input's. */
static struct net_strided_copy concat_copy(const struct net_call *call, size_t i, int64_t *first)
{
    const struct net_tensor *input = call->inputs[i], *output = call->outputs[0];
    int axis = net_axis(net_attribute_integer(call->node, "axis", 0), output->rank);
    struct net_strided_copy copy = part_copy(input, output, axis, *first);
    *first += input->shape[axis];
    return copy;
}

static int concat_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    int64_t first = 0;
    for (size_t i = 0; i < call->node->input_count; i++) {
        const struct net_strided_copy reverse = concat_copy(call, i, &first);
        const struct net_strided_copy copy = net_strided_copy_reversed(&reverse);
        net_strided_copy_run(&copy, call->outputs[0]->data, call->inputs[i]->data,
                             net_type_size(call->outputs[0]->type));
    }
    return 0;
}

static void concat_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    int64_t first = 0;
    memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
    for (size_t i = 0; i < call->node->input_count; i++) {
        const struct net_strided_copy reverse = concat_copy(call, i, &first);
        const struct net_strided_copy copy = net_strided_copy_reversed(&reverse);
        if (input_tangents[i])
            net_strided_copy_run(&copy, output_tangents[0], input_tangents[i], sizeof(float));
    }
}

static void concat_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    int64_t first = 0;
    for (size_t i = 0; i < call->node->input_count; i++) {
        const struct net_strided_copy copy = concat_copy(call, i, &first);
        if (input_adjoints[i] && output_adjoints[0])
            net_strided_copy_add(&copy, input_adjoints[i], output_adjoints[0]);
    }
}

/* Examples that follow others of the same tile are not next to what they follow alone. */
static bool concat_separable(const struct net_call *tile, const struct net_call *example)
{
    const struct net_tensor *output = tile->outputs[0];
    int axis = net_axis(net_attribute_integer(tile->node, "axis", 0), output->rank);
    return tile->node->input_count == 1 || net_example_axis(output, example->outputs[0]) != axis;
}

/*
 * Split: the inverse of Concat. The parts' sizes are an attribute before opset 13. If none are
 * given, all parts are equal; with num_outputs only the last one may be smaller.
 */

/* Sets the sizes of the parts that are given; null where they are equal. */
static int split_sizes(const struct net_call *call, const int64_t **sizes, struct ivon_error *error)
{
    size_t count, outputs = call->node->output_count;
    int64_t named = net_attribute_integer(call->node, "num_outputs", (int64_t)outputs);
    int code = net_attribute_or_list(call, 1, "split", sizes, &count, error);
    if (!code && *sizes && count != outputs)
        return net_fail(call, error, "%zu sizes for %zu outputs", count, outputs);
    if (!code && named != (int64_t)outputs)
        return net_fail(call, error, "num_outputs is %" PRId64 " for %zu outputs", named, outputs);
    return code;
}

/* Returns the size of part j; it may be negative, or more than is left. */
static int64_t split_size(const struct net_call *call, const int64_t *sizes, size_t j,
                          int64_t extent)
{
    int64_t outputs = (int64_t)call->node->output_count, at = (int64_t)j;
    if (sizes)
        return sizes[j];
    int64_t size = extent / outputs + (extent % outputs != 0);
    return at + 1 < outputs ? size : extent - (outputs - 1) * size;
}

static int split_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    size_t outputs = call->node->output_count;
    const int64_t *sizes;
    int64_t shape[IVON_RANK_MAX], rest;
    int64_t named = net_attribute_integer(call->node, "axis", 0);
    int axis = net_axis(named, input->rank);
    int code = split_sizes(call, &sizes, error);
    if (code)
        return code;
    if (axis < 0)
        return net_fail(call, error, "axis %" PRId64 " is none of the input's", named);
    rest = input->shape[axis];
    bool uneven = net_attribute(call->node, "num_outputs") != NULL;
    if (!sizes && !uneven && rest % (int64_t)outputs)
        return net_fail(call, error, "axis %d of extent %" PRId64 " has no %zu equal parts", axis,
                        rest, outputs);
    memcpy(shape, input->shape, sizeof shape);
    bool fits = true;
    for (size_t i = 0; i < outputs && fits && !code; i++) {
        shape[axis] = split_size(call, sizes, i, input->shape[axis]);
        fits = shape[axis] >= 0 && shape[axis] <= rest;
        rest -= fits ? shape[axis] : 0;
        if (fits)
            code = net_output(call, i, input->type, input->rank, shape, error);
    }
    if (!code && (rest || !fits))
        return net_fail(call, error, "the sizes do not add up to axis %d's extent, %" PRId64, axis,
                        input->shape[axis]);
    return code;
}

/* Returns the copy from the input to output j. *first is its position along the axis, and is
   advanced to the next output's. */
static struct net_strided_copy split_copy(const struct net_call *call, size_t j, int64_t *first)
{
    const struct net_tensor *input = call->inputs[0];
    struct net_tensor output = *input;
    const int64_t *sizes;
    int axis = net_axis(net_attribute_integer(call->node, "axis", 0), input->rank);
    split_sizes(call, &sizes, NULL); /* succeeded in infer */
    output.shape[axis] = split_size(call, sizes, j, input->shape[axis]);
    struct net_strided_copy copy = part_copy(&output, input, axis, *first);
    *first += output.shape[axis];
    return copy;
}

static int split_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    int64_t first = 0;
    for (size_t j = 0; j < call->node->output_count; j++) {
        const struct net_strided_copy copy = split_copy(call, j, &first);
        if (call->outputs[j])
            net_strided_copy_run(&copy, call->outputs[j]->data, call->inputs[0]->data,
                                 net_type_size(call->inputs[0]->type));
    }
    return 0;
}

static void split_tangent(const struct net_call *call, const float *const *input_tangents,
                          float *const *output_tangents)
{
    int64_t first = 0;
    for (size_t j = 0; j < call->node->output_count; j++) {
        const struct net_strided_copy copy = split_copy(call, j, &first);
        if (output_tangents[j] && input_tangents[0])
            net_strided_copy_run(&copy, output_tangents[j], input_tangents[0], sizeof(float));
        else if (output_tangents[j])
            memset(output_tangents[j], 0, call->outputs[j]->count * sizeof(float));
    }
}

static void split_backward(const struct net_call *call, const float *const *output_adjoints,
                           float *const *input_adjoints)
{
    int64_t first = 0;
    for (size_t j = 0; j < call->node->output_count; j++) {
        const struct net_strided_copy copy = split_copy(call, j, &first);
        const struct net_strided_copy reverse = net_strided_copy_reversed(&copy);
        if (input_adjoints[0] && output_adjoints[j])
            net_strided_copy_add(&reverse, input_adjoints[0], output_adjoints[j]);
    }
}

#define SPLIT                                                                                      \
    .inputs_min = 1, .outputs_max = NET_VARIADIC, .infer = split_infer, .forward = split_forward,  \
    .backward = split_backward, .tangent = split_tangent

const struct net_operator net_concat_operators[] = {
    {.name = "Concat",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = NET_VARIADIC,
     .outputs_max = 1,
     .attributes = {{"axis", NET_INT}},
     .infer = concat_infer,
     .forward = concat_forward,
     .backward = concat_backward,
     .tangent = concat_tangent,
     .separable = concat_separable},
    {.name = "Split",
     .since = 1,
     .inputs_max = 1,
     .attributes = {{"axis", NET_INT}, {"split", NET_INTS}},
     SPLIT},
    {.name = "Split", .since = 13, .inputs_max = 2, .attributes = {{"axis", NET_INT}}, SPLIT},
    {.name = "Split",
     .since = 18,
     .inputs_max = 2,
     .attributes = {{"axis", NET_INT}, {"num_outputs", NET_INT}},
     SPLIT},
    {0}};
