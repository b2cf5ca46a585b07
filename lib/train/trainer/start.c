/* The start of a training: tensors by name, from an architecture, a network or a checkpoint. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bayes/posterior.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/stream.h"
#include "net/graph/operator.h"
#include "train/trainer/private.h"

int start_add(struct start_tensors *start, const struct ivon_tensor *tensor,
              struct start_tensor **added, struct ivon_error *error)
{
    size_t count, element = ivon_dtype_size(tensor->dtype);
    if (!tensor_name_valid(tensor->name))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "'%s' is no name that a checkpoint can give a tensor", tensor->name);
    if (!tensor_shape_count(tensor->rank, tensor->shape, element, &count))
        return ivon_error_memory(error);
    if (start->count == start->capacity) {
        size_t larger = start->capacity ? 2 * start->capacity : 32;
        struct start_tensor *grown = realloc(start->items, larger * sizeof *grown);
        if (!grown)
            return ivon_error_memory(error);
        start->items = grown;
        start->capacity = larger;
    }
    struct start_tensor *item = &start->items[start->count];
    *item = (struct start_tensor){.tensor = *tensor, .data = memory_aligned(count * element)};
    item->tensor.name = strdup(tensor->name);
    item->tensor.count = count;
    item->tensor.ess = item->tensor.weight_decay = NAN;
    if (!item->data || !item->tensor.name) {
        free(item->data);
        free((char *)item->tensor.name);
        return ivon_error_memory(error);
    }
    memset(item->data, 0, memory_rounded(count * element));
    start->count++;
    *added = item;
    return 0;
}

void start_release(struct start_tensors *start)
{
    for (size_t i = 0; i < start->count; i++) {
        free((char *)start->items[i].tensor.name);
        if (!start->items[i].shared)
            free(start->items[i].data);
    }
    free(start->items);
    *start = (struct start_tensors){0};
}

static enum ivon_part part_of(const struct ivon_train_options *options, enum ivon_part part,
                              const char *name)
{
    if (part == IVON_MEAN && options->selected &&
        !options->selected(options->selected_context, name))
        return IVON_BUFFER;
    return part;
}

static int trainer_start_check_finite(const struct start_tensor *item, const char *path,
                                      struct ivon_error *error)
{
    const float *data = item->data;
    for (size_t i = 0; i < item->tensor.count && item->tensor.part == IVON_MEAN; i++)
        if (!isfinite(data[i]))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: tensor '%s': element %zu is %g, expected a finite number to "
                                  "begin with",
                                  path, item->tensor.name, i, (double)data[i]);
    return 0;
}

/* Tensor `index` of a checkpoint: floats where it is trained, else as it is stored. */
static int add_stored(struct start_tensors *start, struct ivon_source *source, size_t index,
                      const struct ivon_train_options *options, struct ivon_error *error)
{
    struct ivon_tensor tensor = *ivon_source_tensor(source, index);
    struct start_tensor *item;
    bool mean = tensor.part == IVON_MEAN;
    tensor.part = part_of(options, tensor.part, tensor.name);
    if (mean)
        tensor.dtype = IVON_F32;
    int code = start_add(start, &tensor, &item, error);
    if (code)
        return code;
    if (!mean)
        return ivon_source_read(source, index, 0, item->tensor.count, item->data, error);
    struct net_tensor read = {0};
    code = net_tensor_read(&read, source, index, error);
    if (!code) {
        free(item->data);
        item->data = read.data;
        return trainer_start_check_finite(item, ivon_source_path(source), error);
    }
    free(read.data);
    return code;
}

static int list_stored(struct start_tensors *start, struct ivon_source *source,
                       const struct ivon_train_options *options, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source) && !code; i++) {
        enum ivon_part part = ivon_source_tensor(source, i)->part;
        if (part == IVON_MEAN || part == IVON_BUFFER)
            code = add_stored(start, source, i, options, error);
    }
    return code;
}

/* Architectures. */

static ptrdiff_t find_stored(const struct ivon_source *source, const char *name)
{
    ptrdiff_t found = ivon_source_find(source, IVON_MEAN, name);
    return found < 0 ? ivon_source_find(source, IVON_BUFFER, name) : found;
}

static int add_new(struct start_tensors *start, const struct architecture_tensor *from,
                   const struct ivon_train_options *options, struct ivon_error *error)
{
    struct ivon_tensor tensor = {.name = from->name,
                                 .part = part_of(options, from->part, from->name),
                                 .dtype = IVON_F32,
                                 .rank = from->rank};
    struct start_tensor *item;
    memcpy(tensor.shape, from->shape, sizeof tensor.shape);
    int code = start_add(start, &tensor, &item, error);
    if (code)
        return code;
    struct initial rule = initial_apply_scheme(options->initial, from->initial, from->rank,
                                               from->shape);
    initial_fill(&rule, options->seed, from->name, 0, item->tensor.count, item->data);
    return 0;
}

/* Before any of it is taken: a slip of a digit must not take the machine down. */
static int check_memory(const struct architecture *architecture, struct ivon_error *error)
{
    enum { ARRAYS = 6 }; /* what it begins with, m, h, g, θ and the gradient */
    double machine = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE), count = 0;
    for (size_t i = 0; i < architecture->tensor_count; i++)
        count += (double)architecture->tensors[i].count;
    double needed = count * ARRAYS * sizeof(float);
    return needed <= machine
               ? 0
               : ivon_error_set(error, IVON_ERROR_MEMORY,
                                "%s: has %.3g parameters, which take %.3g GB of memory to train, "
                                "expected at most this machine's %.3g GB",
                                architecture->network->path, count, needed / 1e9, machine / 1e9);
}

static int list_architecture(struct start_tensors *start, const struct architecture *architecture,
                             struct ivon_source *weights, const struct ivon_train_options *options,
                             struct ivon_error *error)
{
    size_t stored = 0;
    int code = check_memory(architecture, error);
    for (size_t i = 0; i < architecture->tensor_count && !code; i++) {
        const struct architecture_tensor *tensor = &architecture->tensors[i];
        ptrdiff_t found = weights ? find_stored(weights, tensor->name) : -1;
        if (found < 0 && weights)
            code = ivon_source_refuse_opaque(weights, tensor->part, tensor->name, error);
        if (!code)
            code = found >= 0 ? add_stored(start, weights, (size_t)found, options, error)
                              : add_new(start, tensor, options, error);
        if (found >= 0)
            stored += ivon_source_tensor(weights, (size_t)found)->part == IVON_MEAN;
        else if (weights && !code && !start->unbound.initializers++)
            start->unbound.initializer = start->items[start->count - 1].tensor.name;
    }
    if (!code && weights && !stored)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: has no mean of %s",
                              ivon_source_path(weights), architecture->network->path);
    return code;
}

/* A network's own initial values. */

static bool is_statistic(const struct ivon_network *network, size_t value)
{
    for (size_t i = 0; i < network->node_count; i++) {
        const struct net_node *node = &network->nodes[i];
        if (node->op->flags & NET_BATCH_NORM &&
            ((node->input_count > 3 && node->inputs[3] == value) ||
             (node->input_count > 4 && node->inputs[4] == value)))
            return true;
    }
    return false;
}

static int list_initializers(struct start_tensors *start, const struct ivon_network *network,
                             const struct ivon_train_options *options, struct ivon_error *error)
{
    size_t means = 0;
    int code = 0;
    for (size_t i = 0; i < network->value_count && !code; i++) {
        const struct net_value *value = &network->values[i];
        const struct net_tensor *from = &value->tensor;
        if (value->role != NET_CONSTANT || from->type != NET_FLOAT || from->rank < 1)
            continue;
        enum ivon_part part = is_statistic(network, i) ? IVON_BUFFER : IVON_MEAN;
        struct ivon_tensor tensor = {.name = value->name,
                                     .part = part_of(options, part, value->name),
                                     .dtype = IVON_F32,
                                     .rank = from->rank};
        struct start_tensor *item;
        memcpy(tensor.shape, from->shape, sizeof tensor.shape);
        code = start_add(start, &tensor, &item, error);
        if (code)
            return code;
        memcpy(item->data, from->data, from->count * sizeof(float));
        code = trainer_start_check_finite(item, network->path, error);
        means += part == IVON_MEAN;
    }
    if (!code && !means)
        code = ivon_error_hint(error, IVON_HINT_INITIAL,
                               ivon_error_set(error, IVON_ERROR_DATA,
                                              "%s: has no initializer of floats to train",
                                              network->path));
    return code;
}

int start_list(struct start_tensors *start, const struct ivon_train_start *from,
               const struct architecture *architecture, const struct ivon_train_options *options,
               struct ivon_error *error)
{
    size_t means = 0;
    int code = !architecture && from->weights
                   ? graph_refuse_opaque(from->network, from->weights, error)
                   : 0;
    if (code)
        return code;
    code = architecture    ? list_architecture(start, architecture, from->weights, options, error)
           : from->weights ? list_stored(start, from->weights, options, error)
                           : list_initializers(start, from->network, options, error);
    for (size_t i = 0; i < start->count; i++)
        means += start->items[i].tensor.part == IVON_MEAN;
    return !code && !means && options->selected
               ? ivon_error_hint(
                     error, IVON_HINT_FREEZE,
                     ivon_error_set(error, IVON_ERROR_ARGUMENT, "nothing is left to train"))
               : code;
}

const struct ivon_tensor *trainer_parameter(const struct ivon_trainer *trainer, size_t i)
{
    return &trainer->start.items[trainer->network->parameters[i]].tensor;
}

int start_source(struct ivon_source **source, const struct start_tensors *start, const char *name,
                 struct ivon_error *error)
{
    struct ivon_header header = ivon_header_empty();
    struct ivon_tensor *tensors = calloc(start->count + 1, sizeof *tensors);
    const void **data = calloc(start->count + 1, sizeof *data);
    int code = tensors && data ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < start->count && !code; i++) {
        tensors[i] = start->items[i].tensor;
        data[i] = start->items[i].data;
    }
    if (!code)
        code = ivon_source_from_memory(source, name, &header, tensors, data, start->count, error);
    free(tensors);
    free(data);
    return code;
}
