#include "net/derivative/vectors.h"

#include "core/dispatch.h"
#include "net/ops/sum.h"

enum { BLOCK = 1024 };

IVON_DISPATCH void derivative_multiply(float *restrict a, const float *restrict b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] *= b[i];
}

IVON_DISPATCH void derivative_add(float *restrict a, const float *restrict b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] += b[i];
}

IVON_DISPATCH void derivative_square(float *a, size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] *= a[i];
}

IVON_DISPATCH void derivative_products(float *restrict out, const float *restrict a,
                                       const float *restrict b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = a[i] * b[i];
}

IVON_DISPATCH void derivative_add_products(float *restrict out, float scale,
                                           const float *restrict a, const float *restrict b,
                                           size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] += scale * (a[i] * b[i]);
}

double derivative_weighted_square(const float *weight, const float *a, size_t count)
{
    float squares[BLOCK];
    double sum = 0;
    for (size_t at = 0; at < count; at += BLOCK) {
        size_t size = count - at < BLOCK ? count - at : BLOCK;
        derivative_products(squares, a + at, a + at, size);
        sum += net_sum_products(squares, weight + at, size);
    }
    return sum;
}
