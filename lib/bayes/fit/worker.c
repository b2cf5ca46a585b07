/* The memory of a fit's threads, which they have for one pass: of a large network it is more than
   that of the factors, and their eigenvectors take theirs. */
#include <stdlib.h>

#include "bayes/fit/private.h"
#include "core/error.h"
#include "core/memory.h"

static bool make_rows(const struct ivon_fit *fit, struct fit_worker *worker,
                      const struct net_use *use, size_t i, size_t *longest)
{
    size_t rows = fit->runner.tile * use->positions, width = use->inputs + 1;
    size_t inputs = rows * width, outputs = rows * use->outputs;
    worker->inputs[i] = use->lookup ? NULL : memory_aligned(inputs * sizeof(float));
    worker->places[i] = use->lookup ? calloc(rows + 1, sizeof(int64_t)) : NULL;
    worker->adjoints[i] = memory_aligned(outputs * sizeof(float));
    worker->sums[i] = use->positions == 1 ? calloc(outputs + 1, sizeof(float)) : NULL;
    *longest = !use->lookup && inputs > *longest ? inputs : *longest;
    *longest = outputs > *longest ? outputs : *longest;
    return (use->lookup ? worker->places[i] != NULL : worker->inputs[i] != NULL) &&
           worker->adjoints[i] && (use->positions > 1 || worker->sums[i]);
}

static int fit_worker_new(const struct ivon_fit *fit, struct fit_worker *worker,
                          struct runner_worker *runs, struct ivon_error *error)
{
    size_t rows = fit->runner.tile * fit->outputs.tokens, all = rows * fit->outputs.k;
    size_t longest = 0, widest = 0, panel = 0;
    worker->tile.worker = runs;
    worker->p = calloc(all, sizeof *worker->p);
    worker->adjoint = calloc(all, sizeof *worker->adjoint);
    worker->losses = calloc(rows, sizeof *worker->losses);
    worker->inputs = calloc(fit->use_count + 1, sizeof *worker->inputs);
    worker->places = calloc(fit->use_count + 1, sizeof *worker->places);
    worker->adjoints = calloc(fit->use_count + 1, sizeof *worker->adjoints);
    worker->sums = calloc(fit->use_count + 1, sizeof *worker->sums);
    if (!worker->p || !worker->adjoint || !worker->losses || !worker->inputs || !worker->places ||
        !worker->adjoints || !worker->sums)
        return ivon_error_memory(error);
    for (size_t i = 0; i < fit->use_count; i++)
        if (!make_rows(fit, worker, fit_use(fit, worker, i), i, &longest))
            return ivon_error_memory(error);
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        if (fit->diagonal[p] && fit->parameter_counts[p] > widest)
            widest = fit->parameter_counts[p];
    for (size_t i = 0; i < fit->moment_panel_count; i++) {
        const struct fit_panel *at = &fit->moment_panels[i];
        size_t size = at->count * fit->layers[at->layer].columns;
        panel = size > panel ? size : panel;
    }
    worker->rows = memory_aligned(longest * sizeof *worker->rows);
    worker->gradients = calloc(fit->runner.tile * widest + 1, sizeof *worker->gradients);
    worker->squares = calloc(fit->diagonal_count + 1, sizeof *worker->squares);
    worker->panel = memory_aligned(panel * sizeof *worker->panel);
    return worker->rows && worker->gradients && worker->squares && worker->panel
               ? 0
               : ivon_error_memory(error);
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
        if (worker->adjoints)
            free(worker->adjoints[i]);
        if (worker->sums)
            free(worker->sums[i]);
    }
    void *all[] = {worker->p,       worker->adjoint, worker->losses,   worker->inputs,
                   worker->places,  worker->sums,    worker->adjoints, worker->rows,
                   worker->squares, worker->panel,   worker->gradients};
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
