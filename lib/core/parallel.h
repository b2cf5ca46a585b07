/* Independent jobs on several threads. */
#ifndef CORE_PARALLEL_H
#define CORE_PARALLEL_H

#include <stddef.h>

#include "ivon/error.h"

/*
 * Runs job(context, i, thread, error) for every i below `count`, handed out in rising order to
 * `threads` threads (0: one for each processor that this process may use), the calling one among
 * them; `thread` is below ivon_parallel_threads(threads). After a failure no new job starts. The
 * failure with the lowest i is returned: jobs start in order, so it is the same on any machine.
 */
int ivon_parallel_run(int threads, size_t count,
                      int (*job)(void *context, size_t i, int thread, struct ivon_error *error),
                      void *context, struct ivon_error *error);

/* The number of threads that ivon_parallel_run takes for this request. */
int ivon_parallel_threads(int threads);

#endif
