#include "net/ops/resize/band.h"

#include <string.h>

#include "core/dispatch.h"

enum { PIECE = 256 };

/* out[j] = Σ_k weights[k] in[k stride + j], or is added to */
IVON_DISPATCH static void band_row(const double *weights, size_t terms, float *restrict out,
                                   const float *restrict in, size_t stride, size_t count, bool add)
{
    double sums[PIECE];
    for (size_t j = 0; j < count; j++)
        sums[j] = add ? (double)out[j] : 0;
    for (size_t k = 0; k < terms; k++) {
        double weight = weights[k];
        const float *from = in + k * stride;
        for (size_t j = 0; j < count; j++)
            sums[j] += weight * (double)from[j];
    }
    for (size_t j = 0; j < count; j++)
        out[j] = (float)sums[j];
}

/* The same along the last axis, where neighbours are the terms. */
static void band_line(const struct net_band *band, float *restrict out, const float *restrict in,
                      bool add)
{
    for (int64_t r = 0; r < band->rows; r++) {
        const double *weights = band->weights + band->start[r];
        const float *from = in + band->first[r];
        double sum = add ? (double)out[r] : 0;
        for (size_t k = 0; k < band->start[r + 1] - band->start[r]; k++)
            sum += weights[k] * (double)from[k];
        out[r] = (float)sum;
    }
}

void net_band_run(const struct net_band *band, float *out, const float *in, size_t outer,
                  size_t inner, bool add)
{
    size_t rows = (size_t)band->rows, columns = (size_t)band->columns;
    for (size_t i = 0; i < outer; i++, out += rows * inner, in += columns * inner) {
        if (inner == 1) {
            band_line(band, out, in, add);
            continue;
        }
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < inner; j += PIECE)
                band_row(band->weights + band->start[r], band->start[r + 1] - band->start[r],
                         out + r * inner + j, in + (size_t)band->first[r] * inner + j, inner,
                         inner - j < PIECE ? inner - j : PIECE, add);
    }
}
