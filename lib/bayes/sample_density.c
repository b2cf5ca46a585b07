/* Densities of samples: by which they are drawn, and a priori. */
#include <stdlib.h>

#include "bayes/draw.h"
#include "bayes/sample_private.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/random.h"

struct densities {
    const struct draw *draw;
    const struct ivon_sample_options *options;
    uint64_t first;
    double *log_density, *log_prior;
};

/* The space for one sample. */
struct density_scratch {
    double *c;
    float *numbers; /* as many as the largest block has, or SAMPLE_BLOCK */
};

static double sum_of_squares(const float *numbers, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)numbers[i] * (double)numbers[i];
    return sum;
}

/* ‖ε‖² of a Hessian's elements. */
static double squared_normals(const struct densities *densities, uint64_t sample,
                              const struct ivon_tensor *hessian, float *numbers)
{
    const struct random_stream stream = random_stream_of(densities->options->seed, sample,
                                                         hessian->name);
    double sum = 0;
    for (size_t first = 0; first < hessian->count; first += SAMPLE_BLOCK) {
        size_t count = hessian->count - first;
        count = count < SAMPLE_BLOCK ? count : SAMPLE_BLOCK;
        random_normal(&stream, first, count, numbers);
        sum += sum_of_squares(numbers, count);
    }
    return sum;
}

/* ‖θ‖² of a mean that is drawn by itself. */
static int squared_range(const struct densities *densities, uint64_t sample, size_t index,
                         const struct density_scratch *scratch, double *sum,
                         struct ivon_error *error)
{
    size_t all = ivon_source_tensor(densities->draw->source, index)->count;
    int code = 0;
    *sum = 0;
    for (size_t first = 0; first < all && !code; first += SAMPLE_BLOCK) {
        size_t count = all - first < SAMPLE_BLOCK ? all - first : SAMPLE_BLOCK;
        code = draw_range(densities->draw, densities->options, sample, scratch->c, index, first,
                          count, scratch->numbers, error);
        if (!code)
            *sum += sum_of_squares(scratch->numbers, count);
    }
    return code;
}

/* −2 log of the prior, at temperature 1, of a sample's means that are drawn by themselves. */
static int density_of_ranges(const struct densities *densities, uint64_t sample,
                             const struct density_scratch *scratch, double *prior,
                             struct ivon_error *error)
{
    const struct draw *draw = densities->draw;
    int code = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(draw->source) && !code; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(draw->source, i);
        double sum;
        if (!draw->random[i] || mean->part != IVON_MEAN || draw_block_of(draw, i))
            continue;
        const struct ivon_tensor *hessian = ivon_source_tensor(
            draw->source, (size_t)ivon_source_find(draw->source, IVON_HESSIAN, mean->name));
        code = squared_range(densities, sample, i, scratch, &sum, error);
        if (!code)
            *prior += hessian->ess * hessian->weight_decay * sum;
    }
    return code;
}

/* The same of those that blocks have. */
static int density_of_blocks(const struct densities *densities, uint64_t sample,
                             const struct density_scratch *scratch, double *prior,
                             struct ivon_error *error)
{
    const struct draw *draw = densities->draw;
    int code = 0;
    for (size_t b = 0; b < draw->structure->block_count && !code; b++) {
        const struct structure_block *block = &draw->structure->blocks[b];
        if (!draw->random[block->weight])
            continue;
        const struct ivon_tensor *hessian = ivon_source_tensor(draw->source,
                                                               (size_t)block->hessian);
        size_t count = ivon_source_tensor(draw->source, block->weight)->count;
        float *bias = block->bias < 0 ? NULL : scratch->numbers + count;
        code = draw_block(draw, densities->options, sample, scratch->c, block, scratch->numbers,
                          bias, error);
        if (!code)
            *prior += hessian->ess * hessian->weight_decay *
                      sum_of_squares(scratch->numbers, count + (bias ? block->rows : 0));
    }
    return code;
}

static int density_of(const struct densities *densities, size_t number,
                      const struct density_scratch *scratch, struct ivon_error *error)
{
    const struct draw *draw = densities->draw;
    uint64_t sample = densities->first + number;
    double normals = 0, prior = 0;
    int code = draw_begin(draw, densities->options, sample, 1, scratch->c, error);
    for (size_t i = 0; i < ivon_source_tensor_count(draw->source) && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(draw->source, i);
        if (draw->random[i] && tensor->part == IVON_HESSIAN)
            normals += squared_normals(densities, sample, tensor, scratch->numbers);
    }
    if (!code)
        code = density_of_ranges(densities, sample, scratch, &prior, error);
    if (!code)
        code = density_of_blocks(densities, sample, scratch, &prior, error);
    densities->log_density[number] = -normals / 2;
    densities->log_prior[number] = -prior / densities->options->temperature / 2;
    return code;
}

/* One sample, with space of its own. */
static int density_run(void *context, size_t number, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct densities *densities = context;
    const struct structure *structure = densities->draw->structure;
    size_t most = SAMPLE_BLOCK;
    for (size_t b = 0; b < structure->block_count; b++) {
        const struct structure_block *block = &structure->blocks[b];
        size_t size = ivon_source_tensor(densities->draw->source, block->weight)->count +
                      block->rows;
        most = size > most ? size : most;
    }
    struct density_scratch scratch = {calloc(structure->rank + 1, sizeof *scratch.c),
                                      calloc(most, sizeof *scratch.numbers)};
    int code = scratch.c && scratch.numbers ? density_of(densities, number, &scratch, error)
                                            : ivon_error_memory(error);
    free(scratch.c);
    free(scratch.numbers);
    return code;
}

int ivon_sample_log_densities(struct ivon_source *source, const struct ivon_sample_options *given,
                              uint64_t first, size_t count, double *log_density, double *log_prior,
                              struct ivon_error *error)
{
    struct ivon_sample_options options;
    struct draw *draw = NULL;
    int code = sample_read_options(&options, given, error);
    if (!code && options.temperature == 0)
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: samples at the temperature 0 have no density",
                              ivon_source_path(source));
    if (!code)
        code = draw_new(&draw, source, &options, error);
    if (code)
        return code;
    const struct draw_counts counts = draw_count(draw, &options);
    struct densities densities = {draw, &options, first, log_density, log_prior};
    code = counts.random
               ? ivon_parallel_run(options.resources.threads, count, density_run, &densities, error)
               : draw_refuse(source, &counts, "nothing to draw", error);
    draw_free(draw);
    return code;
}
