/*
 * If, after its branches have become part of the graph: y = then where the condition holds, else
 * otherwise. Where the plan knows the condition, y is one of the two, and nothing of this runs.
 *
 * Otherwise both are computed. The condition has one element for all, or one for each example.
 */
#include <string.h>

#include "net/graph/rules.h"

static int select_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *condition = call->inputs[0], *yes = call->inputs[1];
    const struct net_tensor *no = call->inputs[2];
    char found[256], wanted[256];
    if (condition->type != NET_BOOLEAN)
        return net_fail(call, error, "its condition is of type %s, expected boolean",
                        net_type_name(condition->type));
    if (yes->type != no->type || !net_same_shape(yes, no))
        return net_fail(call, error,
                        "its condition depends on the data, and its branches give %s %s and %s %s, "
                        "expected the same",
                        net_type_name(yes->type), net_shape_text(yes, found),
                        net_type_name(no->type), net_shape_text(no, wanted));
    size_t rows = yes->rank ? (size_t)yes->shape[0] : 1;
    if (condition->count != 1 && condition->count != rows)
        return net_fail(call, error, "its condition has shape %s, expected one element",
                        net_shape_text(condition, found));
    return net_output(call, 0, yes->type, yes->rank, yes->shape, error);
}

/* The number of elements for which one element of the condition decides. */
static size_t select_width(const struct net_call *call)
{
    size_t count = call->inputs[0]->count;
    return count ? call->outputs[0]->count / count : 0;
}

/* The input, 1 or 2, that output row `row` is. */
static size_t select_input(const struct net_call *call, size_t row)
{
    return ((const unsigned char *)call->inputs[0]->data)[row] ? 1 : 2;
}

static int select_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    size_t bytes = select_width(call) * net_type_size(call->outputs[0]->type);
    for (size_t row = 0; row < call->inputs[0]->count && bytes; row++)
        memcpy((char *)call->outputs[0]->data + row * bytes,
               (const char *)call->inputs[select_input(call, row)]->data + row * bytes, bytes);
    return 0;
}

/* then' += y' where the condition holds, else' += y' otherwise */
static void select_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    size_t width = select_width(call);
    for (size_t row = 0; row < call->inputs[0]->count && output_adjoints[0]; row++) {
        float *to = input_adjoints[select_input(call, row)];
        for (size_t i = row * width; to && i < (row + 1) * width; i++)
            to[i] += output_adjoints[0][i];
    }
}

static void select_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    size_t width = select_width(call);
    for (size_t row = 0; row < call->inputs[0]->count && width; row++) {
        const float *from = input_tangents[select_input(call, row)];
        float *to = output_tangents[0] + row * width;
        if (from)
            memcpy(to, from + row * width, width * sizeof *to);
        else
            memset(to, 0, width * sizeof *to);
    }
}

const struct net_operator net_select_operators[] = {
    {.domain = NET_OWN_DOMAIN,
     .name = "If",
     .since = 1,
     .inputs_min = 3,
     .inputs_max = 3,
     .outputs_max = 1,
     .flags = NET_SELECT,
     .infer = select_infer,
     .forward = select_forward,
     .backward = select_backward,
     .tangent = select_tangent},
    {0},
};
