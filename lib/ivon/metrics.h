/*
 * How good predictions are: their metrics, how well a score detects foreign data, how two sets of
 * predictions differ. Every metric comes with its standard error over examples, which are taken as
 * independent of each other: sd/√n of a mean over n examples, and the delta method where the metric
 * is a function of means. Sums are double, in the order of the calls, so that results do not depend
 * on how many examples a call adds. Formulas and sources stand beside each.
 */
#ifndef IVON_METRICS_H
#define IVON_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/api.h"
#include "ivon/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The likelihood of the targets y given the network's outputs f. */
enum ivon_likelihood {
    IVON_CATEGORICAL,    /* p = softmax(f), y one of K classes */
    IVON_BERNOULLI,      /* p = sigmoid(f) for each of K outputs, y 0 or 1 for each */
    IVON_GAUSSIAN,       /* y ~ N(f, noise_std²) for each of K outputs */
    IVON_POISSON,        /* y ~ Poisson(exp f), a count, for each of K outputs */
    IVON_HETEROSCEDASTIC /* y ~ N(f_i, exp f_{K/2 + i}) for each i of the first half of K outputs */
};

/* The form of a likelihood's targets and predictions. */
struct ivon_likelihood_traits {
    const char *name; /* "categorical" */
    bool classes;     /* a row has one target, its class; else one for each output */
    bool regression;  /* targets are numbers, predictions their means; else integers, and
                         probabilities */
    bool noise;       /* it needs noise_std */
    bool variances;   /* the second half of the outputs are logarithms of variances, and there is
                         one target for each output of the first half */
};

/* Null: there is no such likelihood. They are numbered from 0 on without gaps. */
IVON_API const struct ivon_likelihood_traits *ivon_likelihood_traits(
    enum ivon_likelihood likelihood);

/* How many targets a row of K outputs has; of a regression so many means are predicted. */
IVON_API size_t ivon_likelihood_targets(enum ivon_likelihood likelihood, size_t outputs);

/* The loss of an example whose K outputs say nothing: equal probabilities. NaN: regression. */
IVON_API double ivon_guessing_loss(enum ivon_likelihood likelihood, size_t outputs);

struct ivon_metrics_options {
    size_t size; /* sizeof this struct: set by ivon_metrics_defaults() */
    enum ivon_likelihood likelihood;
    size_t outputs; /* K */
    int bins;       /* of the calibration errors, at most 65536; 0: 15 */
};

/* Categorical, 15 bins; outputs are left to be set. */
IVON_API void ivon_metrics_options_init(struct ivon_metrics_options *options, size_t size);
static inline struct ivon_metrics_options ivon_metrics_defaults(void)
{
    struct ivon_metrics_options options;
    ivon_metrics_options_init(&options, sizeof options);
    return options;
}

struct ivon_metric {
    const char *name;      /* "accuracy", "nll", … */
    double value;          /* NaN without examples */
    double standard_error; /* over examples; NaN where none is known, as with one example */
};

/*
 * A mean over positions of values whose sums x_i are known for each example, which has t_i
 * positions that count: the ratio r = Σ x / Σ t, with the standard error √(n/(n−1) Σ (x_i − r
 * t_i)²) / Σ t over the n examples of which t_i > 0 (Cochran, Sampling Techniques, 1977, ch. 6).
 * With one position each that is sd/√n. Zero-initialised, it is empty. An infinite x makes r
 * infinite and its error NaN.
 */
struct ivon_ratio {
    double x, t; /* sums */
    double mean_x, mean_t;
    double xx, xt, tt; /* Σ of products of what exceeds the means */
    uint64_t examples; /* n */
};

/* Adds an example; one without a position that counts changes nothing. */
IVON_API void ivon_ratio_add(struct ivon_ratio *ratio, double x, double t);

/* The mean and its error; NaN without examples, and the error with one. */
IVON_API struct ivon_metric ivon_ratio_metric(const char *name, const struct ivon_ratio *ratio);

struct ivon_metrics;

IVON_API int ivon_metrics_new(struct ivon_metrics **metrics,
                              const struct ivon_metrics_options *options, struct ivon_error *error);
IVON_API void ivon_metrics_free(struct ivon_metrics *metrics);

/*
 * Adds `count` predictions, count × K probabilities, with their targets: one class each
 * (categorical), or count × K of 0 and 1 (Bernoulli). Those that do not count (ivon/targets.h) are
 * passed over: `ignored` is a label such as -100; INT64_MIN: none. Any other target that is not a
 * class, and a probability that is NaN, negative, or above 1 by more than rounding (1e-5), fails
 * with its row (first + i); a call that fails adds nothing. Memory: 4 bytes for each prediction
 * (categorical) or output (Bernoulli), and up to 256 × bins × K bytes for ece_classwise.
 */
IVON_API int ivon_metrics_add(struct ivon_metrics *metrics, uint64_t first, size_t count,
                              const float *probabilities, const int64_t *targets, int64_t ignored,
                              struct ivon_error *error);

/*
 * The same for regression: predictive means and targets, count × K, and the log of each target's
 * predictive density summed over its K outputs (log_densities, count; with the normalizing
 * constant). A NaN among them fails with its row, counted from the first that was added.
 */
IVON_API int ivon_metrics_add_regression(struct ivon_metrics *metrics, size_t count,
                                         const double *means, const float *targets,
                                         const double *log_densities, struct ivon_error *error);

/*
 * Everything added so far; borrowed, until the next call. Null when memory is exhausted.
 *   categorical: accuracy, the most probable class (the lowest of equal ones) being y; nll,
 *     −log p_y (infinite where p_y = 0); perplexity, exp(nll); brier, Σ_c (p_c − [c = y])²
 *     (Brier 1950); ece, over B equal-width bins of conf, the maximum probability,
 *     bin = min(B − 1, ⌊B conf⌋) by ivon_confidence_bin, Σ_b n_b/n |acc_b − conf_b| (Naeini et al.,
 *     AAAI 2015);
 *     ece_adaptive, the same over B bins of equal count, ⌊B r/n⌋ of the rank r = 0 … n − 1 of conf,
 *     equal ones staying together in the bin of their mean rank; ece_classwise, the mean over
 *     classes of the equal-width error of p_c against [c = y] (Nixon et al., CVPR workshops 2019)
 *   Bernoulli: each output is a categorical of the two classes 0 and 1 with 1 − p and p; means and
 *     bins are over all n × K outputs, and there is no ece_classwise. brier is (p − y)²
 *   Gaussian, Poisson: rmse, √ of the mean over n × K of (mean − target)²; nll, the mean of
 *     −log_densities
 * Standard errors: the K outputs of one example depend on each other, so its mean over them counts
 * once. perplexity: exp(nll) times that of nll. rmse: that of the mean square, over 2 rmse.
 * Calibration errors: Σ_b |Σ_{i ∈ b} (correct_i − conf_i)|/n is the mean of
 * s_{b(i)} (correct_i − conf_i), s_b being the sign of bin b's sum, and by the delta method the
 * bins' boundaries and signs count as fixed. That holds where the bins' gaps exceed their noise; a
 * sum of absolute values is also biased upwards, which no standard error shows. The one of
 * ece_classwise comes from random groups, the first 32 examples apart and then each in one of 32
 * (Wolter, Introduction to Variance Estimation, 2007, ch. 2): with more than 32 examples it is
 * itself known to √(2 · 31)⁻¹ = 13 %.
 */
IVON_API const struct ivon_metric *ivon_metrics_values(struct ivon_metrics *metrics, size_t *count);

/* The bin of equal width, of `bins` from 0 to 1, that a confidence is in: B conf is rounded to
   binary32, as numpy and PyTorch have it: .7 of ten bins is in the eighth, which begins there. */
IVON_API size_t ivon_confidence_bin(float confidence, size_t bins);

/*
 * How well a score tells data of the training's kind (in, m scores) from other data (out, n
 * scores); higher scores mean in. At a threshold t, which is one of the distinct scores, what
 * scores t or more is called in: TPR is the share of in that is, FPR the share of out. A score that
 * is NaN fails with its row; infinities are scores as any others. In this order:
 *   auroc: P(in > out) + ½ P(in = out), with DeLong's standard error (DeLong et al.,
 *     Biometrics 1988)
 *   aupr_in: the average precision Σ_t (TPR_t − TPR_{t−1}) precision_t over falling thresholds,
 *     without interpolation; aupr_out: the same with out as the positive class and scores negated.
 *     Standard error: delta method (infinitesimal jackknife) at fixed m and n
 *   fpr95: the smallest FPR with TPR ≥ .95. Standard error: at that threshold, and in quadrature
 *     the threshold's own, half of FPR(.95 + e) − FPR(.95 − e), e = √(.95 · .05/m) (Woodruff,
 *     JASA 1952); NaN for m < 19
 *   detection_error: the minimum over thresholds, and over calling nothing in, of
 *     ½ (1 − TPR + FPR). Standard error: at that threshold, whose own has no effect to first order
 * All are NaN when m or n is 0.
 */
enum { IVON_DETECTION_COUNT = 5 };
IVON_API int ivon_detection(struct ivon_metric metrics[IVON_DETECTION_COUNT], const float *in,
                            size_t in_count, const float *out, size_t out_count,
                            struct ivon_error *error);

struct ivon_comparison;

/* For predictions of K `outputs`, which are not Gaussian. */
IVON_API int ivon_comparison_new(struct ivon_comparison **comparison,
                                 enum ivon_likelihood likelihood, size_t outputs,
                                 struct ivon_error *error);
IVON_API void ivon_comparison_free(struct ivon_comparison *comparison);

/* Adds two predictions p and q of the same `count` examples, count × K probabilities each, but for
   those of which `counts` is false; null: all count. `targets` are as ivon_metrics_add takes them;
   null: they are not known. Predictions are checked as there, where `first` means the same, and so
   are targets. */
IVON_API int ivon_comparison_add(struct ivon_comparison *comparison, uint64_t first, size_t count,
                                 const float *p, const float *q, const int64_t *targets,
                                 const bool *counts, struct ivon_error *error);

/*
 * Everything added so far; borrowed, until the next call: agreement, the share of examples with the
 * same most probable class (the lowest of equal ones); total_variation, the mean of
 * ½ Σ_c |p_c − q_c|. Bernoulli: over all outputs, as two-class categoricals. (Wilson et al.,
 * NeurIPS 2021 competition.) With targets also accuracy_difference and nll_difference, the means of
 * what p's accuracy and loss have more than q's: their errors are of pairs, without what makes an
 * example hard for both.
 */
IVON_API const struct ivon_metric *ivon_comparison_values(struct ivon_comparison *comparison,
                                                          size_t *count);

/*
 * The delete-a-group jackknife's standard error √((G − 1)/G Σ_g (v_g − v̄)²) of a metric that is
 * averaged over Monte-Carlo samples in `groups` (G) groups of equal size: values[g] is the metric
 * computed without group g (Quenouille, Biometrika 1956; Tukey, Ann. Math. Stat. 1958). NaN for
 * fewer than two groups.
 */
IVON_API double ivon_jackknife(const double *values, size_t groups);

/*
 * Spearman's rank correlation of `count` pairs: Pearson's of their ranks, of which equal numbers
 * have the mean of theirs (Kendall, Biometrika 1945). NaN where all of one side are equal, one is
 * NaN, or there are fewer than 2.
 */
IVON_API int ivon_rank_correlation(double *correlation, const double *x, const double *y,
                                   size_t count, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
