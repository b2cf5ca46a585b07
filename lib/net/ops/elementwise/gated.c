/* SwiGLU: y = a σ(alpha a) b, which networks of the Llama kind have between their matrices. */
#include "core/dispatch.h"
#include "core/vector_math.h"
#include "net/ops/elementwise/blockwise.h"

static int swiglu_infer(struct net_call *call, struct ivon_error *error)
{
    float alpha = (float)net_attribute_number(call->node, "alpha", 1);
    for (size_t i = 0; i < 2; i++) {
        int code = net_expect_float(call, i, error);
        if (code)
            return code;
    }
    int code = block_parameters(call, &alpha, 1, error);
    return code ? code : block_infer(call, NET_FLOAT, 2, error);
}

IVON_DISPATCH static void swiglu(void *out, const struct block *block)
{
    const float *a = block->operands[0], *b = block->operands[1], *alpha = block->operands[2];
    float *y = out;
    BLOCK_EACH(block->count)
    {
        y[i] = a[i] * vector_sigmoid(alpha[i] * a[i]) * b[i];
    }
}

static int swiglu_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    block_forward(call, swiglu);
    return 0;
}

/* With s = σ(alpha a), ∂y/∂a = (s + alpha a s (1 − s)) b. */
IVON_DISPATCH static void swiglu_slope(float *out, const struct block *block, size_t which)
{
    const float *a = block->operands[0], *b = block->operands[1], *alpha = block->operands[2];
    BLOCK_EACH(block->count)
    {
        float s = vector_sigmoid(alpha[i] * a[i]);
        out[i] = which ? a[i] * s : (s + alpha[i] * a[i] * s * (1 - s)) * b[i];
    }
}

BLOCK_DERIVATIVES(swiglu)

const struct net_operator net_gated_operators[] = {
    {.name = "SwiGLU",
     .since = 28,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .flags = NET_IN_PLACE,
     .attributes = {{"alpha", NET_FLT}},
     .infer = swiglu_infer,
     .forward = swiglu_forward,
     .backward = swiglu_backward,
     .tangent = swiglu_tangent},
    {0},
};
