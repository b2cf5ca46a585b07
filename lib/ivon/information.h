/*
 * How well a posterior predicts what it was not trained on, from its samples on the training data
 * alone: WAIC and PSIS-LOO, as mean negative log-likelihoods, where other tools print sums over
 * examples, of either sign or −2 times.
 *
 * The posterior is q(θ) ∝ p(θ) Π_i p_i(θ)^ρ, with p_i(θ) = p(y_i | x_i, θ) and an `exponent` ρ: 1
 * in Bayes' rule, λ/N for an effective sample size λ other than the N examples of the training, and
 * λ/(N τ) for draws at a temperature τ. Without example i it is q_−i ∝ q p_i^−ρ, so a draw θ_s from
 * q stands for one from q_−i with the importance ratio p_i(θ_s)^−ρ, whose logarithm is −ρ ℓ_is.
 * What is wanted is −log E_{q_−i} p_i: the example is predicted by p_i itself, whatever ρ is.
 */
#ifndef IVON_INFORMATION_H
#define IVON_INFORMATION_H

#include <stddef.h>
#include <stdint.h>

#include "ivon/api.h"
#include "ivon/error.h"
#include "ivon/metrics.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ℓ_is = log p_i(θ_s) of the examples [first, first + examples) in every sample; −∞ is one. */
struct ivon_log_likelihoods {
    const double *values; /* samples × examples, as those of struct ivon_predictions */
    size_t samples;       /* S; at least 1 */
    uint64_t first;       /* for messages */
    size_t examples;
};

/*
 * The widely applicable information criterion of each example (Watanabe, JMLR 2010; Gelman, Hwang
 * & Vehtari, Statistics and Computing 2014):
 *
 *     waic[i] = −log E_s p_i(θ_s) + penalty[i],   penalty[i] = ρ Var_s ℓ_is, over S − 1
 *
 * With K(t) = log E_q exp(t ℓ_i), −log E_{q_−i} p_i = K(−ρ) − K(1 − ρ): WAIC is that up to the
 * second cumulant of ℓ_i, and not to be trusted where penalty[i] > 0.4 (Vehtari, Gelman & Gabry
 * 2017). Infinite where a sample gives the example no probability; NaN with one sample and ρ > 0.
 * `penalty` may be null. Fails on an exponent that is negative or not finite, and with its row on a
 * log-likelihood that is NaN or +∞; the results are then undefined.
 */
IVON_API int ivon_waic(const struct ivon_log_likelihoods *block, double exponent, double *waic,
                       double *penalty, struct ivon_error *error);

/*
 * Leave-one-out cross-validation by Pareto-smoothed importance sampling (Vehtari, Simpson, Gelman,
 * Yao & Gabry, JMLR 2024; Vehtari, Gelman & Gabry, Statistics and Computing 2017):
 *
 *     loo[i] = −log (Σ_s w_is p_i(θ_s) / Σ_s w_is)
 *
 * The weights are the importance ratios, of which the M = ⌈min(S/5, 3 √S)⌉ largest are replaced: a
 * generalised Pareto distribution is fitted to what they exceed the next one by (Zhang & Stephens,
 * Technometrics 2009), its shape k shrunk to (M k + 5)/(M + 10) by a weak prior around ½; they
 * become, in their order, its quantiles at (z − ½)/M, but never more than the largest ratio. That
 * is the procedure of the authors' R package `loo`.
 *
 * pareto_k[i] is k: where it exceeds ivon_pareto_k_threshold, the posterior without the example is
 * too far from the one with it for its loo[i] to be trusted. Without a fit the ratios stay as they
 * are, and k is
 *     ∞ where M < 5 (fewer than 21 samples); where the fit fails, as when over a quarter of the
 *       tail equal the next ratio, or the tail spans e^709; and where a sample gives the example no
 *       probability while ρ > 0: then loo[i] is ∞ also;
 *     NaN where all of the tail are equal: bounded, they need no smoothing (as in `posterior`).
 * Fails as ivon_waic does.
 */
IVON_API int ivon_psis_loo(const struct ivon_log_likelihoods *block, double exponent, double *loo,
                           double *pareto_k, struct ivon_error *error);

/*
 * The same where the draws are of an approximation q̂ of the posterior q, and log_ratios[s] is
 * log q(θ_s)/q̂(θ_s), up to a number that all have in common: the importance ratios are
 * exp(log_ratios[s] − ρ ℓ_is), those of the posterior without the example to q̂ (Magnusson et al.,
 * ICML 2019, arXiv:1904.10679). S ratios; −∞ is one; null: those of ivon_psis_loo. Fails also on a
 * ratio that is NaN or +∞. loo[i] and k are ∞, too, where no draw has any weight.
 */
IVON_API int ivon_psis_loo_weighted(const struct ivon_log_likelihoods *block, double exponent,
                                    const double *log_ratios, double *loo, double *pareto_k,
                                    struct ivon_error *error);

/*
 * Pareto's k of importance ratios alone: how far q̂ is from q. Above ivon_pareto_k_threshold the
 * draws do not stand for q, whatever is asked of it (Yao, Vehtari, Simpson & Gelman, ICML 2018,
 * arXiv:1802.02538); ∞ and NaN as above. `samples` is at least 1.
 */
IVON_API int ivon_psis_k(const double *log_ratios, size_t samples, double *pareto_k,
                         struct ivon_error *error);

/* min(1 − 1/log10 S, 0.7), above which k is too large for S samples; the same source. */
IVON_API double ivon_pareto_k_threshold(size_t samples);

/* Means of criteria over positions that count (ivon/targets.h). */
struct ivon_information;

/* For posteriors of that many samples. */
IVON_API int ivon_information_new(struct ivon_information **information, size_t samples,
                                  struct ivon_error *error);
IVON_API void ivon_information_free(struct ivon_information *information);

/* Adds `count` examples' criteria, computed now or read back from where they were kept; null: those
   are not wanted. An example's criteria are of its log-likelihood summed over so many `positions`;
   one with none is passed over; null: each has one. Sums are in the order of the calls, and do not
   depend on how many a call adds. */
IVON_API void ivon_information_add(struct ivon_information *information, size_t count,
                                   const double *waic, const double *loo, const double *pareto_k,
                                   const size_t *positions);

struct ivon_information_summary {
    struct ivon_metric waic; /* as of struct ivon_ratio */
    struct ivon_metric psis_loo;
    double pareto_k_threshold;
    double pareto_k_max;    /* NaN where no k is a number */
    uint64_t pareto_k_high; /* how many k exceed the threshold */
};

/* Of everything added so far. */
IVON_API struct ivon_information_summary ivon_information_summarize(
    const struct ivon_information *information);

#ifdef __cplusplus
}
#endif

#endif
