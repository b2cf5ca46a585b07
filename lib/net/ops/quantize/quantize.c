/* QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear. */
#include "net/ops/quantize/quantize.h"

#include <inttypes.h>

#include "net/graph/rules.h"

/* Types. */

static const struct {
    int64_t low, high;
    int64_t data_type; /* ONNX's number */
} integers[] = {[NET_ANY_INTEGERS] = {0, 0, 0},
                [NET_UINT8] = {0, UINT8_MAX, 2},
                [NET_INT8] = {INT8_MIN, INT8_MAX, 3},
                [NET_UINT16] = {0, UINT16_MAX, 4},
                [NET_INT16] = {INT16_MIN, INT16_MAX, 5}};

enum { INTEGER_KINDS = sizeof integers / sizeof integers[0] };

int quantize_read_type(const struct net_call *call, size_t zero, int64_t data_type,
                       enum net_integers *type, struct ivon_error *error)
{
    const struct net_tensor *input = net_input(call, zero);
    *type = input ? input->integers : NET_UINT8;
    for (int i = NET_INT8; i < INTEGER_KINDS && data_type && !input; i++)
        if (integers[i].data_type == data_type) {
            *type = (enum net_integers)i;
            return 0;
        }
    if (data_type && !input)
        return net_fail(call, error, "integers of ONNX's type %" PRId64 " are not supported",
                        data_type);
    if (*type == NET_ANY_INTEGERS)
        return net_fail(call, error,
                        "input %zu, the zero, is computed, or of integers of more than 16 bits",
                        zero);
    return 0;
}

int64_t quantize_saturate(float x, int64_t zero, enum net_integers type)
{
    double low = (double)integers[type].low, high = (double)integers[type].high;
    double value = (double)vector_round(x) + (double)zero;
    return value >= low ? (int64_t)(value <= high ? value : high) : integers[type].low;
}

int64_t quantize_zero(const struct net_tensor *zeros, size_t place)
{
    return zeros ? ((const int64_t *)zeros->data)[place] : 0;
}

/* Places. */

/* Blocks: of the input's rank, and as many along the axis as cover it. */
static bool has_blocks(const struct net_tensor *x, const struct net_tensor *scale, int axis,
                       int64_t block)
{
    if (scale->rank != x->rank || block < 1)
        return false;
    for (int i = 0; i < x->rank; i++) {
        int64_t blocks = x->shape[i] / block + (x->shape[i] % block != 0);
        if (scale->shape[i] != (i == axis ? blocks : x->shape[i]))
            return false;
    }
    return true;
}

int quantize_read_places(const struct net_call *call, const struct net_tensor *x, size_t scale,
                         int64_t axis, int64_t block, struct quantize_places *places,
                         struct ivon_error *error)
{
    const struct net_tensor *s = call->inputs[scale], *zero = net_input(call, scale + 1);
    char a[256], b[256];
    int code = net_expect_float(call, scale, error);
    if (code)
        return code;
    if (zero && (zero->type != NET_INTEGER || zero->count != s->count))
        return net_fail(call, error, "%s of shape %s for scales of shape %s",
                        net_type_name(zero->type), net_shape_text(zero, a), net_shape_text(s, b));
    *places = (struct quantize_places){.length = 1, .inner = 1};
    if (s->count == 1 && block == 0)
        return 0;
    int at = net_axis(axis, x->rank);
    bool blocked = block != 0;
    if (at < 0 ||
        (blocked ? !has_blocks(x, s, at, block) : s->rank != 1 || s->shape[0] != x->shape[at]))
        return net_fail(call, error,
                        "scales of shape %s for an input of shape %s, axis %" PRId64
                        " and blocks of %" PRId64,
                        net_shape_text(s, a), net_shape_text(x, b), axis, block);
    if (!x->count)
        return 0;
    places->length = (size_t)x->shape[at];
    for (int i = at + 1; i < x->rank; i++)
        places->inner *= (size_t)x->shape[i];
    places->block = blocked ? (size_t)block : 1;
    places->blocks = blocked ? (size_t)s->shape[at] : 0;
    places->by_inner = blocked;
    return 0;
}

/* QuantizeLinear: q = round(x / scale) + zero. */

enum { X, SCALE, ZERO };

struct quantize {
    struct quantize_places places;
    enum net_integers type; /* of the output */
};

static int quantize_prepare(struct net_call *call, struct quantize **quantize,
                            struct ivon_error *error)
{
    const struct net_node *node = call->node;
    *quantize = net_prepare(call, sizeof **quantize, error);
    if (!*quantize)
        return IVON_ERROR_MEMORY;
    return quantize_read_places(
        call, call->inputs[X], SCALE, net_attribute_integer(node, "axis", 1),
        net_attribute_integer(node, "block_size", 0), &(*quantize)->places, error);
}

static int quantize_infer(struct net_call *call, struct ivon_error *error)
{
    struct quantize *quantize;
    int64_t type = net_attribute_integer(call->node, "output_dtype", 0);
    int code = net_expect_float(call, X, error);
    if (!code)
        code = quantize_prepare(call, &quantize, error);
    if (!code)
        code = quantize_read_type(call, ZERO, type, &quantize->type, error);
    if (code)
        return code;
    if (call->outputs[0])
        call->outputs[0]->integers = quantize->type;
    return net_output(call, 0, NET_INTEGER, call->inputs[X]->rank, call->inputs[X]->shape, error);
}

static int quantize_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct quantize *quantize = call->prepared;
    const float *x = call->inputs[X]->data, *scale = call->inputs[SCALE]->data;
    const struct net_tensor *zeros = net_input(call, ZERO);
    int64_t *q = call->outputs[0]->data;
    for (size_t i = 0; i < call->outputs[0]->count; i++) {
        size_t place = quantize_place(&quantize->places, i);
        q[i] = quantize_saturate(x[i] / scale[place], quantize_zero(zeros, place), quantize->type);
    }
    return 0;
}

/* DequantizeLinear: x = scale (q − zero). */

static int dequantize_infer(struct net_call *call, struct ivon_error *error)
{
    struct quantize *quantize;
    const struct net_tensor *q = call->inputs[X];
    if (!q || q->type != NET_INTEGER)
        return net_fail(call, error, "input 0 is no tensor of integers");
    int64_t type = net_attribute_integer(call->node, "output_dtype", 0);
    enum { FLOAT = 1, FLOAT16 = 10, BFLOAT16 = 16 };
    if (type && type != FLOAT && type != FLOAT16 && type != BFLOAT16)
        return net_fail(call, error, "output_dtype %" PRId64 ", expected a type of floats", type);
    int code = quantize_prepare(call, &quantize, error);
    if (code)
        return code;
    call->workspace_size = call->inputs[SCALE]->count * sizeof(double);
    return net_output(call, 0, NET_FLOAT, q->rank, q->shape, error);
}

static float dequantize_steps(const struct net_call *call, size_t i, size_t *place)
{
    const struct quantize *quantize = call->prepared;
    *place = quantize_place(&quantize->places, i);
    uint64_t q = (uint64_t)((const int64_t *)call->inputs[X]->data)[i];
    return (float)(int64_t)(q - (uint64_t)quantize_zero(net_input(call, ZERO), *place));
}

static int dequantize_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const float *scale = call->inputs[SCALE]->data;
    float *x = call->outputs[0]->data;
    size_t place;
    for (size_t i = 0; i < call->outputs[0]->count; i++) {
        float steps = dequantize_steps(call, i, &place);
        x[i] = steps * scale[place];
    }
    return 0;
}

static void dequantize_backward(const struct net_call *call, const float *const *output_adjoints,
                                float *const *input_adjoints)
{
    const float *dx = output_adjoints[0];
    float *to = input_adjoints[SCALE];
    double *sums = call->workspace;
    size_t place, count = call->inputs[SCALE]->count;
    if (!dx || !to)
        return;
    for (size_t i = 0; i < count; i++)
        sums[i] = 0;
    for (size_t i = 0; i < call->outputs[0]->count; i++) {
        double steps = (double)dequantize_steps(call, i, &place);
        sums[place] += steps * (double)dx[i];
    }
    for (size_t i = 0; i < count; i++)
        to[i] += (float)sums[i];
}

static void dequantize_tangent(const struct net_call *call, const float *const *input_tangents,
                               float *const *output_tangents)
{
    const float *scale = input_tangents[SCALE];
    float *x = output_tangents[0];
    size_t place;
    for (size_t i = 0; i < call->outputs[0]->count; i++) {
        float steps = dequantize_steps(call, i, &place);
        x[i] = scale ? steps * scale[place] : 0;
    }
}

/* DynamicQuantizeLinear: the scale and the zero of bytes that cover the input and 0. */

static int dynamic_infer(struct net_call *call, struct ivon_error *error)
{
    int code = net_expect_float(call, X, error);
    if (code)
        return code;
    for (size_t i = 0; i < call->node->output_count; i++)
        if (call->outputs[i])
            call->outputs[i]->integers = i == 1 ? NET_ANY_INTEGERS : NET_UINT8;
    code = net_output(call, 0, NET_INTEGER, call->inputs[X]->rank, call->inputs[X]->shape, error);
    for (size_t i = 1; i < call->node->output_count && !code; i++)
        code = net_output(call, i, i == 1 ? NET_FLOAT : NET_INTEGER, 0, NULL, error);
    return code;
}

static int dynamic_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const float *x = call->inputs[X]->data;
    float low = 0, high = 0;
    for (size_t i = 0; i < call->inputs[X]->count; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    float scale = high > low ? (high - low) / UINT8_MAX : 1;
    int64_t zero = quantize_saturate(-low / scale, 0, NET_UINT8);
    int64_t *q = call->outputs[0] ? call->outputs[0]->data : NULL;
    for (size_t i = 0; q && i < call->inputs[X]->count; i++)
        q[i] = quantize_saturate(x[i] / scale, zero, NET_UINT8);
    if (call->node->output_count > 1 && call->outputs[1])
        *(float *)call->outputs[1]->data = scale;
    if (call->node->output_count > 2 && call->outputs[2])
        *(int64_t *)call->outputs[2]->data = zero;
    return 0;
}

#define QUANTIZE                                                                                   \
    .inputs_min = 2, .inputs_max = 3, .outputs_max = 1, .infer = quantize_infer,                   \
    .forward = quantize_forward
#define DEQUANTIZE                                                                                 \
    .inputs_min = 2, .inputs_max = 3, .outputs_max = 1, .infer = dequantize_infer,                 \
    .forward = dequantize_forward, .backward = dequantize_backward, .tangent = dequantize_tangent

const struct net_operator net_quantize_operators[] = {
    {.name = "DequantizeLinear",
     .since = 10,
     .attributes = {{"axis", NET_INT}},
     .later = {{"axis", 13}},
     DEQUANTIZE},
    {.name = "DequantizeLinear", /* of blocks */
     .since = 21,
     .attributes = {{"axis", NET_INT}, {"block_size", NET_INT}, {"output_dtype", NET_INT}},
     .later = {{"output_dtype", 23}},
     DEQUANTIZE},
    {.name = "DynamicQuantizeLinear",
     .since = 11,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 3,
     .infer = dynamic_infer,
     .forward = dynamic_forward},
    {.name = "QuantizeLinear",
     .since = 10,
     .attributes = {{"axis", NET_INT}, {"saturate", NET_INT}}, /* that of 8-bit floats */
     .later = {{"axis", 13}, {"saturate", 19}},
     QUANTIZE},
    {.name = "QuantizeLinear", /* of blocks */
     .since = 21,
     .attributes = {{"axis", NET_INT},
                    {"block_size", NET_INT},
                    {"output_dtype", NET_INT},
                    {"precision", NET_INT}, /* it is float here */
                    {"saturate", NET_INT}},
     .later = {{"precision", 23}},
     QUANTIZE},
    {0}};
