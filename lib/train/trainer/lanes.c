/* Gradients: every step's examples in a fixed number of lanes, whose sums are added in order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/meter.h"
#include "core/thread_pool.h"
#include "train/trainer/private.h"

enum {
    TILE_MEMORY = 8 << 20, /* bytes of values and adjoints that caches hold */
    LANE_EXAMPLES = 16,    /* at least so many in each of several lanes: it has sums of its own */
    RANGE = 1 << 15        /* elements that are added at a time */
};

static const double STATISTICS_MOMENTUM = 0.1; /* as in PyTorch */

/* Bytes that the values of one lane may take; 0: any number. */
static size_t lane_memory(const struct ivon_trainer *trainer)
{
    size_t all = trainer->options.resources.memory, data = trainer->data.size;
    size_t lanes = trainer->lane_count ? trainer->lane_count : 1;
    size_t left = all > data ? (all - data) / lanes : 0;
    return all && !left ? 1 : left;
}

/* Returns whether examples are normalized by each other's statistics: then a lane's examples are
   one tile, which nothing fills up. */
static bool normalizes(const struct ivon_trainer *trainer)
{
    return net_training_count(trainer->training) > 0;
}

/* A power of two, so that lanes are as even as batches are. */
static size_t count_lanes(const struct ivon_trainer *trainer, size_t examples)
{
    size_t lanes = 1;
    while (2 * lanes <= LANES_MAX && 2 * lanes * LANE_EXAMPLES <= examples &&
           (!normalizes(trainer) || examples % (2 * lanes) == 0))
        lanes *= 2;
    return lanes;
}

/* As many examples at a time as caches and the allowed memory hold, in tiles of one size. */
static void trainer_lanes_choose_tile(struct ivon_trainer *trainer, size_t first, size_t other)
{
    double space = TILE_MEMORY, most = (double)lane_memory(trainer);
    if (trainer->options.resources.memory && space > most)
        space = most;
    double fits = 1 + (space - (double)first) / (double)other;
    size_t tile = fits < 1                            ? 1
                  : fits < (double)trainer->lane_size ? (size_t)fits
                                                      : trainer->lane_size;
    size_t tiles = (trainer->lane_size + tile - 1) / tile;
    trainer->runner.tile = (trainer->lane_size + tiles - 1) / tiles;
}

int lanes_choose(struct ivon_trainer *trainer, struct ivon_error *error)
{
    size_t examples = trainer->batch * trainer->options.accumulate;
    struct runner *runner = &trainer->runner;
    *runner = (struct runner){.network = trainer->network,
                              .mode = RUNNER_SUMS,
                              .training = trainer->training,
                              .memory = trainer->options.resources.memory,
                              .check = outputs_check,
                              .check_context = &trainer->outputs};
    trainer->lane_count = count_lanes(trainer, examples);
    trainer->lane_size = (examples + trainer->lane_count - 1) / trainer->lane_count;
    int code = runner_measure(runner, &trainer->data.feed,
                              normalizes(trainer) ? trainer->lane_size : 1, error);
    if (code || normalizes(trainer) || trainer->data.feed.fixed > 0)
        return code;
    size_t one = runner->bytes;
    code = runner_measure(runner, &trainer->data.feed, 2, error);
    if (!code)
        trainer_lanes_choose_tile(trainer, one, runner->bytes > one ? runner->bytes - one : 1);
    return code;
}

static int make_lane(struct ivon_trainer *trainer, struct lane *lane, struct ivon_error *error)
{
    size_t tile = trainer->runner.tile, rows = tile * trainer->outputs.tokens;
    size_t targets = tile * outputs_targets(&trainer->outputs);
    lane->labels = calloc(targets, sizeof *lane->labels);
    lane->numbers = calloc(targets, sizeof *lane->numbers);
    lane->adjoint = calloc(rows * trainer->outputs.k, sizeof *lane->adjoint);
    lane->row_loss = calloc(rows, sizeof *lane->row_loss);
    lane->statistics = calloc(net_training_size(trainer->training) + 1, sizeof *lane->statistics);
    return lane->labels && lane->numbers && lane->adjoint && lane->row_loss && lane->statistics
               ? weights_init(&lane->gradients, trainer->network, error)
               : ivon_error_memory(error);
}

int lanes_make(struct ivon_trainer *trainer, struct ivon_error *error)
{
    int code = runner_start(&trainer->runner, &trainer->data.feed, (int)trainer->lane_count, error);
    for (size_t i = 0; i < trainer->lane_count && !code; i++) {
        struct net_masks masks = {dropout_words, &trainer->lanes[i]};
        trainer->lanes[i].worker = &trainer->runner.workers[i];
        trainer->lanes[i].trainer = trainer;
        net_derivative_set_masks(trainer->lanes[i].worker->derivative, &masks);
        code = make_lane(trainer, &trainer->lanes[i], error);
    }
    return code;
}

void lanes_release(struct ivon_trainer *trainer)
{
    runner_stop(&trainer->runner);
    for (size_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = &trainer->lanes[i];
        weights_release(&lane->gradients);
        free(lane->labels);
        free(lane->numbers);
        free(lane->adjoint);
        free(lane->row_loss);
        free(lane->statistics);
    }
}

/* Loss and adjoints of a tile: e over the weight of the step's losses; 0 for what fills the tile
   up. */
static void trainer_lanes_evaluate(const struct ivon_trainer *trainer, struct lane *lane,
                                   const float *f, size_t count)
{
    const struct likelihood *likelihood = &trainer->likelihood;
    size_t rows = count * trainer->outputs.tokens, k = likelihood->k;
    size_t all = trainer->runner.tile * trainer->outputs.tokens * k;
    const struct row_targets targets = {trainer->data.labels ? lane->labels : NULL,
                                        trainer->data.numbers ? lane->numbers : NULL,
                                        trainer->options.task.ignored};
    float scale = (float)trainer->scale;
    likelihood_evaluate(likelihood, rows, f, &targets, lane->adjoint, lane->row_loss);
    likelihood_residual(likelihood, rows, lane->adjoint, &targets, lane->adjoint);
    objective_apply(&trainer->objective, rows, f, &targets, lane->adjoint, lane->row_loss);
    for (size_t i = 0; i < rows; i++)
        lane->loss += lane->row_loss[i];
    for (size_t i = 0; i < rows * k; i++)
        lane->adjoint[i] *= scale;
    memset(lane->adjoint + rows * k, 0, (all - rows * k) * sizeof *lane->adjoint);
}

static int run_lane(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    struct ivon_trainer *trainer = context;
    struct lane *lane = &trainer->lanes[i];
    size_t all = trainer->batch * trainer->options.accumulate, end = (i + 1) * trainer->lane_size;
    end = end < all ? end : all;
    memset(lane->gradients.data, 0, lane->gradients.size);
    lane->loss = 0;
    size_t tile = trainer->runner.tile;
    struct net_derivative *derivative = lane->worker->derivative;
    int code = runner_worker_set(lane->worker, trainer->parameters, error);
    for (size_t at = i * trainer->lane_size; at < end && !code; at += tile) {
        size_t count = end - at < tile ? end - at : tile;
        const float *f;
        if (!trainer->begun)
            code = progress_ask(&trainer->options.resources.progress, error);
        if (code)
            break;
        data_gather(trainer, lane, at, count);
        lane->chosen = trainer->chosen + at;
        lane->present = count;
        code = runner_run_inputs(lane->worker, &f, error);
        if (code)
            break;
        if (!at && isnan(trainer->rate))
            trainer->probabilities |= outputs_are_probabilities(&trainer->outputs, f,
                                                                count * trainer->outputs.tokens);
        net_derivative_statistics(derivative, lane->statistics);
        trainer_lanes_evaluate(trainer, lane, f, count);
        net_derivative_backward(derivative, lane->adjoint, lane->gradients.arrays);
    }
    return code;
}

static int add_range(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    struct ivon_trainer *trainer = context;
    size_t first = i * RANGE, count = trainer->lanes[0].gradients.size / sizeof(float);
    size_t end = first + RANGE < count ? first + RANGE : count;
    float *sum = trainer->lanes[0].gradients.data;
    for (size_t l = 1; l < trainer->lane_count; l++) {
        const float *other = trainer->lanes[l].gradients.data;
        for (size_t j = first; j < end; j++)
            sum[j] += other[j];
    }
    return 0;
}

/* Moves running statistics towards the mean of those of the lanes. */
static void trainer_lanes_move_statistics(struct ivon_trainer *trainer)
{
    double *sum = trainer->lanes[0].statistics, lanes = (double)trainer->lane_count;
    for (size_t j = 0; j < net_training_size(trainer->training); j++) {
        for (size_t l = 1; l < trainer->lane_count; l++)
            sum[j] += trainer->lanes[l].statistics[j];
        sum[j] /= lanes;
    }
    net_training_update(trainer->training, sum, STATISTICS_MOMENTUM);
}

int lanes_gradient(struct ivon_trainer *trainer, double *loss, struct ivon_error *error)
{
    size_t count = trainer->lanes[0].gradients.size / sizeof(float);
    int code = thread_pool_run(trainer->pool, LANES_MAX, trainer->lane_count, run_lane, trainer,
                               error);
    if (!code && trainer->lane_count > 1)
        code = thread_pool_run(trainer->pool, LANES_MAX, (count + RANGE - 1) / RANGE, add_range,
                               trainer, error);
    if (!code && normalizes(trainer))
        trainer_lanes_move_statistics(trainer);
    *loss = 0;
    for (size_t i = 0; i < trainer->lane_count; i++)
        *loss += trainer->lanes[i].loss;
    *loss *= trainer->scale;
    return code;
}
