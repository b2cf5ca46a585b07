/* The weights with which an output position along one axis takes from the input's elements. */
#ifndef NET_OPS_RESIZE_WEIGHTS_H
#define NET_OPS_RESIZE_WEIGHTS_H

#include "net/ops/resize/band.h"

enum resize_mode { RESIZE_NEAREST, RESIZE_LINEAR, RESIZE_CUBIC };

enum resize_coordinates {
    RESIZE_HALF_PIXEL,
    RESIZE_HALF_PIXEL_SYMMETRIC,
    RESIZE_PYTORCH_HALF_PIXEL,
    RESIZE_ALIGN_CORNERS,
    RESIZE_ASYMMETRIC,
    RESIZE_TF_HALF_PIXEL,
    RESIZE_TF_CROP
};

enum resize_rounding {
    RESIZE_PREFER_FLOOR,
    RESIZE_PREFER_CEIL,
    RESIZE_FLOOR,
    RESIZE_CEIL,
    RESIZE_INWARD /* up where the axis becomes shorter, else down */
};

struct resize_rule {
    enum resize_mode mode;
    enum resize_coordinates coordinates;
    enum resize_rounding rounding; /* of nearest */
    double cubic_a;
    bool exclude_outside; /* else what is outside is the element at the edge */
    bool antialias;       /* a shorter axis takes from as many more elements */
};

struct resize_axis {
    int64_t in, out;
    double scale;
    double length;     /* the extent before it was rounded to `out` */
    double start, end; /* the part of the input, for RESIZE_TF_CROP */
};

/* Cubic convolution: the weight at distance t, which is less than 2. */
double resize_cubic(double t, double a);

/* Its derivative by t. */
double resize_cubic_slope(double t, double a);

/* Returns whether each position takes from itself alone. */
bool resize_is_trivial(const struct resize_rule *rule, const struct resize_axis *axis);

/* Sets the first column that output position `at` takes from, and returns their number: 0 where a
   crop is outside. */
size_t resize_span(const struct resize_rule *rule, const struct resize_axis *axis, int64_t at,
                   int64_t *first);

/* Sets the weights of those columns. */
void resize_weights(const struct resize_rule *rule, const struct resize_axis *axis, int64_t at,
                    double *weights);

#endif
