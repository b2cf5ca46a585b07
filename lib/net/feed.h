/*
 * Examples as a network's inputs, in tiles: so many examples at a time as one plan takes, the last
 * tile filled up by repeating its last example.
 */
#ifndef NET_FEED_H
#define NET_FEED_H

#include "ivon/examples.h"
#include "net/graph/graph.h"

/* One input of the network, or the targets, in memory. */
struct feed_field {
    size_t field;       /* of the examples */
    enum net_type type; /* of the input; booleans are whole numbers in the data, 0 or 1 */
    size_t count;       /* elements of one example */
    void *data;         /* of the block that was loaded */
};

struct feed {
    const struct ivon_network *network;
    struct ivon_examples *examples;
    struct feed_field *inputs; /* as the network's */
    uint64_t first;            /* of the block that is loaded */
    size_t count, capacity;    /* of examples in the block */
    int64_t fixed;             /* examples that the graph takes at a time; -1: any number */
};

/*
 * Pairs every input of the network with a field of the examples: as `names` say; a single input
 * without names takes the first field; others take the field of their own name. Shapes must agree,
 * but for extents of 1 and where one of the two is flat; the message shows both.
 */
int feed_open(struct feed *feed, const struct ivon_network *network, struct ivon_examples *examples,
              const struct ivon_feed_name *names, size_t name_count, struct ivon_error *error);
void feed_close(struct feed *feed);

/* Fails where the graph takes several examples at a time, and no other number: what is asked of
   single ones cannot be told apart. */
int feed_expect_single(const struct feed *feed, struct ivon_error *error);

/* Bytes of one example's inputs. */
size_t feed_example_size(const struct feed *feed);

/* The network's inputs for `tile` examples, to plan for; inputs[network->input_count]. */
int feed_shapes(const struct feed *feed, int64_t tile, struct net_tensor *inputs,
                struct ivon_error *error);

/* Fails where an example of a feed has other shapes than one of another, by whose plans it is to be
   run: extents of the network that are free may differ. */
int feed_check_shapes(const struct feed *feed, const struct feed *planned,
                      struct ivon_error *error);

/* Reads the examples [first, first + count) into memory, in place of the block before. */
int feed_load(struct feed *feed, uint64_t first, size_t count, struct ivon_error *error);

/* Sets the inputs of the tile that begins at example `at` of the block. Whole tiles are borrowed
   from the block. A tile that has to be filled up is copied to `scratch`, of tile ×
   feed_example_size bytes and 64 for each input. */
void feed_tile(const struct feed *feed, size_t at, size_t tile, const void **inputs, void *scratch);

#endif
