/* The leaves of Flax's trees: arrays, whole or in chunks, and what else there may be. */
#ifndef FORMATS_FLAX_ARRAY_H
#define FORMATS_FLAX_ARRAY_H

#include <stdbool.h>

#include "formats/flax/msgpack.h"
#include "ivon/stream.h"

enum { FLAX_OPAQUE_SIZE = 64 };

/* Elements that lie together, somewhere in the file. */
struct flax_piece {
    const unsigned char *data;
    uint64_t size; /* bytes */
};

struct flax_array {
    enum ivon_dtype dtype;
    int rank; /* -1 where it is not known */
    int64_t shape[IVON_RANK_MAX];
    char opaque[FLAX_OPAQUE_SIZE]; /* how it is stored if it cannot be read, else empty */
    struct flax_piece *pieces;     /* in order; none of an opaque one */
    size_t piece_count;
};

/* Returns whether a node is this text, or these bytes. */
bool flax_text_is(const struct msgpack_node *node, const char *text);

/* The value behind a key of a map; null where there is none, or no map. */
const struct msgpack_node *flax_find(const struct msgpack *tree, const struct msgpack_node *map,
                                     const char *key);

/* Returns whether a node is a leaf: no list, and no map but that of an array in chunks. */
bool flax_is_leaf(const struct msgpack_node *node);

/* Describes a leaf, to be released. IVON_ERROR_DATA for an array whose parts do not agree; `path`
   and `name` are for messages. */
int flax_array_open(struct flax_array *array, const char *path, const char *name,
                    const struct msgpack *tree, const struct msgpack_node *node,
                    struct ivon_error *error);
void flax_array_release(struct flax_array *array);

/* Copies elements [first, first + count), which must lie within the array. */
void flax_array_read(const struct flax_array *array, size_t first, size_t count, void *buffer);

#endif
