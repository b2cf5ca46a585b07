/* A pass over a whole tensor, before it is merged. */
#include <math.h>
#include <string.h>

#include "bayes/merge/run.h"

/* Fails on the first element of a tile that is not finite. */
static int pass_check(const struct ivon_merge *merge, struct merge_scratch *scratch,
                      const struct merge_entry *entry, const double *values, size_t first,
                      size_t offset, size_t count, struct ivon_error *error)
{
    if (!merge_any_not_below(values, INFINITY, count))
        return 0;
    size_t i = 0;
    while (isfinite(values[i]))
        i++;
    return merge_report_nonfinite(merge, scratch, entry, first, offset, i, error);
}

/* Loads the inputs of a tile that a pass sees. */
static int pass_load(const struct merge_pass *pass, struct merge_scratch *scratch,
                     const struct merge_entry *entry, size_t first, size_t offset, size_t count,
                     struct ivon_error *error)
{
    const struct ivon_merge *merge = pass->run->merge;
    size_t begin = pass->all_models ? 0 : pass->model;
    size_t end = pass->all_models ? merge->model_count : begin + 1;
    merge_load_base(merge, scratch, entry, offset, count);
    int code = pass->check ? pass_check(merge, scratch, entry, scratch->base_mean, first, offset,
                                        count, error)
                           : 0;
    for (size_t t = begin; t < end && !code; t++) {
        double slope, intercept;
        merge_load_model(merge, scratch, entry, t, offset, count, &slope, &intercept);
        if (pass->check)
            code = pass_check(merge, scratch, entry, scratch->model_mean, first, offset, count,
                              error);
        if (pass->all_models)
            memcpy(scratch->terms + (t + 1) * MERGE_TILE, scratch->model_mean,
                   count * sizeof scratch->model_mean[0]);
    }
    return code;
}

int merge_pass_visit(const struct merge_pass *pass, size_t slot, struct merge_scratch *scratch,
                     struct ivon_error *error)
{
    struct merge_run *run = pass->run;
    const struct ivon_merge *merge = run->merge;
    const struct merge_job *job = &merge->jobs[pass->job + slot];
    const struct merge_entry *entry = &merge->entries[job->entry];
    int code = 0;
    for (size_t done = 0; done < job->count && !code; done += run->block) {
        size_t first = job->first + done;
        size_t count = job->count - done < run->block ? job->count - done : run->block;
        for (size_t i = 0; i <= merge->model_count && !code; i++)
            if (i == 0 || pass->all_models || i == pass->model + 1)
                code = merge_fetch_input(run, scratch, entry, i, first, count, error);
            else
                scratch->means[i] = NULL; /* is not looked at */
        for (size_t offset = 0; offset < count && !code; offset += MERGE_TILE) {
            size_t tile = count - offset < MERGE_TILE ? count - offset : MERGE_TILE;
            code = pass_load(pass, scratch, entry, first, offset, tile, error);
            if (!code)
                pass->visit(pass->context, scratch, slot, first + offset, tile);
        }
    }
    return code ? code : meter_add(&run->meter, 0, error);
}

static int pass_job(void *context, size_t slot, int thread, struct ivon_error *error)
{
    const struct merge_pass *pass = context;
    return merge_pass_visit(pass, slot, &pass->run->scratch[thread], error);
}

int merge_pass_run(struct merge_pass *pass, struct ivon_error *error)
{
    if (!pass->scratch)
        return thread_pool_run(pass->run->pool, pass->run->threads, pass->job_count, pass_job, pass,
                               error);
    int code = 0;
    for (size_t slot = 0; slot < pass->job_count && !code; slot++)
        code = merge_pass_visit(pass, slot, pass->scratch, error);
    return code;
}
