/* Sums and products of vectors of floats, element by element. */
#ifndef NET_DERIVATIVE_VECTORS_H
#define NET_DERIVATIVE_VECTORS_H

#include <stddef.h>

/* a ← a b */
void derivative_multiply(float *restrict a, const float *restrict b, size_t count);

/* a += b */
void derivative_add(float *restrict a, const float *restrict b, size_t count);

/* a ← a² */
void derivative_square(float *a, size_t count);

/* out ← a b */
void derivative_products(float *restrict out, const float *restrict a, const float *restrict b,
                         size_t count);

/* out += scale a b */
void derivative_add_products(float *restrict out, float scale, const float *restrict a,
                             const float *restrict b, size_t count);

/* Σ weight a² */
double derivative_weighted_square(const float *weight, const float *a, size_t count);

#endif
