/* The execution of a merge: jobs on threads, each reading, computing and writing its own range. */
#include "bayes/merge/run.h"

#include <math.h>
#include <stdlib.h>

#include "bayes/transfer.h"
#include "core/error.h"
#include "core/parallel.h"

enum {
    BLOCK = 1 << 16,     /* elements read and written at once */
    BLOCK_MIN = 1 << 12, /* when memory is short */
    LOOK_AHEAD = 3,      /* jobs per thread for which pages are asked for in advance */
};

static int fetch_block(struct merge_run *run, struct merge_scratch *scratch,
                       const struct merge_entry *entry, size_t first, size_t count,
                       struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i <= run->merge->model_count && !code; i++)
        code = merge_fetch_input(run, scratch, entry, i, first, count, error);
    return code;
}

static int write_block(struct merge_run *run, struct merge_scratch *scratch,
                       const struct merge_entry *entry, size_t first, size_t count,
                       struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    size_t size = ivon_dtype_size(merge->outputs.items[entry->output].dtype);
    int code = 0;
    for (size_t s = 0; s < merge->result_count && !code; s++) {
        code = ivon_sink_write(run->sinks[s], entry->output, first, count,
                               scratch->mean_out + s * run->block * size, error);
        if (!code && entry->output_hessian >= 0)
            code = ivon_sink_write(run->sinks[s], (size_t)entry->output_hessian, first, count,
                                   scratch->hessian_out + s * run->block, error);
    }
    return code;
}

/* Returns whether numbers of its whole tensor are found by all threads, before the entry's jobs. */
static bool merge_run_together(const struct ivon_merge *merge, const struct merge_entry *entry)
{
    return merge_measures_entry(merge, entry) && entry->count > MERGE_JOB;
}

static int merge_range(struct merge_run *run, struct merge_scratch *scratch, size_t job_index,
                       struct ivon_error *error)
{
    const struct merge_job *job = &run->merge->jobs[job_index];
    const struct merge_entry *entry = &run->merge->entries[job->entry];
    int code = 0;
    if (merge_measures_entry(run->merge, entry)) {
        bool together = merge_run_together(run->merge, entry);
        scratch->measured = together ? &run->measured : &scratch->own;
        if (!together)
            code = merge_measure(run, job_index, scratch, error);
    }
    for (size_t done = 0; done < job->count && !code; done += run->block) {
        size_t first = job->first + done;
        size_t count = job->count - done < run->block ? job->count - done : run->block;
        code = fetch_block(run, scratch, entry, first, count, error);
        for (size_t offset = 0; offset < count && !code; offset += MERGE_TILE) {
            size_t tile = count - offset < MERGE_TILE ? count - offset : MERGE_TILE;
            code = merge_tile(run, scratch, job_index, first, offset, tile, error);
        }
        if (!code)
            code = write_block(run, scratch, entry, first, count, error);
    }
    return code;
}

static int merge_run_job(void *context, size_t index, int thread, struct ivon_error *error)
{
    struct merge_run *run = context;
    struct ivon_merge *merge = run->merge;
    size_t i = run->first_job + index;
    struct merge_scratch *scratch = &run->scratch[thread];
    const struct merge_job *job = &merge->jobs[i];
    size_t distance = (size_t)run->threads * LOOK_AHEAD;
    if (merge_earlier_failed(run, job->entry))
        return 0;
    for (size_t ahead = i > run->jobs.first ? i + distance : i; ahead <= i + distance; ahead++)
        if (ahead < run->jobs.end)
            merge_job_input(merge, ahead, ivon_source_will_need);
    int code = merge->entries[job->entry].models ? merge_range(run, scratch, i, error)
                                                 : merge_copy_range(run, scratch, job, error);
    uint64_t bytes = merge_job_input(merge, i, ivon_source_done_with);
    if (!code)
        return meter_add(&run->meter, bytes, error);
    pthread_mutex_lock(&run->lock);
    if (job->entry < run->failed_entry)
        run->failed_entry = job->entry;
    pthread_mutex_unlock(&run->lock);
    return code;
}

static void merge_run_release_scratch(struct merge_run *run)
{
    for (int t = 0; run->scratch && t < run->threads; t++) {
        struct merge_scratch *scratch = &run->scratch[t];
        for (size_t i = 0; i <= run->merge->model_count; i++) {
            if (scratch->mean_blocks)
                free(scratch->mean_blocks[i]);
            if (scratch->hessian_blocks)
                free(scratch->hessian_blocks[i]);
        }
        free(scratch->mean_blocks);
        free(scratch->hessian_blocks);
        free(scratch->means);
        free(scratch->hessians);
        free(scratch->mean_out);
        free(scratch->hessian_out);
        free(scratch->nonpositive);
        free(scratch->terms);
        free(scratch->histograms[0]);
        free(scratch->histograms[1]);
        merge_release_measured(&scratch->own);
    }
    free(run->scratch);
    merge_release_measured(&run->measured);
}

/* Allocates memory of a thread that only methods with a mask or coefficients need. */
static int merge_run_make_terms(const struct ivon_merge *merge, struct merge_scratch *scratch,
                                struct ivon_error *error)
{
    const struct merge_method *method = merge->method;
    if (!method->mask && !method->find)
        return 0;
    scratch->terms = malloc((merge->model_count + 1) * MERGE_TILE * sizeof *scratch->terms);
    bool made = scratch->terms;
    for (int s = 0; s < 2 && merge_measures(method) && !method->find; s++) {
        scratch->histograms[s] = malloc(MERGE_DIGITS * sizeof *scratch->histograms[s]);
        made = made && scratch->histograms[s];
    }
    return made ? merge_allocate_measured(merge, &scratch->own, error) : ivon_error_memory(error);
}

static int make_scratch(struct merge_run *run, struct ivon_error *error)
{
    size_t inputs = run->merge->model_count + 1, results = run->merge->result_count;
    run->scratch = calloc((size_t)run->threads, sizeof *run->scratch);
    run->headers = calloc(results + 1, sizeof *run->headers);
    if (!run->scratch || !run->headers)
        return ivon_error_memory(error);
    for (size_t s = 0; s < results; s++)
        run->headers[s] = merge_whole_header(run->merge, s);
    for (int t = 0; t < run->threads; t++) {
        struct merge_scratch *scratch = &run->scratch[t];
        scratch->mean_blocks = calloc(inputs, sizeof *scratch->mean_blocks);
        scratch->hessian_blocks = calloc(inputs, sizeof *scratch->hessian_blocks);
        scratch->means = calloc(inputs, sizeof *scratch->means);
        scratch->hessians = calloc(inputs, sizeof *scratch->hessians);
        scratch->mean_out = malloc(results * run->block * ivon_dtype_size(IVON_F64));
        scratch->hessian_out = malloc(results * run->block * sizeof(float));
        scratch->nonpositive = calloc(results, sizeof *scratch->nonpositive);
        if (!scratch->mean_blocks || !scratch->hessian_blocks || !scratch->means ||
            !scratch->hessians || !scratch->mean_out || !scratch->hessian_out ||
            !scratch->nonpositive)
            return ivon_error_memory(error);
        int code = merge_run_make_terms(run->merge, scratch, error);
        if (code)
            return code;
    }
    return merge_allocate_measured(run->merge, &run->measured, error);
}

/* The largest block for which all threads stay within the memory; results do not depend on it. */
static int merge_run_choose_block(struct merge_run *run, struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    size_t memory = merge->options.resources.memory ? merge->options.resources.memory
                                                    : MERGE_DEFAULT_MEMORY;
    size_t per_element = (size_t)run->threads *
                         (2 * (merge->model_count + 1) * sizeof(double) +
                          merge->result_count * (sizeof(double) + sizeof(float)));
    size_t histograms = merge_measures(merge->method) && !merge->method->find
                            ? (size_t)run->threads * 2 * MERGE_DIGITS * sizeof(uint64_t)
                            : 0;
    for (run->block = BLOCK; run->block * per_element + histograms > memory; run->block /= 2)
        if (run->block == BLOCK_MIN)
            return ivon_error_hint(
                error, IVON_HINT_MEMORY_THREADS,
                ivon_error_set(
                    error, IVON_ERROR_MEMORY,
                    "this merge needs %.6g MB for its sums with %d threads, and has %.6g "
                    "MB",
                    (double)(BLOCK_MIN * per_element + histograms) / 1e6, run->threads,
                    (double)memory / 1e6));
    return 0;
}

/* Sums the results of threads and jobs, in an order that does not depend on the threads. */
static int merge_run_gather(struct merge_run *run, struct ivon_error *error)
{
    struct ivon_merge *merge = run->merge;
    for (int t = 0; t < run->threads; t++)
        for (size_t s = 0; s < merge->result_count; s++)
            merge->nonpositive[s] += run->scratch[t].nonpositive[s];
    int code = run->movement ? merge_gather_movement(run, error) : 0;
    return code ? code : merge_share_results(run, error);
}

/* Runs the jobs in order. A method that needs numbers of whole tensors gets those of a tensor of
   several jobs from all threads, before they merge it; one of a single job is measured within. */
static int merge_run_jobs(struct merge_run *run, struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    int code = thread_pool_new(&run->pool, run->threads, error);
    run->first_job = run->jobs.first;
    for (size_t end; run->first_job < run->jobs.end && !code; run->first_job = end) {
        const struct merge_entry *entry = &merge->entries[merge->jobs[run->first_job].entry];
        bool together = merge_run_together(merge, entry);
        for (end = run->first_job + 1; end < run->jobs.end; end++) {
            const struct merge_entry *next = &merge->entries[merge->jobs[end].entry];
            if (together ? next != entry : merge_run_together(merge, next))
                break;
        }
        if (together)
            code = merge_measure(run, run->first_job, NULL, error);
        if (!code)
            code = thread_pool_run(run->pool, run->threads, end - run->first_job, merge_run_job,
                                   run, error);
    }
    thread_pool_free(run->pool);
    return code;
}

int ivon_merge_run(struct ivon_merge *merge, struct ivon_sink *const *sinks,
                   struct ivon_error *error)
{
    struct ivon_sink **means = NULL;
    struct merge_run run = {.merge = merge,
                            .sinks = sinks,
                            .threads = ivon_parallel_threads(merge->options.resources.threads),
                            .shortfall = {.entry = SIZE_MAX},
                            .failed_entry = SIZE_MAX};
    pthread_mutex_init(&run.lock, NULL);
    meter_init(&run.meter, &merge->options.resources.progress, merge_share(&run));
    int code = merge_share_check(merge, error);
    if (!code)
        code = merge_means_sinks(&means, merge, sinks, error);
    if (means)
        run.sinks = means;
    if (!code)
        code = merge_run_choose_block(&run, error);
    if (!code)
        code = make_scratch(&run, error);
    if (!code && merge->options.movement)
        code = merge_allocate_movement(&run, error);
    if (!code)
        code = merge_run_jobs(&run, error);
    /* A later tensor's failure must not hide an earlier tensor's shortfall. The shortfall's count
       is complete: every job before the failed one has been started. */
    if (!code || (code == IVON_ERROR_DATA && run.shortfall.entry < run.failed_entry))
        code = merge_share_shortfall(&run, error);
    if (!code)
        code = merge_structured_run(&run, error);
    if (!code)
        code = merge_run_gather(&run, error);
    merge_run_release_scratch(&run);
    merge_means_release(merge, means);
    free(run.headers);
    free(run.movement);
    free(run.group_movement);
    meter_release(&run.meter);
    pthread_mutex_destroy(&run.lock);
    return code;
}

uint64_t ivon_merge_nonpositive_count(const struct ivon_merge *merge, size_t result)
{
    return merge->nonpositive[result];
}

const char *ivon_merge_buffer_conflict(const struct ivon_merge *merge, size_t *count)
{
    const char *first = NULL;
    *count = 0;
    for (size_t i = 0; i < merge->entry_count; i++) {
        const struct merge_entry *entry = &merge->entries[i];
        if (entry->differs && !(*count)++)
            first = merge->outputs.items[entry->output].name;
    }
    return first;
}
