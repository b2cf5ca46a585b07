/* The parameters of a network in memory: a posterior's mean, a sample from it, a gradient. */
#ifndef BAYES_WEIGHTS_H
#define BAYES_WEIGHTS_H

#include "ivon/stream.h"
#include "net/graph/graph.h"

/* One block of memory, each array at a multiple of 64 bytes. */
struct weights {
    float *data;
    float **arrays; /* per parameter of the network */
    size_t size;    /* of the block, in bytes */
};

int weights_init(struct weights *weights, const struct ivon_network *network,
                 struct ivon_error *error);
void weights_release(struct weights *weights);

/* Bytes of an array of `count` elements in the block. */
size_t weights_array_bytes(size_t count);

/* A range of one parameter: what one thread fills at a time. */
struct weights_range {
    size_t parameter, first, count;
};

/* Fills every parameter, range by range: `fill` sets out[range->count]. The parameters' sizes are
   those of the means in `source` that the network is bound to. `threads` 1: in the calling
   thread. */
int weights_fill(struct weights *weights, const struct ivon_network *network,
                 const struct ivon_source *source, int threads,
                 int (*fill)(void *context, const struct weights_range *range, float *out,
                             struct ivon_error *error),
                 void *context, struct ivon_error *error);

#endif
