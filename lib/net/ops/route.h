/*
 * Copies between two tensors whose axes lie differently: rearranged, repeated, reversed, or parts
 * of a whole. What an operator that moves elements does, backward too, is one of these.
 */
#ifndef NET_OPS_ROUTE_H
#define NET_OPS_ROUTE_H

#include <stddef.h>

#include "ivon/stream.h"

/* One axis that both sides have, and how far its neighbours are apart, in elements: 0 where one
   element stands for all, negative where it runs backwards. */
struct net_axis_route {
    int64_t count, to, from;
};

enum { NET_ROUTE_RANK_MAX = 2 * IVON_RANK_MAX };

struct net_route {
    int rank;
    struct net_axis_route axes[NET_ROUTE_RANK_MAX];
    int64_t to_first, from_first;
};

/* Appends an axis. Axes come in the order of `to`'s elements. */
void net_route_add_axis(struct net_route *route, int64_t count, int64_t to, int64_t from);

struct net_route net_route_reversed(const struct net_route *route);

/* to[…] = from[…], elements of 1, 4 or 8 bytes. */
void net_route_copy(const struct net_route *route, void *to, const void *from, size_t element_size);

/* to[…] += from[…]. Where `to` stands still along an axis, the sum is taken in double first. */
void net_route_add(const struct net_route *route, float *to, const float *from);

#endif
