/* Whole checkpoints, copied: jobs on threads, each converting and writing its own range. */
#include "ivon/convert.h"

#include <stdlib.h>

#include "bayes/transfer.h"
#include "core/error.h"
#include "core/meter.h"
#include "core/options.h"
#include "core/parallel.h"

enum {
    JOB = 1 << 20,   /* elements */
    BLOCK = 1 << 17, /* elements at a time where they are read or converted: 1 MB */
    LOOK_AHEAD = 3,  /* jobs per thread for which pages are asked for in advance */
};

struct job {
    size_t tensor, first, count;
};

/* A thread's memory; allocated on first use. */
struct scratch {
    unsigned char *block;
    double *converted; /* of any type */
};

struct run {
    struct ivon_source *source;
    struct ivon_sink *sink;
    struct ivon_tensor *outputs;
    struct job *jobs;
    size_t job_count;
    struct scratch *scratch; /* per thread */
    int threads;
    struct meter meter;
};

static const struct options_kind convert_options = {
    .defaults = "ivon_convert_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_convert_options, resources.reserved)}};

void ivon_convert_options_init(struct ivon_convert_options *options, size_t size)
{
    const struct ivon_convert_options defaults = {.size = sizeof defaults,
                                                  .dtype = IVON_DTYPE_KEEP};
    options_init(options, size, &defaults);
}

void ivon_convert_outputs(const struct ivon_source *source, int dtype, struct ivon_tensor *tensors)
{
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        tensors[i] = *ivon_source_tensor(source, i);
        if (tensors[i].part == IVON_MEAN && dtype != IVON_DTYPE_KEEP)
            tensors[i].dtype = (enum ivon_dtype)dtype;
        if (tensors[i].part == IVON_HESSIAN)
            tensors[i].dtype = IVON_F32;
    }
}

/* Lists the jobs, and adds up the bytes that they write. */
static int convert_list_jobs(struct run *run, uint64_t *bytes, struct ivon_error *error)
{
    size_t tensors = ivon_source_tensor_count(run->source);
    for (size_t i = 0; i < tensors; i++) {
        run->job_count += (run->outputs[i].count + JOB - 1) / JOB;
        *bytes += run->outputs[i].count * ivon_dtype_size(run->outputs[i].dtype);
    }
    run->jobs = calloc(run->job_count + 1, sizeof *run->jobs);
    if (!run->jobs)
        return ivon_error_memory(error);
    struct job *job = run->jobs;
    for (size_t i = 0; i < tensors; i++)
        for (size_t first = 0; first < run->outputs[i].count; first += JOB) {
            size_t left = run->outputs[i].count - first;
            *job++ = (struct job){i, first, left < JOB ? left : JOB};
        }
    return 0;
}

static int convert_copy_block(struct run *run, struct scratch *scratch, size_t tensor, size_t first,
                              size_t count, struct ivon_error *error)
{
    const unsigned char *block;
    enum ivon_dtype from = ivon_source_tensor(run->source, tensor)->dtype;
    enum ivon_dtype to = run->outputs[tensor].dtype;
    int code = transfer_fetch(run->source, tensor, first, count, BLOCK, &scratch->block, &block,
                              error);
    if (code || from == to)
        return code ? code : ivon_sink_write(run->sink, tensor, first, count, block, error);
    if (!scratch->converted)
        scratch->converted = malloc(BLOCK * sizeof *scratch->converted);
    if (!scratch->converted)
        return ivon_error_memory(error);
    size_t fitting = transfer_convert(scratch->converted, to, block, from, count);
    if (fitting < count)
        return transfer_overflow(run->source, run->outputs[tensor].name, first, block, from, to,
                                 fitting, error);
    return ivon_sink_write(run->sink, tensor, first, count, scratch->converted, error);
}

static int convert_run_job(void *context, size_t i, int thread, struct ivon_error *error)
{
    struct run *run = context;
    const struct job *job = &run->jobs[i];
    size_t distance = (size_t)run->threads * LOOK_AHEAD;
    for (size_t ahead = i ? i + distance : 0; ahead <= i + distance; ahead++)
        if (ahead < run->job_count)
            ivon_source_will_need(run->source, run->jobs[ahead].tensor, run->jobs[ahead].first,
                                  run->jobs[ahead].count);
    int code = 0;
    for (size_t done = 0; done < job->count && !code; done += BLOCK) {
        size_t left = job->count - done;
        code = convert_copy_block(run, &run->scratch[thread], job->tensor, job->first + done,
                                  left < BLOCK ? left : BLOCK, error);
    }
    ivon_source_done_with(run->source, job->tensor, job->first, job->count);
    uint64_t bytes = job->count * ivon_dtype_size(run->outputs[job->tensor].dtype);
    return code ? code : meter_add(&run->meter, bytes, error);
}

static int convert_allocate(struct run *run, int dtype, struct ivon_error *error)
{
    run->outputs = calloc(ivon_source_tensor_count(run->source) + 1, sizeof *run->outputs);
    run->scratch = calloc((size_t)run->threads, sizeof *run->scratch);
    if (!run->outputs || !run->scratch)
        return ivon_error_memory(error);
    ivon_convert_outputs(run->source, dtype, run->outputs);
    return 0;
}

int ivon_convert_write(struct ivon_source *source, const struct ivon_convert_options *given,
                       struct ivon_sink *sink, struct ivon_error *error)
{
    struct ivon_convert_options options = ivon_convert_defaults();
    struct run run = {.source = source, .sink = sink};
    uint64_t bytes = 0;
    int code = options_read(&convert_options, &options, given, error);
    if (code)
        return code;
    run.threads = ivon_parallel_threads(options.resources.threads);
    code = convert_allocate(&run, options.dtype, error);
    if (!code)
        code = convert_list_jobs(&run, &bytes, error);
    meter_init(&run.meter, &options.resources.progress, bytes);
    if (!code)
        code = ivon_parallel_run(run.threads, run.job_count, convert_run_job, &run, error);
    meter_release(&run.meter);
    for (int t = 0; run.scratch && t < run.threads; t++) {
        free(run.scratch[t].block);
        free(run.scratch[t].converted);
    }
    free(run.scratch);
    free(run.jobs);
    free(run.outputs);
    return code;
}
