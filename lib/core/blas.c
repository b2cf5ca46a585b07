#define _GNU_SOURCE
#include "core/blas.h"

#include <cblas.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/error.h"

/* Ends the library's own threads until a call wants them again; not in every build of it. */
extern int blas_thread_shutdown_(void) __attribute__((weak));

static void blas_dismiss(void)
{
    if (blas_thread_shutdown_)
        blas_thread_shutdown_();
}

/* As soon as it is loaded the library starts a thread for each processor but one, and each spins
   for some 30 ms before it sleeps: longer than many a command runs. */
__attribute__((constructor)) static void blas_loaded(void)
{
    blas_dismiss();
}

/* The library's own threads would compete with ours and change the bits. */
static void blas_alone(void)
{
    if (openblas_get_num_threads() != 1)
        openblas_set_num_threads(1);
}

void blas_product(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
                  const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                  int64_t ldc)
{
    blas_alone();
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, alpha,
                a, (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
}

void blas_product_double(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                         double alpha, const double *a, int64_t lda, const double *b, int64_t ldb,
                         double beta, double *c, int64_t ldc)
{
    blas_alone();
    cblas_dgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, alpha,
                a, (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
}

/* LAPACK's, in the BLAS library: by divide and conquer. */
extern void dsyevd_(const char *vectors, const char *triangle, const blasint *n, double *a,
                    const blasint *lda, double *values, double *work, const blasint *work_size,
                    blasint *integers, const blasint *integers_size, blasint *failed);

/* Turns a vector so that its largest element, the first of several, is positive. */
static void blas_eigen_turn(double *vector, int64_t n)
{
    int64_t largest = 0;
    for (int64_t i = 1; i < n; i++)
        largest = fabs(vector[i]) > fabs(vector[largest]) ? i : largest;
    bool negative = vector[largest] < 0;
    for (int64_t i = 0; i < n && negative; i++)
        vector[i] = -vector[i] + 0.0;
}

/* LAPACK's matrices lie column by column: the lower triangle of rows is its upper one, and its
   columns, the eigenvectors, are rows. */
int blas_eigen(int64_t n, double *matrix, double *values, struct ivon_error *error)
{
    blasint size = (blasint)n, failed = 0, asked = -1, integers_size = 0, work_size = 0;
    double best = 0;
    if (n <= 0)
        return 0;
    blas_alone();
    dsyevd_("V", "U", &size, matrix, &size, values, &best, &asked, &integers_size, &asked, &failed);
    work_size = (blasint)best;
    double *work = malloc((size_t)(work_size > 0 ? work_size : 1) * sizeof *work);
    blasint *integers = malloc((size_t)(integers_size > 0 ? integers_size : 1) * sizeof *integers);
    if (work && integers && !failed)
        dsyevd_("V", "U", &size, matrix, &size, values, work, &work_size, integers, &integers_size,
                &failed);
    int code = work && integers ? 0 : ivon_error_memory(error);
    free(work);
    free(integers);
    for (int64_t i = 0; i < n && !failed; i++)
        failed = isfinite(values[i]) ? 0 : 1;
    if (!code && failed)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "a symmetric matrix of %" PRId64 " rows has no eigenvalues", n);
    for (int64_t i = 0; i < n && !code; i++)
        blas_eigen_turn(matrix + i * n, n);
    return code;
}

/* LAPACK's singular value decomposition, by divide and conquer, and its factors L Q and Q R. */
extern void dgesdd_(const char *vectors, const blasint *m, const blasint *n, double *a,
                    const blasint *lda, double *values, double *u, const blasint *ldu, double *vt,
                    const blasint *ldvt, double *work, const blasint *work_size, blasint *integers,
                    blasint *failed);
extern void dgelqf_(const blasint *m, const blasint *n, double *a, const blasint *lda,
                    double *scalars, double *work, const blasint *work_size, blasint *failed);
extern void dorglq_(const blasint *m, const blasint *n, const blasint *k, double *a,
                    const blasint *lda, const double *scalars, double *work,
                    const blasint *work_size, blasint *failed);

extern void dgeqrf_(const blasint *m, const blasint *n, double *a, const blasint *lda,
                    double *scalars, double *work, const blasint *work_size, blasint *failed);
extern void dorgqr_(const blasint *m, const blasint *n, const blasint *k, double *a,
                    const blasint *lda, const double *scalars, double *work,
                    const blasint *work_size, blasint *failed);

/* Column by column the matrix is its transpose, n × m = V S Uᵀ: LAPACK's left vectors, n × k column
   by column, are Vᵀ row by row, and its right ones U. It does not look for what is not finite. */
int blas_singular(int64_t m, int64_t n, double *matrix, double *values, double *left, double *right,
                  struct ivon_error *error)
{
    int64_t k = m < n ? m : n;
    blasint rows = (blasint)n, columns = (blasint)m, size = (blasint)k, failed = 0, asked = -1;
    double best = 0;
    if (k <= 0)
        return 0;
    for (int64_t i = 0; i < m * n && !failed; i++)
        failed = isfinite(matrix[i]) ? 0 : 1;
    blas_alone();
    blasint *integers = calloc(8 * (size_t)k, sizeof *integers);
    if (integers && !failed)
        dgesdd_("S", &rows, &columns, matrix, &rows, values, right, &rows, left, &size, &best,
                &asked, integers, &failed);
    blasint work_size = best >= 1 ? (blasint)best : 1;
    double *work = malloc((size_t)work_size * sizeof *work);
    if (work && integers && !failed)
        dgesdd_("S", &rows, &columns, matrix, &rows, values, right, &rows, left, &size, work,
                &work_size, integers, &failed);
    int code = work && integers ? 0 : ivon_error_memory(error);
    free(work);
    free(integers);
    if (!code && failed)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "a matrix of %" PRId64 "x%" PRId64 " has no singular values", m, n);
    return code;
}

/* Column by column the matrix is its transpose, n × m = L Q: L is Rᵀ and Q the other's Qᵀ. */
int blas_orthogonal(int64_t m, int64_t n, double *matrix, double *triangle,
                    struct ivon_error *error)
{
    enum { BLOCK = 64 /* columns at once */ };
    blasint rows = (blasint)n, columns = (blasint)m, work_size = rows * BLOCK, failed = 0;
    if (n <= 0)
        return 0;
    blas_alone();
    double *scalars = calloc((size_t)n, sizeof *scalars);
    double *work = malloc((size_t)work_size * sizeof *work);
    int code = scalars && work ? 0 : ivon_error_memory(error);
    if (!code)
        dgelqf_(&rows, &columns, matrix, &rows, scalars, work, &work_size, &failed);
    for (int64_t i = 0; i < n && !code; i++)
        for (int64_t j = 0; j < n; j++)
            triangle[i * n + j] = j >= i ? matrix[i * n + j] : 0;
    if (!code)
        dorglq_(&rows, &columns, &rows, matrix, &rows, scalars, work, &work_size, &failed);
    free(scalars);
    free(work);
    return code;
}

/* Column by column the rows are columns, which is how they are read most quickly. */
int blas_orthonormal_rows(int64_t k, int64_t n, double *matrix, struct ivon_error *error)
{
    enum { BLOCK = 64 /* columns at once */ };
    blasint rows = (blasint)n, columns = (blasint)k, work_size = columns * BLOCK, failed = 0;
    if (k <= 0)
        return 0;
    blas_alone();
    double *scalars = malloc((size_t)k * sizeof *scalars);
    double *work = malloc((size_t)work_size * sizeof *work);
    int code = scalars && work ? 0 : ivon_error_memory(error);
    if (!code)
        dgeqrf_(&rows, &columns, matrix, &rows, scalars, work, &work_size, &failed);
    if (!code)
        dorgqr_(&rows, &columns, &columns, matrix, &rows, scalars, work, &work_size, &failed);
    free(scalars);
    free(work);
    return code;
}

extern void dpotrf_(const char *triangle, const blasint *n, double *a, const blasint *lda,
                    blasint *failed);
extern void dpotrs_(const char *triangle, const blasint *n, const blasint *columns,
                    const double *factor, const blasint *lda, double *b, const blasint *ldb,
                    blasint *failed);

int blas_cholesky(int64_t n, double *matrix, bool *singular, struct ivon_error *error)
{
    blasint size = (blasint)n, failed = 0;
    blas_alone();
    *singular = false;
    if (n <= 0)
        return 0;
    dpotrf_("U", &size, matrix, &size, &failed);
    bool finite = true;
    for (int64_t i = 0; i < n && !failed; i++)
        finite &= isfinite(matrix[i * n + i]);
    *singular = failed > 0;
    return failed < 0 || !finite
               ? ivon_error_set(error, IVON_ERROR_DATA,
                                "a symmetric matrix of %" PRId64 " rows has no Cholesky factor", n)
               : 0;
}

void blas_cholesky_solve(int64_t n, int64_t rows, const double *factor, double *x)
{
    blasint size = (blasint)n, columns = (blasint)rows, failed = 0;
    blas_alone();
    if (n > 0 && rows > 0)
        dpotrs_("U", &size, &columns, factor, &size, x, &size, &failed);
}

int blas_reserve(int threads, struct ivon_error *error)
{
    static const size_t PER_THREAD = (size_t)130 << 20; /* including the allocator's overhead */
    static atomic_int reserved;
    int before = reserved;
    if (threads <= before)
        return 0;
    blas_alone(); /* which starts them */
    blas_dismiss();
    size_t size = (size_t)(threads - before) * PER_THREAD;
    void *reservation = mmap(NULL, size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reservation == MAP_FAILED)
        return ivon_error_memory(error);
    munmap(reservation, size);
    reserved = threads;
    return 0;
}

const char *blas_core_name(void)
{
    return openblas_get_corename();
}
