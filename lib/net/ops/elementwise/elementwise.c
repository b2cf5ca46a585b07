/* Elementary functions of one tensor, and Identity. */
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/elementwise/function.h"

static int elementwise_number_infer(struct net_call *call, struct ivon_error *error)
{
    int code = block_expect(call, 0, 1U << NET_FLOAT | 1U << NET_INTEGER, error);
    return code ? code : block_infer(call, call->inputs[0]->type, 1, error);
}

/* Of integers, y = value of x, modulo 2^64. */
#define FUNCTION_OF_INTEGERS(name, value)                                                          \
    static void name##_integers(void *out, const struct block *block)                              \
    {                                                                                              \
        const int64_t *in = block->operands[0];                                                    \
        int64_t *integers = out;                                                                   \
        for (size_t i = 0; i < block->count; i++) {                                                \
            int64_t x = in[i];                                                                     \
            integers[i] = value;                                                                   \
        }                                                                                          \
    }                                                                                              \
    static int name##_forward(const struct net_call *call, struct ivon_error *error)               \
    {                                                                                              \
        if (call->inputs[0]->type == NET_FLOAT)                                                    \
            return block_float_forward(call, error);                                               \
        block_forward(call, name##_integers);                                                      \
        return 0;                                                                                  \
    }

/* clang-format takes products in macro arguments for declarations. */
/* clang-format off */
FUNCTION(negative, -x, -1)
FUNCTION(absolute, vector_abs(x), sign_value(x))
FUNCTION(sign, sign_value(x), 0)
FUNCTION(reciprocal, 1 / x, -(y * y))
FUNCTION(root, sqrtf(x), 0.5f / y)
FUNCTION(exponential, vector_exp(x), y)
FUNCTION(logarithm, vector_log(x), 1 / x)
FUNCTION(rounded, vector_round(x), 0)
FUNCTION(lower, vector_floor(x), 0)
FUNCTION(upper, vector_ceil(x), 0)
FUNCTION(error_function, vector_erf(x), 0x1.20dd76p+0f * vector_exp(-(x * x))) /* 2/sqrt(pi) */
FUNCTION(hyperbolic_tangent, vector_tanh(x), (1 - y) * (1 + y))
/* clang-format on */

FUNCTION_OF_INTEGERS(negative, (int64_t)(0 - (uint64_t)x))
FUNCTION_OF_INTEGERS(absolute, (int64_t)(x < 0 ? 0 - (uint64_t)x : (uint64_t)x))
FUNCTION_OF_INTEGERS(sign, (x > 0) - (x < 0))

/* Identity. */

static int identity_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    return call->outputs[0]
               ? net_tensor_set(call->outputs[0], input->type, input->rank, input->shape, error)
               : 0;
}

static void identity_backward(const struct net_call *call, const float *const *output_adjoints,
                              float *const *input_adjoints)
{
    for (size_t i = 0; output_adjoints[0] && input_adjoints[0] && i < call->inputs[0]->count; i++)
        input_adjoints[0][i] += output_adjoints[0][i];
}

static void identity_tangent(const struct net_call *call, const float *const *input_tangents,
                             float *const *output_tangents)
{
    size_t size = call->inputs[0]->count * sizeof(float);
    if (output_tangents[0] && input_tangents[0] && size)
        memcpy(output_tangents[0], input_tangents[0], size);
    else if (output_tangents[0] && size)
        memset(output_tangents[0], 0, size);
}

#define NUMBER_ROW(title, opset, function)                                                         \
    ROW(title, opset, 0, elementwise_number_infer, function##_forward, function)

const struct net_operator net_elementwise_operators[] = {
    NUMBER_ROW("Neg", 1, negative),
    NUMBER_ROW("Abs", 1, absolute),
    NUMBER_ROW("Sign", 9, sign),
    FLOAT_ROW("Reciprocal", 1, reciprocal),
    FLOAT_ROW("Sqrt", 1, root),
    FLOAT_ROW("Exp", 1, exponential),
    FLOAT_ROW("Log", 1, logarithm),
    FLOAT_ROW("Round", 11, rounded),
    FLOAT_ROW("Floor", 1, lower),
    FLOAT_ROW("Ceil", 1, upper),
    FLOAT_ROW("Erf", 9, error_function),
    FLOAT_ROW("Tanh", 1, hyperbolic_tangent),
    {.name = "Identity",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_ALIAS | NET_IDENTITY,
     .infer = identity_infer,
     .backward = identity_backward,
     .tangent = identity_tangent},
    {0},
};
