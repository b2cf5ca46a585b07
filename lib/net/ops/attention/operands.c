#include "net/ops/attention/operands.h"

#include <inttypes.h>
#include <math.h>

#include "net/graph/rules.h"

int attention_begin(const struct net_call *call, const struct attention_extents *extents,
                    struct attention *attention, struct ivon_error *error)
{
    if (extents->key_heads < 1 || extents->heads % extents->key_heads)
        return net_fail(call, error,
                        "%" PRId64 " heads of queries, expected a multiple of %" PRId64
                        " heads of keys",
                        extents->heads, extents->key_heads);
    int64_t row, value_row; /* distances of rows, in the BLAS library's numbers */
    if (__builtin_mul_overflow(extents->heads, extents->size, &row) ||
        __builtin_mul_overflow(extents->heads, extents->value_size, &value_row) ||
        row > INT32_MAX || value_row > INT32_MAX || extents->queries > INT32_MAX ||
        extents->keys > INT32_MAX)
        return net_fail(call, error, "matrices are too large");
    *attention = (struct attention){
        .rank = HEAD_AXES,
        .extents = {[HEAD_EXAMPLES] = (size_t)extents->examples,
                    [HEAD_KEYS] = (size_t)extents->key_heads,
                    [HEAD_SHARED] = (size_t)(extents->heads / extents->key_heads)},
        .queries = extents->queries,
        .keys = extents->keys,
        .size = extents->size,
        .value_size = extents->value_size,
        .first = extents->first,
        .left = -1,
        .right = -1,
        .limit = extents->keys};
    double fallback = extents->size ? 1 / sqrt((double)extents->size) : 1;
    attention->scale = (float)net_attribute_number(call->node, "scale", fallback);
    if (attention->scale == 0 && call->node->op->domain) /* ONNX Runtime's way to say none */
        attention->scale = (float)fallback;
    return 0;
}

/* Sets the steps of the axes of heads; an operand has as many heads as queries or keys. */
static void set_steps(const struct attention *attention, size_t *steps, int64_t heads,
                      size_t example, size_t head)
{
    size_t shared = attention->extents[HEAD_SHARED];
    bool of_queries = (size_t)heads == attention->extents[HEAD_KEYS] * shared;
    steps[HEAD_EXAMPLES] = example;
    steps[HEAD_KEYS] = of_queries ? shared * head : head;
    steps[HEAD_SHARED] = of_queries ? head : 0;
}

struct attention_operand attention_by_row(const struct attention *attention, int64_t heads,
                                          int64_t rows, int64_t size, int64_t row)
{
    struct attention_operand operand = {.row = row ? row : 1};
    set_steps(attention, operand.steps, heads, (size_t)rows * (size_t)row, (size_t)size);
    return operand;
}

struct attention_operand attention_by_head(const struct attention *attention, int64_t heads,
                                           int64_t rows, int64_t size)
{
    struct attention_operand operand = {.row = size ? size : 1};
    size_t head = (size_t)rows * (size_t)size;
    set_steps(attention, operand.steps, heads, (size_t)heads * head, head);
    return operand;
}

/* The same for a tensor whose axes may differ from the input's. */
static int add_mask(const struct net_call *call, struct attention *attention,
                    const struct net_tensor *tensor, bool padded, struct ivon_error *error)
{
    int64_t heads = (int64_t)(attention->extents[HEAD_KEYS] * attention->extents[HEAD_SHARED]);
    int64_t scores[] = {(int64_t)attention->extents[HEAD_EXAMPLES], heads, attention->queries,
                        attention->keys};
    char found[256];
    int64_t own[4] = {1, 1, 1, 1};
    bool fits = tensor->rank <= 4;
    for (int i = 0; i < tensor->rank && fits; i++) {
        int axis = 4 - tensor->rank + i;
        own[axis] = tensor->shape[i];
        fits = own[axis] == 1 || own[axis] == scores[axis] ||
               (axis == 3 && padded && own[axis] < scores[axis]);
    }
    if (!fits)
        return net_fail(call, error,
                        "a mask of shape %s, expected one for %" PRId64 "x%" PRId64 "x%" PRId64
                        "x%" PRId64 " scores",
                        net_shape_text(tensor, found), scores[0], scores[1], scores[2], scores[3]);
    struct attention_mask *mask = &attention->masks[attention->mask_count++];
    *mask = (struct attention_mask){
        .type = tensor->type, .below = -INFINITY, .count = tensor->count};
    size_t steps[4], step = 1;
    for (int axis = 3; axis >= 0; axis--) {
        bool same = own[axis] == 1 && scores[axis] != 1;
        steps[axis] = same ? 0 : step;
        step *= (size_t)own[axis];
        mask->repeated |= same;
    }
    if (steps[3] && own[3] < attention->limit)
        attention->limit = own[3];
    mask->query = steps[2];
    mask->key = steps[3];
    set_steps(attention, mask->steps, heads, steps[0], steps[1]);
    return 0;
}

int attention_add_mask(const struct net_call *call, struct attention *attention, size_t input,
                       bool padded, struct ivon_error *error)
{
    return add_mask(call, attention, call->inputs[input], padded, error);
}

int attention_add_padding(const struct net_call *call, struct attention *attention, size_t input,
                          struct ivon_error *error)
{
    const struct net_tensor *tensor = net_input(call, input);
    char text[256];
    if (!tensor)
        return 0;
    if (tensor->type == NET_FLOAT || tensor->rank < 1 || tensor->rank > 3)
        return net_fail(call, error, "a mask of %s of shape %s, expected integers",
                        net_type_name(tensor->type), net_shape_text(tensor, text));
    if (tensor->rank == 1) {
        if (tensor->type == NET_INTEGER && (size_t)tensor->shape[0] == attention->extents[0])
            return 0;
        return net_fail(call, error, "a mask of shape %s, expected one length for each example",
                        net_shape_text(tensor, text));
    }
    struct net_tensor spread = *tensor; /* over heads, and over queries */
    spread.rank = 4;
    spread.shape[1] = 1;
    spread.shape[2] = tensor->rank == 3 ? tensor->shape[1] : 1;
    spread.shape[3] = tensor->shape[tensor->rank - 1];
    int code = add_mask(call, attention, &spread, false, error);
    if (!code)
        attention->masks[attention->mask_count - 1].below = (float)net_attribute_number(
            call->node, "mask_filter_value", -10000);
    return code;
}

int attention_add_bias(const struct net_call *call, struct attention *attention, size_t input,
                       struct ivon_error *error)
{
    if (!net_input(call, input))
        return 0;
    int code = net_expect_float(call, input, error);
    return code ? code : attention_add_mask(call, attention, input, false, error);
}

void attention_set_masks(const struct net_call *call, size_t padding, size_t bias,
                         struct attention_values *values)
{
    const struct net_tensor *tensor = net_input(call, padding);
    size_t count = 0;
    if (tensor && tensor->rank == 1)
        values->lengths = tensor->data;
    else if (tensor)
        values->masks[count++] = tensor->data;
    if (net_input(call, bias))
        values->masks[count] = call->inputs[bias]->data;
}
