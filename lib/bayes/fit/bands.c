/*
 * Sums over the positions of images, from their bands (struct net_bands), of which fewer elements
 * are copied than rows have. In the input factor of a convolution rows of taps k
 * and k + l along the first axis, of bands u and v, meet at the same distance wherever k is:
 *
 *   A[(u, k), (v, k + l)] = Σ_q u[q] v[q + l step],   k step <= q < k step + T
 *
 * These ranges of q have most of their elements in common, whose products are taken once for all k;
 * what lies before and behind is summed a step at a time: for K taps about 1/K of the products.
 * Gradients take the same products from bands as from rows.
 */
#include <stdlib.h>
#include <string.h>

#include "bayes/fit/private.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/memory.h"

enum { BANDS_MOST = 1 << 20 /* elements of the sums of a lag */ };

static size_t bands_count(const struct net_use *use)
{
    return use->inputs / use->bands.taps + (use->bias != NET_NONE);
}

/* Bands take no more memory than rows, and products of matrices of this size are few. */
static bool bands_are_short(const struct net_use *use)
{
    const struct net_bands *bands = &use->bands;
    if (!bands->taps)
        return false;
    size_t side = bands->taps * bands_count(use);
    return use->positions >= 2 * (bands->taps - 1) * bands->step && side <= BANDS_MOST / side;
}

bool fit_bands_serve(const struct ivon_fit *fit, const struct fit_layer *layer,
                     const struct net_use *use)
{
    return bands_are_short(use) && !fit->options.reduce && !fit_use_swapped(layer, use) &&
           layer->factors[FIT_INPUT].rotated;
}

size_t fit_bands_sums(const struct net_use *use)
{
    size_t taps = use->bands.taps, count = bands_count(use);
    return (taps * taps + 1) * count * count;
}

size_t fit_bands_bytes(const struct ivon_fit *fit, const struct net_use *uses)
{
    size_t count = 0, most = 0;
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct fit_layer *layer = &fit->layers[l];
        for (size_t i = layer->first; i < layer->first + layer->count; i++) {
            const struct net_use *use = &uses[fit->uses[i]];
            size_t sums = fit_bands_serve(fit, layer, use) ? fit_bands_sums(use) : 0;
            count += sums ? layer->columns * layer->columns : 0;
            most = sums > most ? sums : most;
        }
    }
    return (count + most) * sizeof(float);
}

/* product = beta product + a bᵀ over `count` elements of the bands at a and at b. */
static void bands_multiply(const struct net_use *use, const float *a, const float *b, size_t count,
                           float beta, float *product)
{
    int64_t bands = (int64_t)bands_count(use), size = (int64_t)use->bands.size;
    blas_product(false, true, bands, bands, (int64_t)count, 1, a, size, b, size, beta, product,
                 bands);
}

/* The products of a lag: those that all ranges have, then those of each step before and behind. */
static float *multiply_lag(const struct net_use *use, const float *bands, size_t lag, float beta,
                           float *sums)
{
    size_t steps = use->bands.taps - 1 - lag, step = use->bands.step, t = use->positions;
    size_t matrix = bands_count(use) * bands_count(use);
    const float *other = bands + lag * step;
    bands_multiply(use, bands + steps * step, other + steps * step, t - steps * step, beta, sums);
    sums += matrix;
    for (size_t m = 0; m < steps; m++, sums += 2 * matrix) {
        bands_multiply(use, bands + m * step, other + m * step, step, beta, sums);
        bands_multiply(use, bands + t + m * step, other + t + m * step, step, beta, sums + matrix);
    }
    return sums;
}

/* block ← the sum over the range of tap k: the steps before from k on, those behind up to k. */
static void sum_block(const struct net_use *use, const float *sums, size_t lag, size_t k,
                      float *block)
{
    size_t steps = use->bands.taps - 1 - lag, matrix = bands_count(use) * bands_count(use);
    for (size_t i = 0; i < matrix; i++) {
        double sum = sums[i];
        for (size_t m = 0; m < steps; m++)
            sum += sums[(1 + 2 * m + (m < k)) * matrix + i];
        block[i] = (float)sum;
    }
}

/* The row of the matrix of columns that tap k of a band gives. */
static size_t bands_row(const struct net_bands *layout, size_t band, size_t k)
{
    return (band / layout->inner * layout->taps + k) * layout->inner + band % layout->inner;
}

/* Copies a block to its rows and columns, as far as they lie in the lower triangle. */
static void place_block(const struct net_use *use, const float *block, size_t lag, size_t k,
                        size_t n, float *gram)
{
    const struct net_bands *layout = &use->bands;
    size_t bands = bands_count(use), taken = use->inputs / layout->taps;
    for (size_t u = 0; u < taken; u++) {
        size_t row = bands_row(layout, u, k);
        for (size_t v = 0; v < taken; v++) {
            size_t column = bands_row(layout, v, k + lag);
            gram[row > column ? row * n + column : column * n + row] = block[u * bands + v];
        }
        if (n > use->inputs && lag == 0)
            gram[use->inputs * n + row] = block[taken * bands + u];
    }
    if (n > use->inputs && lag == 0)
        gram[use->inputs * n + use->inputs] = block[taken * bands + taken];
}

void fit_bands_gram(const struct net_use *use, const float *bands, size_t examples, size_t n,
                    float *sums, float *gram)
{
    size_t taps = use->bands.taps, count = bands_count(use), matrix = count * count;
    float *block = sums + taps * taps * matrix;
    for (size_t e = 0; e < examples; e++, bands += count * use->bands.size) {
        float *at = sums;
        for (size_t lag = 0; lag < taps; lag++)
            at = multiply_lag(use, bands, lag, e ? 1 : 0, at);
    }
    for (size_t lag = 0; lag < taps; sums += (1 + 2 * (taps - 1 - lag)) * matrix, lag++)
        for (size_t k = 0; k + lag < taps; k++) {
            sum_block(use, sums, lag, k, block);
            place_block(use, block, lag, k, n, gram);
        }
}

/* Gradients. */

bool fit_bands_suit(const struct fit_layer *layer, const struct net_use *use)
{
    return bands_are_short(use) && layer->factors[FIT_INPUT].late && !fit_use_swapped(layer, use);
}

size_t fit_bands_size(const struct net_use *use)
{
    return bands_count(use) * use->bands.size;
}

size_t fit_bands_columns(const struct net_use *use)
{
    return bands_count(use) * use->bands.taps;
}

void fit_bands_product(const struct net_use *use, const float *d, size_t rows, const float *bands,
                       float beta, float *g)
{
    int64_t count = (int64_t)bands_count(use), t = (int64_t)use->positions;
    for (size_t k = 0; k < use->bands.taps; k++)
        blas_product(false, true, (int64_t)rows, count, t, 1, d, t, bands + k * use->bands.step,
                     (int64_t)use->bands.size, beta, g + (int64_t)k * count,
                     (int64_t)fit_bands_columns(use));
}

/* Of the bands of ones one stands for the bias. */
static void turn_layer(const struct fit_layer *layer, const struct net_use *use)
{
    size_t n = layer->columns, count = bands_count(use), taken = use->inputs / use->bands.taps;
    const float *basis = layer->factors[FIT_INPUT].matrix;
    for (size_t k = 0; k < use->bands.taps; k++)
        for (size_t u = 0; u < count; u++) {
            size_t row = u < taken ? bands_row(&use->bands, u, k) : use->inputs;
            float *to = layer->turn + (k * count + u) * n;
            if (row < n && (u < taken || !k))
                memcpy(to, basis + row * n, n * sizeof *to);
            else
                memset(to, 0, n * sizeof *to);
        }
}

int fit_bands_turn(struct ivon_fit *fit, struct ivon_error *error)
{
    for (size_t i = 0; i < fit->layer_count; i++) {
        struct fit_layer *layer = &fit->layers[i];
        if (!layer->banded)
            continue;
        const struct net_use *use = fit_use(fit, &fit->workers[0], layer->first);
        layer->turn = memory_aligned(fit_bands_columns(use) * layer->columns * sizeof(float));
        if (!layer->turn)
            return ivon_error_memory(error);
        turn_layer(layer, use);
    }
    return 0;
}

void fit_bands_release(struct ivon_fit *fit)
{
    for (size_t i = 0; i < fit->layer_count; i++) {
        free(fit->layers[i].turn);
        fit->layers[i].turn = NULL;
    }
}
