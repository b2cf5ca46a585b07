/* What targets share that try strangers' networks: errors, and the checkpoint of a graph's own
   tensors. */
#ifndef TESTS_FUZZ_NETWORK_H
#define TESTS_FUZZ_NETWORK_H

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ivon/stream.h"
#include "net/graph/graph.h"

static inline void check_error(int code, const struct ivon_error *error)
{
    assert(code == IVON_ERROR_DATA || code == IVON_ERROR_INPUT || code == IVON_ERROR_MEMORY);
    assert(error->code == code && error->message[0] && !strchr(error->message, '\n'));
}

/* Exactly as long as asked for, so that a sanitizer sees every step too far; aligned as the library
   wants it. */
static inline void *allocate(size_t size)
{
    void *block = NULL;
    assert(posix_memalign(&block, 64, size) == 0);
    return block;
}

/* The graph's initializers of floats, copied. */
struct checkpoint {
    struct ivon_source *source;
    struct ivon_tensor *tensors;
    void **data;
    size_t count;
};

static inline bool has_prefix(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static inline void add_tensor(struct checkpoint *checkpoint, const char *name,
                              const struct net_tensor *from)
{
    struct ivon_tensor *tensor = &checkpoint->tensors[checkpoint->count];
    *tensor = (struct ivon_tensor){.name = name,
                                   .dtype = IVON_F32,
                                   .rank = from->rank,
                                   .count = from->count,
                                   .ess = (double)NAN,
                                   .weight_decay = (double)NAN};
    tensor->part = has_prefix(name, "running") ? IVON_BUFFER : IVON_MEAN;
    memcpy(tensor->shape, from->shape, sizeof tensor->shape);
    float *data = allocate(from->count * sizeof *data);
    if (from->count)
        memcpy(data, from->data, from->count * sizeof *data);
    checkpoint->data[checkpoint->count++] = data;
}

/* The initializer of floats that a value is, or that an Identity gives it; or null. */
static inline const struct net_tensor *initializer(const struct ivon_network *network, size_t i)
{
    const struct net_value *value = &network->values[i];
    const struct net_node *node = value->producer == NET_NONE ? NULL
                                                              : &network->nodes[value->producer];
    if (node && node->input_count == 1 && node->output_count == 1 && has_prefix(value->name, "w"))
        value = &network->values[node->inputs[0]];
    bool usable = value->role == NET_CONSTANT && value->tensor.type == NET_FLOAT;
    return usable && !has_prefix(value->name, "kept") ? &value->tensor : NULL;
}

/* Gives a graph its own initializers as parameters; those that begin with "running" as buffers;
   "kept" ones stay what they are. To be ended whether it fails or not. */
static inline int checkpoint_bind(struct checkpoint *checkpoint, struct ivon_network *network,
                                  struct ivon_error *error)
{
    struct ivon_header header = ivon_header_empty();
    struct ivon_unbound unbound;
    checkpoint->tensors = calloc(network->value_count + 1, sizeof *checkpoint->tensors);
    checkpoint->data = calloc(network->value_count + 1, sizeof *checkpoint->data);
    assert(checkpoint->tensors && checkpoint->data);
    for (size_t i = 0; i < network->value_count; i++)
        if (initializer(network, i))
            add_tensor(checkpoint, network->values[i].name, initializer(network, i));
    int code = ivon_source_from_memory(&checkpoint->source, "fuzz", &header, checkpoint->tensors,
                                       (const void *const *)checkpoint->data, checkpoint->count,
                                       error);
    return code ? code : ivon_network_bind(network, checkpoint->source, NULL, &unbound, error);
}

static inline void checkpoint_end(struct checkpoint *checkpoint)
{
    ivon_source_close(checkpoint->source);
    for (size_t i = 0; i < checkpoint->count; i++)
        free(checkpoint->data[i]);
    free(checkpoint->tensors);
    free(checkpoint->data);
}

#endif
