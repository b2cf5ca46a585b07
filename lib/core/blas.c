#define _GNU_SOURCE
#include "core/blas.h"

#include <cblas.h>
#include <stdatomic.h>
#include <stddef.h>
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
