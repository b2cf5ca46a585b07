/* The outputs of a graph that can be computed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/graph/operator.h"

/* Returns whether a node's outputs need a node that cannot be run. Branches of an If do not count:
   the plan knows which is taken. */
static bool node_is_refused(const struct ivon_network *network, const bool *refused,
                            const struct net_node *node)
{
    if (node->refusal)
        return node->guard_count == 0;
    for (size_t i = 0; i < node->input_count; i++) {
        size_t from = node->inputs[i] == NET_NONE ? NET_NONE
                                                  : network->values[node->inputs[i]].producer;
        if (from != NET_NONE && refused[from])
            return true;
    }
    return false;
}

/* Returns the number of nodes with an operator that is refused, and finds the first of them. */
static size_t count_refused(const struct ivon_network *network, const char *operator_name,
                            size_t *first)
{
    size_t count = 0;
    for (size_t i = network->node_count; i-- > 0;) {
        const char *name = network->nodes[i].refused_operator;
        if (!name || strcmp(name, operator_name) != 0)
            continue;
        *first = i;
        count++;
    }
    return count;
}

/* "Foo (3 nodes, such as 'a'), Bar (1 node, 'b'; advice)", as much as fits; empty if no operator is
   the reason. */
static void list_refused(const struct ivon_network *network, char *text, size_t size)
{
    size_t length = 0, first = 0;
    *text = '\0';
    for (size_t i = 0; i < network->node_count && length < size; i++) {
        const struct net_node *node = &network->nodes[i];
        if (!node->refused_operator)
            continue;
        size_t count = count_refused(network, node->refused_operator, &first);
        if (first == i)
            length += (size_t)snprintf(text + length, size - length, "%s%s (%zu node%s'%s'%s%s)",
                                       length ? ", " : "", node->refused_operator, count,
                                       count == 1 ? ", " : "s, such as ", node->name,
                                       *node->refusal ? "; " : "", node->refusal);
    }
}

static int refuse(const struct ivon_network *network, struct ivon_error *error)
{
    char text[700];
    list_refused(network, text, sizeof text);
    if (*text)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: operators that are not supported: %s",
                              network->path, text);
    size_t i = 0;
    while (i < network->node_count && !network->nodes[i].refusal)
        i++;
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s", network->path,
                          i < network->node_count ? network->nodes[i].refusal : "");
}

int graph_check(const struct ivon_network *network, struct ivon_error *error)
{
    bool *refused = calloc(network->node_count + 1, sizeof *refused), fine = false;
    if (!refused)
        return ivon_error_memory(error);
    for (size_t i = 0; i < network->node_count; i++)
        refused[i] = node_is_refused(network, refused, &network->nodes[i]);
    for (size_t i = 0; i < network->output_count; i++) {
        size_t from = network->values[network->outputs[i]].producer;
        fine |= from == NET_NONE || !refused[from];
    }
    free(refused);
    return fine ? 0 : refuse(network, error);
}
