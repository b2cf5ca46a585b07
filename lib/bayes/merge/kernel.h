/* The arithmetic of ivon/merge.h on short runs of elements, in double. */
#ifndef BAYES_MERGE_KERNEL_H
#define BAYES_MERGE_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

enum { MERGE_TILE = 512 /* elements: all arrays of a tile stay in the first-level cache */ };

/* Sums over the models: Σ α_t d_t, Σ w_t d_t and Σ w_t, with d_t = m_t − m_0. */
struct merge_sums {
    double displacement[MERGE_TILE];
    double weighted[MERGE_TILE];
    double precision[MERGE_TILE];
};

/*
 * Adds one model: w = α (a h + b). With a base in the formula a = hessian_scale λ_t, b = 0; without
 * one b = λ_t δ_t and `m_0` is zero. `hessian` is null where there is none: then w = 0.
 */
void merge_accumulate(struct merge_sums *sums, const double *base_mean, const double *mean,
                      const double *hessian, double alpha, double a, double b, size_t count);

/* precision = base_scale S + s Σ w; mean = m_0 + s (base_scale S Σ α d + Σ w d) / precision. */
void merge_by_precision(double *mean, double *precision, const double *base_mean,
                        const double *base_precision, double base_scale,
                        const struct merge_sums *sums, double s, size_t count);

/* precision as above; mean = m_0 + factor Σ α d. */
void merge_linearly(double *mean, double *precision, const double *base_mean,
                    const double *base_precision, double base_scale, const struct merge_sums *sums,
                    double s, double factor, size_t count);

/* out = scale (h + δ) */
void merge_compute_precision(double *out, const double *hessian, double scale, double delta,
                             size_t count);

/* Returns whether any value is NaN or not above 0. */
bool merge_any_not_positive(const double *values, size_t count);

/* Returns whether any magnitude is NaN or not below `bound`. */
bool merge_any_not_below(const double *values, double bound, size_t count);

/*
 * The Hessian to store: precision/λ − δ rounded to binary32, and rounded up where otherwise
 * h + δ, which every reader computes, would not be positive although the precision is.
 */
void merge_store_hessian(float *out, const double *precision, double ess, double delta,
                         size_t count);

#endif
