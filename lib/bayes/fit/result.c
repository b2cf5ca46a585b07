/* The results of a fit as a checkpoint. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/fit/vectors.h"
#include "bayes/fit/whitened.h"
#include "bayes/structure.h"
#include "core/error.h"
#include "core/stream.h"
#include "net/derivative/metric.h"

/* A posterior being listed. */
struct fit_listing {
    struct ivon_fit *fit;
    struct ivon_tensor *tensors;
    const void **data;
    size_t count;
    int code;
    /* Of ranks: the tensors whose elements all of them hold together. */
    struct vectors_tensor *vectors;
    size_t vector_count;
    struct ranks_range own;
};

static const struct ivon_tensor *mean_of(const struct ivon_fit *fit, size_t parameter)
{
    return ivon_source_tensor(fit->source, fit->network->parameters[parameter]);
}

static void fit_list_tensor(struct fit_listing *listing, const struct ivon_tensor *tensor,
                            const void *data)
{
    listing->tensors[listing->count] = *tensor;
    listing->data[listing->count++] = data;
}

/* An array of floats of rank 1 or 2, named as the mean of a parameter. */
static void list_array(struct fit_listing *listing, size_t parameter, enum ivon_part part,
                       size_t rows, size_t columns, const float *data)
{
    const struct ivon_fit *fit = listing->fit;
    bool hessian = part == IVON_HESSIAN;
    const struct ivon_tensor tensor = {.name = mean_of(fit, parameter)->name,
                                       .part = part,
                                       .dtype = IVON_F32,
                                       .rank = columns ? 2 : 1,
                                       .shape = {(int64_t)rows, (int64_t)columns},
                                       .count = columns ? rows * columns : rows,
                                       .ess = hessian ? fit->ess : NAN,
                                       .weight_decay = hessian ? fit->decays[parameter] : NAN};
    fit_list_tensor(listing, &tensor, data);
}

/* A Hessian of a parameter's own shape. */
static void list_plain(struct fit_listing *listing, size_t parameter, const float *h)
{
    struct ivon_tensor tensor = *mean_of(listing->fit, parameter);
    tensor.part = IVON_HESSIAN;
    tensor.dtype = IVON_F32;
    tensor.ess = listing->fit->ess;
    tensor.weight_decay = listing->fit->decays[parameter];
    fit_list_tensor(listing, &tensor, h);
}

static bool is_block(const struct fit_layer *layer)
{
    return layer->factors[FIT_INPUT].rotated || layer->factors[FIT_OUTPUT].rotated;
}

/* A layer without a basis has Hessians and low-rank vectors as any other parameter has. */

static float *spread_allocate(float **place, size_t rows, size_t count)
{
    free(*place);
    *place = calloc(rows * count + 1, sizeof **place);
    return *place;
}

/* Takes `rows` arrays of the layer's shape apart, into arrays of its parameters' shapes. */
static int spread_rows(const struct ivon_fit *fit, const struct fit_layer *layer, const float *from,
                       size_t rows, float **spread, struct ivon_error *error)
{
    const struct net_block block = {.weight = layer->weight,
                                    .bias = layer->bias,
                                    .rows = layer->outputs,
                                    .columns = layer->columns,
                                    .transposed = layer->transposed};
    bool biased = layer->bias != NET_NONE;
    size_t weights = fit->parameter_counts[layer->weight];
    size_t biases = biased ? fit->parameter_counts[layer->bias] : 0;
    float *weight = spread_allocate(&spread[layer->weight], rows, weights);
    float *bias = biased ? spread_allocate(&spread[layer->bias], rows, biases) : NULL;
    if (!weight || (biased && !bias))
        return ivon_error_memory(error);
    for (size_t r = 0; r < rows; r++)
        net_block_scatter(&block, from + r * layer->outputs * layer->columns, weight + r * weights,
                          bias ? bias + r * biases : NULL);
    return 0;
}

static int spread_layers(struct ivon_fit *fit, struct ivon_error *error)
{
    const float *vectors = fit->vectors;
    size_t count = fit->network->parameter_count;
    int code = 0;
    if (!fit->spread)
        fit->spread = calloc(count + 1, sizeof *fit->spread);
    if (!fit->spread_vectors)
        fit->spread_vectors = calloc(count + 1, sizeof *fit->spread_vectors);
    if (!fit->spread || !fit->spread_vectors)
        return ivon_error_memory(error);
    for (size_t l = 0; l < fit->layer_count && !code; l++) {
        const struct fit_layer *layer = &fit->layers[l];
        bool apart = !is_block(layer) && layer->h;
        if (apart)
            code = spread_rows(fit, layer, layer->h, 1, fit->spread, error);
        if (apart && !code && fit->rank && !fit->options.resources.ranks)
            code = spread_rows(fit, layer, vectors, fit->rank, fit->spread_vectors, error);
        vectors += fit->rank * layer->outputs * layer->columns;
    }
    return code;
}

static const struct fit_layer *layer_of(const struct ivon_fit *fit, size_t parameter)
{
    for (size_t l = 0; l < fit->layer_count; l++)
        if (fit->layers[l].weight == parameter || fit->layers[l].bias == parameter)
            return &fit->layers[l];
    return NULL;
}

static void list_hessians(struct fit_listing *listing)
{
    const struct ivon_fit *fit = listing->fit;
    for (size_t p = 0; p < fit->network->parameter_count; p++) {
        const struct fit_layer *layer = layer_of(fit, p);
        if (layer && is_block(layer)) {
            if (layer->weight == p)
                list_array(listing, p, IVON_HESSIAN, layer->outputs, layer->columns, layer->h);
        } else if (layer) {
            list_plain(listing, p, fit->spread[p]);
        } else if (fit->diagonal[p]) {
            list_plain(listing, p, fit->diagonal[p]);
        }
    }
}

static void list_factors(struct fit_listing *listing)
{
    static const enum ivon_part bases[] = {IVON_BASIS_INPUT, IVON_BASIS_OUTPUT};
    static const enum ivon_part spectra[] = {IVON_SPECTRUM_INPUT, IVON_SPECTRUM_OUTPUT};
    const struct ivon_fit *fit = listing->fit;
    for (enum fit_side side = FIT_INPUT; side < FIT_SIDES; side++)
        for (int spectrum = 0; spectrum < 2; spectrum++)
            for (size_t l = 0; l < fit->layer_count; l++) {
                const struct fit_layer *layer = &fit->layers[l];
                const struct fit_factor *factor = &layer->factors[side];
                if (factor->rotated && fit->options.gram && !spectrum)
                    list_array(listing, layer->weight, IVON_GRAM, factor->rows, factor->rows,
                               factor->matrix);
                else if (factor->rotated && !fit->options.gram)
                    list_array(listing, layer->weight, spectrum ? spectra[side] : bases[side],
                               factor->rows, spectrum ? 0 : factor->rows,
                               spectrum ? factor->spectrum : factor->matrix);
            }
}

/* Low-rank vectors, which lie in the part [at, at + count) of whitened ones. */
struct fit_part {
    size_t at, count;
    const float *data; /* of a process alone */
};

/* Lists those of a parameter, in rows whose places are counted from the part's first one. */
static void list_rows(struct fit_listing *listing, size_t parameter, const struct fit_part *part,
                      struct vectors_tensor rows)
{
    const struct ivon_fit *fit = listing->fit;
    const struct ranks_range own = vectors_within(listing->own, part->at, part->count);
    if (fit->options.resources.ranks) {
        rows.index = listing->count;
        rows.at += part->at;
        rows.data = fit->vectors + fit->rank * (own.first - listing->own.first);
        rows.first = own.first;
        rows.stride = vectors_count(own);
        listing->vectors[listing->vector_count++] = rows;
    }
    list_array(listing, parameter, IVON_LOW_RANK, fit->rank, rows.count, part->data);
}

/* A part as it lies. */
static struct vectors_tensor rows_whole(const struct fit_part *part)
{
    return (struct vectors_tensor){.count = part->count, .inner = part->count, .step = 1};
}

/* A parameter of a layer without a basis, as spread_rows has it. */
static struct vectors_tensor rows_spread(const struct fit_layer *layer, size_t parameter)
{
    size_t inputs = layer->columns - (layer->bias != NET_NONE);
    struct vectors_tensor rows = {.count = layer->outputs * inputs,
                                  .inner = layer->transposed ? layer->outputs : inputs,
                                  .outer = layer->transposed ? 1 : layer->columns,
                                  .step = layer->transposed ? layer->columns : 1};
    return parameter == layer->weight ? rows
                                      : (struct vectors_tensor){.count = layer->outputs,
                                                                .at = inputs,
                                                                .inner = 1,
                                                                .outer = layer->columns,
                                                                .step = 1};
}

/* The part of a layer. */
static struct fit_part layer_part(const struct ivon_fit *fit, const struct fit_layer *layer)
{
    size_t at = 0, l = (size_t)(layer - fit->layers);
    for (size_t i = 0; i < l; i++)
        at += fit->evidence.parts[i].count;
    return (struct fit_part){at, fit->evidence.parts[l].count, fit->vectors + fit->rank * at};
}

static void list_vectors(struct fit_listing *listing)
{
    const struct ivon_fit *fit = listing->fit;
    size_t at = 0;
    for (size_t l = 0; l < fit->layer_count && fit->rank; l++) {
        const struct fit_part part = layer_part(fit, &fit->layers[l]);
        if (is_block(&fit->layers[l]))
            list_rows(listing, fit->layers[l].weight, &part, rows_whole(&part));
        at += part.count;
    }
    for (size_t p = 0; p < fit->network->parameter_count && fit->rank; p++) {
        const struct fit_layer *layer = layer_of(fit, p);
        struct fit_part part = {at, fit->parameter_counts[p], fit->vectors + fit->rank * at};
        if (layer && !is_block(layer) && layer->h) {
            part = layer_part(fit, layer);
            part.data = fit->spread_vectors ? fit->spread_vectors[p] : NULL;
            list_rows(listing, p, &part, rows_spread(layer, p));
        }
        if (fit->diagonal[p]) {
            list_rows(listing, p, &part, rows_whole(&part));
            at += part.count;
        }
    }
}

/* A tensor of the source itself, read where it does not lie in memory. */
static void list_own(struct fit_listing *listing, size_t index, struct ivon_error *error)
{
    struct ivon_fit *fit = listing->fit;
    const struct ivon_tensor *tensor = ivon_source_tensor(fit->source, index);
    const void *view = ivon_source_view(fit->source, index, 0);
    if (!view && !fit->loaded[index]) {
        fit->loaded[index] = malloc(tensor->count * ivon_dtype_size(tensor->dtype) + 1);
        listing->code = fit->loaded[index] ? ivon_source_read(fit->source, index, 0, tensor->count,
                                                              fit->loaded[index], error)
                                           : ivon_error_memory(error);
    }
    fit_list_tensor(listing, tensor, view ? view : fit->loaded[index]);
}

static void list_source(struct fit_listing *listing, enum ivon_part part, struct ivon_error *error)
{
    const struct ivon_source *source = listing->fit->source;
    for (size_t i = 0; i < ivon_source_tensor_count(source) && !listing->code; i++)
        if (ivon_source_tensor(source, i)->part == part)
            list_own(listing, i, error);
}

/* The JSON texts. */

/* How it was made. */
static char *fit_text(const struct ivon_fit *fit)
{
    static const char *const curvatures[] = {"auto", "ggn", "fisher", "empirical"};
    enum { SIZE = 512 };
    const struct ivon_fit_options *options = &fit->options;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(options->task.likelihood);
    char *text = malloc(SIZE), noise[64] = "", draws[64] = "";
    if (traits->noise)
        snprintf(noise, sizeof noise, "\"noise_std\":%.17g,", fit->likelihood.noise_std);
    if (options->curvature == IVON_CURVATURE_FISHER)
        snprintf(draws, sizeof draws, "\"fisher_samples\":%zu,", options->draws);
    if (text)
        snprintf(text, SIZE,
                 "{\"curvature\":\"%s\",\"examples\":%" PRIu64 ",%s\"likelihood\":\"%s\","
                 "\"moments\":\"%s\",%s\"seed\":%" PRIu64 ",\"shared\":\"%s\"}",
                 curvatures[options->curvature], fit->data.count, draws, traits->name,
                 options->factor_moments ? "factors" : "exact", noise, options->seed,
                 options->reduce ? "reduce" : "expand");
    return text;
}

static char *structure_of(const struct ivon_fit *fit)
{
    struct structure_block_names *blocks = calloc(fit->layer_count + 1, sizeof *blocks);
    char *made = fit_text(fit), *text = NULL;
    size_t count = 0;
    for (size_t l = 0; l < fit->layer_count && blocks; l++) {
        const struct fit_layer *layer = &fit->layers[l];
        if (is_block(layer))
            blocks[count++] = (struct structure_block_names){
                .weight = mean_of(fit, layer->weight)->name,
                .bias = layer->bias == NET_NONE ? NULL : mean_of(fit, layer->bias)->name,
                .transposed = layer->transposed,
                .input_rows = layer->rows};
    }
    if (blocks && made)
        text = structure_text(
            &(struct structure_description){.blocks = blocks,
                                            .block_count = count,
                                            .values = fit->rank ? fit->values : NULL,
                                            .rank = fit->rank,
                                            .fit = made});
    free(blocks);
    free(made);
    return text;
}

static void list_bytes(struct fit_listing *listing, enum ivon_part part, const void *bytes,
                       size_t size)
{
    const struct ivon_tensor tensor = tensor_of_bytes(part, size);
    fit_list_tensor(listing, &tensor, bytes);
}

static struct ivon_header fit_header_of(const struct ivon_fit *fit)
{
    const struct ivon_header *own = ivon_source_header(fit->source);
    struct ivon_header header = ivon_header_empty();
    header.step = own->step;
    header.n_train = (int64_t)fit->n_train;
    header.decrement = fit->options.gram ? own->decrement : fit->decrement;
    header.ess = fit->options.gram ? own->ess : fit->ess;
    header.weight_decay = fit->options.gram ? own->weight_decay
                                            : ivon_fit_summary(fit).weight_decay;
    return header;
}

static bool has_structure(const struct ivon_fit *fit)
{
    bool any = fit->rank > 0;
    for (size_t l = 0; l < fit->layer_count; l++)
        any |= is_block(&fit->layers[l]);
    return any;
}

static void list_all(struct fit_listing *listing, const void *graph, size_t graph_size,
                     struct ivon_error *error)
{
    const struct ivon_fit *fit = listing->fit;
    list_source(listing, IVON_MEAN, error);
    if (fit->options.gram)
        list_source(listing, IVON_HESSIAN, error);
    else
        list_hessians(listing);
    list_factors(listing);
    list_vectors(listing);
    list_source(listing, IVON_BUFFER, error);
    if (graph)
        list_bytes(listing, IVON_GRAPH, graph, graph_size);
    if (fit->structure)
        list_bytes(listing, IVON_STRUCTURE, fit->structure, strlen(fit->structure));
}

/* Lists what the result has: on ranks that do not get it the vectors that they hold. */
static int fit_list(struct fit_listing *listing, const void *graph, size_t graph_size,
                    struct ivon_error *error)
{
    struct ivon_fit *fit = listing->fit;
    if (fit->rank && ivon_ranks_rank(fit->options.resources.ranks)) {
        list_vectors(listing);
        return 0;
    }
    if (!fit->loaded)
        fit->loaded = calloc(ivon_source_tensor_count(fit->source) + 1, sizeof *fit->loaded);
    free(fit->structure);
    fit->structure = has_structure(fit) ? structure_of(fit) : NULL;
    if (!fit->loaded || (has_structure(fit) && !fit->structure))
        return ivon_error_memory(error);
    listing->code = spread_layers(fit, error);
    if (!listing->code)
        list_all(listing, graph, graph_size, error);
    return listing->code;
}

static int fit_open_source(struct fit_listing *listing, struct ivon_source **source,
                           struct ivon_error *error)
{
    const struct ivon_fit *fit = listing->fit;
    struct ivon_ranks *ranks = fit->rank ? fit->options.resources.ranks : NULL;
    const struct vectors_set set = {ranks, whitened_size(fit), listing->vectors,
                                    listing->vector_count};
    const struct ivon_header header = fit_header_of(fit);
    struct ivon_source *memory = NULL;
    int code = ivon_ranks_rank(ranks)
                   ? 0
                   : ivon_source_from_memory(&memory, ivon_source_path(fit->source), &header,
                                             listing->tensors, listing->data, listing->count,
                                             error);
    return vectors_open(source, &set, memory, code, error);
}

int ivon_fit_source(struct ivon_source **source, struct ivon_fit *fit, const void *graph,
                    size_t graph_size, struct ivon_error *error)
{
    size_t own = ivon_source_tensor_count(fit->source);
    size_t shared = fit->layer_count + fit->network->parameter_count;
    size_t most = own + fit->network->parameter_count + 5 * fit->layer_count +
                  fit->network->parameter_count + 2;
    struct fit_listing listing = {
        .fit = fit,
        .tensors = calloc(most, sizeof *listing.tensors),
        .data = calloc(most, sizeof *listing.data),
        .vectors = calloc(shared + 1, sizeof *listing.vectors),
        .own = vectors_own(fit->options.resources.ranks, whitened_size(fit))};
    int code = fit->done ? 0 : ivon_error_set(error, IVON_ERROR_ARGUMENT, "nothing was fitted yet");
    if (!code && (!listing.tensors || !listing.data || !listing.vectors))
        code = ivon_error_memory(error);
    if (!code)
        code = fit_list(&listing, graph, graph_size, error);
    if (!code)
        code = fit_open_source(&listing, source, error);
    free(listing.tensors);
    free(listing.data);
    free(listing.vectors);
    return code;
}
