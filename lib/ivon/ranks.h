/*
 * Processes that a launcher of MPI started together (`mpirun -n 8`, `srun --mpi=pmix`), called
 * ranks: 0 is the first. Computations that take them (`ranks` of struct ivon_resources) share their
 * work among them, with the same bits for any number of ranks and threads. They are called by all
 * ranks, with equal arguments; results reach rank 0, or all, as each computation says.
 *
 * A null pointer is a process alone: rank 0 of 1, for which every function does nothing.
 *
 * What ranks do together begins with an agreement. A rank that failed by itself says so with
 * ivon_ranks_agree(), and then the others' next common call, whichever it is, fails with the error
 * of the lowest rank that had one; all calls after it fail so, too, without waiting for anyone.
 *
 * One thread, which called ivon_ranks_open, calls all functions, and computations with ranks.
 */
#ifndef IVON_RANKS_H
#define IVON_RANKS_H

#include <stddef.h>

#include "ivon/api.h"
#include "ivon/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ivon_ranks;

/*
 * Joins the ranks of this process's launcher, by the MPI whose launcher it is, or which the
 * environment variable IVON_MPI names: openmpi or mpich; with `off` the process is alone. Where no
 * launcher started several processes, *ranks is null, and no MPI is loaded. Once in a process,
 * before it has threads. IVON_ERROR_INPUT: that MPI is not there; IVON_ERROR_ARGUMENT: the
 * variable names none, or the launcher is that of another MPI. Only the error of the process that
 * is the first one need be printed: `*first` says which is, also on failure.
 *
 * From then on the process ends, with a line and exit status 74, where another machine does not
 * answer for a minute, or the seconds of IVON_MPI_TIMEOUT.
 */
IVON_API int ivon_ranks_open(struct ivon_ranks **ranks, bool *first, struct ivon_error *error);

/* Leaves them, all together, unless some failed: then the launcher sees each process end. */
IVON_API void ivon_ranks_close(struct ivon_ranks *ranks);

IVON_API int ivon_ranks_rank(const struct ivon_ranks *ranks);
IVON_API int ivon_ranks_count(const struct ivon_ranks *ranks);

/*
 * Agrees on a result: `code` is the own, with the error that belongs to it. Returns 0 where it is 0
 * on all ranks; else the code and the error of the lowest rank where it is not. A rank that failed
 * waits for the others for five seconds: if they do not come, it gets its own error back, and
 * ivon_ranks_failed says that it knows it alone. Then there is ivon_ranks_abort.
 */
IVON_API int ivon_ranks_agree(struct ivon_ranks *ranks, int code, struct ivon_error *error);

/* Returns whether they have agreed on a failure. */
IVON_API bool ivon_ranks_failed(const struct ivon_ranks *ranks);

/*
 * Forgets a failure that was of one piece of work alone: all ranks, which have it from
 * ivon_ranks_agree, can go on to the next. Returns false where this rank knows it alone, and has to
 * end.
 */
IVON_API bool ivon_ranks_recover(struct ivon_ranks *ranks);

/* Copies `size` bytes of rank 0 to all. */
IVON_API int ivon_ranks_share(struct ivon_ranks *ranks, void *data, size_t size,
                              struct ivon_error *error);

/* Ends all ranks at once, without their agreement, with that exit status. Returns where there are
   none. */
IVON_API void ivon_ranks_abort(struct ivon_ranks *ranks, int status);

#ifdef __cplusplus
}
#endif

#endif
