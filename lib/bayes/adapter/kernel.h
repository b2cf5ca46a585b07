/* The sums of products of two factors of an adapter. */
#ifndef BAYES_ADAPTER_KERNEL_H
#define BAYES_ADAPTER_KERNEL_H

#include <stddef.h>

enum {
    ADAPTER_ROWS = 64,     /* of a tile */
    ADAPTER_COLUMNS = 512, /* of a tile: a row of it stays in the first-level cache */
    ADAPTER_RANKS = 64     /* summed at once */
};

/*
 * sum[i][j] += Σ_k left[i][k] right[k][j], k rising, each term rounded before it is added: the bits
 * do not depend on how ranks, rows and columns are cut into calls. Rows of `sum` and `right` are
 * ADAPTER_COLUMNS apart, those of `left` ADAPTER_RANKS.
 */
void adapter_multiply(double *sum, const double *left, const double *right, size_t rows,
                      size_t ranks, size_t columns);

#endif
