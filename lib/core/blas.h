/* Matrix products. The one place that knows the BLAS library. */
#ifndef CORE_BLAS_H
#define CORE_BLAS_H

#include <stdbool.h>
#include <stdint.h>

#include "ivon/error.h"

/*
 * C = alpha op(A) op(B) + beta C, row-major: op(A) is m × k, op(B) is k × n, C is m × n; lda, ldb
 * and ldc are the distances of rows as stored. Zero extents are allowed; beta = 0 overwrites C even
 * where it holds NaN. One thread: callers that want several call it from several.
 */
void blas_product(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
                  const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                  int64_t ldc);

/* The same in double. */
void blas_product_double(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                         double alpha, const double *a, int64_t lda, const double *b, int64_t ldb,
                         double beta, double *c, int64_t ldc);

/*
 * The eigenvalues of a symmetric n × n matrix, rising, and its eigenvectors, orthonormal, which
 * replace it: row i is that of value i, its largest element positive. Reads the lower triangle.
 * IVON_ERROR_DATA where there are none, as in a matrix that is not finite.
 */
int blas_eigen(int64_t n, double *matrix, double *values, struct ivon_error *error);

/*
 * The singular values of an m × n matrix, falling, and its singular vectors: matrix = U S Vᵀ with
 * k = min(m, n), U m × k and Vᵀ k × n, both orthonormal. The matrix is lost. IVON_ERROR_DATA where
 * there are none, as in a matrix that is not finite.
 */
int blas_singular(int64_t m, int64_t n, double *matrix, double *values, double *left, double *right,
                  struct ivon_error *error);

/* The factors of an m × n matrix, m >= n: Q m × n, orthonormal, which replaces it, and R n × n,
   upper triangular. */
int blas_orthogonal(int64_t m, int64_t n, double *matrix, double *triangle,
                    struct ivon_error *error);

/* Makes the rows of a k × n matrix, k <= n, orthonormal, one after the other: the first i of them
   span what they did, or more. */
int blas_orthonormal_rows(int64_t k, int64_t n, double *matrix, struct ivon_error *error);

/*
 * The Cholesky factor of a symmetric n × n matrix, which it replaces; reads the lower triangle.
 * *singular: the matrix is not positive definite, and there is none.
 */
int blas_cholesky(int64_t n, double *matrix, bool *singular, struct ivon_error *error);

/* Solves x M = b for each of `rows` rows, which x replaces, by the factor of M. */
void blas_cholesky_solve(int64_t n, int64_t rows, const double *factor, double *x);

/*
 * Fails with IVON_ERROR_MEMORY unless there is memory for so many threads. The library takes
 * 128 MiB of addresses for each at its first call there; without them it would try for ever.
 */
int blas_reserve(int threads, struct ivon_error *error);

/* The kernel family in use, "SkylakeX", for benchmarks. */
const char *blas_core_name(void);

#endif
