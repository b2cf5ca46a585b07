#define _GNU_SOURCE
#include "core/parallel.h"

#include <sched.h>

#include "core/thread_pool.h"

enum { THREADS_MAX = 1024 };

int ivon_parallel_threads(int threads)
{
    if (threads <= 0) {
        cpu_set_t set;
        threads = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    }
    return threads < THREADS_MAX ? threads : THREADS_MAX;
}

int ivon_parallel_run(int threads, size_t count,
                      int (*job)(void *context, size_t i, int thread, struct ivon_error *error),
                      void *context, struct ivon_error *error)
{
    struct thread_pool *pool;
    threads = ivon_parallel_threads(threads);
    if ((size_t)threads > count)
        threads = count ? (int)count : 1;
    int code = thread_pool_new(&pool, threads, error);
    if (code)
        return code;
    code = thread_pool_run(pool, threads, count, job, context, error);
    thread_pool_free(pool);
    return code;
}
