/*
 * The gradient of the loss at the mean and Newton's decrement. In the coordinates that h is given
 * in, with g = (1/N) Σ g_n + δ m, the gradient of (1/N) Σ L + δ/2 ‖m‖², it is
 *
 *   N Σ g²/(h + δ) of a base, and with a low-rank correction upon it
 *   N (‖y‖² − Σ ℓ/(1 + ℓ) (uᵀ y)²),   y = (h + δ)^(−1/2) g
 *
 * A Newton step takes half of it from Σ L + N δ/2 ‖m‖² (Boyd & Vandenberghe 2004, 9.5.1), as far as
 * that is there to be taken: examples that a network is sure of and wrong about have a gradient,
 * and no curvature to speak of, and make it more. It is also the squared length of that step in the
 * posterior's own metric where λ = N. At the parameters that the data were drawn from, the sum of
 * the g_n has the covariance N H, and the decrement the expectation Σ h/(h + δ) = γ.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/fit/vectors.h"
#include "bayes/fit/whitened.h"
#include "core/error.h"
#include "core/memory.h"
#include "net/derivative/metric.h"
#include "net/derivative/vectors.h"
#include "net/ops/sum.h"

/* The sums over a wave. */

/* Sums over a tile of the gradients of diagonal parameters, in the place of its squares. */
static int gradient_sum_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct fit_pass *pass = context;
    const struct ivon_fit *fit = pass->fit;
    struct fit_worker *worker = &fit->workers[i];
    for (size_t p = 0; p < fit->network->parameter_count; p++) {
        size_t count = fit->parameter_counts[p];
        float *sums = worker->squares + fit->diagonal_at[p];
        if (!fit->diagonal[p])
            continue;
        net_derivative_gradients(worker->tile.worker->derivative, p, worker->tile.count,
                                 worker->gradients);
        memset(sums, 0, count * sizeof *sums);
        for (size_t e = 0; e < worker->tile.count; e++)
            derivative_add(sums, worker->gradients + e * count, count);
    }
    return 0;
}

static int gradient_add_panel(void *context, size_t job, int thread, struct ivon_error *error)
{
    (void)error;
    const struct fit_pass *pass = context;
    const struct ivon_fit *fit = pass->fit;
    const struct fit_panel *panel = &fit->moment_panels[job];
    const struct fit_layer *layer = &fit->layers[panel->layer];
    for (size_t w = 0; w < pass->wave; w++)
        fit_panel_gradient(fit, &fit->workers[w], panel, 0, fit->workers[w].tile.count,
                           &fit->workers[thread], 1,
                           layer->gradient_sums + panel->first * layer->columns);
    return 0;
}

int fit_gradient_add(struct fit_pass *pass, struct ivon_error *error)
{
    struct ivon_fit *fit = pass->fit;
    int code = thread_pool_run(fit->pool, fit->threads, pass->wave, gradient_sum_tile, pass, error);
    if (!code)
        code = thread_pool_run(fit->pool, fit->threads, fit->moment_panel_count, gradient_add_panel,
                               pass, error);
    for (size_t w = 0; w < pass->wave && !code; w++)
        derivative_add(fit->diagonal_gradient_sums, fit->workers[w].squares, fit->diagonal_count);
    return code;
}

/* The decrement. */

/* y, and its products with each u in the pieces that this rank holds. */
struct gradient_sums {
    const struct ivon_fit *fit;
    double squares;
    size_t at;              /* elements of y so far */
    struct ranks_range own; /* of vectors that this rank holds */
    double *products;       /* own pieces × r */
};

/* Adds the products of a part of y. */
static void gradient_project(struct gradient_sums *sums, const float *y, size_t count)
{
    const struct ranks_range part = vectors_within(sums->own, sums->at, count);
    size_t rank = sums->fit->rank, next;
    const float *vectors = sums->fit->vectors + rank * (part.first - sums->own.first);
    for (size_t place = part.first; place < part.end; place = next) {
        next = vectors_piece_end(place, part.end);
        double *products = sums->products + (place - sums->own.first) / VECTORS_PIECE * rank;
        for (size_t k = 0; k < rank; k++)
            products[k] += net_sum_products(vectors + k * vectors_count(part) +
                                                (place - part.first),
                                            y + (place - sums->at), next - place);
    }
}

/* y ← (h + δ)^(−1/2) (gradient/N + δ m), where y is m before. */
static void gradient_add_part(struct gradient_sums *sums, const struct evidence_part *part,
                              const float *gradient, float *y)
{
    const struct ivon_fit *fit = sums->fit;
    for (size_t i = 0; i < part->count; i++) {
        double g = (double)gradient[i] / fit->n_train + part->decay * (double)y[i];
        double whitened = g / sqrt((double)part->h[i] + part->decay);
        sums->squares += whitened * whitened;
        y[i] = (float)whitened;
    }
    if (fit->rank)
        gradient_project(sums, y, part->count);
    sums->at += part->count;
}

static int gradient_add_layer(struct gradient_sums *sums, const struct fit_layer *layer,
                              const struct evidence_part *part, struct ivon_error *error)
{
    const struct net_block block = fit_layer_block(layer);
    float *const *mean = sums->fit->mean.arrays;
    float *y = memory_aligned(2 * part->count * sizeof *y);
    if (!y)
        return ivon_error_memory(error);
    net_block_gather(&block, mean[layer->weight],
                     layer->bias == NET_NONE ? NULL : mean[layer->bias], y);
    net_block_rotate(&block, y, y + part->count);
    gradient_add_part(sums, part, layer->gradient, y);
    free(y);
    return 0;
}

static int gradient_add_diagonal(struct gradient_sums *sums, size_t parameter,
                                 const struct evidence_part *part, struct ivon_error *error)
{
    const struct ivon_fit *fit = sums->fit;
    float *y = malloc((part->count + 1) * sizeof *y);
    if (!y)
        return ivon_error_memory(error);
    memcpy(y, fit->mean.arrays[parameter], part->count * sizeof *y);
    gradient_add_part(sums, part, fit->diagonal_gradient + fit->diagonal_at[parameter], y);
    free(y);
    return 0;
}

/* Σ L + N δ/2 ‖m‖², which is not below 0: all that a step can take. */
static double gradient_most(const struct ivon_fit *fit)
{
    double sum = fit->evidence.loss;
    for (size_t i = 0; i < fit->evidence.count; i++)
        sum += fit->n_train / 2 * fit->evidence.parts[i].decay * fit->evidence.parts[i].squares;
    return sum;
}

/* Takes Σ ℓ/(1 + ℓ) (uᵀ y)² from the squares. */
static int gradient_correct(struct gradient_sums *sums, size_t pieces, struct ivon_error *error)
{
    const struct ivon_fit *fit = sums->fit;
    double *projections = calloc(fit->rank + 1, sizeof *projections);
    const double **lanes = calloc(pieces + 1, sizeof *lanes);
    int code = projections && lanes ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < pieces && !code; i++)
        lanes[i] = sums->products + i * fit->rank;
    if (!code)
        code = ranks_sum_doubles(fit->options.resources.ranks, projections, lanes, pieces,
                                 fit->rank, error);
    for (size_t k = 0; k < fit->rank && !code; k++) {
        double l = fit->values[k];
        sums->squares -= l / (1 + l) * projections[k] * projections[k];
    }
    free(projections);
    free(lanes);
    return code;
}

int fit_gradient_decrement(struct ivon_fit *fit, struct ivon_error *error)
{
    const struct ivon_ranks *ranks = fit->options.resources.ranks;
    size_t size = whitened_size(fit), pieces = vectors_count(vectors_pieces(ranks, size));
    struct gradient_sums sums = {.fit = fit,
                                 .own = vectors_own(ranks, size),
                                 .products = calloc(pieces * fit->rank + 1, sizeof(double))};
    const struct evidence_part *part = fit->evidence.parts;
    int code = sums.products ? 0 : ivon_error_memory(error);
    for (size_t l = 0; l < fit->layer_count && !code; l++)
        code = gradient_add_layer(&sums, &fit->layers[l], part++, error);
    for (size_t p = 0; p < fit->network->parameter_count && !code; p++)
        if (fit->diagonal[p])
            code = gradient_add_diagonal(&sums, p, part++, error);
    if (!code && fit->rank)
        code = gradient_correct(&sums, pieces, error);
    fit->decrement = fmin(fit->n_train * sums.squares, 2 * gradient_most(fit));
    free(sums.products);
    return code;
}
