/* The rows of pools, AveragePool and LpPool; ops/pooling/maximum.c and unpool.c have the others,
   ops/pooling/global.c those over all spatial axes. */
#include <string.h>

#include "net/ops/pooling/lp.h"
#include "net/ops/pooling/pooling.h"

/* AveragePool: over the taps inside the input, or inside the padded input. */

static int infer_average(struct net_call *call, struct ivon_error *error)
{
    return pool_infer(call, false, error);
}

static int forward_average(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct pool *pool = call->prepared;
    pool_run(call, POOL_MEAN, call->inputs[0]->data, pool->volumes, call->outputs[0]->data);
    return 0;
}

static void backward_average(const struct net_call *call, const float *const *output_adjoints,
                             float *const *input_adjoints)
{
    const struct pool *pool = call->prepared;
    if (input_adjoints[0] && output_adjoints[0])
        pool_add_shares(call, POOL_MEAN, output_adjoints[0], pool->volumes, input_adjoints[0]);
}

static void tangent_average(const struct net_call *call, const float *const *input_tangents,
                            float *const *output_tangents)
{
    const struct pool *pool = call->prepared;
    if (input_tangents[0])
        pool_run(call, POOL_MEAN, input_tangents[0], pool->volumes, output_tangents[0]);
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

/*
 * LpPool: y = (Σ |x|^p)^(1/p), ẏ = y^(1-p) Σ sign(x) |x|^(p-1) ẋ. The terms of a volume at a time
 * are in the workspace.
 */

static int infer_lp(struct net_call *call, struct ivon_error *error)
{
    int code = lp_read(call, error);
    return code ? code : pool_infer(call, true, error);
}

static size_t input_volume(const struct pool *pool)
{
    return pool->input_slices * pool->input_plane;
}

static size_t output_volume(const struct pool *pool)
{
    return pool->output_slices * pool->output_plane;
}

static int forward_lp(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct pool *pool = call->prepared;
    const float *x = call->inputs[0]->data;
    float *y = call->outputs[0]->data, *terms = pool_volume(call);
    double p = lp_power(call);
    for (size_t v = 0; v < pool->volumes; v++) {
        for (size_t i = 0; i < input_volume(pool); i++)
            terms[i] = (float)lp_term((double)*x++, p);
        pool_run(call, POOL_SUM, terms, 1, y);
        for (size_t i = 0; i < output_volume(pool); i++, y++)
            *y = (float)lp_root((double)*y, p);
    }
    return 0;
}

/* The adjoints of the sums, in the place of the output's; adjoints of terms follow. */
static void backward_lp(const struct net_call *call, const float *const *output_adjoints,
                        float *const *input_adjoints)
{
    const struct pool *pool = call->prepared;
    const float *x = call->inputs[0]->data, *y = call->outputs[0]->data, *dy = output_adjoints[0];
    float *dx = input_adjoints[0], *terms = pool_volume(call);
    float *sums = terms + input_volume(pool);
    double p = lp_power(call);
    for (size_t v = 0; dx && dy && v < pool->volumes; v++) {
        for (size_t i = 0; i < output_volume(pool); i++)
            sums[i] = (float)((double)*dy++ * lp_root_slope((double)*y++, p));
        memset(terms, 0, input_volume(pool) * sizeof *terms);
        pool_add_shares(call, POOL_SUM, sums, 1, terms);
        for (size_t i = 0; i < input_volume(pool); i++)
            *dx++ += (float)((double)terms[i] * lp_term_slope((double)*x++, p));
    }
}

static void tangent_lp(const struct net_call *call, const float *const *input_tangents,
                       float *const *output_tangents)
{
    const struct pool *pool = call->prepared;
    const float *x = call->inputs[0]->data, *y = call->outputs[0]->data;
    const float *x_tangent = input_tangents[0];
    float *y_tangent = output_tangents[0], *terms = pool_volume(call);
    double p = lp_power(call);
    if (!x_tangent)
        memset(y_tangent, 0, call->outputs[0]->count * sizeof *y_tangent);
    for (size_t v = 0; x_tangent && v < pool->volumes; v++) {
        for (size_t i = 0; i < input_volume(pool); i++)
            terms[i] = (float)((double)*x_tangent++ * lp_term_slope((double)*x++, p));
        pool_run(call, POOL_SUM, terms, 1, y_tangent);
        for (size_t i = 0; i < output_volume(pool); i++, y_tangent++)
            *y_tangent = (float)((double)*y_tangent * lp_root_slope((double)*y++, p));
    }
}

#define WINDOW(...)                                                                                \
    .attributes = {{"auto_pad", NET_TEXT},                                                         \
                   {"ceil_mode", NET_INT},                                                         \
                   {"dilations", NET_INTS},                                                        \
                   {"kernel_shape", NET_INTS},                                                     \
                   {"pads", NET_INTS},                                                             \
                   {"strides", NET_INTS},                                                          \
                   __VA_ARGS__}

const struct net_operator net_pooling_operators[] = {
    {.name = "AveragePool",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     WINDOW({"count_include_pad", NET_INT}),
     .later = {{"ceil_mode", 10}, {"dilations", 19}},
     .infer = infer_average,
     .forward = forward_average,
     .backward = backward_average,
     .tangent = tangent_average},
    {.name = "LpPool",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     WINDOW({"p", NET_INT}),
     .later = {{"ceil_mode", 18}, {"dilations", 18}},
     .infer = infer_lp,
     .forward = forward_lp,
     .backward = backward_lp,
     .tangent = tangent_lp},
    {.name = "MaxPool",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 2,
     WINDOW({"storage_order", NET_INT}),
     .later = {{"storage_order", 8}, {"ceil_mode", 10}, {"dilations", 10}},
     .infer = maximum_infer,
     .forward = maximum_forward,
     .backward = maximum_backward,
     .tangent = maximum_tangent},
    {.name = "MaxUnpool",
     .since = 9,
     .inputs_min = 2,
     .inputs_max = 3,
     .outputs_max = 1,
     .attributes = {{"kernel_shape", NET_INTS}, {"pads", NET_INTS}, {"strides", NET_INTS}},
     .infer = unpool_infer,
     .forward = unpool_forward,
     .backward = unpool_backward,
     .tangent = unpool_tangent},
    {0}};
