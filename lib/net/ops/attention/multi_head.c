/*
 * ONNX Runtime's MultiHeadAttention: queries of examples × positions × (heads × size), keys and
 * values likewise or by heads, each with its part of a bias, with which they are copied into the
 * workspace.
 */
#include <inttypes.h>
#include <string.h>

#include "core/memory.h"
#include "net/graph/rules.h"
#include "net/ops/attention/operands.h"
#include "net/ops/sum.h"

enum { QUERY, KEY, VALUE, BIAS, PADDING, SCORE_BIAS, OPERANDS = 3 };

struct multi_head {
    struct attention attention;
    size_t offset;            /* bytes, from the workspace's start to the copies */
    size_t columns[OPERANDS]; /* of a row: heads × size */
};

/* Shapes. */

static int multi_head_check(const struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *query = call->inputs[QUERY];
    int64_t heads = net_attribute_integer(call->node, "num_heads", 0);
    char text[256];
    for (size_t i = QUERY; i <= VALUE; i++) {
        int code = net_expect_float(call, i, error);
        const struct net_tensor *x = call->inputs[i];
        if (code)
            return code;
        bool by_row = x->rank == 3 && heads > 0 && x->shape[2] % heads == 0;
        bool by_head = i != QUERY && x->rank == 4 && x->shape[1] == heads;
        if ((!by_row && !by_head) || x->shape[0] != query->shape[0] ||
            (by_head && net_input(call, BIAS)))
            return net_fail(call, error,
                            "input %zu has shape %s, expected examples, positions and a multiple "
                            "of %" PRId64 " heads",
                            i, net_shape_text(x, text), heads);
    }
    for (size_t i = SCORE_BIAS + 1; i < call->node->input_count; i++)
        if (call->inputs[i])
            return net_fail(call, error, "input %zu, a past state, is not supported", i);
    return 0;
}

static void operand_extents(const struct net_tensor *x, int64_t heads, int64_t *rows, int64_t *size)
{
    *rows = x->rank == 3 ? x->shape[1] : x->shape[2];
    *size = x->rank == 3 ? x->shape[2] / heads : x->shape[3];
}

static struct attention_operand operand_place(const struct attention *attention,
                                              const struct net_tensor *x, int64_t heads)
{
    int64_t rows, size;
    operand_extents(x, heads, &rows, &size);
    return x->rank == 3 ? attention_by_row(attention, heads, rows, size, x->shape[2])
                        : attention_by_head(attention, heads, rows, size);
}

static int multi_head_place(const struct net_call *call, struct multi_head *multi, int64_t *width,
                            struct ivon_error *error)
{
    const struct net_tensor *q = call->inputs[QUERY], *k = call->inputs[KEY];
    const struct net_tensor *v = call->inputs[VALUE], *bias = net_input(call, BIAS);
    struct attention *attention = &multi->attention;
    int64_t heads = net_attribute_integer(call->node, "num_heads", 0), key_size, values;
    struct attention_extents e = {.examples = q->shape[0], .heads = heads, .key_heads = heads};
    operand_extents(q, heads, &e.queries, &e.size);
    operand_extents(k, heads, &e.keys, &key_size);
    operand_extents(v, heads, &values, &e.value_size);
    e.first = e.keys;
    if (key_size != e.size || values != e.keys)
        return net_fail(call, error,
                        "%" PRId64 " keys of size %" PRId64 " beside %" PRId64
                        " values, and queries of size %" PRId64,
                        e.keys, key_size, values, e.size);
    int code = attention_begin(call, &e, attention, error);
    if (code)
        return code;
    *width = heads * e.value_size;
    attention->q = operand_place(attention, q, heads);
    attention->k[0] = operand_place(attention, k, heads);
    attention->v[0] = operand_place(attention, v, heads);
    attention->y = attention_by_row(attention, heads, e.queries, e.value_size, *width);
    if (net_attribute_integer(call->node, "unidirectional", 0))
        attention->right = 0;
    int64_t total = 0;
    for (int i = 0; i < OPERANDS && bias; i++) {
        multi->columns[i] = (size_t)call->inputs[i]->shape[2];
        total += call->inputs[i]->shape[2]; /* rows are below 2^31 */
    }
    if (bias && (bias->type != NET_FLOAT || bias->rank != 1 || bias->shape[0] != total))
        return net_fail(call, error, "a bias that is not of %" PRId64 " floats", total);
    return 0;
}

static size_t copy_bytes(const struct net_call *call, size_t i)
{
    return memory_rounded(call->inputs[i]->count * sizeof(float));
}

static int multi_head_infer(struct net_call *call, struct ivon_error *error)
{
    struct multi_head multi = {.offset = 0};
    int64_t width = 0;
    int code = multi_head_check(call, error);
    if (!code)
        code = multi_head_place(call, &multi, &width, error);
    if (!code)
        code = attention_add_padding(call, &multi.attention, PADDING, error);
    if (!code)
        code = attention_add_bias(call, &multi.attention, SCORE_BIAS, error);
    if (code)
        return code;
    int64_t shape[] = {call->inputs[QUERY]->shape[0], multi.attention.queries, width};
    multi.offset = attention_plan(&multi.attention);
    if (!multi.offset)
        return net_fail(call, error, "the mask is too large");
    call->workspace_size = multi.offset;
    for (size_t i = 0; i < OPERANDS && net_input(call, BIAS); i++) {
        if (call->inputs[i]->count > PTRDIFF_MAX / 64)
            return net_fail(call, error, "input %zu is too large", i);
        call->workspace_size += 2 * copy_bytes(call, i);
    }
    struct multi_head *stored = net_prepare(call, sizeof *stored, error);
    if (!stored)
        return IVON_ERROR_MEMORY;
    *stored = multi;
    return net_output(call, 0, NET_FLOAT, 3, shape, error);
}

/* Running. */

/* The copy of operand `i`, or, of the second set, its adjoint or tangent. */
static float *multi_head_copy(const struct net_call *call, size_t i, size_t set)
{
    const struct multi_head *multi = call->prepared;
    char *at = (char *)call->workspace + multi->offset;
    for (size_t j = 0; j < OPERANDS; j++)
        at += (set + (j < i)) * copy_bytes(call, j);
    return (float *)at;
}

static size_t bias_start(const struct multi_head *multi, size_t i)
{
    size_t at = 0;
    for (size_t j = 0; j < i; j++)
        at += multi->columns[j];
    return at;
}

/* Copies operand `i` with its bias; either may be null, which counts as zero. */
static const float *multi_head_add(const struct net_call *call, size_t i, size_t set,
                                   const float *x, const float *bias)
{
    const struct multi_head *multi = call->prepared;
    size_t count = call->inputs[i]->count, columns = multi->columns[i];
    float *copy = multi_head_copy(call, i, set);
    for (size_t at = 0; at < count; at += columns)
        for (size_t j = 0; j < columns; j++)
            copy[at + j] = (x ? x[at + j] : 0) + (bias ? bias[bias_start(multi, i) + j] : 0);
    return copy;
}

static struct attention_values multi_head_values(const struct net_call *call)
{
    const struct net_tensor *bias = net_input(call, BIAS);
    const float *operands[OPERANDS];
    for (size_t i = 0; i < OPERANDS; i++) {
        operands[i] = call->inputs[i]->data;
        if (bias)
            operands[i] = multi_head_add(call, i, 0, operands[i], bias->data);
    }
    struct attention_values values = {.q = operands[QUERY],
                                      .k = {operands[KEY]},
                                      .v = {operands[VALUE]},
                                      .workspace = call->workspace};
    attention_set_masks(call, PADDING, SCORE_BIAS, &values);
    return values;
}

/* The place of the scores' bias among the masks; its adjoint or tangent, or null. */
static float *score_bias(const struct net_call *call, float *const *arrays, size_t *at)
{
    const struct multi_head *multi = call->prepared;
    bool there = net_input(call, SCORE_BIAS);
    *at = there ? multi->attention.mask_count - 1 : 0;
    return there ? arrays[SCORE_BIAS] : NULL;
}

static int multi_head_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct multi_head *multi = call->prepared;
    struct attention_values values = multi_head_values(call);
    attention_forward(&multi->attention, &values, call->outputs[0]->data, NULL);
    return 0;
}

/* Adds the adjoint of a copy to those of operand `i` and of its bias. */
static void add_copy_adjoint(const struct net_call *call, size_t i, float *x, float *bias)
{
    const struct multi_head *multi = call->prepared;
    const float *d = multi_head_copy(call, i, 1);
    size_t count = call->inputs[i]->count, columns = multi->columns[i];
    for (size_t j = 0; x && j < count; j++)
        x[j] += d[j];
    if (bias && count)
        net_add_column_sums(d, count / columns, columns, columns, 1, bias + bias_start(multi, i));
}

static void multi_head_backward(const struct net_call *call, const float *const *output_adjoints,
                                float *const *input_adjoints)
{
    const struct multi_head *multi = call->prepared;
    bool has_bias = net_input(call, BIAS);
    float *operands[OPERANDS];
    size_t at;
    if (!output_adjoints[0])
        return;
    struct attention_values values = multi_head_values(call);
    for (size_t i = 0; i < OPERANDS; i++) {
        operands[i] = has_bias ? multi_head_copy(call, i, 1) : input_adjoints[i];
        if (has_bias)
            memset(operands[i], 0, call->inputs[i]->count * sizeof(float));
    }
    struct attention_adjoints to = {.y = output_adjoints[0],
                                    .q = operands[QUERY],
                                    .k = {operands[KEY]},
                                    .v = {operands[VALUE]}};
    float *of_scores = score_bias(call, input_adjoints, &at);
    to.masks[at] = of_scores;
    attention_backward(&multi->attention, &values, &to);
    for (size_t i = 0; i < OPERANDS && has_bias; i++)
        add_copy_adjoint(call, i, input_adjoints[i], input_adjoints[BIAS]);
}

static void multi_head_tangent(const struct net_call *call, const float *const *input_tangents,
                               float *const *output_tangents)
{
    const struct multi_head *multi = call->prepared;
    bool has_bias = net_input(call, BIAS);
    const float *operands[OPERANDS];
    size_t at;
    struct attention_values values = multi_head_values(call);
    for (size_t i = 0; i < OPERANDS; i++)
        operands[i] = has_bias ? multi_head_add(call, i, 1, input_tangents[i], input_tangents[BIAS])
                               : input_tangents[i];
    struct attention_tangents from = {.q = operands[QUERY],
                                      .k = {operands[KEY]},
                                      .v = {operands[VALUE]},
                                      .y = output_tangents[0]};
    const float *of_scores = score_bias(call, (float *const *)input_tangents, &at);
    from.masks[at] = of_scores;
    attention_tangent(&multi->attention, &values, &from);
}

const struct net_operator net_multi_head_operators[] = {
    {.domain = "com.microsoft",
     .name = "MultiHeadAttention",
     .since = 1,
     .inputs_min = 3,
     .inputs_max = 8,
     .outputs_max = 1,
     .weights = 1U << BIAS,
     .attributes = {{"mask_filter_value", NET_FLT},
                    {"num_heads", NET_INT},
                    {"scale", NET_FLT},
                    {"unidirectional", NET_INT}},
     .infer = multi_head_infer,
     .forward = multi_head_forward,
     .backward = multi_head_backward,
     .tangent = multi_head_tangent},
    {0}};
