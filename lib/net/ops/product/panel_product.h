/* Matrix products by panels (net/ops/product/panel.h). They make no copies of matrices, of which a
   BLAS library makes some for each product, and their bits do not depend on the number of rows. */
#ifndef NET_OPS_PRODUCT_PANEL_PRODUCT_H
#define NET_OPS_PRODUCT_PANEL_PRODUCT_H

#include <stdbool.h>
#include <stdint.h>

struct panel_product {
    bool transpose_b;      /* b is stored n × k */
    int64_t m, n, k;       /* extents of the product: m × k by k × n */
    int64_t lda, ldb, ldy; /* distances of rows as stored */
    float alpha;
    const float *bias; /* n elements that are added to each row at last, if alpha is 1; or null */
    bool add;          /* to y, if there is no bias; else y is overwritten */
};

/*
 * y = alpha a op(b), + bias or y. Where panels have no advantage it is the BLAS library's product:
 * few columns, few rows by a transposed b, a machine without wide fused multiply-adds.
 */
void panel_product_run(const struct panel_product *product, const float *a, const float *b,
                       float *y);

#endif
