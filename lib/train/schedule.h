/*
 * Learning-rate schedules: the factor of a group's rate at each step.
 *
 * With w steps of warmup in n, step t from 0:
 *   t < w        (t + 1)/w
 *   constant     1
 *   cosine       (1 + cos π r)/2,  r = (t − w)/(n − w)   (Loshchilov & Hutter, ICLR 2017)
 *   linear       1 − r
 * so that the last step still moves, and a step n, if there were one, would not.
 *
 * With warm restarts (Loshchilov & Hutter, ICLR 2017) the steps behind the warmup are cut into
 * cycles, of T₀, T₀ m, T₀ m², … steps, and r = i/T in step i from 0 of a cycle of T.
 */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include <stdint.h>

#include "ivon/train.h"

struct schedule {
    enum ivon_schedule shape;
    uint64_t warmup; /* steps; 0: none */
    uint64_t steps;  /* of the whole training; not looked at when constant */
    uint64_t cycle;  /* T₀; 0: there are no restarts */
    uint64_t growth; /* m, at least 1 */
};

/* Fails where there is no such shape, where warmup leaves no step, and where what is constant
   restarts. */
int schedule_check(const struct schedule *schedule, struct ivon_error *error);

/* Returns the factor at step `step`, from 0; 0 after the last step, unless constant. */
double schedule_factor(const struct schedule *schedule, uint64_t step);

#endif
