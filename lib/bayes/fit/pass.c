/* A pass over the data, in waves of fit->lanes tiles. A tile's numbers depend on it alone, and sums
   are taken in the order of columns, tiles and chunks: on threads and ranks nothing depends. */
#include <string.h>

#include "bayes/fit/private.h"
#include "core/blas.h"
#include "core/error.h"

/* Rows ← rows U, for a layer's side; `stride` is their distance. */
static void rotate_rows(const struct fit_worker *worker, const struct fit_factor *factor,
                        size_t count, size_t stride, float *rows)
{
    size_t n = factor->rows, most = fit_rows_rotated(n);
    for (size_t first = 0; first < count; first += most, rows += most * stride) {
        size_t some = count - first < most ? count - first : most;
        blas_product(false, false, (int64_t)some, (int64_t)n, (int64_t)n, 1, rows, (int64_t)stride,
                     factor->matrix, (int64_t)n, 0, worker->rows, (int64_t)n);
        for (size_t r = 0; r < some; r++)
            memcpy(rows + r * stride, worker->rows + r * n, n * sizeof *rows);
    }
}

/* Planes ← Uᵀ planes of `positions` elements. */
static void rotate_planes(const struct fit_worker *worker, const struct fit_factor *factor,
                          size_t positions, float *planes)
{
    size_t n = factor->rows, most = fit_rows_rotated(n);
    for (size_t first = 0; first < positions; first += most, planes += most) {
        size_t some = positions - first < most ? positions - first : most;
        blas_product(true, false, (int64_t)n, (int64_t)some, (int64_t)n, 1, factor->matrix,
                     (int64_t)n, planes, (int64_t)positions, 0, worker->rows, (int64_t)some);
        for (size_t r = 0; r < n; r++)
            memcpy(planes + r * positions, worker->rows + r * some, some * sizeof *planes);
    }
}

/* The rows of a tile, of which each position has `columns`, `width` apart. */
static void rotate(const struct fit_worker *worker, const struct net_use *use,
                   const struct fit_factor *factor, size_t columns, size_t width, float *rows)
{
    size_t count = worker->tile.count * columns;
    if (!factor->rotated || factor->late)
        return;
    if (!use->planes)
        rotate_rows(worker, factor, count * use->positions, width, rows);
    for (size_t i = 0; i < count && use->planes; i++)
        rotate_planes(worker, factor, use->positions, rows + i * use->positions * width);
}

/* Rows, or bands, or the sums of their products. */
static void fetch_use(const struct fit_pass *pass, struct fit_worker *worker,
                      const struct fit_layer *layer, size_t i)
{
    const struct net_use *use = fit_use(pass->fit, worker, i);
    struct net_derivative *derivative = worker->tile.worker->derivative;
    size_t count = worker->tile.count;
    bool summed = pass->grams && worker->grams[i], banded = pass->rotate && layer->banded;
    if (summed || banded)
        net_derivative_use_bands(derivative, use, count, worker->inputs[i]);
    else
        net_derivative_use_inputs(derivative, use, count, worker->inputs[i], worker->places[i]);
    if (summed)
        fit_bands_gram(use, worker->inputs[i], count, layer->columns, worker->bands,
                       worker->grams[i]);
    if (pass->rotate && !use->lookup)
        rotate(worker, use, &layer->factors[fit_use_swapped(layer, use) ? FIT_OUTPUT : FIT_INPUT],
               1, use->inputs + (use->bias != NET_NONE), worker->inputs[i]);
}

static void fetch_inputs(const struct fit_pass *pass, struct fit_worker *worker)
{
    const struct ivon_fit *fit = pass->fit;
    for (size_t l = 0; l < fit->layer_count; l++)
        for (size_t i = 0; i < fit->layers[l].count; i++)
            fetch_use(pass, worker, &fit->layers[l], fit->layers[l].first + i);
}

/* The adjoints of one of the columns that are run back. */
static void fetch_adjoints(const struct ivon_fit *fit, struct fit_worker *worker, size_t column)
{
    for (size_t i = 0; i < fit->use_count; i++)
        net_derivative_use_adjoints(worker->tile.worker->derivative, fit_use(fit, worker, i),
                                    worker->tile.count, column, worker->columns,
                                    worker->adjoints[i]);
}

static void rotate_adjoints(const struct ivon_fit *fit, struct fit_worker *worker,
                            size_t layer_index)
{
    const struct fit_layer *layer = &fit->layers[layer_index];
    for (size_t i = layer->first; i < layer->first + layer->count; i++) {
        const struct net_use *use = fit_use(fit, worker, i);
        rotate(worker, use, &layer->factors[fit_use_swapped(layer, use) ? FIT_INPUT : FIT_OUTPUT],
               worker->columns, use->outputs, worker->adjoints[i]);
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
    if (!code && !fit->data.first && !tile->at)
        worker->probabilities = outputs_are_probabilities(&fit->outputs, tile->f,
                                                          tile->count * tokens);
    if (!code)
        code = outputs_check_finite(&fit->outputs, fit->data.examples,
                                    (fit->data.first + tile->at) * tokens, tile->f,
                                    tile->count * tokens, error);
    if (code)
        return code;
    const struct row_targets targets = labelled_targets(&fit->data, tile->at * tokens);
    likelihood_evaluate(&fit->likelihood, tile->count * tokens, tile->f, &targets, worker->p,
                        worker->losses);
    fetch_inputs(pass, worker);
    return meter_add(&fit->meter, tile->count, error);
}

static size_t columns_together(const struct fit_pass *pass)
{
    size_t left = pass->columns - pass->column;
    bool one = pass->column == FIT_RESIDUAL;
    return one ? 1 : left < pass->fit->together ? left : pass->fit->together;
}

static int run_back(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct fit_pass *pass = context;
    struct ivon_fit *fit = pass->fit;
    struct fit_worker *worker = &fit->workers[i];
    int code = 0;
    worker->columns = columns_together(pass);
    for (size_t c = 0; c < worker->columns && !code; c++) {
        fit_columns_set(fit, worker, pass->column + c, worker->adjoint);
        net_derivative_backward(worker->tile.worker->derivative, worker->adjoint, NULL);
        fetch_adjoints(fit, worker, c);
        if (pass->on_back && pass->column != FIT_RESIDUAL)
            pass->on_back(fit, worker);
        code = fit_state_ask(fit, error);
    }
    for (size_t layer = 0; layer < fit->layer_count && pass->rotate && !code; layer++)
        rotate_adjoints(fit, worker, layer);
    return code;
}

/* Σ L, in the order of examples. */
static void add_losses(const struct fit_pass *pass)
{
    struct ivon_fit *fit = pass->fit;
    for (size_t w = 0; w < pass->wave; w++)
        for (size_t r = 0; r < fit->workers[w].tile.count * fit->outputs.tokens; r++)
            fit->chunk_loss += fit->workers[w].losses[r];
}

/* A wave that was stopped before it is run back has added to no sum. */
static int fit_run_wave(struct fit_pass *pass, struct ivon_error *error)
{
    struct ivon_fit *fit = pass->fit;
    int threads = fit->threads;
    int code = thread_pool_run(fit->pool, threads, pass->wave, run_forward, pass, error);
    if (code)
        return fit_state_leave(fit, code, error);
    if (fit->stage == fit_first_stage(fit))
        add_losses(pass);
    if (pass->on_gradient) {
        pass->column = FIT_RESIDUAL;
        code = thread_pool_run(fit->pool, threads, pass->wave, run_back, pass, error);
        if (!code)
            code = pass->on_gradient(pass, error);
    }
    if (!code && pass->on_wave)
        code = pass->on_wave(pass, error);
    for (pass->column = 0; pass->column < pass->columns && !code; pass->column += fit->together) {
        code = thread_pool_run(fit->pool, threads, pass->wave, run_back, pass, error);
        if (!code && pass->on_columns)
            code = pass->on_columns(pass, error);
    }
    if (!code && pass->on_end)
        code = pass->on_end(pass, error);
    return code;
}

/* Reads the block of examples that the fit's position is in. A rank whose chunks lie apart reads no
   further than their ends. */
static int fit_load_block(struct fit_pass *pass, uint64_t end, struct ivon_error *error)
{
    struct ivon_fit *fit = pass->fit;
    struct labelled *data = &fit->data;
    uint64_t left = end - fit->position;
    bool shared = fit->options.resources.ranks;
    if (pass->loaded && fit->position >= data->first && fit->position < data->first + data->present)
        return 0;
    data->limit = shared && left < fit->block ? (size_t)left : fit->block;
    int code = labelled_load(data, &fit->runner, fit->position, error);
    data->limit = data->capacity;
    pass->loaded = !code;
    return code;
}

/* The waves from the fit's position to the end of a chunk. */
static int fit_run_chunk(struct fit_pass *pass, uint64_t end, struct ivon_error *error)
{
    struct ivon_fit *fit = pass->fit;
    const struct labelled *data = &fit->data;
    size_t tile = fit->runner.tile;
    int code = 0;
    while (fit->position < end && !code) {
        code = fit_load_block(pass, end, error);
        if (code)
            break;
        uint64_t present = data->first + data->present, most = fit->position + fit->wave;
        uint64_t last = most < end ? most : end;
        last = last < present ? last : present;
        pass->first_tile = (size_t)(fit->position - data->first) / tile;
        pass->wave = (size_t)(last - fit->position + tile - 1) / tile;
        code = fit_run_wave(pass, error);
        if (code)
            break;
        fit_state_read(fit, fit->position, last);
        fit->position = last;
        code = fit_state_offer(fit, error);
    }
    return code;
}

int fit_pass_run(struct fit_pass *pass, struct ivon_error *error)
{
    struct ivon_fit *fit = pass->fit;
    int code = fit_workers_new(fit, error);
    if (!code)
        code = fit_chunks_open(fit, error);
    if (!code && pass->rotate)
        code = fit_bands_turn(fit, error);
    while (fit->summed < fit->data.count && !code) {
        uint64_t end;
        if (fit_chunk_begin(fit, &end))
            code = fit_run_chunk(pass, end, error);
        code = fit_chunk_end(fit, code, error);
    }
    fit_workers_free(fit);
    fit_bands_release(fit);
    fit_chunks_close(fit);
    if (!code)
        fit->position = fit->summed = 0;
    return code;
}
