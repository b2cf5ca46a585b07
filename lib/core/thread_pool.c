#include "core/thread_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/error.h"

/* About 20 µs: less than a thread needs to fall asleep and wake. */
enum { SPINS = 500 };

struct worker {
    struct thread_pool *pool;
    int thread;
    pthread_t handle;
    pthread_cond_t wake;
    atomic_uint rounds; /* how many rounds it has been asked to run */
};

struct thread_pool {
    int threads; /* including the caller */
    struct worker *workers;
    atomic_bool quit;
    pthread_mutex_t lock; /* protects sleeping, waking and failures */
    pthread_cond_t done;
    atomic_int busy; /* workers still running this round */

    int (*job)(void *context, size_t i, int thread, struct ivon_error *error);
    void *context;
    size_t count;
    atomic_size_t next;
    atomic_bool stop;
    size_t failed;
    int code;
    struct ivon_error error;
};

static inline void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void thread_pool_fail(struct thread_pool *pool, size_t i, int code,
                             const struct ivon_error *error)
{
    atomic_store(&pool->stop, true);
    pthread_mutex_lock(&pool->lock);
    if (i < pool->failed) {
        pool->failed = i;
        pool->code = code;
        pool->error = *error;
    }
    pthread_mutex_unlock(&pool->lock);
}

static void run_jobs(struct thread_pool *pool, int thread)
{
    while (!atomic_load(&pool->stop)) {
        size_t i = atomic_fetch_add(&pool->next, 1);
        if (i >= pool->count)
            break;
        struct ivon_error error = {0};
        int code = pool->job(pool->context, i, thread, &error);
        if (code)
            thread_pool_fail(pool, i, code, &error);
    }
}

/* Waits until another round begins. */
static unsigned wait_for_round(struct worker *worker, unsigned seen)
{
    struct thread_pool *pool = worker->pool;
    unsigned rounds = seen;
    for (int i = 0; i < SPINS && rounds == seen; i++) {
        pause_briefly();
        rounds = atomic_load(&worker->rounds);
    }
    if (rounds != seen)
        return rounds;
    pthread_mutex_lock(&pool->lock);
    while ((rounds = atomic_load(&worker->rounds)) == seen)
        pthread_cond_wait(&worker->wake, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    return rounds;
}

static void *thread_pool_worker(void *argument)
{
    struct worker *worker = argument;
    struct thread_pool *pool = worker->pool;
    unsigned rounds = 0;
    while (true) {
        rounds = wait_for_round(worker, rounds);
        if (atomic_load(&pool->quit))
            return NULL;
        run_jobs(pool, worker->thread);
        if (atomic_fetch_sub(&pool->busy, 1) > 1)
            continue;
        pthread_mutex_lock(&pool->lock);
        pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->lock);
    }
}

static void wait_for_workers(struct thread_pool *pool)
{
    for (int i = 0; i < SPINS && atomic_load(&pool->busy); i++)
        pause_briefly();
    if (!atomic_load(&pool->busy))
        return;
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->busy))
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

/* Begins a round for workers 1 to threads − 1. */
static void wake(struct thread_pool *pool, int threads)
{
    pthread_mutex_lock(&pool->lock);
    for (int t = 1; t < threads; t++) {
        atomic_fetch_add(&pool->workers[t].rounds, 1);
        pthread_cond_signal(&pool->workers[t].wake);
    }
    pthread_mutex_unlock(&pool->lock);
}

int thread_pool_new(struct thread_pool **out, int threads, struct ivon_error *error)
{
    struct thread_pool *pool = calloc(1, sizeof *pool);
    struct worker *workers = calloc((size_t)threads, sizeof *workers);
    if (!pool || !workers) {
        free(pool);
        free(workers);
        return ivon_error_memory(error);
    }
    pool->workers = workers;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->done, NULL);
    for (pool->threads = 1; pool->threads < threads; pool->threads++) {
        struct worker *worker = &workers[pool->threads];
        *worker = (struct worker){.pool = pool, .thread = pool->threads};
        pthread_cond_init(&worker->wake, NULL);
        if (pthread_create(&worker->handle, NULL, thread_pool_worker, worker) == 0)
            continue;
        pthread_cond_destroy(&worker->wake);
        break;
    }
    *out = pool;
    return 0;
}

void thread_pool_free(struct thread_pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->quit, true);
    wake(pool, pool->threads);
    for (int t = 1; t < pool->threads; t++) {
        pthread_join(pool->workers[t].handle, NULL);
        pthread_cond_destroy(&pool->workers[t].wake);
    }
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
}

int thread_pool_run(struct thread_pool *pool, int threads, size_t count,
                    int (*job)(void *context, size_t i, int thread, struct ivon_error *error),
                    void *context, struct ivon_error *error)
{
    threads = threads < pool->threads ? threads : pool->threads;
    if ((size_t)threads > count)
        threads = count ? (int)count : 1;
    pool->job = job;
    pool->context = context;
    pool->count = count;
    pool->failed = SIZE_MAX;
    pool->code = 0;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->stop, false);
    atomic_store(&pool->busy, threads - 1);
    if (threads > 1)
        wake(pool, threads);
    run_jobs(pool, 0);
    wait_for_workers(pool);
    if (pool->code && error)
        *error = pool->error;
    return pool->code;
}
