/*
 * Element-wise steps in place, on parts of a tensor N × C × any axes as soon as they are computed
 * and while caches hold them: a BatchNormalization, then links of a chain. The bits are those of
 * the steps one after the other.
 */
#ifndef NET_OPS_CONVOLUTION_FINISH_H
#define NET_OPS_CONVOLUTION_FINISH_H

#include "net/ops/elementwise/elementwise.h"
#include "net/ops/product/lanes.h"

enum { NET_FINISH_LINKS_MAX = 4 };

struct net_finish {
    const struct net_tensor *output; /* the whole */
    const struct net_call *norm;     /* in evaluation; null: none */
    const struct net_chain_link *links;
    size_t link_count; /* at most NET_FINISH_LINKS_MAX; operands: scalars, or like output */
};

/* Floats of scratch memory. */
size_t net_finish_scratch(size_t channels);

/* Computes what is the same for all parts. */
void net_finish_begin(const struct net_finish *finish, size_t channels, float *scratch);

/* Returns whether no step reads another tensor of the output's shape. */
bool net_finish_is_alone(const struct net_finish *finish);

/* Finishes `count` elements of a channel from y on, which lie in the output unless the finish
   is alone; `scratch` is as net_finish_begin left it. */
void net_finish_run(const struct net_finish *finish, size_t channels, const float *scratch,
                    size_t channel, float *y, size_t count);

/* Sets `lanes` to the steps that can be done to outputs from y on, of channels from `channel` on,
   while they are in registers; returns whether these are all. */
bool net_finish_lanes(const struct net_finish *finish, size_t channels, const float *scratch,
                      size_t channel, const float *y, struct lanes_finish *lanes);

#endif
