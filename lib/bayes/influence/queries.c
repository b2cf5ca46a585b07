/* The queries, and their directions ρ Σ q: first all q, tile by tile, then Σ of each. */
#include <stdlib.h>
#include <string.h>

#include "bayes/influence/private.h"
#include "bayes/rank_inputs.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/ranks.h"

/* Gradients. */

struct querying {
    struct ivon_influence *influence;
    struct influence_queries *queries;
};

/* The direction of a query, if it is wanted. */
static float *querying_direction(const struct querying *querying, uint64_t query)
{
    const struct ivon_influence *influence = querying->influence;
    bool wanted = query >= influence->first_query &&
                  query - influence->first_query < influence->present;
    return wanted ? influence->directions + (query - influence->first_query) * influence->stride
                  : NULL;
}

static int querying_tile(void *context, const struct runner_tile *tile, struct ivon_error *error)
{
    const struct querying *querying = context;
    struct ivon_influence *influence = querying->influence;
    const struct labelled *data = &querying->queries->data;
    struct influence_worker *worker = &influence->workers[tile->thread];
    size_t tokens = influence_tokens(influence);
    float **directions = calloc(tile->count, sizeof *directions);
    int code = directions ? influence_check_tile(influence, data, tile, error)
                          : ivon_error_memory(error);
    for (size_t t = 0; t < tokens && !code; t++) {
        bool any = false;
        for (size_t e = 0; e < tile->count; e++) {
            uint64_t query = querying->queries->first + (data->first + tile->at + e) * tokens + t;
            directions[e] = querying_direction(querying, query);
            any |= directions[e] != NULL;
        }
        if (!any)
            continue;
        influence_measure(influence, data, tile, tokens > 1 ? t : SIZE_MAX, worker->adjoint);
        net_derivative_backward(tile->worker->derivative, worker->adjoint, NULL);
        influence_add_gradients(influence, tile, directions);
    }
    free(directions);
    return code;
}

/* The gradients of one file's queries that are wanted. */
static int queries_add_gradients(struct ivon_influence *influence,
                                 struct influence_queries *queries, struct ivon_error *error)
{
    struct querying querying = {influence, queries};
    size_t tokens = influence_tokens(influence), tile = influence->runner.tile;
    uint64_t end = influence->first_query + influence->present, first = 0;
    int code = 0;
    if (influence->first_query > queries->first)
        first = (influence->first_query - queries->first) / tokens / tile * tile;
    for (; first < queries->data.count && queries->first + first * tokens < end && !code;
         first += queries->data.capacity) {
        code = labelled_load(&queries->data, &influence->runner, first, error);
        if (!code)
            code = runner_run_block(&influence->runner, &queries->data.feed, querying_tile,
                                    &querying, NULL, error);
    }
    return code;
}

/* Products with the covariance. */

static int queries_multiply(void *context, size_t i, int thread, struct ivon_error *error)
{
    struct ivon_influence *influence = context;
    struct influence_worker *worker = &influence->workers[thread];
    struct weights *direction = &worker->direction;
    direction->data = influence->directions + i * influence->stride;
    for (size_t j = 0; j < influence->stride; j++)
        worker->wide[j] = (double)direction->data[j];
    for (size_t p = 0; p < influence->network->parameter_count; p++)
        direction->arrays[p] = direction->data + influence_place(influence, p);
    int code = covariance_apply(influence->covariance, worker->wide, direction, error);
    direction->data = NULL;
    return code ? code : progress_ask(&influence->options.resources.progress, error);
}

/* Those of the range of queries in memory that begins with `at`. */
static int queries_load_range(struct ivon_influence *influence, size_t at, size_t count,
                              struct ivon_error *error)
{
    float *all = influence->directions;
    uint64_t first = influence->first_query;
    size_t present = influence->present;
    int code = 0;
    influence->directions = all + at * influence->stride;
    influence->first_query = first + at;
    influence->present = count;
    for (size_t i = 0; i < influence->query_sets && !code; i++)
        code = queries_add_gradients(influence, &influence->queries[i], error);
    if (!code)
        code = ivon_parallel_run(influence->runner.threads, count, queries_multiply, influence,
                                 error);
    influence->directions = all;
    influence->first_query = first;
    influence->present = present;
    return code;
}

/* Every rank gets the directions that the others made. */
static int queries_exchange(struct ivon_influence *influence, const struct ranks_range *own,
                            struct ivon_error *error)
{
    struct ivon_ranks *ranks = influence->options.resources.ranks;
    size_t size = influence->stride * sizeof *influence->directions;
    int code = 0;
    for (int r = 0; r < ivon_ranks_count(ranks) && !code; r++) {
        struct ranks_range range = *own;
        code = ranks_broadcast(ranks, r, &range, sizeof range, error);
        if (!code)
            code = ranks_broadcast(ranks, r,
                                   influence->directions + range.first * influence->stride,
                                   (range.end - range.first) * size, error);
    }
    return code;
}

int influence_load_queries(struct ivon_influence *influence, uint64_t first, size_t count,
                           struct ivon_error *error)
{
    const struct ranks_range own = ranks_range(influence->options.resources.ranks, count);
    int code = 0;
    influence->first_query = first;
    influence->present = count;
    memset(influence->directions, 0, count * influence->stride * sizeof(float));
    if (own.first < own.end)
        code = queries_load_range(influence, own.first, own.end - own.first, error);
    return code ? code : queries_exchange(influence, &own, error);
}

/* Adding. */

static int queries_check(const struct ivon_influence *influence,
                         const struct influence_queries *queries, struct ivon_error *error)
{
    bool needless = influence->options.measure == IVON_MEASURE_LOGIT;
    size_t field = 0;
    const struct labelled *data = &queries->data;
    int code = data->field < 0 && !needless
                   ? outputs_find_targets(data->examples, NULL, &field, error)
                   : 0;
    return code ? code : feed_check_shapes(&data->feed, &influence->data.feed, error);
}

int ivon_influence_add_queries(struct ivon_influence *influence, struct ivon_examples *examples,
                               const char *targets, struct ivon_error *error)
{
    const struct ivon_task *task = &influence->options.task;
    size_t tokens = influence_tokens(influence);
    struct influence_queries *grown = realloc(influence->queries,
                                              (influence->query_sets + 1) * sizeof *grown);
    if (!grown)
        return ivon_error_memory(error);
    influence->queries = grown;
    struct influence_queries *queries = &grown[influence->query_sets];
    *queries = (struct influence_queries){.first = influence->query_count};
    int code = labelled_open(&queries->data, influence->network, &influence->outputs, examples,
                             targets, task->inputs, task->input_count, error);
    if (!code)
        code = rank_inputs_check_examples(influence->options.resources.ranks, examples, error);
    if (!code)
        code = queries_check(influence, queries, error);
    if (!code &&
        (__builtin_mul_overflow(queries->data.count, tokens, &queries->count) ||
         __builtin_add_overflow(influence->query_count, queries->count, &influence->query_count)))
        code = ivon_error_memory(error);
    if (!code)
        code = labelled_reserve(&queries->data, influence->runner.tile, task->ignored, error);
    if (code)
        labelled_close(&queries->data);
    else
        influence->query_sets++;
    return code;
}
