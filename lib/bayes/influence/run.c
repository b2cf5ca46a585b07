/* Runs over the training data, with the directions of some queries in memory at a time. */
#include <stdlib.h>
#include <string.h>

#include "bayes/influence/private.h"
#include "core/error.h"
#include "core/ranks.h"

/* Elements of the results of one slot. */
static size_t run_slot_size(const struct ivon_influence *influence)
{
    return influence->block * influence_rows(influence) * influence->present;
}

/* The sums of a tile's rows of one token, or of its examples, to results. */
static void run_store(const struct ivon_influence *influence, const struct runner_tile *tile,
                      size_t token)
{
    const struct influence_worker *worker = &influence->workers[tile->thread];
    size_t present = influence->present, n = influence->runner.tile;
    size_t rows = influence_rows(influence), size = run_slot_size(influence);
    for (size_t e = 0; e < tile->count; e++) {
        float *results = influence->results + ((tile->at + e) * rows + token) * present;
        for (size_t q = 0; q < present; q++) {
            double sum = 0;
            for (size_t slot = 0; slot < influence->slot_count; slot++) {
                double part = worker->sums[(slot * present + q) * n + e];
                sum += part;
                if (influence->names)
                    results[(slot + 1) * size + q] = (float)part;
            }
            results[q] = (float)sum;
        }
    }
}

static int influence_run_tile(void *context, const struct runner_tile *tile,
                              struct ivon_error *error)
{
    struct ivon_influence *influence = context;
    struct influence_worker *worker = &influence->workers[tile->thread];
    size_t rows = influence_rows(influence), n = influence->runner.tile;
    size_t wide = influence->outputs.tokens * influence->outputs.k;
    int code = influence_check_tile(influence, &influence->data, tile, error);
    for (size_t token = 0; token < rows && !code; token++) {
        memset(worker->adjoint, 0, n * wide * sizeof *worker->adjoint);
        influence_residual(influence, &influence->data, tile, worker->adjoint);
        influence_keep_token(influence, tile, rows > 1 ? token : SIZE_MAX, worker->adjoint);
        net_derivative_backward(tile->worker->derivative, worker->adjoint, NULL);
        influence_multiply(influence, tile);
        run_store(influence, tile, token);
    }
    return code;
}

static struct ivon_influences influence_describe(const struct ivon_influence *influence)
{
    const struct labelled *data = &influence->data;
    bool classes = ivon_likelihood_traits(influence->likelihood.kind)->classes;
    return (struct ivon_influences){
        .first = data->first,
        .first_query = influence->first_query,
        .count = data->present,
        .query_count = influence->present,
        .rows = influence_rows(influence),
        .influence = influence->results,
        .tensors = influence->tensors,
        .labels = classes && !influence->outputs.token_axis ? data->labels : NULL};
}

/* Ranks: in each round every rank computes a block, each behind that of the rank before it. */

struct influence_round {
    struct ivon_influence *influence;
    uint64_t first; /* example of rank 0's block */
    int (*on_block)(void *context, const struct ivon_influences *block, struct ivon_error *error);
    void *context;
};

static uint64_t influence_round_first(const struct influence_round *round, int rank)
{
    return round->first + (uint64_t)rank * round->influence->block;
}

/* The results of a rank's block, in the place where this rank has those of its own: those of
   tensors lie apart by whole blocks. */
static size_t influence_round_describe(void *context, int rank, struct ranks_piece *pieces,
                                       size_t limit)
{
    const struct influence_round *round = context;
    const struct ivon_influence *influence = round->influence;
    uint64_t left = influence->data.count - influence_round_first(round, rank);
    size_t examples = left < influence->block ? (size_t)left : influence->block;
    size_t size = influence->names ? (influence->slot_count + 1) * run_slot_size(influence)
                                   : examples * influence_rows(influence) * influence->present;
    pieces[0] = (struct ranks_piece){influence->results, size * sizeof *influence->results};
    return limit ? 1 : 0;
}

/* Hands a block on; the targets of another rank's are read here. */
static int influence_round_take(void *context, int rank, struct ivon_error *error)
{
    const struct influence_round *round = context;
    struct ivon_influence *influence = round->influence;
    int code = 0;
    if (rank)
        code = labelled_read_targets(&influence->data, influence_round_first(round, rank), error);
    if (!code && rank)
        code = meter_add(&influence->meter, influence->data.present, error);
    const struct ivon_influences block = influence_describe(influence);
    return code ? code : round->on_block(round->context, &block, error);
}

/* This rank's block, if there is one. */
static int influence_run_block(const struct influence_round *round, struct ivon_error *error)
{
    struct ivon_influence *influence = round->influence;
    struct labelled *data = &influence->data;
    int rank = ivon_ranks_rank(influence->options.resources.ranks);
    if (influence_round_first(round, rank) >= data->count)
        return 0;
    int code = labelled_load(data, &influence->runner, influence_round_first(round, rank), error);
    return code ? code
                : runner_run_block(&influence->runner, &data->feed, influence_run_tile, influence,
                                   &influence->meter, error);
}

/* A pass over the training data. */
static int influence_run_pass(struct ivon_influence *influence,
                              int (*on_block)(void *context, const struct ivon_influences *block,
                                              struct ivon_error *error),
                              void *context, struct ivon_error *error)
{
    struct ivon_ranks *ranks = influence->options.resources.ranks;
    struct influence_round round = {influence, 0, on_block, context};
    const struct ranks_round all = {
        .describe = influence_round_describe, .take = influence_round_take, .context = &round};
    uint64_t count = influence->data.count;
    int code = 0;
    for (size_t i = 0; i < influence->slot_count && influence->names; i++)
        influence->tensors[i] = influence->results + (i + 1) * run_slot_size(influence);
    while (round.first < count && !code) {
        struct ranks_round present = all;
        for (int r = 0; r < ivon_ranks_count(ranks); r++)
            present.present += influence_round_first(&round, r) < count;
        code = ranks_round_take(ranks, &present, influence_run_block(&round, error), error);
        round.first += (uint64_t)ivon_ranks_count(ranks) * influence->block;
    }
    return code;
}

/* Blocks so small that every rank has several. */
static void influence_share_blocks(struct ivon_influence *influence)
{
    enum { ROUNDS = 4 };
    struct ivon_ranks *ranks = influence->options.resources.ranks;
    size_t tile = influence->runner.tile;
    uint64_t parts = (uint64_t)ivon_ranks_count(ranks) * ROUNDS * tile;
    uint64_t most = (influence->data.count + parts - 1) / parts * tile;
    if (ranks && most < influence->block)
        influence->block = (size_t)most;
    influence->data.limit = influence->block;
}

/* Queries in memory at a time. */
static size_t influence_places(const struct ivon_influence *influence)
{
    uint64_t queries = influence->query_count;
    return influence->capacity < queries ? influence->capacity : (size_t)queries;
}

static int influence_reserve(struct ivon_influence *influence, struct ivon_error *error)
{
    size_t places = influence_places(influence), slots = influence->slot_count, size, rows;
    bool fine = !__builtin_mul_overflow(places, influence->stride * sizeof(float), &size) &&
                !__builtin_mul_overflow(influence->block * (slots + 1), influence_rows(influence),
                                        &rows);
    free(influence->directions);
    free(influence->results);
    influence->directions = fine ? malloc(size + 1) : NULL;
    influence->results = fine ? calloc(rows, places * sizeof(float)) : NULL;
    fine = influence->directions && influence->results;
    for (int i = 0; i < influence->runner.threads && fine; i++) {
        struct influence_worker *worker = &influence->workers[i];
        free(worker->sums);
        worker->sums = calloc(slots * influence->runner.tile, places * sizeof *worker->sums);
        fine = worker->sums != NULL;
    }
    return fine ? 0 : ivon_error_memory(error);
}

int ivon_influence_run(struct ivon_influence *influence,
                       int (*on_block)(void *context, const struct ivon_influences *block,
                                       struct ivon_error *error),
                       void *context, struct ivon_error *error)
{
    uint64_t queries = influence->query_count, total = 0;
    if (!queries)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the influence is on queries, which were not given");
    size_t places = influence_places(influence);
    uint64_t passes = (queries + places - 1) / places;
    if (__builtin_mul_overflow(passes, influence->data.count, &total))
        total = 0;
    influence_share_blocks(influence);
    int code = influence_reserve(influence, error);
    meter_init(&influence->meter, &influence->options.resources.progress, total);
    for (uint64_t first = 0; first < queries && !code; first += places) {
        uint64_t left = queries - first;
        code = influence_load_queries(influence, first, left < places ? (size_t)left : places,
                                      error);
        if (!code)
            code = influence_run_pass(influence, on_block, context, error);
    }
    meter_release(&influence->meter);
    return code;
}
