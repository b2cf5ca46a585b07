/* The value of an image between its elements: a sum of weighted elements near a position. */
#ifndef NET_OPS_RESIZE_SAMPLE_H
#define NET_OPS_RESIZE_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

enum { SAMPLE_AXES_MAX = 3, SAMPLE_TAPS_MAX = 4, SAMPLE_POINTS_MAX = 64 };

/* Along one axis: elements, their weights, and how these change with the position. */
struct sample_axis {
    int taps;
    int64_t index[SAMPLE_TAPS_MAX]; /* -1: an element that is 0 */
    double weight[SAMPLE_TAPS_MAX], slope[SAMPLE_TAPS_MAX];
};

/* Over all axes. */
struct sample {
    int axes, points;
    size_t offset[SAMPLE_POINTS_MAX];
    double weight[SAMPLE_POINTS_MAX], slope[SAMPLE_AXES_MAX][SAMPLE_POINTS_MAX];
};

/* Multiplies the weights of the axes, the last one fastest; leaves out elements that are 0. */
void sample_combine(struct sample *sample, const struct sample_axis *axes, int axis_count,
                    const int64_t *extents);

/* Σ weight x */
double sample_value(const struct sample *sample, const float *x);

/* Σ slope x, the derivative by the position along an axis. */
double sample_slope(const struct sample *sample, int axis, const float *x);

/* x += weight adjoint */
void sample_add(const struct sample *sample, double adjoint, float *x);

#endif
