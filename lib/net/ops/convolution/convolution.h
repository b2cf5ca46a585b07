/*
 * Conv: y[n, m, p] = b[m] + Σ_{c, k} w[m, c, k] x[n, c, stride p + dilation k − pad], any number of
 * spatial axes, channels in groups. reference.h computes it term after term; here it is a matrix
 * product of the weights, filters × terms, and the terms of many outputs (ops/panel.h).
 *
 * Images have two spatial axes. Of volumes, which have more, each position along the other axes is
 * a convolution of images, whose channels are the pairs of a channel and a tap along these axes.
 *
 * ConvTranspose is the adjoint of a convolution: the forward pass of one is the backward pass of
 * the other.
 */
#ifndef NET_OPS_CONVOLUTION_CONVOLUTION_H
#define NET_OPS_CONVOLUTION_CONVOLUTION_H

#include <string.h>

#include "net/ops/convolution/finish.h"
#include "net/ops/convolution/winograd.h"
#include "net/ops/product/panel.h"
#include "net/ops/product/product.h"
#include "net/ops/window.h"

enum {
    CONVOLUTION_STRIDE_MAX = 4,         /* of what is packed as planes */
    CONVOLUTION_PACKED_MAX = 128 << 10, /* floats packed at once: within the second-level cache */
    CONVOLUTION_COLUMNS_MAX = 512,      /* and never more columns than this */
    CONVOLUTION_FILTERS = 48,           /* results kept at once before they are stored */
    CONVOLUTION_RESULTS = CONVOLUTION_FILTERS * PANEL_WIDTH,
    CONVOLUTION_PHASES_MAX = 4,
    CONVOLUTION_LANES = 32, /* sums side by side, where rows are multiplied by rows */
};

/*
 * A kernel that moves over images: forward, or a part of its transpose.
 *
 * The images are packed in one of three ways or not at all, and term q = (c, k) of every output
 * lies at offsets[q] from the first.
 * Planes: for each column of the kernel, the elements of an image that it is multiplied by, row
 * after row. Each column has a plane for each remainder of rows by the stride. Its rows are as wide
 * as the output. The rows of the kernel share the planes.
 * Shared planes: one for each remainder of columns by the stride, which the kernel's columns share,
 * too. Its rows are longer than the output's by the reach of the kernel, less the zeros that they
 * share with the next row; what is computed behind the end of an output's row is dropped.
 * Columns: each output's terms, for output after output, of several images where these are small.
 *
 * A kernel of 2 × 2 taps (down, right) moves over an image of 3 × 4, to outputs of 2 × 3:
 *
 *     image        planes                columns, of the outputs
 *                  right 0   right 1     tap      0,0 0,1 0,2 1,0 1,1 1,2
 *     a b c d      a b c     b c d       (0, 0)    a   b   c   e   f   g
 *     e f g h      e f g     f g h       (0, 1)    b   c   d   f   g   h
 *     i j k l      i j k     j k l       (1, 0)    e   f   g   i   j   k
 *                                        (1, 1)    f   g   h   j   k   l
 *
 * Tap (1, 1) of output (0, 0) is f: the second row of the second plane, or the last row of the
 * columns. From there on the same tap of the next outputs follows, in planes at the end of a row
 * too, since the rows of a plane are as wide as the output: 2 · 3 outputs are one run of 6. Of the
 * shared plane, which here is the image, they are a run of 7 with one to drop.
 * A kernel of one tap that leaves nothing out takes the image as it is, and so do groups of a
 * channel (depthwise.c).
 */
enum convolution_layout {
    CONVOLUTION_COLUMNS,
    CONVOLUTION_PLANES,
    CONVOLUTION_SHARED,
    CONVOLUTION_DIRECT,   /* the image as it is */
    CONVOLUTION_DEPTHWISE /* and groups of a channel */
};

struct convolution {
    struct net_window window; /* `before` may be negative */
    size_t images, groups;
    size_t channels, filters; /* of a group */
    size_t terms;             /* channels × kernel */
    size_t input_plane, output_plane;
    enum convolution_layout layout;
    unsigned used[2]; /* remainders of rows and columns that the kernel meets: bits */
    size_t rows;      /* of a packed plane */
    size_t pitch;     /* floats of such a row */
    size_t band;      /* rows of output that a packed plane serves, or that are computed at once */
    size_t columns;   /* packed at once */
    size_t packed;    /* floats */
    size_t *offsets;  /* of terms, in what is packed */
    /* The places of outputs, in elements: the size of a plane, the first output, the distance
       between rows, and between neighbours in a row. */
    size_t target_plane, target_first, target_pitch, target_step;
};

/*
 * The pass that forms the adjoints of the inputs whose position has a certain remainder by the
 * stride, down and right, from the outputs' adjoints under the kernel's taps
 * last[i], last[i] − between[i], …
 */
struct convolution_phase {
    struct convolution pass;
    int64_t last[2], between[2];
};

/*
 * The gradient of the weights takes images packed with their channels last and their padding, so
 * many whole images at a time, or so many rows of outputs of one; term p, a position of the output,
 * lies at offsets[p] from the first.
 */
struct convolution_gradient {
    size_t images, rows;
    size_t height, width; /* of a packed image */
    size_t image;         /* floats: height × width × channels */
    size_t packed;        /* floats of all */
    size_t adjoints;      /* floats of output adjoints that are packed, where they are */
    size_t *offsets;
};

/* The spatial axes of volumes before the last two; of images, there are none and all products are
   1. */
struct convolution_volume {
    int axes;
    struct net_window_axis axis[IVON_RANK_MAX - 4];
    size_t images;                /* volumes */
    size_t inputs, taps, outputs; /* positions along these axes */
    size_t input, output;         /* floats of one position's image, with all channels */
};

/* The plan that infer prepares. */
struct convolution_plan {
    struct convolution_volume volume;
    struct convolution forward;
    struct convolution_phase phases[CONVOLUTION_PHASES_MAX];
    size_t phase_count; /* 0: the inputs' adjoints go through columns of forward */
    size_t packed;      /* floats, the most that forward or a phase packs */
    struct convolution_gradient gradient;
    struct convolution_winograd winograd; /* of forward alone */
    bool dense; /* the kernel meets the whole input at once: rows of images by rows of weights */
    struct net_matmul product;
    size_t workspace; /* floats */
    size_t finish;    /* of them, the place of what steps behind the convolution need */
    size_t offset_count;
};

static inline size_t convolution_smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t round_up(size_t count, size_t multiple)
{
    return (count + multiple - 1) / multiple * multiple;
}

/* Copies a short row. A call to memcpy takes as long as the copy; overlapping pieces avoid a
   tail. */
static inline __attribute__((always_inline)) void convolution_copy_row(float *restrict to,
                                                                       const float *restrict from,
                                                                       size_t count)
{
    enum { PIECE = 16, HALF = 8, QUARTER = 4 };
    if (count >= PIECE) {
        for (size_t i = 0; i + PIECE <= count; i += PIECE)
            memcpy(to + i, from + i, PIECE * sizeof *to);
        memcpy(to + count - PIECE, from + count - PIECE, PIECE * sizeof *to);
    } else if (count >= HALF) {
        memcpy(to, from, HALF * sizeof *to);
        memcpy(to + count - HALF, from + count - HALF, HALF * sizeof *to);
    } else if (count >= QUARTER) {
        memcpy(to, from, QUARTER * sizeof *to);
        memcpy(to + count - QUARTER, from + count - QUARTER, QUARTER * sizeof *to);
    } else {
        for (size_t i = 0; i < QUARTER; i++)
            if (i < count)
                to[i] = from[i];
    }
}

/* The workspace begins with results that wait to be stored; packed data follow. */
static inline float *convolution_packed(float *workspace)
{
    return workspace + CONVOLUTION_RESULTS;
}

/* Planes in one group's packed image: for each channel and remainder of rows, these. */
static inline size_t convolution_plane_columns(const struct convolution *c)
{
    return c->layout == CONVOLUTION_SHARED ? (size_t)__builtin_popcount(c->used[1])
                                           : (size_t)c->window.kernel[1];
}

static inline size_t convolution_plane_count(const struct convolution *c)
{
    return c->channels * (size_t)__builtin_popcount(c->used[0]) * convolution_plane_columns(c);
}

/* Floats of packed planes, with those after the end that a tile may read. */
static inline size_t convolution_planes_size(const struct convolution *c)
{
    return convolution_plane_count(c) * c->rows * c->pitch + c->pitch + PANEL_WIDTH;
}

/* Returns whether the gradient of the weights multiplies rows of a single channel. */
static inline bool convolution_has_channel(const struct convolution *c)
{
    return c->channels == 1 && c->window.stride[1] == 1;
}

/* Returns whether rows follow each other in the planes as they do in the image. */
static inline bool convolution_packs_blocks(const struct convolution *c)
{
    const struct net_window *window = &c->window;
    return window->stride[0] == 1 && window->stride[1] == 1 &&
           (int64_t)c->pitch == window->input[1];
}

/* Zeroes what follows the planes, which packing does not write. */
static inline void convolution_clear(const struct convolution *c, float *workspace)
{
    size_t planes = convolution_plane_count(c) * c->rows * c->pitch;
    if (c->layout == CONVOLUTION_PLANES || c->layout == CONVOLUTION_SHARED)
        memset(convolution_packed(workspace) + planes, 0,
               (convolution_planes_size(c) - planes) * sizeof *workspace);
}

/* The convolution's parts. */

/* Everything that a convolution of `images` inputs needs, of channels and filters of a group. */
struct convolution_shape {
    int axes;
    const struct net_window_axis *axis;
    int64_t images, groups, channels, filters;
};

/* Sets call->prepared to a plan, and the size of the workspace. */
int convolution_prepare(struct net_call *call, const struct convolution_shape *shape,
                        struct ivon_error *error);

/* The steps that are done to the outputs of a group as soon as they are computed. */
struct convolution_finish {
    const struct net_finish *steps;
    const float *scratch;
    size_t channels, first; /* of all groups; the group's first */
};

/* y = conv(x, w) + bias, or y += conv(x, w) */
void convolution_apply(const struct convolution_plan *plan, const float *x, const float *w,
                       const float *bias, bool add, float *y, float *workspace);

/* y = conv(x, w) + bias, finished unless `steps` is null, which are for images alone: the same as
   above but for rounding. */
void convolution_forward_apply(const struct convolution_plan *plan, const float *x, const float *w,
                               const float *bias, float *y, const struct net_finish *steps,
                               float *workspace);

/* dx += the adjoint of the input */
void convolution_add_input(const struct convolution_plan *plan, const float *w, const float *dy,
                           float *dx, float *workspace);

/* dw += the gradient of the weights */
void convolution_add_weights(const struct convolution_plan *plan, const float *x, const float *dy,
                             float *dw, float *workspace);

/* The same three of images; of volumes, of one position. */
void convolution_images_apply(const struct convolution_plan *plan, const float *x, const float *w,
                              const float *bias, bool add, float *y, const struct net_finish *steps,
                              float *workspace);
void convolution_images_add_input(const struct convolution_plan *plan, const float *w,
                                  const float *dy, float *dx, float *workspace);
void convolution_images_add_weights(const struct convolution_plan *plan, const float *x,
                                    const float *dy, float *dw, float *workspace);

/* The shape rules' first steps and last: the types of the inputs, the input and the weights of
   matching ranks, a bias of `filters` elements. */
int convolution_check_types(const struct net_call *call, struct ivon_error *error);
int convolution_check_bias(const struct net_call *call, int64_t filters, struct ivon_error *error);

/* The bias, or null. */
static inline const float *convolution_bias(const struct net_call *call)
{
    return call->node->input_count > 2 && call->inputs[2] ? call->inputs[2]->data : NULL;
}

/* y = bias, which may be null, in each channel of the output */
void convolution_fill(const struct net_tensor *output, const float *bias, float *y);

/* db += the gradient of the bias */
void convolution_add_bias(const struct net_tensor *output, const float *dy, float *db);

/* The layout. */

/* Everything of *plan but offsets, for a call whose window, images, groups, channels, filters and
   terms stand in plan->forward; false where sizes overflow. */
bool convolution_lay_out(struct convolution_plan *plan);

/* Fills all offsets: plan->offset_count of them. */
void convolution_set_offsets(struct convolution_plan *plan, size_t *offsets);

/* Those of a pass's terms. */
void convolution_set_terms(struct convolution *c);

/* Packing. */

/* A run of outputs within a row: where tap (0, 0) of the first one lies. */
struct convolution_segment {
    size_t image;
    int64_t y, x;
    size_t count;
};

/* Cuts `count` outputs from `position` on, counted through the images, into rows; returns how
   many. */
size_t convolution_cut(const struct convolution *c, size_t position, size_t count,
                       struct convolution_segment *segments);

/* Element q * stride + j: term q of the j-th output; x is the group's first channel of image 0. */
void convolution_pack_columns(const struct convolution *c, const float *x,
                              const struct convolution_segment *segments, size_t segment_count,
                              size_t stride, float *packed);

/* x += the packed columns: the transpose of convolution_pack_columns */
void convolution_add_columns(const struct convolution *c, float *x,
                             const struct convolution_segment *segments, size_t segment_count,
                             size_t stride, const float *packed);

/* Packs the rows that outputs from row `y` on need, of one group of an image. */
void convolution_pack_planes(const struct convolution *c, const float *x, size_t y, float *packed);

/* to[j channels + c] = from[c plane + j] for `count` positions j */
void convolution_pack_row(float *to, const float *from, size_t channels, size_t plane,
                          size_t count);

/* Packs `height` rows of one group of an image; the first one serves output row `y`. */
void convolution_pack_last(const struct convolution_plan *plan, const float *x, size_t y,
                           size_t height, float *packed);

/* Of one group of `images` images, whose first x and y are: y = conv(x, w) + bias, finished unless
   that is null, or y += conv(x, w). The workspace was cleared, and used since by passes of this
   layout alone. */
void convolution_run(const struct convolution *c, const float *weights, const float *bias,
                     size_t images, const float *x, bool add, float *y,
                     const struct convolution_finish *finish, float *workspace);

/* The same of one image's group of one channel and one filter; the first returns whether there is
   a kernel for such a pass, and lays it out. */
bool convolution_depthwise_lay_out(struct convolution *c);
void convolution_depthwise_run(const struct convolution *c, const float *weights, float bias,
                               const float *x, bool add, float *y,
                               const struct convolution_finish *finish, float *workspace);

/* For net_operator's `planes` and `bands`, in planes.c. */
bool convolution_planes(const struct net_call *call, size_t count, size_t stride, float *planes);
bool convolution_bands(const struct net_call *call, size_t count, size_t stride,
                       struct net_bands *layout, float *bands);

/* Rows of outputs, one after the other, of channels with an image each. */
struct convolution_band {
    const float *x, *weights, *bias; /* of the first channel; bias: or null */
    size_t channels;
    size_t x_plane, out_plane; /* floats from one channel to the next */
    int64_t height, width;     /* of an image, or of its part that the outputs need */
    int64_t top, left;         /* where in it the first output's first tap lies */
    float *out;
    size_t rows, columns;
    const struct lanes_finish *finish; /* without an operand; or null */
};

/* Computes and finishes a band for such a pass, whose first channel is finish->first. */
void convolution_depthwise_run_band(const struct convolution *c, struct convolution_band *band,
                                    const struct convolution_finish *finish);

/* For net_operator's `paired_workspace` and `forward_paired`, in pair.c. */
size_t convolution_pair_workspace(const struct net_call *first, const struct net_call *second);
void convolution_pair_forward(const struct net_call *first, const struct net_call *second);

/* For net_operator's `arranged_count`, `arrange` and `quadratic`. */
size_t convolution_arranged_count(const struct net_call *call);
void convolution_arrange(const struct net_call *call, const float *diagonal, float *arranged);
double convolution_quadratic(const struct net_call *call, const float *dy, const float *arranged);

/* The functions of the row Conv, for operators that go on from its output. */
int convolution_infer(struct net_call *call, struct ivon_error *error);
void convolution_tangent(const struct net_call *call, const float *const *input_tangents,
                         float *const *output_tangents);
void convolution_backward(const struct net_call *call, const float *const *output_adjoints,
                          float *const *input_adjoints);

/* The row of ConvTranspose, in transpose.c. */
int convolution_transpose_infer(struct net_call *call, struct ivon_error *error);
int convolution_transpose_forward(const struct net_call *call, struct ivon_error *error);
void convolution_transpose_tangent(const struct net_call *call, const float *const *input_tangents,
                                   float *const *output_tangents);
void convolution_transpose_backward(const struct net_call *call,
                                    const float *const *output_adjoints,
                                    float *const *input_adjoints);

#endif
