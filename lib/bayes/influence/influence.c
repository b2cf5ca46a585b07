#include "ivon/influence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/influence/private.h"
#include "bayes/measure.h"
#include "bayes/rank_inputs.h"
#include "bayes/sample_private.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/options.h"
#include "core/parallel.h"

enum {
    TILE_MAX = 128,           /* examples */
    TILE_MEMORY = 24 << 20,   /* bytes of values and their derivatives: in a cache */
    TILES_LEAST = 8,          /* of the examples, for threads to share */
    QUERIES_MOST = 4096,      /* at a time: beside so many a pass over the data costs little */
    DEFAULT_MEMORY = 1 << 30, /* bytes */
};

static const struct options_kind influence_options = {
    .defaults = "ivon_influence_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_influence_options, resources.reserved),
                 OPTIONS_RESERVED(struct ivon_influence_options, task.reserved)}};

void ivon_influence_options_init(struct ivon_influence_options *options, size_t size)
{
    const struct ivon_influence_options defaults = {
        .size = sizeof defaults,
        .task = {.likelihood = IVON_CATEGORICAL, .noise_std = NAN, .ignored = INT64_MIN},
        .measure = IVON_MEASURE_LOSS,
        .rho = NAN,
        .n_train = -1,
        .sample = ivon_sample_defaults()};
    options_init(options, size, &defaults);
}

static int influence_read_options(struct ivon_influence_options *options,
                                  const struct ivon_influence_options *given,
                                  struct ivon_error *error)
{
    *options = ivon_influence_defaults();
    int code = options_read(&influence_options, options, given, error);
    return code ? code : sample_check_embedded(&options->sample, error);
}

/* Fails where the outputs do not have what is measured, or the tokens that are to be rows. */
static int influence_check_outputs(const struct ivon_influence *influence, struct ivon_error *error)
{
    const struct ivon_influence_options *options = &influence->options;
    const struct measure measure = {options->measure, options->output};
    int code = measure_check(&measure, &influence->outputs, influence->network->path, error);
    return code || !options->per_token
               ? code
               : measure_check_tokens(&influence->outputs, influence->network->path, error);
}

/* Making. */

/* The tile does not depend on the number of threads. */
static int influence_choose_tile(struct ivon_influence *influence, struct ivon_error *error)
{
    const struct ivon_influence_options *options = &influence->options;
    const struct feed *feed = &influence->data.feed;
    const struct runner_bounds bounds = {
        .batch = options->batch, .examples = TILE_MAX, .cache = TILE_MEMORY, .tiles = TILES_LEAST};
    influence->runner = (struct runner){.network = influence->network,
                                        .mode = RUNNER_ROWS,
                                        .wanted = influence->covariance->random,
                                        .memory = (influence->memory + 1) / 2, /* 0 is no bound */
                                        .check = outputs_check,
                                        .check_context = &influence->outputs};
    int code = feed_expect_single(feed, error);
    return code ? code : runner_choose_tile(&influence->runner, feed, &bounds, error);
}

/* The threads for which there is memory. */
static int influence_start(struct ivon_influence *influence, struct ivon_error *error)
{
    struct runner *runner = &influence->runner;
    int threads = ivon_parallel_threads(influence->options.resources.threads);
    size_t most = runner->bytes ? influence->memory / 2 / runner->bytes : 1;
    if ((size_t)threads > most)
        threads = most ? (int)most : 1;
    int code = blas_reserve(threads, error);
    if (!code)
        code = perturbation_load(
            influence->covariance, &influence->mean, &influence->options.sample,
            &(struct covariance_scale){influence->options.rho, influence->scale.n_train}, threads,
            error);
    if (!code)
        code = runner_start(runner, &influence->data.feed, threads, error);
    return code ? code : runner_set(runner, (const float *const *)influence->mean.arrays, error);
}

static int influence_make_worker(const struct ivon_influence *influence,
                                 struct influence_worker *worker, struct ivon_error *error)
{
    size_t all = influence->runner.tile * influence->outputs.tokens * influence->outputs.k;
    size_t parameters = influence->network->parameter_count;
    worker->outputs = calloc(all, sizeof *worker->outputs);
    worker->adjoint = calloc(all, sizeof *worker->adjoint);
    worker->direction.size = influence->mean.size;
    worker->direction.arrays = calloc(parameters + 1, sizeof *worker->direction.arrays);
    worker->wide = calloc(influence->stride + 1, sizeof *worker->wide);
    bool fine = worker->outputs && worker->adjoint && worker->direction.arrays && worker->wide;
    return fine && influence_reserve_pieces(influence, worker) ? 0 : ivon_error_memory(error);
}

static void influence_release_worker(struct influence_worker *worker)
{
    void *all[] = {worker->outputs,         worker->adjoint, worker->inputs,
                   worker->adjoints,        worker->places,  worker->gradients,
                   worker->products,        worker->turned,  worker->left,
                   worker->offsets,         worker->sums,    worker->wide,
                   worker->direction.arrays};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* Gives every tensor that moves a slot where their parts are wanted. */
static int influence_make_slots(struct ivon_influence *influence, struct ivon_error *error)
{
    const struct ivon_network *network = influence->network;
    bool parts = influence->options.by_tensor;
    influence->slots = calloc(network->parameter_count + 1, sizeof *influence->slots);
    influence->slot_count = !parts;
    if (parts) {
        influence->names = calloc(network->parameter_count + 1, sizeof *influence->names);
        influence->tensors = calloc(network->parameter_count + 1, sizeof *influence->tensors);
    }
    if (!influence->slots || (parts && (!influence->names || !influence->tensors)))
        return ivon_error_memory(error);
    for (size_t p = 0; p < network->parameter_count && parts; p++) {
        if (!influence->covariance->random[p])
            continue;
        influence->names[influence->slot_count] =
            ivon_source_tensor(influence->source, network->parameters[p])->name;
        influence->slots[p] = influence->slot_count++;
    }
    return 0;
}

static int influence_make_workers(struct ivon_influence *influence, struct ivon_error *error)
{
    size_t threads = (size_t)influence->runner.threads;
    size_t parameters = influence->network->parameter_count;
    influence->stride = influence->mean.size / sizeof(float);
    influence->counts = calloc(parameters + 1, sizeof *influence->counts);
    influence->workers = calloc(threads, sizeof *influence->workers);
    if (!influence->counts || !influence->workers)
        return ivon_error_memory(error);
    for (size_t p = 0; p < parameters; p++)
        influence->counts[p] =
            ivon_source_tensor(influence->source, influence->network->parameters[p])->count;
    int code = influence_make_slots(influence, error);
    if (!code)
        code = influence_list_pieces(influence, error);
    for (size_t i = 0; i < threads && !code; i++)
        code = influence_make_worker(influence, &influence->workers[i], error);
    return code;
}

/* How many queries and examples are in memory at a time. */
static void influence_divide_memory(struct ivon_influence *influence)
{
    size_t tile = influence->runner.tile, outputs = influence->outputs.k;
    size_t slots = influence->slot_count, rows = influence_rows(influence);
    size_t direction = influence->stride * sizeof(float) + slots * sizeof(double) * tile;
    size_t places = influence->memory / 8 * 3 / direction;
    places = places < QUERIES_MOST ? places : QUERIES_MOST;
    influence->capacity = places ? places : 1;
    size_t example = feed_example_size(&influence->data.feed) +
                     influence->capacity * rows * (slots + 1) * sizeof(float) +
                     influence->outputs.tokens * (outputs + 1) * sizeof(int64_t);
    uint64_t needed = (influence->data.count + tile - 1) / tile;
    size_t tiles = influence->memory / 8 / example / tile;
    tiles = tiles < 1 ? 1 : tiles > needed ? (size_t)needed : tiles;
    influence->block = tiles * tile;
}

static int influence_make(struct ivon_influence *influence, struct ivon_examples *examples,
                          const char *targets, struct ivon_error *error)
{
    const struct ivon_influence_options *options = &influence->options;
    const struct ivon_task *task = &options->task;
    struct perturbation_request request = {.rho = options->rho,
                                           .n_train = options->n_train,
                                           .whole = options->whole ? options->whole : examples,
                                           .targets = targets,
                                           .task = task};
    size_t field = 0;
    int code = perturbation_covariance(&influence->covariance, &influence->fixed,
                                       influence->network, influence->source, &options->sample,
                                       error);
    if (!code)
        code = outputs_find_targets(examples, targets, &field, error);
    if (!code)
        code = labelled_open(&influence->data, influence->network, &influence->outputs, examples,
                             targets, task->inputs, task->input_count, error);
    if (!code)
        code = perturbation_check(&request, error);
    if (!code)
        code = influence_choose_tile(influence, error);
    if (!code)
        code = rank_inputs_check(options->resources.ranks, influence->source, examples, error);
    if (!code)
        code = influence_check_outputs(influence, error);
    request.outputs = influence->outputs.k;
    influence->likelihood = (struct likelihood){task->likelihood, influence->outputs.k,
                                                task->noise_std};
    if (!code)
        code = perturbation_scale(&influence->scale, influence->source, &request, error);
    if (!code)
        code = influence_start(influence, error);
    if (!code)
        code = influence_make_workers(influence, error);
    if (code)
        return code;
    influence_divide_memory(influence);
    return labelled_reserve(&influence->data, influence->block, task->ignored, error);
}

int ivon_influence_new(struct ivon_influence **out, struct ivon_network *network,
                       struct ivon_source *source, struct ivon_examples *examples,
                       const char *targets, const struct ivon_influence_options *given,
                       struct ivon_error *error)
{
    struct ivon_influence *influence = calloc(1, sizeof *influence);
    if (!influence)
        return ivon_error_memory(error);
    int code = influence_read_options(&influence->options, given, error);
    size_t memory = influence->options.resources.memory;
    influence->memory = memory ? memory : DEFAULT_MEMORY;
    influence->network = network;
    influence->source = source;
    influence->outputs.likelihood = influence->options.task.likelihood;
    if (!code)
        code = influence_make(influence, examples, targets, error);
    if (code) {
        ivon_influence_free(influence);
        return code;
    }
    *out = influence;
    return 0;
}

void ivon_influence_free(struct ivon_influence *influence)
{
    if (!influence)
        return;
    for (int i = 0; i < influence->runner.threads && influence->workers; i++)
        influence_release_worker(&influence->workers[i]);
    for (size_t i = 0; i < influence->query_sets; i++)
        labelled_close(&influence->queries[i].data);
    runner_stop(&influence->runner);
    labelled_close(&influence->data);
    weights_release(&influence->mean);
    covariance_free(influence->covariance);
    free(influence->workers);
    free(influence->queries);
    free(influence->pieces);
    free(influence->counts);
    free(influence->slots);
    free(influence->names);
    free(influence->tensors);
    free(influence->directions);
    free(influence->results);
    free(influence);
}

bool ivon_influence_saw_probabilities(const struct ivon_influence *influence)
{
    bool saw = false;
    for (int i = 0; i < influence->runner.threads; i++)
        saw |= influence->workers[i].probabilities;
    return saw;
}

struct ivon_influence_shape ivon_influence_shape(const struct ivon_influence *influence)
{
    uint64_t queries = influence->query_count, places = influence->capacity;
    return (struct ivon_influence_shape){
        .tokens = influence->outputs.token_axis ? (int64_t)influence->outputs.tokens : 0,
        .outputs = influence->outputs.k,
        .examples = influence->data.count,
        .rows = influence_rows(influence),
        .queries = queries,
        .rho = influence->scale.rho,
        .n_train = influence->scale.n_train,
        .tensors = influence->names ? influence->slot_count : 0,
        .fixed = influence->fixed,
        .tile = influence->runner.tile,
        .passes = queries / places + (queries % places != 0)};
}

const char *ivon_influence_tensor(const struct ivon_influence *influence, size_t i)
{
    return influence->names && i < influence->slot_count ? influence->names[i] : NULL;
}
