/* GlobalAveragePool, GlobalLpPool, GlobalMaxPool: all axes after the first two become 1. */
#include <math.h>
#include <string.h>

#include "net/ops/pooling/lp.h"
#include "net/ops/pooling/pooling.h"
#include "net/ops/sum.h"

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

/* GlobalLpPool: y = (Σ |x|^p)^(1/p). */

static int infer_global_lp(struct net_call *call, struct ivon_error *error)
{
    int code = lp_read(call, error);
    return code ? code : infer_global(call, error);
}

static int forward_global_lp(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const float *x = call->inputs[0]->data;
    float *y = call->outputs[0]->data;
    size_t plane = plane_size(call);
    double p = lp_power(call);
    for (size_t i = 0; i < call->outputs[0]->count; i++) {
        double sum = 0;
        for (size_t j = 0; j < plane; j++)
            sum += lp_term((double)*x++, p);
        y[i] = (float)lp_root(sum, p);
    }
    return 0;
}

static void backward_global_lp(const struct net_call *call, const float *const *output_adjoints,
                               float *const *input_adjoints)
{
    const float *x = call->inputs[0]->data, *y = call->outputs[0]->data, *dy = output_adjoints[0];
    float *dx = input_adjoints[0];
    size_t plane = plane_size(call);
    double p = lp_power(call);
    for (size_t i = 0; dx && dy && i < call->outputs[0]->count; i++) {
        double share = (double)dy[i] * lp_root_slope((double)y[i], p);
        for (size_t j = 0; j < plane; j++)
            *dx++ += (float)(share * lp_term_slope((double)*x++, p));
    }
}

static void tangent_global_lp(const struct net_call *call, const float *const *input_tangents,
                              float *const *output_tangents)
{
    const float *x = call->inputs[0]->data, *y = call->outputs[0]->data;
    const float *x_tangent = input_tangents[0];
    size_t plane = plane_size(call);
    double p = lp_power(call);
    for (size_t i = 0; i < call->outputs[0]->count; i++) {
        double sum = 0;
        for (size_t j = 0; x_tangent && j < plane; j++)
            sum += (double)*x_tangent++ * lp_term_slope((double)*x++, p);
        output_tangents[0][i] = (float)(sum * lp_root_slope((double)y[i], p));
    }
}

#define GLOBAL_ROW(title, opset, function, infers, ...)                                            \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 1, .inputs_max = 1, .outputs_max = 1,         \
        .attributes = {__VA_ARGS__}, .infer = infers, .forward = forward_##function,               \
        .backward = backward_##function, .tangent = tangent_##function                             \
    }

const struct net_operator net_global_pool_operators[] = {
    GLOBAL_ROW("GlobalAveragePool", 1, global_average, infer_global, {0}),
    GLOBAL_ROW("GlobalLpPool", 1, global_lp, infer_global_lp, {"p", NET_INT}),
    GLOBAL_ROW("GlobalMaxPool", 1, global_max, infer_global, {0}),
    {0},
};
