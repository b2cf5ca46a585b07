/*
 * The low-rank correction of a fit: of M = D^(−1/2) λ(GGN + δ) D^(−1/2) − I, D = λ(h + δ) being the
 * precision of what was fitted, the eigenpairs of largest |ℓ| by Lanczos' method with full
 * reorthogonalisation (Lanczos 1950; Golub & Van Loan 2013, ch. 10), in the whitened coordinates
 * y = D^(1/2) x of the base, block by block in its basis. A product with the GGN takes a forward, a
 * tangent and a backward pass over the data:
 *
 *   GGN x = (1/N) Σ_n J_nᵀ Λ_n J_n x
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/fit/private.h"
#include "core/blas.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/random.h"
#include "net/derivative/metric.h"

enum {
    TILE_MAX = 256,         /* examples */
    TILE_MEMORY = 24 << 20, /* bytes of values and their adjoints: in a cache */
    TILES_LEAST = 8,
    PIECE = 1 << 13, /* elements of vectors that a thread works on at a time */
    STEPS_MORE = 20, /* Lanczos steps beyond the rank, at least; else half of it */
};

struct lanczos {
    struct ivon_fit *fit;
    struct runner runner;
    size_t size;              /* elements of a whitened vector */
    struct net_block *blocks; /* of each layer */
    float *roots;             /* 1/√(h + δ), whitened order */
    struct weights direction;
    struct weights *gradients; /* of each thread */
    double *sums;              /* of all gradients, as weights lie */
    float **adjoints;          /* of each thread: tile × T × K */
    size_t wave, first_tile;
    const float *outputs;
    float *basis; /* steps × size: orthonormal */
    size_t steps, have;
    double *alpha, *projections, *partial;
    float *vector; /* what is being orthogonalised */
};

/* Places of whitened vectors: layers one after the other, then diagonal parameters. */

static size_t whitened_size(const struct ivon_fit *fit)
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
static void add_prior(const struct lanczos *lanczos, const float *x, size_t count, double decay,
                      size_t at, float *y)
{
    for (size_t i = at; i < at + count; i++) {
        double root = (double)lanczos->roots[i];
        y[i] = (float)(root * (double)y[i] + (root * root * decay - 1) * (double)x[i]);
    }
}

static void add_priors(const struct lanczos *lanczos, const float *x, float *y)
{
    const struct ivon_fit *fit = lanczos->fit;
    size_t at = 0;
    for (size_t l = 0; l < fit->layer_count; l++) {
        size_t count = fit->layers[l].outputs * fit->layers[l].columns;
        add_prior(lanczos, x, count, fit->decays[fit->layers[l].weight], at, y);
        at += count;
    }
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        if (fit->diagonal[p]) {
            add_prior(lanczos, x, fit->parameter_counts[p], fit->decays[p], at, y);
            at += fit->parameter_counts[p];
        }
}

static struct net_block block_of(const struct fit_layer *layer)
{
    return (struct net_block){.weight = layer->weight,
                              .bias = layer->bias,
                              .rows = layer->outputs,
                              .columns = layer->columns,
                              .transposed = layer->transposed,
                              .input_basis = layer->factors[FIT_INPUT].matrix,
                              .output_basis = layer->factors[FIT_OUTPUT].matrix};
}

/* Arrays of parameters from a vector that is scaled already, and back. `scratch` is as long as the
   longest layer, twice. */
static void unwhiten(const struct lanczos *lanczos, float *y, float *scratch, float *const *arrays)
{
    const struct ivon_fit *fit = lanczos->fit;
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct net_block *block = &lanczos->blocks[l];
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

static void whiten(const struct lanczos *lanczos, float *const *arrays, float *y, float *scratch)
{
    const struct ivon_fit *fit = lanczos->fit;
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct net_block *block = &lanczos->blocks[l];
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
    struct lanczos *lanczos = context;
    struct ivon_fit *fit = lanczos->fit;
    size_t tokens = fit->outputs.tokens, k = fit->outputs.k, all = tokens * k;
    float *adjoint = lanczos->adjoints[i], *p = adjoint + lanczos->runner.tile * all;
    struct runner_tile tile;
    memset(lanczos->gradients[i].data, 0, lanczos->gradients[i].size);
    int code = runner_run_tile(&lanczos->runner, (int)i, &fit->data.feed, lanczos->first_tile + i,
                               &tile, error);
    if (code)
        return code;
    struct net_derivative *derivative = tile.worker->derivative;
    const float *moved = net_derivative_tangent(derivative,
                                                (const float *const *)lanczos->direction.arrays);
    memset(adjoint, 0, lanczos->runner.tile * all * sizeof *adjoint);
    if (moved)
        memcpy(adjoint, moved, tile.count * all * sizeof *adjoint);
    const struct row_targets targets = labelled_targets(&fit->data, tile.at * tokens);
    likelihood_evaluate(&fit->likelihood, tile.count * tokens, tile.f, &targets, p, NULL);
    for (size_t r = 0; r < tile.count * tokens; r++)
        if (fit->data.counts[tile.at * tokens + r])
            likelihood_curvature_apply(&fit->likelihood, p + r * k, adjoint + r * k);
        else
            memset(adjoint + r * k, 0, k * sizeof *adjoint);
    net_derivative_backward(derivative, adjoint, lanczos->gradients[i].arrays);
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
    const struct lanczos *lanczos = context;
    size_t total = lanczos->direction.size / sizeof(float), at = i * PIECE;
    for (size_t w = 0; w < lanczos->wave; w++)
        product_add(lanczos->sums + at, lanczos->gradients[w].data + at,
                    total - at < PIECE ? total - at : PIECE);
    return 0;
}

static int product_block(struct lanczos *lanczos, struct ivon_error *error)
{
    struct ivon_fit *fit = lanczos->fit;
    size_t tiles = runner_tile_count(&lanczos->runner, &fit->data.feed);
    size_t threads = (size_t)lanczos->runner.threads;
    size_t total = lanczos->direction.size / sizeof(float);
    int code = 0;
    for (size_t at = 0; at < tiles && !code; at += threads) {
        lanczos->first_tile = at;
        lanczos->wave = tiles - at < threads ? tiles - at : threads;
        code = thread_pool_run(fit->pool, lanczos->runner.threads, lanczos->wave, product_tile,
                               lanczos, error);
        if (!code)
            code = thread_pool_run(fit->pool, lanczos->runner.threads, (total + PIECE - 1) / PIECE,
                                   product_sum, lanczos, error);
    }
    return code;
}

/* out ← M y; `out` and `y` have `size` elements and differ. */
static int multiply(struct lanczos *lanczos, const float *y, float *out, struct ivon_error *error)
{
    struct ivon_fit *fit = lanczos->fit;
    size_t size = lanczos->size, total = lanczos->direction.size / sizeof(float);
    float *scratch = memory_aligned(size * sizeof *scratch);
    int code = scratch ? 0 : ivon_error_memory(error);
    if (code)
        return code;
    for (size_t i = 0; i < size; i++)
        out[i] = lanczos->roots[i] * y[i];
    unwhiten(lanczos, out, scratch, lanczos->direction.arrays);
    memset(lanczos->sums, 0, total * sizeof *lanczos->sums);
    for (uint64_t first = 0; first < fit->data.count && !code; first += fit->block) {
        if (fit->data.count > fit->block || !lanczos->have)
            code = labelled_load(&fit->data, &lanczos->runner, first, error);
        if (!code)
            code = product_block(lanczos, error);
    }
    for (size_t i = 0; i < total && !code; i++)
        lanczos->direction.data[i] = (float)(lanczos->sums[i] / fit->n_train);
    if (!code)
        whiten(lanczos, lanczos->direction.arrays, out, scratch);
    if (!code)
        add_priors(lanczos, y, out);
    free(scratch);
    return code;
}

/* Orthogonal vectors. */

IVON_DISPATCH static double lanczos_dot(const float *restrict a, const float *restrict b,
                                        size_t count)
{
    enum { LANES = 16 };
    double lanes[LANES] = {0}, sum = 0;
    size_t whole = count / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lanes[j] += (double)a[i + j] * (double)b[i + j];
    for (size_t j = 0; j < LANES; j++)
        sum += lanes[j];
    for (size_t i = whole; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

IVON_DISPATCH static void subtract(float *restrict a, double scale, const float *restrict b,
                                   size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] = (float)((double)a[i] - scale * (double)b[i]);
}

static size_t piece_count(const struct lanczos *lanczos)
{
    return (lanczos->size + PIECE - 1) / PIECE;
}

static size_t piece_length(const struct lanczos *lanczos, size_t i)
{
    size_t left = lanczos->size - i * PIECE;
    return left < PIECE ? left : PIECE;
}

/* The products of a piece of the vector with all basis vectors, and with itself. */
static int lanczos_project_piece(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct lanczos *lanczos = context;
    size_t count = piece_length(lanczos, i), at = i * PIECE, width = lanczos->steps + 1;
    for (size_t k = 0; k < lanczos->have; k++)
        lanczos->partial[i * width + k] = lanczos_dot(lanczos->basis + k * lanczos->size + at,
                                                      lanczos->vector + at, count);
    lanczos->partial[i * width + lanczos->have] = lanczos_dot(lanczos->vector + at,
                                                              lanczos->vector + at, count);
    return 0;
}

static int subtract_piece(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct lanczos *lanczos = context;
    size_t count = piece_length(lanczos, i), at = i * PIECE;
    for (size_t k = 0; k < lanczos->have; k++)
        subtract(lanczos->vector + at, lanczos->projections[k],
                 lanczos->basis + k * lanczos->size + at, count);
    return 0;
}

/* Sets the projections of the vector on the basis and, behind them, its squared length. */
static int project(struct lanczos *lanczos, struct ivon_error *error)
{
    size_t width = lanczos->steps + 1;
    int code = thread_pool_run(lanczos->fit->pool, lanczos->fit->threads, piece_count(lanczos),
                               lanczos_project_piece, lanczos, error);
    for (size_t k = 0; k <= lanczos->have; k++) {
        lanczos->projections[k] = 0;
        for (size_t i = 0; i < piece_count(lanczos); i++)
            lanczos->projections[k] += lanczos->partial[i * width + k];
    }
    return code;
}

/* Makes the vector orthogonal to the basis, twice, and of length 1; *length is what it was. Adds
   the projections to `sums`, unless null. */
static int orthogonalise(struct lanczos *lanczos, double *sums, double *length,
                         struct ivon_error *error)
{
    int code = 0;
    for (int pass = 0; pass < 2 && !code; pass++) {
        code = project(lanczos, error);
        for (size_t k = 0; k < lanczos->have && sums; k++)
            sums[k] += lanczos->projections[k];
        if (!code)
            code = thread_pool_run(lanczos->fit->pool, lanczos->fit->threads, piece_count(lanczos),
                                   subtract_piece, lanczos, error);
    }
    if (!code)
        code = project(lanczos, error);
    *length = sqrt(lanczos->projections[lanczos->have]);
    for (size_t i = 0; i<lanczos->size && * length> 0; i++)
        lanczos->vector[i] = (float)((double)lanczos->vector[i] / *length);
    return code;
}

/* A new basis vector where the last product gave none, or to begin with: random. */
static int restart(struct lanczos *lanczos, struct ivon_error *error)
{
    double length = 0;
    int code = 0;
    for (uint64_t attempt = 0; length < 0.01 && !code; attempt++) {
        const struct random_stream stream = random_stream_of(
            lanczos->fit->options.seed, 1000 * lanczos->have + attempt, "lanczos start");
        random_normal(&stream, 0, lanczos->size, lanczos->vector);
        code = orthogonalise(lanczos, NULL, &length, error);
    }
    return code;
}

/* `alpha` becomes the steps × steps matrix Qᵀ M Q. */
static int iterate(struct lanczos *lanczos, struct ivon_error *error)
{
    const double SMALL = 1e-5; /* of a length, beside rounding of float vectors */
    size_t steps = lanczos->steps, size = lanczos->size;
    double largest = 0, length = 0;
    int code = restart(lanczos, error);
    for (size_t k = 0; k < steps && !code; k++) {
        memcpy(lanczos->basis + k * size, lanczos->vector, size * sizeof *lanczos->vector);
        code = multiply(lanczos, lanczos->basis + k * size, lanczos->vector, error);
        lanczos->have = k + 1;
        if (!code)
            code = orthogonalise(lanczos, lanczos->alpha + k * steps, &length, error);
        for (size_t i = 0; i <= k; i++)
            largest = fabs(lanczos->alpha[k * steps + i]) > largest
                          ? fabs(lanczos->alpha[k * steps + i])
                          : largest;
        if (!code && k + 1 < steps && !(length > SMALL * largest))
            code = restart(lanczos, error);
    }
    return code;
}

/* Results. */

static int by_size(const void *a, const void *b)
{
    double x = fabs(*(const double *)a), y = fabs(*(const double *)b);
    return (x < y) - (x > y);
}

/* U = the Ritz vectors of the `rank` values of largest |ℓ|, a piece of Hessian after the other. */
static int extract(struct lanczos *lanczos, struct ivon_error *error)
{
    struct ivon_fit *fit = lanczos->fit;
    size_t steps = lanczos->steps, rank = fit->rank, size = lanczos->size;
    double *values = calloc(2 * steps, sizeof *values), *order = values ? values + steps : NULL;
    float *turn = calloc(rank * steps + 1, sizeof *turn);
    fit->values = calloc(rank + 1, sizeof *fit->values);
    fit->vectors = memory_aligned(rank * size * sizeof *fit->vectors);
    int code = values && turn && fit->values && fit->vectors
                   ? blas_eigen((int64_t)steps, lanczos->alpha, values, error)
                   : ivon_error_memory(error);
    if (!code) {
        memcpy(order, values, steps * sizeof *order);
        qsort(order, steps, sizeof *order, by_size);
        memcpy(fit->values, order, rank * sizeof *fit->values);
    }
    for (size_t r = 0; r < rank && !code; r++) {
        size_t from = 0;
        while (from + 1 < steps && values[from] != fit->values[r])
            from++;
        for (size_t k = 0; k < steps; k++)
            turn[r * steps + k] = (float)lanczos->alpha[from * steps + k];
        values[from] = NAN; /* is used */
    }
    size_t at = 0;
    for (size_t l = 0; l <= fit->layer_count + fit->network->parameter_count && !code; l++) {
        size_t p = l - fit->layer_count, count = 0;
        if (l < fit->layer_count)
            count = fit->layers[l].outputs * fit->layers[l].columns;
        else if (p < fit->network->parameter_count && fit->diagonal[p])
            count = fit->parameter_counts[p];
        if (count)
            blas_product(false, false, (int64_t)rank, (int64_t)count, (int64_t)steps, 1, turn,
                         (int64_t)steps, lanczos->basis + at, (int64_t)size, 0,
                         fit->vectors + rank * at, (int64_t)count);
        at += count;
    }
    free(values);
    free(turn);
    return code;
}

/* Memory. */

static int start_runner(struct lanczos *lanczos, struct ivon_error *error)
{
    struct ivon_fit *fit = lanczos->fit;
    const struct runner_bounds bounds = {.batch = fit->options.batch,
                                         .examples = TILE_MAX,
                                         .cache = TILE_MEMORY,
                                         .tiles = TILES_LEAST};
    lanczos->runner = (struct runner){.network = fit->network,
                                      .mode = RUNNER_SUMS,
                                      .wanted = fit->random,
                                      .memory = fit->memory,
                                      .check = outputs_check,
                                      .check_context = &fit->outputs};
    int code = runner_choose_tile(&lanczos->runner, &fit->data.feed, &bounds, error);
    if (!code)
        code = runner_start(&lanczos->runner, &fit->data.feed, fit->threads, error);
    return code ? code
                : runner_set(&lanczos->runner, (const float *const *)fit->mean.arrays, error);
}

static int allocate(struct lanczos *lanczos, struct ivon_error *error)
{
    struct ivon_fit *fit = lanczos->fit;
    size_t threads = (size_t)fit->threads, steps = lanczos->steps, size = lanczos->size;
    size_t row = lanczos->runner.tile * fit->outputs.tokens * fit->outputs.k;
    lanczos->gradients = calloc(threads, sizeof *lanczos->gradients);
    lanczos->adjoints = calloc(threads, sizeof *lanczos->adjoints);
    lanczos->blocks = calloc(fit->layer_count + 1, sizeof *lanczos->blocks);
    lanczos->roots = calloc(size + 1, sizeof *lanczos->roots);
    lanczos->vector = memory_aligned(size * sizeof *lanczos->vector);
    lanczos->basis = memory_aligned(steps * size * sizeof *lanczos->basis);
    lanczos->alpha = calloc(steps, steps * sizeof *lanczos->alpha);
    lanczos->projections = calloc(steps + 2, sizeof *lanczos->projections);
    lanczos->partial = calloc(piece_count(lanczos) + 1, (steps + 1) * sizeof *lanczos->partial);
    if (!lanczos->gradients || !lanczos->adjoints || !lanczos->blocks || !lanczos->roots ||
        !lanczos->vector || !lanczos->basis || !lanczos->alpha || !lanczos->projections ||
        !lanczos->partial)
        return ivon_error_memory(error);
    int code = weights_init(&lanczos->direction, fit->network, error);
    for (size_t i = 0; i < threads && !code; i++) {
        code = weights_init(&lanczos->gradients[i], fit->network, error);
        lanczos->adjoints[i] = calloc(2 * row + 1, sizeof(float));
        if (!code && !lanczos->adjoints[i])
            code = ivon_error_memory(error);
    }
    if (code)
        return code;
    memset(lanczos->direction.data, 0, lanczos->direction.size);
    lanczos->sums = calloc(lanczos->direction.size / sizeof(float) + 1, sizeof *lanczos->sums);
    for (size_t l = 0; l < fit->layer_count; l++)
        lanczos->blocks[l] = block_of(&fit->layers[l]);
    whitened_roots(fit, lanczos->roots);
    return lanczos->sums ? 0 : ivon_error_memory(error);
}

static void lanczos_release(struct lanczos *lanczos)
{
    for (int i = 0; i < lanczos->fit->threads; i++) {
        if (lanczos->gradients)
            weights_release(&lanczos->gradients[i]);
        if (lanczos->adjoints)
            free(lanczos->adjoints[i]);
    }
    runner_stop(&lanczos->runner);
    weights_release(&lanczos->direction);
    void *all[] = {lanczos->gradients, lanczos->adjoints, lanczos->blocks, lanczos->roots,
                   lanczos->vector,    lanczos->basis,    lanczos->alpha,  lanczos->projections,
                   lanczos->partial,   lanczos->sums};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

size_t fit_lanczos_steps(const struct ivon_fit *fit)
{
    size_t size = whitened_size(fit), rank = fit->options.rank;
    size_t more = rank / 2 > STEPS_MORE ? rank / 2 : STEPS_MORE;
    return !rank ? 0 : rank + more < size ? rank + more : size;
}

size_t fit_lanczos_bytes(const struct ivon_fit *fit)
{
    size_t size = whitened_size(fit), rank = fit->options.rank;
    return (fit_lanczos_steps(fit) + (rank < size ? rank : size)) * size * sizeof(float);
}

int fit_lanczos_run(struct ivon_fit *fit, struct ivon_error *error)
{
    struct lanczos lanczos = {
        .fit = fit, .size = whitened_size(fit), .steps = fit_lanczos_steps(fit)};
    fit->rank = fit->options.rank < lanczos.size ? fit->options.rank : lanczos.size;
    int code = start_runner(&lanczos, error);
    if (!code)
        code = allocate(&lanczos, error);
    if (!code)
        code = iterate(&lanczos, error);
    if (!code)
        code = extract(&lanczos, error);
    lanczos_release(&lanczos);
    return code;
}
