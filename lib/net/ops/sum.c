#include "net/ops/sum.h"

#include "core/dispatch.h"

enum { LANES = 16 };

static inline double sum_join(double lanes[LANES])
{
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
}

IVON_DISPATCH double net_sum(const float *a, size_t count)
{
    double lanes[LANES] = {0};
    size_t whole = count / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lanes[j] += (double)a[i + j];
    for (size_t i = whole; i < count; i++)
        lanes[i - whole] += (double)a[i];
    return sum_join(lanes);
}

IVON_DISPATCH double net_sum_squares(const float *a, double center, size_t count)
{
    double lanes[LANES] = {0};
    size_t whole = count / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            double difference = (double)a[i + j] - center;
            lanes[j] += difference * difference;
        }
    for (size_t i = whole; i < count; i++)
        lanes[i - whole] += ((double)a[i] - center) * ((double)a[i] - center);
    return sum_join(lanes);
}

IVON_DISPATCH void net_sum_moments(const float *a, size_t count, double *sum, double *squares)
{
    double lanes[LANES] = {0}, square_lanes[LANES] = {0};
    size_t whole = count / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            double value = (double)a[i + j];
            lanes[j] += value;
            square_lanes[j] += value * value;
        }
    for (size_t i = whole; i < count; i++) {
        lanes[i - whole] += (double)a[i];
        square_lanes[i - whole] += (double)a[i] * (double)a[i];
    }
    *sum = sum_join(lanes);
    *squares = sum_join(square_lanes);
}

IVON_DISPATCH double net_sum_products(const float *a, const float *b, size_t count)
{
    double lanes[LANES] = {0};
    size_t whole = count / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lanes[j] += (double)a[i + j] * (double)b[i + j];
    for (size_t i = whole; i < count; i++)
        lanes[i - whole] += (double)a[i] * (double)b[i];
    return sum_join(lanes);
}

IVON_DISPATCH void net_column_sums(const float *a, size_t rows, size_t columns, size_t stride,
                                   double *restrict sums)
{
    for (size_t j = 0; j < columns; j++)
        sums[j] = 0;
    for (size_t i = 0; i < rows; i++, a += stride)
        for (size_t j = 0; j < columns; j++)
            sums[j] += (double)a[j];
}

void net_add_column_sums(const float *a, size_t rows, size_t columns, size_t stride, float factor,
                         float *out)
{
    enum { BLOCK = 64 };
    double sums[BLOCK];
    for (size_t j = 0; j < columns; j += BLOCK) {
        size_t count = columns - j < BLOCK ? columns - j : BLOCK;
        net_column_sums(a + j, rows, count, stride, sums);
        for (size_t i = 0; i < count; i++)
            out[j + i] += factor * (float)sums[i];
    }
}
