/*
 * Networks with parameters from a posterior in memory, for tests: nodes are added by name, then the
 * graph is finished and bound. Everything is freed by model_end.
 */
#ifndef TESTS_UNIT_MODEL_H
#define TESTS_UNIT_MODEL_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/stream.h"
#include "net/graph/operator.h"

enum { MODEL_TENSORS = 32, MODEL_ATTRIBUTES = 8, MODEL_ALIGNMENT = 64 };

struct model {
    struct ivon_network *network;
    struct ivon_source *source;
    struct ivon_tensor tensors[MODEL_TENSORS];
    void *data[MODEL_TENSORS];
    size_t count;
    struct net_attribute attributes[MODEL_ATTRIBUTES]; /* of the node that is added next */
    size_t attribute_count;
    uint64_t state; /* of its random numbers */
    double ess, weight_decay;
    int64_t n_train;
};

/* Rank and shape; count and elements. */
#define SHAPE(...)                                                                                 \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                   \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define LIST(...)                                                                                  \
    sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (const int64_t[])                          \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

/* Uniform in [low, high). */
static inline float model_random(struct model *model, double low, double high)
{
    model->state = model->state * 6364136223846793005U + 1442695040888963407U;
    return (float)(low + (high - low) * (double)(model->state >> 40) / 16777216.0);
}

static inline void *model_allocate(size_t size)
{
    void *block = aligned_alloc(MODEL_ALIGNMENT, (size / MODEL_ALIGNMENT + 1) * MODEL_ALIGNMENT);
    assert_non_null(block);
    return block;
}

static inline void model_begin(struct model *model)
{
    *model = (struct model){
        .state = 88172645463325252U, .ess = 20, .weight_decay = 0.25, .n_train = -1};
    assert_int_equal(graph_new(&model->network, "model", NULL), 0);
}

/* `extents` -1: free. */
static inline void model_input(struct model *model, const char *name, enum net_type type, int rank,
                               const int64_t *extents)
{
    assert_int_equal(graph_add_input(model->network, name, type, rank, extents, NULL), 0);
}

static inline void model_constant(struct model *model, const char *name, enum net_type type,
                                  int rank, const int64_t *shape, const void *data)
{
    struct net_tensor tensor = {0};
    assert_int_equal(net_tensor_set(&tensor, type, rank, shape, NULL), 0);
    assert_int_equal(net_tensor_allocate(&tensor, NULL), 0);
    memcpy(tensor.data, data, tensor.count * net_type_size(type));
    assert_int_equal(graph_add_constant(model->network, name, &tensor, NULL), 0);
}

/* A constant vector of integers, as shapes and axes are. */
static inline void model_integers(struct model *model, const char *name, size_t count,
                                  const int64_t *integers)
{
    int64_t shape[] = {(int64_t)count};
    model_constant(model, name, NET_INTEGER, 1, shape, integers);
}

static inline float *model_tensor(struct model *model, const char *name, enum ivon_part part,
                                  int rank, const int64_t *shape, double low, double high)
{
    struct ivon_tensor tensor = {.name = name,
                                 .part = part,
                                 .dtype = IVON_F32,
                                 .rank = rank,
                                 .count = 1,
                                 .ess = NAN,
                                 .weight_decay = NAN};
    assert_true(model->count < MODEL_TENSORS);
    for (int i = 0; i < rank; i++) {
        tensor.shape[i] = shape[i];
        tensor.count *= (size_t)shape[i];
    }
    if (part == IVON_HESSIAN) {
        tensor.ess = model->ess;
        tensor.weight_decay = model->weight_decay;
    }
    float *data = model_allocate(tensor.count * sizeof *data);
    for (size_t i = 0; i < tensor.count; i++)
        data[i] = model_random(model, low, high);
    model->tensors[model->count] = tensor;
    model->data[model->count++] = data;
    return data;
}

/* A mean, uniform in [low, high). */
static inline float *model_parameter(struct model *model, const char *name, int rank,
                                     const int64_t *shape, double low, double high)
{
    float *data = model_tensor(model, name, IVON_MEAN, rank, shape, low, high);
    model_constant(model, name, NET_FLOAT, rank, shape, data);
    return data;
}

/* The Hessian of a mean, uniform in [low, high). */
static inline float *model_hessian(struct model *model, const char *name, int rank,
                                   const int64_t *shape, double low, double high)
{
    return model_tensor(model, name, IVON_HESSIAN, rank, shape, low, high);
}

/* A buffer of floats, uniform in [low, high). */
static inline void model_buffer(struct model *model, const char *name, int rank,
                                const int64_t *shape, double low, double high)
{
    float *data = model_tensor(model, name, IVON_BUFFER, rank, shape, low, high);
    model_constant(model, name, NET_FLOAT, rank, shape, data);
}

/* Attributes of the node that is added next. */

static inline struct net_attribute *model_attribute(struct model *model, const char *name,
                                                    enum net_attribute_kind kind)
{
    assert_true(model->attribute_count < MODEL_ATTRIBUTES);
    struct net_attribute *attribute = &model->attributes[model->attribute_count++];
    *attribute = (struct net_attribute){.name = strdup(name), .kind = kind};
    return attribute;
}

static inline void model_int(struct model *model, const char *name, int64_t value)
{
    model_attribute(model, name, NET_INT)->integer = value;
}

static inline void model_number(struct model *model, const char *name, double value)
{
    model_attribute(model, name, NET_FLT)->number = value;
}

static inline void model_ints(struct model *model, const char *name, size_t count,
                              const int64_t *values)
{
    struct net_attribute *attribute = model_attribute(model, name, NET_INTS);
    attribute->integers = malloc(count * sizeof *values);
    assert_non_null(attribute->integers);
    memcpy(attribute->integers, values, count * sizeof *values);
    attribute->count = count;
}

static inline void model_add(struct model *model, const char *op, const char *const *outputs,
                             size_t output_count, const char *const *inputs, size_t input_count)
{
    struct net_attribute *attributes = NULL;
    struct ivon_error error = {0};
    if (model->attribute_count) {
        attributes = calloc(model->attribute_count, sizeof *attributes);
        assert_non_null(attributes);
        memcpy(attributes, model->attributes, model->attribute_count * sizeof *attributes);
    }
    int code = graph_add_node(model->network, net_operator_find(NULL, op, 17), outputs[0], inputs,
                              input_count, outputs, output_count, attributes,
                              model->attribute_count, &error);
    if (code)
        fail_msg("%s", error.message);
    model->attribute_count = 0;
}

/* model_node(model, "Add", "out", "a", "b") */
#define model_node(model, op, output, ...)                                                         \
    model_add(model, op, (const char *const[]){output}, 1, (const char *const[]){__VA_ARGS__},     \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static inline void model_output(struct model *model, const char *name)
{
    assert_int_equal(graph_add_output(model->network, name, NULL), 0);
}

/* Finishes the graph and binds it to a source of all tensors. */
static inline void model_bind(struct model *model)
{
    struct ivon_error error = {0};
    struct ivon_unbound unbound;
    struct ivon_header header = ivon_header_empty();
    header.ess = model->ess;
    header.weight_decay = model->weight_decay;
    header.n_train = model->n_train;
    int code = graph_finish(model->network, &error);
    if (!code)
        code = ivon_source_from_memory(&model->source, "posterior", &header, model->tensors,
                                       (const void *const *)model->data, model->count, &error);
    if (!code)
        code = ivon_network_bind(model->network, model->source, NULL, &unbound, &error);
    if (code)
        fail_msg("%s", error.message);
}

/* The number of the parameter of that name. */
static inline size_t model_number_of(const struct model *model, const char *name)
{
    size_t value = graph_find(model->network, name);
    assert_true(value != NET_NONE && model->network->values[value].role == NET_PARAMETER);
    return model->network->values[value].parameter;
}

static inline void model_end(struct model *model)
{
    ivon_network_free(model->network);
    ivon_source_close(model->source);
    for (size_t i = 0; i < model->count; i++)
        free(model->data[i]);
}

#endif
