/* A pool of threads that wait for work, for jobs too short to start threads each time. It runs one
   set of jobs at a time. */
#ifndef CORE_THREAD_POOL_H
#define CORE_THREAD_POOL_H

#include <stddef.h>

#include "ivon/error.h"

struct thread_pool;

/* Starts a pool of `threads` threads, including the one that calls thread_pool_run; at least one.
   Where the system has fewer, the pool has fewer, which only takes longer. */
int thread_pool_new(struct thread_pool **pool, int threads, struct ivon_error *error);
void thread_pool_free(struct thread_pool *pool);

/*
 * Runs job(context, i, thread, error) for every i below `count`, handed out in rising order to at
 * most `threads` of the pool; `thread` is below their number. After a failure no new job starts.
 * The failure with the lowest i is returned: jobs start in order, so it is the same on any machine.
 */
int thread_pool_run(struct thread_pool *pool, int threads, size_t count,
                    int (*job)(void *context, size_t i, int thread, struct ivon_error *error),
                    void *context, struct ivon_error *error);

#endif
