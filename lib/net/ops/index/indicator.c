/* Operators whose elements depend on comparisons of indices. */
#include <inttypes.h>
#include <string.h>

#include "net/graph/rules.h"

/* OneHot: a new axis of extent `depth`, along which the element that the index names is values[1],
   and the others are values[0]; all are, if the index is out of range. Negative indices count from
   the end from opset 11 on. */

static int onehot_depth(const struct net_call *call, int64_t *depth, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[1];
    if (input->count != 1 || input->type == NET_BOOLEAN)
        return net_fail(call, error, "depth is no single number");
    if (!input->data)
        return net_fail(call, error, "depth depends on the data, which is not supported");
    double number = input->type == NET_FLOAT ? (double)*(const float *)input->data
                                             : (double)*(const int64_t *)input->data;
    if (!(number >= 0 && number < 0x1p62))
        return net_fail(call, error, "depth %g, expected a number that is not negative", number);
    *depth = (int64_t)number;
    return 0;
}

static int onehot_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *indices = call->inputs[0], *values = call->inputs[2];
    int64_t depth = 0, named = net_attribute_integer(call->node, "axis", -1);
    int64_t shape[IVON_RANK_MAX + 1];
    int axis = net_axis(named, indices->rank + 1), code = onehot_depth(call, &depth, error);
    if (code)
        return code;
    if (axis < 0)
        return net_fail(call, error, "axis %" PRId64 " is none of the output's", named);
    if (indices->type == NET_BOOLEAN)
        return net_fail(call, error, "indices of type boolean, expected numbers");
    if (values->rank != 1 || values->count != 2)
        return net_fail(call, error, "values has %zu elements, expected 2", values->count);
    for (int i = 0; i <= indices->rank; i++)
        shape[i] = i == axis ? depth : indices->shape[i - (i > axis)];
    return net_output_made(call, 0, values->type, indices->rank + 1, shape, indices->count, error);
}

/* Returns index n, or -1 if it is out of range. */
static int64_t onehot_index(const struct net_call *call, size_t n, int64_t depth)
{
    const struct net_tensor *indices = call->inputs[0];
    int64_t index = -depth - 1;
    if (indices->type == NET_INTEGER)
        index = ((const int64_t *)indices->data)[n];
    else if (((const float *)indices->data)[n] > -0x1p62F &&
             ((const float *)indices->data)[n] < 0x1p62F)
        index = (int64_t)((const float *)indices->data)[n];
    if (index < 0 && index >= -depth && call->node->op->since >= 11)
        index += depth;
    return index >= 0 && index < depth ? index : -1;
}

/* The extents of the indices before and behind the new axis, and its own. */
struct onehot {
    size_t outer, inner;
    int64_t depth;
};

static struct onehot onehot_layout(const struct net_call *call)
{
    const struct net_tensor *indices = call->inputs[0], *output = call->outputs[0];
    int axis = net_axis(net_attribute_integer(call->node, "axis", -1), output->rank);
    struct onehot layout = {1, 1, output->shape[axis]};
    for (int i = 0; i < indices->rank; i++) {
        if (i < axis)
            layout.outer *= (size_t)indices->shape[i];
        else
            layout.inner *= (size_t)indices->shape[i];
    }
    return layout;
}

/* Returns the place of index n's element, or SIZE_MAX. */
static size_t onehot_place(const struct net_call *call, const struct onehot *layout, size_t n)
{
    int64_t index = onehot_index(call, n, layout->depth);
    size_t outer = n / layout->inner, inner = n % layout->inner;
    return index < 0 ? SIZE_MAX
                     : (outer * (size_t)layout->depth + (size_t)index) * layout->inner + inner;
}

/* `values` are two elements. */
static void onehot_fill(const struct net_call *call, char *out, const char *values, size_t size)
{
    const struct onehot layout = onehot_layout(call);
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        memcpy(out + i * size, values, size);
    for (size_t n = 0; n < call->inputs[0]->count; n++) {
        size_t place = onehot_place(call, &layout, n);
        if (place != SIZE_MAX)
            memcpy(out + place * size, values + size, size);
    }
}

static int onehot_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    onehot_fill(call, call->outputs[0]->data, call->inputs[2]->data,
                net_type_size(call->inputs[2]->type));
    return 0;
}

static void onehot_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    static const float zeros[2];
    const float *values = input_tangents[2] ? input_tangents[2] : zeros;
    onehot_fill(call, (char *)output_tangents[0], (const char *)values, sizeof(float));
}

static void onehot_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    const float *from = output_adjoints[0];
    const struct onehot layout = onehot_layout(call);
    double all = 0, on = 0;
    if (!from || !input_adjoints[2])
        return;
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        all += (double)from[i];
    for (size_t n = 0; n < call->inputs[0]->count; n++) {
        size_t place = onehot_place(call, &layout, n);
        on += place == SIZE_MAX ? 0 : (double)from[place];
    }
    input_adjoints[2][0] += (float)(all - on);
    input_adjoints[2][1] += (float)on;
}

/* EyeLike: a matrix of the input's shape, 1 on the diagonal k above the main one, 0 elsewhere. */

static int eye_type(const struct net_call *call, enum net_type *type, struct ivon_error *error)
{
    int64_t number = net_attribute_integer(call->node, "dtype", 0);
    *type = call->inputs[0]->type;
    if (!net_attribute(call->node, "dtype"))
        return 0;
    switch (number) { /* ONNX's TensorProto.DataType */
    case 1:           /* the kinds of floats */
    case 10:
    case 11:
    case 16:
        *type = NET_FLOAT;
        return 0;
    case 9:
        *type = NET_BOOLEAN;
        return 0;
    default:
        *type = NET_INTEGER;
        if ((number >= 2 && number <= 7) || number == 12 || number == 13)
            return 0;
    }
    return net_fail(call, error,
                    "type %" PRId64 " is not supported, expected a float, an integer or bool",
                    number);
}

static int eye_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    enum net_type type;
    int code = eye_type(call, &type, error);
    if (!code && input->rank != 2)
        code = net_fail(call, error, "an input of %d axes, expected 2", input->rank);
    return code ? code : net_output(call, 0, type, 2, input->shape, error);
}

static int eye_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    struct net_tensor *output = call->outputs[0];
    int64_t k = net_attribute_integer(call->node, "k", 0);
    int64_t rows = output->shape[0], columns = output->shape[1];
    if (output->count)
        memset(output->data, 0, output->count * net_type_size(output->type));
    for (int64_t row = 0; row < rows && k < columns && k > -rows; row++) {
        int64_t at = row * columns + row + k;
        if (row + k < 0 || row + k >= columns)
            continue;
        if (output->type == NET_FLOAT)
            ((float *)output->data)[at] = 1;
        else if (output->type == NET_INTEGER)
            ((int64_t *)output->data)[at] = 1;
        else
            ((uint8_t *)output->data)[at] = 1;
    }
    return 0;
}

/* Trilu: the upper triangle of each matrix, from the diagonal k above the main one on, or the lower
   one up to it; 0 elsewhere. */

static int trilu_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *k = net_input(call, 1);
    if (input->rank < 2)
        return net_fail(call, error, "an input of %d axes, expected matrices", input->rank);
    if (k && (k->type != NET_INTEGER || k->count != 1))
        return net_fail(call, error, "k is no single integer");
    return net_output(call, 0, input->type, input->rank, input->shape, error);
}

/* The columns [*first, *end) of a row that are kept. */
static void trilu_part(const struct net_call *call, int64_t row, int64_t *first, int64_t *end)
{
    const struct net_tensor *input = call->inputs[0], *diagonal = net_input(call, 1);
    int64_t columns = input->shape[input->rank - 1];
    int64_t k = diagonal ? *(const int64_t *)diagonal->data : 0, most = INT64_MAX / 4;
    bool upper = net_attribute_integer(call->node, "upper", 1) != 0;
    k = k < -most ? -most : k > most ? most : k;
    int64_t from = row + k + !upper; /* the first of the upper part */
    from = from < 0 ? 0 : from > columns ? columns : from;
    *first = upper ? from : 0;
    *end = upper ? columns : from;
}

static void trilu_copy(const struct net_call *call, char *out, const char *in, size_t size)
{
    const struct net_tensor *input = call->inputs[0];
    int64_t rows = input->shape[input->rank - 2], columns = input->shape[input->rank - 1];
    if (!input->count)
        return;
    memset(out, 0, input->count * size);
    for (size_t n = 0; in && n < input->count / (size_t)columns; n++) {
        int64_t first, end;
        trilu_part(call, (int64_t)n % rows, &first, &end);
        size_t at = (n * (size_t)columns + (size_t)first) * size;
        memcpy(out + at, in + at, (size_t)(end > first ? end - first : 0) * size);
    }
}

static int trilu_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    trilu_copy(call, call->outputs[0]->data, call->inputs[0]->data,
               net_type_size(call->inputs[0]->type));
    return 0;
}

static void trilu_tangent(const struct net_call *call, const float *const *input_tangents,
                          float *const *output_tangents)
{
    trilu_copy(call, (char *)output_tangents[0], (const char *)input_tangents[0], sizeof(float));
}

static void trilu_backward(const struct net_call *call, const float *const *output_adjoints,
                           float *const *input_adjoints)
{
    const struct net_tensor *input = call->inputs[0];
    int64_t rows = input->shape[input->rank - 2], columns = input->shape[input->rank - 1];
    const float *from = output_adjoints[0];
    float *to = input_adjoints[0];
    if (!from || !to || !input->count)
        return;
    for (int64_t n = 0; n < (int64_t)input->count / columns; n++) {
        int64_t first, end;
        trilu_part(call, n % rows, &first, &end);
        for (int64_t i = n * columns + first; i < n * columns + end; i++)
            to[i] += from[i];
    }
}

/* Not if examples are rows of one matrix, or its columns. */
static bool trilu_separable(const struct net_call *tile, const struct net_call *example)
{
    return net_example_axis(tile->inputs[0], example->inputs[0]) < tile->inputs[0]->rank - 2;
}

#define ONE_HOT                                                                                    \
    .inputs_min = 3, .inputs_max = 3, .outputs_max = 1, .settings = 1U << 2, .planned = 1U << 1,   \
    .attributes = {{"axis", NET_INT}}, .infer = onehot_infer, .forward = onehot_forward,           \
    .backward = onehot_backward, .tangent = onehot_tangent

const struct net_operator net_indicator_operators[] = {
    {.name = "OneHot", .since = 9, ONE_HOT}, /* negative indices are outside */
    {.name = "OneHot", .since = 11, ONE_HOT},
    {.name = "EyeLike",
     .since = 9,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_SHAPE_ONLY,
     .attributes = {{"dtype", NET_INT}, {"k", NET_INT}},
     .infer = eye_infer,
     .forward = eye_forward},
    {.name = "Trilu",
     .since = 14,
     .inputs_min = 1,
     .inputs_max = 2,
     .outputs_max = 1,
     .attributes = {{"upper", NET_INT}},
     .infer = trilu_infer,
     .forward = trilu_forward,
     .backward = trilu_backward,
     .tangent = trilu_tangent,
     .separable = trilu_separable},
    {0}};
