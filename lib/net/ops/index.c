/* Operators that select elements by an index, given at run time. */
#include <inttypes.h>
#include <string.h>

#include "net/graph/rules.h"

/* Gather: out[o, i, c] = in[o, indices[i], c], in which o and c run over the axes before and after
   `axis`. Negative indices count from the end. */

struct gather {
    int64_t outer, extent, inner; /* of the input */
    const int64_t *indices;
    int64_t count; /* of the indices */
};

static struct gather gather_layout(const struct net_call *call)
{
    const struct net_tensor *input = call->inputs[0], *indices = call->inputs[1];
    int axis = net_axis(net_attribute_integer(call->node, "axis", 0), input->rank);
    struct gather gather = {1, input->shape[axis], 1, indices->data, (int64_t)indices->count};
    for (int i = 0; i < input->rank; i++) {
        if (i < axis)
            gather.outer *= input->shape[i];
        else if (i > axis)
            gather.inner *= input->shape[i];
    }
    return gather;
}

/* Returns the row of the input that is row `row` of the output; rows count o and i together. */
static int64_t source_row(const struct gather *gather, int64_t row)
{
    int64_t index = gather->indices[row % gather->count];
    return row / gather->count * gather->extent + index + (index < 0 ? gather->extent : 0);
}

static int check_indices(const struct net_call *call, int64_t extent, struct ivon_error *error)
{
    const int64_t *indices = call->inputs[1]->data;
    for (size_t i = 0; i < call->inputs[1]->count; i++)
        if (indices[i] < -extent || indices[i] >= extent)
            return net_fail(call, error,
                            "index %" PRId64 " at position %zu is out of range for an "
                            "axis of extent %" PRId64,
                            indices[i], i, extent);
    return 0;
}

static int check_index_types(const struct net_call *call, int *axis, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *indices = call->inputs[1];
    int64_t named = net_attribute_integer(call->node, "axis", 0);
    *axis = net_axis(named, input->rank);
    if (*axis < 0)
        return net_fail(call, error, "axis %" PRId64 " is none of the input's", named);
    if (indices->type != NET_INTEGER)
        return net_fail(call, error, "indices of type %s, expected integers",
                        net_type_name(indices->type));
    return 0;
}

static int gather_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *indices = call->inputs[1];
    int64_t shape[2 * IVON_RANK_MAX];
    int axis, code = check_index_types(call, &axis, error);
    if (code)
        return code;
    int rank = 0;
    for (int i = 0; i < axis; i++)
        shape[rank++] = input->shape[i];
    for (int i = 0; i < indices->rank; i++)
        shape[rank++] = indices->shape[i];
    for (int i = axis + 1; i < input->rank; i++)
        shape[rank++] = input->shape[i];
    return net_output(call, 0, input->type, rank, shape, error);
}

static void gather_rows(const struct gather *gather, void *out, const void *in, size_t element_size)
{
    size_t size = (size_t)gather->inner * element_size;
    for (int64_t row = 0; size && row < gather->outer * gather->count; row++)
        memcpy((char *)out + (size_t)row * size,
               (const char *)in + (size_t)source_row(gather, row) * size, size);
}

/* in[…] += out[…] for the rows of the output. */
static void scatter_rows(const struct gather *gather, float *in, const float *out)
{
    for (int64_t row = 0; gather->inner && row < gather->outer * gather->count; row++) {
        float *to = in + source_row(gather, row) * gather->inner;
        const float *from = out + row * gather->inner;
        for (int64_t i = 0; i < gather->inner; i++)
            to[i] += from[i];
    }
}

static int gather_forward(const struct net_call *call, struct ivon_error *error)
{
    const struct gather gather = gather_layout(call);
    int code = check_indices(call, gather.extent, error);
    if (!code)
        gather_rows(&gather, call->outputs[0]->data, call->inputs[0]->data,
                    net_type_size(call->inputs[0]->type));
    return code;
}

static void gather_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    const struct gather gather = gather_layout(call);
    if (input_tangents[0])
        gather_rows(&gather, output_tangents[0], input_tangents[0], sizeof(float));
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

static void gather_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    const struct gather gather = gather_layout(call);
    if (input_adjoints[0] && output_adjoints[0])
        scatter_rows(&gather, input_adjoints[0], output_adjoints[0]);
}

/* GatherElements: out[i_0 … i_n] = in[i_0 … indices[i_0 … i_n] … i_n], the index taking the place
   of i_axis. */

static int gather_elements_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *indices = call->inputs[1];
    int axis, code = check_index_types(call, &axis, error);
    if (code)
        return code;
    bool fits = indices->rank == input->rank;
    for (int i = 0; fits && i < input->rank; i++)
        fits = i == axis || indices->shape[i] <= input->shape[i];
    char a[256], b[256];
    if (!fits)
        return net_fail(call, error, "indices of shape %s for an input of shape %s",
                        net_shape_text(indices, a), net_shape_text(input, b));
    call->workspace_size = indices->count * sizeof(size_t);
    return net_output(call, 0, input->type, indices->rank, indices->shape, error);
}

/* Returns the position in the input of each element of the output; they lie in the workspace. */
static const size_t *element_offsets(const struct net_call *call)
{
    const struct net_tensor *input = call->inputs[0], *indices = call->inputs[1];
    int axis = net_axis(net_attribute_integer(call->node, "axis", 0), input->rank);
    int64_t index[IVON_RANK_MAX] = {0};
    size_t *offsets = call->workspace;
    for (size_t n = 0; n < indices->count; n++) {
        int64_t offset = 0, named = ((const int64_t *)indices->data)[n];
        for (int i = 0; i < input->rank; i++)
            offset = offset * input->shape[i] + (i != axis   ? index[i]
                                                 : named < 0 ? named + input->shape[i]
                                                             : named);
        offsets[n] = (size_t)offset;
        for (int i = input->rank - 1; i >= 0 && ++index[i] == indices->shape[i]; i--)
            index[i] = 0;
    }
    return offsets;
}

static void gather_elements_copy(const struct net_call *call, void *out, const void *in,
                                 size_t element_size)
{
    const size_t *offsets = element_offsets(call);
    for (size_t n = 0; n < call->outputs[0]->count; n++)
        memcpy((char *)out + n * element_size, (const char *)in + offsets[n] * element_size,
               element_size);
}

static int gather_elements_forward(const struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    int axis = net_axis(net_attribute_integer(call->node, "axis", 0), input->rank);
    int code = check_indices(call, input->shape[axis], error);
    if (!code)
        gather_elements_copy(call, call->outputs[0]->data, input->data, net_type_size(input->type));
    return code;
}

static void gather_elements_tangent(const struct net_call *call, const float *const *input_tangents,
                                    float *const *output_tangents)
{
    if (input_tangents[0])
        gather_elements_copy(call, output_tangents[0], input_tangents[0], sizeof(float));
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

static void gather_elements_backward(const struct net_call *call,
                                     const float *const *output_adjoints,
                                     float *const *input_adjoints)
{
    if (!input_adjoints[0] || !output_adjoints[0])
        return;
    const size_t *offsets = element_offsets(call);
    for (size_t n = 0; n < call->outputs[0]->count; n++)
        input_adjoints[0][offsets[n]] += output_adjoints[0][n];
}

const struct net_operator net_index_operators[] = {{.name = "Gather",
                                                    .since = 1,
                                                    .inputs_min = 2,
                                                    .inputs_max = 2,
                                                    .outputs_max = 1,
                                                    .attributes = {{"axis", NET_INT}},
                                                    .infer = gather_infer,
                                                    .forward = gather_forward,
                                                    .backward = gather_backward,
                                                    .tangent = gather_tangent},
                                                   {.name = "GatherElements",
                                                    .since = 11,
                                                    .inputs_min = 2,
                                                    .inputs_max = 2,
                                                    .outputs_max = 1,
                                                    .attributes = {{"axis", NET_INT}},
                                                    .infer = gather_elements_infer,
                                                    .forward = gather_elements_forward,
                                                    .backward = gather_elements_backward,
                                                    .tangent = gather_elements_tangent},
                                                   {0}};
