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

int fit_refuse_infinite(const struct ivon_fit *fit, size_t parameter, struct ivon_error *error)
{
    return ivon_error_set(
        error, IVON_ERROR_DATA,
        "%s: the curvature at '%s' is not a finite number: weights or inputs are too large",
        ivon_source_path(fit->source), fit_name(fit, parameter));
}

/* Gradients. */

/* Elements of a use's inputs of one example, in the pass that sums h. */
static size_t fit_inputs_size(const struct fit_layer *layer, const struct net_use *use)
{
    return layer->banded ? fit_bands_size(use)
                         : use->positions * (use->inputs + (use->bias != NET_NONE));
}

/* G' += d' at the columns that a lookup's inputs name. */
static void panel_add_lookup(const struct fit_panel *panel, const float *d, size_t stride,
                             const int64_t *places, size_t count, size_t n, float *g)
{
    for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < panel->count; i++)
            g[i * n + (size_t)places[t]] += d[t * stride + panel->first + i];
}

/* g = beta g + Σ_t d aᵀ over `count` rows for each column of d, by one product where g has all of
   their elements. */
static void panel_add_rows(const struct fit_layer *layer, const struct net_use *use,
                           const struct fit_panel *panel, const float *a, const float *d,
                           size_t columns, size_t count, float beta, float *g)
{
    bool swapped = fit_use_swapped(layer, use), planes = use->planes;
    bool all = !swapped && panel->count == layer->outputs;
    size_t n = layer->columns, o = use->outputs, step = planes ? count : 1; /* from d to d */
    int64_t stride_a = (int64_t)(planes ? count : use->inputs + (use->bias != NET_NONE));
    int64_t stride_d = (int64_t)(planes ? count : columns * o);
    size_t rows = all ? columns * o : panel->count;
    for (size_t c = 0; c < (all ? 1 : columns); c++, d += o * step, g += panel->count * n)
        blas_product(!planes, planes, (int64_t)rows, (int64_t)n, (int64_t)count, 1,
                     (swapped ? a : d) + panel->first * step, swapped ? stride_a : stride_d,
                     swapped ? d : a, swapped ? stride_d : stride_a, beta, g, (int64_t)n);
}

/* The same for one example whose inputs are bands. */
static void panel_add_bands(const struct net_use *use, const struct fit_panel *panel,
                            const float *bands, const float *d, size_t columns, float beta,
                            float *g)
{
    size_t t = use->positions, o = use->outputs;
    bool all = panel->count == o;
    for (size_t c = 0; c < (all ? 1 : columns); c++)
        fit_bands_product(use, d + (c * o + panel->first) * t, all ? columns * o : panel->count,
                          bands, beta, g + c * panel->count * fit_bands_columns(use));
}

/* The same over examples, whose rows lie one after the other where they are no planes. */
static void panel_add_product(const struct fit_layer *layer, const struct net_use *use,
                              const struct fit_panel *panel, const float *a, const float *d,
                              size_t columns, size_t examples, float beta, float *g)
{
    size_t t = use->positions, times = use->planes ? examples : 1;
    size_t size = fit_inputs_size(layer, use);
    for (size_t e = 0; e < times; e++, d += t * columns * use->outputs)
        if (layer->banded)
            panel_add_bands(use, panel, a + e * size, d, columns, e ? 1 : beta, g);
        else
            panel_add_rows(layer, use, panel, a + e * size, d, columns, examples / times * t,
                           e ? 1 : beta, g);
}

/* g = beta g + U_Bᵀ G U_A for each column, as far as the rows that made G were not rotated. */
static void panel_turn(const struct fit_layer *layer, const struct net_use *use,
                       const struct fit_panel *panel, size_t columns, const struct fit_worker *own,
                       float beta, float *g)
{
    const struct fit_factor *input = &layer->factors[FIT_INPUT];
    const struct fit_factor *output = &layer->factors[FIT_OUTPUT];
    int64_t o = (int64_t)panel->count, n = (int64_t)layer->columns;
    const float *from = own->unturned[0];
    if (input->late) {
        bool last = !output->late;
        int64_t wide = layer->banded ? (int64_t)fit_bands_columns(use) : n;
        blas_product(false, false, (int64_t)columns * o, n, wide, 1, from, wide,
                     layer->banded ? layer->turn : input->matrix, n, last ? beta : 0,
                     last ? g : own->unturned[1], n);
        from = own->unturned[1];
    }
    for (int64_t c = 0; c < (int64_t)columns && output->late; c++)
        blas_product(true, false, o, n, o, 1, output->matrix, o, from + c * o * n, n, beta,
                     g + c * o * n, n);
}

bool fit_panel_gradient(const struct ivon_fit *fit, const struct fit_worker *worker,
                        const struct fit_panel *panel, size_t first, size_t count,
                        const struct fit_worker *own, float beta, float *g)
{
    const struct fit_layer *layer = &fit->layers[panel->layer];
    bool lookups = true, late = layer->factors[FIT_INPUT].late || layer->factors[FIT_OUTPUT].late;
    size_t n = layer->columns, columns = worker->columns;
    for (size_t i = layer->first; i < layer->first + layer->count; i++) {
        const struct net_use *use = fit_use(fit, worker, i);
        size_t at = first * use->positions;
        const float *d = worker->adjoints[i] + at * columns * use->outputs;
        if (use->lookup) {
            for (size_t c = 0; c < columns; c++)
                panel_add_lookup(panel, d + c * use->outputs, columns * use->outputs,
                                 worker->places[i] + at, count * use->positions, n,
                                 g + c * panel->count * n);
            continue;
        }
        panel_add_product(layer, use, panel,
                          worker->inputs[i] + first * fit_inputs_size(layer, use), d, columns,
                          count, late ? 0 : beta, late ? own->unturned[0] : g);
        lookups = false;
        beta = late ? beta : 1;
    }
    if (late)
        panel_turn(layer, fit_use(fit, worker, layer->first), panel, columns, own, beta, g);
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

/* Rows that B is the mean of. */
static double count_factor_rows(const struct ivon_fit *fit, const struct fit_layer *layer,
                                const struct net_use *uses)
{
    double rows = 0;
    for (size_t i = layer->first; i < layer->first + layer->count; i++)
        rows += (double)(fit->options.reduce ? 1 : uses[fit->uses[i]].positions);
    return rows * (double)fit->data.count;
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
        for (size_t u = layer->first; u < fit->use_count; u++) {
            layer->mixed |= fit_use_swapped(layer, &uses[fit->uses[u]]);
            layer->lookups |= uses[fit->uses[u]].lookup;
        }
        layer->single = layer->single && layer->count == 1;
        layer->rows = count_factor_rows(fit, layer, uses);
        size_t bias = layer->count == 1 ? uses[fit->uses[layer->first]].bias : NET_NONE;
        if (bias != NET_NONE && fit->random[bias] && !fit->options.gram) {
            layer->bias = bias;
            layer->columns++;
        }
    }
}

/* Rows of h at a time, of which each has as many elements as the layer has columns. */
static size_t moment_rows(const struct ivon_fit *fit, const struct fit_layer *layer)
{
    size_t rows = PANEL_SIZE / fit->together / (layer->columns + 1);
    return rows ? rows : 1;
}

/* Rotating the T rows of an example costs T n² and T C o², its gradients for C columns C o n² and
   C o² n, where one panel has all their rows. */
static void choose_late(const struct ivon_fit *fit, struct fit_layer *layer,
                        const struct net_use *use)
{
    struct fit_factor *input = &layer->factors[FIT_INPUT], *output = &layer->factors[FIT_OUTPUT];
    if (layer->count > 1 || use->lookup)
        return;
    input->late = input->rotated && use->positions > fit->together * layer->outputs;
    output->late = output->rotated && use->positions > layer->columns &&
                   moment_rows(fit, layer) >= layer->outputs;
    layer->banded = fit_bands_suit(layer, use);
}

/* The inputs of lookups are too many for a basis, and would not stay places in it. */
static void choose_sides(const struct ivon_fit *fit, struct fit_layer *layer,
                         const struct net_use *uses)
{
    const struct ivon_fit_options *options = &fit->options;
    size_t most = options->factor_rows ? options->factor_rows : FACTOR_ROWS;
    bool kronecker = options->structure == IVON_FIT_KRONECKER;
    layer->factors[FIT_INPUT].rows = layer->columns;
    layer->factors[FIT_OUTPUT].rows = layer->outputs;
    layer->factors[FIT_INPUT].rotated = (kronecker || options->gram) && layer->columns <= most &&
                                        !layer->lookups;
    layer->factors[FIT_OUTPUT].rotated = kronecker && !options->gram && layer->outputs <= most;
    layer->product = options->factor_moments && !layer->mixed &&
                     layer->factors[FIT_INPUT].rotated && layer->factors[FIT_OUTPUT].rotated;
    choose_late(fit, layer, &uses[fit->uses[layer->first]]);
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

static void list_panels(const struct ivon_fit *fit, struct fit_panel *factors,
                        struct fit_panel *moments, size_t *factor_count, size_t *moment_count)
{
    *factor_count = *moment_count = 0;
    for (size_t i = 0; i < fit->layer_count; i++) {
        const struct fit_layer *layer = &fit->layers[i];
        for (enum fit_side side = FIT_INPUT; side < FIT_SIDES; side++)
            if (layer->factors[side].rotated)
                add_panels(factors, factor_count, i, side, layer->factors[side].rows, FACTOR_PANEL);
        add_panels(moments, moment_count, i, FIT_OUTPUT, layer->outputs, moment_rows(fit, layer));
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
    fit->diagonal_sums = calloc(count + 1, sizeof *fit->diagonal_sums);
    if (!fit->diagonal || !fit->diagonal_at || !fit->diagonal_sums)
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
    size_t bytes = 2 * fit->diagonal_count * sizeof(float) + fit_chunks_bytes(fit);
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
    free(fit->diagonal_sums);
    free(fit->diagonal_at);
    free(fit->diagonal_gradient);
}
