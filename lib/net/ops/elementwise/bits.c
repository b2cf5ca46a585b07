/* Integers as bits. ONNX's are of 8 to 64 bits, with or without sign; tensors have 64 and a sign
   here, so that the complement of a number without sign, and what a shift to the left moves beyond
   a type's width, are not as there. */
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/elementwise/blockwise.h"

static int bits_infer(struct net_call *call, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < call->node->input_count && !code; i++)
        code = block_expect(call, i, 1U << NET_INTEGER, error);
    return code ? code : block_infer(call, NET_INTEGER, SIZE_MAX, error);
}

static int bits_shift_infer(struct net_call *call, struct ivon_error *error)
{
    const char *direction = net_attribute_text(call->node, "direction", "");
    if (strcmp(direction, "LEFT") != 0 && strcmp(direction, "RIGHT") != 0)
        return net_fail(call, error, "direction is '%s', expected LEFT or RIGHT", direction);
    return bits_infer(call, error);
}

static void bits_shift(void *out, const struct block *block)
{
    bool left = strcmp(net_attribute_text(block->call->node, "direction", ""), "LEFT") == 0;
    const uint64_t *a = block->operands[0], *b = block->operands[1];
    uint64_t *y = out;
    for (size_t i = 0; i < block->count; i++)
        y[i] = b[i] >= 64 ? 0 : left ? a[i] << b[i] : a[i] >> b[i];
}

#define BITWISE(name, operation)                                                                   \
    IVON_DISPATCH static void bits_##name(void *out, const struct block *block)                    \
    {                                                                                              \
        const uint64_t *a = block->operands[0], *b = block->operands[1];                           \
        uint64_t *y = out;                                                                         \
        BLOCK_EACH(block->count)                                                                   \
        {                                                                                          \
            y[i] = a[i] operation b[i];                                                            \
        }                                                                                          \
    }
BITWISE(and, &)
BITWISE(or, |)
BITWISE(exclusive, ^)

static void bits_complement(void *out, const struct block *block)
{
    const uint64_t *a = block->operands[0];
    for (size_t i = 0; i < block->count; i++)
        ((uint64_t *)out)[i] = ~a[i];
}

#define FORWARD(name)                                                                              \
    static int bits_##name##_forward(const struct net_call *call, struct ivon_error *error)        \
    {                                                                                              \
        (void)error;                                                                               \
        block_forward(call, bits_##name);                                                          \
        return 0;                                                                                  \
    }
FORWARD(shift)
FORWARD(and)
FORWARD(or)
FORWARD(exclusive)
FORWARD(complement)

#define BITWISE_ROW(title, opset, inputs, run)                                                     \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = inputs, .inputs_max = inputs,                 \
        .outputs_max = 1, .flags = NET_IN_PLACE, .infer = bits_infer, .forward = run               \
    }

const struct net_operator net_bits_operators[] = {
    {.name = "BitShift",
     .since = 11,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .flags = NET_IN_PLACE,
     .attributes = {{"direction", NET_TEXT}},
     .infer = bits_shift_infer,
     .forward = bits_shift_forward},
    BITWISE_ROW("BitwiseAnd", 18, 2, bits_and_forward),
    BITWISE_ROW("BitwiseOr", 18, 2, bits_or_forward),
    BITWISE_ROW("BitwiseXor", 18, 2, bits_exclusive_forward),
    BITWISE_ROW("BitwiseNot", 18, 1, bits_complement_forward),
    {0},
};
