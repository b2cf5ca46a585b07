#include "bayes/adapter/kernel.h"

#include "core/dispatch.h"

IVON_DISPATCH void adapter_multiply(double *restrict sum, const double *restrict left,
                                    const double *restrict right, size_t rows, size_t ranks,
                                    size_t columns)
{
    enum { AT_ONCE = 4 /* terms for one pass over a row */ };
    for (size_t i = 0; i < rows; i++) {
        double *restrict out = sum + i * ADAPTER_COLUMNS;
        const double *l = left + i * ADAPTER_RANKS;
        size_t k = 0;
        for (; k + AT_ONCE <= ranks; k += AT_ONCE) {
            const double *r0 = right + k * ADAPTER_COLUMNS, *r1 = r0 + ADAPTER_COLUMNS;
            const double *r2 = r1 + ADAPTER_COLUMNS, *r3 = r2 + ADAPTER_COLUMNS;
            for (size_t j = 0; j < columns; j++)
                out[j] = (((out[j] + l[k] * r0[j]) + l[k + 1] * r1[j]) + l[k + 2] * r2[j]) +
                         l[k + 3] * r3[j];
        }
        for (; k < ranks; k++)
            for (size_t j = 0; j < columns; j++)
                out[j] += l[k] * right[k * ADAPTER_COLUMNS + j];
    }
}
