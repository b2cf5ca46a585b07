/* The rate of one thread's matrix product of 256 × 1024 by 1024 × 1024 (transposed, as a layer's
   weights are), in GFLOP/s, the best of many; then the name of the BLAS kernels. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/blas.h"

enum { M = 256, N = 1024, RUNS = 100 };

int main(void)
{
    float *a = calloc(M * N, sizeof *a), *b = calloc(N * N, sizeof *b),
          *c = calloc(M * N, sizeof *c);
    double best = 1e9;
    if (!a || !b || !c)
        return 1;
    for (size_t i = 0; i < N * N; i++)
        a[i % (M * N)] = b[i] = (float)(i % 97) / 97;
    for (int run = 0; run < RUNS; run++) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        blas_product(false, true, M, N, N, 1, a, N, b, N, 0, c, N);
        clock_gettime(CLOCK_MONOTONIC, &end);
        double seconds = (double)(end.tv_sec - start.tv_sec) +
                         1e-9 * (double)(end.tv_nsec - start.tv_nsec);
        best = seconds < best ? seconds : best;
    }
    printf("%.1f %s\n", 2.0 * M * N * N / best / 1e9, blas_core_name());
    free(a);
    free(b);
    free(c);
    return 0;
}
