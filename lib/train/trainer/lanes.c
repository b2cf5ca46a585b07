/* Gradients: every step's examples in a fixed number of lanes, whose sums are added in order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/meter.h"
#include "core/parallel.h"
#include "core/ranks.h"
#include "core/thread_pool.h"
#include "train/trainer/private.h"

enum {
    TILE_MEMORY = 8 << 20, /* bytes of values and adjoints that caches hold */
    LANE_EXAMPLES = 16,    /* at least so many in each of several lanes: it has sums of its own */
    RANGE = 1 << 15,       /* elements that are added at a time */
    ADDING_THREADS = 8
};

static const double STATISTICS_MOMENTUM = 0.1; /* as in PyTorch */

/* Bytes that the values of one lane may take; 0: any number. With such a limit there are not more
   places than lanes are counted here. */
static size_t lane_memory(const struct ivon_trainer *trainer)
{
    size_t all = trainer->options.resources.memory, data = trainer->data.size;
    size_t lanes = trainer->lane_count ? trainer->lane_count : 1;
    lanes = lanes < LANES_CHOSEN_MAX ? lanes : LANES_CHOSEN_MAX;
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
    while (2 * lanes <= LANES_CHOSEN_MAX && 2 * lanes * LANE_EXAMPLES <= examples &&
           (!normalizes(trainer) || examples % (2 * lanes) == 0))
        lanes *= 2;
    return lanes;
}

/* Sets the number of lanes, and of examples in each but the last, which may have fewer. */
static int lanes_divide(struct ivon_trainer *trainer, struct ivon_error *error)
{
    size_t examples = trainer->batch * trainer->options.accumulate;
    size_t lanes = trainer->options.lanes ? trainer->options.lanes : count_lanes(trainer, examples);
    if (lanes > examples || (normalizes(trainer) && examples % lanes != 0))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%zu lanes of the %zu examples of a step, expected %s", lanes,
                              examples,
                              lanes > examples ? "not more of them than examples"
                                               : "a number that divides them: each lane is "
                                                 "normalized by its own");
    trainer->lane_size = (examples + lanes - 1) / lanes;
    trainer->lane_count = (examples + trainer->lane_size - 1) / trainer->lane_size;
    return 0;
}

/* A thread for each place, and a gradient; where memory is limited, lanes wait for one another.
   All ranks have as many as rank 0 would. */
static int choose_places(struct ivon_trainer *trainer, struct ivon_error *error)
{
    const struct ivon_resources *resources = &trainer->options.resources;
    size_t ranks = (size_t)ivon_ranks_count(resources->ranks);
    size_t most = (size_t)ivon_parallel_threads(resources->threads);
    size_t share = (trainer->lane_count + ranks - 1) / ranks;
    if (most < LANES_CHOSEN_MAX || resources->memory)
        most = LANES_CHOSEN_MAX;
    trainer->lane_places = share < most ? share : most;
    return ivon_ranks_share(resources->ranks, &trainer->lane_places, sizeof trainer->lane_places,
                            error);
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
    struct runner *runner = &trainer->runner;
    *runner = (struct runner){.network = trainer->network,
                              .mode = RUNNER_SUMS,
                              .training = trainer->training,
                              .memory = trainer->options.resources.memory,
                              .check = outputs_check,
                              .check_context = &trainer->outputs};
    int code = lanes_divide(trainer, error);
    if (!code)
        code = choose_places(trainer, error);
    if (!code)
        code = runner_measure(runner, &trainer->data.feed,
                              normalizes(trainer) ? trainer->lane_size : 1, error);
    if (code || normalizes(trainer) || trainer->data.feed.fixed > 0)
        return code;
    size_t one = runner->bytes;
    code = runner_measure(runner, &trainer->data.feed, 2, error);
    if (!code)
        trainer_lanes_choose_tile(trainer, one, runner->bytes > one ? runner->bytes - one : 1);
    return code;
}

/* The first of all lanes has its gradient where the sum begins. */
static bool needs_gradients(const struct ivon_trainer *trainer, size_t place)
{
    struct ivon_ranks *ranks = trainer->options.resources.ranks;
    size_t wave = trainer->lane_places * (size_t)ivon_ranks_count(ranks);
    return place || ivon_ranks_rank(ranks) || wave < trainer->lane_count;
}

static size_t count_sums(const struct ivon_trainer *trainer)
{
    return 1 + net_training_size(trainer->training);
}

/* Memory for weights that are drawn, and then added as a whole: zeros are between the arrays. */
static int make_drawn(const struct ivon_trainer *trainer, struct weights *drawn,
                      struct ivon_error *error)
{
    int code = weights_init(drawn, trainer->network, error);
    if (!code)
        memset(drawn->data, 0, drawn->size);
    return code;
}

static int make_lane(struct ivon_trainer *trainer, size_t place, struct ivon_error *error)
{
    struct lane *lane = &trainer->lanes[place];
    struct net_masks masks = {dropout_words, lane};
    size_t tile = trainer->runner.tile, rows = tile * trainer->outputs.tokens;
    size_t targets = tile * outputs_targets(&trainer->outputs);
    lane->worker = &trainer->runner.workers[place];
    lane->trainer = trainer;
    net_derivative_set_masks(lane->worker->derivative, &masks);
    lane->labels = calloc(targets, sizeof *lane->labels);
    lane->numbers = calloc(targets, sizeof *lane->numbers);
    lane->adjoint = calloc(rows * trainer->outputs.k, sizeof *lane->adjoint);
    lane->row_loss = calloc(rows, sizeof *lane->row_loss);
    lane->sums = calloc(count_sums(trainer), sizeof *lane->sums);
    if (!lane->labels || !lane->numbers || !lane->adjoint || !lane->row_loss || !lane->sums)
        return ivon_error_memory(error);
    bool needs = needs_gradients(trainer, place);
    int code = needs ? weights_init(&lane->gradients, trainer->network, error) : 0;
    if (!code && needs && trainer->options.lane_samples)
        code = make_drawn(trainer, &lane->drawn, error);
    trainer->lane_gradients[place] = lane->gradients.data;
    trainer->lane_products[place] = lane->drawn.data;
    trainer->lane_sums[place] = lane->sums;
    return code;
}

int lanes_make(struct ivon_trainer *trainer, struct ivon_error *error)
{
    size_t places = trainer->lane_places;
    int code = runner_start(&trainer->runner, &trainer->data.feed, (int)places, error);
    if (!code)
        code = weights_init(&trainer->gradient, trainer->network, error);
    if (!code && trainer->options.lane_samples)
        code = make_drawn(trainer, &trainer->products, error);
    trainer->lanes = calloc(places, sizeof *trainer->lanes);
    trainer->lane_gradients = calloc(places, sizeof *trainer->lane_gradients);
    trainer->lane_products = calloc(places, sizeof *trainer->lane_products);
    trainer->lane_sums = calloc(places, sizeof *trainer->lane_sums);
    trainer->sums = calloc(count_sums(trainer), sizeof *trainer->sums);
    if (!code && (!trainer->lanes || !trainer->lane_gradients || !trainer->lane_products ||
                  !trainer->lane_sums || !trainer->sums))
        code = ivon_error_memory(error);
    for (size_t i = 0; i < places && !code; i++)
        code = make_lane(trainer, i, error);
    return code;
}

void lanes_release(struct ivon_trainer *trainer)
{
    runner_stop(&trainer->runner);
    for (size_t i = 0; i < trainer->lane_places && trainer->lanes; i++) {
        struct lane *lane = &trainer->lanes[i];
        weights_release(&lane->gradients);
        weights_release(&lane->drawn);
        free(lane->labels);
        free(lane->numbers);
        free(lane->adjoint);
        free(lane->row_loss);
        free(lane->sums);
    }
    free(trainer->lanes);
    free(trainer->lane_gradients);
    free(trainer->lane_products);
    free(trainer->lane_sums);
    free(trainer->sums);
    weights_release(&trainer->gradient);
    weights_release(&trainer->products);
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
        lane->sums[0] += lane->row_loss[i];
    for (size_t i = 0; i < rows * k; i++)
        lane->adjoint[i] *= scale;
    memset(lane->adjoint + rows * k, 0, (all - rows * k) * sizeof *lane->adjoint);
}

/* Returns the memory for the gradient of the lane at a place; and for its own weights. */
static struct weights *lane_gradients(struct ivon_trainer *trainer, size_t place)
{
    return trainer->first_lane + place ? &trainer->lanes[place].gradients : &trainer->gradient;
}

static struct weights *lane_drawn(struct ivon_trainer *trainer, size_t place)
{
    return trainer->first_lane + place ? &trainer->lanes[place].drawn : &trainer->products;
}

/* Gives the worker of the lane at a place the step's weights, or such as it draws. */
static int lane_set_weights(struct ivon_trainer *trainer, size_t place, struct ivon_error *error)
{
    const float *const *weights = trainer->parameters;
    if (trainer->options.lane_samples) {
        float *const *drawn = lane_drawn(trainer, place)->arrays;
        optimizer_draw_lane(trainer->optimizer, trainer->first_lane + place, drawn);
        weights = (const float *const *)drawn;
    }
    return runner_worker_set(trainer->lanes[place].worker, weights, error);
}

/* Returns whether lanes have products to add, beside their gradients. */
static bool makes_products(const struct ivon_trainer *trainer)
{
    return trainer->options.lane_samples && optimizer_estimates(trainer->optimizer);
}

static int run_lane(void *context, size_t place, int thread, struct ivon_error *error)
{
    (void)thread;
    struct ivon_trainer *trainer = context;
    struct lane *lane = &trainer->lanes[place];
    struct weights *gradients = lane_gradients(trainer, place);
    size_t all = trainer->batch * trainer->options.accumulate;
    size_t begin = (trainer->first_lane + place) * trainer->lane_size;
    size_t end = begin + trainer->lane_size < all ? begin + trainer->lane_size : all;
    memset(gradients->data, 0, gradients->size);
    lane->sums[0] = 0;
    size_t tile = trainer->runner.tile;
    struct net_derivative *derivative = lane->worker->derivative;
    int code = lane_set_weights(trainer, place, error);
    for (size_t at = begin; at < end && !code; at += tile) {
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
        net_derivative_statistics(derivative, lane->sums + 1);
        trainer_lanes_evaluate(trainer, lane, f, count);
        net_derivative_backward(derivative, lane->adjoint, gradients->arrays);
    }
    if (!code && makes_products(trainer))
        optimizer_multiply_lane(trainer->optimizer, (const float *const *)gradients->arrays,
                                lane_drawn(trainer, place)->arrays);
    return code;
}

/* The sums. */

/* The lanes of a wave that this rank has: `count` from trainer->first_lane on. */
struct lanes_wave {
    struct ivon_trainer *trainer;
    size_t count;
};

/* A sum, to which the arrays of lanes are added. */
struct lanes_sum {
    const struct weights *sum;
    const float *const *lanes;
    size_t lane_count;
};

static int add_range(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct lanes_sum *adding = context;
    size_t first = i * RANGE, count = adding->sum->size / sizeof(float);
    size_t end = first + RANGE < count ? first + RANGE : count;
    float *sum = adding->sum->data;
    for (size_t lane = 0; lane < adding->lane_count; lane++) {
        const float *other = adding->lanes[lane];
        for (size_t j = first; j < end; j++)
            sum[j] += other[j];
    }
    return 0;
}

/* Adds arrays of the lanes of all ranks, but for the first of all, which is in the sum already. In
   a process alone threads share the elements. */
static int add_lanes(const struct lanes_wave *wave, const struct weights *sum,
                     const float *const *lanes, struct ivon_error *error)
{
    const struct ivon_trainer *trainer = wave->trainer;
    struct ivon_ranks *ranks = trainer->options.resources.ranks;
    size_t count = sum->size / sizeof(float), first = trainer->first_lane == 0;
    struct lanes_sum adding = {sum, lanes + first, wave->count > first ? wave->count - first : 0};
    if (ranks)
        return ranks_sum_floats(ranks, sum->data, adding.lanes, adding.lane_count, count, error);
    return adding.lane_count
               ? thread_pool_run(trainer->pool, ADDING_THREADS, (count + RANGE - 1) / RANGE,
                                 add_range, &adding, error)
               : 0;
}

/* Runs the lanes of this rank, and adds those of all: a rank that fails says so, and all fail. */
static int lanes_run_wave(struct lanes_wave *wave, struct ivon_error *error)
{
    struct ivon_trainer *trainer = wave->trainer;
    struct ivon_ranks *ranks = trainer->options.resources.ranks;
    int code = thread_pool_run(trainer->pool, (int)trainer->lane_places, wave->count, run_lane,
                               trainer, error);
    if (!code && !wave->count && !trainer->begun)
        code = progress_ask(&trainer->options.resources.progress, error);
    if (code)
        return ivon_ranks_agree(ranks, code, error);
    code = add_lanes(wave, &trainer->gradient, trainer->lane_gradients, error);
    if (!code && makes_products(trainer))
        code = add_lanes(wave, &trainer->products, trainer->lane_products, error);
    return code ? code
                : ranks_sum_doubles(ranks, trainer->sums, trainer->lane_sums, wave->count,
                                    count_sums(trainer), error);
}

/* Moves running statistics towards the mean of those of the lanes. */
static void trainer_lanes_move_statistics(struct ivon_trainer *trainer)
{
    double *sums = trainer->sums + 1, lanes = (double)trainer->lane_count;
    for (size_t j = 0; j < net_training_size(trainer->training); j++)
        sums[j] /= lanes;
    net_training_update(trainer->training, sums, STATISTICS_MOMENTUM);
}

int lanes_gradient(struct ivon_trainer *trainer, double *loss, struct ivon_error *error)
{
    struct ivon_ranks *ranks = trainer->options.resources.ranks;
    size_t all = trainer->lane_places * (size_t)ivon_ranks_count(ranks);
    int code = 0;
    memset(trainer->sums, 0, count_sums(trainer) * sizeof *trainer->sums);
    for (size_t first = 0; first < trainer->lane_count && !code; first += all) {
        size_t left = trainer->lane_count - first;
        struct ranks_range own = ranks_range(ranks, left < all ? left : all);
        struct lanes_wave wave = {trainer, own.end - own.first};
        trainer->first_lane = first + own.first;
        code = lanes_run_wave(&wave, error);
    }
    *loss = trainer->sums[0] * trainer->scale;
    if (!code && normalizes(trainer))
        trainer_lanes_move_statistics(trainer);
    return code;
}
