/* Sums of floats in double. Terms go to fixed lanes, so the bits are the same on any machine. */
#ifndef NET_OPS_SUM_H
#define NET_OPS_SUM_H

#include <stddef.h>

double net_sum(const float *a, size_t count);

/* Σ (a_i − center)² */
double net_sum_squares(const float *a, double center, size_t count);

/* Σ a_i and Σ a_i² in one pass */
void net_sum_moments(const float *a, size_t count, double *sum, double *squares);

/* Σ a_i b_i */
double net_sum_products(const float *a, const float *b, size_t count);

/* sums[j] = Σ_i a[i stride + j], for j < columns. */
void net_column_sums(const float *a, size_t rows, size_t columns, size_t stride, double *sums);

/* out[j] += factor Σ_i a[i stride + j], for j < columns. */
void net_add_column_sums(const float *a, size_t rows, size_t columns, size_t stride, float factor,
                         float *out);

#endif
