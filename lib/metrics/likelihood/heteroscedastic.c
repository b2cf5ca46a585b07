/*
 * Numbers with noise that the network tells itself: of K outputs the first half are means μ, the
 * second half the logarithms t of the variances (Nix & Weigend, ICNN 1994; Kendall & Gal, NeurIPS
 * 2017, arXiv:1703.04977). p = f: no exponential of t is kept, which would lose small ones.
 */
#include <math.h>

#include "metrics/likelihood/likelihood.h"

static const double LOG_2_PI = 1.8378770664093454836;

/* −log N(y; μ, exp t), without its constant, and z² = (y − μ)² exp(−t). */
static double heteroscedastic_term(double mean, double log_variance, double y, double *square)
{
    double e = (y - mean) * exp(-log_variance / 2);
    *square = e * e;
    return 0.5 * (log_variance + e * e);
}

static double heteroscedastic_loss(const struct likelihood *likelihood, const float *f,
                                   const struct row_targets *targets, bool counts, float *p)
{
    (void)counts;
    size_t half = likelihood->k / 2;
    double loss = 0, square;
    for (size_t i = 0; i < half; i++)
        loss += heteroscedastic_term((double)f[i], (double)f[half + i], (double)targets->numbers[i],
                                     &square);
    for (size_t i = 0; i < likelihood->k && p; i++)
        p[i] = f[i];
    return loss;
}

/* ∂L/∂μ = (μ − y) exp(−t) and ∂L/∂t = ½ (1 − z²). */
static void heteroscedastic_residual(const struct likelihood *likelihood,
                                     const struct row_targets *targets, float *p)
{
    size_t half = likelihood->k / 2;
    for (size_t i = 0; i < half; i++) {
        double mean = (double)p[i], t = (double)p[half + i], y = (double)targets->numbers[i];
        double square;
        heteroscedastic_term(mean, t, y, &square);
        p[i] = (float)((mean - y) * exp(-t));
        p[half + i] = (float)(0.5 * (1 - square));
    }
}

/* The mean of the second derivatives over the targets that the row predicts; by μ and t it is 0. */
static double heteroscedastic_curvature(const struct likelihood *likelihood, const float *p,
                                        size_t i)
{
    size_t half = likelihood->k / 2;
    return i < half ? exp(-(double)p[half + i]) : 0.5;
}

static double heteroscedastic_nll(const struct likelihood *likelihood, double loss)
{
    return loss + (double)likelihood->k * 0.25 * LOG_2_PI; /* ½ log 2π for each of K/2 */
}

/* Sums of μ and μ², and of exp t. */
static void heteroscedastic_add(const struct likelihood *likelihood,
                                const struct likelihood_sums *sums, double weight, size_t rows,
                                const float *outputs, const struct row_targets *targets,
                                double *log_likelihoods)
{
    size_t k = likelihood->k, half = k / 2;
    for (size_t i = 0; i < rows; i++) {
        const float *f = outputs + i * k;
        double density = 0;
        for (size_t j = 0; j < half; j++) {
            double mean = (double)f[j];
            sums->first[i * k + j] += weight * mean;
            sums->second[i * k + j] += weight * mean * mean;
            sums->first[i * k + half + j] += weight * exp((double)f[half + j]);
        }
        if (targets->numbers) {
            const struct row_targets own = targets_from(targets, IVON_HETEROSCEDASTIC, k, i);
            density = -heteroscedastic_nll(likelihood,
                                           heteroscedastic_loss(likelihood, f, &own, true, NULL));
            likelihood_add_log(&sums->density_log[i], &sums->density_sum[i], density + log(weight));
        }
        if (log_likelihoods)
            log_likelihoods[i] = density;
    }
}

/* Variances are log-normal: E exp t = exp(t̄ + c/2). What that makes of the targets' distribution
   has no closed form. */
static void heteroscedastic_add_normal(const struct likelihood *likelihood,
                                       const struct likelihood_sums *sums, double weight,
                                       size_t rows, const struct likelihood_normal *outputs,
                                       const struct row_targets *targets)
{
    size_t k = likelihood->k, half = k / 2;
    (void)targets;
    for (size_t i = 0; i < rows * k; i++) {
        double f = (double)outputs->mean[i], c = outputs->variance[i];
        bool mean = i % k < half;
        sums->first[i] += weight * (mean ? f : exp(f + c / 2));
        sums->second[i] += mean ? weight * (f * f + c) : 0;
    }
}

static double heteroscedastic_draw(const struct likelihood *likelihood, const float *f, size_t i,
                                   double normal)
{
    return (double)f[i] + exp((double)f[likelihood->k / 2 + i] / 2) * normal;
}

static double heteroscedastic_noise_std(const struct likelihood *likelihood, double mean,
                                        double variance)
{
    (void)likelihood;
    (void)mean;
    return sqrt(variance);
}

const struct likelihood_kind likelihood_heteroscedastic = {
    .traits = {.name = "heteroscedastic", .regression = true, .variances = true},
    .loss = heteroscedastic_loss,
    .residual = heteroscedastic_residual,
    .curvature = heteroscedastic_curvature,
    .nll = heteroscedastic_nll,
    .add = heteroscedastic_add,
    .add_normal = heteroscedastic_add_normal,
    .draw = heteroscedastic_draw,
    .noise_std = heteroscedastic_noise_std,
};
