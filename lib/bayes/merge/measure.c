/* The numbers of a whole tensor that a method needs. */
#include <stdlib.h>

#include "bayes/merge/run.h"
#include "core/error.h"

bool merge_measures(const struct merge_method *method)
{
    return method->find || method->mask == MERGE_MASK_SMALLEST ||
           method->mask == MERGE_MASK_EXTREMES;
}

bool merge_measures_entry(const struct ivon_merge *merge, const struct merge_entry *entry)
{
    return merge_measures(merge->method) && entry->models && entry->alone < 0;
}

int merge_allocate_measured(const struct ivon_merge *merge, struct merge_measured *measured,
                            struct ivon_error *error)
{
    size_t models = merge->model_count + 1;
    measured->last = calloc(models, sizeof *measured->last);
    measured->dropped = calloc(models, sizeof *measured->dropped);
    measured->coefficients = calloc(models * (merge->result_count + 1),
                                    sizeof *measured->coefficients);
    return measured->last && measured->dropped && measured->coefficients ? 0
                                                                         : ivon_error_memory(error);
}

void merge_release_measured(struct merge_measured *measured)
{
    free(measured->last);
    free(measured->dropped);
    free(measured->coefficients);
}

int merge_measure(struct merge_run *run, size_t job, struct merge_scratch *scratch,
                  struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    struct merge_measured *measured = scratch ? &scratch->own : &run->measured;
    struct merge_pass pass = {.run = run, .job = job, .scratch = scratch, .check = true};
    while (job + pass.job_count < merge->job_count &&
           merge->jobs[job + pass.job_count].entry == merge->jobs[job].entry)
        pass.job_count++;
    return merge->method->find ? merge_measure_angles(&pass, measured, error)
                               : merge_measure_ranks(&pass, measured, error);
}
