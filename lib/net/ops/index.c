/* Operators that select elements by an index, given at run time or computed for each axis. */
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

/*
 * Pad: out[i_0 … i_n] = in[m_0(i_0) … m_n(i_n)], where m_k takes i_k less the padding before axis k
 * to the nearest element (edge), to its mirror image (reflect), or to none, which yields
 * `constant_value`. A negative padding cuts elements off.
 */

static const char *pad_mode(const struct net_call *call)
{
    return net_attribute_text(call->node, "mode", "constant");
}

static int pad_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *constant = net_input(call, 2);
    const char *mode = pad_mode(call);
    const int64_t *pads;
    int64_t shape[IVON_RANK_MAX], offset_count = 0;
    size_t count;
    call->alias = true;
    int code = net_known_list(call, 1, "pads", &pads, &count, error);
    if (code)
        return code;
    if (count != 2 * (size_t)input->rank)
        return net_fail(call, error, "%zu pads for %d axes", count, input->rank);
    bool outside = strcmp(mode, "constant") == 0;
    if (!outside && strcmp(mode, "edge") != 0 && strcmp(mode, "reflect") != 0)
        return net_fail(call, error, "mode '%s', expected constant, reflect or edge", mode);
    if (constant && (constant->type != input->type || constant->count != 1))
        return net_fail(call, error, "constant_value is no single %s", net_type_name(input->type));
    for (int i = 0; i < input->rank; i++) {
        int64_t before = pads[i], after = pads[input->rank + i];
        call->alias &= !before && !after;
        if (before < -INT64_MAX / 2 || after < -INT64_MAX / 2 ||
            __builtin_add_overflow(input->shape[i], before, &shape[i]) ||
            __builtin_add_overflow(shape[i], after, &shape[i]) || shape[i] < 0 ||
            (shape[i] && !input->shape[i] && !outside))
            return net_fail(call, error,
                            "axis %d of extent %" PRId64 " cannot be padded by %" PRId64
                            " and %" PRId64,
                            i, input->shape[i], before, after);
    }
    code = net_output_made(call, 0, input->type, input->rank, shape, input->count, error);
    for (int i = 0; i < input->rank && !code && call->outputs[0]->count; i++)
        offset_count += shape[i];
    call->workspace_size = (size_t)offset_count * sizeof(int64_t);
    return code;
}

/* Returns the position along an axis of extent `size` that output position `at` copies, or -1. */
static int64_t pad_source(char mode, int64_t at, int64_t size)
{
    if (mode == 'c')
        return at >= 0 && at < size ? at : -1;
    if (mode == 'e' || size == 1)
        return at < 0 ? 0 : at < size ? at : size - 1;
    int64_t period = 2 * (size - 1);
    at = (at < 0 ? -at : at) % period;
    return at < size ? at : period - at;
}

struct pad_axis {
    int64_t count;         /* of the output */
    const int64_t *offset; /* for each position, the offset in the input in elements; -1: none */
};

/* Fills the workspace. */
static void pad_axes(const struct net_call *call, struct pad_axis axes[IVON_RANK_MAX])
{
    const struct net_tensor *input = call->inputs[0], *output = call->outputs[0];
    const int64_t *pads = call->inputs[1]->data;
    int64_t *offset = call->workspace, stride = 1;
    for (int k = input->rank - 1; k >= 0; k--) {
        axes[k] = (struct pad_axis){output->shape[k], offset};
        for (int64_t i = 0; i < output->shape[k]; i++) {
            int64_t source = pad_source(*pad_mode(call), i - pads[k], input->shape[k]);
            *offset++ = source < 0 ? -1 : source * stride;
        }
        stride *= input->shape[k];
    }
}

/* The rows of the output, along its last axis, one after another. */
struct pad_walk {
    struct pad_axis axes[IVON_RANK_MAX];
    int64_t index[IVON_RANK_MAX];
    int rank;
};

/* Returns the start of the current row in the input, or -1; advances to the next row. */
static int64_t pad_row(struct pad_walk *walk)
{
    int64_t first = 0;
    for (int k = 0; k < walk->rank - 1; k++) {
        int64_t offset = walk->axes[k].offset[walk->index[k]];
        first = first < 0 || offset < 0 ? -1 : first + offset;
    }
    for (int k = walk->rank - 2; k >= 0 && ++walk->index[k] == walk->axes[k].count; k--)
        walk->index[k] = 0;
    return first;
}

static struct pad_walk pad_walk_start(const struct net_call *call, int64_t *rows,
                                      struct pad_axis *last)
{
    static const int64_t first = 0;
    struct pad_walk walk = {.rank = call->inputs[0]->rank};
    pad_axes(call, walk.axes);
    *last = walk.rank ? walk.axes[walk.rank - 1] : (struct pad_axis){1, &first};
    *rows = last->count ? (int64_t)call->outputs[0]->count / last->count : 0;
    return walk;
}

/* `in` may be null: zeros. */
#define PAD(name, type)                                                                            \
    static void name(const struct net_call *call, type *out, const type *in, type constant)        \
    {                                                                                              \
        int64_t rows;                                                                              \
        struct pad_axis last;                                                                      \
        struct pad_walk walk = pad_walk_start(call, &rows, &last);                                 \
        for (int64_t row = 0; row < rows; row++, out += last.count) {                              \
            int64_t first = pad_row(&walk);                                                        \
            for (int64_t i = 0; i < last.count; i++) {                                             \
                bool padded = first < 0 || last.offset[i] < 0;                                     \
                out[i] = padded ? constant : in ? in[first + last.offset[i]] : 0;                  \
            }                                                                                      \
        }                                                                                          \
    }
PAD(pad_float, float)
PAD(pad_integer, int64_t)
PAD(pad_boolean, uint8_t)
#undef PAD

static int pad_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct net_tensor *input = call->inputs[0], *output = call->outputs[0];
    const struct net_tensor *constant = net_input(call, 2);
    if (!output->count)
        return 0;
    if (input->type == NET_FLOAT)
        pad_float(call, output->data, input->data, constant ? *(float *)constant->data : 0);
    else if (input->type == NET_INTEGER)
        pad_integer(call, output->data, input->data, constant ? *(int64_t *)constant->data : 0);
    else
        pad_boolean(call, output->data, input->data, constant ? *(uint8_t *)constant->data : 0);
    return 0;
}

static void pad_tangent(const struct net_call *call, const float *const *input_tangents,
                        float *const *output_tangents)
{
    const float *constant = call->node->input_count > 2 ? input_tangents[2] : NULL;
    if (call->outputs[0]->count)
        pad_float(call, output_tangents[0], input_tangents[0], constant ? *constant : 0);
}

static void pad_backward(const struct net_call *call, const float *const *output_adjoints,
                         float *const *input_adjoints)
{
    const float *from = output_adjoints[0];
    float *to = input_adjoints[0];
    float *constant = call->node->input_count > 2 ? input_adjoints[2] : NULL;
    double outside = 0;
    if (!from || !call->outputs[0]->count)
        return;
    int64_t rows;
    struct pad_axis last;
    struct pad_walk walk = pad_walk_start(call, &rows, &last);
    for (int64_t row = 0; row < rows; row++, from += last.count) {
        int64_t first = pad_row(&walk);
        for (int64_t i = 0; i < last.count; i++) {
            if (first < 0 || last.offset[i] < 0)
                outside += (double)from[i];
            else if (to)
                to[first + last.offset[i]] += from[i];
        }
    }
    if (constant)
        *constant += (float)outside;
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
                                                   {.name = "Pad",
                                                    .since = 1,
                                                    .inputs_min = 2,
                                                    .inputs_max = 3,
                                                    .outputs_max = 1,
                                                    .attributes = {{"mode", NET_TEXT}},
                                                    .infer = pad_infer,
                                                    .forward = pad_forward,
                                                    .backward = pad_backward,
                                                    .tangent = pad_tangent},
                                                   {0}};
