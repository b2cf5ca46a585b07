/* Rows of predicted probabilities, as metrics take them. */
#ifndef METRICS_LIKELIHOOD_PROBABILITIES_H
#define METRICS_LIKELIHOOD_PROBABILITIES_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/error.h"
#include "ivon/metrics.h"

/* Fails unless `count` probabilities of a row are from 0 to 1, up to rounding. */
int probabilities_check(const float *probabilities, size_t count, uint64_t row,
                        struct ivon_error *error);

/* The same of the classes of a row, whose sum has to be 1: half precision and decimals of files
   round it by less than a twentieth, and what is no distribution is mostly further from it. */
int probabilities_check_classes(const float *probabilities, size_t count, uint64_t row,
                                struct ivon_error *error);

/* The most probable class, the lowest of equal ones. */
size_t probabilities_best(const float *probabilities, size_t count);

/* The same for a Bernoulli output, whose classes 0 and 1 have 1 − p and p. */
static inline bool probability_best(float p)
{
    return p > 0.5f;
}

/* −p log p */
static inline double probability_entropy_term(double p)
{
    return p > 0 ? -p * log(p) : 0;
}

/* A probability that passed the check, without its excess. */
static inline double probability_clamp(float p)
{
    return p > 1 ? 1 : p;
}

/* −log p of a row's targets, which have passed their check: of its class, or over K events the
   mean. */
double probabilities_loss(enum ivon_likelihood likelihood, const float *p, size_t k,
                          const int64_t *targets);

#endif
