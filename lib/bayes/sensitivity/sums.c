/*
 * The sums over many examples, ρ Σ Σ_{j∈M} J_jᵀ a_j, for groups M of them.
 *
 * Gradients are summed wave by wave: each thread forms that of one tile's examples of one group,
 * and then all are added to the sums in the order of the tiles, so that no bit depends on the
 * threads. Ranks that share the examples have a wave each in every round, one behind the other, and
 * add them to the sum in that order.
 */
#include <stdlib.h>
#include <string.h>

#include "bayes/sensitivity/private.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/ranks.h"

enum { PIECE = 1 << 16 /* elements that one thread adds at a time */ };

struct summing {
    struct ivon_sensitivity *sensitivity;
    const struct sensitivity_sum *of;
    double **sums;             /* per group, all parameters */
    struct weights *gradients; /* per thread */
    const float **lanes;       /* the same */
    struct sensitivity_task *tasks;
    size_t task_count, wave_first, wave;
    uint64_t own, before, round; /* examples that this rank, those before it and all take at once */
};

static size_t sums_group_of(const struct summing *summing, size_t at)
{
    const struct sensitivity_sum *of = summing->of;
    return of->member_of ? of->member_of[of->data->first + at] : 0;
}

/* Adds R z of the tile's examples to their adjoints. */
static int sums_add_roots(const struct summing *summing, const struct pass *pass, size_t wide,
                          struct ivon_error *error)
{
    const struct sensitivity_sum *of = summing->of;
    double *x = of->z ? malloc(wide * sizeof *x + 1) : NULL;
    if (of->z && !x)
        return ivon_error_memory(error);
    for (size_t e = 0; e < pass->count && x; e++) {
        memcpy(x, of->z + (of->data->first + pass->at + e) * wide, wide * sizeof *x);
        sensitivity_multiply_root(pass, e, false, x);
        for (size_t i = 0; i < wide; i++)
            pass->worker->adjoint[e * wide + i] += (float)x[i];
    }
    free(x);
    return 0;
}

/* The gradient of the tile's examples that are in the group. */
static int sums_add_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread; /* task i of the wave belongs to worker i */
    const struct summing *summing = context;
    const struct sensitivity_sum *of = summing->of;
    struct ivon_sensitivity *sensitivity = summing->sensitivity;
    const struct sensitivity_task *task = &summing->tasks[summing->wave_first + i];
    const struct weights *gradient = &summing->gradients[i];
    size_t tokens = sensitivity->outputs.tokens, wide = tokens * sensitivity->outputs.k;
    struct runner_tile tile;
    int code = runner_run_tile(&sensitivity->runner, (int)i, &of->data->feed, task->tile, &tile,
                               error);
    if (!code)
        code = sensitivity_check_tile(sensitivity, of->data, &tile, error);
    if (code)
        return code;
    struct pass pass = sensitivity_pass_of(sensitivity, of->data, &tile);
    float *adjoint = pass.worker->adjoint;
    likelihood_evaluate(&sensitivity->likelihood, pass.rows, tile.f, &pass.targets,
                        pass.worker->outputs, NULL);
    memset(adjoint, 0, sensitivity->runner.tile * wide * sizeof *adjoint);
    if (of->residual)
        likelihood_residual(&sensitivity->likelihood, pass.rows, pass.worker->outputs,
                            &pass.targets, adjoint);
    code = sums_add_roots(summing, &pass, wide, error);
    for (size_t e = 0; e < tile.count; e++)
        if (sums_group_of(summing, tile.at + e) != task->group)
            memset(adjoint + e * wide, 0, wide * sizeof *adjoint);
    memset(gradient->data, 0, gradient->size);
    net_derivative_backward(pass.derivative, adjoint, gradient->arrays);
    return code ? code : meter_add(&sensitivity->meter, tile.count, error);
}

IVON_DISPATCH static void sums_add(double *restrict sum, const float *restrict a, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] += (double)a[i];
}

/* Adds one range of all gradients of the wave, in their order. */
static int sums_add_piece(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct summing *summing = context;
    size_t total = summing->gradients[0].size / sizeof(float), at = i * PIECE;
    size_t count = total - at < PIECE ? total - at : PIECE;
    for (size_t t = 0; t < summing->wave; t++) {
        size_t group = summing->tasks[summing->wave_first + t].group - summing->of->first;
        sums_add(summing->sums[group] + at, summing->gradients[t].data + at, count);
    }
    return 0;
}

/* The groups that a block's tiles hold. */
static void sums_list_tasks(struct summing *summing)
{
    const struct sensitivity_sum *of = summing->of;
    size_t tile = summing->sensitivity->runner.tile;
    size_t tiles = runner_tile_count(&summing->sensitivity->runner, &of->data->feed);
    summing->task_count = 0;
    for (size_t i = 0; i < tiles; i++)
        for (size_t g = of->first; g < of->first + of->count; g++) {
            bool any = false;
            for (size_t at = i * tile; at < (i + 1) * tile && at < of->data->present; at++)
                any |= sums_group_of(summing, at) == g;
            if (any)
                summing->tasks[summing->task_count++] = (struct sensitivity_task){i, g};
        }
}

static int sums_add_wave(struct summing *summing, struct ivon_error *error)
{
    int threads = summing->sensitivity->runner.threads;
    size_t total = summing->gradients[0].size / sizeof(float);
    int code = ivon_parallel_run(threads, summing->wave, sums_add_tile, summing, error);
    if (code)
        return code;
    return summing->of->ranks ? ranks_sum_wide(summing->of->ranks, summing->sums[0], summing->lanes,
                                               summing->wave, total, error)
                              : ivon_parallel_run(threads, (total + PIECE - 1) / PIECE,
                                                  sums_add_piece, summing, error);
}

/* The tasks of the block in memory. Ranks have no more than a wave of them, and take part in the
   sum of the others' where they have none left. */
static int sums_add_block(struct summing *summing, struct ivon_error *error)
{
    size_t threads = (size_t)summing->sensitivity->runner.threads;
    int code = 0;
    summing->wave_first = 0;
    do {
        size_t left = summing->task_count - summing->wave_first;
        summing->wave = left < threads ? left : threads;
        code = sums_add_wave(summing, error);
        summing->wave_first += summing->wave;
    } while (summing->wave_first < summing->task_count && !code);
    return code;
}

/* The examples of one round, of which rank 0 has those from `at` on. */
static int sums_add_round(struct summing *summing, uint64_t at, struct ivon_error *error)
{
    struct ivon_sensitivity *sensitivity = summing->sensitivity;
    struct labelled *data = summing->of->data;
    uint64_t first = at + summing->before, left = data->count - at, present = 0;
    int code = 0;
    summing->task_count = 0;
    if (first < data->count) {
        data->limit = (size_t)summing->own;
        code = labelled_load(data, &sensitivity->runner, first, error);
        data->limit = data->capacity;
        present = data->present;
    }
    if (!code && present)
        sums_list_tasks(summing);
    if (!code)
        code = sums_add_block(summing, error);
    uint64_t all = left < summing->round ? left : summing->round;
    return code ? code : meter_add(&sensitivity->meter, all - present, error);
}

/* Finds which examples this rank takes in each round. */
static int sums_divide(struct summing *summing, struct ivon_error *error)
{
    const struct ivon_sensitivity *sensitivity = summing->sensitivity;
    struct ivon_ranks *ranks = summing->of->ranks;
    size_t wave = (size_t)sensitivity->runner.threads * sensitivity->runner.tile;
    uint64_t *each = calloc((size_t)ivon_ranks_count(ranks), sizeof *each);
    summing->own = ranks && wave < sensitivity->block ? wave : sensitivity->block;
    int code = each ? ranks_exchange(ranks, &summing->own, sizeof *each, each, error)
                    : ivon_error_memory(error);
    for (int r = 0; r < ivon_ranks_count(ranks) && !code; r++) {
        summing->before += r < ivon_ranks_rank(ranks) ? each[r] : 0;
        summing->round += each[r];
    }
    free(each);
    return code;
}

static void sums_release(struct summing *summing)
{
    for (size_t g = 0; g < summing->of->count && summing->sums; g++)
        free(summing->sums[g]);
    for (int i = 0; i < summing->sensitivity->runner.threads && summing->gradients; i++)
        weights_release(&summing->gradients[i]);
    free(summing->sums);
    free(summing->gradients);
    free(summing->lanes);
    free(summing->tasks);
}

static int sums_prepare(struct summing *summing, struct ivon_error *error)
{
    const struct ivon_sensitivity *sensitivity = summing->sensitivity;
    size_t threads = (size_t)sensitivity->runner.threads, count = summing->of->count;
    size_t tiles = sensitivity->block / sensitivity->runner.tile;
    int code = 0;
    summing->sums = calloc(count, sizeof *summing->sums);
    summing->gradients = calloc(threads, sizeof *summing->gradients);
    summing->lanes = calloc(threads, sizeof *summing->lanes);
    summing->tasks = calloc(tiles * count, sizeof *summing->tasks);
    if (!summing->sums || !summing->gradients || !summing->lanes || !summing->tasks)
        return ivon_error_memory(error);
    for (size_t i = 0; i < threads && !code; i++) {
        code = weights_init(&summing->gradients[i], sensitivity->network, error);
        summing->lanes[i] = summing->gradients[i].data;
    }
    for (size_t g = 0; g < count && !code; g++) {
        summing->sums[g] = calloc(summing->gradients[0].size / sizeof(float), sizeof(double));
        code = summing->sums[g] ? 0 : ivon_error_memory(error);
    }
    return code;
}

int sensitivity_sum(struct ivon_sensitivity *sensitivity, const struct sensitivity_sum *of,
                    struct weights *directions, struct ivon_error *error)
{
    struct summing summing = {.sensitivity = sensitivity, .of = of};
    int code = sums_prepare(&summing, error);
    if (!code)
        code = sums_divide(&summing, error);
    for (uint64_t at = 0; at < of->data->count && !code; at += summing.round)
        code = sums_add_round(&summing, at, error);
    for (size_t g = 0; g < of->count && !code; g++) {
        code = weights_init(&directions[g], sensitivity->network, error);
        if (!code)
            code = covariance_apply(sensitivity->covariance, summing.sums[g], &directions[g],
                                    error);
    }
    sums_release(&summing);
    return code;
}
