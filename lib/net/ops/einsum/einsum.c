/*
 * Einsum: y = Σ Π x_i over the axes that the output does not have. Tensors are contracted two at a
 * time, from the left; each intermediate one keeps the axes that those that follow, or the output,
 * have. The derivative in an operand is a contraction of the others and of the output's adjoint.
 */
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/einsum/equation.h"

/* All operands, but that `replaced` is another tensor, are contracted to a target. */
struct sequence {
    const struct net_call *call;
    const struct einsum *einsum;
    const struct contraction_view *target;
    size_t replaced; /* an operand, or none */
    const struct contraction_view *by;
    const float *data; /* of the other */
};

static const struct contraction_view *sequence_view(const struct sequence *s, size_t i)
{
    return i == s->replaced ? s->by : &s->einsum->views[i];
}

static const float *sequence_data(const struct sequence *s, size_t i)
{
    return i == s->replaced ? s->data : s->call->inputs[i]->data;
}

/* The intermediate tensor of the operands up to the i-th, `have` the axes of these. */
static bool sequence_tensor(const struct sequence *s, uint64_t have, size_t i,
                            struct contraction_view *view, size_t *count)
{
    uint64_t needed = s->target->axes;
    for (size_t k = i + 1; k < s->einsum->operands; k++)
        needed |= sequence_view(s, k)->axes;
    return contraction_dense(s->einsum->extent, have & needed, view, count);
}

/* Finds what memory a sequence needs. */
static int sequence_measure(const struct sequence *s, struct einsum *einsum,
                            struct ivon_error *error)
{
    const size_t most = (size_t)1 << 31;
    struct contraction_view current = *sequence_view(s, 0);
    for (size_t i = 1; i < einsum->operands; i++) {
        const struct contraction_view *operand = sequence_view(s, i);
        struct contraction_view to = *s->target;
        size_t count = 0;
        if (i + 1 < einsum->operands &&
            (!sequence_tensor(s, current.axes | operand->axes, i, &to, &count) || count > most))
            return net_fail(s->call, error,
                            "an intermediate tensor would have more than %zu elements", most);
        size_t scratch = contraction_scratch(einsum->extent, &current, operand, &to);
        einsum->scratch = scratch > einsum->scratch ? scratch : einsum->scratch;
        einsum->tensor = count > einsum->tensor ? count : einsum->tensor;
        current = to;
    }
    return 0;
}

/* Adds to the target. */
static void sequence_run(const struct sequence *s, float *target)
{
    const struct einsum *einsum = s->einsum;
    float *scratch = s->call->workspace, *tensors = scratch + einsum->scratch;
    struct contraction_view current = *sequence_view(s, 0);
    const float *data = sequence_data(s, 0);
    if (einsum->operands == 1)
        contraction_add(einsum->extent, &current, data, NULL, NULL, s->target, target, scratch);
    for (size_t i = 1; i < einsum->operands; i++) {
        const struct contraction_view *operand = sequence_view(s, i);
        struct contraction_view to = *s->target;
        float *out = target;
        if (i + 1 < einsum->operands) {
            size_t count;
            sequence_tensor(s, current.axes | operand->axes, i, &to, &count);
            out = tensors + i % 2 * einsum->tensor;
            if (count)
                memset(out, 0, count * sizeof *out);
        }
        contraction_add(einsum->extent, &current, data, operand, sequence_data(s, i), &to, out,
                        scratch);
        current = to;
        data = out;
    }
}

/* The sequence of the output, in which operand i is its tangent, if it is one. */
static struct sequence einsum_output(const struct net_call *call, size_t i, const float *tangent)
{
    const struct einsum *einsum = call->prepared;
    return (struct sequence){.call = call,
                             .einsum = einsum,
                             .target = &einsum->views[einsum->operands],
                             .replaced = i,
                             .by = &einsum->views[i],
                             .data = tangent};
}

/* The sequence of the adjoint of operand i. */
static struct sequence einsum_adjoint(const struct net_call *call, size_t i, const float *dy)
{
    const struct einsum *einsum = call->prepared;
    return (struct sequence){.call = call,
                             .einsum = einsum,
                             .target = &einsum->views[i],
                             .replaced = i,
                             .by = &einsum->views[einsum->operands],
                             .data = dy};
}

static int einsum_infer(struct net_call *call, struct ivon_error *error)
{
    int code = einsum_equation(call, error);
    if (code)
        return code;
    struct einsum *einsum = call->prepared;
    struct sequence output = einsum_output(call, einsum->operands, NULL);
    code = sequence_measure(&output, einsum, error);
    for (size_t i = 0; i < einsum->operands && !code; i++) {
        struct sequence adjoint = einsum_adjoint(call, i, NULL);
        code = sequence_measure(&adjoint, einsum, error);
    }
    /* Scratch memory is below the size of three tensors that there are, or may be. */
    size_t floats;
    if (!code && (__builtin_add_overflow(2 * einsum->tensor, einsum->scratch, &floats) ||
                  __builtin_mul_overflow(floats, sizeof(float), &call->workspace_size)))
        code = net_fail(call, error, "its tensors are too large");
    return code;
}

static int einsum_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct einsum *einsum = call->prepared;
    struct sequence output = einsum_output(call, einsum->operands, NULL);
    memset(call->outputs[0]->data, 0, call->outputs[0]->count * sizeof(float));
    sequence_run(&output, call->outputs[0]->data);
    return 0;
}

static void einsum_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    for (size_t i = 0; output_adjoints[0] && i < call->node->input_count; i++)
        if (input_adjoints[i]) {
            struct sequence adjoint = einsum_adjoint(call, i, output_adjoints[0]);
            sequence_run(&adjoint, input_adjoints[i]);
        }
}

static void einsum_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
    for (size_t i = 0; i < call->node->input_count; i++)
        if (input_tangents[i]) {
            struct sequence moved = einsum_output(call, i, input_tangents[i]);
            sequence_run(&moved, output_tangents[0]);
        }
}

const struct net_operator net_einsum_operators[] = {
    {.name = "Einsum",
     .since = 12,
     .inputs_min = 1,
     .inputs_max = NET_VARIADIC,
     .outputs_max = 1,
     .weights = 1U << 1,
     .attributes = {{"equation", NET_TEXT}},
     .infer = einsum_infer,
     .forward = einsum_forward,
     .backward = einsum_backward,
     .tangent = einsum_tangent},
    {0},
};
