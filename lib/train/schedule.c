#include "train/schedule.h"

#include <inttypes.h>
#include <math.h>

#include "core/error.h"

const char *ivon_schedule_name(enum ivon_schedule schedule)
{
    static const char *const names[] = {[IVON_SCHEDULE_CONSTANT] = "constant",
                                        [IVON_SCHEDULE_COSINE] = "cosine",
                                        [IVON_SCHEDULE_LINEAR] = "linear"};
    return (size_t)schedule < sizeof names / sizeof *names ? names[schedule] : NULL;
}

int schedule_check(const struct schedule *schedule, struct ivon_error *error)
{
    if (!ivon_schedule_name(schedule->shape))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "no such schedule: %d",
                              (int)schedule->shape);
    if (schedule->shape == IVON_SCHEDULE_CONSTANT || schedule->warmup < schedule->steps)
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
    if (schedule->shape == IVON_SCHEDULE_CONSTANT)
        return 1;
    if (step >= schedule->steps)
        return 0;
    double done = (double)(step - schedule->warmup) / (double)(schedule->steps - schedule->warmup);
    return schedule->shape == IVON_SCHEDULE_LINEAR ? 1 - done : 0.5 * (1 + cos(pi * done));
}
