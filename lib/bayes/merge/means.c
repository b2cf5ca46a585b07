/* Results of means alone: methods may need precisions, and make them, but these go nowhere. */
#include <stdlib.h>

#include "bayes/merge/private.h"
#include "core/error.h"

/* A sink of all outputs in front of the caller's, which has no precision. */
struct means_sink {
    const struct ivon_merge *merge;
    struct ivon_sink *to;
};

bool merge_is_of_means(const struct ivon_merge *merge)
{
    return merge->options.out_structure == IVON_MERGE_MEANS;
}

static bool means_has(const struct ivon_tensor *tensor)
{
    return tensor->part == IVON_MEAN || tensor->part == IVON_BUFFER || tensor->part == IVON_GRAPH ||
           tensor->part == IVON_OPAQUE;
}

int merge_means_list(struct ivon_merge *merge, struct ivon_error *error)
{
    if (!merge_is_of_means(merge))
        return 0;
    size_t count = merge->outputs.count;
    int code = 0;
    merge->place_in_means = malloc((count + 1) * sizeof *merge->place_in_means);
    if (!merge->place_in_means)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++) {
        bool has = means_has(&merge->outputs.items[i]);
        merge->place_in_means[i] = has ? (ptrdiff_t)merge->means.count : -1;
        if (has)
            code = tensor_list_append(&merge->means, &merge->outputs.items[i], error);
    }
    return code;
}

static int means_write(void *self, size_t tensor, size_t first, size_t count, const void *buffer,
                       struct ivon_error *error)
{
    const struct means_sink *sink = self;
    ptrdiff_t place = sink->merge->place_in_means[tensor];
    return place < 0 ? 0 : ivon_sink_write(sink->to, (size_t)place, first, count, buffer, error);
}

/* Files are committed by who made them. */
static int means_commit(void *self, struct ivon_error *error)
{
    (void)self;
    (void)error;
    return 0;
}

static int means_sink_new(struct ivon_sink **out, const struct ivon_merge *merge,
                          struct ivon_sink *to, struct ivon_error *error)
{
    static const struct ivon_sink_class class = {
        .write = means_write, .commit = means_commit, .close = free};
    struct means_sink *sink = malloc(sizeof *sink);
    if (!sink)
        return ivon_error_memory(error);
    *sink = (struct means_sink){merge, to};
    int code = ivon_sink_new(out, &class, sink, error);
    if (code)
        free(sink);
    return code;
}

int merge_means_sinks(struct ivon_sink ***out, const struct ivon_merge *merge,
                      struct ivon_sink *const *sinks, struct ivon_error *error)
{
    if (!merge_is_of_means(merge))
        return 0;
    struct ivon_sink **made = calloc(merge->result_count + 1, sizeof *made);
    *out = made;
    int code = made ? 0 : ivon_error_memory(error);
    for (size_t r = 0; r < merge->result_count && !code; r++)
        code = means_sink_new(&made[r], merge, sinks[r], error);
    return code;
}

void merge_means_release(const struct ivon_merge *merge, struct ivon_sink **sinks)
{
    for (size_t r = 0; sinks && r < merge->result_count; r++)
        ivon_sink_close(sinks[r]);
    free(sinks);
}
