#include "ivon/sensitivity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/posterior.h"
#include "bayes/sample_private.h"
#include "bayes/sensitivity/private.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/parallel.h"

enum {
    TILE_MAX = 128,           /* examples */
    TILE_MEMORY = 24 << 20,   /* bytes of values, their derivatives and workspaces: in a cache */
    DEFAULT_MEMORY = 1 << 30, /* bytes */
};

struct ivon_sensitivity_options ivon_sensitivity_defaults(void)
{
    return (struct ivon_sensitivity_options){.likelihood = IVON_CATEGORICAL,
                                             .covariance = IVON_COVARIANCE_FULL,
                                             .scores = IVON_SCORE_DEVIATION,
                                             .rho = NAN,
                                             .n_train = -1,
                                             .noise_std = NAN,
                                             .ignored = INT64_MIN,
                                             .sample = ivon_sample_defaults()};
}

/* Data. */

int sensitivity_data_open(struct ivon_sensitivity *sensitivity, struct sensitivity_data *data,
                          struct ivon_examples *examples, const char *targets,
                          struct ivon_error *error)
{
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    size_t field = 0;
    int code = outputs_find_targets(examples, targets, &field, error);
    *data = (struct sensitivity_data){.examples = examples, .count = ivon_examples_count(examples)};
    if (code)
        return code;
    if (!data->count)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: has no examples",
                              ivon_examples_path(examples));
    data->field = field;
    return feed_open(&data->feed, sensitivity->member.network, examples, options->names,
                     options->name_count, error);
}

void sensitivity_data_close(struct sensitivity_data *data)
{
    free(data->labels);
    free(data->numbers);
    free(data->counts);
    free(data->positions);
    feed_close(&data->feed);
    *data = (struct sensitivity_data){0};
}

int sensitivity_allocate_targets(const struct ivon_sensitivity *sensitivity,
                                 struct sensitivity_data *data, struct ivon_error *error)
{
    size_t count = sensitivity->block * outputs_targets(&sensitivity->outputs);
    if (sensitivity->options.likelihood == IVON_GAUSSIAN)
        data->numbers = calloc(count, sizeof *data->numbers);
    else
        data->labels = calloc(count, sizeof *data->labels);
    data->counts = calloc(sensitivity->block, sensitivity->outputs.tokens * sizeof *data->counts);
    data->positions = calloc(sensitivity->block, sizeof *data->positions);
    bool fine = data->counts && data->positions && (data->numbers || data->labels);
    return fine ? 0 : ivon_error_memory(error);
}

struct row_targets sensitivity_targets(const struct ivon_sensitivity *sensitivity,
                                       const struct sensitivity_data *data, size_t at)
{
    const struct outputs *outputs = &sensitivity->outputs;
    const struct row_targets all = {data->labels, data->numbers, sensitivity->options.ignored};
    return targets_from(&all, outputs->likelihood, outputs->k, at * outputs->tokens);
}

int sensitivity_load(struct ivon_sensitivity *sensitivity, struct sensitivity_data *data,
                     uint64_t first, struct ivon_error *error)
{
    const struct outputs *outputs = &sensitivity->outputs;
    uint64_t left = data->count - first;
    data->block_first = first;
    data->block_count = left < sensitivity->block ? (size_t)left : sensitivity->block;
    int code = feed_load(&data->feed, first, data->block_count, error);
    if (!code)
        code = outputs_read_targets(outputs, data->examples, data->field, first, data->block_count,
                                    sensitivity->options.ignored, data->labels, data->numbers,
                                    error);
    const struct row_targets targets = sensitivity_targets(sensitivity, data, 0);
    if (!code)
        targets_mark(&targets, outputs->likelihood, outputs->k, outputs->tokens, data->block_count,
                     data->counts, data->positions);
    for (int i = 0; i < sensitivity->threads; i++)
        sensitivity->workers[i].tile_at = SIZE_MAX;
    return code;
}

size_t sensitivity_tiles(const struct ivon_sensitivity *sensitivity,
                         const struct sensitivity_data *data)
{
    return (data->block_count + sensitivity->tile - 1) / sensitivity->tile;
}

int sensitivity_tile(const struct ivon_sensitivity *sensitivity,
                     const struct sensitivity_data *data, struct sensitivity_worker *worker,
                     size_t tile, const float **f, size_t *count, struct ivon_error *error)
{
    const struct outputs *outputs = &sensitivity->outputs;
    size_t at = tile * sensitivity->tile, left = data->block_count - at;
    *count = left < sensitivity->tile ? left : sensitivity->tile;
    *f = net_derivative_output(worker->derivative)->data;
    if (worker->tile_at == tile)
        return 0;
    feed_tile(&data->feed, at, sensitivity->tile, worker->inputs, worker->room);
    int code = net_derivative_run(worker->derivative, worker->inputs, error);
    if (!code)
        code = outputs_check_finite(outputs, ivon_examples_path(data->examples),
                                    (data->block_first + at) * outputs->tokens, *f,
                                    *count * outputs->tokens, error);
    worker->tile_at = code ? SIZE_MAX : tile;
    return code;
}

/* Workers. */

static int sensitivity_make_derivative(const struct ivon_sensitivity *sensitivity, size_t *tile,
                                       size_t memory, struct net_derivative **derivative,
                                       struct ivon_error *error)
{
    const struct ivon_network *network = sensitivity->member.network;
    struct net_tensor *inputs = calloc(2 * network->input_count + 1, sizeof *inputs);
    if (!inputs)
        return ivon_error_memory(error);
    struct net_tensor *unit = inputs + network->input_count;
    int code = feed_shapes(&sensitivity->data.feed, (int64_t)*tile, inputs, error);
    if (!code)
        code = feed_shapes(&sensitivity->data.feed, 1, unit, error);
    if (!code)
        code = net_derivative_new(derivative, network, inputs, unit, tile,
                                  sensitivity->member.random, memory, error);
    free(inputs);
    return code;
}

static int sensitivity_measure(struct ivon_sensitivity *sensitivity, size_t *tile, size_t *memory,
                               struct ivon_error *error)
{
    struct net_derivative *derivative = NULL;
    int code = sensitivity_make_derivative(sensitivity, tile, sensitivity->memory, &derivative,
                                           error);
    if (!code)
        *memory = net_derivative_memory(derivative);
    if (!code)
        code = outputs_check(&sensitivity->outputs, sensitivity->member.network->path,
                             net_derivative_output(derivative), *tile, error);
    net_derivative_free(derivative);
    return code;
}

/* Measures a tile, or the greatest of its halves that memory holds. */
static int measure_halves(struct ivon_sensitivity *sensitivity, size_t *tile, size_t *memory,
                          struct ivon_error *error)
{
    struct ivon_error inner = {0};
    int code = sensitivity_measure(sensitivity, tile, memory, &inner);
    while (code == IVON_ERROR_MEMORY && *tile > 1) {
        *tile /= 2;
        code = sensitivity_measure(sensitivity, tile, memory, &inner);
    }
    if (code && error)
        *error = inner;
    return code;
}

/* As many examples at a time as caches and memory hold, a power of two. */
static size_t suitable_tile(const struct ivon_sensitivity *sensitivity, size_t one, size_t each)
{
    size_t tile = 1;
    while (tile < TILE_MAX && 2 * tile * each <= TILE_MEMORY && tile < sensitivity->data.count &&
           one + (2 * tile - 1) * each <= sensitivity->memory)
        tile *= 2;
    return tile;
}

/* A number of examples that do not lie apart, as those of another number may, becomes 1. */
static int choose_free_tile(struct ivon_sensitivity *sensitivity, size_t one, size_t *tile,
                            size_t *memory, struct ivon_error *error)
{
    *tile = sensitivity->options.batch;
    if (*tile)
        return sensitivity_measure(sensitivity, tile, memory, error);
    *tile = 2;
    int code = measure_halves(sensitivity, tile, memory, error);
    if (code || *tile == 1)
        return code;
    *tile = suitable_tile(sensitivity, one, *memory > one ? *memory - one : 1);
    return measure_halves(sensitivity, tile, memory, error);
}

/* The tile does not depend on the number of threads, which is lowered to what memory holds. */
static int sensitivity_choose_tile(struct ivon_sensitivity *sensitivity, struct ivon_error *error)
{
    size_t worker = 0, tile = 1;
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    if (sensitivity->data.feed.fixed > 1)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: takes exactly %lld examples at a time, which cannot be told "
                              "apart: export it with a free batch axis, or for one example",
                              sensitivity->member.network->path,
                              (long long)sensitivity->data.feed.fixed);
    int code = blas_reserve(ivon_parallel_threads(options->threads), error);
    if (!code)
        code = sensitivity_measure(sensitivity, &tile, &worker, error);
    if (!code && sensitivity->data.feed.fixed < 0)
        code = choose_free_tile(sensitivity, worker, &tile, &worker, error);
    if (code)
        return code;
    sensitivity->tile = tile;
    size_t most = worker ? sensitivity->memory / worker : 1;
    sensitivity->threads = ivon_parallel_threads(options->threads);
    if ((size_t)sensitivity->threads > most)
        sensitivity->threads = most ? (int)most : 1;
    return 0;
}

static int sensitivity_make_worker(const struct ivon_sensitivity *sensitivity,
                                   struct sensitivity_worker *worker, struct ivon_error *error)
{
    const struct ivon_network *network = sensitivity->member.network;
    size_t tile = sensitivity->tile, rows = tile * sensitivity->outputs.tokens;
    size_t all = rows * sensitivity->outputs.k;
    size_t room = tile * feed_example_size(&sensitivity->data.feed) +
                  64 * (network->input_count + 1);
    worker->inputs = calloc(network->input_count, sizeof *worker->inputs);
    worker->room = memory_aligned(room);
    worker->outputs = calloc(all, sizeof *worker->outputs);
    worker->residual = calloc(all, sizeof *worker->residual);
    worker->adjoint = calloc(all, sizeof *worker->adjoint);
    worker->moved = calloc(all, sizeof *worker->moved);
    worker->quadratic = calloc(tile, sizeof *worker->quadratic);
    worker->row_loss = calloc(rows, sizeof *worker->row_loss);
    worker->tile_at = SIZE_MAX;
    if (!worker->inputs || !worker->room || !worker->outputs || !worker->residual ||
        !worker->adjoint || !worker->moved || !worker->quadratic || !worker->row_loss)
        return ivon_error_memory(error);
    int code = sensitivity_make_derivative(sensitivity, &tile, 0, &worker->derivative, error);
    return code ? code
                : net_derivative_set_parameters(
                      worker->derivative, (const float *const *)sensitivity->mean.arrays, error);
}

static void sensitivity_release_worker(struct sensitivity_worker *worker)
{
    net_derivative_free(worker->derivative);
    free(worker->inputs);
    free(worker->room);
    free(worker->outputs);
    free(worker->residual);
    free(worker->adjoint);
    free(worker->moved);
    free(worker->quadratic);
    free(worker->row_loss);
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
    double **doubles[] = {&results->loss,     &results->residual,       &results->deviation,
                          &results->mpe,      &results->self_influence, &results->loo_loss,
                          &results->influence};
    double **row_doubles[] = {&results->row_loss, &results->row_residual, &results->row_deviation,
                              &results->row_mpe, &results->row_loo_loss};
    float **vectors[] = {&results->outputs, &results->residual_vector, &results->deviation_vector,
                         &results->variance};
    bool fine = true;
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++)
        fine &= (*doubles[i] = calloc(examples, sizeof(double))) != NULL;
    for (size_t i = 0; i < sizeof row_doubles / sizeof *row_doubles; i++)
        fine &= (*row_doubles[i] = calloc(rows, sizeof(double))) != NULL;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        fine &= (*vectors[i] = calloc(all, sizeof(float))) != NULL;
    if (options->covariances)
        fine &= (results->covariance = calloc(examples * wide, wide * sizeof(float))) != NULL;
    if (options->likelihood == IVON_GAUSSIAN)
        return fine;
    fine &= (results->prediction = calloc(all, sizeof(int64_t))) != NULL;
    fine &= (results->row_error = calloc(rows, sizeof(float))) != NULL;
    fine &= (results->row_loo_error = calloc(rows, sizeof(float))) != NULL;
    return fine;
}

static void release_results(struct sensitivity_results *results)
{
    void *all[] = {results->prediction,
                   results->outputs,
                   results->residual_vector,
                   results->deviation_vector,
                   results->variance,
                   results->covariance,
                   results->loss,
                   results->residual,
                   results->deviation,
                   results->mpe,
                   results->self_influence,
                   results->loo_loss,
                   results->influence,
                   results->row_loss,
                   results->row_residual,
                   results->row_deviation,
                   results->row_mpe,
                   results->row_loo_loss,
                   results->row_error,
                   results->row_loo_error};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void sensitivity_choose_block(struct ivon_sensitivity *sensitivity)
{
    uint64_t needed = (sensitivity->data.count + sensitivity->tile - 1) / sensitivity->tile;
    size_t tiles = sensitivity->memory / 4 / sensitivity_bytes_per_example(sensitivity) /
                   sensitivity->tile;
    tiles = tiles < 1 ? 1 : tiles > needed ? (size_t)needed : tiles;
    sensitivity->block = tiles * sensitivity->tile;
}

/* The posterior. */

static int sensitivity_take_member(struct ivon_sensitivity *sensitivity,
                                   struct ivon_network *network, struct ivon_source *source,
                                   struct ivon_error *error)
{
    const struct ivon_sample_options *sample = &sensitivity->options.sample;
    struct ivon_sample_options check = *sample;
    struct sample_counts counts;
    struct member *member = &sensitivity->member;
    *member = (struct member){network, source, 1, NULL};
    member->random = calloc(network->parameter_count + 1, sizeof *member->random);
    if (!member->random)
        return ivon_error_memory(error);
    check.temperature = 1; /* whatever is drawn, Σ is needed */
    int code = sample_count(source, &check, &counts, error);
    sensitivity->fixed = counts.lacking;
    if (!code && !counts.random)
        code = sample_refuse(source, &counts, "nothing can move", error);
    for (size_t i = 0; i < network->parameter_count && !code; i++) {
        const char *name = ivon_source_tensor(source, network->parameters[i])->name;
        bool selected = !sample->selected || sample->selected(sample->selected_context, name);
        member->random[i] = selected && ivon_source_find(source, IVON_HESSIAN, name) >= 0;
    }
    return code;
}

/* N: what is given, else the checkpoint's, else what counts in the training data. */
static int find_n_train(struct ivon_sensitivity *sensitivity, const char *targets,
                        struct ivon_error *error)
{
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    int64_t stored = ivon_source_header(sensitivity->member.source)->n_train;
    struct ivon_examples *whole = options->whole ? options->whole : sensitivity->data.examples;
    struct ivon_positions positions;
    sensitivity->n_train = options->n_train > 0 ? (double)options->n_train : (double)stored;
    if (sensitivity->n_train > 0)
        return 0;
    int code = ivon_positions_count(&positions, whole, targets, options->likelihood,
                                    sensitivity->outputs.k, options->ignored, error);
    sensitivity->n_train = code ? NAN : (double)positions.counted;
    if (!code && !positions.counted)
        code = ivon_error_set(
            error, IVON_ERROR_DATA,
            "%s: all targets are the ignored label %lld, expected some that count",
            ivon_examples_path(whole), (long long)options->ignored);
    return code;
}

static int check_rho(double rho, struct ivon_error *error)
{
    return rho > 0 && !isinf(rho) ? 0
                                  : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                                   "rho is %g, expected a positive number", rho);
}

static int sensitivity_check_options(const struct ivon_sensitivity_options *options,
                                     struct ivon_error *error)
{
    if (options->likelihood == IVON_GAUSSIAN && !(options->noise_std > 0))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the Gaussian likelihood needs the standard deviation of the noise");
    return isnan(options->rho) ? 0 : check_rho(options->rho, error);
}

static int choose_rho(struct ivon_sensitivity *sensitivity, const char *targets,
                      struct ivon_error *error)
{
    double given = sensitivity->options.rho;
    int code = find_n_train(sensitivity, targets, error);
    if (code)
        return code;
    sensitivity->rho = isnan(given)
                           ? posterior_ess(sensitivity->member.source) / sensitivity->n_train
                           : given;
    return check_rho(sensitivity->rho, error);
}

static int load_posterior(struct ivon_sensitivity *sensitivity, struct ivon_error *error)
{
    const struct member *member = &sensitivity->member;
    struct ivon_sample_options still = sensitivity->options.sample;
    still.temperature = 0;
    int code = weights_init(&sensitivity->mean, member->network, error);
    if (!code)
        code = weights_init(&sensitivity->variance, member->network, error);
    if (!code)
        code = weights_draw(&sensitivity->mean, member, &still, 0, sensitivity->threads, error);
    if (!code)
        code = weights_variance(&sensitivity->variance, member, sensitivity->options.rho,
                                sensitivity->n_train, sensitivity->threads, error);
    return code;
}

int ivon_sensitivity_new(struct ivon_sensitivity **out, struct ivon_network *network,
                         struct ivon_source *source, struct ivon_examples *examples,
                         const char *targets, const struct ivon_sensitivity_options *options,
                         struct ivon_error *error)
{
    struct ivon_sensitivity *sensitivity = calloc(1, sizeof *sensitivity);
    if (!sensitivity)
        return ivon_error_memory(error);
    sensitivity->options = *options;
    sensitivity->memory = options->memory ? options->memory : DEFAULT_MEMORY;
    sensitivity->outputs.likelihood = options->likelihood;
    int code = sensitivity_take_member(sensitivity, network, source, error);
    if (!code)
        code = sensitivity_data_open(sensitivity, &sensitivity->data, examples, targets, error);
    if (!code)
        code = sensitivity_check_options(options, error);
    if (!code)
        code = sensitivity_choose_tile(sensitivity, error);
    if (!code)
        code = outputs_check_targets(&sensitivity->outputs, examples, sensitivity->data.field,
                                     error);
    if (!code)
        code = choose_rho(sensitivity, targets, error);
    if (!code) {
        sensitivity->likelihood = (struct likelihood){options->likelihood, sensitivity->outputs.k,
                                                      options->noise_std};
        sensitivity_choose_block(sensitivity);
        code = sensitivity_allocate_targets(sensitivity, &sensitivity->data, error);
    }
    if (!code && !sensitivity_allocate_results(sensitivity))
        code = ivon_error_memory(error);
    if (!code)
        code = load_posterior(sensitivity, error);
    if (!code) {
        sensitivity->workers = calloc((size_t)sensitivity->threads, sizeof *sensitivity->workers);
        code = sensitivity->workers ? 0 : ivon_error_memory(error);
    }
    for (int i = 0; i < sensitivity->threads && !code; i++)
        code = sensitivity_make_worker(sensitivity, &sensitivity->workers[i], error);
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
    for (int i = 0; i < sensitivity->threads && sensitivity->workers; i++)
        sensitivity_release_worker(&sensitivity->workers[i]);
    free(sensitivity->workers);
    release_results(&sensitivity->results);
    sensitivity_data_close(&sensitivity->data);
    weights_release(&sensitivity->mean);
    weights_release(&sensitivity->variance);
    weights_release(&sensitivity->aim);
    free(sensitivity->expected);
    free(sensitivity->member.random);
    free(sensitivity);
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
        .tile = sensitivity->tile};
}
