/* Band matrices: each row has its elements next to one another. Interpolation along an axis is the
   product with one, and its adjoint that with the transposed. */
#ifndef NET_OPS_RESIZE_BAND_H
#define NET_OPS_RESIZE_BAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Row r has the elements weights[start[r]], … before weights[start[r + 1]], at columns from
   first[r] on. */
struct net_band {
    int64_t rows, columns;
    const int64_t *first;
    const size_t *start;
    const double *weights;
};

/*
 * For i < outer, j < inner: out[i, r, j] = Σ_c band[r, c] in[i, c, j]. With `add`, that is added
 * to what is there.
 */
void net_band_run(const struct net_band *band, float *out, const float *in, size_t outer,
                  size_t inner, bool add);

#endif
