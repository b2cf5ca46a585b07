/* The state of a training as a checkpoint. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "train/trainer/private.h"

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

static void add_mean(struct listing *listing, size_t i)
{
    const struct ivon_trainer *trainer = listing->trainer;
    struct ivon_tensor mean = *trainer_parameter(trainer, i);
    const void *rounded = trainer->rounded ? trainer->rounded[i] : NULL;
    mean.dtype = trainer->options.mean_dtype;
    trainer_source_add(listing, &mean, IVON_MEAN, rounded ? rounded : trainer_mean(trainer, i));
}

static void add_hessian(struct listing *listing, size_t i)
{
    const struct ivon_tensor hessian = trainer_state_hessian(listing->trainer, i);
    trainer_source_add(listing, &hessian, IVON_HESSIAN,
                       trainer_state_hessian_data(listing->trainer, i));
}

/* All that is kept as momenta of one parameter. */
static void add_arrays(struct listing *listing, size_t i)
{
    const struct ivon_tensor *mean = trainer_parameter(listing->trainer, i);
    struct state_array arrays[STATE_ARRAYS];
    trainer_state_list(listing->trainer, i, arrays);
    for (size_t k = 0; k < STATE_ARRAYS; k++) {
        if (!arrays[k].data)
            continue;
        struct ivon_tensor tensor = trainer_state_tensor(&arrays[k], mean);
        listing->names[listing->name_count++] = (char *)tensor.name;
        listing->failed |= !tensor.name;
        trainer_source_add(listing, &tensor, IVON_MOMENTUM, arrays[k].data);
    }
}

static void add_basis(struct listing *listing, size_t i, bool input)
{
    const struct parameter_bases *bases = trainer_bases(listing->trainer, i);
    if (!bases || !(input ? bases->input : bases->output))
        return;
    const struct ivon_tensor tensor = trainer_state_basis(listing->trainer, i, input);
    trainer_source_add(listing, &tensor, tensor.part,
                       optimizer_basis(listing->trainer->optimizer, i, input != bases->transposed));
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
    const struct ivon_method_traits *traits = ivon_method_traits(trainer->options.method);
    size_t count = trainer->network->parameter_count;
    for (size_t i = 0; i < count; i++)
        add_mean(listing, i);
    for (size_t i = 0; i < count && traits->posterior; i++)
        add_hessian(listing, i);
    for (size_t i = 0; i < count; i++)
        add_arrays(listing, i);
    for (int input = 1; input >= 0 && traits->posterior; input--)
        for (size_t i = 0; i < count; i++)
            add_basis(listing, i, input);
    for (size_t i = 0; i < trainer->start.count; i++)
        if (trainer->start.items[i].tensor.part == IVON_BUFFER)
            add_buffer(listing, &trainer->start.items[i]);
}

static void source_add_bytes(struct listing *listing, enum ivon_part part, const void *bytes,
                             size_t size)
{
    const struct ivon_tensor whole = tensor_of_bytes(part, size);
    trainer_source_add(listing, &whole, part, bytes);
}

struct ivon_header trainer_header(const struct ivon_trainer *trainer)
{
    struct ivon_header header = ivon_header_empty();
    header.step = (int64_t)optimizer_steps(trainer->optimizer);
    header.n_train = (int64_t)trainer->data.losses;
    if (ivon_method_traits(trainer->options.method)->posterior) {
        header.ess = trainer->ess;
        header.weight_decay = trainer->options.weight_decay;
    }
    return header;
}

int ivon_trainer_source(struct ivon_source **source, const struct ivon_trainer *trainer,
                        const void *graph, size_t graph_size, struct ivon_error *error)
{
    size_t parameters = trainer->network->parameter_count;
    size_t most = (STATE_ARRAYS + 4) * parameters + trainer->start.count + 2;
    struct ivon_header header = trainer_header(trainer);
    struct listing listing = {
        .trainer = trainer,
        .tensors = calloc(most, sizeof *listing.tensors),
        .data = calloc(most, sizeof *listing.data),
        .names = calloc(STATE_ARRAYS * parameters + 1, sizeof *listing.names)};
    listing.failed = !listing.tensors || !listing.data || !listing.names;
    int code = optimizer_place_means(trainer->optimizer, error);
    if (!code)
        code = rounded_set(trainer, error);
    if (!code && !listing.failed)
        list_state(&listing);
    if (!code && !listing.failed && graph)
        source_add_bytes(&listing, IVON_GRAPH, graph, graph_size);
    if (!code && !listing.failed && trainer->structure)
        source_add_bytes(&listing, IVON_STRUCTURE, trainer->structure, strlen(trainer->structure));
    if (!code)
        code = listing.failed
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
