/*
 * Losses L(y, f) of rows of K outputs, without the constants of a density, and their derivatives:
 *   categorical  p = softmax f   L = −log p_y                e = p − onehot(y)
 *   Bernoulli    p = σ(f)        L = Σ_k softplus f − y f    e = p − y
 *   Gaussian     p = f           L = ½ ‖(f − y)/s‖²          e = (f − y)/s²
 * A row that does not count (ivon/targets.h) has neither.
 */
#ifndef BAYES_LIKELIHOOD_H
#define BAYES_LIKELIHOOD_H

#include "metrics/targets.h"

struct likelihood {
    enum ivon_likelihood kind;
    size_t k;
    double noise_std;
};

/* p, rows × K, and L of each row; either may be null. */
void likelihood_evaluate(const struct likelihood *likelihood, size_t rows, const float *f,
                         const struct row_targets *targets, float *p, double *loss);

/* e, rows × K, from p. */
void likelihood_residual(const struct likelihood *likelihood, size_t rows, const float *p,
                         const struct row_targets *targets, float *e);

/* The error of a row: 1 where its greatest output misses the target, else 0; Bernoulli: the share
   of events whose probability is on the wrong side of ½. 0 where the row does not count.
   `prediction`, unless null, receives the predicted class or events. Not for Gaussian. */
float likelihood_error(const struct likelihood *likelihood, const float *f,
                       const struct row_targets *target, int64_t *prediction);

#endif
