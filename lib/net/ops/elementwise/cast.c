/*
 * Cast; CastLike, which takes the type of its second input; and BitCast. Integers wrap to the width
 * of the named type. Floats stay floats; where the named type has 16 bits, they are rounded to what
 * it can hold, to nearest even, and those of float16 that are too large become infinite.
 *
 * Derivatives pass a rounding as if it were the identity, as those of PyTorch do: networks of mixed
 * precision cast to 16 bits and back, and the slope of the steps would be 0.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "net/graph/rules.h"
#include "net/ops/elementwise/blockwise.h"

enum rounding { CAST_EXACT, CAST_HALF, CAST_BRAIN };

struct cast {
    int64_t number; /* in ONNX's TensorProto.DataType */
    enum net_type type;
    int bits; /* of integers */
    bool has_sign;
    enum rounding rounding; /* of floats */
};

static const struct cast targets[] = {
    {.number = 1, .type = NET_FLOAT},
    {.number = 2, .type = NET_INTEGER, .bits = 8},
    {.number = 3, .type = NET_INTEGER, .bits = 8, .has_sign = true},
    {.number = 4, .type = NET_INTEGER, .bits = 16},
    {.number = 5, .type = NET_INTEGER, .bits = 16, .has_sign = true},
    {.number = 6, .type = NET_INTEGER, .bits = 32, .has_sign = true},
    {.number = 7, .type = NET_INTEGER, .bits = 64, .has_sign = true},
    {.number = 9, .type = NET_BOOLEAN},
    {.number = 10, .type = NET_FLOAT, .rounding = CAST_HALF},
    {.number = 11, .type = NET_FLOAT},
    {.number = 12, .type = NET_INTEGER, .bits = 32},
    {.number = 16, .type = NET_FLOAT, .rounding = CAST_BRAIN},
};

enum { TARGET_COUNT = sizeof targets / sizeof targets[0] };

/* The row of another number where there is none of this one. */
static const struct cast *cast_find(int64_t number)
{
    size_t i = 0;
    while (i + 1 < TARGET_COUNT && targets[i].number != number)
        i++;
    return &targets[i];
}

/* Integers. */

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

static void cast_to_integers(const struct cast *to, int64_t *y, const struct net_tensor *x)
{
    for (size_t i = 0; i < x->count; i++)
        y[i] = wrap(read_integer(x->data, i, x->type), to->bits, to->has_sign);
}

static void cast_to_booleans(unsigned char *y, const struct net_tensor *x)
{
    for (size_t i = 0; i < x->count; i++)
        y[i] = x->type == NET_FLOAT ? ((const float *)x->data)[i] != 0
                                    : read_integer(x->data, i, x->type) != 0;
}

/* Floats. */

/* Of float16, numbers below 2^-14 are multiples of 2^-24, as floats in [1/2, 1) are. From 65520 on
   they round to 2^16, which is none of them. */
static inline float cast_half(float x)
{
    uint32_t bits = vector_bits(x) & 0x7fffffff;
    float size = vector_float(bits), small = (size + 0.5F) - 0.5F;
    float rounded = vector_float((bits + 0xfff + (bits >> 13 & 1)) & ~UINT32_C(0x1fff));
    rounded = size < 0x1p-14F ? small : rounded;
    rounded = rounded >= 0x1p+16F ? INFINITY : rounded;
    return x != x ? x : vector_copysign(rounded, x);
}

/* bfloat16 is the upper half of a float. */
static inline float cast_brain(float x)
{
    uint32_t bits = vector_bits(x);
    return x != x ? x : vector_float((bits + 0x7fff + (bits >> 16 & 1)) & ~UINT32_C(0xffff));
}

IVON_DISPATCH static void cast_round(enum rounding rounding, float *y, size_t count)
{
    for (size_t i = 0; i < count && rounding == CAST_HALF; i++)
        y[i] = cast_half(y[i]);
    for (size_t i = 0; i < count && rounding == CAST_BRAIN; i++)
        y[i] = cast_brain(y[i]);
}

static void cast_to_floats(const struct cast *to, float *y, const struct net_tensor *x)
{
    if (x->type == NET_FLOAT && y != x->data && x->count)
        memcpy(y, x->data, x->count * sizeof *y);
    for (size_t i = 0; x->type != NET_FLOAT && i < x->count; i++)
        y[i] = (float)read_integer(x->data, i, x->type);
    cast_round(to->rounding, y, x->count);
}

static int cast_run(const struct net_call *call, const struct cast *to)
{
    void *y = call->outputs[0]->data;
    if (to->type == NET_FLOAT)
        cast_to_floats(to, y, call->inputs[0]);
    else if (to->type == NET_INTEGER)
        cast_to_integers(to, y, call->inputs[0]);
    else
        cast_to_booleans(y, call->inputs[0]);
    return 0;
}

/* Only the types of fewer than 16 bits, which are not supported, ask for the attributes saturate
   and round_mode. */

static int cast_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = net_input(call, 0);
    int64_t number = net_attribute_integer(call->node, "to", 0);
    const struct cast *to = cast_find(number);
    if (!x)
        return net_fail(call, error, "input 0 is left out");
    if (!net_attribute(call->node, "to"))
        return net_fail(call, error, "it has no attribute 'to'");
    if (to->number != number)
        return net_fail(call, error,
                        "type %" PRId64 " is not supported, expected a float, an integer or bool",
                        number);
    return net_output(call, 0, to->type, x->rank, x->shape, error);
}

static int cast_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    return cast_run(call, cast_find(net_attribute_integer(call->node, "to", 0)));
}

static int cast_like_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = net_input(call, 0), *like = net_input(call, 1);
    if (!x || !like)
        return net_fail(call, error, "an input is left out");
    return net_output(call, 0, like->type, x->rank, x->shape, error);
}

/* Of the types that tensors have here: widths are not known. */
static int cast_like_forward(const struct net_call *call, struct ivon_error *error)
{
    static const int64_t numbers[] = {[NET_FLOAT] = 1, [NET_INTEGER] = 7, [NET_BOOLEAN] = 9};
    (void)error;
    return cast_run(call, cast_find(numbers[call->outputs[0]->type]));
}

static void cast_backward(const struct net_call *call, const float *const *output_adjoints,
                          float *const *input_adjoints)
{
    const struct net_tensor *x = call->inputs[0];
    const float *dy = output_adjoints[0];
    float *dx = x->type == NET_FLOAT ? input_adjoints[0] : NULL;
    for (size_t i = 0; dx && dy && i < x->count; i++)
        dx[i] += dy[i];
}

static void cast_tangent(const struct net_call *call, const float *const *input_tangents,
                         float *const *output_tangents)
{
    const struct net_tensor *x = call->inputs[0];
    if (!output_tangents[0] || !x->count)
        return;
    if (x->type == NET_FLOAT && input_tangents[0])
        memcpy(output_tangents[0], input_tangents[0], x->count * sizeof(float));
    else
        memset(output_tangents[0], 0, x->count * sizeof(float));
}

/*
 * BitCast: the same bits as another type, which has as many. Floats have the bits of a float, or of
 * a double if the other type has 64; integers those of their lower digits. There are none of 16
 * bits, whose integers would be floats of half precision.
 */

static int bit_cast_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = net_input(call, 0);
    int64_t number = net_attribute_integer(call->node, "to", 0);
    const struct cast *to = cast_find(number);
    if (!x)
        return net_fail(call, error, "input 0 is left out");
    bool between = x->type != to->type && (x->type == NET_FLOAT || to->type == NET_FLOAT);
    if (to->number != number || to->rounding != CAST_EXACT ||
        (between && (x->type == NET_BOOLEAN || to->type == NET_BOOLEAN ||
                     (to->type == NET_INTEGER && to->bits < 32))))
        return net_fail(call, error, "bits of %s as type %" PRId64 " are not supported",
                        net_type_name(x->type), number);
    return net_output(call, 0, to->type, x->rank, x->shape, error);
}

static void bit_cast_floats(const struct cast *to, int64_t *y, const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double wide = (double)x[i];
        if (to->bits == 64)
            memcpy(&y[i], &wide, sizeof wide);
        else
            y[i] = wrap(vector_bits(x[i]), to->bits, to->has_sign);
    }
}

static void bit_cast_integers(bool doubles, float *y, const int64_t *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double wide;
        memcpy(&wide, &x[i], sizeof wide);
        y[i] = doubles ? (float)wide : vector_float((uint32_t)x[i]);
    }
}

static int bit_cast_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct cast *to = cast_find(net_attribute_integer(call->node, "to", 0));
    const struct net_tensor *x = call->inputs[0];
    void *y = call->outputs[0]->data;
    if (x->type == NET_FLOAT && to->type == NET_INTEGER)
        bit_cast_floats(to, y, x->data, x->count);
    else if (x->type == NET_INTEGER && to->type == NET_FLOAT)
        bit_cast_integers(to->number == 11, y, x->data, x->count);
    else
        cast_run(call, to);
    return 0;
}

const struct net_operator net_cast_operators[] = {
    {.name = "Cast",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_IN_PLACE | NET_CAST,
     .attributes = {{"to", NET_INT}, {"saturate", NET_INT}, {"round_mode", NET_TEXT}},
     .later = {{"saturate", 19}, {"round_mode", 24}},
     .infer = cast_infer,
     .forward = cast_forward,
     .backward = cast_backward,
     .tangent = cast_tangent},
    {.name = "CastLike",
     .since = 15,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .attributes = {{"saturate", NET_INT}, {"round_mode", NET_TEXT}},
     .later = {{"saturate", 19}, {"round_mode", 24}},
     .infer = cast_like_infer,
     .forward = cast_like_forward,
     .backward = cast_backward,
     .tangent = cast_tangent},
    {.name = "BitCast",
     .since = 26,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .attributes = {{"to", NET_INT}},
     .infer = bit_cast_infer,
     .forward = bit_cast_forward},
    {0},
};
