/* The plug-in: what struct ranks_engine asks for, by MPI-3. */
#include <mpi.h>
#include <sched.h>
#include <time.h>

#include "core/ranks/engine.h"
#include "core/ranks/links.h"

/* Bytes of one message: MPI counts in int. */
static const size_t PART = 1 << 30;

static double mpi_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/*
 * Libraries of MPI wait in a loop that takes a whole processor, which the threads of another rank
 * may need. Here a wait spins for about as long as a message takes, then lets others run, and in
 * the end sleeps for short times, longer ones the longer it has waited: one for the next file of a
 * training takes hours. Returns whether it was done before so many seconds.
 */
static int mpi_wait_until(MPI_Request *request, double seconds)
{
    enum { SPINS = 2000, YIELDS = 200 };
    const double NAP_LEAST = 5e-5, NAP_MOST = 5e-3, NAP_SHARE = 1e-3;
    int done = 0;
    double begin = mpi_now();
    MPI_Test(request, &done, MPI_STATUS_IGNORE);
    for (int turn = 0; !done; turn += turn < SPINS + YIELDS) {
        double waited = turn < SPINS ? 0 : mpi_now() - begin, nap = NAP_SHARE * waited;
        nap = nap < NAP_LEAST ? NAP_LEAST : nap > NAP_MOST ? NAP_MOST : nap;
        if (turn >= SPINS + YIELDS)
            nanosleep(&(struct timespec){.tv_nsec = (long)(1e9 * nap)}, NULL);
        else if (turn >= SPINS)
            sched_yield();
        MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (!done && seconds > 0 && waited > seconds)
            return 0;
    }
    return 1;
}

static void mpi_wait(MPI_Request *request)
{
    mpi_wait_until(request, 0);
}

static int mpi_part(size_t size)
{
    return (int)(size < PART ? size : PART);
}

static void mpi_watch(int seconds)
{
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    links_watch(rank, seconds);
}

/* A reduction that is given up goes on in memory that stays. */
static int mpi_least(int value, int seconds)
{
    static int own, least;
    MPI_Request request;
    own = value;
    MPI_Iallreduce(&own, &least, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD, &request);
    return mpi_wait_until(&request, seconds) ? least : -1;
}

static void mpi_exchange(const void *data, size_t size, void *all)
{
    MPI_Request request;
    MPI_Iallgather(data, (int)size, MPI_BYTE, all, (int)size, MPI_BYTE, MPI_COMM_WORLD, &request);
    mpi_wait(&request);
}

static void mpi_broadcast(int root, void *data, size_t size)
{
    for (char *at = data; size;) {
        MPI_Request request;
        int part = mpi_part(size);
        MPI_Ibcast(at, part, MPI_BYTE, root, MPI_COMM_WORLD, &request);
        mpi_wait(&request);
        at += part;
        size -= (size_t)part;
    }
}

static void mpi_send(int to, const void *data, size_t size)
{
    for (const char *at = data; size;) {
        MPI_Request request;
        int part = mpi_part(size);
        MPI_Isend(at, part, MPI_BYTE, to, 0, MPI_COMM_WORLD, &request);
        mpi_wait(&request);
        at += part;
        size -= (size_t)part;
    }
}

static void mpi_receive(int from, void *data, size_t size)
{
    for (char *at = data; size;) {
        MPI_Request request;
        int part = mpi_part(size);
        MPI_Irecv(at, part, MPI_BYTE, from, 0, MPI_COMM_WORLD, &request);
        mpi_wait(&request);
        at += part;
        size -= (size_t)part;
    }
}

/* Every two ranks exchange a message: what connects them is there before the process gives up the
   right to make it. */
static void mpi_connect(int rank, int count)
{
    for (int distance = 1; distance < count; distance++) {
        char mine = 0, theirs = 0;
        MPI_Request requests[2];
        MPI_Irecv(&theirs, 1, MPI_BYTE, (rank - distance + count) % count, 0, MPI_COMM_WORLD,
                  &requests[0]);
        MPI_Isend(&mine, 1, MPI_BYTE, (rank + distance) % count, 0, MPI_COMM_WORLD, &requests[1]);
        mpi_wait(&requests[0]);
        mpi_wait(&requests[1]);
    }
}

static int mpi_start(int *rank, int *count)
{
    int given = 0;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given) != MPI_SUCCESS)
        return 0;
    MPI_Comm_rank(MPI_COMM_WORLD, rank);
    MPI_Comm_size(MPI_COMM_WORLD, count);
    mpi_connect(*rank, *count);
    return 1;
}

static void mpi_finish(void)
{
    MPI_Finalize();
}

static void mpi_end(int status)
{
    MPI_Abort(MPI_COMM_WORLD, status);
}

extern const struct ranks_engine ivon_ranks_engine;
__attribute__((visibility("default")))
const struct ranks_engine ivon_ranks_engine = {.version = IVON_VERSION,
                                               .start = mpi_start,
                                               .finish = mpi_finish,
                                               .end = mpi_end,
                                               .watch = mpi_watch,
                                               .least = mpi_least,
                                               .exchange = mpi_exchange,
                                               .broadcast = mpi_broadcast,
                                               .send = mpi_send,
                                               .receive = mpi_receive};
