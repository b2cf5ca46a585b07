/*
 * The low-rank correction of a fit: the eigenpairs of largest |ℓ| of the whitened curvature M
 * (whitened.h) by Lanczos' method with full reorthogonalisation (Lanczos 1950; Golub & Van Loan
 * 2013, ch. 10). Each rank holds a range of the elements of all vectors (vectors.h), and the last
 * vector as a whole, for the next product.
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
    STEPS_MORE = 20, /* Lanczos steps beyond the rank, at least; else half of it */
};

/* Orthogonal vectors. */

IVON_DISPATCH static void subtract(float *restrict a, double scale, const float *restrict b,
                                   size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] = (float)((double)a[i] - scale * (double)b[i]);
}

static size_t own_pieces(const struct lanczos *lanczos)
{
    return vectors_count(vectors_pieces(lanczos->fit->options.resources.ranks, lanczos->size));
}

/* The elements of a piece of this rank, counted from the first of its own. */
static struct ranks_range lanczos_piece(const struct lanczos *lanczos, size_t i)
{
    return vectors_within((struct ranks_range){0, vectors_count(lanczos->own)}, i * VECTORS_PIECE,
                          VECTORS_PIECE);
}

/* The products of a piece of the vector with all basis vectors, and with itself. */
static int lanczos_project_piece(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    struct lanczos *lanczos = context;
    const struct ranks_range piece = lanczos_piece(lanczos, i);
    const float *vector = lanczos->vector + lanczos->own.first + piece.first;
    for (size_t k = 0; k < lanczos->have; k++)
        lanczos->lanes[i][k] = net_sum_products(lanczos_row(lanczos, k) + piece.first, vector,
                                                vectors_count(piece));
    lanczos->lanes[i][lanczos->have] = net_sum_products(vector, vector, vectors_count(piece));
    return 0;
}

static int subtract_piece(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    struct lanczos *lanczos = context;
    const struct ranks_range piece = lanczos_piece(lanczos, i);
    float *vector = lanczos->vector + lanczos->own.first + piece.first;
    for (size_t k = 0; k < lanczos->have; k++)
        subtract(vector, lanczos->projections[k], lanczos_row(lanczos, k) + piece.first,
                 vectors_count(piece));
    return 0;
}

/* Sets the projections of the vector on the basis and, behind them, its squared length. */
static int project(struct lanczos *lanczos, struct ivon_error *error)
{
    struct ivon_fit *fit = lanczos->fit;
    int code = thread_pool_run(fit->pool, fit->threads, own_pieces(lanczos), lanczos_project_piece,
                               lanczos, error);
    memset(lanczos->projections, 0, (lanczos->have + 1) * sizeof *lanczos->projections);
    return code ? code
                : ranks_sum_doubles(fit->options.resources.ranks, lanczos->projections,
                                    (const double *const *)lanczos->lanes, own_pieces(lanczos),
                                    lanczos->have + 1, error);
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
            code = thread_pool_run(lanczos->fit->pool, lanczos->fit->threads, own_pieces(lanczos),
                                   subtract_piece, lanczos, error);
    }
    if (!code)
        code = project(lanczos, error);
    *length = sqrt(lanczos->projections[lanczos->have]);
    for (size_t i = lanczos->own.first; i<lanczos->own.end && * length> 0; i++)
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

float *lanczos_row(struct lanczos *lanczos, size_t k)
{
    return lanczos->basis + k * vectors_count(lanczos->own);
}

float *lanczos_whole(struct lanczos *lanczos, size_t k)
{
    return lanczos->last ? lanczos->last : lanczos_row(lanczos, k);
}

void lanczos_take(struct lanczos *lanczos, size_t k)
{
    if (lanczos->last)
        memcpy(lanczos_row(lanczos, k), lanczos->last + lanczos->own.first,
               vectors_count(lanczos->own) * sizeof *lanczos->last);
}

/* Takes the vector into the basis, behind those that there are; all ranks then have the whole. */
static int lanczos_keep(struct lanczos *lanczos, struct ivon_error *error)
{
    struct ivon_ranks *ranks = lanczos->fit->options.resources.ranks;
    size_t own = vectors_count(lanczos->own) * sizeof *lanczos->vector;
    float *whole = lanczos_whole(lanczos, lanczos->have);
    memcpy(whole + lanczos->own.first, lanczos->vector + lanczos->own.first, own);
    lanczos_take(lanczos, lanczos->have);
    return ranks_complete(ranks, whole, own, error);
}

static int iterate(struct lanczos *lanczos, struct ivon_error *error)
{
    const double SMALL = 1e-5; /* of a length, beside rounding of float vectors */
    size_t steps = lanczos->steps;
    double length = 0;
    int code = 0;
    if (!lanczos->begun) {
        code = restart(lanczos, error);
        if (!code)
            code = lanczos_keep(lanczos, error);
        lanczos->begun = !code;
    }
    while (lanczos->have < steps && !code) {
        size_t k = lanczos->have;
        code = whitened_multiply(&lanczos->product, lanczos_whole(lanczos, k), lanczos->vector,
                                 error);
        if (code)
            break;
        lanczos->have = k + 1;
        code = orthogonalise(lanczos, lanczos->alpha + k * steps, &length, error);
        if (code || lanczos->have == steps)
            break;
        if (!(length > SMALL * largest_product(lanczos)))
            code = restart(lanczos, error);
        if (!code)
            code = lanczos_keep(lanczos, error);
    }
    return code;
}

/* Results. */

static int by_size(const void *a, const void *b)
{
    double x = fabs(*(const double *)a), y = fabs(*(const double *)b);
    return (x < y) - (x > y);
}

/* Sets the values, and the rows of `turn`, which make the Ritz vectors of the largest |ℓ|. */
static int lanczos_solve(struct lanczos *lanczos, float *turn, struct ivon_error *error)
{
    struct ivon_fit *fit = lanczos->fit;
    size_t steps = lanczos->steps, rank = fit->rank;
    double *values = calloc(2 * steps, sizeof *values), *order = values ? values + steps : NULL;
    int code = values ? blas_eigen((int64_t)steps, lanczos->alpha, values, error)
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
    free(values);
    return code;
}

/* U = turn · Q in the elements of a part that this rank holds, a piece after the other: the bits of
   a product depend on how many columns it has. */
static void extract_part(struct lanczos *lanczos, const float *turn, size_t at, size_t count)
{
    struct ivon_fit *fit = lanczos->fit;
    const struct ranks_range part = vectors_within(lanczos->own, at, count);
    size_t own = vectors_count(lanczos->own), stride = vectors_count(part);
    float *vectors = fit->vectors + fit->rank * (part.first - lanczos->own.first);
    size_t next;
    for (size_t place = part.first; place < part.end; place = next) {
        next = vectors_piece_end(place, part.end);
        blas_product(false, false, (int64_t)fit->rank, (int64_t)(next - place),
                     (int64_t)lanczos->steps, 1, turn, (int64_t)lanczos->steps,
                     lanczos->basis + (place - lanczos->own.first), (int64_t)own, 0,
                     vectors + (place - part.first), (int64_t)stride);
    }
}

/* U = the Ritz vectors of the `rank` values of largest |ℓ|, a part of Hessian after the other. Rank
   0 finds them: other processors may find others of the same value. */
static int extract(struct lanczos *lanczos, struct ivon_error *error)
{
    struct ivon_fit *fit = lanczos->fit;
    struct ivon_ranks *ranks = fit->options.resources.ranks;
    size_t rank = fit->rank, turned = rank * lanczos->steps, at = 0;
    float *turn = calloc(turned + 1, sizeof *turn);
    fit->values = calloc(rank + 1, sizeof *fit->values);
    fit->vectors = memory_aligned(rank * vectors_count(lanczos->own) * sizeof *fit->vectors);
    int code = turn && fit->values && fit->vectors ? 0 : ivon_error_memory(error);
    if (!code && !ivon_ranks_rank(ranks))
        code = lanczos_solve(lanczos, turn, error);
    if (!code)
        code = ivon_ranks_share(ranks, turn, turned * sizeof *turn, error);
    if (!code)
        code = ivon_ranks_share(ranks, fit->values, rank * sizeof *fit->values, error);
    for (size_t i = 0; i < fit->evidence.count && !code; i++) {
        extract_part(lanczos, turn, at, fit->evidence.parts[i].count);
        at += fit->evidence.parts[i].count;
    }
    free(turn);
    return code;
}

/* Memory. */

static int lanczos_allocate(struct lanczos *lanczos, struct ivon_error *error)
{
    size_t steps = lanczos->steps, size = lanczos->size, own = vectors_count(lanczos->own);
    size_t pieces = own_pieces(lanczos);
    lanczos->vector = memory_aligned(size * sizeof *lanczos->vector);
    lanczos->basis = memory_aligned(steps * own * sizeof *lanczos->basis);
    lanczos->last = own < size ? memory_aligned(size * sizeof *lanczos->last) : NULL;
    lanczos->alpha = calloc(steps, steps * sizeof *lanczos->alpha);
    lanczos->projections = calloc(steps + 2, sizeof *lanczos->projections);
    lanczos->partial = calloc(pieces + 1, (steps + 1) * sizeof *lanczos->partial);
    lanczos->lanes = calloc(pieces + 1, sizeof *lanczos->lanes);
    if (!lanczos->vector || !lanczos->basis || (own < size && !lanczos->last) || !lanczos->alpha ||
        !lanczos->projections || !lanczos->partial || !lanczos->lanes)
        return ivon_error_memory(error);
    for (size_t i = 0; i < pieces; i++)
        lanczos->lanes[i] = lanczos->partial + i * (steps + 1);
    return 0;
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
    size_t own = vectors_count(vectors_own(fit->options.resources.ranks, size));
    size_t vectors = (fit_lanczos_steps(fit) + (rank < size ? rank : size)) * own;
    return (vectors + (rank && own < size ? size : 0)) * sizeof(float);
}

int fit_lanczos_open(struct ivon_fit *fit, struct ivon_error *error)
{
    struct lanczos *lanczos = calloc(1, sizeof *lanczos);
    if (!lanczos)
        return ivon_error_memory(error);
    *lanczos = (struct lanczos){
        .fit = fit, .size = whitened_size(fit), .steps = fit_lanczos_steps(fit)};
    lanczos->own = vectors_own(fit->options.resources.ranks, lanczos->size);
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
    free(lanczos->last);
    free(lanczos->alpha);
    free(lanczos->projections);
    free(lanczos->partial);
    free(lanczos->lanes);
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
