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
    if (schedule->cycle && schedule->shape == IVON_SCHEDULE_CONSTANT)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "restarts of a constant rate, expected one that falls");
    if (schedule->cycle && !schedule->growth)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "cycles grow by a factor of 0, expected at least 1");
    if (schedule->shape == IVON_SCHEDULE_CONSTANT || schedule->warmup < schedule->steps)
        return 0;
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "warmup of %" PRIu64 " steps in a training of %" PRIu64
                          ", expected fewer",
                          schedule->warmup, schedule->steps);
}

/* Returns r at step `step` behind the warmup. */
static double schedule_progress(const struct schedule *schedule, uint64_t step)
{
    uint64_t length = schedule->cycle;
    if (!length)
        return (double)step / (double)(schedule->steps - schedule->warmup);
    if (schedule->growth == 1)
        return (double)(step % length) / (double)length;
    while (step >= length) {
        step -= length;
        if (__builtin_mul_overflow(length, schedule->growth, &length))
            length = UINT64_MAX; /* longer than any training */
    }
    return (double)step / (double)length;
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
    double done = schedule_progress(schedule, step - schedule->warmup);
    return schedule->shape == IVON_SCHEDULE_LINEAR ? 1 - done : 0.5 * (1 + cos(pi * done));
}
