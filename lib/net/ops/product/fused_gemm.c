/*
 * ONNX Runtime's FusedGemm: y = f(g), where g is Gemm's output and f one of ONNX's functions of one
 * tensor that have no attributes. The derivatives compute g again, into the workspace.
 */
#include <string.h>

#include "core/memory.h"
#include "net/ops/product/product.h"

/* The call of f on g. The first part is Gemm's own, as its functions expect. */
struct fused_gemm {
    struct net_matmul product;
    struct net_node node; /* of f */
    struct net_tensor g;  /* its data follow the workspace of f */
    size_t offset;        /* bytes, from the workspace's start to g */
};

static const struct net_operator *fused_gemm_activation(const struct net_call *call)
{
    const char *name = net_attribute_text(call->node, "activation", "");
    const struct net_operator *row = net_operator_find(NULL, name, NET_OPSET_MOST);
    bool fits = row && row->unary && !row->attributes[0].name && row->inputs_max == 1;
    return fits ? row : NULL;
}

/* Sets `inner` to f's call; `arrays` are its lists of inputs and outputs. */
static void fused_gemm_call(const struct net_call *call, const struct fused_gemm *fused,
                            struct net_tensor *g, struct net_tensor *arrays[2],
                            struct net_call *inner)
{
    *g = fused->g;
    arrays[0] = g;
    arrays[1] = call->outputs[0];
    *inner = (struct net_call){.node = &fused->node, .inputs = &arrays[0], .outputs = &arrays[1]};
}

/* Replaces what Gemm prepared by what is prepared here. */
static struct fused_gemm *fused_gemm_prepare(struct net_call *call, const struct net_operator *row,
                                             struct ivon_error *error)
{
    struct net_matmul product = *(struct net_matmul *)call->prepared;
    struct fused_gemm *fused = net_prepare(call, sizeof *fused, error);
    if (!fused)
        return NULL;
    fused->product = product;
    fused->g = *call->outputs[0];
    fused->node = (struct net_node){
        .op = row, .name = call->node->name, .input_count = 1, .output_count = 1};
    return fused;
}

static int fused_gemm_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_operator *row = fused_gemm_activation(call);
    if (!row)
        return net_fail(call, error, "the activation '%s' is not supported, expected such as Relu",
                        net_attribute_text(call->node, "activation", ""));
    int code = net_gemm_infer(call, error);
    if (code)
        return code;
    struct fused_gemm *fused = fused_gemm_prepare(call, row, error);
    if (!fused)
        return IVON_ERROR_MEMORY;
    struct net_tensor g, *arrays[2];
    struct net_call inner;
    fused_gemm_call(call, fused, &g, arrays, &inner);
    code = row->infer(&inner, error); /* prepares nothing: there are no attributes */
    fused->offset = memory_rounded(inner.workspace_size);
    if (!code && g.count > PTRDIFF_MAX / (4 * sizeof(float)))
        code = net_fail(call, error, "the product is too large");
    call->workspace_size = fused->offset + 2 * g.count * sizeof(float);
    return code;
}

/* Computes g, and sets f's call. */
static void fused_gemm_begin(const struct net_call *call, struct net_tensor *g,
                             struct net_tensor *arrays[2], struct net_call *inner)
{
    const struct fused_gemm *fused = call->prepared;
    struct net_call gemm = *call;
    fused_gemm_call(call, fused, g, arrays, inner);
    inner->workspace = call->workspace;
    g->data = (char *)call->workspace + fused->offset;
    gemm.outputs = &g;
    net_gemm_forward(&gemm, NULL);
}

static int fused_gemm_forward(const struct net_call *call, struct ivon_error *error)
{
    struct net_tensor g, *arrays[2];
    struct net_call inner;
    fused_gemm_begin(call, &g, arrays, &inner);
    return inner.node->op->forward(&inner, error);
}

static void fused_gemm_backward(const struct net_call *call, const float *const *output_adjoints,
                                float *const *input_adjoints)
{
    struct net_tensor g, *arrays[2];
    struct net_call inner;
    if (!output_adjoints[0])
        return;
    fused_gemm_begin(call, &g, arrays, &inner);
    float *adjoint = (float *)g.data + g.count;
    memset(adjoint, 0, g.count * sizeof *adjoint);
    inner.node->op->backward(&inner, output_adjoints, &adjoint);
    net_gemm_backward(call, (const float *const[]){adjoint}, input_adjoints);
}

static void fused_gemm_tangent(const struct net_call *call, const float *const *input_tangents,
                               float *const *output_tangents)
{
    struct net_tensor g, *arrays[2];
    struct net_call inner;
    fused_gemm_begin(call, &g, arrays, &inner);
    float *tangent = (float *)g.data + g.count;
    net_gemm_tangent(call, input_tangents, &tangent);
    inner.node->op->tangent(&inner, (const float *const[]){tangent}, output_tangents);
}

const struct net_operator net_fused_gemm_operators[] = {
    {.domain = "com.microsoft",
     .name = "FusedGemm",
     .since = 1,
     .inputs_min = 2,
     .inputs_max = 3,
     .outputs_max = 1,
     .weights = 1U << 1 | 1U << 2,
     .attributes = {{"activation", NET_TEXT},
                    {"alpha", NET_FLT},
                    {"beta", NET_FLT},
                    {"transA", NET_INT},
                    {"transB", NET_INT}},
     .infer = fused_gemm_infer,
     .forward = fused_gemm_forward,
     .backward = fused_gemm_backward,
     .tangent = fused_gemm_tangent},
    {0},
};
