/* The state of a training as a checkpoint, and back. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/posterior.h"
#include "bayes/structure.h"
#include "core/error.h"
#include "core/stream.h"
#include "train/trainer/private.h"

/* AdamW's second moment of a tensor: a momentum, for resuming. Null: no memory. */
static char *second_moment_name(const char *name)
{
    static const char prefix[] = "second_moment/";
    char *text = malloc(sizeof prefix + strlen(name));
    if (text)
        strcat(strcpy(text, prefix), name);
    return text;
}

/* A state being listed. */
struct listing {
    const struct ivon_trainer *trainer;
    struct ivon_tensor *tensors;
    const void **data;
    char **names; /* that are the listing's own */
    size_t count, name_count;
    bool failed;
};

static void trainer_source_add(struct listing *listing, const struct ivon_tensor *tensor,
                               enum ivon_part part, const void *data)
{
    listing->tensors[listing->count] = *tensor;
    listing->tensors[listing->count].part = part;
    listing->data[listing->count++] = data;
}

static void add_hessian(struct listing *listing, const struct ivon_tensor *tensor, size_t i)
{
    const struct ivon_trainer *trainer = listing->trainer;
    struct ivon_tensor hessian = *tensor;
    hessian.ess = trainer->ess;
    hessian.weight_decay = trainer->options.weight_decay;
    trainer_source_add(listing, &hessian, IVON_HESSIAN, optimizer_hessian(trainer->optimizer, i));
}

static void add_second_moment(struct listing *listing, const struct ivon_tensor *tensor, size_t i)
{
    struct ivon_tensor second = *tensor;
    second.name = listing->names[listing->name_count++] = second_moment_name(tensor->name);
    listing->failed |= !second.name;
    trainer_source_add(listing, &second, IVON_MOMENTUM,
                       optimizer_hessian(listing->trainer->optimizer, i));
}

/* A buffer, which training moved where it is a batch norm's running statistic. */
static void add_buffer(struct listing *listing, const struct start_tensor *start)
{
    const struct ivon_trainer *trainer = listing->trainer;
    const struct net_value *values = trainer->network->values;
    struct ivon_tensor tensor = start->tensor;
    const void *data = start->data;
    for (size_t i = 0; i < net_training_count(trainer->training); i++) {
        const struct net_running *running = net_training_node(trainer->training, i);
        const struct net_value *found = NULL;
        if (strcmp(values[running->mean].name, tensor.name) == 0)
            found = &values[running->mean];
        if (strcmp(values[running->variance].name, tensor.name) == 0)
            found = &values[running->variance];
        if (found) {
            tensor.dtype = IVON_F32;
            data = found->tensor.data;
        }
    }
    trainer_source_add(listing, &tensor, IVON_BUFFER, data);
}

/* Part by part, as files have them. */
static void list_state(struct listing *listing)
{
    const struct ivon_trainer *trainer = listing->trainer;
    const struct optimizer *optimizer = trainer->optimizer;
    enum ivon_method method = trainer->options.method;
    size_t count = trainer->network->parameter_count;
    for (size_t i = 0; i < count; i++)
        trainer_source_add(listing, trainer_parameter(trainer, i), IVON_MEAN,
                           optimizer_mean(optimizer, i));
    for (size_t i = 0; i < count && method == IVON_METHOD_IVON; i++)
        add_hessian(listing, trainer_parameter(trainer, i), i);
    for (size_t i = 0; i < count; i++)
        trainer_source_add(listing, trainer_parameter(trainer, i), IVON_MOMENTUM,
                           optimizer_momentum(optimizer, i));
    for (size_t i = 0; i < count && method == IVON_METHOD_ADAMW; i++)
        add_second_moment(listing, trainer_parameter(trainer, i), i);
    for (size_t i = 0; i < trainer->start.count; i++)
        if (trainer->start.items[i].tensor.part == IVON_BUFFER)
            add_buffer(listing, &trainer->start.items[i]);
}

static struct ivon_header header_of(const struct ivon_trainer *trainer)
{
    struct ivon_header header = ivon_header_empty();
    header.step = (int64_t)optimizer_steps(trainer->optimizer);
    header.n_train = (int64_t)trainer->data.losses;
    if (trainer->options.method == IVON_METHOD_IVON) {
        header.ess = trainer->ess;
        header.weight_decay = trainer->options.weight_decay;
    }
    return header;
}

int ivon_trainer_source(struct ivon_source **source, const struct ivon_trainer *trainer,
                        const void *graph, size_t graph_size, struct ivon_error *error)
{
    size_t parameters = trainer->network->parameter_count;
    size_t most = 3 * parameters + trainer->start.count + 1;
    struct ivon_header header = header_of(trainer);
    struct listing listing = {.trainer = trainer,
                              .tensors = calloc(most, sizeof *listing.tensors),
                              .data = calloc(most, sizeof *listing.data),
                              .names = calloc(parameters + 1, sizeof *listing.names)};
    const struct ivon_tensor whole = tensor_of_bytes(IVON_GRAPH, graph_size);
    listing.failed = !listing.tensors || !listing.data || !listing.names;
    if (!listing.failed)
        list_state(&listing);
    if (!listing.failed && graph)
        trainer_source_add(&listing, &whole, IVON_GRAPH, graph);
    int code = listing.failed
                   ? ivon_error_memory(error)
                   : ivon_source_from_memory(source, "training", &header, listing.tensors,
                                             listing.data, listing.count, error);
    for (size_t i = 0; i < listing.name_count; i++)
        free(listing.names[i]);
    free(listing.tensors);
    free(listing.data);
    free(listing.names);
    return code;
}

/* Back. */

static int trainer_source_check_header(const struct ivon_trainer *trainer,
                                       const struct ivon_source *source, struct ivon_error *error)
{
    const struct ivon_header *found = ivon_source_header(source);
    const struct ivon_header expected = header_of(trainer);
    const char *path = ivon_source_path(source);
    if (found->step < 0)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: says no step, with which a training could go on", path);
    if (found->n_train != expected.n_train)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: was trained with %" PRId64 " losses, the data have %" PRId64,
                              path, found->n_train, expected.n_train);
    if (isnan(expected.ess) != isnan(found->ess))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: was trained with another method", path);
    if (!isnan(expected.ess) &&
        (found->ess != expected.ess || found->weight_decay != expected.weight_decay))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: was trained with ess %g and weight decay %g, expected %g and %g",
                              path, found->ess, found->weight_decay, expected.ess,
                              expected.weight_decay);
    return 0;
}

static int trainer_source_read_state(const struct ivon_trainer *trainer, struct ivon_source *source,
                                     enum ivon_part part, const char *name, size_t i, float *out,
                                     struct ivon_error *error)
{
    const struct ivon_tensor *own = trainer_parameter(trainer, i);
    ptrdiff_t found = name ? ivon_source_find(source, part, name) : -1;
    struct net_tensor read = {0};
    if (found < 0 && name) {
        int unread = ivon_source_refuse_opaque(source, part, name, error);
        if (unread)
            return unread;
    }
    if (found < 0 || !posterior_same_shape(own, ivon_source_tensor(source, (size_t)found)))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has no %s '%s' of its mean's shape, with which a training could "
                              "go on",
                              ivon_source_path(source), ivon_part_name(part),
                              name ? name : own->name);
    int code = net_tensor_read(&read, source, (size_t)found, error);
    for (size_t j = 0; j < own->count && !code; j++) {
        out[j] = ((const float *)read.data)[j];
        bool fine = isfinite(out[j]) &&
                    (part != IVON_HESSIAN || (double)out[j] + trainer->options.weight_decay > 0);
        if (!fine)
            code = ivon_error_set(
                error, IVON_ERROR_DATA, "%s: %s '%s': element %zu is %g, which no training leaves",
                ivon_source_path(source), ivon_part_name(part), name, j, (double)out[j]);
    }
    free(read.data);
    return code;
}

int trainer_resume(struct ivon_trainer *trainer, struct ivon_source *source,
                   struct ivon_error *error)
{
    struct optimizer *optimizer = trainer->optimizer;
    enum ivon_method method = trainer->options.method;
    int code = structure_refuse(source, "states of a training", error);
    if (!code)
        code = trainer_source_check_header(trainer, source, error);
    for (size_t i = 0; i < trainer->network->parameter_count && !code; i++) {
        const char *name = trainer_parameter(trainer, i)->name;
        code = trainer_source_read_state(trainer, source, IVON_MOMENTUM, name, i,
                                         optimizer_momentum(optimizer, i), error);
        if (!code && method == IVON_METHOD_IVON)
            code = trainer_source_read_state(trainer, source, IVON_HESSIAN, name, i,
                                             optimizer_hessian(optimizer, i), error);
        if (!code && method == IVON_METHOD_ADAMW) {
            char *second = second_moment_name(name);
            code = trainer_source_read_state(trainer, source, IVON_MOMENTUM, second, i,
                                             optimizer_hessian(optimizer, i), error);
            free(second);
        }
    }
    if (!code)
        optimizer_resume(optimizer, (uint64_t)ivon_source_header(source)->step);
    return code;
}
