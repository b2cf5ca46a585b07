#include "core/meter.h"

#include "core/error.h"

void meter_init(struct meter *meter, const struct ivon_progress *progress, uint64_t total)
{
    *meter = (struct meter){.progress = *progress, .total = total};
    pthread_mutex_init(&meter->lock, NULL);
}

void meter_release(struct meter *meter)
{
    pthread_mutex_destroy(&meter->lock);
}

int meter_add(struct meter *meter, uint64_t bytes, struct ivon_error *error)
{
    if (!meter->progress.report)
        return 0;
    pthread_mutex_lock(&meter->lock);
    meter->done += meter->total ? bytes : 0;
    if (!meter->cancelled &&
        meter->progress.report(meter->progress.context, meter->done, meter->total))
        meter->cancelled = true;
    bool cancelled = meter->cancelled;
    pthread_mutex_unlock(&meter->lock);
    return cancelled ? ivon_error_set(error, IVON_ERROR_CANCELLED, "interrupted") : 0;
}

int progress_ask(const struct ivon_progress *progress, struct ivon_error *error)
{
    return progress->report && progress->report(progress->context, 0, 0)
               ? ivon_error_set(error, IVON_ERROR_CANCELLED, "interrupted")
               : 0;
}
