/* Operators that select the elements with some property. The sizes of their outputs depend on
   elements, which must be known when the plan is made. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/graph/rules.h"
#include "net/ops/index/places.h"

/* NonZero: the indices of the elements that are not 0, one column each. */

static bool is_nonzero(const struct net_tensor *tensor, size_t i)
{
    if (tensor->type == NET_FLOAT)
        return ((const float *)tensor->data)[i] != 0;
    if (tensor->type == NET_INTEGER)
        return ((const int64_t *)tensor->data)[i] != 0;
    return ((const uint8_t *)tensor->data)[i] != 0;
}

static int nonzero_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    int64_t shape[2] = {input->rank, 0};
    if (!input->data)
        return net_fail(call, error,
                        "the number of elements that are not 0 depends on the data, "
                        "which is not supported");
    for (size_t i = 0; i < input->count; i++)
        shape[1] += is_nonzero(input, i);
    return net_output(call, 0, NET_INTEGER, 2, shape, error);
}

static int nonzero_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct net_tensor *input = call->inputs[0];
    int64_t *out = call->outputs[0]->data, count = call->outputs[0]->shape[1], n = 0;
    for (size_t i = 0; i < input->count; i++) {
        size_t rest = i;
        if (!is_nonzero(input, i))
            continue;
        for (int k = input->rank - 1; k >= 0; k--) {
            out[k * count + n] = (int64_t)(rest % (size_t)input->shape[k]);
            rest /= (size_t)input->shape[k];
        }
        n++;
    }
    return 0;
}

/* The slices along an axis, or the elements if there is none: `outer` runs of `inner` elements
   each. */
struct slices {
    size_t outer, extent, inner;
};

static struct slices slices_along(const struct net_tensor *input, int axis)
{
    struct slices slices = {1, axis < 0 ? input->count : (size_t)input->shape[axis], 1};
    for (int i = 0; i < input->rank && axis >= 0; i++) {
        if (i < axis)
            slices.outer *= (size_t)input->shape[i];
        else if (i > axis)
            slices.inner *= (size_t)input->shape[i];
    }
    return slices;
}

/* Sets -1 if the attribute axis is not given. */
static int property_axis(const struct net_call *call, int *axis, struct ivon_error *error)
{
    int64_t named = net_attribute_integer(call->node, "axis", 0);
    *axis = net_attribute(call->node, "axis") ? net_axis(named, call->inputs[0]->rank) : -1;
    if (*axis < 0 && net_attribute(call->node, "axis"))
        return net_fail(call, error, "axis %" PRId64 " is none of the input's", named);
    return 0;
}

/* Sets the shape of so many slices. */
static int property_shape(const struct net_tensor *input, int axis, size_t count,
                          int64_t shape[IVON_RANK_MAX])
{
    memcpy(shape, input->shape, sizeof input->shape);
    shape[axis < 0 ? 0 : axis] = (int64_t)count;
    return axis < 0 ? 1 : input->rank;
}

/* Compress: the slices for which the condition holds; further ones are left out. */

static size_t compress_count(const struct net_call *call)
{
    const struct net_tensor *condition = call->inputs[1];
    size_t count = 0;
    for (size_t i = 0; i < condition->count; i++)
        count += ((const uint8_t *)condition->data)[i] != 0;
    return count;
}

static int compress_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *condition = call->inputs[1];
    int64_t shape[IVON_RANK_MAX];
    size_t runs;
    int axis, code = property_axis(call, &axis, error);
    if (code)
        return code;
    if (condition->type != NET_BOOLEAN || condition->rank != 1)
        return net_fail(call, error, "the condition is no list of booleans");
    if (!condition->data)
        return net_fail(call, error, "the condition depends on the data, which is not supported");
    const struct slices slices = slices_along(input, axis);
    if (condition->count > slices.extent)
        return net_fail(call, error, "%zu conditions for %zu slices", condition->count,
                        slices.extent);
    size_t count = compress_count(call);
    int rank = property_shape(input, axis, count, shape);
    code = net_output(call, 0, input->type, rank, shape, error);
    if (!code && __builtin_mul_overflow(slices.outer, count, &runs))
        code = net_fail(call, error, "the input is too large");
    return code ? code : net_places_size(call, runs, &call->workspace_size, error);
}

static int compress_places(const struct net_call *call, struct net_places *places,
                           struct ivon_error *error)
{
    const uint8_t *condition = call->inputs[1]->data;
    size_t *offsets = call->workspace, n = 0;
    int axis, code = property_axis(call, &axis, error);
    const struct slices slices = slices_along(call->inputs[0], axis);
    for (size_t outer = 0; outer < slices.outer; outer++)
        for (size_t i = 0; i < call->inputs[1]->count; i++)
            if (condition[i])
                offsets[n++] = (outer * slices.extent + i) * slices.inner;
    *places = (struct net_places){n, slices.inner, offsets};
    return code;
}

NET_PLACES_OPERATOR(compress)

/* Unique: the slices that differ from one another, in order of size, or of their first place; where
   each first is, which one each slice equals, and how many do. NaN equals itself, and is last. */

struct unique {
    const struct net_tensor *input;
    struct slices slices;
    size_t count;                    /* of those that differ */
    size_t *first, *equals, *number; /* slices.extent each */
};

static int compare_elements(const struct net_tensor *tensor, size_t i, size_t j)
{
    if (tensor->type == NET_FLOAT) {
        float a = ((const float *)tensor->data)[i], b = ((const float *)tensor->data)[j];
        if (a != a || b != b)
            return (a != a) - (b != b);
        return (a > b) - (a < b);
    }
    if (tensor->type == NET_INTEGER) {
        int64_t a = ((const int64_t *)tensor->data)[i], b = ((const int64_t *)tensor->data)[j];
        return (a > b) - (a < b);
    }
    return ((const uint8_t *)tensor->data)[i] - ((const uint8_t *)tensor->data)[j];
}

static int compare_slices(const struct unique *unique, size_t a, size_t b)
{
    const struct slices *slices = &unique->slices;
    int order = 0;
    for (size_t outer = 0; outer < slices->outer && !order; outer++)
        for (size_t i = 0; i < slices->inner && !order; i++)
            order = compare_elements(unique->input,
                                     (outer * slices->extent + a) * slices->inner + i,
                                     (outer * slices->extent + b) * slices->inner + i);
    return order;
}

/* Sorts the slices in `order`, equal ones in the order that they have. */
static void sort_slices(const struct unique *unique, size_t *order, size_t *scratch, size_t count)
{
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t at = 0; at < count; at += 2 * width) {
            size_t middle = at + width < count ? at + width : count;
            size_t end = middle + width < count ? middle + width : count;
            size_t left = at, right = middle;
            for (size_t n = at; n < end; n++) {
                bool from_left = right == end ||
                                 (left < middle &&
                                  compare_slices(unique, order[left], order[right]) <= 0);
                scratch[n] = from_left ? order[left++] : order[right++];
            }
        }
        memcpy(order, scratch, count * sizeof *order);
    }
}

/* Numbers the slices that differ by their first places. */
static void number_by_place(struct unique *unique, size_t *renumbered)
{
    size_t next = 0;
    for (size_t i = 0; i < unique->slices.extent; i++)
        if (unique->first[unique->equals[i]] == i)
            renumbered[unique->equals[i]] = next++;
    for (size_t i = 0; i < unique->slices.extent; i++)
        unique->equals[i] = renumbered[unique->equals[i]];
    for (size_t i = unique->slices.extent; i-- > 0;)
        unique->first[unique->equals[i]] = i;
}

static int unique_find(const struct net_call *call, struct unique *unique, struct ivon_error *error)
{
    size_t extent = unique->slices.extent;
    size_t *order = calloc(extent + 1, 2 * sizeof *order);
    if (!order)
        return ivon_error_memory(error);
    for (size_t i = 0; i < extent; i++)
        order[i] = i;
    sort_slices(unique, order, order + extent, extent);
    for (size_t i = 0; i < extent; i++) {
        if (!i || compare_slices(unique, order[i - 1], order[i]))
            unique->first[unique->count++] = order[i];
        unique->equals[order[i]] = unique->count - 1;
    }
    if (!net_attribute_integer(call->node, "sorted", 1))
        number_by_place(unique, order);
    for (size_t i = 0; i < extent; i++)
        unique->number[unique->equals[i]]++;
    free(order);
    return 0;
}

static int unique_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    int64_t shape[IVON_RANK_MAX];
    int axis, code = property_axis(call, &axis, error);
    if (code)
        return code;
    if (!input->data)
        return net_fail(call, error,
                        "the number of elements that differ depends on the data, "
                        "which is not supported");
    const struct slices slices = slices_along(input, axis);
    if (slices.extent > SIZE_MAX / 64)
        return net_fail(call, error, "the input is too large");
    struct unique *unique = net_prepare(call, sizeof *unique + 3 * slices.extent * sizeof(size_t),
                                        error);
    if (!unique)
        return IVON_ERROR_MEMORY;
    *unique = (struct unique){.input = input, .slices = slices, .first = (size_t *)(unique + 1)};
    unique->equals = unique->first + slices.extent;
    unique->number = unique->equals + slices.extent;
    code = unique_find(call, unique, error);
    int rank = property_shape(input, axis, unique->count, shape);
    if (!code)
        code = net_output(call, 0, input->type, rank, shape, error);
    for (size_t j = 1; j < call->node->output_count && !code; j++) {
        int64_t count = (int64_t)(j == 2 ? slices.extent : unique->count);
        code = net_output(call, j, NET_INTEGER, 1, &count, error);
    }
    return code;
}

static int unique_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct unique *unique = call->prepared;
    const struct slices *slices = &unique->slices;
    const size_t *const lists[] = {unique->first, unique->equals, unique->number};
    size_t size = slices->inner * net_type_size(unique->input->type);
    char *to = call->outputs[0] ? call->outputs[0]->data : NULL;
    for (size_t outer = 0; outer < slices->outer && size && to; outer++)
        for (size_t i = 0; i < unique->count; i++, to += size)
            memcpy(to,
                   (const char *)unique->input->data +
                       (outer * slices->extent + unique->first[i]) * size,
                   size);
    for (size_t j = 1; j < 4 && j < call->node->output_count; j++)
        for (size_t i = 0; call->outputs[j] && i < call->outputs[j]->count; i++)
            ((int64_t *)call->outputs[j]->data)[i] = (int64_t)lists[j - 1][i];
    return 0;
}

const struct net_operator net_property_operators[] = {
    {.name = "NonZero",
     .since = 9,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .infer = nonzero_infer,
     .forward = nonzero_forward},
    {.name = "Compress",
     .since = 9,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .attributes = {{"axis", NET_INT}},
     .infer = compress_infer,
     .forward = compress_forward,
     .backward = compress_backward,
     .tangent = compress_tangent},
    {.name = "Unique",
     .since = 11,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 4,
     .attributes = {{"axis", NET_INT}, {"sorted", NET_INT}},
     .infer = unique_infer,
     .forward = unique_forward},
    {0}};
