/* Tensors of a network, and the attributes of its nodes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "core/shape.h"
#include "core/stream.h"
#include "net/graph/graph.h"

size_t net_type_size(enum net_type type)
{
    static const size_t sizes[] = {
        [NET_FLOAT] = sizeof(float), [NET_INTEGER] = sizeof(int64_t), [NET_BOOLEAN] = 1};
    return sizes[type];
}

const char *net_type_name(enum net_type type)
{
    static const char *const names[] = {
        [NET_FLOAT] = "float", [NET_INTEGER] = "integer", [NET_BOOLEAN] = "boolean"};
    return names[type];
}

int net_tensor_set(struct net_tensor *tensor, enum net_type type, int rank, const int64_t *shape,
                   struct ivon_error *error)
{
    if (rank < 0 || rank > IVON_RANK_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "a tensor of %d dimensions, at most %d are supported", rank,
                              IVON_RANK_MAX);
    tensor->type = type;
    tensor->rank = rank;
    if (rank)
        memmove(tensor->shape, shape, (size_t)rank * sizeof *shape);
    if (tensor_shape_count(rank, tensor->shape, net_type_size(type), &tensor->count))
        return 0;
    char text[256];
    return ivon_error_set(error, IVON_ERROR_DATA, "a tensor of shape %s is too large",
                          net_shape_text(tensor, text));
}

int net_tensor_allocate(struct net_tensor *tensor, struct ivon_error *error)
{
    size_t size = tensor->count * net_type_size(tensor->type);
    tensor->data = memory_aligned(size);
    if (!tensor->data)
        return ivon_error_memory(error);
    memset(tensor->data, 0, memory_rounded(size));
    return 0;
}

bool net_same_shape(const struct net_tensor *a, const struct net_tensor *b)
{
    return a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof a->shape[0]) == 0;
}

const char *net_shape_text(const struct net_tensor *tensor, char text[256])
{
    return shape_text(tensor->rank, tensor->shape, text);
}

const struct net_attribute *net_attribute(const struct net_node *node, const char *name)
{
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, name) == 0)
            return &node->attributes[i];
    return NULL;
}

int64_t net_attribute_integer(const struct net_node *node, const char *name, int64_t otherwise)
{
    const struct net_attribute *attribute = net_attribute(node, name);
    return attribute ? attribute->integer : otherwise;
}

double net_attribute_number(const struct net_node *node, const char *name, double otherwise)
{
    const struct net_attribute *attribute = net_attribute(node, name);
    return attribute ? attribute->number : otherwise;
}

const char *net_attribute_text(const struct net_node *node, const char *name, const char *otherwise)
{
    const struct net_attribute *attribute = net_attribute(node, name);
    return attribute && attribute->text ? attribute->text : otherwise;
}

const char *net_attribute_text_at(const struct net_node *node, const char *name, size_t i)
{
    const struct net_attribute *attribute = net_attribute(node, name);
    if (!attribute || i >= attribute->count)
        return NULL;
    const char *text = attribute->text;
    while (i-- > 0)
        text += strlen(text) + 1;
    return text;
}

const int64_t *net_attribute_integers(const struct net_node *node, const char *name, size_t *count)
{
    const struct net_attribute *attribute = net_attribute(node, name);
    *count = attribute ? attribute->count : 0;
    return attribute ? attribute->integers : NULL;
}
