/* What batch normalization needs beside its operator. */
#ifndef NET_NORMALIZE_H
#define NET_NORMALIZE_H

#include "net/graph.h"

/* Adds each channel's sum and sum of squares to sums[c] and squares[c]; x is N × C × any axes, of
   floats. */
void net_channel_sums(const struct net_tensor *x, double *sums, double *squares);

#endif
