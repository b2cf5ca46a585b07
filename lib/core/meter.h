/* Sums the progress of several threads for the caller's struct ivon_progress. */
#ifndef CORE_METER_H
#define CORE_METER_H

#include <pthread.h>
#include <stdbool.h>

#include "ivon/stream.h"

struct meter {
    struct ivon_progress progress;
    uint64_t total;       /* bytes; 0: the caller is only asked whether to stop */
    pthread_mutex_t lock; /* protects the members below */
    uint64_t done;
    bool cancelled;
};

void meter_init(struct meter *meter, const struct ivon_progress *progress, uint64_t total);
void meter_release(struct meter *meter);

/* Reports `bytes` more; returns IVON_ERROR_CANCELLED once the caller asked to stop. */
int meter_add(struct meter *meter, uint64_t bytes, struct ivon_error *error);

/* Asks the caller whether to stop, without reporting progress; returns IVON_ERROR_CANCELLED if
   so. */
int progress_ask(const struct ivon_progress *progress, struct ivon_error *error);

#endif
