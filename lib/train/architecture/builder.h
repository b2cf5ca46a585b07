/* Builds the graphs of architectures. Functions that add a value return its name, borrowed from the
   network. After a failure they do nothing and return "", so that builder->code need only be
   checked at the end. */
#ifndef TRAIN_ARCHITECTURE_BUILDER_H
#define TRAIN_ARCHITECTURE_BUILDER_H

#include "net/graph/graph.h"
#include "train/architecture/architecture.h"

enum { BUILDER_ATTRIBUTES_MAX = 4, BUILDER_NAME_MAX = 96 };

struct builder {
    struct architecture *architecture;
    struct net_attribute *attributes; /* of the next node */
    size_t attribute_count;
    const char *output; /* of the next node; null: a new name */
    double dropout;     /* the ratio of builder_dropout; 0: it adds no node */
    int code;
    struct ivon_error *error;
};

/* Values that are given. */
const char *builder_input(struct builder *builder, enum net_type type, int rank,
                          const int64_t *shape); /* "x" */
const char *builder_parameter(struct builder *builder, struct initial initial, int rank,
                              const int64_t *shape, const char *prefix, const char *name);
const char *builder_buffer(struct builder *builder, enum initial_kind kind, int64_t count,
                           const char *prefix, const char *name);
/* A scalar. Call it before setting the attributes of the node that uses it. */
const char *builder_number(struct builder *builder, float number);
const char *builder_integer(struct builder *builder, int64_t integer);
const char *builder_integers(struct builder *builder, size_t count, const int64_t *integers);

/* Attributes of the next node, and the name of its output. */
void builder_set_integer(struct builder *builder, const char *name, int64_t integer);
void builder_set_number(struct builder *builder, const char *name, double number);
void builder_set_integers(struct builder *builder, const char *name, size_t count,
                          const int64_t *integers);
void builder_set_output(struct builder *builder, const char *name);

/* Nodes. */
const char *builder_node(struct builder *builder, const char *op, size_t input_count,
                         const char *const *inputs);
const char *builder_unary(struct builder *builder, const char *op, const char *x);
const char *builder_binary(struct builder *builder, const char *op, const char *x, const char *y);
void builder_split(struct builder *builder, const char *x, int64_t axis, size_t count, int64_t size,
                   const char **parts); /* count at most 4 */

/* Layers. */

/* x Wᵀ + b for x of n × in: PREFIX.weight, out × in, and PREFIX.bias. */
const char *builder_linear(struct builder *builder, const char *x, const char *prefix, int64_t in,
                           int64_t out);

/* x Wᵀ [+ b] along the last axis of x. The bias begins as zeros. */
const char *builder_tokens(struct builder *builder, const char *x, const char *prefix, int64_t in,
                           int64_t out, bool bias, struct initial initial);

/* (x − mean)/√(variance + 1e-5) weight + bias along the last axis. */
const char *builder_layer_norm(struct builder *builder, const char *x, const char *prefix,
                               int64_t width);

/* x (1 + erf(x/√2))/2 */
const char *builder_gelu(struct builder *builder, const char *x);

/* x, of which so many elements are dropped in training. */
const char *builder_dropout(struct builder *builder, const char *x);

/* A square convolution. With a bias it is initialised like a linear layer, else by He et al. */
const char *builder_convolution(struct builder *builder, const char *x, const char *prefix,
                                int64_t in, int64_t out, int64_t kernel, int64_t stride,
                                int64_t padding, bool bias);

/* "PREFIX.NAME", or "PREFIX.NUMBER.NAME" where the number is not negative. */
const char *builder_name(char text[BUILDER_NAME_MAX], const char *prefix, int64_t number,
                         const char *name);

#endif
