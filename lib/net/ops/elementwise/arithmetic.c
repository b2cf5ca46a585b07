/* Functions of several tensors of one type: sums, products, extremes, bounds. */
#include <float.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "net/ops/elementwise/blockwise.h"

static int arithmetic_infer(struct net_call *call, unsigned types, struct ivon_error *error)
{
    for (size_t i = 0; i < call->node->input_count; i++) {
        int code = block_expect(call, i, types, error);
        if (code)
            return code;
        if (call->inputs[i]->type != call->inputs[0]->type)
            return net_fail(call, error, "input %zu is of type %s, input 0 of type %s", i,
                            net_type_name(call->inputs[i]->type),
                            net_type_name(call->inputs[0]->type));
    }
    return block_infer(call, call->inputs[0]->type, SIZE_MAX, error);
}

static int arithmetic_number_infer(struct net_call *call, struct ivon_error *error)
{
    return arithmetic_infer(call, 1U << NET_FLOAT | 1U << NET_INTEGER, error);
}

static int arithmetic_float_infer(struct net_call *call, struct ivon_error *error)
{
    return arithmetic_infer(call, 1U << NET_FLOAT, error);
}

/* f(… f(f(x_0, x_1), x_2) …); out may be x_0 or x_1. */
static void fold(float *out, const struct block *block, net_binary *function)
{
    const float *value = block->operands[0];
    if (block->operand_count == 1)
        memmove(out, value, block->count * sizeof *out);
    for (size_t i = 1; i < block->operand_count; i++, value = out)
        function(out, value, block->operands[i], block->count);
}

/* Of a and b: an expression for floats, and one for integers, modulo 2^64. */
#define OPERATION(name, value, integer_value)                                                      \
    IVON_DISPATCH static void name##_floats(float *out, const float *left, const float *right,     \
                                            size_t count)                                          \
    {                                                                                              \
        BLOCK_EACH(count)                                                                          \
        {                                                                                          \
            float a = left[i], b = right[i];                                                       \
            out[i] = value;                                                                        \
        }                                                                                          \
    }                                                                                              \
    static void name##_fold(void *out, const struct block *block)                                  \
    {                                                                                              \
        fold(out, block, name##_floats);                                                           \
    }                                                                                              \
    static void name##_integers(void *out, const struct block *block)                              \
    {                                                                                              \
        const int64_t *left = block->operands[0];                                                  \
        if (block->operand_count == 1)                                                             \
            memmove(out, left, block->count * sizeof *left);                                       \
        for (size_t j = 1; j < block->operand_count; j++, left = out)                              \
            for (size_t i = 0; i < block->count; i++) {                                            \
                int64_t a = left[i], b = ((const int64_t *)block->operands[j])[i];                 \
                ((int64_t *)out)[i] = integer_value;                                               \
            }                                                                                      \
    }                                                                                              \
    static int name##_forward(const struct net_call *call, struct ivon_error *error)               \
    {                                                                                              \
        (void)error;                                                                               \
        if (call->outputs[0]->type == NET_INTEGER)                                                 \
            block_forward(call, name##_integers);                                                  \
        else if (block_operand_count(call) == 2)                                                   \
            block_chain(call);                                                                     \
        else                                                                                       \
            block_forward(call, name##_fold);                                                      \
        return 0;                                                                                  \
    }

/* The slopes in a and b, of y as well. */
#define SLOPES(name, slope_a, slope_b)                                                             \
    IVON_DISPATCH static void name##_slope(float *out, const struct block *block, size_t which)    \
    {                                                                                              \
        const float *left = block->operands[0], *right = block->operands[1];                       \
        BLOCK_EACH(block->count)                                                                   \
        {                                                                                          \
            float a = left[i], b = right[i], y = block->output[i], at_a = slope_a, at_b = slope_b; \
            (void)a;                                                                               \
            (void)b;                                                                               \
            (void)y;                                                                               \
            out[i] = which ? at_b : at_a;                                                          \
        }                                                                                          \
    }                                                                                              \
    BLOCK_DERIVATIVES(name)

static inline int64_t wrapped(uint64_t value)
{
    return (int64_t)value;
}

/* Of a NaN and a number, the result is the NaN. */
static inline float arithmetic_larger(float a, float b)
{
    return (a > b) | (a != a) ? a : b;
}

static inline float arithmetic_smaller(float a, float b)
{
    return (a < b) | (a != a) ? a : b;
}

static inline int64_t quotient(int64_t a, int64_t b) /* towards 0; -2^63/-1 wraps */
{
    return b == -1 ? wrapped(0 - (uint64_t)a) : a / b;
}

OPERATION(add, a + b, wrapped((uint64_t)a + (uint64_t)b))
SLOPES(add, 1, 1)
OPERATION(subtract, a - b, wrapped((uint64_t)a - (uint64_t)b))
SLOPES(subtract, 1, -1)
/* clang-format takes products in macro arguments for declarations. */
/* clang-format off */
OPERATION(multiply, a * b, wrapped((uint64_t)a * (uint64_t)b))
/* clang-format on */
SLOPES(multiply, b, a)
OPERATION(divide, a / b, quotient(a, b))
SLOPES(divide, 1 / b, -y / b)
OPERATION(maximum, arithmetic_larger(a, b), a > b ? a : b)
OPERATION(minimum, arithmetic_smaller(a, b), a < b ? a : b)

/* Integers: all divisors are checked before the first division, so that nothing else can fail. */
static int checked_divide_forward(const struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *divisor = call->inputs[1];
    bool integers = divisor->type == NET_INTEGER && call->outputs[0]->count;
    for (size_t i = 0; integers && i < divisor->count; i++)
        if (((const int64_t *)divisor->data)[i] == 0)
            return net_fail(call, error, "element %zu of its integer divisor is 0", i);
    return divide_forward(call, error);
}

/* Max and Min: equal elements share the adjoint equally. */
IVON_DISPATCH static void extreme_slope(float *restrict out, const struct block *block,
                                        size_t which)
{
    const float *y = block->output, *x = block->operands[which];
    memset(out, 0, block->count * sizeof *out);
    for (size_t j = 0; j < block->operand_count; j++) {
        const float *other = block->operands[j];
        BLOCK_EACH(block->count) out[i] += other[i] == y[i] ? 1.0F : 0.0F;
    }
    BLOCK_EACH(block->count) out[i] = x[i] == y[i] ? 1 / out[i] : 0;
}
BLOCK_DERIVATIVES(extreme)

static void sum_slope(float *out, const struct block *block, size_t which)
{
    (void)which;
    for (size_t i = 0; i < block->count; i++)
        out[i] = 1;
}
BLOCK_DERIVATIVES(sum)

static void mean_fold(void *out, const struct block *block)
{
    float *y = out;
    add_fold(out, block);
    for (size_t i = 0; i < block->count; i++)
        y[i] /= (float)block->operand_count;
}

static int mean_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    block_forward(call, mean_fold);
    return 0;
}

static void mean_slope(float *out, const struct block *block, size_t which)
{
    (void)which;
    for (size_t i = 0; i < block->count; i++)
        out[i] = 1 / (float)block->operand_count;
}
BLOCK_DERIVATIVES(mean)

/* Clip: y = min(max(x, low), high), where either bound may be left out. Before opset 11 bounds are
   attributes: the greatest floats where they are not given. */

static const struct net_tensor *bound(const struct net_call *call, size_t i)
{
    return i < block_operand_count(call) ? block_operand(call, i) : NULL;
}

static int clip_attributes_infer(struct net_call *call, struct ivon_error *error)
{
    const float bounds[] = {(float)net_attribute_number(call->node, "min", -(double)FLT_MAX),
                            (float)net_attribute_number(call->node, "max", (double)FLT_MAX)};
    int code = block_parameters(call, bounds, 2, error);
    return code ? code : block_float_infer(call, error);
}

static int clip_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    int code = block_expect(call, 0, 1U << NET_FLOAT | 1U << NET_INTEGER, error);
    for (size_t i = 1; i < 3 && !code; i++) {
        const struct net_tensor *limit = bound(call, i);
        char text[256];
        if (limit && (limit->count != 1 || limit->rank > input->rank))
            code = net_fail(call, error, "input %zu is %s, expected a scalar", i,
                            net_shape_text(limit, text));
        else if (limit)
            code = block_expect(call, i, 1U << input->type, error);
    }
    return code ? code : block_infer(call, input->type, 1, error);
}

/* On floats: one link for each bound that is given. */
static int clip_links(const struct net_call *call, struct net_chain_link links[2])
{
    int count = 0;
    if (bound(call, 1))
        links[count++] = (struct net_chain_link){
            .kind = NET_LINK_LEAST, .binary = maximum_floats, .operand = bound(call, 1)};
    if (bound(call, 2))
        links[count++] = (struct net_chain_link){
            .kind = NET_LINK_MOST, .binary = minimum_floats, .operand = bound(call, 2)};
    return count;
}

static void clip_integers(void *out, const struct block *block)
{
    const int64_t *x = block->operands[0];
    const int64_t *low = bound(block->call, 1) ? block->operands[1] : NULL;
    const int64_t *high = bound(block->call, 2) ? block->operands[2] : NULL;
    int64_t *y = out;
    for (size_t i = 0; i < block->count; i++) {
        int64_t value = low && x[i] < low[i] ? low[i] : x[i];
        y[i] = high && value > high[i] ? high[i] : value;
    }
}

static int clip_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    struct net_chain_link links[2];
    struct net_tensor *output = call->outputs[0];
    struct net_chain chain = {.input = call->inputs[0], .output = output, .links = links};
    chain.link_count = (size_t)clip_links(call, links);
    if (output->type == NET_INTEGER)
        block_forward(call, clip_integers);
    else if (chain.link_count)
        net_chain_run(&chain);
    else if (output->count)
        memmove(output->data, call->inputs[0]->data, output->count * sizeof(float));
    return 0;
}

/* At a bound the slope is that of x. */
static void clip_slope(float *out, const struct block *block, size_t which)
{
    const float *x = block->operands[0];
    const float *low = bound(block->call, 1) ? block->operands[1] : NULL;
    const float *high = bound(block->call, 2) ? block->operands[2] : NULL;
    for (size_t i = 0; i < block->count; i++) {
        float raised = low && x[i] < low[i] ? low[i] : x[i];
        size_t active = high && raised > high[i] ? 2 : low && x[i] < low[i] ? 1 : 0;
        out[i] = active == which ? 1 : 0;
    }
}
BLOCK_DERIVATIVES(clip)

/* PRelu: y = x, or slope x where x is negative. The slope is broadcast to x, not x to the slope. At
   0 the derivative is the slope, as LeakyRelu's. */

static int rectify_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *slope = call->inputs[1];
    int code = arithmetic_number_infer(call, error);
    char from[256], to[256];
    if (!code && !net_same_shape(call->outputs[0], input))
        return net_fail(call, error, "its slope of shape %s does not broadcast to the input's, %s",
                        net_shape_text(slope, from), net_shape_text(input, to));
    return code;
}

static inline float arithmetic_rectified(float x, float slope)
{
    return x < 0 ? slope * x : x;
}

OPERATION(rectify, arithmetic_rectified(a, b), a < 0 ? wrapped((uint64_t)a * (uint64_t)b) : a)
SLOPES(rectify, a > 0 ? 1 : b, a > 0 ? 0 : a)

#define PAIR_ROW(title, opset, infers, runs, function, ...)                                        \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 2, .inputs_max = 2, .outputs_max = 1,         \
        .infer = infers, .forward = runs, .backward = function##_backward,                         \
        .tangent = function##_tangent, .binary = function##_floats, __VA_ARGS__                    \
    }
/* Not in place: it writes before it has read all. */
#define LIST_ROW(title, opset, infers, runs, derivative, floats)                                   \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 1, .inputs_max = NET_VARIADIC,                \
        .outputs_max = 1, .infer = infers, .forward = runs, .backward = derivative##_backward,     \
        .tangent = derivative##_tangent, .binary = floats                                          \
    }
#define CLIP                                                                                       \
    .outputs_max = 1, .flags = NET_IN_PLACE, .forward = clip_forward, .backward = clip_backward,   \
    .tangent = clip_tangent, .binary = maximum_floats, .links = clip_links

const struct net_operator net_arithmetic_operators[] = {
    PAIR_ROW("Add", 1, arithmetic_number_infer, add_forward, add, .flags = NET_IN_PLACE | NET_SUM,
             .vectors = 1U << 0 | 1U << 1),
    PAIR_ROW("Sub", 1, arithmetic_number_infer, subtract_forward, subtract, .flags = NET_IN_PLACE),
    PAIR_ROW("Mul", 1, arithmetic_number_infer, multiply_forward, multiply, .flags = NET_IN_PLACE,
             .vectors = 1U << 0 | 1U << 1),
    PAIR_ROW("Div", 1, arithmetic_number_infer, checked_divide_forward, divide,
             .flags = NET_IN_PLACE),
    LIST_ROW("Max", 1, arithmetic_number_infer, maximum_forward, extreme, maximum_floats),
    LIST_ROW("Min", 1, arithmetic_number_infer, minimum_forward, extreme, minimum_floats),
    LIST_ROW("Sum", 1, arithmetic_float_infer, add_forward, sum, add_floats),
    LIST_ROW("Mean", 1, arithmetic_float_infer, mean_forward, mean, NULL),
    {.name = "Clip",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .attributes = {{"min", NET_FLT}, {"max", NET_FLT}},
     .infer = clip_attributes_infer,
     CLIP},
    {.name = "Clip",
     .since = 11,
     .inputs_min = 1,
     .inputs_max = 3,
     .settings = 1U << 1 | 1U << 2,
     .infer = clip_infer,
     CLIP},
    PAIR_ROW("PRelu", 1, rectify_infer, rectify_forward, rectify, .flags = NET_IN_PLACE,
             .weights = 1U << 1),
    {0},
};
