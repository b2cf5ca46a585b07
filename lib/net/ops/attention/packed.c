/*
 * ONNX Runtime's Attention: one product x W + b makes queries, keys and values, as columns one
 * beside the other. It is made in the workspace, and again by the derivatives.
 */
#include <inttypes.h>
#include <string.h>

#include "core/memory.h"
#include "net/graph/rules.h"
#include "net/ops/attention/operands.h"
#include "net/ops/product/product.h"
#include "net/ops/sum.h"

enum { X, WEIGHTS, BIAS, MASK, PAST, SCORE_BIAS };

struct packed {
    struct attention attention;
    struct net_matmul product;
    size_t rows, columns;
    size_t offset; /* bytes, from the workspace's start to the product, behind which is another */
};

/* Shapes. */

/* The columns of queries, keys and values. */
static int packed_columns(const struct net_call *call, int64_t columns[3], struct ivon_error *error)
{
    const struct net_tensor *weights = call->inputs[WEIGHTS];
    int64_t heads = net_attribute_integer(call->node, "num_heads", 0), total = weights->shape[1];
    size_t count = 0;
    const int64_t *given = net_attribute_integers(call->node, "qkv_hidden_sizes", &count);
    for (int i = 0; i < 3; i++) {
        columns[i] = given && count == 3 ? given[i] : total / 3;
        if (columns[i] < 0 || columns[i] > total || heads < 1 || columns[i] % heads)
            return net_fail(call, error,
                            "%" PRId64 " columns for %" PRId64 " heads of num_heads, of %" PRId64,
                            columns[i], heads, total);
    }
    if ((given && count != 3) || columns[0] != columns[1] ||
        columns[0] + columns[1] + columns[2] != total)
        return net_fail(call, error, "queries, keys and values do not share %" PRId64 " columns",
                        total);
    return 0;
}

static int packed_check(const struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[X], *weights = call->inputs[WEIGHTS];
    const struct net_tensor *bias = net_input(call, BIAS);
    char a[256], b[256];
    for (size_t i = X; i <= WEIGHTS; i++) {
        int code = net_expect_float(call, i, error);
        if (code)
            return code;
    }
    if (x->rank != 3 || weights->rank != 2 || weights->shape[0] != x->shape[2] ||
        weights->shape[1] > INT32_MAX || weights->shape[0] > INT32_MAX)
        return net_fail(call, error,
                        "input of shape %s and weights of shape %s, expected 3 and 2 dimensions",
                        net_shape_text(x, a), net_shape_text(weights, b));
    if (bias && (bias->type != NET_FLOAT || bias->rank != 1 || bias->shape[0] != weights->shape[1]))
        return net_fail(call, error, "a bias of shape %s, expected %" PRId64 " floats",
                        net_shape_text(bias, a), weights->shape[1]);
    if (net_input(call, PAST) || net_attribute_integer(call->node, "do_rotary", 0))
        return net_fail(call, error, "past states and rotary embeddings are not supported here");
    return 0;
}

static int packed_plan(const struct net_call *call, const int64_t columns[3], struct packed *packed,
                       struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[X];
    struct attention *attention = &packed->attention;
    int64_t heads = net_attribute_integer(call->node, "num_heads", 0), positions = x->shape[1];
    int64_t width = call->inputs[WEIGHTS]->shape[1], rows, total;
    struct attention_extents extents = {.examples = x->shape[0],
                                        .heads = heads,
                                        .key_heads = heads,
                                        .queries = positions,
                                        .first = positions,
                                        .keys = positions,
                                        .size = columns[0] / heads,
                                        .value_size = columns[2] / heads};
    if (__builtin_mul_overflow(x->shape[0], positions, &rows) || rows > INT32_MAX ||
        __builtin_mul_overflow(rows, width, &total) || total > PTRDIFF_MAX / 64)
        return net_fail(call, error, "the product is too large");
    int code = attention_begin(call, &extents, attention, error);
    if (code)
        return code;
    attention->q = attention_by_row(attention, heads, positions, extents.size, width);
    attention->k[0] = attention->q;
    attention->v[0] = attention_by_row(attention, heads, positions, extents.value_size, width);
    attention->y = attention_by_row(attention, heads, positions, extents.value_size, columns[2]);
    attention->k[0].start = (size_t)columns[0];
    attention->v[0].start = (size_t)(columns[0] + columns[1]);
    if (net_attribute_integer(call->node, "unidirectional", 0))
        attention->right = 0;
    packed->rows = (size_t)rows;
    packed->columns = (size_t)width;
    packed->product = (struct net_matmul){
        .m = rows, .n = width, .k = x->shape[2], .batch_count = total > 0};
    return 0;
}

static int packed_infer(struct net_call *call, struct ivon_error *error)
{
    struct packed packed = {.rows = 0};
    int64_t columns[3];
    int code = packed_check(call, error);
    if (!code)
        code = packed_columns(call, columns, error);
    if (!code)
        code = packed_plan(call, columns, &packed, error);
    if (!code)
        code = attention_add_padding(call, &packed.attention, MASK, error);
    if (!code)
        code = attention_add_bias(call, &packed.attention, SCORE_BIAS, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[X];
    int64_t shape[] = {x->shape[0], x->shape[1], columns[2]};
    packed.offset = attention_plan(&packed.attention);
    if (!packed.offset)
        return net_fail(call, error, "the mask is too large");
    call->workspace_size = packed.offset +
                           2 * memory_rounded(packed.rows * packed.columns * sizeof(float));
    struct packed *stored = net_prepare(call, sizeof *stored, error);
    if (!stored)
        return IVON_ERROR_MEMORY;
    *stored = packed;
    return net_output(call, 0, NET_FLOAT, 3, shape, error);
}

/* Running. */

static float *packed_product(const struct net_call *call, size_t which)
{
    const struct packed *packed = call->prepared;
    size_t size = memory_rounded(packed->rows * packed->columns * sizeof(float));
    return (float *)((char *)call->workspace + packed->offset + which * size);
}

/* y = x W + b, of which any may be null, which counts as zero, except that x or W is there. */
static void packed_multiply(const struct packed *packed, const float *x, const float *w,
                            const float *bias, bool add, float *y)
{
    for (size_t i = 0; i < packed->rows && !add; i++)
        for (size_t j = 0; j < packed->columns; j++)
            y[i * packed->columns + j] = bias ? bias[j] : 0;
    if (x && w)
        net_matmul_add(&packed->product, 1, x, w, y);
}

static struct attention_values packed_values(const struct net_call *call)
{
    const struct net_tensor *bias = net_input(call, BIAS);
    float *made = packed_product(call, 0);
    struct attention_values values = {
        .q = made, .k = {made}, .v = {made}, .workspace = call->workspace};
    packed_multiply(call->prepared, call->inputs[X]->data, call->inputs[WEIGHTS]->data,
                    bias ? bias->data : NULL, false, made);
    attention_set_masks(call, MASK, SCORE_BIAS, &values);
    return values;
}

/* The place of the scores' bias among the masks; its adjoint or tangent, or null. */
static float *packed_bias(const struct net_call *call, float *const *arrays, size_t *at)
{
    const struct packed *packed = call->prepared;
    bool there = net_input(call, SCORE_BIAS);
    *at = there ? packed->attention.mask_count - 1 : 0;
    return there ? arrays[SCORE_BIAS] : NULL;
}

static int packed_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct packed *packed = call->prepared;
    struct attention_values values = packed_values(call);
    attention_forward(&packed->attention, &values, call->outputs[0]->data, NULL);
    return 0;
}

static void packed_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    const struct packed *packed = call->prepared;
    float *d = packed_product(call, 1);
    size_t at;
    if (!output_adjoints[0])
        return;
    struct attention_values values = packed_values(call);
    struct attention_adjoints to = {.y = output_adjoints[0], .q = d, .k = {d}, .v = {d}};
    float *bias = packed_bias(call, input_adjoints, &at);
    to.masks[at] = bias;
    memset(d, 0, packed->rows * packed->columns * sizeof *d);
    attention_backward(&packed->attention, &values, &to);
    net_matmul_adjoints(&packed->product, 1, call->inputs[X]->data, call->inputs[WEIGHTS]->data, d,
                        input_adjoints[X], input_adjoints[WEIGHTS]);
    if (net_input(call, BIAS) && input_adjoints[BIAS])
        net_add_column_sums(d, packed->rows, packed->columns, packed->columns, 1,
                            input_adjoints[BIAS]);
}

static void packed_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    const struct packed *packed = call->prepared;
    const float *bias = net_input(call, BIAS) ? input_tangents[BIAS] : NULL;
    float *d = packed_product(call, 1);
    size_t at;
    struct attention_values values = packed_values(call);
    packed_multiply(packed, input_tangents[X], call->inputs[WEIGHTS]->data, bias, false, d);
    packed_multiply(packed, call->inputs[X]->data, input_tangents[WEIGHTS], NULL, true, d);
    struct attention_tangents from = {.q = d, .k = {d}, .v = {d}, .y = output_tangents[0]};
    const float *of_scores = packed_bias(call, (float *const *)input_tangents, &at);
    from.masks[at] = of_scores;
    attention_tangent(&packed->attention, &values, &from);
}

const struct net_operator net_packed_attention_operators[] = {
    {.domain = "com.microsoft",
     .name = "Attention",
     .since = 1,
     .inputs_min = 2,
     .inputs_max = 6,
     .outputs_max = 1,
     .weights = 1U << WEIGHTS | 1U << BIAS,
     .attributes = {{"do_rotary", NET_INT},
                    {"mask_filter_value", NET_FLT},
                    {"num_heads", NET_INT},
                    {"qkv_hidden_sizes", NET_INTS},
                    {"scale", NET_FLT},
                    {"unidirectional", NET_INT}},
     .infer = packed_infer,
     .forward = packed_forward,
     .backward = packed_backward,
     .tangent = packed_tangent},
    {0}};
