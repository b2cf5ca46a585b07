/* The mark of a posterior whose prior held-out data chose, in its provenance: its mean is no
   minimum of loss and weight decay, and need not be one to average with. */
#ifndef CMD_SHARED_OUTPUTS_TUNED_H
#define CMD_SHARED_OUTPUTS_TUNED_H

#include <jansson.h>
#include <stdbool.h>

#include "ivon/stream.h"

#define TUNED_ADVICE                                                                               \
    "the held-out data chose another weight decay than the training's: average with this "         \
    "posterior, and remove examples of one without --tune"

void tuned_mark(json_t *provenance);
bool tuned_is_marked(const struct ivon_header *header);

#endif
