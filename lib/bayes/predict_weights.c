#include <stdlib.h>

#include "bayes/predict_private.h"
#include "core/error.h"
#include "core/parallel.h"

enum { ALIGNMENT = 64, JOB = 1 << 18 /* elements */ };

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
        size_t elements = parameter_count(network, i), step = ALIGNMENT / sizeof(float);
        offsets[i] = total;
        total += (elements / step + 1) * step;
    }
    if (offsets && weights->arrays)
        weights->data = aligned_alloc(ALIGNMENT, (total + ALIGNMENT) * sizeof(float));
    for (size_t i = 0; weights->data && i < count; i++)
        weights->arrays[i] = weights->data + offsets[i];
    free(offsets);
    if (weights->data)
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

struct drawing {
    struct weights *weights;
    const struct member *member;
    struct ivon_sample_options random, still;
    uint64_t sample;
    struct weights_job *jobs;
    size_t job_count;
};

static int draw(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct drawing *drawing = context;
    const struct weights_job *job = &drawing->jobs[i];
    const struct member *member = drawing->member;
    return ivon_sample_draw(member->source, member->network->parameters[job->parameter],
                            member->random[job->parameter] ? &drawing->random : &drawing->still,
                            drawing->sample, job->first, job->count,
                            drawing->weights->arrays[job->parameter] + job->first, error);
}

static int list_jobs(struct drawing *drawing, struct ivon_error *error)
{
    const struct member *member = drawing->member;
    size_t count = 0;
    for (int pass = 0; pass < 2; pass++) {
        count = 0;
        for (size_t i = 0; i < member->network->parameter_count; i++) {
            size_t total =
                ivon_source_tensor(member->source, member->network->parameters[i])->count;
            for (size_t first = 0; first < total; first += JOB, count++)
                if (pass)
                    drawing->jobs[count] = (struct weights_job){
                        i, first, total - first < JOB ? total - first : JOB};
        }
        if (!pass) {
            drawing->jobs = calloc(count + 1, sizeof *drawing->jobs);
            if (!drawing->jobs)
                return ivon_error_memory(error);
        }
    }
    drawing->job_count = count;
    return 0;
}

int weights_draw(struct weights *weights, const struct member *member,
                 const struct ivon_sample_options *options, uint64_t sample, int threads,
                 struct ivon_error *error)
{
    /* What is random was decided before: the filter is not made for several threads. */
    struct drawing drawing = {.weights = weights,
                              .member = member,
                              .random = *options,
                              .still = *options,
                              .sample = sample};
    drawing.random.selected = drawing.still.selected = NULL;
    drawing.still.temperature = 0;
    int code = list_jobs(&drawing, error);
    if (!code && threads == 1)
        for (size_t i = 0; i < drawing.job_count && !code; i++)
            code = draw(&drawing, i, 0, error);
    else if (!code)
        code = ivon_parallel_run(threads, drawing.job_count, draw, &drawing, error);
    free(drawing.jobs);
    return code;
}
