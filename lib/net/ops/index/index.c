/* Operators that select elements by an index, given at run time. */
#include <inttypes.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/index/places.h"

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
    code = net_places_size(call, indices->count, &call->workspace_size, error);
    return code ? code : net_output(call, 0, input->type, indices->rank, indices->shape, error);
}

static int gather_elements_places(const struct net_call *call, struct net_places *places,
                                  struct ivon_error *error)
{
    int axis = net_axis(net_attribute_integer(call->node, "axis", 0), call->inputs[0]->rank);
    return net_places_of_elements(call, axis, places, error);
}

static bool gather_elements_separable(const struct net_call *tile, const struct net_call *example)
{
    const struct net_tensor *input = tile->inputs[0];
    int axis = net_axis(net_attribute_integer(tile->node, "axis", 0), input->rank);
    return net_example_axis(input, example->inputs[0]) != axis;
}

NET_PLACES_OPERATOR(gather_elements)

/* GatherND: out[b, i, c] = in[b, indices[b, i], c], in which b runs over the first batch_dims axes,
   and the last axis of the indices holds the positions along the axes behind them. */

static int gather_nd_batch_dims(const struct net_call *call)
{
    return (int)net_attribute_integer(call->node, "batch_dims", 0);
}

static int gather_nd_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *indices = call->inputs[1];
    int64_t shape[2 * IVON_RANK_MAX];
    int64_t batch_dims = net_attribute_integer(call->node, "batch_dims", 0);
    int64_t length = indices->rank ? indices->shape[indices->rank - 1] : -1;
    int rank = 0;
    if (indices->type != NET_INTEGER)
        return net_fail(call, error, "indices of type %s, expected integers",
                        net_type_name(indices->type));
    bool fits = batch_dims >= 0 && batch_dims < indices->rank && batch_dims < input->rank &&
                length >= 0 && length <= input->rank - batch_dims;
    for (int i = 0; fits && i < (int)batch_dims; i++)
        fits = input->shape[i] == indices->shape[i];
    char a[256], b[256];
    if (!fits)
        return net_fail(call, error,
                        "indices of shape %s for an input of shape %s, batch_dims %" PRId64,
                        net_shape_text(indices, a), net_shape_text(input, b), batch_dims);
    for (int i = 0; i < indices->rank - 1; i++)
        shape[rank++] = indices->shape[i];
    for (int i = (int)(batch_dims + length); i < input->rank; i++)
        shape[rank++] = input->shape[i];
    int code = net_output(call, 0, input->type, rank, shape, error);
    size_t rows = 1;
    for (int i = 0; i < indices->rank - 1 && !code; i++)
        if (__builtin_mul_overflow(rows, (size_t)indices->shape[i], &rows))
            code = net_fail(call, error, "the indices are too many");
    return code ? code : net_places_size(call, rows, &call->workspace_size, error);
}

static int gather_nd_places(const struct net_call *call, struct net_places *places,
                            struct ivon_error *error)
{
    return net_places_of_tuples(call, gather_nd_batch_dims(call), places, error);
}

NET_PLACES_OPERATOR(gather_nd)

/* ReverseSequence: the first sequence_lens[b] elements along time_axis, in reverse; the others as
   they are. Batch and time are the first two axes. */

static int reverse_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *lengths = call->inputs[1];
    int64_t batch = net_attribute_integer(call->node, "batch_axis", 1);
    int64_t time = net_attribute_integer(call->node, "time_axis", 0);
    if (batch < 0 || batch > 1 || time < 0 || time > 1 || batch == time || input->rank < 2)
        return net_fail(call, error,
                        "batch_axis %" PRId64 " and time_axis %" PRId64
                        " of %d axes, expected the first two",
                        batch, time, input->rank);
    if (lengths->type != NET_INTEGER || lengths->rank != 1 ||
        lengths->shape[0] != input->shape[batch])
        return net_fail(call, error, "sequence_lens is no list of %" PRId64 " integers",
                        input->shape[batch]);
    size_t runs;
    if (__builtin_mul_overflow((size_t)input->shape[0], (size_t)input->shape[1], &runs))
        return net_fail(call, error, "the input is too large");
    int code = net_places_size(call, runs, &call->workspace_size, error);
    return code ? code : net_output(call, 0, input->type, input->rank, input->shape, error);
}

static int reverse_places(const struct net_call *call, struct net_places *places,
                          struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    const int64_t *lengths = call->inputs[1]->data;
    bool time_first = net_attribute_integer(call->node, "time_axis", 0) == 0;
    int64_t times = input->shape[!time_first], batches = input->shape[time_first];
    size_t *offsets = call->workspace, run = 1;
    for (int i = 2; i < input->rank; i++)
        run *= (size_t)input->shape[i];
    *places = (struct net_places){0, run, offsets};
    for (int64_t b = 0; b < batches; b++) {
        if (lengths[b] < 0 || lengths[b] > times)
            return net_fail(call, error,
                            "a sequence of length %" PRId64 " along an axis of extent %" PRId64,
                            lengths[b], times);
        for (int64_t t = 0; t < times; t++) {
            int64_t from = t < lengths[b] ? lengths[b] - 1 - t : t;
            int64_t at = time_first ? t * batches + b : b * times + t;
            offsets[at] = (size_t)(time_first ? from * batches + b : b * times + from) * run;
        }
    }
    places->count = (size_t)(times * batches);
    return 0;
}

static bool reverse_separable(const struct net_call *tile, const struct net_call *example)
{
    int64_t time = net_attribute_integer(tile->node, "time_axis", 0);
    return net_example_axis(tile->inputs[0], example->inputs[0]) != (int)time;
}

NET_PLACES_OPERATOR(reverse)

const struct net_operator net_index_operators[] = {
    {.name = "Gather",
     .since = 1,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .flags = NET_LOOKUP,
     .weights = 1U << 0,
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
     .tangent = gather_elements_tangent,
     .separable = gather_elements_separable},
    {.name = "GatherND",
     .since = 11,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .attributes = {{"batch_dims", NET_INT}},
     .later = {{"batch_dims", 12}},
     .infer = gather_nd_infer,
     .forward = gather_nd_forward,
     .backward = gather_nd_backward,
     .tangent = gather_nd_tangent},
    {.name = "ReverseSequence",
     .since = 10,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .attributes = {{"batch_axis", NET_INT}, {"time_axis", NET_INT}},
     .infer = reverse_infer,
     .forward = reverse_forward,
     .backward = reverse_backward,
     .tangent = reverse_tangent,
     .separable = reverse_separable},
    {0}};
