/*
 * Element-wise functions of one tensor of floats, and of attributes: a value and a slope for each,
 * from which these macros make the loops of a row.
 */
#ifndef NET_OPS_ELEMENTWISE_FUNCTION_H
#define NET_OPS_ELEMENTWISE_FUNCTION_H

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "net/ops/elementwise/blockwise.h"

static inline float choose(int condition, float yes, float no)
{
    return condition ? yes : no;
}

static inline float sign_value(float x) /* sign of NaN is NaN */
{
    return choose(x > 0, 1, choose(x < 0, -1, x));
}

/* y = value of x; dy/dx = slope, of x and y. */
#define FUNCTION(name, value, slope)                                                               \
    IVON_DISPATCH static void name##_floats(float *out, const float *in, size_t count)             \
    {                                                                                              \
        BLOCK_EACH(count)                                                                          \
        {                                                                                          \
            float x = in[i];                                                                       \
            out[i] = value;                                                                        \
        }                                                                                          \
    }                                                                                              \
    IVON_DISPATCH static void name##_slope(float *out, const struct block *block, size_t which)    \
    {                                                                                              \
        const float *in = block->operands[0], *output = block->output;                             \
        (void)which;                                                                               \
        BLOCK_EACH(block->count)                                                                   \
        {                                                                                          \
            float x = in[i], y = output[i];                                                        \
            (void)x;                                                                               \
            (void)y;                                                                               \
            out[i] = slope;                                                                        \
        }                                                                                          \
    }                                                                                              \
    BLOCK_DERIVATIVES(name)

/* The same with a parameter p. */
#define FUNCTION_OF_PARAMETER(name, value, slope)                                                  \
    IVON_DISPATCH static void name##_floats(float *out, const float *in, const float *parameter,   \
                                            size_t count)                                          \
    {                                                                                              \
        BLOCK_EACH(count)                                                                          \
        {                                                                                          \
            float x = in[i], p = parameter[i];                                                     \
            out[i] = value;                                                                        \
        }                                                                                          \
    }                                                                                              \
    IVON_DISPATCH static void name##_slope(float *out, const struct block *block, size_t which)    \
    {                                                                                              \
        const float *in = block->operands[0], *parameter = block->operands[1];                     \
        (void)which;                                                                               \
        BLOCK_EACH(block->count)                                                                   \
        {                                                                                          \
            float x = in[i], p = parameter[i];                                                     \
            out[i] = slope;                                                                        \
        }                                                                                          \
    }                                                                                              \
    BLOCK_DERIVATIVES(name)

/* With two, p and q. They have no chain. */
#define FUNCTION_OF_PARAMETERS(name, value, slope)                                                 \
    IVON_DISPATCH static void name##_block(void *to, const struct block *block)                    \
    {                                                                                              \
        const float *in = block->operands[0];                                                      \
        const float *first = block->operands[1], *second = block->operands[2];                     \
        float *out = to;                                                                           \
        BLOCK_EACH(block->count)                                                                   \
        {                                                                                          \
            float x = in[i], p = first[i], q = second[i];                                          \
            out[i] = value;                                                                        \
        }                                                                                          \
    }                                                                                              \
    static int name##_forward(const struct net_call *call, struct ivon_error *error)               \
    {                                                                                              \
        (void)error;                                                                               \
        block_forward(call, name##_block);                                                         \
        return 0;                                                                                  \
    }                                                                                              \
    IVON_DISPATCH static void name##_slope(float *out, const struct block *block, size_t which)    \
    {                                                                                              \
        const float *in = block->operands[0];                                                      \
        const float *first = block->operands[1], *second = block->operands[2];                     \
        (void)which;                                                                               \
        BLOCK_EACH(block->count)                                                                   \
        {                                                                                          \
            float x = in[i], p = first[i], q = second[i];                                          \
            (void)q;                                                                               \
            out[i] = slope;                                                                        \
        }                                                                                          \
    }                                                                                              \
    BLOCK_DERIVATIVES(name)

/* The rows of functions without attributes. */
#define ROW(title, opset, bits, infers, runs, function)                                            \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 1, .inputs_max = 1, .outputs_max = 1,         \
        .flags = NET_IN_PLACE | (bits), .infer = infers, .forward = runs,                          \
        .backward = function##_backward, .tangent = function##_tangent, .unary = function##_floats \
    }
#define FLOAT_ROW(title, opset, function)                                                          \
    ROW(title, opset, 0, block_float_infer, block_float_forward, function)

#endif
