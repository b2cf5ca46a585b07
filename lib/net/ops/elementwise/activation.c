/* Activations: functions of one tensor, some of which take attributes, or a bias. */
#include "net/graph/rules.h"
#include "net/ops/elementwise/function.h"

/* Of the normal distribution: its density, and Φ(x) = (1 + erf(x/√2))/2. */
static inline float normal_density(float x)
{
    return 0x1.988454p-2f * vector_exp(-0.5f * x * x); /* 1/√(2π) */
}

static inline float normal_distribution(float x)
{
    return 0.5f + 0.5f * vector_erf(x * 0x1.6a09e6p-1f);
}

/* Gelu: y = x Φ(x). */

static inline float gelu_value(float x)
{
    return x * normal_distribution(x);
}

static inline float gelu_derivative(float x)
{
    return normal_distribution(x) + vector_clamp(x, -16, 16) * normal_density(x);
}

/* Gelu by tanh: y = x (1 + tanh u)/2 = x σ(2u), u = √(2/π) (x + c x³), c = 0.044715. */

static inline float fast_gelu_gate(float x)
{
    float root = 0x1.988454p-1f, cubic = 0x1.6e4e26p-5f;
    return vector_sigmoid(2 * root * (x + cubic * x * x * x));
}

static inline float fast_gelu_value(float x)
{
    return x * fast_gelu_gate(x);
}

/* σ + x σ (1 − σ) 2u'. Beyond 16 σ is 0 or 1, and u' must not overflow. */
static inline float fast_gelu_derivative(float x)
{
    float root = 0x1.988454p-1f, cubic = 0x1.6e4e26p-5f, gate = fast_gelu_gate(x);
    float near = vector_clamp(x, -16, 16);
    float inner = 2 * root * (1 + 3 * cubic * near * near);
    return gate + near * gate * (1 - gate) * inner;
}

/* Swish: y = x σ(αx), whose derivative is σ (1 + αx (1 − σ)). Where σ is 0 or 1 to a float, αx may
   be cut. */
static inline float swish_derivative(float x, float alpha)
{
    float inner = alpha * x, gate = vector_sigmoid(inner);
    return gate * (1 + vector_clamp(inner, -128, 128) * (1 - gate));
}

/* Mish: y = x t, t = tanh log(1 + e^x), whose derivative is t + x (1 − t²) σ(x). From 16 on, t is
   1. */
static inline float mish_gate(float x)
{
    return vector_tanh(vector_softplus(x));
}

static inline float mish_derivative(float x)
{
    float gate = mish_gate(x), near = vector_clamp(x, -128, 16);
    return gate + near * (1 - gate) * (1 + gate) * vector_sigmoid(x);
}

static inline float soft_square(float x)
{
    return x * x;
}

/* clang-format takes products in macro arguments for declarations. */
/* clang-format off */
FUNCTION(sigmoid, vector_sigmoid(x), y * (1 - y))
FUNCTION(softplus, vector_softplus(x), vector_sigmoid(x))
FUNCTION(relu, choose(x < 0, 0, x), choose(x > 0, 1, 0))
/* x min(1, max(0, x/6 + 1/2)) */
FUNCTION(hard_swish, x * choose(x <= -3, 0, choose(x >= 3, 1, x * (1 / 6.0f) + 0.5f)),
         choose(x < -3, 0, choose(x > 3, 1, x * (1 / 3.0f) + 0.5f)))

FUNCTION_OF_PARAMETER(leaky_relu, choose(x < 0, p * x, x), choose(x > 0, 1, p))
FUNCTION_OF_PARAMETER(elu, choose(x < 0, p * vector_expm1(x), x),
                      choose(x > 0, 1, p * vector_exp(x)))
FUNCTION(soft_sign, x / (1 + vector_abs(x)), 1 / soft_square(1 + vector_abs(x)))
FUNCTION(mish, x * mish_gate(x), mish_derivative(x))
FUNCTION(gelu, gelu_value(x), gelu_derivative(x))

FUNCTION_OF_PARAMETER(celu, choose(x < 0, p * vector_expm1(x / p), x),
                      choose(x > 0, 1, vector_exp(x / p)))
FUNCTION_OF_PARAMETER(threshold, choose(x <= p, 0, x), choose(x > p, 1, 0))
FUNCTION_OF_PARAMETER(swish, x * vector_sigmoid(p * x), swish_derivative(x, p))
/* The same to p = 0, by tanh to 1. */
FUNCTION_OF_PARAMETER(either_gelu, choose(p > 0, fast_gelu_value(x), gelu_value(x)),
                      choose(p > 0, fast_gelu_derivative(x), gelu_derivative(x)))

FUNCTION_OF_PARAMETERS(hard_sigmoid, vector_clamp(p * x + q, 0, 1),
                       choose((p * x + q > 0) & (p * x + q < 1), p, 0))
/* p: alpha, q: gamma */
FUNCTION_OF_PARAMETERS(selu, q * choose(x < 0, p * vector_expm1(x), x),
                       q * choose(x > 0, 1, p * vector_exp(x)))
/* p: lambd, q: bias. Both bounds of the interval that becomes 0 belong to it. */
FUNCTION_OF_PARAMETERS(shrink, choose(x < -p, x + q, choose(x > p, x - q, choose(x != x, x, 0))),
                       choose((x < -p) | (x > p), 1, 0))
/* clang-format on */

static int activation_infer(struct net_call *call, const char *const *names,
                            const double *otherwise, size_t count, struct ivon_error *error)
{
    float values[2];
    for (size_t i = 0; i < count; i++)
        values[i] = (float)net_attribute_number(call->node, names[i], otherwise[i]);
    int code = block_parameters(call, values, count, error);
    return code ? code : block_float_infer(call, error);
}

/* A function whose one attribute is alpha. */
static int activation_alpha_infer(struct net_call *call, double otherwise, struct ivon_error *error)
{
    return activation_infer(call, (const char *const[]){"alpha"}, &otherwise, 1, error);
}

static int leaky_relu_infer(struct net_call *call, struct ivon_error *error)
{
    return activation_alpha_infer(call, 0.01, error);
}

/* Elu, Celu, ThresholdedRelu, Swish. */
static int unit_alpha_infer(struct net_call *call, struct ivon_error *error)
{
    return activation_alpha_infer(call, 1, error);
}

static int quick_gelu_infer(struct net_call *call, struct ivon_error *error)
{
    return activation_alpha_infer(call, 1.702, error);
}

static int hard_sigmoid_infer(struct net_call *call, struct ivon_error *error)
{
    static const char *const names[] = {"alpha", "beta"};
    return activation_infer(call, names, (const double[]){0.2, 0.5}, 2, error);
}

static int selu_infer(struct net_call *call, struct ivon_error *error)
{
    static const char *const names[] = {"alpha", "gamma"};
    return activation_infer(call, names, (const double[]){1.6732632423543772, 1.0507009873554805},
                            2, error);
}

static int shrink_infer(struct net_call *call, struct ivon_error *error)
{
    static const char *const names[] = {"lambd", "bias"};
    return activation_infer(call, names, (const double[]){0.5, 0}, 2, error);
}

static int gelu_infer(struct net_call *call, struct ivon_error *error)
{
    const char *approximate = net_attribute_text(call->node, "approximate", "none");
    float by_tanh = strcmp(approximate, "tanh") == 0;
    if (by_tanh == 0 && strcmp(approximate, "none") != 0)
        return net_fail(call, error, "approximate is '%s', expected none or tanh", approximate);
    int code = block_parameters(call, &by_tanh, 1, error);
    return code ? code : block_float_infer(call, error);
}

/* FastGelu and BiasGelu: of x + b, where b is a row. Both have the same slope. */

#define GELU_OF_SUM(name)                                                                          \
    IVON_DISPATCH static void biased_##name##_floats(float *out, const float *in,                  \
                                                     const float *bias, size_t count)              \
    {                                                                                              \
        BLOCK_EACH(count)                                                                          \
        {                                                                                          \
            out[i] = name##_value(in[i] + bias[i]);                                                \
        }                                                                                          \
    }                                                                                              \
    IVON_DISPATCH static void biased_##name##_slope(float *out, const struct block *block,         \
                                                    size_t which)                                  \
    {                                                                                              \
        static const float zeros[BLOCK_FLOATS] = {0};                                              \
        const float *in = block->operands[0];                                                      \
        const float *bias = block->operand_count > 1 && block->operands[1] ? block->operands[1]    \
                                                                           : zeros;                \
        (void)which;                                                                               \
        BLOCK_EACH(block->count)                                                                   \
        {                                                                                          \
            out[i] = name##_derivative(in[i] + bias[i]);                                           \
        }                                                                                          \
    }                                                                                              \
    BLOCK_DERIVATIVES(biased_##name)
GELU_OF_SUM(gelu)
GELU_OF_SUM(fast_gelu)

static int biased_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0], *bias = net_input(call, 1);
    int code = net_expect_float(call, 0, error);
    if (!code && bias)
        code = net_expect_float(call, 1, error);
    if (code)
        return code;
    char text[256], of[256];
    if (bias && (bias->rank != 1 || x->rank < 1 || bias->shape[0] != x->shape[x->rank - 1]))
        return net_fail(call, error, "its bias is %s, expected the last axis of the input's %s",
                        net_shape_text(bias, text), net_shape_text(x, of));
    return block_infer(call, NET_FLOAT, 1, error);
}

IVON_DISPATCH static void fast_gelu_floats(float *out, const float *in, size_t count)
{
    BLOCK_EACH(count)
    {
        out[i] = fast_gelu_value(in[i]);
    }
}

static void fast_gelu(void *out, const struct block *block)
{
    fast_gelu_floats(out, block->operands[0], block->count);
}

static int fast_gelu_forward(const struct net_call *call, struct ivon_error *error)
{
    if (net_input(call, 1))
        return block_float_forward(call, error);
    block_forward(call, fast_gelu);
    return 0;
}

/* Rows with attributes, which are operands: one of them, or two. */
#define ALPHA_ROW(title, opset, infers, function)                                                  \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 1, .inputs_max = 1, .outputs_max = 1,         \
        .flags = NET_IN_PLACE, .attributes = {{"alpha", NET_FLT}}, .infer = infers,                \
        .forward = block_float_forward, .backward = function##_backward,                           \
        .tangent = function##_tangent, .binary = function##_floats                                 \
    }
#define SCALED_ROW(title, opset, function, ...)                                                    \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 1, .inputs_max = 1, .outputs_max = 1,         \
        .flags = NET_IN_PLACE, .attributes = {__VA_ARGS__}, .infer = function##_infer,             \
        .forward = function##_forward, .backward = function##_backward,                            \
        .tangent = function##_tangent                                                              \
    }

const struct net_operator net_activation_operators[] = {
    ROW("Sigmoid", 1, NET_LOGISTIC, block_float_infer, block_float_forward, sigmoid),
    FLOAT_ROW("Softplus", 1, softplus),
    ROW("Relu", 1, NET_RECTIFIER, block_float_infer, block_float_forward, relu),
    FLOAT_ROW("HardSwish", 14, hard_swish),
    ALPHA_ROW("LeakyRelu", 1, leaky_relu_infer, leaky_relu),
    ALPHA_ROW("Elu", 1, unit_alpha_infer, elu),
    ALPHA_ROW("Celu", 12, unit_alpha_infer, celu),
    ALPHA_ROW("ThresholdedRelu", 10, unit_alpha_infer, threshold),
    ALPHA_ROW("Swish", 24, unit_alpha_infer, swish),
    FLOAT_ROW("Softsign", 1, soft_sign),
    FLOAT_ROW("Mish", 18, mish),
    SCALED_ROW("HardSigmoid", 1, hard_sigmoid, {"alpha", NET_FLT}, {"beta", NET_FLT}),
    SCALED_ROW("Selu", 1, selu, {"alpha", NET_FLT}, {"gamma", NET_FLT}),
    SCALED_ROW("Shrink", 9, shrink, {"lambd", NET_FLT}, {"bias", NET_FLT}),
    {.name = "Gelu",
     .since = 20,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_IN_PLACE,
     .attributes = {{"approximate", NET_TEXT}},
     .infer = gelu_infer,
     .forward = block_float_forward,
     .backward = either_gelu_backward,
     .tangent = either_gelu_tangent,
     .binary = either_gelu_floats},
    {.domain = "com.microsoft",
     .name = "Gelu",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_IN_PLACE,
     .infer = block_float_infer,
     .forward = block_float_forward,
     .backward = gelu_backward,
     .tangent = gelu_tangent,
     .unary = gelu_floats},
    {.domain = "com.microsoft",
     .name = "FastGelu",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 2,
     .outputs_max = 1,
     .weights = 1U << 1,
     .flags = NET_IN_PLACE,
     .infer = biased_infer,
     .forward = fast_gelu_forward,
     .backward = biased_fast_gelu_backward,
     .tangent = biased_fast_gelu_tangent,
     .binary = biased_fast_gelu_floats},
    {.domain = "com.microsoft",
     .name = "BiasGelu",
     .since = 1,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .weights = 1U << 1,
     .flags = NET_IN_PLACE,
     .infer = biased_infer,
     .forward = block_float_forward,
     .backward = biased_gelu_backward,
     .tangent = biased_gelu_tangent,
     .binary = biased_gelu_floats},
    {.domain = "com.microsoft",
     .name = "QuickGelu",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_IN_PLACE,
     .attributes = {{"alpha", NET_FLT}},
     .infer = quick_gelu_infer,
     .forward = block_float_forward,
     .backward = swish_backward,
     .tangent = swish_tangent,
     .binary = swish_floats},
    {0},
};
