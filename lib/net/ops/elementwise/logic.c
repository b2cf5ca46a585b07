/* Comparisons, logic, and choice. */
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/elementwise/blockwise.h"

enum { NUMBERS = 1U << NET_FLOAT | 1U << NET_INTEGER, ANY = NUMBERS | 1U << NET_BOOLEAN };

/* Comparisons, which are false where one side is NaN. */

static int compare_infer(struct net_call *call, unsigned types, struct ivon_error *error)
{
    int code = block_expect(call, 0, types, error);
    if (!code)
        code = block_expect(call, 1, 1U << call->inputs[0]->type, error);
    return code ? code : block_infer(call, NET_BOOLEAN, 2, error);
}

static int logic_number_infer(struct net_call *call, struct ivon_error *error)
{
    return compare_infer(call, NUMBERS, error);
}

static int any_infer(struct net_call *call, struct ivon_error *error)
{
    return compare_infer(call, ANY, error);
}

static int logic_infer(struct net_call *call, struct ivon_error *error)
{
    return compare_infer(call, 1U << NET_BOOLEAN, error);
}

#define KERNEL(name, type, operation)                                                              \
    IVON_DISPATCH static void name(void *out, const struct block *block)                           \
    {                                                                                              \
        const type *a = block->operands[0], *b = block->operands[1];                               \
        unsigned char *y = out;                                                                    \
        BLOCK_EACH(block->count)                                                                   \
        {                                                                                          \
            y[i] = a[i] operation b[i];                                                            \
        }                                                                                          \
    }
#define COMPARISON(name, operation)                                                                \
    KERNEL(name##_floats, float, operation)                                                        \
    KERNEL(name##_integers, int64_t, operation)                                                    \
    static int name##_forward(const struct net_call *call, struct ivon_error *error)               \
    {                                                                                              \
        (void)error;                                                                               \
        block_forward(call, call->inputs[0]->type == NET_FLOAT ? name##_floats : name##_integers); \
        return 0;                                                                                  \
    }
#define LOGIC(name, operation)                                                                     \
    KERNEL(name##_booleans, unsigned char, operation)                                              \
    static int name##_forward(const struct net_call *call, struct ivon_error *error)               \
    {                                                                                              \
        (void)error;                                                                               \
        block_forward(call, name##_booleans);                                                      \
        return 0;                                                                                  \
    }

COMPARISON(equal, ==)
COMPARISON(less, <)
COMPARISON(less_or_equal, <=)
COMPARISON(greater, >)
COMPARISON(greater_or_equal, >=)
LOGIC(same, ==)
LOGIC(both, &)
LOGIC(either, |)
LOGIC(one, ^)

static int any_equal_forward(const struct net_call *call, struct ivon_error *error)
{
    return call->inputs[0]->type == NET_BOOLEAN ? same_forward(call, error)
                                                : equal_forward(call, error);
}

/* Not, IsNaN. */

static int not_infer(struct net_call *call, struct ivon_error *error)
{
    int code = block_expect(call, 0, 1U << NET_BOOLEAN, error);
    return code ? code : block_infer(call, NET_BOOLEAN, 1, error);
}

static void negation(void *out, const struct block *block)
{
    const unsigned char *a = block->operands[0];
    for (size_t i = 0; i < block->count; i++)
        ((unsigned char *)out)[i] = !a[i];
}

static int not_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    block_forward(call, negation);
    return 0;
}

static int is_nan_infer(struct net_call *call, struct ivon_error *error)
{
    int code = block_expect(call, 0, 1U << NET_FLOAT, error);
    return code ? code : block_infer(call, NET_BOOLEAN, 1, error);
}

static void is_nan(void *out, const struct block *block)
{
    const float *a = block->operands[0];
    for (size_t i = 0; i < block->count; i++)
        ((unsigned char *)out)[i] = a[i] != a[i];
}

static int is_nan_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    block_forward(call, is_nan);
    return 0;
}

/* IsInf: of the signs that its attributes name, which are both unless they are 0. */

static void is_infinite(void *out, const struct block *block)
{
    const float *a = block->operands[0];
    const struct net_node *node = block->call->node;
    bool negative = net_attribute_integer(node, "detect_negative", 1) != 0;
    bool positive = net_attribute_integer(node, "detect_positive", 1) != 0;
    for (size_t i = 0; i < block->count; i++)
        ((unsigned char *)out)[i] = (positive && a[i] == INFINITY) ||
                                    (negative && a[i] == -INFINITY);
}

static int is_infinite_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    block_forward(call, is_infinite);
    return 0;
}

/* The operator Where: y = a if the condition c holds, else b. */

static int where_infer(struct net_call *call, struct ivon_error *error)
{
    int code = block_expect(call, 0, 1U << NET_BOOLEAN, error);
    if (!code)
        code = block_expect(call, 1, ANY, error);
    if (!code)
        code = block_expect(call, 2, 1U << call->inputs[1]->type, error);
    return code ? code : block_infer(call, call->inputs[1]->type, 3, error);
}

#define WHERE(name, type)                                                                          \
    IVON_DISPATCH static void name(void *out, const struct block *block)                           \
    {                                                                                              \
        const unsigned char *c = block->operands[0];                                               \
        const type *a = block->operands[1], *b = block->operands[2];                               \
        type *y = out;                                                                             \
        BLOCK_EACH(block->count)                                                                   \
        {                                                                                          \
            type yes = a[i], no = b[i];                                                            \
            y[i] = c[i] ? yes : no;                                                                \
        }                                                                                          \
    }
WHERE(where_floats, float)
WHERE(where_integers, int64_t)
WHERE(where_booleans, unsigned char)

static int where_forward(const struct net_call *call, struct ivon_error *error)
{
    static block_kernel *const kernels[] = {
        [NET_FLOAT] = where_floats, [NET_INTEGER] = where_integers, [NET_BOOLEAN] = where_booleans};
    (void)error;
    block_forward(call, kernels[call->outputs[0]->type]);
    return 0;
}

IVON_DISPATCH static void where_slope(float *out, const struct block *block, size_t which)
{
    const unsigned char *c = block->operands[0];
    unsigned char kept = which == 1;
    for (size_t i = 0; i < block->count; i++)
        out[i] = c[i] == kept ? 1 : 0;
}
BLOCK_DERIVATIVES(where)

#define ROW(title, opset, shape, run)                                                              \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 2, .inputs_max = 2, .outputs_max = 1,         \
        .infer = shape, .forward = run                                                             \
    }

const struct net_operator net_logic_operators[] = {
    ROW("Equal", 1, any_infer, any_equal_forward),
    ROW("Less", 1, logic_number_infer, less_forward),
    ROW("LessOrEqual", 12, logic_number_infer, less_or_equal_forward),
    ROW("Greater", 1, logic_number_infer, greater_forward),
    ROW("GreaterOrEqual", 12, logic_number_infer, greater_or_equal_forward),
    ROW("And", 1, logic_infer, both_forward),
    ROW("Or", 1, logic_infer, either_forward),
    ROW("Xor", 1, logic_infer, one_forward),
    {.name = "Not",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_IN_PLACE,
     .infer = not_infer,
     .forward = not_forward},
    {.name = "IsNaN",
     .since = 9,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_IS_NAN,
     .infer = is_nan_infer,
     .forward = is_nan_forward},
    {.name = "IsInf",
     .since = 10,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .attributes = {{"detect_negative", NET_INT}, {"detect_positive", NET_INT}},
     .infer = is_nan_infer,
     .forward = is_infinite_forward},
    {.name = "Where",
     .since = 9,
     .inputs_min = 3,
     .inputs_max = 3,
     .outputs_max = 1,
     .flags = NET_IN_PLACE | NET_WHERE,
     .infer = where_infer,
     .forward = where_forward,
     .backward = where_backward,
     .tangent = where_tangent},
    {0},
};
