#include "ivon/sensitivity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/perturbation.h"
#include "bayes/rank_inputs.h"
#include "bayes/sample_private.h"
#include "bayes/sensitivity/private.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/options.h"
#include "core/parallel.h"

enum {
    TILE_MAX = 128,           /* examples */
    TILE_MEMORY = 24 << 20,   /* bytes of values, their derivatives and workspaces: in a cache */
    TILES_LEAST = 8,          /* of the examples, for threads to share */
    DEFAULT_MEMORY = 1 << 30, /* bytes */
};

static const struct options_kind sensitivity_options = {
    .defaults = "ivon_sensitivity_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_sensitivity_options, resources.reserved),
                 OPTIONS_RESERVED(struct ivon_sensitivity_options, task.reserved)}};

void ivon_sensitivity_options_init(struct ivon_sensitivity_options *options, size_t size)
{
    const struct ivon_sensitivity_options defaults = {
        .size = sizeof defaults,
        .task = {.likelihood = IVON_CATEGORICAL, .noise_std = NAN, .ignored = INT64_MIN},
        .covariance = IVON_COVARIANCE_FULL,
        .scores = IVON_SCORE_BIT(IVON_SCORE_DEVIATION),
        .rho = NAN,
        .n_train = -1,
        .sample = ivon_sample_defaults()};
    options_init(options, size, &defaults);
}

static int sensitivity_read_options(struct ivon_sensitivity_options *options,
                                    const struct ivon_sensitivity_options *given,
                                    struct ivon_error *error)
{
    *options = ivon_sensitivity_defaults();
    int code = options_read(&sensitivity_options, options, given, error);
    return code ? code : sample_check_embedded(&options->sample, error);
}

int sensitivity_open(struct ivon_sensitivity *sensitivity, struct labelled *data,
                     struct ivon_examples *examples, const char *targets, struct ivon_error *error)
{
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    size_t field = 0;
    *data = (struct labelled){0};
    int code = outputs_find_targets(examples, targets, &field, error);
    return code ? code
                : labelled_open(data, sensitivity->network, &sensitivity->outputs, examples,
                                targets, options->task.inputs, options->task.input_count, error);
}

int sensitivity_check_tile(const struct ivon_sensitivity *sensitivity, const struct labelled *data,
                           const struct runner_tile *tile, struct ivon_error *error)
{
    const struct outputs *outputs = &sensitivity->outputs;
    if (!data->first && !tile->at)
        sensitivity->workers[tile->thread].probabilities |= outputs_are_probabilities(
            outputs, tile->f, tile->count * outputs->tokens);
    return outputs_check_finite(outputs, data->examples, (data->first + tile->at) * outputs->tokens,
                                tile->f, tile->count * outputs->tokens, error);
}

struct pass sensitivity_pass_of(const struct ivon_sensitivity *sensitivity,
                                const struct labelled *data, const struct runner_tile *tile)
{
    size_t tokens = sensitivity->outputs.tokens, row = tile->at * tokens;
    return (struct pass){.sensitivity = sensitivity,
                         .worker = &sensitivity->workers[tile->thread],
                         .derivative = tile->worker->derivative,
                         .at = tile->at,
                         .count = tile->count,
                         .row = row,
                         .rows = tile->count * tokens,
                         .f = tile->f,
                         .targets = labelled_targets(data, row)};
}

/* Workers. */

/* The tile does not depend on the number of threads, which is lowered to what memory holds. */
static int sensitivity_choose_tile(struct ivon_sensitivity *sensitivity, int *threads,
                                   struct ivon_error *error)
{
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    const struct feed *feed = &sensitivity->data.feed;
    struct runner *runner = &sensitivity->runner;
    const struct runner_bounds bounds = {
        .batch = options->batch, .examples = TILE_MAX, .cache = TILE_MEMORY, .tiles = TILES_LEAST};
    *runner = (struct runner){.network = sensitivity->network,
                              .mode = RUNNER_EXAMPLES,
                              .wanted = sensitivity->covariance->random,
                              .blocks = sensitivity->covariance->block_of,
                              .memory = sensitivity->memory,
                              .check = outputs_check,
                              .check_context = &sensitivity->outputs};
    *threads = ivon_parallel_threads(options->resources.threads);
    int code = feed_expect_single(feed, error);
    if (!code)
        code = blas_reserve(*threads, error);
    if (!code)
        code = runner_choose_tile(runner, feed, &bounds, error);
    size_t most = runner->bytes ? sensitivity->memory / runner->bytes : 1;
    if ((size_t)*threads > most)
        *threads = most ? (int)most : 1;
    return code;
}

static int sensitivity_make_worker(const struct ivon_sensitivity *sensitivity,
                                   struct sensitivity_worker *worker,
                                   struct net_derivative *derivative, struct ivon_error *error)
{
    size_t tile = sensitivity->runner.tile, rows = tile * sensitivity->outputs.tokens;
    size_t all = rows * sensitivity->outputs.k;
    int code = covariance_worker_new(&worker->covariance, sensitivity->covariance, derivative, tile,
                                     sensitivity->outputs.tokens * sensitivity->outputs.k, error);
    if (code)
        return code;
    worker->outputs = calloc(all, sizeof *worker->outputs);
    worker->residual = calloc(all, sizeof *worker->residual);
    worker->adjoint = calloc(all, sizeof *worker->adjoint);
    worker->moved = calloc(all, sizeof *worker->moved);
    worker->quadratic = calloc(tile, sizeof *worker->quadratic);
    worker->row_loss = calloc(rows, sizeof *worker->row_loss);
    worker->moved_loss = calloc(rows, sizeof *worker->moved_loss);
    if (sensitivity->leverage) {
        worker->enough = calloc(tile, sizeof *worker->enough);
        code = worker->enough
                   ? sensitivity_leverage_new(&worker->leverage, tile,
                                              sensitivity->outputs.tokens * sensitivity->outputs.k,
                                              error)
                   : ivon_error_memory(error);
        if (code)
            return code;
    }
    return worker->outputs && worker->residual && worker->adjoint && worker->moved &&
                   worker->quadratic && worker->row_loss && worker->moved_loss
               ? 0
               : ivon_error_memory(error);
}

static int sensitivity_make_workers(struct ivon_sensitivity *sensitivity, int threads,
                                    struct ivon_error *error)
{
    int code = runner_start(&sensitivity->runner, &sensitivity->data.feed, threads, error);
    if (!code)
        code = runner_set(&sensitivity->runner, (const float *const *)sensitivity->mean.arrays,
                          error);
    sensitivity->workers = calloc((size_t)threads, sizeof *sensitivity->workers);
    if (!code && !sensitivity->workers)
        code = ivon_error_memory(error);
    for (int i = 0; i < threads && !code; i++)
        code = sensitivity_make_worker(sensitivity, &sensitivity->workers[i],
                                       sensitivity->runner.workers[i].derivative, error);
    return code;
}

static void sensitivity_release_worker(struct sensitivity_worker *worker)
{
    covariance_worker_free(worker->covariance);
    sensitivity_leverage_free(worker->leverage);
    free(worker->enough);
    free(worker->outputs);
    free(worker->residual);
    free(worker->adjoint);
    free(worker->moved);
    free(worker->quadratic);
    free(worker->row_loss);
    free(worker->moved_loss);
}

/* Results of a block. */

static size_t sensitivity_bytes_per_example(const struct ivon_sensitivity *sensitivity)
{
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    size_t rows = sensitivity->outputs.tokens, all = rows * sensitivity->outputs.k;
    return feed_example_size(&sensitivity->data.feed) + all * (4 * sizeof(float) + 16) +
           rows * 8 * sizeof(double) + 8 * sizeof(double) +
           (options->covariances ? all * all * sizeof(float) : 0);
}

static bool sensitivity_allocate_results(struct ivon_sensitivity *sensitivity)
{
    struct sensitivity_results *results = &sensitivity->results;
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    size_t examples = sensitivity->block, rows = examples * sensitivity->outputs.tokens;
    size_t all = rows * sensitivity->outputs.k;
    size_t wide = sensitivity->outputs.tokens * sensitivity->outputs.k;
    double **doubles[] = {&results->loss, &results->residual};
    double **row_doubles[] = {&results->row_loss, &results->row_residual};
    float **vectors[] = {&results->outputs, &results->residual_vector, &results->deviation_vector,
                         &results->variance};
    bool fine = true;
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++)
        fine &= (*doubles[i] = calloc(examples, sizeof(double))) != NULL;
    for (size_t i = 0; i < sizeof row_doubles / sizeof *row_doubles; i++)
        fine &= (*row_doubles[i] = calloc(rows, sizeof(double))) != NULL;
    for (unsigned i = 0; i < SCORES_MAX; i++) {
        const struct score *score = score_of((enum ivon_score)i);
        if (!score || !(options->scores & IVON_SCORE_BIT(i)))
            continue;
        fine &= (results->scores[i] = calloc(examples, sizeof(double))) != NULL;
        if (score->traits.rows)
            fine &= (results->row_scores[i] = calloc(rows, sizeof(double))) != NULL;
    }
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        fine &= (*vectors[i] = calloc(all, sizeof(float))) != NULL;
    if (options->covariances)
        fine &= (results->covariance = calloc(examples * wide, wide * sizeof(float))) != NULL;
    if (ivon_likelihood_traits(options->task.likelihood)->regression)
        return fine && (results->means = calloc(all, sizeof(float)));
    fine &= (results->prediction = calloc(all, sizeof(int64_t))) != NULL;
    fine &= (results->row_error = calloc(rows, sizeof(float))) != NULL;
    if (options->scores & IVON_SCORE_BIT(IVON_SCORE_LOO_LOSS))
        fine &= (results->row_loo_error = calloc(rows, sizeof(float))) != NULL;
    return fine;
}

static void release_results(struct sensitivity_results *results)
{
    void *all[] = {results->prediction,
                   results->outputs,
                   results->means,
                   results->residual_vector,
                   results->deviation_vector,
                   results->variance,
                   results->covariance,
                   results->loss,
                   results->residual,
                   results->row_loss,
                   results->row_residual,
                   results->row_error,
                   results->row_loo_error};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    for (size_t i = 0; i < SCORES_MAX; i++) {
        free(results->scores[i]);
        free(results->row_scores[i]);
    }
}

/* Ranks may have other memory, and have the size of rank 0. */
static int sensitivity_choose_block(struct ivon_sensitivity *sensitivity, struct ivon_error *error)
{
    size_t tile = sensitivity->runner.tile;
    uint64_t needed = (sensitivity->data.count + tile - 1) / tile;
    size_t tiles = sensitivity->memory / 4 / sensitivity_bytes_per_example(sensitivity) / tile;
    tiles = tiles < 1 ? 1 : tiles > needed ? (size_t)needed : tiles;
    sensitivity->block = tiles * tile;
    return ivon_ranks_share(sensitivity->options.resources.ranks, &sensitivity->block,
                            sizeof sensitivity->block, error);
}

static int sensitivity_check_ranks(const struct ivon_sensitivity *sensitivity,
                                   struct ivon_error *error)
{
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    struct ivon_ranks *ranks = options->resources.ranks;
    const uint64_t numbers[] = {sensitivity->runner.tile,
                                sensitivity->outputs.tokens,
                                sensitivity->outputs.k,
                                options->task.likelihood,
                                (uint64_t)options->task.ignored,
                                options->covariance,
                                options->leverage,
                                options->scores,
                                options->vectors,
                                options->variances,
                                options->covariances,
                                options->samples,
                                options->sample.seed,
                                (uint64_t)options->n_train};
    int code = rank_inputs_check(ranks, sensitivity->source, sensitivity->data.examples, error);
    return code ? code
                : rank_inputs_check_numbers(ranks, numbers, sizeof numbers / sizeof numbers[0],
                                            error);
}

/* The posterior. */

static struct perturbation_request sensitivity_request(const struct ivon_sensitivity *sensitivity,
                                                       const char *targets)
{
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    return (struct perturbation_request){.rho = options->rho,
                                         .n_train = options->n_train,
                                         .whole = options->whole ? options->whole
                                                                 : sensitivity->data.examples,
                                         .targets = targets,
                                         .outputs = sensitivity->outputs.k,
                                         .task = &options->task};
}

static int choose_rho(struct ivon_sensitivity *sensitivity, const char *targets,
                      struct ivon_error *error)
{
    const struct perturbation_request request = sensitivity_request(sensitivity, targets);
    struct covariance_scale scale = {NAN, NAN};
    int code = perturbation_scale(&scale, sensitivity->source, &request, error);
    sensitivity->rho = scale.rho;
    sensitivity->n_train = scale.n_train;
    return code;
}

/* Leverage amplifies what is wrong in a poor Σ: by itself it is applied only to a low-rank
   correction whose smallest value says that little of the curvature is missing. */
static int choose_leverage(struct ivon_sensitivity *sensitivity, struct ivon_error *error)
{
    const double ENOUGH = 0.9;
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    bool full = options->covariance == IVON_COVARIANCE_FULL;
    double last = ivon_sensitivity_leverage(sensitivity).last;
    if (options->leverage == IVON_LEVERAGE_NEWTON && !full)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "leverage is of the whole covariance of the outputs, not of its "
                              "diagonal");
    sensitivity->leverage = options->leverage == IVON_LEVERAGE_NEWTON ||
                            (options->leverage == IVON_LEVERAGE_AUTO && full && last < ENOUGH);
    return 0;
}

static int sensitivity_load_posterior(struct ivon_sensitivity *sensitivity, int threads,
                                      struct ivon_error *error)
{
    const struct covariance_scale scale = {sensitivity->options.rho, sensitivity->n_train};
    return perturbation_load(sensitivity->covariance, &sensitivity->mean,
                             &sensitivity->options.sample, &scale, threads, error);
}

int ivon_sensitivity_new(struct ivon_sensitivity **out, struct ivon_network *network,
                         struct ivon_source *source, struct ivon_examples *examples,
                         const char *targets, const struct ivon_sensitivity_options *given,
                         struct ivon_error *error)
{
    struct ivon_sensitivity *sensitivity = calloc(1, sizeof *sensitivity);
    int threads = 1;
    if (!sensitivity)
        return ivon_error_memory(error);
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    int code = sensitivity_read_options(&sensitivity->options, given, error);
    sensitivity->memory = options->resources.memory ? options->resources.memory : DEFAULT_MEMORY;
    sensitivity->network = network;
    sensitivity->source = source;
    sensitivity->outputs.likelihood = options->task.likelihood;
    if (!code)
        code = perturbation_covariance(&sensitivity->covariance, &sensitivity->fixed, network,
                                       source, &options->sample, error);
    if (!code)
        code = sensitivity_open(sensitivity, &sensitivity->data, examples, targets, error);
    const struct perturbation_request request = sensitivity_request(sensitivity, targets);
    if (!code)
        code = perturbation_check(&request, error);
    if (!code)
        code = sensitivity_choose_tile(sensitivity, &threads, error);
    if (!code)
        code = sensitivity_check_ranks(sensitivity, error);
    if (!code)
        code = sensitivity_choose_block(sensitivity, error);
    sensitivity->likelihood = (struct likelihood){options->task.likelihood, sensitivity->outputs.k,
                                                  options->task.noise_std};
    if (!code)
        code = labelled_reserve(&sensitivity->data, sensitivity->block, options->task.ignored,
                                error);
    if (!code)
        code = choose_rho(sensitivity, targets, error);
    if (!code)
        code = choose_leverage(sensitivity, error);
    if (!code && !sensitivity_allocate_results(sensitivity))
        code = ivon_error_memory(error);
    if (!code)
        code = sensitivity_load_posterior(sensitivity, threads, error);
    if (!code)
        code = sensitivity_make_workers(sensitivity, threads, error);
    if (code) {
        ivon_sensitivity_free(sensitivity);
        return code;
    }
    *out = sensitivity;
    return 0;
}

void ivon_sensitivity_free(struct ivon_sensitivity *sensitivity)
{
    if (!sensitivity)
        return;
    for (int i = 0; i < sensitivity->runner.threads && sensitivity->workers; i++)
        sensitivity_release_worker(&sensitivity->workers[i]);
    free(sensitivity->workers);
    runner_stop(&sensitivity->runner);
    release_results(&sensitivity->results);
    labelled_close(&sensitivity->data);
    weights_release(&sensitivity->mean);
    weights_release(&sensitivity->test_direction);
    weights_release(&sensitivity->move);
    covariance_free(sensitivity->covariance);
    free(sensitivity->expected);
    free(sensitivity);
}

bool ivon_sensitivity_saw_probabilities(const struct ivon_sensitivity *sensitivity)
{
    bool saw = false;
    for (int i = 0; i < sensitivity->runner.threads && sensitivity->workers; i++)
        saw |= sensitivity->workers[i].probabilities;
    return saw;
}

struct ivon_leverage_use ivon_sensitivity_leverage(const struct ivon_sensitivity *sensitivity)
{
    const struct structure *structure = sensitivity->covariance->draw->structure;
    struct ivon_leverage_use use = {.applied = sensitivity->leverage,
                                    .rank = structure->rank,
                                    .last = NAN,
                                    .outside = sensitivity->outside_elsewhere};
    for (size_t i = 0; i < structure->rank; i++) {
        double size = fabs(structure->values[i]);
        use.last = !i || size < use.last ? size : use.last;
    }
    for (int i = 0; i < sensitivity->runner.threads && sensitivity->workers; i++)
        use.outside += sensitivity->workers[i].outside;
    return use;
}

struct ivon_sensitivity_shape ivon_sensitivity_shape(const struct ivon_sensitivity *sensitivity)
{
    return (struct ivon_sensitivity_shape){
        .tokens = sensitivity->outputs.token_axis ? (int64_t)sensitivity->outputs.tokens : 0,
        .outputs = sensitivity->outputs.k,
        .examples = sensitivity->data.count,
        .rho = sensitivity->rho,
        .n_train = sensitivity->n_train,
        .fixed = sensitivity->fixed,
        .tile = sensitivity->runner.tile};
}
