/* Pools: MaxPool, AveragePool over windows of one or two spatial axes; GlobalMaxPool,
   GlobalAveragePool over all of them. */
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/sum.h"
#include "net/ops/window.h"

struct pool {
    struct net_window window;
    size_t planes, input_plane, output_plane;
    size_t span;        /* the padded input row that one output row needs */
    bool count_padding; /* padding counts in the mean */
    float inverse[];    /* 1 / taps that count, for each output column */
};

/* NaN is the largest value. */
static inline float pooling_max(float a, float b)
{
    return (b > a) | (b != b) ? b : a;
}

static inline float pooling_combine(float a, float b, bool maximum)
{
    return maximum ? pooling_max(a, b) : a + b;
}

/* Returns 1 / taps that count for output `at` along an axis; 0 if there are none. */
static float inverse_count(const struct pool *pool, int axis, int64_t at)
{
    const struct net_window *window = &pool->window;
    struct net_window counted = *window;
    if (pool->count_padding) { /* padding counts as input */
        counted.input[axis] = window->padded[axis];
        counted.before[axis] = 0;
    }
    int64_t first, last, from;
    net_window_taps(&counted, axis, at, &first, &last, &from);
    return last > first ? 1 / (float)(last - first) : 0;
}

static int pooling_infer(struct net_call *call, struct ivon_error *error)
{
    struct net_window window;
    char text[256];
    int code = net_expect_float(call, 0, error);
    if (!code)
        code = net_window_infer(call, NULL, &window, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[0];
    int64_t span = 0;
    for (int i = 0; i < 2; i++) {
        int64_t reach = (window.kernel[i] - 1) * window.dilation[i] + 1;
        int64_t after = window.padded[i] - window.input[i] - window.before[i];
        span = (window.output[i] - 1) * window.stride[i] + reach;
        span = span > window.padded[i] ? span : window.padded[i];
        if (window.before[i] >= reach || after >= reach)
            return net_fail(call, error, "pads as large as its kernel, for an input of shape %s",
                            net_shape_text(x, text));
    }
    int64_t shape[4] = {x->shape[0], x->shape[1], window.output[4 - x->rank], window.output[1]};
    for (size_t i = 0; i < call->node->output_count && !code; i++)
        if (call->outputs[i])
            code = net_tensor_set(call->outputs[i], i ? NET_INTEGER : NET_FLOAT, x->rank, shape,
                                  error);
    if (code)
        return code;
    struct pool *pool = net_prepare(
        call, sizeof *pool + (size_t)window.output[1] * sizeof *pool->inverse, error);
    if (!pool)
        return IVON_ERROR_MEMORY;
    pool->window = window;
    pool->input_plane = (size_t)(window.input[0] * window.input[1]);
    pool->output_plane = (size_t)(window.output[0] * window.output[1]);
    /* An input without elements has outputs where it is padded. */
    size_t count = call->outputs[0]->count;
    pool->planes = count ? count / pool->output_plane : 0;
    pool->span = (size_t)span;
    pool->count_padding = net_attribute_integer(call->node, "count_include_pad", 0) != 0;
    for (int64_t i = 0; i < window.output[1]; i++)
        pool->inverse[i] = inverse_count(pool, 1, i);
    call->workspace_size = pool->span * sizeof(float);
    return 0;
}

/* out[i] = the combined taps from[i * stride + k * dilation] */
static inline __attribute__((always_inline)) void combine_columns(float *restrict out,
                                                                  const float *restrict from,
                                                                  size_t count, size_t stride,
                                                                  size_t kernel, size_t dilation,
                                                                  bool maximum)
{
    for (size_t i = 0; i < count; i++)
        out[i] = from[i * stride];
    for (size_t k = 1; k < kernel; k++)
        for (size_t i = 0; i < count; i++)
            out[i] = pooling_combine(out[i], from[i * stride + k * dilation], maximum);
}

/* The most common windows, in one pass. */
static inline __attribute__((always_inline)) void combine_neighbours(float *restrict out,
                                                                     const float *restrict from,
                                                                     size_t count, size_t kernel,
                                                                     bool maximum)
{
    for (size_t i = 0; i < count; i++) {
        float both = pooling_combine(from[2 * i], from[2 * i + 1], maximum);
        out[i] = kernel == 2 ? both : pooling_combine(both, from[2 * i + 2], maximum);
    }
}

/* One output row: combines input rows into `combined`, then combines its columns. */
static inline __attribute__((always_inline)) void combine_window(const struct pool *pool,
                                                                 const float *x, int64_t at,
                                                                 float *restrict combined,
                                                                 float *restrict y, bool maximum)
{
    const struct net_window *window = &pool->window;
    size_t width = (size_t)window->input[1], count = (size_t)window->output[1];
    size_t stride = (size_t)window->stride[1], kernel = (size_t)window->kernel[1];
    size_t dilation = (size_t)window->dilation[1];
    float *restrict inside = combined + window->before[1];
    int64_t first, last, from;
    net_window_taps(window, 0, at, &first, &last, &from);
    bool any = first < last;
    for (size_t i = 0; i < width; i++)
        inside[i] = any       ? x[(size_t)(from + first * window->dilation[0]) * width + i]
                    : maximum ? -INFINITY
                              : 0;
    while (++first < last) {
        const float *restrict row = x + (size_t)(from + first * window->dilation[0]) * width;
        for (size_t i = 0; i < width; i++)
            inside[i] = pooling_combine(inside[i], row[i], maximum);
    }
    if (stride == 2 && kernel == 2 && dilation == 1)
        combine_neighbours(y, combined, count, 2, maximum);
    else if (stride == 2 && kernel == 3 && dilation == 1)
        combine_neighbours(y, combined, count, 3, maximum);
    else if (stride == 1)
        combine_columns(y, combined, count, 1, kernel, dilation, maximum);
    else
        combine_columns(y, combined, count, stride, kernel, dilation, maximum);
}

IVON_DISPATCH static void maxima(const struct pool *pool, const float *x, float *combined, float *y)
{
    for (int64_t i = 0; i < pool->window.output[0]; i++, y += pool->window.output[1])
        combine_window(pool, x, i, combined, y, true);
}

IVON_DISPATCH static void means(const struct pool *pool, const float *x, float *combined, float *y)
{
    for (int64_t i = 0; i < pool->window.output[0]; i++, y += pool->window.output[1]) {
        float inverse = inverse_count(pool, 0, i);
        combine_window(pool, x, i, combined, y, false);
        for (int64_t j = 0; j < pool->window.output[1]; j++)
            y[j] *= inverse * pool->inverse[j];
    }
}

static void pooling_fill(float *values, size_t count, float value)
{
    for (size_t i = 0; i < count; i++)
        values[i] = value;
}

/* MaxPool */

/* Returns the index of the first largest element of a window within its plane; -1 if it is
   empty. */
static int64_t window_argmax(const struct net_window *window, const float *x, int64_t y_at,
                             int64_t x_at)
{
    int64_t top, bottom, left, right, y_from, x_from, found = -1;
    net_window_taps(window, 0, y_at, &top, &bottom, &y_from);
    net_window_taps(window, 1, x_at, &left, &right, &x_from);
    for (int64_t i = top; i < bottom; i++)
        for (int64_t j = left; j < right; j++) {
            int64_t at = (y_from + i * window->dilation[0]) * window->input[1] + x_from +
                         j * window->dilation[1];
            if (found < 0 || x[at] > x[found] || (isnan(x[at]) && !isnan(x[found])))
                found = at;
        }
    return found;
}

/* Calls `visit` for every output with the input element that it copied, or -1. */
static void for_each_maximum(const struct net_call *call,
                             void (*visit)(void *context, size_t output, int64_t input),
                             void *context)
{
    const struct pool *pool = call->prepared;
    const struct net_window *window = &pool->window;
    const float *x = call->inputs[0]->data;
    size_t output = 0;
    for (size_t plane = 0; plane < pool->planes; plane++)
        for (int64_t i = 0; i < window->output[0]; i++)
            for (int64_t j = 0; j < window->output[1]; j++) {
                size_t start = plane * pool->input_plane;
                int64_t found = window_argmax(window, x + start, i, j);
                visit(context, output++, found < 0 ? -1 : found + (int64_t)start);
            }
}

static void store_index(void *context, size_t output, int64_t input)
{
    const struct net_call *call = context;
    const struct pool *pool = call->prepared;
    int64_t width = pool->window.input[1], height = pool->window.input[0];
    if (input >= 0 && net_attribute_integer(call->node, "storage_order", 0)) { /* column-major */
        int64_t start = input - input % (width * height), at = input % (width * height);
        input = start + at % width * height + at / width;
    }
    ((int64_t *)call->outputs[1]->data)[output] = input;
}

static int forward_max(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct pool *pool = call->prepared;
    const float *x = call->inputs[0]->data;
    float *y = call->outputs[0]->data;
    pooling_fill(call->workspace, pool->span, -INFINITY);
    for (size_t plane = 0; plane < pool->planes; plane++)
        maxima(pool, x + plane * pool->input_plane, call->workspace,
               y + plane * pool->output_plane);
    if (call->node->output_count > 1 && call->outputs[1])
        for_each_maximum(call, store_index, (void *)call);
    return 0;
}

struct flow {
    const float *from;
    float *to;
};

static void add_adjoint(void *context, size_t output, int64_t input)
{
    struct flow *flow = context;
    if (input >= 0)
        flow->to[input] += flow->from[output];
}

static void backward_max(const struct net_call *call, const float *const *output_adjoints,
                         float *const *input_adjoints)
{
    struct flow flow = {output_adjoints[0], input_adjoints[0]};
    if (flow.from && flow.to)
        for_each_maximum(call, add_adjoint, &flow);
}

static void set_tangent(void *context, size_t output, int64_t input)
{
    struct flow *flow = context;
    flow->to[output] = input >= 0 ? flow->from[input] : 0;
}

static void tangent_max(const struct net_call *call, const float *const *input_tangents,
                        float *const *output_tangents)
{
    struct flow flow = {input_tangents[0], output_tangents[0]};
    if (flow.from)
        for_each_maximum(call, set_tangent, &flow);
    else
        memset(flow.to, 0, call->outputs[0]->count * sizeof *flow.to);
}

/* AveragePool: over the taps inside the input, or inside the padded input. */

static void pooling_average(const struct net_call *call, const float *x, float *y)
{
    const struct pool *pool = call->prepared;
    pooling_fill(call->workspace, pool->span, 0);
    for (size_t plane = 0; plane < pool->planes; plane++)
        means(pool, x + plane * pool->input_plane, call->workspace, y + plane * pool->output_plane);
}

static int forward_average(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    pooling_average(call, call->inputs[0]->data, call->outputs[0]->data);
    return 0;
}

/* Adds each element of a row to two neighbours, where no window extends beyond the input. */
IVON_DISPATCH static void add_to_pairs(float *restrict dx, const float *restrict dy, float inverse,
                                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float share = dy[i] * inverse;
        dx[2 * i] += share;
        dx[2 * i + 1] += share;
    }
}

/* Returns whether windows are 2 × 2, inside the input, and side by side, as in most networks. */
static bool is_halving(const struct pool *pool)
{
    const struct net_window *window = &pool->window;
    bool halving = true;
    for (int i = 0; i < 2; i++)
        halving &= window->kernel[i] == 2 && window->stride[i] == 2 && window->dilation[i] == 1 &&
                   window->before[i] == 0 && 2 * window->output[i] <= window->input[i];
    return halving;
}

static void backward_halving(const struct pool *pool, const float *dy, float *dx)
{
    size_t width = (size_t)pool->window.input[1], count = (size_t)pool->window.output[1];
    for (size_t plane = 0; plane < pool->planes; plane++, dx += pool->input_plane)
        for (size_t i = 0; i < (size_t)pool->window.output[0]; i++, dy += count) {
            add_to_pairs(dx + 2 * i * width, dy, 0.25F, count);
            add_to_pairs(dx + (2 * i + 1) * width, dy, 0.25F, count);
        }
}

static void backward_average(const struct net_call *call, const float *const *output_adjoints,
                             float *const *input_adjoints)
{
    const struct pool *pool = call->prepared;
    const struct net_window *window = &pool->window;
    const float *dy = output_adjoints[0];
    float *dx = input_adjoints[0];
    if (dx && dy && is_halving(pool)) {
        backward_halving(pool, dy, dx);
        return;
    }
    for (size_t plane = 0; dx && dy && plane < pool->planes; plane++, dx += pool->input_plane)
        for (int64_t i = 0; i < window->output[0]; i++)
            for (int64_t j = 0; j < window->output[1]; j++) {
                float share = *dy++ * (inverse_count(pool, 0, i) * pool->inverse[j]);
                int64_t top, bottom, left, right, y_from, x_from;
                net_window_taps(window, 0, i, &top, &bottom, &y_from);
                net_window_taps(window, 1, j, &left, &right, &x_from);
                for (int64_t k = top; k < bottom; k++)
                    for (int64_t l = left; l < right; l++)
                        dx[(y_from + k * window->dilation[0]) * window->input[1] + x_from +
                           l * window->dilation[1]] += share;
            }
}

static void tangent_average(const struct net_call *call, const float *const *input_tangents,
                            float *const *output_tangents)
{
    if (input_tangents[0])
        pooling_average(call, input_tangents[0], output_tangents[0]);
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

/* GlobalAveragePool, GlobalMaxPool: all axes after the first two become 1. */

static int infer_global(struct net_call *call, struct ivon_error *error)
{
    int code = net_expect_float(call, 0, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[0];
    int64_t shape[IVON_RANK_MAX];
    char text[256];
    if (x->rank < 3 || (x->count == 0 && x->shape[0] && x->shape[1]))
        return net_fail(call, error, "input of shape %s, expected N x C and axes of at least 1",
                        net_shape_text(x, text));
    for (int i = 0; i < x->rank; i++)
        shape[i] = i < 2 ? x->shape[i] : 1;
    return net_tensor_set(call->outputs[0], NET_FLOAT, x->rank, shape, error);
}

static size_t plane_size(const struct net_call *call)
{
    size_t planes = call->outputs[0]->count;
    return planes ? call->inputs[0]->count / planes : 0;
}

static void average_all(const struct net_call *call, const float *x, float *y)
{
    size_t plane = plane_size(call);
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        y[i] = (float)(net_sum(x + i * plane, plane) / (double)plane);
}

static int forward_global_average(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    average_all(call, call->inputs[0]->data, call->outputs[0]->data);
    return 0;
}

static void backward_global_average(const struct net_call *call,
                                    const float *const *output_adjoints,
                                    float *const *input_adjoints)
{
    size_t plane = plane_size(call);
    float *dx = input_adjoints[0];
    for (size_t i = 0; dx && output_adjoints[0] && i < call->outputs[0]->count; i++)
        for (size_t j = 0; j < plane; j++)
            *dx++ += output_adjoints[0][i] / (float)plane;
}

static void tangent_global_average(const struct net_call *call, const float *const *input_tangents,
                                   float *const *output_tangents)
{
    if (input_tangents[0])
        average_all(call, input_tangents[0], output_tangents[0]);
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

static size_t argmax(const float *x, size_t count)
{
    size_t found = 0;
    for (size_t i = 1; i < count; i++)
        if (x[i] > x[found] || (isnan(x[i]) && !isnan(x[found])))
            found = i;
    return found;
}

static int forward_global_max(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    size_t plane = plane_size(call);
    const float *x = call->inputs[0]->data;
    float *y = call->outputs[0]->data;
    for (size_t i = 0; i < call->outputs[0]->count; i++, x += plane)
        y[i] = x[argmax(x, plane)];
    return 0;
}

static void backward_global_max(const struct net_call *call, const float *const *output_adjoints,
                                float *const *input_adjoints)
{
    size_t plane = plane_size(call);
    const float *x = call->inputs[0]->data;
    if (!input_adjoints[0] || !output_adjoints[0])
        return;
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        input_adjoints[0][i * plane + argmax(x + i * plane, plane)] += output_adjoints[0][i];
}

static void tangent_global_max(const struct net_call *call, const float *const *input_tangents,
                               float *const *output_tangents)
{
    size_t plane = plane_size(call);
    const float *x = call->inputs[0]->data, *x_tangent = input_tangents[0];
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        output_tangents[0][i] = x_tangent ? x_tangent[i * plane + argmax(x + i * plane, plane)] : 0;
}

const struct net_operator net_pooling_operators[] = {
    {.name = "AveragePool",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .attributes = {{"auto_pad", NET_TEXT},
                    {"ceil_mode", NET_INT},
                    {"count_include_pad", NET_INT},
                    {"kernel_shape", NET_INTS},
                    {"pads", NET_INTS},
                    {"strides", NET_INTS}},
     .later = {{"ceil_mode", 10}},
     .infer = pooling_infer,
     .forward = forward_average,
     .backward = backward_average,
     .tangent = tangent_average},
    {.name = "GlobalAveragePool",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .infer = infer_global,
     .forward = forward_global_average,
     .backward = backward_global_average,
     .tangent = tangent_global_average},
    {.name = "GlobalMaxPool",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .infer = infer_global,
     .forward = forward_global_max,
     .backward = backward_global_max,
     .tangent = tangent_global_max},
    {.name = "MaxPool",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 2,
     .attributes = {{"auto_pad", NET_TEXT},
                    {"ceil_mode", NET_INT},
                    {"dilations", NET_INTS},
                    {"kernel_shape", NET_INTS},
                    {"pads", NET_INTS},
                    {"storage_order", NET_INT},
                    {"strides", NET_INTS}},
     .later = {{"storage_order", 8}, {"ceil_mode", 10}, {"dilations", 10}},
     .infer = pooling_infer,
     .forward = forward_max,
     .backward = backward_max,
     .tangent = tangent_max},
    {0}};
