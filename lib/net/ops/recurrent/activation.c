#include "net/ops/recurrent/activation.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "core/dispatch.h"
#include "core/vector_math.h"

typedef void activation_values(float *values, float clip, float alpha, float beta, size_t count);
typedef void activation_slopes(float *values, float *slopes, float clip, float alpha, float beta,
                               size_t count);

/* `value` in terms of x; `slope` in terms of x and y. */
#define ACTIVATION(name, value, slope)                                                             \
    IVON_DISPATCH static void name##_values(float *values, float clip, float alpha, float beta,    \
                                            size_t count)                                          \
    {                                                                                              \
        (void)alpha, (void)beta;                                                                   \
        for (size_t i = 0; i < count; i++) {                                                       \
            float x = vector_clamp(values[i], -clip, clip);                                        \
            values[i] = value;                                                                     \
        }                                                                                          \
    }                                                                                              \
    IVON_DISPATCH static void name##_slopes(float *restrict values, float *restrict slopes,        \
                                            float clip, float alpha, float beta, size_t count)     \
    {                                                                                              \
        (void)alpha, (void)beta;                                                                   \
        for (size_t i = 0; i < count; i++) {                                                       \
            float argument = values[i], x = vector_clamp(argument, -clip, clip), y = value;        \
            float change = (float)(slope);                                                         \
            values[i] = y;                                                                         \
            slopes[i] = x == argument ? change : 0;                                                \
        }                                                                                          \
    }

ACTIVATION(affine, alpha *x + beta, alpha)
ACTIVATION(elu, x > 0 ? x : alpha * vector_expm1(x), x > 0 ? 1 : y + alpha)
ACTIVATION(hard_sigmoid, vector_clamp(alpha *x + beta, 0, 1), (y > 0) & (y < 1) ? alpha : 0)
ACTIVATION(leaky_relu, x > 0 ? x : alpha * x, (x > 0 ? 1 : alpha))
ACTIVATION(relu, x < 0 ? 0 : x, (x > 0 ? 1 : 0))
ACTIVATION(scaled_tanh, alpha *vector_tanh(beta *x), alpha *beta - beta * y * (y / alpha))
ACTIVATION(sigmoid, vector_sigmoid(x), y *(1 - y))
ACTIVATION(softplus, vector_softplus(x), vector_sigmoid(x))
ACTIVATION(softsign, x / (1 + vector_abs(x)), (1 - vector_abs(y)) * (1 - vector_abs(y)))
ACTIVATION(tanh, vector_tanh(x), 1 - y * y)
ACTIVATION(thresholded_relu, x > alpha ? x : 0, (x > alpha ? 1 : 0))

/* The names; the numbers that a function has, and what they are if the lists are too short. */
static const struct {
    const char *name;
    activation_values *values;
    activation_slopes *slopes;
    bool alpha, beta;
    float default_alpha, default_beta;
} activations[] = {
    {"Affine", affine_values, affine_slopes, true, true, 1, 0},
    {"Elu", elu_values, elu_slopes, true, false, 1, 0},
    {"HardSigmoid", hard_sigmoid_values, hard_sigmoid_slopes, true, true, 0.2F, 0.5F},
    {"LeakyRelu", leaky_relu_values, leaky_relu_slopes, true, false, 0.01F, 0},
    {"Relu", relu_values, relu_slopes, false, false, 0, 0},
    {"ScaledTanh", scaled_tanh_values, scaled_tanh_slopes, true, true, 1, 1},
    {"Sigmoid", sigmoid_values, sigmoid_slopes, false, false, 0, 0},
    {"Softplus", softplus_values, softplus_slopes, false, false, 0, 0},
    {"Softsign", softsign_values, softsign_slopes, false, false, 0, 0},
    {"Tanh", tanh_values, tanh_slopes, false, false, 0, 0},
    {"ThresholdedRelu", thresholded_relu_values, thresholded_relu_slopes, true, false, 1, 0},
};

enum { ACTIVATION_COUNT = sizeof activations / sizeof activations[0] };

bool activation_find(const char *name, struct activation *function)
{
    int kind = 0;
    while (kind < ACTIVATION_COUNT && strcasecmp(activations[kind].name, name) != 0)
        kind++;
    if (kind == ACTIVATION_COUNT)
        return false;
    *function = (struct activation){.kind = kind,
                                    .alpha = activations[kind].default_alpha,
                                    .beta = activations[kind].default_beta};
    return true;
}

/* The next number of a list, or `otherwise` behind its end. */
static float next_number(const struct net_attribute *list, size_t *at, float otherwise)
{
    return list && *at < list->count ? (float)list->numbers[(*at)++] : otherwise;
}

int activation_read(const struct net_call *call, const char *const *otherwise, size_t count,
                    struct activation *functions, struct ivon_error *error)
{
    const struct net_attribute *names = net_attribute(call->node, "activations");
    const struct net_attribute *alphas = net_attribute(call->node, "activation_alpha");
    const struct net_attribute *betas = net_attribute(call->node, "activation_beta");
    size_t alpha = 0, beta = 0;
    if (names && names->count != count)
        return net_fail(call, error, "%zu activations, expected %zu", names->count, count);
    for (size_t i = 0; i < count; i++) {
        const char *name = names ? net_attribute_text_at(call->node, "activations", i)
                                 : otherwise[i];
        if (!activation_find(name, &functions[i]))
            return net_fail(call, error, "the activation '%s' is not known", name);
        if (activations[functions[i].kind].alpha)
            functions[i].alpha = next_number(alphas, &alpha, functions[i].alpha);
        if (activations[functions[i].kind].beta)
            functions[i].beta = next_number(betas, &beta, functions[i].beta);
    }
    return 0;
}

void activation_run(const struct activation *function, float clip, float *values, float *slopes,
                    size_t count)
{
    if (slopes)
        activations[function->kind].slopes(values, slopes, clip, function->alpha, function->beta,
                                           count);
    else
        activations[function->kind].values(values, clip, function->alpha, function->beta, count);
}
