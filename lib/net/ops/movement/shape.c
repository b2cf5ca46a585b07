/* Operators that give the elements of their input another shape, and those that make tensors. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "net/graph/rules.h"

/* Aliases: the output's elements are the input's, in the same order. */

static void alias_backward(const struct net_call *call, const float *const *output_adjoints,
                           float *const *input_adjoints)
{
    const float *from = output_adjoints[0];
    float *to = input_adjoints[0];
    for (size_t i = 0; from && to && i < call->inputs[0]->count; i++)
        to[i] += from[i];
}

static void alias_tangent(const struct net_call *call, const float *const *input_tangents,
                          float *const *output_tangents)
{
    size_t size = call->inputs[0]->count * sizeof(float);
    if (input_tangents[0])
        memcpy(output_tangents[0], input_tangents[0], size);
    else
        memset(output_tangents[0], 0, size);
}

/* Sets the output's shape; fails if it changes the number of elements. */
static int alias_output(const struct net_call *call, int rank, const int64_t *shape,
                        struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    int code = net_output(call, 0, input->type, rank, shape, error);
    char from[256], to[256];
    if (code || call->outputs[0]->count == input->count)
        return code;
    return net_fail(call, error, "shape %s cannot become %s", net_shape_text(input, from),
                    net_shape_text(call->outputs[0], to));
}

/* Reshape: to the shape in the second input. There, -1 is whatever remains, and 0 the input's
   extent, or without `allowzero` only. */

static int reshape_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    bool zeros = net_attribute_integer(call->node, "allowzero", 0) != 0;
    const int64_t *values;
    int64_t shape[IVON_RANK_MAX];
    size_t count, free_axis = SIZE_MAX;
    struct net_tensor rest = {0};
    int code = net_known_list(call, 1, "the shape", &values, &count, error);
    if (code)
        return code;
    if (count > IVON_RANK_MAX)
        return net_fail(call, error, "a shape of %zu extents, at most %d are supported", count,
                        IVON_RANK_MAX);
    for (size_t i = 0; i < count; i++) {
        shape[i] = values[i];
        if (values[i] == 0 && !zeros) {
            if (i >= (size_t)input->rank)
                return net_fail(call, error, "extent %zu is to be copied from an input of %d axes",
                                i + 1, input->rank);
            shape[i] = input->shape[i];
        } else if (values[i] < -1 || (values[i] == -1 && free_axis != SIZE_MAX)) {
            return net_fail(call, error, "a shape with %s",
                            values[i] == -1 ? "two free extents" : "an extent below -1");
        } else if (values[i] == -1) {
            free_axis = i;
            shape[i] = 1;
        }
    }
    if (free_axis == SIZE_MAX)
        return alias_output(call, (int)count, shape, error);
    code = net_tensor_set(&rest, input->type, (int)count, shape, NULL);
    if (code || !rest.count || input->count % rest.count) {
        char from[256], to[256];
        rest.shape[free_axis] = -1;
        return net_fail(call, error, "shape %s cannot become %s", net_shape_text(input, from),
                        net_shape_text(&rest, to));
    }
    shape[free_axis] = (int64_t)(input->count / rest.count);
    return alias_output(call, (int)count, shape, error);
}

/* Flatten: to a matrix, whose rows run over the axes before `axis`. */

static int flatten_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    int64_t named = net_attribute_integer(call->node, "axis", 1), shape[2] = {1, 1};
    int axis = named == input->rank ? input->rank : net_axis(named, input->rank);
    if (axis < 0)
        return net_fail(call, error, "axis %" PRId64 " is none of the input's", named);
    for (int i = 0; i < input->rank; i++)
        if (__builtin_mul_overflow(shape[i >= axis], input->shape[i], &shape[i >= axis]))
            return net_fail(call, error, "the input is too large");
    return alias_output(call, 2, shape, error);
}

/* Sets the bits of the axes that a list names, for a tensor of that rank. */
static int axis_set(const struct net_call *call, int rank, const int64_t *axes, size_t count,
                    unsigned *set, struct ivon_error *error)
{
    *set = 0;
    for (size_t i = 0; i < count; i++) {
        int axis = net_axis(axes[i], rank);
        if (axis < 0 || *set & 1U << axis)
            return net_fail(call, error, "axis %" PRId64 " is %s", axes[i],
                            axis < 0 ? "out of range" : "named twice");
        *set |= 1U << axis;
    }
    return 0;
}

/* Squeeze: without the axes of extent 1 that are named, or without any. */

static int squeeze_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    const int64_t *axes;
    int64_t shape[IVON_RANK_MAX];
    size_t count;
    unsigned set;
    int rank = 0, code = net_attribute_or_list(call, 1, "axes", &axes, &count, error);
    if (!code)
        code = axis_set(call, input->rank, axes, count, &set, error);
    for (int i = 0; i < input->rank && !code; i++) {
        bool gone = axes ? set & 1U << i : input->shape[i] == 1;
        if (gone && input->shape[i] != 1)
            return net_fail(call, error, "axis %d has extent %" PRId64 ", expected 1", i,
                            input->shape[i]);
        if (!gone)
            shape[rank++] = input->shape[i];
    }
    return code ? code : alias_output(call, rank, shape, error);
}

/* Unsqueeze: with new axes of extent 1, which count in the output. */

static int unsqueeze_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    const int64_t *axes;
    int64_t shape[IVON_RANK_MAX];
    size_t count;
    unsigned set;
    int code = net_attribute_or_list(call, 1, "axes", &axes, &count, error);
    if (!code && count > (size_t)(IVON_RANK_MAX - input->rank))
        return net_fail(call, error, "%zu more axes than %d, at most %d are supported", count,
                        input->rank, IVON_RANK_MAX);
    int rank = input->rank + (int)count, from = 0;
    if (!code)
        code = axis_set(call, rank, axes, count, &set, error);
    for (int i = 0; i < rank && !code; i++)
        shape[i] = set & 1U << i ? 1 : input->shape[from++];
    return code ? code : alias_output(call, rank, shape, error);
}

/* Shape: the input's extents, from axis `start` to before `end`, both clamped. Size: their
   product. */

static int64_t clamp_axis(int64_t axis, int rank)
{
    axis += axis < 0 ? rank : 0;
    return axis < 0 ? 0 : axis > rank ? rank : axis;
}

static int64_t shape_start(const struct net_call *call)
{
    return clamp_axis(net_attribute_integer(call->node, "start", 0), call->inputs[0]->rank);
}

static int shape_infer(struct net_call *call, struct ivon_error *error)
{
    int64_t start = shape_start(call);
    int64_t end = clamp_axis(net_attribute_integer(call->node, "end", INT64_MAX),
                             call->inputs[0]->rank);
    int64_t count = end > start ? end - start : 0;
    return net_output(call, 0, NET_INTEGER, 1, &count, error);
}

static int shape_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    struct net_tensor *output = call->outputs[0];
    memcpy(output->data, call->inputs[0]->shape + shape_start(call),
           output->count * sizeof(int64_t));
    return 0;
}

static int size_infer(struct net_call *call, struct ivon_error *error)
{
    return net_output(call, 0, NET_INTEGER, 0, NULL, error);
}

static int size_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    *(int64_t *)call->outputs[0]->data = (int64_t)call->inputs[0]->count;
    return 0;
}

/* ConstantOfShape: the one element of `value`, a float 0 by default, everywhere. */

static int constant_of_shape_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_attribute *value = net_attribute(call->node, "value");
    const int64_t *values;
    int rank, code = net_known_shape(call, 0, &values, &rank, error);
    if (code)
        return code;
    if (value && value->tensor.count != 1)
        return net_fail(call, error, "value has %zu elements, expected one", value->tensor.count);
    return net_output_made(call, 0, value ? value->tensor.type : NET_FLOAT, rank, values, 0, error);
}

static int constant_of_shape_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct net_attribute *value = net_attribute(call->node, "value");
    struct net_tensor *output = call->outputs[0];
    size_t size = net_type_size(output->type);
    if (!value)
        memset(output->data, 0, output->count * size);
    for (size_t i = 0; value && i < output->count; i++)
        memcpy((char *)output->data + i * size, value->tensor.data, size);
    return 0;
}

/* Range: start, start + delta, … before limit. */

/* Returns the number of elements for floats, or NaN; the second function is for integers. */
static double float_steps(const struct net_call *call)
{
    double start = (double)*(float *)call->inputs[0]->data;
    double limit = (double)*(float *)call->inputs[1]->data;
    double delta = (double)*(float *)call->inputs[2]->data;
    double steps = ceil((limit - start) / delta);
    return steps < 0 ? 0 : steps;
}

static double integer_steps(const struct net_call *call)
{
    int64_t start = *(int64_t *)call->inputs[0]->data, limit = *(int64_t *)call->inputs[1]->data;
    int64_t delta = *(int64_t *)call->inputs[2]->data;
    if (!delta)
        return NAN;
    if (delta > 0 ? limit <= start : limit >= start)
        return 0;
    uint64_t distance = (uint64_t)limit - (uint64_t)start, step = (uint64_t)delta;
    if (delta < 0) {
        distance = 0 - distance;
        step = 0 - step;
    }
    uint64_t steps = (distance - 1) / step + 1;
    return (double)steps;
}

static int range_infer(struct net_call *call, struct ivon_error *error)
{
    static const char *const names[] = {"start", "limit", "delta"};
    enum net_type type = call->inputs[0]->type;
    for (int i = 0; i < 3; i++) {
        const struct net_tensor *input = call->inputs[i];
        if (input->type != type || type == NET_BOOLEAN || input->count != 1)
            return net_fail(call, error, "%s is no single %s", names[i],
                            type == NET_FLOAT ? "float" : "integer");
        if (!input->data)
            return net_fail(call, error, "%s depends on the data, which is not supported",
                            names[i]);
    }
    const double most = (double)(INT64_C(1) << 31);
    double steps;
    if (type == NET_FLOAT)
        steps = float_steps(call);
    else
        steps = integer_steps(call);
    if (!(steps <= most))
        return net_fail(call, error, "it would make %g elements, at most %.0f are supported", steps,
                        most);
    int64_t count = (int64_t)steps;
    return net_output(call, 0, type, 1, &count, error);
}

static int range_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct net_tensor *start = call->inputs[0], *delta = call->inputs[2];
    struct net_tensor *output = call->outputs[0];
    if (output->type == NET_FLOAT) {
        double first = (double)*(float *)start->data, step = (double)*(float *)delta->data;
        for (size_t i = 0; i < output->count; i++)
            ((float *)output->data)[i] = (float)(first + (double)i * step);
    } else {
        uint64_t value = *(uint64_t *)start->data;
        for (size_t i = 0; i < output->count; i++, value += *(uint64_t *)delta->data)
            ((uint64_t *)output->data)[i] = value;
    }
    return 0;
}

#define ALIAS                                                                                      \
    .outputs_max = 1, .flags = NET_ALIAS, .backward = alias_backward, .tangent = alias_tangent

const struct net_operator net_shape_operators[] = {
    {.name = "Reshape",
     .since = 1,
     .inputs_min = 2,
     .inputs_max = 2,
     .attributes = {{"allowzero", NET_INT}},
     .later = {{"allowzero", 14}},
     .infer = reshape_infer,
     ALIAS},
    {.name = "Flatten",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .attributes = {{"axis", NET_INT}},
     .infer = flatten_infer,
     ALIAS},
    {.name = "Squeeze",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .attributes = {{"axes", NET_INTS}},
     .infer = squeeze_infer,
     ALIAS},
    {.name = "Squeeze",
     .since = 13,
     .inputs_min = 1,
     .inputs_max = 2,
     .infer = squeeze_infer,
     ALIAS},
    {.name = "Unsqueeze",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .attributes = {{"axes", NET_INTS}},
     .infer = unsqueeze_infer,
     ALIAS},
    {.name = "Unsqueeze",
     .since = 13,
     .inputs_min = 2,
     .inputs_max = 2,
     .infer = unsqueeze_infer,
     ALIAS},
    {.name = "Shape",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_SHAPE_ONLY,
     .attributes = {{"start", NET_INT}, {"end", NET_INT}},
     .later = {{"start", 15}, {"end", 15}},
     .infer = shape_infer,
     .forward = shape_forward},
    {.name = "Size",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_SHAPE_ONLY,
     .infer = size_infer,
     .forward = size_forward},
    {.name = "ConstantOfShape",
     .since = 9,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .attributes = {{"value", NET_TENSOR}},
     .infer = constant_of_shape_infer,
     .forward = constant_of_shape_forward},
    {.name = "Range",
     .since = 11,
     .inputs_min = 3,
     .inputs_max = 3,
     .outputs_max = 1,
     .planned = 1U << 0 | 1U << 1 | 1U << 2,
     .infer = range_infer,
     .forward = range_forward},
    {0}};
