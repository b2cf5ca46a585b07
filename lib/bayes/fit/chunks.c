/*
 * Sums over the data are those of its chunks, taken in their order:
 *
 *   examples   |---- chunk 0 ----|---- chunk 1 ----|---- chunk 2 ----|-- ...
 *   waves      |----|----|----|--|----|----|----|--|
 *   sum        ((0 + chunk 0) + chunk 1) + ...
 *
 * A chunk is some whole waves, whatever threads and ranks there are. In a round every rank sums one
 * chunk, that of rank r being r chunks behind that of rank 0; then they add them. Between rounds
 * rank 0 has the sums of all examples before fit->summed, and the others need none; behind the last
 * one all have them.
 */
#include <stdlib.h>
#include <string.h>

#include "bayes/fit/private.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/ranks.h"

enum { CHUNKS = 256 /* at most: so many ranks share them, and a round is short beside the pass */ };

int fit_choose_chunk(struct ivon_fit *fit, struct ivon_error *error)
{
    size_t ranks = (size_t)ivon_ranks_count(fit->options.resources.ranks);
    size_t tiles = fit->block / fit->runner.tile, lanes = (size_t)fit->lanes;
    fit->wave = (tiles < lanes ? tiles : lanes) * fit->runner.tile;
    uint64_t waves = (fit->data.count + fit->wave - 1) / fit->wave;
    fit->chunk = (waves + CHUNKS - 1) / CHUNKS * fit->wave;
    fit->reports = calloc(ranks, sizeof *fit->reports);
    return fit->reports ? 0 : ivon_error_memory(error);
}

/* The sums of a stage. */

/* Lists one, unless it is null. */
static void chunks_list(struct ivon_fit *fit, float *total, size_t count, float **part)
{
    if (!total || !count)
        return;
    if (fit->sums)
        fit->sums[fit->sum_count] = (struct fit_sum){total, part, count};
    fit->sum_count++;
}

static void chunks_list_all(struct ivon_fit *fit)
{
    bool moments = fit->options.structure != IVON_FIT_POSTERIOR;
    fit->sum_count = 0;
    for (size_t l = 0; l < fit->layer_count; l++) {
        struct fit_layer *layer = &fit->layers[l];
        size_t size = layer->outputs * layer->columns;
        for (enum fit_side side = FIT_INPUT; side < FIT_SIDES && fit->stage == FIT_FACTORS;
             side++) {
            struct fit_factor *factor = &layer->factors[side];
            chunks_list(fit, factor->matrix, factor->rows * factor->rows, &factor->sums);
        }
        if (fit->stage != FIT_MOMENTS)
            continue;
        if (moments && !layer->product)
            chunks_list(fit, layer->h, size, &layer->h_sums);
        chunks_list(fit, layer->gradient, size, &layer->gradient_sums);
    }
    for (size_t p = 0; p < fit->network->parameter_count && fit->stage == FIT_MOMENTS && moments;
         p++)
        chunks_list(fit, fit->diagonal[p], fit->parameter_counts[p], &fit->diagonal_sums[p]);
    if (fit->stage == FIT_MOMENTS)
        chunks_list(fit, fit->diagonal_gradient, fit->diagonal_count, &fit->diagonal_gradient_sums);
}

void fit_chunks_clear(struct ivon_fit *fit)
{
    for (size_t i = 0; i < fit->sum_count; i++)
        memset(*fit->sums[i].part, 0, fit->sums[i].count * sizeof(float));
    fit->chunk_loss = 0;
    fit->chunk_digest = DIGEST_START;
}

int fit_chunks_open(struct ivon_fit *fit, struct ivon_error *error)
{
    if (fit->sums)
        return 0;
    chunks_list_all(fit);
    fit->sums = calloc(fit->sum_count + 1, sizeof *fit->sums);
    if (!fit->sums)
        return ivon_error_memory(error);
    chunks_list_all(fit);
    for (size_t i = 0; i < fit->sum_count; i++) {
        *fit->sums[i].part = memory_aligned(fit->sums[i].count * sizeof(float));
        if (!*fit->sums[i].part)
            return ivon_error_memory(error);
    }
    fit_chunks_clear(fit);
    return 0;
}

void fit_chunks_close(struct ivon_fit *fit)
{
    for (size_t i = 0; i < fit->sum_count && fit->sums; i++) {
        free(*fit->sums[i].part);
        *fit->sums[i].part = NULL;
    }
    free(fit->sums);
    fit->sums = NULL;
    fit->sum_count = 0;
}

size_t fit_chunks_bytes(const struct ivon_fit *fit)
{
    size_t factors = 0, moments = 2 * fit->diagonal_count;
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct fit_layer *layer = &fit->layers[l];
        for (enum fit_side side = FIT_INPUT; side < FIT_SIDES; side++)
            if (layer->factors[side].rotated)
                factors += layer->factors[side].rows * layer->factors[side].rows;
        moments += fit->options.gram ? 0 : 2 * layer->outputs * layer->columns;
    }
    return (factors > moments ? factors : moments) * sizeof(float);
}

/* Rounds. */

/*
 * A rank that was asked to stop says so in its report, and waits for the others as long as rank 0
 * takes to save its state. Rank 0 has saved it before it comes here, where it fails.
 */
static int chunks_report(struct ivon_fit *fit, int code, struct ivon_error *error)
{
    struct ivon_ranks *ranks = fit->options.resources.ranks;
    struct fit_report report = {0};
    bool stopped = code == IVON_ERROR_CANCELLED && ivon_ranks_rank(ranks);
    report.digest = fit->chunk_digest;
    report.stopped = stopped;
    if (code && !stopped)
        return ivon_ranks_agree(ranks, code, error);
    code = ranks_exchange(ranks, &report, sizeof report, fit->reports, error);
    for (int r = 0; r < ivon_ranks_count(ranks) && !code; r++)
        stopped |= fit->reports[r].stopped;
    return !code && stopped ? ivon_error_set(error, IVON_ERROR_CANCELLED, "interrupted") : code;
}

/* Rank 0 saves its state where another was asked to stop. */
static int chunks_meet(struct ivon_fit *fit, int code, struct ivon_error *error)
{
    int met = chunks_report(fit, code, error);
    return code ? met : fit_state_leave(fit, met, error);
}

int fit_ranks_meet(struct ivon_fit *fit, int code, struct ivon_error *error)
{
    return fit->options.resources.ranks ? chunks_meet(fit, code, error) : code;
}

/* Takes the digests of `count` chunks, one of each rank, into that of all. */
static void chunks_digest(struct ivon_fit *fit, uint64_t count)
{
    for (uint64_t r = 0; r < count; r++)
        fit->digest = digest_add(fit->digest, &fit->reports[r].digest, sizeof fit->digest);
    fit->chunk_digest = DIGEST_START;
}

/* Returns how many chunks the round has that begins at fit->summed; *own receives this rank's. */
static uint64_t chunks_of_round(const struct ivon_fit *fit, uint64_t *own)
{
    const struct ivon_ranks *ranks = fit->options.resources.ranks;
    uint64_t left = (fit->data.count - fit->summed + fit->chunk - 1) / fit->chunk;
    uint64_t count = (uint64_t)ivon_ranks_count(ranks);
    *own = fit->summed + (uint64_t)ivon_ranks_rank(ranks) * fit->chunk;
    return left < count ? left : count;
}

bool fit_chunk_begin(struct ivon_fit *fit, uint64_t *end)
{
    uint64_t own;
    chunks_of_round(fit, &own);
    *end = fit->data.count < own + fit->chunk ? fit->data.count : own + fit->chunk;
    if (own > fit->position)
        fit->position = own;
    return own < fit->data.count;
}

static int chunks_add(struct ivon_fit *fit, bool own, struct ivon_error *error)
{
    struct ivon_ranks *ranks = fit->options.resources.ranks;
    const double *loss = &fit->chunk_loss;
    int code = ranks_sum_doubles(ranks, &fit->loss, &loss, own, 1, error);
    for (size_t i = 0; i < fit->sum_count && !code; i++) {
        const struct fit_sum *sum = &fit->sums[i];
        const float *part = *sum->part;
        code = ranks_sum_floats(ranks, sum->total, &part, own, sum->count, error);
    }
    return code;
}

/* Shows what the other ranks did as done; whether to stop is asked in the next wave. */
static void chunks_show(struct ivon_fit *fit, uint64_t end)
{
    uint64_t others = fit->summed + fit->chunk;
    if (others < end)
        meter_add(&fit->meter, end - others, NULL);
}

int fit_chunk_end(struct ivon_fit *fit, int code, struct ivon_error *error)
{
    uint64_t own, count = chunks_of_round(fit, &own), end = fit->summed + count * fit->chunk;
    end = end < fit->data.count ? end : fit->data.count;
    code = chunks_meet(fit, code, error);
    if (!code)
        code = chunks_add(fit, own < fit->data.count, error);
    if (code)
        return code;
    chunks_digest(fit, fit->stage == fit_first_stage(fit) ? count : 0);
    chunks_show(fit, end);
    fit_chunks_clear(fit);
    fit->position = fit->summed = end;
    return 0;
}

int fit_digest_chunks(struct ivon_fit *fit, uint64_t chunks, struct ivon_error *error)
{
    int code = 0;
    for (fit->summed = 0; fit->summed < chunks * fit->chunk && !code;) {
        uint64_t own, count = chunks_of_round(fit, &own), left = chunks - fit->summed / fit->chunk;
        count = left < count ? left : count;
        if (own < chunks * fit->chunk)
            code = fit_digest_range(fit, own, own + fit->chunk, error);
        code = chunks_report(fit, code, error);
        if (!code)
            chunks_digest(fit, count);
        fit->summed += count * fit->chunk;
    }
    return code;
}
