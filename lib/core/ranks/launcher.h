/* The launcher of this process, as its environment tells. */
#ifndef CORE_RANKS_LAUNCHER_H
#define CORE_RANKS_LAUNCHER_H

#include "ivon/error.h"

struct launcher {
    const char *name;   /* "mpirun of Open MPI" */
    const char *engine; /* "openmpi" or "mpich"; null: processes that know nothing of one another */
    long rank, count;   /* of this process, and of all; 1: it is alone */
    long patience;      /* seconds with a machine that does not answer; 0: as long as TCP has it */
};

/* `variable` is getenv. Fails where several processes were started, and not by MPI, or where what
   the user chose is none; what was found is set all the same. */
int launcher_find(struct launcher *launcher, char *(*variable)(const char *name),
                  struct ivon_error *error);

#endif
