#include "net/runner.h"

#include <stdlib.h>

#include "core/blas.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/parallel.h"

/* Workers. */

static void runner_worker_release(struct runner_worker *worker)
{
    net_plan_free(worker->plan);
    net_derivative_free(worker->derivative);
    free(worker->inputs);
    free(worker->scratch);
    *worker = (struct runner_worker){0};
}

static int runner_make_sums(struct runner_worker *worker, const struct runner *runner,
                            const struct net_tensor *inputs, struct ivon_error *error)
{
    size_t count = runner->network->parameter_count;
    bool *all = calloc(count + 1, sizeof *all);
    if (!all)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++)
        all[i] = true;
    int code = net_derivative_new_summed(&worker->derivative, runner->network, runner->training,
                                         inputs, runner->wanted ? runner->wanted : all,
                                         runner->memory, error);
    free(all);
    return code;
}

/* Plans the network for outputs alone; for one example where several would mix. */
static int runner_make_plan(struct runner_worker *worker, const struct runner *runner,
                            const struct feed *feed, size_t *tile, struct net_tensor *inputs,
                            struct ivon_error *error)
{
    int code = net_plan_new(&worker->plan, runner->network, inputs, runner->memory, error);
    if (code || *tile == 1 || !net_plan_mixed(worker->plan))
        return code;
    if (feed->fixed > 1)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: takes %lld examples at a time, and selects values for all of "
                              "them by a condition that depends on the data",
                              runner->network->path, (long long)feed->fixed);
    net_plan_free(worker->plan);
    worker->plan = NULL;
    *tile = 1;
    code = feed_shapes(feed, 1, inputs, error);
    return code ? code
                : net_plan_new(&worker->plan, runner->network, inputs, runner->memory, error);
}

/* Makes the network of a worker; *tile may become 1. */
static int runner_make_network(struct runner_worker *worker, const struct runner *runner,
                               const struct feed *feed, size_t *tile, struct ivon_error *error)
{
    const struct ivon_network *network = runner->network;
    struct net_tensor *inputs = calloc(2 * network->input_count + 1, sizeof *inputs);
    if (!inputs)
        return ivon_error_memory(error);
    struct net_tensor *unit = inputs + network->input_count;
    int code = feed_shapes(feed, (int64_t)*tile, inputs, error);
    if (!code && runner->mode == RUNNER_FORWARD)
        code = runner_make_plan(worker, runner, feed, tile, inputs, error);
    else if (!code && runner->mode == RUNNER_SUMS)
        code = runner_make_sums(worker, runner, inputs, error);
    else if (!code)
        code = feed_shapes(feed, 1, unit, error);
    if (!code && runner->mode == RUNNER_EXAMPLES)
        code = net_derivative_new(&worker->derivative, network, inputs, unit, tile, runner->wanted,
                                  runner->blocks, runner->memory, error);
    else if (!code && runner->mode == RUNNER_ROWS)
        code = net_derivative_new_rows(&worker->derivative, network, inputs, unit, tile,
                                       runner->wanted, runner->memory, error);
    free(inputs);
    return code;
}

static const struct net_tensor *runner_output(const struct runner_worker *worker)
{
    return worker->plan ? net_plan_output(worker->plan, 0)
                        : net_derivative_output(worker->derivative);
}

static int runner_worker_init(struct runner_worker *worker, const struct runner *runner,
                              const struct feed *feed, struct ivon_error *error)
{
    size_t tile = runner->tile, inputs = runner->network->input_count;
    worker->inputs = calloc(inputs + 1, sizeof *worker->inputs);
    worker->scratch = memory_aligned(tile * feed_example_size(feed) +
                                     MEMORY_ALIGNMENT * (inputs + 1));
    return worker->inputs && worker->scratch
               ? runner_make_network(worker, runner, feed, &tile, error)
               : ivon_error_memory(error);
}

int runner_start(struct runner *runner, const struct feed *feed, int threads,
                 struct ivon_error *error)
{
    int code = 0;
    runner_stop(runner);
    runner->workers = calloc((size_t)threads, sizeof *runner->workers);
    if (!runner->workers)
        return ivon_error_memory(error);
    runner->threads = threads;
    for (int i = 0; i < threads && !code; i++)
        code = runner_worker_init(&runner->workers[i], runner, feed, error);
    return code;
}

void runner_stop(struct runner *runner)
{
    for (int i = 0; i < runner->threads && runner->workers; i++)
        runner_worker_release(&runner->workers[i]);
    free(runner->workers);
    runner->workers = NULL;
    runner->threads = 0;
}

/* The tile. */

int runner_measure(struct runner *runner, const struct feed *feed, size_t tile,
                   struct ivon_error *error)
{
    struct runner_worker worker = {0};
    int code = runner_make_network(&worker, runner, feed, &tile, error);
    if (!code) {
        runner->tile = tile;
        runner->bytes = worker.plan ? net_plan_memory(worker.plan)
                                    : net_derivative_memory(worker.derivative);
        const struct net_tensor *output = runner_output(&worker);
        code = runner->check(runner->check_context, runner->network->path, output, tile, error);
        runner->rows = output->rank ? output->shape[0] : 0;
    }
    runner_worker_release(&worker);
    return code;
}

/* Measures a tile; halves it until it fits the memory. */
static int runner_measure_halves(struct runner *runner, const struct feed *feed, size_t tile,
                                 struct ivon_error *error)
{
    struct ivon_error inner = {0};
    int code = runner_measure(runner, feed, tile, &inner);
    while (code == IVON_ERROR_MEMORY && tile > 1) {
        tile /= 2;
        code = runner_measure(runner, feed, tile, &inner);
    }
    if (code && error)
        *error = inner;
    return code;
}

enum { SHARING = 4 }; /* examples, after which the weights' share of the traffic is small */

/* Returns how many examples fit the caches and the memory: the first one takes `single` bytes,
   every other one `per_example`. The number of threads is not asked for: a product's bits may
   depend on how many rows it has. */
static size_t runner_suitable_tile(const struct runner *runner, const struct runner_bounds *bounds,
                                   uint64_t examples, size_t single, size_t per_example)
{
    size_t tile = 1;
    while (
        tile < bounds->examples && tile < examples && 2 * tile * bounds->tiles <= examples &&
        2 * tile * per_example <=
            (tile < SHARING && bounds->weights > bounds->cache ? bounds->weights : bounds->cache) &&
        (!runner->memory || single + (2 * tile - 1) * per_example <= runner->memory))
        tile *= 2;
    return tile;
}

/* Returns whether a graph that gave other outputs than one for one example gives one for each of
   all the examples: its constants name the places of these, as indices of rows do. */
static bool runner_takes_all(const struct runner *runner, const struct feed *feed,
                             const struct runner_bounds *bounds)
{
    return runner->mode == RUNNER_FORWARD && feed->fixed < 0 && runner->rows > 1 &&
           (size_t)runner->rows <= bounds->examples &&
           (uint64_t)runner->rows == ivon_examples_count(feed->examples) &&
           (!bounds->batch || bounds->batch == (size_t)runner->rows);
}

int runner_choose_tile(struct runner *runner, const struct feed *feed,
                       const struct runner_bounds *bounds, struct ivon_error *error)
{
    size_t least = feed->fixed > 0 ? (size_t)feed->fixed : 1;
    struct ivon_error inner = {0};
    int code = runner_measure(runner, feed, least, &inner);
    size_t single = runner->bytes;
    runner->whole = code && runner_takes_all(runner, feed, bounds);
    if (runner->whole)
        return runner_measure(runner, feed, (size_t)runner->rows, error);
    if (code && error)
        *error = inner;
    if (code || feed->fixed > 0)
        return code;
    if (bounds->batch)
        return runner_measure(runner, feed, bounds->batch, error);
    code = runner_measure_halves(runner, feed, 2, error);
    if (code || runner->tile == 1)
        return code;
    size_t per_example = runner->bytes > single ? runner->bytes - single : 1;
    uint64_t examples = ivon_examples_count(feed->examples);
    return runner_measure_halves(
        runner, feed, runner_suitable_tile(runner, bounds, examples, single, per_example), error);
}

/* Running. */

int runner_worker_set(struct runner_worker *worker, const float *const *parameters,
                      struct ivon_error *error)
{
    worker->feed = NULL;
    return worker->plan ? net_plan_set_parameters(worker->plan, parameters, error)
                        : net_derivative_set_parameters(worker->derivative, parameters, error);
}

int runner_set(struct runner *runner, const float *const *parameters, struct ivon_error *error)
{
    int code = 0;
    for (int i = 0; i < runner->threads && !code; i++)
        code = runner_worker_set(&runner->workers[i], parameters, error);
    return code;
}

int runner_load(struct runner *runner, struct feed *feed, uint64_t first, size_t count,
                struct ivon_error *error)
{
    for (int i = 0; i < runner->threads; i++)
        runner->workers[i].feed = NULL;
    return feed_load(feed, first, count, error);
}

size_t runner_tile_count(const struct runner *runner, const struct feed *feed)
{
    return (feed->count + runner->tile - 1) / runner->tile;
}

int runner_run_inputs(struct runner_worker *worker, const float **f, struct ivon_error *error)
{
    *f = runner_output(worker)->data;
    return worker->plan ? net_plan_run(worker->plan, worker->inputs, error)
                        : net_derivative_run(worker->derivative, worker->inputs, error);
}

int runner_run_tile(struct runner *runner, int thread, const struct feed *feed, size_t index,
                    struct runner_tile *tile, struct ivon_error *error)
{
    struct runner_worker *worker = &runner->workers[thread];
    size_t at = index * runner->tile, left = feed->count - at;
    *tile = (struct runner_tile){.worker = worker,
                                 .thread = thread,
                                 .at = at,
                                 .count = left < runner->tile ? left : runner->tile,
                                 .f = runner_output(worker)->data};
    if (worker->feed == feed && worker->tile == index)
        return 0;
    feed_tile(feed, at, runner->tile, worker->inputs, worker->scratch);
    int code = runner_run_inputs(worker, &tile->f, error);
    worker->feed = code ? NULL : feed;
    worker->tile = index;
    return code;
}

struct runner_block {
    struct runner *runner;
    const struct feed *feed;
    int (*on_tile)(void *context, const struct runner_tile *tile, struct ivon_error *error);
    void *context;
    struct meter *meter;
};

static int runner_block_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct runner_block *block = context;
    struct runner_tile tile;
    int code = runner_run_tile(block->runner, thread, block->feed, i, &tile, error);
    if (!code)
        code = block->on_tile(block->context, &tile, error);
    return code || !block->meter ? code : meter_add(block->meter, tile.count, error);
}

int runner_run_block(struct runner *runner, const struct feed *feed,
                     int (*on_tile)(void *context, const struct runner_tile *tile,
                                    struct ivon_error *error),
                     void *context, struct meter *meter, struct ivon_error *error)
{
    struct runner_block block = {runner, feed, on_tile, context, meter};
    return ivon_parallel_run(runner->threads, runner_tile_count(runner, feed), runner_block_tile,
                             &block, error);
}
