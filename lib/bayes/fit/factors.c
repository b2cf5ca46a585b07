/*
 * The factors of a layer and their eigenvectors:
 *
 *   A = (1/N) Σ_n Σ_t a aᵀ,  B = (1/R) Σ_n Σ_t E d dᵀ     R: the number of rows a, N T
 *
 * so that A ⊗ B has the size of (1/N) Σ G Gᵀ. Reduced, of the means of an example's a and the sums
 * of its d over t, as one row for each example.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/fit/private.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/ranks.h"
#include "net/derivative/vectors.h"

/* The two lists of rows of a use. */
enum rows_kind { ROWS_OF_INPUTS, ROWS_OF_ADJOINTS };

static enum rows_kind kind_of(const struct fit_layer *layer, const struct net_use *use,
                              enum fit_side side)
{
    return (side == FIT_INPUT) != fit_use_swapped(layer, use) ? ROWS_OF_INPUTS : ROWS_OF_ADJOINTS;
}

/* Returns a use's rows, their length, and how many a position has. */
static float *factors_rows_of(const struct fit_worker *worker, const struct net_use *use,
                              enum rows_kind kind, size_t i, size_t *width, size_t *columns)
{
    bool adjoints = kind == ROWS_OF_ADJOINTS;
    *width = adjoints ? use->outputs : use->inputs + (use->bias != NET_NONE);
    *columns = adjoints ? worker->columns : 1;
    return adjoints ? worker->adjoints[i] : worker->inputs[i];
}

/* sums = beta sums + a panel of the sum of rowᵀ row, as far as it lies in the lower triangle;
   `stride` is the distance of rows, or of planes. */
static void add_products(const struct fit_panel *panel, size_t n, double weight, const float *rows,
                         size_t count, size_t stride, bool planes, float beta, float *sums)
{
    blas_product(!planes, planes, (int64_t)panel->count, (int64_t)(panel->first + panel->count),
                 (int64_t)count, (float)weight, rows + panel->first * (planes ? stride : 1),
                 (int64_t)stride, rows, (int64_t)stride, beta, sums, (int64_t)n);
}

/* The rows of an example become one: their mean or sum over positions, in place. */
static void reduce_rows(float *rows, const struct net_use *use, size_t examples, size_t width,
                        bool mean)
{
    size_t t = use->positions;
    for (size_t e = 0; e < examples; e++)
        for (size_t i = 0; i < width; i++) {
            double sum = 0;
            for (size_t p = 0; p < t; p++)
                sum += (double)rows[e * t * width + (use->planes ? i * t + p : p * width + i)];
            rows[e * width + i] = (float)(mean ? sum / (double)t : sum);
        }
}

static bool is_reduced(const struct ivon_fit *fit, const struct net_use *use)
{
    return fit->options.reduce && use->positions > 1;
}

static void reduce_all(const struct fit_pass *pass, enum rows_kind kind)
{
    const struct ivon_fit *fit = pass->fit;
    for (size_t w = 0; w < pass->wave; w++)
        for (size_t i = 0; i < fit->use_count; i++) {
            const struct fit_worker *worker = &fit->workers[w];
            const struct net_use *use = fit_use(fit, worker, i);
            size_t width, columns;
            float *rows = factors_rows_of(worker, use, kind, i, &width, &columns);
            if (is_reduced(fit, use) && rows)
                reduce_rows(rows, use, worker->tile.count, width * columns, kind == ROWS_OF_INPUTS);
        }
}

/* The rows of a panel of sums, as far as they lie in the lower triangle. */
static void add_rows(const struct fit_panel *panel, size_t n, const float *sums, float *matrix)
{
    for (size_t r = 0; r < panel->count; r++)
        derivative_add(matrix + r * n, sums + r * n, panel->first + r + 1);
}

struct factor_job {
    const struct fit_pass *pass;
    enum rows_kind kind;
};

/* All rows of a tile by one product, or planes by one for each example and column: the sums of a
   tile are taken first, as those of all examples have grown too large for theirs. */
static void add_tile(const struct ivon_fit *fit, const struct fit_worker *worker,
                     const struct net_use *use, const struct fit_panel *panel, double weight,
                     const float *rows, size_t width, size_t columns, float *sums)
{
    struct fit_factor *factor = &fit->layers[panel->layer].factors[panel->side];
    bool reduced = is_reduced(fit, use), planes = use->planes && !reduced;
    size_t t = reduced ? 1 : use->positions, all = worker->tile.count * columns;
    size_t count = planes ? t : all * t;
    float *matrix = factor->sums + panel->first * factor->rows;
    for (size_t i = 0; i < (planes ? all : 1); i++)
        add_products(panel, factor->rows, weight, rows + i * t * width, count, planes ? t : width,
                     planes, planes && !i ? 0 : 1, planes ? sums : matrix);
    if (planes)
        add_rows(panel, factor->rows, sums, matrix);
}

/* Adds the rows of the wave's tiles, in their order, to one panel of a factor. */
static int add_panel(void *context, size_t job, int thread, struct ivon_error *error)
{
    (void)error;
    const struct factor_job *factors = context;
    struct ivon_fit *fit = factors->pass->fit;
    const struct fit_panel *panel = &fit->factor_panels[job];
    const struct fit_layer *layer = &fit->layers[panel->layer];
    double weight = factors->kind == ROWS_OF_ADJOINTS ? fit_columns_weight(fit) : 1;
    for (size_t w = 0; w < factors->pass->wave; w++)
        for (size_t i = layer->first; i < layer->first + layer->count; i++) {
            const struct fit_worker *worker = &fit->workers[w];
            const struct net_use *use = fit_use(fit, worker, i);
            size_t width, columns;
            const float *rows = factors_rows_of(worker, use, factors->kind, i, &width, &columns);
            bool inputs = factors->kind == ROWS_OF_INPUTS;
            if (kind_of(layer, use, panel->side) != factors->kind || !rows)
                continue;
            if (inputs && worker->grams[i])
                add_rows(panel, layer->columns, worker->grams[i] + panel->first * layer->columns,
                         layer->factors[FIT_INPUT].sums + panel->first * layer->columns);
            else
                add_tile(fit, worker, use, panel, weight, rows, width, columns,
                         fit->workers[thread].panel);
        }
    return 0;
}

static int factors_add_rows(struct fit_pass *pass, enum rows_kind kind, struct ivon_error *error)
{
    struct factor_job job = {pass, kind};
    reduce_all(pass, kind);
    return thread_pool_run(pass->fit->pool, pass->fit->threads, pass->fit->factor_panel_count,
                           add_panel, &job, error);
}

static int add_inputs(struct fit_pass *pass, struct ivon_error *error)
{
    return factors_add_rows(pass, ROWS_OF_INPUTS, error);
}

static int add_adjoints(struct fit_pass *pass, struct ivon_error *error)
{
    return factors_add_rows(pass, ROWS_OF_ADJOINTS, error);
}

/* Eigenvectors. */

struct eigen_job {
    struct ivon_fit *fit;
    int *owners;  /* of each factor that was to be decomposed: a rank; else −1 */
    size_t first; /* of the jobs that are left: it is done, whatever is due */
};

/* The factor, whose lower triangle was summed, and its eigenvectors in its columns. */
static int decompose(const struct ivon_fit *fit, struct fit_layer *layer, enum fit_side side,
                     struct ivon_error *error)
{
    struct fit_factor *factor = &layer->factors[side];
    size_t n = factor->rows;
    double scale = 1 / (side == FIT_INPUT ? fit->n_train : layer->rows);
    double *matrix = calloc(n * n + 1, sizeof *matrix), *values = calloc(n + 1, sizeof *values);
    int code = matrix && values ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < n && !code; i++)
        for (size_t j = 0; j <= i; j++)
            matrix[i * n + j] = scale * (double)factor->matrix[i * n + j];
    if (!code)
        code = blas_eigen((int64_t)n, matrix, values, error);
    if (code == IVON_ERROR_DATA)
        code = fit_refuse_infinite(fit, layer->weight, error);
    for (size_t i = 0; i < n && !code; i++) {
        factor->spectrum[i] = values[i] > 0 ? (float)values[i] : 0;
        for (size_t j = 0; j < n; j++)
            factor->matrix[j * n + i] = (float)matrix[i * n + j];
    }
    factor->decomposed = !code;
    free(matrix);
    free(values);
    return code;
}

static bool needs_decomposition(const struct ivon_fit *fit, size_t i)
{
    const struct fit_factor *factor = &fit->layers[i / FIT_SIDES].factors[i % FIT_SIDES];
    return factor->rotated && !factor->decomposed;
}

/* Returns whether it is for this rank to decompose. */
static bool is_own(const struct eigen_job *job, size_t i)
{
    return needs_decomposition(job->fit, i) &&
           job->owners[i] == ivon_ranks_rank(job->fit->options.resources.ranks);
}

static int decompose_job(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct eigen_job *job = context;
    struct ivon_fit *fit = job->fit;
    if (!is_own(job, i) || (i != job->first && fit_state_due(fit)))
        return 0;
    int code = decompose(fit, &fit->layers[i / FIT_SIDES], (enum fit_side)(i % FIT_SIDES), error);
    return code ? code : fit_state_ask(fit, error);
}

/* This rank's factors, in several rounds where states are saved in between. */
static int decompose_own(struct eigen_job *job, struct ivon_error *error)
{
    struct ivon_fit *fit = job->fit;
    size_t count = FIT_SIDES * fit->layer_count;
    int code = 0;
    while (!code) {
        while (job->first < count && !is_own(job, job->first))
            job->first++;
        if (job->first == count)
            break;
        code = thread_pool_run(fit->pool, fit->threads, count, decompose_job, job, error);
        if (!code)
            code = fit_state_offer(fit, error);
    }
    return code;
}

/* Gives each of the factors that are left to the rank that has least to do, the largest first: its
   time is that of rows³. */
static int choose_owners(const struct ivon_fit *fit, int *owners, struct ivon_error *error)
{
    size_t count = FIT_SIDES * fit->layer_count;
    size_t ranks = (size_t)ivon_ranks_count(fit->options.resources.ranks);
    double *work = calloc(ranks, sizeof *work);
    for (size_t i = 0; i < count; i++)
        owners[i] = -1;
    while (work) {
        size_t next = count, rows = 0, least = 0;
        for (size_t i = 0; i < count; i++) {
            size_t own = fit->layers[i / FIT_SIDES].factors[i % FIT_SIDES].rows;
            if (owners[i] < 0 && needs_decomposition(fit, i) && own > rows) {
                rows = own;
                next = i;
            }
        }
        if (next == count)
            break;
        for (size_t r = 1; r < ranks; r++)
            least = work[r] < work[least] ? r : least;
        owners[next] = (int)least;
        work[least] += pow((double)rows, 3);
    }
    int code = work ? 0 : ivon_error_memory(error);
    free(work);
    return code;
}

/* Every rank gets what the others decomposed. */
static int exchange_bases(const struct eigen_job *job, struct ivon_error *error)
{
    struct ivon_fit *fit = job->fit;
    struct ivon_ranks *ranks = fit->options.resources.ranks;
    int code = 0;
    for (size_t i = 0; i < FIT_SIDES * fit->layer_count && !code; i++) {
        struct fit_factor *factor = &fit->layers[i / FIT_SIDES].factors[i % FIT_SIDES];
        size_t n = factor->rows;
        if (job->owners[i] < 0)
            continue;
        code = ranks_broadcast(ranks, job->owners[i], factor->matrix,
                               n * n * sizeof *factor->matrix, error);
        if (!code)
            code = ranks_broadcast(ranks, job->owners[i], factor->spectrum,
                                   n * sizeof *factor->spectrum, error);
        factor->decomposed = !code;
    }
    return code;
}

static int decompose_all(struct ivon_fit *fit, struct ivon_error *error)
{
    struct eigen_job job = {.fit = fit,
                            .owners = calloc(FIT_SIDES * fit->layer_count + 1, sizeof(int))};
    if (!job.owners)
        return fit_ranks_meet(fit, ivon_error_memory(error), error);
    int code = choose_owners(fit, job.owners, error);
    if (!code)
        code = decompose_own(&job, error);
    code = fit_ranks_meet(fit, code, error);
    if (!code)
        code = exchange_bases(&job, error);
    free(job.owners);
    return code;
}

/* A as it is, with both its triangles. */
static void finish_gram(struct ivon_fit *fit)
{
    for (size_t l = 0; l < fit->layer_count; l++) {
        struct fit_factor *factor = &fit->layers[l].factors[FIT_INPUT];
        size_t n = factor->rows;
        for (size_t i = 0; i < n && factor->rotated; i++)
            for (size_t j = 0; j <= i; j++) {
                float *at = &factor->matrix[i * n + j];
                *at = factor->matrix[j * n + i] = (float)((double)*at / fit->n_train);
            }
    }
}

int fit_factors_run(struct ivon_fit *fit, struct ivon_error *error)
{
    struct fit_pass pass = {.fit = fit,
                            .columns = fit->options.gram ? 0 : fit->columns,
                            .grams = true,
                            .on_wave = add_inputs,
                            .on_columns = add_adjoints};
    int code = fit->stage == FIT_FACTORS ? fit_pass_run(&pass, error) : 0;
    if (!code && fit->options.gram) {
        finish_gram(fit);
    } else if (!code) {
        fit->stage = FIT_BASES;
        code = decompose_all(fit, error);
    }
    return code;
}
