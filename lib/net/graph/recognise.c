/*
 * Weights that an exporter renamed, reshaped or transposed. PyTorch's exporters fold the transpose
 * of a linear layer's weight into a constant, "onnx::MatMul_597" or "val_7", beside a tied weight
 * that keeps its name: bound by name alone, the graph would compute with two different weights.
 * Those of JAX and TensorFlow name weights anew, and turn the kernels of convolutions around.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/graph/bind.h"
#include "net/graph/operator.h"

enum form { FORM_NONE, FORM_SAME, FORM_RESHAPED, FORM_TRANSPOSED };

/* Comparing. */

/* Returns whether the weight has the mean's last two axes, in turn, before the others: a matrix has
   its two axes exchanged, and the kernel of a convolution, which JAX and Keras have as extents ×
   inputs × outputs, those of ONNX, outputs × inputs × extents. */
static bool is_transposed_shape(const struct net_tensor *weight, const struct ivon_tensor *mean)
{
    int rank = mean->rank;
    return rank >= 2 && weight->rank == rank && weight->shape[0] == mean->shape[rank - 1] &&
           weight->shape[1] == mean->shape[rank - 2] &&
           memcmp(weight->shape + 2, mean->shape, (size_t)(rank - 2) * sizeof mean->shape[0]) == 0;
}

static bool is_same_shape(const struct net_tensor *weight, const struct ivon_tensor *mean)
{
    return weight->rank == mean->rank &&
           memcmp(weight->shape, mean->shape, (size_t)mean->rank * sizeof mean->shape[0]) == 0;
}

/* Equal elements tell nothing: many tensors begin as zeros or ones. */
static bool is_telling(const struct net_tensor *weight)
{
    const float *x = weight->data;
    for (size_t i = 1; i < weight->count; i++)
        if (x[i] != x[0])
            return true;
    return false;
}

/* The weight's element at the place of the mean's element `i`. */
static double counterpart(const struct net_tensor *weight, bool transposed, size_t i)
{
    if (transposed) {
        size_t outputs = (size_t)weight->shape[0], inputs = (size_t)weight->shape[1];
        size_t extents = weight->count / (outputs * inputs);
        i = (i % outputs * inputs + i / outputs % inputs) * extents + i / outputs / inputs;
    }
    return (double)((const float *)weight->data)[i];
}

/* Compares in the mean's type, to which the weight is rounded. */
static int compare_values(struct ivon_source *source, size_t index, const struct net_tensor *weight,
                          bool transposed, bool *same, struct ivon_error *error)
{
    enum { PIECE = 1024 };
    const struct ivon_tensor *mean = ivon_source_tensor(source, index);
    double stored[PIECE], found[PIECE], rounded[PIECE], wanted[PIECE];
    int code = 0;
    *same = true;
    for (size_t first = 0; first < mean->count && *same && !code; first += PIECE) {
        size_t count = mean->count - first < PIECE ? mean->count - first : PIECE;
        code = ivon_source_read(source, index, first, count, stored, error);
        if (code)
            break;
        ivon_dtype_to_f64(found, stored, mean->dtype, count);
        for (size_t i = 0; i < count; i++) {
            found[i] = (double)(float)found[i];
            wanted[i] = counterpart(weight, transposed, first + i);
        }
        ivon_dtype_from_f64(rounded, mean->dtype, wanted, count);
        ivon_dtype_to_f64(wanted, rounded, mean->dtype, count);
        for (size_t i = 0; i < count; i++)
            *same &= found[i] == wanted[i];
    }
    return code;
}

/* Finds how a weight equals a mean. */
static int compare(struct ivon_source *source, size_t index, const struct net_tensor *weight,
                   enum form *form, struct ivon_error *error)
{
    const struct ivon_tensor *mean = ivon_source_tensor(source, index);
    bool same = false;
    *form = FORM_NONE;
    if (mean->part != IVON_MEAN || mean->count != weight->count ||
        !ivon_dtype_is_float(mean->dtype))
        return 0;
    int code = compare_values(source, index, weight, false, &same, error);
    if (!code && same)
        *form = is_same_shape(weight, mean) ? FORM_SAME : FORM_RESHAPED;
    if (code || same || !is_transposed_shape(weight, mean))
        return code;
    code = compare_values(source, index, weight, true, &same, error);
    if (!code && same)
        *form = FORM_TRANSPOSED;
    return code;
}

/* Putting the mean in the weight's place. */

/* The value that a mean is, or becomes. */
static int find_mean(struct ivon_network *network, struct ivon_source *source, size_t index,
                     size_t *value, struct ivon_error *error)
{
    const char *name = ivon_source_tensor(source, index)->name;
    for (size_t i = 0; i < network->value_count; i++)
        if (network->values[i].role == NET_PARAMETER &&
            network->parameters[network->values[i].parameter] == index) {
            *value = i;
            return 0;
        }
    int code = graph_value(network, name, value, error);
    if (code)
        return code;
    const struct net_value *place = &network->values[*value];
    if (place->producer != NET_NONE)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s' is one that %s computes, and is recognised as a "
                              "weight of it, too",
                              ivon_source_path(source), name, network->path);
    return graph_bind_tensor(network, source, index, *value, error);
}

/* Names a value that the network does not have yet. */
static int add_shape(struct ivon_network *network, size_t value, char **name,
                     struct ivon_error *error)
{
    const struct net_tensor *weight = &network->values[value].tensor;
    const int64_t rank = weight->rank;
    struct net_tensor shape = {0};
    size_t length = strlen(network->values[value].name) + 8;
    *name = malloc(length);
    int code = *name ? net_tensor_set(&shape, NET_INTEGER, 1, &rank, error)
                     : ivon_error_memory(error);
    if (!code)
        code = net_tensor_allocate(&shape, error);
    if (code)
        return code;
    snprintf(*name, length, "%s/shape", network->values[value].name);
    memcpy(shape.data, weight->shape, (size_t)rank * sizeof(int64_t));
    return graph_add_constant(network, *name, &shape, error);
}

/* The order in which Transpose takes the axes of a mean, as its attribute; to be freed by the node
   that it is given to, null if memory is exhausted. */
static struct net_attribute *axis_order(int rank)
{
    struct net_attribute *order = calloc(1, sizeof *order);
    int64_t *axes = calloc((size_t)rank, sizeof *axes);
    char *name = strdup("perm");
    if (!order || !axes || !name) {
        free(order);
        free(axes);
        free(name);
        return NULL;
    }
    for (int i = 0; i < rank; i++)
        axes[i] = i < 2 ? rank - 1 - i : i - 2;
    *order = (struct net_attribute){
        .name = name, .kind = NET_INTS, .integers = axes, .count = (size_t)rank};
    return order;
}

/* Computes a weight from a mean, in place of the graph's own numbers. */
static int replace(struct ivon_network *network, struct ivon_source *source, size_t index,
                   size_t value, enum form form, struct ivon_error *error)
{
    static const char *const operators[] = {
        [FORM_SAME] = "Identity", [FORM_RESHAPED] = "Reshape", [FORM_TRANSPOSED] = "Transpose"};
    enum { OPSET = 13 }; /* of these three, which have not changed since */
    size_t mean;
    char *shape = NULL;
    struct net_attribute *order = NULL;
    int code = find_mean(network, source, index, &mean, error);
    if (!code && form == FORM_TRANSPOSED)
        order = axis_order(network->values[value].tensor.rank);
    if (!code && form == FORM_TRANSPOSED && !order)
        code = ivon_error_memory(error);
    if (!code && form == FORM_RESHAPED)
        code = add_shape(network, value, &shape, error);
    if (!code) {
        struct net_value *weight = &network->values[value];
        free(weight->tensor.data);
        weight->tensor = (struct net_tensor){0};
        weight->role = NET_COMPUTED;
        weight->typed = false;
        const char *inputs[] = {network->values[mean].name, shape}, *output = weight->name;
        code = graph_add_node(network, net_operator_find(NULL, operators[form], OPSET), output,
                              inputs, shape ? 2 : 1, &output, 1, order, order != NULL, error);
    }
    free(shape);
    return code;
}

/* Finding it. */

/* Returns whether the value is the second operand of a matrix product. */
static bool recognise_is_factor(const struct ivon_network *network, size_t value)
{
    for (size_t i = 0; i < network->node_count; i++) {
        const struct net_node *node = &network->nodes[i];
        if (node->op->product && node->input_count > 1 && node->inputs[1] == value)
            return true;
    }
    return false;
}

/* Finds the one mean that a weight equals; an error if there are several. */
static int find_equal(const struct ivon_network *network, struct ivon_source *source, size_t value,
                      size_t *index, enum form *form, bool *copy, struct ivon_error *error)
{
    const struct net_value *weight = &network->values[value];
    enum form found;
    int code = 0;
    *form = FORM_NONE;
    *copy = false;
    for (size_t i = 0; i < ivon_source_tensor_count(source) && !code; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(source, i);
        *copy |= mean->part == IVON_MEAN && mean->rank == 2 &&
                 is_transposed_shape(&weight->tensor, mean);
        code = compare(source, i, &weight->tensor, &found, error);
        if (code || found == FORM_NONE)
            continue;
        if (*form != FORM_NONE)
            return ivon_error_set(
                error, IVON_ERROR_DATA,
                "%s: its weight '%s' equals two means of %s, '%s' and '%s': which "
                "of them it is cannot be told",
                network->path, weight->name, ivon_source_path(source),
                ivon_source_tensor(source, *index)->name, mean->name);
        *form = found;
        *index = i;
    }
    return code;
}

/* Binds a second name: a tensor that the file stores once. */
static int bind_alias(struct ivon_network *network, struct ivon_source *source, size_t value,
                      bool *bound, struct ivon_error *error)
{
    const char *target = ivon_source_alias(source, network->values[value].name);
    ptrdiff_t index = target ? ivon_source_find(source, IVON_MEAN, target) : -1;
    *bound = index >= 0;
    if (!*bound)
        return 0;
    return is_same_shape(&network->values[value].tensor, ivon_source_tensor(source, (size_t)index))
               ? replace(network, source, (size_t)index, value, FORM_SAME, error)
               : ivon_error_set(error, IVON_ERROR_DATA,
                                "%s: tensor '%s' is also named '%s', which has another shape in %s",
                                ivon_source_path(source), target, network->values[value].name,
                                network->path);
}

int graph_recognise(struct ivon_network *network, struct ivon_source *source,
                    const unsigned char *uses, size_t value_count, const char **copied,
                    struct ivon_unbound *unbound, struct ivon_error *error)
{
    int code = 0;
    size_t nodes = network->node_count;
    *copied = NULL;
    for (size_t i = 0; i < value_count && !code; i++) {
        bool bound = false, copy = false;
        enum form form = FORM_NONE;
        size_t index = 0;
        if (!graph_keeps_weight(network, uses, i))
            continue;
        code = bind_alias(network, source, i, &bound, error);
        if (!code && !bound && network->values[i].tensor.count > 1 &&
            is_telling(&network->values[i].tensor))
            code = find_equal(network, source, i, &index, &form, &copy, error);
        if (!code && !bound && form == FORM_NONE && copy && !*copied &&
            recognise_is_factor(network, i))
            *copied = network->values[i].name;
        if (code || form == FORM_NONE)
            continue;
        if (!unbound->recognised++) {
            unbound->recognised_weight = network->values[i].name;
            unbound->recognised_mean = ivon_source_tensor(source, index)->name;
        }
        code = replace(network, source, index, i, form, error);
    }
    return code || network->node_count == nodes ? code : graph_finish(network, error);
}
