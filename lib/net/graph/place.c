/* One tensor of a checkpoint in its place in a graph. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "net/graph/adapt.h"
#include "net/graph/bind.h"
#include "net/graph/operator.h"

int net_tensor_read(struct net_tensor *constant, struct ivon_source *source, size_t index,
                    struct ivon_error *error)
{
    enum { PIECE = 4096 };
    const struct ivon_tensor *tensor = ivon_source_tensor(source, index);
    double numbers[PIECE], raw[PIECE];
    *constant = (struct net_tensor){0};
    enum net_type type = ivon_dtype_is_float(tensor->dtype) ? NET_FLOAT
                         : tensor->dtype == IVON_BOOL       ? NET_BOOLEAN
                                                            : NET_INTEGER;
    int code = net_tensor_set(constant, type, tensor->rank, tensor->shape, error);
    if (!code)
        code = net_tensor_allocate(constant, error);
    for (size_t first = 0; first < constant->count && !code; first += PIECE) {
        size_t count = constant->count - first < PIECE ? constant->count - first : PIECE;
        code = ivon_source_read(source, index, first, count, raw, error);
        if (code)
            break;
        ivon_dtype_to_f64(numbers, raw, tensor->dtype, count);
        if (type == NET_FLOAT)
            ivon_dtype_from_f64((float *)constant->data + first, IVON_F32, numbers, count);
        for (size_t i = 0; i < count && type == NET_INTEGER; i++)
            ((int64_t *)constant->data)[first + i] = (int64_t)numbers[i];
        for (size_t i = 0; i < count && type == NET_BOOLEAN; i++)
            ((unsigned char *)constant->data)[first + i] = numbers[i] != 0;
    }
    return code;
}

size_t graph_place(const struct ivon_network *network, const char *name)
{
    char *slashed;
    size_t found = graph_find(network, name);
    if (found != NET_NONE || asprintf(&slashed, "/%s", name) < 0)
        return found;
    found = graph_find(network, slashed);
    free(slashed);
    return found;
}

static int wrong_shape(const struct ivon_network *network, const struct ivon_source *source,
                       const struct ivon_tensor *tensor, const struct net_tensor *expected,
                       struct ivon_error *error)
{
    char found[256], wanted[256];
    struct net_tensor shape = {.rank = tensor->rank};
    memcpy(shape.shape, tensor->shape, sizeof shape.shape);
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s': shape %s, %s has %s",
                          ivon_source_path(source), tensor->name, net_shape_text(&shape, found),
                          network->path, net_shape_text(expected, wanted));
}

static bool bind_agrees(const struct ivon_tensor *tensor, const struct net_tensor *declared)
{
    if (tensor->rank != declared->rank)
        return false;
    for (int i = 0; i < tensor->rank; i++)
        if (declared->shape[i] >= 0 && declared->shape[i] != tensor->shape[i])
            return false;
    return true;
}

/* Returns whether a plan must know the elements of a value: those of a Resize's scales, say, which
   are no parameters even if a checkpoint has them among its means. */
static bool bind_is_planned(const struct ivon_network *network, size_t value)
{
    for (size_t i = 0; i < network->node_count; i++)
        for (size_t j = 0; j < network->nodes[i].input_count && j < 32; j++)
            if (network->nodes[i].inputs[j] == value && network->nodes[i].op->planned & 1U << j)
                return true;
    return false;
}

int graph_bind_tensor(struct ivon_network *network, struct ivon_source *source, size_t index,
                      size_t place, struct ivon_error *error)
{
    struct net_value *value = &network->values[place];
    const struct ivon_tensor *tensor = ivon_source_tensor(source, index);
    struct net_tensor bound = {0};
    if (value->typed && !bind_agrees(tensor, &value->tensor))
        return wrong_shape(network, source, tensor, &value->tensor, error);
    bool parameter = tensor->part == IVON_MEAN &&
                     !bind_is_planned(network, (size_t)(value - network->values));
    enum net_type type = value->typed ? value->tensor.type : NET_FLOAT;
    int code = parameter ? net_tensor_set(&bound, NET_FLOAT, tensor->rank, tensor->shape, error)
                         : net_tensor_read(&bound, source, index, error);
    if (!code && value->typed && bound.type != type)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s' has elements of type %s, %s takes %s there",
                              ivon_source_path(source), tensor->name, net_type_name(bound.type),
                              network->path, net_type_name(type));
    if (code) {
        free(bound.data);
        return code;
    }
    if (value->role == NET_INPUT && !parameter)
        value->repeated = graph_repeated_axis(&value->tensor, &bound) + 1;
    if (value->role == NET_INPUT)
        graph_forget_input(network, place);
    free(value->tensor.data);
    value->tensor = bound;
    value->typed = value->bound = true;
    value->role = parameter ? NET_PARAMETER : NET_CONSTANT;
    if (parameter) {
        network->parameters[network->parameter_count] = index;
        value->parameter = network->parameter_count++;
    }
    return 0;
}

bool graph_keeps_weight(const struct ivon_network *network, const unsigned char *uses, size_t index)
{
    const struct net_value *value = &network->values[index];
    return uses[index] & GRAPH_USED && value->role == NET_CONSTANT && !value->bound &&
           value->tensor.type == NET_FLOAT && value->tensor.rank > 0 &&
           (!value->literal || value->tensor.count > 1);
}
