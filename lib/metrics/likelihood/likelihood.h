/*
 * Likelihoods of targets y given rows of K outputs f of a network: one row of functions for each,
 * in a file of its own. With the loss L(y, f) = −log p(y | f), without a density's constants, and
 * its derivatives e = ∂L/∂f and Λ = ∂²L/∂f²:
 *   categorical  p = softmax f   L = −log p_y                e = p − onehot(y)   Λ_cc = p − p²
 *   Bernoulli    p = σ(f)        L = Σ_k softplus f − y f    e = p − y           Λ_cc = p − p²
 *   Gaussian     p = f           L = ½ ‖(f − y)/s‖²          e = (f − y)/s²      Λ_cc = 1/s²
 *   Poisson      p = exp f       L = Σ_k exp f − y f + log y!  e = p − y         Λ_cc = p
 *   heteroscedastic, f = (μ, t), z = (y − μ) exp(−t/2):
 *                p = f           L = ½ Σ t + z²  e = ((μ − y) exp(−t), ½ (1 − z²))
 *                                Λ = diag (exp(−t), ½), Fisher's: the mean of ∂²L/∂f² over y ~ p
 * p is what a network predicts: probabilities, or the mean of y. A row that does not count
 * (ivon/targets.h) has neither loss nor residual.
 */
#ifndef METRICS_LIKELIHOOD_LIKELIHOOD_H
#define METRICS_LIKELIHOOD_LIKELIHOOD_H

#include "metrics/likelihood/targets.h"

struct likelihood {
    enum ivon_likelihood kind;
    size_t k;
    double noise_std; /* s */
};

/* Sums over weight samples, each of weight ω, for consecutive rows; a kind's unused sums are
   null. */
struct likelihood_sums {
    /* Rows × K: Σ ω p, or Σ of every ω p as a float; one of the two. */
    float *probabilities;
    double *total;
    double *expected; /* rows: Σ ω H[p]; null where nobody asks */
    /* Of regression: */
    double *first, *second; /* rows × K: Σ ω p, Σ ω p²; of variances Σ ω exp t and 0 */
    double *density_log;    /* rows: log of the largest ω p(y | f) so far */
    double *density_sum;    /* rows: Σ ω p(y | f) over that */
};

/* Normal outputs of rows, f ~ N(mean, C), as those of a linearised network are. */
struct likelihood_normal {
    const float *mean;      /* rows × K */
    const double *variance; /* rows × K: diag C */
    double *covariance;     /* rows × K × K: C, which is used up; null: C is diagonal */
};

struct likelihood_kind {
    struct ivon_likelihood_traits traits;
    /* Returns L of the one row whose targets are given, and sets p unless it is null. If the row
       does not count, its targets are not read. */
    double (*loss)(const struct likelihood *likelihood, const float *f,
                   const struct row_targets *targets, bool counts, float *p);
    /* Turns p into e, for a row that counts. */
    void (*residual)(const struct likelihood *likelihood, const struct row_targets *targets,
                     float *p);
    /* Λ_cc of a row. */
    double (*curvature)(const struct likelihood *likelihood, const float *p, size_t c);
    /* L in the units of a reported NLL: per output, or with its constants. */
    double (*nll)(const struct likelihood *likelihood, double loss);
    /* Adds one sample's predictions of `rows` rows. log_likelihoods, unless null, receives
       each row's log p(y | f), 0 where it does not count. */
    void (*add)(const struct likelihood *likelihood, const struct likelihood_sums *sums,
                double weight, size_t rows, const float *f, const struct row_targets *targets,
                double *log_likelihoods);
    /* Of regression: the same of normal outputs, in closed form; null: there is none. Where
       normal_density is false, there is none of p(y | f). */
    void (*add_normal)(const struct likelihood *likelihood, const struct likelihood_sums *sums,
                       double weight, size_t rows, const struct likelihood_normal *outputs,
                       const struct row_targets *targets);
    bool normal_density;
    /* Draws target i of a row from p(y | f), using a standard normal number. */
    double (*draw)(const struct likelihood *likelihood, const float *f, size_t i, double normal);
    /* Of regression; else null: the standard deviation of y whose mean is known, or of `variances`
       the mean of its variance; whether a target
       can be one (null: any number can), and words for what is expected. */
    double (*noise_std)(const struct likelihood *likelihood, double mean, double variance);
    bool (*valid)(double y);
    const char *valid_text;
    /* Of a likelihood that is no regression; else null. */
    float (*error)(const struct likelihood *likelihood, const float *f,
                   const struct row_targets *targets, bool counts, int64_t *prediction);
    double (*describe)(const float *p, size_t k, int64_t *prediction, float *max_probability);
    double (*uniform_loss)(size_t k); /* the loss of equal probabilities */
};

/* Returns the row of a likelihood, which must be valid. */
const struct likelihood_kind *likelihood_kind_of(enum ivon_likelihood likelihood);

extern const struct likelihood_kind likelihood_categorical;
extern const struct likelihood_kind likelihood_bernoulli;
extern const struct likelihood_kind likelihood_gaussian;
extern const struct likelihood_kind likelihood_poisson;
extern const struct likelihood_kind likelihood_heteroscedastic;

/* p, rows × K, and L of each row; either may be null. */
void likelihood_evaluate(const struct likelihood *likelihood, size_t rows, const float *f,
                         const struct row_targets *targets, float *p, double *loss);

/* e, rows × K, from p. */
void likelihood_residual(const struct likelihood *likelihood, size_t rows, const float *p,
                         const struct row_targets *targets, float *e);

/*
 * Λ of one row, from its p. A column of R, Λ = R Rᵀ, which has K: r_k = √p_k (p − e_k) of classes,
 * else √Λ_kk e_k; and the products Λ x, R x and Rᵀ x, which replace x.
 */
void likelihood_curvature_column(const struct likelihood *likelihood, const float *p, size_t k,
                                 float *column);
void likelihood_curvature_apply(const struct likelihood *likelihood, const float *p, float *x);
void likelihood_curvature_root(const struct likelihood *likelihood, const float *p, bool transposed,
                               double *x);

/* Returns whether all values are finite. */
bool likelihood_is_finite(const float *values, size_t count);

/* The error of a row: 1 where its greatest output misses the target, else 0; Bernoulli: the share
   of events whose probability is on the wrong side of ½. 1 where an output is not finite, and 0
   where the row does not count.
   `prediction`, unless null, receives the predicted class or events. Not for regression. */
float likelihood_error(const struct likelihood *likelihood, const float *f,
                       const struct row_targets *target, int64_t *prediction);

/* Returns whether the likelihood of targets can be computed: in regression the noise must be
   known. */
bool likelihood_is_known(const struct likelihood *likelihood);

/* Adds ω exp(value) to a sum that is kept as sum · exp(log), for regression. */
void likelihood_add_log(double *log_scale, double *sum, double value);

/* The largest of `count` values, at least 1. A NaN is below them, or above, as its sign says. */
float likelihood_largest(const float *values, size_t count);

/* Adds scale · values[i] to the probabilities from number `at` on. */
void likelihood_add_scaled(const struct likelihood_sums *sums, size_t at, const float *values,
                           float scale, size_t count);

/* Returns the uniform number of (0, 1) that stands where the standard normal one does. */
double likelihood_uniform(double normal);

enum { LIKELIHOOD_TILE = 1024 /* outputs that are worked on at a time */ };

#endif
