#include "train/schedule.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/error.h"

int schedule_shape_parse(enum schedule_shape *shape, const char *name, struct ivon_error *error)
{
    static const char *const names[] = {[SCHEDULE_CONSTANT] = "constant",
                                        [SCHEDULE_COSINE] = "cosine",
                                        [SCHEDULE_LINEAR] = "linear"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0) {
            *shape = (enum schedule_shape)i;
            return 0;
        }
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "schedule '%s', expected constant, cosine or linear", name);
}

int schedule_check(const struct schedule *schedule, struct ivon_error *error)
{
    if (schedule->shape == SCHEDULE_CONSTANT || schedule->warmup < schedule->steps)
        return 0;
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "warmup of %" PRIu64 " steps in a training of %" PRIu64
                          ", expected fewer",
                          schedule->warmup, schedule->steps);
}

double schedule_factor(const struct schedule *schedule, uint64_t step)
{
    const double pi = 3.14159265358979323846;
    if (step < schedule->warmup)
        return (double)(step + 1) / (double)schedule->warmup;
    if (schedule->shape == SCHEDULE_CONSTANT)
        return 1;
    if (step >= schedule->steps)
        return 0;
    double done = (double)(step - schedule->warmup) / (double)(schedule->steps - schedule->warmup);
    return schedule->shape == SCHEDULE_LINEAR ? 1 - done : 0.5 * (1 + cos(pi * done));
}
