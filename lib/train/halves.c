/* Random halves of the training data, and the networks that are trained on them. */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/blas.h"
#include "core/error.h"
#include "core/examples.h"
#include "core/meter.h"
#include "core/parallel.h"
#include "ivon/datamodel.h"

enum {
    DEFAULT_MEMORY = 1 << 30, /* bytes */
    STATES = 12,              /* arrays of a training as long as its parameters, about */
};

struct ivon_halves {
    uint64_t total; /* rows that there are */
    size_t count, size;
    uint64_t *rows; /* count × size */
};

void ivon_halves_free(struct ivon_halves *halves)
{
    if (!halves)
        return;
    free(halves->rows);
    free(halves);
}

int ivon_halves_new(struct ivon_halves **out, uint64_t rows, size_t count, uint64_t seed,
                    struct ivon_error *error)
{
    size_t all;
    if (rows < 2 || !count)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%zu halves of %" PRIu64 " rows, expected one or more, of 2 or more",
                              count, rows);
    struct ivon_halves *halves = calloc(1, sizeof *halves);
    if (!halves)
        return ivon_error_memory(error);
    *halves = (struct ivon_halves){.total = rows, .count = count, .size = (size_t)(rows / 2)};
    if (!__builtin_mul_overflow(count, halves->size, &all))
        halves->rows = calloc(all, sizeof *halves->rows);
    if (!halves->rows) {
        ivon_halves_free(halves);
        return ivon_error_memory(error);
    }
    for (size_t i = 0; i < count; i++) {
        const struct random_stream stream = random_stream_of(seed, i, "/half");
        examples_choose(halves->rows + i * halves->size, halves->size, rows, &stream);
    }
    *out = halves;
    return 0;
}

size_t ivon_halves_size(const struct ivon_halves *halves)
{
    return halves->size;
}

const uint64_t *ivon_halves_rows(const struct ivon_halves *halves, size_t half)
{
    return halves->rows + half * halves->size;
}

/* The first of a half's rows that is not below `row`. */
static size_t halves_find(const struct ivon_halves *halves, const uint64_t *rows, uint64_t row)
{
    size_t low = 0, high = halves->size;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void ivon_halves_add(const struct ivon_halves *halves, const struct ivon_influences *block,
                     uint64_t queries, double *sums)
{
    size_t width = block->query_count, stride = block->rows * width;
    for (size_t half = 0; half < halves->count; half++) {
        const uint64_t *rows = ivon_halves_rows(halves, half);
        double *to = sums + half * queries + block->first_query;
        for (size_t i = halves_find(halves, rows, block->first);
             i < halves->size && rows[i] - block->first < block->count; i++) {
            const float *from = block->influence + (size_t)(rows[i] - block->first) * stride;
            for (size_t q = 0; q < stride; q++)
                to[q % width] += (double)from[q];
        }
    }
}

/* Trainings. */

struct halves_work {
    const struct ivon_halves *halves;
    const struct ivon_halves_training *training;
    struct ivon_train_options options; /* of each */
    uint64_t queries;
    double *values;
    pthread_mutex_t lock; /* of examples and weights, which one thread reads at a time */
    struct meter meter;
};

/* One training; the network outlives the trainer. */
struct halves_item {
    struct ivon_network *network;
    struct ivon_trainer *trainer;
};

static void halves_item_release(struct halves_item *item)
{
    ivon_trainer_free(item->trainer);
    ivon_network_free(item->network);
}

static int halves_begin(struct halves_work *work, size_t half, struct halves_item *item,
                        struct ivon_error *error)
{
    const struct ivon_halves_training *training = work->training;
    struct ivon_train_start start = training->start;
    struct ivon_examples *chosen = NULL;
    pthread_mutex_lock(&work->lock);
    int code = ivon_examples_select(&chosen, training->examples,
                                    ivon_halves_rows(work->halves, half), work->halves->size,
                                    error);
    if (!code && training->open) {
        code = training->open(training->context, &item->network, error);
        start.network = item->network;
    }
    if (!code)
        code = ivon_trainer_new(&item->trainer, &start, chosen, training->targets, &work->options,
                                error);
    ivon_examples_close(chosen);
    pthread_mutex_unlock(&work->lock);
    return code;
}

static int halves_count_queries(const struct halves_work *work, uint64_t tokens,
                                struct ivon_error *error)
{
    const struct ivon_halves_training *training = work->training;
    uint64_t count = 0;
    for (size_t i = 0; i < training->query_sets; i++)
        count += ivon_examples_count(training->queries[i]) * tokens;
    return count == work->queries
               ? 0
               : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                "%" PRIu64 " values of %" PRIu64 " queries are wanted",
                                work->queries, count);
}

static int halves_measure(struct halves_work *work, size_t half, struct halves_item *item,
                          struct ivon_error *error)
{
    const struct ivon_halves_training *training = work->training;
    bool apart = training->measure == IVON_MEASURE_TOKEN_LOSS;
    uint64_t tokens = apart ? ivon_trainer_state(item->trainer).tokens : 1;
    double *values = work->values + half * work->queries;
    pthread_mutex_lock(&work->lock);
    int code = halves_count_queries(work, tokens, error);
    for (size_t i = 0; i < training->query_sets && !code; i++) {
        code = ivon_trainer_measure(item->trainer, training->queries[i], training->targets,
                                    training->measure, training->output, values, error);
        values += ivon_examples_count(training->queries[i]) * tokens;
    }
    pthread_mutex_unlock(&work->lock);
    return code;
}

/* The training on one half, from its start to what it says of the queries. */
static int halves_run(void *context, size_t half, int thread, struct ivon_error *error)
{
    struct halves_work *work = context;
    struct halves_item item = {NULL, NULL};
    struct ivon_error found = {0};
    (void)thread;
    int code = halves_begin(work, half, &item, &found);
    struct ivon_train_state state = {0};
    if (!code)
        state = ivon_trainer_state(item.trainer);
    for (uint64_t step = state.step; step < state.steps && !code; step++) {
        code = ivon_trainer_step(item.trainer, &found);
        if (!code)
            code = meter_add(&work->meter, 1, &found);
    }
    if (!code)
        code = halves_measure(work, half, &item, &found);
    halves_item_release(&item);
    if (code && code != IVON_ERROR_CANCELLED)
        ivon_error_hint(error, found.hint,
                        ivon_error_set(error, code, "%s: training on half %zu: %s",
                                       ivon_examples_path(work->training->examples), half,
                                       found.message));
    else if (code && error)
        *error = found;
    return code;
}

/* Bytes of one training, about. */
static double halves_bytes(const struct halves_work *work, uint64_t parameters)
{
    const struct ivon_examples *examples = work->training->examples;
    double example = 0;
    for (size_t i = 0; i < ivon_examples_field_count(examples); i++)
        example += (double)ivon_examples_field(examples, i)->count * sizeof(int64_t);
    return example * (double)work->halves->size +
           (double)parameters * STATES * (double)sizeof(float);
}

/* How many trainings run at a time, and how many threads each has; the bits depend on neither. The
   first training is begun for that, and to fail where any would. */
static int halves_plan(struct halves_work *work, int *at_a_time, uint64_t *steps,
                       struct ivon_error *error)
{
    struct ivon_train_options *options = &work->options;
    size_t memory = options->resources.memory ? options->resources.memory : DEFAULT_MEMORY;
    size_t most = (size_t)ivon_parallel_threads(options->resources.threads);
    struct halves_item item = {NULL, NULL};
    int code = blas_reserve((int)most, error);
    options->resources.threads = 1;
    if (!code)
        code = halves_begin(work, 0, &item, error);
    if (!code) {
        struct ivon_train_state state = ivon_trainer_state(item.trainer);
        double fit = (double)memory / halves_bytes(work, state.parameters);
        size_t count = work->halves->count < most ? work->halves->count : most;
        count = fit < 1 ? 1 : fit < (double)count ? (size_t)fit : count;
        *at_a_time = (int)count;
        options->resources.threads = (int)(most / count);
        options->resources.memory /= count;
        *steps = state.steps - state.step;
    }
    halves_item_release(&item);
    return code;
}

int ivon_halves_train(const struct ivon_halves *halves, const struct ivon_halves_training *training,
                      uint64_t queries, double *values, struct ivon_error *error)
{
    struct halves_work work = {.halves = halves,
                               .training = training,
                               .options = *training->options,
                               .queries = queries,
                               .values = values};
    uint64_t steps = 0, total = 0;
    int at_a_time = 1;
    if (ivon_examples_count(training->examples) != halves->total)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: has %" PRIu64 " examples, the halves are of %" PRIu64,
                              ivon_examples_path(training->examples),
                              ivon_examples_count(training->examples), halves->total);
    pthread_mutex_init(&work.lock, NULL);
    int code = halves_plan(&work, &at_a_time, &steps, error);
    if (__builtin_mul_overflow(steps, halves->count, &total))
        total = 0;
    meter_init(&work.meter, &training->options->resources.progress, total);
    if (!code)
        code = ivon_parallel_run(at_a_time, halves->count, halves_run, &work, error);
    meter_release(&work.meter);
    pthread_mutex_destroy(&work.lock);
    return code;
}
