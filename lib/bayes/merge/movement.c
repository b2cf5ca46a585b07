/* The distance that each model, and all together, moved the merged parameters. */
#include <math.h>
#include <stdlib.h>

#include "bayes/merge/run.h"
#include "core/error.h"

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
    return run->movement ? 0 : ivon_error_memory(error);
}

void merge_add_movement(struct merge_run *run, struct merge_scratch *scratch, size_t job,
                        size_t result_index, size_t offset, size_t count)
{
    const struct ivon_merge *merge = run->merge;
    const struct merge_entry *entry = &merge->entries[merge->jobs[job].entry];
    const struct merge_result *result = &merge->results[result_index];
    double *squares = job_squares(run, job, result_index), scale = result->scale;
    double weight_sum = merge_weight_sum(merge, entry, result);
    enum ivon_merge_method method = merge->options.method;
    for (size_t t = 0; t < merge->model_count; t++) {
        double slope, intercept, alpha = merge_weight(merge, entry, result, t);
        merge_load_model(merge, scratch, entry, t, offset, count, &slope, &intercept);
        for (size_t i = 0; i < count; i++) {
            if (scratch->dropped[i])
                continue;
            double precision = slope * scratch->hessian[i] + intercept;
            double base = merge->options.base_scale * scratch->base_precision[i];
            double share = method == IVON_MERGE_GRADIENT_MATCHING
                               ? scale * alpha * (base + precision) / scratch->precision[i]
                           : method == IVON_MERGE_HESSIAN
                               ? alpha * precision / scratch->precision[i]
                           : method == IVON_MERGE_AVERAGE ? alpha / weight_sum
                                                          : scale * alpha;
            double origin = merge->base_in_formula ? scratch->base_mean[i] : scratch->mean[i];
            double displacement = share * (scratch->model_mean[i] - origin);
            squares[merge->models[t].caller_index] += displacement * displacement;
        }
    }
    if (merge->base_in_formula)
        for (size_t i = 0; i < count; i++) {
            double displacement = scratch->mean[i] - scratch->base_mean[i];
            squares[merge->model_count] += displacement * displacement;
        }
}

void merge_gather_movement(const struct merge_run *run)
{
    struct ivon_merge *merge = run->merge;
    size_t width = merge->model_count + 1;
    for (size_t s = 0; s < merge->result_count; s++)
        for (size_t m = 0; m < width; m++) {
            double square = 0;
            for (size_t j = 0; j < merge->job_count; j++)
                square += job_squares(run, j, s)[m];
            merge->movement[s * width + m] = sqrt(square);
        }
}

double ivon_merge_movement(const struct ivon_merge *merge, size_t model, size_t result,
                           double *total)
{
    const double *norms = merge->movement + result * (merge->model_count + 1);
    if (total)
        *total = norms[merge->model_count];
    return norms[model];
}
