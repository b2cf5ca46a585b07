#include "net/graph/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "net/graph/operator.h"

void net_attributes_free(struct net_attribute *attributes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(attributes[i].name);
        free(attributes[i].text);
        free(attributes[i].integers);
        free(attributes[i].numbers);
        free(attributes[i].tensor.data);
    }
    free(attributes);
}

int net_attribute_constant(const struct net_attribute *attribute, struct net_tensor *tensor,
                           struct ivon_error *error)
{
    bool integers = attribute->kind == NET_INT || attribute->kind == NET_INTS;
    bool list = attribute->kind == NET_INTS || attribute->kind == NET_FLTS;
    const struct net_tensor *held = attribute->kind == NET_TENSOR ? &attribute->tensor : NULL;
    const int64_t length = (int64_t)attribute->count;
    int code = held ? net_tensor_set(tensor, held->type, held->rank, held->shape, error)
                    : net_tensor_set(tensor, integers ? NET_INTEGER : NET_FLOAT, list, &length,
                                     error);
    if (!code)
        code = net_tensor_allocate(tensor, error);
    if (code)
        return code;
    if (held && held->count)
        memcpy(tensor->data, held->data, held->count * net_type_size(held->type));
    for (size_t i = 0; i < tensor->count && !held; i++) {
        if (integers)
            ((int64_t *)tensor->data)[i] = list ? attribute->integers[i] : attribute->integer;
        else
            ((float *)tensor->data)[i] = (float)(list ? attribute->numbers[i] : attribute->number);
    }
    return 0;
}

static void free_node(struct net_node *node)
{
    free(node->name);
    free(node->inputs);
    free(node->outputs);
    free(node->guards);
    free(node->refusal);
    free(node->refused_operator);
    net_attributes_free(node->attributes, node->attribute_count);
}

void ivon_network_free(struct ivon_network *network)
{
    if (!network)
        return;
    for (size_t i = 0; i < network->value_count; i++) {
        free(network->values[i].name);
        free(network->values[i].tensor.data);
    }
    for (size_t i = 0; i < network->node_count; i++)
        free_node(&network->nodes[i]);
    free(network->values);
    free(network->nodes);
    free(network->inputs);
    free(network->outputs);
    free(network->listed);
    free(network->parameters);
    free(network->by_name);
    free(network->path);
    free(network);
}

int graph_new(struct ivon_network **out, const char *path, struct ivon_error *error)
{
    struct ivon_network *network = calloc(1, sizeof *network);
    if (network)
        network->path = strdup(path);
    if (!network || !network->path) {
        ivon_network_free(network);
        return ivon_error_memory(error);
    }
    *out = network;
    return 0;
}

/* Reserves memory for one more element; false when memory is exhausted. */
static bool graph_reserve(void *items, size_t count, size_t *capacity, size_t size)
{
    void **array = items;
    if (count < *capacity)
        return true;
    size_t larger = *capacity ? 2 * *capacity : 32;
    void *grown = realloc(*array, larger * size);
    if (!grown)
        return false;
    *array = grown;
    *capacity = larger;
    return true;
}

/* Names to values. */

static uint64_t hash(const char *name)
{
    uint64_t value = 14695981039346656037U; /* FNV-1a */
    for (; *name; name++)
        value = (value ^ (unsigned char)*name) * 1099511628211U;
    return value;
}

/* The slot of the table that holds the name, or that would hold it. */
static size_t *slot(const struct ivon_network *network, const char *name)
{
    size_t mask = network->by_name_size - 1;
    size_t at = hash(name) & mask;
    while (network->by_name[at] != NET_NONE &&
           strcmp(network->values[network->by_name[at]].name, name) != 0)
        at = (at + 1) & mask;
    return &network->by_name[at];
}

size_t graph_find(const struct ivon_network *network, const char *name)
{
    return network->by_name_size ? *slot(network, name) : NET_NONE;
}

static bool grow_name_table(struct ivon_network *network)
{
    if (2 * (network->value_count + 1) <= network->by_name_size)
        return true;
    size_t size = network->by_name_size ? 2 * network->by_name_size : 64;
    size_t *table = malloc(size * sizeof *table);
    if (!table)
        return false;
    for (size_t i = 0; i < size; i++)
        table[i] = NET_NONE;
    free(network->by_name);
    network->by_name = table;
    network->by_name_size = size;
    for (size_t i = 0; i < network->value_count; i++)
        *slot(network, network->values[i].name) = i;
    return true;
}

int graph_value(struct ivon_network *network, const char *name, size_t *value,
                struct ivon_error *error)
{
    size_t found = graph_find(network, name);
    if (found != NET_NONE) {
        *value = found;
        return 0;
    }
    char *copy = strdup(name);
    if (!copy || !grow_name_table(network) ||
        !graph_reserve(&network->values, network->value_count, &network->value_capacity,
                       sizeof *network->values)) {
        free(copy);
        return ivon_error_memory(error);
    }
    *slot(network, name) = *value = network->value_count;
    network->values[network->value_count++] = (struct net_value){
        .name = copy, .role = NET_COMPUTED, .producer = NET_NONE};
    return 0;
}

/* Appends a value's number to a list without spare capacity. */
static bool append(size_t **list, size_t *count, size_t value)
{
    size_t *grown = realloc(*list, (*count + 1) * sizeof *grown);
    if (!grown)
        return false;
    *list = grown;
    grown[(*count)++] = value;
    return true;
}

static int defined_twice(const struct ivon_network *network, const char *name,
                         struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: value '%s' is defined twice", network->path,
                          name);
}

int graph_add_input(struct ivon_network *network, const char *name, enum net_type type, int rank,
                    const int64_t *shape, struct ivon_error *error)
{
    size_t index;
    int code = graph_value(network, name, &index, error);
    if (code || network->values[index].role == NET_CONSTANT)
        return code;
    struct net_value *value = &network->values[index];
    if (value->role == NET_INPUT)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: input '%s' is declared twice",
                              network->path, name);
    if (rank > IVON_RANK_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: input '%s' has %d dimensions, at most %d are supported",
                              network->path, name, rank, IVON_RANK_MAX);
    value->role = NET_INPUT;
    value->typed = true;
    value->tensor = (struct net_tensor){.type = type, .rank = rank};
    for (int i = 0; i < rank; i++)
        value->tensor.shape[i] = shape[i] < 0 ? -1 : shape[i];
    return append(&network->inputs, &network->input_count, index) ? 0 : ivon_error_memory(error);
}

void graph_forget_input(struct ivon_network *network, size_t value)
{
    size_t kept = 0;
    for (size_t i = 0; i < network->input_count; i++)
        if (network->inputs[i] != value)
            network->inputs[kept++] = network->inputs[i];
    network->input_count = kept;
}

int graph_add_constant(struct ivon_network *network, const char *name, struct net_tensor *tensor,
                       struct ivon_error *error)
{
    size_t index = NET_NONE;
    int code = graph_value(network, name, &index, error);
    if (!code && (network->values[index].role == NET_CONSTANT ||
                  network->values[index].producer != NET_NONE))
        code = defined_twice(network, name, error);
    if (code) {
        free(tensor->data);
        tensor->data = NULL;
        return code;
    }
    struct net_value *value = &network->values[index];
    if (value->role == NET_INPUT)
        graph_forget_input(network, index);
    value->role = NET_CONSTANT;
    value->typed = true;
    value->tensor = *tensor;
    tensor->data = NULL;
    return 0;
}

int graph_add_output(struct ivon_network *network, const char *name, struct ivon_error *error)
{
    size_t index;
    int code = graph_value(network, name, &index, error);
    struct net_output *grown = code ? NULL
                                    : realloc(network->listed,
                                              (network->listed_count + 1) * sizeof *grown);
    if (grown)
        network->listed = grown;
    if (!code && (!grown || !append(&network->outputs, &network->output_count, index)))
        code = ivon_error_memory(error);
    if (!code)
        grown[network->listed_count++] = (struct net_output){.value = index, .rank = -1};
    return code;
}

void graph_describe_output(struct ivon_network *network, bool no_floats, int rank)
{
    struct net_output *last = &network->listed[network->listed_count - 1];
    last->no_floats = no_floats;
    last->rank = rank;
}

/* Nodes. */

static const char *kind_name(enum net_attribute_kind kind)
{
    static const char *const names[] = {
        [NET_INT] = "an integer", [NET_FLT] = "a number", [NET_TEXT] = "text",
        [NET_INTS] = "integers",  [NET_FLTS] = "numbers", [NET_TEXTS] = "texts",
        [NET_TENSOR] = "a tensor"};
    return names[kind];
}

/* Each sets `reason` where a node is not as its operator's row says. */

static void check_attribute(const struct net_node *node, const struct net_attribute *attribute,
                            char *reason, size_t size)
{
    const struct net_operator *op = node->op;
    for (size_t i = 0; i < NET_OPERATOR_ATTRIBUTES_MAX && op->attributes[i].name; i++) {
        if (strcmp(op->attributes[i].name, attribute->name) != 0)
            continue;
        if (op->attributes[i].kind != attribute->kind)
            snprintf(reason, size, "node '%s' (%s): attribute '%s' is %s, expected %s", node->name,
                     op->name, attribute->name, kind_name(attribute->kind),
                     kind_name(op->attributes[i].kind));
        return;
    }
    snprintf(reason, size, "node '%s' (%s): attribute '%s' is not supported", node->name, op->name,
             attribute->name);
}

static void check_node(const struct net_node *node, char *reason, size_t size)
{
    const struct net_operator *op = node->op;
    bool too_many = op->inputs_max != NET_VARIADIC && node->input_count > (size_t)op->inputs_max;
    bool many = op->outputs_max != NET_VARIADIC && node->output_count > (size_t)op->outputs_max;
    bool first_optional = op->outputs_max == NET_VARIADIC || op->flags & NET_FIRST_OPTIONAL;
    *reason = '\0';
    if (node->input_count < (size_t)op->inputs_min || too_many)
        snprintf(reason, size, "node '%s' (%s) has %zu inputs, expected %s%d", node->name, op->name,
                 node->input_count, too_many ? "at most " : "at least ",
                 too_many ? op->inputs_max : op->inputs_min);
    for (int i = 0; i < op->inputs_min && !*reason; i++)
        if (node->inputs[i] == NET_NONE)
            snprintf(reason, size, "node '%s' (%s): input %d is missing", node->name, op->name,
                     i + 1);
    if (!*reason && (!node->output_count || many))
        snprintf(reason, size, "node '%s' (%s) has %zu outputs, expected %d", node->name, op->name,
                 node->output_count, op->outputs_max);
    else if (!*reason && !first_optional && node->outputs[0] == NET_NONE)
        snprintf(reason, size,
                 "node '%s' (%s): output 1 has no name, expected one: only further outputs can be "
                 "left out",
                 node->name, op->name);
    for (size_t i = 0; i < node->attribute_count && !*reason; i++)
        check_attribute(node, &node->attributes[i], reason, size);
}

/* Turns a node that is not as its operator's row says into one that cannot be run. */
static int refuse_mistake(struct net_node *node, struct ivon_error *error)
{
    char reason[512];
    if (node->refusal)
        return 0;
    check_node(node, reason, sizeof reason);
    if (!*reason)
        return 0;
    node->op = &net_refused;
    node->refusal = strdup(reason);
    return node->refusal ? 0 : ivon_error_memory(error);
}

static int copy_guards(const struct ivon_network *network, struct net_node *node,
                       struct ivon_error *error)
{
    node->guards = calloc(network->guard_count + 1, sizeof *node->guards);
    if (!node->guards)
        return ivon_error_memory(error);
    node->guard_count = network->guard_count;
    for (size_t i = 0; i < node->guard_count; i++)
        node->guards[i] = network->guards[i];
    return 0;
}

static int list_values(struct ivon_network *network, size_t **out, const char *const *names,
                       size_t count, struct ivon_error *error)
{
    *out = calloc(count ? count : 1, sizeof **out);
    if (!*out)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++) {
        (*out)[i] = NET_NONE;
        int code = *names[i] ? graph_value(network, names[i], &(*out)[i], error) : 0;
        if (code)
            return code;
    }
    return 0;
}

static int set_producers(struct ivon_network *network, const struct net_node *node,
                         struct ivon_error *error)
{
    for (size_t i = 0; i < node->output_count; i++) {
        struct net_value *value = node->outputs[i] == NET_NONE ? NULL
                                                               : &network->values[node->outputs[i]];
        if (!value)
            continue;
        if (value->producer != NET_NONE || value->role != NET_COMPUTED)
            return defined_twice(network, value->name, error);
        value->producer = network->node_count;
    }
    return 0;
}

/* Adds a node whose operator, name, attributes and refusal are set; takes it over in any case. */
static int graph_push(struct ivon_network *network, struct net_node *node,
                      const char *const *inputs, const char *const *outputs,
                      struct ivon_error *error)
{
    int code = node->name ? 0 : ivon_error_memory(error);
    if (!code)
        code = list_values(network, &node->inputs, inputs, node->input_count, error);
    if (!code)
        code = list_values(network, &node->outputs, outputs, node->output_count, error);
    if (!code)
        code = copy_guards(network, node, error);
    if (!code)
        code = refuse_mistake(node, error);
    if (!code && !graph_reserve(&network->nodes, network->node_count, &network->node_capacity,
                                sizeof *network->nodes))
        code = ivon_error_memory(error);
    if (!code)
        code = set_producers(network, node, error);
    if (code)
        free_node(node);
    else
        network->nodes[network->node_count++] = *node;
    return code;
}

int graph_add_node(struct ivon_network *network, const struct net_operator *op, const char *name,
                   const char *const *inputs, size_t input_count, const char *const *outputs,
                   size_t output_count, struct net_attribute *attributes, size_t attribute_count,
                   struct ivon_error *error)
{
    struct net_node node = {.op = op,
                            .name = strdup(name),
                            .input_count = input_count,
                            .output_count = output_count,
                            .attributes = attributes,
                            .attribute_count = attribute_count};
    return graph_push(network, &node, inputs, outputs, error);
}

int graph_add_refused(struct ivon_network *network, const char *operator_name, const char *refusal,
                      const char *name, const char *const *inputs, size_t input_count,
                      const char *const *outputs, size_t output_count, struct ivon_error *error)
{
    struct net_node node = {.op = &net_refused,
                            .name = strdup(name),
                            .input_count = input_count,
                            .output_count = output_count,
                            .refusal = strdup(refusal)};
    if (operator_name)
        node.refused_operator = strdup(operator_name);
    if (!node.refusal || (operator_name && !node.refused_operator)) {
        free_node(&node);
        return ivon_error_memory(error);
    }
    return graph_push(network, &node, inputs, outputs, error);
}

/* Sorting. */

struct sort {
    struct ivon_network *network;
    size_t *order; /* of the nodes that an output needs */
    size_t count;
    size_t *stack; /* nodes whose inputs are being visited */
    size_t *next;  /* per node: the input to visit next; SIZE_MAX: done */
    bool *open;    /* per node: is on the stack */
};

static int undefined(const struct ivon_network *network, size_t value, const struct net_node *node,
                     struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: %s%s%s takes value '%s', which nothing defines", network->path,
                          node ? "node '" : "an output", node ? node->name : "", node ? "'" : "",
                          network->values[value].name);
}

/* Depth-first from a value. It uses no recursion, since an untrusted graph may be arbitrarily
   deep. */
static int graph_visit(struct sort *sort, size_t value, struct ivon_error *error)
{
    struct ivon_network *network = sort->network;
    size_t depth = 0, producer = network->values[value].producer;
    if (producer == NET_NONE)
        return network->values[value].role == NET_COMPUTED ? undefined(network, value, NULL, error)
                                                           : 0;
    if (sort->next[producer] == SIZE_MAX)
        return 0;
    sort->stack[depth++] = producer;
    sort->open[producer] = true;
    while (depth) {
        size_t index = sort->stack[depth - 1];
        const struct net_node *node = &network->nodes[index];
        if (sort->next[index] == node->input_count + node->guard_count) {
            sort->next[index] = SIZE_MAX;
            sort->open[index] = false;
            sort->order[sort->count++] = index;
            depth--;
            continue;
        }
        size_t at = sort->next[index]++;
        size_t input = at < node->input_count ? node->inputs[at]
                                              : node->guards[at - node->input_count].condition;
        if (input == NET_NONE)
            continue;
        size_t from = network->values[input].producer;
        if (from == NET_NONE) {
            if (network->values[input].role == NET_COMPUTED)
                return undefined(network, input, node, error);
        } else if (sort->open[from]) {
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: node '%s' takes what depends on its own output",
                                  network->path, node->name);
        } else if (sort->next[from] != SIZE_MAX) {
            sort->open[from] = true;
            sort->stack[depth++] = from;
        }
    }
    return 0;
}

/* Puts the nodes in the order found, and frees those that are not in it. */
static void reorder(struct sort *sort, struct net_node *sorted)
{
    struct ivon_network *network = sort->network;
    for (size_t i = 0; i < sort->count; i++) {
        sorted[i] = network->nodes[sort->order[i]];
        network->nodes[sort->order[i]] = (struct net_node){0};
    }
    for (size_t i = 0; i < network->value_count; i++)
        network->values[i].producer = NET_NONE;
    for (size_t i = 0; i < network->node_count; i++)
        free_node(&network->nodes[i]);
    free(network->nodes);
    network->nodes = sorted;
    network->node_count = network->node_capacity = sort->count;
    for (size_t i = 0; i < sort->count; i++)
        for (size_t j = 0; j < sorted[i].output_count; j++)
            if (sorted[i].outputs[j] != NET_NONE)
                network->values[sorted[i].outputs[j]].producer = i;
}

int graph_finish(struct ivon_network *network, struct ivon_error *error)
{
    size_t count = network->node_count + 1;
    struct sort sort = {.network = network,
                        .order = calloc(count, sizeof *sort.order),
                        .stack = calloc(count, sizeof *sort.stack),
                        .next = calloc(count, sizeof *sort.next),
                        .open = calloc(count, sizeof *sort.open)};
    struct net_node *sorted = calloc(count, sizeof *sorted);
    int code = 0;
    if (!sort.order || !sort.stack || !sort.next || !sort.open || !sorted)
        code = ivon_error_memory(error);
    else if (!network->output_count)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: the graph has no output", network->path);
    for (size_t i = 0; i < network->output_count && !code; i++)
        code = graph_visit(&sort, network->outputs[i], error);
    if (code)
        free(sorted);
    else
        reorder(&sort, sorted);
    free(sort.order);
    free(sort.stack);
    free(sort.next);
    free(sort.open);
    return code;
}
