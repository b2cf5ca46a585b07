/*
 * The network linearised at the mean m: of an example's row of K outputs f ~ N(f(m), C) with the
 * row's own K × K of τ J Σ Jᵀ. Tile by tile, since an example needs one run at m alone:
 *
 *   tile -> f(m) -> T K backward passes -> diag C, or C -> closed form
 *                                                       -> C = R Rᵀ -> f(m) + R ε, S times
 *
 * ε of draw s is the normal number of the stream (seed, s, "output") at the row's place among all
 * examples' outputs.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/output_covariance.h"
#include "bayes/predict/private.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/random.h"

enum {
    PASSES_MAX = 16384,         /* backward passes for one example */
    DEFAULT_MEMORY = 256 << 20, /* bytes */
};

/* One thread's scratch, for a tile. */
struct linearised_worker {
    struct covariance_worker *covariance;
    float *adjoint, *outputs, *normals; /* rows × K */
    double *quadratic;                  /* examples */
    double *variance;                   /* rows × K: diag C */
    double *matrix; /* rows × K × K: C, and then its roots; null: nobody asks for it */
    double *sums;   /* K */
};

struct linearised {
    const struct ivon_predictor *predictor;
    struct linearised_worker *workers;
    int threads;
};

/* Draws need C, and so does the density of several targets. */
static bool linearised_needs_matrix(const struct ivon_predictor *predictor)
{
    const struct ivon_task *task = &predictor->options.task;
    const struct likelihood likelihood = {task->likelihood, predictor->outputs.k, task->noise_std};
    const struct ivon_predict_options *options = &predictor->options;
    return !predictor->closed ||
           (likelihood.k > 1 && predictor->data.field >= 0 &&
            (options->metrics || options->descriptions) && likelihood_is_known(&likelihood) &&
            likelihood_kind_of(task->likelihood)->normal_density);
}

/* The tile. */

int linearised_check(const struct ivon_predict_options *options, size_t members,
                     struct ivon_error *error)
{
    const struct likelihood_kind *kind = likelihood_kind_of(options->task.likelihood);
    if (members > 1)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%zu posteriors, a linearised network is that of one", members);
    if (options->recalibrate)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "batch-norm statistics are recalibrated for samples of weights, "
                              "which a linearised network does not have");
    if (options->method == IVON_PREDICT_LINEAR_DRAWS)
        return options->samples ? 0
                                : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                                 "0 draws of a linearised network's outputs, "
                                                 "expected at least 1");
    if (options->log_likelihoods)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "a linearised network's closed form has no samples whose "
                              "log-likelihoods could be told");
    if (kind->traits.regression && !kind->add_normal)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "a linearised network's outputs have no closed form with the "
                              "likelihood %s",
                              kind->traits.name);
    return 0;
}

/* Bytes of an example's K × K covariances, 0 where they are not needed. */
static double linearised_matrix_bytes(const struct ivon_predictor *predictor)
{
    double k = (double)predictor->outputs.k;
    return linearised_needs_matrix(predictor)
               ? (double)predictor->outputs.tokens * k * k * (double)sizeof(double)
               : 0;
}

static double linearised_memory(const struct ivon_predictor *predictor)
{
    size_t given = predictor->options.resources.memory;
    return given ? (double)given : DEFAULT_MEMORY;
}

int linearised_fit_tile(struct ivon_predictor *predictor, struct ivon_error *error)
{
    size_t tokens = predictor->outputs.tokens, k = predictor->outputs.k;
    const char *path = predictor->members[0].network->path;
    struct runner *runner = &predictor->runner;
    double bytes = linearised_matrix_bytes(predictor), memory = linearised_memory(predictor);
    int code = 0;
    if (k > PASSES_MAX / tokens)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: an example has %zu x %zu outputs, and linearising takes a "
                              "backward pass for each of them, %d at most: average over samples of "
                              "the weights",
                              path, tokens, k, PASSES_MAX);
    if (bytes > memory)
        return ivon_error_hint(
            error, IVON_HINT_MEMORY,
            ivon_error_set(error, IVON_ERROR_MEMORY,
                           "%s: the covariances of one example's outputs, %zu x %zu x %zu, take "
                           "%.6g MB of memory, %.6g MB are allowed",
                           path, tokens, k, k, bytes / 1e6, memory / 1e6));
    while (!code && !predictor->options.batch && runner->tile > 1 &&
           bytes * (double)runner->tile > memory)
        code = runner_measure(runner, &predictor->data.feed, runner->tile / 2, error);
    return code;
}

int linearised_threads(const struct ivon_predictor *predictor)
{
    const struct runner *runner = &predictor->runner;
    double bytes = linearised_matrix_bytes(predictor) * (double)runner->tile, most = 1;
    int threads = ivon_parallel_threads(predictor->options.resources.threads);
    while (most < threads && (most + 1) * bytes <= linearised_memory(predictor) &&
           (most + 1) * (double)runner->bytes <= (double)runner->memory)
        most++;
    return (int)most;
}

/* Workers. */

static int linearised_worker_init(const struct ivon_predictor *predictor,
                                  struct linearised_worker *worker,
                                  struct net_derivative *derivative, struct ivon_error *error)
{
    size_t tile = predictor->runner.tile, rows = tile * predictor->outputs.tokens;
    size_t k = predictor->outputs.k;
    worker->adjoint = calloc(rows, k * sizeof *worker->adjoint);
    worker->outputs = calloc(rows, k * sizeof *worker->outputs);
    worker->normals = calloc(rows, k * sizeof *worker->normals);
    worker->quadratic = calloc(tile, sizeof *worker->quadratic);
    worker->variance = calloc(rows, k * sizeof *worker->variance);
    worker->sums = calloc(k, sizeof *worker->sums);
    bool fine = worker->adjoint && worker->outputs && worker->normals && worker->quadratic &&
                worker->variance && worker->sums;
    if (fine && linearised_needs_matrix(predictor))
        fine = (worker->matrix = calloc(rows * k, k * sizeof *worker->matrix)) != NULL;
    return fine ? covariance_worker_new(&worker->covariance, predictor->members[0].covariance,
                                        derivative, tile, predictor->outputs.tokens * k, error)
                : ivon_error_memory(error);
}

int linearised_new(struct linearised **out, const struct ivon_predictor *predictor,
                   struct ivon_error *error)
{
    const struct covariance_scale scale = {.rho = predictor->options.sample.temperature};
    struct linearised *linearised = calloc(1, sizeof *linearised);
    if (!linearised)
        return ivon_error_memory(error);
    *out = linearised;
    linearised->predictor = predictor;
    linearised->threads = predictor->runner.threads;
    linearised->workers = calloc((size_t)linearised->threads, sizeof *linearised->workers);
    int code = linearised->workers ? 0 : ivon_error_memory(error);
    if (!code && scale.rho > 0)
        code = covariance_load(predictor->members[0].covariance, &scale, linearised->threads,
                               error);
    for (int i = 0; i < linearised->threads && !code; i++)
        code = linearised_worker_init(predictor, &linearised->workers[i],
                                      predictor->runner.workers[i].derivative, error);
    return code;
}

void linearised_free(struct linearised *linearised)
{
    for (int i = 0; linearised && linearised->workers && i < linearised->threads; i++) {
        struct linearised_worker *worker = &linearised->workers[i];
        covariance_worker_free(worker->covariance);
        free(worker->adjoint);
        free(worker->outputs);
        free(worker->normals);
        free(worker->quadratic);
        free(worker->variance);
        free(worker->matrix);
        free(worker->sums);
    }
    if (linearised)
        free(linearised->workers);
    free(linearised);
}

/* Covariances. */

/* Sets the variances to the diagonal of each row's matrix, and makes this symmetric. */
static void linearised_finish_matrix(const struct linearised_worker *worker, size_t rows, size_t k)
{
    for (size_t r = 0; r < rows; r++) {
        double *c = worker->matrix + r * k * k;
        for (size_t i = 0; i < k; i++) {
            for (size_t j = 0; j < i; j++)
                c[i * k + j] = c[j * k + i] = (c[i * k + j] + c[j * k + i]) / 2;
            worker->variance[r * k + i] = c[i * k + i] > 0 ? c[i * k + i] : 0;
        }
    }
}

void linearised_find(const struct linearised *linearised, const struct runner_tile *tile)
{
    const struct ivon_predictor *predictor = linearised->predictor;
    const struct linearised_worker *worker = &linearised->workers[tile->thread];
    size_t tokens = predictor->outputs.tokens, k = predictor->outputs.k;
    const struct output_covariance of = {.covariance = worker->covariance,
                                         .derivative = tile->worker->derivative,
                                         .tile = predictor->runner.tile,
                                         .width = tokens * k,
                                         .adjoint = worker->adjoint,
                                         .quadratic = worker->quadratic};
    covariance_worker_begin(worker->covariance);
    for (size_t i = 0; i < of.width && predictor->options.sample.temperature > 0; i++) {
        if (!worker->matrix) {
            const double *variance = output_variance(&of, i, tile->count);
            for (size_t e = 0; e < tile->count; e++)
                worker->variance[e * of.width + i] = variance[e] > 0 ? variance[e] : 0;
            continue;
        }
        const float *column = output_covariance_column(&of, i, tile->count);
        for (size_t e = 0; e < tile->count; e++) {
            double *own = worker->matrix + (e * of.width + i) * k;
            for (size_t j = 0; j < k; j++)
                own[j] = column ? (double)column[e * of.width + i / k * k + j] : 0;
        }
    }
    if (worker->matrix)
        linearised_finish_matrix(worker, tile->count * tokens, k);
}

/* Draws. */

IVON_DISPATCH static void linearised_subtract(double *restrict out, const double *restrict x,
                                              double scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] -= scale * x[i];
}

IVON_DISPATCH static void linearised_add_scaled(double *restrict out, const double *restrict x,
                                                double scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] += scale * x[i];
}

/* Returns the unused output whose remaining variance is the largest; k: what is left of all of
   them is rounding. */
static size_t linearised_pivot(const double *c, const double *used, size_t k)
{
    double most = 0x1p-20; /* of 1: products of floats made C */
    size_t pivot = k;
    for (size_t i = 0; i < k; i++)
        if (!used[i] && c[i * k + i] > most) {
            most = c[i * k + i];
            pivot = i;
        }
    return pivot;
}

/*
 * C ← Rᵀ with C = R Rᵀ: Cholesky's factorisation of correlations with the largest pivot first,
 * which ends where the rest is rounding, so that C may be singular. Row p of the result is the
 * column of pivot p; that of an output which became none is zero. `used` has K numbers.
 */
static void linearised_root(double *c, const double *variance, double *used, size_t k)
{
    size_t pivot;
    for (size_t i = 0; i < k; i++) {
        used[i] = 0;
        for (size_t j = 0; j < k; j++) {
            double scale = variance[i] > 0 && variance[j] > 0
                               ? sqrt(variance[i]) * sqrt(variance[j])
                               : 0;
            c[i * k + j] = scale > 0 ? c[i * k + j] / scale : 0;
        }
    }
    while ((pivot = linearised_pivot(c, used, k)) < k) {
        double *row = c + pivot * k, root = sqrt(row[pivot]);
        used[pivot] = 1;
        for (size_t j = 0; j < k; j++)
            row[j] = used[j] && j != pivot ? 0 : row[j] / root;
        for (size_t i = 0; i < k; i++)
            if (!used[i])
                linearised_subtract(c + i * k, row, row[i], k);
    }
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < k; j++)
            c[i * k + j] *= used[i] && variance[j] > 0 ? sqrt(variance[j]) : 0;
}

void linearised_find_roots(const struct linearised *linearised, const struct runner_tile *tile)
{
    const struct linearised_worker *worker = &linearised->workers[tile->thread];
    size_t k = linearised->predictor->outputs.k;
    for (size_t r = 0; r < tile->count * linearised->predictor->outputs.tokens; r++)
        linearised_root(worker->matrix + r * k * k, worker->variance + r * k, worker->sums, k);
}

const float *linearised_draw(const struct linearised *linearised, const struct runner_tile *tile,
                             uint64_t draw, uint64_t first_row)
{
    const struct ivon_predictor *predictor = linearised->predictor;
    const struct linearised_worker *worker = &linearised->workers[tile->thread];
    size_t k = predictor->outputs.k, rows = tile->count * predictor->outputs.tokens;
    struct random_stream stream = random_stream_of(predictor->options.sample.seed, draw, "output");
    random_normal(&stream, first_row * k, rows * k, worker->normals);
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < k; i++)
            worker->sums[i] = (double)tile->f[r * k + i];
        for (size_t p = 0; p < k; p++)
            linearised_add_scaled(worker->sums, worker->matrix + (r * k + p) * k,
                                  (double)worker->normals[r * k + p], k);
        for (size_t i = 0; i < k; i++)
            worker->outputs[r * k + i] = (float)worker->sums[i];
    }
    return worker->outputs;
}

/* Closed forms. */

void linearised_add(const struct linearised *linearised, const struct runner_tile *tile,
                    struct row_sums *sums, size_t row, const struct row_targets *targets)
{
    const double PI = 3.14159265358979323846;
    const struct ivon_predictor *predictor = linearised->predictor;
    const struct linearised_worker *worker = &linearised->workers[tile->thread];
    size_t rows = tile->count * predictor->outputs.tokens, k = predictor->outputs.k;
    if (ivon_likelihood_traits(predictor->options.task.likelihood)->regression) {
        const struct likelihood_normal normal = {tile->f, worker->variance, worker->matrix};
        rows_add_normal(sums, row, rows, &normal, targets);
        return;
    }
    for (size_t i = 0; i < rows * k; i++)
        worker->outputs[i] = (float)((double)tile->f[i] / sqrt(1 + PI / 8 * worker->variance[i]));
    rows_add(sums, 0, 1, row, rows, worker->outputs, targets, NULL);
}
