/*
 * The low-rank correction of a fit: the eigenpairs of largest |ℓ| of the whitened curvature M
 * (whitened.h) by Lanczos' method with full reorthogonalisation (Lanczos 1950; Golub & Van Loan
 * 2013, ch. 10).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/fit/lanczos.h"
#include "core/blas.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/random.h"
#include "net/ops/sum.h"

enum {
    PIECE = 1 << 13, /* elements of vectors that a thread works on at a time */
    STEPS_MORE = 20, /* Lanczos steps beyond the rank, at least; else half of it */
};

/* Orthogonal vectors. */

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
        lanczos->partial[i * width + k] = net_sum_products(lanczos->basis + k * lanczos->size + at,
                                                           lanczos->vector + at, count);
    lanczos->partial[i * width + lanczos->have] = net_sum_products(lanczos->vector + at,
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

/* A new vector where the last product gave none, or to begin with: random. */
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

/* The largest element of the rows of alpha that are there. */
static double largest_product(const struct lanczos *lanczos)
{
    double largest = 0;
    for (size_t k = 0; k < lanczos->have; k++)
        for (size_t i = 0; i <= k; i++)
            largest = fmax(largest, fabs(lanczos->alpha[k * lanczos->steps + i]));
    return largest;
}

/* Takes the vector into the basis, behind those that there are. */
static void lanczos_keep(struct lanczos *lanczos)
{
    memcpy(lanczos->basis + lanczos->have * lanczos->size, lanczos->vector,
           lanczos->size * sizeof *lanczos->vector);
}

static int iterate(struct lanczos *lanczos, struct ivon_error *error)
{
    const double SMALL = 1e-5; /* of a length, beside rounding of float vectors */
    size_t steps = lanczos->steps, size = lanczos->size;
    double length = 0;
    int code = 0;
    if (!lanczos->begun) {
        code = restart(lanczos, error);
        lanczos_keep(lanczos);
        lanczos->begun = !code;
    }
    while (lanczos->have < steps && !code) {
        size_t k = lanczos->have;
        code = whitened_multiply(&lanczos->product, lanczos->basis + k * size, lanczos->vector,
                                 error);
        if (code)
            break;
        lanczos->have = k + 1;
        code = orthogonalise(lanczos, lanczos->alpha + k * steps, &length, error);
        if (code || lanczos->have == steps)
            break;
        if (!(length > SMALL * largest_product(lanczos)))
            code = restart(lanczos, error);
        lanczos_keep(lanczos);
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

static int lanczos_allocate(struct lanczos *lanczos, struct ivon_error *error)
{
    size_t steps = lanczos->steps, size = lanczos->size;
    lanczos->vector = memory_aligned(size * sizeof *lanczos->vector);
    lanczos->basis = memory_aligned(steps * size * sizeof *lanczos->basis);
    lanczos->alpha = calloc(steps, steps * sizeof *lanczos->alpha);
    lanczos->projections = calloc(steps + 2, sizeof *lanczos->projections);
    lanczos->partial = calloc(piece_count(lanczos) + 1, (steps + 1) * sizeof *lanczos->partial);
    return lanczos->vector && lanczos->basis && lanczos->alpha && lanczos->projections &&
                   lanczos->partial
               ? 0
               : ivon_error_memory(error);
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

int fit_lanczos_open(struct ivon_fit *fit, struct ivon_error *error)
{
    struct lanczos *lanczos = calloc(1, sizeof *lanczos);
    if (!lanczos)
        return ivon_error_memory(error);
    *lanczos = (struct lanczos){
        .fit = fit, .size = whitened_size(fit), .steps = fit_lanczos_steps(fit)};
    fit->lanczos = lanczos;
    int code = whitened_init(&lanczos->product, fit, error);
    return code ? code : lanczos_allocate(lanczos, error);
}

void fit_lanczos_close(struct ivon_fit *fit)
{
    struct lanczos *lanczos = fit->lanczos;
    fit->lanczos = NULL;
    if (!lanczos)
        return;
    whitened_release(&lanczos->product);
    free(lanczos->vector);
    free(lanczos->basis);
    free(lanczos->alpha);
    free(lanczos->projections);
    free(lanczos->partial);
    free(lanczos);
}

int fit_lanczos_run(struct ivon_fit *fit, struct ivon_error *error)
{
    int code = fit->lanczos ? 0 : fit_lanczos_open(fit, error);
    if (!code)
        code = iterate(fit->lanczos, error);
    if (!code) {
        fit->rank = fit->options.rank < fit->lanczos->size ? fit->options.rank : fit->lanczos->size;
        code = extract(fit->lanczos, error);
    }
    fit_lanczos_close(fit);
    fit->position = 0;
    return code;
}
