#include "bayes/fit/whitened.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/ranks.h"

enum {
    TILE_MAX = 256,         /* examples */
    TILE_MEMORY = 24 << 20, /* bytes of values and their adjoints: in a cache */
    TILES_LEAST = 8,
    WAVE_MEMORY = 8 << 20, /* bytes of the gradients of a rank's wave: in a cache */
    WAVE_TILES = 64,       /* of it */
    PIECE = 1 << 13,       /* elements of sums that a thread works on at a time */
};

/* Places of whitened vectors: layers one after the other, then diagonal parameters. */

size_t whitened_size(const struct ivon_fit *fit)
{
    size_t size = fit->diagonal_count;
    for (size_t l = 0; l < fit->layer_count; l++)
        size += fit->layers[l].outputs * fit->layers[l].columns;
    return size;
}

static void whitened_roots(const struct ivon_fit *fit, float *roots)
{
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct fit_layer *layer = &fit->layers[l];
        double decay = fit->decays[layer->weight];
        for (size_t i = 0; i < layer->outputs * layer->columns; i++)
            *roots++ = (float)(1 / sqrt((double)layer->h[i] + decay));
    }
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        for (size_t i = 0; fit->diagonal[p] && i < fit->parameter_counts[p]; i++)
            *roots++ = (float)(1 / sqrt((double)fit->diagonal[p][i] + fit->decays[p]));
}

/* y ← D^(−1/2) λδ D^(−1/2) x − x + D^(−1/2) y, in a range of one weight decay. */
static void add_prior(const struct whitened *whitened, const float *x, size_t count, double decay,
                      size_t at, float *y)
{
    for (size_t i = at; i < at + count; i++) {
        double root = (double)whitened->roots[i];
        y[i] = (float)(root * (double)y[i] + (root * root * decay - 1) * (double)x[i]);
    }
}

static void add_priors(const struct whitened *whitened, const float *x, float *y)
{
    const struct ivon_fit *fit = whitened->fit;
    size_t at = 0;
    for (size_t l = 0; l < fit->layer_count; l++) {
        size_t count = fit->layers[l].outputs * fit->layers[l].columns;
        add_prior(whitened, x, count, fit->decays[fit->layers[l].weight], at, y);
        at += count;
    }
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        if (fit->diagonal[p]) {
            add_prior(whitened, x, fit->parameter_counts[p], fit->decays[p], at, y);
            at += fit->parameter_counts[p];
        }
}

/* Arrays of parameters from a vector that is scaled already, and back. `scratch` is as long as the
   longest layer, twice. */
static void unwhiten(const struct whitened *whitened, float *y, float *scratch,
                     float *const *arrays)
{
    const struct ivon_fit *fit = whitened->fit;
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct net_block *block = &whitened->blocks[l];
        net_block_rotate_back(block, y, scratch);
        net_block_scatter(block, y, arrays[block->weight],
                          block->bias == NET_NONE ? NULL : arrays[block->bias]);
        y += block->rows * block->columns;
    }
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        if (fit->diagonal[p]) {
            memcpy(arrays[p], y, fit->parameter_counts[p] * sizeof *y);
            y += fit->parameter_counts[p];
        }
}

static void whiten(const struct whitened *whitened, float *const *arrays, float *y, float *scratch)
{
    const struct ivon_fit *fit = whitened->fit;
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct net_block *block = &whitened->blocks[l];
        net_block_gather(block, arrays[block->weight],
                         block->bias == NET_NONE ? NULL : arrays[block->bias], y);
        net_block_rotate(block, y, scratch);
        y += block->rows * block->columns;
    }
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        if (fit->diagonal[p]) {
            memcpy(y, arrays[p], fit->parameter_counts[p] * sizeof *y);
            y += fit->parameter_counts[p];
        }
}

/* Products with the GGN. */

/* J, Λ and Jᵀ for one tile of a wave. */
static int product_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    struct whitened *whitened = context;
    struct ivon_fit *fit = whitened->fit;
    size_t tokens = fit->outputs.tokens, k = fit->outputs.k, all = tokens * k;
    float *adjoint = whitened->adjoints[thread], *p = adjoint + whitened->runner.tile * all;
    struct runner_tile tile;
    memset(whitened->gradients[i].data, 0, whitened->gradients[i].size);
    int code = runner_run_tile(&whitened->runner, thread, &fit->data.feed, whitened->first_tile + i,
                               &tile, error);
    if (code)
        return code;
    struct net_derivative *derivative = tile.worker->derivative;
    const float *moved = net_derivative_tangent(derivative,
                                                (const float *const *)whitened->direction.arrays);
    memset(adjoint, 0, whitened->runner.tile * all * sizeof *adjoint);
    if (moved)
        memcpy(adjoint, moved, tile.count * all * sizeof *adjoint);
    const struct row_targets targets = labelled_targets(&fit->data, tile.at * tokens);
    likelihood_evaluate(&fit->likelihood, tile.count * tokens, tile.f, &targets, p, NULL);
    for (size_t r = 0; r < tile.count * tokens; r++)
        if (fit->data.counts[tile.at * tokens + r])
            likelihood_curvature_apply(&fit->likelihood, p + r * k, adjoint + r * k);
        else
            memset(adjoint + r * k, 0, k * sizeof *adjoint);
    net_derivative_backward(derivative, adjoint, whitened->gradients[i].arrays);
    return meter_add(&fit->meter, tile.count, error);
}

IVON_DISPATCH static void product_add(double *restrict sum, const float *restrict a, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] += (double)a[i];
}

/* Adds a range of the wave's gradients, in the order of tiles. */
static int product_sum(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct whitened *whitened = context;
    size_t total = whitened->direction.size / sizeof(float), at = i * PIECE;
    for (size_t w = 0; w < whitened->wave; w++)
        product_add(whitened->sums + at, whitened->gradients[w].data + at,
                    total - at < PIECE ? total - at : PIECE);
    return 0;
}

/* The tiles of a wave, of which each rank has some. */
struct product_wave {
    uint64_t first, end;         /* examples of all */
    uint64_t own_first, own_end; /* of this rank */
};

/* A wave from the fit's position on, at most to the end of the block that tiles are counted
   from. */
static struct product_wave product_next(const struct whitened *whitened)
{
    const struct ivon_fit *fit = whitened->fit;
    const struct ivon_ranks *ranks = fit->options.resources.ranks;
    uint64_t end = (fit->position / fit->block + 1) * fit->block, tile = whitened->runner.tile;
    end = end < fit->data.count ? end : fit->data.count;
    uint64_t tiles = (end - fit->position + tile - 1) / tile;
    uint64_t most = whitened->together * (uint64_t)ivon_ranks_count(ranks);
    const struct ranks_range own = ranks_range(ranks, (size_t)(tiles < most ? tiles : most));
    struct product_wave wave = {.first = fit->position,
                                .end = fit->position + (tiles < most ? tiles : most) * tile,
                                .own_first = fit->position + own.first * tile,
                                .own_end = fit->position + own.end * tile};
    wave.end = wave.end < end ? wave.end : end;
    wave.own_end = wave.own_end < end ? wave.own_end : end;
    return wave;
}

/* Reads the block that a wave is in; ranks read no more than their own tiles, unless all examples
   stay in memory. */
static int product_load(struct whitened *whitened, const struct product_wave *wave,
                        struct ivon_error *error)
{
    struct ivon_fit *fit = whitened->fit;
    struct labelled *data = &fit->data;
    bool all = data->count <= fit->block, shared = fit->options.resources.ranks && !all;
    uint64_t first = shared ? wave->own_first : wave->first / fit->block * fit->block;
    bool there = whitened->loaded && wave->own_first >= data->first &&
                 wave->own_end <= data->first + data->present;
    if (there || wave->own_first >= wave->own_end)
        return 0;
    data->limit = shared ? (size_t)(wave->own_end - first) : fit->block;
    int code = labelled_load(data, &whitened->runner, first, error);
    data->limit = data->capacity;
    whitened->loaded = !code;
    return code;
}

/* Adds the wave's gradients to the sums, in the order of tiles. */
static int product_add_wave(struct whitened *whitened, struct ivon_error *error)
{
    struct ivon_fit *fit = whitened->fit;
    struct ivon_ranks *ranks = fit->options.resources.ranks;
    size_t total = whitened->direction.size / sizeof(float);
    if (!ranks)
        return thread_pool_run(fit->pool, whitened->runner.threads, (total + PIECE - 1) / PIECE,
                               product_sum, whitened, error);
    for (size_t w = 0; w < whitened->wave; w++)
        whitened->lanes[w] = whitened->gradients[w].data;
    return ranks_sum_wide(ranks, whitened->sums, whitened->lanes, whitened->wave, total, error);
}

/* A wave that was stopped has added to no sum. */
static int product_run_wave(struct whitened *whitened, struct ivon_error *error)
{
    struct ivon_fit *fit = whitened->fit;
    size_t tile = whitened->runner.tile;
    const struct product_wave wave = product_next(whitened);
    int code = product_load(whitened, &wave, error);
    whitened->wave = (size_t)(wave.own_end - wave.own_first + tile - 1) / tile;
    whitened->first_tile = (size_t)(wave.own_first - fit->data.first) / tile;
    if (!code && whitened->wave)
        code = thread_pool_run(fit->pool, whitened->runner.threads, whitened->wave, product_tile,
                               whitened, error);
    code = fit_state_meet(fit, code, error);
    if (!code)
        code = product_add_wave(whitened, error);
    if (code)
        return code;
    fit->position = wave.end;
    meter_add(&fit->meter, wave.end - wave.first - (wave.own_end - wave.own_first), NULL);
    return fit_state_pass(fit, error);
}

int whitened_multiply(struct whitened *whitened, const float *y, float *out,
                      struct ivon_error *error)
{
    struct ivon_fit *fit = whitened->fit;
    size_t size = whitened->size, total = whitened->direction.size / sizeof(float);
    float *scratch = memory_aligned(size * sizeof *scratch);
    int code = scratch ? 0 : ivon_error_memory(error);
    if (code)
        return code;
    for (size_t i = 0; i < size; i++)
        out[i] = whitened->roots[i] * y[i];
    unwhiten(whitened, out, scratch, whitened->direction.arrays);
    if (!fit->position)
        memset(whitened->sums, 0, total * sizeof *whitened->sums);
    while (fit->position < fit->data.count && !code)
        code = product_run_wave(whitened, error);
    if (!code)
        fit->position = 0;
    for (size_t i = 0; i < total && !code; i++)
        whitened->direction.data[i] = (float)(whitened->sums[i] / fit->n_train);
    if (!code)
        whiten(whitened, whitened->direction.arrays, out, scratch);
    if (!code)
        add_priors(whitened, y, out);
    free(scratch);
    return code;
}

/* Memory. */

static int whitened_start(struct whitened *whitened, struct ivon_error *error)
{
    struct ivon_fit *fit = whitened->fit;
    const struct runner_bounds bounds = {.batch = fit->options.batch,
                                         .examples = TILE_MAX,
                                         .cache = TILE_MEMORY,
                                         .tiles = TILES_LEAST};
    whitened->runner = (struct runner){.network = fit->network,
                                       .mode = RUNNER_SUMS,
                                       .wanted = fit->random,
                                       .memory = fit->memory,
                                       .check = outputs_check,
                                       .check_context = &fit->outputs};
    int code = runner_choose_tile(&whitened->runner, &fit->data.feed, &bounds, error);
    if (!code)
        code = runner_start(&whitened->runner, &fit->data.feed, fit->threads, error);
    return code ? code
                : runner_set(&whitened->runner, (const float *const *)fit->mean.arrays, error);
}

static int whitened_allocate(struct whitened *whitened, struct ivon_error *error)
{
    struct ivon_fit *fit = whitened->fit;
    size_t threads = (size_t)fit->threads;
    size_t row = whitened->runner.tile * fit->outputs.tokens * fit->outputs.k;
    whitened->gradients = calloc(whitened->together, sizeof *whitened->gradients);
    whitened->adjoints = calloc(threads, sizeof *whitened->adjoints);
    whitened->lanes = calloc(whitened->together, sizeof *whitened->lanes);
    whitened->blocks = calloc(fit->layer_count + 1, sizeof *whitened->blocks);
    whitened->roots = calloc(whitened->size + 1, sizeof *whitened->roots);
    if (!whitened->gradients || !whitened->adjoints || !whitened->lanes || !whitened->blocks ||
        !whitened->roots)
        return ivon_error_memory(error);
    int code = 0;
    for (size_t i = 0; i < whitened->together && !code; i++)
        code = weights_init(&whitened->gradients[i], fit->network, error);
    for (size_t i = 0; i < threads && !code; i++) {
        whitened->adjoints[i] = calloc(2 * row + 1, sizeof(float));
        if (!code && !whitened->adjoints[i])
            code = ivon_error_memory(error);
    }
    if (code)
        return code;
    memset(whitened->direction.data, 0, whitened->direction.size);
    whitened->sums = calloc(whitened->direction.size / sizeof(float) + 1, sizeof *whitened->sums);
    for (size_t l = 0; l < fit->layer_count; l++)
        whitened->blocks[l] = fit_layer_block(&fit->layers[l]);
    whitened_roots(fit, whitened->roots);
    return whitened->sums ? 0 : ivon_error_memory(error);
}

/* The tiles of a rank's wave: one for each thread; where ranks meet behind it, as many as fit a
   cache, and one for each thread of the rank that has fewest. */
static int whitened_choose_together(struct whitened *whitened, struct ivon_error *error)
{
    struct ivon_ranks *ranks = whitened->fit->options.resources.ranks;
    struct ranks_bytes all;
    int threads, least = whitened->fit->threads;
    size_t most = WAVE_MEMORY / (whitened->direction.size + 1);
    int code = ranks_gather_all(ranks, &least, sizeof least, &all, error);
    for (int r = 0; r < ivon_ranks_count(ranks) && !code; r++) {
        memcpy(&threads, all.data + (size_t)r * sizeof threads, sizeof threads);
        least = threads < least ? threads : least;
    }
    most = most < WAVE_TILES ? most : WAVE_TILES;
    whitened->together = ranks && most > (size_t)least ? most : (size_t)least;
    ranks_bytes_release(&all);
    return code;
}

int whitened_init(struct whitened *whitened, struct ivon_fit *fit, struct ivon_error *error)
{
    *whitened = (struct whitened){.fit = fit, .size = whitened_size(fit)};
    int code = weights_init(&whitened->direction, fit->network, error);
    if (!code)
        code = whitened_choose_together(whitened, error);
    if (!code)
        code = whitened_start(whitened, error);
    return code ? code : whitened_allocate(whitened, error);
}

void whitened_release(struct whitened *whitened)
{
    for (size_t i = 0; i < whitened->together && whitened->gradients; i++)
        weights_release(&whitened->gradients[i]);
    for (int i = 0; whitened->adjoints && i < whitened->fit->threads; i++)
        free(whitened->adjoints[i]);
    runner_stop(&whitened->runner);
    weights_release(&whitened->direction);
    free(whitened->gradients);
    free(whitened->adjoints);
    free(whitened->lanes);
    free(whitened->blocks);
    free(whitened->roots);
    free(whitened->sums);
}
