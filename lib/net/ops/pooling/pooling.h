/*
 * Pools over windows of any number of spatial axes. The last two axes are a plane, of height 1 if
 * there is only one; the axes before them number the slices, which are planes:
 *
 *     x: N × C ("volumes") × slices × plane
 *
 * An output's window covers some slices, and in each of them the same part of the plane. So its
 * slices are combined first, element by element, and the plane that results is pooled.
 */
#ifndef NET_OPS_POOLING_H
#define NET_OPS_POOLING_H

#include "net/ops/window.h"

enum { POOL_AXES_MAX = IVON_RANK_MAX - 2 };

struct pool {
    int outer;                                  /* axes before the plane's two */
    struct net_window_axis axes[POOL_AXES_MAX]; /* outer + 2 */
    size_t volumes;                             /* N · C; 0 if there are no outputs */
    size_t input_slices, output_slices;         /* of a volume */
    size_t input_plane, output_plane;
    size_t slices_max;  /* slices that a window covers, at most */
    size_t span;        /* the padded input row that one output row needs */
    bool count_padding; /* padding counts in the mean */
    float inverse[];    /* 1 / taps that count, for each output column */
};

/* The slices of a volume that the windows of one output slice cover, in their order. */
struct pool_slices {
    size_t *list, count;
};

/* For shape rules: fails unless input 0 is a float tensor and its window fits; sets the outputs
   (output 1 holds integers) and prepares `struct pool`. With `volume`, the workspace has room for
   the elements of a volume, and behind them for its outputs (pool_volume). */
int pool_infer(struct net_call *call, bool volume, struct ivon_error *error);

/* The same without a demand on the type of input 0, whose type output 0 has. */
int pool_infer_any(struct net_call *call, bool volume, struct ivon_error *error);

static inline const struct net_window_axis *pool_rows(const struct pool *pool)
{
    return &pool->axes[pool->outer];
}

static inline const struct net_window_axis *pool_columns(const struct pool *pool)
{
    return &pool->axes[pool->outer + 1];
}

/* Lists the slices of output slice `at`, in the workspace. */
struct pool_slices pool_slices(const struct net_call *call, size_t at);

/* y = the largest elements, the sums or the means of x's windows. */
enum pool_kind { POOL_MAXIMUM, POOL_SUM, POOL_MEAN };

/* Pools `count` volumes. */
void pool_run(const struct net_call *call, enum pool_kind kind, const float *x, size_t count,
              float *y);

/* The adjoint of POOL_SUM or POOL_MEAN: adds to dx. */
void pool_add_shares(const struct net_call *call, enum pool_kind kind, const float *dy,
                     size_t count, float *dx);

float *pool_volume(const struct net_call *call);

/* Functions of rows, which ops/pooling/pooling.c lists. */
int maximum_infer(struct net_call *call, struct ivon_error *error);
int maximum_forward(const struct net_call *call, struct ivon_error *error);
void maximum_backward(const struct net_call *call, const float *const *output_adjoints,
                      float *const *input_adjoints);
void maximum_tangent(const struct net_call *call, const float *const *input_tangents,
                     float *const *output_tangents);

int unpool_infer(struct net_call *call, struct ivon_error *error);
int unpool_forward(const struct net_call *call, struct ivon_error *error);
void unpool_backward(const struct net_call *call, const float *const *output_adjoints,
                     float *const *input_adjoints);
void unpool_tangent(const struct net_call *call, const float *const *input_tangents,
                    float *const *output_tangents);

#endif
