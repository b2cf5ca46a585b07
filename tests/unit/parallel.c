/* Jobs on threads: each once, in bounds, and the same error whatever the number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "core/error.h"
#include "core/parallel.h"
#include "core/thread_pool.h"

enum { JOBS = 1000 };

struct record {
    atomic_int runs[JOBS];
    atomic_bool bad_thread;
    atomic_int busy[64]; /* jobs that run now with this thread's number */
    int threads;
    size_t first_failure; /* this job fails, and every third one after it */
    unsigned seed;        /* of the delays that shuffle the threads */
};

static int job(void *context, size_t i, int thread, struct ivon_error *error)
{
    struct record *record = context;
    if (thread < 0 || thread >= record->threads || atomic_fetch_add(&record->busy[thread], 1))
        atomic_store(&record->bad_thread, true);
    atomic_fetch_add(&record->runs[i], 1);
    unsigned delay = ((unsigned)i * 2654435761u + record->seed) >> 24;
    if (delay < 20)
        nanosleep(&(struct timespec){.tv_nsec = 1000 * (long)delay}, NULL);
    atomic_fetch_sub(&record->busy[thread < 0 || thread > 63 ? 0 : thread], 1);
    if (i >= record->first_failure && (i - record->first_failure) % 3 == 0)
        return ivon_error_set(error, i % 2 ? IVON_ERROR_DATA : IVON_ERROR_IO, "job %zu", i);
    return 0;
}

static void runs_every_job_once(void **state)
{
    (void)state;
    static const size_t counts[] = {0, 1, 2, 7, JOBS};
    for (int threads = 0; threads <= 5; threads++)
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            struct record record = {.threads = ivon_parallel_threads(threads),
                                    .first_failure = SIZE_MAX};
            struct ivon_error error = {.code = 17};
            assert_int_equal(ivon_parallel_run(threads, counts[c], job, &record, &error), 0);
            assert_int_equal(error.code, 17); /* untouched */
            assert_false(record.bad_thread);
            for (size_t i = 0; i < JOBS; i++)
                assert_int_equal(record.runs[i], i < counts[c]);
        }
}

static void reports_the_lowest_failure(void **state)
{
    (void)state;
    static const size_t failures[] = {0, 1, 5, 500, JOBS - 1};
    for (int threads = 1; threads <= 8; threads++)
        for (size_t f = 0; f < sizeof failures / sizeof failures[0]; f++)
            for (unsigned seed = 0; seed < 5; seed++) {
                struct record record = {
                    .threads = threads, .first_failure = failures[f], .seed = seed * 99991};
                struct ivon_error error = {0};
                char message[32];
                snprintf(message, sizeof message, "job %zu", failures[f]);
                int code = failures[f] % 2 ? IVON_ERROR_DATA : IVON_ERROR_IO;
                assert_int_equal(ivon_parallel_run(threads, JOBS, job, &record, &error), code);
                assert_int_equal(error.code, code);
                assert_string_equal(error.message, message);
                assert_false(record.bad_thread);
                for (size_t i = 0; i < JOBS; i++) /* all before the failure, none twice */
                    assert_true(record.runs[i] == 1 || (i > failures[f] && !record.runs[i]));
                if (threads == 1 && failures[f] + 1 < JOBS)
                    assert_int_equal(record.runs[failures[f] + 1], 0);
            }
}

/* One pool, many rounds of all sizes, some of which fail. */
static void a_pool_runs_round_after_round(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 5; threads++) {
        struct thread_pool *pool;
        assert_int_equal(thread_pool_new(&pool, threads, NULL), 0);
        for (unsigned round = 0; round < 300; round++) {
            size_t count = round * 7 % 23;
            int most = 1 + (int)(round % 6), used = most < threads ? most : threads;
            struct record record = {
                .threads = used, .first_failure = round % 4 ? SIZE_MAX : round % 11, .seed = round};
            struct ivon_error error = {0};
            int code = thread_pool_run(pool, most, count, job, &record, &error);
            assert_int_equal(code != 0, record.first_failure < count);
            assert_int_equal(code, error.code);
            assert_false(record.bad_thread);
            for (size_t i = 0; i < JOBS; i++)
                assert_true(record.runs[i] == (i < count) || (code && i > record.first_failure));
            if (round % 50 == 0) /* everyone falls asleep */
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
        thread_pool_free(pool);
    }
}

static void an_error_may_be_discarded(void **state)
{
    (void)state;
    struct record record = {.threads = 2, .first_failure = 3};
    assert_int_equal(ivon_parallel_run(2, JOBS, job, &record, NULL), IVON_ERROR_DATA);
}

static void bounds_the_threads(void **state)
{
    (void)state;
    assert_true(ivon_parallel_threads(0) >= 1);
    assert_true(ivon_parallel_threads(-3) >= 1);
    assert_int_equal(ivon_parallel_threads(3), 3);
    assert_true(ivon_parallel_threads(1 << 30) < 1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_every_job_once),
        cmocka_unit_test(reports_the_lowest_failure),
        cmocka_unit_test(a_pool_runs_round_after_round),
        cmocka_unit_test(an_error_may_be_discarded),
        cmocka_unit_test(bounds_the_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
