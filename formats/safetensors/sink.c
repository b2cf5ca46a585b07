/* Writing safetensors, in one file or in several beside their index. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/meter.h"
#include "core/stream.h"
#include "formats/posterior/stored_tensor.h"
#include "formats/safetensors/layout.h"

struct sink {
    struct atomic_file *files;
    size_t file_count; /* that are open */
    struct atomic_file index;
    bool indexed;
    char *index_text;
    size_t count;
    struct {
        size_t file;
        struct stored_tensor place; /* in that file */
    } tensors[];
};

static int safetensors_sink_write(void *self, size_t tensor, size_t first, size_t count,
                                  const void *buffer, struct ivon_error *error)
{
    struct sink *sink = self;
    bool any = tensor < sink->count;
    return stored_tensor_write(any ? &sink->files[sink->tensors[tensor].file] : NULL,
                               sink->indexed ? sink->index.path : sink->files[0].path,
                               any ? &sink->tensors[tensor].place : NULL, tensor, first, count,
                               buffer, error);
}

/*
 * Everything is on disk under its hidden name before the first file gets its own, so that what can
 * fail then is little. Where old shards are replaced, the old index goes first: whoever is stopped
 * between two renames leaves no index, and never one over shards of two checkpoints.
 */
static int safetensors_sink_prepare(struct sink *sink, struct ivon_error *error)
{
    bool replaces = false;
    int code = atomic_write(&sink->index, 0, sink->index_text, strlen(sink->index_text), error);
    for (size_t i = 0; i < sink->file_count && !code; i++) {
        code = atomic_sync(&sink->files[i], error);
        replaces |= sink->files[i].replaces;
    }
    if (!code)
        code = atomic_sync(&sink->index, error);
    if (!code && replaces && unlink(sink->index.path) && errno != ENOENT)
        code = ivon_error_set(error, IVON_ERROR_CREATE, "%s: cannot replace it: %s",
                              sink->index.path, strerror(errno));
    return code;
}

static int safetensors_sink_commit(void *self, struct ivon_error *error)
{
    struct sink *sink = self;
    if (!sink->indexed)
        return atomic_commit(&sink->files[0], error);
    size_t done = 0;
    int code = safetensors_sink_prepare(sink, error);
    while (!code && done < sink->file_count) {
        code = atomic_commit(&sink->files[done], error);
        done += !code;
    }
    if (!code)
        code = atomic_commit(&sink->index, error);
    for (size_t i = 0; i < done && code; i++)
        if (!sink->files[i].replaces)
            unlink(sink->files[i].path);
    return code;
}

static void safetensors_sink_close(void *self)
{
    struct sink *sink = self;
    for (size_t i = 0; i < sink->file_count; i++)
        atomic_close(&sink->files[i]);
    if (sink->indexed)
        atomic_close(&sink->index);
    free(sink->files);
    free(sink->index_text);
    free(sink);
}

static const struct ivon_sink_class safetensors_sink_class = {.write = safetensors_sink_write,
                                                              .commit = safetensors_sink_commit,
                                                              .close = safetensors_sink_close};

struct atomic_file *safetensors_place(const struct ivon_sink *whole, size_t tensor,
                                      uint64_t *offset)
{
    struct sink *sink = sink_self(whole, &safetensors_sink_class);
    *offset = sink->tensors[tensor].place.offset;
    return &sink->files[sink->tensors[tensor].file];
}

/* A tensor's entry in a header; null when memory is exhausted. */
static json_t *safetensors_sink_describe(const struct ivon_tensor *tensor, uint64_t begin)
{
    json_t *shape = json_array();
    for (int i = 0; i < tensor->rank; i++)
        json_array_append_new(shape, json_integer(tensor->shape[i]));
    uint64_t end = begin + (uint64_t)tensor->count * ivon_dtype_size(tensor->dtype);
    const char *dtype = tensor->stored_as ? tensor->stored_as : safetensors_dtype(tensor->dtype);
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)end);
}

/* A shard's header as text, which is to be freed. */
static char *header_text(const struct safetensors_layout *layout,
                         const struct safetensors_shard *shard)
{
    json_t *header = json_object();
    bool fine = header != NULL;
    uint64_t at = 0;
    if (json_object_size(shard->metadata))
        fine = fine && json_object_set(header, SAFETENSORS_METADATA, shard->metadata) == 0;
    for (size_t i = 0; i < shard->count && fine; i++) {
        size_t tensor = layout->order[shard->first + i];
        fine = json_object_set_new(header, layout->names[tensor],
                                   safetensors_sink_describe(&layout->tensors[tensor], at)) == 0;
        at += (uint64_t)layout->tensors[tensor].count *
              ivon_dtype_size(layout->tensors[tensor].dtype);
    }
    char *text = fine ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    return text;
}

/* Writes what stands in front of a shard's data, and says where they begin. */
static int safetensors_sink_write_header(struct atomic_file *file, const char *text,
                                         uint64_t data_size, uint64_t *data,
                                         struct ivon_error *error)
{
    char spaces[SAFETENSORS_ALIGNMENT];
    size_t length = strlen(text), padding = -length % SAFETENSORS_ALIGNMENT;
    uint64_t total = length + padding;
    if (total > SAFETENSORS_HEADER_MAX)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: its header would have %llu bytes, and %d are allowed",
                              file->path, (unsigned long long)total, SAFETENSORS_HEADER_MAX);
    memset(spaces, ' ', sizeof spaces);
    *data = SAFETENSORS_LENGTH_SIZE + total;
    uint64_t size;
    if (__builtin_add_overflow(*data, data_size, &size))
        size = UINT64_MAX; /* which cannot be reserved */
    int code = atomic_reserve(file, size, error);
    if (!code)
        code = atomic_write(file, 0, &total, SAFETENSORS_LENGTH_SIZE, error);
    if (!code)
        code = atomic_write(file, SAFETENSORS_LENGTH_SIZE, text, length, error);
    if (!code)
        code = atomic_write(file, SAFETENSORS_LENGTH_SIZE + length, spaces, padding, error);
    return code;
}

static int create_shard(struct sink *sink, const struct safetensors_layout *layout, size_t index,
                        const char *path, bool replace, struct ivon_error *error)
{
    const struct safetensors_shard *shard = &layout->shards[index];
    uint64_t at = 0;
    int code = atomic_open(&sink->files[index], path, replace, error);
    if (code)
        return code;
    sink->file_count = index + 1;
    char *text = header_text(layout, shard);
    code = text ? safetensors_sink_write_header(&sink->files[index], text, shard->size, &at, error)
                : ivon_error_memory(error);
    free(text);
    for (size_t i = 0; i < shard->count && !code; i++) {
        size_t tensor = layout->order[shard->first + i];
        sink->tensors[tensor].file = index;
        sink->tensors[tensor].place.offset = at;
        sink->tensors[tensor].place.size = ivon_dtype_size(layout->tensors[tensor].dtype);
        sink->tensors[tensor].place.count = layout->tensors[tensor].count;
        at += (uint64_t)sink->tensors[tensor].place.size * sink->tensors[tensor].place.count;
    }
    return code;
}

/* As Hugging Face's libraries write it. */
static char *index_text(const struct safetensors_layout *layout)
{
    json_t *map = json_object(), *index = json_object();
    bool fine = map && index;
    for (size_t i = 0; i < layout->shard_count; i++)
        for (size_t k = 0; k < layout->shards[i].count && fine; k++) {
            size_t tensor = layout->order[layout->shards[i].first + k];
            fine = json_object_set_new(map, layout->names[tensor],
                                       json_string(layout->shards[i].name)) == 0;
        }
    fine = fine && json_object_set(index, "metadata", layout->metadata) == 0 &&
           json_object_set(index, "weight_map", map) == 0;
    char *text = fine ? json_dumps(index, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    char *line = text ? realloc(text, strlen(text) + 2) : NULL;
    if (line)
        strcat(line, "\n");
    else
        free(text);
    json_decref(map);
    json_decref(index);
    return line;
}

static int create_all(struct sink *sink, const struct safetensors_layout *layout, const char *path,
                      bool replace, const struct ivon_progress *progress, struct ivon_error *error)
{
    sink->files = calloc(layout->shard_count + 1, sizeof *sink->files);
    if (!sink->files)
        return ivon_error_memory(error);
    if (!layout->metadata)
        return create_shard(sink, layout, 0, path, replace, error);
    int code = atomic_open(&sink->index, path, replace, error);
    if (code)
        return code;
    sink->indexed = true;
    if (!(sink->index_text = index_text(layout)))
        return ivon_error_memory(error);
    const char *slash = strrchr(path, '/');
    size_t directory = slash ? (size_t)(slash - path) + 1 : 0;
    for (size_t i = 0; i < layout->shard_count && !code; i++) {
        char *shard = malloc(directory + strlen(layout->shards[i].name) + 1);
        if (!shard)
            return ivon_error_memory(error);
        memcpy(shard, path, directory);
        strcpy(shard + directory, layout->shards[i].name);
        code = progress_ask(progress, error);
        if (!code)
            code = create_shard(sink, layout, i, shard, replace, error);
        free(shard);
    }
    return code;
}

int safetensors_create(struct ivon_sink **out, const char *path, const struct ivon_header *header,
                       const struct ivon_tensor *tensors, size_t tensor_count,
                       const struct ivon_create_options *options, struct ivon_error *error)
{
    struct safetensors_layout layout;
    struct sink *sink = calloc(1, sizeof *sink + tensor_count * sizeof sink->tensors[0]);
    if (!sink)
        return ivon_error_memory(error);
    sink->count = tensor_count;
    int code = safetensors_lay_out(&layout, path, header, tensors, tensor_count, options, error);
    if (!code) {
        code = create_all(sink, &layout, path, options->replace, &options->resources.progress,
                          error);
        safetensors_layout_release(&layout);
    }
    if (!code)
        code = ivon_sink_new(out, &safetensors_sink_class, sink, error);
    if (code)
        safetensors_sink_close(sink);
    return code;
}
