/*
 * The precision P = Σ^(−1) of a posterior of any structure. With S = λ(h + δ) element by element,
 *
 *   P[X] = U_B (S ⊙ (U_Bᵀ X U_A)) U_Aᵀ of a block,   P x = S x outside of blocks,
 *
 * and with a low-rank correction S^½ (I + U ℓ Uᵀ) S^½ in place of S, over all that is rotated.
 * Where some means are given, the precision of the others has their rows and columns of P,
 * unchanged. (Source: math.md, "Structured posteriors".)
 */
#ifndef BAYES_PRECISION_H
#define BAYES_PRECISION_H

#include <stdbool.h>

#include "ivon/stream.h"

struct precision;
struct thread_pool;

/*
 * P/divisor of the wanted means of a source: `wanted` is of each of its tensors. Means without a
 * Hessian are left out. Everything is read into memory: the source is not needed afterwards. Fails
 * where some S/divisor is negative, or does not fit into binary32.
 */
int precision_new(struct precision **precision, struct ivon_source *source, const bool *wanted,
                  double divisor, struct ivon_error *error);
void precision_free(struct precision *precision);

/* Returns whether the mean has a Hessian, or is in a block that has one, and is wanted. */
bool precision_covers(const struct precision *precision, size_t mean);

/* Returns whether P is a diagonal. */
bool precision_is_diagonal(const struct precision *precision);

/*
 * Sets the product to P x. Both have an array for each tensor of the source, of which those of
 * wanted means count; null ones are zeros, and are passed over in the product. Arrays of both may
 * be the same. One call at a time; `pool` null: in the calling thread. Bits do not depend on
 * threads.
 */
int precision_multiply(struct precision *precision, const float *const *x, float *const *product,
                       struct thread_pool *pool, struct ivon_error *error);

/* Sets arrays as of a product to the diagonal of P. */
int precision_diagonal(struct precision *precision, float *const *diagonal,
                       struct thread_pool *pool, struct ivon_error *error);

#endif
