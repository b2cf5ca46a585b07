/* K counts, each of its own rate: p = exp f. */
#include <math.h>

#include "metrics/likelihood/likelihood.h"

/* lgamma() writes its sign where other threads do, too. */
static double poisson_log_factorial(double n)
{
    int sign;
    return lgamma_r(n + 1, &sign);
}

/* −log p(y | f) = exp f − y f + log y! */
static double poisson_loss(const struct likelihood *likelihood, const float *f,
                           const struct row_targets *targets, bool counts, float *p)
{
    (void)counts;
    double loss = 0;
    for (size_t i = 0; i < likelihood->k; i++) {
        double rate = exp((double)f[i]), y = (double)targets->numbers[i];
        loss += rate - y * (double)f[i] + poisson_log_factorial(y);
        if (p)
            p[i] = (float)rate;
    }
    return loss;
}

static void poisson_residual(const struct likelihood *likelihood, const struct row_targets *targets,
                             float *p)
{
    for (size_t i = 0; i < likelihood->k; i++)
        p[i] -= targets->numbers[i];
}

static double poisson_curvature(const struct likelihood *likelihood, const float *p, size_t c)
{
    (void)likelihood;
    return (double)p[c];
}

static double poisson_nll(const struct likelihood *likelihood, double loss)
{
    (void)likelihood;
    return loss;
}

static void poisson_add(const struct likelihood *likelihood, const struct likelihood_sums *sums,
                        double weight, size_t rows, const float *outputs,
                        const struct row_targets *targets, double *log_likelihoods)
{
    size_t k = likelihood->k;
    for (size_t i = 0; i < rows; i++) {
        const float *f = outputs + i * k;
        double density = 0;
        for (size_t j = 0; j < k; j++) {
            double rate = exp((double)f[j]);
            sums->first[i * k + j] += weight * rate;
            sums->second[i * k + j] += weight * rate * rate;
        }
        if (targets->numbers) {
            const struct row_targets own = targets_from(targets, IVON_POISSON, k, i);
            density = -poisson_loss(likelihood, f, &own, true, NULL);
            likelihood_add_log(&sums->density_log[i], &sums->density_sum[i], density + log(weight));
        }
        if (log_likelihoods)
            log_likelihoods[i] = density;
    }
}

/* Rates are log-normal: E exp f = exp(f̄ + c/2), E exp 2f = exp(2f̄ + 2c). What that makes of the
   counts' distribution has no closed form. */
static void poisson_add_normal(const struct likelihood *likelihood,
                               const struct likelihood_sums *sums, double weight, size_t rows,
                               const struct likelihood_normal *outputs,
                               const struct row_targets *targets)
{
    (void)targets;
    for (size_t i = 0; i < rows * likelihood->k; i++) {
        double f = (double)outputs->mean[i], c = outputs->variance[i];
        sums->first[i] += weight * exp(f + c / 2);
        sums->second[i] += weight * exp(2 * (f + c));
    }
}

static double poisson_noise_std(const struct likelihood *likelihood, double mean, double variance)
{
    (void)variance;
    (void)likelihood;
    return sqrt(mean);
}

/* The least count whose cumulated probability passes that of the normal number. Counts further
   than 12 standard deviations from the rate have less than 2^-53 of it, and are not looked at; of
   rates above a million the nearest count of the normal distribution that is their limit. */
static double poisson_draw(const struct likelihood *likelihood, const float *f, size_t i,
                           double normal)
{
    (void)likelihood;
    double rate = exp((double)f[i]), spread = sqrt(rate);
    if (rate > 1e6)
        return fmax(0, rint(rate + spread * normal));
    double u = likelihood_uniform(normal);
    double count = fmax(0, floor(rate - 12 * spread - 12)), last = rate + 12 * spread + 50;
    double probability = exp(count * (double)f[i] - rate - poisson_log_factorial(count)),
           sum = probability;
    while (u >= sum && count < last) {
        probability *= rate / ++count;
        sum += probability;
    }
    return count;
}

static bool poisson_valid(double y)
{
    return y >= 0 && y == rint(y);
}

const struct likelihood_kind likelihood_poisson = {
    .traits = {.name = "poisson", .regression = true},
    .loss = poisson_loss,
    .residual = poisson_residual,
    .curvature = poisson_curvature,
    .nll = poisson_nll,
    .add = poisson_add,
    .add_normal = poisson_add_normal,
    .draw = poisson_draw,
    .noise_std = poisson_noise_std,
    .valid = poisson_valid,
    .valid_text = "a count, 0, 1, 2 and so on",
};
