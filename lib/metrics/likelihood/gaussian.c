/* K numbers with noise of one standard deviation: p = f. */
#include <math.h>

#include "metrics/likelihood/likelihood.h"

static const double LOG_2_PI = 1.8378770664093454836;

static double gaussian_loss(const struct likelihood *likelihood, const float *f,
                            const struct row_targets *targets, bool counts, float *p)
{
    (void)counts;
    double loss = 0, s = likelihood->noise_std;
    for (size_t i = 0; i < likelihood->k; i++) {
        double e = ((double)f[i] - (double)targets->numbers[i]) / s;
        loss += 0.5 * e * e;
        if (p)
            p[i] = f[i];
    }
    return loss;
}

static void gaussian_residual(const struct likelihood *likelihood,
                              const struct row_targets *targets, float *p)
{
    double precision = 1 / (likelihood->noise_std * likelihood->noise_std);
    for (size_t i = 0; i < likelihood->k; i++)
        p[i] = (float)(((double)p[i] - (double)targets->numbers[i]) * precision);
}

static double gaussian_curvature(const struct likelihood *likelihood, double p)
{
    (void)p;
    return 1 / (likelihood->noise_std * likelihood->noise_std);
}

static double gaussian_nll(const struct likelihood *likelihood, double loss)
{
    const double pi = 3.14159265358979323846;
    return loss + (double)likelihood->k * log(likelihood->noise_std * sqrt(2 * pi));
}

static void gaussian_add(const struct likelihood *likelihood, const struct likelihood_sums *sums,
                         double weight, size_t rows, const float *outputs,
                         const struct row_targets *targets, double *log_likelihoods)
{
    size_t k = likelihood->k;
    double s = likelihood->noise_std;
    for (size_t i = 0; i < rows; i++) {
        double density = 0;
        for (size_t j = 0; j < k; j++) {
            double f = (double)outputs[i * k + j];
            sums->first[i * k + j] += weight * f;
            sums->second[i * k + j] += weight * f * f;
            if (targets->numbers && s > 0) {
                double e = ((double)targets->numbers[i * k + j] - f) / s;
                density -= 0.5 * (e * e + LOG_2_PI) + log(s);
            }
        }
        if (targets->numbers && s > 0)
            likelihood_add_log(&sums->density_log[i], &sums->density_sum[i], density + log(weight));
        if (log_likelihoods)
            log_likelihoods[i] = density;
    }
}

static double gaussian_draw(const struct likelihood *likelihood, const float *f, size_t i,
                            double normal)
{
    return (double)f[i] + likelihood->noise_std * normal;
}

static double gaussian_noise_std(const struct likelihood *likelihood, double mean)
{
    (void)mean;
    return likelihood->noise_std;
}

const struct likelihood_kind likelihood_gaussian = {
    .traits = {.name = "gaussian", .regression = true, .noise = true},
    .loss = gaussian_loss,
    .residual = gaussian_residual,
    .curvature = gaussian_curvature,
    .nll = gaussian_nll,
    .add = gaussian_add,
    .draw = gaussian_draw,
    .noise_std = gaussian_noise_std,
};
