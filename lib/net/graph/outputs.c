/* The output of a network: which of those that a graph has, what it ends in, and the order of its
   axes. */
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/graph/adapt.h"
#include "net/graph/operator.h"

/* The choice. */

static int output_unknown(const struct ivon_network *network, const char *name,
                          struct ivon_error *error)
{
    char list[512];
    size_t used = 0;
    list[0] = '\0';
    for (size_t i = 0; i < network->listed_count && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s'%s'", i ? ", " : "",
                                 network->values[network->listed[i].value].name);
    return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: the graph has no output '%s', but %s",
                          network->path, name, list);
}

/* The index of an output in the file's list; listed_count: there is none of that name. */
static size_t output_find(const struct ivon_network *network, const char *name)
{
    size_t i = 0;
    if (!name) {
        while (i < network->listed_count && network->listed[i].no_floats)
            i++;
        return i < network->listed_count ? i : 0;
    }
    while (i < network->listed_count &&
           strcmp(network->values[network->listed[i].value].name, name) != 0)
        i++;
    return i;
}

/* Lets values that no node takes be none: no checkpoint gives them elements, and no data. */
static int forget_unused(struct ivon_network *network, struct ivon_error *error)
{
    bool *used = calloc(network->value_count + 1, sizeof *used);
    if (!used)
        return ivon_error_memory(error);
    for (size_t i = 0; i < network->node_count; i++)
        for (size_t j = 0; j < network->nodes[i].input_count; j++)
            if (network->nodes[i].inputs[j] != NET_NONE)
                used[network->nodes[i].inputs[j]] = true;
    used[network->outputs[0]] = true;
    size_t kept = 0;
    for (size_t i = 0; i < network->input_count; i++)
        if (used[network->inputs[i]])
            network->inputs[kept++] = network->inputs[i];
    network->input_count = kept;
    for (size_t i = 0; i < network->value_count; i++) {
        struct net_value *value = &network->values[i];
        if (used[i] || value->role == NET_COMPUTED)
            continue;
        free(value->tensor.data);
        value->tensor = (struct net_tensor){0};
        value->role = NET_COMPUTED;
        value->typed = false;
    }
    free(used);
    return 0;
}

int graph_choose_output(struct ivon_network *network, const char *name, const char **passed_over,
                        struct ivon_error *error)
{
    size_t index = output_find(network, name);
    if (index == network->listed_count)
        return output_unknown(network, name, error);
    const struct net_output *output = &network->listed[index];
    if (passed_over)
        *passed_over = !name && index ? network->values[network->listed[0].value].name : NULL;
    network->chosen = true;
    if (network->listed_count == 1)
        return graph_check(network, error);
    network->listed[0] = *output;
    network->listed_count = 1;
    network->outputs[0] = network->listed[0].value;
    network->output_count = 1;
    int code = graph_finish(network, error);
    if (!code)
        code = ivon_error_hint(error, IVON_HINT_OUTPUT, graph_check(network, error));
    return code ? code : forget_unused(network, error);
}

/* The end. */

/* How many inputs of nodes a value is that need its elements. */
static size_t count_uses(const struct ivon_network *network, size_t value)
{
    size_t uses = 0;
    for (size_t i = 0; i < network->node_count; i++)
        for (size_t j = 0; j < network->nodes[i].input_count; j++)
            uses += network->nodes[i].inputs[j] == value &&
                    !(network->nodes[i].op->flags & NET_SHAPE_ONLY);
    return uses;
}

/* Returns whether a node passes the elements of its input 0 on, in their order. */
static bool passes_on(const struct net_node *node)
{
    enum { FLOAT = 1, DOUBLE = 11 }; /* ONNX's numbers of types that are float here */
    int64_t to = net_attribute_integer(node, "to", 0);
    return node->op->flags & (NET_ALIAS | NET_IDENTITY) ||
           (node->op->flags & NET_CAST && (to == FLOAT || to == DOUBLE));
}

/* Returns whether a softmax runs along the axis of classes. `rank` is of its output; -1: not
   known, and then axis 1 is taken for that of examples x classes. */
static bool along_classes(const struct net_node *node, int rank, int class_axis)
{
    enum { ONE_AXIS = 13 /* before that opset all axes from `axis` on are one */ };
    bool flat = net_operator_until(node->op) <= ONE_AXIS;
    int64_t axis = net_attribute_integer(node, "axis", flat ? 1 : -1);
    int last = rank > 0 ? rank - 1 : 1;
    if (axis < 0)
        axis += last + 1;
    if (flat)
        return axis == last && (class_axis < 0 || class_axis == last);
    return axis == (class_axis < 0 ? last : class_axis);
}

const char *graph_cut_link(struct ivon_network *network, enum ivon_link link, int class_axis)
{
    enum { PASSED_MAX = 32 /* nodes behind it: an untrusted graph may have any number */ };
    const unsigned flags[] = {[IVON_LINK_IDENTITY] = 0,
                              [IVON_LINK_SOFTMAX] = NET_SOFTMAX | NET_LOG_SOFTMAX,
                              [IVON_LINK_LOGISTIC] = NET_LOGISTIC};
    size_t value = network->outputs[0], *taken = &network->outputs[0];
    int rank = network->listed[0].rank;
    for (int passed = 0; passed <= PASSED_MAX; passed++) {
        size_t producer = network->values[value].producer;
        struct net_node *node = producer == NET_NONE ? NULL : &network->nodes[producer];
        if (!node || node->outputs[0] != value || count_uses(network, value) != (passed > 0))
            return NULL;
        if (node->op->flags & flags[link]) {
            if (link == IVON_LINK_SOFTMAX && !along_classes(node, rank, class_axis))
                return NULL;
            *taken = node->inputs[0];
            return node->op->name;
        }
        if (!passes_on(node))
            return NULL;
        if (!(node->op->flags & (NET_IDENTITY | NET_CAST)))
            rank = -1;
        taken = &node->inputs[0];
        value = node->inputs[0];
    }
    return NULL;
}

int graph_invert_link(struct ivon_network *network, enum ivon_link link, struct ivon_error *error)
{
    const char *base = network->values[network->outputs[0]].name;
    size_t p[3] = {network->outputs[0]}, log_p, rest[2], odds[2];
    bool events = link == IVON_LINK_LOGISTIC;
    int code = graph_append_number(network, base, FLT_MIN, &p[1], error);
    if (!code && events)
        code = graph_append_number(network, base, 1 - FLT_EPSILON / 2, &p[2], error);
    if (!code)
        code = graph_append(network, "Clip", base, p, events ? 3 : 2, &rest[1], error);
    if (!code)
        code = graph_append(network, "Log", base, &rest[1], 1, &log_p, error);
    network->outputs[0] = code ? network->outputs[0] : log_p;
    if (code || !events)
        return code;
    code = graph_append_number(network, base, 1, &rest[0], error);
    if (!code)
        code = graph_append(network, "Sub", base, rest, 2, &odds[1], error);
    if (!code)
        code = graph_append(network, "Log", base, &odds[1], 1, &odds[1], error);
    odds[0] = log_p;
    return code ? code : graph_append(network, "Sub", base, odds, 2, &network->outputs[0], error);
}

/* Axes. */

static int output_transpose(struct ivon_network *network, const int64_t *perm, size_t rank,
                            struct ivon_error *error)
{
    size_t output = network->outputs[0];
    return graph_append_with(network, "Transpose", network->values[output].name, &output, 1, "perm",
                             perm, rank, true, &network->outputs[0], error);
}

int graph_output_batch_first(struct ivon_network *network, int axis, struct ivon_error *error)
{
    int64_t perm[IVON_RANK_MAX];
    int rank = network->listed[0].rank;
    if (!axis)
        return 0;
    if (rank < 0)
        return ivon_error_hint(
            error, IVON_HINT_OUTPUT_AXES,
            ivon_error_set(error, IVON_ERROR_DATA,
                           "%s: the graph does not say how many axes its output '%s' has",
                           network->path, network->values[network->outputs[0]].name));
    if (axis >= rank)
        return 0;
    for (int i = 0; i < rank; i++)
        perm[i] = i == 0 ? axis : i <= axis ? i - 1 : i;
    return output_transpose(network, perm, (size_t)rank, error);
}

/* Reshapes to what a list of integers says, in which 0 keeps the extent and -1 takes the rest; its
   last one is the extent of the output's axis `kept`, unless that is 0. */
static int output_reshape(struct ivon_network *network, const int64_t *shape, size_t count,
                          int64_t kept, struct ivon_error *error)
{
    size_t inputs[2] = {network->outputs[0]}, parts[2];
    const char *base = network->values[inputs[0]].name;
    const int64_t along = 0;
    int code = graph_append_integers(network, base, shape, count - (kept ? 1 : 0), &parts[0],
                                     error);
    inputs[1] = parts[0];
    if (!code && kept)
        code = graph_append_extent(network, inputs[0], kept, &parts[1], error);
    if (!code && kept)
        code = graph_append_with(network, "Concat", base, parts, 2, "axis", &along, 1, false,
                                 &inputs[1], error);
    return code ? code
                : graph_append(network, "Reshape", base, inputs, 2, &network->outputs[0], error);
}

int graph_order_output(struct ivon_network *network, const enum ivon_axis *axes, size_t count,
                       struct ivon_error *error)
{
    static const enum ivon_axis order[] = {IVON_AXIS_BATCH, IVON_AXIS_TOKEN, IVON_AXIS_CLASS};
    int64_t perm[IVON_RANK_MAX], shape[IVON_RANK_MAX + 1] = {0};
    size_t found[3] = {0}, at = 0;
    if (count > IVON_RANK_MAX)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "an output has at most %d axes",
                              IVON_RANK_MAX);
    for (size_t kind = 0; kind < 3; kind++)
        for (size_t i = 0; i < count; i++)
            if (axes[i] == order[kind]) {
                perm[at++] = (int64_t)i;
                found[kind]++;
            }
    if (found[0] != 1 || at != count)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the output has %zu axes of examples, expected one", found[0]);
    int code = output_transpose(network, perm, count, error);
    if (!code && found[2] > 1) {
        shape[1 + found[1]] = -1; /* classes as one axis, behind the tokens as they are */
        code = output_reshape(network, shape, 2 + found[1], 0, error);
        shape[1 + found[1]] = 0;
    }
    shape[1] = -1;
    shape[2] = 1;
    if (!code && found[1] && !found[2])
        code = output_reshape(network, shape, 3, 0, error);
    if (!code && found[1] > 1 && found[2])
        code = output_reshape(network, shape, 3, (int64_t)found[1] + 1, error);
    return code;
}
