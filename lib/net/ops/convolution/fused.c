/*
 * ONNX Runtime's FusedConv: y = f(g), where g is Conv's output, plus a fourth input of its shape
 * where there is one, and f a function of one number. The derivatives compute g again, into the
 * workspace.
 */
#include <math.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/memory.h"
#include "core/vector_math.h"
#include "net/graph/rules.h"
#include "net/ops/convolution/convolution.h"
#include "net/ops/recurrent/activation.h"

enum { ADDED = 3 };

/* The function; this follows Conv's plan and its offsets in call->prepared. */
struct fused_conv {
    enum { FUSED_NONE, FUSED_CLIP, FUSED_FUNCTION } kind;
    struct activation function; /* of FUSED_CLIP: alpha and beta are the bounds */
    size_t offset;              /* bytes, from the workspace's start to g; its slopes follow */
};

static size_t fused_conv_place(const struct convolution_plan *plan)
{
    return sizeof *plan + plan->offset_count * sizeof(size_t);
}

static const struct fused_conv *fused_conv_of(const struct net_call *call)
{
    const char *prepared = call->prepared;
    return (const struct fused_conv *)(prepared + fused_conv_place(call->prepared));
}

static int fused_conv_read(const struct net_call *call, struct fused_conv *fused,
                           struct ivon_error *error)
{
    static const struct {
        const char *name;
        size_t numbers;
    } functions[] = {{"Clip", 2}, {"HardSigmoid", 2}, {"LeakyRelu", 1},
                     {"Relu", 0}, {"Sigmoid", 0},     {"Tanh", 0}};
    const struct net_attribute *numbers = net_attribute(call->node, "activation_params");
    const char *name = net_attribute_text(call->node, "activation", "");
    size_t count = sizeof functions / sizeof functions[0], i = 0;
    if (!*name)
        return 0;
    while (i < count && strcmp(functions[i].name, name) != 0)
        i++;
    if (i == count)
        return net_fail(call, error, "the activation '%s' is not supported, expected such as Relu",
                        name);
    if (functions[i].numbers != (numbers ? numbers->count : 0))
        return net_fail(call, error, "%zu activation_params for %s, expected %zu",
                        numbers ? numbers->count : 0, name, functions[i].numbers);
    fused->kind = activation_find(name, &fused->function) ? FUSED_FUNCTION : FUSED_CLIP;
    if (functions[i].numbers > 0)
        fused->function.alpha = (float)numbers->numbers[0];
    if (functions[i].numbers > 1)
        fused->function.beta = (float)numbers->numbers[1];
    return 0;
}

/* Puts `fused` behind what Conv prepared. */
static int fused_conv_store(struct net_call *call, const struct fused_conv *fused,
                            struct ivon_error *error)
{
    size_t place = fused_conv_place(call->prepared);
    char *block = realloc(call->prepared, place + sizeof *fused);
    if (!block)
        return ivon_error_memory(error);
    call->prepared = block;
    convolution_set_offsets(call->prepared, (size_t *)(block + sizeof(struct convolution_plan)));
    memcpy(block + place, fused, sizeof *fused);
    return 0;
}

static int fused_conv_infer(struct net_call *call, struct ivon_error *error)
{
    struct fused_conv fused = {.kind = FUSED_NONE};
    char a[256], b[256];
    int code = fused_conv_read(call, &fused, error);
    if (!code)
        code = convolution_infer(call, error);
    const struct net_tensor *added = net_input(call, ADDED), *output = call->outputs[0];
    if (!code && added)
        code = net_expect_float(call, ADDED, error);
    if (code)
        return code;
    if (added && !net_same_shape(added, output))
        return net_fail(call, error, "an input of shape %s added to an output of shape %s",
                        net_shape_text(added, a), net_shape_text(output, b));
    if (output->count > PTRDIFF_MAX / (4 * sizeof(float)))
        return net_fail(call, error, "the output is too large");
    fused.offset = memory_rounded(call->workspace_size);
    call->workspace_size = fused.offset + 2 * output->count * sizeof(float);
    return fused_conv_store(call, &fused, error);
}

/* Sets y = g, and then its elements to f of them and, unless it is null, `slopes` to f'. */
static void fused_conv_run(const struct net_call *call, float *y, float *slopes)
{
    const struct fused_conv *fused = fused_conv_of(call);
    const struct net_tensor *added = net_input(call, ADDED);
    float low = fused->function.alpha, high = fused->function.beta;
    size_t count = call->outputs[0]->count;
    convolution_forward_apply(call->prepared, call->inputs[0]->data, call->inputs[1]->data,
                              convolution_bias(call), y, NULL, call->workspace);
    for (size_t i = 0; added && i < count; i++)
        y[i] += ((const float *)added->data)[i];
    if (fused->kind == FUSED_FUNCTION)
        activation_run(&fused->function, INFINITY, y, slopes, count);
    for (size_t i = 0; fused->kind != FUSED_FUNCTION && i < count; i++) {
        float g = y[i];
        if (fused->kind == FUSED_CLIP)
            y[i] = vector_clamp(g, low, high);
        if (slopes)
            slopes[i] = fused->kind == FUSED_NONE || (g > low && g < high);
    }
}

static int fused_conv_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    fused_conv_run(call, call->outputs[0]->data, NULL);
    return 0;
}

/* Returns f', one number for each element of the output. */
static float *fused_conv_slopes(const struct net_call *call)
{
    float *g = (float *)((char *)call->workspace + fused_conv_of(call)->offset);
    fused_conv_run(call, g, g + call->outputs[0]->count);
    return g + call->outputs[0]->count;
}

static void fused_conv_backward(const struct net_call *call, const float *const *output_adjoints,
                                float *const *input_adjoints)
{
    float *added = net_input(call, ADDED) ? input_adjoints[ADDED] : NULL;
    if (!output_adjoints[0])
        return;
    float *adjoint = fused_conv_slopes(call);
    for (size_t i = 0; i < call->outputs[0]->count; i++) {
        adjoint[i] *= output_adjoints[0][i];
        if (added)
            added[i] += adjoint[i];
    }
    convolution_backward(call, (const float *const[]){adjoint}, input_adjoints);
}

static void fused_conv_tangent(const struct net_call *call, const float *const *input_tangents,
                               float *const *output_tangents)
{
    const float *added = net_input(call, ADDED) ? input_tangents[ADDED] : NULL;
    const float *slopes = fused_conv_slopes(call);
    float *y = output_tangents[0];
    convolution_tangent(call, input_tangents, output_tangents);
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        y[i] = slopes[i] * (y[i] + (added ? added[i] : 0));
}

const struct net_operator net_fused_conv_operators[] = {
    {.domain = "com.microsoft",
     .name = "FusedConv",
     .since = 1,
     .inputs_min = 2,
     .inputs_max = 4,
     .outputs_max = 1,
     .weights = 1U << 1 | 1U << 2,
     .attributes = {{"activation", NET_TEXT},
                    {"activation_params", NET_FLTS},
                    {"auto_pad", NET_TEXT},
                    {"dilations", NET_INTS},
                    {"group", NET_INT},
                    {"kernel_shape", NET_INTS},
                    {"pads", NET_INTS},
                    {"strides", NET_INTS}},
     .infer = fused_conv_infer,
     .forward = fused_conv_forward,
     .backward = fused_conv_backward,
     .tangent = fused_conv_tangent},
    {0}};
