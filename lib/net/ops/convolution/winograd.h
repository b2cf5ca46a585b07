/*
 * Winograd's minimal filtering for kernels of 3 × 3 taps that move by one element (Lavin & Gray,
 * Fast Algorithms for Convolutional Neural Networks, 2015): 4 × 2 outputs, which share a tile d of
 * 6 × 4 inputs, take 24 products in place of 72,
 *
 *     y = Aᵀ [Σ_c (G g_c Hᵀ) ∘ (Bᵀ d_c D)] C,
 *
 * since products of polynomials are products of their values at points (Toom & Cook): down at 0,
 * ±a, ±b and ∞, across at 0, ±1 and ∞,
 *
 *          ⎡ 1   1   1   1   1   0 ⎤        ⎡ 1/a²b²            0     0  ⎤
 *     Aᵀ = ⎢ 0   a  -a   b  -b   0 ⎥   G =  ⎢ [ 1   ±a   a² ] / 2a²(a²-b²) ⎥
 *          ⎢ 0   a²  a²  b²  b²  0 ⎥        ⎢ [ 1   ±b   b² ] / 2b²(b²-a²) ⎥
 *          ⎣ 0   a³ -a³  b³ -b³  1 ⎦        ⎣   0      0     1           ⎦
 *
 *          ⎡ a²b²  0      -a²-b²  0      1  0 ⎤
 *     Bᵀ = ⎢ 0     ∓ab²   -b²     ±a     1  0 ⎥   Cᵀ = ⎡ 1  1  1  0 ⎤   H =  ⎡ 1  0  0 ⎤
 *          ⎢ 0     ∓a²b   -a²     ±b     1  0 ⎥        ⎣ 0  1 -1 -1 ⎦        ⎢ ½  ½  ½ ⎥
 *          ⎣ 0     a²b²    0     -a²-b²  0  1 ⎦                              ⎢ ½ -½  ½ ⎥
 *                                                                            ⎣ 0  0  1 ⎦
 *          ⎡ 1  0 -1  0 ⎤
 *     Dᵀ = ⎢ 0  1  1  0 ⎥
 *          ⎢ 0 -1  1  0 ⎥
 *          ⎣ 0  1  0 -1 ⎦
 *
 * The sums over channels are nine times shorter than direct ones. With a = 5/8 and b = 3/2 the
 * transforms add no more rounding than that saves: the largest error against sums in double is
 * about that of direct sums, 4e-7 of the largest output at 16 channels and 2e-6 at 512. Tiles of
 * 4 × 4 outputs would take 18 products for 8 of them, but have at least twice the error. Where an
 * input is infinite, all outputs of its tiles may be NaN.
 */
#ifndef NET_OPS_CONVOLUTION_WINOGRAD_H
#define NET_OPS_CONVOLUTION_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>

struct convolution;
struct convolution_finish;

/* How a convolution is done so. All images' rows of tiles are counted through, and so many at a
   time make a group. */
struct convolution_winograd {
    bool used;
    bool stays;           /* all transformed weights are kept; else those of `filters` filters */
    size_t across, down;  /* tiles of an image */
    size_t rows;          /* of tiles, in a group */
    size_t filters;       /* whose results are kept at once */
    size_t pitch;         /* floats between channels of a group's transformed inputs */
    size_t depth;         /* floats between filters of the transformed weights */
    size_t begin, inside; /* where a row of input lies in one with padding, and its length there */
    size_t row;           /* floats of one with padding */
    size_t lines;         /* floats of transformed rows, one behind the other */
    size_t together;      /* channels whose rows are at hand */
    size_t frame;         /* floats of the rows of one */
    /* Floats between points. If these were powers of two, they would share few lines of caches. */
    size_t weight_step, input_step, result_step;
    size_t *offsets; /* of channels */
};

/* Lays it out for a convolution whose window and counts are set, if it saves time; the number of
   images does not matter. False where sizes overflow. */
void convolution_winograd_lay_out(const struct convolution *c, struct convolution_winograd *w);

/* Floats of workspace. */
size_t convolution_winograd_workspace(const struct convolution_winograd *w);

/* y = conv(x, weights) + bias, which may be null; finished unless that is null. */
void convolution_winograd_run(const struct convolution *c, const struct convolution_winograd *w,
                              const float *weights, const float *bias, const float *x, float *y,
                              const struct convolution_finish *finish, float *workspace);

#endif
