/* Independent jobs on several threads. */
#ifndef CORE_PARALLEL_H
#define CORE_PARALLEL_H

#include <stddef.h>

#include "ivon/error.h"

/* As thread_pool_run (core/thread_pool.h), by a pool that exists for this call only, of `threads`
   threads (0: one for each processor that this process may use). `thread` is below
   ivon_parallel_threads(threads). */
int ivon_parallel_run(int threads, size_t count,
                      int (*job)(void *context, size_t i, int thread, struct ivon_error *error),
                      void *context, struct ivon_error *error);

/* The number of threads that ivon_parallel_run takes for this request. */
int ivon_parallel_threads(int threads);

#endif
