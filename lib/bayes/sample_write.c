/* Whole samples: jobs on threads, each drawing, converting and writing its own range. */
#include <stdlib.h>

#include "bayes/draw.h"
#include "bayes/sample_private.h"
#include "bayes/transfer.h"
#include "core/error.h"
#include "core/meter.h"
#include "core/parallel.h"

enum {
    JOB = 1 << 20,  /* elements */
    LOOK_AHEAD = 3, /* jobs per thread for which pages are asked for in advance */
};

/* A tensor of the source and its place in the samples. */
struct entry {
    struct sample_tensor tensor; /* of a mean */
    bool whole; /* it is drawn as a whole: a block, or with a low-rank correction */
    size_t from, output;
    enum ivon_dtype dtype;
};

struct job {
    const struct entry *entry;
    size_t first, count;
};

/* A thread's memory; blocks are allocated on first use. */
struct scratch {
    unsigned char *mean_block, *hessian_block;
    float *sample;
    double *converted; /* of any type */
};

struct run {
    struct ivon_source *source;
    struct draw *draw;
    double *corrections; /* of each sample: c, r numbers */
    const struct ivon_sample_options *options;
    uint64_t first;
    struct ivon_sink *const *sinks;
    size_t sink_count;
    struct entry *entries;
    size_t entry_count;
    struct job *jobs;
    size_t job_count;
    struct scratch *scratch; /* per thread */
    int threads;
    uint64_t bytes; /* to be written */
    struct meter meter;
};

static bool is_written(enum ivon_part part)
{
    return part == IVON_MEAN || part == IVON_BUFFER || part == IVON_GRAPH;
}

size_t ivon_sample_outputs(const struct ivon_source *source, int dtype, struct ivon_tensor *tensors)
{
    size_t count = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (!is_written(tensor->part))
            continue;
        tensors[count] = *tensor;
        if (tensor->part == IVON_MEAN && dtype != IVON_DTYPE_KEEP)
            tensors[count].dtype = (enum ivon_dtype)dtype;
        count++;
    }
    return count;
}

static int list_entries(struct run *run, struct ivon_error *error)
{
    size_t tensors = ivon_source_tensor_count(run->source);
    run->entries = calloc(tensors + 1, sizeof *run->entries);
    if (!run->entries)
        return ivon_error_memory(error);
    for (size_t i = 0; i < tensors; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(run->source, i);
        struct entry *entry = &run->entries[run->entry_count];
        if (!is_written(tensor->part))
            continue;
        *entry = (struct entry){.from = i, .output = run->entry_count++, .dtype = tensor->dtype};
        entry->whole = tensor->part == IVON_MEAN && run->draw->random[i] &&
                       (run->draw->structure->rank || draw_block_of(run->draw, i));
        if (entry->whole)
            entry->tensor.mean = tensor;
        if (tensor->part == IVON_MEAN && run->options->dtype != IVON_DTYPE_KEEP)
            entry->dtype = (enum ivon_dtype)run->options->dtype;
        if (tensor->part == IVON_MEAN && !entry->whole) {
            int code = sample_tensor_of(&entry->tensor, run->source, i, run->options, error);
            if (code)
                return code;
        }
        run->job_count += entry->whole && tensor->count ? 1 : (tensor->count + JOB - 1) / JOB;
        run->bytes += run->sink_count * tensor->count * ivon_dtype_size(entry->dtype);
    }
    return 0;
}

static int sample_write_list_jobs(struct run *run, struct ivon_error *error)
{
    run->jobs = calloc(run->job_count + 1, sizeof *run->jobs);
    if (!run->jobs)
        return ivon_error_memory(error);
    struct job *job = run->jobs;
    for (size_t e = 0; e < run->entry_count; e++) {
        size_t count = ivon_source_tensor(run->source, run->entries[e].from)->count;
        size_t step = run->entries[e].whole ? count : JOB;
        for (size_t first = 0; first < count; first += step) {
            size_t left = count - first;
            *job++ = (struct job){&run->entries[e], first, left < step ? left : step};
        }
    }
    return 0;
}

/* Points *at to a block as it is to be written: as it lies, or converted. */
static int sample_write_convert(const struct run *run, const struct entry *entry,
                                struct scratch *scratch, const void *block, enum ivon_dtype from,
                                size_t first, size_t count, const void **at,
                                struct ivon_error *error)
{
    *at = block;
    if (from == entry->dtype)
        return 0;
    if (!scratch->converted)
        scratch->converted = malloc(SAMPLE_BLOCK * sizeof *scratch->converted);
    if (!scratch->converted)
        return ivon_error_memory(error);
    *at = scratch->converted;
    size_t i = transfer_convert(scratch->converted, entry->dtype, block, from, count);
    return i == count ? 0
                      : transfer_overflow(run->source, entry->tensor.mean->name, first, block, from,
                                          entry->dtype, i, error);
}

/* A block that is the same in every sample. */
static int sample_write_copy_block(struct run *run, const struct entry *entry,
                                   struct scratch *scratch, size_t first, size_t count,
                                   struct ivon_error *error)
{
    const unsigned char *block;
    const void *converted;
    enum ivon_dtype from = ivon_source_tensor(run->source, entry->from)->dtype;
    int code = transfer_fetch(run->source, entry->from, first, count, SAMPLE_BLOCK,
                              &scratch->mean_block, &block, error);
    if (!code)
        code = sample_write_convert(run, entry, scratch, block, from, first, count, &converted,
                                    error);
    for (size_t s = 0; s < run->sink_count && !code; s++)
        code = ivon_sink_write(run->sinks[s], entry->output, first, count, converted, error);
    return code;
}

static int sample_write_draw_block(struct run *run, const struct entry *entry,
                                   struct scratch *scratch, size_t first, size_t count,
                                   struct ivon_error *error)
{
    const unsigned char *mean, *hessian;
    const void *converted;
    if (!scratch->sample)
        scratch->sample = malloc(SAMPLE_BLOCK * sizeof *scratch->sample);
    if (!scratch->sample)
        return ivon_error_memory(error);
    int code = transfer_fetch(run->source, entry->from, first, count, SAMPLE_BLOCK,
                              &scratch->mean_block, &mean, error);
    if (!code)
        code = transfer_fetch(run->source, (size_t)entry->tensor.hessian_index, first, count,
                              SAMPLE_BLOCK, &scratch->hessian_block, &hessian, error);
    for (size_t s = 0; s < run->sink_count && !code; s++) {
        code = sample_block(&entry->tensor, mean, hessian, run->first + s, first, count,
                            scratch->sample, error);
        if (!code)
            code = sample_write_convert(run, entry, scratch, scratch->sample, IVON_F32, first,
                                        count, &converted, error);
        if (!code)
            code = ivon_sink_write(run->sinks[s], entry->output, first, count, converted, error);
    }
    return code;
}

static int sample_write_whole(struct run *run, const struct entry *entry, struct scratch *scratch,
                              struct ivon_error *error)
{
    const struct structure_block *block = draw_block_of(run->draw, entry->from);
    size_t count = entry->tensor.mean->count, rank = run->draw->structure->rank;
    bool is_weight = block && block->weight == entry->from;
    float *whole = malloc(count * sizeof *whole);
    int code = whole ? 0 : ivon_error_memory(error);
    for (size_t s = 0; s < run->sink_count && !code; s++) {
        const double *c = run->corrections + s * rank;
        code = block ? draw_block(run->draw, run->options, run->first + s, c, block,
                                  is_weight ? whole : NULL, is_weight ? NULL : whole, error)
                     : draw_range(run->draw, run->options, run->first + s, c, entry->from, 0, count,
                                  whole, error);
        for (size_t done = 0; done < count && !code; done += SAMPLE_BLOCK) {
            size_t piece = count - done < SAMPLE_BLOCK ? count - done : SAMPLE_BLOCK;
            const void *converted;
            code = sample_write_convert(run, entry, scratch, whole + done, IVON_F32, done, piece,
                                        &converted, error);
            if (!code)
                code = ivon_sink_write(run->sinks[s], entry->output, done, piece, converted, error);
        }
    }
    free(whole);
    return code;
}

/* Tells the source that a job's range is wanted soon, or was used. */
static void sample_write_advise(const struct run *run, size_t i,
                                void (*tell)(struct ivon_source *, size_t, size_t, size_t))
{
    const struct job *job = &run->jobs[i];
    tell(run->source, job->entry->from, job->first, job->count);
    if (job->entry->tensor.hessian)
        tell(run->source, (size_t)job->entry->tensor.hessian_index, job->first, job->count);
}

static int sample_write_run_job(void *context, size_t i, int thread, struct ivon_error *error)
{
    struct run *run = context;
    const struct job *job = &run->jobs[i];
    size_t distance = (size_t)run->threads * LOOK_AHEAD;
    for (size_t ahead = i ? i + distance : 0; ahead <= i + distance; ahead++)
        if (ahead < run->job_count)
            sample_write_advise(run, ahead, ivon_source_will_need);
    int code = job->entry->whole ? sample_write_whole(run, job->entry, &run->scratch[thread], error)
                                 : 0;
    for (size_t done = 0; done < job->count && !code && !job->entry->whole; done += SAMPLE_BLOCK) {
        size_t left = job->count - done;
        size_t count = left < SAMPLE_BLOCK ? left : SAMPLE_BLOCK;
        code = (job->entry->tensor.hessian ? sample_write_draw_block : sample_write_copy_block)(
            run, job->entry, &run->scratch[thread], job->first + done, count, error);
    }
    sample_write_advise(run, i, ivon_source_done_with);
    uint64_t bytes = run->sink_count * job->count * ivon_dtype_size(job->entry->dtype);
    return code ? code : meter_add(&run->meter, bytes, error);
}

static void sample_write_release_scratch(struct run *run)
{
    for (int t = 0; run->scratch && t < run->threads; t++) {
        free(run->scratch[t].mean_block);
        free(run->scratch[t].hessian_block);
        free(run->scratch[t].sample);
        free(run->scratch[t].converted);
    }
    free(run->scratch);
}

/* Opens the posterior for draws, and finds the low-rank correction of every sample. */
static int sample_write_begin(struct run *run, struct ivon_error *error)
{
    int code = draw_new(&run->draw, run->source, run->options, error);
    if (code)
        return code;
    size_t rank = run->draw->structure->rank;
    run->corrections = calloc(run->sink_count + 1, (rank + 1) * sizeof *run->corrections);
    if (!run->corrections)
        return ivon_error_memory(error);
    for (size_t s = 0; s < run->sink_count && !code; s++)
        code = draw_begin(run->draw, run->options, run->first + s, run->threads,
                          run->corrections + s * rank, error);
    return code;
}

int ivon_sample_write(struct ivon_source *source, const struct ivon_sample_options *given,
                      uint64_t first, struct ivon_sink *const *sinks, size_t count,
                      struct ivon_error *error)
{
    struct ivon_sample_options options;
    int code = sample_read_options(&options, given, error);
    if (code)
        return code;
    struct run run = {.source = source,
                      .options = &options,
                      .first = first,
                      .sinks = sinks,
                      .sink_count = count,
                      .threads = ivon_parallel_threads(options.resources.threads)};
    code = sample_write_begin(&run, error);
    if (!code)
        code = list_entries(&run, error);
    if (!code)
        code = sample_write_list_jobs(&run, error);
    if (!code) {
        run.scratch = calloc((size_t)run.threads, sizeof *run.scratch);
        code = run.scratch ? 0 : ivon_error_memory(error);
    }
    meter_init(&run.meter, &options.resources.progress, run.bytes);
    if (!code)
        code = ivon_parallel_run(run.threads, run.job_count, sample_write_run_job, &run, error);
    meter_release(&run.meter);
    sample_write_release_scratch(&run);
    free(run.jobs);
    free(run.entries);
    free(run.corrections);
    draw_free(run.draw);
    return code;
}
