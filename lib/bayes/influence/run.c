/* Runs over the training data, with the directions of some queries in memory at a time. */
#include <stdlib.h>
#include <string.h>

#include "bayes/influence/private.h"
#include "core/error.h"

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

/* A pass over the training data. */
static int influence_run_pass(struct ivon_influence *influence,
                              int (*on_block)(void *context, const struct ivon_influences *block,
                                              struct ivon_error *error),
                              void *context, struct ivon_error *error)
{
    struct labelled *data = &influence->data;
    int code = 0;
    for (size_t i = 0; i < influence->slot_count && influence->names; i++)
        influence->tensors[i] = influence->results + (i + 1) * run_slot_size(influence);
    for (uint64_t first = 0; first < data->count && !code; first += influence->block) {
        code = labelled_load(data, &influence->runner, first, error);
        if (!code)
            code = runner_run_block(&influence->runner, &data->feed, influence_run_tile, influence,
                                    &influence->meter, error);
        if (code)
            return code;
        const struct ivon_influences block = influence_describe(influence);
        code = on_block(context, &block, error);
    }
    return code;
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
