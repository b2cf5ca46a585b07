#include "bayes/fit/whitened.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/error.h"
#include "core/memory.h"

enum {
    TILE_MAX = 256,         /* examples */
    TILE_MEMORY = 24 << 20, /* bytes of values and their adjoints: in a cache */
    TILES_LEAST = 8,
    PIECE = 1 << 13, /* elements of sums that a thread works on at a time */
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

/* J, Λ and Jᵀ for one tile, into its thread's gradients. */
static int product_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    struct whitened *whitened = context;
    struct ivon_fit *fit = whitened->fit;
    size_t tokens = fit->outputs.tokens, k = fit->outputs.k, all = tokens * k;
    float *adjoint = whitened->adjoints[i], *p = adjoint + whitened->runner.tile * all;
    struct runner_tile tile;
    memset(whitened->gradients[i].data, 0, whitened->gradients[i].size);
    int code = runner_run_tile(&whitened->runner, (int)i, &fit->data.feed, whitened->first_tile + i,
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

/* The tiles of the block in memory from the fit's position on. */
static int product_block(struct whitened *whitened, struct ivon_error *error)
{
    struct ivon_fit *fit = whitened->fit;
    size_t tiles = runner_tile_count(&whitened->runner, &fit->data.feed);
    size_t threads = (size_t)whitened->runner.threads, tile = whitened->runner.tile;
    size_t total = whitened->direction.size / sizeof(float);
    uint64_t end = fit->data.first + fit->data.present;
    int code = 0;
    while (fit->position < end && !code) {
        size_t at = (size_t)(fit->position - fit->data.first) / tile;
        whitened->first_tile = at;
        whitened->wave = tiles - at < threads ? tiles - at : threads;
        code = thread_pool_run(fit->pool, whitened->runner.threads, whitened->wave, product_tile,
                               whitened, error);
        if (code)
            return fit_state_leave(fit, code, error);
        code = thread_pool_run(fit->pool, whitened->runner.threads, (total + PIECE - 1) / PIECE,
                               product_sum, whitened, error);
        fit->position += whitened->wave * tile;
        fit->position = fit->position < end ? fit->position : end;
        if (!code)
            code = fit_state_offer(fit, error);
    }
    return code;
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
    while (fit->position < fit->data.count && !code) {
        if (!whitened->loaded)
            code = labelled_load(&fit->data, &whitened->runner,
                                 fit->position / fit->block * fit->block, error);
        whitened->loaded = fit->data.count <= fit->block;
        if (!code)
            code = product_block(whitened, error);
    }
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
    whitened->gradients = calloc(threads, sizeof *whitened->gradients);
    whitened->adjoints = calloc(threads, sizeof *whitened->adjoints);
    whitened->blocks = calloc(fit->layer_count + 1, sizeof *whitened->blocks);
    whitened->roots = calloc(whitened->size + 1, sizeof *whitened->roots);
    if (!whitened->gradients || !whitened->adjoints || !whitened->blocks || !whitened->roots)
        return ivon_error_memory(error);
    int code = weights_init(&whitened->direction, fit->network, error);
    for (size_t i = 0; i < threads && !code; i++) {
        code = weights_init(&whitened->gradients[i], fit->network, error);
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

int whitened_init(struct whitened *whitened, struct ivon_fit *fit, struct ivon_error *error)
{
    *whitened = (struct whitened){.fit = fit, .size = whitened_size(fit)};
    int code = whitened_start(whitened, error);
    return code ? code : whitened_allocate(whitened, error);
}

void whitened_release(struct whitened *whitened)
{
    for (int i = 0; whitened->fit && i < whitened->fit->threads; i++) {
        if (whitened->gradients)
            weights_release(&whitened->gradients[i]);
        if (whitened->adjoints)
            free(whitened->adjoints[i]);
    }
    runner_stop(&whitened->runner);
    weights_release(&whitened->direction);
    free(whitened->gradients);
    free(whitened->adjoints);
    free(whitened->blocks);
    free(whitened->roots);
    free(whitened->sums);
}
