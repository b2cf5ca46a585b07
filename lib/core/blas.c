#include "core/blas.h"

#include <cblas.h>

void blas_product(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
                  const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                  int64_t ldc)
{
    /* Its own threads would compete with ours, and change the bits. */
    if (openblas_get_num_threads() != 1)
        openblas_set_num_threads(1);
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, alpha,
                a, (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
}

const char *blas_core_name(void)
{
    return openblas_get_corename();
}
