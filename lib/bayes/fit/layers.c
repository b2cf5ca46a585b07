/* The weights that enter by products, and how their sums are shared among threads. */
#include <stdlib.h>
#include <string.h>

#include "bayes/fit/private.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/memory.h"
#include "net/derivative/metric.h"

enum {
    FACTOR_ROWS = 8192,   /* by default */
    FACTOR_PANEL = 128,   /* rows of a factor that a thread sums at a time */
    PANEL_SIZE = 1 << 18, /* elements of h, likewise */
};

const struct net_use *fit_use(const struct ivon_fit *fit, const struct fit_worker *worker,
                              size_t use)
{
    size_t count;
    return &net_derivative_uses(worker->tile.worker->derivative, &count)[fit->uses[use]];
}

bool fit_use_swapped(const struct fit_layer *layer, const struct net_use *use)
{
    return use->transposed != layer->transposed;
}

int fit_refuse_infinite(const struct ivon_fit *fit, size_t parameter, struct ivon_error *error)
{
    return ivon_error_set(
        error, IVON_ERROR_DATA,
        "%s: the curvature at '%s' is not a finite number: weights or inputs are too large",
        ivon_source_path(fit->source),
        ivon_source_tensor(fit->source, fit->network->parameters[parameter])->name);
}

/* Gradients. */

/* G' += d' at the columns that a lookup's inputs name. */
static void panel_add_lookup(const struct net_use *use, const struct fit_panel *panel,
                             const float *d, const int64_t *places, size_t count, size_t n,
                             float *g)
{
    for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < panel->count; i++)
            g[i * n + (size_t)places[t]] += d[t * use->outputs + panel->first + i];
}

bool fit_panel_gradient(const struct ivon_fit *fit, const struct fit_worker *worker,
                        const struct fit_panel *panel, size_t first, size_t count, float *g)
{
    const struct fit_layer *layer = &fit->layers[panel->layer];
    size_t n = layer->columns;
    bool lookups = true;
    for (size_t i = layer->first; i < layer->first + layer->count; i++) {
        const struct net_use *use = fit_use(fit, worker, i);
        size_t at = first * use->positions, t = count * use->positions;
        size_t stride = use->inputs + (use->bias != NET_NONE);
        const float *d = worker->adjoints[i] + at * use->outputs;
        const float *a = use->lookup ? NULL : worker->inputs[i] + at * stride;
        if (use->lookup) {
            panel_add_lookup(use, panel, d, worker->places[i] + at, t, n, g);
            continue;
        }
        lookups = false;
        bool swapped = fit_use_swapped(layer, use);
        blas_product(true, false, (int64_t)panel->count, (int64_t)n, (int64_t)t, 1,
                     (swapped ? a : d) + panel->first, (int64_t)(swapped ? stride : use->outputs),
                     swapped ? d : a, (int64_t)(swapped ? use->outputs : stride), 1, g, (int64_t)n);
    }
    return lookups;
}

/* Layers. */

static struct fit_layer *find_layer(struct ivon_fit *fit, size_t weight)
{
    for (size_t i = 0; i < fit->layer_count; i++)
        if (fit->layers[i].weight == weight)
            return &fit->layers[i];
    return NULL;
}

static void add_layer(struct ivon_fit *fit, const struct net_use *use)
{
    fit->layers[fit->layer_count++] = (struct fit_layer){.weight = use->weight,
                                                         .bias = NET_NONE,
                                                         .outputs = use->outputs,
                                                         .columns = use->inputs,
                                                         .transposed = use->transposed,
                                                         .single = !use->lookup &&
                                                                   use->positions == 1};
}

/* Lists each layer's uses one after the other. */
static void group_uses(struct ivon_fit *fit, const struct net_use *uses, size_t count)
{
    for (size_t i = 0; i < fit->layer_count; i++) {
        struct fit_layer *layer = &fit->layers[i];
        layer->first = fit->use_count;
        for (size_t u = 0; u < count; u++)
            if (uses[u].weight == layer->weight)
                fit->uses[fit->use_count++] = u;
        layer->count = fit->use_count - layer->first;
        for (size_t u = layer->first; u < fit->use_count; u++)
            layer->mixed |= fit_use_swapped(layer, &uses[fit->uses[u]]);
        layer->single = layer->single && layer->count == 1;
        size_t bias = layer->count == 1 ? uses[fit->uses[layer->first]].bias : NET_NONE;
        if (bias != NET_NONE && fit->random[bias] && !fit->options.gram) {
            layer->bias = bias;
            layer->columns++;
        }
    }
}

/* The inputs of lookups are too many for a basis, and would not stay places in it. */
static bool is_looked_up(const struct ivon_fit *fit, const struct fit_layer *layer,
                         const struct net_use *uses)
{
    bool any = false;
    for (size_t u = 0; u < layer->count; u++)
        any |= uses[fit->uses[layer->first + u]].lookup;
    return any;
}

static void choose_sides(const struct ivon_fit *fit, struct fit_layer *layer,
                         const struct net_use *uses)
{
    const struct ivon_fit_options *options = &fit->options;
    size_t most = options->factor_rows ? options->factor_rows : FACTOR_ROWS;
    bool kronecker = options->structure == IVON_FIT_KRONECKER;
    layer->factors[FIT_INPUT].rows = layer->columns;
    layer->factors[FIT_OUTPUT].rows = layer->outputs;
    layer->factors[FIT_INPUT].rotated = (kronecker || options->gram) && layer->columns <= most &&
                                        !is_looked_up(fit, layer, uses);
    layer->factors[FIT_OUTPUT].rotated = kronecker && !options->gram && layer->outputs <= most;
    layer->product = options->factor_moments && !layer->mixed &&
                     layer->factors[FIT_INPUT].rotated && layer->factors[FIT_OUTPUT].rotated;
}

static bool allocate_layer(const struct ivon_fit *fit, struct fit_layer *layer)
{
    for (enum fit_side side = FIT_INPUT; side < FIT_SIDES; side++) {
        struct fit_factor *factor = &layer->factors[side];
        size_t rows = factor->rows, size = rows * rows * sizeof *factor->matrix;
        if (!factor->rotated)
            continue;
        factor->matrix = memory_aligned(size);
        factor->spectrum = calloc(rows + 1, sizeof *factor->spectrum);
        if (!factor->matrix || !factor->spectrum)
            return false;
        memset(factor->matrix, 0, size);
    }
    size_t size = layer->outputs * layer->columns * sizeof *layer->h;
    if (fit->options.gram)
        return true;
    layer->h = memory_aligned(size);
    layer->gradient = memory_aligned(size);
    if (!layer->h || !layer->gradient)
        return false;
    memset(layer->h, 0, size);
    memset(layer->gradient, 0, size);
    return true;
}

struct net_block fit_layer_block(const struct fit_layer *layer)
{
    return (struct net_block){.weight = layer->weight,
                              .bias = layer->bias,
                              .rows = layer->outputs,
                              .columns = layer->columns,
                              .transposed = layer->transposed,
                              .input_basis = layer->factors[FIT_INPUT].matrix,
                              .output_basis = layer->factors[FIT_OUTPUT].matrix};
}

/* Panels. */

static void add_panels(struct fit_panel *panels, size_t *count, size_t layer, enum fit_side side,
                       size_t rows, size_t step)
{
    for (size_t first = 0; first < rows; first += step, ++*count)
        if (panels)
            panels[*count] = (struct fit_panel){layer, side, first,
                                                rows - first < step ? rows - first : step};
}

/* Rows of h at a time, of which each has as many elements as the layer has columns. */
static size_t moment_rows(const struct fit_layer *layer)
{
    size_t rows = PANEL_SIZE / (layer->columns + 1);
    return rows ? rows : 1;
}

static void list_panels(const struct ivon_fit *fit, struct fit_panel *factors,
                        struct fit_panel *moments, size_t *factor_count, size_t *moment_count)
{
    *factor_count = *moment_count = 0;
    for (size_t i = 0; i < fit->layer_count; i++) {
        const struct fit_layer *layer = &fit->layers[i];
        for (enum fit_side side = FIT_INPUT; side < FIT_SIDES; side++)
            if (layer->factors[side].rotated)
                add_panels(factors, factor_count, i, side, layer->factors[side].rows, FACTOR_PANEL);
        add_panels(moments, moment_count, i, FIT_OUTPUT, layer->outputs, moment_rows(layer));
    }
}

static int make_panels(struct ivon_fit *fit, struct ivon_error *error)
{
    list_panels(fit, NULL, NULL, &fit->factor_panel_count, &fit->moment_panel_count);
    fit->factor_panels = calloc(fit->factor_panel_count + 1, sizeof *fit->factor_panels);
    fit->moment_panels = calloc(fit->moment_panel_count + 1, sizeof *fit->moment_panels);
    if (!fit->factor_panels || !fit->moment_panels)
        return ivon_error_memory(error);
    list_panels(fit, fit->factor_panels, fit->moment_panels, &fit->factor_panel_count,
                &fit->moment_panel_count);
    return 0;
}

/* Diagonal parameters: those of no layer. */

static int make_diagonal(struct ivon_fit *fit, struct ivon_error *error)
{
    size_t count = fit->network->parameter_count;
    fit->diagonal = calloc(count + 1, sizeof *fit->diagonal);
    fit->diagonal_at = calloc(count + 1, sizeof *fit->diagonal_at);
    if (!fit->diagonal || !fit->diagonal_at)
        return ivon_error_memory(error);
    for (size_t p = 0; p < count && !fit->options.gram; p++) {
        bool in_layer = false;
        for (size_t i = 0; i < fit->layer_count; i++)
            in_layer |= fit->layers[i].weight == p || fit->layers[i].bias == p;
        if (in_layer || !fit->random[p])
            continue;
        fit->diagonal[p] = calloc(fit->parameter_counts[p] + 1, sizeof *fit->diagonal[p]);
        if (!fit->diagonal[p])
            return ivon_error_memory(error);
        fit->diagonal_at[p] = fit->diagonal_count;
        fit->diagonal_count += fit->parameter_counts[p];
    }
    fit->diagonal_gradient = calloc(fit->diagonal_count + 1, sizeof *fit->diagonal_gradient);
    if (!fit->diagonal_gradient)
        return ivon_error_memory(error);
    return 0;
}

size_t fit_layers_bytes(const struct ivon_fit *fit)
{
    size_t bytes = 2 * fit->diagonal_count * sizeof(float);
    for (size_t i = 0; i < fit->layer_count; i++) {
        const struct fit_layer *layer = &fit->layers[i];
        for (enum fit_side side = FIT_INPUT; side < FIT_SIDES; side++)
            if (layer->factors[side].rotated)
                bytes += layer->factors[side].rows * layer->factors[side].rows * sizeof(float);
        bytes += fit->options.gram ? 0 : 2 * layer->outputs * layer->columns * sizeof(float);
    }
    return bytes;
}

int fit_layers_new(struct ivon_fit *fit, const struct net_derivative *derivative,
                   struct ivon_error *error)
{
    size_t count;
    const struct net_use *uses = net_derivative_uses(derivative, &count);
    fit->layers = calloc(count + 1, sizeof *fit->layers);
    fit->uses = calloc(count + 1, sizeof *fit->uses);
    if (!fit->layers || !fit->uses)
        return ivon_error_memory(error);
    for (int lookups = 1; lookups >= 0; lookups--) /* which decide the orientation */
        for (size_t u = 0; u < count; u++)
            if (fit->random[uses[u].weight] && uses[u].complete && uses[u].lookup == lookups &&
                !find_layer(fit, uses[u].weight))
                add_layer(fit, &uses[u]);
    group_uses(fit, uses, count);
    for (size_t i = 0; i < fit->layer_count; i++) {
        choose_sides(fit, &fit->layers[i], uses);
        if (!allocate_layer(fit, &fit->layers[i]))
            return ivon_error_memory(error);
    }
    int code = make_panels(fit, error);
    return code ? code : make_diagonal(fit, error);
}

void fit_layers_free(struct ivon_fit *fit)
{
    for (size_t i = 0; i < fit->layer_count && fit->layers; i++) {
        for (enum fit_side side = FIT_INPUT; side < FIT_SIDES; side++) {
            free(fit->layers[i].factors[side].matrix);
            free(fit->layers[i].factors[side].spectrum);
        }
        free(fit->layers[i].h);
        free(fit->layers[i].gradient);
    }
    for (size_t p = 0; p < fit->network->parameter_count && fit->diagonal; p++)
        free(fit->diagonal[p]);
    free(fit->layers);
    free(fit->uses);
    free(fit->factor_panels);
    free(fit->moment_panels);
    free(fit->diagonal);
    free(fit->diagonal_at);
    free(fit->diagonal_gradient);
}
