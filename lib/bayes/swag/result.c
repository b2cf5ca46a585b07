/* SWAG's posterior as a source. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/structure.h"
#include "bayes/swag/private.h"
#include "core/error.h"
#include "core/stream.h"

struct swag_listing {
    struct ivon_swag *swag;
    struct ivon_tensor *tensors;
    const void **data;
    size_t count;
};

static void swag_list(struct swag_listing *listing, const struct ivon_tensor *tensor,
                      const void *data)
{
    listing->tensors[listing->count] = *tensor;
    listing->data[listing->count++] = data;
}

static void swag_list_own(struct swag_listing *listing)
{
    const struct ivon_swag *swag = listing->swag;
    for (size_t t = 0; t < swag->tensor_count; t++)
        swag_list(listing, &swag->tensors[t].mean, swag->tensors[t].average);
    for (size_t t = 0; t < swag->tensor_count; t++) {
        struct ivon_tensor hessian = swag->tensors[t].mean;
        hessian.part = IVON_HESSIAN;
        hessian.dtype = IVON_F32;
        hessian.ess = swag->ess;
        hessian.weight_decay = 0;
        if (swag->tensors[t].moved)
            swag_list(listing, &hessian, swag->tensors[t].squares);
    }
    for (size_t t = 0; t < swag->tensor_count; t++) {
        size_t count = swag->tensors[t].mean.count;
        const struct ivon_tensor vectors = {.name = swag->tensors[t].mean.name,
                                            .part = IVON_LOW_RANK,
                                            .dtype = IVON_F32,
                                            .rank = 2,
                                            .shape = {(int64_t)swag->rank, (int64_t)count},
                                            .count = swag->rank * count,
                                            .ess = NAN,
                                            .weight_decay = NAN};
        if (swag->tensors[t].moved && swag->rank)
            swag_list(listing, &vectors, swag->tensors[t].deviations);
    }
}

/* The buffers of the last checkpoint, and its graph, unless another is given. */
static int swag_list_last(struct swag_listing *listing, struct ivon_source *last, bool graph,
                          struct ivon_error *error)
{
    struct ivon_swag *swag = listing->swag;
    int code = 0;
    for (size_t i = 0; i < swag->loaded_count && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(last, i);
        if (tensor->part != IVON_BUFFER && (tensor->part != IVON_GRAPH || graph))
            continue;
        const void *view = ivon_source_view(last, i, 0);
        if (!view) {
            swag->loaded[i] = malloc(tensor->count * ivon_dtype_size(tensor->dtype) + 1);
            code = swag->loaded[i]
                       ? ivon_source_read(last, i, 0, tensor->count, swag->loaded[i], error)
                       : ivon_error_memory(error);
        }
        swag_list(listing, tensor, view ? view : swag->loaded[i]);
    }
    return code;
}

/* How it was made, in the structure's text; a diagonal has none. */
static int swag_describe(struct ivon_swag *swag, struct ivon_error *error)
{
    char made[128];
    snprintf(made, sizeof made, "{\"checkpoints\":%zu,\"columns\":%zu,\"method\":\"swag\"}",
             swag->checkpoints, swag->kept);
    if (!swag->rank || swag->structure)
        return 0;
    swag->structure = structure_text(
        &(struct structure_description){.values = swag->values, .rank = swag->rank, .fit = made});
    return swag->structure ? 0 : ivon_error_memory(error);
}

static int swag_list_all(struct swag_listing *listing, struct ivon_source *last, const void *graph,
                         size_t graph_size, struct ivon_error *error)
{
    const struct ivon_swag *swag = listing->swag;
    swag_list_own(listing);
    int code = swag_list_last(listing, last, graph, error);
    if (graph) {
        const struct ivon_tensor bytes = tensor_of_bytes(IVON_GRAPH, graph_size);
        swag_list(listing, &bytes, graph);
    }
    if (swag->structure) {
        const struct ivon_tensor text = tensor_of_bytes(IVON_STRUCTURE, strlen(swag->structure));
        swag_list(listing, &text, swag->structure);
    }
    return code;
}

int ivon_swag_source(struct ivon_source **source, struct ivon_swag *swag, struct ivon_source *last,
                     const void *graph, size_t graph_size, struct ivon_error *error)
{
    size_t most = 3 * swag->tensor_count + ivon_source_tensor_count(last) + 2;
    struct ivon_header header = ivon_header_empty();
    header.ess = swag->ess;
    header.weight_decay = 0;
    header.step = swag->step;
    header.n_train = swag->n_train;
    if (!swag->done)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "the posterior is not finished yet");
    struct swag_listing listing = {.swag = swag,
                                   .tensors = calloc(most, sizeof *listing.tensors),
                                   .data = calloc(most, sizeof *listing.data)};
    swag_release_loaded(swag);
    swag->loaded_count = ivon_source_tensor_count(last);
    swag->loaded = calloc(swag->loaded_count + 1, sizeof *swag->loaded);
    int code = listing.tensors && listing.data && swag->loaded ? swag_describe(swag, error)
                                                               : ivon_error_memory(error);
    if (!code)
        code = swag_list_all(&listing, last, graph, graph_size, error);
    if (!code)
        code = ivon_source_from_memory(source, ivon_source_path(last), &header, listing.tensors,
                                       listing.data, listing.count, error);
    free(listing.tensors);
    free(listing.data);
    return code;
}
