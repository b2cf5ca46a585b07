#include "train/architecture/builder.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/graph/operator.h"

/* Graphs are built of the operators that this opset has. */
enum { BUILDER_OPSET = 17 };

static struct ivon_network *builder_network(const struct builder *builder)
{
    return builder->architecture->network;
}

/* Returns the network's own copy of a value's name. */
static const char *interned_name(const struct builder *builder, const char *name)
{
    size_t value = builder->code ? NET_NONE : graph_find(builder_network(builder), name);
    return value == NET_NONE ? "" : builder_network(builder)->values[value].name;
}

const char *builder_name(char text[BUILDER_NAME_MAX], const char *prefix, int64_t number,
                         const char *name)
{
    if (number < 0)
        snprintf(text, BUILDER_NAME_MAX, "%s.%s", prefix, name);
    else
        snprintf(text, BUILDER_NAME_MAX, "%s.%" PRId64 ".%s", prefix, number, name);
    return text;
}

/* Values that are given. */

const char *builder_input(struct builder *builder, enum net_type type, int rank,
                          const int64_t *shape)
{
    if (!builder->code)
        builder->code = graph_add_input(builder_network(builder), "x", type, rank, shape,
                                        builder->error);
    return interned_name(builder, "x");
}

/* Lists a tensor of the checkpoint. */
static void list_tensor(struct builder *builder, const char *name, enum ivon_part part,
                        struct initial initial, int rank, const int64_t *shape)
{
    struct architecture *architecture = builder->architecture;
    struct net_tensor tensor;
    struct ivon_error reason = {0};
    builder->code = net_tensor_set(&tensor, NET_FLOAT, rank, shape, &reason);
    if (builder->code) {
        builder->code = ivon_error_set(builder->error, IVON_ERROR_ARGUMENT,
                                       "%s: parameter '%s': %s", builder_network(builder)->path,
                                       name, reason.message);
        return;
    }
    struct architecture_tensor *grown = realloc(architecture->tensors,
                                                (architecture->tensor_count + 1) * sizeof *grown);
    char *copy = strdup(name);
    if (grown)
        architecture->tensors = grown;
    if (!grown || !copy) {
        free(copy);
        builder->code = ivon_error_memory(builder->error);
        return;
    }
    struct architecture_tensor *entry = &grown[architecture->tensor_count++];
    *entry = (struct architecture_tensor){
        .name = copy, .part = part, .rank = rank, .count = tensor.count, .initial = initial};
    memcpy(entry->shape, shape, (size_t)rank * sizeof *shape);
}

const char *builder_parameter(struct builder *builder, struct initial initial, int rank,
                              const int64_t *shape, const char *prefix, const char *name)
{
    char full[BUILDER_NAME_MAX];
    if (*prefix)
        builder_name(full, prefix, -1, name);
    else
        snprintf(full, sizeof full, "%s", name);
    if (!builder->code)
        list_tensor(builder, full, IVON_MEAN, initial, rank, shape);
    if (!builder->code)
        builder->code = graph_add_input(builder_network(builder), full, NET_FLOAT, rank, shape,
                                        builder->error);
    return interned_name(builder, full);
}

/* Adds a constant with the given elements, under `name` or, if it is null, a new name. */
static const char *constant(struct builder *builder, const char *name, enum net_type type, int rank,
                            const int64_t *shape, const void *elements)
{
    char made[BUILDER_NAME_MAX];
    struct net_tensor tensor = {0};
    if (builder->code)
        return "";
    snprintf(made, sizeof made, "constant_%zu", builder_network(builder)->value_count);
    builder->code = net_tensor_set(&tensor, type, rank, shape, builder->error);
    if (!builder->code)
        builder->code = net_tensor_allocate(&tensor, builder->error);
    if (builder->code)
        return "";
    memcpy(tensor.data, elements, tensor.count * net_type_size(type));
    builder->code = graph_add_constant(builder_network(builder), name ? name : made, &tensor,
                                       builder->error);
    return interned_name(builder, name ? name : made);
}

const char *builder_buffer(struct builder *builder, enum initial_kind kind, int64_t count,
                           const char *prefix, const char *name)
{
    char full[BUILDER_NAME_MAX];
    struct initial initial = {.kind = kind};
    float *elements = builder->code ? NULL : calloc((size_t)count, sizeof *elements);
    if (!builder->code && !elements)
        builder->code = ivon_error_memory(builder->error);
    builder_name(full, prefix, -1, name);
    if (!builder->code)
        list_tensor(builder, full, IVON_BUFFER, initial, 1, &count);
    if (!builder->code)
        initial_fill(&initial, 0, full, 0, (size_t)count, elements);
    const char *value = constant(builder, full, NET_FLOAT, 1, &count, elements);
    free(elements);
    return value;
}

const char *builder_integer(struct builder *builder, int64_t integer)
{
    return constant(builder, NULL, NET_INTEGER, 0, NULL, &integer);
}

const char *builder_integers(struct builder *builder, size_t count, const int64_t *integers)
{
    int64_t extent = (int64_t)count;
    return constant(builder, NULL, NET_INTEGER, 1, &extent, integers);
}

/* Attributes. */

static struct net_attribute *add_attribute(struct builder *builder, const char *name,
                                           enum net_attribute_kind kind)
{
    if (builder->code)
        return NULL;
    if (!builder->attributes)
        builder->attributes = calloc(BUILDER_ATTRIBUTES_MAX, sizeof *builder->attributes);
    char *copy = strdup(name);
    if (!builder->attributes || !copy) {
        free(copy);
        builder->code = ivon_error_memory(builder->error);
        return NULL;
    }
    struct net_attribute *attribute = &builder->attributes[builder->attribute_count++];
    attribute->name = copy;
    attribute->kind = kind;
    return attribute;
}

void builder_set_integer(struct builder *builder, const char *name, int64_t integer)
{
    struct net_attribute *attribute = add_attribute(builder, name, NET_INT);
    if (attribute)
        attribute->integer = integer;
}

void builder_set_number(struct builder *builder, const char *name, double number)
{
    struct net_attribute *attribute = add_attribute(builder, name, NET_FLT);
    if (attribute)
        attribute->number = number;
}

void builder_set_integers(struct builder *builder, const char *name, size_t count,
                          const int64_t *integers)
{
    struct net_attribute *attribute = add_attribute(builder, name, NET_INTS);
    if (!attribute)
        return;
    attribute->integers = calloc(count, sizeof *integers);
    if (!attribute->integers) {
        builder->code = ivon_error_memory(builder->error);
        return;
    }
    memcpy(attribute->integers, integers, count * sizeof *integers);
    attribute->count = count;
}

void builder_set_output(struct builder *builder, const char *name)
{
    builder->output = name;
}

/* Nodes. */

static void builder_add(struct builder *builder, const char *op, size_t input_count,
                        const char *const *inputs, size_t output_count, const char *const *outputs)
{
    struct net_attribute *attributes = builder->attributes;
    size_t count = builder->attribute_count;
    if (builder->code) /* the builder still owns the attributes */
        return;
    builder->attributes = NULL;
    builder->attribute_count = 0;
    builder->output = NULL;
    builder->code = graph_add_node(
        builder_network(builder), net_operator_find(NULL, op, BUILDER_OPSET), outputs[0], inputs,
        input_count, outputs, output_count, attributes, count, builder->error);
}

const char *builder_node(struct builder *builder, const char *op, size_t input_count,
                         const char *const *inputs)
{
    char made[BUILDER_NAME_MAX];
    const char *output = builder->output;
    if (!output) {
        snprintf(made, sizeof made, "%s_%zu", op, builder_network(builder)->value_count);
        output = made;
    }
    builder_add(builder, op, input_count, inputs, 1, &output);
    return interned_name(builder, output);
}

const char *builder_number(struct builder *builder, float number)
{
    return constant(builder, NULL, NET_FLOAT, 0, NULL, &number);
}

const char *builder_unary(struct builder *builder, const char *op, const char *x)
{
    return builder_node(builder, op, 1, &x);
}

const char *builder_binary(struct builder *builder, const char *op, const char *x, const char *y)
{
    const char *inputs[] = {x, y};
    return builder_node(builder, op, 2, inputs);
}

void builder_split(struct builder *builder, const char *x, int64_t axis, size_t count, int64_t size,
                   const char **parts)
{
    char names[4][BUILDER_NAME_MAX];
    const char *outputs[4] = {NULL};
    int64_t sizes[4] = {size, size, size, size};
    const char *inputs[] = {x, builder_integers(builder, count, sizes)};
    builder_set_integer(builder, "axis", axis);
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "Split_%zu_%zu", builder_network(builder)->value_count,
                 i);
        outputs[i] = names[i];
    }
    builder_add(builder, "Split", 2, inputs, count, outputs);
    for (size_t i = 0; i < count; i++)
        parts[i] = interned_name(builder, names[i]);
}

/* Layers. */

const char *builder_linear(struct builder *builder, const char *x, const char *prefix, int64_t in,
                           int64_t out)
{
    const int64_t shape[] = {out, in};
    struct initial initial = initial_linear(2, shape);
    const char *inputs[3] = {x};
    inputs[1] = builder_parameter(builder, initial, 2, shape, prefix, "weight");
    inputs[2] = builder_parameter(builder, initial, 1, &out, prefix, "bias");
    builder_set_integer(builder, "transB", 1);
    return builder_node(builder, "Gemm", 3, inputs);
}

const char *builder_tokens(struct builder *builder, const char *x, const char *prefix, int64_t in,
                           int64_t out, bool bias, struct initial initial)
{
    const int64_t shape[] = {out, in}, swapped[] = {1, 0};
    struct initial zeros = {.kind = INITIAL_ZEROS};
    const char *output = builder->output;
    const char *weight = builder_parameter(builder, initial, 2, shape, prefix, "weight");
    builder_set_output(builder, NULL);
    builder_set_integers(builder, "perm", 2, swapped);
    weight = builder_unary(builder, "Transpose", weight);
    builder_set_output(builder, bias ? NULL : output);
    const char *product = builder_binary(builder, "MatMul", x, weight);
    if (!bias)
        return product;
    builder_set_output(builder, output);
    return builder_binary(builder, "Add", product,
                          builder_parameter(builder, zeros, 1, &out, prefix, "bias"));
}

const char *builder_layer_norm(struct builder *builder, const char *x, const char *prefix,
                               int64_t width)
{
    const int64_t last = -1;
    struct initial ones = {.kind = INITIAL_ONES}, zeros = {.kind = INITIAL_ZEROS};
    const char *weight = builder_parameter(builder, ones, 1, &width, prefix, "weight");
    const char *bias = builder_parameter(builder, zeros, 1, &width, prefix, "bias");
    builder_set_integers(builder, "axes", 1, &last);
    const char *centred = builder_binary(builder, "Sub", x,
                                         builder_unary(builder, "ReduceMean", x));
    const char *square = builder_binary(builder, "Mul", centred, centred);
    builder_set_integers(builder, "axes", 1, &last);
    const char *variance = builder_unary(builder, "ReduceMean", square);
    const char *epsilon = builder_number(builder, 1e-5F);
    variance = builder_binary(builder, "Add", variance, epsilon);
    const char *unit = builder_binary(builder, "Div", centred,
                                      builder_unary(builder, "Sqrt", variance));
    return builder_binary(builder, "Add", builder_binary(builder, "Mul", unit, weight), bias);
}

const char *builder_dropout(struct builder *builder, const char *x)
{
    if (!(builder->dropout > 0))
        return x;
    return builder_binary(builder, "Dropout", x, builder_number(builder, (float)builder->dropout));
}

const char *builder_gelu(struct builder *builder, const char *x)
{
    const char *scaled = builder_binary(builder, "Div", x, builder_number(builder, (float)sqrt(2)));
    const char *error_function = builder_unary(builder, "Erf", scaled);
    const char *weight = builder_binary(builder, "Add", error_function, builder_number(builder, 1));
    const char *product = builder_binary(builder, "Mul", x, weight);
    return builder_binary(builder, "Mul", product, builder_number(builder, 0.5F));
}

const char *builder_convolution(struct builder *builder, const char *x, const char *prefix,
                                int64_t in, int64_t out, int64_t kernel, int64_t stride,
                                int64_t padding, bool bias)
{
    const int64_t shape[] = {out, in, kernel, kernel};
    const int64_t kernels[] = {kernel, kernel}, strides[] = {stride, stride};
    const int64_t pads[] = {padding, padding, padding, padding};
    struct initial initial = bias ? initial_linear(4, shape) : initial_kaiming(4, shape);
    const char *inputs[3] = {x};
    inputs[1] = builder_parameter(builder, initial, 4, shape, prefix, "weight");
    if (bias)
        inputs[2] = builder_parameter(builder, initial, 1, &out, prefix, "bias");
    builder_set_integers(builder, "kernel_shape", 2, kernels);
    builder_set_integers(builder, "strides", 2, strides);
    builder_set_integers(builder, "pads", 4, pads);
    return builder_node(builder, "Conv", bias ? 3 : 2, inputs);
}
