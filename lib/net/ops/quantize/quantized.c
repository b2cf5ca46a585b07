/*
 * Products and convolutions of integers: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv.
 * The integers less their zeros are floats of at most 17 bits, on which ONNX's operator of floats
 * runs; of 8-bit integers every sum below 2^24 is exact, which are 258 of the largest terms.
 */
#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "net/graph/rules.h"
#include "net/ops/quantize/quantize.h"

/* The inputs of a row. */
struct quantized_row {
    const char *name;                           /* of the operator of floats */
    size_t a, b, zero_a, zero_b;                /* operands and their zeros */
    size_t scale_a, scale_b, scale, zero, bias; /* NET_NONE: the output is the integers' product */
    int axis_b, axis; /* of the second operand, of the output: with own scales */
};

static const struct quantized_row matmul_integer = {
    "MatMul", 0, 1, 2, 3, NET_NONE, NET_NONE, NET_NONE, NET_NONE, NET_NONE, -1, -1};
static const struct quantized_row conv_integer = {
    "Conv", 0, 1, 2, 3, NET_NONE, NET_NONE, NET_NONE, NET_NONE, NET_NONE, 0, 1};
static const struct quantized_row qlinear_matmul = {"MatMul", 0, 3, 2,        5,  1,
                                                    4,        6, 7, NET_NONE, -1, -1};
static const struct quantized_row qlinear_conv = {"Conv", 0, 3, 2, 5, 1, 4, 6, 7, 8, 0, 1};

struct quantized {
    const struct quantized_row *row;
    struct net_node node; /* of the operator of floats */
    struct net_tensor a, b, y;
    size_t offsets[3]; /* bytes, from the workspace's start to the floats of a, b and y */
    struct quantize_places of_b, of_y; /* places in lists of the second operand's numbers */
    enum net_integers type;            /* of the output */
};

/* The call of floats; `lists` are its lists of inputs and outputs. */
static struct net_call quantized_call(struct quantized *q, struct net_tensor *lists[3])
{
    lists[0] = &q->a;
    lists[1] = &q->b;
    lists[2] = &q->y;
    return (struct net_call){.node = &q->node, .inputs = &lists[0], .outputs = &lists[2]};
}

/* Shapes. */

/* Fails unless an input is there and of a type. */
static int expect_type(const struct net_call *call, size_t input, enum net_type type,
                       struct ivon_error *error)
{
    const struct net_tensor *tensor = net_input(call, input);
    if (tensor && tensor->type == type)
        return 0;
    return net_fail(call, error, "input %zu is %s, expected %s", input,
                    tensor ? net_type_name(tensor->type) : "left out", net_type_name(type));
}

/* Fails unless an input holds one number, or, with `many`, a list of so many. */
static int expect_list(const struct net_call *call, size_t input, enum net_type type, int64_t many,
                       struct ivon_error *error)
{
    int code = expect_type(call, input, type, error);
    const struct net_tensor *tensor = net_input(call, input);
    char text[256];
    if (code || tensor->count == 1 || (many && tensor->rank == 1 && tensor->shape[0] == many))
        return code;
    return net_fail(call, error, "input %zu of shape %s, expected one number%s", input,
                    net_shape_text(tensor, text), many ? " or one of each column" : "");
}

/* The places along an axis of a tensor. */
static struct quantize_places list_places(const struct net_tensor *tensor, int axis)
{
    struct quantize_places places = {.length = 1, .inner = 1, .block = 1};
    axis = net_axis(axis, tensor->rank);
    if (!tensor->count || axis < 0)
        return places;
    places.length = (size_t)tensor->shape[axis];
    for (int i = axis + 1; i < tensor->rank; i++)
        places.inner *= (size_t)tensor->shape[i];
    return places;
}

static int quantized_check(const struct net_call *call, const struct quantized_row *row,
                           struct ivon_error *error)
{
    int code = expect_type(call, row->a, NET_INTEGER, error);
    if (!code)
        code = expect_type(call, row->b, NET_INTEGER, error);
    if (code)
        return code;
    const struct net_tensor *b = call->inputs[row->b];
    int axis = net_axis(row->axis_b, b->rank);
    int64_t many = axis < 0 ? 0 : b->shape[axis];
    const struct {
        size_t input;
        enum net_type type;
        int64_t many;
    } lists[] = {{row->zero_a, NET_INTEGER, 0}, {row->zero_b, NET_INTEGER, many},
                 {row->scale_a, NET_FLOAT, 0},  {row->scale_b, NET_FLOAT, many},
                 {row->scale, NET_FLOAT, 0},    {row->zero, NET_INTEGER, 0},
                 {row->bias, NET_INTEGER, many}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0] && !code; i++) {
        bool may_lack = row->scale == NET_NONE || lists[i].input == row->bias;
        if (lists[i].input != NET_NONE && (net_input(call, lists[i].input) || !may_lack))
            code = expect_list(call, lists[i].input, lists[i].type, lists[i].many, error);
    }
    return code;
}

/* Sets the tensors of floats, and the workspace behind that of their call. */
static int quantized_place(struct net_call *call, struct quantized *q, struct ivon_error *error)
{
    struct net_tensor *lists[3];
    const struct net_tensor *a = call->inputs[q->row->a], *b = call->inputs[q->row->b];
    int code = net_tensor_set(&q->a, NET_FLOAT, a->rank, a->shape, error);
    if (!code)
        code = net_tensor_set(&q->b, NET_FLOAT, b->rank, b->shape, error);
    struct net_call inner = quantized_call(q, lists);
    if (!code)
        code = inner.node->op->infer(&inner, error);
    free(inner.prepared); /* it is prepared again when it runs */
    if (code)
        return code;
    size_t size = memory_rounded(inner.workspace_size);
    for (int i = 0; i < 3; i++) {
        q->offsets[i] = size;
        if (lists[i]->count > PTRDIFF_MAX / 64)
            return net_fail(call, error, "the operands are too large");
        size += memory_rounded(lists[i]->count * sizeof(float));
    }
    call->workspace_size = size;
    return 0;
}

static int quantized_infer(struct net_call *call, const struct quantized_row *row,
                           struct ivon_error *error)
{
    int code = quantized_check(call, row, error);
    if (code)
        return code;
    struct quantized *q = net_prepare(call, sizeof *q, error);
    if (!q)
        return IVON_ERROR_MEMORY;
    q->row = row;
    q->node = *call->node;
    q->node.op = net_operator_find(NULL, row->name, NET_OPSET_MOST);
    q->node.input_count = 2;
    q->node.output_count = 1;
    code = quantized_place(call, q, error);
    if (!code && row->scale != NET_NONE)
        code = quantize_read_type(call, row->zero, 0, &q->type, error);
    if (code)
        return code;
    q->of_b = list_places(call->inputs[row->b], row->axis_b);
    q->of_y = list_places(&q->y, row->axis);
    if (call->outputs[0])
        call->outputs[0]->integers = q->type;
    return net_output(call, 0, NET_INTEGER, q->y.rank, q->y.shape, error);
}

/* Running. */

/* Writes the integers of an input less their zeros. */
static int quantized_floats(const struct net_call *call, size_t input, size_t zero,
                            const struct quantize_places *places, float *floats,
                            struct ivon_error *error)
{
    const struct net_tensor *tensor = call->inputs[input], *zeros = net_input(call, zero);
    const int64_t *from = tensor->data, most = UINT16_MAX;
    bool many = zeros && zeros->count > 1;
    for (size_t i = 0; i < tensor->count; i++) {
        int64_t z = quantize_zero(zeros, many ? quantize_place(places, i) : 0);
        if (from[i] < -most || from[i] > most || z < -most || z > most)
            return net_fail(call, error, "input %zu has integers of more than 16 bits", input);
        floats[i] = (float)(from[i] - z);
    }
    return 0;
}

/* The number of a list at a place, or its only one. */
static double list_number(const struct net_call *call, size_t input, size_t place)
{
    const struct net_tensor *list = net_input(call, input);
    if (!list)
        return 0;
    place = list->count > 1 ? place : 0;
    return list->type == NET_FLOAT ? (double)((const float *)list->data)[place]
                                   : (double)((const int64_t *)list->data)[place];
}

static void quantized_write(const struct net_call *call, const struct quantized *q, const float *y)
{
    const struct quantized_row *row = q->row;
    int64_t *out = call->outputs[0]->data;
    if (row->scale == NET_NONE) {
        for (size_t i = 0; i < q->y.count; i++)
            out[i] = (int64_t)vector_round(y[i]);
        return;
    }
    int64_t zero = (int64_t)list_number(call, row->zero, 0);
    double factor = list_number(call, row->scale_a, 0) / list_number(call, row->scale, 0);
    for (size_t i = 0; i < q->y.count; i++) {
        size_t place = quantize_place(&q->of_y, i);
        double sum = (double)y[i] +
                     (row->bias == NET_NONE ? 0 : list_number(call, row->bias, place));
        out[i] = quantize_saturate((float)(sum * factor * list_number(call, row->scale_b, place)),
                                   zero, q->type);
    }
}

static int quantized_forward(const struct net_call *call, struct ivon_error *error)
{
    struct quantized q = *(const struct quantized *)call->prepared;
    struct net_tensor *lists[3];
    struct net_call inner = quantized_call(&q, lists);
    for (int i = 0; i < 3; i++)
        lists[i]->data = (char *)call->workspace + q.offsets[i];
    int code = quantized_floats(call, q.row->a, q.row->zero_a, &q.of_b, q.a.data, error);
    if (!code)
        code = quantized_floats(call, q.row->b, q.row->zero_b, &q.of_b, q.b.data, error);
    inner.workspace = call->workspace;
    if (!code)
        code = inner.node->op->infer(&inner, error);
    if (!code)
        code = inner.node->op->forward(&inner, error);
    free(inner.prepared);
    if (!code)
        quantized_write(call, &q, q.y.data);
    return code;
}

static int infer_matmul_integer(struct net_call *call, struct ivon_error *error)
{
    return quantized_infer(call, &matmul_integer, error);
}

static int infer_conv_integer(struct net_call *call, struct ivon_error *error)
{
    return quantized_infer(call, &conv_integer, error);
}

static int infer_qlinear_matmul(struct net_call *call, struct ivon_error *error)
{
    return quantized_infer(call, &qlinear_matmul, error);
}

static int infer_qlinear_conv(struct net_call *call, struct ivon_error *error)
{
    return quantized_infer(call, &qlinear_conv, error);
}

#define CONVOLUTION                                                                                \
    .attributes = {{"auto_pad", NET_TEXT},     {"dilations", NET_INTS}, {"group", NET_INT},        \
                   {"kernel_shape", NET_INTS}, {"pads", NET_INTS},      {"strides", NET_INTS}}

const struct net_operator net_quantized_operators[] = {
    {.name = "ConvInteger",
     .since = 10,
     .inputs_min = 2,
     .inputs_max = 4,
     .outputs_max = 1,
     CONVOLUTION,
     .infer = infer_conv_integer,
     .forward = quantized_forward},
    {.name = "MatMulInteger",
     .since = 10,
     .inputs_min = 2,
     .inputs_max = 4,
     .outputs_max = 1,
     .infer = infer_matmul_integer,
     .forward = quantized_forward},
    {.name = "QLinearConv",
     .since = 10,
     .inputs_min = 8,
     .inputs_max = 9,
     .outputs_max = 1,
     CONVOLUTION,
     .infer = infer_qlinear_conv,
     .forward = quantized_forward},
    {.name = "QLinearMatMul",
     .since = 10,
     .inputs_min = 8,
     .inputs_max = 8,
     .outputs_max = 1,
     .infer = infer_qlinear_matmul,
     .forward = quantized_forward},
    {0},
};
