#include "core/team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/error.h"

/* Some 20 µs: less than it takes to fall asleep and to be woken. */
enum { SPINS = 500 };

struct worker {
    struct team *team;
    int thread;
    pthread_t handle;
    pthread_cond_t wake;
    atomic_uint rounds; /* in which it has been asked to work */
};

struct team {
    int threads; /* there are, with the caller */
    struct worker *workers;
    atomic_bool leave;
    pthread_mutex_t lock; /* of sleeping and waking, and of failures */
    pthread_cond_t done;
    atomic_int busy; /* workers in this round */

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

static void team_fail(struct team *team, size_t i, int code, const struct ivon_error *error)
{
    atomic_store(&team->stop, true);
    pthread_mutex_lock(&team->lock);
    if (i < team->failed) {
        team->failed = i;
        team->code = code;
        team->error = *error;
    }
    pthread_mutex_unlock(&team->lock);
}

static void work(struct team *team, int thread)
{
    while (!atomic_load(&team->stop)) {
        size_t i = atomic_fetch_add(&team->next, 1);
        if (i >= team->count)
            break;
        struct ivon_error error = {0};
        int code = team->job(team->context, i, thread, &error);
        if (code)
            team_fail(team, i, code, &error);
    }
}

/* Until another round begins. */
static unsigned wait_for_round(struct worker *worker, unsigned seen)
{
    struct team *team = worker->team;
    unsigned rounds = seen;
    for (int i = 0; i < SPINS && rounds == seen; i++) {
        pause_briefly();
        rounds = atomic_load(&worker->rounds);
    }
    if (rounds != seen)
        return rounds;
    pthread_mutex_lock(&team->lock);
    while ((rounds = atomic_load(&worker->rounds)) == seen)
        pthread_cond_wait(&worker->wake, &team->lock);
    pthread_mutex_unlock(&team->lock);
    return rounds;
}

static void *team_attend(void *argument)
{
    struct worker *worker = argument;
    struct team *team = worker->team;
    unsigned rounds = 0;
    while (true) {
        rounds = wait_for_round(worker, rounds);
        if (atomic_load(&team->leave))
            return NULL;
        work(team, worker->thread);
        if (atomic_fetch_sub(&team->busy, 1) > 1)
            continue;
        pthread_mutex_lock(&team->lock);
        pthread_cond_signal(&team->done);
        pthread_mutex_unlock(&team->lock);
    }
}

static void wait_for_workers(struct team *team)
{
    for (int i = 0; i < SPINS && atomic_load(&team->busy); i++)
        pause_briefly();
    if (!atomic_load(&team->busy))
        return;
    pthread_mutex_lock(&team->lock);
    while (atomic_load(&team->busy))
        pthread_cond_wait(&team->done, &team->lock);
    pthread_mutex_unlock(&team->lock);
}

/* Begins a round for workers 1 to threads − 1. */
static void wake(struct team *team, int threads)
{
    pthread_mutex_lock(&team->lock);
    for (int t = 1; t < threads; t++) {
        atomic_fetch_add(&team->workers[t].rounds, 1);
        pthread_cond_signal(&team->workers[t].wake);
    }
    pthread_mutex_unlock(&team->lock);
}

int team_new(struct team **out, int threads, struct ivon_error *error)
{
    struct team *team = calloc(1, sizeof *team);
    struct worker *workers = calloc((size_t)threads, sizeof *workers);
    if (!team || !workers) {
        free(team);
        free(workers);
        return ivon_error_memory(error);
    }
    team->workers = workers;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->done, NULL);
    for (team->threads = 1; team->threads < threads; team->threads++) {
        struct worker *worker = &workers[team->threads];
        *worker = (struct worker){.team = team, .thread = team->threads};
        pthread_cond_init(&worker->wake, NULL);
        if (pthread_create(&worker->handle, NULL, team_attend, worker) == 0)
            continue;
        pthread_cond_destroy(&worker->wake);
        break;
    }
    *out = team;
    return 0;
}

void team_free(struct team *team)
{
    if (!team)
        return;
    atomic_store(&team->leave, true);
    wake(team, team->threads);
    for (int t = 1; t < team->threads; t++) {
        pthread_join(team->workers[t].handle, NULL);
        pthread_cond_destroy(&team->workers[t].wake);
    }
    pthread_cond_destroy(&team->done);
    pthread_mutex_destroy(&team->lock);
    free(team->workers);
    free(team);
}

int team_run(struct team *team, int threads, size_t count,
             int (*job)(void *context, size_t i, int thread, struct ivon_error *error),
             void *context, struct ivon_error *error)
{
    threads = threads < team->threads ? threads : team->threads;
    if ((size_t)threads > count)
        threads = count ? (int)count : 1;
    team->job = job;
    team->context = context;
    team->count = count;
    team->failed = SIZE_MAX;
    team->code = 0;
    atomic_store(&team->next, 0);
    atomic_store(&team->stop, false);
    atomic_store(&team->busy, threads - 1);
    if (threads > 1)
        wake(team, threads);
    work(team, 0);
    wait_for_workers(team);
    if (team->code && error)
        *error = team->error;
    return team->code;
}
