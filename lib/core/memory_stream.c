/* Sources and sinks over the caller's memory. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"

struct memory {
    size_t count;
    struct {
        char *data;
        size_t size; /* of an element */
        size_t count;
    } tensors[];
};

static struct memory *memory_new(const struct ivon_tensor *tensors, const void *const *data,
                                 size_t count)
{
    struct memory *memory = calloc(1, sizeof *memory + count * sizeof memory->tensors[0]);
    if (!memory)
        return NULL;
    memory->count = count;
    for (size_t i = 0; i < count; i++) {
        memory->tensors[i].data = (char *)data[i];
        memory->tensors[i].size = ivon_dtype_size(tensors[i].dtype);
        memory->tensors[i].count = tensors[i].count;
    }
    return memory;
}

static int memory_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    (void)error;
    struct memory *memory = self;
    size_t size = memory->tensors[tensor].size;
    memcpy(buffer, memory->tensors[tensor].data + first * size, count * size);
    return 0;
}

static const void *memory_view(void *self, size_t tensor)
{
    struct memory *memory = self;
    return memory->tensors[tensor].data;
}

static int memory_write(void *self, size_t tensor, size_t first, size_t count, const void *buffer,
                        struct ivon_error *error)
{
    struct memory *memory = self;
    if (tensor >= memory->count || first > memory->tensors[tensor].count ||
        count > memory->tensors[tensor].count - first)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "no such range of tensor %zu", tensor);
    size_t size = memory->tensors[tensor].size;
    if (memory->tensors[tensor].data)
        memcpy(memory->tensors[tensor].data + first * size, buffer, count * size);
    return 0;
}

static int memory_commit(void *self, struct ivon_error *error)
{
    (void)self;
    (void)error;
    return 0;
}

int ivon_source_from_memory(struct ivon_source **source, const char *name,
                            const struct ivon_header *header, const struct ivon_tensor *tensors,
                            const void *const *data, size_t tensor_count, struct ivon_error *error)
{
    static const struct ivon_source_class class = {
        .read = memory_read, .view = memory_view, .close = free};
    struct tensor_list list = {0};
    int code = 0;
    for (size_t i = 0; i < tensor_count && !code; i++) {
        bool any_type = tensors[i].part == IVON_BUFFER || part_is_bytes(tensors[i].part);
        if (tensors[i].part == IVON_OPAQUE)
            code = ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: '%s' is opaque", name,
                                  tensors[i].name);
        else if (!any_type && !ivon_dtype_is_float(tensors[i].dtype))
            code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: '%s' has elements of type %s, expected floating point", name,
                                  tensors[i].name, ivon_dtype_name(tensors[i].dtype));
        else
            code = tensor_list_append(&list, &tensors[i], error);
    }
    if (code) {
        tensor_list_release(&list);
        return code;
    }
    struct memory *memory = memory_new(list.items, data, tensor_count);
    if (!memory) {
        tensor_list_release(&list);
        return ivon_error_memory(error);
    }
    code = ivon_source_new(source, &class, memory, name, header, &list, error);
    if (code)
        free(memory);
    return code;
}

int ivon_sink_to_memory(struct ivon_sink **sink, const struct ivon_tensor *tensors,
                        void *const *data, size_t tensor_count, struct ivon_error *error)
{
    static const struct ivon_sink_class class = {
        .write = memory_write, .commit = memory_commit, .close = free};
    struct memory *memory = memory_new(tensors, (const void *const *)data, tensor_count);
    if (!memory)
        return ivon_error_memory(error);
    int code = ivon_sink_new(sink, &class, memory, error);
    if (code)
        free(memory);
    return code;
}
