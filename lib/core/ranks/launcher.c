#include "core/ranks/launcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

/* Launchers by the variables that they set, the surest first: srun sets its own beside those of the
   interface to MPI that it was told to offer. */
static const struct {
    const char *name, *engine, *rank, *count;
} launchers[] = {
    {"mpirun of Open MPI", "openmpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    {"mpirun of MPICH", "mpich", "PMI_RANK", "PMI_SIZE"},
    {"srun", "openmpi", "PMIX_RANK", "SLURM_STEP_NUM_TASKS"},
    {"srun", NULL, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"},
};

/* Returns a whole number that is at least 0, or −1. */
static long launcher_number(const char *text)
{
    char *end;
    errno = 0;
    long number = text && *text ? strtol(text, &end, 10) : -1;
    return number < 0 || errno || *end ? -1 : number;
}

/* As long as a network may take to find another way. */
static const long PATIENCE = 60;

static int launcher_find_patience(struct launcher *launcher, const char *text,
                                  struct ivon_error *error)
{
    long seconds = launcher_number(text);
    if (text && (seconds < 0 || seconds > 86400))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "IVON_MPI_TIMEOUT is '%s', expected seconds up to 86400, 0 for those "
                              "of TCP",
                              text);
    launcher->patience = text ? seconds : PATIENCE;
    return 0;
}

int launcher_find(struct launcher *launcher, char *(*variable)(const char *name),
                  struct ivon_error *error)
{
    const char *engine = variable("IVON_MPI");
    *launcher = (struct launcher){.count = 1, .patience = PATIENCE};
    if (engine && strcmp(engine, "off") == 0)
        return 0;
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
        long rank = launcher_number(variable(launchers[i].rank));
        long count = launcher_number(variable(launchers[i].count));
        if (rank < 0 || count <= rank)
            continue;
        *launcher = (struct launcher){launchers[i].name, engine ? engine : launchers[i].engine,
                                      rank, count, PATIENCE};
        break;
    }
    if (engine && strcmp(engine, "openmpi") != 0 && strcmp(engine, "mpich") != 0)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "IVON_MPI is '%s', expected openmpi, mpich or off", engine);
    if (launcher->count > 1 && !launcher->engine)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s started %ld processes that know nothing of one another: by its "
                              "MPI type pmix they are ranks of Open MPI, by pmi2 of MPICH, and "
                              "with IVON_MPI=off each works alone",
                              launcher->name, launcher->count);
    return launcher_find_patience(launcher, variable("IVON_MPI_TIMEOUT"), error);
}
