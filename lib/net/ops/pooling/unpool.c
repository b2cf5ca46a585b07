/*
 * MaxUnpool: elements go back to where MaxPool took them from; the others are zero. Indices count
 * in an output as large as strides, pads and kernel make it. A larger one, that output_shape gives,
 * has zeros behind that; of a smaller one, what lies outside is left out.
 */
#include <inttypes.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/pooling/pooling.h"

struct unpool {
    int rank;
    int64_t inner[IVON_RANK_MAX]; /* the shape in which indices count */
    int64_t outer[IVON_RANK_MAX]; /* of the output */
    int64_t count;                /* elements of the inner shape */
};

static int unpool_inner_shape(const struct net_call *call, int64_t *shape, struct ivon_error *error)
{
    struct net_window_axis axes[POOL_AXES_MAX];
    enum net_padding padding;
    const struct net_tensor *x = call->inputs[0];
    int code = net_window_read(call, NULL, &padding, axes, error);
    if (code)
        return code;
    shape[0] = x->shape[0];
    shape[1] = x->shape[1];
    for (int i = 2; i < x->rank; i++) {
        const struct net_window_axis *axis = &axes[i - 2];
        int64_t extent = (axis->input - 1) * axis->stride + axis->kernel - axis->before -
                         axis->after;
        if (extent < 0 || extent > INT32_MAX)
            return net_fail(call, error, "axis %d would have %" PRId64 " elements", i, extent);
        shape[i] = extent;
    }
    return 0;
}

int unpool_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0], *indices = call->inputs[1];
    char left[256], right[256];
    int code = net_expect_float(call, 0, error);
    if (code)
        return code;
    if (indices->type != NET_INTEGER || !net_same_shape(x, indices))
        return net_fail(call, error, "indices of type %s and shape %s for an input of shape %s",
                        net_type_name(indices->type), net_shape_text(indices, left),
                        net_shape_text(x, right));
    struct unpool *unpool = net_prepare(call, sizeof *unpool, error);
    if (!unpool)
        return IVON_ERROR_MEMORY;
    code = unpool_inner_shape(call, unpool->inner, error);
    struct net_tensor inner = {0};
    if (!code)
        code = net_tensor_set(&inner, NET_FLOAT, x->rank, unpool->inner, error);
    if (code)
        return code;
    unpool->rank = x->rank;
    unpool->count = (int64_t)inner.count;
    memcpy(unpool->outer, unpool->inner, sizeof unpool->outer);
    if (net_input(call, 2)) {
        const int64_t *given;
        int rank;
        code = net_known_shape(call, 2, &given, &rank, error);
        if (!code && (rank != x->rank || given[0] != x->shape[0] || given[1] != x->shape[1]))
            return net_fail(call, error, "the output shape does not begin as that of the input %s",
                            net_shape_text(x, left));
        for (int i = 0; i < x->rank && !code; i++)
            unpool->outer[i] = given[i];
    }
    if (!code)
        code = net_output_made(call, 0, NET_FLOAT, x->rank, unpool->outer, x->count, error);
    size_t count = code ? 0 : call->outputs[0]->count;
    if (__builtin_mul_overflow(count, sizeof(size_t), &call->workspace_size))
        return net_fail(call, error, "its output is too large");
    return code;
}

/* Returns where element i goes; -1 if the output does not have that place, -2 if no output has. */
static int64_t unpool_place(const struct net_call *call, size_t i)
{
    const struct unpool *unpool = call->prepared;
    int64_t index = ((const int64_t *)call->inputs[1]->data)[i], place = 0, below = 1;
    if (index < 0 || index >= unpool->count)
        return -2;
    for (int axis = unpool->rank - 1; axis >= 0; axis--) {
        int64_t at = index % unpool->inner[axis];
        index /= unpool->inner[axis];
        if (at >= unpool->outer[axis])
            return -1;
        place += at * below;
        below *= unpool->outer[axis];
    }
    return place;
}

int unpool_forward(const struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0], *y = call->outputs[0];
    memset(y->data, 0, y->count * sizeof(float));
    for (size_t i = 0; i < x->count; i++) {
        int64_t place = unpool_place(call, i);
        if (place == -2)
            return net_fail(call, error, "index %" PRId64 ", expected 0 to %" PRId64,
                            ((const int64_t *)call->inputs[1]->data)[i],
                            ((const struct unpool *)call->prepared)->count - 1);
        if (place >= 0)
            ((float *)y->data)[place] = ((const float *)x->data)[i];
    }
    return 0;
}

/* Lists for each output the element that it holds, the last that goes there, plus 1. */
static const size_t *unpool_owners(const struct net_call *call)
{
    size_t *owners = call->workspace;
    memset(owners, 0, call->outputs[0]->count * sizeof *owners);
    for (size_t i = 0; i < call->inputs[0]->count; i++) {
        int64_t place = unpool_place(call, i);
        if (place >= 0)
            owners[place] = i + 1;
    }
    return owners;
}

void unpool_backward(const struct net_call *call, const float *const *output_adjoints,
                     float *const *input_adjoints)
{
    if (!input_adjoints[0] || !output_adjoints[0])
        return;
    const size_t *owners = unpool_owners(call);
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        if (owners[i])
            input_adjoints[0][owners[i] - 1] += output_adjoints[0][i];
}

void unpool_tangent(const struct net_call *call, const float *const *input_tangents,
                    float *const *output_tangents)
{
    const size_t *owners = unpool_owners(call);
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        output_tangents[0][i] = owners[i] && input_tangents[0] ? input_tangents[0][owners[i] - 1]
                                                               : 0;
}
