/*
 * CausalConvWithState: each channel of examples × channels × positions is convolved along the
 * positions with a kernel of its own, which ends at the position; what came before the first one is
 * the past state, or zeros. The last positions are the present state. With the activation silu,
 * y = f σ(f) for the convolution's f.
 */
#include <inttypes.h>
#include <string.h>

#include "core/memory.h"
#include "core/vector_math.h"
#include "net/graph/rules.h"
#include "net/ops/sum.h"

enum { X, KERNEL, BIAS, PAST, INPUTS };

struct causal {
    size_t examples, channels, positions, width, past; /* past: width − 1 */
    bool silu;
};

static int causal_read_activation(const struct net_call *call, bool *silu, struct ivon_error *error)
{
    const char *name = net_attribute_text(call->node, "activation", "none");
    *silu = strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0;
    if (*silu || strcmp(name, "none") == 0 || !*name)
        return 0;
    return net_fail(call, error, "activation '%s', expected none, silu or swish", name);
}

static int causal_check(const struct net_call *call, struct ivon_error *error)
{
    char a[256], b[256];
    for (size_t i = 0; i < call->node->input_count; i++) {
        int code = i <= KERNEL || call->inputs[i] ? net_expect_float(call, i, error) : 0;
        if (code)
            return code;
    }
    const struct net_tensor *x = call->inputs[X], *kernel = call->inputs[KERNEL];
    const struct net_tensor *bias = net_input(call, BIAS), *past = net_input(call, PAST);
    if (x->rank != 3 || kernel->rank != 3 || kernel->shape[0] != x->shape[1] ||
        kernel->shape[1] != 1 || kernel->shape[2] < 1)
        return net_fail(call, error, "an input of shape %s and kernels of shape %s",
                        net_shape_text(x, a), net_shape_text(kernel, b));
    if (bias && (bias->rank != 1 || bias->shape[0] != x->shape[1]))
        return net_fail(call, error, "a bias of shape %s for an input of shape %s",
                        net_shape_text(bias, a), net_shape_text(x, b));
    if (past && (past->rank != 3 || past->shape[0] != x->shape[0] ||
                 past->shape[1] != x->shape[1] || past->shape[2] != kernel->shape[2] - 1))
        return net_fail(call, error, "a past state of shape %s for kernels of shape %s",
                        net_shape_text(past, a), net_shape_text(kernel, b));
    return 0;
}

static int causal_infer(struct net_call *call, struct ivon_error *error)
{
    struct causal c;
    int code = causal_check(call, error);
    if (!code)
        code = causal_read_activation(call, &c.silu, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[X], *kernel = call->inputs[KERNEL];
    int64_t state[] = {x->shape[0], x->shape[1], kernel->shape[2] - 1}, line;
    c.examples = x->count || state[2] ? (size_t)x->shape[0] : 0;
    c.channels = (size_t)x->shape[1];
    c.positions = (size_t)x->shape[2];
    c.width = (size_t)kernel->shape[2];
    c.past = c.width - 1;
    if (__builtin_add_overflow(x->shape[2], kernel->shape[2], &line) || line > PTRDIFF_MAX / 64)
        return net_fail(call, error, "kernels of %" PRId64 " positions", kernel->shape[2]);
    /* A line with its past, that of its adjoints, and the sums f. */
    call->workspace_size = 3 * memory_rounded((size_t)line * sizeof(float));
    struct causal *stored = net_prepare(call, sizeof *stored, error);
    if (!stored)
        return IVON_ERROR_MEMORY;
    *stored = c;
    code = net_output(call, 0, NET_FLOAT, 3, x->shape, error);
    if (!code && call->node->output_count > 1)
        code = net_output(call, 1, NET_FLOAT, 3, state, error);
    return code;
}

static float *causal_workspace(const struct net_call *call, size_t which)
{
    const struct causal *c = call->prepared;
    size_t size = memory_rounded((c->positions + c->width) * sizeof(float));
    return (float *)((char *)call->workspace + which * size);
}

static const float *causal_data(const struct net_call *call, size_t i)
{
    const struct net_tensor *input = net_input(call, i);
    return input ? input->data : NULL;
}

/* Sets `line` to a channel's past and its positions; null counts as zeros. */
static void causal_line(const struct causal *c, const float *past, const float *x, size_t at,
                        float *line)
{
    size_t count = c->past, more = c->positions;
    if (past && count)
        memcpy(line, past + at * count, count * sizeof *line);
    else
        memset(line, 0, count * sizeof *line);
    if (x && more)
        memcpy(line + count, x + at * more, more * sizeof *line);
    else
        memset(line + count, 0, more * sizeof *line);
}

/* f_t += Σ_j k_j line_{t+j} */
static void causal_convolve(const struct causal *c, const float *kernel, const float *line,
                            float *f)
{
    for (size_t j = 0; j < c->width; j++)
        for (size_t t = 0; t < c->positions; t++)
            f[t] += kernel[j] * line[t + j];
}

/* Sets f of a channel, and its line. */
static float *causal_sums(const struct net_call *call, size_t at)
{
    const struct causal *c = call->prepared;
    const float *bias = causal_data(call, BIAS);
    size_t channel = at % c->channels;
    float *line = causal_workspace(call, 0), *f = causal_workspace(call, 2);
    causal_line(c, causal_data(call, PAST), causal_data(call, X), at, line);
    for (size_t t = 0; t < c->positions; t++)
        f[t] = bias ? bias[channel] : 0;
    causal_convolve(c, causal_data(call, KERNEL) + channel * c->width, line, f);
    return f;
}

static float *state_of(const struct net_call *call, float *const *arrays)
{
    return call->node->output_count > 1 ? arrays[1] : NULL;
}

static int causal_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct causal *c = call->prepared;
    float *outputs[2] = {call->outputs[0] ? call->outputs[0]->data : NULL, NULL};
    if (call->node->output_count > 1 && call->outputs[1])
        outputs[1] = call->outputs[1]->data;
    for (size_t at = 0; at < c->examples * c->channels; at++) {
        const float *f = causal_sums(call, at), *line = causal_workspace(call, 0);
        for (size_t t = 0; outputs[0] && t < c->positions; t++)
            outputs[0][at * c->positions + t] = c->silu ? f[t] * vector_sigmoid(f[t]) : f[t];
        if (outputs[1] && c->past)
            memcpy(outputs[1] + at * c->past, line + c->positions, c->past * sizeof *line);
    }
    return 0;
}

/* The slope of f σ(f). */
static float silu_slope(float f)
{
    float s = vector_sigmoid(f);
    return s + f * s * (1 - s);
}

static void causal_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    const struct causal *c = call->prepared;
    const float *dy = output_adjoints[0], *state = state_of(call, (float *const *)output_adjoints);
    float *to[INPUTS] = {NULL}, *line = causal_workspace(call, 0), *d = causal_workspace(call, 1);
    for (size_t i = 0; i < call->node->input_count; i++)
        to[i] = input_adjoints[i];
    for (size_t at = 0; at < c->examples * c->channels; at++) {
        size_t channel = at % c->channels;
        const float *kernel = causal_data(call, KERNEL) + channel * c->width;
        float *f = causal_sums(call, at);
        for (size_t t = 0; t < c->positions; t++)
            f[t] = dy ? dy[at * c->positions + t] * (c->silu ? silu_slope(f[t]) : 1) : 0;
        memset(d, 0, (c->positions + c->past) * sizeof *d);
        if (state && c->past)
            memcpy(d + c->positions, state + at * c->past, c->past * sizeof *d);
        for (size_t j = 0; j < c->width; j++) {
            for (size_t t = 0; t < c->positions; t++)
                d[t + j] += kernel[j] * f[t];
            if (to[KERNEL])
                to[KERNEL][channel * c->width + j] += (float)net_sum_products(f, line + j,
                                                                              c->positions);
        }
        if (to[BIAS])
            to[BIAS][channel] += (float)net_sum(f, c->positions);
        for (size_t j = 0; to[PAST] && j < c->past; j++)
            to[PAST][at * c->past + j] += d[j];
        for (size_t t = 0; to[X] && t < c->positions; t++)
            to[X][at * c->positions + t] += d[c->past + t];
    }
}

static void causal_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    const struct causal *c = call->prepared;
    const float *from[INPUTS] = {NULL};
    float *y = output_tangents[0], *state = state_of(call, output_tangents);
    float *line = causal_workspace(call, 0), *moved = causal_workspace(call, 1);
    for (size_t i = 0; i < call->node->input_count; i++)
        from[i] = input_tangents[i];
    for (size_t at = 0; at < c->examples * c->channels; at++) {
        size_t channel = at % c->channels;
        const float *kernel = causal_data(call, KERNEL) + channel * c->width;
        float *f = causal_sums(call, at), *to = y ? y + at * c->positions : NULL;
        causal_line(c, from[PAST], from[X], at, moved);
        for (size_t t = 0; to && t < c->positions; t++)
            to[t] = from[BIAS] ? from[BIAS][channel] : 0;
        if (to)
            causal_convolve(c, kernel, moved, to);
        if (to && from[KERNEL])
            causal_convolve(c, from[KERNEL] + channel * c->width, line, to);
        for (size_t t = 0; to && c->silu && t < c->positions; t++)
            to[t] *= silu_slope(f[t]);
        if (state && c->past)
            memcpy(state + at * c->past, moved + c->positions, c->past * sizeof *moved);
    }
}

const struct net_operator net_causal_operators[] = {
    {.name = "CausalConvWithState",
     .since = 27,
     .inputs_min = 2,
     .inputs_max = 4,
     .outputs_max = 2,
     .weights = 1U << 1 | 1U << 2,
     .attributes = {{"activation", NET_TEXT}},
     .infer = causal_infer,
     .forward = causal_forward,
     .backward = causal_backward,
     .tangent = causal_tangent},
    {0},
};
