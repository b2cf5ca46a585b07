/* Comparisons, logic, choice, and conversion between types. */
#include <inttypes.h>
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/blockwise.h"

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

/* Cast. Integers wrap to the width of the named type, all kinds of floats become float. */

static const struct {
    int64_t number; /* in ONNX's TensorProto.DataType */
    enum net_type type;
    int bits; /* of integers */
    bool has_sign;
} targets[] = {
    {.number = 1, .type = NET_FLOAT},
    {.number = 2, .type = NET_INTEGER, .bits = 8},
    {.number = 3, .type = NET_INTEGER, .bits = 8, .has_sign = true},
    {.number = 4, .type = NET_INTEGER, .bits = 16},
    {.number = 5, .type = NET_INTEGER, .bits = 16, .has_sign = true},
    {.number = 6, .type = NET_INTEGER, .bits = 32, .has_sign = true},
    {.number = 7, .type = NET_INTEGER, .bits = 64, .has_sign = true},
    {.number = 9, .type = NET_BOOLEAN},
    {.number = 10, .type = NET_FLOAT},
    {.number = 11, .type = NET_FLOAT},
    {.number = 12, .type = NET_INTEGER, .bits = 32},
    {.number = 16, .type = NET_FLOAT},
};

enum { TARGET_COUNT = sizeof targets / sizeof targets[0] };

static size_t cast_target(const struct net_call *call)
{
    int64_t number = net_attribute_integer(call->node, "to", 0);
    size_t i = 0;
    while (i < TARGET_COUNT && targets[i].number != number)
        i++;
    return i;
}

static int cast_infer(struct net_call *call, struct ivon_error *error)
{
    size_t target = cast_target(call);
    int code = block_expect(call, 0, ANY, error);
    if (code)
        return code;
    if (!net_attribute(call->node, "to"))
        return net_fail(call, error, "it has no attribute 'to'");
    if (target == TARGET_COUNT)
        return net_fail(call, error,
                        "type %" PRId64 " is not supported, expected a float, an integer or bool",
                        net_attribute_integer(call->node, "to", 0));
    return block_infer(call, targets[target].type, 1, error);
}

static int64_t wrap(int64_t value, int bits, bool has_sign)
{
    uint64_t mask = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    uint64_t sign = has_sign ? UINT64_C(1) << (bits - 1) : 0;
    return (int64_t)((((uint64_t)value & mask) ^ sign) - sign);
}

static int64_t read_integer(const void *elements, size_t i, enum net_type type)
{
    switch (type) {
    case NET_FLOAT:
        return block_truncate(((const float *)elements)[i]);
    case NET_INTEGER:
        return ((const int64_t *)elements)[i];
    default:
        return ((const unsigned char *)elements)[i];
    }
}

static void cast_to_integers(void *out, const struct block *block)
{
    size_t target = cast_target(block->call);
    enum net_type from = block->call->inputs[0]->type;
    for (size_t i = 0; i < block->count; i++)
        ((int64_t *)out)[i] = wrap(read_integer(block->operands[0], i, from), targets[target].bits,
                                   targets[target].has_sign);
}

static void cast_to_floats(void *out, const struct block *block)
{
    float *y = out;
    enum net_type from = block->call->inputs[0]->type;
    if (from == NET_FLOAT)
        memmove(out, block->operands[0], block->count * sizeof *y);
    else
        for (size_t i = 0; i < block->count; i++)
            y[i] = (float)read_integer(block->operands[0], i, from);
}

static void cast_to_booleans(void *out, const struct block *block)
{
    const void *x = block->operands[0];
    enum net_type from = block->call->inputs[0]->type;
    for (size_t i = 0; i < block->count; i++)
        ((unsigned char *)out)[i] = from == NET_FLOAT ? ((const float *)x)[i] != 0
                                                      : read_integer(x, i, from) != 0;
}

static int cast_forward(const struct net_call *call, struct ivon_error *error)
{
    static block_kernel *const kernels[] = {[NET_FLOAT] = cast_to_floats,
                                            [NET_INTEGER] = cast_to_integers,
                                            [NET_BOOLEAN] = cast_to_booleans};
    (void)error;
    block_forward(call, kernels[call->outputs[0]->type]);
    return 0;
}

/* From floats to floats. */
static void cast_slope(float *out, const struct block *block, size_t which)
{
    (void)which;
    for (size_t i = 0; i < block->count; i++)
        out[i] = 1;
}
BLOCK_DERIVATIVES(cast)

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
    {.name = "Where",
     .since = 9,
     .inputs_min = 3,
     .inputs_max = 3,
     .outputs_max = 1,
     .flags = NET_IN_PLACE | NET_SELECT,
     .infer = where_infer,
     .forward = where_forward,
     .backward = where_backward,
     .tangent = where_tangent},
    {.name = "Cast",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_IN_PLACE,
     .attributes = {{"to", NET_INT}},
     .infer = cast_infer,
     .forward = cast_forward,
     .backward = cast_backward,
     .tangent = cast_tangent},
    {0},
};
