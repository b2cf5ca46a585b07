/* Small networks for tests, built by hand, with parameters that lie in the graph. */
#ifndef TESTS_UNIT_GRAPH_BUILDER_H
#define TESTS_UNIT_GRAPH_BUILDER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/graph/operator.h"

/* Of the random numbers; every test begins with a value of its own. */
static uint64_t state;

static inline double uniform(void) /* in [-1, 1) */
{
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (double)(state >> 40) / 8388608.0 - 1;
}

/* Building. */

/* A constant of random numbers around `center`; a parameter where that is asked for. */
static inline void give(struct ivon_network *network, const char *name, bool parameter,
                        double center, int rank, const int64_t *shape)
{
    struct net_tensor tensor = {0};
    assert_int_equal(net_tensor_set(&tensor, NET_FLOAT, rank, shape, NULL), 0);
    assert_int_equal(net_tensor_allocate(&tensor, NULL), 0);
    for (size_t i = 0; i < tensor.count; i++)
        ((float *)tensor.data)[i] = (float)(center + 0.5 * uniform());
    assert_int_equal(graph_add_constant(network, name, &tensor, NULL), 0);
    if (!parameter)
        return;
    struct net_value *value = &network->values[graph_find(network, name)];
    value->role = NET_PARAMETER;
    value->parameter = network->parameter_count++;
}

static inline struct net_attribute *attribute(const char *name, enum net_attribute_kind kind)
{
    struct net_attribute *made = calloc(1, sizeof *made);
    made->name = strdup(name);
    made->kind = kind;
    return made;
}

static inline struct net_attribute *integer(const char *name, int64_t value)
{
    struct net_attribute *made = attribute(name, NET_INT);
    made->integer = value;
    return made;
}

/* Inputs and output, by blanks. */
static inline void node(struct ivon_network *network, const char *op, const char *values,
                        struct net_attribute *attributes)
{
    char text[256], *list[8], *rest;
    size_t count = 0;
    assert_true(strlen(values) < sizeof text);
    strcpy(text, values);
    for (char *at = strtok_r(text, " ", &rest); at; at = strtok_r(NULL, " ", &rest))
        list[count++] = at;
    assert_int_equal(graph_add_node(network, net_operator_find(NULL, op, 17), list[count - 1],
                                    (const char **)list, count - 1, (const char **)&list[count - 1],
                                    1, attributes, attributes ? 1 : 0, NULL),
                     0);
}

static inline struct ivon_network *begin(int rank, const int64_t *shape)
{
    struct ivon_network *network;
    assert_int_equal(graph_new(&network, "network", NULL), 0);
    assert_int_equal(graph_add_input(network, "x", NET_FLOAT, rank, shape, NULL), 0);
    return network;
}

static inline void finish(struct ivon_network *network)
{
    assert_int_equal(graph_add_output(network, "y", NULL), 0);
    assert_int_equal(graph_finish(network, NULL), 0);
}

static inline struct net_tensor shape_of(int rank, int64_t first, const int64_t *rest)
{
    struct net_tensor tensor = {.type = NET_FLOAT};
    int64_t shape[IVON_RANK_MAX] = {first};
    for (int i = 1; i < rank; i++)
        shape[i] = rest[i - 1];
    assert_int_equal(net_tensor_set(&tensor, NET_FLOAT, rank, shape, NULL), 0);
    return tensor;
}

/* Every parameter is wanted; their arrays lie in the network. */
enum { PARAMETERS_MAX = 8 };

struct parameters {
    bool wanted[PARAMETERS_MAX];
    float *arrays[PARAMETERS_MAX], *gradients[PARAMETERS_MAX];
    size_t sizes[PARAMETERS_MAX];
};

static inline void parameters_begin(struct parameters *parameters,
                                    const struct ivon_network *network)
{
    for (size_t i = 0; i < network->value_count; i++) {
        const struct net_value *value = &network->values[i];
        if (value->role != NET_PARAMETER)
            continue;
        parameters->wanted[value->parameter] = true;
        parameters->arrays[value->parameter] = value->tensor.data;
        parameters->sizes[value->parameter] = value->tensor.count;
        parameters->gradients[value->parameter] = calloc(value->tensor.count, sizeof(float));
    }
}

static inline void parameters_end(struct parameters *parameters)
{
    for (size_t i = 0; i < PARAMETERS_MAX; i++)
        free(parameters->gradients[i]);
}

#endif
