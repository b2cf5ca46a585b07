/* The task of a network, shared by all that runs one over examples. */
#ifndef IVON_TASK_H
#define IVON_TASK_H

#include <stddef.h>
#include <stdint.h>

#include "ivon/metrics.h"
#include "ivon/network.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ivon_task {
    enum ivon_likelihood likelihood;
    double noise_std; /* Gaussian: of the targets; NaN: unknown */
    int64_t ignored;  /* label that does not count (ivon/targets.h); INT64_MIN: none */
    /* Pairs of inputs and the arrays of the data that they take; an input without one takes the
       array of its own name, or the first where it is the only input. */
    const struct ivon_feed_name *inputs;
    size_t input_count;
    uint64_t reserved[4]; /* 0 */
};

#ifdef __cplusplus
}
#endif

#endif
