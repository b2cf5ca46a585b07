/* Functions of one tensor: activations, elementary functions, Identity and Dropout. */
#include <string.h>

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "net/ops/blockwise.h"

static int elementwise_infer(struct net_call *call, unsigned types, struct ivon_error *error)
{
    int code = block_expect(call, 0, types, error);
    return code ? code : block_infer(call, call->inputs[0]->type, 1, error);
}

static int elementwise_float_infer(struct net_call *call, struct ivon_error *error)
{
    return elementwise_infer(call, 1U << NET_FLOAT, error);
}

static int elementwise_number_infer(struct net_call *call, struct ivon_error *error)
{
    return elementwise_infer(call, 1U << NET_FLOAT | 1U << NET_INTEGER, error);
}

static int float_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    block_chain(call);
    return 0;
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
            return float_forward(call, error);                                                     \
        block_forward(call, name##_integers);                                                      \
        return 0;                                                                                  \
    }

static inline float choose(int condition, float yes, float no)
{
    return condition ? yes : no;
}

static inline float sign_value(float x) /* sign of NaN is NaN */
{
    return choose(x > 0, 1, choose(x < 0, -1, x));
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
FUNCTION(sigmoid, vector_sigmoid(x), y * (1 - y))
FUNCTION(softplus, vector_softplus(x), vector_sigmoid(x))
FUNCTION(relu, choose(x < 0, 0, x), choose(x > 0, 1, 0))
/* x min(1, max(0, x/6 + 1/2)) */
FUNCTION(hard_swish, x * vector_clamp(x * (1 / 6.0f) + 0.5f, 0, 1),
         choose(x < -3, 0, choose(x > 3, 1, x * (1 / 3.0f) + 0.5f)))

FUNCTION_OF_PARAMETER(leaky_relu, choose(x < 0, p * x, x), choose(x > 0, 1, p))
FUNCTION_OF_PARAMETER(elu, choose(x < 0, p * vector_expm1(x), x),
                      choose(x > 0, 1, p * vector_exp(x)))
/* clang-format on */

FUNCTION_OF_INTEGERS(negative, (int64_t)(0 - (uint64_t)x))
FUNCTION_OF_INTEGERS(absolute, (int64_t)(x < 0 ? 0 - (uint64_t)x : (uint64_t)x))
FUNCTION_OF_INTEGERS(sign, (x > 0) - (x < 0))

static int leaky_relu_infer(struct net_call *call, struct ivon_error *error)
{
    float alpha = (float)net_attribute_number(call->node, "alpha", 0.01);
    int code = block_parameters(call, &alpha, 1, error);
    return code ? code : elementwise_float_infer(call, error);
}

static int elu_infer(struct net_call *call, struct ivon_error *error)
{
    float alpha = (float)net_attribute_number(call->node, "alpha", 1);
    int code = block_parameters(call, &alpha, 1, error);
    return code ? code : elementwise_float_infer(call, error);
}

/* HardSigmoid: min(1, max(0, alpha x + beta)) */

static int hard_sigmoid_infer(struct net_call *call, struct ivon_error *error)
{
    const float values[] = {(float)net_attribute_number(call->node, "alpha", 0.2),
                            (float)net_attribute_number(call->node, "beta", 0.5)};
    int code = block_parameters(call, values, 2, error);
    return code ? code : elementwise_float_infer(call, error);
}

IVON_DISPATCH static void hard_sigmoid(void *out, const struct block *block)
{
    const float *x = block->operands[0], *alpha = block->operands[1], *beta = block->operands[2];
    float *y = out;
    BLOCK_EACH(block->count)
    {
        y[i] = vector_clamp(alpha[i] * x[i] + beta[i], 0, 1);
    }
}

static int hard_sigmoid_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    block_forward(call, hard_sigmoid);
    return 0;
}

IVON_DISPATCH static void hard_sigmoid_slope(float *out, const struct block *block, size_t which)
{
    const float *alpha = block->operands[1], *y = block->output;
    (void)which;
    BLOCK_EACH(block->count)
    {
        out[i] = choose((y[i] > 0) & (y[i] < 1), alpha[i], 0);
    }
}
BLOCK_DERIVATIVES(hard_sigmoid)

/* Identity, and Dropout, which is the identity outside of training. */

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

static int dropout_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    const struct net_tensor *training = call->node->input_count > 2 ? call->inputs[2] : NULL;
    int code = block_expect(call, 0, 1U << NET_FLOAT, error);
    if (code)
        return code;
    if (training && (training->type != NET_BOOLEAN || training->count != 1 || !training->data))
        return net_fail(call, error, "its training mode is no constant");
    if (training && *(const unsigned char *)training->data)
        return net_fail(call, error, "it is in training mode; export the network for inference");
    code = identity_infer(call, error);
    if (!code && call->node->output_count > 1 && call->outputs[1])
        code = net_tensor_set(call->outputs[1], NET_BOOLEAN, input->rank, input->shape, error);
    return code;
}

/* Only if the mask is wanted: nothing was dropped. */
static int dropout_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct net_tensor *input = call->inputs[0], *output = call->outputs[0];
    if (output && output->data != input->data && input->count)
        memcpy(output->data, input->data, input->count * net_type_size(input->type));
    if (call->node->output_count > 1 && call->outputs[1] && input->count)
        memset(call->outputs[1]->data, 1, input->count);
    return 0;
}

#define ROW(title, opset, infers, runs, function)                                                  \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 1, .inputs_max = 1, .outputs_max = 1,         \
        .flags = NET_IN_PLACE, .infer = infers, .forward = runs, .backward = function##_backward,  \
        .tangent = function##_tangent, .unary = function##_floats                                  \
    }
#define FLOAT_ROW(title, opset, function)                                                          \
    ROW(title, opset, elementwise_float_infer, float_forward, function)
#define NUMBER_ROW(title, opset, function)                                                         \
    ROW(title, opset, elementwise_number_infer, function##_forward, function)

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
    {.name = "Sigmoid",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_IN_PLACE | NET_LOGISTIC,
     .infer = elementwise_float_infer,
     .forward = float_forward,
     .backward = sigmoid_backward,
     .tangent = sigmoid_tangent,
     .unary = sigmoid_floats},
    FLOAT_ROW("Softplus", 1, softplus),
    FLOAT_ROW("Relu", 1, relu),
    FLOAT_ROW("HardSwish", 14, hard_swish),
    {.name = "LeakyRelu",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_IN_PLACE,
     .attributes = {{"alpha", NET_FLT}},
     .infer = leaky_relu_infer,
     .forward = float_forward,
     .backward = leaky_relu_backward,
     .tangent = leaky_relu_tangent,
     .binary = leaky_relu_floats},
    {.name = "Elu",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_IN_PLACE,
     .attributes = {{"alpha", NET_FLT}},
     .infer = elu_infer,
     .forward = float_forward,
     .backward = elu_backward,
     .tangent = elu_tangent,
     .binary = elu_floats},
    {.name = "HardSigmoid",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_IN_PLACE,
     .attributes = {{"alpha", NET_FLT}, {"beta", NET_FLT}},
     .infer = hard_sigmoid_infer,
     .forward = hard_sigmoid_forward,
     .backward = hard_sigmoid_backward,
     .tangent = hard_sigmoid_tangent},
    {.name = "Identity",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_ALIAS | NET_IDENTITY,
     .infer = identity_infer,
     .backward = identity_backward,
     .tangent = identity_tangent},
    {.name = "Dropout",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 3,
     .outputs_max = 2,
     .flags = NET_ALIAS,
     .attributes = {{"seed", NET_INT}},
     .infer = dropout_infer,
     .forward = dropout_forward,
     .backward = identity_backward,
     .tangent = identity_tangent},
    {0},
};
