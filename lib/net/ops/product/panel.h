/*
 * Sums of products for convolutions: like a matrix product whose second operand is not stored as a
 * matrix, but whose rows may lie anywhere, overlapping. Each output is summed in the order of its
 * terms by fused multiply-adds, which round once: the bits depend neither on the machine nor on how
 * many outputs are computed together, nor on where the sum is interrupted.
 */
#ifndef NET_OPS_PRODUCT_PANEL_H
#define NET_OPS_PRODUCT_PANEL_H

#include "net/ops/product/lanes.h"

enum {
    PANEL_STEP = 16,  /* outputs of a row come in multiples of this */
    PANEL_WIDTH = 64, /* and are computed fastest this many at a time */
    PANEL_ROWS = 6,   /* as are so many rows */
};

/* The arguments that are the same for all columns. */
struct net_panel {
    const float *weights;
    size_t stride;     /* of the weights, from one output row to the next */
    const float *bias; /* of each output row; or null */
    const float *row;  /* of each output column, added to the sums at last; or null */
    bool resume;       /* out holds the sums of earlier terms: they take the place of the bias */
    size_t terms;
    const size_t *offsets; /* of each term, into columns */
    const struct lanes_finish
        *finish; /* steps done to the outputs, by rows, in place of `row`; or null */
};

/*
 * out[i * out_stride + j] = bias[i] + Σ_q weights[i * stride + q] columns[offsets[q] + j] + row[j]
 * for i < rows, j < width; width is a multiple of PANEL_STEP.
 */
void net_panel_run(const struct net_panel *panel, const float *columns, size_t rows, size_t width,
                   float *out, size_t out_stride);

/* Returns whether the machine has vectors with fused multiply-adds: without, sums are slow. */
bool net_panel_is_fast(void);

#endif
