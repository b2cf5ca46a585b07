/* The functions that normalizations share, and the batch statistics of BatchNormalization. */
#ifndef NET_OPS_NORMALIZE_H
#define NET_OPS_NORMALIZE_H

#include "net/graph/operator.h"

/* For shape rules: checks that input 0 is a float tensor of at least `least` dimensions. */
int net_expect_rank(const struct net_call *call, int least, struct ivon_error *error);

/* For shape rules: checks that an input is a vector of floats, one for each channel of input 0. */
int net_expect_channels(const struct net_call *call, size_t input, struct ivon_error *error);

/* Elements of one channel of one image, where x is N × C × any axes; 0 where x has none. */
size_t net_plane(const struct net_tensor *x);

/* Adds each channel's sum and sum of squares to sums[c] and squares[c]; x is N × C × any axes, of
   floats. */
void net_channel_sums(const struct net_tensor *x, double *sums, double *squares);

/* Sets mean[c] and variance[c], which is the biased one. Returns the elements of a channel; where
   there are none, nothing is set. */
size_t net_channel_moments(const struct net_tensor *x, double *mean, double *variance);

/* Returns the unbiased variance of a channel of n elements; for n = 1 the variance itself. */
double net_unbiased(double variance, size_t n);

/* The statistics of a batch. */
struct net_batch {
    size_t count;                  /* elements of each channel */
    const double *mean, *variance; /* of each channel; the variance is the biased one */
};

/* The statistics by which BatchNormalization in training normalized at its last run; borrowed from
   the call. `count` is 0 where the call is not in training or has not run. */
struct net_batch net_batch_statistics(const struct net_call *call);

/* The map y = (x − center[c]) slope[c] + offset[c] of a BatchNormalization, and `count` elements of
   it; x may be y. */
void net_batch_coefficients(const struct net_call *call, float *center, float *slope,
                            float *offset);
void net_batch_map(float *y, const float *x, float center, float slope, float offset, size_t count);

#endif
