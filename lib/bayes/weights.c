#include "bayes/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/posterior.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/parallel.h"

enum { JOB = 1 << 18 /* elements */ };

/* A range of one parameter: what one thread fills at a time. */
struct weights_job {
    size_t parameter, first, count;
};

static size_t parameter_count(const struct ivon_network *network, size_t parameter)
{
    for (size_t i = 0; i < network->value_count; i++)
        if (network->values[i].role == NET_PARAMETER && network->values[i].parameter == parameter)
            return network->values[i].tensor.count;
    return 0;
}

int weights_init(struct weights *weights, const struct ivon_network *network,
                 struct ivon_error *error)
{
    size_t total = 0, count = network->parameter_count;
    size_t *offsets = calloc(count + 1, sizeof *offsets);
    *weights = (struct weights){.arrays = calloc(count + 1, sizeof *weights->arrays)};
    for (size_t i = 0; offsets && i < count; i++) {
        size_t elements = parameter_count(network, i), step = MEMORY_ALIGNMENT / sizeof(float);
        offsets[i] = total;
        total += (elements / step + 1) * step;
    }
    weights->size = total * sizeof(float);
    bool fine = offsets && weights->arrays && (weights->data = memory_aligned(weights->size));
    for (size_t i = 0; fine && i < count; i++)
        weights->arrays[i] = weights->data + offsets[i];
    free(offsets);
    if (fine)
        return 0;
    weights_release(weights);
    return ivon_error_memory(error);
}

void weights_release(struct weights *weights)
{
    free(weights->data);
    free(weights->arrays);
    *weights = (struct weights){0};
}

/* Ranges of all parameters, for several threads. */
struct filling {
    struct weights *weights;
    const struct member *member;
    int (*fill)(const struct filling *filling, const struct weights_job *job, float *out,
                struct ivon_error *error);
    struct ivon_sample_options random, still; /* of a sample */
    uint64_t sample;
    double rho, n; /* of a covariance */
    struct weights_job *jobs;
    size_t job_count;
};

static int fill_job(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct filling *filling = context;
    const struct weights_job *job = &filling->jobs[i];
    return filling->fill(filling, job, filling->weights->arrays[job->parameter] + job->first,
                         error);
}

static int weights_list_jobs(struct filling *filling, struct ivon_error *error)
{
    const struct member *member = filling->member;
    size_t count = 0;
    for (int pass = 0; pass < 2; pass++) {
        count = 0;
        for (size_t i = 0; i < member->network->parameter_count; i++) {
            size_t total =
                ivon_source_tensor(member->source, member->network->parameters[i])->count;
            for (size_t first = 0; first < total; first += JOB, count++)
                if (pass)
                    filling->jobs[count] = (struct weights_job){
                        i, first, total - first < JOB ? total - first : JOB};
        }
        if (!pass) {
            filling->jobs = calloc(count + 1, sizeof *filling->jobs);
            if (!filling->jobs)
                return ivon_error_memory(error);
        }
    }
    filling->job_count = count;
    return 0;
}

static int weights_fill(struct filling *filling, int threads, struct ivon_error *error)
{
    int code = weights_list_jobs(filling, error);
    if (!code && threads == 1)
        for (size_t i = 0; i < filling->job_count && !code; i++)
            code = fill_job(filling, i, 0, error);
    else if (!code)
        code = ivon_parallel_run(threads, filling->job_count, fill_job, filling, error);
    free(filling->jobs);
    return code;
}

static int weights_draw_job(const struct filling *filling, const struct weights_job *job,
                            float *out, struct ivon_error *error)
{
    const struct member *member = filling->member;
    return ivon_sample_draw(member->source, member->network->parameters[job->parameter],
                            member->random[job->parameter] ? &filling->random : &filling->still,
                            filling->sample, job->first, job->count, out, error);
}

int weights_draw(struct weights *weights, const struct member *member,
                 const struct ivon_sample_options *options, uint64_t sample, int threads,
                 struct ivon_error *error)
{
    /* member->random replaces the filter, which is not made for several threads. */
    struct filling filling = {.weights = weights,
                              .member = member,
                              .fill = weights_draw_job,
                              .random = *options,
                              .still = *options,
                              .sample = sample};
    filling.random.selected = filling.still.selected = NULL;
    filling.still.temperature = 0;
    return weights_fill(&filling, threads, error);
}

static int fill_variance(const struct filling *filling, const struct weights_job *job, float *out,
                         struct ivon_error *error)
{
    struct ivon_source *source = filling->member->source;
    size_t mean = filling->member->network->parameters[job->parameter];
    if (!filling->member->random[job->parameter]) {
        memset(out, 0, job->count * sizeof *out);
        return 0;
    }
    ptrdiff_t hessian = ivon_source_find(source, IVON_HESSIAN,
                                         ivon_source_tensor(source, mean)->name);
    double ess = ivon_source_tensor(source, (size_t)hessian)->ess;
    double scale = isnan(filling->rho) ? 1 / filling->n : filling->rho / ess;
    return posterior_inverse_precision(source, (size_t)hessian, scale, job->first, job->count, out,
                                       error);
}

int weights_variance(struct weights *weights, const struct member *member, double rho, double n,
                     int threads, struct ivon_error *error)
{
    struct filling filling = {
        .weights = weights, .member = member, .fill = fill_variance, .rho = rho, .n = n};
    return weights_fill(&filling, threads, error);
}
