/* The index of safetensors in several files, and the files that it names. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/json_members.h"
#include "formats/safetensors.h"

enum {
    INDEX_MAX = 100000000,  /* bytes, as of a header */
    NAME_MAX_SIZE = 1 << 10, /* of a shard, with its quotes */
    VALUE_MAX = 1 << 24,    /* of anything else in an index */
};

/* Which shard has a tensor; both strings are owned. */
struct location {
    char *tensor;
    char *shard;
    bool seen;
};

struct index {
    const char *path;
    struct location *locations; /* by tensor */
    size_t count, capacity;
    const char **shards; /* each once, by name */
    size_t shard_count;
    bool has_map;
    json_t *metadata;
};

bool safetensors_index_recognise(const struct mapped_file *file)
{
    uint64_t at = 0;
    while (at < file->size && file->data[at] && strchr(" \t\r\n", file->data[at]))
        at++;
    return at < file->size && file->data[at] == '{';
}

bool safetensors_index_name(const char *path)
{
    size_t length = strlen(path), end = strlen(SAFETENSORS_INDEX);
    return length >= end && strcmp(path + length - end, SAFETENSORS_INDEX) == 0;
}

/* Takes over the tensor's name. */
static int add_location(struct index *index, char *tensor, struct json_members *members,
                        struct ivon_error *error)
{
    if (index->count == index->capacity) {
        size_t capacity = index->capacity ? 2 * index->capacity : 64;
        struct location *grown = realloc(index->locations, capacity * sizeof *grown);
        if (!grown) {
            free(tensor);
            return ivon_error_memory(error);
        }
        index->locations = grown;
        index->capacity = capacity;
    }
    struct location *location = &index->locations[index->count++];
    *location = (struct location){.tensor = tensor};
    json_t *value;
    int code = json_members_value(members, NAME_MAX_SIZE, &value, error);
    if (code)
        return code;
    const char *shard = json_string_value(value);
    /* A name as a tensor's, and no path: what it names lies beside the index. */
    if (!shard || strchr(shard, '/') || !tensor_name_valid(shard))
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': its shard is '%s', expected the name of a file in "
                              "the same directory",
                              index->path, tensor, shard ? shard : "no string");
    else if (!(location->shard = strdup(shard)))
        code = ivon_error_memory(error);
    json_decref(value);
    return code;
}

static int read_map(struct index *index, struct json_members *members, struct ivon_error *error)
{
    struct json_members map;
    if (index->has_map)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: 'weight_map' occurs twice",
                              index->path);
    index->has_map = true;
    int code = json_members_enter(members, &map, error);
    while (!code) {
        char *tensor;
        code = json_members_next(&map, &tensor, error);
        if (code || !tensor)
            break;
        code = add_location(index, tensor, &map, error);
    }
    json_members_leave(members, &map);
    return code;
}

static int read_member(struct index *index, const char *name, struct json_members *members,
                       struct ivon_error *error)
{
    json_t *value;
    if (strcmp(name, "weight_map") == 0)
        return read_map(index, members, error);
    int code = json_members_value(members, VALUE_MAX, &value, error);
    if (code)
        return code;
    bool metadata = strcmp(name, "metadata") == 0;
    if (metadata && (index->metadata || !json_is_object(value)))
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: 'metadata' %s", index->path,
                              index->metadata ? "occurs twice" : "is no object");
    if (metadata && !code)
        index->metadata = json_incref(value);
    json_decref(value);
    return code;
}

static int read_index(struct index *index, const struct mapped_file *file,
                      struct ivon_error *error)
{
    struct json_members members;
    if (file->size > INDEX_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: an index of %llu bytes, expected at most %d", index->path,
                              (unsigned long long)file->size, INDEX_MAX);
    int code = json_members_open(&members, index->path, (const char *)file->data, file->size,
                                 error);
    while (!code) {
        char *name;
        code = json_members_next(&members, &name, error);
        if (code || !name)
            break;
        code = read_member(index, name, &members, error);
        free(name);
    }
    if (!code)
        code = json_members_end(&members, error);
    if (!code && !index->has_map)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: is JSON, but no index of safetensors: 'weight_map' is missing",
                              index->path);
    return code;
}

static int compare_locations(const void *a, const void *b)
{
    const struct location *left = a, *right = b;
    return strcmp(left->tensor, right->tensor);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorts the map, and lists each shard once. */
static int sort_index(struct index *index, struct ivon_error *error)
{
    if (index->count)
        qsort(index->locations, index->count, sizeof *index->locations, compare_locations);
    for (size_t i = 1; i < index->count; i++)
        if (compare_locations(&index->locations[i - 1], &index->locations[i]) == 0)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: tensor '%s' occurs twice in 'weight_map'", index->path,
                                  index->locations[i].tensor);
    index->shards = calloc(index->count + 1, sizeof *index->shards);
    if (!index->shards)
        return ivon_error_memory(error);
    for (size_t i = 0; i < index->count; i++)
        index->shards[i] = index->locations[i].shard;
    qsort(index->shards, index->count, sizeof *index->shards, compare_names);
    for (size_t i = 0; i < index->count; i++)
        if (!i || strcmp(index->shards[index->shard_count - 1], index->shards[i]) != 0)
            index->shards[index->shard_count++] = index->shards[i];
    return 0;
}

/* Every tensor of a shard must be there by the map. */
static int check_shard(struct index *index, const struct safetensors_file *file,
                       struct ivon_error *error)
{
    for (size_t i = 0; i < file->count; i++) {
        const struct location key = {.tensor = file->tensors[i].name};
        struct location *location = bsearch(&key, index->locations, index->count,
                                            sizeof *index->locations, compare_locations);
        if (!location || strcmp(location->shard, file->name) != 0)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: tensor '%s': is in '%s', expected %s%s%s", index->path,
                                  key.tensor, file->name, location ? "in '" : "nowhere",
                                  location ? location->shard : "", location ? "'" : "");
        location->seen = true;
    }
    return 0;
}

static int open_shard(struct index *index, struct safetensors_file *file, const char *name,
                      struct ivon_error *error)
{
    const char *slash = strrchr(index->path, '/');
    size_t directory = slash ? (size_t)(slash - index->path) + 1 : 0;
    char *path = malloc(directory + strlen(name) + 1);
    file->name = strdup(name);
    int code = path && file->name ? 0 : ivon_error_memory(error);
    if (!code) {
        memcpy(path, index->path, directory);
        strcpy(path + directory, name);
        code = mapped_open(&file->mapped, path, error);
    }
    free(path);
    if (!code)
        code = safetensors_parse(file, error);
    return code ? code : check_shard(index, file, error);
}

static int open_all(struct index *index, struct safetensors *safetensors,
                    struct ivon_error *error)
{
    safetensors->files = calloc(index->shard_count + 1, sizeof *safetensors->files);
    if (!safetensors->files)
        return ivon_error_memory(error);
    int code = 0;
    for (size_t i = 0; i < index->shard_count && !code; i++)
        code = open_shard(index, &safetensors->files[safetensors->file_count++], index->shards[i],
                          error);
    for (size_t i = 0; i < index->count && !code; i++)
        if (!index->locations[i].seen)
            code = ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s': is not in '%s'",
                                  index->path, index->locations[i].tensor,
                                  index->locations[i].shard);
    return code;
}

int safetensors_open_shards(struct safetensors *safetensors, const struct mapped_file *file,
                            struct ivon_error *error)
{
    struct index index = {.path = file->path};
    int code = read_index(&index, file, error);
    if (!code)
        code = sort_index(&index, error);
    if (!code)
        code = open_all(&index, safetensors, error);
    if (!code)
        safetensors->metadata = json_incref(index.metadata);
    for (size_t i = 0; i < index.count; i++) {
        free(index.locations[i].tensor);
        free(index.locations[i].shard);
    }
    free(index.locations);
    free(index.shards);
    json_decref(index.metadata);
    return code;
}
