#include "bayes/weights.h"

#include <stdlib.h>

#include "core/error.h"
#include "core/memory.h"
#include "core/parallel.h"

enum { RANGE = 1 << 18 /* elements */ };

static size_t parameter_count(const struct ivon_network *network, size_t parameter)
{
    for (size_t i = 0; i < network->value_count; i++)
        if (network->values[i].role == NET_PARAMETER && network->values[i].parameter == parameter)
            return network->values[i].tensor.count;
    return 0;
}

size_t weights_array_bytes(size_t count)
{
    size_t step = MEMORY_ALIGNMENT / sizeof(float);
    return (count / step + 1) * step * sizeof(float);
}

int weights_init(struct weights *weights, const struct ivon_network *network,
                 struct ivon_error *error)
{
    size_t total = 0, count = network->parameter_count;
    size_t *offsets = calloc(count + 1, sizeof *offsets);
    *weights = (struct weights){.arrays = calloc(count + 1, sizeof *weights->arrays)};
    for (size_t i = 0; offsets && i < count; i++) {
        offsets[i] = total;
        total += weights_array_bytes(parameter_count(network, i)) / sizeof(float);
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

struct weights_filling {
    struct weights *weights;
    int (*fill)(void *context, const struct weights_range *range, float *out,
                struct ivon_error *error);
    void *context;
    struct weights_range *ranges;
    size_t count;
};

static int weights_fill_range(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct weights_filling *filling = context;
    const struct weights_range *range = &filling->ranges[i];
    return filling->fill(filling->context, range,
                         filling->weights->arrays[range->parameter] + range->first, error);
}

static int weights_list_ranges(struct weights_filling *filling, const struct ivon_network *network,
                               const struct ivon_source *source, struct ivon_error *error)
{
    size_t count = 0;
    for (int pass = 0; pass < 2; pass++) {
        count = 0;
        for (size_t i = 0; i < network->parameter_count; i++) {
            size_t total = ivon_source_tensor(source, network->parameters[i])->count;
            for (size_t first = 0; first < total; first += RANGE, count++)
                if (pass)
                    filling->ranges[count] = (struct weights_range){
                        i, first, total - first < RANGE ? total - first : RANGE};
        }
        if (!pass) {
            filling->ranges = calloc(count + 1, sizeof *filling->ranges);
            if (!filling->ranges)
                return ivon_error_memory(error);
        }
    }
    filling->count = count;
    return 0;
}

int weights_fill(struct weights *weights, const struct ivon_network *network,
                 const struct ivon_source *source, int threads,
                 int (*fill)(void *context, const struct weights_range *range, float *out,
                             struct ivon_error *error),
                 void *context, struct ivon_error *error)
{
    struct weights_filling filling = {.weights = weights, .fill = fill, .context = context};
    int code = weights_list_ranges(&filling, network, source, error);
    if (!code && threads == 1)
        for (size_t i = 0; i < filling.count && !code; i++)
            code = weights_fill_range(&filling, i, 0, error);
    else if (!code)
        code = ivon_parallel_run(threads, filling.count, weights_fill_range, &filling, error);
    free(filling.ranges);
    return code;
}
