/*
 * The curvature of a network in the whitened coordinates of a fit, y = D^(1/2) x with D = λ(h + δ),
 * the precision of what was fitted, block by block in its basis; layers one after the other, then
 * diagonal parameters:
 *
 *   M = D^(−1/2) λ(GGN + δ) D^(−1/2) − I,   GGN x = (1/N) Σ_n J_nᵀ Λ_n J_n x
 *
 * A product takes a forward, a tangent and a backward pass over the data.
 */
#ifndef BAYES_FIT_WHITENED_H
#define BAYES_FIT_WHITENED_H

#include "bayes/fit/private.h"
#include "net/derivative/metric.h"

struct whitened {
    struct ivon_fit *fit;
    struct runner runner;
    size_t size;              /* elements of a vector */
    struct net_block *blocks; /* of each layer */
    float *roots;             /* 1/√(h + δ) */
    struct weights direction;
    struct weights *gradients; /* of each tile of a rank's wave */
    const float **lanes;       /* their data */
    double *sums;              /* of all gradients, as weights lie */
    float **adjoints;          /* of each thread: tile × T × K, and p */
    size_t together;           /* tiles of a rank's wave at most */
    size_t wave, first_tile;   /* tiles of the wave; its first within the block in memory */
    bool loaded;               /* some examples are in memory */
};

size_t whitened_size(const struct ivon_fit *fit);

/* For the weight decays that the fit has now. */
int whitened_init(struct whitened *whitened, struct ivon_fit *fit, struct ivon_error *error);
void whitened_release(struct whitened *whitened);

/* out ← M y; `out` and `y` have `size` elements and differ. The sums begin with what they hold of
   the examples before the fit's position. */
int whitened_multiply(struct whitened *whitened, const float *y, float *out,
                      struct ivon_error *error);

#endif
