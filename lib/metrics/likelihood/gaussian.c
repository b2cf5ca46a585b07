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

static double gaussian_curvature(const struct likelihood *likelihood, const float *p, size_t c)
{
    (void)p;
    (void)c;
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

/*
 * log N(e; 0, C + s²) of one row, e = y − f, by Cholesky's L in the lower triangle of C: with
 * L z = e it is −½ zᵀz − Σ log L_jj − ½ K log 2π. z lies in the last column, which is not read.
 * No pivot is below s², whatever rounding made of C.
 */
static double gaussian_joint_density(const struct likelihood *likelihood, double *c, const float *f,
                                     const float *y)
{
    size_t k = likelihood->k;
    double noise = likelihood->noise_std * likelihood->noise_std, density = 0;
    for (size_t j = 0; j < k; j++) {
        double *row = c + j * k, e = (double)y[j] - (double)f[j], pivot = row[j] + noise;
        for (size_t i = 0; i < j; i++) {
            const double *other = c + i * k;
            for (size_t l = 0; l < i; l++)
                row[i] -= row[l] * other[l];
            row[i] /= other[i];
            pivot -= row[i] * row[i];
            e -= row[i] * other[k - 1];
        }
        pivot = pivot > noise ? pivot : noise;
        double z = e / sqrt(pivot);
        density -= 0.5 * (z * z + log(pivot) + LOG_2_PI);
        row[j] = sqrt(pivot);
        if (j + 1 < k)
            row[k - 1] = z;
    }
    return density;
}

/* The same of uncorrelated outputs. */
static double gaussian_own_densities(const struct likelihood *likelihood, const double *variance,
                                     const float *f, const float *y)
{
    double noise = likelihood->noise_std * likelihood->noise_std, density = 0;
    for (size_t j = 0; j < likelihood->k; j++) {
        double e = (double)y[j] - (double)f[j], all = variance[j] + noise;
        density -= 0.5 * (e * e / all + log(all) + LOG_2_PI);
    }
    return density;
}

/* y ~ N(f̄, C + s²) */
static void gaussian_add_normal(const struct likelihood *likelihood,
                                const struct likelihood_sums *sums, double weight, size_t rows,
                                const struct likelihood_normal *outputs,
                                const struct row_targets *targets)
{
    size_t k = likelihood->k;
    for (size_t i = 0; i < rows * k; i++) {
        double f = (double)outputs->mean[i];
        sums->first[i] += weight * f;
        sums->second[i] += weight * (f * f + outputs->variance[i]);
    }
    for (size_t i = 0; i < rows && targets->numbers && likelihood->noise_std > 0; i++) {
        const float *f = outputs->mean + i * k, *y = targets->numbers + i * k;
        double density = outputs->covariance
                             ? gaussian_joint_density(likelihood, outputs->covariance + i * k * k,
                                                      f, y)
                             : gaussian_own_densities(likelihood, outputs->variance + i * k, f, y);
        likelihood_add_log(&sums->density_log[i], &sums->density_sum[i], density + log(weight));
    }
}

static double gaussian_draw(const struct likelihood *likelihood, const float *f, size_t i,
                            double normal)
{
    return (double)f[i] + likelihood->noise_std * normal;
}

static double gaussian_noise_std(const struct likelihood *likelihood, double mean, double variance)
{
    (void)variance;
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
    .add_normal = gaussian_add_normal,
    .normal_density = true,
    .draw = gaussian_draw,
    .noise_std = gaussian_noise_std,
};
