/*
 * The convolution that this folder computes, term after term: read it first. The tests compare
 * with it.
 */
#ifndef NET_OPS_CONVOLUTION_REFERENCE_H
#define NET_OPS_CONVOLUTION_REFERENCE_H

#include <math.h>

#include "net/ops/window.h"

/*
 * y[image, filter, row, column] in double, without the bias. x is images × (groups · channels) ×
 * height × width and w (groups · filters) × channels × kernel; *size receives the sum of the
 * terms' magnitudes, by which rounding is bounded.
 */
static inline double convolution_reference(const struct net_window *window, int64_t groups,
                                           int64_t channels, int64_t filters, const float *x,
                                           const float *w, int64_t image, int64_t filter,
                                           int64_t row, int64_t column, double *size)
{
    int64_t group = filter / filters, plane = window->input[0] * window->input[1];
    double sum = 0;
    x += (image * groups + group) * channels * plane;
    w += filter * channels * window->kernel[0] * window->kernel[1];
    *size = 0;
    for (int64_t channel = 0; channel < channels; channel++, x += plane)
        for (int64_t down = 0; down < window->kernel[0]; down++)
            for (int64_t right = 0; right < window->kernel[1]; right++, w++) {
                int64_t i = window->stride[0] * row + window->dilation[0] * down;
                int64_t j = window->stride[1] * column + window->dilation[1] * right;
                i -= window->before[0];
                j -= window->before[1];
                if (i < 0 || i >= window->input[0] || j < 0 || j >= window->input[1])
                    continue; /* padding */
                double term = (double)*w * (double)x[i * window->input[1] + j];
                sum += term;
                *size += fabs(term);
            }
    return sum;
}

#endif
