/* The parameters of a network in memory, as a posterior's mean or a sample from it. */
#ifndef BAYES_WEIGHTS_H
#define BAYES_WEIGHTS_H

#include "ivon/sample.h"
#include "net/graph/graph.h"

/* One block of memory, each array at a multiple of 64 bytes. */
struct weights {
    float *data;
    float **arrays; /* per parameter of the network */
    size_t size;    /* of the block, in bytes */
};

/* A network and the posterior that was bound to it. */
struct member {
    struct ivon_network *network;
    struct ivon_source *source;
    double weight; /* of all members 1 in sum */
    bool *random;  /* per parameter: is drawn */
};

int weights_init(struct weights *weights, const struct ivon_network *network,
                 struct ivon_error *error);
void weights_release(struct weights *weights);

/* Sets every parameter of the member's network to its value in sample `sample`; with temperature 0,
   to the mean. `threads` 1: in the calling thread. */
int weights_draw(struct weights *weights, const struct member *member,
                 const struct ivon_sample_options *options, uint64_t sample, int threads,
                 struct ivon_error *error);

/*
 * The diagonal covariance ρΣ of a member's random parameters, ρσ² = ρ/(λ(h + δ)); others get 0.
 * With `rho` NaN, ρ = λ/n. Fails where h + δ is not above 0, naming tensor and element.
 */
int weights_variance(struct weights *weights, const struct member *member, double rho, double n,
                     int threads, struct ivon_error *error);

#endif
