/* The largest elements along an axis, or the smallest: ArgMax, ArgMin, TopK. NaN is larger than all
   numbers in TopK; ArgMax and ArgMin find it, as numpy does. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/elementwise/blockwise.h"

/* Lines of `length` elements, `inner` apart, of each of which `kept` are chosen. */
struct selection {
    size_t outer, length, inner, kept;
    bool largest;
    int64_t *indices; /* of TopK: those chosen, in the order of the outputs */
};

/* Checks the input, and finds the axis. */
static int selection_axis(const struct net_call *call, int64_t otherwise, int *axis,
                          struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    char text[256];
    int code = block_expect(call, 0, 1U << NET_FLOAT | 1U << NET_INTEGER, error);
    if (code)
        return code;
    int64_t named = net_attribute_integer(call->node, "axis", otherwise);
    *axis = net_axis(named, x->rank);
    if (*axis >= 0)
        return 0;
    return net_fail(call, error, "axis %" PRId64 " of an input of shape %s", named,
                    net_shape_text(x, text));
}

/* Prepares a selection, and space for indices behind it. */
static int selection_prepare(struct net_call *call, int axis, size_t indices,
                             struct selection **selection, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    size_t size;
    if (__builtin_mul_overflow(indices, sizeof(int64_t), &size) ||
        __builtin_add_overflow(size, sizeof(struct selection), &size))
        return net_fail(call, error, "the output is too large");
    struct selection *s = *selection = net_prepare(call, size, error);
    if (!s)
        return IVON_ERROR_MEMORY;
    *s = (struct selection){.outer = x->count != 0,
                            .length = (size_t)x->shape[axis],
                            .inner = 1,
                            .kept = 1,
                            .indices = (int64_t *)(s + 1)};
    for (int i = 0; i < x->rank && x->count; i++)
        if (i != axis)
            *(i < axis ? &s->outer : &s->inner) *= (size_t)x->shape[i];
    return 0;
}

/* The place in the input of element 0 of a line. */
static size_t selection_start(const struct selection *s, size_t line)
{
    return line / s->inner * s->length * s->inner + line % s->inner;
}

/* ArgMax, ArgMin. */

static int arg_infer(struct net_call *call, bool largest, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    struct selection *s;
    int axis, rank = 0, code = selection_axis(call, 0, &axis, error);
    if (code)
        return code;
    if (x->shape[axis] == 0)
        return net_fail(call, error, "there is no element along axis %d", axis);
    bool keep = net_attribute_integer(call->node, "keepdims", 1) != 0;
    int64_t shape[IVON_RANK_MAX];
    for (int i = 0; i < x->rank; i++)
        if (i != axis || keep)
            shape[rank++] = i == axis ? 1 : x->shape[i];
    code = selection_prepare(call, axis, 0, &s, error);
    if (code)
        return code;
    s->largest = largest;
    return net_output(call, 0, NET_INTEGER, rank, shape, error);
}

static int infer_largest(struct net_call *call, struct ivon_error *error)
{
    return arg_infer(call, true, error);
}

static int infer_smallest(struct net_call *call, struct ivon_error *error)
{
    return arg_infer(call, false, error);
}

static size_t arg_of_floats(const struct selection *s, const float *x, bool last)
{
    size_t best = 0;
    for (size_t i = 1; i < s->length; i++) {
        float value = x[i * s->inner], held = x[best * s->inner];
        bool better = s->largest ? value > held : value < held;
        if (isnan(held) ? last && isnan(value) : better || isnan(value) || (last && value == held))
            best = i;
    }
    return best;
}

static size_t arg_of_integers(const struct selection *s, const int64_t *x, bool last)
{
    size_t best = 0;
    for (size_t i = 1; i < s->length; i++) {
        int64_t value = x[i * s->inner], held = x[best * s->inner];
        if ((s->largest ? value > held : value < held) || (last && value == held))
            best = i;
    }
    return best;
}

static int arg_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct selection *s = call->prepared;
    const struct net_tensor *x = call->inputs[0];
    bool last = net_attribute_integer(call->node, "select_last_index", 0) != 0;
    int64_t *y = call->outputs[0]->data;
    for (size_t line = 0; line < s->outer * s->inner; line++) {
        size_t at = selection_start(s, line);
        y[line] = (int64_t)(x->type == NET_FLOAT
                                ? arg_of_floats(s, (const float *)x->data + at, last)
                                : arg_of_integers(s, (const int64_t *)x->data + at, last));
    }
    return 0;
}

/* TopK: always in order, equal elements in the order of the input. */

static int topk_set(struct net_call *call, int64_t kept, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    struct selection *s;
    int axis, code = selection_axis(call, -1, &axis, error);
    if (code)
        return code;
    if (kept < 0 || kept > x->shape[axis])
        return net_fail(call, error, "%" PRId64 " elements of the %" PRId64 " along an axis", kept,
                        x->shape[axis]);
    struct net_tensor chosen = {0};
    int64_t shape[IVON_RANK_MAX];
    memcpy(shape, x->shape, sizeof shape);
    shape[axis] = kept;
    code = net_tensor_set(&chosen, NET_INTEGER, x->rank, shape, error);
    if (!code)
        code = net_output(call, 0, x->type, x->rank, shape, error);
    if (!code && call->node->output_count > 1)
        code = net_output(call, 1, NET_INTEGER, x->rank, shape, error);
    if (!code)
        code = selection_prepare(call, axis, chosen.count, &s, error);
    if (code)
        return code;
    s->kept = (size_t)kept;
    s->largest = net_attribute_integer(call->node, "largest", 1) != 0;
    call->workspace_size = chosen.count ? s->kept * sizeof(size_t) : 0;
    return 0;
}

static int topk_attribute_infer(struct net_call *call, struct ivon_error *error)
{
    return topk_set(call, net_attribute_integer(call->node, "k", -1), error);
}

static int topk_infer(struct net_call *call, struct ivon_error *error)
{
    const int64_t *values;
    size_t count;
    int code = net_known_list(call, 1, "k", &values, &count, error);
    if (!code && count != 1)
        return net_fail(call, error, "k has %zu elements, expected one", count);
    return code ? code : topk_set(call, values[0], error);
}

/* A line of the input, from which elements are chosen. */
struct topk_line {
    const struct selection *selection;
    enum net_type type;
    const void *data; /* element 0 */
};

/* Returns whether element i of a line comes before element j. */
static bool topk_before(const struct topk_line *line, size_t i, size_t j)
{
    size_t inner = line->selection->inner;
    bool larger, smaller;
    if (line->type == NET_FLOAT) {
        float a = ((const float *)line->data)[i * inner],
              b = ((const float *)line->data)[j * inner];
        larger = a > b || (isnan(a) && !isnan(b));
        smaller = b > a || (isnan(b) && !isnan(a));
    } else {
        int64_t a = ((const int64_t *)line->data)[i * inner];
        int64_t b = ((const int64_t *)line->data)[j * inner];
        larger = a > b;
        smaller = a < b;
    }
    if (!larger && !smaller)
        return i < j;
    return line->selection->largest ? larger : smaller;
}

/* Moves the element at `root` down a heap, where none comes before its parent's place: the last of
   those kept is on top. */
static void topk_sift(const struct topk_line *line, size_t *heap, size_t count, size_t root)
{
    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && topk_before(line, heap[child], heap[child + 1]))
            child++;
        if (!topk_before(line, heap[root], heap[child]))
            return;
        size_t kept = heap[root];
        heap[root] = heap[child];
        heap[child] = kept;
    }
}

static void topk_choose(const struct topk_line *line, size_t *heap)
{
    size_t kept = line->selection->kept;
    for (size_t i = 0; i < kept; i++)
        heap[i] = i;
    for (size_t i = kept / 2; i-- > 0;)
        topk_sift(line, heap, kept, i);
    for (size_t i = kept; i < line->selection->length; i++)
        if (topk_before(line, i, heap[0])) {
            heap[0] = i;
            topk_sift(line, heap, kept, 0);
        }
    for (size_t left = kept; left-- > 1;) {
        size_t last = heap[0];
        heap[0] = heap[left];
        heap[left] = last;
        topk_sift(line, heap, left, 0);
    }
}

static int topk_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct selection *s = call->prepared;
    const struct net_tensor *x = call->inputs[0], *values = call->outputs[0];
    const struct net_tensor *indices = call->node->output_count > 1 ? call->outputs[1] : NULL;
    size_t *heap = call->workspace, size = net_type_size(x->type);
    for (size_t i = 0; s->kept && i < s->outer * s->inner; i++) {
        size_t start = selection_start(s, i);
        const unsigned char *data = (const unsigned char *)x->data + start * size;
        topk_choose(&(struct topk_line){s, x->type, data}, heap);
        size_t at = i / s->inner * s->kept * s->inner + i % s->inner;
        for (size_t j = 0; j < s->kept; j++, at += s->inner) {
            s->indices[at] = (int64_t)heap[j];
            if (values)
                memcpy((unsigned char *)values->data + at * size, data + heap[j] * s->inner * size,
                       size);
        }
    }
    if (indices && indices->count)
        memcpy(indices->data, s->indices, indices->count * sizeof(int64_t));
    return 0;
}

/* Element `at` of the values is this one of the input. */
static size_t topk_source(const struct selection *s, size_t at)
{
    size_t line = at / (s->kept * s->inner) * s->inner + at % s->inner;
    return selection_start(s, line) + (size_t)s->indices[at] * s->inner;
}

static void topk_backward(const struct net_call *call, const float *const *output_adjoints,
                          float *const *input_adjoints)
{
    const struct selection *s = call->prepared;
    const float *dy = output_adjoints[0];
    float *dx = input_adjoints[0];
    for (size_t i = 0; dx && dy && i < call->outputs[0]->count; i++)
        dx[topk_source(s, i)] += dy[i];
}

static void topk_tangent(const struct net_call *call, const float *const *input_tangents,
                         float *const *output_tangents)
{
    const struct selection *s = call->prepared;
    const float *x_tangent = input_tangents[0];
    for (size_t i = 0; output_tangents[0] && i < call->outputs[0]->count; i++)
        output_tangents[0][i] = x_tangent ? x_tangent[topk_source(s, i)] : 0;
}

#define ARG_ROW(title, opset, infers)                                                              \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 1, .inputs_max = 1, .outputs_max = 1,         \
        .attributes = {{"axis", NET_INT}, {"keepdims", NET_INT}, {"select_last_index", NET_INT}},  \
        .later = {{"select_last_index", 12}}, .infer = infers, .forward = arg_forward              \
    }

#define TOP_K                                                                                      \
    .outputs_max = 2, .forward = topk_forward, .backward = topk_backward, .tangent = topk_tangent

const struct net_operator net_selection_operators[] = {
    ARG_ROW("ArgMax", 1, infer_largest),
    ARG_ROW("ArgMin", 1, infer_smallest),
    {.name = "TopK",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .attributes = {{"axis", NET_INT}, {"k", NET_INT}},
     .infer = topk_attribute_infer,
     TOP_K},
    {.name = "TopK",
     .since = 10,
     .inputs_min = 2,
     .inputs_max = 2,
     .attributes = {{"axis", NET_INT}, {"largest", NET_INT}, {"sorted", NET_INT}},
     .later = {{"largest", 11}, {"sorted", 11}},
     .infer = topk_infer,
     TOP_K},
    {0},
};
