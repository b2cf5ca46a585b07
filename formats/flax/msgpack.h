/*
 * MessagePack (its specification of 2013, with extensions) as a tree. Texts, bytes and extensions
 * stay where they lie in the data; what is allocated grows with the values that are there, and not
 * with a count that the data claim.
 */
#ifndef FORMATS_FLAX_MSGPACK_H
#define FORMATS_FLAX_MSGPACK_H

#include <stddef.h>
#include <stdint.h>

#include "ivon/error.h"

enum { MSGPACK_DEPTH_MAX = 64, MSGPACK_NODES_MAX = 1 << 21 };

enum msgpack_kind {
    MSGPACK_NIL = 1,
    MSGPACK_BOOLEAN,
    MSGPACK_INTEGER,
    MSGPACK_FLOAT,
    MSGPACK_TEXT,
    MSGPACK_BYTES,
    MSGPACK_EXTENSION,
    MSGPACK_ARRAY,
    MSGPACK_MAP,
};

struct msgpack_node {
    enum msgpack_kind kind;
    int type;                  /* of an extension, -128 to 127 */
    const unsigned char *data; /* of text, bytes and extensions, which do not end in a null */
    uint64_t size;             /* bytes of those; of an array or a map: how many nodes it has */
    int64_t integer;           /* INT64_MAX stands for all that are larger */
    size_t end;                /* the index behind the node's last descendant */
};

/* The nodes in the data's order, the root first. Those of an array or a map begin at the index
   behind its own, and each ends where the next begins; a map has a key and its value in turn. */
struct msgpack {
    struct msgpack_node *nodes;
    size_t count;
};

/* Parses one value that takes all of the data, which are borrowed; IVON_ERROR_DATA where they are
   no such value, or exceed the limits above. `path` is for messages. */
int msgpack_parse(struct msgpack *tree, const char *path, const unsigned char *data, uint64_t size,
                  struct ivon_error *error);
void msgpack_release(struct msgpack *tree);

#endif
