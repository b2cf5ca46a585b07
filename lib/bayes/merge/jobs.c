/* The jobs of a merge, and the bytes that each one reads. */
#include <stdlib.h>

#include "bayes/merge/private.h"
#include "core/error.h"

/* Returns the bytes of a job's range of a tensor, and advises the source unless `advise` is
   null. */
static uint64_t job_tensor_bytes(const struct merge_job *job, struct ivon_source *source,
                                 size_t tensor, merge_advise *advise)
{
    if (advise)
        advise(source, tensor, job->first, job->count);
    return job->count * ivon_dtype_size(ivon_source_tensor(source, tensor)->dtype);
}

uint64_t merge_job_input(const struct ivon_merge *merge, size_t job_index, merge_advise *advise)
{
    const struct merge_job *job = &merge->jobs[job_index];
    const struct merge_entry *entry = &merge->entries[job->entry];
    uint64_t bytes = 0;
    if (!entry->models)
        return job_tensor_bytes(job, entry->from, entry->from_tensor, advise);
    for (size_t i = 0; i <= merge->model_count; i++) {
        if (!merge_reads(merge, entry, i))
            continue;
        struct ivon_source *source = merge_source(merge, i);
        const struct merge_input *parts = merge_input_of(entry, i);
        ptrdiff_t tensors[2] = {parts->mean, entry->output_hessian >= 0 ? parts->hessian : -1};
        for (int part = 0; part < 2; part++)
            if (tensors[part] >= 0)
                bytes += job_tensor_bytes(job, source, (size_t)tensors[part], advise);
    }
    return bytes;
}

int merge_make_jobs(struct ivon_merge *merge, struct ivon_error *error)
{
    size_t count = 0;
    for (size_t e = 0; e < merge->entry_count; e++)
        if (merge_is_streamed(merge, &merge->entries[e]))
            count += (merge->entries[e].count + MERGE_JOB - 1) / MERGE_JOB;
    merge->jobs = calloc(count ? count : 1, sizeof *merge->jobs);
    if (!merge->jobs)
        return ivon_error_memory(error);
    for (size_t e = 0; e < merge->entry_count; e++)
        for (size_t first = 0;
             merge_is_streamed(merge, &merge->entries[e]) && first < merge->entries[e].count;
             first += MERGE_JOB) {
            size_t left = merge->entries[e].count - first;
            merge->jobs[merge->job_count] = (struct merge_job){e, merge->entries[e].first + first,
                                                               left < MERGE_JOB ? left : MERGE_JOB};
            merge->input_bytes += merge_job_input(merge, merge->job_count++, NULL);
        }
    for (size_t g = 0; merge->structured && g < merge_group_count(merge); g++)
        merge->input_bytes += merge_group_bytes(merge, g);
    return 0;
}
