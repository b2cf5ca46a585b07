#include "ivon/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/fit/private.h"
#include "bayes/posterior.h"
#include "bayes/sample_private.h"
#include "bayes/structure.h"
#include "bayes/transfer.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/parallel.h"

enum {
    TILE_MAX = 64,            /* examples */
    TILE_MEMORY = 24 << 20,   /* bytes of values and their derivatives: in a cache */
    TILE_ROWS = 64 << 20,     /* bytes of rows of inputs and adjoints */
    LANES = 8,                /* tiles of a wave */
    TILES_LEAST = 8,          /* of the examples, for threads to share */
    DEFAULT_MEMORY = 1 << 30, /* bytes */
    GGN_OUTPUTS = 128,        /* for which backward passes are not too many */
};

static const struct options_kind fit_options = {
    .defaults = "ivon_fit_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_fit_options, resources.reserved),
                 OPTIONS_RESERVED(struct ivon_fit_options, task.reserved)}};

void ivon_fit_options_init(struct ivon_fit_options *options, size_t size)
{
    const struct ivon_fit_options defaults = {
        .size = sizeof defaults,
        .task = {.likelihood = IVON_CATEGORICAL, .noise_std = NAN, .ignored = INT64_MIN},
        .structure = IVON_FIT_KRONECKER,
        .draws = 1,
        .ess = NAN,
        .weight_decay = NAN};
    options_init(options, size, &defaults);
}

static int fit_check_options(const struct ivon_fit_options *options, struct ivon_error *error)
{
    if (!isnan(options->ess) && (!(options->ess > 0) || isinf(options->ess)))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "ess is %g, expected a positive number",
                              options->ess);
    if (!isnan(options->weight_decay) &&
        (!(options->weight_decay >= 0) || isinf(options->weight_decay)))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the weight decay is %g, expected zero or more",
                              options->weight_decay);
    if (options->structure == IVON_FIT_POSTERIOR &&
        (!options->rank || options->gram || !isnan(options->ess) || !isnan(options->weight_decay)))
        return ivon_error_set(
            error, IVON_ERROR_ARGUMENT,
            "the source's own Hessians are for a low-rank correction, with the ess "
            "and the weight decay that they have");
    if (options->gram && options->rank)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "input factors alone have no low-rank correction");
    if (!options->draws)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "no labels are to be drawn, expected one "
                              "or more for each target");
    return 0;
}

static int select_parameters(struct ivon_fit *fit, struct ivon_error *error)
{
    const struct ivon_fit_options *options = &fit->options;
    size_t count = fit->network->parameter_count, selected = 0;
    fit->random = calloc(count + 1, sizeof *fit->random);
    fit->parameter_counts = calloc(count + 1, sizeof *fit->parameter_counts);
    if (!fit->random || !fit->parameter_counts)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(fit->source,
                                                            fit->network->parameters[i]);
        fit->parameter_counts[i] = mean->count;
        fit->random[i] = !options->selected ||
                         options->selected(options->selected_context, mean->name);
        selected += fit->random[i];
    }
    return selected ? 0
                    : ivon_error_hint(error, count ? IVON_HINT_SELECTION : IVON_HINT_NONE,
                                      ivon_error_set(error, IVON_ERROR_DATA,
                                                     "%s: nothing to fit: no mean of the network "
                                                     "is selected",
                                                     ivon_source_path(fit->source)));
}

/* The data and tiles. */

static int fit_open(struct ivon_fit *fit, struct ivon_examples *examples, const char *targets,
                    struct ivon_error *error)
{
    const struct ivon_task *task = &fit->options.task;
    size_t field;
    int code = outputs_find_targets(examples, targets, &field, error);
    return code ? code
                : labelled_open(&fit->data, fit->network, &fit->outputs, examples, targets,
                                task->inputs, task->input_count, error);
}

/* Bytes of a worker's rows for one example. */
static size_t row_bytes(const struct net_use *uses, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += uses[i].positions * (uses[i].inputs + 2 * uses[i].outputs + 1) * sizeof(float);
    return bytes;
}

/*
 * A wave has as many tiles as fit into memory, up to LANES, however many threads share them: sums
 * over columns of adjoints, then over the tiles of a wave, depend on how many these are.
 */
static void fit_choose_lanes(struct ivon_fit *fit, size_t row_bytes_of_example)
{
    size_t tile = fit->runner.tile, bytes = fit->runner.bytes + tile * row_bytes_of_example;
    size_t lanes = bytes ? fit->memory / bytes : 1;
    uint64_t tiles = (fit->data.count + tile - 1) / tile;
    lanes = lanes > LANES ? LANES : lanes;
    lanes = lanes > tiles ? (size_t)tiles : lanes;
    fit->lanes = lanes ? (int)lanes : 1;
    if (fit->threads > fit->lanes)
        fit->threads = fit->lanes;
}

/* The tile depends on the network and the memory, not on the number of threads. */
static int fit_choose_tile(struct ivon_fit *fit, struct ivon_error *error)
{
    const struct feed *feed = &fit->data.feed;
    struct runner_bounds bounds = {.batch = fit->options.batch,
                                   .examples = TILE_MAX,
                                   .cache = TILE_MEMORY,
                                   .tiles = TILES_LEAST};
    fit->runner = (struct runner){.network = fit->network,
                                  .mode = RUNNER_EXAMPLES,
                                  .wanted = fit->random,
                                  .memory = fit->memory,
                                  .check = outputs_check,
                                  .check_context = &fit->outputs};
    fit->threads = ivon_parallel_threads(fit->options.resources.threads);
    int code = feed_expect_single(feed, error);
    if (!code)
        code = blas_reserve(fit->threads, error);
    if (!code)
        code = runner_measure(&fit->runner, feed, 1, error);
    if (!code)
        code = runner_start(&fit->runner, feed, 1, error);
    if (code)
        return code;
    size_t count;
    const struct net_use *uses = net_derivative_uses(fit->runner.workers[0].derivative, &count);
    size_t each = row_bytes(uses, count), most = TILE_ROWS / (each + 1);
    bounds.examples = most < 1 ? 1 : most < TILE_MAX ? most : TILE_MAX;
    code = fit_layers_new(fit, fit->runner.workers[0].derivative, error);
    runner_stop(&fit->runner);
    if (!code)
        code = runner_choose_tile(&fit->runner, feed, &bounds, error);
    if (!code)
        fit_choose_lanes(fit, each);
    return code;
}

static size_t fit_example_bytes(const struct ivon_fit *fit)
{
    size_t all = fit->outputs.tokens * fit->outputs.k;
    return feed_example_size(&fit->data.feed) + all * 12 + fit->outputs.tokens * 16;
}

static void fit_choose_block(struct ivon_fit *fit)
{
    size_t tile = fit->runner.tile;
    uint64_t needed = (fit->data.count + tile - 1) / tile;
    size_t tiles = fit->memory / 4 / fit_example_bytes(fit) / tile;
    tiles = tiles < 1 ? 1 : tiles > needed ? (size_t)needed : tiles;
    fit->block = tiles * tile;
}

/* Workers. */

static bool make_rows(const struct ivon_fit *fit, struct fit_worker *worker,
                      const struct net_use *use, size_t i, size_t *longest)
{
    size_t rows = fit->runner.tile * use->positions, width = use->inputs + 1;
    size_t inputs = rows * width, outputs = rows * use->outputs;
    worker->inputs[i] = use->lookup ? NULL : memory_aligned(inputs * sizeof(float));
    worker->places[i] = use->lookup ? calloc(rows + 1, sizeof(int64_t)) : NULL;
    worker->adjoints[i] = memory_aligned(outputs * sizeof(float));
    worker->sums[i] = use->positions == 1 ? calloc(outputs + 1, sizeof(float)) : NULL;
    *longest = !use->lookup && inputs > *longest ? inputs : *longest;
    *longest = outputs > *longest ? outputs : *longest;
    return (use->lookup ? worker->places[i] != NULL : worker->inputs[i] != NULL) &&
           worker->adjoints[i] && (use->positions > 1 || worker->sums[i]);
}

static int fit_make_worker(const struct ivon_fit *fit, struct fit_worker *worker,
                           struct runner_worker *runs, struct ivon_error *error)
{
    size_t rows = fit->runner.tile * fit->outputs.tokens, all = rows * fit->outputs.k;
    size_t longest = 0, widest = 0, panel = 0;
    worker->tile.worker = runs;
    worker->p = calloc(all, sizeof *worker->p);
    worker->adjoint = calloc(all, sizeof *worker->adjoint);
    worker->losses = calloc(rows, sizeof *worker->losses);
    worker->inputs = calloc(fit->use_count + 1, sizeof *worker->inputs);
    worker->places = calloc(fit->use_count + 1, sizeof *worker->places);
    worker->adjoints = calloc(fit->use_count + 1, sizeof *worker->adjoints);
    worker->sums = calloc(fit->use_count + 1, sizeof *worker->sums);
    if (!worker->p || !worker->adjoint || !worker->losses || !worker->inputs || !worker->places ||
        !worker->adjoints || !worker->sums)
        return ivon_error_memory(error);
    for (size_t i = 0; i < fit->use_count; i++)
        if (!make_rows(fit, worker, fit_use(fit, worker, i), i, &longest))
            return ivon_error_memory(error);
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        if (fit->diagonal[p] && fit->parameter_counts[p] > widest)
            widest = fit->parameter_counts[p];
    for (size_t i = 0; i < fit->moment_panel_count; i++) {
        const struct fit_panel *at = &fit->moment_panels[i];
        size_t size = at->count * fit->layers[at->layer].columns;
        panel = size > panel ? size : panel;
    }
    worker->rows = memory_aligned(longest * sizeof *worker->rows);
    worker->gradients = calloc(fit->runner.tile * widest + 1, sizeof *worker->gradients);
    worker->squares = calloc(fit->diagonal_count + 1, sizeof *worker->squares);
    worker->panel = memory_aligned(panel * sizeof *worker->panel);
    return worker->rows && worker->gradients && worker->squares && worker->panel
               ? 0
               : ivon_error_memory(error);
}

static int fit_make_workers(struct ivon_fit *fit, struct ivon_error *error)
{
    int code = runner_start(&fit->runner, &fit->data.feed, fit->lanes, error);
    if (!code)
        code = runner_set(&fit->runner, (const float *const *)fit->mean.arrays, error);
    if (!code)
        code = thread_pool_new(&fit->pool, fit->threads, error);
    fit->workers = calloc((size_t)fit->lanes, sizeof *fit->workers);
    if (!code && !fit->workers)
        code = ivon_error_memory(error);
    for (int i = 0; i < fit->lanes && !code; i++)
        code = fit_make_worker(fit, &fit->workers[i], &fit->runner.workers[i], error);
    return code;
}

static void fit_release_worker(const struct ivon_fit *fit, struct fit_worker *worker)
{
    for (size_t i = 0; i < fit->use_count; i++) {
        if (worker->inputs)
            free(worker->inputs[i]);
        if (worker->places)
            free(worker->places[i]);
        if (worker->adjoints)
            free(worker->adjoints[i]);
        if (worker->sums)
            free(worker->sums[i]);
    }
    void *all[] = {worker->p,       worker->adjoint, worker->losses,   worker->inputs,
                   worker->places,  worker->sums,    worker->adjoints, worker->rows,
                   worker->squares, worker->panel,   worker->gradients};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* The weights. */

static int load_range(void *context, const struct weights_range *range, float *out,
                      struct ivon_error *error)
{
    const struct ivon_fit *fit = context;
    struct ivon_sample_options still = ivon_sample_defaults();
    still.temperature = 0;
    return ivon_sample_draw(fit->source, fit->network->parameters[range->parameter], &still, 0,
                            range->first, range->count, out, error);
}

static int fit_load_mean(struct ivon_fit *fit, struct ivon_error *error)
{
    int code = weights_init(&fit->mean, fit->network, error);
    return code ? code
                : weights_fill(&fit->mean, fit->network, fit->source, fit->threads, load_range, fit,
                               error);
}

static int fit_count_targets(struct ivon_fit *fit, struct ivon_examples *examples,
                             const char *targets, struct ivon_error *error)
{
    struct ivon_positions positions;
    int code = ivon_positions_count(&positions, examples, targets, fit->options.task.likelihood,
                                    fit->outputs.k, fit->options.task.ignored, error);
    fit->n_train = code ? NAN : (double)positions.counted;
    if (!code && !positions.counted)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: all targets are the ignored label %lld, expected some that "
                              "count",
                              ivon_examples_path(examples), (long long)fit->options.task.ignored);
    return code;
}

static int fit_start(struct ivon_fit *fit, struct ivon_examples *examples, const char *targets,
                     struct ivon_error *error)
{
    int code = fit_check_options(&fit->options, error);
    if (!code)
        code = select_parameters(fit, error);
    if (!code)
        code = fit_open(fit, examples, targets, error);
    if (!code)
        code = fit_choose_tile(fit, error);
    if (code)
        return code;
    double noise = fit->options.task.noise_std;
    fit->likelihood = (struct likelihood){fit->options.task.likelihood, fit->outputs.k,
                                          isnan(noise) ? 1 : noise};
    if (fit->options.curvature == IVON_CURVATURE_AUTO)
        fit->options.curvature = fit->outputs.k <= GGN_OUTPUTS ? IVON_CURVATURE_GGN
                                                               : IVON_CURVATURE_FISHER;
    fit->columns = fit_columns_count(fit);
    fit_choose_block(fit);
    code = labelled_reserve(&fit->data, fit->block, fit->options.task.ignored, error);
    if (!code)
        code = fit_count_targets(fit, examples, targets, error);
    if (!code)
        code = fit_load_mean(fit, error);
    return code ? code : fit_make_workers(fit, error);
}

int ivon_fit_new(struct ivon_fit **out, struct ivon_network *network, struct ivon_source *source,
                 struct ivon_examples *examples, const char *targets,
                 const struct ivon_fit_options *given, struct ivon_error *error)
{
    struct ivon_fit *fit = calloc(1, sizeof *fit);
    if (!fit)
        return ivon_error_memory(error);
    fit->options = ivon_fit_defaults();
    fit->network = network;
    fit->source = source;
    int code = options_read(&fit_options, &fit->options, given, error);
    fit->memory = fit->options.resources.memory ? fit->options.resources.memory : DEFAULT_MEMORY;
    fit->outputs.likelihood = fit->options.task.likelihood;
    if (!code)
        code = fit_start(fit, examples, targets, error);
    if (code) {
        ivon_fit_free(fit);
        return code;
    }
    *out = fit;
    return 0;
}

void ivon_fit_free(struct ivon_fit *fit)
{
    if (!fit)
        return;
    for (int i = 0; i < fit->lanes && fit->workers; i++)
        fit_release_worker(fit, &fit->workers[i]);
    for (size_t i = 0; fit->loaded && i < ivon_source_tensor_count(fit->source); i++)
        free(fit->loaded[i]);
    free(fit->loaded);
    for (size_t i = 0; fit->spread && i < fit->network->parameter_count; i++)
        free(fit->spread[i]);
    for (size_t i = 0; fit->spread_vectors && i < fit->network->parameter_count; i++)
        free(fit->spread_vectors[i]);
    free(fit->spread);
    free(fit->spread_vectors);
    free(fit->workers);
    runner_stop(&fit->runner);
    thread_pool_free(fit->pool);
    labelled_close(&fit->data);
    weights_release(&fit->mean);
    fit_layers_free(fit);
    free(fit->random);
    free(fit->parameter_counts);
    free(fit->evidence.parts);
    free(fit->decays);
    free(fit->values);
    free(fit->vectors);
    free(fit->structure);
    free(fit);
}

/* Running. */

static size_t passes_needed(const struct ivon_fit *fit)
{
    bool rotated = false;
    for (size_t i = 0; i < fit->layer_count; i++)
        rotated |= fit->layers[i].factors[FIT_INPUT].rotated ||
                   fit->layers[i].factors[FIT_OUTPUT].rotated;
    return fit->options.gram || !rotated ? 1 : 2;
}

/* h of a parameter as the source has it, and its weight decay. */
static int load_hessian(const struct ivon_fit *fit, size_t parameter, float *h,
                        struct ivon_error *error)
{
    struct ivon_source *source = fit->source;
    const struct ivon_tensor *mean = ivon_source_tensor(source,
                                                        fit->network->parameters[parameter]);
    ptrdiff_t index = ivon_source_find(source, IVON_HESSIAN, mean->name);
    if (index < 0)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' has no Hessian",
                              ivon_source_path(source), mean->name);
    const struct ivon_tensor *hessian = ivon_source_tensor(source, (size_t)index);
    int code = posterior_check_hessian(source, mean, hessian, true, error);
    fit->decays[parameter] = hessian->weight_decay;
    if (!code) /* for what it checks: h + δ is above 0 */
        code = posterior_inverse_precision(source, (size_t)index, 1, 0, mean->count, h, error);
    return code ? code : transfer_floats(source, (size_t)index, 0, mean->count, h, error);
}

static int load_layer(struct ivon_fit *fit, const struct fit_layer *layer, struct ivon_error *error)
{
    const struct net_block block = {.weight = layer->weight,
                                    .bias = layer->bias,
                                    .rows = layer->outputs,
                                    .columns = layer->columns,
                                    .transposed = layer->transposed};
    bool has_bias = layer->bias != NET_NONE;
    float *weight = calloc(fit->parameter_counts[layer->weight] + 1, sizeof *weight);
    float *bias = has_bias ? calloc(fit->parameter_counts[layer->bias] + 1, sizeof *bias) : NULL;
    int code = weight && (!has_bias || bias) ? load_hessian(fit, layer->weight, weight, error)
                                             : ivon_error_memory(error);
    if (!code && has_bias)
        code = load_hessian(fit, layer->bias, bias, error);
    if (!code && has_bias && fit->decays[layer->bias] != fit->decays[layer->weight])
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: a weight and its bias have different weight decays, %g and %g",
                              ivon_source_path(fit->source), fit->decays[layer->weight],
                              fit->decays[layer->bias]);
    if (!code)
        net_block_gather(&block, weight, bias, layer->h);
    free(weight);
    free(bias);
    return code;
}

/* The source's own Hessians in place of moments; the pass over the data finds the loss. */
static int fit_load_posterior(struct ivon_fit *fit, struct ivon_error *error)
{
    struct fit_pass pass = {.fit = fit};
    size_t part = 0;
    int code = structure_refuse(fit->source, "bases of low-rank corrections", error);
    if (!code)
        code = fit_pass_run(&pass, error);
    if (!code)
        code = fit_parts_new(fit, error);
    for (size_t l = 0; l < fit->layer_count && !code; l++) {
        code = load_layer(fit, &fit->layers[l], error);
        fit->evidence.parts[part++].decay = fit->decays[fit->layers[l].weight];
    }
    for (size_t p = 0; p < fit->network->parameter_count && !code; p++)
        if (fit->diagonal[p]) {
            code = load_hessian(fit, p, fit->diagonal[p], error);
            fit->evidence.parts[part++].decay = fit->decays[p];
        }
    fit->ess = posterior_ess(fit->source);
    return code;
}

/* ‖m‖² of a parameter. */
static double squares_of(const struct ivon_fit *fit, size_t parameter)
{
    double sum = 0;
    for (size_t i = 0; i < fit->parameter_counts[parameter]; i++) {
        double m = (double)fit->mean.arrays[parameter][i];
        sum += m * m;
    }
    return sum;
}

int fit_parts_new(struct ivon_fit *fit, struct ivon_error *error)
{
    size_t count = fit->network->parameter_count;
    bool regression = ivon_likelihood_traits(fit->options.task.likelihood)->noise;
    struct evidence *evidence = &fit->evidence;
    free(evidence->parts);
    *evidence = (struct evidence){.n = fit->n_train,
                                  .loss = fit->loss,
                                  .scale = 1,
                                  .outputs = regression ? (double)fit->outputs.k : 0,
                                  .noise = regression ? fit->likelihood.noise_std : NAN};
    evidence->parts = calloc(fit->layer_count + count + 1, sizeof *evidence->parts);
    if (!fit->decays)
        fit->decays = calloc(count + 1, sizeof *fit->decays);
    if (!evidence->parts || !fit->decays)
        return ivon_error_memory(error);
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct fit_layer *layer = &fit->layers[l];
        double squares = squares_of(fit, layer->weight);
        squares += layer->bias == NET_NONE ? 0 : squares_of(fit, layer->bias);
        evidence->parts[evidence->count++] = (struct evidence_part){
            layer->h, layer->outputs * layer->columns, squares, fit->options.weight_decay};
    }
    for (size_t p = 0; p < count; p++)
        if (fit->diagonal[p])
            evidence->parts[evidence->count++] = (struct evidence_part){
                fit->diagonal[p], fit->parameter_counts[p], squares_of(fit, p),
                fit->options.weight_decay};
    return 0;
}

static void scale_all(float *values, size_t count, double scale)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(scale * (double)values[i]);
}

/* h for the noise that was found, and the weight decay of each parameter. */
static void fit_settle(struct ivon_fit *fit)
{
    struct evidence *evidence = &fit->evidence;
    size_t part = 0;
    for (size_t l = 0; l < fit->layer_count; l++, part++) {
        const struct fit_layer *layer = &fit->layers[l];
        const struct fit_factor *factor = &layer->factors[FIT_OUTPUT];
        fit->decays[layer->weight] = evidence->parts[part].decay;
        if (layer->bias != NET_NONE)
            fit->decays[layer->bias] = evidence->parts[part].decay;
        if (evidence->scale != 1) {
            scale_all(layer->h, layer->outputs * layer->columns, evidence->scale);
            if (factor->rotated)
                scale_all(factor->spectrum, factor->rows, evidence->scale);
        }
    }
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        if (fit->diagonal[p]) {
            fit->decays[p] = evidence->parts[part++].decay;
            if (evidence->scale != 1)
                scale_all(fit->diagonal[p], fit->parameter_counts[p], evidence->scale);
        }
    if (evidence->outputs > 0)
        fit->likelihood.noise_std = evidence_noise(evidence);
    evidence->loss *= evidence->scale;
    evidence->noise = fit->likelihood.noise_std;
    evidence->scale = 1;
}

static int check_part(const struct ivon_fit *fit, const struct evidence_part *part,
                      size_t parameter, struct ivon_error *error)
{
    size_t without = 0, infinite = 0;
    for (size_t i = 0; i < part->count; i++) {
        infinite += isfinite(part->h[i]) ? 0 : 1;
        without += part->h[i] > 0 || part->decay > 0 ? 0 : 1;
    }
    if (infinite)
        return fit_refuse_infinite(fit, parameter, error);
    if (!without)
        return 0;
    const char *name = ivon_source_tensor(fit->source, fit->network->parameters[parameter])->name;
    return ivon_error_hint(error, IVON_HINT_WEIGHT_DECAY,
                           ivon_error_set(error, IVON_ERROR_DATA,
                                          "%s: the data say nothing of %zu of %zu elements of the "
                                          "Hessian of '%s', and there is no weight decay: their "
                                          "variance is infinite",
                                          ivon_source_path(fit->source), without, part->count,
                                          name));
}

/* The curvature is finite; and without a weight decay, what no example bends has no precision. */
static int fit_check_curvature(const struct ivon_fit *fit, struct ivon_error *error)
{
    const struct evidence_part *part = fit->evidence.parts;
    int code = 0;
    for (size_t l = 0; l < fit->layer_count && !code; l++)
        code = check_part(fit, part++, fit->layers[l].weight, error);
    for (size_t p = 0; p < fit->network->parameter_count && !code; p++)
        if (fit->diagonal[p])
            code = check_part(fit, part++, p, error);
    return code;
}

static int fit_tune(struct ivon_fit *fit, struct ivon_error *error)
{
    const struct ivon_fit_options *options = &fit->options;
    bool noise = ivon_likelihood_traits(options->task.likelihood)->noise &&
                 isnan(options->task.noise_std);
    bool decays = isnan(options->weight_decay);
    int code = fit_parts_new(fit, error);
    if (code)
        return code;
    if (noise)
        evidence_maximize_noise(&fit->evidence, decays, options->each);
    else if (decays)
        evidence_maximize(&fit->evidence, options->each);
    fit_settle(fit);
    return fit_check_curvature(fit, error);
}

int ivon_fit_run(struct ivon_fit *fit, struct ivon_error *error)
{
    size_t passes = passes_needed(fit);
    int code = 0;
    meter_init(&fit->meter, &fit->options.resources.progress, passes * fit->data.count);
    fit->passes = 0;
    fit->loss = 0;
    bool own = fit->options.structure == IVON_FIT_POSTERIOR;
    fit->ess = isnan(fit->options.ess) ? fit->n_train : fit->options.ess;
    if (own)
        code = fit_load_posterior(fit, error);
    else if (passes > 1 || fit->options.gram)
        code = fit_factors_run(fit, error);
    if (!code && !fit->options.gram && !own)
        code = fit_moments_run(fit, error);
    meter_release(&fit->meter);
    if (!code && !fit->options.gram && !own)
        code = fit_tune(fit, error);
    fit->done = !code;
    return code;
}

static void fit_forget_correction(struct ivon_fit *fit)
{
    free(fit->values);
    free(fit->vectors);
    fit->values = NULL;
    fit->vectors = NULL;
    fit->rank = 0;
}

static int fit_expect_run(const struct ivon_fit *fit, struct ivon_error *error)
{
    return fit->done && !fit->options.gram
               ? 0
               : ivon_error_set(error, IVON_ERROR_ARGUMENT, "no curvature was fitted yet");
}

int ivon_fit_set_weight_decay(struct ivon_fit *fit, double weight_decay, struct ivon_error *error)
{
    int code = fit_expect_run(fit, error);
    if (!code && !(weight_decay >= 0 && !isinf(weight_decay)))
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the weight decay is %g, expected zero or more", weight_decay);
    if (code)
        return code;
    fit_forget_correction(fit);
    for (size_t i = 0; i < fit->evidence.count; i++)
        fit->evidence.parts[i].decay = weight_decay;
    fit_settle(fit);
    return fit_check_curvature(fit, error);
}

int ivon_fit_correct(struct ivon_fit *fit, struct ivon_error *error)
{
    int code = fit_expect_run(fit, error);
    if (code)
        return code;
    fit_forget_correction(fit);
    meter_init(&fit->meter, &fit->options.resources.progress,
               fit_lanczos_steps(fit) * fit->data.count);
    code = fit->options.rank ? fit_lanczos_run(fit, error) : 0;
    meter_release(&fit->meter);
    return code;
}

struct ivon_fit_summary ivon_fit_summary(const struct ivon_fit *fit)
{
    const struct evidence *evidence = &fit->evidence;
    struct ivon_fit_summary summary = {
        .examples = fit->data.count,
        .n_train = fit->n_train,
        .ess = fit->ess,
        .weight_decay = fit->options.weight_decay,
        .noise_std = fit->likelihood.noise_std,
        .loss = fit->loss / fit->n_train,
        .bytes = fit_layers_bytes(fit) + fit_lanczos_bytes(fit),
        .passes = passes_needed(fit),
        .products = fit_lanczos_steps(fit),
        .rank = fit->rank,
        .columns = fit->options.gram || fit->options.structure == IVON_FIT_POSTERIOR ? 0
                                                                                     : fit->columns,
        .curvature = fit->options.curvature,
        .tile = fit->runner.tile};
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        if (fit->random[p]) {
            summary.parameters += fit->parameter_counts[p];
            summary.squares += squares_of(fit, p);
        }
    for (size_t i = 0; i < fit->layer_count; i++)
        summary.blocks += fit->layers[i].factors[FIT_INPUT].rotated ||
                          fit->layers[i].factors[FIT_OUTPUT].rotated;
    if (fit->rank) {
        summary.first = fit->values[0];
        summary.last = fit->values[fit->rank - 1];
    }
    if (fit->done && !fit->options.gram) {
        summary.weight_decay = evidence->parts[0].decay;
        for (size_t i = 1; i < evidence->count; i++)
            if (evidence->parts[i].decay != summary.weight_decay)
                summary.weight_decay = NAN;
        summary.loss = evidence->loss / fit->n_train; /* by the noise that was found */
        summary.effective = evidence_effective(evidence, NULL);
        summary.evidence = evidence_value(evidence);
    }
    return summary;
}
