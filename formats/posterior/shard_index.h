/*
 * The index of a state dict in several files, the shards: JSON whose "weight_map" has the shard of
 * each tensor, and "metadata". A model hub's models have it for safetensors and for PyTorch's
 * files. Keras' has the shards of each layer, one or a list of them.
 */
#ifndef FORMATS_POSTERIOR_SHARD_INDEX_H
#define FORMATS_POSTERIOR_SHARD_INDEX_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "formats/io/mapped.h"

/* A tensor and the shard that has it; both strings are owned. */
struct shard_location {
    char *tensor;
    char *shard;
    size_t entry; /* of the map, which one or more locations are of */
    bool seen;
};

struct shard_index {
    char *path;
    struct shard_location *locations; /* by tensor, and then by shard */
    size_t count, capacity, entries;
    const char **shards; /* each once, by name: files beside the index */
    size_t shard_count;
    bool has_map;
    json_t *metadata; /* or null */
};

/* Returns whether a path is named as indices are: NAME.index.json. */
bool shard_index_name(const char *path);

/* Returns whether the bytes begin as a JSON object does. */
bool shard_index_recognise(const struct mapped_file *file);

/* The index is to be released whether or not this succeeds. */
int shard_index_read(struct shard_index *index, const struct mapped_file *file,
                     struct ivon_error *error);
void shard_index_release(struct shard_index *index);

/* Opens a shard by its place among index->shards. */
int shard_index_open(const struct shard_index *index, size_t shard, struct mapped_file *file,
                     struct ivon_error *error);

/* Returns whether the map has a tensor in that shard, which then has been seen. */
bool shard_index_see(struct shard_index *index, size_t shard, const char *tensor);

/* Refuses a tensor that the map does not have in that shard; and, when all have been seen, a
   tensor of the map that is not in its shard. */
int shard_index_check(struct shard_index *index, size_t shard, const char *tensor,
                      struct ivon_error *error);
int shard_index_complete(const struct shard_index *index, struct ivon_error *error);

#endif
