/* The memory of a fit's threads, which they have for one pass: of a large network it is more than
   that of the factors, and their eigenvectors take theirs. */
#include <stdlib.h>

#include "bayes/fit/private.h"
#include "core/error.h"
#include "core/memory.h"

size_t fit_rows_rotated(size_t n)
{
    enum { SIZE = 1 << 15 /* elements: they stay in a cache */, LEAST = 256 };
    return n < SIZE / LEAST ? SIZE / (n + 1) : LEAST;
}

static bool make_grams(const struct ivon_fit *fit, struct fit_worker *worker)
{
    size_t sums = 0;
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct fit_layer *layer = &fit->layers[l];
        for (size_t i = layer->first; i < layer->first + layer->count; i++) {
            const struct net_use *use = fit_use(fit, worker, i);
            if (!fit_bands_serve(fit, layer, use))
                continue;
            worker->grams[i] = memory_aligned(layer->columns * layer->columns * sizeof(float));
            if (!worker->grams[i])
                return false;
            sums = fit_bands_sums(use) > sums ? fit_bands_sums(use) : sums;
        }
    }
    worker->bands = memory_aligned(sums * sizeof *worker->bands);
    return worker->bands != NULL;
}

static bool make_rows(const struct ivon_fit *fit, struct fit_worker *worker,
                      const struct net_use *use, size_t i)
{
    size_t rows = fit->runner.tile * use->positions, outputs = rows * use->outputs;
    worker->inputs[i] = use->lookup ? NULL
                                    : memory_aligned(rows * (use->inputs + 1) * sizeof(float));
    worker->places[i] = use->lookup ? calloc(rows + 1, sizeof(int64_t)) : NULL;
    worker->adjoints[i] = memory_aligned(outputs * fit->together * sizeof(float));
    worker->sums[i] = use->positions == 1 ? calloc(outputs + 1, sizeof(float)) : NULL;
    return (use->lookup ? worker->places[i] != NULL : worker->inputs[i] != NULL) &&
           worker->adjoints[i] && (use->positions > 1 || worker->sums[i]);
}

/* For the largest of the layers. */
static bool make_scratch(const struct ivon_fit *fit, struct fit_worker *worker)
{
    size_t rotated = 0, panel = 0, unturned = 0;
    for (size_t i = 0; i < FIT_SIDES * fit->layer_count; i++) {
        const struct fit_factor *factor = &fit->layers[i / FIT_SIDES].factors[i % FIT_SIDES];
        size_t size = factor->rotated ? fit_rows_rotated(factor->rows) * factor->rows : 0;
        rotated = size > rotated ? size : rotated;
    }
    for (size_t i = 0; i < fit->factor_panel_count; i++) {
        const struct fit_panel *at = &fit->factor_panels[i];
        size_t size = at->count * fit->layers[at->layer].factors[at->side].rows;
        panel = size > panel ? size : panel;
    }
    for (size_t i = 0; i < fit->moment_panel_count; i++) {
        const struct fit_panel *at = &fit->moment_panels[i];
        const struct fit_layer *layer = &fit->layers[at->layer];
        size_t rows = fit->together * at->count, size = rows * layer->columns;
        bool late = layer->factors[FIT_INPUT].late || layer->factors[FIT_OUTPUT].late;
        panel = size > panel ? size : panel;
        if (layer->banded)
            size = rows * fit_bands_columns(fit_use(fit, worker, layer->first));
        unturned = late && size > unturned ? size : unturned;
    }
    worker->rows = memory_aligned(rotated * sizeof *worker->rows);
    worker->panel = memory_aligned(panel * sizeof *worker->panel);
    worker->unturned[0] = memory_aligned(unturned * sizeof(float));
    worker->unturned[1] = memory_aligned(unturned * sizeof(float));
    return worker->rows && worker->panel && worker->unturned[0] && worker->unturned[1];
}

static int fit_worker_new(const struct ivon_fit *fit, struct fit_worker *worker,
                          struct runner_worker *runs, struct ivon_error *error)
{
    size_t rows = fit->runner.tile * fit->outputs.tokens, all = rows * fit->outputs.k;
    size_t widest = 0;
    worker->tile.worker = runs;
    worker->p = calloc(all, sizeof *worker->p);
    worker->adjoint = calloc(all, sizeof *worker->adjoint);
    worker->losses = calloc(rows, sizeof *worker->losses);
    worker->inputs = calloc(fit->use_count + 1, sizeof *worker->inputs);
    worker->places = calloc(fit->use_count + 1, sizeof *worker->places);
    worker->grams = calloc(fit->use_count + 1, sizeof *worker->grams);
    worker->adjoints = calloc(fit->use_count + 1, sizeof *worker->adjoints);
    worker->sums = calloc(fit->use_count + 1, sizeof *worker->sums);
    if (!worker->p || !worker->adjoint || !worker->losses || !worker->inputs || !worker->places ||
        !worker->adjoints || !worker->sums || !worker->grams || !make_scratch(fit, worker) ||
        !make_grams(fit, worker))
        return ivon_error_memory(error);
    for (size_t i = 0; i < fit->use_count; i++)
        if (!make_rows(fit, worker, fit_use(fit, worker, i), i))
            return ivon_error_memory(error);
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        if (fit->diagonal[p] && fit->parameter_counts[p] > widest)
            widest = fit->parameter_counts[p];
    worker->gradients = calloc(fit->runner.tile * widest + 1, sizeof *worker->gradients);
    worker->squares = calloc(fit->diagonal_count + 1, sizeof *worker->squares);
    return worker->gradients && worker->squares ? 0 : ivon_error_memory(error);
}

int fit_workers_new(struct ivon_fit *fit, struct ivon_error *error)
{
    int code = runner_start(&fit->runner, &fit->data.feed, fit->lanes, error);
    if (!code)
        code = runner_set(&fit->runner, (const float *const *)fit->mean.arrays, error);
    fit->workers = calloc((size_t)fit->lanes, sizeof *fit->workers);
    if (!code && !fit->workers)
        code = ivon_error_memory(error);
    for (int i = 0; i < fit->lanes && !code; i++)
        code = fit_worker_new(fit, &fit->workers[i], &fit->runner.workers[i], error);
    return code;
}

static void fit_worker_release(const struct ivon_fit *fit, struct fit_worker *worker)
{
    for (size_t i = 0; i < fit->use_count; i++) {
        if (worker->inputs)
            free(worker->inputs[i]);
        if (worker->places)
            free(worker->places[i]);
        if (worker->grams)
            free(worker->grams[i]);
        if (worker->adjoints)
            free(worker->adjoints[i]);
        if (worker->sums)
            free(worker->sums[i]);
    }
    void *all[] = {worker->p,         worker->adjoint, worker->losses,      worker->inputs,
                   worker->places,    worker->sums,    worker->adjoints,    worker->rows,
                   worker->squares,   worker->panel,   worker->unturned[0], worker->unturned[1],
                   worker->gradients, worker->grams,   worker->bands};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

void fit_workers_free(struct ivon_fit *fit)
{
    for (int i = 0; i < fit->lanes && fit->workers; i++) {
        fit->probabilities |= fit->workers[i].probabilities;
        fit_worker_release(fit, &fit->workers[i]);
    }
    free(fit->workers);
    fit->workers = NULL;
    runner_stop(&fit->runner);
}
