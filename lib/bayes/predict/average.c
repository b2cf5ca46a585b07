/* Predictions that other programs made, averaged: blocks of examples, of which each rank takes one
   in every round. */
#include <stdlib.h>
#include <string.h>

#include "bayes/rank_inputs.h"
#include "core/error.h"
#include "core/ranks.h"
#include "ivon/predict.h"
#include "metrics/likelihood/probabilities.h"

enum { BLOCK_ELEMENTS = 1 << 20 };

struct averaging {
    const struct ivon_average *average;
    size_t rows, outputs; /* of an example */
    uint64_t count;
    size_t block;   /* examples at a time */
    uint64_t round; /* first example of rank 0's block */
    float *sum, *own, *max_probability, *entropy;
    int64_t *prediction;
    int (*on_block)(void *context, const struct ivon_predictions *predictions,
                    struct ivon_error *error);
    void *context;
};

static uint64_t average_first(const struct averaging *averaging, int rank)
{
    return averaging->round + (uint64_t)rank * averaging->block;
}

/* Returns how many examples the block of a rank has. */
static size_t average_count(const struct averaging *averaging, int rank)
{
    uint64_t first = average_first(averaging, rank);
    uint64_t left = first < averaging->count ? averaging->count - first : 0;
    return left < averaging->block ? (size_t)left : averaging->block;
}

static int average_allocate(struct averaging *averaging, struct ivon_error *error)
{
    size_t rows = averaging->block * averaging->rows, all = rows * averaging->outputs;
    averaging->sum = calloc(all, sizeof(float));
    averaging->own = calloc(all, sizeof(float));
    averaging->prediction = calloc(all, sizeof(int64_t));
    averaging->max_probability = calloc(rows, sizeof(float));
    averaging->entropy = calloc(rows, sizeof(float));
    return averaging->sum && averaging->own && averaging->prediction &&
                   averaging->max_probability && averaging->entropy
               ? 0
               : ivon_error_memory(error);
}

/* Adds the probabilities of a file that were read. */
static int average_sum(struct averaging *averaging, double weight, uint64_t first, size_t rows,
                       struct ivon_error *error)
{
    bool classes = ivon_likelihood_traits(averaging->average->likelihood)->classes;
    size_t outputs = averaging->outputs;
    int code = 0;
    for (size_t i = 0; classes && i < rows && !code; i++)
        code = probabilities_check_classes(averaging->own + i * outputs, outputs, first + i, error);
    return code ? code
                : ivon_probabilities_add(averaging->sum, averaging->own, weight, rows, outputs,
                                         first, error);
}

/* This rank's block. */
static int average_block(struct averaging *averaging, struct ivon_error *error)
{
    const struct ivon_average *average = averaging->average;
    int rank = ivon_ranks_rank(average->ranks);
    uint64_t first = average_first(averaging, rank);
    size_t count = average_count(averaging, rank), rows = count * averaging->rows;
    double total = 0;
    memset(averaging->sum, 0, rows * averaging->outputs * sizeof *averaging->sum);
    for (size_t f = 0; f < average->file_count; f++)
        total += average->weights ? average->weights[f] : 1;
    for (size_t f = 0; f < average->file_count && count; f++) {
        double weight = (average->weights ? average->weights[f] : 1) / total;
        struct ivon_examples *file = average->files[f];
        struct ivon_error inner = {0};
        int code = ivon_examples_read_f32(file, 0, first, count, averaging->own, error);
        if (code)
            return code;
        code = average_sum(averaging, weight, first * averaging->rows, rows, &inner);
        if (code)
            return ivon_error_set(error, code, "%s: %s", ivon_examples_path(file), inner.message);
    }
    ivon_probabilities_describe(average->likelihood, rows, averaging->outputs, averaging->sum,
                                averaging->prediction, averaging->max_probability,
                                averaging->entropy);
    return 0;
}

static size_t average_describe(void *context, int rank, struct ranks_piece *pieces, size_t limit)
{
    const struct averaging *averaging = context;
    size_t rows = average_count(averaging, rank) * averaging->rows;
    const struct ranks_piece all[] = {
        {averaging->sum, rows * averaging->outputs * sizeof(float)},
        {averaging->prediction, rows * averaging->outputs * sizeof(int64_t)},
        {averaging->max_probability, rows * sizeof(float)},
        {averaging->entropy, rows * sizeof(float)}};
    size_t count = sizeof all / sizeof all[0];
    memcpy(pieces, all, (count < limit ? count : limit) * sizeof *pieces);
    return count < limit ? count : limit;
}

static int average_take(void *context, int rank, struct ivon_error *error)
{
    const struct averaging *averaging = context;
    const struct ivon_predictions block = {.first = average_first(averaging, rank),
                                           .count = average_count(averaging, rank),
                                           .prediction = averaging->prediction,
                                           .probabilities = averaging->sum,
                                           .max_probability = averaging->max_probability,
                                           .entropy = averaging->entropy};
    return averaging->on_block(averaging->context, &block, error);
}

static int average_round(struct averaging *averaging, struct ivon_error *error)
{
    struct ivon_ranks *ranks = averaging->average->ranks;
    struct ranks_round round = {
        .describe = average_describe, .take = average_take, .context = averaging};
    for (int r = 0; r < ivon_ranks_count(ranks); r++)
        round.present += average_count(averaging, r) > 0;
    return ranks_round_take(ranks, &round, average_block(averaging, error), error);
}

int ivon_average_run(const struct ivon_average *average,
                     int (*on_block)(void *context, const struct ivon_predictions *predictions,
                                     struct ivon_error *error),
                     void *context, struct ivon_error *error)
{
    const struct ivon_field *field = ivon_examples_field(average->files[0], 0);
    size_t each = field->count, outputs = (size_t)field->shape[field->rank - 1];
    struct averaging averaging = {.average = average,
                                  .rows = each / outputs,
                                  .outputs = outputs,
                                  .count = ivon_examples_count(average->files[0]),
                                  .block = BLOCK_ELEMENTS / each ? BLOCK_ELEMENTS / each : 1,
                                  .on_block = on_block,
                                  .context = context};
    uint64_t step = averaging.block * (uint64_t)ivon_ranks_count(average->ranks);
    int code = average_allocate(&averaging, error);
    for (size_t f = 0; f < average->file_count && !code; f++)
        code = rank_inputs_check_examples(average->ranks, average->files[f], error);
    for (; averaging.round < averaging.count && !code; averaging.round += step)
        code = average_round(&averaging, error);
    free(averaging.sum);
    free(averaging.own);
    free(averaging.prediction);
    free(averaging.max_probability);
    free(averaging.entropy);
    return code;
}
