/* Weights of Keras in several files. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/hdf5/source.h"
#include "formats/keras/keras.h"

/* An object of one of the files. */
struct entry {
    const struct hdf5_object *object;
    struct hdf5_place place;
    size_t shard;
};

struct keras_shards {
    struct shard_index *index;
    struct hdf5_file **files;
    size_t file_count;
    struct entry *entries; /* by path */
    size_t count;
    struct hdf5_object *objects; /* those of the entries */
    struct hdf5_place *places;   /* of the tensors */
};

static int keras_compare_entries(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;
    int order = strcmp(left->object->path, right->object->path);
    return order ? order : (left->shard > right->shard) - (left->shard < right->shard);
}

static int keras_open_files(struct keras_shards *shards, const struct hdf5_limits *limits,
                            struct ivon_error *error)
{
    size_t count = shards->index->shard_count;
    int code = 0;
    shards->files = calloc(count + 1, sizeof *shards->files);
    if (!shards->files)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++) {
        struct mapped_file file;
        code = shard_index_open(shards->index, i, &file, error);
        if (!code)
            code = hdf5_open(&shards->files[i], &file, limits, error);
        shards->file_count += !code;
    }
    return code;
}

static int keras_list_entries(struct keras_shards *shards, struct ivon_error *error)
{
    size_t all = 0, count;
    for (size_t i = 0; i < shards->file_count; i++) {
        hdf5_objects(shards->files[i], &count);
        all += count;
    }
    shards->entries = calloc(all + 1, sizeof *shards->entries);
    shards->objects = calloc(all + 1, sizeof *shards->objects);
    shards->places = calloc(all + 1, sizeof *shards->places);
    if (!shards->entries || !shards->objects || !shards->places)
        return ivon_error_memory(error);
    for (size_t i = 0; i < shards->file_count; i++) {
        const struct hdf5_object *objects = hdf5_objects(shards->files[i], &count);
        for (size_t j = 0; j < count; j++)
            shards->entries[shards->count++] = (struct entry){
                .object = &objects[j], .place = {shards->files[i], j}, .shard = i};
    }
    qsort(shards->entries, shards->count, sizeof *shards->entries, keras_compare_entries);
    for (size_t i = 0; i < shards->count; i++)
        shards->objects[i] = *shards->entries[i].object;
    return 0;
}

/* Sees in the index the group that a data set is in. */
static int keras_see_group(struct keras_shards *shards, const struct entry *entry,
                           struct ivon_error *error)
{
    const char *path = entry->object->path, *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    char *group = malloc(length + 2);
    if (!group)
        return ivon_error_memory(error);
    *group = '/';
    memcpy(group + 1, path, length);
    group[length + 1] = 0;
    shard_index_see(shards->index, entry->shard, group);
    free(group);
    return 0;
}

/* A layer that goes on in the next file may be listed in its first file alone, and a file in which
   such layers alone go on not at all: its bytes are missing, then. */
static int keras_check_size(const struct keras_shards *shards, struct ivon_error *error)
{
    const json_t *total = json_object_get(shards->index->metadata, "total_size");
    double bytes = 0;
    for (size_t i = 0; i < shards->count; i++) {
        const struct hdf5_object *object = &shards->objects[i];
        if (object->is_dataset && !object->refused)
            bytes += (double)object->count * (double)ivon_dtype_size(object->dtype);
    }
    if (!json_is_number(total) || bytes >= json_number_value(total))
        return 0;
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: the files that it lists hold %.0f bytes of weights, expected %.0f, "
                          "as 'total_size' says",
                          shards->index->path, bytes, json_number_value(total));
}

static int keras_check_entries(struct keras_shards *shards, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < shards->count && !code; i++) {
        const struct entry *entry = &shards->entries[i];
        if (!entry->object->is_dataset)
            continue;
        code = keras_see_group(shards, entry, error);
        if (!code && i && strcmp(entry[-1].object->path, entry->object->path) == 0)
            code = ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' is in '%s' and in '%s'",
                                  shards->index->path, entry->object->path,
                                  shards->index->shards[entry[-1].shard],
                                  shards->index->shards[entry->shard]);
    }
    if (!code)
        code = shard_index_complete(shards->index, error);
    return code ? code : keras_check_size(shards, error);
}

static int keras_list_weights(struct keras_shards *shards, struct tensor_list *tensors,
                              struct ivon_error *error)
{
    const char *path = shards->index->path;
    size_t *indices = calloc(shards->count + 1, sizeof *indices);
    int code = indices ? keras_list(tensors, indices, shards->objects, shards->count, path, error)
                       : ivon_error_memory(error);
    for (size_t i = 0; i < tensors->count && !code; i++)
        shards->places[i] = shards->entries[indices[i]].place;
    free(indices);
    if (!code && !tensors->count)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: the HDF5 files that it lists hold no weights of Keras", path);
    return code;
}

int keras_open_shards(struct ivon_source **source, struct shard_index *index,
                      const struct hdf5_limits *limits, struct ivon_error *error)
{
    const struct ivon_header header = ivon_header_empty();
    struct keras_shards shards = {.index = index};
    struct tensor_list tensors = {0};
    int code = keras_open_files(&shards, limits, error);
    if (!code)
        code = keras_list_entries(&shards, error);
    if (!code)
        code = keras_check_entries(&shards, error);
    if (!code)
        code = keras_list_weights(&shards, &tensors, error);
    free(shards.entries);
    free(shards.objects);
    return hdf5_source_join(source, code, shards.files, shards.file_count, shards.places,
                            index->path, &header, &tensors, error);
}
