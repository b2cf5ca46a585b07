#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "net/graph/adapt.h"
#include "net/graph/operator.h"

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

bool graph_cut_identity(struct ivon_network *network, struct net_value *value)
{
    struct net_node *node = value->producer == NET_NONE ? NULL : &network->nodes[value->producer];
    if (!node || !(node->op->flags & NET_IDENTITY))
        return false;
    node->outputs[0] = NET_NONE;
    value->producer = NET_NONE;
    return true;
}

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

/* Finds the value that a tensor is bound to: one with that name that is given, or the output of an
   Identity, which is disconnected. Null if there is none. */
static struct net_value *bind_find_value(struct ivon_network *network, const char *name)
{
    size_t index = graph_find(network, name);
    struct net_value *value = index == NET_NONE ? NULL : &network->values[index];
    if (!value || value->set ||
        (value->role == NET_COMPUTED && !graph_cut_identity(network, value)))
        return NULL;
    return value;
}

static int bind_tensor(struct ivon_network *network, struct ivon_source *source, size_t index,
                       struct net_value *value, struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(source, index);
    struct net_tensor bound = {0};
    if (value->typed && !bind_agrees(tensor, &value->tensor))
        return wrong_shape(network, source, tensor, &value->tensor, error);
    bool parameter = tensor->part == IVON_MEAN;
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
        graph_forget_input(network, (size_t)(value - network->values));
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

/* The name of an initializer of `count` > 1 floats to which nothing was bound, or null. */
static const char *likely_folded(const struct ivon_network *network, size_t count)
{
    for (size_t i = 0; i < network->value_count; i++) {
        const struct net_value *value = &network->values[i];
        if (value->role == NET_CONSTANT && !value->bound && value->tensor.type == NET_FLOAT &&
            value->tensor.count == count && count > 1)
            return value->name;
    }
    return NULL;
}

static int check_unbound(const struct ivon_network *network, const struct ivon_source *source,
                         const struct ivon_tensor *mean, struct ivon_error *error)
{
    const char *folded = likely_folded(network, mean->count);
    if (!folded)
        return 0;
    return ivon_error_set(
        error, IVON_ERROR_DATA,
        "%s: the graph has no tensor '%s' of %s, and '%s' of the same size instead: export it with "
        "training=TrainingMode.PRESERVE and do_constant_folding=False, which keeps every name",
        network->path, mean->name, ivon_source_path(source), folded);
}

/* Returns whether bind_find_value finds a value of that name; changes nothing. */
static bool bind_has_value(const struct ivon_network *network, const char *name)
{
    size_t index = graph_find(network, name);
    const struct net_value *value = index == NET_NONE ? NULL : &network->values[index];
    return value && (value->role != NET_COMPUTED ||
                     (value->producer != NET_NONE &&
                      network->nodes[value->producer].op->flags & NET_IDENTITY));
}

int graph_refuse_opaque(const struct ivon_network *network, const struct ivon_source *source,
                        struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source) && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        const char *name = ivon_tensor_bare_name(tensor);
        if (tensor->part != IVON_OPAQUE || !bind_has_value(network, name))
            continue;
        code = ivon_source_refuse_opaque(source, IVON_MEAN, name, error);
        if (!code)
            code = ivon_source_refuse_opaque(source, IVON_BUFFER, name, error);
    }
    return code;
}

static bool is_bindable(const struct ivon_tensor *tensor)
{
    return tensor->part == IVON_MEAN || tensor->part == IVON_BUFFER;
}

int ivon_network_bind(struct ivon_network *network, struct ivon_source *source,
                      struct ivon_unbound *unbound, struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(source), means = 0;
    int code = 0;
    *unbound = (struct ivon_unbound){0};
    bool *is_bound = calloc(count + 1, sizeof *is_bound);
    network->parameters = calloc(count + 1, sizeof *network->parameters);
    if (!is_bound || !network->parameters)
        code = ivon_error_memory(error);
    if (!code && !network->chosen)
        code = graph_choose_output(network, NULL, NULL, error);
    if (!code)
        code = graph_refuse_opaque(network, source, error);
    for (size_t i = 0; i < count && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        struct net_value *value = is_bindable(tensor) ? bind_find_value(network, tensor->name)
                                                      : NULL;
        means += tensor->part == IVON_MEAN;
        is_bound[i] = value != NULL;
        if (value)
            code = bind_tensor(network, source, i, value, error);
    }
    for (size_t i = 0; i < count && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (is_bound[i] || tensor->part != IVON_MEAN)
            continue;
        code = check_unbound(network, source, tensor, error);
        if (!unbound->means++)
            unbound->mean = tensor->name;
    }
    for (size_t i = 0; i < network->value_count && !code; i++) {
        const struct net_value *value = &network->values[i];
        if (value->role != NET_CONSTANT || value->bound || value->tensor.type != NET_FLOAT)
            continue;
        if (!unbound->initializers++)
            unbound->initializer = value->name;
    }
    if (!code && !means)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: has no means, expected a posterior",
                              ivon_source_path(source));
    else if (!code && !network->parameter_count)
        code = ivon_error_hint(
            error, unbound->mean ? IVON_HINT_RENAME : IVON_HINT_NONE,
            ivon_error_set(error, IVON_ERROR_DATA,
                           "%s: the graph has none of the %zu means of %s%s%s%s%s%s", network->path,
                           means, ivon_source_path(source), unbound->mean ? ", such as '" : "",
                           unbound->mean ? unbound->mean : "",
                           unbound->mean && unbound->initializer ? "', but '" : "",
                           unbound->mean && unbound->initializer ? unbound->initializer : "",
                           unbound->mean ? "'" : ""));
    if (!code)
        code = graph_repeat_buffers(network, error);
    free(is_bound);
    return code;
}
