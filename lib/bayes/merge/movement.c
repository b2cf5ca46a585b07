/* The distance that each model, and all together, moved the merged parameters. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/run.h"
#include "core/error.h"
#include "core/ranks.h"

/* The sums of squares of a job for a result: one for each model, then the total. */
static double *job_squares(const struct merge_run *run, size_t job, size_t result)
{
    const struct ivon_merge *merge = run->merge;
    return run->movement + (job * merge->result_count + result) * (merge->model_count + 1);
}

int merge_allocate_movement(struct merge_run *run, struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    run->movement = calloc(merge->job_count * merge->result_count + 1,
                           (merge->model_count + 1) * sizeof *run->movement);
    size_t groups = merge->structured ? merge_group_count(merge) : 0;
    run->group_movement = calloc(groups * merge->result_count + 1,
                                 (merge->model_count + 1) * sizeof *run->group_movement);
    return run->movement && run->group_movement ? 0 : ivon_error_memory(error);
}

double *merge_group_squares(const struct merge_run *run, size_t group, size_t result)
{
    const struct ivon_merge *merge = run->merge;
    return run->group_movement + (group * merge->result_count + result) * (merge->model_count + 1);
}

/* The share of an element that model t has in the mean. */
static double movement_share(const struct ivon_merge *merge, const struct merge_scratch *scratch,
                             double scaled_weight, double slope, double intercept, size_t i)
{
    double precision = slope * scratch->hessian[i] + intercept;
    double base = merge->base_in_formula ? merge->options.base_scale * scratch->base_precision[i]
                                         : 0;
    return scaled_weight * (base + precision) / scratch->precision[i];
}

/* Adds the squares of what model t moved. */
static void movement_add_model(const struct merge_run *run, struct merge_scratch *scratch,
                               const struct merge_entry *entry, size_t result_index, size_t t,
                               size_t offset, size_t count, double *square)
{
    const struct ivon_merge *merge = run->merge;
    const struct merge_method *method = merge->method;
    const struct merge_result *result = &merge->results[result_index];
    double slope, intercept, share = result->scale * merge_weight(merge, entry, result, t);
    double scaled_weight = share;
    if (method->find)
        share = scratch->measured->coefficients[result_index * (merge->model_count + 1) + t + 1];
    else if (method->normalized)
        share /= merge_weight_sum(merge, entry, result);
    merge_load_model(merge, scratch, entry, t, offset, count, &slope, &intercept);
    for (size_t i = 0; i < count; i++) {
        if (scratch->dropped[i])
            continue;
        double origin = merge->base_in_formula ? scratch->base_mean[i] : scratch->mean[i];
        if (method->precise)
            share = movement_share(merge, scratch, scaled_weight, slope, intercept, i);
        double displacement = method->mask
                                  ? result->scale * scratch->terms[(t + 1) * MERGE_TILE + i]
                                  : share * (scratch->model_mean[i] - origin);
        *square += displacement * displacement;
    }
}

void merge_add_movement(struct merge_run *run, struct merge_scratch *scratch, size_t job,
                        size_t result_index, size_t offset, size_t count)
{
    const struct ivon_merge *merge = run->merge;
    const struct merge_entry *entry = &merge->entries[merge->jobs[job].entry];
    double *squares = job_squares(run, job, result_index);
    for (size_t t = 0; t < merge->model_count; t++)
        movement_add_model(run, scratch, entry, result_index, t, offset, count,
                           &squares[merge->models[t].caller_index]);
    if (merge->base_in_formula)
        for (size_t i = 0; i < count; i++) {
            double displacement = scratch->mean[i] - scratch->base_mean[i];
            squares[merge->model_count] += displacement * displacement;
        }
}

/* Gathers on rank 0 the sums of a range of jobs or groups: ranges of rising ranks follow one
   another. */
static int movement_gather(const struct merge_run *run, double *squares, struct ranks_range range,
                           struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    size_t width = merge->result_count * (merge->model_count + 1);
    struct ranks_bytes all;
    int code = ranks_gather(merge->options.resources.ranks, squares + range.first * width,
                            (range.end - range.first) * width * sizeof *squares, &all, error);
    if (!code && all.data)
        memcpy(squares, all.data, all.size);
    ranks_bytes_release(&all);
    return code;
}

/* Sums a part of a result's movement, over jobs or groups in their order. */
static double movement_sum(const double *squares, size_t count, size_t stride, double sum)
{
    for (size_t i = 0; i < count; i++)
        sum += squares[i * stride];
    return sum;
}

int merge_gather_movement(const struct merge_run *run, struct ivon_error *error)
{
    struct ivon_merge *merge = run->merge;
    size_t width = merge->result_count * (merge->model_count + 1);
    size_t groups = merge->structured ? merge_group_count(merge) : 0;
    int code = movement_gather(run, run->movement, run->jobs, error);
    if (!code)
        code = movement_gather(run, run->group_movement, run->groups, error);
    for (size_t m = 0; m < width && !code; m++) {
        double square = movement_sum(run->group_movement + m, groups, width, 0);
        merge->movement[m] = sqrt(movement_sum(run->movement + m, merge->job_count, width, square));
    }
    return code;
}

double ivon_merge_movement(const struct ivon_merge *merge, size_t model, size_t result,
                           double *total)
{
    const double *norms = merge->movement + result * (merge->model_count + 1);
    if (total)
        *total = norms[merge->model_count];
    return norms[model];
}
