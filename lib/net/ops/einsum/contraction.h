/*
 * Sums of products of two tensors over some of their axes: to += Σ a b.
 *
 * All axes have a number and an extent; a view of a tensor says at what distance, in its elements,
 * neighbours along each axis are. An axis that a view does not have is repeated where the tensor is
 * read, and summed over where it is written to. A tensor's diagonal is an axis with the sum of two
 * distances.
 */
#ifndef NET_OPS_EINSUM_CONTRACTION_H
#define NET_OPS_EINSUM_CONTRACTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONTRACTION_AXES_MAX = 64 };

struct contraction_view {
    uint64_t axes; /* a bit for each that the tensor has; none has extent 1 */
    size_t stride[CONTRACTION_AXES_MAX];
};

/* The view of a tensor that has these axes, in the order of their numbers. False: it is too large,
   in floats. */
bool contraction_dense(const size_t *extent, uint64_t axes, struct contraction_view *view,
                       size_t *count);

/* The floats of scratch memory that contraction_add takes for these views. */
size_t contraction_scratch(const size_t *extent, const struct contraction_view *a,
                           const struct contraction_view *b, const struct contraction_view *to);

/* Adds. Without b (null), the sum is of a alone. */
void contraction_add(const size_t *extent, const struct contraction_view *a, const float *a_data,
                     const struct contraction_view *b, const float *b_data,
                     const struct contraction_view *to, float *to_data, float *scratch);

#endif
