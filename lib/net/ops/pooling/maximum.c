/* MaxPool: y = the largest element of each window; its index in x is output 1. Of integers too. */
#include <math.h>
#include <string.h>

#include "net/ops/pooling/pooling.h"

static inline bool is_larger(const void *x, bool integers, size_t at, size_t than)
{
    if (integers)
        return ((const int64_t *)x)[at] > ((const int64_t *)x)[than];
    float a = ((const float *)x)[at], b = ((const float *)x)[than];
    return a > b || (isnan(a) && !isnan(b)); /* NaN is the largest */
}

/* Returns the index of the first largest element of a window within its volume; -1 if it is
   empty. */
static inline int64_t window_argmax(const struct pool *pool, const void *x, bool integers,
                                    struct pool_slices slices, int64_t y_at, int64_t x_at)
{
    const struct net_window_axis *rows = pool_rows(pool), *columns = pool_columns(pool);
    int64_t top, bottom, left, right, y_from, x_from, found = -1;
    net_window_axis_taps(rows, y_at, &top, &bottom, &y_from);
    net_window_axis_taps(columns, x_at, &left, &right, &x_from);
    for (size_t s = 0; s < slices.count; s++)
        for (int64_t i = top; i < bottom; i++)
            for (int64_t j = left; j < right; j++) {
                int64_t at = (int64_t)(slices.list[s] * pool->input_plane) +
                             (y_from + i * rows->dilation) * columns->input + x_from +
                             j * columns->dilation;
                if (found < 0 || is_larger(x, integers, (size_t)at, (size_t)found))
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
    const struct net_tensor *x = call->inputs[0];
    bool integers = x->type == NET_INTEGER;
    size_t size = net_type_size(x->type), volume = pool->input_slices * pool->input_plane;
    for (size_t slice = 0; pool->volumes && slice < pool->output_slices; slice++) {
        struct pool_slices slices = pool_slices(call, slice);
        for (size_t v = 0; v < pool->volumes; v++) {
            const void *from = (const char *)x->data + v * volume * size;
            size_t output = (v * pool->output_slices + slice) * pool->output_plane;
            for (int64_t i = 0; i < pool_rows(pool)->output; i++)
                for (int64_t j = 0; j < pool_columns(pool)->output; j++) {
                    int64_t found = window_argmax(pool, from, integers, slices, i, j);
                    visit(context, output++, found < 0 ? -1 : found + (int64_t)(v * volume));
                }
        }
    }
}

int maximum_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    if (x && x->type == NET_INTEGER)
        return pool_infer_any(call, false, error);
    return pool_infer(call, false, error);
}

/* Returns the index in a volume whose first spatial axis varies fastest. */
static int64_t column_major(const struct pool *pool, int64_t at)
{
    int64_t index = 0, above = (int64_t)(pool->input_slices * pool->input_plane);
    for (int i = 0; i < pool->outer + 2; i++) {
        int64_t extent = pool->axes[pool->outer + 1 - i].input;
        above /= extent;
        index += at % extent * above;
        at /= extent;
    }
    return index;
}

static void store_index(void *context, size_t output, int64_t input)
{
    const struct net_call *call = context;
    const struct pool *pool = call->prepared;
    int64_t volume = (int64_t)(pool->input_slices * pool->input_plane);
    if (input >= 0 && net_attribute_integer(call->node, "storage_order", 0))
        input = input - input % volume + column_major(pool, input % volume);
    ((int64_t *)call->outputs[1]->data)[output] = input;
}

static void store_integer(void *context, size_t output, int64_t input)
{
    const struct net_call *call = context;
    const int64_t *x = call->inputs[0]->data;
    ((int64_t *)call->outputs[0]->data)[output] = input < 0 ? INT64_MIN : x[input];
}

int maximum_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct pool *pool = call->prepared;
    if (call->inputs[0]->type == NET_INTEGER)
        for_each_maximum(call, store_integer, (void *)call);
    else
        pool_run(call, POOL_MAXIMUM, call->inputs[0]->data, pool->volumes, call->outputs[0]->data);
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

void maximum_backward(const struct net_call *call, const float *const *output_adjoints,
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

void maximum_tangent(const struct net_call *call, const float *const *input_tangents,
                     float *const *output_tangents)
{
    struct flow flow = {input_tangents[0], output_tangents[0]};
    if (flow.from)
        for_each_maximum(call, set_tangent, &flow);
    else
        memset(flow.to, 0, call->outputs[0]->count * sizeof *flow.to);
}
