/* The source of what was before a posterior was pruned. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bayes/posterior.h"
#include "bayes/prune/private.h"
#include "core/error.h"
#include "core/stream.h"

/* Of each tensor of this source the one it stands for, and the buffer of what was pruned from it,
   or -1. */
struct restored {
    struct ivon_source *source;
    size_t *tensors, count;
    ptrdiff_t *buffers;
};

static void restored_close(void *self)
{
    struct restored *restored = self;
    free(restored->tensors);
    free(restored->buffers);
    free(restored);
}

static int restored_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                         struct ivon_error *error)
{
    const struct restored *restored = self;
    ptrdiff_t other = restored->buffers[tensor];
    size_t from = restored->tensors[tensor];
    size_t size = ivon_dtype_size(ivon_source_tensor(restored->source, from)->dtype);
    static const char zeros[sizeof(double)] = {0};
    double raw[PRUNE_TILE];
    int code = ivon_source_read(restored->source, from, first, count, buffer, error);
    for (size_t at = 0; at < count && other >= 0 && !code; at += PRUNE_TILE) {
        size_t piece = count - at < PRUNE_TILE ? count - at : PRUNE_TILE;
        code = ivon_source_read(restored->source, (size_t)other, first + at, piece, raw, error);
        for (size_t i = 0; i < piece && !code; i++)
            if (memcmp((char *)raw + i * size, zeros, size) != 0)
                memcpy((char *)buffer + (at + i) * size, (char *)raw + i * size, size);
    }
    return code;
}

static const void *restored_view(void *self, size_t tensor)
{
    const struct restored *restored = self;
    return restored->buffers[tensor] >= 0
               ? NULL
               : ivon_source_view(restored->source, restored->tensors[tensor], 0);
}

static void restored_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    const struct restored *restored = self;
    void (*advise)(struct ivon_source *, size_t, size_t, size_t) = advice == MADV_WILLNEED
                                                                       ? ivon_source_will_need
                                                                       : ivon_source_done_with;
    advise(restored->source, restored->tensors[tensor], first, count);
    if (restored->buffers[tensor] >= 0)
        advise(restored->source, (size_t)restored->buffers[tensor], first, count);
}

static const struct ivon_source_class restored_class = {restored_read, restored_view,
                                                        restored_advise, restored_close};

/* The mean that a buffer was pruned from; null: it is another buffer. */
static const char *restored_mean(const struct ivon_tensor *tensor)
{
    bool own = tensor->part == IVON_BUFFER &&
               strncmp(tensor->name, PRUNE_PREFIX, strlen(PRUNE_PREFIX)) == 0;
    return own ? tensor->name + strlen(PRUNE_PREFIX) : NULL;
}

static int restored_check(const struct restored *restored, size_t buffer, struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(restored->source, buffer);
    ptrdiff_t mean = ivon_source_find(restored->source, IVON_MEAN, restored_mean(tensor));
    const struct ivon_tensor *of = mean < 0 ? NULL
                                            : ivon_source_tensor(restored->source, (size_t)mean);
    if (!of || of->dtype != tensor->dtype || !posterior_same_shape(of, tensor))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: buffer '%s' is not what was pruned from a mean of its type and "
                              "shape",
                              ivon_source_path(restored->source), tensor->name);
    return 0;
}

/* Finds the buffer of a tensor, if it is a mean that has one. */
static int restored_find(const struct restored *restored, const struct ivon_tensor *tensor,
                         ptrdiff_t *buffer, struct ivon_error *error)
{
    *buffer = -1;
    if (tensor->part != IVON_MEAN)
        return 0;
    char *name = prune_buffer_name(tensor->name);
    if (!name)
        return ivon_error_memory(error);
    *buffer = ivon_source_find(restored->source, IVON_BUFFER, name);
    free(name);
    return 0;
}

static int restored_list(struct restored *restored, struct tensor_list *list,
                         struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(restored->source);
    restored->tensors = calloc(count + 1, sizeof *restored->tensors);
    restored->buffers = calloc(count + 1, sizeof *restored->buffers);
    int code = restored->tensors && restored->buffers ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(restored->source, i);
        if (restored_mean(tensor)) {
            code = restored_check(restored, i, error);
            continue;
        }
        restored->tensors[restored->count] = i;
        code = restored_find(restored, tensor, &restored->buffers[restored->count++], error);
        if (!code)
            code = tensor_list_append(list, tensor, error);
    }
    if (!code && restored->count == count)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has no buffers of what was pruned: there is nothing to restore",
                              ivon_source_path(restored->source));
    return code ? code : tensor_list_aliases_of(list, restored->source, error);
}

int ivon_prune_restore(struct ivon_source **out, struct ivon_source *source,
                       struct ivon_error *error)
{
    struct tensor_list list = {0};
    struct restored *restored = calloc(1, sizeof *restored);
    if (!restored)
        return ivon_error_memory(error);
    restored->source = source;
    int code = restored_list(restored, &list, error);
    if (!code)
        code = ivon_source_new(out, &restored_class, restored, ivon_source_path(source),
                               ivon_source_header(source), &list, error);
    if (code)
        restored_close(restored);
    tensor_list_release(&list);
    return code;
}
