#include "net/graph/training.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/graph/operator.h"

enum { SCALE = 1, MEAN = 3, VARIANCE };

struct net_training {
    struct ivon_network *network;
    struct net_running *nodes;
    size_t count, size;
    struct net_dropouts dropouts;
};

bool net_is_batch_norm(const struct net_node *node)
{
    return node->op->flags & NET_BATCH_NORM && net_attribute_integer(node, "spatial", 1);
}

/* Returns whether a node is one of NET_OVER_AXES that takes statistics over axis 0. */
static bool is_over_examples(const struct net_node *node)
{
    size_t count;
    const int64_t *axes = net_attribute_integers(node, "axes", &count);
    bool over = node->op->flags & NET_OVER_AXES && !axes;
    for (size_t i = 0; axes && i < count; i++)
        over |= node->op->flags & NET_OVER_AXES && axes[i] == 0;
    return over;
}

int net_expect_evaluation(const struct ivon_network *network, struct ivon_error *error)
{
    for (size_t i = 0; i < network->node_count; i++) {
        const struct net_node *node = &network->nodes[i];
        if (net_is_batch_norm(node) && net_attribute_integer(node, "training_mode", 0))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: node '%s' (%s): normalizes by the statistics of each batch; "
                                  "export the network in evaluation mode",
                                  network->path, node->name, node->op->name);
        if (is_over_examples(node))
            return ivon_error_set(
                error, IVON_ERROR_DATA,
                "%s: node '%s' (%s): normalizes over axis 0, so that an example's "
                "outputs depend on the others; expected other axes",
                network->path, node->name, node->op->name);
    }
    return 0;
}

/* Returns the constant that an input is, directly or through Identity nodes; or NET_NONE. */
static size_t find_constant(const struct ivon_network *network, size_t value)
{
    while (value != NET_NONE && network->values[value].producer != NET_NONE) {
        const struct net_node *node = &network->nodes[network->values[value].producer];
        value = node->op->flags & NET_IDENTITY ? node->inputs[0] : NET_NONE;
    }
    return value != NET_NONE && network->values[value].role == NET_CONSTANT ? value : NET_NONE;
}

/* Replaces the output of an Identity by a constant of its own. */
static int detach_constant(struct ivon_network *network, size_t index, struct ivon_error *error)
{
    struct net_value *value = &network->values[index];
    const struct net_tensor *from = &network->values[find_constant(network, index)].tensor;
    if (value->role == NET_CONSTANT)
        return 0;
    struct net_tensor own = *from;
    int code = net_tensor_allocate(&own, error);
    if (code)
        return code;
    memcpy(own.data, from->data, own.count * net_type_size(own.type));
    graph_cut_identity(network, value);
    value->role = NET_CONSTANT;
    value->typed = true;
    value->tensor = own;
    return 0;
}

/* A module that is used twice has nodes that share everything. Other nodes must not share
   statistics. */
static int check_shared_statistics(const struct net_training *training,
                                   const struct net_running *running, struct ivon_error *error)
{
    const struct ivon_network *network = training->network;
    const struct net_node *node = &network->nodes[running->node];
    for (size_t i = 0; i < training->count; i++) {
        const struct net_running *other = &training->nodes[i];
        const struct net_node *earlier = &network->nodes[other->node];
        bool mean = other->mean == running->mean, variance = other->variance == running->variance;
        if ((mean || variance) && earlier->inputs[SCALE] != node->inputs[SCALE])
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: nodes '%s' and '%s' (%s) have different scales and the "
                                  "same running statistics '%s'",
                                  network->path, earlier->name, node->name, node->op->name,
                                  network->values[mean ? running->mean : running->variance].name);
    }
    return 0;
}

static int training_add_node(struct net_training *training, size_t index, struct ivon_error *error)
{
    struct ivon_network *network = training->network;
    const struct net_node *node = &network->nodes[index];
    struct net_running running = {index, node->inputs[MEAN], node->inputs[VARIANCE], 0};
    size_t mean = find_constant(network, running.mean);
    size_t variance = find_constant(network, running.variance);
    if (mean == NET_NONE || variance == NET_NONE)
        return 0;
    running.channels = network->values[mean].tensor.count;
    if (network->values[mean].tensor.type != NET_FLOAT ||
        network->values[variance].tensor.type != NET_FLOAT ||
        network->values[variance].tensor.count != running.channels)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: node '%s' (%s): its running mean and variance are not floats "
                              "of one size",
                              network->path, node->name, node->op->name);
    int code = detach_constant(network, running.mean, error);
    if (!code)
        code = detach_constant(network, running.variance, error);
    if (!code)
        code = check_shared_statistics(training, &running, error);
    if (code)
        return code;
    training->nodes[training->count++] = running;
    training->size += 2 * running.channels;
    return 0;
}

int net_training_none(struct net_training **out, struct ivon_network *network,
                      struct ivon_error *error)
{
    int code = net_expect_evaluation(network, error);
    struct net_training *training = code ? NULL : calloc(1, sizeof *training);
    if (training)
        training->nodes = calloc(network->node_count + 1, sizeof *training->nodes);
    if (!code && (!training || !training->nodes))
        code = ivon_error_memory(error);
    if (code) {
        net_training_free(training);
        return code;
    }
    training->network = network;
    *out = training;
    return 0;
}

int net_training_new(struct net_training **out, struct ivon_network *network,
                     struct ivon_error *error)
{
    struct net_training *training = NULL;
    int code = net_training_none(&training, network, error);
    for (size_t i = 0; i < network->node_count && !code; i++)
        if (net_is_batch_norm(&network->nodes[i]))
            code = training_add_node(training, i, error);
    if (code) {
        net_training_free(training);
        return code;
    }
    *out = training;
    return 0;
}

void net_training_free(struct net_training *training)
{
    if (!training)
        return;
    net_dropouts_release(&training->dropouts);
    free(training->nodes);
    free(training);
}

size_t net_training_count(const struct net_training *training)
{
    return training->count;
}

const struct net_running *net_training_node(const struct net_training *training, size_t i)
{
    return &training->nodes[i];
}

bool net_training_has(const struct net_training *training, size_t node)
{
    for (size_t i = 0; i < training->count; i++)
        if (training->nodes[i].node == node)
            return true;
    return false;
}

struct net_dropouts *net_training_dropouts(struct net_training *training)
{
    return &training->dropouts;
}

const struct net_dropout *net_training_dropout(const struct net_training *training, size_t node)
{
    return net_dropouts_at(&training->dropouts, node);
}

size_t net_training_size(const struct net_training *training)
{
    return training->size;
}

static const double *training_move_statistics(struct net_tensor *running, const double *statistics,
                                              double momentum)
{
    float *values = running->data;
    for (size_t c = 0; c < running->count; c++)
        values[c] = (float)((double)values[c] * (1 - momentum) + statistics[c] * momentum);
    return statistics + running->count;
}

void net_training_update(struct net_training *training, const double *statistics, double momentum)
{
    struct net_value *values = training->network->values;
    for (size_t i = 0; i < training->count; i++) {
        const struct net_running *running = &training->nodes[i];
        statistics = training_move_statistics(&values[running->mean].tensor, statistics, momentum);
        statistics = training_move_statistics(&values[running->variance].tensor, statistics,
                                              momentum);
    }
}
