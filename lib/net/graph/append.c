#include "net/graph/append.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/graph/operator.h"

enum { APPEND_OPSET = 13 };

char *graph_fresh_name(const struct ivon_network *network, const char *base, const char *what)
{
    size_t size = strlen(base) + strlen(what) + 32;
    char *name = malloc(size);
    if (!name)
        return NULL;
    snprintf(name, size, "%s/%s", base, what);
    for (size_t i = 2; graph_find(network, name) != NET_NONE; i++)
        snprintf(name, size, "%s/%s_%zu", base, what, i);
    return name;
}

static int append_attributes(struct net_attribute **attributes, const char *name,
                             const int64_t *integers, size_t count, bool list,
                             struct ivon_error *error)
{
    struct net_attribute *made = calloc(1, sizeof *made);
    *attributes = made;
    if (!made)
        return ivon_error_memory(error);
    made->kind = list ? NET_INTS : NET_INT;
    made->name = strdup(name);
    made->integer = list ? 0 : *integers;
    made->integers = list ? calloc(count + 1, sizeof *integers) : NULL;
    made->count = list ? count : 0;
    if (!made->name || (list && !made->integers)) {
        net_attributes_free(made, 1);
        return ivon_error_memory(error);
    }
    if (list)
        memcpy(made->integers, integers, count * sizeof *integers);
    return 0;
}

int graph_append_with(struct ivon_network *network, const char *op, const char *base,
                      const size_t *inputs, size_t input_count, const char *attribute,
                      const int64_t *integers, size_t count, bool list, size_t *made,
                      struct ivon_error *error)
{
    enum { INPUTS_MAX = 8 };
    const char *names[INPUTS_MAX];
    struct net_attribute *attributes = NULL;
    char *name = graph_fresh_name(network, base, op);
    int code = name ? 0 : ivon_error_memory(error);
    if (!code && attribute)
        code = append_attributes(&attributes, attribute, integers, count, list, error);
    for (size_t i = 0; i < input_count && i < INPUTS_MAX; i++)
        names[i] = network->values[inputs[i]].name;
    if (!code)
        code = graph_add_node(network, net_operator_find(NULL, op, APPEND_OPSET), name, names,
                              input_count, (const char *const *)&name, 1, attributes,
                              attribute ? 1 : 0, error);
    if (!code)
        *made = graph_find(network, name);
    free(name);
    return code;
}

int graph_append_sum(struct ivon_network *network, const char *name, const char *const inputs[2],
                     const char *output, struct ivon_error *error)
{
    return graph_add_node(network, net_operator_find(NULL, "Add", APPEND_OPSET), name, inputs, 2,
                          &output, 1, NULL, 0, error);
}

int graph_append(struct ivon_network *network, const char *op, const char *base,
                 const size_t *inputs, size_t input_count, size_t *made, struct ivon_error *error)
{
    return graph_append_with(network, op, base, inputs, input_count, NULL, NULL, 0, false, made,
                             error);
}

static int append_constant(struct ivon_network *network, const char *base, enum net_type type,
                           int rank, int64_t count, const void *elements, size_t *made,
                           struct ivon_error *error)
{
    struct net_tensor tensor = {0};
    char *name = graph_fresh_name(network, base, "constant");
    int code = name ? net_tensor_set(&tensor, type, rank, &count, error) : ivon_error_memory(error);
    if (!code)
        code = net_tensor_allocate(&tensor, error);
    if (!code) {
        memcpy(tensor.data, elements, tensor.count * net_type_size(type));
        code = graph_add_constant(network, name, &tensor, error);
    }
    if (!code) {
        *made = graph_find(network, name);
        network->values[*made].bound = network->values[*made].set = true;
    }
    free(name);
    return code;
}

int graph_append_integers(struct ivon_network *network, const char *base, const int64_t *integers,
                          size_t count, size_t *made, struct ivon_error *error)
{
    return append_constant(network, base, NET_INTEGER, 1, (int64_t)count, integers, made, error);
}

int graph_append_number(struct ivon_network *network, const char *base, float number, size_t *made,
                        struct ivon_error *error)
{
    return append_constant(network, base, NET_FLOAT, 0, 1, &number, made, error);
}

int graph_append_extent(struct ivon_network *network, size_t value, int64_t axis, size_t *made,
                        struct ivon_error *error)
{
    const char *base = network->values[value].name;
    size_t inputs[2];
    int code = graph_append(network, "Shape", base, &value, 1, &inputs[0], error);
    if (!code)
        code = graph_append_integers(network, base, &axis, 1, &inputs[1], error);
    return code ? code : graph_append(network, "Gather", base, inputs, 2, made, error);
}

int graph_exchange_start(struct graph_exchange *exchange, const struct ivon_network *network,
                         struct ivon_error *error)
{
    *exchange = (struct graph_exchange){
        .nodes = network->node_count,
        .values = network->value_count,
        .by = calloc(network->value_count + 1, sizeof *exchange->by)};
    for (size_t i = 0; exchange->by && i < exchange->values; i++)
        exchange->by[i] = i;
    return exchange->by ? 0 : ivon_error_memory(error);
}

void graph_exchange_finish(struct graph_exchange *exchange, struct ivon_network *network)
{
    for (size_t i = 0; i < exchange->nodes; i++) {
        struct net_node *node = &network->nodes[i];
        for (size_t j = 0; j < node->input_count; j++)
            if (node->inputs[j] != NET_NONE)
                node->inputs[j] = exchange->by[node->inputs[j]];
    }
    for (size_t i = 0; i < network->output_count; i++)
        network->outputs[i] = exchange->by[network->outputs[i]];
    free(exchange->by);
    exchange->by = NULL;
}
