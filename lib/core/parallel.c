#define _GNU_SOURCE
#include "core/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/error.h"

enum { THREADS_MAX = 1024 };

struct crew {
    int (*job)(void *context, size_t i, int thread, struct ivon_error *error);
    void *context;
    size_t count;
    atomic_size_t next;
    atomic_bool stop;
    pthread_mutex_t lock; /* of the three below */
    size_t failed;
    int code;
    struct ivon_error error;
};

struct worker {
    struct crew *crew;
    int thread;
    pthread_t handle;
};

int ivon_parallel_threads(int threads)
{
    if (threads <= 0) {
        cpu_set_t set;
        threads = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    }
    return threads < THREADS_MAX ? threads : THREADS_MAX;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct crew *crew = worker->crew;
    while (!atomic_load(&crew->stop)) {
        size_t i = atomic_fetch_add(&crew->next, 1);
        if (i >= crew->count)
            break;
        struct ivon_error error = {0};
        int code = crew->job(crew->context, i, worker->thread, &error);
        if (!code)
            continue;
        atomic_store(&crew->stop, true);
        pthread_mutex_lock(&crew->lock);
        if (i < crew->failed) {
            crew->failed = i;
            crew->code = code;
            crew->error = error;
        }
        pthread_mutex_unlock(&crew->lock);
    }
    return NULL;
}

int ivon_parallel_run(int threads, size_t count,
                      int (*job)(void *context, size_t i, int thread, struct ivon_error *error),
                      void *context, struct ivon_error *error)
{
    threads = ivon_parallel_threads(threads);
    if ((size_t)threads > count)
        threads = count ? (int)count : 1;
    struct crew crew = {.job = job, .context = context, .count = count, .failed = SIZE_MAX};
    struct worker *workers = calloc((size_t)threads, sizeof *workers);
    if (!workers)
        return ivon_error_memory(error);
    pthread_mutex_init(&crew.lock, NULL);
    int started = 1;
    for (int t = 0; t < threads; t++)
        workers[t] = (struct worker){.crew = &crew, .thread = t};
    while (started < threads &&
           pthread_create(&workers[started].handle, NULL, work, &workers[started]) == 0)
        started++; /* with fewer threads than asked for, the work is merely slower */
    work(&workers[0]);
    for (int t = 1; t < started; t++)
        pthread_join(workers[t].handle, NULL);
    pthread_mutex_destroy(&crew.lock);
    free(workers);
    if (crew.code && error)
        *error = crew.error;
    return crew.code;
}
