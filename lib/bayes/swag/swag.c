/* SWAG: sums over checkpoints, element by element. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/posterior.h"
#include "bayes/swag/private.h"
#include "bayes/transfer.h"
#include "core/error.h"
#include "core/meter.h"
#include "core/options.h"
#include "core/parallel.h"

static const double LEAST_ESS = 1e-6; /* with it h of the least variance fits into binary32 */

static const struct options_kind swag_options = {
    .defaults = "ivon_swag_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_swag_options, resources.reserved)}};

void ivon_swag_options_init(struct ivon_swag_options *options, size_t size)
{
    const struct ivon_swag_options defaults = {.size = sizeof defaults, .rank = 20, .ess = NAN};
    options_init(options, size, &defaults);
}

int ivon_swag_new(struct ivon_swag **out, const struct ivon_swag_options *given,
                  struct ivon_error *error)
{
    struct ivon_swag_options options = ivon_swag_defaults();
    int code = options_read(&swag_options, &options, given, error);
    if (!code && options.rank == 1)
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the rank is 1, expected 0 or at least 2: deviations are from their "
                              "own mean");
    if (!code && !isnan(options.ess) && !(options.ess >= LEAST_ESS && isfinite(options.ess)))
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT, "ess is %g, expected at least %g",
                              options.ess, LEAST_ESS);
    if (code)
        return code;
    struct ivon_swag *swag = calloc(1, sizeof *swag);
    if (!swag)
        return ivon_error_memory(error);
    swag->options = options;
    swag->threads = ivon_parallel_threads(options.resources.threads);
    *out = swag;
    return 0;
}

void swag_release_loaded(struct ivon_swag *swag)
{
    for (size_t i = 0; i < swag->loaded_count && swag->loaded; i++)
        free(swag->loaded[i]);
    free(swag->loaded);
    swag->loaded = NULL;
}

void ivon_swag_free(struct ivon_swag *swag)
{
    if (!swag)
        return;
    for (size_t t = 0; t < swag->tensor_count; t++) {
        free((char *)swag->tensors[t].mean.name);
        free(swag->tensors[t].average);
        free(swag->tensors[t].squares);
        free(swag->tensors[t].deviations);
    }
    swag_release_loaded(swag);
    free(swag->path);
    free(swag->tensors);
    free(swag->pieces);
    free(swag->values);
    free(swag->turn);
    free(swag->structure);
    free(swag);
}

/* Adding. */

static int swag_begin_tensor(struct ivon_swag *swag, const struct ivon_tensor *mean,
                             struct ivon_error *error)
{
    const struct ivon_swag_options *options = &swag->options;
    struct swag_tensor *tensor = &swag->tensors[swag->tensor_count++];
    size_t count = mean->count, columns = options->rank;
    *tensor = (struct swag_tensor){.mean = *mean};
    tensor->mean.name = strdup(mean->name);
    tensor->random = !options->selected || options->selected(options->selected_context, mean->name);
    tensor->average = calloc(count + 1, sizeof *tensor->average);
    bool fine = tensor->mean.name && tensor->average;
    if (tensor->random)
        fine &= (tensor->squares = calloc(count + 1, sizeof *tensor->squares)) != NULL;
    if (tensor->random && columns)
        fine &= (tensor->deviations = calloc(count + 1, columns * sizeof(float))) != NULL;
    swag->piece_count += (count + SWAG_PIECE - 1) / SWAG_PIECE;
    return fine ? 0 : ivon_error_memory(error);
}

/* Makes the sums of the first checkpoint's means. */
static int swag_begin(struct ivon_swag *swag, const struct ivon_source *source,
                      struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(source);
    int code = 0;
    swag->tensors = calloc(count + 1, sizeof *swag->tensors);
    if (!swag->tensors)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++)
        if (ivon_source_tensor(source, i)->part == IVON_MEAN)
            code = swag_begin_tensor(swag, ivon_source_tensor(source, i), error);
    swag->pieces = calloc(swag->piece_count + 1, sizeof *swag->pieces);
    if (!code && !swag->pieces)
        return ivon_error_memory(error);
    struct swag_piece *piece = swag->pieces;
    for (size_t t = 0; t < swag->tensor_count && !code; t++)
        for (size_t at = 0, all = swag->tensors[t].mean.count; at < all; at += SWAG_PIECE)
            *piece++ = (struct swag_piece){t, at, all - at < SWAG_PIECE ? all - at : SWAG_PIECE};
    return code;
}

/* Finds the means of a further checkpoint, which are those of the first. */
static int swag_match(struct ivon_swag *swag, const struct ivon_source *source, ptrdiff_t *places,
                      struct ivon_error *error)
{
    const char *path = ivon_source_path(source);
    char found[256], expected[256];
    for (size_t i = 0, means = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(source, i);
        if (mean->part == IVON_MEAN && ++means > swag->tensor_count)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: has more means than the first checkpoint, which has %zu",
                                  path, swag->tensor_count);
    }
    for (size_t t = 0; t < swag->tensor_count; t++) {
        struct ivon_tensor *own = &swag->tensors[t].mean;
        places[t] = ivon_source_find(source, IVON_MEAN, own->name);
        if (places[t] < 0)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: has no mean '%s', which the first checkpoint has", path,
                                  own->name);
        const struct ivon_tensor *mean = ivon_source_tensor(source, (size_t)places[t]);
        if (!posterior_same_shape(mean, own))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: '%s' has shape %s, and %s in the first checkpoint", path,
                                  own->name, ivon_tensor_shape_text(mean, found),
                                  ivon_tensor_shape_text(own, expected));
        own->dtype = mean->dtype;
    }
    return 0;
}

struct swag_adding {
    struct ivon_swag *swag;
    struct ivon_source *source;
    ptrdiff_t *places;
    struct meter meter;
};

/* The running mean and sum of squares (Welford 1962), which lose nothing to what values have in
   common, and the deviation. */
static void swag_add_values(const struct ivon_swag *swag, struct swag_tensor *tensor, size_t first,
                            const double *theta, size_t count)
{
    size_t rank = swag->options.rank;
    float *column = tensor->deviations
                        ? tensor->deviations + swag->checkpoints % rank * tensor->mean.count + first
                        : NULL;
    double *average = tensor->average + first, weight = 1.0 / (double)(swag->checkpoints + 1);
    for (size_t i = 0; i < count; i++) {
        double before = theta[i] - average[i];
        average[i] += before * weight;
        double after = theta[i] - average[i];
        if (tensor->squares)
            tensor->squares[first + i] += before * after;
        if (column)
            column[i] = (float)after;
    }
}

static int swag_add_piece(void *context, size_t number, int thread, struct ivon_error *error)
{
    (void)thread;
    struct swag_adding *adding = context;
    const struct swag_piece *piece = &adding->swag->pieces[number];
    struct swag_tensor *tensor = &adding->swag->tensors[piece->tensor];
    size_t place = (size_t)adding->places[piece->tensor];
    unsigned char *block = NULL;
    int code = 0;
    for (size_t done = 0; done < piece->count && !code; done += SWAG_PART) {
        double theta[SWAG_PART];
        size_t first = piece->first + done;
        size_t count = piece->count - done < SWAG_PART ? piece->count - done : SWAG_PART;
        code = transfer_numbers(adding->source, place, first, count, SWAG_PART, &block, theta,
                                error);
        for (size_t i = 0; i < count && !code; i++)
            if (!isfinite(theta[i]))
                code = ivon_error_set(error, IVON_ERROR_DATA,
                                      "%s: '%s' is %g at element %zu, expected a finite number",
                                      ivon_source_path(adding->source), tensor->mean.name,
                                      isnan(theta[i]) ? NAN : theta[i], first + i);
        if (!code)
            swag_add_values(adding->swag, tensor, first, theta, count);
    }
    free(block);
    ivon_source_done_with(adding->source, place, piece->first, piece->count);
    return code ? code : meter_add(&adding->meter, piece->count, error);
}

int ivon_swag_add(struct ivon_swag *swag, struct ivon_source *checkpoint, struct ivon_error *error)
{
    struct swag_adding adding = {.swag = swag, .source = checkpoint};
    const struct ivon_header *header = ivon_source_header(checkpoint);
    uint64_t elements = 0;
    if (swag->finished)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: the posterior was finished before",
                              ivon_source_path(checkpoint));
    int code = swag->tensors ? 0 : swag_begin(swag, checkpoint, error);
    adding.places = calloc(swag->tensor_count + 1, sizeof *adding.places);
    if (!code)
        code = adding.places ? swag_match(swag, checkpoint, adding.places, error)
                             : ivon_error_memory(error);
    for (size_t t = 0; t < swag->tensor_count; t++)
        elements += swag->tensors[t].mean.count;
    free(swag->path);
    swag->path = strdup(ivon_source_path(checkpoint));
    if (!code && !swag->path)
        code = ivon_error_memory(error);
    meter_init(&adding.meter, &swag->options.resources.progress, elements);
    if (!code)
        code = ivon_parallel_run(swag->threads, swag->piece_count, swag_add_piece, &adding, error);
    meter_release(&adding.meter);
    free(adding.places);
    swag->checkpoints++;
    swag->step = header->step;
    swag->n_train = header->n_train;
    return code;
}
