/* ivon-predict-gen: single examples, and checkpoints compared by them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/predict_gen/predict_gen.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/table.h"

int predict_gen_points_new(struct predict_gen_points *points, size_t count, bool samples,
                           struct ivon_error *error)
{
    *points = (struct predict_gen_points){.count = count};
    points->positions = calloc(count + 1, sizeof(double));
    points->loss = calloc(count + 1, sizeof(double));
    points->loo_loss = calloc(count + 1, sizeof(double));
    bool fine = points->positions && points->loss && points->loo_loss;
    if (samples) {
        points->waic = calloc(count + 1, sizeof(double));
        points->psis_loo = calloc(count + 1, sizeof(double));
        points->pareto_k = calloc(count + 1, sizeof(double));
        fine = fine && points->waic && points->psis_loo && points->pareto_k;
    }
    return fine ? 0 : error_memory(error);
}

void predict_gen_points_free(struct predict_gen_points *points)
{
    free(points->positions);
    free(points->loss);
    free(points->loo_loss);
    free(points->waic);
    free(points->psis_loo);
    free(points->pareto_k);
}

/* The table. */

enum { POINT_COLUMNS = 9, SAMPLE_COLUMNS = 3 /* of these */ };

static size_t point_columns(const struct predict_gen_command *command,
                            struct ivon_column columns[POINT_COLUMNS])
{
    static const struct ivon_column all[POINT_COLUMNS] = {
        {.name = "checkpoint", .dtype = IVON_I64}, {.name = "step", .dtype = IVON_I64},
        {.name = "index", .dtype = IVON_I64},      {.name = "positions", .dtype = IVON_I64},
        {.name = "loss", .dtype = IVON_F64},       {.name = "loo_loss", .dtype = IVON_F64},
        {.name = "waic", .dtype = IVON_F64},       {.name = "psis_loo", .dtype = IVON_F64},
        {.name = "pareto_k", .dtype = IVON_F64}};
    memcpy(columns, all, sizeof all);
    return command->samples ? POINT_COLUMNS : POINT_COLUMNS - SAMPLE_COLUMNS;
}

int predict_gen_points_open(struct predict_gen_command *command, const char *provenance,
                            struct ivon_error *error)
{
    struct ivon_column columns[POINT_COLUMNS];
    char creator[64];
    size_t count = point_columns(command, columns);
    uint64_t rows = ivon_examples_count(command->examples) * command->posterior_count;
    snprintf(creator, sizeof creator, "ivon-predict-gen %s", ivon_version());
    const struct ivon_table_options options = {
        .size = sizeof options,
        .format = (enum ivon_table_format)command->pointwise_format,
        .rows = command->follow ? IVON_ROWS_OPEN : rows,
        .own_index = true,
        .replace = command->files.force,
        .creator = creator,
        .provenance = provenance};
    return table_output_open(&command->points_table, command->pointwise, columns, count, &options,
                             error);
}

int predict_gen_points_write(struct predict_gen_command *command, int64_t step,
                             const struct predict_gen_points *points, struct ivon_error *error)
{
    size_t count = points->count;
    int64_t *numbers = calloc(4 * count + 1, sizeof *numbers);
    if (!numbers)
        return error_memory(error);
    int64_t *checkpoints = numbers, *steps = numbers + count, *indices = numbers + 2 * count,
            *positions = numbers + 3 * count;
    for (size_t i = 0; i < count; i++) {
        checkpoints[i] = command->checkpoint;
        steps[i] = step;
        indices[i] = (int64_t)ivon_examples_number(command->examples, i);
        positions[i] = (int64_t)points->positions[i];
    }
    const void *const data[POINT_COLUMNS] = {
        checkpoints,      steps,        indices,          positions,       points->loss,
        points->loo_loss, points->waic, points->psis_loo, points->pareto_k};
    int code = ivon_table_append(command->points_table, count, data, error);
    free(numbers);
    return !code && command->follow ? ivon_table_save(command->points_table, error) : code;
}

/* Comparison: the mean of paired differences, whose error leaves out what checkpoints share. */

void predict_gen_compare(struct predict_gen_command *command)
{
    size_t best = 0;
    for (size_t c = 0; c < command->posterior_count; c++)
        if (command->rows[c].loo_loss.value < command->rows[best].loo_loss.value)
            best = c;
    const struct predict_gen_points *least = &command->points[best];
    for (size_t c = 0; c < command->posterior_count; c++) {
        const struct predict_gen_points *points = &command->points[c];
        struct ivon_ratio difference = {0};
        for (size_t i = 0; i < points->count; i++)
            ivon_ratio_add(&difference, points->loo_loss[i] - least->loo_loss[i],
                           points->positions[i]);
        command->rows[c].loo_difference = ivon_ratio_metric("loo_difference", &difference);
    }
}
