#include "net/ops/reduce/reduction.h"

#include <inttypes.h>

#include "net/graph/rules.h"
#include "net/ops/elementwise/blockwise.h"

/* Finds the axes to reduce: an attribute, or the second input. */
static int reduction_axes(const struct net_call *call, bool *reduced, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    size_t count;
    const int64_t *axes = net_attribute_integers(call->node, "axes", &count);
    if (call->node->input_count > 1 && call->inputs[1]) {
        const struct net_tensor *tensor = call->inputs[1];
        if (tensor->type != NET_INTEGER || tensor->rank != 1)
            return net_fail(call, error,
                            "axes have type %s and %d dimensions, expected a list of integers",
                            net_type_name(tensor->type), tensor->rank);
        if (tensor->count && !tensor->data)
            return net_fail(call, error, "axes that depend on the input are not supported");
        axes = tensor->data;
        count = tensor->count;
    }
    bool all = count == 0 && !net_attribute_integer(call->node, "noop_with_empty_axes", 0);
    for (int i = 0; i < x->rank; i++)
        reduced[i] = all;
    for (size_t i = 0; i < count; i++) {
        char text[256];
        int axis = net_axis(axes[i], x->rank);
        if (axis < 0)
            return net_fail(call, error, "axis %" PRId64 " of an input of shape %s", axes[i],
                            net_shape_text(x, text));
        reduced[axis] = true;
    }
    return 0;
}

/* Lays out the groups. */
static void reduction_group(struct net_reduction *r, const struct net_tensor *x,
                            const bool *reduced, size_t outputs)
{
    r->groups = 0;
    for (int i = 0; i < x->rank; i++) {
        if (x->shape[i] == 1)
            continue;
        if (r->groups && r->reduced[r->groups - 1] == reduced[i]) {
            r->extent[r->groups - 1] *= (size_t)x->shape[i];
            continue;
        }
        r->reduced[r->groups] = reduced[i];
        r->extent[r->groups++] = (size_t)x->shape[i];
    }
    if (r->groups == 0)
        r->extent[r->groups++] = 1;
    size_t step = 1;
    for (int i = r->groups - 1; i >= 0; i--) {
        r->step[i] = r->reduced[i] ? 0 : step;
        step *= r->reduced[i] ? 1 : r->extent[i];
    }
    r->runs = x->count ? x->count / r->extent[r->groups - 1] : 0;
    r->terms = outputs ? x->count / outputs : 0;
}

int net_reduction_infer(struct net_call *call, unsigned types, size_t size,
                        struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    bool reduced[IVON_RANK_MAX], keep = net_attribute_integer(call->node, "keepdims", 1) != 0;
    int code = block_expect(call, 0, types, error), rank = 0;
    if (!code)
        code = reduction_axes(call, reduced, error);
    if (code)
        return code;
    int64_t shape[IVON_RANK_MAX];
    for (int i = 0; i < x->rank; i++)
        if (!reduced[i])
            shape[rank++] = x->shape[i];
        else if (keep)
            shape[rank++] = 1;
    struct net_tensor *y = call->outputs[0];
    code = net_output(call, 0, x->type, rank, shape, error);
    if (code)
        return code;
    struct net_reduction *r = net_prepare(call, size, error);
    if (!r)
        return IVON_ERROR_MEMORY;
    reduction_group(r, x, reduced, y->count);
    return 0;
}
