/* Strided copies between two tensors whose axes are permuted, repeated, reversed, or parts of a
   larger tensor. Operators that move elements are such copies, and so are their adjoints. */
#ifndef NET_OPS_MOVEMENT_STRIDED_COPY_H
#define NET_OPS_MOVEMENT_STRIDED_COPY_H

#include <stddef.h>

#include "ivon/stream.h"

/* One axis of both tensors, and the distance of its neighbours in each, in elements: 0 if one
   element is repeated, negative if the axis is reversed. */
struct net_strided_axis {
    int64_t count, to, from;
};

enum { NET_STRIDED_COPY_RANK_MAX = 2 * IVON_RANK_MAX };

struct net_strided_copy {
    int rank;
    struct net_strided_axis axes[NET_STRIDED_COPY_RANK_MAX];
    int64_t to_first, from_first;
};

/* Appends an axis. Axes are in the order of `to`'s elements. */
void net_strided_copy_add_axis(struct net_strided_copy *copy, int64_t count, int64_t to,
                               int64_t from);

struct net_strided_copy net_strided_copy_reversed(const struct net_strided_copy *copy);

/* to[…] = from[…], elements of 1, 4 or 8 bytes. */
void net_strided_copy_run(const struct net_strided_copy *copy, void *to, const void *from,
                          size_t element_size);

/* to[…] += from[…]. Along axes where `to` has stride 0, elements are first summed in double. */
void net_strided_copy_add(const struct net_strided_copy *copy, float *to, const float *from);

#endif
