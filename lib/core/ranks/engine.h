/*
 * An MPI as a plug-in, which is compiled once for each MPI that there is (mpi.c), since their
 * binaries do not take one another's programs, and loaded where a launcher started ranks. Errors of
 * MPI end all ranks, with a message of its own: no rank could go on.
 */
#ifndef CORE_RANKS_ENGINE_H
#define CORE_RANKS_ENGINE_H

#include <stddef.h>

struct ranks_engine {
    const char *version; /* of this library: that of the program's has to be the same */
    /* Joins the ranks; sets the number of this one and of all. Returns whether it could. */
    int (*start)(int *rank, int *count);
    void (*finish)(void);
    void (*end)(int status); /* all ranks, at once */
    /* From now on, ends this process where a machine does not answer for so many seconds. */
    void (*watch)(int seconds);
    /* Called by all: the least of their values, or −1 where some are not there after so many
       seconds, unless these are 0; their data one behind another; that of one. */
    int (*least)(int value, int seconds);
    void (*exchange)(const void *data, size_t size, void *all);
    void (*broadcast)(int root, void *data, size_t size);
    /* Called by two. */
    void (*send)(int to, const void *data, size_t size);
    void (*receive)(int from, void *data, size_t size);
};

#define RANKS_ENGINE_SYMBOL "ivon_ranks_engine"

#endif
