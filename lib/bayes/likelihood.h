/*
 * Losses L(y, f) of rows of K outputs, without the constants of a density, and their derivatives:
 *   categorical  p = softmax f   L = −log p_y                e = p − onehot(y)
 *   Bernoulli    p = σ(f)        L = Σ_k softplus f − y f    e = p − y
 *   Gaussian     p = f           L = ½ ‖(f − y)/s‖²          e = (f − y)/s²
 * A categorical target that is ignored has neither.
 */
#ifndef BAYES_LIKELIHOOD_H
#define BAYES_LIKELIHOOD_H

#include "bayes/predict_rows.h"

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

/* Whether the greatest output misses the target: 1 or 0, −1 where it is ignored; Bernoulli: the
   share of events on the wrong side of ½. `prediction`, unless null, receives what is predicted.
   Not Gaussian. */
float likelihood_error(const struct likelihood *likelihood, const float *f, const int64_t *labels,
                       int64_t ignored, int64_t *prediction);

/* Fails on a label that is no class and not ignored, or no 0 or 1. `first_row` is the first's. */
int likelihood_check_labels(const struct likelihood *likelihood, const char *path,
                            uint64_t first_row, size_t rows, const struct row_targets *targets,
                            struct ivon_error *error);

#endif
