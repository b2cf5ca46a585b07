/* Inputs of a network that the data do not give as the graph takes them. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "net/graph/adapt.h"

/* The batch axis. */

int graph_input_batch_first(struct ivon_network *network, struct graph_exchange *exchange,
                            size_t value, int axis, struct ivon_error *error)
{
    struct net_tensor given = network->values[value].tensor;
    int64_t perm[IVON_RANK_MAX];
    if (axis < 0 || axis >= given.rank)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: input '%s' has %d axes, and no axis %d of examples",
                              network->path, network->values[value].name, given.rank, axis);
    if (!axis)
        return 0;
    for (int i = 0; i < given.rank; i++) /* the node's own order: axis, the others */
        perm[i] = i < axis ? i + 1 : i == axis ? 0 : i;
    struct net_tensor *tensor = &network->values[value].tensor;
    for (int i = 0; i < given.rank; i++)
        tensor->shape[perm[i]] = given.shape[i];
    return graph_append_with(network, "Transpose", network->values[value].name, &value, 1, "perm",
                             perm, (size_t)given.rank, true, &exchange->by[value], error);
}

/* Values that are set. */

/* One number of a list, which ends at a comma or the end of the text. */
static bool set_parse(const char **text, enum net_type type, void *element)
{
    static const struct {
        const char *text;
        unsigned char value;
    } words[] = {{"true", 1}, {"false", 0}, {"1", 1}, {"0", 0}};
    char *end = NULL;
    size_t length = strcspn(*text, ",");
    if (!length)
        return false;
    errno = 0;
    if (type == NET_FLOAT)
        *(float *)element = strtof(*text, &end);
    else if (type == NET_INTEGER)
        *(int64_t *)element = strtoll(*text, &end, 10);
    for (size_t i = 0; type == NET_BOOLEAN && i < sizeof words / sizeof *words; i++)
        if (strlen(words[i].text) == length && strncmp(words[i].text, *text, length) == 0) {
            *(unsigned char *)element = words[i].value;
            end = (char *)*text + length;
        }
    bool whole = end == *text + length && !(errno && type == NET_INTEGER);
    *text += length;
    return whole;
}

/* The extents of an input that is given `count` numbers: a free axis has what the others leave, or
   1. One number serves for all elements. */
static bool set_shape(const struct net_tensor *input, size_t count, int64_t *shape)
{
    size_t known = 1, total;
    int free_axes = 0, last = 0;
    for (int i = 0; i < input->rank; i++) {
        shape[i] = input->shape[i] < 0 ? 1 : input->shape[i];
        if (input->shape[i] < 0) {
            free_axes++;
            last = i;
        } else if (__builtin_mul_overflow(known, (size_t)input->shape[i], &known)) {
            return false;
        }
    }
    if (free_axes == 1 && known && count != 1 && count % known == 0)
        shape[last] = (int64_t)(count / known);
    return tensor_shape_count(input->rank, shape, sizeof(int64_t), &total) &&
           (count == 1 || count == total) && total <= (size_t)1 << 26;
}

static int set_refused(const struct ivon_network *network, const char *name,
                       struct ivon_error *error)
{
    char list[512] = "";
    for (size_t i = 0; i < network->input_count; i++) {
        const char *input = network->values[network->inputs[i]].name;
        if (strlen(list) + strlen(input) + 8 > sizeof list)
            break;
        strcat(list, i ? ", '" : ", but '");
        strcat(list, input);
        strcat(list, "'");
    }
    return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: the graph has no input '%s' to set%s",
                          network->path, name, list);
}

int graph_set_input(struct ivon_network *network, const char *name, const char *text,
                    struct ivon_error *error)
{
    size_t index = graph_find(network, name), count = 1;
    if (index == NET_NONE || network->values[index].role != NET_INPUT)
        return set_refused(network, name, error);
    struct net_value *value = &network->values[index];
    struct net_tensor tensor = {0};
    int64_t shape[IVON_RANK_MAX];
    char wanted[256];
    size_t size = net_type_size(value->tensor.type);
    for (const char *at = text; (at = strchr(at, ',')); at++)
        count++;
    if (!set_shape(&value->tensor, count, shape))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: input '%s' takes %s, and is set to %zu numbers", network->path,
                              name, net_shape_text(&value->tensor, wanted), count);
    int code = net_tensor_set(&tensor, value->tensor.type, value->tensor.rank, shape, error);
    if (!code)
        code = net_tensor_allocate(&tensor, error);
    const char *at = text;
    for (size_t i = 0; i < count && i < tensor.count && !code; i++, at += *at == ',')
        if (!set_parse(&at, tensor.type, (char *)tensor.data + i * size))
            code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: input '%s' is set to %s, expected %s", network->path, name,
                                  text,
                                  tensor.type == NET_FLOAT     ? "numbers"
                                  : tensor.type == NET_INTEGER ? "whole numbers"
                                                               : "true or false");
    for (size_t i = 1; i < tensor.count && count == 1 && !code; i++)
        memcpy((char *)tensor.data + i * size, tensor.data, size);
    if (code) {
        free(tensor.data);
        return code;
    }
    code = graph_add_constant(network, name, &tensor, error);
    network->values[index].bound = network->values[index].set = !code;
    return code;
}

/* Buffers in the place of inputs. */

int graph_repeated_axis(const struct net_tensor *input, const struct net_tensor *buffer)
{
    for (int i = 0; i < input->rank; i++)
        if (input->shape[i] < 0)
            return buffer->shape[i] == 1 ? i : -1;
    return -1;
}

static int repeat_buffer(struct ivon_network *network, size_t value, int axis, size_t *made,
                         struct ivon_error *error)
{
    const char *base = network->values[value].name;
    const struct net_tensor tensor = network->values[value].tensor;
    size_t parts[3], part_count = 0, inputs[2] = {value};
    int code = 0;
    if (axis)
        code = graph_append_integers(network, base, tensor.shape, (size_t)axis,
                                     &parts[part_count++], error);
    if (!code)
        code = graph_append_extent(network, network->inputs[0], 0, &parts[part_count++], error);
    if (!code && axis + 1 < tensor.rank)
        code = graph_append_integers(network, base, tensor.shape + axis + 1,
                                     (size_t)(tensor.rank - axis - 1), &parts[part_count++], error);
    const int64_t along = 0;
    if (!code)
        code = graph_append_with(network, "Concat", base, parts, part_count, "axis", &along, 1,
                                 false, &inputs[1], error);
    return code ? code : graph_append(network, "Expand", base, inputs, 2, made, error);
}

int graph_repeat_buffers(struct ivon_network *network, struct ivon_error *error)
{
    struct graph_exchange exchange;
    int code = graph_exchange_start(&exchange, network, error);
    if (code)
        return code;
    for (size_t i = 0; i < exchange.values && network->input_count && !code; i++)
        if (network->values[i].repeated)
            code = repeat_buffer(network, i, network->values[i].repeated - 1, &exchange.by[i],
                                 error);
    bool changed = network->node_count > exchange.nodes;
    graph_exchange_finish(&exchange, network);
    return code || !changed ? code : graph_finish(network, error);
}
