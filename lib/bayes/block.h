/* The blocks of a posterior in memory, as derivatives take them (net/derivative/metric.h). */
#ifndef BAYES_BLOCK_H
#define BAYES_BLOCK_H

#include "bayes/structure.h"
#include "net/derivative/metric.h"

struct block {
    struct net_block net;
    float *input_basis, *output_basis; /* where the source has no view of them; or null */
    float *diagonal;
};

/* Reads a block's bases, and sets its diagonal to scale/(h + δ). What it says of parameters is left
   to the caller. */
int block_load(struct block *block, struct ivon_source *source, const struct structure_block *from,
               double scale, struct ivon_error *error);
void block_release(struct block *block);

/* Bytes that it takes in memory: bases that lie there as they are take none. */
size_t block_memory(struct ivon_source *source, const struct structure_block *from);

#endif
