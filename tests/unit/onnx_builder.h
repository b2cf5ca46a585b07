/* ONNX files for tests, built by hand: the reader's parser must not vouch for itself. */
#ifndef TESTS_UNIT_ONNX_BUILDER_H
#define TESTS_UNIT_ONNX_BUILDER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/onnx.h"
#include "net/graph/graph.h"

/* Protocol buffers. */

struct wire {
    unsigned char *data; /* grows, malloc'd */
    size_t size;
};

static inline void wire_raw(struct wire *wire, const void *data, size_t size)
{
    wire->data = realloc(wire->data, wire->size + size + 1);
    if (size)
        memcpy(wire->data + wire->size, data, size);
    wire->size += size;
}

static inline void wire_varint(struct wire *wire, uint64_t value)
{
    unsigned char bytes[10];
    size_t count = 0;
    do {
        bytes[count++] = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value);
    wire_raw(wire, bytes, count);
}

static inline void wire_number(struct wire *wire, unsigned field, int64_t value)
{
    wire_varint(wire, (uint64_t)field << 3);
    wire_varint(wire, (uint64_t)value);
}

static inline void wire_float(struct wire *wire, unsigned field, float value)
{
    wire_varint(wire, (uint64_t)field << 3 | 5);
    wire_raw(wire, &value, sizeof value);
}

static inline void wire_bytes(struct wire *wire, unsigned field, const void *data, size_t size)
{
    wire_varint(wire, (uint64_t)field << 3 | 2);
    wire_varint(wire, size);
    wire_raw(wire, data, size);
}

static inline void wire_text(struct wire *wire, unsigned field, const char *text)
{
    wire_bytes(wire, field, text, strlen(text));
}

/* Appends a message, and frees it. */
static inline void wire_message(struct wire *wire, unsigned field, struct wire *message)
{
    wire_bytes(wire, field, message->data, message->size);
    free(message->data);
    *message = (struct wire){0};
}

/* Field numbers of onnx.proto. */
enum { MODEL_GRAPH = 7, MODEL_OPSET = 8 };
enum { OPSET_DOMAIN = 1, OPSET_VERSION = 2 };
enum {
    GRAPH_NODE = 1,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
    GRAPH_QUANTIZATION = 14,
    GRAPH_SPARSE = 15
};
enum { NODE_INPUT = 1, NODE_OUTPUT, NODE_NAME, NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 7 };
enum {
    ATTRIBUTE_NAME = 1,
    ATTRIBUTE_F,
    ATTRIBUTE_I,
    ATTRIBUTE_S,
    ATTRIBUTE_T,
    ATTRIBUTE_G,
    ATTRIBUTE_FLOATS,
    ATTRIBUTE_INTS,
    ATTRIBUTE_TYPE = 20,
    ATTRIBUTE_REFERENCE
};
enum { IS_FLOAT = 1, IS_INT, IS_STRING, IS_TENSOR, IS_GRAPH, IS_FLOATS, IS_INTS, IS_STRINGS };
enum {
    TENSOR_DIMS = 1,
    TENSOR_TYPE,
    TENSOR_SEGMENT,
    TENSOR_FLOAT,
    TENSOR_INT32,
    TENSOR_STRING,
    TENSOR_INT64,
    TENSOR_NAME,
    TENSOR_RAW,
    TENSOR_DOUBLE,
    TENSOR_UINT64,
    TENSOR_EXTERNAL = 13,
    TENSOR_LOCATION
};
enum {
    FLOAT = 1,
    UINT8,
    INT8,
    UINT16,
    INT16,
    INT32,
    INT64,
    STRING,
    BOOL,
    FLOAT16,
    DOUBLE,
    UINT32,
    UINT64,
    COMPLEX64,
    COMPLEX128,
    BFLOAT16
};

/* Building. */

static inline struct wire tensor_of(const char *name, int type, size_t rank, const int64_t *shape)
{
    struct wire tensor = {0};
    for (size_t i = 0; i < rank; i++)
        wire_number(&tensor, TENSOR_DIMS, shape[i]);
    wire_number(&tensor, TENSOR_TYPE, type);
    wire_text(&tensor, TENSOR_NAME, name);
    return tensor;
}

static inline void add_opset(struct wire *model, const char *domain, int64_t version)
{
    struct wire opset = {0};
    wire_text(&opset, OPSET_DOMAIN, domain);
    wire_number(&opset, OPSET_VERSION, version);
    wire_message(model, MODEL_OPSET, &opset);
}

static inline struct wire model_of(struct wire *graph)
{
    struct wire model = {0};
    add_opset(&model, "", 13);
    wire_message(&model, MODEL_GRAPH, graph);
    return model;
}

static inline void add_output(struct wire *graph, const char *name)
{
    struct wire info = {0};
    wire_text(&info, 1, name);
    wire_message(graph, GRAPH_OUTPUT, &info);
}

/* -1: a name instead of an extent; -2: nothing at all. */
static inline void add_input(struct wire *graph, const char *name, int type, size_t rank,
                             const int64_t *shape)
{
    struct wire info = {0}, kind = {0}, tensor = {0}, extents = {0};
    for (size_t i = 0; i < rank; i++) {
        struct wire extent = {0};
        if (shape[i] == -1)
            wire_text(&extent, 2, "batch");
        else if (shape[i] != -2)
            wire_number(&extent, 1, shape[i]);
        wire_message(&extents, 1, &extent);
    }
    wire_number(&tensor, 1, type);
    wire_message(&tensor, 2, &extents);
    wire_message(&kind, 1, &tensor);
    wire_text(&info, 1, name);
    wire_message(&info, 2, &kind);
    wire_message(graph, GRAPH_INPUT, &info);
}

static inline struct wire attribute_of(const char *name, int type)
{
    struct wire attribute = {0};
    wire_text(&attribute, ATTRIBUTE_NAME, name);
    wire_number(&attribute, ATTRIBUTE_TYPE, type);
    return attribute;
}

static inline struct wire node_of(const char *op, const char *input, const char *output)
{
    struct wire node = {0};
    if (input)
        wire_text(&node, NODE_INPUT, input);
    wire_text(&node, NODE_OUTPUT, output);
    wire_text(&node, NODE_OPERATOR, op);
    return node;
}

/* Opens the model and frees it. */
static inline int open_model(struct ivon_network **network, struct wire *model,
                             struct ivon_error *error)
{
    *network = NULL;
    int code = ivon_onnx_from_memory(network, "test.onnx", model->data, model->size, error);
    free(model->data);
    *model = (struct wire){0};
    return code;
}

static inline void refuse(struct wire *model, const char *why)
{
    struct ivon_network *network;
    struct ivon_error error = {0};
    int code = open_model(&network, model, &error);
    assert_int_equal(code, IVON_ERROR_DATA);
    assert_int_equal(error.code, code);
    assert_null(network);
    if (strncmp(error.message, "test.onnx: ", 11) != 0 || !strstr(error.message, why))
        fail_msg("'%s' does not say '%s'", error.message, why);
}

static inline void refuse_tensor(struct wire *tensor, const char *why)
{
    struct wire graph = {0};
    wire_message(&graph, GRAPH_INITIALIZER, tensor);
    add_output(&graph, "t");
    struct wire model = model_of(&graph);
    refuse(&model, why);
}

static inline struct wire square(int type)
{
    return tensor_of("t", type, 2, (const int64_t[]){2, 2});
}

/* Four elements for it. */
static const float floats[4] = {1.5F, -2, 0, 65504};

/* x (?, ?, 4) → Transpose(perm) → Split(axis, sizes) → y, and "unused", which nothing needs. */
static inline struct wire good_model(void)
{
    static const int64_t sizes[2] = {1, 2};
    struct wire graph = {0}, perm = attribute_of("perm", IS_INTS),
                axis = attribute_of("axis", IS_INT);
    struct wire transpose = node_of("Transpose", "x", "t"), split = node_of("Split", "t", "");
    struct wire unused = node_of("Shape", "x", "s"),
                initializer = tensor_of("sizes", INT64, 1, (const int64_t[]){2});
    for (int i = 2; i >= 0; i--)
        wire_number(&perm, ATTRIBUTE_INTS, i);
    wire_number(&axis, ATTRIBUTE_I, -1);
    wire_message(&transpose, NODE_ATTRIBUTE, &perm);
    wire_text(&transpose, NODE_NAME, "turn");
    wire_text(&split, NODE_INPUT, "sizes");
    wire_text(&split, NODE_OUTPUT, "y");
    wire_message(&split, NODE_ATTRIBUTE, &axis);
    wire_bytes(&initializer, TENSOR_RAW, sizes, sizeof sizes);
    add_input(&graph, "x", FLOAT, 3, (const int64_t[]){-1, -2, 4});
    add_input(&graph, "sizes", INT64, 1, (const int64_t[]){2}); /* as older files do */
    wire_message(&graph, GRAPH_NODE, &split);                   /* before what it needs */
    wire_message(&graph, GRAPH_NODE, &transpose);
    wire_message(&graph, GRAPH_NODE, &unused);
    wire_message(&graph, GRAPH_INITIALIZER, &initializer);
    add_output(&graph, "y");
    return model_of(&graph);
}

#endif
