/*
 * Softmax and LogSoftmax along one axis: y = e^(x − m)/s and y = x − m − log s, with the largest
 * element m and s = Σ e^(x − m). Hardmax: y = 1 at the first of the largest elements, else 0.
 * Before opset 13, all axes from the named one on count as one.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "net/graph/operator.h"
#include "net/ops/reduce/softmax.h"
#include "net/ops/sum.h"

/* The axes before and after the normalized one, each group as one axis. */
struct softmax {
    size_t outer, length, inner;
};

static int softmax_set(struct net_call *call, int64_t otherwise, bool flatten,
                       struct ivon_error *error)
{
    int code = net_expect_float(call, 0, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[0];
    int64_t given = net_attribute_integer(call->node, "axis", otherwise);
    int axis = net_axis(given, x->rank);
    char text[256];
    if (axis < 0)
        return net_fail(call, error, "axis %" PRId64 " of an input of shape %s", given,
                        net_shape_text(x, text));
    struct softmax *softmax = net_prepare(call, sizeof *softmax, error);
    if (!softmax)
        return IVON_ERROR_MEMORY;
    *softmax = (struct softmax){1, 1, 1};
    for (int i = 0; i < x->rank && x->count; i++)
        *(i < axis               ? &softmax->outer
          : i == axis || flatten ? &softmax->length
                                 : &softmax->inner) *= (size_t)x->shape[i];
    if (x->count == 0)
        softmax->outer = 0;
    return net_tensor_set(call->outputs[0], NET_FLOAT, x->rank, x->shape, error);
}

static int softmax_infer(struct net_call *call, struct ivon_error *error)
{
    return softmax_set(call, -1, false, error);
}

static int softmax_flat_infer(struct net_call *call, struct ivon_error *error)
{
    return softmax_set(call, 1, true, error);
}

#define INLINE static inline __attribute__((always_inline))

static inline float softmax_max(float a, float b)
{
    return b > a ? b : a;
}

enum { LANES = 16, BLOCK = 256, SHORT = 8 };

/* The elements of a row behind the last whole vector, as one vector. */
struct rest {
    float lanes[LANES];
    unsigned count;
};

INLINE struct rest rest_load(const float *x, size_t count)
{
    struct rest rest = {.count = count % LANES};
    x += count - rest.count;
    for (unsigned j = 0; j < LANES; j++)
        rest.lanes[j] = j < rest.count ? x[j] : -INFINITY;
    return rest;
}

INLINE void rest_store(const struct rest *rest, float *y, size_t count)
{
    y += count - rest->count;
    for (unsigned j = 0; j < LANES; j++)
        if (j < rest->count)
            y[j] = rest->lanes[j];
}

INLINE float largest(const float *x, size_t count, const struct rest *rest)
{
    int32_t largest = INT32_MIN;
    for (size_t j = 0; j < LANES; j++)
        largest = vector_larger(largest, rest->lanes[j]);
    for (size_t i = 0; i < count / LANES * LANES; i++)
        largest = vector_larger(largest, x[i]);
    return vector_ordered_float(largest);
}

/* e^(x − m), m at least x, of a block that stays in the first-level cache; `out` may be `x`. */
INLINE void exponentials(float *out, const float *x, float maximum, size_t count)
{
    _Pragma("GCC ivdep") for (size_t i = 0; i < count; i++)
        out[i] = vector_exp_negative(x[i] - maximum);
}

/* Σ, in double, of a row's whole vectors and of the rest. */
INLINE double exponentials_sum(const float *x, size_t whole, const struct rest *rest)
{
    double sums[LANES] = {0};
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            sums[j] += (double)x[i + j];
    for (size_t j = 0; j < LANES; j++)
        sums[j] += (double)rest->lanes[j];
    for (size_t j = 0; j < 8; j++)
        sums[j] += sums[j + 8];
    for (size_t j = 0; j < 4; j++)
        sums[j] += sums[j + 4];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

IVON_DISPATCH static void softmax_run_row(const float *x, float *y, size_t count)
{
    struct rest rest = rest_load(x, count);
    float maximum = largest(x, count, &rest);
    size_t whole = count / LANES * LANES;
    exponentials(y, x, maximum, whole);
    exponentials(rest.lanes, rest.lanes, maximum, LANES);
    float factor = (float)(1 / exponentials_sum(y, whole, &rest));
    for (size_t i = 0; i < whole; i++)
        y[i] *= factor;
    for (size_t j = 0; j < LANES; j++)
        rest.lanes[j] *= factor;
    rest_store(&rest, y, count);
}

IVON_DISPATCH static void softmax_run_row_log(const float *x, float *y, size_t count)
{
    float block[BLOCK];
    struct rest rest = rest_load(x, count);
    float maximum = largest(x, count, &rest);
    size_t whole = count / LANES * LANES;
    exponentials(rest.lanes, rest.lanes, maximum, LANES);
    double sum = net_sum(rest.lanes, LANES);
    for (size_t i = 0; i < whole; i += BLOCK) {
        size_t part = whole - i < BLOCK ? whole - i : BLOCK;
        exponentials(block, x + i, maximum, part);
        sum += net_sum(block, part);
    }
    float shift = vector_log((float)sum);
    for (size_t i = 0; i < count; i++)
        y[i] = (x[i] - maximum) - shift;
}

/* Several short rows that fit a block, so that the exponentials are one loop. */
IVON_DISPATCH static void run_rows(const float *x, float *y, size_t rows, size_t length,
                                   bool logarithm)
{
    float shifted[BLOCK], block[BLOCK];
    for (size_t i = 0; i < rows; i++) {
        float maximum = -INFINITY;
        for (size_t j = 0; j < length; j++)
            maximum = softmax_max(maximum, x[i * length + j]);
        for (size_t j = 0; j < length; j++)
            shifted[i * length + j] = x[i * length + j] - maximum;
    }
    exponentials(block, shifted, 0, rows * length);
    for (size_t i = 0; i < rows; i++) {
        double sum = 0;
        for (size_t j = 0; j < length; j++)
            sum += (double)block[i * length + j];
        float factor = (float)(1 / sum), rest = logarithm ? vector_log((float)sum) : 0;
        for (size_t j = i * length; j < (i + 1) * length; j++)
            y[j] = logarithm ? shifted[j] - rest : block[j] * factor;
    }
}

/* Computes `count` neighbours along the inner axes, at most BLOCK; elements of one are `stride`
   apart. */
IVON_DISPATCH static void softmax_run_columns(const float *x, float *y, size_t length,
                                              size_t stride, size_t count, bool logarithm)
{
    float maximum[BLOCK], part[BLOCK];
    double sums[BLOCK] = {0};
    for (size_t j = 0; j < count; j++)
        maximum[j] = -INFINITY;
    for (size_t i = 0; i < length; i++)
        for (size_t j = 0; j < count; j++)
            maximum[j] = softmax_max(maximum[j], x[i * stride + j]);
    for (size_t i = 0; i < length; i++)
        for (size_t j = 0; j < count; j++)
            sums[j] += (double)vector_exp_negative(x[i * stride + j] - maximum[j]);
    for (size_t j = 0; j < count; j++)
        part[j] = logarithm ? vector_log((float)sums[j]) : (float)(1 / sums[j]);
    for (size_t i = 0; i < length; i++)
        for (size_t j = 0; j < count; j++) {
            float shifted = x[i * stride + j] - maximum[j];
            y[i * stride + j] = logarithm ? shifted - part[j]
                                          : vector_exp_negative(shifted) * part[j];
        }
}

static void softmax_run_rows(const float *x, float *y, size_t rows, size_t length, bool logarithm)
{
    size_t at_once = length && length <= SHORT ? BLOCK / length : 1;
    for (size_t i = 0, count; i < rows; i += count) {
        count = rows - i < at_once ? rows - i : at_once;
        if (at_once > 1)
            run_rows(x + i * length, y + i * length, count, length, logarithm);
        else if (logarithm)
            softmax_run_row_log(x + i * length, y + i * length, length);
        else
            softmax_run_row(x + i * length, y + i * length, length);
    }
}

void net_softmax_rows(const float *x, float *y, size_t rows, size_t length)
{
    softmax_run_rows(x, y, rows, length, false);
}

size_t net_softmax_row_length(const struct net_call *call)
{
    const struct softmax *softmax = call->prepared;
    return softmax->inner == 1 ? softmax->length : 0;
}

void net_softmax(const float *x, float *y, size_t outer, size_t length, size_t inner,
                 bool logarithm)
{
    size_t size = length * inner;
    if (inner == 1)
        softmax_run_rows(x, y, outer, size, logarithm);
    for (size_t i = 0; inner > 1 && i < outer; i++, x += size, y += size)
        for (size_t j = 0; j < inner; j += BLOCK)
            softmax_run_columns(x + j, y + j, length, inner, inner - j < BLOCK ? inner - j : BLOCK,
                                logarithm);
}

static void softmax_run(const struct net_call *call, bool logarithm)
{
    const struct softmax *softmax = call->prepared;
    net_softmax(call->inputs[0]->data, call->outputs[0]->data, softmax->outer, softmax->length,
                softmax->inner, logarithm);
}

/* Softmax: dx = y (dy − Σ y dy). The Jacobian is symmetric, so tangents use the same function. */

static int forward_soft(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    softmax_run(call, false);
    return 0;
}

static void softmax_jacobian(const struct net_call *call, const float *from, float *to, bool add)
{
    const struct softmax *softmax = call->prepared;
    const float *y = call->outputs[0]->data;
    size_t inner = softmax->inner, size = softmax->length * inner;
    for (size_t i = 0; i < softmax->outer * inner; i++) {
        size_t start = i / inner * size + i % inner;
        double sum = 0;
        for (size_t at = start; at < start + size; at += inner)
            sum += (double)y[at] * (double)from[at];
        for (size_t at = start; at < start + size; at += inner)
            to[at] = (add ? to[at] : 0) + (float)((double)y[at] * ((double)from[at] - sum));
    }
}

static void backward_soft(const struct net_call *call, const float *const *output_adjoints,
                          float *const *input_adjoints)
{
    if (output_adjoints[0] && input_adjoints[0])
        softmax_jacobian(call, output_adjoints[0], input_adjoints[0], true);
}

static void tangent_soft(const struct net_call *call, const float *const *input_tangents,
                         float *const *output_tangents)
{
    if (input_tangents[0])
        softmax_jacobian(call, input_tangents[0], output_tangents[0], false);
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

/* LogSoftmax: ẏ = ẋ − Σ e^y ẋ, dx = dy − e^y Σ dy. */

static int forward_log(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    softmax_run(call, true);
    return 0;
}

static void backward_log(const struct net_call *call, const float *const *output_adjoints,
                         float *const *input_adjoints)
{
    const struct softmax *softmax = call->prepared;
    const float *y = call->outputs[0]->data, *dy = output_adjoints[0];
    float *dx = input_adjoints[0];
    size_t inner = softmax->inner, size = softmax->length * inner;
    for (size_t i = 0; dx && dy && i < softmax->outer * inner; i++) {
        size_t start = i / inner * size + i % inner;
        double sum = 0;
        for (size_t at = start; at < start + size; at += inner)
            sum += (double)dy[at];
        for (size_t at = start; at < start + size; at += inner)
            dx[at] += (float)((double)dy[at] - (double)vector_exp(y[at]) * sum);
    }
}

static void tangent_log(const struct net_call *call, const float *const *input_tangents,
                        float *const *output_tangents)
{
    const struct softmax *softmax = call->prepared;
    const float *y = call->outputs[0]->data, *x_tangent = input_tangents[0];
    float *to = output_tangents[0];
    size_t inner = softmax->inner, size = softmax->length * inner;
    if (!x_tangent)
        memset(to, 0, call->outputs[0]->count * sizeof *to);
    for (size_t i = 0; x_tangent && i < softmax->outer * inner; i++) {
        size_t start = i / inner * size + i % inner;
        double sum = 0;
        for (size_t at = start; at < start + size; at += inner)
            sum += (double)vector_exp(y[at]) * (double)x_tangent[at];
        for (size_t at = start; at < start + size; at += inner)
            to[at] = (float)((double)x_tangent[at] - sum);
    }
}

/* Hardmax, whose slope is 0. */

static int forward_hard(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct softmax *softmax = call->prepared;
    const float *x = call->inputs[0]->data;
    float *y = call->outputs[0]->data;
    size_t inner = softmax->inner, size = softmax->length * inner;
    for (size_t i = 0; i < softmax->outer * inner; i++) {
        size_t start = i / inner * size + i % inner, best = start;
        for (size_t at = start; at < start + size; at += inner)
            best = x[at] > x[best] ? at : best;
        for (size_t at = start; at < start + size; at += inner)
            y[at] = at == best;
    }
    return 0;
}

static void backward_hard(const struct net_call *call, const float *const *output_adjoints,
                          float *const *input_adjoints)
{
    (void)call;
    (void)output_adjoints;
    (void)input_adjoints;
}

static void tangent_hard(const struct net_call *call, const float *const *input_tangents,
                         float *const *output_tangents)
{
    (void)input_tangents;
    memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

#define SOFTMAX_ROW(title, opset, infers, function, bits)                                          \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 1, .inputs_max = 1, .outputs_max = 1,         \
        .flags = NET_IN_PLACE | (bits), .attributes = {{"axis", NET_INT}}, .infer = infers,        \
        .forward = forward_##function, .backward = backward_##function,                            \
        .tangent = tangent_##function                                                              \
    }

const struct net_operator net_softmax_operators[] = {
    SOFTMAX_ROW("LogSoftmax", 1, softmax_flat_infer, log, NET_LOG_SOFTMAX),
    SOFTMAX_ROW("LogSoftmax", 13, softmax_infer, log, NET_LOG_SOFTMAX),
    SOFTMAX_ROW("Softmax", 1, softmax_flat_infer, soft, NET_SOFTMAX),
    SOFTMAX_ROW("Softmax", 13, softmax_infer, soft, NET_SOFTMAX),
    SOFTMAX_ROW("Hardmax", 1, softmax_flat_infer, hard, 0),
    SOFTMAX_ROW("Hardmax", 13, softmax_infer, hard, 0),
    {0}};
