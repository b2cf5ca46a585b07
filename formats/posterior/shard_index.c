#include "formats/posterior/shard_index.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/json_members.h"
#include "core/stream.h"
#include "formats/io/strings.h"

enum {
    INDEX_MAX = 100000000, /* bytes, as of a header */
    SHARDS_MAX = 1 << 16,  /* of a tensor's shards */
    VALUE_MAX = 1 << 24,   /* of anything else in an index */
};

bool shard_index_name(const char *path)
{
    return string_ends_with(path, ".index.json");
}

bool shard_index_recognise(const struct mapped_file *file)
{
    uint64_t at = 0;
    while (at < file->size && file->data[at] && strchr(" \t\r\n", file->data[at]))
        at++;
    return at < file->size && file->data[at] == '{';
}

static int grow_locations(struct shard_index *index, struct ivon_error *error)
{
    if (index->count < index->capacity)
        return 0;
    size_t capacity = index->capacity ? 2 * index->capacity : 64;
    struct shard_location *grown = realloc(index->locations, capacity * sizeof *grown);
    if (!grown)
        return ivon_error_memory(error);
    index->locations = grown;
    index->capacity = capacity;
    return 0;
}

static int add_location(struct shard_index *index, const char *tensor, const json_t *value,
                        struct ivon_error *error)
{
    const char *shard = json_string_value(value);
    /* A name as a tensor's, and no path: what it names lies beside the index. */
    if (!shard || strchr(shard, '/') || !tensor_name_valid(shard))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': its shard is '%s', expected the name of a file in "
                              "the same directory",
                              index->path, tensor, shard ? shard : "no string");
    int code = grow_locations(index, error);
    if (code)
        return code;
    struct shard_location *location = &index->locations[index->count++];
    *location = (struct shard_location){
        .tensor = strdup(tensor), .shard = strdup(shard), .entry = index->entries};
    return location->tensor && location->shard ? 0 : ivon_error_memory(error);
}

/* Adds a tensor of the map, whose value is a shard or a list of shards. */
static int add_entry(struct shard_index *index, const char *tensor, struct json_members *members,
                     struct ivon_error *error)
{
    json_t *value;
    int code = json_members_value(members, SHARDS_MAX, &value, error);
    if (code)
        return code;
    bool list = json_is_array(value) && json_array_size(value);
    size_t count = list ? json_array_size(value) : 1;
    for (size_t i = 0; i < count && !code; i++)
        code = add_location(index, tensor, list ? json_array_get(value, i) : value, error);
    index->entries++;
    json_decref(value);
    return code;
}

static int read_map(struct shard_index *index, struct json_members *members,
                    struct ivon_error *error)
{
    struct json_members map;
    if (index->has_map)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: 'weight_map' occurs twice", index->path);
    index->has_map = true;
    int code = json_members_enter(members, &map, error);
    while (!code) {
        char *tensor;
        code = json_members_next(&map, &tensor, error);
        if (code || !tensor)
            break;
        code = add_entry(index, tensor, &map, error);
        free(tensor);
    }
    json_members_leave(members, &map);
    return code;
}

static int shard_index_read_member(struct shard_index *index, const char *name,
                                   struct json_members *members, struct ivon_error *error)
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

static int read_members(struct shard_index *index, const struct mapped_file *file,
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
        code = shard_index_read_member(index, name, &members, error);
        free(name);
    }
    if (!code)
        code = json_members_end(&members, error);
    if (!code && !index->has_map)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: is JSON, but no index of shards: 'weight_map' is missing",
                              index->path);
    return code;
}

static int compare_located(const void *a, const void *b)
{
    const struct shard_location *left = a, *right = b;
    return strcmp(left->tensor, right->tensor);
}

static int compare_locations(const void *a, const void *b)
{
    const struct shard_location *left = a, *right = b;
    int order = compare_located(a, b);
    return order ? order : strcmp(left->shard, right->shard);
}

/* Sorts the map, and lists each shard once. */
static int sort_index(struct shard_index *index, struct ivon_error *error)
{
    if (index->count)
        qsort(index->locations, index->count, sizeof *index->locations, compare_locations);
    for (size_t i = 1; i < index->count; i++) {
        const struct shard_location *pair = &index->locations[i - 1];
        bool again = pair[0].entry != pair[1].entry || strcmp(pair[0].shard, pair[1].shard) == 0;
        if (again && compare_located(&pair[0], &pair[1]) == 0)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: tensor '%s' occurs twice in 'weight_map'", index->path,
                                  pair->tensor);
    }
    index->shards = calloc(index->count + 1, sizeof *index->shards);
    if (!index->shards)
        return ivon_error_memory(error);
    for (size_t i = 0; i < index->count; i++)
        index->shards[i] = index->locations[i].shard;
    qsort(index->shards, index->count, sizeof *index->shards, strings_compare);
    for (size_t i = 0; i < index->count; i++)
        if (!i || strcmp(index->shards[index->shard_count - 1], index->shards[i]) != 0)
            index->shards[index->shard_count++] = index->shards[i];
    return 0;
}

int shard_index_read(struct shard_index *index, const struct mapped_file *file,
                     struct ivon_error *error)
{
    *index = (struct shard_index){.path = strdup(file->path)};
    int code = index->path ? read_members(index, file, error) : ivon_error_memory(error);
    return code ? code : sort_index(index, error);
}

void shard_index_release(struct shard_index *index)
{
    for (size_t i = 0; i < index->count; i++) {
        free(index->locations[i].tensor);
        free(index->locations[i].shard);
    }
    free(index->locations);
    free(index->shards);
    free(index->path);
    json_decref(index->metadata);
    *index = (struct shard_index){0};
}

int shard_index_open(const struct shard_index *index, size_t shard, struct mapped_file *file,
                     struct ivon_error *error)
{
    const char *slash = strrchr(index->path, '/'), *name = index->shards[shard];
    size_t directory = slash ? (size_t)(slash - index->path) + 1 : 0;
    char *path = malloc(directory + strlen(name) + 1);
    if (!path)
        return ivon_error_memory(error);
    memcpy(path, index->path, directory);
    strcpy(path + directory, name);
    int code = mapped_open(file, path, error);
    free(path);
    return code;
}

bool shard_index_see(struct shard_index *index, size_t shard, const char *tensor)
{
    const struct shard_location key = {.tensor = (char *)tensor,
                                       .shard = (char *)index->shards[shard]};
    struct shard_location *location = bsearch(&key, index->locations, index->count,
                                              sizeof *index->locations, compare_locations);
    if (location)
        location->seen = true;
    return location != NULL;
}

int shard_index_check(struct shard_index *index, size_t shard, const char *tensor,
                      struct ivon_error *error)
{
    if (shard_index_see(index, shard, tensor))
        return 0;
    const struct shard_location key = {.tensor = (char *)tensor};
    const struct shard_location *other = bsearch(&key, index->locations, index->count,
                                                 sizeof *index->locations, compare_located);
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s': is in '%s', expected %s%s%s",
                          index->path, tensor, index->shards[shard], other ? "in '" : "nowhere",
                          other ? other->shard : "", other ? "'" : "");
}

int shard_index_complete(const struct shard_index *index, struct ivon_error *error)
{
    for (size_t i = 0; i < index->count; i++)
        if (!index->locations[i].seen)
            return ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s': is not in '%s'",
                                  index->path, index->locations[i].tensor,
                                  index->locations[i].shard);
    return 0;
}
