/* The steps on one tile of scores, between the matrix products (attention/kernel.c). */
#ifndef NET_OPS_ATTENTION_TILE_H
#define NET_OPS_ATTENTION_TILE_H

#include "net/ops/attention/attention.h"

/* p = c tanh(p / c), and the slope of that, unless null, in `slope` at the places of p. */
void tile_cap(const struct attention *attention, const struct attention_tile *tile, float *slope);

/* Adds the masks, and sets scores that are not seen to -INFINITY. */
void tile_mask(const struct attention *attention, const struct attention_values *values,
               const struct attention_tile *tile);

/* Scores to probabilities; those of a query that sees no key are 0. */
void tile_softmax(const struct attention *attention, const struct attention_values *values,
                  const struct attention_tile *tile);

/* Copies the tile's rows to a tensor of all scores. */
void tile_store(const struct attention *attention, const struct attention_tile *tile,
                float *scores);

/* p += the tile's rows of a tensor of all scores. */
void tile_add(const struct attention *attention, const struct attention_tile *tile,
              const float *scores);

/* Sets to 0 what belongs to scores that a mask or a bound replaces. */
void tile_clear_unseen(const struct attention *attention, const struct attention_values *values,
                       const struct attention_tile *tile);

/* The Jacobian of softmax: d = p (d − Σ p d), which is symmetric. */
void tile_softmax_jacobian(const struct attention *attention, const struct attention_tile *tile,
                           float *d);

/* Sums over the scores that share an element of a mask. */
void tile_mask_adjoint(const struct attention *attention, const struct attention_tile *tile,
                       const struct attention_mask *mask, float *adjoint, double *sums);

/* d += tangent of a mask. */
void tile_mask_tangent(const struct attention *attention, const struct attention_tile *tile,
                       const struct attention_mask *mask, const float *tangent);

/* d *= slope */
void tile_multiply(const struct attention *attention, const struct attention_tile *tile,
                   const float *slope);

#endif
