/* Operators that copy one tensor's elements along axes. Each describes its output as a strided copy
   of its input. Forward and tangent run the copy; backward adds through the reversed copy. */
#include <inttypes.h>
#include <string.h>

#include "net/ops/movement/strided_copy.h"
#include "net/graph/rules.h"

/* strides[i]: the distance of neighbours along axis i, in elements. */
static void row_major_strides(const struct net_tensor *tensor, int64_t strides[IVON_RANK_MAX])
{
    int64_t stride = 1;
    for (int i = tensor->rank - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= tensor->shape[i];
    }
}

typedef struct net_strided_copy copy_rule(const struct net_call *call);

static void copy_forward(const struct net_call *call, copy_rule *rule)
{
    const struct net_strided_copy copy = rule(call);
    net_strided_copy_run(&copy, call->outputs[0]->data, call->inputs[0]->data,
                         net_type_size(call->outputs[0]->type));
}

static void copy_tangent(const struct net_call *call, copy_rule *rule,
                         const float *const *input_tangents, float *const *output_tangents)
{
    const struct net_strided_copy copy = rule(call);
    if (input_tangents[0])
        net_strided_copy_run(&copy, output_tangents[0], input_tangents[0], sizeof(float));
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

static void add_backward(const struct net_call *call, copy_rule *rule,
                         const float *const *output_adjoints, float *const *input_adjoints)
{
    const struct net_strided_copy copy = rule(call), reverse = net_strided_copy_reversed(&copy);
    if (input_adjoints[0] && output_adjoints[0])
        net_strided_copy_add(&reverse, input_adjoints[0], output_adjoints[0]);
}

#define COPY_OPERATOR(name)                                                                        \
    static int name##_forward(const struct net_call *call, struct ivon_error *error)               \
    {                                                                                              \
        (void)error;                                                                               \
        copy_forward(call, name##_copy);                                                           \
        return 0;                                                                                  \
    }                                                                                              \
    static void name##_tangent(const struct net_call *call, const float *const *input_tangents,    \
                               float *const *output_tangents)                                      \
    {                                                                                              \
        copy_tangent(call, name##_copy, input_tangents, output_tangents);                          \
    }                                                                                              \
    static void name##_backward(const struct net_call *call, const float *const *output_adjoints,  \
                                float *const *input_adjoints)                                      \
    {                                                                                              \
        add_backward(call, name##_copy, output_adjoints, input_adjoints);                          \
    }

/* Transpose: out[i_0 … i_n] = in[…], where output axis k is input axis perm[k]; by default the axes
   in reverse. */

static int permutation(const struct net_call *call, int axis)
{
    size_t count;
    const int64_t *permuted = net_attribute_integers(call->node, "perm", &count);
    return permuted ? (int)permuted[axis] : call->inputs[0]->rank - 1 - axis;
}

static int transpose_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    int64_t shape[IVON_RANK_MAX];
    size_t count;
    const int64_t *permuted = net_attribute_integers(call->node, "perm", &count);
    unsigned seen = 0;
    for (size_t i = 0; i < count; i++)
        if (permuted[i] >= 0 && permuted[i] < input->rank)
            seen |= 1U << permuted[i];
    if (permuted && (count != (size_t)input->rank || seen != (1U << input->rank) - 1))
        return net_fail(call, error, "perm is no permutation of the input's %d axes", input->rank);
    for (int i = 0; i < input->rank; i++)
        shape[i] = input->shape[permutation(call, i)];
    return net_output(call, 0, input->type, input->rank, shape, error);
}

static struct net_strided_copy transpose_copy(const struct net_call *call)
{
    const struct net_tensor *input = call->inputs[0], *output = call->outputs[0];
    struct net_strided_copy copy = {0};
    int64_t to[IVON_RANK_MAX], from[IVON_RANK_MAX];
    row_major_strides(input, from);
    row_major_strides(output, to);
    for (int i = 0; i < output->rank; i++)
        net_strided_copy_add_axis(&copy, output->shape[i], to[i], from[permutation(call, i)]);
    return copy;
}

COPY_OPERATOR(transpose)

/* Slice: out[i] = in[start + i step] along each of `axes`; starts and ends are clamped after the
   manner of Python. Before opset 10 the lists are attributes, and every step is 1. */

struct range {
    int64_t start, step, count;
};

/* Negative starts and ends count from the end of the axis. */
static struct range clamp_range(int64_t start, int64_t end, int64_t step, int64_t size)
{
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
    start += start < 0 ? size : 0;
    end += end < 0 ? size : 0;
    start = start < low ? low : start > high ? high : start;
    end = end < low ? low : end > high ? high : end;
    uint64_t distance = step > 0 ? (uint64_t)end - (uint64_t)start
                                 : (uint64_t)start - (uint64_t)end;
    uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    if (step > 0 ? end <= start : start <= end)
        return (struct range){0, 1, 0};
    return (struct range){start, step, (int64_t)((distance - 1) / stride + 1)};
}

/* The range of every axis. */
static int slice_ranges(const struct net_call *call, struct range ranges[IVON_RANK_MAX],
                        struct ivon_error *error)
{
    static const char *const names[] = {"", "starts", "ends", "axes", "steps"};
    const struct net_tensor *input = call->inputs[0];
    const int64_t *lists[5] = {NULL};
    size_t counts[5];
    unsigned seen = 0;
    for (size_t i = 1; i < 5; i++) {
        int code = net_attribute_or_list(call, i, names[i], &lists[i], &counts[i], error);
        if (code)
            return code;
        if ((lists[i] || i == 2) && counts[i] != counts[1])
            return net_fail(call, error, "%zu %s, but %zu starts", counts[i], names[i], counts[1]);
    }
    for (int i = 0; i < input->rank; i++)
        ranges[i] = (struct range){0, 1, input->shape[i]};
    for (size_t i = 0; i < counts[1]; i++) {
        int64_t named = lists[3] ? lists[3][i] : (int64_t)i, step = lists[4] ? lists[4][i] : 1;
        int axis = net_axis(named, input->rank);
        if (axis < 0 || seen & 1U << axis)
            return net_fail(call, error, "axis %" PRId64 " is %s", named,
                            axis < 0 ? "none of the input's" : "named twice");
        if (!step)
            return net_fail(call, error, "a step of 0 along axis %d", axis);
        seen |= 1U << axis;
        ranges[axis] = clamp_range(lists[1][i], lists[2][i], step, input->shape[axis]);
    }
    return 0;
}

static int slice_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    struct range ranges[IVON_RANK_MAX];
    int64_t shape[IVON_RANK_MAX];
    int code = slice_ranges(call, ranges, error);
    for (int i = 0; i < input->rank && !code; i++)
        shape[i] = ranges[i].count;
    return code ? code : net_output(call, 0, input->type, input->rank, shape, error);
}

static struct net_strided_copy slice_copy(const struct net_call *call)
{
    const struct net_tensor *input = call->inputs[0], *output = call->outputs[0];
    struct net_strided_copy copy = {0};
    struct range ranges[IVON_RANK_MAX] = {0};
    int64_t to[IVON_RANK_MAX], from[IVON_RANK_MAX];
    slice_ranges(call, ranges, NULL); /* succeeded in infer */
    row_major_strides(input, from);
    row_major_strides(output, to);
    for (int i = 0; i < output->rank; i++) {
        int64_t step = ranges[i].count > 1 ? ranges[i].step : 1; /* else it may be out of bounds */
        copy.from_first += ranges[i].start * from[i];
        net_strided_copy_add_axis(&copy, ranges[i].count, to[i], step * from[i]);
    }
    return copy;
}

/* Examples in reverse are others. */
static bool slice_separable(const struct net_call *tile, const struct net_call *example)
{
    struct range ranges[IVON_RANK_MAX] = {0};
    int axis = net_example_axis(tile->inputs[0], example->inputs[0]);
    slice_ranges(tile, ranges, NULL); /* succeeded in infer */
    return axis < 0 || ranges[axis].step > 0;
}

COPY_OPERATOR(slice)

/* Expand: the input broadcast to the common shape of itself and of the second input's. */

static int expand_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    struct net_tensor wanted = {.type = input->type};
    const int64_t *values;
    int64_t shape[IVON_RANK_MAX];
    int rank, code = net_known_shape(call, 1, &values, &wanted.rank, error);
    if (code)
        return code;
    memcpy(wanted.shape, values, (size_t)wanted.rank * sizeof *values);
    if (!net_broadcast(input, &wanted, &rank, shape)) {
        char from[256], to[256];
        return net_fail(call, error, "shape %s cannot be broadcast to %s",
                        net_shape_text(input, from), net_shape_text(&wanted, to));
    }
    return net_output_made(call, 0, input->type, rank, shape, input->count, error);
}

static struct net_strided_copy expand_copy(const struct net_call *call)
{
    const struct net_tensor *input = call->inputs[0], *output = call->outputs[0];
    struct net_strided_copy copy = {0};
    int64_t to[IVON_RANK_MAX], from[IVON_RANK_MAX];
    int missing = output->rank - input->rank;
    row_major_strides(input, from);
    row_major_strides(output, to);
    for (int i = 0; i < output->rank; i++) {
        bool repeated = i < missing || input->shape[i - missing] == 1;
        net_strided_copy_add_axis(&copy, output->shape[i], to[i], repeated ? 0 : from[i - missing]);
    }
    return copy;
}

COPY_OPERATOR(expand)

/* Tile: the input repeated repeats[k] times along axis k. */

static int tile_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    const int64_t *repeats;
    size_t count;
    int64_t shape[IVON_RANK_MAX];
    int code = net_known_list(call, 1, "repeats", &repeats, &count, error);
    if (code)
        return code;
    if (count != (size_t)input->rank)
        return net_fail(call, error, "%zu repeats for %d axes", count, input->rank);
    for (int i = 0; i < input->rank; i++)
        if (repeats[i] < 0 || __builtin_mul_overflow(repeats[i], input->shape[i], &shape[i]))
            return net_fail(call, error, "axis %d cannot be repeated %" PRId64 " times", i,
                            repeats[i]);
    return net_output_made(call, 0, input->type, input->rank, shape, input->count, error);
}

static struct net_strided_copy tile_copy(const struct net_call *call)
{
    const struct net_tensor *input = call->inputs[0], *output = call->outputs[0];
    struct net_strided_copy copy = {0};
    int64_t to[IVON_RANK_MAX], from[IVON_RANK_MAX] = {0};
    row_major_strides(input, from);
    row_major_strides(output, to);
    for (int i = 0; i < output->rank; i++) {
        int64_t size = input->shape[i];
        net_strided_copy_add_axis(&copy, size ? output->shape[i] / size : 0, size * to[i], 0);
        net_strided_copy_add_axis(&copy, size, to[i], from[i]);
    }
    return copy;
}

static bool tile_separable(const struct net_call *tile, const struct net_call *example)
{
    int axis = net_example_axis(tile->inputs[0], example->inputs[0]);
    return axis < 0 || tile->outputs[0]->shape[axis] == tile->inputs[0]->shape[axis];
}

COPY_OPERATOR(tile)

/*
 * DepthToSpace: blocks of b × b channels become b × b neighbours in space,
 * out[n, c, b h + i, b w + j] = in[n, k, h, w], in which the channel k is c, i, j in that order
 * (CRD) or i, j, c (DCR). SpaceToDepth is the inverse of the latter.
 */

static int block_size(const struct net_call *call, int64_t *size, struct ivon_error *error)
{
    char text[256];
    *size = net_attribute_integer(call->node, "blocksize", 0);
    if (call->inputs[0]->rank == 4 && *size > 0 && *size < INT32_MAX)
        return 0;
    return net_fail(call, error, "blocksize %" PRId64 " for an input of shape %s, expected 4 axes",
                    *size, net_shape_text(call->inputs[0], text));
}

/* The block lies in the channels of `deep`, in the order of `wide`'s elements. */
static struct net_strided_copy block_copy(const struct net_tensor *deep,
                                          const struct net_tensor *wide, int64_t size,
                                          bool channels_first)
{
    struct net_strided_copy copy = {0};
    int64_t to[IVON_RANK_MAX] = {0}, from[IVON_RANK_MAX] = {0}, channels = wide->shape[1];
    row_major_strides(wide, to);
    row_major_strides(deep, from);
    int64_t inner = channels_first ? 1 : channels, outer = channels_first ? size * size : 1;
    net_strided_copy_add_axis(&copy, wide->shape[0], to[0], from[0]);
    net_strided_copy_add_axis(&copy, channels, to[1], outer * from[1]);
    net_strided_copy_add_axis(&copy, deep->shape[2], size * to[2], from[2]);
    net_strided_copy_add_axis(&copy, size, to[2], size * inner * from[1]);
    net_strided_copy_add_axis(&copy, deep->shape[3], size * to[3], from[3]);
    net_strided_copy_add_axis(&copy, size, to[3], inner * from[1]);
    return copy;
}

static int depth_to_space_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    const char *mode = net_attribute_text(call->node, "mode", "DCR");
    int64_t size, shape[4];
    int code = block_size(call, &size, error);
    if (code)
        return code;
    if (strcmp(mode, "DCR") != 0 && strcmp(mode, "CRD") != 0)
        return net_fail(call, error, "mode '%s', expected DCR or CRD", mode);
    memcpy(shape, input->shape, sizeof shape);
    shape[1] /= size * size;
    if (input->shape[1] % (size * size) ||
        __builtin_mul_overflow(input->shape[2], size, &shape[2]) ||
        __builtin_mul_overflow(input->shape[3], size, &shape[3]))
        return net_fail(call, error, "%" PRId64 " channels have no blocks of %" PRId64 "^2",
                        input->shape[1], size);
    return net_output(call, 0, input->type, 4, shape, error);
}

static struct net_strided_copy depth_to_space_copy(const struct net_call *call)
{
    int64_t size = net_attribute_integer(call->node, "blocksize", 0);
    bool channels_first = *net_attribute_text(call->node, "mode", "DCR") == 'C';
    return block_copy(call->inputs[0], call->outputs[0], size, channels_first);
}

COPY_OPERATOR(depth_to_space)

static int space_to_depth_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    int64_t size, shape[4];
    int code = block_size(call, &size, error);
    if (code)
        return code;
    memcpy(shape, input->shape, sizeof shape);
    shape[2] /= size;
    shape[3] /= size;
    if (input->shape[2] % size || input->shape[3] % size ||
        __builtin_mul_overflow(input->shape[1], size * size, &shape[1]))
        return net_fail(call, error,
                        "%" PRId64 " x %" PRId64 " elements have no blocks of %" PRId64 "^2",
                        input->shape[2], input->shape[3], size);
    return net_output(call, 0, input->type, 4, shape, error);
}

static struct net_strided_copy space_to_depth_copy(const struct net_call *call)
{
    int64_t size = net_attribute_integer(call->node, "blocksize", 0);
    const struct net_strided_copy copy = block_copy(call->outputs[0], call->inputs[0], size, false);
    return net_strided_copy_reversed(&copy);
}

COPY_OPERATOR(space_to_depth)

#define SLICE                                                                                      \
    .outputs_max = 1, .infer = slice_infer, .forward = slice_forward, .backward = slice_backward,  \
    .tangent = slice_tangent, .separable = slice_separable

const struct net_operator net_movement_operators[] = {
    {.name = "Transpose",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_TRANSPOSE,
     .attributes = {{"perm", NET_INTS}},
     .infer = transpose_infer,
     .forward = transpose_forward,
     .backward = transpose_backward,
     .tangent = transpose_tangent},
    {.name = "Slice",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .attributes = {{"starts", NET_INTS}, {"ends", NET_INTS}, {"axes", NET_INTS}},
     SLICE},
    {.name = "Slice", .since = 10, .inputs_min = 3, .inputs_max = 5, SLICE},
    {.name = "Expand",
     .since = 8,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .infer = expand_infer,
     .forward = expand_forward,
     .backward = expand_backward,
     .tangent = expand_tangent},
    {.name = "Tile",
     .since = 1,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .infer = tile_infer,
     .forward = tile_forward,
     .backward = tile_backward,
     .tangent = tile_tangent,
     .separable = tile_separable},
    {.name = "DepthToSpace",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .attributes = {{"blocksize", NET_INT}, {"mode", NET_TEXT}},
     .later = {{"mode", 11}},
     .infer = depth_to_space_infer,
     .forward = depth_to_space_forward,
     .backward = depth_to_space_backward,
     .tangent = depth_to_space_tangent},
    {.name = "SpaceToDepth",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .attributes = {{"blocksize", NET_INT}},
     .infer = space_to_depth_infer,
     .forward = space_to_depth_forward,
     .backward = space_to_depth_backward,
     .tangent = space_to_depth_tangent},
    {0}};
