/*
 * The weights of layers are told from other constants by what is done with them: whatever a layer
 * applies to data is a weight. Masks and statistics are none.
 */
#include <stdlib.h>

#include "net/graph/bind.h"
#include "net/graph/operator.h"

/* For each value, whether its elements depend on inputs of the network. */
static bool *layers_find_data(const struct ivon_network *network)
{
    bool *data = calloc(network->value_count + 1, sizeof *data);
    for (size_t i = 0; data && i < network->input_count; i++)
        data[network->inputs[i]] = true;
    for (size_t i = 0; data && i < network->node_count; i++) {
        const struct net_node *node = &network->nodes[i];
        bool any = false;
        for (size_t k = 0; k < node->input_count && !(node->op->flags & NET_SHAPE_ONLY); k++)
            any |= node->inputs[k] != NET_NONE && data[node->inputs[k]];
        for (size_t k = 0; k < node->output_count; k++)
            if (node->outputs[k] != NET_NONE)
                data[node->outputs[k]] = any;
    }
    return data;
}

/* Returns whether input `k` of a node that computes with data, if it is none, is a weight. */
static bool layers_applies(const struct ivon_network *network, const struct net_node *node,
                           size_t k)
{
    const struct net_tensor *tensor = &network->values[node->inputs[k]].tensor;
    return node->op->weights >> k & 1 ||
           (node->op->vectors >> k & 1 && tensor->rank == 1 && tensor->count > 1);
}

bool *graph_layer_weights(const struct ivon_network *network)
{
    bool *data = layers_find_data(network), *weights = NULL;
    if (data)
        weights = calloc(network->value_count + 1, sizeof *weights);
    for (size_t i = network->node_count; weights && i-- > 0;) {
        const struct net_node *node = &network->nodes[i];
        bool computes = false, gives = false; /* with data; a weight */
        for (size_t k = 0; k < node->output_count; k++)
            if (node->outputs[k] != NET_NONE) {
                computes |= data[node->outputs[k]];
                gives |= weights[node->outputs[k]];
            }
        for (size_t k = 0; k < node->input_count && k < 32; k++)
            if (node->inputs[k] != NET_NONE && !data[node->inputs[k]])
                weights[node->inputs[k]] |= computes ? layers_applies(network, node, k) : gives;
    }
    free(data);
    return weights;
}
