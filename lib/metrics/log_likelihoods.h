/* The functions that criteria from log-likelihoods have in common. */
#ifndef METRICS_LOG_LIKELIHOODS_H
#define METRICS_LOG_LIKELIHOODS_H

#include "ivon/information.h"

/* Fails unless the block and the exponent are valid; see ivon_waic. */
int log_likelihoods_check(const struct ivon_log_likelihoods *block, double exponent,
                          struct ivon_error *error);

/* Copies the log-likelihoods of example `i`: S values. */
void log_likelihoods_copy(const struct ivon_log_likelihoods *block, size_t i, double *values);

/* log Σ exp(values), of one value or more, none of them NaN or +∞. */
double log_sum_exp(const double *values, size_t count);

#endif
