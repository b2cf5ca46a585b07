/* Values that are known before a plan is made, such as the condition of an If. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/graph/operator.h"

/* Bounds what an untrusted graph makes us compute. */
enum {
    NODES_MAX = 4096,
    DEPTH_MAX = 64,
    ELEMENTS_MAX = 1 << 16,
    INPUTS_MAX = 64,
    OUTPUTS_MAX = 64
};

struct known {
    const struct ivon_network *network;
    size_t nodes_left;
};

/* Finds the elements of a value, or at least its shape: then tensor->data is null. */
static bool known_value(struct known *known, size_t value, int depth, struct net_tensor *tensor);

static bool known_inputs(struct known *known, const struct net_node *node, int depth,
                         struct net_tensor *tensors, struct net_tensor **inputs)
{
    for (size_t i = 0; i < node->input_count; i++) {
        if (node->inputs[i] == NET_NONE)
            continue;
        inputs[i] = &tensors[i];
        if (!known_value(known, node->inputs[i], depth, &tensors[i]))
            return false;
        if (!tensors[i].data && !(node->op->flags & NET_SHAPE_ONLY))
            return false;
    }
    return true;
}

/* Infers first, so that nothing large is computed. */
static bool known_small(struct net_call *call)
{
    struct ivon_error error;
    bool small = call->node->op->infer(call, &error) == 0;
    free(call->prepared);
    call->prepared = NULL;
    for (size_t i = 0; i < call->node->output_count && small; i++)
        small = !call->outputs[i] || call->outputs[i]->count <= ELEMENTS_MAX;
    return small;
}

static bool known_node(struct known *known, const struct net_node *node, size_t value, int depth,
                       struct net_tensor *tensor)
{
    struct net_tensor inputs[INPUTS_MAX] = {{0}}, outputs[OUTPUTS_MAX] = {{0}};
    struct net_tensor *input_list[INPUTS_MAX] = {NULL}, *output_list[OUTPUTS_MAX] = {NULL};
    struct net_call call = {.node = node, .inputs = input_list, .outputs = output_list};
    struct ivon_error error;
    bool fine = known_inputs(known, node, depth, inputs, input_list);
    for (size_t i = 0; i < node->output_count; i++)
        output_list[i] = node->outputs[i] == NET_NONE ? NULL : &outputs[i];
    fine = fine && known_small(&call) && net_call_evaluate(&call, &error) == 0;
    for (size_t i = 0; i < node->input_count; i++)
        free(inputs[i].data);
    for (size_t i = 0; i < node->output_count; i++) {
        if (fine && node->outputs[i] == value)
            *tensor = outputs[i];
        else
            free(outputs[i].data);
    }
    return fine;
}

static bool known_constant(const struct net_tensor *constant, struct net_tensor *tensor)
{
    struct ivon_error error;
    *tensor = *constant;
    if (constant->count > ELEMENTS_MAX || net_tensor_allocate(tensor, &error))
        return false;
    memcpy(tensor->data, constant->data, constant->count * net_type_size(constant->type));
    return true;
}

static bool known_value(struct known *known, size_t index, int depth, struct net_tensor *tensor)
{
    const struct net_value *value = &known->network->values[index];
    struct ivon_error error;
    *tensor = (struct net_tensor){0};
    if (value->role == NET_CONSTANT)
        return known_constant(&value->tensor, tensor);
    if (value->role == NET_INPUT) {
        for (int i = 0; i < value->tensor.rank; i++)
            if (value->tensor.shape[i] < 0)
                return false;
        return net_tensor_set(tensor, value->tensor.type, value->tensor.rank, value->tensor.shape,
                              &error) == 0;
    }
    const struct net_node *node = value->producer == NET_NONE
                                      ? NULL
                                      : &known->network->nodes[value->producer];
    if (!node || node->refusal || node->guard_count || depth == DEPTH_MAX || !known->nodes_left ||
        node->input_count > INPUTS_MAX || node->output_count > OUTPUTS_MAX)
        return false;
    known->nodes_left--;
    return known_node(known, node, index, depth + 1, tensor);
}

bool graph_known(const struct ivon_network *network, size_t value, struct net_tensor *tensor)
{
    struct known known = {.network = network, .nodes_left = NODES_MAX};
    bool found = known_value(&known, value, 0, tensor) && tensor->data;
    if (!found) {
        free(tensor->data);
        tensor->data = NULL;
    }
    return found;
}
