/*
 * The weights among the tensors of an ONNX file: what training would change, or has measured. They
 * are told from the constants of the computation by these rules.
 *
 * A tensor is a weight if its elements are floating-point numbers and it is
 * - an initializer of the graph with at least one dimension, and not empty; or
 * - the attribute `value` of a node Constant, with at least one dimension and more than one
 *   element; its name is that of the node's output;
 * unless a node takes it as a setting, such as the scales of Resize or the bounds of Clip. Among
 * the weights, the inputs 3 and 4 of BatchNormalization are statistics. A node takes a tensor
 * itself, or the output of Identity nodes behind it.
 *
 * Of an initializer, a slash that begins its name is not part of the tensor's name. Weights with −∞
 * among their elements, and neither ∞ nor NaN, are masks, and buffers.
 *
 * Tensors of subgraphs and of local functions are constants, as are those whose names no checkpoint
 * can have.
 */
#ifndef FORMATS_ONNX_WEIGHTS_H
#define FORMATS_ONNX_WEIGHTS_H

#include "formats/onnx/private.h"

/* A TensorProto but for its elements. */
struct onnx_description {
    struct onnx_span name;
    int32_t data_type;
    int rank; /* IVON_RANK_MAX + 1: more */
    int64_t shape[IVON_RANK_MAX];
    struct onnx_span raw;
    bool in_place; /* its elements are `raw` */
    bool external;
};

struct onnx_weight {
    struct onnx_span name;
    struct onnx_span message; /* the TensorProto */
    const uint8_t *field;     /* of the graph that holds it: an initializer or a node */
    struct onnx_description tensor;
    bool initializer;      /* else of a Constant node */
    bool setting;          /* that a node takes; no weight then */
    bool statistic;        /* of a BatchNormalization */
    bool nameless;         /* its name cannot be used; no weight then */
    bool unread;           /* of a type or a rank that is not read: it stays in the graph, too */
    bool input;            /* the graph lists it among its inputs, too */
    struct onnx_span from; /* of the output of an Identity, which is none: what it is equal to */
};

struct onnx_weights {
    struct onnx_weight *items; /* in the file's order */
    size_t count;
    struct onnx_weight **by_name;
};

void onnx_describe(struct onnx_span message, struct onnx_description *description);

/* The parts of a node that matter here. */
struct onnx_node {
    struct onnx_span op, output, value; /* value: the tensor of a Constant */
    bool own_domain;
    size_t output_count;
};

void onnx_describe_node(struct onnx_span message, struct onnx_node *node);

/* Lists the weights of a model that was checked. The model's bytes are borrowed. */
int onnx_weights_find(struct onnx_weights *weights, const char *path, struct onnx_span model,
                      struct ivon_error *error);
void onnx_weights_release(struct onnx_weights *weights);

/* The name that a checkpoint's tensor has for a name of the graph: without a slash that begins it,
   as those have that PyTorch makes after modules. */
struct onnx_span onnx_tensor_name(struct onnx_span name);

/* The name of an input, or of another value that the graph describes. */
struct onnx_span onnx_value_name(struct onnx_span message);

/* A pair of strings, as of metadata. */
void onnx_describe_entry(struct onnx_span message, struct onnx_span *key, struct onnx_span *value);

/* Returns whether one of the items is a weight. */
bool onnx_is_weight(const struct onnx_weight *item);

#endif
