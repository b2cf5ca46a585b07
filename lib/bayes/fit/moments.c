/*
 * h = (1/N) Σ_n E (U_Bᵀ G_n U_A)² of layers, element by element, and (1/N) Σ_n E g_n² of other
 * parameters. With rows a' = U_Aᵀ a and d' = U_Bᵀ d of an example G' = Σ_t d' a'ᵀ; where it has one
 * row, G'² = d'² a'²ᵀ, and the squares of all columns are summed before the product.
 */
#include <string.h>

#include "bayes/fit/private.h"
#include "core/blas.h"
#include "core/error.h"
#include "net/derivative/vectors.h"

/* In the thread of a tile. */

static int start_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct fit_pass *pass = context;
    const struct ivon_fit *fit = pass->fit;
    struct fit_worker *worker = &fit->workers[i];
    memset(worker->squares, 0, (fit->diagonal_count + 1) * sizeof *worker->squares);
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct fit_layer *layer = &fit->layers[l];
        if (!layer->single)
            continue;
        const struct net_use *use = fit_use(fit, worker, layer->first);
        derivative_square(worker->inputs[layer->first],
                          worker->tile.count * (use->inputs + (use->bias != NET_NONE)));
        memset(worker->sums[layer->first], 0, worker->tile.count * use->outputs * sizeof(float));
    }
    return 0;
}

/* With the adjoints of one column. */
static void square_diagonal(const struct ivon_fit *fit, struct fit_worker *worker)
{
    float weight = (float)fit_columns_weight(fit);
    for (size_t p = 0; p < fit->network->parameter_count; p++) {
        size_t count = fit->parameter_counts[p];
        if (!fit->diagonal[p])
            continue;
        net_derivative_gradients(worker->tile.worker->derivative, p, worker->tile.count,
                                 worker->gradients);
        for (size_t e = 0; e < worker->tile.count; e++)
            derivative_add_products(worker->squares + fit->diagonal_at[p], weight,
                                    worker->gradients + e * count, worker->gradients + e * count,
                                    count);
    }
}

static int square_columns(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct fit_pass *pass = context;
    const struct ivon_fit *fit = pass->fit;
    struct fit_worker *worker = &fit->workers[i];
    float weight = (float)fit_columns_weight(fit);
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct fit_layer *layer = &fit->layers[l];
        for (size_t r = 0; r < worker->tile.count * worker->columns && layer->single; r++) {
            const float *d = worker->adjoints[layer->first] + r * layer->outputs;
            derivative_add_products(worker->sums[layer->first] +
                                        r / worker->columns * layer->outputs,
                                    weight, d, d, layer->outputs);
        }
    }
    return 0;
}

/* Panels of h. */

/* h += d²ᵀ a² over the rows of a tile. */
static void add_single(const struct ivon_fit *fit, const struct fit_worker *worker,
                       const struct fit_layer *layer, const struct fit_panel *panel)
{
    const struct net_use *use = fit_use(fit, worker, layer->first);
    size_t n = layer->columns, stride = use->inputs + (use->bias != NET_NONE);
    blas_product(true, false, (int64_t)panel->count, (int64_t)n, (int64_t)worker->tile.count, 1,
                 worker->sums[layer->first] + panel->first, (int64_t)layer->outputs,
                 worker->inputs[layer->first], (int64_t)stride, 1, layer->h_sums + panel->first * n,
                 (int64_t)n);
}

/* h += G'² where lookups alone made G', which becomes 0 again. */
static void flush_lookup(const struct net_use *use, const struct fit_panel *panel,
                         const int64_t *places, size_t n, float weight, float *g, float *h)
{
    for (size_t t = 0; t < use->positions; t++)
        for (size_t i = 0; i < panel->count; i++) {
            float *at = &g[i * n + (size_t)places[t]];
            h[i * n + (size_t)places[t]] += weight * (*at * *at);
            *at = 0;
        }
}

static void flush_lookups(const struct ivon_fit *fit, const struct fit_worker *worker,
                          const struct fit_panel *panel, size_t e, float *g, float *h)
{
    const struct fit_layer *layer = &fit->layers[panel->layer];
    float weight = (float)fit_columns_weight(fit);
    for (size_t i = layer->first; i < layer->first + layer->count; i++) {
        const struct net_use *use = fit_use(fit, worker, i);
        for (size_t c = 0; c < worker->columns; c++)
            flush_lookup(use, panel, worker->places[i] + e * use->positions, layer->columns, weight,
                         g + c * panel->count * layer->columns, h);
    }
}

static void add_examples(const struct ivon_fit *fit, const struct fit_worker *worker,
                         const struct fit_panel *panel, const struct fit_worker *own)
{
    const struct fit_layer *layer = &fit->layers[panel->layer];
    size_t n = layer->columns, size = panel->count * n;
    float weight = (float)fit_columns_weight(fit), *h = layer->h_sums + panel->first * n;
    float *g = own->panel;
    if (layer->lookups)
        memset(g, 0, worker->columns * size * sizeof *g);
    for (size_t e = 0; e < worker->tile.count; e++) {
        if (fit_panel_gradient(fit, worker, panel, e, 1, own, layer->lookups, g)) {
            flush_lookups(fit, worker, panel, e, g, h);
            continue;
        }
        for (size_t c = 0; c < worker->columns; c++)
            derivative_add_products(h, weight, g + c * size, g + c * size, size);
        if (layer->lookups)
            memset(g, 0, worker->columns * size * sizeof *g);
    }
}

static int add_column_panel(void *context, size_t job, int thread, struct ivon_error *error)
{
    (void)error;
    const struct fit_pass *pass = context;
    const struct ivon_fit *fit = pass->fit;
    const struct fit_panel *panel = &fit->moment_panels[job];
    const struct fit_layer *layer = &fit->layers[panel->layer];
    for (size_t w = 0; w < pass->wave && !layer->single && !layer->product; w++)
        add_examples(fit, &fit->workers[w], panel, &fit->workers[thread]);
    return 0;
}

static int add_single_panel(void *context, size_t job, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct fit_pass *pass = context;
    const struct ivon_fit *fit = pass->fit;
    const struct fit_panel *panel = &fit->moment_panels[job];
    const struct fit_layer *layer = &fit->layers[panel->layer];
    for (size_t w = 0; w < pass->wave && layer->single && !layer->product; w++)
        add_single(fit, &fit->workers[w], layer, panel);
    return 0;
}

/* Waves. */

static int start_wave(struct fit_pass *pass, struct ivon_error *error)
{
    return thread_pool_run(pass->fit->pool, pass->fit->threads, pass->wave, start_tile, pass,
                           error);
}

static int moments_add_columns(struct fit_pass *pass, struct ivon_error *error)
{
    struct ivon_fit *fit = pass->fit;
    int threads = fit->threads;
    int code = thread_pool_run(fit->pool, threads, pass->wave, square_columns, pass, error);
    return code ? code
                : thread_pool_run(fit->pool, threads, fit->moment_panel_count, add_column_panel,
                                  pass, error);
}

static int end_wave(struct fit_pass *pass, struct ivon_error *error)
{
    struct ivon_fit *fit = pass->fit;
    for (size_t w = 0; w < pass->wave; w++)
        for (size_t p = 0; p < fit->network->parameter_count; p++)
            if (fit->diagonal[p])
                derivative_add(fit->diagonal_sums[p], fit->workers[w].squares + fit->diagonal_at[p],
                               fit->parameter_counts[p]);
    return thread_pool_run(fit->pool, fit->threads, fit->moment_panel_count, add_single_panel, pass,
                           error);
}

static void scale_moments(const struct ivon_fit *fit, float *h, size_t count)
{
    for (size_t i = 0; i < count; i++)
        h[i] = (float)((double)h[i] / fit->n_train);
}

/* Of K-FAC. */
static void multiply_spectra(const struct fit_layer *layer)
{
    const float *a = layer->factors[FIT_INPUT].spectrum;
    const float *b = layer->factors[FIT_OUTPUT].spectrum;
    for (size_t i = 0; i < layer->outputs; i++)
        for (size_t j = 0; j < layer->columns; j++)
            layer->h[i * layer->columns + j] = b[i] * a[j];
}

int fit_moments_run(struct ivon_fit *fit, struct ivon_error *error)
{
    struct fit_pass pass = {.fit = fit,
                            .columns = fit->columns,
                            .rotate = true,
                            .on_gradient = fit_gradient_add,
                            .on_wave = start_wave,
                            .on_back = square_diagonal,
                            .on_columns = moments_add_columns,
                            .on_end = end_wave};
    fit->stage = FIT_MOMENTS;
    int code = fit_pass_run(&pass, error);
    for (size_t l = 0; l < fit->layer_count && !code; l++) {
        const struct fit_layer *layer = &fit->layers[l];
        if (layer->product)
            multiply_spectra(layer);
        else
            scale_moments(fit, layer->h, layer->outputs * layer->columns);
    }
    for (size_t p = 0; p < fit->network->parameter_count && !code; p++)
        if (fit->diagonal[p])
            scale_moments(fit, fit->diagonal[p], fit->parameter_counts[p]);
    return code;
}
