#include "net/graph/dropout.h"

#include <math.h>
#include <stdlib.h>

#include "core/error.h"
#include "net/graph/operator.h"

enum { RATIO = 1, TRAINING_MODE };

static const double DEFAULT_RATIO = 0.5; /* of ONNX */

/* The ratio that a node has itself: an attribute, later an input; NaN: it is not known. */
static double dropout_own_ratio(const struct ivon_network *network, const struct net_node *node)
{
    struct net_tensor tensor;
    if (node->input_count <= RATIO || node->inputs[RATIO] == NET_NONE)
        return net_attribute_number(node, "ratio", DEFAULT_RATIO);
    if (!graph_known(network, node->inputs[RATIO], &tensor))
        return NAN;
    double ratio = tensor.type == NET_FLOAT && tensor.count == 1
                       ? (double)*(const float *)tensor.data
                       : NAN;
    free(tensor.data);
    return ratio;
}

/* Takes a node's training mode away, if it has one: in evaluation it passes its input on. */
static void dropout_evaluate(struct net_node *node)
{
    if (node->input_count > TRAINING_MODE)
        node->input_count = TRAINING_MODE;
}

int net_dropouts_find(struct net_dropouts *dropouts, struct ivon_network *network, double ratio,
                      struct ivon_error *error)
{
    *dropouts = (struct net_dropouts){
        .items = calloc(network->node_count + 1, sizeof *dropouts->items)};
    if (!dropouts->items)
        return ivon_error_memory(error);
    for (size_t i = 0; i < network->node_count; i++) {
        struct net_node *node = &network->nodes[i];
        if (!(node->op->flags & NET_DROPOUT) || !node->output_count || node->outputs[0] == NET_NONE)
            continue;
        double own = isnan(ratio) ? dropout_own_ratio(network, node) : (double)(float)ratio;
        if (!(own >= 0 && own < 1))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: node '%s' (%s): its ratio is %s, expected a constant from 0 "
                                  "to below 1",
                                  network->path, node->name, node->op->name,
                                  isnan(own) ? "not known" : "out of bounds");
        dropout_evaluate(node);
        if (own > 0)
            dropouts->items[dropouts->count++] = (struct net_dropout){
                .node = i, .name = network->values[node->outputs[0]].name, .ratio = own};
    }
    return dropouts->count ? 0
                           : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                            "%s: has no Dropout that drops", network->path);
}

void net_dropouts_release(struct net_dropouts *dropouts)
{
    free(dropouts->items);
    *dropouts = (struct net_dropouts){0};
}

const struct net_dropout *net_dropouts_at(const struct net_dropouts *dropouts, size_t node)
{
    for (size_t i = 0; i < dropouts->count; i++)
        if (dropouts->items[i].node == node)
            return dropouts->items[i].inner ? &dropouts->items[i] : NULL;
    return NULL;
}
