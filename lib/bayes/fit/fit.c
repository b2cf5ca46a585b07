#include "ivon/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/fit/lanczos.h"
#include "bayes/posterior.h"
#include "bayes/rank_inputs.h"
#include "bayes/sample_private.h"
#include "core/blas.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/options.h"
#include "core/parallel.h"
#include "core/stream.h"

enum {
    TILE_MAX = 64,            /* examples */
    TILE_MEMORY = 24 << 20,   /* bytes of values and their derivatives: in a cache */
    TILE_ROWS = 8 << 20,      /* bytes of rows of inputs and adjoints */
    TOGETHER = 16,            /* columns of adjoints */
    TOGETHER_BYTES = 8 << 20, /* bytes of their rows for one example */
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
    if (!(options->save_seconds >= 0))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "seconds between states are %g, expected zero or more",
                              options->save_seconds);
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

/* Bytes of a worker's rows for one example, of inputs and of one column of adjoints. */
static size_t input_bytes(const struct net_use *uses, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += uses[i].positions * (uses[i].inputs + 1) * sizeof(float);
    return bytes;
}

static size_t adjoint_bytes(const struct net_use *uses, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += uses[i].positions * uses[i].outputs * sizeof(float);
    return bytes;
}

/* The columns of one row's adjoints, and those that are run back for one sum: their products are
   fewer, and their inputs are read once for all. */
static void fit_choose_columns(struct ivon_fit *fit, size_t bytes)
{
    size_t most = TOGETHER_BYTES / (bytes + 1);
    bool none = fit->options.gram || fit->options.structure == IVON_FIT_POSTERIOR;
    most = most < 1 ? 1 : most > TOGETHER ? TOGETHER : most;
    if (fit->options.curvature == IVON_CURVATURE_AUTO)
        fit->options.curvature = fit->outputs.k <= GGN_OUTPUTS ? IVON_CURVATURE_GGN
                                                               : IVON_CURVATURE_FISHER;
    fit->columns = fit_columns_count(fit);
    fit->together = none ? 1 : fit->columns < most ? fit->columns : most;
}

/*
 * A wave has as many tiles as fit into memory, up to LANES, however many threads share them: sums
 * over columns of adjoints, then over the tiles of a wave, depend on how many these are. A tile
 * takes `bytes` beside those of its examples.
 */
static void fit_choose_lanes(struct ivon_fit *fit, size_t row_bytes_of_example, size_t bytes)
{
    size_t tile = fit->runner.tile;
    bytes += fit->runner.bytes + tile * row_bytes_of_example;
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
                                  .mode = RUNNER_ROWS,
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
    fit_choose_columns(fit, adjoint_bytes(uses, count));
    size_t each = input_bytes(uses, count) + (fit->together + 1) * adjoint_bytes(uses, count);
    size_t most = TILE_ROWS / (each + 1);
    bounds.examples = most < 1 ? 1 : most < TILE_MAX ? most : TILE_MAX;
    code = fit_layers_new(fit, fit->runner.workers[0].derivative, error);
    size_t bytes = code ? 0 : fit_bands_bytes(fit, uses);
    runner_stop(&fit->runner);
    if (!code)
        code = runner_choose_tile(&fit->runner, feed, &bounds, error);
    if (!code)
        fit_choose_lanes(fit, each, bytes);
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
    size_t lanes = (size_t)fit->lanes;
    tiles = tiles < lanes || tiles >= needed ? tiles : tiles / lanes * lanes; /* whole waves */
    tiles = tiles < 1 ? 1 : tiles > needed ? (size_t)needed : tiles;
    fit->block = tiles * tile;
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
    if (!code)
        code = weights_fill(&fit->mean, fit->network, fit->source, fit->threads, load_range, fit,
                            error);
    for (size_t p = 0; p < fit->network->parameter_count && !code; p++)
        ivon_source_done_with(fit->source, fit->network->parameters[p], 0,
                              ivon_source_tensor(fit->source, fit->network->parameters[p])->count);
    return code;
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
    if (!code)
        code = rank_inputs_check(fit->options.resources.ranks, fit->source, examples, error);
    if (code)
        return code;
    double noise = fit->options.task.noise_std;
    fit->likelihood = (struct likelihood){fit->options.task.likelihood, fit->outputs.k,
                                          isnan(noise) ? 1 : noise};
    fit_choose_block(fit);
    code = fit_choose_chunk(fit, error);
    if (!code)
        code = labelled_reserve(&fit->data, fit->block, fit->options.task.ignored, error);
    if (!code)
        code = fit_count_targets(fit, examples, targets, error);
    if (!code)
        code = fit_load_mean(fit, error);
    fit->stage = fit_first_stage(fit);
    fit->digest = fit->chunk_digest = DIGEST_START;
    return code ? code : thread_pool_new(&fit->pool, fit->threads, error);
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
    fit->decrement = NAN;
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
    fit_lanczos_close(fit);
    fit_chunks_close(fit);
    for (size_t i = 0; fit->loaded && i < ivon_source_tensor_count(fit->source); i++)
        free(fit->loaded[i]);
    free(fit->loaded);
    for (size_t i = 0; fit->spread && i < fit->network->parameter_count; i++)
        free(fit->spread[i]);
    for (size_t i = 0; fit->spread_vectors && i < fit->network->parameter_count; i++)
        free(fit->spread_vectors[i]);
    free(fit->spread);
    free(fit->spread_vectors);
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
    free(fit->description);
    free(fit->reports);
    free(fit);
}

/* Running. */

/* The passes that are left. */
static int fit_run_passes(struct ivon_fit *fit, struct ivon_error *error)
{
    uint64_t passes = fit_passes_before(fit, FIT_CORRECTION) - fit_passes_before(fit, fit->stage);
    bool own = fit->options.structure == IVON_FIT_POSTERIOR;
    int code = 0;
    meter_init(&fit->meter, &fit->options.resources.progress,
               passes * fit->data.count - fit->position);
    if (own)
        code = fit_own_run(fit, error);
    else if (fit->stage < FIT_MOMENTS)
        code = fit_factors_run(fit, error);
    if (!code && !fit->options.gram && !own)
        code = fit_moments_run(fit, error);
    meter_release(&fit->meter);
    return code || own || fit->options.gram ? code : fit_tune(fit, error);
}

int ivon_fit_run(struct ivon_fit *fit, struct ivon_error *error)
{
    bool own = fit->options.structure == IVON_FIT_POSTERIOR;
    fit->ess = own                       ? posterior_ess(fit->source)
               : isnan(fit->options.ess) ? fit->n_train
                                         : fit->options.ess;
    fit_state_start(fit);
    int code = fit->stage == FIT_CORRECTION ? 0 : fit_run_passes(fit, error);
    if (!code && !fit->options.gram)
        code = fit_gradient_decrement(fit, error);
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
    fit_lanczos_close(fit);
    code = fit_tune_to(fit, weight_decay, error);
    return code ? code : fit_gradient_decrement(fit, error);
}

int ivon_fit_correct(struct ivon_fit *fit, struct ivon_error *error)
{
    int code = fit_expect_run(fit, error);
    if (code || !fit->options.rank)
        return code;
    fit_forget_correction(fit);
    fit->stage = FIT_CORRECTION;
    fit_state_start(fit);
    meter_init(&fit->meter, &fit->options.resources.progress,
               (fit_lanczos_steps(fit) - lanczos_done(fit)) * fit->data.count - fit->position);
    code = fit_lanczos_run(fit, error);
    meter_release(&fit->meter);
    if (code)
        fit_forget_correction(fit);
    return code ? code : fit_gradient_decrement(fit, error);
}

bool ivon_fit_saw_probabilities(const struct ivon_fit *fit)
{
    return fit->probabilities;
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
        .decrement = fit->decrement,
        .bytes = fit_layers_bytes(fit) + fit_lanczos_bytes(fit),
        .passes = fit_passes_before(fit, FIT_CORRECTION),
        .passes_done = fit_passes_before(fit, fit->stage) + lanczos_done(fit),
        .examples_done = fit->position,
        .products = fit_lanczos_steps(fit),
        .rank = fit->rank,
        .columns = fit->options.gram || fit->options.structure == IVON_FIT_POSTERIOR ? 0
                                                                                     : fit->columns,
        .curvature = fit->options.curvature,
        .tile = fit->runner.tile};
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        if (fit->random[p]) {
            summary.parameters += fit->parameter_counts[p];
            summary.squares += fit_squares(fit, p);
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
