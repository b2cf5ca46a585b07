/* The generalised Pareto distribution, P(X > x) = (1 + k x/σ)^(−1/k) for x ≥ 0. */
#ifndef METRICS_PARETO_H
#define METRICS_PARETO_H

#include <stddef.h>

struct pareto {
    double k, sigma;
};

/*
 * Fits the distribution to 2 values or more in ascending order, none negative (Zhang & Stephens,
 * Technometrics 2009, with the prior of Vehtari et al., JMLR 2024, on k). k is infinite if the fit
 * fails, as when over a quarter of the values are 0.
 */
struct pareto pareto_fit(const double *sorted, size_t count);

/* Returns the value that is exceeded with probability 1 − p. */
double pareto_quantile(const struct pareto *pareto, double p);

#endif
