/* Single draws from a posterior, of whatever structure it is. */
#include <stdlib.h>
#include <string.h>

#include "bayes/draw.h"
#include "bayes/sample_private.h"
#include "core/error.h"

int ivon_sample_check(struct ivon_source *source, const struct ivon_sample_options *given,
                      size_t *fixed, struct ivon_error *error)
{
    struct ivon_sample_options options;
    struct draw *draw = NULL;
    int code = sample_read_options(&options, given, error);
    *fixed = 0;
    if (!code)
        code = draw_new(&draw, source, &options, error);
    if (code)
        return code;
    const struct draw_counts counts = draw_count(draw, &options);
    draw_free(draw);
    *fixed = counts.lacking;
    return counts.random || options.temperature == 0
               ? 0
               : draw_refuse(source, &counts, "nothing to draw", error);
}

/* A range of a tensor that a block has: the block is drawn as a whole. */
static int draw_block_range(const struct draw *draw, const struct ivon_sample_options *options,
                            uint64_t sample, const double *c, size_t index, size_t first,
                            size_t count, float *out, struct ivon_error *error)
{
    const struct structure_block *block = draw_block_of(draw, index);
    bool is_weight = block->weight == index;
    float *whole = malloc(ivon_source_tensor(draw->source, index)->count * sizeof *whole);
    int code = whole ? draw_block(draw, options, sample, c, block, is_weight ? whole : NULL,
                                  is_weight ? NULL : whole, error)
                     : ivon_error_memory(error);
    if (!code)
        memcpy(out, whole + first, count * sizeof *out);
    free(whole);
    return code;
}

static int draw_structured(struct ivon_source *source, size_t index,
                           const struct ivon_sample_options *options, uint64_t sample, size_t first,
                           size_t count, float *out, struct ivon_error *error)
{
    struct draw *draw;
    int code = draw_new(&draw, source, options, error);
    if (code)
        return code;
    double *c = calloc(draw->structure->rank + 1, sizeof *c);
    code = c ? draw_begin(draw, options, sample, 1, c, error) : ivon_error_memory(error);
    if (!code && draw_block_of(draw, index))
        code = draw_block_range(draw, options, sample, c, index, first, count, out, error);
    else if (!code)
        code = draw_range(draw, options, sample, c, index, first, count, out, error);
    free(c);
    draw_free(draw);
    return code;
}

static bool is_structured(const struct ivon_source *source)
{
    return ivon_source_find(source, IVON_STRUCTURE, ivon_part_name(IVON_STRUCTURE)) >= 0;
}

int ivon_sample_draw(struct ivon_source *source, size_t index,
                     const struct ivon_sample_options *given, uint64_t sample, size_t first,
                     size_t count, float *out, struct ivon_error *error)
{
    struct ivon_sample_options options;
    const struct ivon_tensor *mean = ivon_source_tensor(source, index);
    int code = sample_read_options(&options, given, error);
    if (code)
        return code;
    if (!mean || mean->part != IVON_MEAN)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: tensor %zu is not a mean",
                              ivon_source_path(source), index);
    if (first > mean->count || count > mean->count - first)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: '%s' has %zu elements, not %zu from %zu on",
                              ivon_source_path(source), mean->name, mean->count, count, first);
    return options.temperature > 0 && is_structured(source)
               ? draw_structured(source, index, &options, sample, first, count, out, error)
               : sample_draw_plain(source, index, &options, sample, first, count, out, error);
}
