/* A pass over the data, in waves of fit->lanes tiles. A tile's numbers depend on it alone, and sums
   are taken in the order of columns and tiles: on threads nothing depends. */
#include <string.h>

#include "bayes/fit/private.h"
#include "core/blas.h"
#include "core/error.h"

static size_t use_rows(const struct fit_worker *worker, const struct net_use *use)
{
    return worker->tile.count * use->positions;
}

/* Rows ← rows U, for a layer's side; `stride` is their distance. */
static void rotate(const struct fit_worker *worker, const struct fit_factor *factor, size_t count,
                   size_t stride, float *rows)
{
    size_t n = factor->rows;
    if (!factor->rotated || !count)
        return;
    blas_product(false, false, (int64_t)count, (int64_t)n, (int64_t)n, 1, rows, (int64_t)stride,
                 factor->matrix, (int64_t)n, 0, worker->rows, (int64_t)n);
    for (size_t r = 0; r < count; r++)
        memcpy(rows + r * stride, worker->rows + r * n, n * sizeof *rows);
}

static void fetch_inputs(const struct fit_pass *pass, struct fit_worker *worker, size_t layer_index)
{
    const struct ivon_fit *fit = pass->fit;
    const struct fit_layer *layer = &fit->layers[layer_index];
    for (size_t i = layer->first; i < layer->first + layer->count; i++) {
        const struct net_use *use = fit_use(fit, worker, i);
        net_derivative_use_inputs(worker->tile.worker->derivative, use, worker->tile.count,
                                  worker->inputs[i], worker->places[i]);
        if (pass->rotate && !use->lookup)
            rotate(worker, &layer->factors[fit_use_swapped(layer, use) ? FIT_OUTPUT : FIT_INPUT],
                   use_rows(worker, use), use->inputs + (use->bias != NET_NONE), worker->inputs[i]);
    }
}

static void fetch_adjoints(const struct fit_pass *pass, struct fit_worker *worker,
                           size_t layer_index)
{
    const struct ivon_fit *fit = pass->fit;
    const struct fit_layer *layer = &fit->layers[layer_index];
    for (size_t i = layer->first; i < layer->first + layer->count; i++) {
        const struct net_use *use = fit_use(fit, worker, i);
        net_derivative_use_adjoints(worker->tile.worker->derivative, use, worker->tile.count,
                                    worker->adjoints[i]);
        if (pass->rotate)
            rotate(worker, &layer->factors[fit_use_swapped(layer, use) ? FIT_INPUT : FIT_OUTPUT],
                   use_rows(worker, use), use->outputs, worker->adjoints[i]);
    }
}

/* Jobs of a wave: one tile for each. */

static int run_forward(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct fit_pass *pass = context;
    struct ivon_fit *fit = pass->fit;
    struct fit_worker *worker = &fit->workers[i];
    struct runner_tile *tile = &worker->tile;
    size_t tokens = fit->outputs.tokens;
    int code = runner_run_tile(&fit->runner, (int)i, &fit->data.feed, pass->first_tile + i, tile,
                               error);
    if (!code)
        code = outputs_check_finite(&fit->outputs, ivon_examples_path(fit->data.examples),
                                    (fit->data.first + tile->at) * tokens, tile->f,
                                    tile->count * tokens, error);
    if (code)
        return code;
    const struct row_targets targets = labelled_targets(&fit->data, tile->at * tokens);
    likelihood_evaluate(&fit->likelihood, tile->count * tokens, tile->f, &targets, worker->p,
                        worker->losses);
    for (size_t layer = 0; layer < fit->layer_count; layer++)
        fetch_inputs(pass, worker, layer);
    return meter_add(&fit->meter, tile->count, error);
}

static int run_back(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct fit_pass *pass = context;
    struct fit_worker *worker = &pass->fit->workers[i];
    fit_columns_set(pass->fit, worker, pass->column, worker->adjoint);
    net_derivative_backward(worker->tile.worker->derivative, worker->adjoint, NULL);
    for (size_t layer = 0; layer < pass->fit->layer_count; layer++)
        fetch_adjoints(pass, worker, layer);
    return progress_ask(&pass->fit->options.resources.progress, error);
}

/* Σ L, in the order of examples. */
static void add_losses(const struct fit_pass *pass)
{
    struct ivon_fit *fit = pass->fit;
    for (size_t w = 0; w < pass->wave; w++)
        for (size_t r = 0; r < fit->workers[w].tile.count * fit->outputs.tokens; r++)
            fit->loss += fit->workers[w].losses[r];
}

static int fit_run_wave(struct fit_pass *pass, struct ivon_error *error)
{
    struct ivon_fit *fit = pass->fit;
    int threads = fit->threads;
    int code = thread_pool_run(fit->pool, threads, pass->wave, run_forward, pass, error);
    if (!code && !fit->passes)
        add_losses(pass);
    if (!code && pass->on_wave)
        code = pass->on_wave(pass, error);
    for (pass->column = 0; pass->column < pass->columns && !code; pass->column++) {
        code = thread_pool_run(fit->pool, threads, pass->wave, run_back, pass, error);
        if (!code && pass->on_column)
            code = pass->on_column(pass, error);
    }
    if (!code && pass->on_end)
        code = pass->on_end(pass, error);
    return code;
}

int fit_pass_run(struct fit_pass *pass, struct ivon_error *error)
{
    struct ivon_fit *fit = pass->fit;
    int code = fit_workers_new(fit, error);
    for (uint64_t first = 0; first < fit->data.count && !code; first += fit->block) {
        code = labelled_load(&fit->data, &fit->runner, first, error);
        size_t tiles = runner_tile_count(&fit->runner, &fit->data.feed);
        size_t lanes = (size_t)fit->lanes;
        for (size_t at = 0; at < tiles && !code; at += lanes) {
            pass->first_tile = at;
            pass->wave = tiles - at < lanes ? tiles - at : lanes;
            code = fit_run_wave(pass, error);
        }
    }
    fit->passes++;
    fit_workers_free(fit);
    return code;
}
