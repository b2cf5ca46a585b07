/* A checkpoint in safetensors, in one file or several, as a source. */
#include "formats/safetensors/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/posterior/combined.h"
#include "formats/posterior/parts.h"

static int safetensors_read(void *self, size_t index, size_t first, size_t count, void *buffer,
                            struct ivon_error *error)
{
    (void)error;
    const struct safetensors *safetensors = self;
    const struct safetensors_tensor *tensor = safetensors->places[index].tensor;
    const struct mapped_file *file = &safetensors->files[safetensors->places[index].file].mapped;
    size_t size = ivon_dtype_size(tensor->dtype);
    memcpy(buffer, file->data + tensor->offset + first * size, count * size);
    return 0;
}

static const void *safetensors_view(void *self, size_t index)
{
    const struct safetensors *safetensors = self;
    const struct mapped_file *file = &safetensors->files[safetensors->places[index].file].mapped;
    return file->data + safetensors->places[index].tensor->offset;
}

static void safetensors_advise(void *self, size_t index, size_t first, size_t count, int advice)
{
    const struct safetensors *safetensors = self;
    const struct safetensors_tensor *tensor = safetensors->places[index].tensor;
    size_t size = ivon_dtype_size(tensor->dtype);
    mapped_advise(&safetensors->files[safetensors->places[index].file].mapped,
                  tensor->offset + first * size, count * size, advice);
}

static void safetensors_close(void *self)
{
    struct safetensors *safetensors = self;
    for (size_t i = 0; i < safetensors->file_count; i++)
        safetensors_release(&safetensors->files[i]);
    json_decref(safetensors->metadata);
    free(safetensors->files);
    free(safetensors->places);
    free(safetensors->index_path);
    free(safetensors);
}

static const struct ivon_source_class class = {.read = safetensors_read,
                                               .view = safetensors_view,
                                               .advise = safetensors_advise,
                                               .close = safetensors_close};

const struct safetensors *safetensors_of(const struct ivon_source *source)
{
    const struct ivon_source *first = source ? combined_model(source) : NULL;
    return first ? source_self(first, &class) : NULL;
}

bool safetensors_carries(const struct ivon_source *like, const struct ivon_tensor *tensor)
{
    return tensor->part != IVON_OPAQUE || (tensor->rank >= 0 && safetensors_of(like));
}

/* A number of the metadata, where it is text, or of an index, where it may be a number. What is
   none is an error in a posterior, and in any other file somebody else's. */
static int safetensors_find_number(void *context, const char *key, struct parts_number *number,
                                   struct ivon_error *error)
{
    const struct safetensors *safetensors = context;
    json_t *value = json_object_get(safetensors->metadata, key), *parsed = NULL;
    const char *text = json_string_value(value);
    if (!value)
        return 0;
    if (text)
        value = parsed = json_loads(text, JSON_DECODE_ANY, NULL);
    bool found = json_is_number(value);
    if (found)
        *number = (struct parts_number){.number = json_number_value(value),
                                        .is_integer = json_is_integer(value),
                                        .integer = json_integer_value(value)};
    json_decref(parsed);
    if (!found && safetensors->posterior)
        return ivon_error_set(
            error, IVON_ERROR_DATA, "%s: metadata '%s' is '%.40s', expected a number",
            safetensors->index_path ? safetensors->index_path : safetensors->files[0].mapped.path,
            key, text ? text : "no text");
    return found;
}

static bool safetensors_is_posterior(const struct safetensors *safetensors)
{
    if (json_object_get(safetensors->metadata, PARTS_MARK))
        return true;
    for (size_t i = 0; i < safetensors->file_count; i++)
        for (size_t k = 0; k < safetensors->files[i].count; k++)
            if (parts_posterior_name(safetensors->files[i].tensors[k].name))
                return true;
    return false;
}

static int safetensors_list_tensors(struct safetensors *safetensors, const struct parts_file *parts,
                                    struct tensor_list *tensors, struct ivon_error *error)
{
    size_t count = 0;
    for (size_t i = 0; i < safetensors->file_count; i++)
        count += safetensors->files[i].count;
    safetensors->places = calloc(count + 1, sizeof *safetensors->places);
    if (!safetensors->places)
        return ivon_error_memory(error);
    int code = 0;
    for (size_t i = 0; i < safetensors->file_count; i++)
        for (size_t k = 0; k < safetensors->files[i].count && !code; k++) {
            const struct safetensors_tensor *tensor = &safetensors->files[i].tensors[k];
            struct ivon_tensor described = {.dtype = tensor->dtype,
                                            .rank = tensor->rank,
                                            .count = (size_t)tensor->size,
                                            .stored_as = tensor->stored_as};
            memcpy(described.shape, tensor->shape, sizeof described.shape);
            safetensors->places[tensors->count].file = i;
            safetensors->places[tensors->count].tensor = tensor;
            code = parts_append(parts, tensors, tensor->name, &described, error);
        }
    return code;
}

/* The source of files whose headers are read. Takes them over, whether or not this succeeds. */
static int safetensors_make_source(struct ivon_source **source, struct safetensors *safetensors,
                                   const char *path, const struct ivon_open_options *options,
                                   struct ivon_error *error)
{
    struct tensor_list tensors = {0};
    struct ivon_header header = ivon_header_empty();
    safetensors->posterior = safetensors_is_posterior(safetensors);
    struct parts_file parts = {.path = path,
                               .posterior = safetensors->posterior,
                               .options = options,
                               .number = safetensors_find_number,
                               .context = safetensors};
    header.creator = json_string_value(json_object_get(safetensors->metadata, "creator"));
    header.provenance = json_string_value(json_object_get(safetensors->metadata, "provenance"));
    int code = parts_header(&parts, &header, error);
    if (!code)
        code = safetensors_list_tensors(safetensors, &parts, &tensors, error);
    if (!code)
        code = parts_finish(&parts, &tensors, &header, error);
    if (!code)
        code = ivon_source_new(source, &class, safetensors, path, &header, &tensors, error);
    if (code) {
        tensor_list_release(&tensors);
        safetensors_close(safetensors);
    }
    return code;
}

int safetensors_open(struct ivon_source **source, struct mapped_file *mapped,
                     const struct ivon_open_options *options, struct ivon_error *error)
{
    struct safetensors *safetensors = calloc(1, sizeof *safetensors);
    struct safetensors_file *file = calloc(1, sizeof *file);
    if (!safetensors || !file) {
        free(safetensors);
        free(file);
        mapped_close(mapped);
        return ivon_error_memory(error);
    }
    file->mapped = *mapped;
    *mapped = (struct mapped_file){0};
    safetensors->files = file;
    safetensors->file_count = 1;
    int code = safetensors_parse(file, error);
    if (code) {
        safetensors_close(safetensors);
        return code;
    }
    safetensors->metadata = json_incref(file->metadata);
    return safetensors_make_source(source, safetensors, file->mapped.path, options, error);
}

static int open_shard(struct safetensors *safetensors, struct shard_index *index, size_t shard,
                      struct ivon_error *error)
{
    struct safetensors_file *file = &safetensors->files[safetensors->file_count++];
    file->name = strdup(index->shards[shard]);
    int code = file->name ? shard_index_open(index, shard, &file->mapped, error)
                          : ivon_error_memory(error);
    if (!code)
        code = safetensors_parse(file, error);
    for (size_t i = 0; i < file->count && !code; i++)
        code = shard_index_check(index, shard, file->tensors[i].name, error);
    return code;
}

int safetensors_open_shards(struct ivon_source **source, struct shard_index *index,
                            const struct ivon_open_options *options, struct ivon_error *error)
{
    struct safetensors *safetensors = calloc(1, sizeof *safetensors);
    if (!safetensors)
        return ivon_error_memory(error);
    safetensors->files = calloc(index->shard_count + 1, sizeof *safetensors->files);
    safetensors->index_path = strdup(index->path);
    safetensors->metadata = json_incref(index->metadata);
    int code = safetensors->files && safetensors->index_path ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < index->shard_count && !code; i++)
        code = open_shard(safetensors, index, i, error);
    if (!code)
        code = shard_index_complete(index, error);
    if (code) {
        safetensors_close(safetensors);
        return code;
    }
    return safetensors_make_source(source, safetensors, safetensors->index_path, options, error);
}
